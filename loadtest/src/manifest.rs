//! What a production committed: the list that a backup is held against.
//!
//! Each partition has its sequence numbers from 0; those of aborted transactions are listed, all others are committed. Written once everything is
//! acknowledged, so that a manifest never names a record of which it is not known whether the topic has it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// Of the form of the file.
const VERSION: u32 = 1;

/// What was sent to one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// How many records, numbered from 0.
    pub records: u64,
    /// Those of aborted transactions: ranges of numbers, the second one not included, ascending.
    pub aborted: Vec<(u64, u64)>,
}

impl Lane {
    /// Whether a number was committed.
    pub fn is_committed(&self, sequence: u64) -> bool {
        sequence < self.records && !self.is_aborted(sequence)
    }

    /// Whether a number belongs to an aborted transaction.
    pub fn is_aborted(&self, sequence: u64) -> bool {
        let behind = self.aborted.partition_point(|(from, _)| *from <= sequence);
        behind.checked_sub(1).is_some_and(|at| sequence < self.aborted[at].1)
    }

    /// How many were committed.
    pub fn committed(&self) -> u64 {
        self.records - self.aborted.iter().map(|(from, to)| to - from).sum::<u64>()
    }
}

/// What a production committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of the form of this file.
    pub version: u32,
    /// The topic.
    pub topic: String,
    /// The production's seed, 16 hex digits.
    pub seed: String,
    /// Whether the topic held nothing before.
    pub was_empty: bool,
    /// Partition by partition.
    pub lanes: Vec<Lane>,
}

impl Manifest {
    /// Records that were committed.
    pub fn committed(&self) -> u64 {
        self.lanes.iter().map(Lane::committed).sum()
    }

    /// The seed as a number.
    pub fn seed(&self) -> u64 {
        u64::from_str_radix(&self.seed, 16).unwrap_or_default()
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// If the file cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Failure::new(format!("the manifest {shown} cannot be read"))
                .because(e)
                .help("name the file that catchment-loadtest produce wrote with --manifest")
        })?;
        Self::parse(&text).map_err(|e| {
            Failure::new(format!("{shown} is not a manifest")).because(e).help("name the file that catchment-loadtest produce wrote")
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if manifest.version != VERSION {
            return Err(format!("its version is {}, and this program reads version {VERSION}", manifest.version));
        }
        if u64::from_str_radix(&manifest.seed, 16).is_err() {
            return Err("its seed is not a number in hex".to_owned());
        }
        let is_sane = |lane: &Lane| {
            let mut behind = 0;
            lane.aborted.iter().all(|(from, to)| {
                behind <= *from && from < to && *to <= lane.records && {
                    behind = *to;
                    true
                }
            })
        };
        if manifest.lanes.iter().all(is_sane) { Ok(manifest) } else { Err("its aborted ranges do not ascend".to_owned()) }
    }

    /// Writes it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self).expect("plain values serialise");
        std::fs::write(path, text + "\n").map_err(|e| {
            Failure::new(format!("the manifest {} cannot be written", path.display())).because(e).help("choose another --manifest FILE")
        })
    }
}

/// Counts what is sent while it is sent.
#[derive(Debug)]
pub struct Ledger {
    lanes: Vec<Lane>,
    /// Where the open transaction began, lane by lane.
    begun: Vec<u64>,
}

impl Ledger {
    /// With nothing sent to any of these partitions.
    pub fn new(partitions: i32) -> Self {
        let lanes = vec![Lane::default(); usize::try_from(partitions).unwrap_or_default()];
        Self { begun: vec![0; lanes.len()], lanes }
    }

    /// The number that the next record of a partition has.
    pub fn next(&self, partition: i32) -> u64 {
        self.lanes[index(partition)].records
    }

    /// Counts a record that was sent.
    pub fn sent(&mut self, partition: i32) {
        self.lanes[index(partition)].records += 1;
    }

    /// Ends a transaction.
    pub fn end_transaction(&mut self, is_aborted: bool) {
        for (lane, begun) in self.lanes.iter_mut().zip(&mut self.begun) {
            if is_aborted && lane.records > *begun {
                match lane.aborted.last_mut() {
                    Some((_, to)) if *to == *begun => *to = lane.records,
                    _ => lane.aborted.push((*begun, lane.records)),
                }
            }
            *begun = lane.records;
        }
    }

    /// Everything was acknowledged.
    pub fn into_manifest(self, topic: &str, seed: u64, was_empty: bool) -> Manifest {
        Manifest { version: VERSION, topic: topic.to_owned(), seed: format!("{seed:016x}"), was_empty, lanes: self.lanes }
    }
}

fn index(partition: i32) -> usize {
    usize::try_from(partition).expect("partitions are no less than 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_transactions() -> Manifest {
        let mut ledger = Ledger::new(2);
        for (records, is_aborted) in [(3, false), (2, true), (2, true), (1, false)] {
            for n in 0..records {
                assert_eq!(ledger.next(0), ledger.lanes[0].records);
                ledger.sent(i32::from(n == 2));
            }
            ledger.end_transaction(is_aborted);
        }
        ledger.into_manifest("orders", 0xab, true)
    }

    #[test]
    fn aborted_numbers_are_told_from_committed_ones() {
        let manifest = three_transactions();
        assert_eq!(manifest.lanes[0], Lane { records: 7, aborted: vec![(2, 6)] });
        assert_eq!(manifest.lanes[1], Lane { records: 1, aborted: vec![] });
        let committed: Vec<u64> = (0..9).filter(|n| manifest.lanes[0].is_committed(*n)).collect();
        assert_eq!((committed, manifest.committed()), (vec![0, 1, 6], 4));
        assert!(!manifest.lanes[0].is_aborted(1) && manifest.lanes[0].is_aborted(2) && !manifest.lanes[0].is_aborted(6));
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("orders.json");
        let manifest = three_transactions();
        manifest.write(&path).expect("the directory is writable");
        assert_eq!(Manifest::read(&path).expect("it was written"), manifest);
        assert_eq!(manifest.seed(), 0xab);
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let text = serde_json::to_string(&three_transactions()).expect("it serialises");
        let damaged = [
            String::new(),
            "{}".to_owned(),
            text.replace("\"version\":1", "\"version\":2"),
            text.replace("[2,6]", "[6,2]"),
            text.replace("[2,6]", "[2,8]"),
            text.replace("[2,6]", "[2,3],[2,4]"),
            text.replace("00ab", "x"),
        ];
        for text in damaged {
            assert!(Manifest::parse(&text).is_err(), "{text}");
        }
        assert!(Manifest::read(Path::new("/nowhere/at/all")).is_err());
    }
}
