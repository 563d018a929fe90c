//! A story without chance of rule A1: a commit that waits in its client until its lane was revoked is not sent. Told by a test, and by an engine whose revoked
//! lanes give the right to commit.
//!
//! The lane's lock is the engine's; the client that asks for it is that of the tests ([`crate::scripted::member`]), which goes by it as the committer does
//! and by nothing else. The coordinator checks what Kafka's does: whoever is a member of the new generation may commit for any partition.

use std::sync::Arc;

use catchment::lane::LaneLease;
use catchment::source::{Committed, Group, GroupEvent, TopicPartition};
use tokio::sync::mpsc;

use super::on_simulated_time;
use crate::scripted::group::ScriptedGroup;
use crate::scripted::order::Order;

/// What is wrong in the end.
///
/// # Panics
/// If there is no runtime to be had, or the group does not work.
pub fn run() -> Vec<String> {
    on_simulated_time(story())
}

async fn story() -> Vec<String> {
    let (group, tp) = (ScriptedGroup::new(Order::default()), TopicPartition { topic: Arc::from("events"), partition: 0 });
    let (old, mut old_events) = group.join(None);
    let (new, mut new_events) = group.join(None);
    group.rebalance(&[(&old, vec![tp.clone()])]).await;
    let lane = lease(&mut old_events);
    old.commit(&lane, at(5)).await.expect("the lane lives");
    group.rebalance(&[(&new, vec![tp.clone()])]).await;
    new.commit(&lease(&mut new_events), at(9)).await.expect("its new owner's lives");
    // What had waited in the client of the old owner, which is a member still.
    let late = old.commit(&lane, at(7)).await;
    let offset = group.committed(&tp).map(|committed| committed.offset);
    if late.is_ok() || offset != Some(9) {
        return vec![format!("a commit of a lane that was revoked was accepted: the group's offset went from 9 to {offset:?}")];
    }
    Vec::new()
}

fn at(offset: i64) -> Committed {
    Committed { offset, leader_epoch: -1, metadata: String::new() }
}

/// The lease that was given last.
fn lease(events: &mut mpsc::Receiver<GroupEvent>) -> Arc<LaneLease> {
    let mut last = None;
    while let Ok(event) = events.try_recv() {
        if let GroupEvent::Assigned(leases) = event {
            last = leases.into_iter().next().or(last);
        }
    }
    last.expect("a partition was assigned")
}
