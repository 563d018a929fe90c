//! The main job at size: half a million records of every kind from a real Kafka into a real MinIO, read back by programs that share no
//! code with Catchment. Every visible record is there exactly once, byte for byte as the generator made it; aborted ones are absent.
//!
//! One topic serves all tests, each under a rule and a prefix of its own. Layouts, start forms and the like are tried on small topics in
//! `settings.rs`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use catchment_tests::bed::{Bed, Place, RUN_LIMIT};
use catchment_tests::generate::{Filled, Plan, Profile, Record, fill};
use catchment_tests::oracle::{Place as At, Stored, Truth, record_hash};
use catchment_tests::readers::{Objects, assert_parquet_equals, assert_raw_equals, decode_raw};
use catchment_tests::services::{Kafka, Minio};
use sha2::{Digest, Sha256};

const PARTITIONS: i32 = 6;

/// Records that are sent. About one in fifteen is aborted, and half a million must remain.
const RECORDS: u64 = 560_000;

/// The type of a timestamp that the producer has set.
const CREATE_TIME: i8 = 0;

/// A topic, what was sent to it, and what it shows: as it was made, not as any client of Kafka reads it.
struct Content {
    bed: Bed,
    plan: Plan,
    filled: Filled,
    truth: Truth,
}

/// Every visible record as the generator makes it, by partition and offset. Only its place is what Kafka said, to whoever sent it.
fn made(plan: &Plan, filled: &Filled) -> impl Iterator<Item = (At, Record)> {
    let mut places = filled.places.clone();
    places.sort_unstable();
    places.into_iter().map(|(place, sequence)| (place, plan.profile.record(plan.seed, &plan.topic, place.0, sequence)))
}

/// Fails unless the client that is the oracle of most tests reads what was made.
fn assert_same(made: &Truth, read: &Truth) {
    let mut seen = Stored::default();
    read.places().for_each(|place| seen.push(place, read.hash(place).expect("a place of its own")));
    made.assert_equals(&seen, "the broker's log as it was made");
    assert!(made == read, "the bare values too");
}

impl Content {
    fn new(plan: impl Fn(&str) -> Plan) -> Self {
        let bed = Bed::new(Kafka::shared().bootstrap(), PARTITIONS, Place::minio(Minio::shared()));
        let plan = plan(&bed.topic);
        let filled = fill(bed.broker(), &plan);
        assert_eq!(filled.places.len() as u64, filled.visible, "the broker has told the place of each");
        assert!(filled.aborted > 0, "there are aborted records to be left out");
        let truth = Truth::of(made(&plan, &filled).map(|(place, record)| {
            let headers = record.headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref()));
            let hash = record_hash(place, (record.timestamp, CREATE_TIME), record.key.as_deref(), record.value.as_deref(), headers);
            (place, hash, record.value)
        }));
        assert_same(&truth, &bed.truth());
        Self { bed, plan, filled, truth }
    }

    /// The large topic, filled once: five codecs, a transactional producer with aborts, all kinds of records.
    fn large() -> &'static Self {
        static LARGE: OnceLock<Content> = OnceLock::new();
        LARGE.get_or_init(|| {
            let large = Self::new(|topic| Plan::mixed(11, topic, PARTITIONS, RECORDS));
            assert!(large.filled.visible >= 500_000, "{:?}", large.filled);
            large
        })
    }

    /// Backs everything up under a rule and a prefix of this name, and lets `verify` compare it with Kafka.
    fn back_up(&self, name: &str, settings: &[&str]) -> String {
        let prefix = format!("{name}/");
        let rule = format!("{name}-{}", self.bed.topic);
        let args = [&["--rule", &rule, "--until-end", "--window", "5m"], settings].concat();
        self.bed.backup_to(&prefix, &args).run(RUN_LIMIT).assert_code(0);
        let report = self.bed.verify(&prefix, true);
        assert_eq!(report["records"], self.filled.visible, "{report}");
        assert_eq!(report["compared"], self.filled.visible, "{report}");
        assert_eq!(report["gaps"], serde_json::json!([]), "{report}");
        prefix
    }

    fn objects(&self) -> Objects<'_> {
        match &self.bed.place {
            Place::Minio(bucket, _) => Objects::Bucket(Minio::shared(), bucket.name()),
            Place::InProcess(..) => panic!("the content lies in MinIO"),
        }
    }
}

#[test]
fn parquet_is_the_topic_to_four_other_readers() {
    let large = Content::large();
    let prefix = large.back_up("parquet", &[]);
    let objects = assert_parquet_equals(&large.truth, large.objects(), &prefix);
    assert!(objects >= u64::from(PARTITIONS.unsigned_abs()), "{objects} objects");
}

#[test]
fn raw_values_with_lengths_are_the_topics() {
    let large = Content::large();
    let prefix = large.back_up("len32", &["--format", "raw", "--framing", "len32"]);
    assert_raw_equals(&large.truth, large.objects(), &prefix, "len32");
}

#[test]
fn raw_bytes_without_framing_are_the_topics() {
    let large = Content::large();
    let prefix = large.back_up("none", &["--format", "raw", "--framing", "none", "--codec", "none"]);
    let out = tempfile::NamedTempFile::new().expect("a temporary file");
    let view = decode_raw(large.objects(), &prefix, "none", out.path());
    assert_eq!(view.value_bytes, large.filled.value_bytes);
    let found = std::fs::read_to_string(out.path()).expect("the decoder wrote it");
    assert_eq!(found, value_digests(&large.plan, &large.filled));
}

#[test]
fn raw_lines_are_the_topics_values() {
    // Text without a newline in it, which is what this framing is for. Nulls leave no line.
    let text = || Profile { binary_values: 0, ..Profile::mixed() };
    let content = Content::new(|topic| Plan { profile: text(), ..Plan::mixed(12, topic, PARTITIONS, 60_000) });
    let prefix = content.back_up("lines", &["--format", "raw", "--codec", "gzip"]);
    assert_raw_equals(&content.truth, content.objects(), &prefix, "newline");
}

/// What the raw decoder must write of values that cannot be told apart: a line `partition -1 hash`, the hash over all bytes.
fn value_digests(plan: &Plan, filled: &Filled) -> String {
    let mut digests: BTreeMap<i32, Sha256> = (0..PARTITIONS).map(|p| (p, Sha256::new())).collect();
    for ((partition, _), record) in made(plan, filled) {
        digests.entry(partition).or_default().update(record.value.unwrap_or_default());
    }
    let hex = |digest: Sha256| digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    digests.into_iter().map(|(partition, digest)| format!("{partition} -1 {}\n", hex(digest))).collect()
}
