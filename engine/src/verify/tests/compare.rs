//! Comparisons with a topic: a twin that holds what the objects hold, and each way to differ from it.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::source::{LogBounds, PartitionQueue, QueueEvent, TopicInfo, TopicPartition, Wake};

/// A topic with the records of [`Record::of`], changed at will.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) records: BTreeMap<i64, Record>,
    start: i64,
    end: i64,
    cluster: &'static str,
    pub(super) compacted: Option<bool>,
    /// How often somebody wanted to know that.
    asked: Arc<AtomicU32>,
    open: Arc<Mutex<BTreeSet<i32>>>,
}

impl Topic {
    pub(super) fn new() -> Self {
        Self {
            records: records(0, 400).into_iter().map(|r| (r.offset, r)).collect(),
            start: 0,
            end: 400,
            cluster: "c",
            compacted: Some(false),
            asked: Arc::default(),
            open: Arc::default(),
        }
    }

    /// The same topic on another cluster.
    pub(super) fn elsewhere() -> Self {
        Self { cluster: "elsewhere", ..Self::new() }
    }

    fn changed(offset: i64, change: impl FnOnce(&mut Record)) -> Self {
        let mut topic = Self::new();
        change(topic.records.get_mut(&offset).unwrap());
        topic
    }
}

struct Queue {
    records: Vec<Record>,
    at: usize,
    end: i64,
    partition: i32,
    open: Arc<Mutex<BTreeSet<i32>>>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.open.lock().unwrap().remove(&self.partition);
    }
}

impl PartitionQueue for Queue {
    fn fill(&mut self) -> bool {
        self.at <= self.records.len()
    }

    fn peek(&mut self) -> Option<QueueEvent<'_>> {
        match self.records.get(self.at) {
            Some(record) => Some(QueueEvent::Record(record.view(), -1)),
            None => Some(QueueEvent::End(self.end)),
        }
    }

    fn pop(&mut self) {
        self.at += 1;
    }

    fn seek(&mut self, _: i64) -> Result<(), Error> {
        unreachable!("verify does not seek")
    }
}

impl Source for Topic {
    fn expect_partitions(&self, _partitions: usize) {}

    fn cluster_id(&self) -> &str {
        self.cluster
    }

    fn open(&self, tp: &TopicPartition, offset: i64, _: i32, _: Wake) -> Result<Box<dyn PartitionQueue>, Error> {
        assert!(self.open.lock().unwrap().insert(tp.partition), "librdkafka opens a partition once at a time");
        assert!(offset >= self.start, "librdkafka would answer OutOfRange");
        let records = self.records.range(offset..).map(|(_, r)| r.clone()).collect();
        Ok(Box::new(Queue { records, at: 0, end: self.end, partition: tp.partition, open: Arc::clone(&self.open) }))
    }

    fn bounds<'a>(&'a self, _: &'a TopicPartition) -> BoxFuture<'a, Result<LogBounds, Error>> {
        Box::pin(async { Ok(LogBounds { start: self.start, stable_end: self.end, end: self.end }) })
    }

    fn offsets_for_time<'a>(&'a self, _: &'a [TopicPartition], _: i64) -> BoxFuture<'a, Result<Vec<Option<i64>>, Error>> {
        Box::pin(async { unreachable!("verify does not look for times") })
    }

    fn topic<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<TopicInfo>, Error>> {
        Box::pin(async move { Ok((name == "orders").then(|| TopicInfo { name: name.into(), id: "0".into(), partitions: 2 })) })
    }

    fn is_compacted<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<bool>, Error>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(self.compacted) })
    }

    fn topics<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        Box::pin(async { unreachable!("verify does not look for topics") })
    }
}

#[tokio::test]
async fn a_backup_that_equals_the_topic_is_fine() {
    for encoding in ENCODINGS {
        let mut backup = Backup::in_memory(encoding).filled().await;
        backup.add(0, 250, 300, &[Missing(255, 260, GapCause::OperatorSkip)]).await;
        let topic = Topic::new();
        let asked = Arc::clone(&topic.asked);
        let report = backup.compare(topic).await;
        assert_eq!(kinds(&report), [], "{encoding}: {report:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 0, "the policy matters only where Kafka lacks a record");
        assert_eq!(report.compared, report.records, "{encoding}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_rules_over_one_topic_are_compared_in_turn() {
    let backup = Backup::in_memory(Encoding::PARQUET_ZSTD1).filled().await;
    for key in &backup.keys {
        let metadata = backup.store.head(key).await.unwrap().unwrap().metadata;
        backup.write(&format!("copy/{key}"), &backup.bytes(key).await, &metadata).await;
    }
    let report = backup.compare(Topic::new()).await;
    assert_eq!((kinds(&report), report.lanes, report.compared), (vec![], 4, report.records), "{report:?}");
}

#[tokio::test]
async fn each_difference_to_the_topic_is_named() {
    let cases: [(&str, Topic); 6] = [
        ("offset 150 is altered: value", Topic::changed(150, |r| r.value = Some(b"changed".to_vec()))),
        ("offset 150 is altered: key", Topic::changed(150, |r| r.key = None)),
        ("offset 150 is altered: headers", Topic::changed(150, |r| r.headers.clear())),
        ("offset 150 is altered: timestamp", Topic::changed(150, |r| r.timestamp += 1)),
        ("offset 151 is extra", {
            let mut topic = Topic::new();
            topic.records.remove(&151);
            topic
        }),
        ("offset 159 is missing", {
            let mut topic = Topic::new();
            topic.records.insert(159, Record { offset: 159, ..Record::of(158).unwrap() });
            topic
        }),
    ];
    let backup = Backup::in_memory(Encoding::PARQUET_ZSTD1).filled().await;
    let (zero, one) = (backup.key(0, 140), backup.key(1, 140));
    for (expected, topic) in cases {
        let report = backup.compare(topic).await;
        assert_eq!(kinds(&report), [(zero.as_str(), DamageKind::Records), (one.as_str(), DamageKind::Records)], "{expected}");
        assert!(report.damage[0].detail.starts_with(expected), "{expected}: {report:?}");
    }
}

#[tokio::test]
async fn raw_values_are_compared_as_a_stream_and_the_rest_by_digest() {
    for encoding in [RAW_LEN32, RAW_BARE, RAW_LINES] {
        let backup = Backup::in_memory(encoding).filled().await;
        for (expected, topic) in [
            ("from offset 151 on the values are altered", Topic::changed(151, |r| r.value = Some(b"valuX".to_vec()))),
            ("keys, headers", Topic::changed(150, |r| r.timestamp += 1)),
            ("the values are missing", {
                let mut topic = Topic::new();
                topic.records.insert(199, Record { offset: 199, ..Record::of(198).unwrap() });
                topic
            }),
        ] {
            let report = backup.compare(topic).await;
            let of_zero: Vec<&Damage> = report.damage.iter().filter(|d| d.key == backup.key(0, 140)).collect();
            assert_eq!((of_zero.len(), of_zero[0].kind), (1, DamageKind::Records), "{encoding} {expected}: {report:?}");
            assert!(of_zero[0].detail.contains(expected), "{encoding} {expected}: {report:?}");
        }
    }
}

#[tokio::test]
async fn what_kafka_has_dropped_is_noted() {
    for encoding in [Encoding::PARQUET_ZSTD1, RAW_LEN32] {
        let mut topic = Topic::new();
        topic.start = 150;
        topic.records = topic.records.split_off(&150);
        let report = Backup::in_memory(encoding).filled().await.compare(topic).await;
        assert_eq!(kinds(&report), [], "{report:?}");
        assert!(report.notes.iter().any(|n| n.contains("nothing below offset 150")), "{report:?}");
        assert!(report.notes.iter().any(|n| n.contains("of [140, 200) Kafka has nothing below 150")), "{report:?}");
    }
}

#[tokio::test]
async fn another_cluster_is_no_comparison() {
    let backup = Backup::in_memory(Encoding::PARQUET_ZSTD1).filled().await;
    let report = backup.compare(Topic::elsewhere()).await;
    assert_eq!(report.failure.as_ref().map(|e| e.code), Some(codes::COMPARE), "{report:?}");
}

/// Partition 0 and 1 without record 198, which has a key.
fn lacking(compacted: Option<bool>) -> Topic {
    let mut topic = Topic { compacted, ..Topic::new() };
    assert!(topic.records.remove(&198).unwrap().key.is_some());
    topic
}

#[tokio::test]
async fn what_compaction_drops_is_noted() {
    let backup = Backup::in_memory(Encoding::PARQUET_ZSTD1).filled().await;
    for compacted in [Some(true), None] {
        let mut topic = Topic { compacted, ..Topic::new() };
        topic.records.retain(|offset, record| record.key.is_none() || offset % 4 != 0);
        let report = backup.compare(topic).await;
        assert_eq!(kinds(&report), [], "{report:?}");
        assert_eq!(report.notes.iter().filter(|note| note.contains("compaction")).count(), 2, "a note for each partition: {report:?}");
    }
    for encoding in [RAW_LEN32, RAW_LINES] {
        let report = Backup::in_memory(encoding).filled().await.compare(lacking(Some(true))).await;
        assert_eq!(kinds(&report), [], "{encoding}: {report:?}");
        assert!(report.notes.iter().any(|note| note.contains("1 record(s)")), "{report:?}");
    }
}

#[tokio::test]
async fn of_a_topic_that_is_not_compacted_nothing_may_be_dropped() {
    for encoding in [Encoding::PARQUET_ZSTD1, RAW_LEN32, RAW_LINES] {
        let backup = Backup::in_memory(encoding).filled().await;
        let report = backup.compare(lacking(Some(false))).await;
        let (zero, one) = (backup.key(0, 140), backup.key(1, 140));
        assert_eq!(kinds(&report), [(zero.as_str(), DamageKind::Records), (one.as_str(), DamageKind::Records)], "{encoding}: {report:?}");
    }
}

#[tokio::test]
async fn raw_values_that_kafka_never_had_are_extra() {
    let mut backup = Backup::in_memory(RAW_LEN32);
    backup.own("orders", &[(0, 140)]).await;
    let keyless = |mut record: Record| {
        record.key = None;
        record
    };
    let held: Vec<Record> = records(140, 200).into_iter().map(keyless).collect();
    let (bytes, proof) = object(&RAW_LEN32, &lane(0), 140, 200, &[], &held);
    let key = backup.key(0, 140);
    backup.put(&key, &bytes, &proof).await;
    backup.keys.push(key.clone());
    let mut topic = Topic::new();
    topic.records.values_mut().for_each(|record| record.key = None);
    topic.records.remove(&198);
    let report = backup.compare(topic).await;
    assert_eq!(kinds(&report), [(key.as_str(), DamageKind::Records)], "{report:?}");
    assert!(report.damage[0].detail.contains("values are extra"), "{report:?}");
}
