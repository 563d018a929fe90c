//! Hears what a run tells its operator.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use catchment::metrics::Metrics;
use catchment::report::{LaneNote, Reporter, WindowCommitted};
use catchment::runtime::{Observer, Started};
use catchment::source::TopicPartition;

/// What was heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Lane notes, as text.
    pub(crate) notes: Vec<String>,
    /// Windows that became objects.
    pub(crate) windows: u32,
    /// Lanes that dropped everything and recovered.
    pub(crate) restarts: u32,
    /// Lanes that found a pinned window.
    pub(crate) recoveries: u32,
    /// What lanes said that have panicked. They begin again, and what they store is right all the same.
    pub(crate) panics: Vec<String>,
}

/// The observer.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    heard: Mutex<Heard>,
    metrics: OnceLock<Arc<Metrics>>,
}

impl Watcher {
    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has started and no lane of it reads.
    pub(crate) fn is_without_lanes(&self) -> bool {
        self.metrics.get().is_some_and(|metrics| metrics.lanes().is_empty())
    }
}

impl Reporter for Watcher {
    fn window(&self, window: &WindowCommitted) {
        let mut heard = self.heard();
        heard.windows += 1;
        heard.notes.push(format!("{}: window {} {}", window.tp, window.range, window.reason.as_str()));
    }

    fn lane(&self, tp: &TopicPartition, note: LaneNote<'_>) {
        let mut heard = self.heard();
        match &note {
            LaneNote::Restarted(_) => heard.restarts += 1,
            LaneNote::Recovering(_) => heard.recoveries += 1,
            LaneNote::Panicked(error) => heard.panics.push(format!("{tp}: {error}")),
            _ => {}
        }
        heard.notes.push(format!("{tp}: {note:?}"));
    }
}

impl Observer for Watcher {
    fn started(&self, started: &Started) {
        // Once for each run, and each run has a watcher of its own.
        let _ = self.metrics.set(Arc::clone(&started.metrics));
    }
}
