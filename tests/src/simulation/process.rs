//! One process of a simulation: the production pipeline on a simulated clock, store, cluster and group, driven on this thread.
//!
//! What it does not have: threads. Its consumers and builders take their turns on a task, between which its lanes run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catchment::ErrorKind;
use catchment::config::{StartPoint, WindowBy};
use catchment::intent::note_hash;
use catchment::memory::Seat;
use catchment::pipeline::{Outcome, Parts, Pipeline, Threads};
use catchment::report::{LaneNote, Reporter, WindowCommitted};
use catchment::rule::Rule;
use catchment::source::{GroupEvent, TopicPartition};
use catchment::stages::Stages;
use catchment::store::key::Layout;
use catchment::store::memory::MemoryStore;
use catchment::store::probe::GuardClasses;
use catchment::topics::TopicClaims;
use catchment::window::WindowPolicy;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::freeze::{Freeze, SimulatedClock};
use super::kafka::{Pending, SimulatedGroup, SimulatedSource};
use super::store::FaultyStore;
use super::world::World;
use crate::scripted::cluster::ScriptedCluster;
use crate::scripted::member::Member;

/// The rule that all processes run.
pub const RULE: &str = "simulated";

/// The topic that they back up.
pub const TOPIC: &str = "events";

/// The wall clock at the beginning, ms since 1970: that of the first record.
pub const START_MS: i64 = 1_700_000_000_000;

/// Messages that may wait for a builder: far more than a turn of the small windows here brings.
const QUEUED: usize = 1024;

/// How often idle stages look for something to do, at first and at last. Queues wake nobody here.
const IDLE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(640));

/// What all processes share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Chance, trace and tally.
    pub world: Arc<World>,
    /// Topics.
    pub cluster: Arc<ScriptedCluster>,
    /// Objects.
    pub store: Arc<MemoryStore>,
    /// Faults of commits.
    pub pending: Pending,
}

impl Shared {
    fn rule(&self) -> Rule {
        let plan = &self.world.plan;
        Rule {
            name: RULE.to_owned(),
            group: format!("catchment-{RULE}"),
            encoding: plan.encoding,
            // The memory store's own identity is another in every run.
            destination_hash: note_hash(TOPIC),
            layout: Layout::Hive,
            window: WindowPolicy { every_ms: plan.window_ms, by: WindowBy::RecordTime, bytes_max: plan.window_bytes },
            on_gap: plan.on_gap,
            accept: Vec::new(),
            upload_deadline: Duration::from_secs(3600),
            classes: GuardClasses { put: plan.class, complete: plan.class },
        }
    }
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    /// Its client.
    pub member: Arc<Member>,
    /// Stands still, or not.
    pub freeze: Freeze,
    main: JoinHandle<()>,
    /// The main task came to its end.
    ended: Arc<AtomicBool>,
    stages: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Process {
    /// Starts a process as the member that has just joined. `life` numbers it among all processes.
    pub fn start(shared: &Shared, life: u64, member: Arc<Member>, events: mpsc::Receiver<GroupEvent>) -> Self {
        let (world, freeze) = (Arc::clone(&shared.world), Freeze::default());
        let source = SimulatedSource { cluster: Arc::clone(&shared.cluster), life, freeze: freeze.clone() };
        let group = SimulatedGroup {
            member: Arc::clone(&member),
            world: Arc::clone(&world),
            freeze: freeze.clone(),
            pending: Arc::clone(&shared.pending),
        };
        let (pipeline, stages) = Pipeline::assemble(
            Parts {
                rule: shared.rule(),
                source: Arc::new(source),
                group: Arc::new(group),
                store: Arc::new(FaultyStore::new(Arc::clone(&world), Arc::clone(&shared.store), life, freeze.clone())),
                clock: Arc::new(SimulatedClock { world: Arc::clone(&world), freeze: freeze.clone(), start_ms: START_MS }),
                reporter: Arc::new(Notes { world: Arc::clone(&world), life }),
                claims: TopicClaims::new(StartPoint::Earliest, vec![TOPIC.to_owned()]),
                until: None,
                requests: Arc::default(),
                memory: Seat::alone(world.plan.memory, 0),
                threads: Threads { consumers: 1, builders: 1, pinned: false },
            },
            QUEUED,
        );
        let (stop, stopped) = watch::channel(false);
        let stages = tokio::spawn(drive(stages, freeze.clone()));
        let ended = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&ended);
        let main = tokio::spawn(async move {
            live(pipeline, events, stopped, world, life).await;
            noted.store(true, Ordering::Relaxed);
        });
        Self { member, freeze, main, ended, stages, stop }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.main.is_finished() || self.stages.is_finished()
    }

    /// Says why it ended, if not as a process may: a part of it panicked. What the pipeline itself calls a bug it says when it ends.
    pub fn autopsy(&self, world: &World) {
        if self.stages.is_finished() {
            world.note_bug("the stages of a process panicked".into());
        } else if !self.ended.load(Ordering::Relaxed) {
            world.note_bug("the main task of a process panicked".into());
        }
    }

    /// SIGTERM: it finishes what is pinned and ends.
    pub fn ask_to_stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for Process {
    /// SIGKILL. What it had sent stays on its way.
    fn drop(&mut self) {
        self.member.crash();
        self.main.abort();
        self.stages.abort();
    }
}

async fn live(
    mut pipeline: Pipeline,
    mut events: mpsc::Receiver<GroupEvent>,
    mut stopped: watch::Receiver<bool>,
    world: Arc<World>,
    life: u64,
) {
    let claimed = pipeline.env().claims.claim_all(pipeline.env(), &[TOPIC.to_owned()]).await;
    let outcome = match claimed {
        Ok(()) => pipeline.run(&mut events, &mut stopped).await,
        Err(error) => Outcome::Failed(error),
    };
    world.trace(format_args!("p{life} ends: {outcome:?}"));
    if let Outcome::Failed(error) = &outcome
        && error.kind == ErrorKind::Bug
    {
        world.note_bug(error.to_string());
    }
    pipeline.stop(false).await;
}

async fn drive(mut stages: Stages, freeze: Freeze) {
    let mut idle = IDLE.0;
    loop {
        freeze.thawed().await;
        if stages.step() {
            idle = IDLE.0;
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(idle).await;
            idle = (idle * 2).min(IDLE.1);
        }
    }
}

/// Writes what lanes tell into the trace.
#[derive(Debug)]
struct Notes {
    world: Arc<World>,
    life: u64,
}

impl Reporter for Notes {
    fn window(&self, window: &WindowCommitted) {
        let WindowCommitted { tp, range, key, bytes, records, reason, missing, .. } = window;
        self.world
            .trace(format_args!("p{} {tp} {range} is {key}: {records} records, {bytes} B, {reason:?}, missing {missing:?}", self.life));
    }

    fn lane(&self, tp: &TopicPartition, note: LaneNote<'_>) {
        self.world.trace(format_args!("p{} {tp} {note:?}", self.life));
        if let LaneNote::ResumedFromAnchor { anchor, position } = note
            && anchor < position
        {
            self.world.note_walk(tp.partition);
        }
        if let LaneNote::Gap(gap) = note
            && !gap.is_of_this_log()
        {
            self.world.note_ask(tp.partition);
        }
    }
}
