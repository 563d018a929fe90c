//! NoLoss (invariant of the commit protocol), asked of every commit that a scripted broker has accepted: by the objects that were visible by then, and by
//! what the log showed at that moment, so that no later retention, truncation or repair hides what a commit passed over.

use catchment::intent::{CommitNote, is_same_topic};
use catchment::invariants::{Extent, Violation, no_loss};
use catchment_formats::OffsetRange;

use crate::broker::offsets::Accepted;

/// A commit of a lane, numbered or timed among all that happened.
#[derive(Clone, Debug)]
pub(crate) struct Passed<T> {
    /// When it was accepted.
    pub(crate) at: T,
    /// The committed offset.
    pub(crate) offset: i64,
    /// The hash of the lane's topic UUID that its note names.
    pub(crate) topic_hash: String,
    /// Offsets of the records that a reader of the lane's topic could see then.
    pub(crate) shown: Vec<i64>,
}

impl<T> Passed<T> {
    /// A commit with a note of the engine's; none for somebody else's.
    pub(crate) fn of(at: T, accepted: &Accepted) -> Option<Self> {
        let topic_hash = CommitNote::parse(&accepted.commit.metadata).ok()?.topic_hash().to_owned();
        // The lane of a topic that is gone can lose nothing that the new one shows.
        let is_its_own = is_same_topic(&topic_hash, &accepted.shown.topic_id);
        let shown = if is_its_own { accepted.shown.offsets.clone() } else { Vec::new() };
        Some(Self { at, offset: accepted.commit.offset, topic_hash, shown })
    }
}

/// Every commit of a lane, in their order, that is past what was visible by then, although something was visible behind that. The lane's start is
/// where its first commit stands.
pub(crate) fn passed_over<T: Ord>(commits: &[Passed<T>], objects: &[(T, OffsetRange)]) -> Vec<Violation> {
    let Some(start) = commits.first().map(|commit| commit.offset) else { return Vec::new() };
    let judged = commits.iter().filter_map(|commit| {
        let by_then: Vec<Extent> = objects.iter().filter(|(at, _)| *at < commit.at).map(|(_, range)| (*range).into()).collect();
        let shows = |range: OffsetRange| commit.shown.iter().any(|offset| (range.start..range.end).contains(offset));
        no_loss(commit.offset, start, &by_then, shows)
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use catchment::intent::note_hash;

    use super::*;
    use crate::broker::offsets::{Commit, Shown};

    fn passed(at: u64, offset: i64, shown: &[i64]) -> Passed<u64> {
        Passed { at, offset, topic_hash: String::new(), shown: shown.to_vec() }
    }

    fn lost(committed: i64, visible_end: i64) -> Violation {
        Violation::CommittedPastVisible { committed, visible_end }
    }

    #[test]
    fn what_is_committed_was_visible_by_then() {
        let (records, objects) = ([0, 5, 10, 15], [(1, OffsetRange::new(0, 10)), (4, OffsetRange::new(10, 20))]);
        let commits = [passed(0, 0, &records), passed(2, 10, &records), passed(5, 20, &records)];
        assert_eq!(passed_over(&commits, &objects), []);
        assert_eq!(passed_over::<u64>(&[], &objects), []);
        let early = [passed(0, 0, &records), passed(2, 10, &records), passed(3, 20, &records), passed(5, 20, &records)];
        assert_eq!(passed_over(&early, &objects), [lost(20, 10)], "before its object was visible");
        assert_eq!(passed_over(&commits, &objects[..1]), [lost(20, 10)], "without any object");
    }

    #[test]
    fn a_commit_may_pass_over_what_showed_nothing() {
        let objects = [(1, OffsetRange::new(0, 10))];
        let ends_at = |offset, shown: &[i64]| passed_over(&[passed(0, 0, &[0]), passed(2, offset, shown)], &objects);
        assert_eq!(ends_at(14, &[0, 5]), [], "control records");
        assert_eq!(ends_at(14, &[0, 5, 14]), [], "the record behind it is the next one's");
        assert_eq!(ends_at(14, &[0, 5, 13]), [lost(14, 10)]);
    }

    #[test]
    fn only_notes_of_the_log_that_stands_there_are_held_to_it() {
        let shown = Shown { topic_id: "b".to_owned(), offsets: vec![7] };
        let note = |hash: &str| format!(r#"{{"v":1,"t":"{hash}","d":"","S":0}}"#);
        let accepted = |metadata: String| Accepted {
            at: Instant::now(),
            order: 0,
            forgettings: 0,
            topic: "t".to_owned(),
            partition: 0,
            commit: Commit { offset: 9, leader_epoch: 0, metadata },
            shown: shown.clone(),
        };
        let shown_to = |metadata: String| Passed::of(0, &accepted(metadata)).map(|passed| passed.shown);
        assert_eq!(shown_to(note(&note_hash("b"))), Some(vec![7]));
        assert_eq!(shown_to(note(&note_hash("a"))), Some(vec![]), "the topic was made again since");
        assert_eq!(shown_to(String::new()), None, "somebody else's commit");
    }
}
