//! A rule as the running lanes see it: settings that do not change while they run.

use std::time::Duration;

use catchment_formats::{Encoding, GapCause};

use crate::config::{Accept, GapPolicy, OnGap};
use crate::intent::note_hash;
use crate::store::{Guard, ObjectStore, key::Layout};
use crate::window::WindowPolicy;

/// How much a store's guard against overwriting is worth, as the probe measured it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardClass {
    /// A guard that is atomic.
    Atomic,
    /// A guard that is not known to be atomic.
    Advisory,
    /// None, or one that is ignored.
    Absent,
}

impl GuardClass {
    /// The letter that the documentation uses.
    pub fn letter(self) -> char {
        match self {
            Self::Atomic => 'A',
            Self::Advisory => 'B',
            Self::Absent => 'C',
        }
    }
}

/// Guard classes by operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreClass {
    /// PutObject.
    pub put: GuardClass,
    /// CompleteMultipartUpload.
    pub complete: GuardClass,
}

impl StoreClass {
    /// Whether both operations are atomic.
    pub fn is_atomic(&self) -> bool {
        self.put == GuardClass::Atomic && self.complete == GuardClass::Atomic
    }
}

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
    pub class: StoreClass,
}

impl Rule {
    /// The hash that notes carry of a destination.
    pub fn hash_destination(store: &dyn ObjectStore, layout: &Layout) -> String {
        note_hash(&format!("{}|{layout}", store.identity()))
    }

    /// Whether the operator answered so.
    pub fn accepts(&self, answer: Accept) -> bool {
        self.accept.contains(&answer)
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
