//! What a lane has seen of its current window, held against the [`crate::invariants`] while it runs.
//!
//! Place in the flow: told by the engine's `pin`, `publish` and `recover`. The invariants of the protocol that one
//! lane can see for itself are asserted where they would break first: at most one intent is accepted for a start, and nothing is visible before its
//! intent was. A lane that breaks one panics; recovery then decides by what the group and the store have. Builds without
//! debug assertions keep and ask nothing; what ships has them.

use catchment_formats::OffsetRange;

use crate::intent::Intent;
use crate::invariants::{self, Sight, Violation};
use crate::sabotage;

/// Steps of the current window, in the order in which they took effect. Repetitions are one.
#[derive(Debug, Default)]
pub struct Sights(Vec<Sight>);

impl Sights {
    /// The group has accepted an intent, now or before this lane began.
    pub fn pinned(&mut self, intent: &Intent) {
        let range = OffsetRange::new(intent.start, intent.end);
        self.0.retain(|sight| start_of(sight) == intent.start);
        self.see(Sight::Pinned { range, key: intent.key.clone() });
    }

    /// The object of an intent stands, with the intent's end.
    pub fn visible(&mut self, intent: &Intent) {
        self.see(Sight::Visible { range: OffsetRange::new(intent.start, intent.end), key: intent.key.clone() });
    }

    fn see(&mut self, sight: Sight) {
        if !cfg!(debug_assertions) || sabotage::is_on() {
            return;
        }
        if !self.0.contains(&sight) {
            self.0.push(sight);
        }
        let broken = self.broken();
        assert!(broken.is_none(), "{}: {:?}", broken.map(|v| v.to_string()).unwrap_or_default(), self.0);
    }

    fn broken(&self) -> Option<Violation> {
        invariants::one_intent(&self.0).into_iter().chain(invariants::pinned_first(&self.0)).next()
    }
}

fn start_of(sight: &Sight) -> i64 {
    match sight {
        Sight::Pinned { range, .. } | Sight::Visible { range, .. } => range.start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(start: i64, end: i64, key: &str) -> Intent {
        Intent {
            v: crate::intent::VERSION,
            start,
            end,
            missing: Vec::new(),
            key: key.to_owned(),
            enc: String::new(),
            t: String::new(),
            d: String::new(),
            at: 0,
            nonce: String::new(),
            last: None,
            pending: Vec::new(),
            end_last: None,
            upload: None,
        }
    }

    #[test]
    fn a_window_is_pinned_as_often_as_it_takes_and_then_visible() {
        let mut sights = Sights::default();
        for (start, end) in [(0, 5), (5, 9)] {
            sights.pinned(&intent(start, end, "k"));
            sights.pinned(&intent(start, end, "k"));
            sights.visible(&intent(start, end, "k"));
        }
        assert_eq!(sights.0.len(), 2, "only the current window is remembered");
    }

    #[test]
    #[should_panic(expected = "two intents were accepted for one start")]
    fn another_end_for_a_start_that_is_pinned_is_noticed() {
        let mut sights = Sights::default();
        sights.pinned(&intent(5, 8, "k"));
        sights.pinned(&intent(5, 9, "k"));
    }

    #[test]
    #[should_panic(expected = "visible before its intent was accepted")]
    fn what_was_not_pinned_is_noticed() {
        let mut sights = Sights::default();
        sights.pinned(&intent(0, 5, "k"));
        sights.visible(&intent(0, 5, "another"));
    }
}
