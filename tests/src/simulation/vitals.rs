//! Whether a process runs, stands still or is dead, and what it has asked for and not heard of.
//!
//! What a process computes between two operations is seen by nobody, so a process is frozen and killed at its edges: before a request
//! leaves, before an answer arrives, before a timer fires, before a stage takes a turn. What it had sent goes on its way. A dead process
//! sends nothing any more: what is dropped with it tidies up behind itself, which a process that was killed does not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catchment::clock::Clock;
use catchment::store::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::faults::Fault;
use super::world::World;

/// What a process may be killed in: every request to the group that it commits with, and to the store.
pub const OPERATIONS: [&str; 12] = [
    "OffsetFetch",
    "OffsetCommit",
    "PutObject",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "HeadObject",
    "GetObject",
    "ListObjectsV2",
    "ListParts",
    "ListMultipartUploads",
    "AbortMultipartUpload",
];

/// What a process is doomed to die in: what it asks for rarely, and only in a recovery, stands more often, and so do commits, which may arrive after it.
pub const DOOMS: [&str; 18] = [
    "OffsetFetch",
    "OffsetCommit",
    "OffsetCommit",
    "OffsetCommit",
    "PutObject",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "HeadObject",
    "GetObject",
    "ListObjectsV2",
    "ListParts",
    "ListParts",
    "ListParts",
    "ListMultipartUploads",
    "AbortMultipartUpload",
    "AbortMultipartUpload",
    "AbortMultipartUpload",
];

/// The state of one process. Clones are the same process.
#[derive(Clone, Debug, Default)]
pub struct Vitals(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    frozen: AtomicBool,
    dead: AtomicBool,
    /// Wakes in the order of waiting; a `watch` channel picks its own.
    thaw: Notify,
    acts: Mutex<Acts>,
    doomed: Notify,
}

#[derive(Debug, Default)]
struct Acts {
    /// How many requests of each operation are under way.
    under_way: BTreeMap<&'static str, usize>,
    /// What was under way when it died.
    last: Vec<&'static str>,
    /// The operation that it is to die in.
    doom: Option<&'static str>,
    /// That it is frozen or cut off, or was and has not felt it, and since when.
    absence: Option<(Fault, Instant)>,
}

impl Vitals {
    /// Freezes or wakes it.
    pub fn set_frozen(&self, frozen: bool) {
        self.0.frozen.store(frozen, Ordering::Relaxed);
        if !frozen {
            self.0.thaw.notify_waiters();
        }
    }

    /// Waits while it is frozen.
    pub async fn thawed(&self) {
        // One thread: nothing happens between the look and the wait.
        while self.0.frozen.load(Ordering::Relaxed) {
            self.0.thaw.notified().await;
        }
    }

    fn acts(&self) -> MutexGuard<'_, Acts> {
        self.0.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is dead from now on.
    pub fn die(&self) {
        if !self.0.dead.swap(true, Ordering::Relaxed) {
            let mut acts = self.acts();
            acts.last = acts.under_way.keys().copied().collect();
        }
    }

    /// The operations that were under way when it died.
    pub fn last_acts(&self) -> Vec<&'static str> {
        self.acts().last.clone()
    }

    /// A request leaves. It is under way until what is returned is dropped.
    pub fn begin(&self, operation: &'static str) -> UnderWay {
        let mut acts = self.acts();
        *acts.under_way.entry(operation).or_default() += 1;
        if acts.doom == Some(operation) {
            acts.doom = None;
            self.0.doomed.notify_one();
        }
        UnderWay { vitals: self.clone(), operation }
    }

    /// It is to die in the next request of this operation; of none, if none is named.
    pub fn set_doom(&self, operation: Option<&'static str>) {
        self.acts().doom = operation;
    }

    /// The operation that it is still to die in.
    pub fn doom(&self) -> Option<&'static str> {
        self.acts().doom
    }

    /// It is frozen or cut off from now on.
    pub fn begin_absence(&self, fault: Fault, now: Instant) {
        self.acts().absence = Some((fault, now));
    }

    /// It is back. Its absence is over if nobody needs to have noticed it, by since when it lasted.
    pub fn end_absence(&self, went_unnoticed: impl FnOnce(Instant) -> bool) {
        let since = self.acts().absence.map(|(_, since)| since);
        if since.is_some_and(went_unnoticed) {
            self.acts().absence = None;
        }
    }

    /// It notices that it was away; from what, if it did not notice before.
    pub fn take_absence(&self) -> Option<Fault> {
        self.acts().absence.take().map(|(fault, _)| fault)
    }

    /// It notices that it is cut off, if it is and did not notice before.
    pub fn notices_cut_off(&self) -> bool {
        let mut acts = self.acts();
        let is_cut_off = matches!(acts.absence, Some((Fault::CutOff, _)));
        if is_cut_off {
            acts.absence = None;
        }
        is_cut_off
    }

    /// Waits until a request leaves that it is to die in.
    pub async fn doomed(&self) {
        self.0.doomed.notified().await;
    }

    /// Whether it is dead.
    pub fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::Relaxed)
    }
}

/// A request that has left and was not answered.
#[derive(Debug)]
pub struct UnderWay {
    vitals: Vitals,
    operation: &'static str,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut acts = self.vitals.acts();
        if let Some(count) = acts.under_way.get_mut(self.operation) {
            *count -= 1;
            if *count == 0 {
                acts.under_way.remove(self.operation);
            }
        }
    }
}

/// The clock of one process.
#[derive(Debug)]
pub struct SimulatedClock {
    /// Chance and time.
    pub world: Arc<World>,
    /// The process.
    pub vitals: Vitals,
    /// The wall clock at the beginning, ms since 1970.
    pub start_ms: i64,
}

impl Clock for SimulatedClock {
    fn wall_ms(&self) -> i64 {
        self.world.wall_ms(self.start_ms)
    }

    fn steady(&self) -> Duration {
        self.world.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let vitals = self.vitals.clone();
        Box::pin(async move {
            tokio::time::sleep(duration).await;
            vitals.thawed().await;
        })
    }

    fn random(&self) -> f64 {
        self.world.fraction()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_at_a_death_is_remembered() {
        let vitals = Vitals::default();
        let requests = ["HeadObject", "PutObject", "PutObject"].map(|operation| vitals.begin(operation));
        let [head, put, _still] = requests;
        drop((head, put));
        vitals.die();
        let _late = vitals.begin("GetObject");
        vitals.die();
        assert!(vitals.is_dead());
        assert_eq!(vitals.last_acts(), ["PutObject"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_absence_is_noticed_once_and_only_if_it_was_long_enough() {
        let (vitals, now) = (Vitals::default(), Instant::now());
        vitals.begin_absence(Fault::Frozen, now);
        vitals.end_absence(|since| since < now);
        assert_eq!((vitals.notices_cut_off(), vitals.take_absence(), vitals.take_absence()), (false, Some(Fault::Frozen), None));
        vitals.begin_absence(Fault::CutOff, now);
        assert!(vitals.notices_cut_off() && !vitals.notices_cut_off());
        vitals.begin_absence(Fault::CutOff, now);
        vitals.end_absence(|since| since == now);
        assert_eq!(vitals.take_absence(), None);
    }

    #[tokio::test]
    async fn a_doom_is_met_in_its_own_operation_and_once() {
        let vitals = Vitals::default();
        vitals.set_doom(Some("PutObject"));
        drop(vitals.begin("HeadObject"));
        assert_eq!(vitals.doom(), Some("PutObject"));
        drop(vitals.begin("PutObject"));
        vitals.doomed().await;
        assert_eq!(vitals.doom(), None);
    }
}
