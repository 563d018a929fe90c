//! The protocol with one guard less. Each mutant must break a property in some class, or its guard is not needed.

/// A guard that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// Nothing is pinned.
    NoPin,
    /// The coordinator takes commits of any generation.
    NoFence,
    /// The object is published, then pinned.
    PublishBeforePin,
    /// The object is published while the pin is on its way.
    AsynchronousPin,
    /// Recovery closes the intent's range where it likes.
    NewEnd,
    /// Recovery computes the intent's key anew.
    NewKey,
    /// An object under the key is taken for the pinned range without a comparison.
    AdoptWithoutCompare,
    /// The group hears that a range is durable when it has been sent.
    TidyBeforeSettle,
    /// A revoked lane's upload finishes, and its tidy is sent.
    TidyOfDeadLane,
    /// A revoked lane goes on in all.
    PinOfDeadLane,
    /// The key of the first pin is not looked at.
    NoFirstLook,
    /// Less is published without waiting for a full copy that may be on its way.
    NoWait,
    /// Behind an atomic guard, less is published without waiting for a Complete that the store has taken.
    NoWaitBehindGuard,
    /// The upload of a pinned window is given up without asking the group first.
    GiveUpUnasked,
    /// Less is published while the upload of the pinned window can still be completed.
    KeepUpload,
    /// Less is published without pinning first what is missing.
    LessWithoutPin,
    /// A request is sent under a pin that is older than the deadline.
    NoRenewal,
    /// Uploads are aborted however young they are.
    AbortYoung,
    /// A request whose answer was lost counts as done.
    UnknownIsDone,
    /// A Complete of an upload that is gone counts as done.
    GoneIsDone,
    /// A recovery that finds the intent's upload gone reads the range again at once.
    NoLookAgain,
    /// A recovery completes the intent's upload by the parts that are listed, whatever was pinned.
    AnyParts,
    /// 403 to a HEAD counts as absent.
    DeniedIsAbsent,
    /// The daily commit of an idle lane is made while an intent is open, too.
    RecommitOverIntent,
    /// A lane that the group knows nothing of starts where the log does.
    StartAtLogStart,
    /// A lane that was refused a commit and is still assigned does not start again.
    NoRestart,
    /// A request of unknown outcome that had no effect is not sent again.
    NoRepeat,
}

impl Mutant {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::NoPin,
        Self::NoFence,
        Self::PublishBeforePin,
        Self::AsynchronousPin,
        Self::NewEnd,
        Self::NewKey,
        Self::AdoptWithoutCompare,
        Self::TidyBeforeSettle,
        Self::TidyOfDeadLane,
        Self::PinOfDeadLane,
        Self::NoFirstLook,
        Self::NoWait,
        Self::NoWaitBehindGuard,
        Self::GiveUpUnasked,
        Self::KeepUpload,
        Self::LessWithoutPin,
        Self::NoRenewal,
        Self::AbortYoung,
        Self::UnknownIsDone,
        Self::GoneIsDone,
        Self::NoLookAgain,
        Self::AnyParts,
        Self::DeniedIsAbsent,
        Self::RecommitOverIntent,
        Self::StartAtLogStart,
        Self::NoRestart,
        Self::NoRepeat,
    ];

    /// What it does, for reports.
    pub fn does(self) -> &'static str {
        match self {
            Self::NoPin => "Nothing is pinned",
            Self::NoFence => "The coordinator takes commits of any generation",
            Self::PublishBeforePin => "The object is published, then pinned",
            Self::AsynchronousPin => "The object is published while the pin is on its way",
            Self::NewEnd => "Recovery closes the intent's range where it likes",
            Self::NewKey => "Recovery computes the intent's key anew",
            Self::AdoptWithoutCompare => "An object under the key is taken for the pinned range without a comparison",
            Self::TidyBeforeSettle => "The group hears that a range is durable when it has been sent",
            Self::TidyOfDeadLane => "A revoked lane's upload finishes, and its tidy is sent",
            Self::PinOfDeadLane => "A revoked lane goes on in all",
            Self::NoFirstLook => "The key of the first pin is not looked at",
            Self::NoWait => "Less is published without waiting for a full copy that may be on its way",
            Self::NoWaitBehindGuard => "Behind an atomic guard, less is published without waiting for a Complete that was taken",
            Self::GiveUpUnasked => "A pinned upload is given up without asking the group first",
            Self::KeepUpload => "Less is published while the pinned upload can still be completed",
            Self::LessWithoutPin => "Less is published without pinning first what is missing",
            Self::NoRenewal => "A request is sent under a pin that is older than the deadline",
            Self::AbortYoung => "Uploads are aborted however young they are",
            Self::UnknownIsDone => "A request whose answer was lost counts as done",
            Self::GoneIsDone => "A Complete of an upload that is gone counts as done",
            Self::NoLookAgain => "A pinned upload that is gone is replaced without a wait for its object",
            Self::AnyParts => "A pinned upload is completed by whatever parts are listed",
            Self::DeniedIsAbsent => "403 to a HEAD counts as absent",
            Self::RecommitOverIntent => "The daily commit of an idle lane is made while an intent is open, too",
            Self::StartAtLogStart => "A lane that the group knows nothing of starts where the log does",
            Self::NoRestart => "A lane that was refused a commit and is still assigned does not start again",
            Self::NoRepeat => "A request of unknown outcome that had no effect is not sent again",
        }
    }
}
