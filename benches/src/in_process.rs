//! The engine within this program, where the shipped one cannot be asked: from a [synthetic source](crate::synthetic), into a [store that keeps
//! nothing](crate::null_store), on some of the CPUs, or with its calls of the allocator counted.
//!
//! Its place: behind a verb of `ratio` that runs as a process of its own. The stages, their threads and the memory are those of `catchment backup`
//! with the options of [`engine`](crate::engine); with a topic it is the same code from the connection on.
//!
//! Guarantee: there is an answer only if the [`crate::proofs`] of all objects say that they hold what was given. What is prepared and checked
//! has a thread of its own ([`HARNESS`]) and is not part of what the run cost.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use catchment::clock::{Clock, SystemClock};
use catchment::commit::turns::Schedule;
use catchment::config::{BackupPlan, Config, Given, Overrides, RuleSettings, RunOptions, StartPoint, StoreSettings, WINDOW_MAX};
use catchment::limits::BUDGET_DEFAULT;
use catchment::memory::Seat;
use catchment::pipeline::{Outcome, Parts, Pipeline};
use catchment::report::{LaneNote, Reporter, WindowCommitted};
use catchment::runtime::{self, Observer, OpenedStore, Started};
use catchment::source::{Source, TopicPartition};
use catchment::store::key::Layout;
use catchment::store::probe;
use catchment::topics::TopicClaims;
use catchment::{alloc, descriptors, threads};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::allocations::{self, Calls};
use crate::member::Member;
use crate::null_store::NullStore;
use crate::row::Format;
use crate::synthetic::{PARTITIONS, Synthetic, TOPIC};
use crate::{Failure, cores, proofs};

/// The thread that prepares and checks: its CPU time is not the engine's.
pub const HARNESS: &str = "harness";

/// Threads that talk to the store: as many as the program has.
const UPLOAD_THREADS: usize = 2;

/// A plan names brokers and a store. Nobody connects to these, and nobody opens that.
const NO_BROKER: &str = "localhost:1";

const NO_STORE: &str = "file:///null/";

/// What is to be done.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Work {
    /// Where records come from.
    pub from: Input,
    /// What is written.
    pub format: Format,
    /// The store's address; none: one that keeps nothing.
    pub to: Option<String>,
    /// The rule's name.
    pub rule: String,
    /// How many CPUs the process is kept to, if it is.
    pub cpus: Option<usize>,
    /// Whether calls of the allocator are counted.
    pub count: bool,
}

/// Where records come from.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Input {
    /// A topic, to its end.
    Topic {
        /// Bootstrap brokers.
        brokers: String,
        /// The topic.
        topic: String,
    },
    /// Memory.
    Records {
        /// About how large a record's value is.
        record_bytes: usize,
        /// MiB of values.
        mib: u64,
    },
}

/// What was done.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ran {
    /// Records that are stored.
    pub records: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
    /// User and system CPU time of the run, in seconds.
    pub cpu_s: f64,
    /// Its page faults without a disk.
    pub minor_faults: u64,
    /// Seconds by the clock, from its beginning to its last object.
    pub wall_s: f64,
    /// Its calls of the allocator, if they were counted.
    pub allocations: Option<Allocations>,
}

/// Counted calls.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Allocations {
    /// Records that went by meanwhile.
    pub records: u64,
    /// Calls by role.
    pub calls: Calls,
}

/// Does it.
///
/// # Errors
/// If it cannot be done, or what was stored is not what was given.
pub fn run(work: &Work) -> Result<Ran, Failure> {
    if let Some(cpus) = work.cpus {
        cores::keep_to(cpus)?;
    }
    provide()?;
    let plan = plan(work)?;
    let given = match work.from {
        Input::Records { record_bytes, mib } => Some(aside(|| Arc::new(Synthetic::new(record_bytes, mib, work.count)))?),
        Input::Topic { .. } => None,
    };
    let executor = executor()?;
    let before = Used::now()?;
    let witness = Arc::new(Witness::new(work.count && given.is_none()));
    let opened = executor.block_on(open(work))?;
    let store = Arc::clone(&opened.store);
    executor.block_on(async {
        match &given {
            Some(given) => backup_given(&plan, opened, given, &witness).await,
            None => backup_topic(&plan, opened, &witness).await,
        }
    })?;
    let used = Used::now()?;
    let calls = work.count.then(allocations::finish);
    let layout = plan.encoding.value_layout();
    let held = aside(|| proofs::check(executor.block_on(proofs::read(&*store))?, given.as_deref(), layout))??;
    let counted = given.as_ref().map_or(held.records, |given| given.counted());
    Ok(Ran {
        records: held.records,
        value_bytes: held.value_bytes,
        cpu_s: used.cpu_s - before.cpu_s,
        minor_faults: used.minor_faults - before.minor_faults,
        wall_s: witness.last_object().as_secs_f64(),
        allocations: calls.map(|calls| Allocations { records: counted, calls }),
    })
}

fn tried(e: impl Display) -> Failure {
    Failure::Tried(e.to_string())
}

/// What the program sees to at its start.
fn provide() -> Result<(), Failure> {
    alloc::verify().map_err(tried)?;
    descriptors::provide().map_err(tried)?;
    alloc::hold_down(BUDGET_DEFAULT);
    threads::provide(threads::THREADS_MIN).map_err(tried)
}

fn executor() -> Result<Runtime, Failure> {
    Builder::new_multi_thread().worker_threads(UPLOAD_THREADS).thread_name("upload").enable_all().build().map_err(tried)
}

/// On the harness's own thread.
fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(HARNESS.to_owned()).spawn_scoped(scope, work).map_err(tried)?;
        thread.join().map_err(|_| Failure::Tried("preparing or checking a run has panicked".to_owned()))
    })
}

/// As the command line makes it of the options that [`engine`](crate::engine) gives the program.
fn plan(work: &Work) -> Result<BackupPlan, Failure> {
    let (brokers, topic) = match &work.from {
        Input::Topic { brokers, topic } => (brokers.as_str(), topic.as_str()),
        Input::Records { .. } => (NO_BROKER, TOPIC),
    };
    let settings = RuleSettings {
        topics: Some(Given::flag("TOPIC", vec![topic.to_owned()])),
        window_every: Some(Given::flag("--window", WINDOW_MAX)),
        ..RuleSettings::default()
    };
    let overrides = Overrides {
        rule: Some(work.rule.clone()),
        brokers: Some(brokers.split(',').map(str::to_owned).collect()),
        to: Some(work.to.clone().unwrap_or_else(|| NO_STORE.to_owned())),
        settings,
        ..Overrides::default()
    };
    let options = RunOptions { until_end: true, ..RunOptions::default() };
    let plan = BackupPlan::new(&Config::default(), overrides, options).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::Asked(problems.join("; "))
    })?;
    Ok(BackupPlan { encoding: work.format.encoding(), ..plan })
}

async fn open(work: &Work) -> Result<OpenedStore, Failure> {
    let Some(to) = &work.to else {
        return Ok(OpenedStore { store: Arc::new(NullStore::default()), requests: Arc::default() });
    };
    let settings = StoreSettings { url: to.clone(), ..StoreSettings::default() };
    runtime::open_store(&settings, "").await.map_err(tried)
}

async fn backup_topic(plan: &BackupPlan, opened: OpenedStore, witness: &Arc<Witness>) -> Result<(), Failure> {
    let (_stopping, mut stop) = watch::channel(None);
    let observer = Arc::clone(witness) as Arc<dyn Observer>;
    ended(runtime::backup(plan, opened, observer, &mut stop).await.map_err(tried)?)
}

/// As [`runtime`] starts a pipeline, with our own source and group.
async fn backup_given(plan: &BackupPlan, opened: OpenedStore, given: &Arc<Synthetic>, witness: &Arc<Witness>) -> Result<(), Failure> {
    let OpenedStore { store, requests } = opened;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let classes = probe::classes(&store, u64::try_from(clock.wall_ms()).unwrap_or_default()).await.map_err(tried)?;
    let seat = Seat::of_budget(plan.budget.bytes());
    let mut threads = runtime::threads(&seat, PARTITIONS);
    threads.pinned &= cores::are_first();
    let (member, mut events) = Member::join(given.ends().map(|(tp, _)| tp));
    let topics = [TOPIC.to_owned()];
    let mut pipeline = Pipeline::start(Parts {
        rule: runtime::rule(plan, &*store, Layout::Hive, classes),
        source: Arc::clone(given) as Arc<dyn Source>,
        group: member,
        store,
        clock,
        reporter: Arc::clone(witness) as Arc<dyn Reporter>,
        claims: TopicClaims::new(StartPoint::Earliest, topics.to_vec()),
        until: Some(given.ends().collect()),
        memory: seat,
        requests,
        threads,
        schedule: Schedule::Stream,
    })
    .map_err(tried)?;
    let (_stopping, mut stop) = watch::channel(false);
    let outcome = match pipeline.env().claims.claim_all(pipeline.env(), &topics).await {
        Ok(()) => pipeline.run(&mut events, &mut stop).await,
        Err(e) => Outcome::Failed(e),
    };
    pipeline.stop(false).await;
    ended(outcome)
}

fn ended(outcome: Outcome) -> Result<(), Failure> {
    match outcome {
        Outcome::ReachedEnd => Ok(()),
        Outcome::Stopped => Err(Failure::Tried("the engine has stopped before the end".to_owned())),
        Outcome::Failed(e) => Err(tried(e)),
    }
}

/// What this process has used so far.
struct Used {
    cpu_s: f64,
    minor_faults: u64,
}

impl Used {
    fn now() -> Result<Self, Failure> {
        let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(tried)?;
        let (user, system) = (usage.user_time(), usage.system_time());
        let cpu_s = (user.tv_sec() + system.tv_sec()) as f64 + (user.tv_usec() + system.tv_usec()) as f64 / 1e6;
        Ok(Self { cpu_s, minor_faults: usage.minor_page_faults().unsigned_abs() })
    }
}

/// Notes when the last object stood, and says on standard error what went wrong on the way.
#[derive(Debug)]
struct Witness {
    began: Instant,
    last_object: Mutex<Duration>,
    /// Whether calls of the allocator are counted from the start of the run.
    counts: bool,
}

impl Witness {
    fn new(counts: bool) -> Self {
        Self { began: Instant::now(), last_object: Mutex::default(), counts }
    }

    fn last_object(&self) -> Duration {
        *self.last_object.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter for Witness {
    fn window(&self, _window: &WindowCommitted) {
        *self.last_object.lock().unwrap_or_else(PoisonError::into_inner) = self.began.elapsed();
    }

    fn lane(&self, tp: &TopicPartition, note: LaneNote<'_>) {
        match note {
            LaneNote::Restarted(why) => eprintln!("{tp} begins again: {why}"),
            LaneNote::Waiting(e) => eprintln!("{tp} waits for the store: {e}"),
            LaneNote::Panicked(e) | LaneNote::Stopped(e) => eprintln!("{tp}: {e}"),
            _ => {}
        }
    }
}

impl Observer for Witness {
    fn started(&self, _started: &Started) {
        if self.counts {
            allocations::begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(format: Format, mib: u64) -> Work {
        let from = Input::Records { record_bytes: 1024, mib };
        Work { from, format, to: None, rule: "ratio-test".into(), cpus: None, count: false }
    }

    #[test]
    fn records_of_memory_go_to_a_store_that_keeps_nothing_and_their_proofs_are_theirs() {
        for format in [Format::Parquet, Format::Raw] {
            let ran = run(&work(format, 24)).unwrap();
            let given = Synthetic::new(1024, 24, false);
            assert_eq!((ran.records, ran.value_bytes), (given.records(), given.value_bytes()), "{format:?}");
            assert!(ran.cpu_s > 0.0 && ran.wall_s > 0.0 && ran.allocations.is_none(), "{ran:?}");
        }
    }

    /// Its proof stands beside it, not in it.
    #[test]
    fn a_raw_object_of_several_parts_is_checked_too() {
        let ran = run(&work(Format::Raw, 80 * PARTITIONS as u64)).unwrap();
        assert!(ran.value_bytes >= (80 * PARTITIONS as u64) << 20, "{ran:?}");
    }

    #[test]
    fn a_directory_takes_them_as_well() {
        let directory = tempfile::tempdir().unwrap();
        let to = Some(format!("file://{}/", directory.path().display()));
        let ran = run(&Work { to, ..work(Format::Parquet, 8) }).unwrap();
        assert_eq!(ran.records, Synthetic::new(1024, 8, false).records());
    }

    #[test]
    fn what_no_plan_can_be_made_of_is_a_mistake_of_who_asks() {
        let refused = run(&Work { rule: "No Name".into(), ..work(Format::Raw, 1) });
        assert!(matches!(&refused, Err(Failure::Asked(why)) if why.contains("No Name")), "{refused:?}");
        let elsewhere = Work { to: Some("ftp://x/".into()), ..work(Format::Raw, 1) };
        assert!(matches!(run(&elsewhere), Err(Failure::Asked(_))));
    }

    #[test]
    fn what_is_to_be_done_survives_a_command_line() {
        let topic = Input::Topic { brokers: "h:1,h:2".into(), topic: "t".into() };
        let text = serde_json::to_string(&Work { from: topic, cpus: Some(2), ..work(Format::Raw, 1) }).unwrap();
        let read: Work = serde_json::from_str(&text).unwrap();
        assert_eq!((read.cpus, serde_json::to_string(&read).unwrap()), (Some(2), text));
    }
}
