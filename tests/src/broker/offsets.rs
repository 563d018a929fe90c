//! What a group has committed, with its history: a script makes the group's state go back, or shows a commit late.
//!
//! Beside what the group remembers stands what it has ever accepted, which nothing takes back, with what was visible at that time: the invariants are
//! asked of that.

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

/// What a `read_committed` reader could see of a partition at some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The topic's UUID as the engine writes it; empty if there was no topic.
    pub topic_id: String,
    /// The offsets of the records.
    pub offsets: Vec<i64>,
}

/// A commit that was accepted once, whatever the group remembers of it.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// When it was accepted.
    pub at: Instant,
    /// When it was accepted, among all events of the test.
    pub order: u64,
    /// How often the group had forgotten commits before.
    pub forgettings: u32,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What was committed.
    pub commit: Commit,
    /// What was visible of the partition then; nothing, if it was a script that committed.
    pub shown: Shown,
}

/// Commits of all partitions, in the order in which they were accepted.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    of: BTreeMap<(String, i32), Vec<(Instant, Commit)>>,
    accepted: Vec<Accepted>,
    forgettings: u32,
    /// Numbers commits among the events of a test.
    pub order: Order,
}

impl Offsets {
    /// A script's commit, which is there from `visible` on.
    pub fn set(&mut self, topic: &str, partition: i32, commit: Commit, visible: Instant) {
        self.accept(topic, partition, commit, visible, Shown::default());
    }

    /// Takes a commit that is there from `visible` on, with what the log shows meanwhile.
    pub(super) fn accept(&mut self, topic: &str, partition: i32, commit: Commit, visible: Instant, shown: Shown) {
        let (at, order, forgettings, topic) = (Instant::now(), self.order.next(), self.forgettings, topic.to_owned());
        self.of.entry((topic.clone(), partition)).or_default().push((visible, commit.clone()));
        self.accepted.push(Accepted { at, order, forgettings, topic, partition, commit, shown });
    }

    /// What a fetch sees now.
    pub fn get(&self, topic: &str, partition: i32) -> Option<&Commit> {
        let now = Instant::now();
        let commits = self.of.get(&(topic.to_owned(), partition))?;
        commits.iter().rev().find(|(visible, _)| *visible <= now).map(|(_, commit)| commit)
    }

    /// Everything that was accepted for a partition and is not forgotten.
    pub fn history(&self, topic: &str, partition: i32) -> impl Iterator<Item = &Commit> {
        self.of.get(&(topic.to_owned(), partition)).into_iter().flatten().map(|(_, commit)| commit)
    }

    /// Everything that was ever accepted.
    pub fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }

    /// Whether a partition's last commit is another than this, forgotten or not. False if there was none.
    pub(super) fn has_later(&self, topic: &str, partition: i32, offset: i64, metadata: &str) -> bool {
        let last = self.accepted.iter().rev().find(|a| a.topic == topic && a.partition == partition);
        last.is_some_and(|last| (last.commit.offset, last.commit.metadata.as_str()) != (offset, metadata))
    }

    /// The group's state goes back to before the last `commits` commits of a partition.
    pub fn go_back(&mut self, topic: &str, partition: i32, commits: usize) {
        self.forgettings += 1;
        if let Some(all) = self.of.get_mut(&(topic.to_owned(), partition)) {
            all.truncate(all.len().saturating_sub(commits));
        }
    }

    /// All offsets are forgotten.
    pub fn clear(&mut self) {
        self.forgettings += 1;
        self.of.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(offset: i64) -> Commit {
        Commit { offset, leader_epoch: 0, metadata: format!("at {offset}") }
    }

    #[test]
    fn what_was_accepted_stays_known_when_it_is_forgotten() {
        let mut offsets = Offsets::default();
        (1..4).for_each(|n| offsets.set("t", 0, commit(n * 10), Instant::now()));
        assert!(!offsets.has_later("t", 0, 30, "at 30") && !offsets.has_later("t", 1, -1, ""));
        offsets.go_back("t", 0, 2);
        assert_eq!(offsets.get("t", 0), Some(&commit(10)));
        assert!(offsets.has_later("t", 0, 10, "at 10"));
        offsets.set("t", 0, commit(40), Instant::now());
        let known: Vec<(i64, u32)> = offsets.accepted().iter().map(|a| (a.commit.offset, a.forgettings)).collect();
        assert_eq!(known, [(10, 0), (20, 0), (30, 0), (40, 1)]);
        offsets.clear();
        assert_eq!((offsets.get("t", 0), offsets.has_later("t", 0, -1, "")), (None, true));
    }
}
