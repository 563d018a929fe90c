//! Backups made with the real encoders and stores: sound ones raise no alarm, and each damage is found by its own name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use catchment_formats::{
    Block, Codec, Encoding, Format, Framing, GapCause, HeadersBuf, LaneId, Missing, Proof, RecordView, TimestampType, segment_encoder,
};

use super::*;
use crate::error::Code;
use crate::store::file::FileStore;
use crate::store::key::{ControlKeys, KeyParts, Layout, TopicName};
use crate::store::memory::MemoryStore;
use crate::store::{BoxFuture, Guard, Metadata, ObjectStore, Payload};

mod compare;
mod first_rows;
mod running;

const RAW_LEN32: Encoding = Encoding { format: Format::Raw(Framing::Len32), codec: Codec::Zstd(1) };
const RAW_BARE: Encoding = Encoding { format: Format::Raw(Framing::None), codec: Codec::None };
const RAW_LINES: Encoding = Encoding { format: Format::Raw(Framing::Newline), codec: Codec::Gzip(6) };
const ENCODINGS: [Encoding; 4] = [Encoding::PARQUET_ZSTD1, RAW_LEN32, RAW_BARE, RAW_LINES];

#[derive(Clone, Debug)]
struct Record {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: HeadersBuf,
}

impl Record {
    /// A record of mixed kind, by its offset alone; every offset that ends in 9 is a control record and not there.
    fn of(offset: i64) -> Option<Self> {
        let mut headers = HeadersBuf::default();
        if offset % 3 == 0 {
            headers.push(b"trace", Some(b"x"));
            headers.push(b"trace", None);
        }
        let value = (offset % 7 != 0).then(|| format!("value {offset} ").repeat((offset % 5) as usize).into_bytes());
        let key = (offset % 2 == 0).then(|| offset.to_be_bytes().to_vec());
        (offset % 10 != 9).then_some(Self { offset, timestamp: 1_795_348_800_000 + offset * 1000, key, value, headers })
    }

    fn view(&self) -> RecordView<'_> {
        RecordView {
            offset: self.offset,
            timestamp: self.timestamp,
            timestamp_type: TimestampType::Create,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.view(),
        }
    }
}

fn lane(partition: i32) -> LaneId {
    LaneId { rule: "r".into(), cluster: "c".into(), topic: "orders".into(), topic_id: "0".into(), partition }
}

/// The object of a range, and its proof.
fn object(encoding: &Encoding, lane: &LaneId, start: i64, end: i64, missing: &[Missing], records: &[Record]) -> (Vec<u8>, Proof) {
    let mut encoder = segment_encoder(encoding, lane, start);
    let mut bytes = Vec::new();
    for chunk in records.chunks(7) {
        let mut block = Block::new(encoding.value_layout());
        chunk.iter().for_each(|r| block.push(&r.view()));
        encoder.append(&block, &mut bytes);
    }
    let mut proof = encoder.finish(end, missing, &mut bytes);
    proof.size = Some(bytes.len() as u64);
    (bytes, proof)
}

fn records(start: i64, end: i64) -> Vec<Record> {
    (start..end).filter_map(Record::of).collect()
}

/// A backup of topic `orders` in a store.
struct Backup {
    store: Arc<dyn ObjectStore>,
    encoding: Encoding,
    /// Keys in the order of their making.
    keys: Vec<String>,
    dir: Option<tempfile::TempDir>,
}

impl Backup {
    fn in_memory(encoding: Encoding) -> Self {
        Self { store: Arc::new(MemoryStore::default()), encoding, keys: Vec::new(), dir: None }
    }

    fn in_files(encoding: Encoding) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Arc::new(FileStore::open(dir.path()).unwrap()), encoding, keys: Vec::new(), dir: Some(dir) }
    }

    /// Partitions 0 and 1 with objects of 40, 60 and 50 offsets from 100 on, and the owner record.
    async fn filled(mut self) -> Self {
        self.own("orders", &[(0, 100), (1, 100)]).await;
        for partition in [0, 1] {
            for (start, end) in [(100, 140), (140, 200), (200, 250)] {
                self.add(partition, start, end, &[]).await;
            }
        }
        self
    }

    async fn write(&self, key: &str, bytes: &[u8], metadata: &Metadata) {
        self.store.put(key, Payload::from_bytes(bytes.to_vec()), metadata, Guard::Overwrite).await.unwrap();
    }

    async fn own(&self, path: &str, start: &[(i32, i64)]) {
        let start: BTreeMap<i32, i64> = start.iter().copied().collect();
        let owner = serde_json::json!({ "v": 1, "rule": "r", "group": "catchment-r", "cluster": "c", "topic": "orders", "topic_id": "0", "start": start });
        self.write(&ControlKeys::of_path(path).owner(), owner.to_string().as_bytes(), &Metadata::new()).await;
    }

    fn key(&self, partition: i32, start: i64) -> String {
        let topic = TopicName::new("orders");
        let parts = KeyParts { topic: &topic, partition, timestamp_ms: Some(1_795_348_800_000 + start * 1000), window_ms: 300_000 };
        Layout::Hive.object_key(&parts, start, self.encoding.extension())
    }

    async fn add(&mut self, partition: i32, start: i64, end: i64, missing: &[Missing]) {
        let held: Vec<Record> =
            records(start, end).into_iter().filter(|r| !missing.iter().any(|m| (m.0..m.1).contains(&r.offset))).collect();
        let (bytes, proof) = object(&self.encoding, &lane(partition), start, end, missing, &held);
        let key = self.key(partition, start);
        self.put(&key, &bytes, &proof).await;
        self.keys.push(key);
    }

    /// Writes an object and its proof, the way the commit protocol does.
    async fn put(&self, key: &str, bytes: &[u8], proof: &Proof) {
        let mut metadata = Metadata::new();
        if self.store.limits().metadata {
            metadata.push((crate::proof::PROOF_METADATA.to_owned(), proof.to_json()));
        } else if self.encoding.format != Format::Parquet {
            let record = ControlKeys::of_path("orders").object(proof.lane.partition, proof.range.start);
            self.write(&record, proof.to_json().as_bytes(), &Metadata::new()).await;
        }
        self.write(key, bytes, &metadata).await;
    }

    async fn bytes(&self, key: &str) -> Vec<u8> {
        self.store.get(key, None).await.unwrap().unwrap().to_vec()
    }

    /// Replaces an object's bytes and leaves its metadata.
    async fn overwrite(&self, key: &str, bytes: &[u8]) {
        let metadata = self.store.head(key).await.unwrap().unwrap().metadata;
        self.write(key, bytes, &metadata).await;
    }

    /// Everything but `key`, in a store of the same kind: stores do not delete.
    async fn without(&self, key: &str) -> Self {
        let copy = match &self.dir {
            Some(_) => Self::in_files(self.encoding),
            None => Self::in_memory(self.encoding),
        };
        let all = self.store.list("", false, None).await.unwrap().objects;
        for info in all.iter().filter(|o| o.key != key) {
            let metadata = self.store.head(&info.key).await.unwrap().unwrap().metadata;
            copy.write(&info.key, &self.bytes(&info.key).await, &metadata).await;
        }
        copy
    }

    async fn verify(&self) -> Report {
        self.verify_below("").await
    }

    async fn verify_below(&self, prefix: &str) -> Report {
        verify(&Place::new(Arc::clone(&self.store), prefix), None, |_| {}).await.unwrap()
    }

    async fn compare(&self, topic: compare::Topic) -> Report {
        verify(&Place::new(Arc::clone(&self.store), ""), Some(Arc::new(topic)), |_| {}).await.unwrap()
    }
}

#[tokio::test]
async fn a_rule_is_verified_by_its_own_directories_alone() {
    for backup in [Backup::in_memory(Encoding::PARQUET_ZSTD1), Backup::in_files(RAW_LEN32)] {
        let backup = backup.filled().await;
        let other =
            serde_json::json!({ "v": 1, "rule": "s", "group": "g", "cluster": "c", "topic": "clicks", "topic_id": "0", "start": {} });
        backup.write(&ControlKeys::of_path("clicks").owner(), other.to_string().as_bytes(), &Metadata::new()).await;
        backup.write("clicks/broken", b"no object", &Metadata::new()).await;
        backup.write(&format!("clicks/clicks+0+{:020}.parquet", 0), b"no object", &Metadata::new()).await;
        backup.write("_catchment/anchors/s/clicks-0.json", br#"{"key":"clicks/gone","E":5}"#, &Metadata::new()).await;
        assert!(!backup.verify().await.damage.is_empty(), "what stands there is damaged");
        let place = Place::new(Arc::clone(&backup.store), "");
        let own = verify_rule(&place, "r", None, |_| {}).await.unwrap();
        assert_eq!((kinds(&own), own.objects, own.lanes, own.notes.len()), (vec![], 6, 2, 0), "{own:?}");
        backup.write("orders/stranger", b"x", &Metadata::new()).await;
        assert_eq!(kinds(&verify_rule(&place, "r", None, |_| {}).await.unwrap()), [("orders/stranger", DamageKind::Foreign)]);
        let nothing = verify_rule(&place, "another", None, |_| {}).await.unwrap_err();
        assert_eq!(nothing.code, codes::NOTHING_THERE);
    }
}

fn kinds(report: &Report) -> Vec<(&str, DamageKind)> {
    report.damage.iter().map(|d| (d.key.as_str(), d.kind)).collect()
}

#[tokio::test]
async fn sound_backups_raise_no_alarm() {
    for encoding in ENCODINGS {
        for backup in [Backup::in_memory(encoding), Backup::in_files(encoding)] {
            let mut backup = backup.filled().await;
            backup.add(0, 250, 300, &[Missing(255, 260, GapCause::Retention)]).await;
            backup.add(0, 300, 310, &[Missing(300, 310, GapCause::CorruptBatch)]).await;
            let report = backup.verify().await;
            assert_eq!(kinds(&report), [], "{encoding}: {report:?}");
            assert_eq!((report.objects, report.lanes, report.notes.len()), (8, 2, 0), "{report:?}");
            assert_eq!(report.records, (records(100, 250).len() * 2 + records(250, 255).len() + records(260, 300).len()) as u64);
            let gaps: Vec<(i64, i64, &str)> = report.gaps.iter().map(|g| (g.from, g.to, g.cause)).collect();
            assert_eq!(gaps, [(255, 260, "retention"), (300, 310, "corrupt_batch")]);
            let of_topic = backup.verify_below("orders/").await;
            assert_eq!((of_topic.objects, of_topic.damage.len(), of_topic.notes.len()), (8, 0, 0), "{of_topic:?}");
        }
    }
}

#[tokio::test]
async fn every_layout_is_read() {
    let layouts = [Layout::Hive, Layout::Confluent, Layout::Tencent { instance: "ckafka-1".into(), topic_id: Some("topic-9".into()) }];
    for layout in layouts {
        for encoding in [Encoding::PARQUET_ZSTD1, RAW_LEN32] {
            let backup = Backup::in_files(encoding);
            let topic = TopicName::new("orders");
            let control = ControlKeys::new(&layout, &topic);
            backup.own(layout.topic_directory(&topic).trim_end_matches('/'), &[(3, 0)]).await;
            for (start, end) in [(0, 50), (50, 90)] {
                let (bytes, proof) = object(&encoding, &lane(3), start, end, &[], &records(start, end));
                let parts = KeyParts { topic: &topic, partition: 3, timestamp_ms: Some(1_795_348_800_000), window_ms: 300_000 };
                backup.write(&layout.object_key(&parts, start, encoding.extension()), &bytes, &Metadata::new()).await;
                if encoding != Encoding::PARQUET_ZSTD1 {
                    backup.write(&control.object(3, start), proof.to_json().as_bytes(), &Metadata::new()).await;
                }
            }
            let report = backup.verify().await;
            assert_eq!((kinds(&report), report.notes.len(), report.lanes), (vec![], 0, 1), "{layout} {encoding}: {report:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_known_is_said_and_is_no_damage() {
    let mut backup = Backup::in_memory(Encoding::PARQUET_ZSTD1);
    backup.add(0, 100, 140, &[]).await;
    let report = backup.verify().await;
    assert_eq!((report.damage.len(), report.notes.len()), (0, 1), "{report:?}");
    assert!(report.notes[0].contains("no owner record"), "{report:?}");
    backup.own("orders", &[(7, 0)]).await;
    let report = backup.verify().await;
    assert_eq!(report.damage.len(), 0);
    assert!(report.notes[0].contains("orders/0 came after"), "{report:?}");
}

#[tokio::test]
async fn a_lost_object_is_a_hole() {
    let backup = Backup::in_files(Encoding::PARQUET_ZSTD1).filled().await;
    let [first, second, third] = [0, 1, 2].map(|i| backup.keys[i].clone());
    assert_eq!(kinds(&backup.without(&second).await.verify().await), [(third.as_str(), DamageKind::Hole)]);
    assert_eq!(kinds(&backup.without(&first).await.verify().await), [(second.as_str(), DamageKind::Hole)], "by the owner's start");
    let report = backup.without(&third).await.verify().await;
    assert_eq!(kinds(&report), [], "nothing says that there was a last object, unless an anchor does");
    let anchor = serde_json::json!({ "v": 1, "key": third, "E": 250, "topic_id": "0" }).to_string();
    backup.write(&ControlKeys::of_path("orders").anchor("r", 0), anchor.as_bytes(), &Metadata::new()).await;
    assert_eq!(kinds(&backup.verify().await), []);
    assert_eq!(kinds(&backup.without(&third).await.verify().await), [(third.as_str(), DamageKind::Hole)]);
}

#[tokio::test]
async fn a_truncated_object_is_named_so() {
    for encoding in ENCODINGS {
        for backup in [Backup::in_memory(encoding), Backup::in_files(encoding)] {
            let backup = backup.filled().await;
            let (key, whole) = (&backup.keys[1], backup.bytes(&backup.keys[1]).await);
            for length in [0, 3, whole.len() / 2, whole.len() - 1] {
                backup.overwrite(key, &whole[..length]).await;
                assert_eq!(kinds(&backup.verify().await), [(key.as_str(), DamageKind::Truncated)], "{encoding} to {length}");
            }
        }
    }
}

#[tokio::test]
async fn every_flipped_byte_of_a_parquet_object_is_found() {
    let backup = Backup::in_files(Encoding::PARQUET_ZSTD1);
    let mut backup = backup;
    backup.own("orders", &[(0, 100)]).await;
    backup.add(0, 100, 120, &[]).await;
    let (key, whole) = (backup.keys[0].clone(), backup.bytes(&backup.keys[0]).await);
    let mut seen = BTreeSet::new();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        backup.overwrite(&key, &bytes).await;
        let report = backup.verify().await;
        assert!(!report.damage.is_empty(), "byte {at} of {}", whole.len());
        seen.extend(report.damage.iter().map(|d| d.kind));
    }
    for kind in [DamageKind::Unreadable, DamageKind::Bytes] {
        assert!(seen.contains(&kind), "{kind} in {seen:?}");
    }
}

#[tokio::test]
async fn a_flipped_byte_of_a_raw_object_is_found() {
    for (encoding, expected) in [(RAW_BARE, &[DamageKind::Digest][..]), (RAW_LEN32, &[DamageKind::Digest, DamageKind::Unreadable])] {
        let backup = Backup::in_files(encoding).filled().await;
        let (key, mut bytes) = (&backup.keys[1], backup.bytes(&backup.keys[1]).await);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        backup.overwrite(key, &bytes).await;
        let report = backup.verify().await;
        assert_eq!(report.damage.len(), 1, "{encoding}: {report:?}");
        assert!(report.damage[0].key == *key && expected.contains(&report.damage[0].kind), "{encoding}: {report:?}");
    }
}

#[tokio::test]
async fn swapped_names_are_misplaced() {
    for encoding in [Encoding::PARQUET_ZSTD1, RAW_LEN32] {
        let backup = Backup::in_memory(encoding).filled().await;
        let (a, b) = (&backup.keys[0], &backup.keys[1]);
        for (key, other) in [(a, b), (b, a)] {
            let metadata = backup.store.head(other).await.unwrap().unwrap().metadata;
            let bytes = backup.bytes(other).await;
            backup.write(&format!("{key}.new"), &bytes, &metadata).await;
        }
        for key in [a, b] {
            let from = format!("{key}.new");
            let metadata = backup.store.head(&from).await.unwrap().unwrap().metadata;
            backup.write(key, &backup.bytes(&from).await, &metadata).await;
        }
        let report = backup.without(&format!("{a}.new")).await.without(&format!("{b}.new")).await.verify().await;
        assert_eq!(kinds(&report), [(a.as_str(), DamageKind::Misplaced), (b.as_str(), DamageKind::Misplaced)], "{encoding}: {report:?}");
    }
}

#[tokio::test]
async fn copies_overlaps_and_early_starts_are_told_apart() {
    let backup = Backup::in_memory(Encoding::PARQUET_ZSTD1).filled().await;
    let copy = backup.keys[1].replace("/hour=", "/hour=1");
    let metadata = backup.store.head(&backup.keys[1]).await.unwrap().unwrap().metadata;
    backup.write(&copy, &backup.bytes(&backup.keys[1]).await, &metadata).await;
    let report = backup.verify().await;
    assert_eq!(report.damage.iter().map(|d| d.kind).collect::<Vec<_>>(), [DamageKind::Duplicate], "{report:?}");

    let mut backup = Backup::in_memory(Encoding::PARQUET_ZSTD1).filled().await;
    backup.add(0, 150, 180, &[]).await;
    assert_eq!(kinds(&backup.verify().await), [(backup.key(0, 150).as_str(), DamageKind::Overlap)]);

    let mut backup = Backup::in_memory(Encoding::PARQUET_ZSTD1).filled().await;
    backup.add(0, 90, 100, &[]).await;
    assert_eq!(kinds(&backup.verify().await), [(backup.key(0, 90).as_str(), DamageKind::EarlyStart)]);
}

#[tokio::test]
async fn strangers_are_foreign() {
    let backup = Backup::in_memory(Encoding::PARQUET_ZSTD1).filled().await;
    backup.write("orders/_SUCCESS", b"", &Metadata::new()).await;
    backup.write("orders/notes.txt", b"hello", &Metadata::new()).await;
    let expected = [("orders/_SUCCESS", DamageKind::Foreign), ("orders/notes.txt", DamageKind::Foreign)];
    assert_eq!(kinds(&backup.verify().await), expected);

    let backup = Backup::in_memory(Encoding::PARQUET_ZSTD1).filled().await;
    let other = LaneId { rule: "other".into(), ..lane(0) };
    let (bytes, proof) = object(&backup.encoding, &other, 250, 270, &[], &records(250, 270));
    backup.put(&backup.key(0, 250), &bytes, &proof).await;
    assert_eq!(kinds(&backup.verify().await), [(backup.key(0, 250).as_str(), DamageKind::Foreign)]);
}

#[tokio::test]
async fn proofs_that_lie_are_found() {
    // Metadata and footer disagree.
    let backup = Backup::in_memory(Encoding::PARQUET_ZSTD1).filled().await;
    let key = backup.keys[1].clone();
    let (bytes, mut proof) = object(&backup.encoding, &lane(0), 140, 200, &[], &records(140, 200));
    proof.counts.records += 1;
    backup.put(&key, &bytes, &proof).await;
    assert_eq!(kinds(&backup.verify().await), [(key.as_str(), DamageKind::Proof)]);

    // The record beside a raw object counts wrongly, or is not there.
    for encoding in [RAW_LEN32, RAW_BARE, RAW_LINES] {
        let backup = Backup::in_files(encoding).filled().await;
        let (bytes, mut proof) = object(&encoding, &lane(0), 140, 200, &[], &records(140, 200));
        proof.counts.value_bytes += 1;
        backup.put(&key_of(&backup), &bytes, &proof).await;
        assert_eq!(kinds(&backup.verify().await), [(key_of(&backup).as_str(), DamageKind::Counts)], "{encoding}");
        let record = ControlKeys::of_path("orders").object(0, 140);
        assert_eq!(kinds(&backup.without(&record).await.verify().await), [(key_of(&backup).as_str(), DamageKind::ProofAbsent)]);
        backup.write(&record, b"{}", &Metadata::new()).await;
        assert_eq!(kinds(&backup.verify().await), [(key_of(&backup).as_str(), DamageKind::Proof)]);
    }
}

fn key_of(backup: &Backup) -> String {
    backup.key(0, 140)
}

#[tokio::test]
async fn footers_that_miscount_are_found() {
    // The footer's proof is changed in place, digit for digit, so that nothing else breaks.
    let backup = Backup::in_files(Encoding::PARQUET_ZSTD1).filled().await;
    let key = key_of(&backup);
    let whole = backup.bytes(&key).await;
    let count = format!("\"records\":{}", records(140, 200).len());
    for (from, to, kind) in [
        (count.as_str(), "\"records\":53", DamageKind::Counts),
        ("\"end\":200", "\"end\":190", DamageKind::Offsets),
        ("\"partition\":0", "\"partition\":1", DamageKind::Unreadable),
    ] {
        let (bytes, n) = replaced(&whole, from, to);
        assert!(n > 0, "{from} stands in the footer");
        backup.overwrite(&key, &bytes).await;
        let report = backup.verify().await;
        assert!(kinds(&report).contains(&(key.as_str(), kind)), "{from}: {report:?}");
    }
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> (Vec<u8>, usize) {
    assert_eq!(from.len(), to.len());
    let (mut out, mut n) = (bytes.to_vec(), 0);
    for at in 0..=bytes.len() - from.len() {
        if &bytes[at..at + from.len()] == from.as_bytes() {
            out[at..at + to.len()].copy_from_slice(to.as_bytes());
            n += 1;
        }
    }
    (out, n)
}

#[tokio::test]
async fn objects_above_the_memory_limit_are_spooled() {
    let mut backup = Backup::in_files(Encoding { format: Format::Parquet, codec: Codec::None });
    backup.own("orders", &[(0, 0)]).await;
    let big: Vec<Record> = (0..12).map(|o| Record { value: Some(vec![o as u8; 1 << 20]), ..Record::of(0).unwrap() }).collect();
    let big: Vec<Record> = big.into_iter().enumerate().map(|(i, r)| Record { offset: i as i64, ..r }).collect();
    let (bytes, proof) = object(&backup.encoding, &lane(0), 0, 12, &[], &big);
    assert!(bytes.len() > 8 << 20);
    let key = backup.key(0, 0);
    backup.put(&key, &bytes, &proof).await;
    assert_eq!(kinds(&backup.verify().await), []);
    let mut broken = bytes.clone();
    broken[9 << 20] ^= 1;
    backup.overwrite(&key, &broken).await;
    let found = backup.verify().await.damage;
    // The value itself is flipped: the page's checksum sees it before our digest does.
    assert!(matches!(found.as_slice(), [Damage { kind: DamageKind::Unreadable | DamageKind::Digest, .. }]), "{found:?}");
    backup.keys.push(key);
}

#[tokio::test]
async fn an_empty_place_is_not_found() {
    let place = Place::new(Arc::new(MemoryStore::default()), "");
    let error = verify(&place, None, |_| {}).await.unwrap_err();
    assert_eq!((error.code, error.kind), (codes::NOTHING_THERE, ErrorKind::NotFound));
}

#[tokio::test]
async fn a_part_of_a_topic_raises_no_false_alarm() {
    let mut backup = Backup::in_files(Encoding::PARQUET_ZSTD1).filled().await;
    backup.add(0, 250, 4000, &[]).await;
    backup.add(0, 4000, 4010, &[]).await;
    let directory = backup.keys.last().unwrap().rsplit_once('/').unwrap().0.to_owned() + "/";
    let report = backup.verify_below(&directory).await;
    assert_eq!((kinds(&report), report.objects), (vec![], 1), "{report:?}");
    assert!(report.notes[0].contains("holes were not looked for"), "{report:?}");
}

#[tokio::test]
async fn control_objects_alone_are_no_sound_backup() {
    let backup = Backup::in_files(Encoding::PARQUET_ZSTD1).filled().await;
    let anchor = serde_json::json!({ "v": 1, "key": backup.keys[2], "E": 250, "topic_id": "0" }).to_string();
    backup.write(&ControlKeys::of_path("orders").anchor("r", 0), anchor.as_bytes(), &Metadata::new()).await;
    let place = Place::new(Arc::clone(&backup.store), "_catchment/");
    assert_eq!(verify(&place, None, |_| {}).await.unwrap_err().code, codes::NOTHING_THERE);
    let mut emptied = backup;
    for key in emptied.keys.clone() {
        emptied = emptied.without(&key).await;
    }
    let kinds: Vec<DamageKind> = emptied.verify().await.damage.iter().map(|d| d.kind).collect();
    assert_eq!(kinds, [DamageKind::Hole], "all objects are gone, and the anchor knows of one");
}

#[tokio::test]
async fn a_directory_is_opened_without_leaving_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let url = |path: &str| format!("file://{}/{path}", dir.path().display());
    let options = crate::store::open::OpenOptions::default();
    let absent = Place::open(&url("none/"), &options).await.unwrap_err();
    assert_eq!(absent.code, codes::NOTHING_THERE);
    std::fs::create_dir_all(dir.path().join("kafka/_catchment/owners")).unwrap();
    std::fs::create_dir_all(dir.path().join("kafka/orders/dt=x")).unwrap();
    let place = Place::open(&url("kafka/orders/dt=x/"), &options).await.unwrap();
    assert_eq!(place.prefix, "orders/dt=x/");
    assert_eq!(place.prefixes_above(), ["", "orders/"]);
    let lone = Place::open(&url(""), &options).await.unwrap();
    assert_eq!((lone.prefix.as_str(), lone.prefixes_above()), ("", vec![]));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was created");
}

#[test]
fn kinds_are_named_once() {
    let names: BTreeSet<&str> = DamageKind::ALL.iter().map(|k| k.as_str()).collect();
    assert_eq!(names.len(), DamageKind::ALL.len());
    for kind in DamageKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    let _: Code = codes::VERIFY_DAMAGE;
}
