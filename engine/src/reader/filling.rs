//! The open segment of a run: which window a record belongs to, the block that it is copied into, what is missing from the range.
//!
//! Place in the flow: between a run's queue and its builder. Guarantee: a segment begins where the one before it ended, and every range
//! that was listed as missing is in the segment that is closed next.

use std::sync::Arc;

use catchment_formats::{Missing, RecordView};
use tokio::sync::mpsc;

use super::taken::TakenRecord;
use super::{PinnedRange, RunStart, TurnBounds, send};
use crate::blocks::PooledBlock;
use crate::consumer::ConsumerShared;
use crate::encoding::LaneEncoding;
use crate::limits::MISSING_RANGES_MAX;
use crate::sabotage::{Switch, removes};
use crate::segment::{BuilderMessage, Run, SegmentEvent, SegmentHead, SegmentTail};
use crate::source::{LastRead, QueueFault};
use crate::window::{CloseReason, OpenWindow, Opened, record_bytes};

/// What a reader is handed for its turn.
pub(super) struct Stage<'a> {
    pub(super) shared: &'a ConsumerShared,
    pub(super) builder: &'a crossbeam_channel::Sender<BuilderMessage>,
    pub(super) wall_ms: i64,
}

/// What an event means for the reader.
pub(super) enum Step {
    /// The record lies below the position or in a range that the intent misses.
    Skip(LastRead),
    /// The window ends before the record.
    Close(i64, CloseReason),
    /// The record was copied.
    Taken(TakenRecord),
    /// The record begins a window that is left to a later turn.
    Early,
    /// The budget has no room for the record.
    NoMemory,
    /// The partition's end.
    End(i64),
    /// The queue cannot go on.
    Fault(QueueFault),
}

/// The open segment.
pub(super) struct Filling {
    /// Where it starts: the end of the one before.
    pub(super) start: i64,
    encoding: LaneEncoding,
    /// What it will list as missing.
    pub(super) missing: Vec<Missing>,
    /// An intent's range, until it is closed.
    pub(super) pinned: Option<PinnedRange>,
    pub(super) window: Option<OpenWindow>,
    pub(super) block: Option<PooledBlock>,
    /// When an earlier run opened the window that is opened first, and left it.
    opened: Option<Opened>,
    turn: Option<TurnBounds>,
    /// When the next record is to be taken, by the wall clock, if it was left to a later turn.
    pub(super) early_until_ms: Option<i64>,
}

impl Filling {
    /// Before the first record of a run.
    pub(super) fn new(start: &RunStart) -> Self {
        let (missing, pinned) = (start.missing.clone(), start.pinned.clone());
        Self {
            start: start.start,
            encoding: start.encoding.clone(),
            missing,
            pinned,
            window: None,
            block: None,
            opened: start.opened,
            turn: start.turn,
            early_until_ms: None,
        }
    }

    /// Copies the record into the open segment, or says why not.
    pub(super) fn judge(
        &mut self,
        record: &RecordView<'_>,
        leader_epoch: i32,
        run: &Arc<Run>,
        events: &mpsc::Sender<SegmentEvent>,
        stage: &Stage<'_>,
    ) -> Step {
        if let Some(step) = self.place(record, leader_epoch, stage) {
            return step;
        }
        if self.window.is_none() && self.is_left_to_later(record, stage) {
            return Step::Early;
        }
        let record_size = record_bytes(record);
        let bytes = usize::try_from(record_size).unwrap_or(usize::MAX);
        let (pool, budget) = (stage.shared.seat.pool(), stage.shared.seat.budget());
        if bytes > budget.floor() && bytes > budget.record_bytes_max() {
            return Step::Fault(QueueFault::TooLarge { bytes, limit: budget.record_bytes_max(), ever: budget.record_bytes_ever() });
        }
        if self.block.is_none() {
            self.block = pool.take(self.encoding_now().value_layout(), bytes);
        }
        if !self.block.as_mut().is_some_and(|block| block.admits(bytes)) {
            return Step::NoMemory;
        }
        if self.window.is_none() {
            self.open_window(run, events, stage);
        }
        if let (Some(window), Some(block)) = (&mut self.window, &mut self.block) {
            window.add(&stage.shared.policy, record, stage.wall_ms);
            block.push(record);
            if block.is_full() {
                self.send_block(run.id, stage);
            }
        }
        Step::Taken(TakenRecord { offset: record.offset, leader_epoch, bytes: record_size, timestamp: record.timestamp })
    }

    /// Whether the window that would begin with the record is left to a later turn: its slot is not over, or this turn has lasted.
    fn is_left_to_later(&mut self, record: &RecordView<'_>, stage: &Stage<'_>) -> bool {
        let Some(turn) = self.turn.filter(|_| self.pinned.is_none()) else { return false };
        self.early_until_ms = match stage.shared.clock.steady() >= turn.until {
            true => Some(stage.wall_ms),
            false => stage.shared.policy.over_at(record, stage.wall_ms),
        };
        self.early_until_ms.is_some()
    }

    /// What the record's place says, if it does not belong into the open segment.
    fn place(&self, record: &RecordView<'_>, leader_epoch: i32, stage: &Stage<'_>) -> Option<Step> {
        let Some(pinned) = &self.pinned else {
            let past = self.window.as_ref().is_some_and(|w| w.ends_before(&stage.shared.policy, record, stage.wall_ms));
            // A window that stands for no offset yet (one that was opened for what is missing) cannot end here.
            return (past && record.offset > self.start).then_some(Step::Close(record.offset, CloseReason::NextSlot));
        };
        if record.offset >= pinned.end {
            return Some(Step::Close(pinned.end, CloseReason::Recovery));
        }
        self.missing.iter().any(|m| m.covers(record.offset)).then_some(Step::Skip(LastRead::of(record.offset, leader_epoch)))
    }

    /// Whether the window must end behind the record just taken: it reached the size limit, or it must go to multipart and
    /// nothing has named its directory.
    pub(super) fn is_full(&self, shared: &ConsumerShared) -> bool {
        let is_full = |w: &OpenWindow| w.is_full(&shared.policy) || (w.directory_ms.is_none() && w.bytes >= shared.upload_bytes_min);
        self.pinned.is_none() && self.window.as_ref().is_some_and(is_full)
    }

    /// Whether one more missing range closes the window before it. An intent's range is never cut; its object lists what it must.
    pub(super) fn lists_enough(&self) -> bool {
        self.pinned.is_none() && self.missing.len() >= MISSING_RANGES_MAX
    }

    /// What was pinned stays as it was pinned, whatever its records would choose.
    fn encoding_now(&self) -> LaneEncoding {
        self.pinned.as_ref().map_or_else(|| self.encoding.clone(), |p| LaneEncoding::fixed(p.encoding))
    }

    /// Opens a window now.
    pub(super) fn open_window(&mut self, run: &Arc<Run>, events: &mpsc::Sender<SegmentEvent>, stage: &Stage<'_>) {
        let head = SegmentHead { run: Arc::clone(run), start: self.start, encoding: self.encoding_now(), events: events.clone() };
        send(stage.builder, BuilderMessage::Open(head));
        let now = Opened { wall_ms: stage.wall_ms, steady: stage.shared.clock.steady() };
        let opened = self.opened.take().unwrap_or(now);
        self.window = Some(OpenWindow::new(&stage.shared.policy, opened.wall_ms, opened.steady));
    }

    fn send_block(&mut self, run: u64, stage: &Stage<'_>) {
        let directory_ms = self.window.as_ref().and_then(|w| w.directory_ms);
        if let Some(mut block) = self.block.take().filter(|b| b.rows() > 0) {
            block.settle();
            send(stage.builder, BuilderMessage::Block { run, block, directory_ms });
        }
    }

    /// Closes the open window at `end` and answers what the builder needs to seal it.
    pub(super) fn close(&mut self, end: i64, reason: CloseReason, last: LastRead, run: u64, stage: &Stage<'_>) -> SegmentTail {
        if removes(Switch::WindowTail) {
            self.block = None;
        }
        self.send_block(run, stage);
        let window = self.window.take().expect("only an open window is closed");
        let reason = if self.pinned.take().is_some() { CloseReason::Recovery } else { reason };
        self.start = end;
        SegmentTail {
            end,
            missing: std::mem::take(&mut self.missing),
            reason,
            directory_ms: window.directory_ms,
            last,
            late: window.late,
            opened_wall_ms: window.opened_wall_ms(),
            closed_wall_ms: stage.shared.clock.wall_ms(),
        }
    }
}
