//! The zstd level that records choose (`level = auto`): equal records choose equally however they arrive, and a window that was pinned is written again at the
//! level of its pin, whatever the rule and the records say by then.
//!
//! The production pipeline on a scripted Kafka and a store in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use catchment::rule::Rule;
use catchment::store::ObjectStore;
use catchment_formats::{Block, Codec, Encoding, Format, Framing, HeadersView, LevelProbe, RecordView};
use catchment_tests::generate::Rng;
use catchment_tests::rig::Rig;

/// Records of the topic, about 170 bytes each. They all lie in one slot, and fill two windows and part of a third.
const RECORDS: i64 = 8_000;

/// Bytes of a window: its first values say enough.
const WINDOW_BYTES: u64 = 512 << 10;

/// Seconds after which the last window is closed: by its age, where its records were too far ahead of the clock to say where it lies.
const PATIENCE_S: u64 = 7_500;

const RAW: Encoding = Encoding { format: Format::Raw(Framing::Len32), codec: Codec::Zstd(1) };

/// So many records, in windows of [`WINDOW_BYTES`] or an hour, at a level that they choose.
fn rig(records: i64) -> Rig {
    let mut rig = Rig::new(1, records, |store| store as Arc<dyn ObjectStore>);
    (rig.rule.window.every_ms, rig.rule.window.bytes_max) = (3_600_000, WINDOW_BYTES);
    rig.rule.auto_level = true;
    rig
}

/// The same encoding at another level.
fn at(encoding: Encoding, level: u8) -> Encoding {
    Encoding { codec: Codec::Zstd(level), ..encoding }
}

/// What the first records of the topic choose. Not the level that a rule has unless it is set, or the tests would show nothing.
fn chosen(encoding: Encoding) -> u8 {
    let (rig, mut block) = (rig(RECORDS), Block::new(encoding.value_layout()));
    let mut offset = 0;
    while block.values().len() < 400_000 {
        let read = rig.cluster.look(&rig.tp(0), |log| log.record(offset)).expect("every offset is a record");
        let record = &read.record;
        block.push(&RecordView {
            offset,
            timestamp: record.timestamp,
            timestamp_type: read.timestamp_type,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: HeadersView::default(),
        });
        offset += 1;
    }
    let level = LevelProbe::default().level_for(&block);
    assert_ne!(level, 1, "these records choose the level that they would have anyway");
    level
}

/// Every object, by key.
async fn stored(rig: &Rig) -> BTreeMap<String, Bytes> {
    let mut stored = BTreeMap::new();
    for (key, _) in rig.objects().await {
        let bytes = rig.memory.get(&key, None).await.expect("the memory store answers").expect("it was listed");
        stored.insert(key, bytes);
    }
    stored
}

/// The encodings of all objects, in the order of their offsets.
async fn encodings(rig: &Rig) -> Vec<String> {
    let mut objects = rig.objects().await;
    objects.sort_by_key(|(_, proof)| proof.range.start);
    objects.into_iter().map(|(_, proof)| proof.encoding).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_records_choose_the_level_of_every_object() {
    for encoding in [Encoding::PARQUET_ZSTD1, RAW] {
        let expected = at(encoding, chosen(encoding)).to_string();
        let mut rig = rig(RECORDS);
        rig.rule.encoding = encoding;
        rig.start().await;
        rig.pass(PATIENCE_S).await;
        assert_eq!(encodings(&rig).await, vec![expected; 3]);
        assert_eq!(rig.committed(0).offset, RECORDS);
    }
}

#[tokio::test(start_paused = true)]
async fn equal_records_give_equal_objects_however_they_arrive() {
    let mut whole = rig(RECORDS);
    whole.start().await;
    whole.pass(PATIENCE_S).await;
    whole.assert_complete("all at once").await;
    let expected = stored(&whole).await;
    assert_eq!(expected.len(), 3);
    for seed in 0..4 {
        let mut rng = Rng::new(seed);
        // Some arrive in many small pieces, some in few. The slot is not over before all of them are there.
        let most = [20, 100, 700, 5_000][seed as usize];
        let mut piece = |left: i64| left.min(10 + rng.below(most) as i64);
        let mut left = RECORDS;
        let first = piece(left);
        let mut rig = rig(first);
        left -= first;
        rig.start().await;
        while left > 0 {
            rig.pass(1).await;
            let next = piece(left);
            rig.append(next);
            left -= next;
        }
        rig.pass(PATIENCE_S).await;
        rig.assert_complete("in pieces").await;
        assert!(stored(&rig).await == expected, "pieces by seed {seed} give other objects");
    }
}

/// A window is pinned under one rule, by a process that dies, and written again under another one. The encodings of all objects in the end.
async fn written_again(pinned: impl Fn(&mut Rule), then: impl Fn(&mut Rule)) -> Vec<String> {
    let mut twin = rig(RECORDS);
    pinned(&mut twin.rule);
    twin.start().await;
    twin.pass(PATIENCE_S).await;
    let expected = stored(&twin).await;

    let mut rig = rig(RECORDS);
    pinned(&mut rig.rule);
    rig.start().await;
    let intent = rig.kill_when_pinned().await;
    assert!(stored(&rig).await.is_empty(), "nothing was published");
    then(&mut rig.rule);
    rig.start().await;
    rig.pass(PATIENCE_S).await;
    rig.assert_complete("written again").await;
    assert!(stored(&rig).await[&intent.key] == expected[&intent.key], "the pinned window is another object than it would have been");
    let encodings = encodings(&rig).await;
    assert_eq!(encodings[0], intent.enc);
    encodings
}

fn is_fixed(level: u8) -> impl Fn(&mut Rule) {
    move |rule| (rule.encoding, rule.auto_level) = (at(Encoding::PARQUET_ZSTD1, level), false)
}

#[tokio::test(start_paused = true)]
async fn a_pinned_level_is_kept_by_a_rule_whose_records_choose_another() {
    let chosen = chosen(Encoding::PARQUET_ZSTD1);
    for pinned in [1, 2, 3] {
        let encodings = written_again(is_fixed(pinned), |rule| (rule.encoding, rule.auto_level) = (Encoding::PARQUET_ZSTD1, true)).await;
        let expected = [pinned, chosen, chosen].map(|level| at(Encoding::PARQUET_ZSTD1, level).to_string());
        assert_eq!(encodings, expected, "what was not pinned is at the level that the records choose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_chosen_level_that_was_pinned_is_kept_by_a_rule_that_leaves_nothing_to_the_records() {
    let chosen = chosen(Encoding::PARQUET_ZSTD1);
    let encodings = written_again(|_| {}, is_fixed(1)).await;
    assert_eq!(encodings, [chosen, 1, 1].map(|level| at(Encoding::PARQUET_ZSTD1, level).to_string()));
    let same = written_again(|_| {}, |_| {}).await;
    assert_eq!(same, [chosen; 3].map(|level| at(Encoding::PARQUET_ZSTD1, level).to_string()));
}
