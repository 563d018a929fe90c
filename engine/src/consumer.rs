//! The drain loop of one pinned thread over its lanes.
//!
//! Place in the flow: reads the queues, decides where windows end, fills blocks, hands them to a builder. Guarantees: a record is
//! copied once; nothing is taken from a queue that the budget cannot hold; every offset from a run's position on is either in a
//! segment, or invisible, or behind a fault that ends the run. What it does not do: commit, or talk to a store.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::clock::Clock;
use crate::memory::Seat;
use crate::reader::{LaneReader, RunStart, Turn};
use crate::segment::BuilderMessage;
use crate::window::{CloseReason, WindowPolicy};

/// How long an empty thread sleeps at most. It is woken by its queues; this is for windows that the clock closes.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// How long the budget must have been exhausted before a window is closed early. Parts on their way may free memory first.
const PRESSURE_PATIENCE: Duration = Duration::from_millis(500);

/// What a consumer is told.
#[derive(Debug)]
pub enum ConsumerCommand {
    /// Begin a run.
    Start(Box<RunStart>),
    /// Close the open window of every lane and read no more, or just read no more.
    Stop {
        /// Whether to close.
        close: bool,
    },
}

/// What the consumers of a pipeline share.
#[derive(Debug)]
pub struct ConsumerShared {
    /// The rule's windows.
    pub policy: WindowPolicy,
    /// Bytes of a window at which it goes to the store in parts: by then its directory must have a name.
    pub upload_bytes_min: u64,
    /// Blocks, their budget, and whom to ask when it is exhausted.
    pub seat: Arc<Seat>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// The stage.
pub struct Consumer {
    number: usize,
    shared: Arc<ConsumerShared>,
    builder: Sender<BuilderMessage>,
    lanes: Vec<LaneReader>,
    stopped: bool,
    pressed_since: Option<Duration>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Consumer({} lanes)", self.lanes.len())
    }
}

impl Consumer {
    /// A consumer without lanes that feeds `builder`; `number` is its place on the pressure board.
    pub fn new(number: usize, shared: Arc<ConsumerShared>, builder: Sender<BuilderMessage>) -> Self {
        Self { number, shared, builder, lanes: Vec::new(), stopped: false, pressed_since: None }
    }

    /// Serves until it is told to stop.
    pub fn run(mut self, commands: &Receiver<ConsumerCommand>, wake: &Receiver<()>) {
        while !self.stopped {
            let busy = self.turn();
            let command = if busy {
                commands.try_recv().map_err(|e| e.is_disconnected())
            } else {
                crossbeam_channel::select! {
                    recv(commands) -> command => command.map_err(|_| true),
                    recv(wake) -> _ => Err(false),
                    default(IDLE_WAIT) => Err(false),
                }
            };
            match command {
                Ok(command) => self.on_command(command),
                Err(true) => return,
                Err(false) => {}
            }
        }
    }

    /// Whether the builder's inlet is at most half full.
    pub fn has_room(&self) -> bool {
        self.builder.capacity().is_none_or(|capacity| self.builder.len() <= capacity / 2)
    }

    /// Takes a command.
    pub fn on_command(&mut self, command: ConsumerCommand) {
        match command {
            ConsumerCommand::Start(_) if self.stopped => {}
            ConsumerCommand::Start(start) => self.lanes.push(LaneReader::new(*start)),
            ConsumerCommand::Stop { close } => {
                self.stopped = true;
                for mut lane in self.lanes.drain(..) {
                    if close && !lane.is_pinned() {
                        lane.close_open(CloseReason::Stop, &self.shared, &self.builder);
                    }
                    lane.end(&self.builder);
                }
            }
        }
    }

    /// Gives every lane its turn. True if any had something to do.
    pub fn turn(&mut self) -> bool {
        let mut busy = false;
        let mut starved = false;
        let mut at = 0;
        while at < self.lanes.len() {
            let lane = &mut self.lanes[at];
            match lane.turn(&self.shared, &self.builder) {
                Turn::Over => {
                    self.lanes.swap_remove(at).end(&self.builder);
                    continue;
                }
                Turn::Busy => busy = true,
                Turn::Starved => starved = true,
                Turn::Idle => {}
            }
            at += 1;
        }
        self.answer_pressure();
        self.on_pressure(starved);
        busy
    }

    /// Shows the largest window, and closes it if somebody needs its memory.
    fn answer_pressure(&mut self) {
        let Some(largest) = self.lanes.iter_mut().max_by_key(|l| l.closable_bytes()) else {
            return self.shared.seat.board().show(self.number, 0);
        };
        let bytes = largest.closable_bytes();
        self.shared.seat.board().show(self.number, bytes);
        if self.shared.seat.board().take_request(self.number) && bytes > 0 {
            largest.close_open(CloseReason::Pressure, &self.shared, &self.builder);
        }
    }

    /// Under pressure: drop free blocks, let lanes ship parts early, and if that does not help have the largest window closed.
    fn on_pressure(&mut self, starved: bool) {
        if !starved {
            self.pressed_since = None;
            return;
        }
        let now = self.shared.clock.steady();
        let since = *self.pressed_since.get_or_insert(now);
        self.shared.seat.press();
        if now.saturating_sub(since) >= PRESSURE_PATIENCE && self.shared.seat.close_largest() {
            self.pressed_since = Some(now);
        }
    }
}
