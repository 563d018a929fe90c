//! The reader client of now, and when another one takes its place.
//!
//! Place in the flow: owned by the [`cluster`](super::cluster); each [`queue`](super::queue) is opened from the client of now, and moves to its successor
//! by itself when it is drained next. A client's limits are fixed when it is made, so other limits mean another client: when there are more
//! partitions than before, and when what was fetched unfolds otherwise than assumed ([`unfolding`](super::unfolding)).
//!
//! A client is closed by whoever calls [`Fetching::close_unused`], never on a consumer's thread: that waits for its threads to end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::KafkaSettings;
use crate::error::Error;

use super::client::{Reader, Shared};
use super::errors::Diagnostics;
use super::limits::{FetchLimits, UNFOLDING_MAX};
use super::queue::OpenPartitions;

/// How much memory the fetch queues may take, and how many partitions share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadShare {
    /// Bytes.
    pub bytes: u64,
    /// Partitions open at a time.
    pub partitions: u32,
}

/// The reader clients of one cluster.
#[derive(Debug)]
pub(crate) struct Fetching {
    config: KafkaSettings,
    diagnostics: Arc<Diagnostics>,
    /// Which partitions are being read.
    pub(crate) open: OpenPartitions,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    share: ReadShare,
    limits: FetchLimits,
    reader: Arc<Reader>,
    /// Those before it, as long as a queue has not left them.
    older: Vec<Arc<Reader>>,
}

impl Fetching {
    /// Makes the first client. No network is touched yet.
    ///
    /// # Errors
    /// `C0207` to `C0217`: the settings.
    pub(crate) fn new(config: KafkaSettings, diagnostics: Arc<Diagnostics>, share: ReadShare) -> Result<Self, Error> {
        let limits = FetchLimits::new(share.bytes, share.partitions, UNFOLDING_MAX);
        let reader = make(&config, &diagnostics, &limits)?;
        let current = Mutex::new(Current { share, limits, reader, older: Vec::new() });
        Ok(Self { config, diagnostics, open: OpenPartitions::default(), current })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client of now.
    pub(crate) fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.current().reader)
    }

    /// The client to move to, if `reader` is not the one of now or should not be any longer.
    pub(crate) fn successor(&self, reader: &Arc<Reader>) -> Option<Arc<Reader>> {
        if !reader.is_outdated() {
            return None;
        }
        if let Some(unfolding) = reader.unfolding.take_verdict() {
            let mut current = self.current();
            // A client that was replaced already may still have something to say.
            if Arc::ptr_eq(&current.reader, reader) {
                let share = current.share;
                if let Err(e) = self.replace(&mut current, share, unfolding) {
                    tracing::warn!(error = %e, "the fetch limits could not be adapted");
                }
            }
        }
        Some(self.reader()).filter(|now| !Arc::ptr_eq(now, reader))
    }

    /// Adapts to another share.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn resize(&self, share: ReadShare) -> Result<(), Error> {
        let mut current = self.current();
        let unfolding = current.limits.unfolding;
        self.replace(&mut current, share, unfolding)
    }

    /// Adapts to more partitions. In powers of two: a client for each new partition would cost more than it bounds.
    pub(crate) fn expect_partitions(&self, partitions: usize) {
        let mut current = self.current();
        let (share, unfolding) = (current.share, current.limits.unfolding);
        let wanted = u32::try_from(partitions).unwrap_or(u32::MAX);
        if wanted <= share.partitions {
            return;
        }
        let share = ReadShare { partitions: wanted.checked_next_power_of_two().unwrap_or(u32::MAX), ..share };
        if let Err(e) = self.replace(&mut current, share, unfolding) {
            tracing::warn!(error = %e, partitions, "the fetch limits could not be adapted");
        }
    }

    fn replace(&self, current: &mut Current, share: ReadShare, unfolding: u64) -> Result<(), Error> {
        let limits = FetchLimits::new(share.bytes, share.partitions, unfolding);
        current.share = share;
        if limits == current.limits {
            return Ok(());
        }
        let reader = make(&self.config, &self.diagnostics, &limits)?;
        tracing::debug!(response = limits.response, slice = limits.slice, unfolding, "other fetch limits");
        let older = std::mem::replace(&mut current.reader, reader);
        older.retire();
        current.limits = limits;
        current.older.push(older);
        // One that waits for records would learn of it only with the next of them, fetched by the old limits.
        self.open.wake();
        Ok(())
    }

    /// Closes the clients that no queue uses any more. Blocks until their threads have ended.
    pub(crate) fn close_unused(&self) {
        let is_unused = |reader: &mut Arc<Reader>| Arc::strong_count(reader) == 1;
        let unused: Vec<_> = self.current().older.extract_if(.., is_unused).collect();
        drop(unused);
    }
}

fn make(config: &KafkaSettings, diagnostics: &Arc<Diagnostics>, limits: &FetchLimits) -> Result<Arc<Reader>, Error> {
    let properties = config.reader_properties(limits)?;
    Ok(Arc::new(Reader::new(&properties, limits, Shared::new(config, Arc::clone(diagnostics)))?))
}
