//! What is answered to questions about clusters and stores, as the API sends it.

use serde::Serialize;
use utoipa::ToSchema;

/// What a connection reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reached {
    /// The cluster's id.
    pub cluster: String,
    /// Topics that this principal may see.
    pub topics: usize,
    /// From the first packet to the answer, ms.
    pub took_ms: u64,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TopicFound {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: i32,
}

/// What a topic holds.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TopicExtent {
    /// Its name.
    pub name: String,
    /// Its UUID, or `0`.
    pub id: String,
    /// Its partitions.
    pub partitions: Vec<PartitionExtent>,
    /// Offsets between the starts and the ends: about so many records.
    pub records: i64,
    /// Offsets that were written in the last hour, by the records' timestamps.
    pub records_last_hour: i64,
}

/// What a partition holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartitionExtent {
    /// Its number.
    pub partition: i32,
    /// The first offset that still exists.
    pub start: i64,
    /// The last stable offset.
    pub end: i64,
}

/// A record as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sample {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, ms since 1970.
    pub timestamp_ms: i64,
    /// Bytes of its key; null without one.
    pub key_bytes: Option<usize>,
    /// Bytes of its value; null without one.
    pub value_bytes: Option<usize>,
    /// Names of its headers.
    pub headers: Vec<String>,
    /// The beginning of its key, if values may be shown.
    pub key: Option<String>,
    /// The beginning of its value, if values may be shown.
    pub value: Option<String>,
}

/// What a store permits and is worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Probed {
    /// The store's address without secrets.
    pub store: String,
    /// The region that requests are signed for; null for a directory.
    pub region: Option<String>,
    /// The class of the create-only guard of PutObject, by writing twice and racing: A atomic, B racy, C none.
    pub put: Option<String>,
    /// The same of CompleteMultipartUpload.
    pub complete: Option<String>,
    /// Why there are no classes.
    pub problem: Option<String>,
    /// Each action that a rule needs, by trying it.
    pub permissions: Vec<Permission>,
    /// Objects of the probe that could not be removed again, below `_catchment/probes/`: rules need no permission to delete.
    pub left_behind: u64,
}

/// Whether an action is permitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Permission {
    /// The action, as policies name it.
    pub action: &'static str,
    /// Whether it worked.
    pub allowed: bool,
    /// What the store said if not.
    pub problem: Option<String>,
}

/// What a rule will do, or does.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Explained {
    /// The rule as it is in effect, as a config file: defaults written out, secrets masked.
    pub toml: String,
    /// The consumer group.
    pub group: String,
    /// The topics that it reads now.
    pub topics: Vec<TopicFound>,
    /// The key that an object of each of them would have for a window that opens now.
    pub example_keys: Vec<String>,
    /// Objects in an hour at most, if every partition has records all the time.
    pub objects_an_hour: f64,
}
