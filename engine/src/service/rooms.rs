//! Where rules get their memory, and their turn to start.
//!
//! Place in the flow: between the [supervisor](super::supervisor), which wants a rule to run, and the runtime, which runs it. All rules share one
//! [memory](crate::memory). A rule for which there is no room in it waits, and says so, until there is.
//!
//! Guarantee: of the rules of one source only a few connect at a time. So a thousand that start together, or whose topics do not exist, take no more than
//! a few do; and a source that is away holds up the rules of no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::observer::{RuleObserver, RuleState};
use crate::config::{BackupPlan, ByteSize};
use crate::memory::{Seat, SharedMemory};
use crate::runtime::Room;

/// How many rules of a source connect at a time. Fewer: many rules take long to start. More: those that start together take more than their memory, and a
/// source that is away is asked by more for nothing.
const STARTS_MAX: usize = 8;

/// How often a rule without room looks for it although no rule has ended: others may have given back what they had borrowed. Shorter costs wake-ups.
const ROOM_INTERVAL: Duration = Duration::from_secs(5);

/// Where rules get their memory, and their turn to start.
#[derive(Debug)]
pub(super) struct Rooms {
    memory: Arc<SharedMemory>,
    /// By the addresses of a source.
    starts: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl Rooms {
    /// For rules that together keep to `budget`.
    pub(super) fn new(budget: ByteSize) -> Arc<Self> {
        Arc::new(Self { memory: SharedMemory::new(budget.bytes()), starts: Mutex::default() })
    }

    /// Waits for a turn to connect, and for room in the memory. That there is none is told once.
    pub(super) async fn enter(&self, plan: &BackupPlan, observer: &RuleObserver) -> Room {
        let mut told = false;
        let mut waits = None;
        loop {
            let turn = self.turn(plan).await;
            let mut departures = self.memory.departures();
            match self.memory.join(plan.budget.bytes()) {
                Ok(seat) => return self.entered(seat, turn, told, observer),
                Err(error) if !told => observer.enter(RuleState::Waiting, Some(&error)),
                Err(_) => {}
            }
            told = true;
            waits.get_or_insert_with(|| self.memory.wait_for_seat());
            // Others may start meanwhile.
            drop(turn);
            let _ = tokio::time::timeout(ROOM_INTERVAL, departures.changed()).await;
        }
    }

    fn entered(&self, seat: Arc<Seat>, turn: OwnedSemaphorePermit, told: bool, observer: &RuleObserver) -> Room {
        if told {
            observer.enter(RuleState::Waiting, None);
        }
        Room { seat, turn: Some(turn) }
    }

    async fn turn(&self, plan: &BackupPlan) -> OwnedSemaphorePermit {
        let of_source = {
            let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Semaphore::new(STARTS_MAX));
            Arc::clone(starts.entry(plan.kafka.brokers.join(",")).or_insert_with(new))
        };
        of_source.acquire_owned().await.expect("nobody closes it")
    }
}
