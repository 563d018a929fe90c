//! Switches that each take one guard out of the production code, to show that a test sees it missing.
//!
//! Without the feature `sabotage`, which no shipped build has, [`removes`] is a constant false and nothing is left of it in the program. With it,
//! `CATCHMENT_SABOTAGE` names at most one switch for the life of the process. The proof harness runs its layers once for each.

/// A guard that can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Step 3: a window is published without an intent in the group.
    Pin,
    /// Step 3 before step 4: the object is sent before the intent.
    PinFirst,
    /// Rule R6 for a pin that is old: it is not repeated before the object is sent again.
    OldPin,
    /// Step 5: an answer that tells nothing is taken for success.
    UnknownAnswer,
    /// Step 5: "it exists" is taken for success without a look at what exists.
    Comparison,
    /// Step 6 after step 5: the group learns of an object before it is durable.
    TidyLast,
    /// Step 6: the offset is that of the last record, not the one behind it.
    OffsetBehind,
    /// Rule A5: leader epochs are not asked for.
    LeaderEpoch,
    /// The topic's UUID is not asked for before a pin.
    TopicIdentity,
    /// Rule R2: the first key of an assignment is not looked at.
    FirstLook,
    /// Rule R2: what retention took is read over.
    RetentionGap,
    /// Rule R5b: recovery reads on and closes its windows anew, instead of reading the pinned range.
    PinnedRange,
    /// The last block of a window goes missing.
    WindowTail,
    /// librdkafka does not check the CRC of batches.
    BatchChecksum,
    /// Records of aborted transactions are read.
    Committed,
    /// Step 5: an upload that is gone is taken for completed.
    GoneUpload,
    /// Rule R5c: less than was pinned is published without waiting for a full copy that may be on its way.
    FullCopy,
    /// Rule R5c: the group is not asked whose the lane is before the upload that its intent names is aborted.
    GiveUpUnasked,
    /// Rules R5a and R5c behind an atomic guard: a Complete that the store may have taken is not waited for.
    WaitBehindGuard,
    /// Rule A1: a lane that was revoked gives the right to commit.
    LaneLock,
    /// A position that the log no longer has begins anew at the log's start, by the client's own reset.
    Reset,
}

impl Switch {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 21] = [
        ("pin", Self::Pin),
        ("pin-first", Self::PinFirst),
        ("old-pin", Self::OldPin),
        ("unknown-answer", Self::UnknownAnswer),
        ("comparison", Self::Comparison),
        ("tidy-last", Self::TidyLast),
        ("offset-behind", Self::OffsetBehind),
        ("leader-epoch", Self::LeaderEpoch),
        ("topic-identity", Self::TopicIdentity),
        ("first-look", Self::FirstLook),
        ("retention-gap", Self::RetentionGap),
        ("pinned-range", Self::PinnedRange),
        ("window-tail", Self::WindowTail),
        ("batch-checksum", Self::BatchChecksum),
        ("committed", Self::Committed),
        ("gone-upload", Self::GoneUpload),
        ("full-copy", Self::FullCopy),
        ("give-up-unasked", Self::GiveUpUnasked),
        ("wait-behind-guard", Self::WaitBehindGuard),
        ("lane-lock", Self::LaneLock),
        ("reset", Self::Reset),
    ];
}

/// Whether this guard is taken out of this process.
#[inline(always)]
pub fn removes(switch: Switch) -> bool {
    chosen() == Some(switch)
}

/// Whether any guard is.
#[inline(always)]
pub fn is_on() -> bool {
    chosen().is_some()
}

#[cfg(not(feature = "sabotage"))]
#[inline(always)]
const fn chosen() -> Option<Switch> {
    None
}

/// # Panics
/// If the variable names no switch: a test that takes nothing out would prove nothing.
#[cfg(feature = "sabotage")]
fn chosen() -> Option<Switch> {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<Switch>> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("CATCHMENT_SABOTAGE").ok()?;
        let found = Switch::ALL.iter().find(|(known, _)| *known == name);
        Some(found.unwrap_or_else(|| panic!("CATCHMENT_SABOTAGE: there is no switch {name:?}")).1)
    })
}
