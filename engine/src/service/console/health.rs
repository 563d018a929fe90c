//! The service itself: what runs, what it may show, and who changed what.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use super::actions::notice;
use super::catalogue::Texts;
use super::context::Page;
use super::elsewhere::{Elsewhere, deeds};
use super::refusal::{Refusal, shown};
use super::show::{self, Moment};
use super::words::{self, Badge, STATES};
use crate::https::escaped;
use crate::service::api::{OfQuery, Service, history};
use crate::service::changes::By;
use crate::service::state::Audited;

/// Entries of a page.
const ENTRIES: u32 = 50;

#[derive(Template)]
#[template(path = "console/health.html")]
struct HealthPage {
    p: Page,
    notice: Option<&'static str>,
    version: &'static str,
    counts: Vec<(Badge, usize)>,
    used: String,
    budget: String,
    show_values: bool,
    rule: String,
    entries: Vec<Entry>,
    older: Option<String>,
    elsewhere: Elsewhere,
}

struct Entry {
    at: Moment,
    who: String,
    action: String,
    rule: Option<String>,
    detail: Option<String>,
}

impl Entry {
    fn of(t: &Texts, entry: Audited) -> Self {
        let (at, action) = (show::moment(entry.at_ms), words::action(t, &entry.action));
        Self { at, who: entry.who, action, rule: entry.rule, detail: entry.detail }
    }
}

/// Which changes.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    rule: Option<String>,
    before: Option<i64>,
    done: Option<String>,
}

/// Shows the service and its audit.
pub(super) async fn page(State(service): State<Service>, p: Page, OfQuery(which): OfQuery<Which>) -> Result<Response, Refusal> {
    let (rule, before) = (which.rule.unwrap_or_default().trim().to_owned(), which.before.unwrap_or(i64::MAX));
    let of = (!rule.is_empty()).then(|| rule.clone());
    let entries = service.state.ask(move |state| state.audited(of.as_deref(), before, ENTRIES)).await?;
    let last = entries.last().filter(|_| entries.len() == ENTRIES as usize).map(|entry| entry.id);
    let statuses = service.supervisor.statuses();
    let count = |state| statuses.values().filter(|status| status.state == state).count();
    let memory = statuses.values().filter_map(|status| status.metrics.as_ref()).map(|metrics| metrics.memory());
    let (used, budget) = memory.fold((0.0, 0.0), |(used, budget), (u, b)| (used + u as f64, budget + b as f64));
    Ok(shown(&HealthPage {
        notice: notice(p.t, which.done.as_deref()),
        version: env!("CARGO_PKG_VERSION"),
        counts: STATES.into_iter().map(|state| (words::state(p.t, state), count(state))).filter(|(_, count)| *count > 0).collect(),
        used: show::size(used),
        budget: show::size(budget),
        show_values: service.show_values,
        older: last.map(|id| format!("/console/health?rule={}&before={id}", escaped(&rule))),
        elsewhere: deeds::health(&p, &rule),
        rule,
        entries: entries.into_iter().map(|entry| Entry::of(p.t, entry)).collect(),
        p,
    }))
}

/// Copies the state.
pub(super) async fn copy(State(service): State<Service>, by: By) -> Result<Response, Refusal> {
    history::copy_state(&service, &by.who).await?;
    Ok(Redirect::to("/console/health?done=copied").into_response())
}
