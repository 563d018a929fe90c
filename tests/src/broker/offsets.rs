//! What a group has committed, with its history: a script makes the group's state go back, or shows a commit late.

use std::collections::BTreeMap;
use std::time::Instant;

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

/// Commits of all partitions, in the order in which they were accepted.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    of: BTreeMap<(String, i32), Vec<(Instant, Commit)>>,
}

impl Offsets {
    /// Takes a commit that is there from `visible` on.
    pub fn set(&mut self, topic: &str, partition: i32, commit: Commit, visible: Instant) {
        self.of.entry((topic.to_owned(), partition)).or_default().push((visible, commit));
    }

    /// What a fetch sees now.
    pub fn get(&self, topic: &str, partition: i32) -> Option<&Commit> {
        let now = Instant::now();
        let commits = self.of.get(&(topic.to_owned(), partition))?;
        commits.iter().rev().find(|(visible, _)| *visible <= now).map(|(_, commit)| commit)
    }

    /// Everything that was accepted for a partition.
    pub fn history(&self, topic: &str, partition: i32) -> impl Iterator<Item = &Commit> {
        self.of.get(&(topic.to_owned(), partition)).into_iter().flatten().map(|(_, commit)| commit)
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
