//! `/metrics` of a service and of a worker: what each rule's pipeline counts in this process, what each rule is doing, and who works for the service.
//!
//! Place in the flow: asked by the [API](super::api), it reads what the [observers](super::observer) know. A rule that does not run has its state and
//! nothing else; one that starts again counts from 0, as Prometheus expects of a process that does. What workers count stands on their own pages alone, so that
//! nothing is counted twice; a rule's state stands on each, and a service's joins those of its workers.

use std::collections::BTreeMap;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::observer::{RuleState, Status};
use super::supervisor::Supervisor;
use crate::metrics::{Page, build_text, text_of};

/// The page of a process.
pub fn page(supervisor: &Supervisor, now_ms: i64) -> String {
    page_of(&supervisor.statuses(), &supervisor.workers().presence(), now_ms)
}

fn page_of(statuses: &BTreeMap<String, Status>, workers: &BTreeMap<String, bool>, now_ms: i64) -> String {
    let mut page = Page::default();
    for (name, metrics) in statuses.iter().filter_map(|(name, status)| Some((name, status.metrics.as_ref()?))) {
        page.add(&metrics.text(now_ms), Some(("rule", name)));
    }
    page.add(&states_text(statuses), None);
    page.add(&workers_text(workers), None);
    page.add(&build_text(), None);
    page.finish()
}

/// 1 for the state of each rule, 0 for those that it is not in.
fn states_text(statuses: &BTreeMap<String, Status>) -> String {
    let states: Family<[(&'static str, String); 2], Gauge> = Family::default();
    for (name, status) in statuses {
        for state in RuleState::ALL {
            let labels = [("rule", name.clone()), ("state", state.as_str().to_owned())];
            states.get_or_create(&labels).set(i64::from(state == status.state));
        }
    }
    let mut registry = Registry::with_prefix("catchment");
    registry.register("rule_state", "1 for the state that a rule is in", states);
    text_of(&registry)
}

/// 1 for each worker that is there, 0 for one that has gone.
fn workers_text(workers: &BTreeMap<String, bool>) -> String {
    let present: Family<[(&'static str, String); 1], Gauge> = Family::default();
    for (name, is_present) in workers {
        present.get_or_create(&[("worker", name.clone())]).set(i64::from(*is_present));
    }
    let mut registry = Registry::with_prefix("catchment");
    registry.register(
        "worker_present",
        "1 for a worker that has asked lately what to run, 0 for one that has gone within the last hour",
        present,
    );
    text_of(&registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_named_where_there_are_some() {
        let page = |workers: &[(&str, bool)]| {
            let workers = workers.iter().map(|(name, is_present)| ((*name).to_owned(), *is_present)).collect();
            page_of(&BTreeMap::new(), &workers, 0)
        };
        let some = page(&[("one", true), ("two", false)]);
        for line in [
            "# TYPE catchment_worker_present gauge",
            "catchment_worker_present{worker=\"one\"} 1",
            "catchment_worker_present{worker=\"two\"} 0",
        ] {
            assert!(some.lines().any(|found| found == line), "no {line}: {some}");
        }
        assert!(!page(&[]).contains("worker_present"));
    }

    #[test]
    fn each_rule_is_in_one_state_and_states_have_the_names_of_the_api() {
        let statuses = BTreeMap::from([("r".to_owned(), Status::new(RuleState::SourceMissing, 0))]);
        let page = page_of(&statuses, &BTreeMap::new(), 0);
        assert!(page.contains("catchment_rule_state{rule=\"r\",state=\"source-missing\"} 1"), "{page}");
        assert!(page.contains("catchment_rule_state{rule=\"r\",state=\"running\"} 0"), "{page}");
        assert_eq!(page.lines().filter(|line| line.ends_with(" 1") && line.contains("rule_state")).count(), 1, "{page}");
        assert!(page.contains("catchment_build_info{") && page.ends_with("# EOF\n"), "{page}");
        for state in RuleState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
