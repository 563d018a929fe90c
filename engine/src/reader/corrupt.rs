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
use crate::corrupt::{CorruptSearch, unlisted};
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
