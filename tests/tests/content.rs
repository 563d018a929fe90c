//! The main job at size: half a million records of every kind from a real Kafka into a real MinIO, read back by programs that share no
//! code with Catchment. Every visible record is there exactly once, byte for byte; aborted ones are absent.
//!
//! One topic serves all tests, each under a rule and a prefix of its own. Layouts, start forms and the like are tried on small topics in
//! `settings.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

use catchment_tests::bed::{Bed, Place, RUN_LIMIT};
use catchment_tests::generate::{Filled, Plan, Profile, fill};
use catchment_tests::oracle::Truth;
use catchment_tests::readers::{Objects, assert_parquet_equals, assert_raw_equals, decode_raw};
use catchment_tests::services::{Kafka, Minio};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use sha2::{Digest, Sha256};

const PARTITIONS: i32 = 6;

/// Records that are sent. About one in fifteen is aborted, and half a million must remain.
const RECORDS: u64 = 560_000;

/// A topic, what was sent to it, and what it shows.
struct Content {
    bed: Bed,
    filled: Filled,
    truth: Truth,
}

impl Content {
    fn new(plan: impl Fn(&str) -> Plan) -> Self {
        let bed = Bed::new(Kafka::shared().bootstrap(), PARTITIONS, Place::minio(Minio::shared()));
        let filled = fill(bed.broker(), &plan(&bed.topic));
        let truth = bed.truth();
        assert_eq!(truth.len() as u64, filled.visible, "the broker shows what was committed");
        assert!(filled.aborted > 0, "there are aborted records to be left out");
        Self { bed, filled, truth }
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
    assert_eq!(found, value_digests(large.bed.broker(), &large.bed.topic));
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
fn value_digests(bootstrap: &str, topic: &str) -> String {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "catchment-test-values")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer can be made");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("the beginning is an offset");
    }
    consumer.assign(&list).expect("partitions can be assigned");
    let mut open: BTreeSet<i32> = (0..PARTITIONS).collect();
    let mut digests: BTreeMap<i32, Sha256> = open.iter().map(|p| (*p, Sha256::new())).collect();
    while !open.is_empty() {
        match consumer.poll(Duration::from_secs(60)).expect("the broker is not silent") {
            Ok(message) => digests.entry(message.partition()).or_default().update(message.payload().unwrap_or_default()),
            Err(KafkaError::PartitionEOF(partition)) => drop(open.remove(&partition)),
            Err(e) => panic!("cannot read {topic}: {e}"),
        }
    }
    let hex = |digest: Sha256| digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    digests.into_iter().map(|(partition, digest)| format!("{partition} -1 {}\n", hex(digest))).collect()
}
