//! Time and chance. The only file that reads a real clock or draws random numbers.
//!
//! Everything else asks a [`Clock`], so that a simulation can hand in its own and a seed gives the same run again.

use std::sync::Mutex;
use std::time::Duration;

use crate::store::BoxFuture;

/// Wall clock, steady clock, sleep and jitter.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds since 1970-01-01 UTC. May jump.
    fn wall_ms(&self) -> i64;

    /// Time since some fixed moment. Never jumps, never goes back.
    fn steady(&self) -> Duration;

    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// A number in `[0, 1)`.
    fn random(&self) -> f64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
    random: Mutex<fastrand::Rng>,
}

impl SystemClock {
    /// A clock that counts from now.
    #[expect(clippy::disallowed_methods, reason = "this is the file that reads real time")]
    pub fn new() -> Self {
        Self { started: std::time::Instant::now(), random: Mutex::new(fastrand::Rng::new()) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the file that reads real time")]
    fn wall_ms(&self) -> i64 {
        // A clock before 1970 or past the year 292 million is a broken clock; every comparison still works on 0.
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or_default()
    }

    fn steady(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn random(&self) -> f64 {
        self.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner).f64()
    }
}

/// The steady clock of the runtime, for time-outs of requests; a test that pauses the runtime's time pauses this too.
#[expect(clippy::disallowed_methods, reason = "this is the file that reads real time")]
pub fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Blocks the calling thread, which is one of ours and not the runtime's.
#[expect(clippy::disallowed_methods, reason = "this is the file that waits for real")]
pub fn block_for(duration: Duration) {
    std::thread::sleep(duration);
}

/// A number in `[0, 1)`, to spread repetitions.
#[expect(clippy::disallowed_methods, reason = "this is the file that draws random numbers")]
pub fn jitter() -> f64 {
    fastrand::f64()
}

/// Capped exponential back-off with full jitter.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Starts at `first` and doubles up to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    /// Waits for a random part of the current step, at least a tenth of it, and takes the next step.
    pub async fn wait(&mut self, clock: &dyn Clock) {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        clock.sleep(step.mul_f64(clock.random().max(0.1))).await;
    }
}
