//! What the lanes of a rule share: where records come from and objects go, the memory, the counters, and how far each lane is.
//!
//! Made once by the [`pipeline`](crate::pipeline); lanes only read it, but for the maps behind its mutexes, none of which is held across
//! an await.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;
use tokio::sync::{Semaphore, oneshot};

use super::control::Anchor;
use super::turns::Turns;
use crate::clock::{Clock, Pace};
use crate::consumer::{ConsumerCommand, ConsumerShared};
use crate::crash::{self, Point};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::report::Reporter;
use crate::rule::Rule;
use crate::source::{Group, Source, TopicPartition};
use crate::store::{Guard, Metadata, ObjectStore, Payload};
use crate::topics::TopicClaims;

/// What all lanes of a rule share.
#[derive(Debug)]
pub struct LaneEnv {
    /// The rule.
    pub rule: Rule,
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// Where progress is committed.
    pub group: Arc<dyn Group>,
    /// Where objects go.
    pub store: Arc<dyn ObjectStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Since the pipeline was made.
    pub pace: Pace,
    /// What the consumers share.
    pub shared: Arc<ConsumerShared>,
    /// The consumer threads.
    pub consumers: Vec<ConsumerPort>,
    /// Claims of the rule's topics.
    pub claims: TopicClaims,
    /// Whose turn it is to read.
    pub turns: Turns,
    /// Bounds the parts on their way, over all lanes.
    pub parts_in_flight: Arc<Semaphore>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Tells the operator.
    pub reporter: Arc<dyn Reporter>,
    /// Where each partition's run ends, if the process is to end there.
    pub until: Option<BTreeMap<TopicPartition, i64>>,
    /// Numbers runs.
    pub runs: AtomicU64,
    /// Lanes that have an object or an intent on its way.
    pub publishing: AtomicUsize,
    /// Committed positions.
    pub progress: Progress,
    /// The queue of a partition that is still open, by partition.
    pub open_queues: Mutex<HashMap<TopicPartition, oneshot::Receiver<()>>>,
    /// The anchor of every lane that lived in this process, by its key; written at the end.
    pub anchors: Mutex<BTreeMap<String, Anchor>>,
}

impl LaneEnv {
    /// Writes all anchors, a few at a time. What fails stays as it was: an older anchor is a lower bound too.
    pub async fn write_anchors(&self) {
        let anchors = std::mem::take(&mut *self.anchors.lock().unwrap_or_else(PoisonError::into_inner));
        let mut writes = tokio::task::JoinSet::new();
        for (key, anchor) in anchors {
            if writes.len() >= ANCHORS_IN_FLIGHT_MAX {
                writes.join_next().await;
            }
            let store = Arc::clone(&self.store);
            writes.spawn(async move {
                let body = Payload::from_bytes(serde_json::to_vec(&anchor).expect("an anchor is plain JSON"));
                let none = Metadata::new();
                crash::point(Point::BeforeLastAnchor);
                let write = store.put(&key, body, &none, Guard::Overwrite);
                if !matches!(tokio::time::timeout(ANCHOR_DEADLINE, write).await, Ok(Ok(_))) {
                    tracing::warn!(key, "the anchor was not written");
                }
            });
        }
        while writes.join_next().await.is_some() {}
    }
}

/// Anchors written at once when the process ends. More would be throttled, fewer take longer than a stop may.
const ANCHORS_IN_FLIGHT_MAX: usize = 16;

/// How long one anchor may take when the process ends.
const ANCHOR_DEADLINE: Duration = Duration::from_secs(1);

/// A consumer thread, as lanes see it.
#[derive(Clone, Debug)]
pub struct ConsumerPort {
    /// Commands.
    pub commands: Sender<ConsumerCommand>,
    /// Wakes the thread.
    pub wake: Sender<()>,
}

/// What the lanes of this process have reached.
#[derive(Debug, Default)]
pub struct Progress {
    positions: Mutex<HashMap<TopicPartition, i64>>,
    stopped: Mutex<BTreeMap<TopicPartition, Error>>,
    /// Rises with every change.
    pub changes: tokio::sync::watch::Sender<u64>,
}

impl Progress {
    /// Notes a committed position.
    pub fn note(&self, tp: &TopicPartition, position: i64) {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).insert(tp.clone(), position);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Notes that a lane stopped, or, with none, that it lives again or is somebody else's.
    pub(super) fn note_stop(&self, tp: &TopicPartition, error: Option<Error>) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => stopped.insert(tp.clone(), error),
            None => stopped.remove(tp),
        };
        drop(stopped);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Errors of the lanes that have stopped.
    pub fn stopped(&self) -> Vec<Error> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The topics of all lanes that have come this far.
    pub fn topics(&self) -> BTreeSet<Arc<str>> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).keys().map(|tp| Arc::clone(&tp.topic)).collect()
    }

    /// The last committed position.
    pub fn get(&self, tp: &TopicPartition) -> Option<i64> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).get(tp).copied()
    }
}
