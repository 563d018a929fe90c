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
use crate::intent::{CommitNote, Intent, NoteError, UploadNote, is_same_topic, parts_digest};
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
    /// Leader epoch of the record before it, -1 if not known.
    pub leader_epoch: i32,
    /// Start of the next object.
    pub start: i64,
    /// What the next object must list as missing.
    pub missing: Vec<Missing>,
    /// An intent whose range is read again.
    pub intent: Option<Intent>,
    encoding: Option<Encoding>,
}

/// A log that is too short, for how long, and how short it was.
struct ShortLog {
    since: Option<Duration>,
    lowest: i64,
    /// Where it ended, once the operator's answer counts.
    accepted: Option<i64>,
}

impl Default for ShortLog {
    fn default() -> Self {
        Self { since: None, lowest: i64::MAX, accepted: None }
    }
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
            Some(c) => self.own_note(c).await?,
        };
        let Some((committed, note)) = committed.zip(note) else {
            self.start_without_offset().await?;
            return self.resume_at_position().await;
        };
        self.position = committed.offset;
        self.leader_epoch = committed.leader_epoch;
        self.start = note.start();
        if let CommitNote::Tidy(tidy) = &note {
            self.pending.clone_from(&tidy.missing);
        }
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
    async fn own_note(&mut self, committed: &Committed) -> Result<Option<CommitNote>, Exit> {
        let note = match CommitNote::parse(&committed.metadata) {
            Ok(note) => note,
            Err(NoteError::Version(v)) => return Err(other_version(v).into()),
            Err(_) if self.env.rule.accepts(Accept::ForeignCommit) => return Ok(None),
            Err(why) => return Err(foreign_commit(committed, why).into()),
        };
        if !is_same_topic(note.topic_hash(), &self.claim.topic_id) {
            if !self.claim.is_later_incarnation {
                return Err(self.topic_recreated().into());
            }
            // The claim has settled that this incarnation was accepted; what the old one committed says nothing of it.
            if let CommitNote::Intent(intent) = note {
                self.settle_old_incarnation(committed.offset, &intent).await?;
            }
            return Ok(None);
        }
        self.env.rule.check_destination(&note)?;
        Ok(Some(note))
    }

    /// A window that was pinned for a topic that is gone: it stands, or its upload is whole, or its records are lost. Then the first object of
    /// the new incarnation lists them.
    async fn settle_old_incarnation(&mut self, position: i64, intent: &Intent) -> Result<(), Exit> {
        let (store, layout) = (&*self.env.store, &self.env.rule.layout);
        if self.until_answered("HeadObject", || proof::look(store, layout, &intent.key)).await?.is_some() {
            return Ok(());
        }
        if let Some(upload) = intent.upload.as_ref().filter(|_| !intent.enc.starts_with("raw."))
            && self.complete_upload(intent, upload).await?.is_some()
        {
            return Ok(());
        }
        let gap = Missing(position, intent.end, GapCause::TopicRecreated);
        self.pending.push(gap);
        self.tell_gap(gap);
        Ok(())
    }

    fn topic_recreated(&self) -> Error {
        Error::new(codes::TOPIC_RECREATED, ErrorKind::Asks, "the topic was deleted and created again")
            .with("topic_id", &self.claim.topic_id)
            .help("to back up the new topic beside the old one, start once with --accept topic-recreated")
    }

    /// R2, the part that asks Kafka. P stays what the group has: what is missing behind it is known to nobody before the next pin.
    async fn resume_at_position(&mut self) -> Result<Resume, Exit> {
        let bounds = self.bounds_reaching(self.position, false).await?;
        let mut missing = self.pending.clone();
        let (mut position, mut leader_epoch) = (self.position, self.leader_epoch);
        if bounds.start > position {
            let gap = Missing(position, bounds.start, GapCause::Retention);
            self.note_gap(gap)?;
            missing.push(gap);
            (position, leader_epoch) = (bounds.start, -1);
        }
        Ok(Resume { position, leader_epoch, start: self.start, missing, intent: None, encoding: None })
    }

    /// The partition's extent, once its readable end has reached `offset` (rule A5: wait, then ask). `pinned` says that an intent is open.
    async fn bounds_reaching(&mut self, offset: i64, pinned: bool) -> Result<LogBounds, Exit> {
        let mut short = ShortLog::default();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match self.env.source.bounds(&self.lease.tp).await {
                Ok(bounds) if bounds.stable_end >= offset => {
                    if let Some(log_end) = short.accepted {
                        self.remember_truncation(log_end, pinned).await?;
                    }
                    return Ok(bounds);
                }
                // A transaction that hangs holds the readable end back for as long as it hangs; the records are there.
                Ok(bounds) if bounds.end >= offset => short.since = None,
                Ok(bounds) => self.await_log(&mut short, offset, &bounds)?,
                Err(e) if matches!(e.kind, ErrorKind::Retryable | ErrorKind::Unreachable) => {
                    tracing::warn!(tp = %self.lease.tp, error = %e, "the partition's extent is not known yet");
                    // A broker that has just come back may lag like a new leader.
                    short.since = None;
                }
                Err(e) => return Err(e.into()),
            }
            backoff.wait(&*self.env.clock).await;
        }
    }

    /// A log that ends below what was backed up: a lagging high watermark for a while, a truncated log after that.
    fn await_log(&self, short: &mut ShortLog, offset: i64, bounds: &LogBounds) -> Result<(), Exit> {
        let now = self.env.clock.steady();
        let since = *short.since.get_or_insert(now);
        short.lowest = short.lowest.min(bounds.end);
        if now.saturating_sub(since) > LOG_END_WAIT {
            if !self.env.rule.accepts(Accept::Truncation) {
                return Err(truncated(offset, bounds.end).into());
            }
            short.accepted = Some(short.lowest);
            self.env.reporter.lane(&self.lease.tp, LaneNote::AwaitingLog { position: offset, log_end: bounds.end });
        }
        Ok(())
    }

    /// The client found by the leader's epoch that the log was cut and written anew.
    pub(super) async fn on_truncated(&mut self, log_end: Option<i64>, cause: String, pinned: bool) -> Exit {
        let log_end = match (log_end, self.env.source.bounds(&self.lease.tp).await) {
            (Some(log_end), _) => log_end,
            (None, Ok(bounds)) => bounds.end,
            (None, Err(e)) => return e.into(),
        };
        // Above the position nothing is visible yet: what was read is dropped, and read again as it is now.
        if log_end < self.position {
            if !self.env.rule.accepts(Accept::Truncation) {
                return Exit::from(truncated(self.position, log_end).because(cause));
            }
            if let Err(exit) = self.remember_truncation(log_end, pinned).await {
                return exit;
            }
        }
        self.leader_epoch = -1;
        if !pinned {
            self.untidied = Some(self.env.clock.steady());
            if let Err(exit) = self.tidy().await {
                return exit;
            }
        }
        Exit::Restart(format!("the log was truncated to {log_end}: {cause}"))
    }

    /// The records that stand in the log below the position now are not the ones that were backed up. The group remembers that at once: the
    /// log may have passed the position by the time of the next recovery, and nothing would tell.
    async fn remember_truncation(&mut self, log_end: i64, pinned: bool) -> Result<(), Exit> {
        let gap = Missing(log_end, self.position, GapCause::Truncation);
        if gap.0 >= gap.1 || self.pending.contains(&gap) {
            return Ok(());
        }
        self.tell_gap(gap);
        self.pending.push(gap);
        self.leader_epoch = -1;
        if pinned {
            return Ok(());
        }
        self.untidied = Some(self.env.clock.steady());
        self.tidy().await
    }

    /// A gap that policy may refuse.
    fn note_gap(&self, gap: Missing) -> Result<(), Exit> {
        self.tell_gap(gap);
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
        self.settled(&intent.key, end);
        self.tidy().await?;
        self.env.metrics.recovered();
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
        let bounds = self.bounds_reaching(intent.end, true).await?;
        let encoding = intent.enc.parse::<Encoding>().ok();
        let log_start = bounds.start.min(intent.end);
        let lost = log_start > self.position && !is_listed(&intent.missing, self.position, log_start);
        // Each of these gives an object that differs from the one that was pinned: a full copy has precedence.
        if (lost || encoding.is_none() || self.skips_corrupt())
            && let Some(end) = self.outwait_full_copy(&intent).await?
        {
            return self.adopt(&intent, end).await;
        }
        let mut missing = intent.missing.clone();
        if lost {
            let gap = Missing(self.position, log_start, GapCause::Retention);
            self.note_gap(gap)?;
            missing = with_gap(&missing, gap);
        }
        if encoding.is_none() {
            self.env.metrics.reencoded.inc();
            tracing::error!(tp = %self.lease.tp, enc = intent.enc, "this build cannot write the intent's encoding; the current one is used");
        }
        self.replaced_upload = intent.upload.take().map(|upload| (intent.key.clone(), upload.id));
        Ok(Resume {
            position: self.position.max(log_start),
            leader_epoch: if log_start > self.position { -1 } else { self.leader_epoch },
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
        // A clock that was ahead when the window was pinned must not make this longer than a request can take.
        let longest = self.env.rule.upload_deadline_ms();
        let left = intent.at.saturating_add(longest).saturating_sub(self.env.clock.wall_ms()).clamp(0, longest).unsigned_abs();
        self.env.reporter.lane(&self.lease.tp, LaneNote::Outwaiting(Duration::from_millis(left)));
        self.await_object(intent, Duration::from_millis(left.max(1))).await
    }

    /// No committed offset: resume from the anchor if there is one, else begin where the owner record says.
    async fn start_without_offset(&mut self) -> Result<(), Exit> {
        let anchor_key = self.claim.keys.anchor(&self.env.rule.name, self.lease.tp.partition);
        let anchor = self.read_anchor(&anchor_key).await?;
        let begin = match anchor {
            Some(anchor) if !self.claim.is_same_topic(&anchor.topic_id) => return Err(self.topic_recreated().into()),
            Some(anchor) => {
                self.last_key.clone_from(&anchor.key);
                let end = self.walk(anchor.end).await?;
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

    /// The anchor, asked for until the store answers: a permission that is missing says nothing of what is there.
    async fn read_anchor(&self, anchor_key: &str) -> Result<Option<Anchor>, Exit> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            match control::read(&*self.env.store, anchor_key).await {
                Ok(anchor) => return Ok(anchor),
                Err(e) if matches!(e.kind, ErrorKind::Retryable | ErrorKind::Unreachable | ErrorKind::Denied) => {
                    tracing::warn!(tp = %self.lease.tp, error = %e, "the anchor could not be read yet");
                    backoff.wait(&*self.env.clock).await;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    async fn claimed_start(&self) -> Result<i64, Exit> {
        if let Some(start) = self.claim.owner.start.get(&self.lease.tp.partition) {
            return Ok(*start);
        }
        Ok(self.env.source.bounds(&self.lease.tp).await?.start)
    }

    /// From a known end over the objects that follow it: each one's S must be the previous one's E.
    pub(super) async fn walk(&mut self, from: i64) -> Result<i64, Exit> {
        let keys = self.keys_of_lane().await?;
        let (mut end, mut seen) = (from, 0);
        while let Some((_, object_key)) = keys.iter().find(|(start, _)| *start == end) {
            let found = self.until_answered("HeadObject", || proof::look(&*self.env.store, &self.env.rule.layout, object_key)).await?;
            match found.and_then(|(_, p)| p).filter(|p| p.lane.is_same_lane(&self.id) && p.range.start == end && p.range.end > end) {
                Some(proof) => end = proof.range.end,
                None => return Err(does_not_tile(object_key).into()),
            }
            self.last_key = Some(object_key.clone());
            seen += 1;
        }
        if keys.iter().filter(|(start, _)| *start >= from).count() != seen {
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

/// Known missing ranges and one more at the beginning, without an overlap.
fn with_gap(missing: &[Missing], gap: Missing) -> Vec<Missing> {
    let rest = missing.iter().filter(|m| m.1 > gap.1).map(|m| Missing(m.0.max(gap.1), m.1, m.2));
    std::iter::once(gap).chain(rest).collect()
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

fn truncated(position: i64, log_end: i64) -> Error {
    Error::new(codes::LOG_TRUNCATED, ErrorKind::Asks, "the partition ends before what was backed up: its log was truncated")
        .with("position", position)
        .with("log_end", log_end)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_at_the_beginning_swallows_what_it_covers_and_cuts_what_it_meets() {
        let missing = |from, to| Missing(from, to, GapCause::CorruptBatch);
        let gap = Missing(0, 10, GapCause::Retention);
        assert_eq!(with_gap(&[missing(2, 4), missing(8, 12), missing(15, 16)], gap), [gap, missing(10, 12), missing(15, 16)]);
        assert_eq!(with_gap(&[], gap), [gap]);
    }

    #[test]
    fn only_ranges_without_a_hole_between_them_list_a_loss() {
        let missing = |from, to| Missing(from, to, GapCause::Retention);
        assert!(is_listed(&[missing(0, 5), missing(5, 9)], 0, 9));
        assert!(!is_listed(&[missing(0, 5), missing(6, 9)], 0, 9));
    }
}
