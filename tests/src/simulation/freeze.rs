//! A process that stands still: nothing that it does reaches anybody, and nothing reaches it, until it wakes.
//!
//! What a process computes between two operations is seen by nobody, so a process is frozen at its edges: before a request leaves, before
//! an answer arrives, before a timer fires, before a stage takes a turn. What it had sent goes on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catchment::clock::Clock;
use catchment::store::BoxFuture;
use tokio::sync::Notify;

use super::world::World;

/// Whether one process stands still. Clones are the same process.
#[derive(Clone, Debug, Default)]
pub struct Freeze(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    frozen: AtomicBool,
    /// Wakes in the order of waiting; a `watch` channel picks its own.
    thaw: Notify,
}

impl Freeze {
    /// Freezes or wakes it.
    pub fn set(&self, frozen: bool) {
        self.0.frozen.store(frozen, Ordering::Relaxed);
        if !frozen {
            self.0.thaw.notify_waiters();
        }
    }

    /// Waits while it is frozen.
    pub async fn thawed(&self) {
        // One thread: nothing happens between the look and the wait.
        while self.0.frozen.load(Ordering::Relaxed) {
            self.0.thaw.notified().await;
        }
    }
}

/// The clock of one process.
#[derive(Debug)]
pub struct SimulatedClock {
    /// Chance and time.
    pub world: Arc<World>,
    /// The process.
    pub freeze: Freeze,
    /// The wall clock at the beginning, ms since 1970.
    pub start_ms: i64,
}

impl Clock for SimulatedClock {
    fn wall_ms(&self) -> i64 {
        self.world.wall_ms(self.start_ms)
    }

    fn steady(&self) -> Duration {
        self.world.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let freeze = self.freeze.clone();
        Box::pin(async move {
            tokio::time::sleep(duration).await;
            freeze.thawed().await;
        })
    }

    fn random(&self) -> f64 {
        self.world.fraction()
    }
}
