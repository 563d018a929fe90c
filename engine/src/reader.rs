//! One run of a lane: its queue, its open window, its open block.
//!
//! Place in the flow: a [`Consumer`](crate::consumer::Consumer) gives each of its readers a turn. The reader decides, record by record, what
//! goes where; [`window`](crate::window) has the rules. Guarantee: segments tile. Each starts where the one before ended, and what was
//! taken from the queue is in one of them, or is invisible.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catchment_formats::{Encoding, GapCause, Missing, RecordView};
use crossbeam_channel::Sender;
use tokio::sync::{mpsc, oneshot};

use crate::budget::PooledBlock;
use crate::consumer::ConsumerShared;
use crate::lane::LaneLease;
use crate::limits::{LOG_END_WAIT, MISSING_RANGES_MAX, MULTIPART_BYTES_MIN, SEALED_WINDOWS_MAX};
use crate::segment::{BuilderMessage, Run, SegmentEvent, SegmentHead, SegmentTail};
use crate::source::{PartitionQueue, QueueEvent, QueueFault};
use crate::window::{CloseReason, OpenWindow, record_bytes};

/// Events taken from one lane before the next lane has its turn. Fewer cost more rounds, more make other lanes wait.
const EVENTS_PER_TURN: usize = 1024;

/// How often an idle lane reports that its position moved over invisible records.
const EMPTY_INTERVAL: Duration = Duration::from_secs(1);

/// A run that a consumer is to begin.
pub struct RunStart {
    /// The run.
    pub run: Arc<Run>,
    /// The lane's life.
    pub lease: Arc<LaneLease>,
    /// The opened queue.
    pub queue: Box<dyn PartitionQueue>,
    /// Start of the first segment.
    pub start: i64,
    /// Next offset to read; nothing visible lies between `start` and this.
    pub position: i64,
    /// How segments are encoded.
    pub encoding: Encoding,
    /// Ranges that the first segment must list as missing.
    pub missing: Vec<Missing>,
    /// An intent's range that must be read again, exactly.
    pub pinned: Option<PinnedRange>,
    /// Where the run ends, if it ends: at the first position that reaches this.
    pub until: Option<i64>,
    /// A corrupt batch is listed as missing and passed over; else it ends the run.
    pub corrupt_skipped: bool,
    /// Where segments go.
    pub events: mpsc::Sender<SegmentEvent>,
    /// Dropped when the queue is closed: a partition is opened by one run at a time.
    pub closed: oneshot::Sender<()>,
}

impl std::fmt::Debug for RunStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunStart({} at {})", self.lease.tp, self.position)
    }
}

/// The range of an intent, to be read again.
#[derive(Clone, Debug)]
pub struct PinnedRange {
    /// The intent's end.
    pub end: i64,
    /// The intent's encoding.
    pub encoding: Encoding,
}

/// What came of a reader's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There was something to do, and there may be more.
    Busy,
    /// Nothing to do.
    Idle,
    /// There is something to do, but no memory.
    Starved,
    /// The run has ended.
    Over,
}

/// What an event means for the reader.
enum Step {
    /// The record lies below the position or in a range that the intent misses.
    Skip,
    /// The window ends before the record.
    Close(i64, CloseReason),
    /// The record was copied.
    Taken { offset: i64, leader_epoch: i32 },
    /// The budget has no room for the record.
    NoMemory,
    /// The partition's end.
    End(i64),
    /// The queue cannot go on.
    Fault(QueueFault),
}

/// What a reader is handed for its turn.
struct Stage<'a> {
    shared: &'a ConsumerShared,
    builder: &'a Sender<BuilderMessage>,
    wall_ms: i64,
}

/// A lane's run, on its consumer.
pub struct LaneReader {
    run: Arc<Run>,
    lease: Arc<LaneLease>,
    queue: Box<dyn PartitionQueue>,
    position: i64,
    leader_epoch: i32,
    until: Option<i64>,
    events: mpsc::Sender<SegmentEvent>,
    at_end: bool,
    end_short_since: Option<Duration>,
    corrupt_skipped: bool,
    /// A corrupt batch was passed over here; how far it reached shows with the next event.
    gap_from: Option<i64>,
    empty_reported: (i64, Duration),
    filling: Filling,
    // Fields are dropped in this order: the queue is closed by the time that this says so.
    _closed: oneshot::Sender<()>,
}

/// The open segment.
struct Filling {
    start: i64,
    encoding: Encoding,
    missing: Vec<Missing>,
    pinned: Option<PinnedRange>,
    window: Option<OpenWindow>,
    block: Option<PooledBlock>,
}

impl std::fmt::Debug for LaneReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LaneReader({} at {})", self.lease.tp, self.position)
    }
}

impl LaneReader {
    /// Begins a run.
    pub fn new(start: RunStart) -> Self {
        Self {
            run: start.run,
            lease: start.lease,
            queue: start.queue,
            position: start.position,
            leader_epoch: -1,
            until: start.until,
            events: start.events,
            at_end: false,
            end_short_since: None,
            corrupt_skipped: start.corrupt_skipped,
            gap_from: None,
            empty_reported: (start.position, Duration::ZERO),
            filling: Filling {
                start: start.start,
                encoding: start.encoding,
                missing: start.missing,
                pinned: start.pinned,
                window: None,
                block: None,
            },
            _closed: start.closed,
        }
    }

    /// Whether the run is still reading an intent's range.
    pub fn is_pinned(&self) -> bool {
        self.filling.pinned.is_some()
    }

    /// Uncompressed bytes of the open window.
    pub fn window_bytes(&self) -> u64 {
        self.filling.window.as_ref().map_or(0, |w| w.bytes)
    }

    /// Takes some events.
    pub fn turn(&mut self, shared: &ConsumerShared, builder: &Sender<BuilderMessage>) -> Turn {
        if !self.lease.seems_alive() || self.run.abandoned.load(Ordering::Relaxed) {
            return Turn::Over;
        }
        if self.sealed_enough() {
            return Turn::Idle;
        }
        let wall_ms = shared.clock.wall_ms();
        let mut turn = Turn::Idle;
        for _ in 0..EVENTS_PER_TURN {
            self.open_forced_window(shared, builder, wall_ms);
            if !self.queue.fill() {
                break;
            }
            match self.take_event(shared, builder, wall_ms) {
                Some(Turn::Busy) => turn = Turn::Busy,
                Some(end) => {
                    turn = end;
                    break;
                }
                None => break,
            }
        }
        if let Some(block) = &mut self.filling.block {
            block.settle();
        }
        self.run.position.store(self.position, Ordering::Relaxed);
        if turn == Turn::Over || self.on_clock(shared, builder, wall_ms) {
            return Turn::Over;
        }
        turn
    }

    /// Ends the run: what is open is forgotten.
    pub fn end(self, builder: &Sender<BuilderMessage>) {
        send(builder, BuilderMessage::Drop { run: self.run.id });
    }

    fn sealed_enough(&self) -> bool {
        self.run.sealed.load(Ordering::Relaxed) >= SEALED_WINDOWS_MAX
    }

    /// A segment must exist even without a record: an intent's range, and a range of which something is missing.
    fn open_forced_window(&mut self, shared: &ConsumerShared, builder: &Sender<BuilderMessage>, wall_ms: i64) {
        let forced = self.filling.pinned.is_some() || !self.filling.missing.is_empty();
        if forced && self.filling.window.is_none() {
            self.filling.open_window(&self.run, &self.events, &Stage { shared, builder, wall_ms });
        }
    }

    /// Handles one event; none when the lane must wait for its sealed segments.
    fn take_event(&mut self, shared: &ConsumerShared, builder: &Sender<BuilderMessage>, wall_ms: i64) -> Option<Turn> {
        if let Some(end) = self.gap_end() {
            self.list_corrupt(end, shared, builder);
        }
        let step = match self.queue.peek()? {
            QueueEvent::Record(record, _) if record.offset < self.position => Step::Skip,
            QueueEvent::Record(record, epoch) => {
                let stage = Stage { shared, builder, wall_ms };
                self.filling.judge(&record, epoch, &self.run, &self.events, &stage)
            }
            QueueEvent::End(offset) => Step::End(offset),
            QueueEvent::Fault(fault) => Step::Fault(fault),
        };
        match step {
            Step::Skip => self.queue.pop(),
            Step::NoMemory => return Some(Turn::Starved),
            Step::Close(end, reason) => {
                self.close(end, reason, shared, builder);
                return (!self.sealed_enough()).then_some(Turn::Busy);
            }
            Step::Taken { offset, leader_epoch } => {
                self.queue.pop();
                self.position = offset + 1;
                self.leader_epoch = leader_epoch;
                self.at_end = false;
                self.run.records_read.fetch_add(1, Ordering::Relaxed);
                if self.filling.is_full(shared) {
                    self.close(self.position, CloseReason::Size, shared, builder);
                    return (!self.sealed_enough()).then_some(Turn::Busy);
                }
            }
            Step::End(offset) => {
                self.queue.pop();
                self.position = self.position.max(offset);
                self.at_end = true;
                self.run.log_end.store(offset, Ordering::Relaxed);
                if let Some(end) = self.filling.pinned.as_ref().map(|p| p.end).filter(|end| *end <= self.position) {
                    self.close(end, CloseReason::Recovery, shared, builder);
                }
            }
            Step::Fault(QueueFault::Corrupt(_)) if self.corrupt_skipped => {
                self.queue.pop();
                self.gap_from.get_or_insert(self.position);
            }
            Step::Fault(fault) => {
                if matches!(fault, QueueFault::OutOfRange(_)) && !self.is_pinned() {
                    // What was read is whole; Kafka may not have it any more when the lane comes back for it.
                    self.close_open(CloseReason::OutOfRange, shared, builder);
                }
                self.pass(builder, SegmentEvent::Fault { fault, position: self.position });
                return Some(Turn::Over);
            }
        }
        Some(Turn::Busy)
    }

    /// Where the corrupt batch that was passed over ends: at the next record, or at the partition's end.
    fn gap_end(&mut self) -> Option<i64> {
        self.gap_from?;
        match self.queue.peek()? {
            QueueEvent::Record(record, _) => Some(record.offset),
            QueueEvent::End(offset) => Some(offset),
            QueueEvent::Fault(_) => None,
        }
    }

    fn list_corrupt(&mut self, end: i64, shared: &ConsumerShared, builder: &Sender<BuilderMessage>) {
        let Some(from) = self.gap_from.take().filter(|from| *from < end) else { return };
        if self.filling.missing.len() >= MISSING_RANGES_MAX {
            self.close_open(CloseReason::Size, shared, builder);
        }
        self.filling.missing.push(Missing(from, end, GapCause::CorruptBatch));
        self.position = end;
    }

    /// What the clock has to say. True if the run is over.
    fn on_clock(&mut self, shared: &ConsumerShared, builder: &Sender<BuilderMessage>, wall_ms: i64) -> bool {
        let now = shared.clock.steady();
        if self.is_pinned() {
            return self.wait_for_pinned_end(now, builder);
        }
        let due = self.filling.window.as_ref().and_then(|w| w.due(&shared.policy, wall_ms, now, self.at_end));
        if let Some(reason) = due.filter(|_| !self.sealed_enough()) {
            self.close(self.position, reason, shared, builder);
        }
        if self.until.is_some_and(|until| self.position >= until) {
            if self.filling.window.is_some() {
                self.close(self.position, CloseReason::UntilEnd, shared, builder);
            }
            self.report_empty(builder, now);
            self.pass(builder, SegmentEvent::Finished);
            return true;
        }
        if self.at_end && now.saturating_sub(self.empty_reported.1) >= EMPTY_INTERVAL {
            self.report_empty(builder, now);
        }
        false
    }

    /// A log that ends below an intent's end: a new leader's high watermark may lag, a truncated log stays short (rule A5).
    fn wait_for_pinned_end(&mut self, now: Duration, builder: &Sender<BuilderMessage>) -> bool {
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
        let fault = QueueFault::Truncated(format!("the log ends at {}, below the pinned end {end}", self.position));
        self.pass(builder, SegmentEvent::Fault { fault, position: self.position });
        true
    }

    fn report_empty(&mut self, builder: &Sender<BuilderMessage>, now: Duration) {
        if self.filling.window.is_none() && self.position > self.empty_reported.0 {
            self.empty_reported = (self.position, now);
            self.pass(builder, SegmentEvent::Empty { position: self.position, leader_epoch: self.leader_epoch });
        }
    }

    /// Closes the open window, if there is one, at the position.
    pub fn close_open(&mut self, reason: CloseReason, shared: &ConsumerShared, builder: &Sender<BuilderMessage>) {
        if self.filling.window.is_some() {
            self.close(self.position, reason, shared, builder);
        }
    }

    fn close(&mut self, end: i64, reason: CloseReason, shared: &ConsumerShared, builder: &Sender<BuilderMessage>) {
        let filling = &mut self.filling;
        filling.send_block(self.run.id, builder);
        let window = filling.window.take().expect("only an open window is closed");
        let reason = if filling.pinned.take().is_some() { CloseReason::Recovery } else { reason };
        let tail = SegmentTail {
            end,
            missing: std::mem::take(&mut filling.missing),
            reason,
            directory_ms: window.directory_ms,
            leader_epoch: self.leader_epoch,
            late: window.late,
            opened_wall_ms: window.opened_wall_ms(),
            closed_wall_ms: shared.clock.wall_ms(),
        };
        filling.start = end;
        self.position = self.position.max(end);
        self.empty_reported.0 = self.position;
        // Counted here and not when it is sealed, so that a lane cannot run ahead of its builder.
        self.run.sealed.fetch_add(1, Ordering::Relaxed);
        send(builder, BuilderMessage::Close { run: self.run.id, tail });
    }

    fn pass(&self, builder: &Sender<BuilderMessage>, event: SegmentEvent) {
        send(builder, BuilderMessage::Pass { run: Arc::clone(&self.run), events: self.events.clone(), event });
    }
}

impl Filling {
    fn judge(
        &mut self,
        record: &RecordView<'_>,
        leader_epoch: i32,
        run: &Arc<Run>,
        events: &mpsc::Sender<SegmentEvent>,
        stage: &Stage<'_>,
    ) -> Step {
        let Stage { shared, builder, wall_ms } = *stage;
        if let Some(pinned) = &self.pinned {
            if record.offset >= pinned.end {
                return Step::Close(pinned.end, CloseReason::Recovery);
            }
            if self.missing.iter().any(|m| (m.0..m.1).contains(&record.offset)) {
                return Step::Skip;
            }
        } else if self.window.as_ref().is_some_and(|w| w.ends_before(&shared.policy, record, wall_ms)) {
            return Step::Close(record.offset, CloseReason::NextSlot);
        }
        let bytes = usize::try_from(record_bytes(record)).unwrap_or(usize::MAX);
        if self.block.is_none() {
            self.block = shared.pool.take(self.encoding_now().value_layout(), bytes);
        }
        if !self.block.as_mut().is_some_and(|block| block.admits(bytes)) {
            return Step::NoMemory;
        }
        if self.window.is_none() {
            self.open_window(run, events, stage);
        }
        if let (Some(window), Some(block)) = (&mut self.window, &mut self.block) {
            window.add(&shared.policy, record, wall_ms);
            block.push(record);
            if block.is_full() {
                self.send_block(run.id, builder);
            }
        }
        Step::Taken { offset: record.offset, leader_epoch }
    }

    /// Whether the window must end behind the record just taken: it reached the size limit, or it must go to multipart and
    /// nothing has named its directory.
    fn is_full(&self, shared: &ConsumerShared) -> bool {
        self.pinned.is_none()
            && self
                .window
                .as_ref()
                .is_some_and(|w| w.is_full(&shared.policy) || (w.directory_ms.is_none() && w.bytes >= MULTIPART_BYTES_MIN))
    }

    fn encoding_now(&self) -> Encoding {
        self.pinned.as_ref().map_or(self.encoding, |p| p.encoding)
    }

    fn open_window(&mut self, run: &Arc<Run>, events: &mpsc::Sender<SegmentEvent>, stage: &Stage<'_>) {
        let head = SegmentHead { run: Arc::clone(run), start: self.start, encoding: self.encoding_now(), events: events.clone() };
        send(stage.builder, BuilderMessage::Open(head));
        self.window = Some(OpenWindow::new(&stage.shared.policy, stage.wall_ms, stage.shared.clock.steady()));
    }

    fn send_block(&mut self, run: u64, builder: &Sender<BuilderMessage>) {
        let directory_ms = self.window.as_ref().and_then(|w| w.directory_ms);
        if let Some(mut block) = self.block.take().filter(|b| b.rows() > 0) {
            block.settle();
            send(builder, BuilderMessage::Block { run, block, directory_ms });
        }
    }
}

/// Builders outlive consumers; if one is gone, the process is on its way down and nothing that was sent counts.
fn send(builder: &Sender<BuilderMessage>, message: BuilderMessage) {
    let _ = builder.send(message);
}
