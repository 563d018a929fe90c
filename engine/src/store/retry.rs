//! Repetition of requests that cannot hurt when they take effect twice: reads, listings, CreateMultipartUpload, UploadPart,
//! AbortMultipartUpload.
//!
//! Capped exponential back-off with full jitter. Only [`StoreErrorKind::Unknown`] is repeated: every other kind is an
//! answer. PutObject and CompleteMultipartUpload never come here; the commit protocol decides about them.

use std::future::Future;
use std::time::Duration;

use super::{RequestObserver, StoreErrorKind, StoreResult};

/// How often and for how long to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub attempts_max: u32,
    /// No attempt starts later than this after the first one.
    pub elapsed_max: Duration,
    /// Upper end of the first pause; it doubles with each further one.
    pub pause_first: Duration,
    /// Upper end of every pause.
    pub pause_max: Duration,
}

impl Default for RetryPolicy {
    /// 8 attempts within a minute. Fewer would turn a throttled minute into a failed window, more would hide an outage from
    /// the lane, which has its own back-off and says what it waits for.
    fn default() -> Self {
        Self {
            attempts_max: 8,
            elapsed_max: Duration::from_secs(60),
            pause_first: Duration::from_millis(100),
            pause_max: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// A single attempt.
    pub const ONCE: Self = Self { attempts_max: 1, elapsed_max: Duration::ZERO, pause_first: Duration::ZERO, pause_max: Duration::ZERO };

    /// Upper end of the pause after attempt number `attempt` (from 1).
    pub fn pause_cap(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        self.pause_first.saturating_mul(1 << doublings).min(self.pause_max)
    }

    /// Runs `request` until it succeeds, fails for good, or the policy is used up. The error carries the number of attempts.
    pub async fn run<T, F, Fut>(&self, observer: Option<&dyn RequestObserver>, mut request: F) -> StoreResult<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = StoreResult<T>>,
    {
        let start = crate::clock::now();
        let mut attempt = 1;
        loop {
            let mut error = match request().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            error.attempts = attempt;
            let pause = self.pause_cap(attempt).mul_f64(crate::clock::jitter());
            if error.kind != StoreErrorKind::Unknown || attempt >= self.attempts_max || start.elapsed() + pause > self.elapsed_max {
                return Err(error);
            }
            if let Some(observer) = observer {
                observer.retry(error.op, error.kind);
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    fn failure(kind: StoreErrorKind) -> StoreError {
        StoreError::new(kind, "GetObject", "k", "test")
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_unknown_until_success() {
        let mut calls = 0;
        let result = RetryPolicy::default()
            .run(None, || {
                calls += 1;
                let answer = if calls < 4 { Err(failure(StoreErrorKind::Unknown)) } else { Ok(calls) };
                async move { answer }
            })
            .await;
        assert_eq!(result.unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_after_the_attempts_and_says_how_many() {
        let start = crate::clock::now();
        let result: StoreResult<()> = RetryPolicy::default().run(None, || async { Err(failure(StoreErrorKind::Unknown)) }).await;
        assert_eq!(result.unwrap_err().attempts, 8);
        assert!(start.elapsed() <= RetryPolicy::default().elapsed_max);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_not_repeated() {
        for kind in [StoreErrorKind::Exists, StoreErrorKind::Conflict, StoreErrorKind::NoSuchUpload, StoreErrorKind::NotFound] {
            let result: StoreResult<()> = RetryPolicy::default().run(None, || async { Err(failure(kind)) }).await;
            assert_eq!((result.unwrap_err().attempts, kind), (1, kind));
        }
        for kind in [StoreErrorKind::Denied, StoreErrorKind::Invalid] {
            let result: StoreResult<()> = RetryPolicy::default().run(None, || async { Err(failure(kind)) }).await;
            assert_eq!((result.unwrap_err().attempts, kind), (1, kind));
        }
    }

    #[test]
    fn pauses_double_up_to_the_cap() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.pause_cap(1), Duration::from_millis(100));
        assert_eq!(policy.pause_cap(3), Duration::from_millis(400));
        assert_eq!(policy.pause_cap(100), Duration::from_secs(10));
    }
}
