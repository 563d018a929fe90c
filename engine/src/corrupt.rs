//! Where a corrupt batch ends.
//!
//! A batch whose checksum is wrong cannot be asked for its last offset, and librdkafka's own fetch position behind one cannot be trusted:
//! it goes on parsing at a wrong byte. So the end is searched: a fetch at any offset inside the batch is answered with the batch again, a
//! fetch behind it with something else.

/// How often a probe is sent again before the search gives up: what arrives late from the position before it looks like its answer.
const REPEATS_MAX: u32 = 20;

/// A search in progress. The queue stands at [`probe`](Self::probe).
#[derive(Debug)]
pub(crate) struct CorruptSearch {
    /// First offset that is missing.
    pub(crate) from: i64,
    /// The offset that is asked for.
    pub(crate) probe: i64,
    /// Inside the batch.
    low: i64,
    /// Not inside.
    high: i64,
    /// The next distance: doubled until something else than the batch comes.
    step: i64,
    repeats: u32,
}

impl CorruptSearch {
    /// For a batch that was met at `from`, in a partition that is readable up to `log_end`.
    pub(crate) fn new(from: i64, log_end: i64) -> Self {
        let high = log_end.max(from + 1);
        Self { from, probe: (from + 1).min(high), low: from, high, step: 1, repeats: 0 }
    }

    /// The end of the batch, once it is known.
    pub(crate) fn end(&self) -> Option<i64> {
        (self.high - self.low <= 1).then_some(self.high)
    }

    /// The answer to a probe: the corrupt batch again, or something else.
    pub(crate) fn answered(&mut self, corrupt: bool) {
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
    pub(crate) fn may_repeat(&mut self) -> bool {
        self.repeats += 1;
        self.repeats <= REPEATS_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            prop_assert!(probes <= 40, "{} probes", probes);
        }
    }
}
