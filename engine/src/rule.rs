//! A rule as the running lanes see it: settings that do not change while they run.

use std::time::Duration;

use catchment_formats::{Encoding, GapCause};

use crate::config::{Accept, GapPolicy, OnGap};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::intent::{CommitNote, note_hash};
use crate::store::key::{KeyParts, Layout, TopicName};
use crate::store::probe::GuardClasses;
use crate::store::{Guard, GuardClass, ObjectStore};
use crate::window::WindowPolicy;

/// A rule's settings.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Its consumer group.
    pub group: String,
    /// How objects are encoded.
    pub encoding: Encoding,
    /// How directories are named.
    pub layout: Layout,
    /// When windows close.
    pub window: WindowPolicy,
    /// What to do about missing records.
    pub on_gap: GapPolicy,
    /// The operator's answers to the questions of stopped lanes, for this run.
    pub accept: Vec<Accept>,
    /// How long an upload may be under way before others may think it dead.
    pub upload_deadline: Duration,
    /// Hash of endpoint, bucket, prefix and layout.
    pub destination_hash: String,
    /// What the store's guards are worth.
    pub classes: GuardClasses,
}

impl Rule {
    /// The hash that notes carry of a destination.
    pub fn hash_destination(store: &dyn ObjectStore, layout: &Layout) -> String {
        note_hash(&format!("{}|{layout}", store.identity()))
    }

    /// The key of an object.
    pub fn object_key(&self, topic: &TopicName, partition: i32, start: i64, directory_ms: Option<i64>, extension: &str) -> String {
        let parts = KeyParts { topic, partition, timestamp_ms: directory_ms, window_ms: self.window.every_ms };
        self.layout.object_key(&parts, start, extension)
    }

    /// Whether the store's guards are atomic, for both ways to publish.
    pub fn has_atomic_guards(&self) -> bool {
        self.classes.put == GuardClass::A && self.classes.complete == GuardClass::A
    }

    /// Whether the operator answered so, for this run or by a standing policy on gaps.
    pub fn accepts(&self, answer: Accept) -> bool {
        let standing = match answer {
            Accept::Truncation => self.on_gap.truncation == OnGap::Continue,
            Accept::TopicRecreated => self.on_gap.topic_recreated == OnGap::Continue,
            Accept::ForeignCommit | Accept::Destination => false,
        };
        standing || self.accept.contains(&answer)
    }

    /// Whether a lane may go on from a note that was written for another destination.
    ///
    /// # Errors
    /// If nobody accepted that, or a window is pinned to the old destination.
    pub fn check_destination(&self, note: &CommitNote) -> Result<()> {
        if note.destination_hash() == self.destination_hash {
            return Ok(());
        }
        if !self.accepts(Accept::Destination) {
            let error = Error::new(Code(422), ErrorKind::Asks, "the destination is not the one that this rule has written to");
            return Err(
                error.help("restore the old --to, --layout and prefix; or start once with --accept destination to go on in the new place")
            );
        }
        match note {
            CommitNote::Tidy(_) => Ok(()),
            CommitNote::Intent(_) => Err(Error::new(Code(426), ErrorKind::Asks, "a window is pinned to the old destination")
                .help("run the old settings once with --until-end, then start with --accept destination")),
        }
    }

    /// What the rule says of a gap.
    pub fn on_gap(&self, cause: GapCause) -> OnGap {
        match cause {
            GapCause::Retention => self.on_gap.retention,
            GapCause::Truncation => self.on_gap.truncation,
            GapCause::CorruptBatch => self.on_gap.corrupt_batch,
            GapCause::TopicRecreated => self.on_gap.topic_recreated,
            GapCause::OperatorSkip => OnGap::Continue,
        }
    }

    /// Data objects are never overwritten on purpose; stores without a guard are told nothing by this.
    pub fn guard(&self) -> Guard {
        Guard::IfAbsent
    }

    /// [`upload_deadline`](Self::upload_deadline) in milliseconds.
    pub fn upload_deadline_ms(&self) -> i64 {
        i64::try_from(self.upload_deadline.as_millis()).unwrap_or(i64::MAX)
    }

    /// Age at which an upload that no intent names may be aborted (rule R7).
    pub fn stale_upload_age_ms(&self) -> u64 {
        let age = self.upload_deadline_ms().max(self.window.every_ms.saturating_mul(2));
        u64::try_from(age).unwrap_or(u64::MAX)
    }
}
