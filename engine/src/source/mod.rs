//! Where records come from, as the stages see it.
//!
//! [`Source`] opens a partition at a position and yields batches; [`Group`] is the consumer group's coordinator: the place
//! where progress is committed, and the fence. The Kafka implementation is in [`kafka`]; tests script their own.

use std::fmt;
use std::sync::Arc;

use catchment_formats::RecordView;

use crate::error::Error;
use crate::lane::LaneLease;
use crate::store::BoxFuture;

#[cfg(feature = "kafka")]
pub mod kafka;
mod version;

pub use crate::faults::QueueFault;
pub use crate::position::{Committed, LastRead, TopicPartition};
pub use version::client_version;

/// What a partition's queue yields.
#[derive(Debug)]
pub enum QueueEvent<'a> {
    /// A visible record, and the leader epoch of its batch (-1: not known).
    Record(RecordView<'a>, i32),
    /// The reader stands at the partition's readable end: nothing visible lies in front of this offset that was not
    /// yielded, control and aborted records included.
    End(i64),
    /// Anything else. The lane that reads this queue must be dropped.
    Fault(QueueFault),
}

/// The fetch queue of one partition from one position on. Owned by one consumer thread. Dropping it stops the fetching.
pub trait PartitionQueue: Send {
    /// Takes what has arrived, without waiting. True if there is something to [`peek`](Self::peek).
    fn fill(&mut self) -> bool;

    /// The next event, if one was taken.
    fn peek(&mut self) -> Option<QueueEvent<'_>>;

    /// Drops the event that [`peek`](Self::peek) shows.
    fn pop(&mut self);

    /// Fetches from `offset` on; what was fetched before is dropped.
    ///
    /// # Errors
    /// If the client refuses.
    fn seek(&mut self, offset: i64) -> Result<(), Error>;
}

/// Called, from any thread, when a queue that was empty has something.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// The readable extent of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// First offset that still exists.
    pub start: i64,
    /// The last stable offset: where a `read_committed` reader stops.
    pub stable_end: i64,
    /// The high watermark.
    pub end: i64,
}

/// A topic as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its UUID as 32 lower-case hex digits, or `0` where the broker has none.
    pub id: String,
    /// Number of partitions.
    pub partitions: i32,
}

/// A cluster to read from.
pub trait Source: Send + Sync + fmt::Debug {
    /// The cluster's id.
    fn cluster_id(&self) -> &str;

    /// Starts to fetch a partition at `offset`; `leader_epoch` is that of the record before it, -1 if not known.
    fn open(&self, tp: &TopicPartition, offset: i64, leader_epoch: i32, wake: Wake) -> Result<Box<dyn PartitionQueue>, Error>;

    /// So many partitions may be open at a time from now on; what each may fetch ahead follows from that.
    fn expect_partitions(&self, partitions: usize);

    /// The partition's extent now.
    fn bounds<'a>(&'a self, tp: &'a TopicPartition) -> BoxFuture<'a, Result<LogBounds, Error>>;

    /// The first offset whose timestamp is at least `timestamp_ms`, for each partition; none where there is no such record.
    fn offsets_for_time<'a>(
        &'a self,
        partitions: &'a [TopicPartition],
        timestamp_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<Option<i64>>, Error>>;

    /// Describes a topic; none if it does not exist.
    fn topic<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<TopicInfo>, Error>>;

    /// Whether compaction may drop single records of a topic; none if the broker knows no such setting.
    fn is_compacted<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<bool>, Error>>;

    /// How long a topic keeps a record, in milliseconds; none if for ever, or if the broker knows no such setting.
    fn retention_ms<'a>(&'a self, _topic: &'a str) -> BoxFuture<'a, Result<Option<i64>, Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The names of all topics that match `pattern` (a name, or a regular expression that starts with `^`).
    fn topics<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Vec<String>, Error>>;
}

/// What became of an OffsetCommit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// The lane does not live any more; nothing was sent.
    LaneDead,
    /// `ILLEGAL_GENERATION`, `STALE_MEMBER_EPOCH`, `UNKNOWN_MEMBER_ID`: refused.
    StaleMember(String),
    /// `REBALANCE_IN_PROGRESS`: refused; try again if the lane still lives.
    RebalanceInProgress,
    /// `FENCED_INSTANCE_ID`: another process has this static member's name. Fatal for the client.
    InstanceFenced,
    /// `OFFSET_METADATA_TOO_LARGE`: refused.
    MetadataTooLarge,
    /// Timed out or the coordinator is away: the fate is unknown, and the same commit again settles it.
    Unknown(String),
    /// Any other error.
    Refused(String),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LaneDead => f.write_str("the lane does not live any more"),
            Self::StaleMember(e) => write!(f, "the member is stale: {e}"),
            Self::RebalanceInProgress => f.write_str("a rebalance is in progress"),
            Self::InstanceFenced => f.write_str("another process has this member's group.instance.id"),
            Self::MetadataTooLarge => f.write_str("the offset metadata is too large for the broker"),
            Self::Unknown(e) => write!(f, "unknown outcome: {e}"),
            Self::Refused(e) => f.write_str(e),
        }
    }
}

/// The consumer group: progress and fence (rule A1 of the commit protocol).
pub trait Group: Send + Sync + fmt::Debug {
    /// OffsetFetch with require-stable; none if the group has no offset for the partition.
    fn fetch<'a>(&'a self, tp: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Committed>, Error>>;

    /// One synchronous OffsetCommit of a lane, under its lock and only while it lives.
    fn commit<'a>(&'a self, lane: &'a Arc<LaneLease>, commit: Committed) -> BoxFuture<'a, Result<(), CommitError>>;
}

/// What the membership tells the pipeline.
#[derive(Debug)]
pub enum GroupEvent {
    /// These lanes live from now on, until their lease says otherwise.
    Assigned(Vec<Arc<LaneLease>>),
    /// The client cannot go on and must be rebuilt, or the process must end.
    Fatal(Error),
}
