//! Time that runs faster than the machine's: waits of the engine that take seconds in life take milliseconds in a test.
//!
//! Not for what goes through sockets: time-outs of requests are settings of the store, and are made short there.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use catchment::clock::Clock;
use catchment::store::BoxFuture;

use crate::generate::Rng;

/// A clock that starts at the real time and runs `factor` times as fast. Its chance is a function of its seed.
#[derive(Debug)]
pub struct FastClock {
    began: Instant,
    began_ms: i64,
    factor: u32,
    random: Mutex<Rng>,
}

impl FastClock {
    /// A clock that runs `factor` times as fast as the machine's.
    pub fn new(factor: u32, seed: u64) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began_ms = i64::try_from(since.as_millis()).expect("the clock stands before the year 292 million");
        Self { began: Instant::now(), began_ms, factor, random: Mutex::new(Rng::new(seed)) }
    }
}

impl Clock for FastClock {
    fn wall_ms(&self) -> i64 {
        self.began_ms + i64::try_from(self.steady().as_millis()).expect("a test ends before that")
    }

    fn steady(&self) -> Duration {
        self.began.elapsed() * self.factor
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration / self.factor))
    }

    fn random(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fraction()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_passes_in_milliseconds() {
        let (clock, began) = (FastClock::new(1000, 1), Instant::now());
        let (steady, wall) = (clock.steady(), clock.wall_ms());
        clock.sleep(Duration::from_secs(5)).await;
        assert!(began.elapsed() < Duration::from_secs(5), "the time that it stands for");
        assert!(clock.steady() - steady >= Duration::from_secs(5) && clock.wall_ms() - wall >= 4_999);
    }

    #[test]
    fn chance_is_a_function_of_the_seed() {
        let draw = |seed| {
            let clock = FastClock::new(1, seed);
            (0..100).map(|_| clock.random()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(3).iter().all(|n| (0.0..1.0).contains(n)));
    }
}
