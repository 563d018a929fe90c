//! Every record that was ever visible, what took it away, and so what a backup must hold.
//!
//! The log forgets: retention and compaction delete, a new leader truncates, a topic is made again. The ledger looks before each of these
//! and at the end, so that it knows each record at each offset, and which ranges a backup may list as missing and why.

use std::collections::BTreeMap;
use std::ops::Range;

use catchment::source::TopicPartition;
use catchment_formats::{GapCause, Missing, OffsetRange};

use super::world::World;
use crate::oracle::RecordHash;
use crate::scripted::cluster::ScriptedCluster;

/// What took a record from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Retention: a gap, if nobody had read it.
    Retention,
    /// Compaction, which is no gap.
    Compaction,
}

/// One record, by the oracle's hash and by its bare value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Of the whole record.
    pub hash: RecordHash,
    /// The value; for raw objects, which hold nothing else.
    pub value: Option<Vec<u8>>,
    /// Whether it must be stored. A new leader lacks some; whoever had read them has stored them rightly.
    pub is_due: bool,
    /// What took it.
    pub taken: Option<Taken>,
    /// When it came to stand here at the earliest, among commits and writes: when a new leader last lacked what stood here before.
    pub since: u64,
    /// When compaction took it, or a new leader lacked it.
    pub until: u64,
    /// When something took it.
    pub taken_at: u64,
}

/// A new leader that lacked records.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cut {
    /// What it lacked.
    offsets: Range<i64>,
    /// Up to where somebody had committed or pinned what was there.
    read_to: i64,
    /// When, among commits and writes.
    order: u64,
    /// Its leader epoch.
    epoch: i32,
}

/// What the group knew of leader epochs, and when it did not.
#[derive(Clone, Debug, Default)]
pub struct KnownEpochs {
    /// For each walk from an anchor: when it began, and when the group knew an epoch again.
    pub blind: Vec<(u64, u64)>,
    /// The epochs that commits named, by when they were accepted.
    pub epochs: Vec<(u64, i32)>,
}

impl KnownEpochs {
    /// Whether the group knew the new leader's epoch, or a later one, before something happened: then the lane had read of it, and must have seen
    /// the cut.
    fn knew(&self, cut: &Cut, before: u64) -> bool {
        self.epochs.iter().any(|(order, epoch)| cut.order < *order && *order < before && *epoch >= cut.epoch)
    }

    /// Whether the lane could not see a cut because the group's offsets were forgotten.
    fn was_blind_to(&self, cut: &Cut) -> bool {
        self.blind.iter().any(|(from, until)| cut.order < *until && !self.knew(cut, *from))
    }
}

/// One partition of one incarnation of the topic.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// What was visible at each offset, oldest first.
    pub versions: BTreeMap<i64, Vec<Version>>,
    /// Offsets whose records compaction took, and when.
    compacted: BTreeMap<i64, u64>,
    cuts: Vec<Cut>,
    /// Batches that are corrupt for good, and since when.
    corrupt: Vec<(Range<i64>, u64)>,
    /// Where the log started, and since when.
    retained: Vec<(i64, u64)>,
}

impl Lane {
    /// What is to be stored of an offset: the last record that stood there, if the log still had it when faults stopped or something took
    /// it.
    pub fn due(&self, offset: i64) -> Option<&Version> {
        self.versions.get(&offset)?.last().filter(|version| version.is_due)
    }

    /// Where the log started at most.
    pub fn retained_to(&self) -> i64 {
        self.retained.iter().map(|(to, _)| *to).max().unwrap_or_default()
    }

    /// Whether an upload of a range that was repeated at some time may differ from the first one (rule A3): something had taken a record of it by then,
    /// or made it unreadable.
    pub fn may_repeat_differently(&self, range: OffsetRange, at: u64) -> bool {
        let meets = |offsets: &Range<i64>| offsets.start < range.end && range.start < offsets.end;
        self.retained.iter().any(|(to, order)| range.start < *to && *order < at)
            || self.compacted.range(range.start..range.end).any(|(_, order)| *order < at)
            || self.corrupt.iter().any(|(batch, order)| meets(batch) && *order < at)
            || self.cuts.iter().any(|cut| meets(&cut.offsets) && cut.order < at)
    }

    /// Whether a record in a range of offsets was there to be stored at some time. What was written anew below what had been read by then
    /// was not: the next object lists it.
    pub fn showed(&self, offsets: Range<i64>, order: u64) -> bool {
        let is_anew = |offset| self.cuts.iter().any(|cut| cut.order < order && cut.offsets.contains(&offset) && offset < cut.read_to);
        let stood = |versions: &[Version]| versions.iter().any(|version| (version.since..version.until).contains(&order));
        self.versions.range(offsets).any(|(offset, versions)| stood(versions) && !is_anew(*offset))
    }

    /// Whether a record that is due in a range of offsets has to be there.
    pub fn shows(&self, offsets: Range<i64>) -> bool {
        self.versions.range(offsets).any(|(offset, _)| self.due(*offset).is_some_and(|due| due.taken != Some(Taken::Compaction)))
    }

    /// Whether an object that was written at some time may list a range as missing: each record in it, that is; holes at its edges are
    /// nobody's.
    pub fn explains(&self, gap: Missing, at: u64) -> bool {
        let mut offsets = self.versions.range(gap.0..gap.1).map(|(offset, _)| *offset);
        match gap.cause() {
            GapCause::Retention => {
                let is_gone = |offset| self.due(offset).is_none_or(|due| due.taken_at < at);
                self.retained.iter().any(|(to, order)| gap.1 <= *to && *order < at) && offsets.all(is_gone)
            }
            GapCause::Truncation => {
                let cuts = || self.cuts.iter().filter(|cut| cut.order < at);
                cuts().any(|cut| cut.offsets.start < gap.1 && gap.0 < cut.offsets.end)
                    && offsets.all(|offset| cuts().any(|cut| cut.offsets.contains(&offset)))
            }
            GapCause::CorruptBatch => {
                let is_shown = |offset| self.due(offset).is_some_and(|due| due.taken != Some(Taken::Compaction));
                let is_corrupt = |offset| !is_shown(offset) || self.was_empty(offset) || self.is_in_or_between_corrupt(offset, gap);
                // What it lists of holes beside the batch is nobody's.
                self.corrupt.iter().any(|(batch, order)| batch.start <= gap.1 && gap.0 <= batch.end && *order < at)
                    && offsets.all(is_corrupt)
            }
            GapCause::TopicRecreated | GapCause::OperatorSkip => false,
        }
    }

    /// Whether the first record that an offset ever had stood there up to some time. Later ones come into the range of a window that was read
    /// before.
    pub fn stood(&self, offset: i64, until: u64) -> bool {
        self.versions.get(&offset).is_some_and(|versions| versions.iter().any(|version| version.since == 0 && until < version.until))
    }

    /// Whether the record that is due at an offset may be absent where another one, or none, was stored before it, and nothing says so: the
    /// log was cut below what was read, and nobody can know. Either retention took the new records, and with them the leader epochs that
    /// would show it; or the group forgot its offsets, and the lane went over objects behind its anchor, which name no leader epoch. What was
    /// pinned before the cut had been read; `was_read` answers for what was pinned behind it, by the cut's offsets and time.
    pub fn hides(&self, offset: i64, was_read: impl Fn(&Range<i64>, u64) -> bool, known: &KnownEpochs) -> bool {
        let gone = self.due(offset).filter(|due| due.taken == Some(Taken::Retention)).map(|due| due.taken_at);
        let is_hidden = |cut: &Cut| gone.is_some_and(|at| !known.knew(cut, at)) || known.was_blind_to(cut);
        let cuts = || self.cuts.iter().filter(|cut| cut.offsets.contains(&offset));
        cuts().any(|cut| is_hidden(cut) && (offset < cut.read_to || was_read(&cut.offsets, cut.order)))
    }

    /// Whether a record that is stored at an offset stood there before a cut and not behind it.
    pub fn is_older(&self, offset: i64, hash: &RecordHash, cut: u64) -> bool {
        self.versions.get(&offset).is_some_and(|versions| versions.iter().any(|version| version.until <= cut && version.hash == *hash))
    }

    /// Whether an offset lies in a corrupt batch, or between two that a gap reaches over: the search for the end of the first cannot tell
    /// them apart (`engine/src/reader/corrupt.rs`).
    fn is_in_or_between_corrupt(&self, offset: i64, gap: Missing) -> bool {
        let met = || self.corrupt.iter().map(|(batch, _)| batch).filter(|batch| batch.start < gap.1 && gap.0 < batch.end);
        met().any(|batch| batch.contains(&offset)) || (met().any(|b| b.end <= offset) && met().any(|b| b.start > offset))
    }

    /// Whether there ever was a leader that had an offset and showed nothing there.
    fn was_empty(&self, offset: i64) -> bool {
        let leaders = 1 + self.cuts.iter().filter(|cut| cut.offsets.contains(&offset)).count();
        self.versions.get(&offset).map_or(0, Vec::len) < leaders
    }

    /// Whether a new leader ever lacked anything.
    pub fn was_ever_cut(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// Whether a new leader ever lacked what stood at an offset.
    pub fn was_cut(&self, offset: i64) -> bool {
        self.cuts.iter().any(|cut| cut.offsets.contains(&offset))
    }

    /// Whether one did by then.
    pub fn was_cut_before(&self, offset: i64, order: u64) -> bool {
        self.cuts.iter().any(|cut| cut.order < order && cut.offsets.contains(&offset))
    }

    /// Compaction takes the record that stands at an offset.
    pub fn compact(&mut self, offset: i64, order: u64) {
        if self.take(offset, Taken::Compaction, order) {
            self.compacted.insert(offset, order);
        }
    }

    /// Something takes the record that stands at an offset, if one does that nothing has taken before.
    fn take(&mut self, offset: i64, taken: Taken, order: u64) -> bool {
        let version = self.versions.get_mut(&offset).and_then(|versions| versions.last_mut());
        let Some(version) = version.filter(|version| version.is_due && version.taken.is_none()) else { return false };
        version.taken = Some(taken);
        // What nobody read must be listed, though retention took it.
        if taken == Taken::Compaction {
            version.until = order;
        }
        version.taken_at = order;
        true
    }

    /// Retention takes what lies before `to`.
    pub fn retain_from(&mut self, to: i64, order: u64) {
        self.retained.push((to, order));
        let before: Vec<i64> = self.versions.range(..to).map(|(offset, _)| *offset).collect();
        for offset in before {
            self.take(offset, Taken::Retention, order);
        }
    }

    /// A new leader lacks these offsets, the last ones of the log: what was there never was, unless it was read.
    pub fn truncate(&mut self, offsets: Range<i64>, read_to: i64, order: u64, epoch: i32) {
        for version in self.versions.range_mut(offsets.start..).flat_map(|(_, versions)| versions) {
            (version.is_due, version.until) = (false, version.until.min(order));
        }
        self.cuts.push(Cut { offsets, read_to, order, epoch });
    }

    /// A batch is corrupt: for good, or once.
    pub fn corrupt(&mut self, offsets: Range<i64>, for_good: bool, order: u64) {
        if for_good {
            self.corrupt.push((offsets, order));
        }
    }
}

/// The ledger of one topic.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By the topic's id and the partition.
    lanes: BTreeMap<(String, i32), Lane>,
    incarnations: Vec<String>,
    /// When each incarnation but the current one went, among commits and writes.
    gone_at: Vec<u64>,
}

impl Ledger {
    /// The topic has this id from now on.
    pub fn incarnate(&mut self, id: &str, partitions: i32) {
        self.incarnations.push(id.to_owned());
        for partition in 0..partitions {
            self.lanes.entry((id.to_owned(), partition)).or_default();
        }
    }

    /// The topic is deleted.
    pub fn delete(&mut self, order: u64) {
        self.gone_at.push(order);
    }

    /// When an incarnation went, by its place.
    pub fn gone_at(&self, place: usize) -> u64 {
        self.gone_at.get(place).copied().unwrap_or(u64::MAX)
    }

    /// A partition of the current incarnation.
    pub fn lane(&mut self, partition: i32) -> &mut Lane {
        self.lanes.entry((self.current().to_owned(), partition)).or_default()
    }

    /// All partitions of all incarnations.
    pub fn lanes(&self) -> &BTreeMap<(String, i32), Lane> {
        &self.lanes
    }

    /// The ids that the topic has had, in order.
    pub fn incarnations(&self) -> &[String] {
        &self.incarnations
    }

    /// The current incarnation's id.
    pub fn current(&self) -> &str {
        self.incarnations.last().map_or("", String::as_str)
    }

    /// Enters what a partition shows now.
    pub fn look(&mut self, world: &World, cluster: &ScriptedCluster, tp: &TopicPartition) {
        let seen = cluster.look(tp, |log| {
            let bounds = log.bounds();
            (bounds.start..bounds.end).filter_map(|offset| log.record(offset)).collect::<Vec<_>>()
        });
        world.trace(format_args!("{tp} shows {} records", seen.len()));
        let lane = self.lane(tp.partition);
        let cuts = lane.cuts.clone();
        for found in seen {
            let since = cuts.iter().filter(|cut| cut.offsets.contains(&found.offset)).map(|cut| cut.order).max().unwrap_or_default();
            let hash = found.hash(tp.partition);
            let versions = lane.versions.entry(found.offset).or_default();
            if versions.last().is_none_or(|last| last.hash != hash) {
                versions.push(Version {
                    hash,
                    value: found.record.value,
                    is_due: true,
                    taken: None,
                    since,
                    until: u64::MAX,
                    taken_at: u64::MAX,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_showed_when_a_commit_was_accepted_is_told_from_what_came_and_went() {
        let mut ledger = Ledger::default();
        ledger.incarnate("topic", 1);
        let lane = ledger.lane(0);
        let version = |since| Version { hash: [1; 32], value: None, is_due: true, taken: None, since, until: u64::MAX, taken_at: u64::MAX };
        (0..3).for_each(|offset| lane.versions.entry(offset).or_default().push(version(0)));
        lane.compact(0, 10);
        assert_eq!([9, 10].map(|order| lane.showed(0..1, order)), [true, false], "compaction took it");
        lane.truncate(1..3, 2, 20, 1);
        (1..3).for_each(|offset| lane.versions.entry(offset).or_default().push(version(20)));
        assert_eq!([19, 21].map(|order| lane.showed(1..2, order)), [true, false], "what was read is written anew, and is listed");
        assert_eq!([19, 21].map(|order| lane.showed(2..3, order)), [true, true], "nobody had read what stood there before");
        lane.retain_from(3, 25);
        assert!(lane.showed(2..3, 30), "what nobody read must be listed, too");
    }

    #[test]
    fn a_cut_is_hidden_only_while_nobody_knew_a_later_epoch() {
        let mut ledger = Ledger::default();
        ledger.incarnate("topic", 1);
        let lane = ledger.lane(0);
        let version = Version { hash: [1; 32], value: None, is_due: true, taken: None, since: 0, until: u64::MAX, taken_at: u64::MAX };
        lane.truncate(0..2, 1, 10, 3);
        lane.versions.entry(0).or_default().push(version);
        let known = |blind: &[(u64, u64)], epochs: &[(u64, i32)]| KnownEpochs { blind: blind.to_vec(), epochs: epochs.to_vec() };
        assert!(!lane.hides(0, |_, _| false, &known(&[], &[])), "it had only to read on");
        assert!(
            lane.hides(0, |_, _| false, &known(&[(20, 30)], &[(5, 2), (12, 2)])),
            "the offsets were forgotten before anybody read of it"
        );
        assert!(!lane.hides(0, |_, _| false, &known(&[(20, 30)], &[(12, 3)])), "it had read of the new leader before");
        assert!(!lane.hides(0, |_, _| false, &known(&[(4, 9)], &[])), "it knew an epoch again before the cut");
        assert!(!lane.hides(1, |_, _| false, &known(&[(20, 30)], &[])), "nobody had read so far, or it would be stored");
        assert!(lane.hides(1, |_, _| true, &known(&[(20, 30)], &[])));
        lane.retain_from(1, 25);
        assert!(lane.hides(0, |_, _| false, &known(&[], &[(26, 3)])), "retention came first");
        assert!(!lane.hides(0, |_, _| false, &known(&[], &[(24, 3)])));
    }
}
