//! What has happened to the world of a simulation and no process has met yet: it counts as a fault once one does.

use std::collections::BTreeSet;

use catchment::source::TopicPartition;

use super::faults::Fault;

/// Things that nobody has met yet.
#[derive(Debug, Default)]
pub struct Unmet {
    moved: BTreeSet<TopicPartition>,
    forgotten: BTreeSet<TopicPartition>,
    aborted: BTreeSet<String>,
}

impl Unmet {
    /// A partition has moved to another member while there was something to do.
    pub fn move_lane(&mut self, tp: &TopicPartition) {
        self.moved.insert(tp.clone());
    }

    /// The coordinator has forgotten what it had of these partitions. Whoever asks for any of them meets that.
    pub fn forget(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.forgotten = partitions.into_iter().collect();
    }

    /// An upload was aborted by no process.
    pub fn abort(&mut self, upload: &str) {
        self.aborted.insert(upload.to_owned());
    }

    /// A process is told what the group has of a partition, or that it has nothing. Answers what it meets by that.
    pub fn fetched(&mut self, tp: &TopicPartition, has_any: bool) -> Vec<Fault> {
        let mut met = Vec::new();
        if self.moved.remove(tp) {
            met.push(Fault::Revoked);
        }
        if !has_any && self.forgotten.contains(tp) {
            self.forgotten.clear();
            met.push(Fault::OffsetsForgotten);
        }
        met
    }

    /// A process is told that there is no such upload. True if it is one of those that no process has aborted.
    pub fn missed(&mut self, upload: &str) -> bool {
        self.aborted.remove(upload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_met_once_and_by_who_comes_to_it() {
        let tp = |partition| TopicPartition { topic: "t".into(), partition };
        let mut unmet = Unmet::default();
        unmet.move_lane(&tp(0));
        unmet.forget([tp(0), tp(1)]);
        assert_eq!(unmet.fetched(&tp(2), false), []);
        assert_eq!(unmet.fetched(&tp(0), true), [Fault::Revoked]);
        assert_eq!(unmet.fetched(&tp(1), false), [Fault::OffsetsForgotten]);
        assert_eq!(unmet.fetched(&tp(0), false), [], "the same forgetting counts once");
        unmet.abort("u");
        assert_eq!((unmet.missed("v"), unmet.missed("u"), unmet.missed("u")), (false, true, false));
    }
}
