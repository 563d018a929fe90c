//! Which of two events came first, where they happen in different services of one test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers events. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Order(Arc<AtomicU64>);

impl Order {
    /// The next number. To be taken while the event's own lock is held, so that numbers are in the order of effects.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    /// The number of the event that comes next, whichever that is.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
