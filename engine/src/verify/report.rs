//! What a verification found.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::error::Error;

/// What is wrong with an object or between objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DamageKind {
    /// No object stands for a range of offsets.
    Hole,
    /// Two objects stand for some of the same offsets.
    Overlap,
    /// Two objects stand for the same range.
    Duplicate,
    /// The first object begins before the rule's start.
    EarlyStart,
    /// The object is shorter than it was when it was written.
    Truncated,
    /// The object cannot be decoded.
    Unreadable,
    /// The records are not those that were written.
    Digest,
    /// The number of records or bytes is not what the proof says.
    Counts,
    /// Offsets do not ascend, or lie outside the range.
    Offsets,
    /// The records are right, but the bytes are not those that this encoding gives.
    Bytes,
    /// The object is none of a backup, or another rule's.
    Foreign,
    /// The proof is that of another key.
    Misplaced,
    /// Two proofs of one object differ, or a proof contradicts itself.
    Proof,
    /// A raw object has no proof.
    ProofAbsent,
    /// Records differ from those in Kafka.
    Records,
}

impl DamageKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Hole,
        Self::Overlap,
        Self::Duplicate,
        Self::EarlyStart,
        Self::Truncated,
        Self::Unreadable,
        Self::Digest,
        Self::Counts,
        Self::Offsets,
        Self::Bytes,
        Self::Foreign,
        Self::Misplaced,
        Self::Proof,
        Self::ProofAbsent,
        Self::Records,
    ];

    /// The kind as reports name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hole => "hole",
            Self::Overlap => "overlap",
            Self::Duplicate => "duplicate",
            Self::EarlyStart => "early_start",
            Self::Truncated => "truncated",
            Self::Unreadable => "unreadable",
            Self::Digest => "digest",
            Self::Counts => "counts",
            Self::Offsets => "offsets",
            Self::Bytes => "bytes",
            Self::Foreign => "foreign",
            Self::Misplaced => "misplaced",
            Self::Proof => "proof",
            Self::ProofAbsent => "proof_absent",
            Self::Records => "records",
        }
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One damage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The object's key; of a hole at a lane's end, the key of the object that is missing or comes before it.
    pub key: String,
    /// What kind of damage.
    pub kind: DamageKind,
    /// What exactly.
    pub detail: String,
}

impl Damage {
    /// A damage.
    pub fn new(key: &str, kind: DamageKind, detail: impl Into<String>) -> Self {
        Self { key: key.to_owned(), kind, detail: detail.into() }
    }
}

/// A range that an object lists as missing. Known and accounted for, so no damage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First missing offset.
    pub from: i64,
    /// First offset after the gap.
    pub to: i64,
    /// Why: `retention`, `truncation`, `topic_recreated`, `corrupt_batch`, `operator_skip`.
    pub cause: &'static str,
    /// The object that lists it.
    pub key: String,
}

/// The whole of a verification.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Objects read.
    pub objects: u64,
    /// Records that the objects hold by their proofs.
    pub records: u64,
    /// Bytes of the objects.
    pub bytes: u64,
    /// Lanes seen.
    pub lanes: u64,
    /// Records compared with Kafka.
    pub compared: u64,
    /// Ranges that are listed as missing.
    pub gaps: Vec<Gap>,
    /// What is wrong.
    pub damage: Vec<Damage>,
    /// What could not be checked, and why.
    #[serde(serialize_with = "without_repeats")]
    pub notes: Vec<String>,
    /// What ended the comparison with Kafka early; a note says it too.
    #[serde(skip)]
    pub failure: Option<Error>,
}

fn without_repeats<S: Serializer>(notes: &[String], to: S) -> Result<S::Ok, S::Error> {
    let mut notes = notes.to_vec();
    notes.dedup();
    notes.serialize(to)
}

impl Report {
    /// Adds a damage.
    pub fn damaged(&mut self, key: &str, kind: DamageKind, detail: impl Into<String>) {
        self.damage.push(Damage::new(key, kind, detail));
    }

    /// Puts everything into an order that does not depend on which task was faster.
    pub fn sort(&mut self) {
        self.damage.sort_by(|a, b| (&a.key, a.kind, &a.detail).cmp(&(&b.key, b.kind, &b.detail)));
        self.gaps.sort_by(|a, b| (&a.topic, a.partition, a.from).cmp(&(&b.topic, b.partition, b.from)));
        self.notes.sort();
        self.notes.dedup();
    }
}
