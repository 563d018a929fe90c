//! Where a lane goes on: rules R1 to R7, on every assignment.
//!
//! In the order of the rules: what the group knows, what stands in the store, what Kafka still has. The result is a position to
//! read from, and perhaps an intent whose range must be read again, exactly.

use std::time::Duration;

use catchment_formats::{Encoding, GapCause, Missing};

use super::driver::{Exit, Lane};
use crate::clock::Backoff;
use crate::config::{Accept, OnGap};
use crate::crash::{self, Point};
use crate::decision::{Finding, lost_since_pin, on_its_way_for, with_gap, written_anew_from};
use crate::error::{Code, Error, ErrorKind, codes};
use crate::intent::{CommitNote, Intent, NoteError, UploadNote, is_same_topic};
use crate::limits::CLOCKS_APART_MAX;
use crate::proof::may_need_record;
use crate::reader::PinnedRange;
use crate::report::LaneNote;
use crate::sabotage::{Switch, removes};
use crate::source::{Committed, LastRead, LogBounds};
use crate::window::Opened;

/// Where a run begins.
#[derive(Debug)]
pub(super) struct Resume {
    /// Next offset to read.
    pub position: i64,
    /// The last record that was read before it.
    pub last: LastRead,
    /// Start of the next object.
    pub start: i64,
    /// What the next object must list as missing.
    pub missing: Vec<Missing>,
    /// What the object after the intent's must list as missing.
    pub pending: Vec<Missing>,
    /// An intent whose range is read again.
    pub intent: Option<Intent>,
    encoding: Option<Encoding>,
    /// The log's readable end.
    pub log_end: i64,
    /// When the window opened that an earlier run left at `start`.
    pub opened: Option<Opened>,
}

impl Resume {
    /// The lowest offset below the position whose record is known to be another one than was read, and listed as missing; the position if
    /// there is none.
    pub(super) fn written_anew_from(&self) -> i64 {
        written_anew_from(&self.missing, &self.pending, self.position)
    }

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
        crash::point(Point::AfterFetch);
        let note = match &committed {
            None => None,
            Some(c) => self.own_note(c).await?,
        };
        let Some((committed, note)) = committed.zip(note) else {
            self.start_without_offset().await?;
            return self.resume_at_position().await;
        };
        self.position = committed.offset;
        let adjacent = LastRead { end: committed.offset, epoch: committed.leader_epoch };
        self.last = note.last().unwrap_or(adjacent).within(0, committed.offset);
        self.start = note.start();
        self.pending = note.pending().to_vec();
        if let CommitNote::Intent(intent) = &note {
            self.pinned_missing = intent.missing_before(committed.offset).collect();
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
                    tracing::warn!(error = %e, "the group's offset could not be fetched yet");
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
            self.settle_old_incarnation(committed.offset, note).await?;
            return Ok(None);
        }
        self.env.rule.check_destination(&note)?;
        Ok(Some(note))
    }

    /// R2, the part that asks Kafka.
    async fn resume_at_position(&mut self) -> Result<Resume, Exit> {
        let bounds = self.bounds_reaching(self.position, None).await?;
        self.resume_within(&bounds)
    }

    /// The same, once the log is known to reach to the position. P stays what the group has: what is missing behind it is known to nobody before the next pin.
    pub(super) fn resume_within(&mut self, bounds: &LogBounds) -> Result<Resume, Exit> {
        let mut missing = self.pending.clone();
        let position = self.position.max(bounds.start);
        if position > self.position {
            // A lane that waits for its turn may come here more than once before it reads.
            let news = Missing(self.position.max(self.gap_told_to), position, GapCause::Retention);
            if news.0 < news.1 {
                self.note_gap(news)?;
                self.gap_told_to = position;
            }
            if !removes(Switch::RetentionGap) {
                missing.push(Missing(self.position, position, GapCause::Retention));
            }
        }
        Ok(Resume {
            position,
            last: self.last.within(bounds.start, position),
            start: self.start,
            missing,
            pending: Vec::new(),
            intent: None,
            encoding: None,
            log_end: bounds.stable_end,
            opened: None,
        })
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
    async fn resume_at_intent(&mut self, mut intent: Intent) -> Result<Resume, Exit> {
        self.env.reporter.lane(&self.lease.tp, LaneNote::Recovering(&intent));
        self.sights.pinned(&intent);
        crash::point(Point::BeforeIntentLook);
        match self.find(&intent).await? {
            Finding::Ours => return self.adopt(&intent, intent.end).await,
            Finding::OtherEnd(end) => return self.adopt(&intent, end).await,
            Finding::Foreign(why) => return Err(intent_taken(&intent, &why).into()),
            Finding::Absent => {}
        }
        // Only now: a store may go on listing the upload that has made an object, and a note without its name says nothing of it.
        self.abort_stale_uploads(&intent.key, intent.upload_id()).await?;
        if let Some(upload) = intent.upload.clone()
            && self.has_proof_without_reading(&intent, &upload).await?
            && let Some(end) = self.complete_upload(&mut intent, &upload).await?
        {
            crash::point(Point::AfterLateComplete);
            return self.adopt(&intent, end).await;
        }
        crash::point(Point::BeforeReadAgain);
        self.read_again(intent).await
    }

    /// R4: the object stands; the group learns it.
    async fn adopt(&mut self, intent: &Intent, end: i64) -> Result<Resume, Exit> {
        crash::point(Point::BeforeAdopt);
        self.settled(intent, end);
        // Whoever pinned it may have left uploads, and nobody comes back to a key that stands.
        if self.env.store.limits().multipart {
            self.history.strays.expect(&intent.key, None);
        }
        self.history.strays.note_standing(&intent.key);
        self.tidy_and_sweep().await?;
        crash::point(Point::AfterAdopt);
        self.env.metrics.recovered();
        self.resume_at_position().await
    }

    /// R5b and R5c: exactly the intent's range, less what it misses and what Kafka has lost since.
    async fn read_again(&mut self, mut intent: Intent) -> Result<Resume, Exit> {
        if removes(Switch::PinnedRange) {
            return self.resume_at_position().await;
        }
        let bounds = self.bounds_reaching(intent.end, Some(&intent)).await?;
        let encoding = intent.enc.parse::<Encoding>().ok();
        let log_start = bounds.start.min(intent.end);
        let lost = lost_since_pin(&intent, self.position, bounds.start);
        // Each of these gives an object that differs from the one that was pinned, or may: a full copy has precedence.
        let differs = lost.is_some() || encoding.is_none() || self.skips_corrupt(&(self.position..intent.end));
        if (differs || self.may_be_recorded_otherwise(&intent).await)
            && let Some(end) = self.outwait_full_copy(&intent).await?
        {
            return self.adopt(&intent, end).await;
        }
        let mut missing = intent.missing.clone();
        if let Some(gap) = lost {
            self.note_gap(gap)?;
            missing = with_gap(&missing, gap);
        }
        if encoding.is_none() {
            self.env.metrics.reencoded.inc();
            tracing::error!(enc = intent.enc, "this build cannot write the intent's encoding; the current one is used");
        }
        if let Some(upload) = intent.upload.take() {
            // It will not be completed: of no use once the range stands.
            self.history.strays.expect(&intent.key, Some(upload.id));
        }
        Ok(Resume {
            position: self.position.max(log_start),
            last: self.last.within(bounds.start, self.position.max(log_start)),
            start: intent.start,
            missing,
            pending: self.pending.clone(),
            encoding: Some(encoding.unwrap_or(self.env.rule.encoding)),
            intent: Some(intent),
            log_end: bounds.stable_end,
            opened: None,
        })
    }

    /// Sees to it that an upload which an intent names is not completed any more. Where an abort may take an object's bytes, only waiting helps.
    pub(super) async fn give_up(&mut self, intent: &Intent, upload: &UploadNote) -> Result<(), Exit> {
        if !removes(Switch::GiveUpUnasked) {
            // Nobody has asked yet whose lane this is: of who was frozen since it read the intent, the upload is another one's now, which may be about
            // to complete it.
            self.pin(intent).await?;
            // That pin says no more of when a request may be sent than the one before.
            self.pinned_at = None;
        }
        crash::point(Point::BeforeGiveUp);
        if !self.may_sweep() {
            return Ok(());
        }
        self.until_answered("AbortMultipartUpload", || self.env.store.abort_upload(&intent.key, &upload.id)).await
    }

    /// R5c: in classes B and C a full copy may still be on its way; it must have landed or died before anything else is published. So must its
    /// record, where it has one, in every class: nothing guards that. Where the guard is atomic, it refuses a full copy that comes behind less: a Complete that
    /// the store has taken already, and shows late, is waited for.
    pub(super) async fn outwait_full_copy(&mut self, intent: &Intent) -> Result<Option<i64>, Exit> {
        if let Some(upload) = &intent.upload {
            // Without this the upload could still be completed behind the smaller object.
            self.give_up(intent, upload).await?;
        }
        let by_guard = self.is_kept_by_guard(intent);
        if (by_guard && intent.upload.is_none()) || removes(Switch::FullCopy) {
            return Ok(None);
        }
        if self.history.has_outwaited(intent) {
            return Ok(None);
        }
        let found = if by_guard { self.await_complete(intent).await? } else { self.await_requests(intent).await? };
        self.history.note_outwaited(intent);
        crash::point(Point::AfterOutwait);
        Ok(found)
    }

    /// Looks for an intent's object for as long as any request of its pin may be on its way.
    async fn await_requests(&self, intent: &Intent) -> Result<Option<i64>, Exit> {
        let began = self.env.clock.steady();
        let left = || {
            // What was sent under a pin that was read before now has landed a deadline from now, by the clock that is never set.
            let by_steady = self.env.rule.upload_deadline.saturating_sub(self.waited_since(began));
            if self.env.pace.is_kept(&*self.env.clock) { by_steady.min(self.young_for(intent)) } else { by_steady }
        };
        self.env.reporter.lane(&self.lease.tp, LaneNote::Outwaiting(left()));
        self.await_object(intent, left).await
    }

    /// Whether the store itself keeps what comes late from an intent's key, and nothing beside the key is to be kept.
    pub(super) fn is_kept_by_guard(&self, intent: &Intent) -> bool {
        self.env.rule.has_atomic_guards() && !self.may_have_record(intent)
    }

    /// Whether whoever pinned an intent may have written a record beside its object, or may still do so.
    fn may_have_record(&self, intent: &Intent) -> bool {
        may_need_record(intent, &self.lane_of(intent), self.env.store.limits().metadata)
    }

    /// Whether that record may be another one than the range gives now. Compaction takes records between two readings, and nothing guards a record: one
    /// that lands behind the object would be that of another. A broker that does not say is taken at its word: an hour's wait at each such recovery would cost
    /// more than what it guards, the proof of a whole object, which `verify` misses loudly.
    async fn may_be_recorded_otherwise(&self, intent: &Intent) -> bool {
        if !self.may_have_record(intent) {
            return false;
        }
        let policy = self.env.source.is_compacted(&self.lease.tp.topic).await;
        policy.ok().flatten().unwrap_or(false)
    }

    /// How long a request of an intent's pin may still be on its way, by the wall clocks of this machine and of the one that has pinned it.
    fn young_for(&self, intent: &Intent) -> Duration {
        on_its_way_for(intent.at, self.env.clock.wall_ms(), self.env.rule.upload_deadline, CLOCKS_APART_MAX)
    }
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

pub(super) fn intent_taken(intent: &Intent, why: &str) -> Error {
    Error::new(codes::FOREIGN_OBJECT, ErrorKind::Fenced, "an object of somebody else stands under the key")
        .with("key", &intent.key)
        .because(why)
        .help("look at it with `catchment show`; move the object away and start again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_without_metadata_is_told_from_one_of_somebody_else() {
        let committed = Committed { offset: 7, leader_epoch: -1, metadata: String::new() };
        let told = |why| foreign_commit(&committed, why).to_string();
        assert!(told(NoteError::Empty).contains("the commit has no metadata"), "{}", told(NoteError::Empty));
        assert!(told(NoteError::Foreign).contains("is not one of ours"), "{}", told(NoteError::Foreign));
    }
}
