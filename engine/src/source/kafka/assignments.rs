//! The lanes that the group has assigned to this member, and the events that tell the pipeline about them.
//!
//! Shared between the rebalance callback (which makes and kills leases), the committer (which kills those whose commit the
//! coordinator refused) and the control thread (which hands the events out). Nothing here waits for the pipeline: events wait in a
//! list, whose length is bounded by the number of rebalances that the pipeline lags behind.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::lane::LaneLease;
use crate::source::{GroupEvent, TopicPartition};

use super::deadline::Deadline;

/// How long after a refused commit a partition that is still assigned gets a new lease. Long enough for the revocation that usually
/// follows (a heartbeat interval is 3 s), short enough not to be missed by an operator.
const RENEWAL_DELAY: Duration = Duration::from_secs(5);

/// Rises with every assignment in this process, whatever the group.
static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);

#[derive(Debug, Default)]
struct State {
    held: HashMap<TopicPartition, Held>,
    events: VecDeque<GroupEvent>,
}

#[derive(Debug)]
struct Held {
    lease: Arc<LaneLease>,
    /// Set when the coordinator refused a commit of the lease.
    renewal: Option<Deadline>,
}

/// What is assigned, and what the pipeline has not been told yet.
#[derive(Debug, Default)]
pub(crate) struct Assignments(Mutex<State>);

impl Assignments {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a living lease for each partition and the event that says so. A partition that was held already gets a new one.
    pub(crate) fn assign(&self, partitions: Vec<TopicPartition>) {
        // A lease is killed outside the lock: that may wait for a commit, and the committer takes this lock after one.
        let older: Vec<_> = {
            let mut state = self.state();
            partitions.iter().filter_map(|tp| state.held.remove(tp)).collect()
        };
        older.iter().for_each(|h| h.lease.kill());
        let mut state = self.state();
        let leases: Vec<_> = partitions
            .into_iter()
            .map(|tp| {
                let lease = Arc::new(LaneLease::new(tp.clone(), NEXT_EPOCH.fetch_add(1, Ordering::Relaxed)));
                state.held.insert(tp, Held { lease: Arc::clone(&lease), renewal: None });
                lease
            })
            .collect();
        state.events.push_back(GroupEvent::Assigned(leases));
    }

    /// Kills the leases of the partitions. Returns once no commit of theirs is under way.
    pub(crate) fn revoke(&self, partitions: &[TopicPartition]) {
        let gone: Vec<_> = {
            let mut state = self.state();
            partitions.iter().filter_map(|tp| state.held.remove(tp)).collect()
        };
        gone.iter().for_each(|h| h.lease.kill());
    }

    /// As [`revoke`](Self::revoke), for all.
    pub(crate) fn revoke_all(&self) {
        let gone = std::mem::take(&mut self.state().held);
        gone.values().for_each(|h| h.lease.kill());
    }

    /// Kills every lease and says that the client cannot go on.
    pub(crate) fn fail(&self, error: Error) {
        self.revoke_all();
        self.state().events.push_back(GroupEvent::Fatal(error));
    }

    /// The coordinator refused a commit of this lease: it dies. If its partition stays assigned, a new one follows.
    pub(crate) fn refuse(&self, lease: &Arc<LaneLease>) {
        lease.kill();
        if let Some(held) = self.state().held.get_mut(&lease.tp).filter(|h| Arc::ptr_eq(&h.lease, lease)) {
            held.renewal = Some(Deadline::after(RENEWAL_DELAY));
        }
    }

    /// Makes new leases for partitions that were refused and not revoked since. No callback comes for those.
    pub(crate) fn renew(&self) {
        let due: Vec<_> = {
            let state = self.state();
            state.held.iter().filter(|(_, h)| h.renewal.is_some_and(|d| d.has_passed())).map(|(tp, _)| tp.clone()).collect()
        };
        if !due.is_empty() {
            self.assign(due);
        }
    }

    /// Hands out events until `take` gives one back.
    pub(crate) fn hand_out(&self, mut take: impl FnMut(GroupEvent) -> Result<(), GroupEvent>) {
        let mut state = self.state();
        while let Some(event) = state.events.pop_front() {
            if let Err(event) = take(event) {
                state.events.push_front(event);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition { topic: Arc::from("t"), partition }
    }

    fn assigned(assignments: &Assignments) -> Vec<Arc<LaneLease>> {
        let mut all = Vec::new();
        assignments.hand_out(|event| {
            if let GroupEvent::Assigned(leases) = event {
                all.extend(leases);
            }
            Ok(())
        });
        all
    }

    #[test]
    fn epochs_rise_and_revocation_kills() {
        let a = Assignments::default();
        a.assign(vec![tp(0), tp(1)]);
        let first = assigned(&a);
        assert!(first[0].lock().is_some() && first[1].epoch > first[0].epoch);
        a.revoke(&[tp(0), tp(7)]);
        assert!(first[0].lock().is_none() && first[1].lock().is_some());
        a.assign(vec![tp(0), tp(1)]);
        let second = assigned(&a);
        assert!(first[1].lock().is_none(), "an older lease of a partition dies with a new one");
        assert!(second.iter().all(|l| l.lock().is_some() && l.epoch > first[1].epoch));
        a.revoke_all();
        assert!(second.iter().all(|l| l.lock().is_none()));
    }

    #[test]
    fn a_refused_lease_is_renewed_only_while_assigned() {
        let a = Assignments::default();
        a.assign(vec![tp(0), tp(1)]);
        let leases = assigned(&a);
        leases.iter().for_each(|l| a.refuse(l));
        assert!(leases.iter().all(|l| l.lock().is_none()));
        a.revoke(&[tp(1)]);
        a.renew();
        assert!(assigned(&a).is_empty(), "not before the delay");
        a.state().held.get_mut(&tp(0)).unwrap().renewal = Some(Deadline::after(Duration::ZERO));
        a.renew();
        let renewed = assigned(&a);
        assert_eq!(renewed.len(), 1);
        assert!(renewed[0].tp == tp(0) && renewed[0].lock().is_some());
    }

    #[test]
    fn an_event_that_is_given_back_stays_first() {
        let a = Assignments::default();
        a.assign(vec![tp(0)]);
        a.assign(vec![tp(1)]);
        a.hand_out(Err);
        assert_eq!(assigned(&a).iter().map(|l| l.tp.partition).collect::<Vec<_>>(), [0, 1]);
    }
}
