//! A rule's log: page by page, filtered, and live where scripts run.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;

use super::context::Page;
use super::elsewhere::{Elsewhere, deeds};
use super::refusal::{Refusal, shown};
use super::session::Session;
use super::show::{self, Moment};
use super::words;
use crate::https::escaped;
use crate::service::api::{After, OfPath, OfQuery, Problem, Service, follow};
use crate::service::state::{Grave, LogLine};

/// Lines of a page.
const LINES: u32 = 100;

#[derive(Template)]
#[template(path = "console/log.html")]
struct LogPage {
    p: Page,
    name: String,
    tab: &'static str,
    level: &'static str,
    levels: [(&'static str, &'static str); 3],
    text: String,
    lines: Vec<Line>,
    /// Whether lines are added as they come: on the newest page without a filter.
    live: bool,
    last: i64,
    older: Option<String>,
    newer: Option<String>,
    elsewhere: Elsewhere,
}

struct Line {
    at: Moment,
    level: String,
    word: &'static str,
    place: Option<String>,
    code: Option<String>,
    text: String,
}

/// Which lines.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    level: Option<String>,
    text: Option<String>,
    before: Option<i64>,
}

/// Lists lines, oldest first.
pub(super) async fn page(
    State(service): State<Service>,
    p: Page,
    OfPath(name): OfPath<String>,
    OfQuery(which): OfQuery<Which>,
) -> Result<Response, Refusal> {
    let (level, grave) = match which.level.as_deref() {
        Some("error") => ("error", Grave::Error),
        Some("warn") => ("warn", Grave::Warn),
        _ => ("info", Grave::Info),
    };
    let (text, before) = (which.text.unwrap_or_default().trim().to_owned(), which.before.unwrap_or(i64::MAX));
    let (asked, sought) = (name.clone(), text.clone());
    let lines =
        service.state.ask(move |state| state.rule(&asked).and_then(|_| state.log_page(&asked, before, grave, &sought, LINES))).await?;
    let here = format!("/console/rules/{name}/log?level={level}&text={}", escaped(&text));
    let older = lines.first().filter(|_| lines.len() == LINES as usize).map(|line| format!("{here}&before={}", line.id));
    let t = p.t;
    Ok(shown(&LogPage {
        tab: "log",
        level,
        levels: [("info", t.level_all), ("warn", t.level_warn_up), ("error", t.level_error)],
        live: which.before.is_none() && text.is_empty() && level == "info",
        last: lines.last().map_or(0, |line| line.id),
        lines: lines.into_iter().map(|line| shown_line(&p, line)).collect(),
        older,
        newer: which.before.map(|_| here),
        text,
        elsewhere: deeds::log(&p, &name),
        name,
        p,
    }))
}

/// Lines as they come, for as long as the session lasts.
pub(super) async fn live(
    State(service): State<Service>,
    Extension(session): Extension<Session>,
    OfPath(name): OfPath<String>,
    OfQuery(page): OfQuery<After>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let until = Arc::clone(&service.sessions).ended(session.id);
    follow::follow(service, session.holder, name, page, &headers, until).await
}

fn shown_line(p: &Page, line: LogLine) -> Line {
    let place = line.topic.map(|topic| line.partition.map_or_else(|| topic.clone(), |partition| format!("{topic}/{partition}")));
    Line { at: show::moment(line.at_ms), word: words::level(p.t, &line.level), level: line.level, place, code: line.code, text: line.text }
}
