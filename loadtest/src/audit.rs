//! Holds what was found against what a production committed: each committed record once, whole, in its partition and in order; no aborted one.
//!
//! Place: whoever reads records back, from objects or from the topic, hands them in one by one. Needs a bit of memory for each record that was sent.
//!
//! Not done here: records of others, also of another production, are counted and otherwise left alone. One of ours that was damaged so badly that it
//! does not begin like one is counted with them, and then missing.

use serde::{Deserialize, Serialize};

use crate::manifest::Manifest;
use crate::payload::{NotWhole, Payload};

/// Most examples that are kept of what is wrong.
const EXAMPLES_MAX: usize = 20;

/// A count of the records of one production.
#[derive(Debug)]
pub struct Audit<'a> {
    manifest: &'a Manifest,
    seed: u64,
    seen: Vec<Bits>,
    /// The last number of each partition in the place that is being read.
    last: Vec<Option<u64>>,
    found: Findings,
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Records that were committed.
    pub committed: u64,
    /// Records that were read, whosever they are.
    pub read: u64,
    /// Committed records that were found once at least.
    pub found: u64,
    /// Committed records that were not found.
    pub missing: u64,
    /// Records that were found again.
    pub duplicated: u64,
    /// Records that are not as they were sent.
    pub damaged: u64,
    /// Records of aborted transactions.
    pub aborted: u64,
    /// Records of this production that it never sent.
    pub unknown: u64,
    /// Records in another partition than their own.
    pub misplaced: u64,
    /// Records behind one with a higher number.
    pub disordered: u64,
    /// Records of others.
    pub foreign: u64,
    /// Some of what is wrong.
    pub examples: Vec<String>,
}

impl<'a> Audit<'a> {
    /// With nothing read.
    pub fn new(manifest: &'a Manifest) -> Self {
        Self {
            seed: manifest.seed(),
            seen: manifest.lanes.iter().map(|lane| Bits::new(lane.records)).collect(),
            last: vec![None; manifest.lanes.len()],
            found: Findings { committed: manifest.committed(), ..Findings::default() },
            manifest,
        }
    }

    /// Begins another place, such as an object. Order counts within a place.
    pub fn begin(&mut self) {
        self.last.fill(None);
    }

    /// Takes the value of a record, and where it was found.
    pub fn take(&mut self, place: &str, partition: i32, value: Option<&[u8]>) {
        self.found.read += 1;
        match value.map_or(Err(NotWhole::Foreign), Payload::read) {
            Ok(payload) if payload.seed == self.seed => self.take_ours(place, partition, payload),
            Ok(_) | Err(NotWhole::Foreign) => self.found.foreign += 1,
            Err(NotWhole::Damaged) => {
                self.found.damaged += 1;
                self.example(|| format!("{place}: a record of partition {partition} is damaged"));
            }
        }
    }

    fn take_ours(&mut self, place: &str, partition: i32, payload: Payload) {
        let Payload { partition: own, sequence, .. } = payload;
        let index = usize::try_from(own).ok().filter(|at| self.manifest.lanes.get(*at).is_some_and(|lane| sequence < lane.records));
        let Some(index) = index else {
            self.found.unknown += 1;
            return self.example(|| format!("{place}: record {sequence} of partition {own} was never sent"));
        };
        if own != partition {
            self.found.misplaced += 1;
            self.example(|| format!("{place}: record {sequence} of partition {own} is in partition {partition}"));
        }
        if self.last[index].is_some_and(|last| last > sequence) {
            self.found.disordered += 1;
            self.example(|| format!("{place}: record {sequence} of partition {own} stands behind a later one"));
        }
        self.last[index] = Some(sequence);
        if payload.is_aborted || self.manifest.lanes[index].is_aborted(sequence) {
            self.found.aborted += 1;
            return self.example(|| format!("{place}: record {sequence} of partition {own} belongs to an aborted transaction"));
        }
        if self.seen[index].set(sequence) {
            self.found.found += 1;
        } else {
            self.found.duplicated += 1;
            self.example(|| format!("{place}: record {sequence} of partition {own} was found before"));
        }
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.found.examples.len() < EXAMPLES_MAX {
            self.found.examples.push(text());
        }
    }

    /// Everything was read.
    pub fn finish(mut self) -> Findings {
        self.found.missing = self.found.committed - self.found.found;
        if self.found.missing > 0 {
            let manifest = self.manifest;
            for (partition, (lane, seen)) in manifest.lanes.iter().zip(&self.seen).enumerate() {
                let missing = (0..lane.records).find(|n| lane.is_committed(*n) && !seen.has(*n));
                if let Some(sequence) = missing
                    && self.found.examples.len() < EXAMPLES_MAX
                {
                    self.found.examples.push(format!("partition {partition}: record {sequence} is the first that is missing"));
                }
            }
        }
        self.found
    }
}

impl Findings {
    /// What is wrong, a sentence each; nothing if each committed record is there once.
    pub fn faults(&self) -> Vec<String> {
        let counted = [
            (self.missing, "committed records are missing"),
            (self.duplicated, "records are there more than once"),
            (self.damaged, "records are damaged"),
            (self.aborted, "records of aborted transactions are there"),
            (self.unknown, "records are there that were never sent"),
            (self.misplaced, "records are in another partition than their own"),
            (self.disordered, "records stand behind later ones"),
        ];
        counted.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

/// One bit for each number.
#[derive(Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(len: u64) -> Self {
        Self(vec![0; usize::try_from(len.div_ceil(64)).unwrap_or(usize::MAX)])
    }

    fn place(number: u64) -> (usize, u64) {
        (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
    }

    fn has(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Sets a bit, and answers whether it was not set before.
    fn set(&mut self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Ledger;
    use crate::payload::{Payloads, Sizes};

    const SIZES: Sizes = Sizes { min: 100, max: 400 };

    /// Two partitions; of the second, numbers 2 and 3 were aborted.
    fn manifest() -> Manifest {
        let mut ledger = Ledger::new(2);
        for (partition, records, is_aborted) in [(0, 100, false), (1, 2, false), (1, 2, true), (1, 66, false)] {
            (0..records).for_each(|_| ledger.sent(partition));
            ledger.end_transaction(is_aborted);
        }
        ledger.into_manifest("orders", 77, true)
    }

    fn value(partition: i32, sequence: u64) -> Vec<u8> {
        let is_aborted = partition == 1 && (2..4).contains(&sequence);
        Payloads::new(77, SIZES).value(partition, sequence, is_aborted).as_bytes().to_vec()
    }

    /// Partitions and values.
    type Found = Vec<(i32, Option<Vec<u8>>)>;

    /// An audit of everything that was committed, altered.
    fn audit(alter: impl Fn(&mut Found)) -> Findings {
        let manifest = manifest();
        let mut records = Found::new();
        for (partition, lane) in (0..).zip(&manifest.lanes) {
            records.extend((0..lane.records).filter(|n| lane.is_committed(*n)).map(|n| (partition, Some(value(partition, n)))));
        }
        alter(&mut records);
        let mut audit = Audit::new(&manifest);
        for (partition, value) in &records {
            audit.take("object", *partition, value.as_deref());
        }
        audit.finish()
    }

    #[test]
    fn everything_once_is_without_fault() {
        let found = audit(|_| {});
        assert_eq!((found.committed, found.found, found.read), (168, 168, 168));
        assert_eq!((found.faults(), found.examples), (vec![], vec![]));
    }

    #[test]
    fn each_fault_is_found_and_named() {
        let fault = |alter: fn(&mut Found), expected: &str| {
            let found = audit(alter);
            assert_eq!(found.faults(), [expected], "{found:?}");
            assert!(!found.examples.is_empty());
        };
        fault(|records| drop(records.remove(5)), "1 committed records are missing");
        fault(|records| records.push(records[167].clone()), "1 records are there more than once");
        fault(|records| records.insert(102, (1, Some(value(1, 3)))), "1 records of aborted transactions are there");
        fault(|records| records.push((1, Some(value(1, 70)))), "1 records are there that were never sent");
        fault(|records| records.push((1, Some(value(9, 0)))), "1 records are there that were never sent");
        fault(|records| records[3].0 = 1, "1 records are in another partition than their own");
        fault(|records| records.swap(8, 9), "1 records stand behind later ones");
    }

    #[test]
    fn a_damaged_record_is_missing_too() {
        let found = audit(|records| records[50].1.as_mut().expect("a value")[60] ^= 1);
        assert_eq!(found.faults(), ["1 committed records are missing", "1 records are damaged"]);
        let found = audit(|records| records[50].1 = None);
        assert_eq!((found.faults(), found.foreign), (vec!["1 committed records are missing".to_owned()], 1));
    }

    #[test]
    fn records_of_others_are_counted_and_left_alone() {
        let other = Payloads::new(78, SIZES).value(0, 1, false).as_bytes().to_vec();
        let found = audit(|records| records.extend([(0, Some(other.clone())), (0, Some(b"else".to_vec())), (1, None)]));
        assert_eq!((found.faults(), found.foreign, found.read), (vec![], 3, 171));
    }

    #[test]
    fn order_counts_within_a_place() {
        let manifest = manifest();
        let mut audit = Audit::new(&manifest);
        for half in [50..100, 0..50] {
            audit.begin();
            half.for_each(|n| audit.take("object", 0, Some(&value(0, n))));
        }
        assert_eq!(audit.finish().disordered, 0);
    }

    #[test]
    fn examples_are_bounded() {
        let found = audit(|records| records.clear());
        assert_eq!((found.missing, found.examples.len()), (168, 2));
        let found = audit(|records| records.extend(records.clone()));
        assert_eq!((found.duplicated, found.examples.len()), (168, EXAMPLES_MAX));
    }
}
