//! Workers: machines beside this one that run the rules of the service, and what each is doing.
//!
//! Place in the flow: shows what [`workers`](crate::service::workers) knows. Nothing is changed here: a worker is started and stopped on its own machine, and
//! Kafka divides the partitions.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::catalogue::Texts;
use super::context::Page;
use super::elsewhere::{self, Elsewhere, deeds};
use super::part::{PAGE, Part, part};
use super::refusal::{Refusal, shown};
use super::show::{self, Moment};
use super::words::{self, Badge, STATES};
use crate::service::api::{OfPath, OfQuery, Service};
use crate::service::orders::Withheld;
use crate::service::state::worker_unknown;
use crate::service::workers::{RuleAtWorker, WorkerView};

/// Partitions of a rule that are named: a page of rules stays light, and the API has more of them.
const LANES_SHOWN: usize = 10;

#[derive(Template)]
#[template(path = "console/workers.html")]
struct WorkersPage {
    p: Page,
    /// Whether this service runs no rules itself.
    alone: bool,
    workers: Vec<Row>,
    part: Part,
    withheld: Vec<Withheld>,
    join: String,
    elsewhere: Elsewhere,
}

struct Row {
    name: String,
    presence: Badge,
    seen: Moment,
    rules: Vec<(Badge, usize)>,
    delivered: String,
    lost: String,
}

#[derive(Template)]
#[template(path = "console/worker.html")]
struct WorkerPage {
    p: Page,
    name: String,
    present: bool,
    presence: Badge,
    seen: Moment,
    delivered: String,
    lost: String,
    rules: Vec<RuleRow>,
    part: Part,
    elsewhere: Elsewhere,
}

struct RuleRow {
    name: String,
    state: Badge,
    reason: Option<String>,
    help: Option<String>,
    since: Moment,
    version: i64,
    lanes: Vec<String>,
    more_lanes: Option<String>,
    lag: Option<String>,
}

/// Which part of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    page: Option<usize>,
}

fn row(t: &Texts, worker: WorkerView) -> Row {
    Row {
        presence: words::presence(t, worker.present),
        seen: show::moment(worker.seen_ms),
        rules: counts(t, &worker.rules),
        delivered: show::count(worker.delivered),
        lost: show::count(worker.lost),
        name: worker.name,
    }
}

/// How many rules are in which state.
fn counts(t: &Texts, rules: &BTreeMap<String, RuleAtWorker>) -> Vec<(Badge, usize)> {
    let count = |state| rules.values().filter(|rule| rule.state == state).count();
    STATES.into_iter().map(|state| (words::state(t, state), count(state))).filter(|(_, count)| *count > 0).collect()
}

fn rule_row(t: &Texts, name: String, mut rule: RuleAtWorker) -> RuleRow {
    let more = rule.lanes.len().saturating_sub(LANES_SHOWN);
    rule.lanes.truncate(LANES_SHOWN);
    RuleRow {
        state: words::state(t, rule.state),
        since: show::moment(rule.since_ms),
        lag: rule.lag_records.zip(rule.lag_seconds).map(|(records, seconds)| show::lag(t, records, seconds)),
        more_lanes: (more > 0).then(|| t.fill(t.of_service.more_lanes, &[&more.to_string()])),
        lanes: rule.lanes,
        version: rule.version,
        reason: rule.reason,
        help: rule.help,
        name,
    }
}

/// All workers that are remembered, those that are present first.
pub(super) async fn list(State(service): State<Service>, p: Page, OfQuery(which): OfQuery<Which>) -> Result<Response, Refusal> {
    let mut workers = service.supervisor.all_workers().await?;
    workers.sort_by_key(|worker| !worker.present);
    let alone = service.supervisor.workers().run_alone();
    let withheld = match workers.is_empty() && !alone {
        true => Vec::new(),
        false => service.supervisor.rule_set().await?.withheld.into_iter().take(PAGE).collect(),
    };
    let part = part(p.t, workers.len(), which.page.unwrap_or(1), |page| format!("/console/workers?page={page}"));
    Ok(shown(&WorkersPage {
        alone,
        workers: workers.drain(part.range.clone()).map(|worker| row(p.t, worker)).collect(),
        part,
        withheld,
        join: elsewhere::join(&p),
        elsewhere: deeds::workers(&p),
        p,
    }))
}

/// One worker, and what it said last of each rule.
pub(super) async fn page(
    State(service): State<Service>,
    p: Page,
    OfPath(name): OfPath<String>,
    OfQuery(which): OfQuery<Which>,
) -> Result<Response, Refusal> {
    let found = service.supervisor.all_workers().await?.into_iter().find(|worker| worker.name == name);
    let worker = found.ok_or_else(|| worker_unknown(&name))?;
    let part = part(p.t, worker.rules.len(), which.page.unwrap_or(1), |page| format!("/console/workers/{name}?page={page}"));
    let rules = worker.rules.into_iter().skip(part.range.start).take(part.range.len());
    Ok(shown(&WorkerPage {
        present: worker.present,
        presence: words::presence(p.t, worker.present),
        seen: show::moment(worker.seen_ms),
        delivered: show::count(worker.delivered),
        lost: show::count(worker.lost),
        rules: rules.map(|(name, rule)| rule_row(p.t, name, rule)).collect(),
        part,
        elsewhere: deeds::workers(&p),
        name: worker.name,
        p,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::ENGLISH;
    use super::*;
    use crate::service::observer::RuleState;

    #[test]
    fn a_rule_at_a_worker_names_some_of_its_partitions_and_counts_the_others() {
        let rule = RuleAtWorker {
            version: 3,
            state: RuleState::Running,
            reason: None,
            help: None,
            since_ms: 0,
            lanes: (0..12).map(|partition| format!("orders/{partition}")).collect(),
            lag_records: Some(1_000),
            lag_seconds: Some(2.0),
            time_to_loss_seconds: Some(7_200.0),
        };
        let row = rule_row(&ENGLISH, "orders".to_owned(), rule.clone());
        assert_eq!(
            (row.lanes.len(), row.more_lanes.as_deref(), row.lag.as_deref()),
            (10, Some("and 2 more"), Some("1,000 records, 2.0 s"))
        );
        let fresh = rule_row(&ENGLISH, "orders".to_owned(), RuleAtWorker { lanes: Vec::new(), lag_records: None, ..rule });
        assert_eq!((fresh.lanes.len(), fresh.more_lanes, fresh.lag), (0, None, None), "it only starts");
    }
}
