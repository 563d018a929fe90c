//! Instances that are caught in a phase of a window and frozen there.

use std::collections::BTreeSet;
use std::time::Duration;

use super::bed::Bed;
use crate::phases::{Note, Phase};
use crate::s3::{FaultRule, Op};

/// How late a request may take effect whose client fell asleep, in milliseconds: longer than a session and a recovery.
pub(super) const LATE_MS: u64 = 18_000;

/// How an instance is caught in its sleep.
#[derive(Clone, Copy, Debug)]
pub enum Sleep {
    /// With an open window: it wakes, seals it and wants to pin it.
    Open,
    /// With half of a pinned window sent: it wakes and sends the rest.
    HalfSent,
    /// With the whole of a pinned window under way, if it is small: it takes effect when another instance has long finished the window.
    UnderWay,
    /// With a window that is visible and an answer that comes in its sleep.
    Published,
}

impl Sleep {
    fn phase(self) -> Phase {
        match self {
            Self::Open => Phase::Open,
            Self::HalfSent | Self::UnderWay => Phase::Pinned,
            Self::Published => Phase::Published,
        }
    }

    /// What is done to the one request of the lane that is caught; all others pass.
    fn rule(self, bed: &Bed, lane: i32) -> Vec<FaultRule> {
        let one = FaultRule { op: Some(Op::PutObject), key: Some(bed.watch.file_name(lane)), count: Some(1), ..FaultRule::default() };
        match self {
            Self::Open => vec![],
            Self::HalfSent => vec![FaultRule { body_rate: Some(6 << 20), ..one }],
            Self::UnderWay => vec![FaultRule { before_ms: LATE_MS, ..one }],
            Self::Published => vec![FaultRule { after_ms: 3_000, ..one }],
        }
    }
}

impl Bed {
    /// Freezes the owner of the lane when it is where `sleep` wants it. None if it was not caught there.
    pub(super) fn freeze(&mut self, sleep: Sleep, lane: i32) -> Option<(usize, Note)> {
        let owner = self.await_owner(lane);
        self.store.set_rules(&sleep.rule(self, lane));
        let none = BTreeSet::new();
        let (note, _) = self.await_phase(sleep.phase(), lane, &none)?;
        self.instance(owner).freeze();
        std::thread::sleep(Duration::from_millis(150));
        let still = self.watch.note(lane);
        if still.as_ref() == Some(&note) && self.watch.phase(lane, still.as_ref(), &self.store.dump(), &none) == sleep.phase() {
            return Some((owner, note));
        }
        self.instance(owner).thaw();
        None
    }
}
