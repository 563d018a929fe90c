//! The search for the end of a batch whose checksum is wrong, and what it adds to the list of missing ranges. Pure.
//!
//! Place in the flow: a reader asks Kafka what the search wants to know, and tells it the answer.

use catchment_formats::Missing;

/// How often a probe is sent again before the search gives up: what arrives late from the position before it looks like its answer.
const REPEATS_MAX: u32 = 20;

/// A search in progress. The queue stands at [`probe`](Self::probe).
#[derive(Debug)]
pub struct CorruptSearch {
    /// First offset that is missing.
    pub from: i64,
    /// The offset that is asked for.
    pub probe: i64,
    /// Inside the batch.
    low: i64,
    /// Not inside.
    high: i64,
    /// The next distance: doubled until something else than the batch comes.
    step: i64,
    repeats: u32,
    /// The probe was answered with a corrupt batch once.
    suspected: bool,
}

impl CorruptSearch {
    /// For a batch that was met at `from`, in a partition that is readable up to `log_end`.
    pub fn new(from: i64, log_end: i64) -> Self {
        let high = log_end.max(from + 1);
        Self { from, probe: (from + 1).min(high), low: from, high, step: 1, repeats: 0, suspected: false }
    }

    /// The end of the batch, once it is known.
    pub fn end(&self) -> Option<i64> {
        (self.high - self.low <= 1).then_some(self.high)
    }

    /// The answer to a probe: the corrupt batch again, or something else.
    pub fn answered(&mut self, corrupt: bool) {
        self.suspected = corrupt && !self.suspected;
        if self.suspected {
            return;
        }
        if corrupt {
            self.low = self.probe;
            self.step = self.step.saturating_mul(2);
        } else {
            self.high = self.probe;
            self.step = i64::MAX;
        }
        self.probe = self.low + self.step.min((self.high - self.low) / 2).max(1);
        self.repeats = 0;
    }

    /// Whether a probe that got no answer may be sent again.
    pub fn may_repeat(&mut self) -> bool {
        self.repeats += 1;
        self.repeats <= REPEATS_MAX
    }
}

/// The parts of `[from, end)` that are not listed yet. Ranges ascend.
pub fn unlisted(missing: &[Missing], from: i64, end: i64) -> Vec<(i64, i64)> {
    let (mut at, mut parts) = (from, Vec::new());
    for listed in missing.iter().filter(|m| m.is_of_this_log() && m.1 > from && m.0 < end) {
        parts.push((at, listed.0));
        at = at.max(listed.1);
    }
    parts.push((at, end));
    parts.retain(|(from, end)| from < end);
    parts
}

#[cfg(test)]
mod tests {
    use catchment_formats::GapCause;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_probe_is_repeated_only_so_often_until_it_is_answered() {
        let mut search = CorruptSearch::new(10, 1000);
        let repeats = |search: &mut CorruptSearch| (0..2 * REPEATS_MAX).take_while(|_| search.may_repeat()).count();
        assert_eq!(repeats(&mut search), REPEATS_MAX as usize);
        search.answered(true);
        search.answered(true);
        assert_eq!(repeats(&mut search), REPEATS_MAX as usize, "the next probe is another one");
    }

    #[test]
    fn a_batch_at_the_end_needs_no_probe() {
        assert_eq!(CorruptSearch::new(10, 11).end(), Some(11));
        assert_eq!(CorruptSearch::new(10, 5).end(), Some(11), "a readable end that lags");
        assert_eq!(CorruptSearch::new(10, 12).end(), None);
    }

    #[test]
    fn probes_reach_twice_as_far_until_the_end_is_passed() {
        let mut search = CorruptSearch::new(10, 1000);
        let probes = [true, true, true, false, false, true].map(|corrupt| {
            // A corrupt answer counts when it came twice.
            (0..=u32::from(corrupt)).for_each(|_| search.answered(corrupt));
            search.probe
        });
        assert_eq!(probes, [13, 17, 25, 21, 19, 20]);
        assert_eq!((search.end(), search.from), (None, 10));
        search.answered(false);
        assert_eq!(search.end(), Some(20));
    }

    #[test]
    fn what_is_listed_already_is_not_listed_again() {
        let missing = |from, to| Missing(from, to, GapCause::CorruptBatch);
        assert_eq!(unlisted(&[], 3, 10), [(3, 10)]);
        assert_eq!(unlisted(&[missing(3, 10)], 3, 10), []);
        assert_eq!(unlisted(&[missing(0, 2), missing(1, 4), missing(6, 7), missing(12, 15)], 3, 10), [(4, 6), (7, 10)]);
    }

    proptest! {
        #[test]
        fn the_end_is_found_in_few_probes(from in 0_i64..1000, len in 1_i64..100_000, behind in 0_i64..1 << 40) {
            let end = from + len;
            let mut search = CorruptSearch::new(from, end + behind);
            let mut probes = 0;
            while search.end().is_none() {
                prop_assert!(search.probe > from && search.probe < end + behind);
                search.answered(search.probe < end);
                probes += 1;
            }
            prop_assert_eq!(search.end(), Some(end));
            prop_assert!(probes <= 80, "{} probes", probes);
        }

        #[test]
        fn a_batch_that_is_damaged_on_its_way_once_is_not_passed_over(len in 1_i64..1000, glitches in prop::collection::hash_set(0_u32..40, 0..8)) {
            let mut search = CorruptSearch::new(0, 1 << 20);
            let (mut probes, mut glitched) = (0, None);
            while search.end().is_none() {
                // No place is damaged twice in a row unless it is for good.
                let damaged = glitches.contains(&probes) && glitched != Some(search.probe);
                glitched = damaged.then_some(search.probe);
                search.answered(damaged || search.probe < len);
                probes += 1;
            }
            prop_assert_eq!(search.end(), Some(len));
        }
    }
}
