//! Every record that was ever visible, what took it away, and so what a backup must hold.
//!
//! The log forgets: retention and compaction delete, a new leader truncates, a topic is made again. The ledger looks before each of these
//! and at the end, so that it knows each record at each offset, and which ranges a backup may list as missing and why.

use std::collections::BTreeMap;

use catchment::source::TopicPartition;
use catchment_formats::GapCause;

use super::world::World;
use crate::oracle::RecordHash;
use crate::scripted::cluster::ScriptedCluster;

/// One record, by the oracle's hash and by its bare value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Of the whole record.
    pub hash: RecordHash,
    /// The value; for raw objects, which hold nothing else.
    pub value: Option<Vec<u8>>,
    /// Whether it must be stored. A new leader lacks some; whoever had read them has stored them rightly.
    pub is_due: bool,
}

/// A reason for which records need not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excuse {
    /// First offset.
    pub from: i64,
    /// First offset that is not excused.
    pub to: i64,
    /// What a backup calls it; none: compaction, which is no gap.
    pub cause: Option<GapCause>,
}

/// One partition of one incarnation of the topic.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// What was visible at each offset, oldest first.
    pub versions: BTreeMap<i64, Vec<Version>>,
    /// What may be absent.
    pub excuses: Vec<Excuse>,
    /// Whether a repeated upload may differ from the first one (rule A3).
    pub may_repeat_differently: bool,
}

impl Lane {
    /// Whether a backup may list a range as missing: each record in it, that is; holes at its edges are nobody's.
    pub fn excuses_gap(&self, from: i64, to: i64, cause: GapCause) -> bool {
        let is_excused = |offset: &i64| self.excuses.iter().any(|e| e.cause == Some(cause) && (e.from..e.to).contains(offset));
        self.versions.range(from..to).all(|(offset, _)| is_excused(offset)) && self.excuses.iter().any(|e| e.cause == Some(cause))
    }

    /// Whether an offset may be absent and nothing says so: compaction took it, or the log was truncated below what was read and then
    /// retention took even the leader epochs that would show it, so that nobody can know.
    pub fn may_be_absent(&self, offset: i64) -> bool {
        let is_excused_by = |cause| self.excuses.iter().any(|e| e.cause == cause && (e.from..e.to).contains(&offset));
        is_excused_by(None) || (is_excused_by(Some(GapCause::Truncation)) && is_excused_by(Some(GapCause::Retention)))
    }
}

/// The ledger of one topic.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By the topic's id and the partition.
    lanes: BTreeMap<(String, i32), Lane>,
    current: String,
}

impl Ledger {
    /// The topic has this id from now on.
    pub fn incarnate(&mut self, id: &str, partitions: i32) {
        self.current = id.to_owned();
        for partition in 0..partitions {
            self.lanes.entry((id.to_owned(), partition)).or_default();
        }
    }

    /// A partition of the current incarnation.
    pub fn lane(&mut self, partition: i32) -> &mut Lane {
        self.lanes.entry((self.current.clone(), partition)).or_default()
    }

    /// All partitions of all incarnations.
    pub fn lanes(&self) -> &BTreeMap<(String, i32), Lane> {
        &self.lanes
    }

    /// The current incarnation's id.
    pub fn current(&self) -> &str {
        &self.current
    }

    /// Enters what a partition shows now.
    pub fn look(&mut self, world: &World, cluster: &ScriptedCluster, tp: &TopicPartition) {
        let seen = cluster.look(tp, |log| {
            let bounds = log.bounds();
            (bounds.start..bounds.end).filter_map(|offset| log.record(offset)).collect::<Vec<_>>()
        });
        world.trace(format_args!("{tp} shows {} records", seen.len()));
        let lane = self.lane(tp.partition);
        for found in seen {
            let hash = found.hash(tp.partition);
            let versions = lane.versions.entry(found.offset).or_default();
            if versions.last().is_none_or(|last| last.hash != hash) {
                versions.push(Version { hash, value: found.record.value, is_due: true });
            }
        }
    }

    /// The log ends at `end` from now on: what was behind it never was, unless it was read.
    pub fn truncate(&mut self, partition: i32, end: i64) {
        let behind = self.lane(partition).versions.range_mut(end..);
        behind.flat_map(|(_, versions)| versions).for_each(|version| version.is_due = false);
    }

    /// Records may be absent from now on.
    pub fn excuse(&mut self, partition: i32, excuse: Excuse) {
        let lane = self.lane(partition);
        lane.excuses.push(excuse);
        lane.may_repeat_differently = true;
    }
}
