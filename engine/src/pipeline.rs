//! Builds the stages back to front, owns their threads, and shuts them down front to back.
//!
//! Place in the flow: the only file that knows the whole chain. Clock, store, source and group are handed in, so that a test or a
//! simulation builds the pipeline as the command does. Order of a stop: consumers stop reading, builders finish what they
//! were given, lanes finish what is pinned, anchors are written, leases end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::bounded;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::builder::Builder;
use crate::clock::Clock;
use crate::commit::driver;
use crate::commit::env::{ConsumerPort, LaneEnv, Progress};
use crate::consumer::{Consumer, ConsumerCommand, ConsumerShared};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::intent::{CommitNote, is_same_topic};
use crate::limits::{BLOCKS_QUEUED_MAX, PARTS_IN_FLIGHT_MAX, STOP_ANCHORS_DEADLINE, STOP_DEADLINE};
use crate::memory::Seat;
use crate::metrics::{Metrics, RequestMetrics};
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
    threads: Vec<JoinHandle<()>>,
}

impl Pipeline {
    /// Starts builders and consumers on threads of their own. Lanes start with [`run`](Self::run).
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn start(parts: Parts) -> Result<Self> {
        let (mut pipeline, stages) = Self::assemble(parts, BLOCKS_QUEUED_MAX);
        for (n, builder) in stages.builders.into_iter().enumerate() {
            pipeline.threads.push(spawn(format!("builder-{n}"), move || builder.run())?);
        }
        for (n, consumer) in stages.consumers.into_iter().enumerate() {
            pipeline.threads.push(spawn(format!("consumer-{n}"), move || consumer.run())?);
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
            clock: parts.clock,
            shared,
            consumers: ports,
            claims: parts.claims,
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
        (Self { env, lanes: JoinSet::new(), threads: Vec::new() }, Stages { consumers, builders })
    }

    /// What lanes share; for metrics and claims.
    pub fn env(&self) -> &Arc<LaneEnv> {
        &self.env
    }

    /// Serves assignments until the end is reached, `stop` becomes true, or the group cannot go on.
    pub async fn run(&mut self, events: &mut mpsc::Receiver<GroupEvent>, stop: &mut watch::Receiver<bool>) -> Outcome {
        let env = Arc::clone(&self.env);
        let (end, retention) = (Self::reach_end(&env), retention::watch(&env));
        tokio::pin!(end, retention);
        let mut changes = env.progress.changes.subscribe();
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Outcome::Stopped,
                event = events.recv() => match event {
                    Some(GroupEvent::Assigned(leases)) => {
                        expect(&env, self.lanes.len() + leases.len());
                        for lease in leases {
                            self.lanes.spawn(driver::run(Arc::clone(&self.env), lease));
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
    env.source.expect_partitions(partitions);
    let counted = env.shared.seat.grow_to(u32::try_from(partitions).unwrap_or(u32::MAX));
    if let Err(e) = counted {
        // They are read all the same: to end for those that came would hold up those that were there.
        tracing::warn!(rule = env.rule.name, partitions, error = %e, "more partitions than the memory has room for");
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(body).map_err(|e| {
        Error::new(codes::THREAD, ErrorKind::Retryable, "a thread could not be started")
            .because(e)
            .help("raise the limit of processes (ulimit -u) for this user")
    })
}
