//! Steps 4 and 5 for one sealed segment that [`pin`](super::pin) has pinned: publish it, until [`settle`](super::settle) has found out what became of it.
//!
//! Guarantee: nothing of a segment is visible before the group has accepted its intent, and this file returns success only
//! when an object that holds exactly the pinned range of this lane stands under the pinned key.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use catchment_formats::{Encoding, OffsetRange};
use crc_fast::{CrcAlgorithm, checksum_combine};

use super::assembly::{Assembly, Upload};
use super::driver::{Exit, Lane};
use crate::budget::Reservation;
use crate::clock::Backoff;
use crate::crash::{self, Point};
use crate::decision::{Finding, Next, after_look, after_publish};
use crate::error::{Error, ErrorKind, codes};
use crate::intent::{Intent, UploadNote, parts_digest};
use crate::proof::{metadata_with_sum, needs_record, record_key};
use crate::sabotage::{Switch, removes};
use crate::segment::{BuiltPart, SealedSegment};
use crate::store::{Guard, Metadata, Part, Payload, RequestObserver as _, StoreErrorKind, StoreResult};

/// Longest pause between two attempts to reach a store that does not answer or refuses access.
pub(super) const STORE_PAUSE_MAX: Duration = Duration::from_secs(10);

/// How a segment is made visible.
#[derive(Debug)]
pub(super) enum Body {
    /// One PutObject.
    Put { payload: Payload, metadata: Metadata },
    /// CompleteMultipartUpload.
    Complete { id: String, parts: Vec<Part> },
}

impl Lane {
    /// Pins, publishes and settles a sealed segment. With `pinned`, the range was pinned by an intent that was read at recovery.
    pub(super) async fn commit_segment(&mut self, assembly: Assembly, sealed: SealedSegment, pinned: Option<Intent>) -> Result<(), Exit> {
        let range = sealed.proof.range;
        assert_eq!(range.start, self.start, "segments tile");
        if let Some(intent) = &pinned {
            assert_eq!(range, OffsetRange::new(intent.start, intent.end), "an intent's range never changes");
        }
        let _publishing = Publishing::new(self);
        let Assembly { held, directory_ms, upload, .. } = assembly;
        let directory_ms = sealed.tail.directory_ms.or(directory_ms);
        let encoding: Encoding = sealed.proof.encoding.parse().map_err(|e| Exit::Restart(format!("{e}")))?;
        let object_key = match (&pinned, &upload) {
            (Some(intent), _) => intent.key.clone(),
            (None, Some(upload)) => upload.key.clone(),
            (None, None) => self.key(range.start, directory_ms, encoding.extension()),
        };
        self.check_topic().await?;
        if pinned.is_none() {
            self.check_first_key(&object_key).await?;
        }
        if let Some(intent) = &pinned {
            self.outwait_other_log(intent, &sealed).await?;
        }
        let (body, note, _held, mut upload) = self.make_body(held, &sealed, upload).await?;
        let mut intent = pinned.clone().unwrap_or_else(|| self.new_intent(&sealed, &object_key));
        intent.upload = note;
        if let Some(upload) = &mut upload {
            upload.named_by_intent = true;
        }
        if removes(Switch::PinFirst) {
            let _ = self.send_body(&intent, &body).await;
        }
        self.pin_segment(&mut intent, &sealed, pinned.is_some()).await?;
        if needs_record(&sealed.proof, intent.upload.is_some(), self.env.store.limits().metadata) {
            crash::point(Point::BeforeRecord);
            self.write_record(&mut intent, &sealed).await?;
            crash::point(Point::AfterRecord);
        }
        if removes(Switch::TidyLast) {
            self.settled(&intent, intent.end);
            self.tidy().await?;
        }
        let published = self.publish(&mut intent, &body).await?;
        self.settled(&intent, published.end);
        if pinned.is_some() {
            crash::point(Point::AfterRepublish);
        }
        if published.end == intent.end {
            self.report_window(&sealed, &intent.key, published.requests);
        }
        self.go_on_behind(&intent, published, &sealed, pinned.is_some()).await
    }

    /// After step 5: the window stands.
    async fn go_on_behind(&mut self, intent: &Intent, published: Published, sealed: &SealedSegment, pinned: bool) -> Result<(), Exit> {
        self.note_strays(intent, &published);
        if published.end != intent.end {
            self.abort_replaced().await;
            self.tidy().await?;
            return Err(Exit::Restart(format!("{} stands with another end, {}", intent.key, published.end)));
        }
        // A log that was cut below a pinned end gives other records when the range is read again. If the copy of whoever pinned it stands, recovery
        // asks the log by what that one had read, finds the cut, and lists the records behind it.
        if pinned && ends_otherwise(intent, sealed) && !self.stands_as_read(intent, sealed).await? {
            self.abort_replaced().await;
            self.tidy().await?;
            return Err(Exit::Restart("the pinned range was read from another log than this one".into()));
        }
        self.last = sealed.tail.last;
        if pinned && !self.pending.is_empty() {
            self.abort_replaced().await;
            self.tidy().await?;
            return Err(Exit::Restart("the next object must list what was lost before the pinned range".into()));
        }
        Ok(())
    }

    /// The key stands. If the object was found, it may be another upload that has made it: then this one is of no use.
    fn note_strays(&mut self, intent: &Intent, published: &Published) {
        if let Some(id) = intent.upload_id().filter(|_| !published.is_answered) {
            self.history.strays.expect(&intent.key, Some(id.to_owned()));
        }
        self.history.strays.note_standing(&intent.key);
    }

    /// A pinned range that was read again from a log that was cut in it and written anew is another object than the one that was pinned, like one that
    /// Kafka has lost in part: whoever pinned it may have sent that, and in classes B and C it would land over this one. If it stands, recovery finds
    /// the cut behind it.
    async fn outwait_other_log(&mut self, intent: &Intent, sealed: &SealedSegment) -> Result<(), Exit> {
        if !ends_otherwise(intent, sealed) {
            return Ok(());
        }
        let Some(end) = self.outwait_full_copy(intent).await? else { return Ok(()) };
        self.settled(intent, end);
        self.tidy().await?;
        Err(Exit::Restart("the pinned range stands as it was read from another log than this one".into()))
    }

    /// A topic that was deleted and created again has new records at the old offsets. If the UUID is still the lane's after the last
    /// record of a window was read, all of them are the lane's.
    pub(super) async fn check_topic(&self) -> Result<(), Exit> {
        let now = self.env.clock.steady();
        let id = self.env.claims.identity(&self.env, &self.lease.tp.topic, now).await?;
        if self.claim.is_same_topic(&id) || removes(Switch::TopicIdentity) {
            return Ok(());
        }
        Err(Exit::Restart(format!("the topic's UUID is {id} now")))
    }

    /// Joins what is held into one PUT, or finishes the upload.
    async fn make_body(
        &self,
        mut held: Vec<BuiltPart>,
        sealed: &SealedSegment,
        upload: Option<Upload>,
    ) -> Result<(Body, Option<UploadNote>, Vec<Reservation>, Option<Upload>), Exit> {
        let last = BuiltPart { payload: sealed.last_part.payload.clone(), reservation: self.env.shared.seat.budget().charge(0) };
        let Some(mut upload) = upload else {
            held.push(last);
            let chunks: Vec<Bytes> = held.iter().flat_map(|p| p.payload.chunks().iter().cloned()).collect();
            let crc64 = held.iter().fold(0, |crc, p| checksum_combine(CrcAlgorithm::Crc64Xz, crc, p.payload.crc64(), p.payload.len()));
            debug_assert_eq!(crc64, sealed.crc64, "the parts are the object");
            let metadata = if self.env.store.limits().metadata { metadata_with_sum(&sealed.proof, crc64) } else { Metadata::new() };
            let reservations = held.into_iter().map(|p| p.reservation).collect();
            return Ok((Body::Put { payload: Payload::new(chunks, crc64), metadata }, None, reservations, None));
        };
        if !last.payload.is_empty() {
            upload.send(self, last).await?;
        }
        let parts = upload.finish().await?;
        let note = UploadNote {
            id: upload.id.clone(),
            parts: u32::try_from(parts.len()).expect("at most 10,000 parts"),
            bytes: parts.iter().map(|p| p.size).sum(),
            digest: parts_digest(&parts),
        };
        if Some(note.bytes) != sealed.proof.size {
            return Err(Exit::Restart(format!("the store has {} bytes of an object of {:?}", note.bytes, sealed.proof.size)));
        }
        Ok((Body::Complete { id: upload.id.clone(), parts }, Some(note), Vec::new(), Some(upload)))
    }

    /// The record beside an object that cannot say itself what it is. Nothing guards it: like the object it is only sent by who has just pinned its
    /// range, and who may write another one, because Kafka gives less or compaction has passed, has outwaited it.
    async fn write_record(&mut self, intent: &mut Intent, sealed: &SealedSegment) -> Result<(), Exit> {
        let Some(record_key) = record_key(&self.env.rule.layout, &intent.key) else { return Ok(()) };
        let body = Payload::from_bytes(serde_json::to_vec(&sealed.proof).expect("a proof holds nothing that JSON cannot"));
        let mut backoff = Backoff::new(Duration::from_millis(200), STORE_PAUSE_MAX);
        loop {
            self.renew_pin(intent).await?;
            let answer = self.env.store.put(&record_key, body.clone(), &Metadata::new(), Guard::Overwrite).await.map(drop);
            if self.answered("PutObject", answer, &mut backoff).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Steps 4 and 5.
    async fn publish(&mut self, intent: &mut Intent, body: &Body) -> Result<Published, Exit> {
        let published = self.try_publish(intent, body).await?;
        published.map_err(|_| Exit::Restart("the upload is gone: its range will be read again".into()))
    }

    /// The same; the store's answer if nothing will come of this upload any more, and nothing stands under the key.
    pub(super) async fn try_publish(&mut self, intent: &mut Intent, body: &Body) -> Result<Result<Published, StoreErrorKind>, Exit> {
        let mut backoff = Backoff::new(Duration::from_millis(200), STORE_PAUSE_MAX);
        let mut requests = 0;
        loop {
            self.renew_pin(intent).await?;
            requests += 1;
            crash::point(Point::BeforePublish);
            crash::soon(Point::PublishSent);
            let answer = self.send_body(intent, body).await;
            crash::point(Point::AfterPublish);
            let kind = answer.as_ref().err().map(|e| e.kind);
            let mut next = after_publish(kind.map_or(Ok(()), Err), intent.end);
            if is_believed(kind) {
                next = Next::Settled(intent.end);
            }
            if let Err(e) = &answer {
                self.env.metrics.requests().retry(e.op, e.kind);
                tracing::warn!(error = %e, next = ?next, "publish");
            }
            loop {
                match next {
                    Next::Settled(end) => return Ok(Ok(Published { end, requests, is_answered: kind.is_none() })),
                    Next::Look => {
                        crash::point(Point::BeforeLook);
                        let (finding, stored) = self.look_behind(intent, body).await?;
                        crash::point(Point::AfterLook);
                        if finding == Finding::Ours {
                            self.mend_if_damaged(intent, body, stored.as_ref()).await?;
                        }
                        next = after_look(kind.unwrap_or(StoreErrorKind::Unknown), &finding, intent);
                    }
                    Next::AwaitPermission => {
                        self.report_waiting(answer.as_ref().err());
                        backoff.wait(&*self.env.clock).await;
                        next = Next::Look;
                    }
                    Next::Repeat => {
                        self.report_waiting(answer.as_ref().err());
                        backoff.wait(&*self.env.clock).await;
                        break;
                    }
                    Next::Rebuild => return Ok(Err(kind.unwrap_or(StoreErrorKind::NoSuchUpload))),
                    Next::StopForeign(why) => return Err(taken(&intent.key, &why).into()),
                    Next::StopRefused => return Err(answer.map_or_else(Error::from, |()| taken(&intent.key, "refused")).into()),
                }
            }
        }
    }

    async fn send_body(&self, intent: &Intent, body: &Body) -> StoreResult<()> {
        let (store, guard) = (&self.env.store, self.env.rule.guard());
        match body {
            Body::Put { payload, metadata } => store.put(&intent.key, payload.clone(), metadata, guard).await?,
            Body::Complete { id, parts } => store.complete_upload(&intent.key, id, parts, guard).await?,
        };
        Ok(())
    }
}

/// What came of steps 4 and 5.
pub(super) struct Published {
    /// The end of the object that stands.
    pub(super) end: i64,
    /// How many publishing requests it took.
    requests: u32,
    /// Whether the last of them was answered with success; else the object was found.
    is_answered: bool,
}

/// Whether the last record of an intent's range is another one than it was when it was pinned: the log was cut in between.
fn ends_otherwise(intent: &Intent, sealed: &SealedSegment) -> bool {
    intent.end_last.is_some_and(|then| then != sealed.tail.last)
}

/// Counts a lane as having something on its way, so that a stop can wait for it.
struct Publishing(Arc<super::env::LaneEnv>);

impl Publishing {
    fn new(lane: &Lane) -> Self {
        lane.env.publishing.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(&lane.env))
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.0.publishing.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether a guard is taken out that doubts this answer.
fn is_believed(kind: Option<StoreErrorKind>) -> bool {
    match kind {
        Some(StoreErrorKind::Unknown) => removes(Switch::UnknownAnswer),
        Some(StoreErrorKind::Exists) => removes(Switch::Comparison),
        Some(StoreErrorKind::NoSuchUpload) => removes(Switch::GoneUpload),
        _ => false,
    }
}

/// Something that is not the lane's stands under its key.
pub(super) fn taken(object_key: &str, why: &str) -> Error {
    Error::new(codes::FOREIGN_OBJECT, ErrorKind::Fenced, "an object of somebody else stands under the key")
        .with("key", object_key)
        .because(why)
        .help("look at it with `catchment show`; use another prefix (--to), or move the object away and start again")
}
