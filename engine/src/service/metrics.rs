//! `/metrics` of a service: what each rule's pipeline counts, and what each rule is doing.
//!
//! Place in the flow: asked by the [API](super::api), it reads what the [observers](super::observer) know. A rule that does not run has its state and
//! nothing else; one that starts again counts from 0, as Prometheus expects of a process that does.

use std::collections::BTreeMap;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::observer::{RuleState, Status};
use crate::metrics::{Page, build_text, text_of};

/// The page of all rules.
pub fn page(statuses: &BTreeMap<String, Status>, now_ms: i64) -> String {
    let mut page = Page::default();
    for (name, metrics) in statuses.iter().filter_map(|(name, status)| Some((name, status.metrics.as_ref()?))) {
        page.add(&metrics.text(now_ms), Some(("rule", name)));
    }
    page.add(&states_text(statuses), None);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_in_one_state_and_states_have_the_names_of_the_api() {
        let statuses = BTreeMap::from([("r".to_owned(), Status::new(RuleState::SourceMissing, 0))]);
        let page = page(&statuses, 0);
        assert!(page.contains("catchment_rule_state{rule=\"r\",state=\"source-missing\"} 1"), "{page}");
        assert!(page.contains("catchment_rule_state{rule=\"r\",state=\"running\"} 0"), "{page}");
        assert_eq!(page.lines().filter(|line| line.ends_with(" 1") && line.contains("rule_state")).count(), 1, "{page}");
        assert!(page.contains("catchment_build_info{") && page.ends_with("# EOF\n"), "{page}");
        for state in RuleState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
