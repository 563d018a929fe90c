//! Questions about clusters and stores that a rule is made of: what a connection reaches, which topics there are and what they hold, what a store permits.
//!
//! Place in the flow: beside the rules; asked by whoever creates or explains one. A connection is opened for each question and closed after it, a few at
//! a time. Kafka is only read, by no group. The probe of a store writes below `_catchment/probes/`, as each start of a rule does.

use std::sync::Arc;
use std::time::Duration;

use catchment_formats::RecordView;
use futures_util::future::try_join_all;
use tokio::sync::{Notify, Semaphore};

use super::changes::now_ms;
use crate::clock;
use crate::config::{BackupPlan, KafkaSettings, StoreSettings};
use crate::encoding::{LaneEncoding, LevelMemory};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::runtime;
use crate::source::kafka::{KafkaCluster, ReadShare};
use crate::source::{LogBounds, PartitionQueue, QueueEvent, QueueFault, Source, TopicPartition};
use crate::store::key::{KeyParts, PROBES, TopicName};
use crate::store::{Guard, GuardClass, Metadata, ObjectStore, Payload, StoreResult, probe};
use crate::verify::Place;
use crate::verify::rows::{self, FirstRows, text_of};

mod answers;
mod outlook;

pub use answers::{Explained, PartitionExtent, Permission, Probed, Reached, Sample, TopicExtent, TopicFound};
pub use outlook::{Obstacle, Outlook, Traffic, Weight};

use outlook::Scale;

/// Questions at a time. Each holds a client with its threads.
const AT_ONCE: usize = 4;

/// Objects that are looked into at a time. Each takes a footer of up to 64 MiB, and a row group while it is decoded.
const OBJECTS_AT_ONCE: usize = 2;

/// Memory of a client that answers a question.
const SHARE: ReadShare = ReadShare { bytes: 8 << 20, partitions: 1 };

/// How long sample records are waited for.
const SAMPLE_PATIENCE: Duration = Duration::from_secs(5);

/// Records of a topic that are weighed: enough for compression to find what they have in common.
const WEIGHED: usize = 2_000;

/// Topics of a search that are described at most.
pub const TOPICS_MAX: usize = 100;

/// Partitions that are asked for at the same time.
const BOUNDS_AT_ONCE: usize = 16;

/// Partitions whose extent is asked for at most: three small requests each.
const PARTITIONS_MAX: i32 = 256;

/// Asks.
#[derive(Debug)]
pub struct Inspector {
    turn: Semaphore,
    objects: Semaphore,
}

impl Default for Inspector {
    fn default() -> Self {
        Self { turn: Semaphore::new(AT_ONCE), objects: Semaphore::new(OBJECTS_AT_ONCE) }
    }
}

impl Inspector {
    /// Tries a connection.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    pub async fn reach(&self, kafka: &KafkaSettings) -> Result<Reached> {
        let _turn = self.turn.acquire().await;
        let began = clock::now();
        let cluster = KafkaCluster::connect(kafka.clone(), SHARE).await?;
        let topics = cluster.catalogue().await?;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Reached { cluster: cluster.cluster_id().to_owned(), topics: topics.len(), took_ms })
    }

    /// The topics whose names contain a text, or match an expression with a leading `^`; at most [`TOPICS_MAX`].
    ///
    /// # Errors
    /// If the cluster does not answer, or the expression is none.
    pub async fn topics(&self, kafka: &KafkaSettings, search: &str) -> Result<Vec<TopicFound>> {
        let _turn = self.turn.acquire().await;
        let cluster = KafkaCluster::connect(kafka.clone(), SHARE).await?;
        let all = cluster.catalogue().await?;
        let matching: Option<Vec<String>> = if search.starts_with('^') { Some(cluster.topics(search).await?) } else { None };
        let is_wanted = |name: &str| matching.as_ref().map_or_else(|| name.contains(search), |names| names.iter().any(|n| n == name));
        Ok(found(all).filter(|topic| is_wanted(&topic.name)).take(TOPICS_MAX).collect())
    }

    /// What a topic holds; of the first 256 partitions.
    ///
    /// # Errors
    /// `C0203` if there is none of this name; if the cluster does not answer.
    pub async fn topic(&self, kafka: &KafkaSettings, name: &str) -> Result<TopicExtent> {
        let _turn = self.turn.acquire().await;
        let cluster = KafkaCluster::connect(kafka.clone(), SHARE).await?;
        extent(&cluster, name).await
    }

    /// What some topics hold, by one client.
    ///
    /// # Errors
    /// As [`topic`](Self::topic).
    pub async fn extents(&self, kafka: &KafkaSettings, names: &[String]) -> Result<Vec<TopicExtent>> {
        let _turn = self.turn.acquire().await;
        let cluster = KafkaCluster::connect(kafka.clone(), SHARE).await?;
        let mut extents = Vec::with_capacity(names.len());
        for name in names {
            extents.push(extent(&cluster, name).await?);
        }
        Ok(extents)
    }

    /// The last records of a topic's first partitions that have any. Values and keys are only shown with `values`.
    ///
    /// # Errors
    /// As [`topic`](Self::topic).
    pub async fn sample(&self, kafka: &KafkaSettings, name: &str, at_most: usize, values: bool) -> Result<Vec<Sample>> {
        let _turn = self.turn.acquire().await;
        let cluster = KafkaCluster::connect(kafka.clone(), SHARE).await?;
        let info = described(&cluster, name).await?;
        let (began, mut samples) = (clock::now(), Vec::new());
        for partition in 0..info.partitions.min(PARTITIONS_MAX) {
            let (wanted, left) = (at_most - samples.len(), SAMPLE_PATIENCE.saturating_sub(began.elapsed()));
            if wanted == 0 || left.is_zero() {
                break;
            }
            let tp = TopicPartition { topic: Arc::clone(&info.name), partition };
            let found = last_records(&cluster, &tp, wanted, left).await?;
            samples.extend(found.into_iter().map(|sample| if values { sample } else { Sample { key: None, value: None, ..sample } }));
        }
        Ok(samples)
    }

    /// What a rule with this plan does.
    ///
    /// # Errors
    /// If the cluster does not answer, or a topic does not exist.
    pub async fn explain(&self, plan: &BackupPlan) -> Result<Explained> {
        let _turn = self.turn.acquire().await;
        let cluster = KafkaCluster::connect(plan.kafka.clone(), SHARE).await?;
        let names = runtime::matching_topics(&*cluster, &plan.topics).await?;
        let all = cluster.catalogue().await?;
        let topics: Vec<TopicFound> = found(all).filter(|topic| names.contains(&topic.name)).collect();
        let partitions: f64 = topics.iter().map(|topic| f64::from(topic.partitions)).sum();
        let every = plan.window.every.to_duration().as_secs_f64();
        Ok(Explained {
            toml: plan.to_toml(),
            group: plan.group.clone(),
            example_keys: topics.iter().take(TOPICS_MAX).map(|topic| example_key(plan, &topic.name)).collect::<Result<_>>()?,
            topics,
            objects_an_hour: partitions * 3_600.0 / every,
        })
    }

    /// What a rule with this plan makes of its topics in a day, from what so many of them had lately.
    ///
    /// # Errors
    /// If the cluster does not answer, or a topic does not exist.
    pub async fn outlook(&self, plan: &BackupPlan, topics_max: usize) -> Result<Outlook> {
        let _turn = self.turn.acquire().await;
        let cluster = KafkaCluster::connect(plan.kafka.clone(), SHARE).await?;
        let names = runtime::matching_topics(&*cluster, &plan.topics).await?;
        let mut topics = Vec::new();
        for name in names.iter().take(topics_max) {
            topics.push(traffic(&cluster, name, plan).await?);
        }
        Ok(Outlook::new(topics, names.len(), plan))
    }

    /// What an object says of itself, and its first records.
    ///
    /// # Errors
    /// As [`rows::first`].
    pub async fn look_into(&self, place: &Place, key: &str, records: usize) -> Result<FirstRows> {
        let _turn = self.objects.acquire().await;
        rows::first(place, key, records).await
    }

    /// What a store permits below a prefix, and what its guards are worth. Takes about 300 small requests, and as many to remove what they have written.
    ///
    /// # Errors
    /// If its address or credentials cannot be used.
    pub async fn probe(&self, store: &StoreSettings, prefix: &str) -> Result<Probed> {
        let _turn = self.turn.acquire().await;
        let opened = runtime::open_store(store, prefix).await?.store;
        let run = probe::new_run();
        let permissions = permissions(&*opened, &run).await;
        let classes = match permissions.iter().all(|permission| permission.allowed) {
            true => probe::measure_in(&opened, &run).await.map_err(|e| e.to_string()),
            false => Err("not all that a rule needs is permitted".to_owned()),
        };
        let left_behind = probe::clean(&*opened, &run).await;
        let letter = |class: GuardClass| format!("{class:?}");
        Ok(Probed {
            store: opened.url().to_owned(),
            region: opened.region(),
            put: classes.as_ref().ok().map(|classes| letter(classes.put)),
            complete: classes.as_ref().ok().map(|classes| letter(classes.complete)),
            problem: classes.err(),
            permissions,
            left_behind,
        })
    }
}

/// The key of an object of this topic's partition 0 for a window that opens now.
///
/// # Errors
/// If the layout can have no such key.
pub fn example_key(plan: &BackupPlan, topic: &str) -> Result<String> {
    let layout = plan.to.layout.to_layout()?;
    let every_ms = i64::try_from(plan.window.every.as_millis()).unwrap_or(i64::MAX);
    let parts = KeyParts { topic: &TopicName::new(topic), partition: 0, timestamp_ms: Some(now_ms()), window_ms: every_ms };
    Ok(format!("{}{}", plan.to.prefix, layout.object_key(&parts, 0, plan.encoding.extension())))
}

fn found(topics: Vec<(String, i32)>) -> impl Iterator<Item = TopicFound> {
    topics.into_iter().map(|(name, partitions)| TopicFound { name, partitions })
}

async fn extent(cluster: &KafkaCluster, name: &str) -> Result<TopicExtent> {
    Ok(extent_and_lately(cluster, name).await?.0)
}

/// What a topic had lately, and what its records weigh: by the partition that had most.
async fn traffic(cluster: &Arc<KafkaCluster>, name: &str, plan: &BackupPlan) -> Result<Traffic> {
    let (extent, lately, partitions) = extent_and_lately(cluster, name).await?;
    let mut scale = Scale::new(LaneEncoding::new(plan.encoding, plan.auto_level, &LevelMemory::default()));
    let most = extent.partitions.iter().zip(&lately).max_by_key(|(partition, lately)| (**lately, partition.end - partition.start));
    if let Some((most, _)) = most {
        let tp = TopicPartition { topic: Arc::from(name), partition: most.partition };
        read_last(cluster, &tp, WEIGHED, SAMPLE_PATIENCE, &mut |record| scale.put(record)).await?;
    }
    // Partitions that were not asked for are taken to be like the others.
    let all = f64::from(partitions) / extent.partitions.len().max(1) as f64;
    let of_all = |n: f64| (n * all).round();
    Ok(Traffic {
        topic: extent.name,
        partitions: usize::try_from(partitions).unwrap_or_default(),
        busy: of_all(lately.iter().filter(|records| **records > 0).count() as f64) as usize,
        records: of_all(extent.records as f64) as i64,
        records_an_hour: of_all(extent.records_last_hour as f64) as i64,
        weight: scale.weight(),
    })
}

/// With the records of the last hour, by partition, and the number of partitions: these are of the first 256 at most.
async fn extent_and_lately(cluster: &KafkaCluster, name: &str) -> Result<(TopicExtent, Vec<i64>, i32)> {
    let info = described(cluster, name).await?;
    let of = |partition| TopicPartition { topic: Arc::clone(&info.name), partition };
    let all: Vec<TopicPartition> = (0..info.partitions.min(PARTITIONS_MAX)).map(of).collect();
    let mut partitions = Vec::with_capacity(all.len());
    for some in all.chunks(BOUNDS_AT_ONCE) {
        let bounds = try_join_all(some.iter().map(|tp| cluster.bounds(tp))).await?;
        let extent_of = |(tp, bounds): (&TopicPartition, LogBounds)| PartitionExtent {
            partition: tp.partition,
            start: bounds.start,
            end: bounds.stable_end,
        };
        partitions.extend(some.iter().zip(bounds).map(extent_of));
    }
    let hour_ago = cluster.offsets_for_time(&all, now_ms() - 3_600_000).await?;
    let since = |(extent, then): (&PartitionExtent, Option<i64>)| then.map_or(0, |then| (extent.end - then).max(0));
    let lately: Vec<i64> = partitions.iter().zip(hour_ago).map(since).collect();
    let records = partitions.iter().map(|extent| extent.end - extent.start).sum();
    let extent = TopicExtent { name: name.to_owned(), id: info.id, partitions, records, records_last_hour: lately.iter().sum() };
    Ok((extent, lately, info.partitions))
}

async fn described(cluster: &KafkaCluster, name: &str) -> Result<crate::source::TopicInfo> {
    cluster.topic(name).await?.ok_or_else(|| {
        Error::new(crate::source::kafka::errors::UNKNOWN_TOPIC, ErrorKind::NotFound, "the topic does not exist")
            .with("topic", name)
            .help("search for it, or check that this principal may describe it")
    })
}

/// The last visible records of a partition, as many as there are among its last offsets, or as arrive in time.
async fn last_records(cluster: &Arc<KafkaCluster>, tp: &TopicPartition, at_most: usize, patience: Duration) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut keep = |record: &RecordView<'_>| {
        samples.push(shown(tp, record));
        samples.len() < at_most
    };
    read_last(cluster, tp, at_most, patience, &mut keep).await?;
    Ok(samples)
}

/// Is shown records one by one, and says whether it wants more.
type Reader<'a> = &'a mut (dyn FnMut(&RecordView<'_>) -> bool + Send);

/// Reads the visible records among a partition's last offsets, as many as arrive in time.
async fn read_last(cluster: &Arc<KafkaCluster>, tp: &TopicPartition, at_most: usize, patience: Duration, each: Reader<'_>) -> Result<()> {
    let bounds = cluster.bounds(tp).await?;
    let from = (bounds.stable_end - i64::try_from(at_most).unwrap_or(i64::MAX)).max(bounds.start);
    if from >= bounds.stable_end {
        return Ok(());
    }
    let (began, arrived) = (clock::now(), Arc::new(Notify::new()));
    let wake = Arc::clone(&arrived);
    let mut queue = cluster.open(tp, from, -1, Arc::new(move || wake.notify_one()))?;
    while !take(&mut *queue, tp, bounds.stable_end, each)? {
        if tokio::time::timeout(patience.saturating_sub(began.elapsed()), arrived.notified()).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Takes what has arrived. True once the end was reached, or no more are wanted.
fn take(queue: &mut dyn PartitionQueue, tp: &TopicPartition, end: i64, each: Reader<'_>) -> Result<bool> {
    while queue.fill() {
        match queue.peek() {
            Some(QueueEvent::Record(record, _)) if record.offset < end => {
                if !each(&record) {
                    return Ok(true);
                }
            }
            Some(QueueEvent::End(_) | QueueEvent::Record(..)) => return Ok(true),
            Some(QueueEvent::Fault(fault)) => return Err(unreadable(tp, &fault)),
            None => break,
        }
        queue.pop();
    }
    Ok(false)
}

fn unreadable(tp: &TopicPartition, fault: &QueueFault) -> Error {
    Error::new(codes::COMPARE_READ, ErrorKind::Retryable, "the topic cannot be read")
        .with("topic", &tp.topic)
        .with("partition", tp.partition)
        .because(format!("{fault:?}"))
        .help("check that this principal may read it")
}

fn shown(tp: &TopicPartition, record: &RecordView<'_>) -> Sample {
    Sample {
        partition: tp.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp,
        key_bytes: record.key.map(<[u8]>::len),
        value_bytes: record.value.map(<[u8]>::len),
        headers: record.headers.iter().map(|(name, _)| text_of(name)).collect(),
        key: record.key.map(text_of),
        value: record.value.map(text_of),
    }
}

/// Tries each action that a rule needs, in the directory of a probe.
async fn permissions(store: &dyn ObjectStore, run: &str) -> Vec<Permission> {
    let key = format!("{run}/permissions");
    let body = || Payload::from_bytes("probe");
    let none = Metadata::new();
    let mut tried = vec![
        permission("ListBucket", store.list(PROBES, false, None).await),
        permission("PutObject", store.put(&key, body(), &none, Guard::Overwrite).await),
        permission("GetObject", store.get(&key, None).await),
        permission("HeadObject", store.head(&key).await),
    ];
    if store.limits().multipart {
        tried.extend(multipart_permissions(store, &format!("{key}-upload"), body()).await);
    }
    tried
}

async fn multipart_permissions(store: &dyn ObjectStore, key: &str, body: Payload) -> Vec<Permission> {
    let opened = store.create_upload(key, &Metadata::new(), Guard::IfAbsent).await;
    let mut tried = vec![permission("ListMultipartUploads", store.list_uploads(key).await)];
    if let Ok(upload) = &opened {
        tried.push(permission("UploadPart", store.upload_part(key, upload, 1, body).await));
        tried.push(permission("ListParts", store.list_parts(key, upload).await));
        tried.push(permission("AbortMultipartUpload", store.abort_upload(key, upload).await));
    }
    tried.insert(0, permission("CreateMultipartUpload", opened));
    tried
}

fn permission<T>(action: &'static str, answer: StoreResult<T>) -> Permission {
    let problem = answer.err().map(|e| e.to_string());
    Permission { action, allowed: problem.is_none(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{StoreError, StoreErrorKind};

    #[tokio::test]
    async fn every_action_is_tried_and_leaves_no_upload() {
        let store = MemoryStore::default();
        let tried = permissions(&store, &probe::new_run()).await;
        assert_eq!(tried.len(), 9);
        assert!(tried.iter().all(|permission| permission.allowed), "{tried:?}");
        assert!(store.open_uploads().is_empty());
    }

    #[tokio::test]
    async fn a_store_is_probed_below_the_prefix_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreSettings { url: format!("file://{}/", dir.path().display()), ..StoreSettings::default() };
        let probed = Inspector::default().probe(&store, "kafka/").await.unwrap();
        assert!(probed.store.ends_with("/kafka/"), "{probed:?}");
        assert_eq!((probed.put.as_deref(), probed.left_behind, probed.region), (Some("A"), 0, None));
        assert!(!dir.path().join("_catchment").exists(), "nothing was asked at the root");
        let left = std::fs::read_dir(dir.path().join("kafka/_catchment/probes")).unwrap().count();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_refusal_is_no_permission() {
        let refused: StoreResult<()> = Err(StoreError::new(StoreErrorKind::NotFound, "PutObject", "k", "HTTP 404 NoSuchBucket"));
        let permission = permission("PutObject", refused);
        assert!(!permission.allowed && permission.problem.is_some_and(|problem| problem.contains("NoSuchBucket")));
    }
}
