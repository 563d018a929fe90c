//! Bounded settings: each is explored to exhaustion, and together they hold what the protocol must stand.

use catchment::store::GuardClass;

use super::state::{Faults, Offset};

/// One bounded world.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in reports.
    pub name: &'static str,
    /// Instances of the program.
    pub workers: u8,
    /// Partitions, at most two.
    pub lanes: u8,
    /// Where every lane's log ends; it starts at 0.
    pub log_end: Offset,
    /// Offsets that hold control or aborted records, as bits.
    pub invisible: u8,
    /// What the guard of PutObject is worth.
    pub put: GuardClass,
    /// What the guard of CompleteMultipartUpload is worth.
    pub complete: GuardClass,
    /// Whether a Complete of an upload that was completed is answered with success, as by AWS; else there is no such upload, as with COS and MinIO.
    pub repeats_complete: bool,
    /// How windows are published.
    pub windows: Windows,
    /// Whether a rebalance leaves lanes where they are (cooperative, KIP-848), or revokes all (eager).
    pub cooperative: bool,
    /// What may go wrong, and how often.
    pub faults: Faults,
}

/// How windows are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// By one PutObject.
    Put,
    /// By a multipart upload.
    Multipart,
    /// By either; what is left of a range that retention has passed is small, and goes by PutObject.
    Mixed,
}

impl Setting {
    /// Two workers, one lane of two records, single PUTs, no faults.
    pub const PLAIN: Self = Self {
        name: "plain",
        workers: 2,
        lanes: 1,
        log_end: 2,
        invisible: 0,
        put: GuardClass::A,
        complete: GuardClass::A,
        repeats_complete: true,
        windows: Windows::Put,
        cooperative: false,
        faults: Faults {
            crashes: 0,
            pauses: 0,
            errors: 0,
            outages: 0,
            compactions: 0,
            retentions: 0,
            expiries: 0,
            regressions: 0,
            lost_uploads: 0,
            short_lists: 0,
        },
    };

    /// The same in a store of this class, with the manners of most of them: those with an atomic guard are like AWS.
    #[must_use]
    pub const fn in_class(self, class: GuardClass) -> Self {
        Self { put: class, complete: class, repeats_complete: matches!(class, GuardClass::A), ..self }
    }

    /// Whether both guards are atomic.
    pub fn has_atomic_guards(&self) -> bool {
        self.put == GuardClass::A && self.complete == GuardClass::A
    }

    /// Whether an offset holds a record that readers see.
    pub fn is_visible(&self, offset: Offset) -> bool {
        self.invisible & (1 << offset) == 0
    }

    /// Whether any offset of `[from, to)` holds a record that readers see.
    pub fn has_visible(&self, from: Offset, to: Offset) -> bool {
        (from..to).any(|offset| self.is_visible(offset))
    }
}
