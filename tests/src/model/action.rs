//! What can happen in the model, and what is counted of it.
//!
//! An [`Action`] is one atomic step of a worker, of Kafka, of the store or of fate. An [`Event`] is what a step turned out to be (a pin may be
//! accepted or refused); each must occur in some setting, or the model would prove less than it says.

use std::sync::atomic::{AtomicU64, Ordering};

use super::state::Offset;

/// Most lanes of a setting.
pub const LANES_MAX: usize = 2;

/// One atomic step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A process starts.
    Start(u8),
    /// It dies; what it had sent may still take effect.
    Crash(u8),
    /// It is frozen past its session; what it had sent may still take effect.
    Pause(u8),
    /// It goes on where it was frozen.
    Wake(u8),
    /// It hears that it is no member any more: all its lanes are revoked.
    Learn(u8),
    /// A new generation: who is alive and has answered is a member, and lane `i` belongs to the `i`th of these.
    Rebalance([u8; LANES_MAX]),
    /// The upload deadline passes for all that is under way.
    DeadlinePasses,
    /// The group's offsets are forgotten, long after its last member left.
    OffsetsExpire,
    /// Kafka compacts a lane.
    Compact(u8),
    /// Kafka's retention moves a lane's log start.
    Retain(u8, Offset),
    /// The group's memory of a lane goes back by one commit.
    GroupGoesBack(u8),
    /// The store's lifecycle rule aborts an upload.
    LoseUpload(u8, u8),
    /// A request that nobody waits for takes effect.
    Land(u8, u8),
    /// A Complete that was taken makes its object visible.
    Finish(u8, u8),
    /// A worker's task for a lane makes a move.
    Move(u8, u8, Move),
}

/// One move of a lane's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    /// OffsetFetch.
    Fetch,
    /// The anchor, and LIST from there on.
    Walk,
    /// PUT of the anchor.
    Anchor,
    /// Records without anything visible are passed over.
    PassOver,
    /// The window becomes a multipart upload: looks at its key first if none was looked at.
    Open,
    /// The window closes at this offset; for an upload, all its parts are there.
    Close(Offset),
    /// HEAD before the first pin.
    Check,
    /// OffsetCommit of the intent; the answer arrives, or is lost.
    Pin(Answer),
    /// OffsetCommit of (E, tidy); the answer arrives, or is lost.
    Tidy(Answer),
    /// The coordinator refuses a commit that carries the generation before a rebalance which left the lane where it was.
    RefuseCommit,
    /// The publishing request goes out.
    Send,
    /// It takes effect, if it may, and the answer arrives.
    Answer,
    /// No answer arrives; the request may still take effect.
    LoseAnswer,
    /// It is refused for want of a permission.
    Deny,
    /// It is refused because another one was under way.
    Conflict,
    /// HEAD after a request that did not succeed.
    Look,
    /// HEAD is refused for want of a permission.
    DenyHead,
    /// Stale uploads are aborted, and the intent's key is looked at.
    Recover,
    /// ListParts.
    Parts,
    /// ListParts names fewer parts than the store has.
    PartsShort,
    /// HEAD, once a Complete must have shown its effect.
    LookAgain,
    /// The range is read again, up to this offset.
    ReadAgain(Offset),
    /// OffsetCommit of the intent as it was read, and then its upload is aborted; the commit's answer arrives, or is lost.
    GiveUp(Answer),
    /// HEAD, once a full copy must have landed: after the deadline, or where guards are atomic after a Complete's time.
    Outwait,
    /// The lane starts again at R1.
    Restart,
}

/// Whether an answer arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It does.
    Arrives,
    /// It does not, although the request took effect.
    Lost,
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a step turned out to be.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Event { $($(#[$doc])* $name,)* }

        impl Event {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

events! {
    /// A process started.
    Started,
    /// A process died.
    Crashed,
    /// A process was frozen.
    Paused,
    /// A frozen process went on while it was still a member.
    WokeInTime,
    /// A frozen process went on after it had been thrown out.
    WokeAsZombie,
    /// A zombie heard that it is one.
    ZombieLearned,
    /// A generation began.
    Rebalanced,
    /// A lane stayed with its worker over a rebalance and went on.
    LaneKept,
    /// A lane was revoked from a living worker while its request was on its way.
    RevokedWhilePublishing,
    /// The upload deadline passed.
    DeadlinePassed,
    /// The group's offsets were forgotten.
    OffsetsExpired,
    /// They were forgotten while an intent was open.
    IntentForgotten,
    /// A log was compacted.
    Compacted,
    /// A log start moved.
    Retained,
    /// Retention passed the group's position.
    RetainedUnread,
    /// Retention passed an open intent's range, or part of it.
    RetainedPinned,
    /// The group's memory went back.
    GroupWentBack,
    /// The store lost an upload.
    UploadLost,
    /// A request that nobody waited for made an object visible.
    LandedLate,
    /// A request that nobody waited for wrote over an object.
    LandedOver,
    /// A request that nobody waited for was refused by the guard.
    LandedRefused,
    /// A Complete that nobody waited for was taken.
    CompleteTaken,
    /// A Complete showed its effect after a while.
    CompleteFinished,
    /// The group knew a position.
    FetchedTidy,
    /// The group knew an intent.
    FetchedIntent,
    /// A zombie asked the group.
    FetchedAsZombie,
    /// The group knew nothing.
    FetchedNothing,
    /// An anchor and the objects behind it gave the position.
    Walked,
    /// The objects behind the anchor moved the position.
    WalkedOverObjects,
    /// An anchor was written.
    Anchored,
    /// An anchor went back, because a zombie wrote it.
    AnchoredBack,
    /// Records without anything visible were passed over.
    PassedOver,
    /// An upload was opened.
    UploadOpened,
    /// A window closed.
    Closed,
    /// A window closed that lacks what retention took.
    ClosedWithGap,
    /// The first key was free.
    CheckedFree,
    /// The first key was taken by the lane's own object.
    CheckedTaken,
    /// An intent was accepted.
    Pinned,
    /// An intent was accepted and nobody was told.
    PinnedUnheard,
    /// An intent was accepted again: another upload, more that is missing, or a renewal.
    PinnedAgain,
    /// An intent was refused.
    PinRefused,
    /// An intent was renewed before the next request, because the deadline had passed.
    PinRenewed,
    /// The group heard what is durable.
    Tidied,
    /// It heard it and nobody was told.
    TidiedUnheard,
    /// A tidy was refused.
    TidyRefused,
    /// A commit with the generation before was refused although the lane had stayed.
    CommitRefusedOnce,
    /// The next pin carried what is durable.
    PinCarriedTidy,
    /// A PUT went out.
    PutSent,
    /// A Complete went out.
    CompleteSent,
    /// A zombie sent it.
    SentByZombie,
    /// A request was answered with success.
    Published,
    /// The guard refused it.
    GuardRefused,
    /// A request was answered with success and had written over an object.
    PublishedOver,
    /// A Complete of a completed upload was answered with success or not at all.
    CompleteRepeated,
    /// A Complete found no upload.
    NoSuchUpload,
    /// An answer was lost.
    AnswerLost,
    /// A request was denied.
    Denied,
    /// A request was in conflict with another.
    Conflicted,
    /// HEAD was denied.
    HeadDenied,
    /// After a failure, the range was found to stand.
    LookedOurs,
    /// After a failure, another end was found.
    LookedOtherEnd,
    /// After a failure nothing was found, and the request is sent again.
    LookedAbsent,
    /// After a failure nothing was found and the upload is gone: the range is read again.
    LookedRebuild,
    /// An intent that was read is found to stand.
    RecoveredOurs,
    /// An intent that was read is found to stand with another end.
    RecoveredOtherEnd,
    /// Nothing stands under the key of an intent that was read.
    RecoveredAbsent,
    /// A stale upload was aborted.
    StaleAborted,
    /// And by a zombie.
    StaleAbortedByZombie,
    /// An intent's upload is whole.
    PartsWhole,
    /// An intent's upload is gone.
    PartsGone,
    /// An intent's upload seemed to lack parts.
    PartsShort,
    /// The object of an upload that was gone appeared.
    GoneFound,
    /// It did not.
    GoneAbsent,
    /// A range was read again in full.
    ReadAgain,
    /// A range was read again from a compacted log.
    ReadAgainCompacted,
    /// A range was read again in full while the intent's upload could still be completed.
    ReadAgainBesideUpload,
    /// Kafka had lost a part of a pinned range.
    ReadAgainLess,
    /// And the intent's upload, which could still be completed, was aborted.
    UploadGivenUp,
    /// Who was about to do so had lost the lane, and was refused.
    GiveUpRefused,
    /// A full copy appeared before less was published.
    OutwaitFound,
    /// None did.
    OutwaitAbsent,
    /// Behind an atomic guard, the object of a Complete that was taken appeared before less was published.
    OutwaitFoundBehindGuard,
    /// None did.
    OutwaitAbsentBehindGuard,
    /// A lane that had been refused a commit started again.
    Restarted,
}

/// How often each event was seen.
#[derive(Debug)]
pub struct Coverage([AtomicU64; Event::ALL.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Coverage {
    /// Counts an event.
    pub fn count(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often an event was seen.
    pub fn of(&self, event: Event) -> u64 {
        self.0[event as usize].load(Ordering::Relaxed)
    }
}
