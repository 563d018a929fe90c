//! One run of a lane: its queue, its open window, its open block.
//!
//! Place in the flow: a [`Consumer`](crate::consumer::Consumer) gives each of its readers a turn. The reader decides, record by record, what
//! goes where; [`window`](crate::window) has the rules, [`filling`] the segment that is open, [`corrupt`] what to do about a batch that cannot be
//! read, [`timers`] what the clock says, [`resting`] where a turn ends in a sweep. Guarantee: segments tile. Each starts where the one before ended, and what was
//! taken from the queue is in one of them, or is invisible.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catchment_formats::{Encoding, Missing};
use crossbeam_channel::Sender;
use tokio::sync::{mpsc, oneshot};

use crate::consumer::ConsumerShared;
use crate::corrupt::CorruptSearch;
use crate::encoding::LaneEncoding;
use crate::lane::LaneLease;
use crate::limits::SEALED_WINDOWS_MAX;
use crate::segment::{BuilderMessage, Run, SegmentEvent};
use crate::source::{LastRead, PartitionQueue, QueueEvent, QueueFault};
use crate::window::{CloseReason, Opened};

mod corrupt;
mod filling;
mod resting;
mod taken;
mod timers;

pub use corrupt::CorruptSkip;
use filling::{Filling, Stage, Step};
pub use resting::TurnBounds;
use taken::{Taken, TakenRecord};

/// Events taken from one lane before the next lane has its turn. Fewer cost more rounds, more make other lanes wait.
const EVENTS_PER_TURN: usize = 1024;

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
    pub encoding: LaneEncoding,
    /// Ranges that the first segment must list as missing.
    pub missing: Vec<Missing>,
    /// An intent's range that must be read again, exactly.
    pub pinned: Option<PinnedRange>,
    /// Where the run ends, if it ends: at the first position that reaches this.
    pub until: Option<i64>,
    /// The last record that was read before `position`; the queue was opened at its end.
    pub last: LastRead,
    /// Records from here to `position` were written after a truncation, and are listed as missing.
    pub written_anew_from: i64,
    /// Corrupt batches that are listed as missing and passed over; all others end the run.
    pub corrupt_skipped: Option<CorruptSkip>,
    /// How long the queue may have nothing, not even its end, for a reader that could take it.
    pub patience: Duration,
    /// What bounds the run for other lanes to have their turn; none in a stream, and for a run that is to reach an end.
    pub turn: Option<TurnBounds>,
    /// When the window opened that an earlier run began at `start` and left; none if none did.
    pub opened: Option<Opened>,
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

/// A lane's run, on its consumer.
pub struct LaneReader {
    run: Arc<Run>,
    lease: Arc<LaneLease>,
    queue: Box<dyn PartitionQueue>,
    position: i64,
    last: LastRead,
    /// Whether the queue stands where it was opened, behind the last record and before the position.
    opened_before: bool,
    /// Where the run began.
    began_at: i64,
    /// Between the queue's start and this, nothing was visible when it was read.
    written_anew_from: i64,
    until: Option<i64>,
    events: mpsc::Sender<SegmentEvent>,
    taken: Taken,
    at_end: bool,
    /// Since when the queue has had nothing for a reader that could take it.
    silent_since: Option<Duration>,
    patience: Duration,
    turn: Option<TurnBounds>,
    end_short_since: Option<Duration>,
    corrupt_skipped: Option<CorruptSkip>,
    /// A corrupt batch is being passed over.
    search: Option<CorruptSearch>,
    empty_reported: (i64, Duration),
    filling: Filling,
    // Fields are dropped in this order: the queue is closed by the time that this says so.
    _closed: oneshot::Sender<()>,
}

impl std::fmt::Debug for LaneReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LaneReader({} at {})", self.lease.tp, self.position)
    }
}

impl LaneReader {
    /// Begins a run.
    pub fn new(start: RunStart) -> Self {
        let filling = Filling::new(&start);
        Self {
            run: start.run,
            lease: start.lease,
            queue: start.queue,
            position: start.position,
            last: start.last,
            opened_before: start.last.end < start.position,
            began_at: start.position,
            written_anew_from: start.written_anew_from.min(start.position),
            until: start.until,
            events: start.events,
            taken: Taken::default(),
            at_end: false,
            silent_since: None,
            patience: start.patience,
            turn: start.turn,
            end_short_since: None,
            corrupt_skipped: start.corrupt_skipped,
            search: None,
            empty_reported: (start.position, Duration::ZERO),
            filling,
            _closed: start.closed,
        }
    }

    /// Uncompressed bytes of the open window, if it may be closed early.
    pub fn closable_bytes(&self) -> u64 {
        if self.is_pinned() { 0 } else { self.filling.window.as_ref().map_or(0, |w| w.bytes) }
    }

    /// Whether the run is still reading an intent's range.
    pub fn is_pinned(&self) -> bool {
        self.filling.pinned.is_some()
    }

    /// Takes some events.
    pub fn turn(&mut self, shared: &ConsumerShared, builder: &Sender<BuilderMessage>) -> Turn {
        if !self.lease.seems_alive() || self.run.abandoned.load(Ordering::Relaxed) {
            return Turn::Over;
        }
        if self.sealed_enough() {
            self.silent_since = None;
            return Turn::Idle;
        }
        let stage = Stage { shared, builder, wall_ms: shared.clock.wall_ms() };
        let turn = self.take_events(&stage);
        if let Some(block) = &mut self.filling.block {
            block.settle();
        }
        self.run.position.store(self.position, Ordering::Relaxed);
        self.taken.show(&self.run);
        if turn == Turn::Over || self.is_silent(turn, &stage) || self.on_clock(&stage) {
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

    fn take_events(&mut self, stage: &Stage<'_>) -> Turn {
        let mut turn = Turn::Idle;
        for _ in 0..EVENTS_PER_TURN {
            self.open_forced_window(stage);
            if self.sealed_enough() || !self.queue.fill() {
                break;
            }
            match self.take_event(stage) {
                Some(Turn::Busy) => turn = Turn::Busy,
                Some(end) => return end,
                None => break,
            }
        }
        turn
    }

    /// A segment must exist even without a record: an intent's range, and a range of which something is missing. An intent's range that
    /// Kafka has lost to its end needs no reading at all.
    fn open_forced_window(&mut self, stage: &Stage<'_>) {
        let forced = self.filling.pinned.is_some() || !self.filling.missing.is_empty();
        if forced && self.filling.window.is_none() {
            self.filling.open_window(&self.run, &self.events, stage);
        }
        self.close_pinned_behind(self.position, stage);
    }

    /// Closes an intent's range once everything up to `position` was read.
    fn close_pinned_behind(&mut self, position: i64, stage: &Stage<'_>) {
        if let Some(end) = self.filling.pinned.as_ref().map(|p| p.end).filter(|end| *end <= position) {
            self.close(end, CloseReason::Recovery, stage);
        }
    }

    /// Handles one event; none when the lane must wait for its sealed segments.
    fn take_event(&mut self, stage: &Stage<'_>) -> Option<Turn> {
        if self.search.is_some() {
            return self.take_answer(stage);
        }
        let step = match self.queue.peek()? {
            QueueEvent::Record(record, _) if record.offset < self.written_anew_from => {
                Step::Fault(written_anew(record.offset, self.began_at, self.last))
            }
            QueueEvent::Record(record, epoch) if record.offset < self.position => Step::Skip(LastRead::of(record.offset, epoch)),
            QueueEvent::End(offset) if offset < self.began_at => Step::Fault(ends_short(offset, self.began_at)),
            QueueEvent::Record(record, epoch) => self.filling.judge(&record, epoch, &self.run, &self.events, stage),
            QueueEvent::End(offset) => Step::End(offset),
            QueueEvent::Fault(fault) => Step::Fault(fault),
        };
        match step {
            Step::Skip(record) => {
                self.queue.pop();
                if record.end > self.last.end {
                    self.last = record;
                }
            }
            Step::Early => return Some(Turn::Idle),
            Step::NoMemory => return Some(Turn::Starved),
            Step::Close(end, reason) => return self.close_and_go_on(end, reason, stage),
            Step::Taken(taken) => return self.on_taken(taken, stage),
            Step::End(offset) => self.on_end(offset, stage),
            Step::Fault(fault) => return Some(self.on_fault(fault, stage)),
        }
        Some(Turn::Busy)
    }

    fn close_and_go_on(&mut self, end: i64, reason: CloseReason, stage: &Stage<'_>) -> Option<Turn> {
        self.close(end, reason, stage);
        (!self.sealed_enough()).then_some(Turn::Busy)
    }

    fn on_taken(&mut self, record: TakenRecord, stage: &Stage<'_>) -> Option<Turn> {
        self.queue.pop();
        self.position = record.offset + 1;
        self.last = LastRead::of(record.offset, record.leader_epoch);
        self.at_end = false;
        self.taken.add(&record);
        if self.filling.is_full(stage.shared) {
            return self.close_and_go_on(self.position, CloseReason::Size, stage);
        }
        Some(Turn::Busy)
    }

    fn on_end(&mut self, offset: i64, stage: &Stage<'_>) {
        self.queue.pop();
        self.position = self.position.max(offset);
        self.at_end = true;
        self.run.log_end.store(offset, Ordering::Relaxed);
        self.close_pinned_behind(self.position, stage);
    }

    fn on_fault(&mut self, fault: QueueFault, stage: &Stage<'_>) -> Turn {
        if let Some(turn) = self.pass_known(&fault, stage) {
            return turn;
        }
        let skipped = self.corrupt_skipped.as_ref().filter(|skip| skip.at.contains(&self.position));
        if let (QueueFault::Corrupt(cause), Some(log_end)) = (&fault, skipped.map(|skip| skip.log_end)) {
            return self.begin_search(log_end, cause, stage);
        }
        if let Some(reason) = closed_by(&fault).filter(|_| !self.is_pinned()) {
            self.close_open(reason, stage.shared, stage.builder);
        }
        self.give_up(fault, stage)
    }

    /// Tells the lane what keeps the run from going on.
    fn give_up(&self, fault: QueueFault, stage: &Stage<'_>) -> Turn {
        self.pass(stage.builder, SegmentEvent::Fault { fault, position: self.position });
        Turn::Over
    }

    /// Moves the queue; a client that refuses that is a fault of the queue.
    fn seek(&mut self, offset: i64, stage: &Stage<'_>) -> Turn {
        match self.queue.seek(offset) {
            Ok(()) => Turn::Busy,
            Err(e) => self.give_up(QueueFault::Other(e.to_string()), stage),
        }
    }

    /// Closes the open window at the position, if there is one and it stands for any offset.
    pub fn close_open(&mut self, reason: CloseReason, shared: &ConsumerShared, builder: &Sender<BuilderMessage>) {
        if self.filling.window.is_some() && self.position > self.filling.start {
            let wall_ms = shared.clock.wall_ms();
            self.close(self.position, reason, &Stage { shared, builder, wall_ms });
        }
    }

    fn close(&mut self, end: i64, reason: CloseReason, stage: &Stage<'_>) {
        let tail = self.filling.close(end, reason, self.last.within(0, end), self.run.id, stage);
        self.position = self.position.max(end);
        self.empty_reported.0 = self.position;
        // Counted here and not when it is sealed, so that a lane cannot run ahead of its builder.
        self.run.sealed.fetch_add(1, Ordering::Relaxed);
        send(stage.builder, BuilderMessage::Close { run: self.run.id, tail });
    }

    fn pass(&self, builder: &Sender<BuilderMessage>, event: SegmentEvent) {
        send(builder, BuilderMessage::Pass { run: Arc::clone(&self.run), events: self.events.clone(), event });
    }
}

/// Why a fault closes the window before it, if it does: what was read is whole. Kafka may not have it any more when the lane comes back for it, or it would
/// be read again each time that the lane asks for a record that there is no room for.
fn closed_by(fault: &QueueFault) -> Option<CloseReason> {
    match fault {
        QueueFault::OutOfRange(_) => Some(CloseReason::OutOfRange),
        QueueFault::TooLarge { .. } => Some(CloseReason::Pressure),
        _ => None,
    }
}

/// A record where there was none: the log was cut below it and written anew.
fn written_anew(offset: i64, position: i64, last: LastRead) -> QueueFault {
    let cause = format!("a record stands at {offset}, where there was none when the lane read up to {position}");
    QueueFault::Truncated { cause, cut: Some(last) }
}

fn ends_short(end: i64, position: i64) -> QueueFault {
    QueueFault::OutOfRange(format!("the readable log ends at {end}, below {position}"))
}

/// Builders outlive consumers; if one is gone, the process is on its way down and nothing that was sent counts.
fn send(builder: &Sender<BuilderMessage>, message: BuilderMessage) {
    let _ = builder.send(message);
}
