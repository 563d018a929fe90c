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

/// How far the wall clock may run from the steady one before it counts as set. Less would mistrust clocks that are corrected little by little; more
/// would be missing where an age by the wall clock is compared with a deadline.
const PACE_TOLERANCE_MS: i64 = 60_000;

/// Whether the wall clock has kept pace with the steady one since this was made. One that was set meanwhile, or a machine that slept, says nothing of how long
/// ago something was that another clock has dated.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    wall_ms: i64,
    steady: Duration,
}

impl Pace {
    /// From now on.
    pub fn begin(clock: &dyn Clock) -> Self {
        Self { wall_ms: clock.wall_ms(), steady: clock.steady() }
    }

    /// Whether both clocks agree on how long ago that was.
    pub fn is_kept(&self, clock: &dyn Clock) -> bool {
        let steady_ms = i64::try_from(clock.steady().saturating_sub(self.steady).as_millis()).unwrap_or(i64::MAX);
        let ahead_ms = clock.wall_ms().saturating_sub(self.wall_ms).saturating_sub(steady_ms);
        (-PACE_TOLERANCE_MS..=PACE_TOLERANCE_MS).contains(&ahead_ms)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Clocks that stand where they are put.
    #[derive(Debug)]
    struct Standing(i64, Duration);

    impl Clock for Standing {
        fn wall_ms(&self) -> i64 {
            self.0
        }

        fn steady(&self) -> Duration {
            self.1
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(async {})
        }

        fn random(&self) -> f64 {
            0.0
        }
    }

    #[test]
    fn a_wall_clock_that_was_set_does_not_keep_pace_until_it_is_set_back() {
        let at = |wall_s: i64, steady_s| Standing(wall_s * 1_000, Duration::from_secs(steady_s));
        let pace = Pace::begin(&at(1_000_000, 50));
        for (wall_s, steady_s, kept) in
            [(1_000_000, 50, true), (1_086_400, 86_450, true), (1_000_160, 150, true), (1_000_161, 150, false), (1_000_039, 150, false)]
        {
            assert_eq!(pace.is_kept(&at(wall_s, steady_s)), kept, "{wall_s} {steady_s}");
        }
        assert!(!pace.is_kept(&Standing(i64::MIN, Duration::MAX)), "no clock stands where it cannot be asked");
    }
}
