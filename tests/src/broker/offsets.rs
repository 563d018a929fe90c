//! What a group has committed, with its history: a script makes the group's state go back, or shows a commit late.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::scripted::order::Order;

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The next offset to read.
    pub offset: i64,
    /// The epoch of the record before it; -1 if it is not known.
    pub leader_epoch: i32,
    /// The metadata string.
    pub metadata: String,
}

/// A commit that was accepted.
#[derive(Clone, Debug)]
struct Accepted {
    /// When a fetch sees it.
    visible: Instant,
    /// When it was accepted, among all events of the test.
    order: u64,
    commit: Commit,
}

/// Commits of all partitions, in the order in which they were accepted.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    of: BTreeMap<(String, i32), Vec<Accepted>>,
    /// Numbers commits among the events of a test.
    pub order: Order,
}

impl Offsets {
    /// Takes a commit that is there from `visible` on.
    pub fn set(&mut self, topic: &str, partition: i32, commit: Commit, visible: Instant) {
        let accepted = Accepted { visible, order: self.order.next(), commit };
        self.of.entry((topic.to_owned(), partition)).or_default().push(accepted);
    }

    /// What a fetch sees now.
    pub fn get(&self, topic: &str, partition: i32) -> Option<&Commit> {
        let now = Instant::now();
        let commits = self.of.get(&(topic.to_owned(), partition))?;
        commits.iter().rev().find(|accepted| accepted.visible <= now).map(|accepted| &accepted.commit)
    }

    /// Everything that was accepted for a partition.
    pub fn history(&self, topic: &str, partition: i32) -> impl Iterator<Item = &Commit> {
        self.accepted(topic, partition).map(|(_, commit)| commit)
    }

    /// The same, with the number of each among the events of the test.
    pub fn accepted(&self, topic: &str, partition: i32) -> impl Iterator<Item = (u64, &Commit)> {
        let all = self.of.get(&(topic.to_owned(), partition)).into_iter().flatten();
        all.map(|accepted| (accepted.order, &accepted.commit))
    }

    /// The group's state goes back to before the last `commits` commits of a partition.
    pub fn go_back(&mut self, topic: &str, partition: i32, commits: usize) {
        if let Some(all) = self.of.get_mut(&(topic.to_owned(), partition)) {
            all.truncate(all.len().saturating_sub(commits));
        }
    }

    /// All offsets are forgotten.
    pub fn clear(&mut self) {
        self.of.clear();
    }
}
