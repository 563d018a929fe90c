//! What one cell stands on: its broker, its store, its settings, and the runs of the backup.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catchment::config::{Accept, BackupPlan, Config, Overrides, RunOptions};
use catchment::error::{Code, Error};
use catchment::metrics::RequestMetrics;
use catchment::pipeline::Outcome;
use catchment::runtime::{self, Ending, OpenedStore};
use catchment::store::ObjectStore;
use catchment::store::file::FileStore;
use catchment::store::memory::MemoryStore;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clock::{FACTOR, FastClock};
use super::data::{BATCH_RECORDS, batch};
use super::judge::Subject;
use super::store::HeldStore;
use super::watcher::Watcher;
use super::{Check, Tally};
use crate::broker::Broker;
use crate::broker::batches::Batch;
use crate::broker::cluster::{Cluster, Partition};
use crate::broker::faults::is_pin;
use crate::broker::groups::Group;

/// The topic of a cell.
pub(crate) const TOPIC: &str = "t";

/// The group of its rule.
pub(crate) const GROUP: &str = "catchment-cell";

/// How long a run may take that is to end by itself.
const RUN_LIMIT: Duration = Duration::from_secs(100);

/// How long a script waits for something that a run must come to.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the backup is set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) topics: String,
    pub(crate) start: String,
    pub(crate) window: &'static str,
    pub(crate) format: &'static str,
    pub(crate) on_gap: &'static str,
    pub(crate) instance: String,
    pub(crate) kafka: String,
    /// More keys of the rule, a line each.
    pub(crate) more: &'static str,
    pub(crate) properties: BTreeMap<&'static str, String>,
    pub(crate) accept: Vec<Accept>,
    pub(crate) until_end: bool,
    /// How much faster than the broker's the pipeline's clock runs.
    pub(crate) clock_factor: u32,
    /// The addresses to begin at, if not the brokers' own.
    pub(crate) bootstrap: Option<Vec<String>>,
}

/// librdkafka's own waits, shortened; what they decide stays what it is.
pub(crate) const QUICK: [(&str, &str); 9] = [
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "200"),
    ("socket.timeout.ms", "3000"),
    ("fetch.wait.max.ms", "20"),
    ("fetch.error.backoff.ms", "50"),
    ("retry.backoff.ms", "50"),
    ("reconnect.backoff.ms", "20"),
    ("reconnect.backoff.max.ms", "200"),
    ("coordinator.query.interval.ms", "1000"),
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            topics: format!("\"{TOPIC}\""),
            start: "earliest".to_owned(),
            window: "1s",
            format: "{ kind = \"parquet\" }",
            on_gap: "{}",
            instance: "member-1".to_owned(),
            kafka: String::new(),
            more: "",
            properties: QUICK.into_iter().map(|(k, v)| (k, v.to_owned())).collect(),
            accept: Vec::new(),
            until_end: true,
            clock_factor: FACTOR,
            bootstrap: None,
        }
    }
}

impl Settings {
    /// Raw values, framed so that null and empty differ.
    pub(crate) const RAW: &str = "{ kind = \"raw\", framing = \"len32\" }";

    fn plan(&self, brokers: &[String]) -> Result<BackupPlan, String> {
        let brokers = self.bootstrap.as_deref().unwrap_or(brokers);
        let properties: Vec<String> = self.properties.iter().map(|(k, v)| format!("\"{k}\" = \"{v}\"")).collect();
        let text = format!(
            "[kafka.k]\nbrokers = {brokers:?}\nproperties = {{ {} }}\n{}\n[store.s]\nurl = \"file:///nowhere/\"\n[rule.cell]\n\
             source = {{ topics = [{}], start = \"{}\" }}\nwindow = {{ every = \"{}\" }}\nformat = {}\non_gap = {}\ninstance_id = \"{}\"\n{}\n",
            properties.join(", "),
            self.kafka,
            self.topics,
            self.start,
            self.window,
            self.format,
            self.on_gap,
            self.instance,
            self.more,
        );
        let told = |errors: Vec<Error>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let config = Config::parse(&text, "cell").map_err(told)?;
        let options = RunOptions { until_end: self.until_end, accept: self.accept.clone(), moved_from: Vec::new() };
        BackupPlan::new(&config, Overrides::default(), options).map_err(told)
    }
}

/// A backup that runs.
#[derive(Debug)]
pub(crate) struct Run {
    task: JoinHandle<Result<Outcome, Error>>,
    pub(crate) stop: watch::Sender<Option<Ending>>,
    pub(crate) watcher: Arc<Watcher>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    End,
    Stopped,
    Failed(Error),
}

impl Run {
    /// Waits for its end.
    pub(crate) async fn ended(self) -> Result<Ended, String> {
        match tokio::time::timeout(RUN_LIMIT, self.task).await {
            Err(_) => Err(format!("a run did not end within {RUN_LIMIT:?}: {}", tail(&self.watcher))),
            Ok(Err(panic)) => Err(format!("a run panicked: {panic}")),
            Ok(Ok(Ok(Outcome::ReachedEnd))) => Ok(Ended::End),
            Ok(Ok(Ok(Outcome::Stopped))) => Ok(Ended::Stopped),
            Ok(Ok(Ok(Outcome::Failed(e)) | Err(e))) => Ok(Ended::Failed(e)),
        }
    }

    /// Waits for its end, which must be that of the topic.
    pub(crate) async fn must_reach_end(self) -> Check {
        let watcher = Arc::clone(&self.watcher);
        match self.ended().await? {
            Ended::End => Ok(()),
            other => Err(format!("the run did not reach the end: {other:?}; {}", tail(&watcher))),
        }
    }

    /// Waits for its end, which must be a failure with this code.
    pub(crate) async fn must_fail(self, code: u16) -> Check {
        let watcher = Arc::clone(&self.watcher);
        match self.ended().await? {
            Ended::Failed(e) if e.code == Code(code) => Ok(()),
            other => Err(format!("not stopped with {}: {other:?}; {}", Code(code), tail(&watcher))),
        }
    }

    /// As [`stop`](Self::stop), of a run that may have failed with this code before.
    pub(crate) async fn stop_or_fail(self, code: u16) -> Check {
        self.stop.send_replace(Some(Ending::AsPlanned));
        match self.ended().await? {
            Ended::Failed(e) if e.code != Code(code) => Err(format!("a run that was told to stop failed: {e}")),
            Ended::Failed(_) | Ended::End | Ended::Stopped => Ok(()),
        }
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) async fn stop(self) -> Check {
        self.stop.send_replace(Some(Ending::AsPlanned));
        match self.ended().await? {
            Ended::Failed(e) => Err(format!("a run that was told to stop failed: {e}")),
            Ended::End | Ended::Stopped => Ok(()),
        }
    }
}

/// The last things that a run told.
pub(super) fn tail(watcher: &Watcher) -> String {
    let heard = watcher.heard();
    let from = heard.notes.len().saturating_sub(12);
    heard.notes[from..].join(" | ")
}

/// The bench.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) broker: Broker,
    pub(crate) store: Arc<HeldStore>,
    pub(crate) settings: Settings,
    pub(crate) tally: Tally,
    pub(super) subject: Subject,
    pub(super) watchers: Vec<Arc<Watcher>>,
    directory: Option<tempfile::TempDir>,
}

impl Bench {
    pub(crate) async fn new(nodes: usize) -> Self {
        Self {
            broker: Broker::start(nodes).await,
            store: Arc::new(HeldStore::new(Arc::new(MemoryStore::default()))),
            settings: Settings::default(),
            tally: Tally::default(),
            subject: Subject::default(),
            watchers: Vec::new(),
            directory: None,
        }
    }

    /// Stores into files instead of memory.
    pub(crate) fn use_files(&mut self) -> Check {
        let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
        let store = FileStore::open(directory.path()).map_err(|e| e.to_string())?;
        self.store = Arc::new(HeldStore::new(Arc::new(store)));
        self.directory = Some(directory);
        Ok(())
    }

    /// Changes the cluster.
    pub(crate) fn script<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        self.broker.with(change)
    }

    /// Makes the topic.
    pub(crate) fn topic(&self, partitions: usize) {
        self.script(|cluster| cluster.make_topic(TOPIC, partitions));
    }

    /// Looks at a partition, or changes it.
    pub(crate) fn partition<T>(&self, partition: usize, change: impl FnOnce(&mut Partition) -> T) -> T {
        self.script(|cluster| change(cluster.partition(TOPIC, partition)))
    }

    /// The rule's group.
    pub(crate) fn group<T>(&self, look: impl FnOnce(&mut Group) -> T) -> T {
        self.script(|cluster| look(cluster.groups.group(GROUP)))
    }

    /// Appends a batch.
    pub(crate) fn append(&self, partition: usize, batch: Batch) -> i64 {
        self.partition(partition, |p| p.log.append(batch))
    }

    /// Appends so many records in plain batches.
    pub(crate) fn fill(&self, partition: usize, count: usize) {
        let number = i32::try_from(partition).expect("a small number");
        self.partition(partition, |p| fill(p, number, count));
    }

    /// Makes the topic of one partition and fills it.
    pub(crate) fn filled(&self, count: usize) {
        self.topic(1);
        self.fill(0, count);
    }

    /// Starts a backup.
    pub(crate) fn start(&mut self) -> Result<Run, String> {
        let settings = self.settings.clone();
        self.start_as(&settings)
    }

    /// Starts a backup with other settings.
    pub(crate) fn start_as(&mut self, settings: &Settings) -> Result<Run, String> {
        self.start_with(settings, Arc::clone(&self.store))
    }

    /// A way to the store for one run: what that sends can be held, and is counted, apart from the others'.
    pub(crate) fn own_way(&self) -> Arc<HeldStore> {
        Arc::new(HeldStore::new(Arc::clone(&self.store) as Arc<dyn ObjectStore>))
    }

    /// Starts a backup with other settings, by its own way to the store.
    pub(crate) fn start_with(&mut self, settings: &Settings, store: Arc<HeldStore>) -> Result<Run, String> {
        let plan = settings.plan(&self.broker.addresses())?;
        let (stop, mut stopped) = watch::channel(None);
        let watcher = Arc::new(Watcher::default());
        self.watchers.push(Arc::clone(&watcher));
        self.tally.runs += 1;
        let (store, observer) = (store as Arc<dyn ObjectStore>, Arc::clone(&watcher));
        let clock = Arc::new(FastClock::new(settings.clock_factor, self.tally.runs));
        let task = tokio::spawn(async move {
            let opened = OpenedStore { store, requests: Arc::new(RequestMetrics::default()) };
            runtime::backup_by_clock(&plan, opened, clock, observer, &mut stopped).await
        });
        Ok(Run { task, stop, watcher })
    }

    /// Runs a backup that must reach the end.
    pub(crate) async fn reach_end(&mut self) -> Check {
        self.start()?.must_reach_end().await
    }

    /// Runs a backup that must fail with this code.
    pub(crate) async fn expect_stop(&mut self, code: u16) -> Check {
        self.start()?.must_fail(code).await
    }

    /// Runs a backup until partition 0 has a window pinned that the store does not take, and stops it there.
    pub(crate) async fn leave_pinned(&mut self) -> Check {
        self.store.hold(true);
        let run = self.start()?;
        let (store, refused) = (Arc::clone(&self.store), self.store.refused());
        let pinned = self.broker.wait_until(PATIENCE, |cluster| {
            let group = cluster.groups.group(GROUP);
            store.refused() > refused && group.offsets.get(TOPIC, 0).is_some_and(|c| is_pin(&c.metadata))
        });
        if !pinned.await {
            return Err(format!("no window was pinned: {}", tail(&run.watcher)));
        }
        run.stop().await?;
        self.store.hold(false);
        Ok(())
    }

    /// Waits for a state of the cluster.
    pub(crate) async fn await_state(&self, what: &str, done: impl FnMut(&mut Cluster) -> bool) -> Check {
        if self.broker.wait_until(PATIENCE, done).await {
            return Ok(());
        }
        let told: Vec<String> = self.watchers.iter().map(|w| tail(w)).collect();
        Err(format!("not within {PATIENCE:?}: {what}; {}", told.join(" || ")))
    }

    /// Waits until partition 0 has had a window pinned.
    pub(crate) async fn await_pin(&self) -> Check {
        self.await_state("a first pin", |c| c.groups.group(GROUP).offsets.history(TOPIC, 0).any(|o| is_pin(&o.metadata))).await
    }

    /// Waits until each fault has fired.
    pub(crate) async fn await_faults(&self) -> Check {
        let numbers: Vec<usize> = self.subject.faults.iter().map(|(number, _)| *number).collect();
        self.await_state("each fault fired", move |c| numbers.iter().all(|number| c.fired(*number) > 0)).await
    }

    /// Waits until the last run has told something.
    pub(crate) async fn await_note(&self, part: &str) -> Check {
        self.await_note_or(part, |_| false).await
    }

    /// The same, or until no lane of the run reads any more.
    pub(crate) async fn await_note_or_no_lane(&self, part: &str) -> Check {
        self.await_note_or(part, Watcher::is_without_lanes).await
    }

    async fn await_note_or(&self, part: &str, or: impl Fn(&Watcher) -> bool) -> Check {
        let watcher = self.watchers.last().cloned().unwrap_or_default();
        let heard = |_: &mut Cluster| watcher.heard().notes.iter().any(|note| note.contains(part)) || or(&watcher);
        if self.broker.wait_until(PATIENCE, heard).await { Ok(()) } else { Err(format!("it never told {part}: {}", tail(&watcher))) }
    }

    /// Waits until the group has everything that is visible, and nothing pinned.
    pub(crate) async fn await_committed(&self) -> Check {
        self.await_state("everything committed", is_committed).await
    }
}

/// Appends so many records to a partition in plain batches.
pub(crate) fn fill(partition: &mut Partition, number: i32, count: usize) {
    let mut left = count;
    while left > 0 {
        let some = left.min(BATCH_RECORDS);
        let next = partition.log.end();
        partition.log.append(batch(number, next, some));
        left -= some;
    }
}

/// Whether the group has everything that is visible, and nothing pinned.
pub(crate) fn is_committed(cluster: &mut Cluster) -> bool {
    let ends: Vec<i64> = cluster.topics[TOPIC].partitions.iter().map(|p| p.log.stable_end()).collect();
    let group = cluster.groups.group(GROUP);
    (0..).zip(ends).all(|(partition, end)| group.offsets.get(TOPIC, partition).is_some_and(|c| c.offset >= end && !is_pin(&c.metadata)))
}
