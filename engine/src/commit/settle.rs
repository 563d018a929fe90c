//! Step 5: what stands under a key, and what the store has answered.
//!
//! Place in the flow: behind every request of a lane whose outcome counts: [`publish`](super::publish), recovery and the first look ask here. Guarantee: an outcome
//! that is not known is looked up, and what cannot be looked up is asked for until it can; only an answer that cannot change ends that.
//!
//! Not done here: judging. [`compare`] says what an object is to an intent, and [`after_look`](crate::decision::after_look) what follows.

use std::time::Duration;

use super::driver::{Exit, Lane};
use super::proof;
use super::publish::{Body, STORE_PAUSE_MAX};
use crate::clock::Backoff;
use crate::decision::{Finding, compare};
use crate::error::Error;
use crate::intent::Intent;
use crate::report::LaneNote;
use crate::segment::SealedSegment;
use crate::source::LastRead;
use crate::store::{Guard, ObjectInfo, StoreError, StoreErrorKind, StoreResult};

impl Lane {
    /// HEADs an intent's key until the store answers.
    pub(super) async fn find(&self, intent: &Intent) -> Result<Finding, Exit> {
        self.look(intent).await.map(|(finding, _)| finding)
    }

    /// The same behind a request of this process. What stands with the very proof that was sent is what was sent, also if it was cut off on its way.
    pub(super) async fn look_behind(&self, intent: &Intent, body: &Body) -> Result<(Finding, Option<ObjectInfo>), Exit> {
        let (finding, stored) = self.look(intent).await?;
        let is_ours = stored.as_ref().is_some_and(|info| is_of(info, body));
        Ok((if is_ours { Finding::Ours } else { finding }, stored))
    }

    async fn look(&self, intent: &Intent) -> Result<(Finding, Option<ObjectInfo>), Exit> {
        let found = self.until_answered("HeadObject", || proof::look_whole(&*self.env.store, &self.env.rule.layout, &intent.key)).await?;
        let (info, proof) = found.unzip();
        let finding = info.as_ref().map_or(Finding::Absent, |_| compare(intent, &self.lane_of(intent), proof.flatten().as_ref()));
        if let Finding::OtherEnd(end) = finding {
            self.env.metrics.adopted_ends.inc();
            tracing::error!(key = intent.key, pinned = intent.end, stored = end, "an object of the same start has another end");
        }
        Ok((finding, info))
    }

    /// The object of an intent stands up to `end`. What was read before its own end is known from the intent to who has not read it.
    pub(super) fn settled(&mut self, intent: &Intent, end: i64) {
        self.stands(&intent.key, end);
        self.pinned_missing.clear();
        if end == intent.end {
            self.sights.visible(intent);
        }
        if let Some(last) = intent.end_last.filter(|_| end == intent.end) {
            self.last = last.within(0, end);
        }
    }

    /// An object stands up to `end`.
    pub(super) fn stands(&mut self, object_key: &str, end: i64) {
        self.position = end;
        self.start = end;
        self.last = LastRead::unknown(end);
        self.last_key = Some(object_key.to_owned());
        self.untidied = Some(self.env.clock.steady());
    }

    /// Repeats an idempotent store operation until it is answered. Only an answer that cannot change ends it with an error.
    pub(super) async fn until_answered<T, F>(&self, op: &'static str, call: impl Fn() -> F) -> Result<T, Exit>
    where
        F: Future<Output = StoreResult<T>>,
    {
        let mut backoff = Backoff::new(Duration::from_millis(200), STORE_PAUSE_MAX);
        loop {
            if let Some(value) = self.answered(op, call().await, &mut backoff).await? {
                return Ok(value);
            }
        }
    }

    /// The value of an answer; none if the operation is to be repeated, after a pause.
    pub(super) async fn answered<T>(&self, op: &'static str, answer: StoreResult<T>, backoff: &mut Backoff) -> Result<Option<T>, Exit> {
        match answer {
            Ok(value) => Ok(Some(value)),
            Err(e) if matches!(e.kind, StoreErrorKind::Unknown | StoreErrorKind::Denied | StoreErrorKind::Conflict) => {
                self.report_waiting(Some(&e));
                backoff.wait(&*self.env.clock).await;
                Ok(None)
            }
            Err(e) if matches!(e.kind, StoreErrorKind::NoSuchUpload | StoreErrorKind::Exists) => Err(Exit::Restart(format!("{op}: {e}"))),
            Err(e) => Err(Error::from(e).into()),
        }
    }

    pub(super) fn report_waiting(&self, error: Option<&StoreError>) {
        if let Some(e) = error {
            self.env.reporter.lane(&self.lease.tp, LaneNote::Waiting(e));
        }
    }

    /// Whether the object of an intent holds the records that were read for it now.
    pub(super) async fn stands_as_read(&self, intent: &Intent, sealed: &SealedSegment) -> Result<bool, Exit> {
        let found = self.until_answered("HeadObject", || proof::look_whole(&*self.env.store, &self.env.rule.layout, &intent.key)).await?;
        let stored = found.and_then(|(_, proof)| proof);
        Ok(stored.is_some_and(|p| (p.digest, p.counts) == (sealed.proof.digest, sealed.proof.counts)))
    }

    /// A PUT whose answer was lost may have stored other bytes than were sent, where the store has no better check than the checksum that it
    /// shows (COS). The proof in its metadata says that it is ours; only overwriting it with the same range mends it.
    pub(super) async fn mend_if_damaged(&self, intent: &Intent, body: &Body, stored: Option<&ObjectInfo>) -> Result<(), Exit> {
        let (Body::Put { payload, metadata }, Some(info)) = (body, stored.filter(|info| is_of(info, body))) else { return Ok(()) };
        if info.size == payload.len() && info.crc64.is_none_or(|crc64| crc64 == payload.crc64()) {
            return Ok(());
        }
        tracing::error!(key = intent.key, "the object that is stored is not what was sent; it is written again");
        let put = || self.env.store.put(&intent.key, payload.clone(), metadata, Guard::Overwrite);
        self.until_answered("PutObject", put).await.map(drop)
    }
}

/// Whether an object has the proof that this body has in its metadata.
fn is_of(stored: &ObjectInfo, body: &Body) -> bool {
    let Body::Put { metadata, .. } = body else { return false };
    !metadata.is_empty() && metadata.iter().all(|entry| stored.metadata.contains(entry))
}
