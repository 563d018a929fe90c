//! A consumer group of one member, in memory: it has all partitions for as long as it lives, and every commit is taken.
//!
//! Its place: beside the [synthetic source](crate::synthetic), where Kafka's coordinator would be. As there, a commit is made under its lane's lock
//! and only while the lane lives.
//!
//! What it does not do: nothing is refused, nothing takes time, and nothing is kept beyond the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catchment::Error;
use catchment::lane::LaneLease;
use catchment::source::{CommitError, Committed, Group, GroupEvent, TopicPartition};
use catchment::store::BoxFuture;
use tokio::sync::mpsc;

/// The member, and what its group knows.
#[derive(Debug)]
pub struct Member {
    committed: Mutex<BTreeMap<TopicPartition, Committed>>,
    /// Open for as long as the member lives: a pipeline ends when its group says nothing more.
    _events: mpsc::Sender<GroupEvent>,
}

impl Member {
    /// Joins, and is assigned these partitions.
    pub fn join(partitions: impl IntoIterator<Item = TopicPartition>) -> (Arc<Self>, mpsc::Receiver<GroupEvent>) {
        let (events, received) = mpsc::channel(1);
        let leases = partitions.into_iter().map(|tp| Arc::new(LaneLease::new(tp, 1))).collect();
        // There is room for one, and the receiver is at hand.
        let _ = events.try_send(GroupEvent::Assigned(leases));
        (Arc::new(Self { committed: Mutex::default(), _events: events }), received)
    }

    fn committed(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Committed>> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group for Member {
    fn fetch<'a>(&'a self, tp: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Committed>, Error>> {
        Box::pin(async move { Ok(self.committed().get(tp).cloned()) })
    }

    fn commit<'a>(&'a self, lane: &'a Arc<LaneLease>, commit: Committed) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(async move {
            let Some(_alive) = lane.lock() else { return Err(CommitError::LaneDead) };
            self.committed().insert(lane.tp.clone(), commit);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_lane_commits_and_a_dead_one_does_not() {
        let tp = TopicPartition { topic: "t".into(), partition: 0 };
        let (member, mut events) = Member::join([tp.clone()]);
        let Ok(GroupEvent::Assigned(lanes)) = events.try_recv() else { panic!("it has been assigned its partitions") };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let commit = |offset| {
            let commit = Committed { offset, leader_epoch: 0, metadata: "note".into() };
            runtime.block_on(member.commit(&lanes[0], commit))
        };
        assert_eq!(commit(5), Ok(()));
        lanes[0].kill();
        assert_eq!(commit(6), Err(CommitError::LaneDead));
        let known = runtime.block_on(member.fetch(&tp)).unwrap();
        assert_eq!(known.map(|known| known.offset), Some(5));
        assert_eq!(events.try_recv().err(), Some(mpsc::error::TryRecvError::Empty), "the group is not gone");
    }
}
