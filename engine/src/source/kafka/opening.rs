//! Which partitions are fetched, and by which opening.
//!
//! Audited unsafe, with [`queue`](super::queue): an [`Opening`] owns the topic handle and keeps the client alive. At most one opening of a partition
//! fetches; the stop of an older one happens under the lock of [`OpenPartitions`], and so does the start of the one that follows it.
#![expect(unsafe_code, reason = "the topic handle; each block says why it holds")]

use std::collections::{BTreeSet, HashMap};
use std::ffi::CStr;
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rdkafka::bindings as sys;
use rdkafka::consumer::Consumer;

use crate::source::{QueueFault, TopicPartition, Wake};

use super::client::Reader;

/// A started fetch.
pub(super) struct Opening {
    pub(super) topic: *mut sys::rd_kafka_topic_t,
    pub(super) partition: i32,
    pub(super) stopped: AtomicBool,
    /// Set from outside the queue: what the batch API does not tell.
    pub(super) fault: OnceLock<QueueFault>,
    pub(super) wake: Wake,
    // After `topic` in destruction too: see Drop.
    pub(super) reader: Arc<Reader>,
}

// SAFETY: librdkafka's objects may be used from any thread; the topic handle is only destroyed by the last owner.
unsafe impl Send for Opening {}
// SAFETY: as above; `stopped` makes the one call that must not be repeated exclusive.
unsafe impl Sync for Opening {}

impl Opening {
    /// Nothing is fetched yet, so there is nothing to stop; dropping it gives everything back. None: librdkafka refuses the topic.
    pub(super) fn new(reader: Arc<Reader>, topic: &CStr, partition: i32, wake: Wake) -> Option<Self> {
        // SAFETY: client and name are live; without a config the client's defaults hold.
        let topic = unsafe { sys::rd_kafka_topic_new(reader.consumer.client().native_ptr(), topic.as_ptr(), ptr::null_mut()) };
        (!topic.is_null()).then(|| Self { topic, partition, stopped: AtomicBool::new(true), fault: OnceLock::new(), wake, reader })
    }

    /// Stops the fetch and cuts the queue off, once. Waits for librdkafka's main thread, not for a broker.
    pub(super) fn stop(&self) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            // SAFETY: the topic handle is live. An error means that the partition was not fetched, which is what is wanted.
            let _ = unsafe { sys::rd_kafka_consume_stop(self.topic, self.partition) };
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.stop();
        // SAFETY: made by rd_kafka_topic_new, destroyed once, while `reader` still holds the client.
        unsafe { sys::rd_kafka_topic_destroy(self.topic) };
    }
}

/// Which partitions are fetched, and by which opening. One for each cluster; bounded by its partitions.
#[derive(Default)]
pub(crate) struct OpenPartitions(Mutex<HashMap<TopicPartition, Arc<Opening>>>);

impl OpenPartitions {
    /// Under it partitions are opened, taken over and given back.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, Arc<Opening>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topics that are being read, in order, each once.
    pub(crate) fn topics(&self) -> Vec<String> {
        let open = self.lock();
        let topics: BTreeSet<&str> = open.keys().map(|tp| &*tp.topic).collect();
        topics.into_iter().map(str::to_owned).collect()
    }

    /// Whether nothing is read.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Wakes the readers of all of them.
    pub(crate) fn wake(&self) {
        let open: Vec<_> = self.lock().values().cloned().collect();
        for opening in open {
            (opening.wake)();
        }
    }

    /// Makes every queue of a topic fault. The batch API swallows what librdkafka says of a topic that is gone.
    pub(crate) fn fault(&self, topic: &str, fault: &QueueFault) {
        let hit: Vec<_> = {
            let open = self.lock();
            open.iter().filter(|(tp, _)| &*tp.topic == topic).map(|(_, o)| Arc::clone(o)).collect()
        };
        for opening in hit {
            if opening.fault.set(fault.clone()).is_ok() {
                (opening.wake)();
            }
        }
    }
}

impl fmt::Debug for OpenPartitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenPartitions")
    }
}
