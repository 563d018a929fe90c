//! Every record that was ever visible, what took it away, and so what a backup must hold.
//!
//! The log forgets: retention and compaction delete, a new leader truncates, a topic is made again. The ledger looks before each of these
//! and at the end, so that it knows each record at each offset, and which ranges a backup may list as missing and why.

use std::collections::{BTreeMap, BTreeSet};
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
}

/// One partition of one incarnation of the topic.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// What was visible at each offset, oldest first.
    pub versions: BTreeMap<i64, Vec<Version>>,
    /// Offsets whose records compaction took.
    compacted: BTreeSet<i64>,
    cuts: Vec<Cut>,
    /// Batches that are corrupt for good.
    corrupt: Vec<Range<i64>>,
    /// Where the log started at most.
    retained_to: i64,
}

impl Lane {
    /// What is to be stored of an offset: the last record that stood there, if the log still had it when faults stopped or something took
    /// it.
    pub fn due(&self, offset: i64) -> Option<&Version> {
        self.versions.get(&offset)?.last().filter(|version| version.is_due)
    }

    /// Whether a repeated upload of a range may differ from the first one (rule A3): something took a record of it, or made it unreadable.
    pub fn may_repeat_differently(&self, range: OffsetRange) -> bool {
        let meets = |offsets: &Range<i64>| offsets.start < range.end && range.start < offsets.end;
        range.start < self.retained_to
            || self.compacted.range(range.start..range.end).next().is_some()
            || self.corrupt.iter().any(meets)
            || self.cuts.iter().any(|cut| meets(&cut.offsets))
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

    /// Whether a backup may list a range as missing: each record in it, that is; holes at its edges are nobody's.
    pub fn explains(&self, gap: Missing) -> bool {
        let mut offsets = self.versions.range(gap.0..gap.1).map(|(offset, _)| *offset);
        match gap.cause() {
            GapCause::Retention => {
                let is_gone = |offset| self.due(offset).is_none_or(|due| due.taken.is_some());
                gap.1 <= self.retained_to && offsets.all(is_gone)
            }
            GapCause::Truncation => {
                let is_cut = |offset| self.cuts.iter().any(|cut| cut.offsets.contains(&offset));
                self.cuts.iter().any(|cut| cut.offsets.start < gap.1 && gap.0 < cut.offsets.end) && offsets.all(is_cut)
            }
            GapCause::CorruptBatch => {
                let is_shown = |offset| self.due(offset).is_some_and(|due| due.taken != Some(Taken::Compaction));
                let is_corrupt = |offset| !is_shown(offset) || self.was_empty(offset) || self.is_in_or_between_corrupt(offset, gap);
                self.corrupt.iter().any(|batch| batch.start < gap.1 && gap.0 < batch.end) && offsets.all(is_corrupt)
            }
            GapCause::TopicRecreated | GapCause::OperatorSkip => false,
        }
    }

    /// Whether the record that is due at an offset may be absent where another one, or none, was stored before it, and nothing says so: the
    /// log was cut below what was read, and nobody can know. Either retention took the new records, and with them the leader epochs that
    /// would show it; or the group forgot its offsets, and the lane went over objects behind its anchor, which name no leader epoch;
    /// `blind_until` says when the group knew one again.
    pub fn hides(&self, offset: i64, blind_until: &[u64]) -> bool {
        let is_gone = self.due(offset).is_some_and(|due| due.taken == Some(Taken::Retention));
        let is_hidden = |cut: &Cut| (is_gone && offset < cut.read_to) || blind_until.iter().any(|until| *until > cut.order);
        self.cuts.iter().any(|cut| cut.offsets.contains(&offset) && is_hidden(cut))
    }

    /// Whether an offset lies in a corrupt batch, or between two that a gap reaches over: the search for the end of the first cannot tell
    /// them apart (`engine/src/reader/corrupt.rs`).
    fn is_in_or_between_corrupt(&self, offset: i64, gap: Missing) -> bool {
        let met = || self.corrupt.iter().filter(|batch| batch.start < gap.1 && gap.0 < batch.end);
        met().any(|batch| batch.contains(&offset)) || (met().any(|b| b.end <= offset) && met().any(|b| b.start > offset))
    }

    /// Whether there ever was a leader that had an offset and showed nothing there.
    fn was_empty(&self, offset: i64) -> bool {
        let leaders = 1 + self.cuts.iter().filter(|cut| cut.offsets.contains(&offset)).count();
        self.versions.get(&offset).map_or(0, Vec::len) < leaders
    }

    /// Whether a new leader ever lacked what stood at an offset.
    pub fn was_cut(&self, offset: i64) -> bool {
        self.cuts.iter().any(|cut| cut.offsets.contains(&offset))
    }

    /// Compaction takes the record that stands at an offset.
    pub fn compact(&mut self, offset: i64, order: u64) {
        if let Some(version) = self.take(offset, Taken::Compaction) {
            version.until = order;
            self.compacted.insert(offset);
        }
    }

    /// Something takes the record that stands at an offset, if one does that nothing has taken before.
    fn take(&mut self, offset: i64, taken: Taken) -> Option<&mut Version> {
        let version = self.versions.get_mut(&offset)?.last_mut().filter(|version| version.is_due && version.taken.is_none())?;
        version.taken = Some(taken);
        Some(version)
    }

    /// Retention takes what lies before `to`.
    pub fn retain_from(&mut self, to: i64) {
        self.retained_to = self.retained_to.max(to);
        let before: Vec<i64> = self.versions.range(..to).map(|(offset, _)| *offset).collect();
        for offset in before {
            self.take(offset, Taken::Retention);
        }
    }

    /// A new leader lacks these offsets, the last ones of the log: what was there never was, unless it was read.
    pub fn truncate(&mut self, offsets: Range<i64>, read_to: i64, order: u64) {
        for version in self.versions.range_mut(offsets.start..).flat_map(|(_, versions)| versions) {
            (version.is_due, version.until) = (false, version.until.min(order));
        }
        self.cuts.push(Cut { offsets, read_to, order });
    }

    /// A batch is corrupt: for good, or once.
    pub fn corrupt(&mut self, offsets: Range<i64>, for_good: bool) {
        if for_good {
            self.corrupt.push(offsets);
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
                versions.push(Version { hash, value: found.record.value, is_due: true, taken: None, since, until: u64::MAX });
            }
        }
    }
}
