//! The front page: every rule with what it is doing.

use askama::Template;
use axum::extract::State;
use axum::response::{Redirect, Response};
use serde::Deserialize;
use serde_json::Value;

use super::catalogue::Texts;
use super::context::Page;
use super::elsewhere::{Elsewhere, deeds};
use super::part::{Part, part};
use super::refusal::{Refusal, shown};
use super::show::{self, Moment};
use super::words::{self, Badge, STATES};
use crate::config::WINDOW_DEFAULT;
use crate::https::escaped;
use crate::service::api::{OfQuery, Service};
use crate::service::changes::now_ms;
use crate::service::observer::{RuleState, Status};
use crate::service::state::{Origin, StoredRule, StoredWindow};

#[derive(Template)]
#[template(path = "console/rules.html")]
struct RulesPage {
    p: Page,
    notice: Option<&'static str>,
    query: String,
    all: usize,
    counts: Vec<(Badge, usize)>,
    rules: Vec<Row>,
    part: Part,
    elsewhere: Elsewhere,
}

struct Row {
    name: String,
    state: Badge,
    reason: Option<String>,
    origin: Option<&'static str>,
    topics: Vec<String>,
    store: String,
    prefix: String,
    every: String,
    lag: Option<String>,
    last_window: Option<Moment>,
}

/// What a rule's body says, as the pages show it.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    pub(super) source: String,
    pub(super) topics: Vec<String>,
    pub(super) store: String,
    pub(super) prefix: String,
    pub(super) every: String,
}

impl Summary {
    pub(super) fn of(body: &str) -> Self {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |table: &str, key: &str| body[table][key].as_str().unwrap_or_default().to_owned();
        let topics = match &body["source"]["topics"] {
            Value::Array(topics) => topics.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::String(one) => vec![one.clone()],
            _ => Vec::new(),
        };
        let every = Some(text("window", "every")).filter(|every| !every.is_empty()).unwrap_or_else(|| WINDOW_DEFAULT.to_string());
        Self { source: text("source", "kafka"), topics, store: text("to", "store"), prefix: text("to", "prefix"), every }
    }
}

/// The part of a list that is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    q: Option<String>,
    done: Option<String>,
    page: Option<usize>,
}

fn row(t: &Texts, rule: StoredRule, status: Option<&Status>, last: Option<&StoredWindow>) -> Row {
    let lag = status.and_then(|status| status.lag(now_ms()));
    let summary = Summary::of(&rule.body);
    Row {
        state: words::state(t, status.map_or(RuleState::Waiting, |status| status.state)),
        reason: status.and_then(|status| status.reason.clone()),
        origin: (rule.origin != Origin::Api).then(|| words::origin(t, rule.origin)),
        topics: summary.topics,
        store: summary.store,
        prefix: summary.prefix,
        every: summary.every,
        lag: lag.map(|lag| show::lag(t, lag.records, lag.seconds)),
        last_window: last.map(|window| show::moment(window.at_ms)),
        name: rule.name,
    }
}

/// All rules, or those whose names or topics contain a text, page by page.
pub(super) async fn list(State(service): State<Service>, p: Page, OfQuery(filter): OfQuery<Filter>) -> Result<Response, Refusal> {
    let rules = service.state.ask(crate::service::state::State::rules).await?;
    let (running, query) = (service.supervisor.statuses(), filter.q.unwrap_or_default().trim().to_owned());
    let state_of = |rule: &StoredRule| running.get(&rule.name).map_or(RuleState::Waiting, |status| status.state);
    let count = |state| rules.iter().filter(|rule| state_of(rule) == state).count();
    let counts = STATES.into_iter().map(|state| (words::state(p.t, state), count(state))).filter(|(_, count)| *count > 0).collect();
    let all = rules.len();
    let is_wanted =
        |rule: &StoredRule| rule.name.contains(&query) || Summary::of(&rule.body).topics.iter().any(|topic| topic.contains(&query));
    let mut wanted: Vec<StoredRule> = rules.into_iter().filter(is_wanted).collect();
    let found = wanted.len();
    let to_page = |page: usize| format!("/console?q={}&page={page}", escaped(&query));
    let part = part(p.t, found, filter.page.unwrap_or(1), to_page);
    let shown_rules: Vec<StoredRule> = wanted.drain(part.range.clone()).collect();
    let with_last = service
        .state
        .ask(move |state| {
            let last = |rule: StoredRule| Ok((state.windows(&rule.name, i64::MAX, 1)?.pop(), rule));
            shown_rules.into_iter().map(last).collect::<Result<Vec<_>, crate::error::Error>>()
        })
        .await?;
    let rows = with_last.into_iter().map(|(last, rule)| {
        let status = running.get(&rule.name);
        row(p.t, rule, status, last.as_ref())
    });
    Ok(shown(&RulesPage {
        notice: super::actions::notice(p.t, filter.done.as_deref()),
        rules: rows.collect(),
        part,
        query,
        all,
        counts,
        elsewhere: deeds::rules(&p),
        p,
    }))
}

/// The way from the root of the service.
pub(super) async fn front() -> Redirect {
    Redirect::to("/console")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_what_the_body_says_and_no_more() {
        let summary = Summary::of(r#"{"source":{"kafka":"k","topics":"one"},"to":{"store":"s"}}"#);
        assert_eq!((summary.topics, summary.store.as_str(), summary.prefix.as_str()), (vec!["one".to_owned()], "s", ""));
        assert_eq!(summary.every, "5m");
        assert_eq!(Summary::of("no JSON").topics, [] as [&str; 0]);
    }
}
