//! Builds the stages back to front, owns their threads, and shuts them down front to back.
//!
//! Place in the flow: the only file that knows the whole chain. Clock, store, source and group are handed in, so that a test or a
//! simulation builds the pipeline as the command does. Order of a stop: consumers stop reading, builders finish what they
//! were given, lanes finish what is pinned, anchors are written, leases end.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::bounded;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::builder::Builder;
use crate::clock::{Clock, Pace};
use crate::commit::driver;
use crate::commit::env::{ConsumerPort, LaneEnv, Progress};
use crate::commit::turns::{Schedule, Turns};
use crate::consumer::{Consumer, ConsumerCommand, ConsumerShared};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::intent::{CommitNote, is_same_topic};
use crate::lane::LivingLanes;
use crate::limits::{BLOCKS_QUEUED_MAX, PARTS_IN_FLIGHT_MAX, STOP_ANCHORS_DEADLINE, STOP_DEADLINE};
use crate::memory::Seat;
use crate::metrics::{Metrics, RequestMetrics};
use crate::panics;
use crate::report::Reporter;
use crate::retention;
use crate::rule::Rule;
use crate::source::{Group, GroupEvent, Source, TopicPartition};
use crate::stages::{BuilderStage, ConsumerStage, Stages};
use crate::store::{self, ObjectStore};
use crate::topics::TopicClaims;

/// Commands that may wait for a consumer: one for each lane that starts.
const COMMANDS_QUEUED_MAX: usize = 256;

/// How often the ends of an `--until-end` run that other members own are asked for.
const OTHERS_INTERVAL: Duration = Duration::from_secs(1);

/// What a pipeline is made of.
#[derive(Debug)]
pub struct Parts {
    /// The rule.
    pub rule: Rule,
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// Where progress is committed.
    pub group: Arc<dyn Group>,
    /// Where objects go.
    pub store: Arc<dyn ObjectStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Tells the operator.
    pub reporter: Arc<dyn Reporter>,
    /// Claims of topics.
    pub claims: TopicClaims,
    /// Where each partition's run ends; none: nowhere.
    pub until: Option<BTreeMap<TopicPartition, i64>>,
    /// Where blocks, encoders and parts get their memory.
    pub memory: Arc<Seat>,
    /// Counters of the store's requests.
    pub requests: Arc<RequestMetrics>,
    /// Number of threads.
    pub threads: Threads,
    /// How lanes share the memory.
    pub schedule: Schedule,
}

/// How many threads do what, and where they run.
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    /// Threads that drain queues.
    pub consumers: usize,
    /// Threads that encode.
    pub builders: usize,
    /// Whether consumers are pinned to cores.
    pub pinned: bool,
}

impl Threads {
    /// One consumer a partition up to the number of cores, and a builder for each core.
    pub fn for_machine(partitions: usize, cores: usize, pinned: bool) -> Self {
        Self { consumers: partitions.clamp(1, cores.max(1)), builders: cores.max(1), pinned }
    }

    /// For one of so many pipelines of a process: its part of the cores, and no more of either than it has partitions. Not pinned, since they would all be pinned
    /// to the same cores.
    pub fn for_one_of(pipelines: usize, partitions: usize, cores: usize) -> Self {
        let threads = partitions.clamp(1, (cores / pipelines.max(1)).max(1));
        Self { consumers: threads, builders: threads, pinned: false }
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// Everything that was readable at start is committed.
    ReachedEnd,
    /// It was told to stop.
    Stopped,
    /// It cannot go on.
    Failed(Error),
}

/// A running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    env: Arc<LaneEnv>,
    lanes: JoinSet<()>,
    living: LivingLanes,
    threads: Vec<JoinHandle<()>>,
    /// The first thread that has panicked.
    broken: watch::Sender<Option<Error>>,
}

impl Pipeline {
    /// Starts builders and consumers on threads of their own. Lanes start with [`run`](Self::run).
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn start(parts: Parts) -> Result<Self> {
        let (mut pipeline, stages) = Self::assemble(parts, BLOCKS_QUEUED_MAX);
        for (n, builder) in stages.builders.into_iter().enumerate() {
            let thread = spawn(format!("builder-{n}"), pipeline.broken.clone(), move || builder.run())?;
            pipeline.threads.push(thread);
        }
        for (n, consumer) in stages.consumers.into_iter().enumerate() {
            let thread = spawn(format!("consumer-{n}"), pipeline.broken.clone(), move || consumer.run())?;
            pipeline.threads.push(thread);
        }
        Ok(pipeline)
    }

    /// A pipeline whose consumers and builders the caller drives. `queued` bounds the messages between the two; one thread that drives
    /// both needs room for all that a turn of a consumer may send.
    pub fn assemble(parts: Parts, queued: usize) -> (Self, Stages) {
        parts.memory.seat_consumers(parts.threads.consumers);
        let budget = Arc::clone(parts.memory.budget());
        let shared = Arc::new(ConsumerShared {
            policy: parts.rule.window,
            upload_bytes_min: store::parts::upload_bytes_min(&parts.store.limits()),
            seat: parts.memory,
            clock: Arc::clone(&parts.clock),
        });
        let (mut builders, mut inlets) = (Vec::new(), Vec::new());
        for _ in 0..parts.threads.builders {
            let (inlet, messages) = bounded(queued);
            builders.push(BuilderStage::new(Builder::new(Arc::clone(&budget), parts.store.limits()), messages));
            inlets.push(inlet);
        }
        let (mut consumers, mut ports) = (Vec::new(), Vec::new());
        for n in 0..parts.threads.consumers {
            let (commands, command_inlet) = bounded(COMMANDS_QUEUED_MAX);
            let (wake, woken) = bounded(1);
            let consumer = Consumer::new(n, Arc::clone(&shared), inlets[n % inlets.len()].clone());
            consumers.push(ConsumerStage::new(consumer, command_inlet, woken, parts.threads.pinned.then_some(n)));
            ports.push(ConsumerPort { commands, wake });
        }
        let format = if parts.rule.encoding.extension() == "parquet" { "parquet" } else { "raw" };
        let env = Arc::new(LaneEnv {
            rule: parts.rule,
            source: parts.source,
            group: parts.group,
            store: parts.store,
            pace: Pace::begin(&*parts.clock),
            clock: parts.clock,
            shared,
            consumers: ports,
            claims: parts.claims,
            turns: Turns::new(parts.schedule),
            parts_in_flight: Arc::new(Semaphore::new(PARTS_IN_FLIGHT_MAX)),
            metrics: Arc::new(Metrics::new(format, &budget, parts.requests)),
            reporter: parts.reporter,
            until: parts.until,
            runs: AtomicU64::new(1),
            publishing: AtomicUsize::new(0),
            progress: Progress::default(),
            open_queues: Mutex::default(),
            anchors: Mutex::default(),
        });
        let (lanes, living) = (JoinSet::new(), LivingLanes::default());
        let pipeline = Self { env, lanes, living, threads: Vec::new(), broken: watch::Sender::new(None) };
        (pipeline, Stages { consumers, builders })
    }

    /// What lanes share; for metrics and claims.
    pub fn env(&self) -> &Arc<LaneEnv> {
        &self.env
    }

    /// Serves assignments until the end is reached, `stop` becomes true, or the group cannot go on.
    pub async fn run(&mut self, events: &mut mpsc::Receiver<GroupEvent>, stop: &mut watch::Receiver<bool>) -> Outcome {
        let env = Arc::clone(&self.env);
        let (end, retention, broken) = (Self::reach_end(&env), retention::watch(&env), first_broken(self.broken.subscribe()));
        tokio::pin!(end, retention, broken);
        let mut changes = env.progress.changes.subscribe();
        loop {
            tokio::select! {
                biased;
                error = &mut broken => return Outcome::Failed(error),
                _ = stop.wait_for(|stop| *stop) => return self.told_to_stop(),
                event = events.recv() => match event {
                    Some(GroupEvent::Assigned(leases)) => {
                        expect(&env, self.living.add(&leases));
                        for lease in leases {
                            let span = lane_span(&self.env.rule.name, &lease.tp);
                            self.lanes.spawn(driver::run(Arc::clone(&self.env), lease).instrument(span));
                        }
                    }
                    Some(GroupEvent::Fatal(error)) => return Outcome::Failed(error),
                    None => return Outcome::Failed(Error::new(codes::PART_ENDED, ErrorKind::Bug, "the group client ended without a word")),
                },
                Some(done) = self.lanes.join_next() => {
                    if let Err(e) = done {
                        return Outcome::Failed(Error::new(codes::PART_ENDED, ErrorKind::Bug, "a lane's task failed").because(e));
                    }
                }
                _ = changes.changed() => {
                    if let Some(error) = self.stopped_for_good() {
                        return Outcome::Failed(error);
                    }
                }
                () = &mut end => return Outcome::ReachedEnd,
                () = &mut retention => {}
            }
        }
    }

    /// A run in which a lane has panicked does not end as a sound one, whoever ends it.
    fn told_to_stop(&self) -> Outcome {
        let bug = self.env.progress.stopped().into_iter().find(|error| error.kind == ErrorKind::Bug);
        bug.map_or(Outcome::Stopped, Outcome::Failed)
    }

    /// A stopped lane ends a run that is to reach an end; else the others go on until none is left.
    fn stopped_for_good(&self) -> Option<Error> {
        let mut errors = self.env.progress.stopped();
        let all = errors.len() >= self.lanes.len();
        let fatal = errors.iter().position(|e| e.kind == ErrorKind::Fenced && e.code == codes::MEMBER_FENCED);
        let at = fatal.or_else(|| (!errors.is_empty() && (all || self.env.until.is_some())).then_some(0))?;
        Some(errors.swap_remove(at))
    }

    /// Waits until every partition's committed position has reached its end, whoever committed it.
    async fn reach_end(env: &LaneEnv) {
        let Some(until) = &env.until else { return std::future::pending().await };
        let mut changes = env.progress.changes.subscribe();
        let mut left: Vec<(&TopicPartition, i64)> = until.iter().map(|(tp, end)| (tp, *end)).collect();
        loop {
            left.retain(|(tp, end)| env.progress.get(tp).is_none_or(|at| at < *end));
            let mut open = Vec::new();
            for (tp, end) in left {
                if !Self::is_committed(env, tp, end).await {
                    open.push((tp, end));
                }
            }
            left = open;
            if left.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                _ = changes.changed() => env.clock.sleep(Duration::from_millis(50)).await,
                () = env.clock.sleep(OTHERS_INTERVAL) => {}
            }
        }
    }

    /// Another member may own the partition; the group knows what it has committed. An offset counts only if it is ours, of this topic and
    /// this destination: what a foreign client or an older incarnation left says nothing about what is stored.
    async fn is_committed(env: &LaneEnv, tp: &TopicPartition, end: i64) -> bool {
        let Ok(Some(committed)) = env.group.fetch(tp).await else { return false };
        let Ok(note) = CommitNote::parse(&committed.metadata) else { return false };
        if committed.offset < end || note.destination_hash() != env.rule.destination_hash {
            return false;
        }
        let topic_id = env.claims.identity(env, &tp.topic, env.clock.steady()).await;
        if !topic_id.is_ok_and(|id| is_same_topic(note.topic_hash(), &id)) {
            return false;
        }
        // A position past the log's end is a truncated log, which the lane's recovery asks about.
        committed.offset == end || env.source.bounds(tp).await.is_ok_and(|bounds| bounds.stable_end >= committed.offset)
    }

    /// Stops front to back. With `close`, open windows are closed and published; else they are dropped and will be read again.
    pub async fn stop(mut self, close: bool) {
        let env = Arc::clone(&self.env);
        env.turns.close();
        for port in &env.consumers {
            let _ = port.commands.send(ConsumerCommand::Stop { close });
            let _ = port.wake.try_send(());
        }
        let began = env.clock.steady();
        let grace = if close { Duration::from_millis(500) } else { Duration::ZERO };
        loop {
            let waited = env.clock.steady().saturating_sub(began);
            let idle = env.publishing.load(Ordering::SeqCst) == 0 && env.shared.seat.budget().waiting() == 0;
            if waited >= STOP_DEADLINE || (idle && waited >= grace) {
                break;
            }
            env.clock.sleep(Duration::from_millis(20)).await;
        }
        self.lanes.shutdown().await;
        if tokio::time::timeout(STOP_ANCHORS_DEADLINE, env.write_anchors()).await.is_err() {
            tracing::warn!("not all anchors were written; older ones are lower bounds too");
        }
        drop(env);
        drop(self.env);
        let threads = self.threads;
        if threads.is_empty() {
            return;
        }
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|t| drop(t.join()))).await;
    }
}

/// More partitions may be read than when the rule began: topics that came since match its expression.
fn expect(env: &LaneEnv, partitions: usize) {
    let partitions = env.turns.schedule.readers_of(partitions);
    env.source.expect_partitions(partitions);
    let counted = env.shared.seat.grow_to(u32::try_from(partitions).unwrap_or(u32::MAX));
    if let Err(e) = counted {
        // They are read all the same: to end for those that came would hold up those that were there.
        tracing::warn!(rule = env.rule.name, partitions, error = %e, "more partitions than the memory has room for");
    }
}

/// What every message of a lane is about, so that a line of a log can be told from those of other lanes and rules.
fn lane_span(rule: &str, tp: &TopicPartition) -> tracing::Span {
    tracing::error_span!("lane", rule, topic = &*tp.topic, partition = tp.partition)
}

/// Waits until a thread of the pipeline has panicked.
async fn first_broken(mut broken: watch::Receiver<Option<Error>>) -> Error {
    let error = broken.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
    match error {
        Some(error) => error,
        None => std::future::pending().await,
    }
}

/// A thread that all lanes may depend on. If it panics the run ends: lanes would wait for ever for what it was to bring.
fn spawn(name: String, broken: watch::Sender<Option<Error>>, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = name.clone();
    let guarded = move || {
        let Err(panic) = catch_unwind(AssertUnwindSafe(body)) else { return };
        let error = Error::new(codes::PART_ENDED, ErrorKind::Bug, "a thread has panicked")
            .with("thread", thread)
            .because(panics::said(&*panic))
            .help("start again: it goes on where it was, without loss or repetition; and report this with the log");
        broken.send_modify(|first| {
            first.get_or_insert(error);
        });
    };
    std::thread::Builder::new().name(name).spawn(guarded).map_err(|e| {
        Error::new(codes::THREAD, ErrorKind::Retryable, "a thread could not be started")
            .because(e)
            .help("raise the limit of processes (ulimit -u) for this user")
    })
}
