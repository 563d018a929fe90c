//! A Kafka cluster as a [`Source`]: opens partitions, and answers questions about topics and offsets.
//!
//! Place in the flow: made once for each connection of the config; consumer threads open their partitions from it, the pipeline asks
//! it for bounds and topics. Blocking calls of librdkafka run on tokio's blocking threads. It never commits and joins no group.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode as K;
use tokio::sync::watch;

use crate::blocking::blocking;
use crate::config::KafkaSettings;
use crate::error::{Error, ErrorKind};
use crate::source::{Committed, LogBounds, PartitionQueue, QueueFault, Source, TopicInfo, TopicPartition, Wake};
use crate::store::BoxFuture;

use super::client::{Reader, ReaderContext, Shared};
use super::errors::{Diagnostics, GROUP_HAS_MEMBERS, REQUEST_FAILED};
use super::fetching::{Fetching, ReadShare};
use super::first_contact::first_contact;
use super::limits::FetchLimits;
use super::native;
use super::native::admin::{self, OffsetSpec};
use super::offload::Offloaded;
use super::queue;
use super::topics::{TopicPattern, check_topic_name, select};
use super::unfolding::Unfolding;

/// How long one question may take; the callers repeat. Shorter: a slow login fails. Longer: a broker that is gone is noticed late, and
/// librdkafka spends a core while an admin call waits for it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the topics that are read are looked at. Shorter: more metadata requests. Longer: records of a topic that was made anew
/// may be read for that long as if they were the old one's.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// A cluster to read from.
pub struct KafkaCluster {
    config: KafkaSettings,
    cluster_id: String,
    diagnostics: Arc<Diagnostics>,
    /// The id of each topic as it was last told by [`Source::topic`]; bounded by the topics asked for.
    incarnations: Mutex<HashMap<String, String>>,
    /// Why no broker has answered when one was last asked; none: one has.
    silence: watch::Sender<Option<Error>>,
    /// For questions alone. It fetches nothing, so that its statistics are nobody's, and stays.
    asking: Offloaded<Reader>,
    fetching: Offloaded<Fetching>,
}

impl fmt::Debug for KafkaCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaCluster").field("id", &self.cluster_id).field("brokers", &self.config.brokers).finish_non_exhaustive()
    }
}

impl KafkaCluster {
    /// Connects: the cluster answers, and at least one broker that it advertises can be reached.
    ///
    /// # Errors
    /// `C0210` to `C0217` for the config, `C0201` and `C0221` for addresses, `C0211` and `C0212` for a login.
    pub async fn connect(config: KafkaSettings, share: ReadShare) -> Result<Arc<Self>, Error> {
        config.validate()?;
        let diagnostics = Arc::new(Diagnostics::default());
        let limits = FetchLimits::idle();
        let shared = Shared::new(&config, Arc::clone(&diagnostics));
        let asking = Reader::new(&config.reader_properties(&limits)?, Unfolding::new(&limits, 1), shared, Arc::default())?;
        let asking = Offloaded::new(Arc::new(asking));
        let (client, heard, settings) = (Arc::clone(&asking), Arc::clone(&diagnostics), config.clone());
        let cluster_id = blocking(move || first_contact(&client.consumer, &heard, &settings)).await?;
        let fetching = Offloaded::new(Fetching::start(config.clone(), Arc::clone(&diagnostics), share)?);
        let (incarnations, silence) = (Mutex::default(), watch::Sender::new(None));
        let cluster = Arc::new(Self { config, cluster_id, diagnostics, incarnations, silence, asking, fetching });
        watch_topics(&cluster)?;
        Ok(cluster)
    }

    fn incarnations(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.incarnations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why no broker answers; none while one does. They are asked every few seconds while somebody wants to know.
    pub(crate) fn silence(&self) -> watch::Receiver<Option<Error>> {
        self.silence.subscribe()
    }

    /// Asks for any broker's answer. A member that has none has no partitions either, once its session has ended, so no lane can say so.
    fn does_answer(&self) -> bool {
        let silence = native::reach(&self.asking.consumer, REQUEST_TIMEOUT).err().map(|code| self.explain("asking the brokers", code));
        let does = silence.is_none();
        self.silence.send_if_modified(|known| {
            // The reason may be told in other words at each look; that there is one is the news.
            let is_news = known.is_some() != silence.is_some();
            if is_news {
                *known = silence;
            }
            is_news
        });
        does
    }

    /// Faults the queues of topics that are gone or were made anew. A topic must be absent twice: metadata has hiccups.
    fn look_after_topics(&self, absent: &mut HashSet<String>) {
        let topics = self.fetching.open.topics();
        let is_followed = self.silence.receiver_count() > 0;
        if (topics.is_empty() && !is_followed) || !self.does_answer() || topics.is_empty() {
            return;
        }
        let Ok(described) = admin::describe_topics(&self.asking.consumer, &topics, REQUEST_TIMEOUT) else {
            return;
        };
        for topic in described {
            if is_absent(topic.code) {
                if !absent.insert(topic.name.clone()) {
                    self.fetching.open.fault(&topic.name, &QueueFault::Gone(format!("the topic {} does not exist any more", topic.name)));
                }
                continue;
            }
            absent.remove(&topic.name);
            if topic.code == K::NoError {
                let known = self.incarnations().entry(topic.name.clone()).or_insert_with(|| topic.id.clone()).clone();
                if known != topic.id {
                    let fault = QueueFault::Gone(format!("the topic {} was made anew: its id was {known} and is {}", topic.name, topic.id));
                    self.fetching.open.fault(&topic.name, &fault);
                }
            }
        }
    }

    /// Adapts to another number of partitions, or another amount of memory.
    pub fn resize(&self, share: ReadShare) {
        self.fetching.resize(share);
    }

    /// Adapts to another amount of memory.
    pub fn set_fetch_bytes(&self, bytes: u64) {
        self.fetching.set_bytes(bytes);
    }

    pub(crate) fn config(&self) -> &KafkaSettings {
        &self.config
    }

    pub(crate) fn shared(&self) -> Shared {
        Shared::new(&self.config, Arc::clone(&self.diagnostics))
    }

    pub(crate) fn explain(&self, what: &str, code: K) -> Error {
        self.diagnostics.explain(&self.config, what, code)
    }

    /// Asks the client something, off the async threads.
    async fn ask<T: Send + 'static>(
        &self,
        what: &str,
        call: impl FnOnce(&BaseConsumer<ReaderContext>) -> Result<T, K> + Send + 'static,
    ) -> Result<T, Error> {
        let (reader, troubled) = (Arc::clone(&self.asking), self.diagnostics.is_troubled());
        let call = move || {
            if troubled {
                native::reach(&reader.consumer, REQUEST_TIMEOUT)?;
            }
            call(&reader.consumer)
        };
        match blocking(call).await {
            Ok(value) => {
                self.diagnostics.clear();
                Ok(value)
            }
            Err(code) => Err(self.explain(what, code)),
        }
    }

    /// The names of the topics that `patterns` select, in order, each once. Blocks.
    ///
    /// # Errors
    /// `C0203` for a name that does not exist, and whatever asking the cluster brings. A pattern that matches nothing is no error.
    pub(crate) fn select_blocking(&self, patterns: &[TopicPattern]) -> Result<Vec<String>, Error> {
        let all = native::metadata(&self.asking.consumer, REQUEST_TIMEOUT).map_err(|code| self.explain("listing the topics", code))?;
        select(&all.topics, patterns)
    }

    /// All topics that this principal may see, by name, with their partitions; the broker's own are left out.
    ///
    /// # Errors
    /// Whatever asking the cluster brings.
    pub async fn catalogue(&self) -> Result<Vec<(String, i32)>, Error> {
        let all = self.ask("listing the topics", |c| native::metadata(c, REQUEST_TIMEOUT)).await?;
        let mut topics: Vec<(String, i32)> =
            all.topics.into_iter().filter(|(name, ..)| !name.starts_with("__")).map(|(name, partitions, _)| (name, partitions)).collect();
        topics.sort();
        Ok(topics)
    }

    /// What a group has committed, by partition.
    ///
    /// # Errors
    /// Whatever asking the cluster brings.
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<(TopicPartition, Committed)>, Error> {
        let asked = group.to_owned();
        let rows =
            self.ask(&format!("asking for the offsets of {group}"), move |c| admin::group_offsets(c, &asked, REQUEST_TIMEOUT)).await?;
        let of = |row: native::Row| {
            let tp = TopicPartition { topic: row.topic.into(), partition: row.partition };
            (tp, Committed { offset: row.offset, leader_epoch: row.leader_epoch, metadata: row.metadata })
        };
        Ok(rows.into_iter().filter(|row| row.offset >= 0).map(of).collect())
    }

    /// Deletes a group that has no member. One that is not there is deleted.
    ///
    /// # Errors
    /// `C0223` if it has members, and whatever asking the cluster brings.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let (asked, what) = (group.to_owned(), format!("deleting the group {group}"));
        match self.ask(&what, move |c| Ok(admin::delete_group(c, &asked, REQUEST_TIMEOUT))).await? {
            Ok(()) | Err(K::GroupIdNotFound) => Ok(()),
            Err(K::NonEmptyGroup) => Err(Error::new(GROUP_HAS_MEMBERS, ErrorKind::Retryable, "the consumer group still has members")
                .with("group", group)
                .help("a static member leaves when its session has ended")),
            Err(code) => Err(self.explain(&what, code)),
        }
    }

    pub(crate) async fn select(&self, patterns: Vec<TopicPattern>) -> Result<Vec<String>, Error> {
        let all = self.ask("listing the topics", |c| native::metadata(c, REQUEST_TIMEOUT)).await?;
        select(&all.topics, &patterns)
    }

    /// A topic's settings, in the order in which they are asked for.
    async fn settings<const N: usize>(&self, topic: &str, names: [&'static str; N]) -> Result<[Option<String>; N], Error> {
        let asked = topic.to_owned();
        let what = format!("asking for the settings of {topic}");
        self.ask(&what, move |c| admin::topic_settings(c, &asked, names, REQUEST_TIMEOUT)).await
    }
}

fn is_absent(code: K) -> bool {
    matches!(code, K::UnknownTopicOrPartition | K::UnknownTopic | K::UnknownTopicId)
}

/// Looks after the topics that are read, for as long as the cluster is in use.
fn watch_topics(cluster: &Arc<KafkaCluster>) -> Result<(), Error> {
    let cluster = Arc::downgrade(cluster);
    let watch = move || {
        let mut absent = HashSet::new();
        loop {
            crate::clock::block_for(WATCH_INTERVAL);
            let Some(cluster) = cluster.upgrade() else { return };
            cluster.look_after_topics(&mut absent);
        }
    };
    match std::thread::Builder::new().name("kafka-watch".into()).spawn(watch) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::new(REQUEST_FAILED, ErrorKind::Retryable, "a thread cannot be started").because(e)),
    }
}

/// Looks offsets up, and tells a partition that does not exist from one without a leader: librdkafka has one code for both.
fn look_up(client: &BaseConsumer<ReaderContext>, partitions: &[TopicPartition], spec: OffsetSpec) -> Result<Vec<native::Row>, K> {
    match admin::list_offsets(client, partitions, spec, REQUEST_TIMEOUT) {
        Err(K::NoEnt) => {}
        other => return other,
    }
    let topics: Vec<String> = partitions.iter().map(|tp| tp.topic.to_string()).collect::<HashSet<_>>().into_iter().collect();
    let described = admin::describe_topics(client, &topics, REQUEST_TIMEOUT)?;
    let exists = |tp: &TopicPartition| {
        described.iter().any(|t| t.name == *tp.topic && t.code == K::NoError && tp.partition >= 0 && tp.partition < t.partitions)
    };
    Err(if partitions.iter().all(exists) { K::LeaderNotAvailable } else { K::UnknownPartition })
}

/// The offset of the one row that was asked for.
fn single(rows: &[native::Row]) -> Result<i64, K> {
    match rows {
        [row] if row.code == K::NoError && row.offset >= 0 => Ok(row.offset),
        [row] if row.code != K::NoError => Err(row.code),
        _ => Err(K::Unknown),
    }
}

/// Whether a setting that is a list has this word.
fn has_word(list: &str, word: &str) -> bool {
    list.split(',').any(|part| part.trim() == word)
}

impl Source for KafkaCluster {
    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn open(&self, tp: &TopicPartition, offset: i64, leader_epoch: i32, wake: Wake) -> Result<Box<dyn PartitionQueue>, Error> {
        check_topic_name(&tp.topic)?;
        Ok(Box::new(queue::open(&self.fetching, tp, offset, leader_epoch, wake)?))
    }

    fn expect_partitions(&self, partitions: usize) {
        self.fetching.expect_partitions(partitions);
    }

    fn bounds<'a>(&'a self, tp: &'a TopicPartition) -> BoxFuture<'a, Result<LogBounds, Error>> {
        Box::pin(async move {
            check_topic_name(&tp.topic)?;
            let asked = [tp.clone()];
            self.ask(&format!("looking up the bounds of {tp}"), move |c| {
                let look_up = |spec| single(&look_up(c, &asked, spec)?);
                // In this order the three agree even while the log moves: start <= stable end <= end.
                let start = look_up(OffsetSpec::Earliest)?;
                let stable_end = look_up(OffsetSpec::StableEnd)?;
                Ok(LogBounds { start: start.min(stable_end), stable_end, end: look_up(OffsetSpec::End)?.max(stable_end) })
            })
            .await
        })
    }

    fn offsets_for_time<'a>(
        &'a self,
        partitions: &'a [TopicPartition],
        timestamp_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<Option<i64>>, Error>> {
        Box::pin(async move {
            for tp in partitions {
                check_topic_name(&tp.topic)?;
            }
            if partitions.is_empty() {
                return Ok(Vec::new());
            }
            let asked = partitions.to_vec();
            self.ask("looking up offsets by time", move |c| {
                let rows = look_up(c, &asked, OffsetSpec::Time(timestamp_ms))?;
                let found: HashMap<(&str, i32), &native::Row> = rows.iter().map(|r| ((r.topic.as_str(), r.partition), r)).collect();
                asked
                    .iter()
                    .map(|tp| match found.get(&(&*tp.topic, tp.partition)) {
                        Some(row) if row.code == K::NoError && row.offset >= -1 => Ok((row.offset >= 0).then_some(row.offset)),
                        Some(row) if row.code == K::NoError => Err(K::Unknown),
                        Some(row) => Err(row.code),
                        None => Err(K::Unknown),
                    })
                    .collect()
            })
            .await
        })
    }

    fn topic<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<TopicInfo>, Error>> {
        Box::pin(async move {
            check_topic_name(name)?;
            let asked = name.to_owned();
            let what = format!("describing the topic {name}");
            let mut described = self.ask(&what, move |c| admin::describe_topics(c, &[asked], REQUEST_TIMEOUT)).await?;
            match described.pop() {
                Some(topic) if topic.code == K::NoError => {
                    self.incarnations().insert(name.to_owned(), topic.id.clone());
                    Ok(Some(TopicInfo { name: name.into(), id: topic.id, partitions: topic.partitions }))
                }
                Some(topic) if !is_absent(topic.code) => Err(self.explain(&what, topic.code)),
                _ => Ok(None),
            }
        })
    }

    fn is_compacted<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<bool>, Error>> {
        Box::pin(async move {
            check_topic_name(topic)?;
            let [policy] = self.settings(topic, ["cleanup.policy"]).await?;
            Ok(policy.map(|policy| has_word(&policy, "compact")))
        })
    }

    fn retention_ms<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<i64>, Error>> {
        Box::pin(async move {
            check_topic_name(topic)?;
            let [policy, retention] = self.settings(topic, ["cleanup.policy", "retention.ms"]).await?;
            // Of a topic that is only compacted nothing is deleted for its age.
            let deletes = policy.is_none_or(|policy| has_word(&policy, "delete"));
            Ok(retention.and_then(|ms| ms.parse().ok()).filter(|ms| deletes && *ms >= 0))
        })
    }

    fn topics<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        Box::pin(async move { self.select(vec![TopicPattern::parse(pattern)?]).await })
    }
}
