//! What the clock has to say to a run: windows that are due, queues that are silent, logs that stay short, positions that move over nothing.
//!
//! Place in the flow: the end of each of a reader's turns. Guarantee: a window is closed by the clock alone where it stands for an offset, and an intent's range never
//! is; a run that waits in vain ends with a fault that says so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::filling::Stage;
use super::{LaneReader, Turn, send};
use crate::limits::LOG_END_WAIT;
use crate::segment::{BuilderMessage, SegmentEvent};
use crate::source::QueueFault;
use crate::window::CloseReason;

/// How often an idle lane reports that its position moved over invisible records.
const EMPTY_INTERVAL: Duration = Duration::from_secs(1);

impl LaneReader {
    /// Whether the queue has been silent for too long: no record and no end, although there is room for both. True if the run is over.
    pub(super) fn is_silent(&mut self, turn: Turn, stage: &Stage<'_>) -> bool {
        if turn != Turn::Idle || self.at_end || self.sealed_enough() {
            self.silent_since = None;
            return false;
        }
        let now = stage.shared.clock.steady();
        let since = *self.silent_since.get_or_insert(now);
        if now.saturating_sub(since) < self.patience {
            return false;
        }
        self.give_up(QueueFault::Silent(format!("nothing has arrived for {} s", self.patience.as_secs())), stage);
        true
    }

    /// What the clock has to say. True if the run is over.
    pub(super) fn on_clock(&mut self, stage: &Stage<'_>) -> bool {
        let now = stage.shared.clock.steady();
        if self.is_pinned() {
            return self.wait_for_pinned_end(now, stage);
        }
        let has_all = self.has_all();
        let due = self.filling.window.as_ref().and_then(|w| w.due(&stage.shared.policy, stage.wall_ms, now, has_all));
        // One that an earlier run has opened may be old before all of it was read.
        let due = due.filter(|reason| has_all || self.turn.is_none() || *reason != CloseReason::Age);
        if let Some(reason) = due.filter(|_| !self.sealed_enough()) {
            self.close_open(reason, stage.shared, stage.builder);
        }
        if self.until.is_some_and(|until| self.position >= until) {
            self.close_open(CloseReason::UntilEnd, stage.shared, stage.builder);
            if self.filling.window.take().is_some() {
                // It stands for no offset yet; what it would list as missing stays in the group's note.
                send(stage.builder, BuilderMessage::Drop { run: self.run.id });
            }
            self.report_empty(stage.builder, now);
            self.pass(stage.builder, SegmentEvent::Finished);
            return true;
        }
        if self.rest(now, stage) {
            return true;
        }
        if self.at_end && now.saturating_sub(self.empty_reported.1) >= EMPTY_INTERVAL {
            self.report_empty(stage.builder, now);
        }
        false
    }

    /// A log that ends below an intent's end: a new leader's high watermark may lag, a truncated log stays short (rule A5).
    fn wait_for_pinned_end(&mut self, now: Duration, stage: &Stage<'_>) -> bool {
        let short = self.at_end && self.filling.pinned.as_ref().is_some_and(|p| self.position < p.end);
        if !short {
            self.end_short_since = None;
            return false;
        }
        let since = *self.end_short_since.get_or_insert(now);
        if now.saturating_sub(since) < LOG_END_WAIT {
            return false;
        }
        let end = self.filling.pinned.as_ref().map_or(0, |p| p.end);
        // Recovery tells a truncated log from a transaction that hangs.
        self.give_up(QueueFault::Other(format!("the readable log ends at {}, below the pinned end {end}", self.position)), stage);
        true
    }

    /// Tells the lane that nothing visible lies before the position. Not while it has segments to finish: it will hear of it later.
    pub(super) fn report_empty(&mut self, builder: &Sender<BuilderMessage>, now: Duration) {
        let nothing_open = self.filling.window.is_none() && self.filling.missing.is_empty();
        let lane_idle = self.run.sealed.load(Ordering::Relaxed) == 0 || self.until.is_some();
        if nothing_open && lane_idle && self.position > self.empty_reported.0 {
            self.empty_reported = (self.position, now);
            self.pass(builder, SegmentEvent::Empty { position: self.position, last: self.last });
        }
    }
}
