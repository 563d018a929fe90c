//! Anchors: what a lane says in the store of where it stands, and how it finds its place again when the group has forgotten it.
//!
//! Brokers forget a group's offsets; an anchor is a lower bound that they cannot forget. From it the stored objects lead on, each S the E of the
//! one before. The owner record is read back with every anchor.

use std::sync::PoisonError;
use std::time::Duration;

use super::control::{self, Anchor, Owner, foreign_owner, owner_gone};
use super::driver::{Exit, Lane};
use super::proof;
use crate::clock::Backoff;
use crate::crash::{self, Point};
use crate::error::{Code, Error, ErrorKind};
use crate::intent::VERSION;
use crate::limits::ANCHOR_INTERVAL;
use crate::report::LaneNote;
use crate::source::LastRead;

impl Lane {
    /// Writes the anchor when it is due. A failure is retried at the next occasion, since an older anchor is a lower bound too; only what is
    /// missing, and nothing else in the store says so, is written until it stands.
    ///
    /// One that knows more than the group, whose offset went back, stays until the lane has gone after what it knows ([`super::first_look`]).
    pub(super) async fn keep_anchor(&mut self) -> Result<(), Exit> {
        let (anchor_key, anchor) = self.anchor();
        let must_stand = !anchor.missing.is_empty();
        let anchored = if must_stand { Some(self.anchored_end().await?) } else { self.anchored_end_now().await };
        if anchored.is_none_or(|end| end > self.start) {
            return Ok(());
        }
        self.env.anchors.lock().unwrap_or_else(PoisonError::into_inner).insert(anchor_key, anchor);
        let now = self.env.clock.steady();
        if self.anchor_written.is_none_or(|at| now.saturating_sub(at) >= ANCHOR_INTERVAL) {
            crash::point(Point::BeforeAnchor);
            match self.write_anchor().await {
                Err(e) if !must_stand => tracing::warn!(error = %e, "the anchor was not written"),
                answer => {
                    if answer.is_err() {
                        self.until_answered("PutObject", || self.write_anchor()).await?;
                    }
                    crash::point(Point::AfterAnchor);
                    self.anchor_written = Some(now);
                }
            }
            self.check_owner().await?;
        }
        Ok(())
    }

    /// The claim is read back with every anchor: who is not the owner stops. Two claims can pass the store at the same time, and not only where guards are racy:
    /// a directory that was given up is claimed by overwriting its record, which no guard is for.
    async fn check_owner(&self) -> Result<(), Exit> {
        let (store, keys) = (&*self.env.store, &self.claim.keys);
        match control::read::<Owner>(store, &keys.owner()).await {
            Ok(Some(owner)) if self.claim.is_owned_by(&owner) => Ok(()),
            Ok(Some(owner)) => Err(foreign_owner(store, keys, &owner).into()),
            Ok(None) => Err(owner_gone(store, keys).into()),
            Err(e) => {
                tracing::warn!(error = %e, "the owner record could not be read back");
                Ok(())
            }
        }
    }

    fn anchor(&self) -> (String, Anchor) {
        let last = self.last.within(0, self.start);
        let anchor = Anchor {
            v: VERSION,
            key: self.last_key.clone(),
            end: self.start,
            topic_id: self.claim.topic_id.clone(),
            missing: self.pinned_missing.iter().chain(&self.pending).copied().collect(),
            last: (last.epoch >= 0).then_some(last),
        };
        (self.anchor_key(), anchor)
    }

    async fn write_anchor(&self) -> crate::store::StoreResult<()> {
        let (anchor_key, anchor) = self.anchor();
        control::write(&*self.env.store, &*self.env.clock, &anchor_key, &anchor).await
    }

    /// No committed offset: resume from the anchor if there is one, else begin where the owner record says.
    pub(super) async fn start_without_offset(&mut self) -> Result<(), Exit> {
        let anchor = self.read_anchor(&self.anchor_key()).await?;
        self.note_anchored(anchor.as_ref());
        let mut last = None;
        let begin = match anchor {
            Some(anchor) if !self.claim.is_same_topic(&anchor.topic_id) => return Err(self.topic_recreated().into()),
            Some(anchor) => {
                self.last_key.clone_from(&anchor.key);
                for gap in anchor.missing {
                    if !self.pending.contains(&gap) {
                        self.pending.push(gap);
                    }
                }
                self.pending.sort_by_key(|m| m.0);
                let end = self.walk(anchor.end).await?;
                last = anchor.last.filter(|_| end == anchor.end);
                self.env.reporter.lane(&self.lease.tp, LaneNote::ResumedFromAnchor { anchor: anchor.end, position: end });
                end
            }
            None => self.claimed_start().await?,
        };
        self.position = begin;
        self.start = begin;
        self.last = last.map_or(LastRead::unknown(begin), |last| last.within(0, begin));
        self.untidied = Some(self.env.clock.steady());
        crash::point(Point::BeforeStartCommit);
        self.tidy().await?;
        crash::point(Point::AfterStartCommit);
        Ok(())
    }

    /// Up to where the anchor said that objects stand, when it was first asked for in this assignment; negative if there was none of this topic.
    pub(super) async fn anchored_end(&mut self) -> Result<i64, Exit> {
        if let Some(end) = self.anchored {
            return Ok(end);
        }
        let anchor = self.read_anchor(&self.anchor_key()).await?;
        Ok(self.note_anchored(anchor.as_ref()))
    }

    /// The same, if the store answers at once.
    async fn anchored_end_now(&mut self) -> Option<i64> {
        if self.anchored.is_some() {
            return self.anchored;
        }
        match control::read(&*self.env.store, &self.anchor_key()).await {
            Ok(anchor) => Some(self.note_anchored(anchor.as_ref())),
            Err(e) => {
                tracing::warn!(error = %e, "the anchor could not be read, and is not written");
                None
            }
        }
    }

    fn note_anchored(&mut self, anchor: Option<&Anchor>) -> i64 {
        let end = anchor.filter(|anchor| self.claim.is_same_topic(&anchor.topic_id)).map_or(-1, |anchor| anchor.end);
        self.anchored = Some(end);
        end
    }

    fn anchor_key(&self) -> String {
        self.claim.keys.anchor(&self.env.rule.name, self.lease.tp.partition)
    }

    /// The anchor, asked for until the store answers: a permission that is missing says nothing of what is there.
    async fn read_anchor(&self, anchor_key: &str) -> Result<Option<Anchor>, Exit> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            match control::read(&*self.env.store, anchor_key).await {
                Ok(anchor) => return Ok(anchor),
                Err(e) if matches!(e.kind, ErrorKind::Retryable | ErrorKind::Unreachable | ErrorKind::Denied) => {
                    tracing::warn!(error = %e, "the anchor could not be read yet");
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

    /// From a known end over the objects that follow it: each one's S must be the previous one's E. What one of them lists as missing needs no
    /// other.
    pub(super) async fn walk(&mut self, from: i64) -> Result<i64, Exit> {
        let keys = self.keys_of_lane().await?;
        let (mut end, mut seen) = (from, 0);
        while let Some((_, object_key)) = keys.iter().find(|(start, _)| *start == end) {
            let found =
                self.until_answered("HeadObject", || proof::look_whole(&*self.env.store, &self.env.rule.layout, object_key)).await?;
            match found.and_then(|(_, p)| p).filter(|p| p.lane.is_same_lane(&self.id) && p.range.start == end && p.range.end > end) {
                Some(proof) => {
                    end = proof.range.end;
                    self.pending.retain(|gap| !proof.missing.contains(gap));
                }
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

fn does_not_tile(object_key: &str) -> Error {
    Error::new(Code(427), ErrorKind::Corrupt, "the stored objects of the lane do not tile")
        .with("key", object_key)
        .help("run `catchment verify` on the topic's directory; it names what is missing or overlapping")
}
