//! What is in the bucket in the end, against what the cluster holds: record by record, and by the invariants of the protocol.
//!
//! Nothing of the engine's store or key code is asked: objects are taken from the server's own memory, their names are read by hand, and
//! each record is compared by the oracle's hash with what the cluster's function gives for its offset.

use std::collections::BTreeMap;

use bytes::Bytes;
use catchment::intent::CommitNote;
use catchment::invariants::{self, Extent, Sight};
use catchment::source::TopicPartition;
use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::raw::{RawDecoder, RawItem};
use catchment_formats::{Block, Encoding, OffsetRange, Proof, ValueLayout};

use super::play::World;
use super::scene::{TOPIC, place_of};
use crate::oracle::{Difference, Place, Stored};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) difference: Difference,
    /// Data objects that were read.
    pub(super) objects: usize,
    /// Everything else that is not as it must be.
    pub(super) violations: Vec<String>,
}

/// A data object.
struct Object {
    key: String,
    place: Place,
    proof: Proof,
    /// When it first became visible.
    order: u64,
}

/// Reads and compares everything.
pub(super) fn judge(world: &World) -> Verdict {
    let mut verdict = Verdict::default();
    let mut stored = Stored::default();
    let mut objects = Vec::new();
    for (key, versions) in world.server.state().versions().into_iter().filter(|(key, _)| !key.contains("_catchment/")) {
        match read(world, &key, &mut stored) {
            Ok((place, proof)) => objects.push(Object { key, place, proof, order: versions[0].order }),
            Err(why) => verdict.violations.push(format!("{key}: {why}")),
        }
    }
    verdict.objects = objects.len();
    verdict.difference = world.cluster.truth(TOPIC).compare(&stored);
    for tp in world.cluster.partitions(TOPIC) {
        let of_lane: Vec<_> = objects.iter().filter(|object| object.place.0 == tp.partition).collect();
        verdict.violations.extend(judge_lane(world, &tp, &of_lane).into_iter().map(|violation| format!("{tp}: {violation}")));
    }
    let state = world.server.state();
    verdict.violations.extend(state.changed_keys().into_iter().map(|key| format!("{key} changed after it had become visible")));
    verdict.violations.extend(state.open_uploads().into_iter().map(|(key, id)| format!("upload {id} of {key} is still open")));
    verdict
}

/// The invariants of one lane.
fn judge_lane(world: &World, tp: &TopicPartition, objects: &[&Object]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for object in
        objects.iter().filter(|object| object.proof.range.start != object.place.1 || object.proof.lane.partition != object.place.0)
    {
        found.push(format!("{} says {:?} {}", object.key, object.proof.lane, object.proof.range));
    }
    let extents: Vec<Extent> = objects.iter().map(|object| object.proof.range.into()).collect();
    let sights = sights(world, tp, objects);
    let committed = world.group.committed(tp);
    let position = committed.as_ref().map_or(0, |c| c.offset);
    let visible = |range: OffsetRange| world.cluster.is_visible(tp, range);
    let broken = [invariants::no_duplicate(&extents), invariants::gapless(Some(0), &extents)].into_iter().flatten();
    let broken = broken.chain(invariants::pinned_first(&sights)).chain(invariants::one_intent(&sights));
    let broken = broken.chain(invariants::no_loss(position, 0, &extents, visible));
    found.extend(broken.map(|violation| violation.to_string()));
    for object in objects.iter().filter(|object| !object.proof.missing.is_empty()) {
        found.push(format!("{} lists {:?} as missing, and nothing is", object.key, object.proof.missing));
    }
    let end = world.cluster.look(tp, |log| log.bounds().stable_end);
    let is_tidy = committed.is_some_and(|c| matches!(CommitNote::parse(&c.metadata), Ok(CommitNote::Tidy(_))));
    if position != end || !is_tidy {
        found.push(format!("the group stands at {position} of {end}, tidy: {is_tidy}"));
    }
    found
}

/// Pins and visible objects of a lane, in the order in which they took effect.
fn sights(world: &World, tp: &TopicPartition, objects: &[&Object]) -> Vec<Sight> {
    let mut sights: BTreeMap<u64, Sight> = BTreeMap::new();
    for accepted in world.group.accepted().into_iter().filter(|accepted| accepted.tp == *tp) {
        if let Ok(CommitNote::Intent(intent)) = CommitNote::parse(&accepted.commit.metadata) {
            sights.insert(accepted.order, Sight::Pinned { range: OffsetRange::new(intent.start, intent.end), key: intent.key });
        }
    }
    for object in objects {
        let key = object.key.strip_prefix("backup/").unwrap_or(&object.key).to_owned();
        sights.insert(object.order, Sight::Visible { range: object.proof.range, key });
    }
    sights.into_values().collect()
}

/// Reads an object's records. Returns what its name says, and its proof.
fn read(world: &World, key: &str, stored: &mut Stored) -> Result<(Place, Proof), String> {
    let place = place_of(key).ok_or("the name is not one of a data object")?;
    let bytes = world.server.state().object(key).ok_or("it was deleted")?;
    let proof = match key.ends_with(".parquet") {
        true => read_parquet(place.0, bytes, stored)?,
        false => read_raw(world, key, place, &bytes, stored)?,
    };
    Ok((place, proof))
}

fn read_parquet(partition: i32, bytes: Bytes, stored: &mut Stored) -> Result<Proof, String> {
    let mut decoder = ParquetDecoder::new(bytes).map_err(|e| e.to_string())?;
    let mut block = Block::new(ValueLayout::Plain);
    while decoder.next_block(&mut block).map_err(|e| e.to_string())? {
        block.iter().for_each(|record| stored.push_view(partition, &record));
    }
    Ok(decoder.proof().clone())
}

/// A raw object holds values alone; its proof says of which offsets. A value that is the one of its offset counts as that record.
fn read_raw(world: &World, key: &str, place: Place, bytes: &Bytes, stored: &mut Stored) -> Result<Proof, String> {
    let proof = raw_proof(world, key, place)?;
    let encoding: Encoding = proof.encoding.parse().map_err(|e| format!("{e}"))?;
    let mut decoder = RawDecoder::new(&bytes[..], &encoding).map_err(|e| e.to_string())?;
    let tp = world.cluster.partitions(TOPIC).swap_remove(usize::try_from(place.0).map_err(|e| e.to_string())?);
    let truth = world.cluster.truth(TOPIC);
    for offset in proof.range.start..proof.range.end {
        let Some(expected) = world.cluster.look(&tp, |log| log.record(offset)) else { continue };
        let value = match decoder.next_item().map_err(|e| e.to_string())? {
            None => break,
            Some(RawItem::Null) => None,
            Some(RawItem::Value(value)) => Some(value.to_vec()),
        };
        let here = (place.0, offset);
        let hash = truth.hash(here).filter(|_| value == expected.record.value).unwrap_or_default();
        stored.push(here, hash);
    }
    match decoder.next_item().map_err(|e| e.to_string())? {
        None => Ok(proof),
        Some(_) => Err("it holds more values than its range has records".to_owned()),
    }
}

/// The proof of a raw object: in its metadata, or in the record beside it.
fn raw_proof(world: &World, key: &str, place: Place) -> Result<Proof, String> {
    let state = world.server.state();
    let versions = state.versions();
    let metadata = versions.get(key).and_then(|versions| versions.last()?.metadata.get("catchment-proof").cloned());
    let text = match metadata {
        Some(text) => text.into_bytes(),
        None => {
            let record = format!("backup/_catchment/objects/{TOPIC}/{}/{:020}.json", place.0, place.1);
            state.object(&record).ok_or_else(|| format!("no proof, and no {record}"))?.to_vec()
        }
    };
    serde_json::from_slice(&text).map_err(|e| format!("its proof: {e}"))
}

#[cfg(test)]
mod tests {
    use catchment::source::{Committed, Group};
    use catchment::store::open::open;
    use catchment::store::{Guard, Metadata, Payload};
    use catchment_formats::{RecordView, segment_encoder};

    use super::*;
    use crate::s3::Op;
    use crate::s3_cells::{Cell, Moment, Service, Trouble};

    /// A backup in which nothing is wrong, through to its end.
    async fn world() -> World {
        let cell = Cell { op: Op::PutObject, trouble: Trouble::Slow, moment: Moment::After, service: Service::Aws };
        let world = World::new(cell, 1).await.expect("a world");
        assert_eq!(world.run().await, Ok(Vec::new()));
        world.script.release();
        world.server.state().quiet().await;
        let verdict = judge(&world);
        assert!(verdict.difference.is_none() && verdict.violations.is_empty(), "{verdict:?}");
        world
    }

    /// The data objects of the first partition, in order.
    fn keys(world: &World) -> Vec<String> {
        let mut keys: Vec<_> = world.server.state().versions().into_keys().filter(|key| place_of(key).is_some_and(|p| p.0 == 0)).collect();
        keys.sort_by_key(|key| place_of(key));
        assert!(keys.len() >= 3, "{keys:?}");
        keys
    }

    /// The object of `key` with one value changed.
    fn altered(world: &World, key: &str) -> Bytes {
        let mut decoder = ParquetDecoder::new(world.server.state().object(key).unwrap()).unwrap();
        let (mut block, mut bytes) = (Block::new(ValueLayout::Plain), Vec::new());
        let proof = decoder.proof().clone();
        let mut encoder = segment_encoder(&world.scene.encoding, &proof.lane, proof.range.start);
        assert!(decoder.next_block(&mut block).unwrap());
        let mut changed = Block::new(ValueLayout::Plain);
        for (n, record) in block.iter().enumerate() {
            changed.push(&RecordView { value: if n == 1 { Some(b"changed") } else { record.value }, ..record });
        }
        encoder.append(&changed, &mut bytes);
        encoder.finish(proof.range.end, &[], &mut bytes);
        bytes.into()
    }

    fn says(verdict: &Verdict, part: &str) -> bool {
        verdict.violations.iter().any(|violation| violation.contains(part))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_lost_stored_twice_or_altered_is_seen() {
        let world = world().await;
        let (state, keys) = (world.server.state(), keys(&world));
        let whole = state.object(&keys[1]).unwrap();
        state.tamper(&keys[1], Some(altered(&world, &keys[1])));
        let verdict = judge(&world);
        assert_eq!((verdict.difference.altered.len(), verdict.difference.lost.len()), (1, 0), "{verdict:?}");

        state.tamper(&keys[1], state.object(&keys[2]));
        let verdict = judge(&world);
        assert!(!verdict.difference.lost.is_empty() && !verdict.difference.duplicated.is_empty(), "{verdict:?}");
        assert!(says(&verdict, "no object stands for") && says(&verdict, "two objects stand for"), "{verdict:?}");

        state.tamper(&keys[1], Some(whole.slice(..whole.len() - 1)));
        assert!(says(&judge(&world), &keys[1]), "an object that cannot be read");
        state.tamper(&keys[1], None);
        let verdict = judge(&world);
        assert!(!verdict.difference.lost.is_empty() && says(&verdict, "it was deleted"), "{verdict:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_breaks_the_protocol_is_seen() {
        let world = world().await;
        let (state, keys) = (world.server.state(), keys(&world));
        let store = open(&world.url, &world.options).await.unwrap();
        let own = |key: &str| key.strip_prefix("backup/").unwrap().to_owned();
        let copy = keys[2].replace("+0+", "+1+");
        let body = Payload::from_bytes(state.object(&keys[2]).unwrap());
        store.put(&own(&copy), body, &Metadata::new(), Guard::Overwrite).await.unwrap();
        let verdict = judge(&world);
        assert!(says(&verdict, "visible before its intent was accepted") && says(&verdict, &copy), "{verdict:?}");

        store.put(&own(&keys[0]), Payload::from_bytes("other"), &Metadata::new(), Guard::Overwrite).await.unwrap();
        assert!(says(&judge(&world), "changed after it had become visible"));
        store.create_upload(&own(&keys[0]), &Metadata::new(), Guard::Overwrite).await.unwrap();
        assert!(says(&judge(&world), "is still open"));

        let tp = world.cluster.partitions(TOPIC).remove(0);
        let past = world.group.committed(&tp).unwrap();
        world.cluster.change(&tp, |log| log.append(50));
        world.group.set_committed(&tp, Committed { offset: past.offset + 50, ..past });
        let verdict = judge(&world);
        assert!(says(&verdict, "the objects end at") && !verdict.difference.lost.is_empty(), "{verdict:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_second_intent_for_one_start_is_seen() {
        let world = world().await;
        let tp = world.cluster.partitions(TOPIC).remove(0);
        let pin = world.group.accepted().into_iter().find(|a| a.tp == tp && a.commit.metadata.contains("\"E\":")).unwrap();
        let (member, mut events) = world.group.join(None);
        world.group.rebalance(&[(&member, vec![tp])]).await;
        let lane = loop {
            match events.recv().await {
                Some(catchment::source::GroupEvent::Assigned(mut leases)) if !leases.is_empty() => break leases.remove(0),
                Some(_) => {}
                None => panic!("no assignment"),
            }
        };
        let CommitNote::Intent(mut intent) = CommitNote::parse(&pin.commit.metadata).unwrap() else { panic!("no intent") };
        intent.end += 1;
        let metadata = CommitNote::Intent(intent).print();
        member.commit(&lane, Committed { metadata, ..pin.commit }).await.unwrap();
        assert!(says(&judge(&world), "two intents were accepted"));
    }
}
