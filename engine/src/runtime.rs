//! From a plan to a running backup: opens the store, connects, claims, joins, runs, stops.
//!
//! Place in the flow: between the command line (or a service) and the pipeline. What can be wrong from outside is found here. Nothing
//! is written, nor the group joined, before settings, cluster, topics and what [`preflight`] looks at were asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::clock::{Clock, SystemClock};
use crate::commit::turns::Schedule;
use crate::config::{BackupPlan, Destination, KafkaSettings, OnStop, ScheduleKind, StoreSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::memory::Seat;
use crate::metrics::{Metrics, RequestMetrics};
use crate::pipeline::{Outcome, Parts, Pipeline, Threads};
use crate::preflight;
use crate::report::Reporter;
use crate::rule::Rule;
use crate::source::kafka::{self, GroupHandle, KafkaCluster, KafkaGroup, ReadShare};
use crate::source::{GroupEvent, Source, TopicInfo, TopicPartition};
use crate::store::key::Layout;
use crate::store::open::{Env, GivenCredentials, OpenOptions, open};
use crate::store::probe::GuardClasses;
use crate::store::url::below;
use crate::store::{ObjectStore, RequestObserver, StoreError, identity, probe};
use crate::topics::TopicClaims;
use crate::verify::Place;
use crate::window::WindowPolicy;

/// How long leaving the group may take. A member that is not gone by then is fenced by its session.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);

/// What a running backup shows to others.
pub trait Observer: Reporter {
    /// The pipeline runs; here are its counters.
    fn started(&self, started: &Started);

    /// No broker answers any more, and why; none: one does again. Reading and committing go on by themselves when one does.
    fn brokers(&self, _silence: Option<&Error>) {}
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
    stop: &mut watch::Receiver<Option<Ending>>,
) -> Result<Outcome> {
    backup_by_clock(plan, opened, Arc::new(SystemClock::new()), observer, stop).await
}

/// As [`backup`], as one of several in a process.
///
/// # Errors
/// As [`backup`], and `C0643`.
pub async fn backup_among(
    plan: &BackupPlan,
    opened: OpenedStore,
    room: Room,
    observer: Arc<dyn Observer>,
    stop: &mut watch::Receiver<Option<Ending>>,
) -> Result<Outcome> {
    run(plan, opened, room, Arc::new(SystemClock::new()), observer, stop).await
}

/// As [`backup`], by another clock: a harness that waits for a minute's patience need not take a minute.
///
/// # Errors
/// As [`backup`].
pub async fn backup_by_clock(
    plan: &BackupPlan,
    opened: OpenedStore,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    stop: &mut watch::Receiver<Option<Ending>>,
) -> Result<Outcome> {
    let room = Room { seat: Seat::of_budget(plan.budget.bytes()), turn: None };
    run(plan, opened, room, clock, observer, stop).await
}

/// What a backup is given by the process that it runs in.
#[derive(Debug)]
pub struct Room {
    /// Its place in the memory.
    pub seat: Arc<Seat>,
    /// Given back when it has found its topics: so that not all ask at once.
    pub turn: Option<OwnedSemaphorePermit>,
}

async fn run(
    plan: &BackupPlan,
    opened: OpenedStore,
    room: Room,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    stop: &mut watch::Receiver<Option<Ending>>,
) -> Result<Outcome> {
    let fetch = room.seat.fetch_bytes();
    let started = tokio::select! {
        started = start(plan, opened, room, clock, &observer) => started?,
        _ = stop.wait_for(Option::is_some) => return Ok(Outcome::Stopped),
    };
    let Running { mut pipeline, mut events, handle, cluster } = started;
    let (stopping, mut stopped) = watch::channel(false);
    let outcome = tokio::select! {
        outcome = pipeline.run(&mut events, &mut stopped) => outcome,
        () = forward(stop.clone(), stopping) => unreachable!("it passes a stop on and waits"),
        () = follow_share(fetch, &cluster) => unreachable!("it passes shares on and waits"),
        () = follow_silence(cluster.silence(), &*observer) => unreachable!("it passes on what is heard and waits"),
    };
    drop(cluster);
    let ending = stop.borrow().unwrap_or(Ending::AsPlanned);
    let close =
        (ending == Ending::Close || plan.on_stop == OnStop::Close) && (matches!(outcome, Outcome::Stopped) || stop.borrow().is_some());
    pipeline.stop(close).await;
    let left = tokio::task::spawn_blocking(move || handle.close(LEAVE_DEADLINE)).await;
    if let Ok(Err(e)) = left {
        tracing::info!(error = %e, "left without waiting for the group");
    }
    Ok(outcome)
}

/// How a run that is told to stop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Open windows are dropped or closed as the plan says.
    AsPlanned,
    /// Open windows are closed, since the rule goes on in another form, or not at all.
    Close,
}

/// Passes a stop on to the pipeline, and never ends.
async fn forward(mut stop: watch::Receiver<Option<Ending>>, stopping: watch::Sender<bool>) {
    // Whoever could stop it is gone: then nobody does.
    if stop.wait_for(Option::is_some).await.is_ok() {
        stopping.send_replace(true);
    }
    std::future::pending().await
}

/// Hands the fetches' part of the memory to the cluster's clients as it changes, and never ends.
async fn follow_share(mut fetch: watch::Receiver<u64>, cluster: &KafkaCluster) {
    while fetch.changed().await.is_ok() {
        let bytes = *fetch.borrow_and_update();
        cluster.set_fetch_bytes(bytes);
    }
    std::future::pending().await
}

/// Tells whether the brokers answer, and never ends.
async fn follow_silence(mut silence: watch::Receiver<Option<Error>>, observer: &dyn Observer) {
    loop {
        let now = silence.borrow_and_update().clone();
        observer.brokers(now.as_ref());
        if silence.changed().await.is_err() {
            // Whoever asks them is gone, and so is the run.
            return std::future::pending().await;
        }
    }
}

/// A pipeline in a group.
struct Running {
    pipeline: Pipeline,
    events: mpsc::Receiver<GroupEvent>,
    handle: GroupHandle,
    cluster: Arc<KafkaCluster>,
}

async fn start(plan: &BackupPlan, opened: OpenedStore, room: Room, clock: Arc<dyn Clock>, observer: &Arc<dyn Observer>) -> Result<Running> {
    let OpenedStore { store, requests } = opened;
    let Room { seat, turn } = room;
    let layout = plan.to.layout.to_layout()?;
    let Found { cluster, topics, infos, partitions, schedule } = find(plan, &seat).await?;
    // From here on it may be the store that is waited for, which is no matter of others.
    drop(turn);
    let until = if plan.options.until_end { Some(ends_of(&*cluster, &partitions).await?) } else { None };
    preflight::check(plan, &layout, &store, &*cluster, &infos).await?;
    let now_ms = clock.wall_ms();
    let classes = probe::classes(&store, u64::try_from(now_ms).unwrap_or_default()).await.map_err(|e| store_error(&*store, e))?;
    let joined = KafkaGroup::join(&cluster, &plan.rule, &plan.group, &plan.topics).await?;
    let pipeline = Pipeline::start(Parts {
        rule: rule(plan, &*store, layout, classes),
        source: Arc::clone(&cluster) as Arc<dyn Source>,
        group: joined.group,
        store: Arc::clone(&store),
        clock,
        reporter: Arc::clone(observer) as Arc<dyn Reporter>,
        claims: TopicClaims::new(plan.start.clone().resolved(now_ms), topics.clone()),
        until,
        requests,
        threads: threads(&seat, partitions.len()),
        memory: seat,
        schedule,
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
    Ok(Running { pipeline, events: joined.events, handle: joined.handle, cluster })
}

/// What a plan means on its cluster.
struct Found {
    cluster: Arc<KafkaCluster>,
    topics: Vec<String>,
    infos: Vec<TopicInfo>,
    partitions: Vec<TopicPartition>,
    schedule: Schedule,
}

/// Connects, looks for the topics, and takes the memory that their partitions need.
async fn find(plan: &BackupPlan, seat: &Seat) -> Result<Found> {
    let fetch_bytes = || *seat.fetch_bytes().borrow();
    let cluster = KafkaCluster::connect(kafka_settings(plan), ReadShare { bytes: fetch_bytes(), partitions: 1 }).await?;
    let topics = matching_topics(&*cluster, &plan.topics).await?;
    let infos = described(&*cluster, &topics).await?;
    let partitions = partitions_of(&infos);
    let schedule = schedule(plan.schedule, seat);
    let count = u32::try_from(schedule.readers_of(partitions.len()).max(1)).unwrap_or(u32::MAX);
    seat.set_partitions(count)?;
    cluster.resize(ReadShare { bytes: fetch_bytes(), partitions: count });
    Ok(Found { cluster, topics, infos, partitions, schedule })
}

/// The rule of a plan, as its lanes see it, in a store with these guards.
pub fn rule(plan: &BackupPlan, store: &dyn ObjectStore, layout: Layout, classes: GuardClasses) -> Rule {
    Rule {
        name: plan.rule.clone(),
        group: plan.group.clone(),
        encoding: plan.encoding,
        auto_level: plan.auto_level,
        destination_hash: Rule::hash_destination(store, &layout),
        layout,
        window: WindowPolicy {
            every_ms: i64::try_from(plan.window.every.as_millis()).unwrap_or(i64::MAX),
            by: plan.window.by,
            bytes_max: plan.max_bytes.bytes(),
        },
        on_gap: plan.on_gap,
        accept: plan.options.accept.clone(),
        moved_from: plan.options.moved_from.clone(),
        upload_deadline: plan.upload_deadline.to_duration(),
        classes,
    }
}

/// How the lanes of a plan share a seat's memory.
fn schedule(kind: ScheduleKind, seat: &Seat) -> Schedule {
    match kind {
        ScheduleKind::Stream => Schedule::Stream,
        ScheduleKind::Sweep => Schedule::sweep(seat.budget().fair_bytes()),
    }
}

/// The threads that a pipeline of so many partitions has in its seat, on the cores that this process may use.
pub fn threads(seat: &Seat, partitions: usize) -> Threads {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match seat.is_alone() {
        true => Threads::for_machine(partitions, cores, is_unlimited()),
        false => Threads::for_one_of(seat.sharers(), partitions, cores),
    }
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
    let mut options = read_options(settings).await?;
    options.observer = Some(Arc::clone(&requests) as Arc<dyn RequestObserver>);
    Ok(OpenedStore { store: open(&below(&settings.url, prefix), &options).await?, requests })
}

/// The hash that notes of the group carry of a destination, without opening it. May block for a moment, to look at a directory.
///
/// # Errors
/// If the address cannot be used.
pub fn destination_hash(to: &Destination) -> Result<String> {
    let identity = identity::exact(&below(&to.store.url, &to.prefix), &Env::default())?;
    Ok(Rule::hash_of(&identity, &to.layout.to_layout()?))
}

/// A text that is equal for equal destinations, however they are spelt; the layout is not looked at. May block as [`destination_hash`].
pub fn place_of(to: &Destination) -> String {
    let address = below(&to.store.url, &to.prefix);
    identity::place(&address, &Env::default()).unwrap_or(address)
}

/// Opens a destination for reading. Creates nothing.
///
/// # Errors
/// If the address or the credentials cannot be used, or a directory does not exist.
pub async fn open_place(to: &Destination) -> Result<Place> {
    Place::open(&below(&to.store.url, &to.prefix), &read_options(&to.store).await?).await
}

/// [`open_options`], on a thread that may wait for the files of secrets.
async fn read_options(settings: &StoreSettings) -> Result<OpenOptions> {
    let settings = settings.clone();
    crate::blocking::blocking(move || open_options(&settings)).await
}

/// What a store's settings say besides its address. Secrets are read once, so that one that is missing is known at the start; the store
/// reads them again by itself.
///
/// # Errors
/// If a secret cannot be read.
pub fn open_options(settings: &StoreSettings) -> Result<OpenOptions> {
    let mut options = OpenOptions::default();
    if let (Some(access_key), Some(secret_key)) = (settings.access_key_id.clone(), settings.secret_access_key.clone()) {
        let given = GivenCredentials { access_key, secret_key, session_token: settings.session_token.clone() };
        given.reveal()?;
        options.credentials = Some(given);
    }
    Ok(options)
}

fn store_error(store: &dyn ObjectStore, e: StoreError) -> Error {
    Error::from(e).with("store", store.url())
}

/// The topics of a rule, once each.
///
/// # Errors
/// `C0203` if one that is named does not exist; if the cluster does not answer.
pub(crate) async fn matching_topics(source: &dyn Source, patterns: &[String]) -> Result<Vec<String>> {
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

/// The topics as the cluster describes them; one that is gone again is left to its claim.
async fn described(source: &dyn Source, topics: &[String]) -> Result<Vec<TopicInfo>> {
    let mut infos = Vec::new();
    for topic in topics {
        infos.extend(source.topic(topic).await?);
    }
    Ok(infos)
}

fn partitions_of(infos: &[TopicInfo]) -> Vec<TopicPartition> {
    let of = |info: &TopicInfo| {
        let topic = Arc::clone(&info.name);
        (0..info.partitions).map(move |partition| TopicPartition { topic: Arc::clone(&topic), partition })
    };
    infos.iter().flat_map(of).collect()
}

async fn ends_of(source: &dyn Source, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
    let mut ends = BTreeMap::new();
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
    use crate::config::Secret;
    use crate::store::StoreErrorKind;
    use crate::store::memory::MemoryStore;

    #[test]
    fn a_store_that_refuses_keeps_its_own_advice() {
        let store = MemoryStore::default();
        for (kind, detail, part) in [
            (StoreErrorKind::Invalid, "HTTP 301 PermanentRedirect", "region="),
            (StoreErrorKind::Denied, "HTTP 403 RequestTimeTooSkewed", "clock"),
            (StoreErrorKind::Denied, "HTTP 403 PathStyleDomainForbidden", "style=virtual"),
            (StoreErrorKind::Invalid, "HTTP 501 NotImplemented", "guard=none"),
        ] {
            let error = store_error(&store, StoreError::new(kind, "PutObject", "k", detail));
            assert!(error.help.as_ref().is_some_and(|help| help.contains(part)), "{detail}: {error:?}");
            assert!(error.context.iter().any(|(label, _)| *label == "store"), "{error:?}");
        }
    }

    #[test]
    fn a_secret_that_is_missing_is_known_at_the_start() {
        let settings = StoreSettings {
            url: "s3://lake/".to_owned(),
            access_key_id: Some("id".into()),
            secret_access_key: Some(Secret::new("file:/none/such")),
            session_token: None,
        };
        assert_eq!(open_options(&settings).unwrap_err().code, crate::error::codes::SECRET_UNREADABLE);
        let given = open_options(&StoreSettings { secret_access_key: Some("key".into()), ..settings }).unwrap().credentials.unwrap();
        assert!(!given.may_change());
    }
}
