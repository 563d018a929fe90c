//! What the store and the group have of one lane, against the invariants of the commit protocol.

use catchment::intent::{CommitNote, note_hash};
use catchment::invariants::{Extent, Sight, gapless, missing_pinned, missing_within, no_duplicate, no_loss, one_intent, pinned_first};
use catchment_formats::{GapCause, Missing, OffsetRange};

use super::anchors::AnchorBook;
use super::ledger::{KnownEpochs, Lane};
use super::legacy::Legacy;
use super::verdict::{Stored, Verdict};
use crate::scripted::group::Accepted;

/// A commit of the lane that the group has accepted.
#[derive(Debug)]
struct Noted {
    order: u64,
    offset: i64,
    /// The leader epoch of what was read last; negative if it is not known.
    epoch: i32,
    note: CommitNote,
}

impl Noted {
    /// What it says that a truncation took of what had been read before the committed offset, and that no object lists yet.
    fn cuts(&self) -> Vec<Missing> {
        let pinned: Vec<Missing> = match &self.note {
            CommitNote::Intent(intent) => intent.missing_before(self.offset).collect(),
            CommitNote::Tidy(_) => Vec::new(),
        };
        self.note.pending().iter().copied().chain(pinned).filter(|gap| gap.cause() == GapCause::Truncation).collect()
    }
}

/// Judges one lane. Its objects are in the order of their starts.
pub(super) struct LaneJudge<'a> {
    pub(super) lane: &'a Lane,
    pub(super) objects: &'a [Stored],
    pub(super) verdict: &'a mut Verdict,
    name: String,
    notes: Vec<Noted>,
}

impl<'a> LaneJudge<'a> {
    /// The judge of a partition of the incarnation with this id.
    pub(super) fn new(
        lane: &'a Lane,
        objects: &'a [Stored],
        verdict: &'a mut Verdict,
        (id, partition): (&str, i32),
        accepted: &[Accepted],
    ) -> Self {
        let hash = note_hash(id);
        let of_partition = accepted.iter().filter(|a| a.tp.partition == partition);
        let notes = of_partition.filter_map(|a| {
            let note = CommitNote::parse(&a.commit.metadata).ok().filter(|note| note.topic_hash() == hash)?;
            Some(Noted { order: a.order, offset: a.commit.offset, epoch: a.commit.leader_epoch, note })
        });
        Self { lane, objects, verdict, name: format!("{partition} of {id}"), notes: notes.collect() }
    }

    pub(super) fn find(&mut self, what: impl std::fmt::Display) {
        let text = format!("{}: {what}", self.name);
        self.verdict.find(text);
    }

    /// What the group knew of leader epochs. From a walk from an anchor until it knows one again nobody can tell that the log was cut.
    pub(super) fn known_epochs(&self, walks: &[u64]) -> KnownEpochs {
        let epoch = |noted: &Noted| noted.epoch.max(noted.note.last().map_or(-1, |last| last.epoch));
        let epochs: Vec<(u64, i32)> = self.notes.iter().map(|n| (n.order, epoch(n))).filter(|(_, epoch)| *epoch >= 0).collect();
        let first_after = |walk: u64| epochs.iter().map(|(order, _)| *order).find(|order| *order > walk).unwrap_or(u64::MAX);
        let blind = walks.iter().map(|walk| (*walk, first_after(*walk))).collect();
        KnownEpochs { blind, epochs }
    }

    /// S of the lane's first commit.
    pub(super) fn first_start(&self) -> Option<i64> {
        self.notes.first().map(|noted| noted.note.start())
    }

    /// Whether the lane has committed anything before this.
    pub(super) fn has_begun(&self, until: u64) -> bool {
        self.notes.first().is_some_and(|noted| noted.order < until)
    }

    /// NoDuplicate, Gapless, and what objects list as missing: within their ranges, pinned, and explained.
    pub(super) fn invariants(&mut self, start: Option<i64>, legacies: &[Legacy]) {
        let extents: Vec<Extent> = self.objects.iter().map(|o| o.proof.range.into()).collect();
        for violation in no_duplicate(&extents).into_iter().chain(gapless(start, &extents)) {
            self.find(format_args!("{violation} ({violation:?})"));
        }
        let pinned: Vec<(OffsetRange, Vec<Missing>)> =
            self.intents().map(|(_, intent)| (OffsetRange::new(intent.start, intent.end), intent.missing.clone())).collect();
        for Stored { key, proof, written_at, .. } in self.objects {
            let broken =
                missing_within(proof.range, &proof.missing).into_iter().chain(missing_pinned(proof.range, &proof.missing, &pinned));
            for violation in broken {
                self.find(format_args!("{key}: {violation}"));
            }
            for gap in &proof.missing {
                if !self.lane.explains(*gap, *written_at) && !legacies.iter().any(|legacy| legacy.explains(*gap)) {
                    self.find(format_args!("{key}: nothing explains the gap {gap:?}"));
                }
            }
        }
    }

    /// What a truncation took that the group alone knew of when it forgot its offsets: the store had refused the lane's anchor until its process stopped.
    pub(super) fn forgotten_cuts(&self, partition: i32, book: &AnchorBook) -> Vec<Missing> {
        let (mut found, mut since_last) = (Vec::new(), 0);
        for forgetting in book.forgettings() {
            let known: Vec<&Noted> = self.notes.iter().filter(|n| (since_last..forgetting.order).contains(&n.order)).collect();
            since_last = forgetting.order;
            for gap in known.last().map(|last| last.cuts()).unwrap_or_default() {
                let knew = known.iter().rev().take_while(|noted| noted.cuts().contains(&gap)).last();
                let was_alone = |noted: &&&Noted| book.never_had(partition, gap, noted.order, *forgetting);
                found.extend(knew.filter(was_alone).map(|_| gap));
            }
        }
        found
    }

    fn intents(&self) -> impl Iterator<Item = (u64, &catchment::intent::Intent)> {
        self.notes.iter().filter_map(|noted| match &noted.note {
            CommitNote::Intent(intent) => Some((noted.order, &**intent)),
            CommitNote::Tidy(_) => None,
        })
    }

    /// PinnedFirst and OneIntent, the latter between two forgettings of the group's offsets.
    pub(super) fn sights(&mut self, forgotten_at: &[u64]) {
        let pin = |(order, intent): (u64, &catchment::intent::Intent)| {
            (order, Sight::Pinned { range: OffsetRange::new(intent.start, intent.end), key: intent.key.clone() })
        };
        let mut sights: Vec<(u64, Sight)> = self.intents().map(pin).collect();
        let visible = |object: &Stored| Some((object.visible_at?, Sight::Visible { range: object.proof.range, key: object.key.clone() }));
        sights.extend(self.objects.iter().filter_map(visible));
        sights.sort_by_key(|(order, _)| *order);
        for violation in pinned_first(&sights.iter().map(|(_, s)| s.clone()).collect::<Vec<_>>()) {
            self.find(format_args!("{violation} ({violation:?})"));
        }
        let age = |order: u64| forgotten_at.iter().filter(|at| **at <= order).count();
        for forgettings in 0..=forgotten_at.len() {
            let of_age: Vec<Sight> = sights.iter().filter(|(order, _)| age(*order) == forgettings).map(|(_, s)| s.clone()).collect();
            for violation in one_intent(&of_age) {
                self.find(format_args!("{violation} ({violation:?})"));
            }
        }
    }

    /// What a lane that is gone had pinned, or was to list, is stored, or the next one lists it.
    pub(super) fn left(&mut self, unlisted: &[(i64, i64)], heirs: &[Legacy]) {
        // What the next lane was to list and could not either is its own legacy.
        for (from, to) in unlisted.iter().filter(|range| !heirs.iter().any(|heir| heir.leaves(**range))) {
            self.verdict.lost += 1;
            self.find(format_args!("the topic was made again, and nothing says that [{from}, {to}) is lost"));
        }
    }

    /// NoLoss, of every commit up to `until`, by the objects that were visible when it was accepted.
    ///
    /// Whoever asks after the topic has gone may take the new log's end for the old one's; nothing of the old one can be lost by that.
    pub(super) fn committed(&mut self, until: u64) {
        let Some(start) = self.notes.first().map(|noted| noted.offset) else { return };
        let mut visible: Vec<(u64, Extent)> =
            self.objects.iter().map(|o| (o.visible_at.unwrap_or_default(), o.proof.range.into())).collect();
        visible.sort_by_key(|(order, _)| *order);
        let (orders, extents): (Vec<u64>, Vec<Extent>) = visible.into_iter().unzip();
        let (lane, mut violations) = (self.lane, Vec::new());
        for noted in self.notes.iter().filter(|noted| noted.order < until) {
            let by_then = &extents[..orders.partition_point(|order| *order < noted.order)];
            // A hole that was read before the log was cut, and is committed behind that, has a record now: the next object lists it, or a later commit
            // says that one will. If the topic goes before that, what was written anew went with it; what the lane leaves is judged elsewhere.
            let went_first = until < u64::MAX && !orders.iter().any(|order| (noted.order..until).contains(order));
            let is_told =
                |offset| self.notes.iter().any(|later| later.order > noted.order && later.cuts().iter().any(|gap| gap.covers(offset)));
            let is_listed = |offset| {
                (lane.was_cut(offset) && (self.lists_cut(offset) || is_told(offset)))
                    || (went_first && lane.was_cut_before(offset, noted.order))
            };
            let shows = |offset| !is_listed(offset) && lane.showed(offset..offset + 1, noted.order);
            let showed = |range: OffsetRange| (range.start..range.end).any(shows);
            violations.extend(no_loss(noted.offset, start, by_then, showed).map(|violation| (noted.order, violation)));
        }
        for (order, violation) in violations {
            self.find(format_args!("commit {order}: {violation} ({violation:?})"));
        }
    }

    /// Whether an object lists an offset as lost by a truncation.
    fn lists_cut(&self, offset: i64) -> bool {
        let mut listed = self.objects.iter().flat_map(|object| &object.proof.missing);
        listed.any(|gap| gap.cause() == GapCause::Truncation && gap.covers(offset))
    }

    /// NoLoss in the end, by all that is due, whenever it was written: of the last commit up to `until` that the group has not forgotten.
    /// What that commit says is missing is for the next object to list.
    pub(super) fn committed_last(&mut self, until: u64, forgotten_at: &[u64]) {
        let last = self.notes.iter().rev().find(|noted| noted.order < until);
        let Some(last) = last.filter(|noted| forgotten_at.last().is_none_or(|at| noted.order >= *at)) else { return };
        let extents: Vec<Extent> = self.objects.iter().map(|o| o.proof.range.into()).collect();
        let start = self.notes.first().map_or(0, |noted| noted.offset);
        let is_told = |offset| last.note.pending().iter().any(|gap| gap.covers(offset));
        // What was written anew in a topic that went before its lane had noticed went with it.
        let is_gone = |offset| until < u64::MAX && self.lane.was_cut(offset);
        let is_due = |offset| !is_told(offset) && !is_gone(offset) && self.lane.shows(offset..offset + 1);
        let shows = |range: OffsetRange| (range.start..range.end).any(is_due);
        if let Some(violation) = no_loss(last.offset, start, &extents, shows) {
            self.find(format_args!("{violation} ({violation:?})"));
        }
    }
}
