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
use catchment::window::{CloseReason, WindowPolicy};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::faults::Fault;
use super::kafka::{Pending, SimulatedGroup, SimulatedSource};
use super::store::{FaultyStore, REQUEST_MAX};
use super::vitals::{SimulatedClock, Vitals};
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
            auto_level: false,
            // The memory store's own identity is another in every run.
            destination_hash: note_hash(TOPIC),
            layout: Layout::Hive,
            window: WindowPolicy { every_ms: plan.window_ms, by: WindowBy::RecordTime, bytes_max: plan.window_bytes },
            on_gap: plan.on_gap,
            accept: Vec::new(),
            moved_from: Vec::new(),
            upload_deadline: plan.upload_deadline,
            classes: GuardClasses { put: plan.class, complete: plan.class, forgets_completed: true },
        }
    }
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    /// Its client.
    pub member: Arc<Member>,
    /// Its number among all processes.
    pub life: u64,
    /// Runs, stands still or is dead.
    pub vitals: Vitals,
    world: Arc<World>,
    main: JoinHandle<()>,
    /// The main task came to its end.
    ended: Arc<AtomicBool>,
    stages: JoinHandle<()>,
    /// Kills it when its doom is met.
    reaper: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Process {
    /// Starts a process as the member that has just joined. `life` numbers it among all processes.
    pub fn start(shared: &Shared, life: u64, member: Arc<Member>, events: mpsc::Receiver<GroupEvent>) -> Self {
        let (world, vitals) = (Arc::clone(&shared.world), Vitals::default());
        let source = SimulatedSource { cluster: Arc::clone(&shared.cluster), life, vitals: vitals.clone(), world: Arc::clone(&world) };
        let group = SimulatedGroup {
            member: Arc::clone(&member),
            world: Arc::clone(&world),
            vitals: vitals.clone(),
            pending: Arc::clone(&shared.pending),
        };
        let (pipeline, stages) = Pipeline::assemble(
            Parts {
                rule: shared.rule(),
                source: Arc::new(source),
                group: Arc::new(group),
                store: Arc::new(FaultyStore::new(Arc::clone(&world), Arc::clone(&shared.store), life, vitals.clone())),
                clock: Arc::new(SimulatedClock { world: Arc::clone(&world), vitals: vitals.clone(), start_ms: START_MS }),
                reporter: Arc::new(Notes { world: Arc::clone(&world), life }),
                claims: TopicClaims::new(StartPoint::Earliest, vec![TOPIC.to_owned()]),
                until: None,
                requests: Arc::default(),
                memory: Seat::alone(world.plan.memory, 0),
                threads: Threads { consumers: 1, builders: 1, pinned: false },
                schedule: world.plan.schedule,
            },
            QUEUED,
        );
        let (stop, stopped) = watch::channel(false);
        let stages = tokio::spawn(drive(stages, vitals.clone()));
        let ended = Arc::new(AtomicBool::new(false));
        let (noted, exits, of) = (Arc::clone(&ended), vitals.clone(), Arc::clone(&world));
        let main = tokio::spawn(async move {
            live(pipeline, events, stopped, of, life).await;
            noted.store(true, Ordering::Relaxed);
            // What its tasks had not sent by now ends with it.
            exits.die();
        });
        let body = Body { member: Arc::clone(&member), vitals: vitals.clone(), tasks: [main.abort_handle(), stages.abort_handle()] };
        let reaper = tokio::spawn(reap(body, Arc::clone(&world)));
        Self { member, life, vitals, world, main, ended, stages, reaper, stop }
    }

    /// SIGKILL. What it had sent stays on its way; nothing follows it.
    pub fn kill(&self) {
        let tasks = [self.main.abort_handle(), self.stages.abort_handle()];
        Body { member: Arc::clone(&self.member), vitals: self.vitals.clone(), tasks }.kill();
    }

    /// Whether it was killed. One that has ended by itself was not.
    pub fn is_killed(&self) -> bool {
        self.vitals.is_dead() && !self.ended.load(Ordering::Relaxed)
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
    fn drop(&mut self) {
        if !self.ended.load(Ordering::Relaxed) {
            self.world.uploads(|book| book.orphan(self.life));
        }
        self.reaper.abort();
        self.kill();
    }
}

/// What of a process dies.
struct Body {
    member: Arc<Member>,
    vitals: Vitals,
    tasks: [AbortHandle; 2],
}

impl Body {
    fn kill(&self) {
        self.vitals.die();
        self.member.crash();
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Kills a process in the operation that it is doomed to die in: on the way there, at its effect, or on the way back.
async fn reap(body: Body, world: Arc<World>) {
    body.vitals.doomed().await;
    tokio::time::sleep(world.between(Duration::ZERO, REQUEST_MAX)).await;
    // It may have come to its own end meanwhile.
    if !world.is_calm() && !body.vitals.is_dead() {
        body.kill();
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

async fn drive(mut stages: Stages, vitals: Vitals) {
    let mut idle = IDLE.0;
    loop {
        vitals.thawed().await;
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
        if *reason == CloseReason::Pressure {
            self.world.feel(Fault::MemoryShort);
        }
        if *reason != CloseReason::Recovery {
            let order = self.world.order.next();
            self.world.uploads(|book| book.stand(key, self.life, order));
        }
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
        match note {
            LaneNote::Gap(gap) => self.world.note_gap(tp.partition, gap),
            // A panic is the lane's alone, and does not stop it if it does not come again.
            LaneNote::Stopped(error) | LaneNote::Panicked(error) if error.kind == ErrorKind::Bug => self.world.note_bug(error.to_string()),
            _ => {}
        }
    }
}
