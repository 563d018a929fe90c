//! Where a run ends that takes turns with others: all that is due was read, or all that was there when the turn began, or the turn has lasted.
//!
//! Place in the flow: the end of a reader's turn, in a pipeline whose lanes [sweep](crate::commit::turns). Guarantee: what was read of a window that is not due is
//! forgotten as a whole, and read again by the run that follows; what a window would list as missing is left open only where it stands for no offset, and then the
//! group's note has it. A partition that fills as fast as it is read ends its turn all the same.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::filling::Stage;
use super::{LaneReader, send};
use crate::segment::{BuilderMessage, Rest, SegmentEvent};
use crate::window::{CloseReason, WindowBy};

/// What bounds a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnBounds {
    /// The log's readable end when it began.
    pub log_end: i64,
    /// When no more windows are begun, by the steady clock.
    pub until: Duration,
}

impl LaneReader {
    /// Whether the reader has everything that the partition holds, or that it held when the turn began: the client tells an end only of a log that stands still.
    pub(super) fn has_all(&self) -> bool {
        self.at_end || self.turn.is_some_and(|turn| self.position >= turn.log_end)
    }

    /// Ends the run where its turn ends. True if it did.
    pub(super) fn rest(&mut self, now: Duration, stage: &Stage<'_>) -> bool {
        let early_until_ms = self.filling.early_until_ms;
        let has_all = self.turn.is_some() && self.has_all() && self.search.is_none();
        if early_until_ms.is_none() && !has_all {
            return false;
        }
        // By arrival all that is there has arrived in a slot that is over. And a gap is told to the group and the store as soon as it is known.
        if stage.shared.policy.by == WindowBy::Arrival || !self.filling.missing.is_empty() {
            self.close_open(CloseReason::Clock, stage.shared, stage.builder);
        }
        self.report_empty(stage.builder, now);
        let opened = self.filling.window.as_ref().map(|open| (open.opened(), open.due_in(&stage.shared.policy, stage.wall_ms, now)));
        if self.filling.window.take().is_some() {
            send(stage.builder, BuilderMessage::Drop { run: self.run.id });
        }
        let early = early_until_ms.map(|until_ms| Duration::from_millis(u64::try_from(until_ms - stage.wall_ms).unwrap_or_default()));
        let due_in = match opened.filter(|_| self.position > self.filling.start) {
            Some((_, due_in)) => due_in,
            // There may be more: the log has grown since the turn began.
            None if !self.at_end => early.unwrap_or_default(),
            None => early.unwrap_or_else(|| stage.shared.policy.until_slot_is_over(stage.wall_ms)),
        };
        // What is read again is not behind the lane yet.
        self.run.position.store(self.filling.start.max(self.empty_reported.0), Ordering::Relaxed);
        self.pass(stage.builder, SegmentEvent::Rested(Rest { due_in, opened: opened.map(|(opened, _)| opened) }));
        true
    }
}
