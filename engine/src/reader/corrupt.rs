//! A corrupt batch that is passed over: where it ends, and how it is listed.
//!
//! A batch whose checksum is wrong cannot be asked for its last offset, and librdkafka's own fetch position behind one cannot be trusted:
//! it goes on parsing at a wrong byte. So the end is searched: a fetch at any offset inside the batch is answered with the batch again, a
//! fetch behind it with something else. Only what failed twice is passed over: an answer that is corrupt is asked for again, since a batch may
//! be damaged on its way once. The batch behind ends the run like the first did.
//!
//! The position behind a batch is committed with the record before it, as the last one that was read. Whoever goes on there opens the partition behind
//! that record, so that the leader's epochs are compared, meets the batch again, and moves on to the position ([`LaneReader::pass_known`]).
//!
//! What it does not tell apart: a batch that a later leader has whole again, and a log that was cut there and written anew; and two corrupt batches with good
//! ones between them, where the search's doubling steps meet the second: the good ones are then listed as missing too.

use catchment_formats::{GapCause, Missing};

use super::filling::Stage;
use super::{LaneReader, Turn};
use crate::segment::SegmentEvent;
use crate::source::{QueueEvent, QueueFault};
use crate::window::CloseReason;

/// Batches that have failed twice, and that the rule says to pass over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptSkip {
    /// The offsets at which they were met. All of them: several may lie in one window, which is read from its start each time.
    pub at: Vec<i64>,
    /// The partition is readable up to here.
    pub log_end: i64,
}

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
    /// The probe was answered with a corrupt batch once.
    suspected: bool,
}

impl CorruptSearch {
    /// For a batch that was met at `from`, in a partition that is readable up to `log_end`.
    pub(crate) fn new(from: i64, log_end: i64) -> Self {
        let high = log_end.max(from + 1);
        Self { from, probe: (from + 1).min(high), low: from, high, step: 1, repeats: 0, suspected: false }
    }

    /// The end of the batch, once it is known.
    pub(crate) fn end(&self) -> Option<i64> {
        (self.high - self.low <= 1).then_some(self.high)
    }

    /// The answer to a probe: the corrupt batch again, or something else.
    pub(crate) fn answered(&mut self, corrupt: bool) {
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
    pub(crate) fn may_repeat(&mut self) -> bool {
        self.repeats += 1;
        self.repeats <= REPEATS_MAX
    }
}

impl LaneReader {
    /// Moves from the last record, where the partition was opened, to the position, if a corrupt batch lies between. Nothing there is wanted, and that
    /// the log is the one that was read has been found out before the batch was fetched. None: it is not that batch.
    pub(super) fn pass_known(&mut self, fault: &QueueFault, stage: &Stage<'_>) -> Option<Turn> {
        let is_before = matches!(fault, QueueFault::Corrupt(_)) && self.position == self.began_at;
        (is_before && std::mem::take(&mut self.opened_before)).then(|| self.seek(self.position, stage))
    }

    /// Goes on behind a batch that cannot be read, or begins to search where that is.
    pub(super) fn begin_search(&mut self, log_end: i64, cause: &str, stage: &Stage<'_>) -> Turn {
        let search = CorruptSearch::new(self.position, log_end);
        let tp = &self.lease.tp;
        tracing::warn!(topic = %tp.topic, partition = tp.partition, from = search.from, cause, "a corrupt batch is passed over");
        self.search = Some(search);
        self.pursue_search(stage)
    }

    /// One event of the search. None: nothing has come yet.
    pub(super) fn take_answer(&mut self, stage: &Stage<'_>) -> Option<Turn> {
        let search = self.search.as_mut()?;
        match self.queue.peek()? {
            QueueEvent::Record(..) | QueueEvent::End(_) => search.answered(false),
            QueueEvent::Fault(QueueFault::Corrupt(_)) => search.answered(true),
            // librdkafka may have asked for an offset that it made up; the question is repeated.
            QueueEvent::Fault(QueueFault::OutOfRange(_)) if search.may_repeat() => {}
            QueueEvent::Fault(fault) => return Some(self.give_up(fault, stage)),
        }
        Some(self.pursue_search(stage))
    }

    /// Asks for the next probe, or lists the batch if its end is known.
    fn pursue_search(&mut self, stage: &Stage<'_>) -> Turn {
        let Some(search) = &self.search else { return Turn::Busy };
        let (from, end, probe) = (search.from, search.end(), search.probe);
        if let Some(end) = end {
            self.search = None;
            self.list_corrupt(from, end, stage);
        }
        self.seek(end.unwrap_or(probe), stage)
    }

    /// Lists a batch as missing. One that lies across an intent's end is cut there: the rest belongs to the next object.
    fn list_corrupt(&mut self, from: i64, end: i64, stage: &Stage<'_>) {
        if self.filling.lists_enough() {
            self.close_open(CloseReason::Size, stage.shared, stage.builder);
        }
        let pinned_end = self.filling.pinned.as_ref().map(|p| p.end).filter(|pinned| *pinned <= end);
        for (from, end) in [(from, pinned_end.unwrap_or(end)), (pinned_end.unwrap_or(end), end)] {
            // An intent that is read again may know the batch already.
            for (from, end) in unlisted(&self.filling.missing, from, end) {
                let gap = Missing(from, end, GapCause::CorruptBatch);
                self.filling.missing.push(gap);
                self.filling.missing.sort_by_key(|m| m.0);
                self.pass(stage.builder, SegmentEvent::Gap(gap));
            }
            if from < end {
                // The last record stays known: it tells later whether the log was cut below the batch.
                self.position = end;
            }
            self.close_pinned_behind(self.position, stage);
        }
    }
}

/// The parts of `[from, end)` that are not listed yet. Ranges ascend.
fn unlisted(missing: &[Missing], from: i64, end: i64) -> Vec<(i64, i64)> {
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
