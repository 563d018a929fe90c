//! A clock that runs faster, so that the minute for which a lane waits before it stops takes a few seconds.
//!
//! It is for the pipeline alone: sockets, librdkafka and the scripted broker live in real time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use catchment::clock::Clock;
use catchment::store::BoxFuture;

/// How much faster, as a rule. More: what the pipeline waits for is over before a broker has answered. Less: cells that wait take longer.
pub(super) const FACTOR: u32 = 20;

/// The clock.
#[derive(Debug)]
pub(crate) struct FastClock {
    began: Instant,
    began_wall: Duration,
    factor: u32,
    random: Mutex<fastrand::Rng>,
}

impl FastClock {
    pub(crate) fn new(factor: u32, seed: u64) -> Self {
        let began_wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), began_wall, factor, random: Mutex::new(fastrand::Rng::with_seed(seed)) }
    }
}

impl Clock for FastClock {
    fn wall_ms(&self) -> i64 {
        i64::try_from((self.began_wall + self.steady()).as_millis()).unwrap_or_default()
    }

    fn steady(&self) -> Duration {
        self.began.elapsed() * self.factor
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration / self.factor))
    }

    fn random(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}
