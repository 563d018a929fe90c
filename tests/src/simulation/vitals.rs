//! Whether a process runs, stands still or is dead.
//!
//! What a process computes between two operations is seen by nobody, so a process is frozen and killed at its edges: before a request leaves,
//! before an answer arrives, before a timer fires, before a stage takes a turn. What it had sent goes on its way. A dead process sends nothing
//! any more: what is dropped with it tidies up behind itself, which a process that was killed does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catchment::clock::Clock;
use catchment::store::BoxFuture;
use tokio::sync::Notify;

use super::world::World;

/// The state of one process. Clones are the same process.
#[derive(Clone, Debug, Default)]
pub struct Vitals(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    frozen: AtomicBool,
    dead: AtomicBool,
    /// Wakes in the order of waiting; a `watch` channel picks its own.
    thaw: Notify,
}

impl Vitals {
    /// Freezes or wakes it.
    pub fn set_frozen(&self, frozen: bool) {
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

    /// It is dead from now on.
    pub fn die(&self) {
        self.0.dead.store(true, Ordering::Relaxed);
    }

    /// Whether it is dead.
    pub fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::Relaxed)
    }
}

/// The clock of one process.
#[derive(Debug)]
pub struct SimulatedClock {
    /// Chance and time.
    pub world: Arc<World>,
    /// The process.
    pub vitals: Vitals,
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
        let vitals = self.vitals.clone();
        Box::pin(async move {
            tokio::time::sleep(duration).await;
            vitals.thawed().await;
        })
    }

    fn random(&self) -> f64 {
        self.world.fraction()
    }
}
