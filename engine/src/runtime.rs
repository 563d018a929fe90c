//! From a plan to a running backup: opens the store, connects, claims, joins, runs, stops.
//!
//! Place in the flow: between the command line (or a service) and the pipeline. Everything that can be wrong from outside is
//! found here, in an order in which nothing is written before the next thing that could refuse was asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, SystemClock};
use crate::config::{BackupPlan, KafkaSettings, LayoutSettings, OnStop, StoreSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::metrics::{Metrics, RequestMetrics};
use crate::pipeline::{Outcome, Parts, Pipeline, Threads};
use crate::report::Reporter;
use crate::rule::Rule;
use crate::source::kafka::{self, GroupHandle, KafkaCluster, KafkaGroup, ReadShare};
use crate::source::{GroupEvent, Source, TopicPartition};
use crate::store::key::{Layout, Template};
use crate::store::open::{OpenOptions, StaticCredentials, open};
use crate::store::{ObjectStore, RequestObserver, StoreError, StoreErrorKind, probe};
use crate::topics::TopicClaims;
use crate::window::WindowPolicy;

/// How long leaving the group may take. A member that is not gone by then is fenced by its session.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);

/// What a running backup shows to others.
pub trait Observer: Reporter {
    /// The pipeline runs; here are its counters.
    fn started(&self, started: &Started);
}

/// What is known once a backup runs.
#[derive(Debug)]
pub struct Started {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The static member's name, if it has one.
    pub member: Option<String>,
    /// Guard classes of the store, as letters of PUT and Complete.
    pub classes: String,
    /// The store's address without secrets.
    pub store: String,
    /// Topics at the start.
    pub topics: Vec<String>,
    /// Partitions at the start.
    pub partitions: usize,
}

/// Runs a backup into `store` until its end, a stop, or an error. Returns what ended it.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn backup(
    plan: &BackupPlan,
    opened: OpenedStore,
    observer: Arc<dyn Observer>,
    stop: &mut watch::Receiver<bool>,
) -> Result<Outcome> {
    let started = tokio::select! {
        started = start(plan, opened, &observer) => started?,
        _ = stop.wait_for(|stop| *stop) => return Ok(Outcome::Stopped),
    };
    let Running { mut pipeline, mut events, handle } = started;
    let outcome = pipeline.run(&mut events, stop).await;
    let close = plan.on_stop == OnStop::Close && matches!(outcome, Outcome::Stopped);
    pipeline.stop(close).await;
    let left = tokio::task::spawn_blocking(move || handle.close(LEAVE_DEADLINE)).await;
    if let Ok(Err(e)) = left {
        tracing::info!(error = %e, "left without waiting for the group");
    }
    Ok(outcome)
}

/// A pipeline in a group.
struct Running {
    pipeline: Pipeline,
    events: mpsc::Receiver<GroupEvent>,
    handle: GroupHandle,
}

async fn start(plan: &BackupPlan, opened: OpenedStore, observer: &Arc<dyn Observer>) -> Result<Running> {
    let OpenedStore { store, requests } = opened;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let budget = plan.budget.bytes();
    let fetch = limits::fetch_bytes(budget);
    let cluster = KafkaCluster::connect(kafka_settings(plan), ReadShare { bytes: fetch, partitions: 1 }).await?;
    let topics = matching_topics(&*cluster, &plan.topics).await?;
    let partitions = partitions_of(&*cluster, &topics).await?;
    cluster.resize(ReadShare { bytes: fetch, partitions: u32::try_from(partitions.len().max(1)).unwrap_or(u32::MAX) })?;
    let until = if plan.options.until_end { Some(ends_of(&*cluster, &partitions).await?) } else { None };
    let now_ms = clock.wall_ms();
    let classes = probe::classes(&store, u64::try_from(now_ms).unwrap_or_default()).await.map_err(|e| store_error(&*store, e))?;
    let joined = KafkaGroup::join(&cluster, &plan.rule, &plan.group, &plan.topics).await?;
    let layout = layout(&plan.to.layout)?;
    let rule = Rule {
        name: plan.rule.clone(),
        group: plan.group.clone(),
        encoding: plan.encoding,
        destination_hash: Rule::hash_destination(&*store, &layout),
        layout,
        window: WindowPolicy {
            every_ms: i64::try_from(plan.window.every.as_millis()).unwrap_or(i64::MAX),
            by: plan.window.by,
            bytes_max: plan.max_bytes.bytes(),
        },
        on_gap: plan.on_gap,
        accept: plan.options.accept.clone(),
        upload_deadline: plan.upload_deadline.to_duration(),
        classes,
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = Threads::for_machine(partitions.len(), cores, is_unlimited());
    let pipeline = Pipeline::start(Parts {
        rule,
        source: Arc::clone(&cluster) as Arc<dyn Source>,
        group: joined.group,
        store: Arc::clone(&store),
        clock,
        reporter: Arc::clone(observer) as Arc<dyn Reporter>,
        claims: TopicClaims::new(plan.start.clone().resolved(now_ms), topics.clone()),
        until,
        requests,
        memory: usize::try_from(limits::pipeline_bytes(budget)).unwrap_or(usize::MAX),
        threads,
    })?;
    pipeline.env().claims.claim_all(pipeline.env(), &topics).await?;
    observer.started(&Started {
        metrics: Arc::clone(&pipeline.env().metrics),
        member: joined.handle.member.clone(),
        classes: format!("{:?}/{:?}", classes.put, classes.complete),
        store: store.url().to_owned(),
        topics,
        partitions: partitions.len(),
    });
    Ok(Running { pipeline, events: joined.events, handle: joined.handle })
}

/// A store, and the counters of its requests.
#[derive(Clone, Debug)]
pub struct OpenedStore {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// Counters of its requests.
    pub requests: Arc<RequestMetrics>,
}

/// Opens a store below a prefix.
///
/// # Errors
/// If the address or the credentials cannot be used.
pub async fn open_store(settings: &StoreSettings, prefix: &str) -> Result<OpenedStore> {
    let requests = Arc::new(RequestMetrics::default());
    let mut options = open_options(settings)?;
    options.observer = Some(Arc::clone(&requests) as Arc<dyn RequestObserver>);
    Ok(OpenedStore { store: open(&with_prefix(&settings.url, prefix), &options).await?, requests })
}

/// What a store's settings say besides its address.
///
/// # Errors
/// If a secret cannot be read.
pub fn open_options(settings: &StoreSettings) -> Result<OpenOptions> {
    let mut options = OpenOptions::default();
    if let (Some(access), Some(secret)) = (&settings.access_key_id, &settings.secret_access_key) {
        let session_token = settings.session_token.as_ref().map(|t| t.reveal("session_token")).transpose()?;
        options.credentials = Some(StaticCredentials {
            access_key: access.reveal("access_key_id")?,
            secret_key: secret.reveal("secret_access_key")?,
            session_token,
        });
    }
    Ok(options)
}

fn with_prefix(url: &str, prefix: &str) -> String {
    if prefix.is_empty() {
        return url.to_owned();
    }
    let (address, query) = url.split_once('?').map_or((url, String::new()), |(a, q)| (a, format!("?{q}")));
    format!("{}/{prefix}{query}", address.trim_end_matches('/'))
}

fn store_error(store: &dyn ObjectStore, e: StoreError) -> Error {
    let help = match e.kind {
        StoreErrorKind::NotFound => "create the bucket, or correct its name in --to",
        StoreErrorKind::Denied => "check the credentials, and that they may put, get, head and list below the prefix",
        StoreErrorKind::Unknown => "check the endpoint and the network; nothing was written",
        _ => "check --to",
    };
    Error::from(e).with("store", store.url()).help(help)
}

fn layout(settings: &LayoutSettings) -> Result<Layout> {
    Ok(match settings {
        LayoutSettings::Hive => Layout::Hive,
        LayoutSettings::Tencent { instance, topic_id } => Layout::Tencent { instance: instance.clone(), topic_id: topic_id.clone() },
        LayoutSettings::Confluent => Layout::Confluent,
        LayoutSettings::Template(text) => Layout::Template(Template::parse(text)?),
    })
}

async fn matching_topics(source: &dyn Source, patterns: &[String]) -> Result<Vec<String>> {
    let mut topics = Vec::new();
    for pattern in patterns {
        let found = source.topics(pattern).await?;
        if found.is_empty() && !pattern.starts_with('^') {
            return Err(Error::new(kafka::errors::UNKNOWN_TOPIC, ErrorKind::NotFound, "the topic does not exist")
                .with("topic", pattern)
                .help("check the name; a regular expression begins with ^"));
        }
        topics.extend(found);
    }
    topics.sort();
    topics.dedup();
    Ok(topics)
}

async fn partitions_of(source: &dyn Source, topics: &[String]) -> Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for topic in topics {
        if let Some(info) = source.topic(topic).await? {
            partitions.extend((0..info.partitions).map(|partition| TopicPartition { topic: Arc::clone(&info.name), partition }));
        }
    }
    Ok(partitions)
}

async fn ends_of(source: &dyn Source, partitions: &[TopicPartition]) -> Result<HashMap<TopicPartition, i64>> {
    let mut ends = HashMap::new();
    for tp in partitions {
        ends.insert(tp.clone(), source.bounds(tp).await?.stable_end);
    }
    Ok(ends)
}

/// Pinning helps when every core is ours; under a CPU quota a pinned thread waits for a core that others use up.
fn is_unlimited() -> bool {
    let quota = std::fs::read_to_string("/sys/fs/cgroup/cpu.max").is_ok_and(|text| !text.starts_with("max"));
    let quota_v1 = std::fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").is_ok_and(|text| !text.starts_with('-'));
    !quota && !quota_v1
}

/// A plan's Kafka settings as the client takes them: the member's name is one of the properties there.
pub fn kafka_settings(plan: &BackupPlan) -> KafkaSettings {
    let mut settings = plan.kafka.clone();
    match (&plan.instance_id, plan.dynamic_member) {
        (Some(id), _) => drop(settings.properties.insert("group.instance.id".into(), id.clone())),
        (None, true) => drop(settings.properties.insert("group.instance.id".into(), String::new())),
        (None, false) => {}
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_goes_before_the_query() {
        assert_eq!(with_prefix("s3://b/a/?region=x", "p/"), "s3://b/a/p/?region=x");
        assert_eq!(with_prefix("file:///d", "p/"), "file:///d/p/");
        assert_eq!(with_prefix("s3://b/?region=x", ""), "s3://b/?region=x");
    }
}
