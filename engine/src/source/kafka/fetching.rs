//! The reader client of now, and when another one takes its place.
//!
//! Place in the flow: owned by the [`cluster`](super::cluster); each [`queue`](super::queue) is opened from the client of now, and moves to its successor
//! by itself. A client's limits are fixed when it is made, so other limits mean another client: when there are more partitions than before, and when
//! what was fetched unfolds otherwise than assumed ([`unfolding`](super::unfolding)).
//!
//! Guarantees:
//! - While partitions are read, a client takes the place of another one only after it has had an answer from the cluster.
//! - Clients that nobody uses any more are closed on the thread that makes their successors, since that waits for their threads.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::config::KafkaSettings;
use crate::error::{Error, ErrorKind};

use super::client::{Reader, Shared};
use super::errors::{Diagnostics, OPEN_FAILED};
use super::limits::{Assumed, FetchLimits};
use super::native;
use super::opening::OpenPartitions;
use super::unfolding::Unfolding;

/// How often clients are looked after without being asked to: those that queues have left are closed.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a new client may take to get its first answer before another one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much memory the fetch queues may take, and how many partitions share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadShare {
    /// Bytes.
    pub bytes: u64,
    /// Partitions open at a time.
    pub partitions: u32,
}

/// Wakes the thread that looks after the clients.
#[derive(Debug, Default)]
pub(crate) struct Bell(Mutex<bool>, Condvar);

impl Bell {
    pub(crate) fn ring(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_one();
    }

    fn wait(&self) {
        let rung = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self.1.wait_timeout_while(rung, LOOK_INTERVAL, |rung| !*rung).unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

/// The reader clients of one cluster.
#[derive(Debug)]
pub(crate) struct Fetching {
    config: KafkaSettings,
    diagnostics: Arc<Diagnostics>,
    /// Which partitions are being read.
    pub(crate) open: OpenPartitions,
    current: Mutex<Current>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Current {
    share: ReadShare,
    assumed: Assumed,
    /// None before the first partition is opened.
    reader: Option<(FetchLimits, Arc<Reader>)>,
    /// Those before it, as long as a queue has not left them.
    older: Vec<Arc<Reader>>,
}

impl Current {
    fn limits(&self, assumed: Assumed) -> FetchLimits {
        FetchLimits::new(self.share.bytes, self.share.partitions, assumed)
    }

    /// Puts a client in the place of the one of now.
    fn replace(&mut self, limits: FetchLimits, reader: Arc<Reader>) {
        tracing::debug!(limits.response, limits.slice, limits.assumed.unfolding, "other fetch limits");
        self.assumed = limits.assumed;
        if let Some((_, older)) = self.reader.replace((limits, reader)) {
            older.retire();
            self.older.push(older);
        }
    }
}

impl Fetching {
    /// No client yet; the first one is made when a partition is opened.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(crate) fn start(config: KafkaSettings, diagnostics: Arc<Diagnostics>, share: ReadShare) -> Result<Arc<Self>, Error> {
        let current = Mutex::new(Current { share, assumed: Assumed::START, reader: None, older: Vec::new() });
        let bell = Arc::<Bell>::default();
        let fetching = Arc::new(Self { config, diagnostics, open: OpenPartitions::default(), current, bell: Arc::clone(&bell) });
        let weak = Arc::downgrade(&fetching);
        std::thread::Builder::new()
            .name("kafka-limits".into())
            .spawn(move || look_after(&weak, &bell))
            .map_err(|e| Error::new(OPEN_FAILED, ErrorKind::Retryable, "a thread cannot be started").because(e))?;
        Ok(fetching)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client of now.
    ///
    /// # Errors
    /// `C0207` to `C0217`: the settings.
    pub(crate) fn reader(&self) -> Result<Arc<Reader>, Error> {
        let mut current = self.current();
        let limits = current.limits(current.assumed);
        match &current.reader {
            // Nobody reads: there is nothing to lose by a client that has not connected yet.
            Some((old, _)) if *old != limits && self.open.is_empty() => {}
            Some((_, reader)) => return Ok(Arc::clone(reader)),
            None => {}
        }
        let reader = self.make(&limits, current.share.partitions)?;
        current.replace(limits, Arc::clone(&reader));
        Ok(reader)
    }

    /// Adapts to another share. Partitions that are open follow.
    pub(crate) fn resize(&self, share: ReadShare) {
        self.current().share = share;
        self.bell.ring();
    }

    /// Adapts to another amount of memory.
    pub(crate) fn set_bytes(&self, bytes: u64) {
        let share = self.current().share;
        if bytes != share.bytes {
            self.resize(ReadShare { bytes, ..share });
        }
    }

    /// Adapts to more partitions. In powers of two: a client for each new partition would cost more than it bounds.
    pub(crate) fn expect_partitions(&self, partitions: usize) {
        let share = self.current().share;
        let wanted = u32::try_from(partitions).unwrap_or(u32::MAX);
        if wanted > share.partitions {
            self.resize(ReadShare { partitions: wanted.checked_next_power_of_two().unwrap_or(u32::MAX), ..share });
        }
    }

    fn make(&self, limits: &FetchLimits, partitions: u32) -> Result<Arc<Reader>, Error> {
        let properties = self.config.reader_properties(limits)?;
        let shared = Shared::new(&self.config, Arc::clone(&self.diagnostics));
        let unfolding = Unfolding::new(limits, partitions);
        Ok(Arc::new(Reader::new(&properties, unfolding, shared, Arc::clone(&self.bell))?))
    }

    /// Replaces the client of now if it should be, and closes those that nobody uses.
    fn look(&self) {
        if let Some((limits, partitions)) = self.due() {
            match self.connected(&limits, partitions) {
                // Connecting takes time, in which a sample may have said otherwise, or the share changed.
                Ok(reader) if self.due().is_some_and(|(still, _)| still == limits) => self.current().replace(limits, reader),
                Ok(_) => self.bell.ring(),
                // It is tried again; the client of now goes on.
                Err(e) => tracing::warn!(error = %e, "the fetch limits cannot be adapted yet"),
            }
            // One that waits for records would learn of it only with the next of them, fetched by the old limits.
            self.open.wake();
        }
        let is_unused = |reader: &mut Arc<Reader>| Arc::strong_count(reader) == 1;
        let unused: Vec<_> = self.current().older.extract_if(.., is_unused).collect();
        drop(unused);
    }

    /// The limits that the client of now should have, if they are not those that it has, and for how many partitions.
    fn due(&self) -> Option<(FetchLimits, u32)> {
        let current = self.current();
        let (limits, reader) = current.reader.as_ref()?;
        let assumed = reader.unfolding.verdict().unwrap_or(current.assumed);
        let wanted = current.limits(assumed);
        (wanted != *limits).then_some((wanted, current.share.partitions))
    }

    fn connected(&self, limits: &FetchLimits, partitions: u32) -> Result<Arc<Reader>, Error> {
        let reader = self.make(limits, partitions)?;
        match native::reach(&reader.consumer, CONNECT_TIMEOUT) {
            Ok(_) => Ok(reader),
            Err(code) => Err(self.diagnostics.explain(&self.config, "connecting", code)),
        }
    }
}

/// Looks after the clients for as long as the cluster or a queue is in use.
fn look_after(fetching: &Weak<Fetching>, bell: &Bell) {
    loop {
        bell.wait();
        let Some(fetching) = fetching.upgrade() else { return };
        fetching.look();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetching() -> Arc<Fetching> {
        let share = ReadShare { bytes: 64 << 20, partitions: 4 };
        Fetching::start(KafkaSettings::plaintext("127.0.0.1:1"), Arc::default(), share).unwrap()
    }

    #[test]
    fn there_is_one_client_as_long_as_the_limits_are_the_same() {
        let fetching = fetching();
        let reader = fetching.reader().unwrap();
        fetching.expect_partitions(3);
        assert!(Arc::ptr_eq(&reader, &fetching.reader().unwrap()) && !reader.is_retired());
        fetching.expect_partitions(5);
        assert!(!Arc::ptr_eq(&reader, &fetching.reader().unwrap()) && reader.is_retired());
        assert_eq!(fetching.current().share.partitions, 8);
        fetching.set_bytes(32 << 20);
        assert_eq!(fetching.current().share, ReadShare { bytes: 32 << 20, partitions: 8 });
    }

    #[test]
    fn a_client_is_closed_when_nobody_uses_it_any_more() {
        let fetching = fetching();
        let reader = fetching.reader().unwrap();
        fetching.resize(ReadShare { bytes: 128 << 20, partitions: 4 });
        drop(fetching.reader().unwrap());
        fetching.look();
        assert_eq!(fetching.current().older.len(), 1, "it is used");
        drop(reader);
        fetching.look();
        assert_eq!(fetching.current().older.len(), 0);
    }
}
