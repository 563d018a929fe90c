//! Rule R5a: an upload that lacks only its Complete is finished without reading Kafka again.
//!
//! Place in the flow: called by [`recover`](super::recover) for an intent whose key is free, and for what was pinned for a topic that is gone
//! ([`incarnation`](super::incarnation)). Guarantee: what is completed is what was pinned, part by part; an upload that is gone may have been taken by a Complete
//! that shows only later, so its object is looked for until that has had its time. Not done here: reading the range again, which is what is left if
//! there is none.

use std::time::Duration;

use super::driver::{Exit, Lane};
use super::proof;
use super::publish::Body;
use super::recover::intent_taken;
use crate::crash::{self, Point};
use crate::decision::{Finding, compare};
use crate::error::Error;
use crate::intent::{Intent, UploadNote, parts_digest};
use crate::report::LaneNote;
use crate::sabotage::{Switch, removes};
use crate::store::parts::fit;
use crate::store::{Part, StoreErrorKind};

/// How long a Complete may take to show its effect after the store has forgotten the upload.
const COMPLETE_WAIT: Duration = Duration::from_secs(120);

impl Lane {
    /// Whether an intent's upload would be an object that proves what it is. A raw one does so by its record, which its owner wrote
    /// between the pin and the Complete, or died before it could; then the range is read again, which gives the record anew.
    pub(super) async fn has_proof_without_reading(&self, intent: &Intent, upload: &UploadNote) -> Result<bool, Exit> {
        if !intent.enc.starts_with("raw.") {
            return Ok(true);
        }
        let (store, layout) = (&*self.env.store, &self.env.rule.layout);
        let recorded = self.until_answered("GetObject", || proof::recorded(store, layout, &intent.key, upload.bytes)).await?;
        Ok(compare(intent, &self.lane_of(intent), recorded.as_ref()) == Finding::Ours)
    }

    /// Completes it. None: the upload is gone and so is its object, or it cannot become one.
    pub(super) async fn complete_upload(&mut self, intent: &mut Intent, upload: &UploadNote) -> Result<Option<i64>, Exit> {
        crash::point(Point::BeforeListParts);
        if let Some(parts) = self.parts_of(intent, upload).await? {
            let bytes = parts.iter().fold(0_u64, |sum, p| sum.saturating_add(p.size));
            let is_whole = parts.len() == upload.parts as usize && bytes == upload.bytes && parts_digest(&parts) == upload.digest;
            // Of parts that were sent before the address said parts=equal no object is ever made.
            if !is_whole || !fit(&parts, &self.env.store.limits()) {
                return Ok(None);
            }
            crash::point(Point::BeforeLateComplete);
            let body = Body::Complete { id: upload.id.clone(), parts };
            match self.try_publish(intent, &body).await? {
                Ok(published) => return Ok(Some(published.end)),
                // Gone between the two requests: a Complete of whoever pinned it may have been taken, and show later. One that is listed still was not.
                Err(StoreErrorKind::NoSuchUpload) if self.parts_of(intent, upload).await?.is_none() => {}
                Err(_) => return Ok(None),
            }
        }
        let found = self.await_complete(intent).await?;
        if self.is_kept_by_guard(intent) {
            // Nothing else is waited for there.
            self.history.note_outwaited(intent);
        }
        Ok(found)
    }

    /// Looks for an intent's object for as long as a Complete that the store has taken may take to show.
    pub(super) async fn await_complete(&self, intent: &Intent) -> Result<Option<i64>, Exit> {
        if removes(Switch::WaitBehindGuard) && self.is_kept_by_guard(intent) {
            return Ok(None);
        }
        let (began, longest) = (self.env.clock.steady(), crash::complete_wait(COMPLETE_WAIT));
        self.env.reporter.lane(&self.lease.tp, LaneNote::Outwaiting(longest));
        self.await_object(intent, || longest.saturating_sub(self.waited_since(began))).await
    }

    /// The parts that the store has of an upload; none if it knows no such upload.
    async fn parts_of(&self, intent: &Intent, upload: &UploadNote) -> Result<Option<Vec<Part>>, Exit> {
        loop {
            match self.env.store.list_parts(&intent.key, &upload.id).await {
                Ok(parts) => return Ok(Some(parts)),
                Err(e) if e.kind == StoreErrorKind::NoSuchUpload => return Ok(None),
                Err(e) if matches!(e.kind, StoreErrorKind::Unknown | StoreErrorKind::Denied | StoreErrorKind::Conflict) => {
                    self.env.reporter.lane(&self.lease.tp, LaneNote::Waiting(&e));
                    self.env.clock.sleep(Duration::from_secs(2)).await;
                }
                Err(e) => return Err(Error::from(e).into()),
            }
        }
    }

    /// Looks for an intent's object for as long as a request that was sent may still take effect, and once more when that time is over: what
    /// lands at its very end counts. What is left is asked for again behind that look, which a store that does not believe this machine's clock answers only
    /// when the clock was set right: by what it said before, nothing may have been left.
    pub(super) async fn await_object(&self, intent: &Intent, left: impl Fn() -> Duration) -> Result<Option<i64>, Exit> {
        loop {
            let is_over = left().is_zero();
            match self.find(intent).await? {
                Finding::Ours => return Ok(Some(intent.end)),
                Finding::OtherEnd(end) => return Ok(Some(end)),
                Finding::Foreign(why) => return Err(intent_taken(intent, &why).into()),
                Finding::Absent if is_over && left().is_zero() => return Ok(None),
                Finding::Absent => self.env.clock.sleep(left().min(Duration::from_secs(2))).await,
            }
        }
    }

    pub(super) fn waited_since(&self, began: Duration) -> Duration {
        self.env.clock.steady().saturating_sub(began)
    }
}
