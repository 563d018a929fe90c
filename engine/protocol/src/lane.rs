//! The life of a lane: one partition of one rule, from an assignment to its revocation.
//!
//! Rule A1 of the commit protocol: every OffsetCommit of a lane is made under its lock and only while it lives, and the revoke
//! callback takes that lock and kills the lane before the member answers the rebalance. [`LaneLease`] is that lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::position::TopicPartition;
use crate::sabotage::{Switch, removes};

/// A lane's right to commit. Made at an assignment, dead for good after the revocation.
#[derive(Debug)]
pub struct LaneLease {
    /// The partition.
    pub tp: TopicPartition,
    /// Rises with every assignment in this process; work that carries an older one is dropped.
    pub epoch: u64,
    alive: Mutex<bool>,
    revoked: watch::Sender<bool>,
}

/// Proof that a lane lives: while this is held, it cannot be revoked.
#[derive(Debug)]
pub struct AliveGuard<'a>(#[expect(dead_code, reason = "held for its lifetime")] MutexGuard<'a, bool>);

impl LaneLease {
    /// A living lane.
    pub fn new(tp: TopicPartition, epoch: u64) -> Self {
        Self { tp, epoch, alive: Mutex::new(true), revoked: watch::Sender::new(false) }
    }

    /// Takes the lock if the lane lives. Blocks while another holder has it.
    pub fn lock(&self) -> Option<AliveGuard<'_>> {
        let guard = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        (*guard || removes(Switch::LaneLock)).then_some(AliveGuard(guard))
    }

    /// Kills the lane. Returns once no commit of it is under way; none will ever be sent again.
    pub fn kill(&self) {
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.revoked.send_replace(true);
    }

    /// Whether the lane lived a moment ago. Good for dropping work early, never for deciding to commit.
    pub fn seems_alive(&self) -> bool {
        !*self.revoked.borrow()
    }

    /// Waits until the lane is dead.
    pub async fn dead(&self) {
        let mut revoked = self.revoked.subscribe();
        // The sender lives as long as `self`, so waiting can only end with the value.
        let _ = revoked.wait_for(|dead| *dead).await;
    }
}

/// The lanes of a process that live. A lane that was revoked may still have a task that comes to its end; the partition's next one would count twice.
#[derive(Debug, Default)]
pub struct LivingLanes(Vec<Arc<LaneLease>>);

impl LivingLanes {
    /// These were assigned as well. How many live now.
    pub fn add(&mut self, leases: &[Arc<LaneLease>]) -> usize {
        self.0.extend(leases.iter().cloned());
        self.0.retain(|lease| lease.seems_alive());
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> LaneLease {
        LaneLease::new(TopicPartition { topic: "orders".into(), partition: 0 }, 1)
    }

    #[tokio::test]
    async fn a_killed_lane_gives_no_right_to_commit() {
        let lease = lease();
        assert!(lease.seems_alive() && lease.lock().is_some() && lease.lock().is_some(), "a right that was given back can be taken again");
        lease.kill();
        assert!(!lease.seems_alive() && lease.lock().is_none());
        lease.dead().await;
    }

    #[test]
    fn a_commit_under_way_holds_the_revocation() {
        let lease = Arc::new(lease());
        let right = lease.lock().expect("it lives");
        let killer = std::thread::spawn({
            let lease = Arc::clone(&lease);
            move || lease.kill()
        });
        assert!(lease.seems_alive(), "nothing is revoked while the lock is held");
        drop(right);
        killer.join().expect("it does not panic");
        assert!(lease.lock().is_none());
    }

    #[test]
    fn lanes_that_are_assigned_again_count_once() {
        let mut living = LivingLanes::default();
        let first: Vec<_> = (0..3).map(|_| Arc::new(lease())).collect();
        assert_eq!(living.add(&first), 3);
        first[1..].iter().for_each(|lease| lease.kill());
        let again: Vec<_> = (0..3).map(|_| Arc::new(lease())).collect();
        assert_eq!(living.add(&again), 4, "one was kept, and three have come");
        assert_eq!(living.add(&[]), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_death_waits_for_the_kill() {
        let lease = lease();
        let early = tokio::time::timeout(std::time::Duration::from_secs(60), lease.dead()).await;
        assert!(early.is_err(), "it lives");
        lease.kill();
        lease.dead().await;
    }
}
