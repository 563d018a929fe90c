//! The faults of a simulation, and how often each was felt.
//!
//! A fault counts when its effect was observed, not when it was drawn: an error that reached a caller, a write that landed late, a gap
//! that opened, a process that died with work open.

use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::Scope;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The store answers 503 SlowDown; nothing was done.
    Throttled,
    /// The store answers 500; nothing was done.
    ServerError,
    /// The store answers 500; the write took effect.
    ServerErrorAfter,
    /// A request takes up to two minutes.
    Slow,
    /// The connection is reset; nothing was done.
    ResetBefore,
    /// The connection is reset; the write took effect.
    ResetAfter,
    /// The connection is reset; the write of a data object arrives minutes later, behind others.
    Late,
    /// A write of a data object arrives, and once more minutes later.
    Twice,
    /// 200 with an error in the body; nothing was done.
    ErrorBody,
    /// Credentials expire for a while; felt once by each operation.
    Denied,
    /// The store is down for up to an hour; felt once by each operation.
    StoreDown,
    /// The store is down for a whole hour; felt once by each operation that is refused in its last minute.
    StoreDownAnHour,
    /// A lifecycle rule aborts an open upload, and a process is told that it is gone.
    UploadsAborted,
    /// An OffsetCommit is lost on its way.
    CommitLost,
    /// An OffsetCommit is accepted, and the answer is lost.
    CommitAnswerLost,
    /// The client holds an OffsetCommit while it looks for the coordinator.
    CommitHeld,
    /// An OffsetCommit is on its way for seconds, and what its process sends later is behind it.
    CommitDelayed,
    /// An OffsetCommit is accepted after its process has died.
    CommitOfTheDead,
    /// An OffsetCommit is refused while the group rebalances.
    RebalanceInProgress,
    /// An OffsetFetch fails.
    FetchFailed,
    /// A question to the cluster fails that a process waits for.
    QuestionFailed,
    /// A partition's queue breaks off, or cannot be opened, and the process opens it again.
    QueueBroken,
    /// A reader meets a batch that fails its checksum once.
    CorruptOnce,
    /// A reader meets a batch that fails its checksum for good.
    CorruptBatch,
    /// Retention deletes records that nobody has read, and a lane says so.
    Retention,
    /// A reader comes to a place whose record compaction took.
    Compaction,
    /// A new leader lacks records that were backed up, and a lane says so.
    Truncation,
    /// The topic is deleted and created again, and a lane goes on with the new one.
    Recreated,
    /// A partition with records to read moves, and its new owner begins.
    Revoked,
    /// A process is frozen past its session, and hears when it is awake that its lanes are not its own any more: by a commit that is refused, or by the
    /// coordinator.
    Frozen,
    /// A process loses the coordinator: a commit does not get there, or it hears past its session that its lanes are not its own any more.
    CutOff,
    /// A process dies wherever it stands.
    Crashed,
    /// The wall clock jumps, by minutes or by more than a year, and somebody looks at it; where it is far off, also the store, once for each operation.
    ClockJumped,
    /// The group's offsets expire while nobody runs, and a lane is told that there is none.
    OffsetsForgotten,
    /// A process has so little memory that a window is closed early for want of it.
    MemoryShort,
    /// The group's session is so short that a process is given up which the longest would have kept, and it hears of that.
    SessionShort,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 36] = [
        Self::Throttled,
        Self::ServerError,
        Self::ServerErrorAfter,
        Self::Slow,
        Self::ResetBefore,
        Self::ResetAfter,
        Self::Late,
        Self::Twice,
        Self::ErrorBody,
        Self::Denied,
        Self::StoreDown,
        Self::StoreDownAnHour,
        Self::UploadsAborted,
        Self::CommitLost,
        Self::CommitAnswerLost,
        Self::CommitHeld,
        Self::CommitDelayed,
        Self::CommitOfTheDead,
        Self::RebalanceInProgress,
        Self::FetchFailed,
        Self::QuestionFailed,
        Self::QueueBroken,
        Self::CorruptOnce,
        Self::CorruptBatch,
        Self::Retention,
        Self::Compaction,
        Self::Truncation,
        Self::Recreated,
        Self::Revoked,
        Self::Frozen,
        Self::CutOff,
        Self::Crashed,
        Self::ClockJumped,
        Self::OffsetsForgotten,
        Self::MemoryShort,
        Self::SessionShort,
    ];
}

impl Fault {
    /// Whether it only happens with [`Scope::Every`].
    fn is_unsettled(self) -> bool {
        matches!(
            self,
            Self::CorruptOnce
                | Self::CorruptBatch
                | Self::Truncation
                | Self::Recreated
                | Self::Frozen
                | Self::CutOff
                | Self::OffsetsForgotten
                | Self::SessionShort
        )
    }

    /// The kinds that happen in a scope.
    pub fn of(scope: Scope) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |fault| scope == Scope::Every || !fault.is_unsettled())
    }
}

/// How often each fault was felt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Tally(BTreeMap<Fault, u64>);

impl Tally {
    /// One more.
    pub fn add(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// All of another tally.
    pub fn merge(&mut self, other: &Self) {
        for (fault, count) in &other.0 {
            *self.0.entry(*fault).or_default() += count;
        }
    }

    /// How often a fault was felt.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or_default()
    }

    /// All together.
    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }
}
