//! What the objects of a run say that they hold, and whether that is what the run was given.
//!
//! Its place: behind a run of the engine [within this program](crate::in_process), before any figure of it counts. The proof of each object is read
//! as the engine would read it; one whose size is not that of the object that the store was given proves nothing. Ranges must follow one another
//! without a hole, from the first record of a partition to its last.
//!
//! Guarantee: of records that were [made here](crate::synthetic) counts and digest of every object are computed anew and compared. Of a topic's
//! records that cannot be done without reading it again: there the counts are for the caller to compare.
//!
//! What it does not do: read the objects. `catchment verify` does, where a store keeps them.

use std::collections::BTreeMap;

use catchment::commit::proof::look_whole;
use catchment::store::key::Layout;
use catchment::store::{ObjectStore, StoreError};
use catchment_formats::{Proof, ValueLayout};

use crate::Failure;
use crate::null_store::CONTROL;
use crate::synthetic::Synthetic;

/// What all objects hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Held {
    /// Records.
    pub records: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
}

/// The proofs of all objects of a store.
///
/// # Errors
/// If the store does not answer, or an object does not say what it holds.
pub async fn read(store: &dyn ObjectStore) -> Result<Vec<Proof>, Failure> {
    let failed = |e: StoreError| Failure::Tried(format!("what was stored cannot be read back: {e}"));
    let (mut proofs, mut after) = (Vec::new(), None);
    loop {
        let page = store.list("", false, after.as_deref()).await.map_err(failed)?;
        for object in page.objects.iter().filter(|object| !object.key.starts_with(CONTROL)) {
            let found = look_whole(store, &Layout::Hive, &object.key).await.map_err(failed)?;
            let proof = found.and_then(|(_, proof)| proof);
            proofs.push(proof.ok_or_else(|| wrong(&object.key, "does not say what it holds, or is not what was sent"))?);
        }
        after = page.next;
        if after.is_none() {
            return Ok(proofs);
        }
    }
}

/// What the objects hold together, if nothing is missing, and if each holds just what was given.
///
/// # Errors
/// If not.
pub fn check(mut proofs: Vec<Proof>, given: Option<&Synthetic>, layout: ValueLayout) -> Result<Held, Failure> {
    proofs.sort_by_key(|proof| (proof.lane.partition, proof.range.start));
    let mut ends: BTreeMap<i32, i64> = given.iter().flat_map(|given| given.ends()).map(|(tp, _)| (tp.partition, 0)).collect();
    let mut held = Held::default();
    for proof in &proofs {
        let partition = proof.lane.partition;
        let what = format!("partition {partition}, {}", proof.range);
        let end = ends.entry(partition).or_insert(proof.range.start);
        if *end != proof.range.start || !proof.missing.is_empty() {
            return Err(wrong(&what, "does not follow what is stored before it, or lacks something"));
        }
        if given.is_some_and(|given| given.expected(partition, proof.range, layout) != Some((proof.counts, proof.digest))) {
            return Err(wrong(&what, "holds other records than were given"));
        }
        *end = proof.range.end;
        held.records += proof.counts.records;
        held.value_bytes += proof.counts.value_bytes;
    }
    match given.iter().flat_map(|given| given.ends()).find(|(tp, end)| ends.get(&tp.partition) != Some(end)) {
        Some((tp, end)) => Err(wrong(&tp.to_string(), &format!("does not end at {end}, where the last record is"))),
        None => Ok(held),
    }
}

fn wrong(what: &str, why: &str) -> Failure {
    Failure::Tried(format!("what was stored is not what was given: {what} {why}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use catchment::source::{PartitionQueue, QueueEvent, Source};
    use catchment::store::{Guard, Metadata, Payload};
    use catchment_formats::{Block, Encoding, GapCause, LaneId, Missing, OffsetRange, segment_encoder};

    use super::*;
    use crate::null_store::NullStore;
    use crate::synthetic::TOPIC;

    const LAYOUT: ValueLayout = ValueLayout::Plain;

    fn given() -> Synthetic {
        Synthetic::new(1024, 8, false)
    }

    fn lane(partition: i32) -> LaneId {
        LaneId { rule: "r".into(), cluster: TOPIC.into(), topic: TOPIC.into(), topic_id: "0".into(), partition }
    }

    /// A sound proof.
    fn proof(given: &Synthetic, partition: i32, start: i64, end: i64) -> Proof {
        let range = OffsetRange::new(start, end);
        let (counts, digest) = given.expected(partition, range, LAYOUT).unwrap();
        Proof { lane: lane(partition), range, missing: vec![], counts, digest, encoding: Encoding::PARQUET_ZSTD1.to_string(), size: None }
    }

    /// Two objects of each partition, the later ones first.
    fn proofs(given: &Synthetic) -> Vec<Proof> {
        let of = |from_half: bool| {
            given.ends().map(move |(tp, end)| {
                let (start, end) = if from_half { (end / 2, end) } else { (0, end / 2) };
                proof(given, tp.partition, start, end)
            })
        };
        of(true).chain(of(false)).collect()
    }

    #[test]
    fn whole_objects_hold_what_was_given() {
        let given = given();
        let held = Held { records: given.records(), value_bytes: given.value_bytes() };
        assert_eq!(check(proofs(&given), Some(&given), LAYOUT), Ok(held));
        assert_eq!(check(proofs(&given), None, LAYOUT), Ok(held), "of a topic the counts are told");
        assert_eq!(check(vec![], None, LAYOUT), Ok(Held::default()));
    }

    #[test]
    fn objects_that_hold_anything_else_are_refused() {
        let given = given();
        type Spoil = fn(&mut Vec<Proof>);
        let spoilt = |spoil: Spoil| {
            let mut proofs = proofs(&given);
            spoil(&mut proofs);
            check(proofs, Some(&given), LAYOUT)
        };
        let spoils: [(&str, Spoil); 7] = [
            ("nothing", Vec::clear),
            ("the last object of a partition is missing", |all| drop(all.remove(0))),
            ("the first object of a partition is missing", |all| drop(all.pop())),
            ("an object twice", |all| all.push(all[0].clone())),
            ("other records", |all| all[3].digest.values ^= 1),
            ("another count", |all| all[3].counts.records += 1),
            ("a gap", |all| all[3].missing.push(Missing(0, 1, GapCause::Retention))),
        ];
        for (what, spoil) in spoils {
            assert!(matches!(spoilt(spoil), Err(Failure::Tried(_))), "{what}");
        }
        let mut halves = proofs(&given);
        halves.retain(|proof| proof.range.start > 0);
        assert!(check(halves, None, LAYOUT).is_ok(), "nobody knows where a topic begins");
    }

    /// The first partition as one object of several parts, each larger than what is kept of it: its proof stands in the footer alone.
    #[test]
    fn a_proof_is_read_from_a_footer_that_the_null_store_has_kept() {
        let given = given();
        let (tp, end) = given.ends().next().unwrap();
        let mut queue = given.open(&tp, 0, -1, Arc::new(|| ())).unwrap();
        let bytes = encoded(&mut *queue, end);
        assert!(bytes.len() > 3 * (64 << 10), "{}", bytes.len());
        let store: Box<dyn ObjectStore> = Box::new(NullStore::default());
        let found = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let key = "synthetic/dt=2025-10-09/hour=8/synthetic+0+00000000000000000000.parquet";
            let upload = store.create_upload(key, &Metadata::new(), Guard::IfAbsent).await.unwrap();
            let mut parts = Vec::new();
            for (number, part) in (1..).zip(bytes.chunks(bytes.len().div_ceil(3))) {
                parts.push(store.upload_part(key, &upload, number, Payload::from_bytes(part.to_vec())).await.unwrap());
            }
            store.complete_upload(key, &upload, &parts, Guard::IfAbsent).await.unwrap();
            read(&*store).await.unwrap()
        });
        let whole = Proof { size: Some(bytes.len() as u64), ..proof(&given, tp.partition, 0, end) };
        assert_eq!(found, [whole]);
    }

    fn encoded(queue: &mut dyn PartitionQueue, end: i64) -> Vec<u8> {
        let mut encoder = segment_encoder(&Encoding::PARQUET_ZSTD1, &lane(0), 0);
        let (mut block, mut bytes) = (Block::new(LAYOUT), Vec::new());
        while queue.fill() {
            if let Some(QueueEvent::Record(record, _)) = queue.peek() {
                block.push(&record);
            }
            queue.pop();
            if block.is_full() {
                encoder.append(&block, &mut bytes);
                block.reset(LAYOUT);
            }
        }
        encoder.append(&block, &mut bytes);
        encoder.finish(end, &[], &mut bytes);
        bytes
    }
}
