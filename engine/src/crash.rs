//! Crash points: named places in the commit protocol at which a test lets the process die, or fall asleep.
//!
//! [`point`] and [`soon`] stand between the steps of the protocol. Without the feature `crash-points` they are empty constant functions: the
//! `catchment` binary that is shipped has none, and its environment cannot arm any. With it they belong to `catchment-crashing`, an
//! example with the same command line that only tests build: it stands beside the binaries of the same target directory, needs no dependency of its own,
//! is never installed and never taken for the shipped one.
//!
//! `CATCHMENT_CRASH=<point>:<n>` kills the process by SIGKILL at the nth passage of the point, counted over all lanes: nothing is unwound,
//! flushed or sent any more. `CATCHMENT_CRASH=<point>:<n>:stop` stops it by SIGSTOP instead; after SIGCONT it goes on as if nothing had been.
//!
//! Two more variables, in such a build alone, make what it stands in small enough for hundreds of kills: the size of a part (`small_parts`), and
//! how long a Complete is waited for that may show late (`short_wait`).
//!
//! What it does not do: choose the moment within a request. A point called `...-sent` is passed just before its request is made, and the signal comes
//! within the next milliseconds, so that the request may have been sent, done and answered, or none of it.

#[cfg(feature = "crash-points")]
mod armed;
#[cfg(feature = "crash-points")]
mod short_wait;
#[cfg(feature = "crash-points")]
mod small_parts;

#[cfg(not(feature = "crash-points"))]
use std::time::Duration;

#[cfg(feature = "crash-points")]
pub use armed::{point, soon};
#[cfg(feature = "crash-points")]
pub(crate) use short_wait::wait_of_env as complete_wait;
#[cfg(feature = "crash-points")]
pub(crate) use small_parts::with_parts_of_env as store;

/// Makes the points from one list, so that none is without a name or out of order.
macro_rules! points {
    ($($(#[doc = $doc:literal])+ $point:ident = $name:literal,)+) => {
        /// A place in the protocol, in the order in which a lane passes them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Point {
            $($(#[doc = $doc])+ $point,)+
        }

        impl Point {
            /// Every point.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// Its name in `CATCHMENT_CRASH`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// A topic's directory is free, and nothing says yet whose it is.
    BeforeClaim = "before-claim",
    /// The topic's owner record stands.
    AfterClaim = "after-claim",
    /// R1: the group has said what it knows of the lane.
    AfterFetch = "after-fetch",
    /// The lane's start is known, the group has no offset.
    BeforeStartCommit = "before-start-commit",
    /// The group has the lane's start.
    AfterStartCommit = "after-start-commit",
    /// An anchor is due.
    BeforeAnchor = "before-anchor",
    /// The anchor stands.
    AfterAnchor = "after-anchor",
    /// R2: the key of the first pin was not looked at.
    BeforeFirstLook = "before-first-look",
    /// The key of the first pin is free.
    AfterFirstLook = "after-first-look",
    /// The parts of a window are to become an upload.
    BeforeCreateUpload = "before-create-upload",
    /// An upload is open and has no parts.
    AfterCreateUpload = "after-create-upload",
    /// A part is on its way.
    PartSent = "part-sent",
    /// A part is stored.
    AfterPart = "after-part",
    /// Step 3: the window is encoded, all its parts are stored.
    BeforePin = "before-pin",
    /// The pin is on its way.
    PinSent = "pin-sent",
    /// The group has the intent.
    AfterPin = "after-pin",
    /// The window is pinned, and its object will not say of itself what it is.
    BeforeRecord = "before-record",
    /// The record that says it stands.
    AfterRecord = "after-record",
    /// Step 4: pinned, not published.
    BeforePublish = "before-publish",
    /// The request that makes the object visible is on its way.
    PublishSent = "publish-sent",
    /// The request was answered.
    AfterPublish = "after-publish",
    /// Step 5: the answer does not tell whether the object stands.
    BeforeLook = "before-look",
    /// What stands under the key is known.
    AfterLook = "after-look",
    /// Step 6: the object stands, the group does not know.
    BeforeTidy = "before-tidy",
    /// The group knows.
    AfterTidy = "after-tidy",
    /// A process that ends has an anchor to write.
    BeforeLastAnchor = "before-last-anchor",
    /// R3: an intent was found.
    BeforeIntentLook = "before-intent-look",
    /// R4: its object stands.
    BeforeAdopt = "before-adopt",
    /// The group knows that it stands.
    AfterAdopt = "after-adopt",
    /// R5a: its upload may lack only its Complete.
    BeforeListParts = "before-list-parts",
    /// All its parts are there.
    BeforeLateComplete = "before-late-complete",
    /// Its object stands.
    AfterLateComplete = "after-late-complete",
    /// R5b: its range is to be read again.
    BeforeReadAgain = "before-read-again",
    /// R5c: the upload that the intent names is to be aborted, before less is published.
    BeforeGiveUp = "before-give-up",
    /// What could still be on its way has landed or died.
    AfterOutwait = "after-outwait",
    /// Its range was read again, and is to be published.
    BeforeRepublish = "before-republish",
    /// The range that was read again stands.
    AfterRepublish = "after-republish",
    /// The upload that the intent named first is of no use any more.
    BeforeAbortReplaced = "before-abort-replaced",
}

/// Marks a place. Nothing without the feature.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub const fn point(_: Point) {}

/// Marks the moment before a request. Nothing without the feature.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub const fn soon(_: Point) {}

/// How long a Complete is waited for: as long as it is to be. Without the feature.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) const fn complete_wait(longest: Duration) -> Duration {
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_kebab_case() {
        let mut names: Vec<&str> = Point::ALL.iter().map(|p| p.name()).collect();
        assert!(names.iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '-')), "{names:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
