//! What an object says of itself: the lane, the range, what is missing from it, counts and digest.
//!
//! A proof is a function of the lane, the range, the missing ranges, the encoding and the records, and of nothing else: no
//! time, no nonce, no committed position, no writer version. It stands in a Parquet footer, in an object's metadata, or
//! beside it.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::FormatError;
use crate::record::OffsetRange;

/// One partition of one rule, and which incarnation of the topic it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LaneId {
    /// The rule's name.
    pub rule: String,
    /// Kafka's cluster id.
    pub cluster: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's UUID as 32 lower-case hex digits, or `0` where the broker has none.
    pub topic_id: String,
    /// The partition's number.
    pub partition: i32,
}

/// Why a range of offsets is missing from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// Kafka deleted the records before they were read.
    Retention,
    /// The log was truncated below what had been read.
    Truncation,
    /// The topic was deleted and created again.
    TopicRecreated,
    /// A batch whose checksum is wrong.
    CorruptBatch,
    /// The operator said so.
    OperatorSkip,
}

impl GapCause {
    /// The cause as it is written in proofs, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Truncation => "truncation",
            Self::TopicRecreated => "topic_recreated",
            Self::CorruptBatch => "corrupt_batch",
            Self::OperatorSkip => "operator_skip",
        }
    }
}

/// A range of offsets that an object should hold and does not. Written as `[from, to, cause]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(i64, i64, GapCause)")]
pub struct Missing(pub i64, pub i64, pub GapCause);

impl TryFrom<(i64, i64, GapCause)> for Missing {
    type Error = FormatError;

    fn try_from((from, to, cause): (i64, i64, GapCause)) -> Result<Self, FormatError> {
        if from > to {
            return Err(FormatError::Corrupt(format!("missing range [{from}, {to}) runs backwards")));
        }
        Ok(Self(from, to, cause))
    }
}

impl LaneId {
    /// Whether both name one lane. A broker without topic UUIDs, or an object written while it had none, says `0`, which cannot tell.
    pub fn is_same_lane(&self, other: &Self) -> bool {
        let names = |lane: &Self| (lane.rule.clone(), lane.cluster.clone(), lane.topic.clone(), lane.partition);
        let same_topic = self.topic_id == other.topic_id || self.topic_id == "0" || other.topic_id == "0";
        same_topic && names(self) == names(other)
    }
}

impl Missing {
    /// The missing offsets.
    pub fn range(&self) -> OffsetRange {
        OffsetRange::new(self.0, self.1)
    }

    /// Why they are missing.
    pub fn cause(&self) -> GapCause {
        self.2
    }

    /// Whether the offsets are those of the log that the object stands for: what an earlier incarnation of the topic lost was another log's.
    pub fn is_of_this_log(&self) -> bool {
        self.2 != GapCause::TopicRecreated
    }

    /// Whether the object lacks the record at an offset of its log for this.
    pub fn covers(&self, offset: i64) -> bool {
        self.is_of_this_log() && (self.0..self.1).contains(&offset)
    }
}

/// What an object holds, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records.
    pub records: u64,
    /// Records whose value is null.
    pub null_values: u64,
    /// Bytes of bare values.
    pub value_bytes: u64,
    /// Bytes of keys.
    pub key_bytes: u64,
    /// Bytes of header names and values.
    pub header_bytes: u64,
    /// Smallest timestamp of a record that has one, in milliseconds.
    pub timestamp_min: Option<i64>,
    /// Largest timestamp of a record that has one, in milliseconds.
    pub timestamp_max: Option<i64>,
}

/// The proof of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Whose records these are.
    pub lane: LaneId,
    /// The offsets that the object stands for.
    pub range: OffsetRange,
    /// Offsets of the range that could not be stored.
    pub missing: Vec<Missing>,
    /// What the object holds.
    pub counts: Counts,
    /// Digest of the records.
    pub digest: Digest,
    /// The encoding's text form.
    pub encoding: String,
    /// The object's size in bytes; absent in a footer, which cannot know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl Proof {
    /// The proof as canonical JSON: no spaces, fields in the order of this struct, `size` last and only if it is known.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a proof is plain data")
    }

    /// The proof as a footer holds it.
    pub fn to_json_without_size(&self) -> String {
        Self { size: None, ..self.clone() }.to_json()
    }

    /// Reads a proof's JSON.
    ///
    /// # Errors
    /// If the text is not a proof, or a range in it runs backwards.
    pub fn from_json(text: &str) -> Result<Self, FormatError> {
        serde_json::from_str(text).map_err(|e| FormatError::Corrupt(format!("not a proof: {e}")))
    }
}
