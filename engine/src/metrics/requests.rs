//! Requests to the store, by operation: how many, how they ended, how long they took, and which were repeated why.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::store::{RequestObserver, StoreErrorKind};

type Durations = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

/// Counts requests as the store tells of them.
#[derive(Debug)]
pub struct RequestMetrics {
    requests: Family<[(&'static str, String); 2], Counter>,
    retries: Family<[(&'static str, &'static str); 2], Counter>,
    durations: Durations,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        // From 5 ms to 80 s: a HEAD of a near store, and a Complete of a large object on COS.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.005, 4.0, 8));
        Self { requests: Family::default(), retries: Family::default(), durations: Family::new_with_constructor(histogram) }
    }
}

impl RequestMetrics {
    /// Shows the counters in a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("store_requests", "Requests to the store by HTTP status, 0 for none", self.requests.clone());
        registry.register("store_retries", "Requests to the store that were repeated", self.retries.clone());
        registry.register("store_request_duration_seconds", "From a request to its answer", self.durations.clone());
    }
}

impl RequestObserver for RequestMetrics {
    fn request(&self, op: &'static str, code: u16, duration: Duration) {
        self.requests.get_or_create(&[("op", op.to_owned()), ("code", code.to_string())]).inc();
        self.durations.get_or_create(&[("op", op)]).observe(duration.as_secs_f64());
    }

    fn retry(&self, op: &'static str, reason: StoreErrorKind) {
        self.retries.get_or_create(&[("op", op), ("reason", reason.as_str())]).inc();
    }
}
