//! Where a lane goes on: rules R1 to R7, on every assignment.
//!
//! In the order of the rules: what the group knows, what stands in the store, what Kafka still has. The result is a position to
//! read from, and perhaps an intent whose range must be read again, exactly.

use std::time::Duration;

use catchment_formats::{Encoding, GapCause, Missing};

use super::control::{self, Anchor};
use super::driver::{Exit, Lane};
use super::proof;
use super::publish::Body;
use super::{Finding, compare};
use crate::clock::Backoff;
use crate::config::{Accept, OnGap};
use crate::error::{Code, Error, ErrorKind, codes};
use crate::intent::{CommitNote, Intent, NoteError, UploadNote, parts_digest};
use crate::limits::LOG_END_WAIT;
use crate::reader::PinnedRange;
use crate::report::LaneNote;
use crate::source::{Committed, LogBounds};
use crate::store::StoreErrorKind;

/// How long a Complete may take to show its effect after the store has forgotten the upload.
const COMPLETE_WAIT: Duration = Duration::from_secs(120);

/// Where a run begins.
#[derive(Debug)]
pub(super) struct Resume {
    /// Next offset to read.
    pub position: i64,
    /// Start of the next object.
    pub start: i64,
    /// What the next object must list as missing.
    pub missing: Vec<Missing>,
    /// An intent whose range is read again.
    pub intent: Option<Intent>,
    encoding: Option<Encoding>,
}

impl Resume {
    /// The intent's range, as a reader wants it.
    pub(super) fn pinned_range(&self) -> Option<PinnedRange> {
        let intent = self.intent.as_ref()?;
        Some(PinnedRange { end: intent.end, encoding: self.encoding? })
    }
}

impl Lane {
    /// Rules R1 to R7.
    pub(super) async fn recover(&mut self) -> Result<Resume, Exit> {
        let committed = self.fetch_committed().await?;
        let note = match &committed {
            None => None,
            Some(c) => self.own_note(c)?,
        };
        let Some((committed, note)) = committed.zip(note) else {
            self.start_without_offset().await?;
            return self.resume_at_position().await;
        };
        self.position = committed.offset;
        self.leader_epoch = committed.leader_epoch;
        self.start = note.start();
        if note.destination_hash() != self.env.rule.destination_hash {
            // Accepted: the group must say so from now on, also if there is nothing to store.
            self.untidied = Some(self.env.clock.steady());
            self.tidy().await?;
        }
        match note {
            CommitNote::Tidy(_) => self.resume_at_position().await,
            CommitNote::Intent(intent) => self.resume_at_intent(*intent).await,
        }
    }

    async fn fetch_committed(&self) -> Result<Option<Committed>, Exit> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            match self.env.group.fetch(&self.lease.tp).await {
                Ok(committed) => return Ok(committed),
                Err(e) if matches!(e.kind, ErrorKind::Retryable | ErrorKind::Unreachable) => {
                    tracing::warn!(tp = %self.lease.tp, error = %e, "the group's offset could not be fetched yet");
                    backoff.wait(&*self.env.clock).await;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// R1: the note, if it is this lane's. None: go on as if there were no offset, because the operator said so.
    fn own_note(&self, committed: &Committed) -> Result<Option<CommitNote>, Exit> {
        let note = match CommitNote::parse(&committed.metadata) {
            Ok(note) => note,
            Err(NoteError::Version(v)) => return Err(other_version(v).into()),
            Err(_) if self.env.rule.accepts(Accept::ForeignCommit) => return Ok(None),
            Err(why) => return Err(foreign_commit(committed, why).into()),
        };
        if note.topic_hash() != self.claim.topic_hash {
            // The claim has settled whether this incarnation was accepted; what the old one committed says nothing of it.
            return if self.claim.is_later_incarnation { Ok(None) } else { Err(self.topic_recreated().into()) };
        }
        self.env.rule.check_destination(&note)?;
        Ok(Some(note))
    }

    fn topic_recreated(&self) -> Error {
        Error::new(codes::TOPIC_RECREATED, ErrorKind::Asks, "the topic was deleted and created again")
            .with("topic_id", &self.claim.topic_id)
            .help("to back up the new topic beside the old one, start once with --accept topic-recreated")
    }

    /// R2, the part that asks Kafka.
    async fn resume_at_position(&mut self) -> Result<Resume, Exit> {
        let bounds = self.bounds_reaching(self.position).await?;
        let mut missing = Vec::new();
        if let Some(log_end) = self.truncated_at.take() {
            // The records that stand in the log below the position now are not the ones that were backed up.
            let gap = Missing(log_end, self.position, GapCause::Truncation);
            self.env.metrics.gap(gap.cause());
            self.env.reporter.lane(&self.lease.tp, LaneNote::Gap(gap));
            missing.push(gap);
        }
        if bounds.start > self.position {
            self.note_gap(Missing(self.position, bounds.start, GapCause::Retention))?;
            missing.push(Missing(self.position, bounds.start, GapCause::Retention));
            self.position = bounds.start;
            self.leader_epoch = -1;
        }
        Ok(Resume { position: self.position, start: self.start, missing, intent: None, encoding: None })
    }

    /// The partition's extent, once its readable end has reached `offset` (rule A5: wait, then ask).
    async fn bounds_reaching(&mut self, offset: i64) -> Result<LogBounds, Exit> {
        let began = self.env.clock.steady();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match self.env.source.bounds(&self.lease.tp).await {
                Ok(bounds) if bounds.stable_end >= offset => return Ok(bounds),
                Ok(bounds) if self.env.clock.steady().saturating_sub(began) > LOG_END_WAIT => {
                    if !self.env.rule.accepts(Accept::Truncation) {
                        return Err(truncated(offset, &bounds).into());
                    }
                    self.truncated_at.get_or_insert(bounds.stable_end);
                    self.env.reporter.lane(&self.lease.tp, LaneNote::AwaitingLog { position: offset, log_end: bounds.stable_end });
                }
                Ok(_) => {}
                Err(e) if matches!(e.kind, ErrorKind::Retryable | ErrorKind::Unreachable) => {
                    tracing::warn!(tp = %self.lease.tp, error = %e, "the partition's extent is not known yet");
                }
                Err(e) => return Err(e.into()),
            }
            backoff.wait(&*self.env.clock).await;
        }
    }

    /// A gap is said at once: counted, logged, reported. Policy decides whether the lane goes on.
    fn note_gap(&self, gap: Missing) -> Result<(), Exit> {
        self.env.metrics.gap(gap.cause());
        self.env.reporter.lane(&self.lease.tp, LaneNote::Gap(gap));
        if self.env.rule.on_gap(gap.cause()) == OnGap::Continue {
            return Ok(());
        }
        Err(Error::new(Code(424), ErrorKind::Asks, "records are missing and the rule says to halt")
            .with("offsets", gap.range())
            .with("cause", gap.cause().as_str())
            .help("set on_gap in the rule to \"continue\" for this cause to store what is left and list the gap")
            .into())
    }

    /// R3 to R5.
    async fn resume_at_intent(&mut self, intent: Intent) -> Result<Resume, Exit> {
        self.env.reporter.lane(&self.lease.tp, LaneNote::Recovering(&intent));
        self.abort_stale_uploads(&intent.key, intent.upload.as_ref().map(|u| u.id.as_str())).await?;
        match self.find(&intent).await? {
            Finding::Ours => return self.adopt(&intent, intent.end).await,
            Finding::OtherEnd(end) => return self.adopt(&intent, end).await,
            Finding::Foreign(why) => return Err(intent_taken(&intent, &why).into()),
            Finding::Absent => {}
        }
        if let Some(upload) = &intent.upload
            && self.has_proof_without_reading(&intent, upload).await?
            && let Some(end) = self.complete_upload(&intent, upload).await?
        {
            return self.adopt(&intent, end).await;
        }
        self.read_again(intent).await
    }

    /// R4: the object stands; the group learns it.
    async fn adopt(&mut self, intent: &Intent, end: i64) -> Result<Resume, Exit> {
        self.position = end;
        self.start = end;
        self.last_key = Some(intent.key.clone());
        self.untidied = Some(self.env.clock.steady());
        self.tidy().await?;
        self.env.metrics.recovered_objects.inc();
        self.resume_at_position().await
    }

    /// Whether an intent's upload would be an object that proves what it is. A raw one does so by its record, which its owner wrote
    /// between the pin and the Complete, or died before it could; then the range is read again, which gives the record anew.
    async fn has_proof_without_reading(&self, intent: &Intent, upload: &UploadNote) -> Result<bool, Exit> {
        if !intent.enc.starts_with("raw.") {
            return Ok(true);
        }
        let (store, layout) = (&*self.env.store, &self.env.rule.layout);
        let recorded = self.until_answered("GetObject", || proof::recorded(store, layout, &intent.key, upload.bytes)).await?;
        Ok(compare(intent, &self.id, recorded.as_ref()) == Finding::Ours)
    }

    /// R5a: a multipart upload that lacks only its Complete. None: the upload is gone and so is its object.
    async fn complete_upload(&self, intent: &Intent, upload: &UploadNote) -> Result<Option<i64>, Exit> {
        let parts = loop {
            match self.env.store.list_parts(&intent.key, &upload.id).await {
                Ok(parts) => break Some(parts),
                Err(e) if e.kind == StoreErrorKind::NoSuchUpload => break None,
                Err(e) if matches!(e.kind, StoreErrorKind::Unknown | StoreErrorKind::Denied) => {
                    self.env.reporter.lane(&self.lease.tp, LaneNote::Waiting(&e));
                    self.env.clock.sleep(Duration::from_secs(2)).await;
                }
                Err(e) => return Err(Error::from(e).into()),
            }
        };
        if let Some(parts) = parts {
            let bytes: u64 = parts.iter().map(|p| p.size).sum();
            if parts.len() == upload.parts as usize && bytes == upload.bytes && parts_digest(&parts) == upload.digest {
                let mut body = Body::Complete { id: upload.id.clone(), parts };
                return match self.publish(intent, &mut body).await {
                    Ok((end, _)) => Ok(Some(end)),
                    Err(Exit::Restart(_)) => Ok(None),
                    Err(exit) => Err(exit),
                };
            }
            return Ok(None);
        }
        self.await_object(intent, COMPLETE_WAIT).await
    }

    /// Looks for an intent's object for as long as a request that was sent may still take effect.
    async fn await_object(&self, intent: &Intent, wait: Duration) -> Result<Option<i64>, Exit> {
        let began = self.env.clock.steady();
        while self.env.clock.steady().saturating_sub(began) < wait {
            match self.find(intent).await? {
                Finding::Ours => return Ok(Some(intent.end)),
                Finding::OtherEnd(end) => return Ok(Some(end)),
                Finding::Foreign(why) => return Err(intent_taken(intent, &why).into()),
                Finding::Absent => self.env.clock.sleep(Duration::from_secs(2)).await,
            }
        }
        Ok(None)
    }

    /// R5b and R5c: exactly the intent's range, less what it misses and what Kafka has lost since.
    async fn read_again(&mut self, mut intent: Intent) -> Result<Resume, Exit> {
        let bounds = self.bounds_reaching(intent.end).await?;
        let encoding = intent.enc.parse::<Encoding>().ok();
        let lost = bounds.start.min(intent.end) > self.position && !is_listed(&intent.missing, self.position, bounds.start.min(intent.end));
        if (lost || encoding.is_none())
            && let Some(end) = self.outwait_full_copy(&intent).await?
        {
            return self.adopt(&intent, end).await;
        }
        if lost {
            let gap = Missing(self.position, bounds.start.min(intent.end), GapCause::Retention);
            self.note_gap(gap)?;
            intent.missing.retain(|m| m.1 > gap.1);
            intent.missing.insert(0, gap);
        }
        if encoding.is_none() {
            self.env.metrics.reencoded.inc();
            tracing::error!(tp = %self.lease.tp, enc = intent.enc, "this build cannot write the intent's encoding; the current one is used");
        }
        let position = self.position.max(bounds.start.min(intent.end));
        let missing = intent.missing.clone();
        intent.upload = None;
        Ok(Resume {
            position,
            start: intent.start,
            missing,
            encoding: Some(encoding.unwrap_or(self.env.rule.encoding)),
            intent: Some(intent),
        })
    }

    /// R5c: in classes B and C a full copy may still be on its way; it must have landed or died before less is published.
    async fn outwait_full_copy(&self, intent: &Intent) -> Result<Option<i64>, Exit> {
        if let Some(upload) = &intent.upload {
            // Without this the upload could still be completed behind the smaller object.
            self.until_answered("AbortMultipartUpload", || self.env.store.abort_upload(&intent.key, &upload.id)).await?;
        }
        if self.env.rule.has_atomic_guards() {
            return Ok(None);
        }
        let deadline = intent.at.saturating_add(self.env.rule.upload_deadline_ms());
        let left = u64::try_from(deadline - self.env.clock.wall_ms()).unwrap_or(0);
        self.env.reporter.lane(&self.lease.tp, LaneNote::Outwaiting(Duration::from_millis(left)));
        self.await_object(intent, Duration::from_millis(left.max(1))).await
    }

    /// No committed offset: resume from the anchor if there is one, else begin where the owner record says.
    async fn start_without_offset(&mut self) -> Result<(), Exit> {
        let anchor_key = self.claim.keys.anchor(&self.env.rule.name, self.lease.tp.partition);
        let anchor: Option<Anchor> = control::read(&*self.env.store, &anchor_key).await?;
        let begin = match anchor {
            Some(anchor) if !self.claim.is_same_topic(&anchor.topic_id) => return Err(self.topic_recreated().into()),
            Some(anchor) => {
                let end = self.walk(&anchor).await?;
                self.env.reporter.lane(&self.lease.tp, LaneNote::ResumedFromAnchor { anchor: anchor.end, position: end });
                end
            }
            None => self.claimed_start().await?,
        };
        self.position = begin;
        self.start = begin;
        self.leader_epoch = -1;
        self.untidied = Some(self.env.clock.steady());
        self.tidy().await
    }

    async fn claimed_start(&self) -> Result<i64, Exit> {
        if let Some(start) = self.claim.start.get(&self.lease.tp.partition) {
            return Ok(*start);
        }
        Ok(self.env.source.bounds(&self.lease.tp).await?.start)
    }

    /// From an anchor over the objects that follow it: each one's S must be the previous one's E.
    async fn walk(&mut self, anchor: &Anchor) -> Result<i64, Exit> {
        let keys = self.keys_of_lane().await?;
        let mut end = anchor.end;
        let mut seen = 0;
        while let Some((_, object_key)) = keys.iter().find(|(start, _)| *start == end) {
            let found = self.until_answered("HeadObject", || proof::look(&*self.env.store, &self.env.rule.layout, object_key)).await?;
            match found.and_then(|(_, p)| p).filter(|p| p.lane == self.id && p.range.start == end && p.range.end > end) {
                Some(proof) => end = proof.range.end,
                None => return Err(does_not_tile(object_key).into()),
            }
            self.last_key = Some(object_key.clone());
            seen += 1;
        }
        let after_anchor = keys.iter().filter(|(start, _)| *start >= anchor.end).count();
        if after_anchor != seen {
            let stray = keys.iter().find(|(start, _)| *start > end).map_or("", |(_, k)| k);
            return Err(does_not_tile(stray).into());
        }
        Ok(end)
    }

    async fn keys_of_lane(&self) -> Result<Vec<(i64, String)>, Exit> {
        let prefix = self.env.rule.layout.topic_directory(&self.claim.name);
        let mut keys = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.until_answered("ListObjectsV2", || self.env.store.list(&prefix, false, after.as_deref())).await?;
            for object in page.objects {
                let parsed = self.env.rule.layout.parse_key(&object.key);
                if let Some(p) = parsed.filter(|p| p.topic == *self.lease.tp.topic && p.partition == self.lease.tp.partition) {
                    keys.push((p.start, object.key));
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(keys),
            }
        }
    }
}

fn is_listed(missing: &[Missing], from: i64, to: i64) -> bool {
    let mut at = from;
    for m in missing {
        if m.0 <= at && m.1 > at {
            at = m.1;
        }
    }
    at >= to
}

fn foreign_commit(committed: &Committed, why: NoteError) -> Error {
    Error::new(Code(420), ErrorKind::Asks, "somebody else committed an offset in this rule's group")
        .with("offset", committed.offset)
        .because(match why {
            NoteError::Empty => "the commit has no metadata: a plain client, a reset of the group's offsets, or a proxy that drops it",
            _ => "the commit's metadata is not one of ours",
        })
        .help("to go on from what is stored, start once with --accept foreign-commit; the foreign offset is then ignored")
}

fn other_version(version: u32) -> Error {
    Error::new(Code(425), ErrorKind::Invalid, "the group's state was written by another version of catchment")
        .with("version", version)
        .help("run the version that wrote it once with --until-end, then upgrade")
}

fn truncated(position: i64, bounds: &LogBounds) -> Error {
    Error::new(codes::LOG_TRUNCATED, ErrorKind::Asks, "the partition ends before what was backed up: its log was truncated")
        .with("position", position)
        .with("log_end", bounds.stable_end)
        .help("to wait until the log has passed the position, listing the difference as a gap, start once with --accept truncation")
}

fn intent_taken(intent: &Intent, why: &str) -> Error {
    Error::new(codes::FOREIGN_OBJECT, ErrorKind::Fenced, "an object of somebody else stands under the key")
        .with("key", &intent.key)
        .because(why)
        .help("look at it with `catchment show`; move the object away and start again")
}

fn does_not_tile(object_key: &str) -> Error {
    Error::new(Code(427), ErrorKind::Corrupt, "the stored objects of the lane do not tile")
        .with("key", object_key)
        .help("run `catchment verify` on the topic's directory; it names what is missing or overlapping")
}
