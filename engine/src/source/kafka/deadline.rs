//! Real time for calls into librdkafka, whose own time-outs are real too. No decision of a window or a commit is made here.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment by which something must be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    #[allow(clippy::disallowed_methods, reason = "time-outs of librdkafka calls are real time")]
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout)
    }

    /// What is left; zero once it has passed.
    #[allow(clippy::disallowed_methods, reason = "time-outs of librdkafka calls are real time")]
    pub(crate) fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(crate) fn has_passed(&self) -> bool {
        self.left().is_zero()
    }
}

/// Milliseconds since 1970, for the life time of tokens only.
#[allow(clippy::disallowed_methods, reason = "a token's life time is wall-clock time")]
pub(crate) fn wall_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
