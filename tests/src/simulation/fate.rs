//! What becomes of one request to the store, as chance and the weather have it: nothing unusual, or one fault.
//!
//! Place in the flow: drawn when a request leaves; [`store`](super::store) plays it. Reads are repeated without harm and fail in few ways; what makes an
//! object visible fails in all.

use std::time::Duration;

use catchment::store::{StoreError, StoreErrorKind};

use super::faults::Fault;
use super::plan::LATE_MAX;
use super::world::World;

/// What a request is to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Changes nothing.
    Read,
    /// May be repeated without harm.
    Idempotent,
    /// Makes an object visible.
    Publish,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) fault: Option<Fault>,
    /// On the way there.
    pub(super) before: Duration,
    pub(super) effect: bool,
    /// Once more, so long after the first time.
    pub(super) again: Option<Duration>,
    /// On the way back.
    pub(super) after: Duration,
    /// What the sender is told instead of the answer.
    pub(super) told: Option<(StoreErrorKind, &'static str)>,
    /// Whether the sender is told before the effect.
    pub(super) told_first: bool,
}

impl Fate {
    /// Drawn for a request of this kind that leaves now.
    pub(super) fn of(world: &World, kind: Kind) -> Self {
        let quick = |low, high| world.between(Duration::from_millis(low), Duration::from_millis(high));
        let mut fate =
            Fate { fault: None, before: quick(1, 40), effect: true, again: None, after: quick(1, 20), told: None, told_first: false };
        if let Some(fault) = world.weather() {
            let told = match fault {
                Fault::Denied => (StoreErrorKind::Denied, "403"),
                Fault::ClockJumped => (StoreErrorKind::Denied, "403 RequestTimeTooSkewed"),
                _ => (StoreErrorKind::Unknown, "refused"),
            };
            return Fate { fault: Some(fault), effect: false, told: Some(told), ..fate };
        }
        if !world.strikes(world.plan.store_faults) {
            return fate;
        }
        let faults: &[Fault] = match kind {
            Kind::Read => &[Fault::Throttled, Fault::ServerError, Fault::Slow, Fault::ResetBefore],
            Kind::Idempotent => &[Fault::Throttled, Fault::ServerError, Fault::Slow, Fault::ResetBefore, Fault::ResetAfter],
            Kind::Publish => &[
                Fault::Throttled,
                Fault::ServerError,
                Fault::ServerErrorAfter,
                Fault::Slow,
                Fault::ResetBefore,
                Fault::ResetAfter,
                Fault::Late,
                Fault::Twice,
                Fault::ErrorBody,
            ],
        };
        let fault = faults[world.below(faults.len() as u64) as usize];
        let later = || world.between(Duration::from_secs(1), LATE_MAX);
        fate.fault = Some(fault);
        match fault {
            Fault::Throttled => (fate.effect, fate.told) = (false, Some((StoreErrorKind::Unknown, "503 SlowDown"))),
            Fault::ServerError => (fate.effect, fate.told) = (false, Some((StoreErrorKind::Unknown, "500"))),
            Fault::ResetBefore => (fate.effect, fate.told) = (false, Some((StoreErrorKind::Unknown, "reset"))),
            Fault::ErrorBody => (fate.effect, fate.told) = (false, Some((StoreErrorKind::Unknown, "200 with an error"))),
            Fault::ServerErrorAfter => fate.told = Some((StoreErrorKind::Unknown, "500")),
            Fault::ResetAfter => fate.told = Some((StoreErrorKind::Unknown, "reset")),
            Fault::Slow => fate.before = world.between(Duration::from_secs(5), Duration::from_secs(120)),
            Fault::Late => (fate.before, fate.told, fate.told_first) = (later(), Some((StoreErrorKind::Unknown, "reset")), true),
            Fault::Twice => fate.again = Some(later()),
            _ => unreachable!("{fault:?} is not a fault of one request"),
        }
        fate
    }

    /// What the sender is told instead of the answer.
    pub(super) fn error(self, op: &'static str, key: &str) -> StoreError {
        let (kind, detail) = self.told.unwrap_or((StoreErrorKind::Unknown, "no answer"));
        StoreError::new(kind, op, key, detail)
    }
}
