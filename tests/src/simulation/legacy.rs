//! What the lane of a topic that is gone leaves to the lane of the topic that has its name now: what it had pinned or was to list, and no
//! object of its own holds or lists. The first object of the new lane says so.

use catchment::intent::{CommitNote, note_hash};
use catchment_formats::{GapCause, Missing};

use super::verdict::Stored;
use crate::scripted::group::Accepted;

/// The ranges that one lane leaves, and when it was last heard of.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    ranges: Vec<(i64, i64)>,
    /// The order of its last commit.
    until: u64,
}

impl Legacy {
    /// Of a partition of an incarnation, by its last accepted commit. `stood` answers whether an object stood under a
    /// key when the next lane asked.
    pub(super) fn of(id: &str, partition: i32, accepted: &[Accepted], stood: impl Fn(&str) -> bool) -> Self {
        let hash = note_hash(id);
        let notes = accepted.iter().rev().filter(|a| a.tp.partition == partition);
        let found =
            notes.filter_map(|a| Some((a, CommitNote::parse(&a.commit.metadata).ok()?))).find(|(_, note)| note.topic_hash() == hash);
        let Some((commit, note)) = found else { return Self::default() };
        let mut missing = note.pending().to_vec();
        if let CommitNote::Intent(intent) = &note
            && !stood(&intent.key)
        {
            missing.extend(intent.missing_before(commit.commit.offset));
            missing.push(Missing(commit.commit.offset, intent.end, GapCause::TopicRecreated));
        }
        Self { ranges: missing.iter().map(|m| (m.0, m.1)).collect(), until: commit.order }
    }

    /// Whether it explains a gap that a later lane lists.
    pub(super) fn explains(&self, gap: Missing) -> bool {
        gap.cause() == GapCause::TopicRecreated && self.leaves((gap.0, gap.1))
    }

    /// Whether it leaves these offsets: what it was to list of a lane before it, too.
    pub(super) fn leaves(&self, range: (i64, i64)) -> bool {
        self.ranges.contains(&range)
    }

    /// What it leaves and no later lane lists, although the group knew of it when the first of them asked, and the group or an anchor ever
    /// after.
    pub(super) fn unlisted<'a>(
        &'a self,
        later: &[&Stored],
        asked_at: u64,
        forgotten_at: &'a [u64],
        was_anchored: impl Fn((i64, i64), u64) -> bool + 'a,
    ) -> impl Iterator<Item = (i64, i64)> {
        let is_forgotten = move |range| forgotten_at.iter().any(|at| *at >= self.until && (*at < asked_at || !was_anchored(range, *at)));
        let listed: Vec<_> = later.iter().flat_map(|o| &o.proof.missing).filter(|m| m.cause() == GapCause::TopicRecreated).collect();
        self.ranges.iter().copied().filter(move |r| !is_forgotten(*r) && !listed.iter().any(|m| (m.0, m.1) == *r))
    }
}
