//! Takes the acknowledgements of records in, and the errors of the client.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::latency::Latencies;

/// The context of a producer. Each record carries the time at which it was due, in nanoseconds since [`start`](Self::start).
pub(super) struct Acknowledgements {
    /// What times are counted from.
    start: Instant,
    /// Whether a record that is acknowledged is committed: there are no transactions.
    pub(super) are_commits: bool,
    acknowledged: AtomicU64,
    latencies: Mutex<Latencies>,
    has_failed: AtomicBool,
    failure: Mutex<Option<String>>,
    last_error: Mutex<Option<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Acknowledgements {
    pub(super) fn new(are_commits: bool) -> Self {
        Self {
            start: Instant::now(),
            are_commits,
            acknowledged: AtomicU64::new(0),
            latencies: Mutex::new(Latencies::new()),
            has_failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            last_error: Mutex::new(None),
        }
    }

    /// Time since the start.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Records that are acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Why a record was not taken, if there is one.
    pub(super) fn failure(&self) -> Option<String> {
        if !self.has_failed.load(Ordering::Acquire) {
            return None;
        }
        locked(&self.failure).clone()
    }

    /// What the client said last about its connections.
    pub(super) fn last_error(&self) -> Option<String> {
        locked(&self.last_error).clone()
    }

    pub(super) fn latencies(&self) -> Latencies {
        locked(&self.latencies).clone()
    }

    fn fail(&self, why: String) {
        locked(&self.failure).get_or_insert(why);
        self.has_failed.store(true, Ordering::Release);
    }
}

impl ClientContext for Acknowledgements {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        *locked(&self.last_error) = Some(format!("{error}: {reason}"));
    }
}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due: usize) {
        match result {
            Ok(_) => {
                let due = Duration::from_nanos(due as u64);
                locked(&self.latencies).record(due, self.now());
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => self.fail(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_kept() {
        let acknowledgements = Acknowledgements::new(true);
        assert_eq!(acknowledgements.failure(), None);
        acknowledgements.fail("too large".to_owned());
        acknowledgements.fail("purged".to_owned());
        assert_eq!(acknowledgements.failure().as_deref(), Some("too large"));
    }

    #[test]
    fn the_last_error_of_the_client_is_known() {
        let acknowledgements = Acknowledgements::new(true);
        acknowledgements.error(KafkaError::Canceled, "broker 1 is down");
        assert!(acknowledgements.last_error().is_some_and(|error| error.contains("broker 1 is down")));
        assert_eq!((acknowledgements.acknowledged(), acknowledgements.failure()), (0, None));
    }
}
