//! One process of the cell: the production pipeline over the production S3 store, on a scripted cluster and group.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use catchment::Error;
use catchment::clock::Clock;
use catchment::commit::turns::Schedule;
use catchment::config::{GapPolicy, OnGap, StartPoint, WindowBy};
use catchment::memory::Seat;
use catchment::metrics::RequestMetrics;
use catchment::pipeline::{Outcome, Parts, Pipeline, Threads};
use catchment::report::{LaneNote, Reporter, WindowCommitted};
use catchment::rule::Rule;
use catchment::source::{Group, GroupEvent, Source, TopicPartition};
use catchment::store::key::Layout;
use catchment::store::open::open;
use catchment::store::probe::GuardClasses;
use catchment::store::{ObjectStore, StoreLimits};
use catchment::topics::TopicClaims;
use catchment::window::WindowPolicy;
use tokio::sync::{mpsc, watch};

use super::play::World;
use super::scene::{TOPIC, WINDOW_MS};
use crate::gate::Gate;
use crate::scripted::member::Member;
use crate::tether::Tether;

/// Size of a part in bytes: small, so that a window of four parts and more costs little.
const PART_BYTES: u64 = 32 << 10;

/// Memory of a pipeline in bytes: more than a cell's records.
const MEMORY: usize = 64 << 20;

/// Bytes of a window: no cell's reaches them.
const WINDOW_BYTES_MAX: u64 = 1 << 30;

/// How a process ended.
#[derive(Debug)]
pub(super) enum End {
    /// Everything is committed.
    Reached,
    /// It stopped with this.
    Stopped(Error),
    /// It is to die.
    Dying,
}

/// What lanes said.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, note: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }
}

impl Reporter for Notes {
    fn window(&self, window: &WindowCommitted) {
        self.add(format!("{} {} stands under {} after {} request(s)", window.tp, window.range, window.key, window.requests));
    }

    fn lane(&self, tp: &TopicPartition, note: LaneNote<'_>) {
        self.add(format!("{tp} {note:?}"));
    }
}

/// A running process.
#[derive(Debug)]
pub(super) struct Instance {
    tether: Arc<Tether>,
    member: Arc<Member>,
    pipeline: Pipeline,
    events: mpsc::Receiver<GroupEvent>,
    stop: watch::Sender<bool>,
}

impl Instance {
    /// Starts a process that ends when everything is committed that can be read now.
    pub(super) async fn start(world: &World) -> Result<Self, Error> {
        let store = open(&world.url, &world.options).await?;
        let limits = StoreLimits { part_bytes: PART_BYTES, part_bytes_min: 1, ..store.limits() };
        let tether = Tether::new(store, limits);
        let (member, events) = world.group.join(Some("member"));
        if member.assigned().is_empty() {
            world.group.rebalance(&[(&member, world.cluster.partitions(TOPIC))]).await;
        }
        let pipeline = Pipeline::start(Parts {
            rule: rule(world, &*tether),
            source: Arc::clone(&world.cluster) as Arc<dyn Source>,
            group: Arc::clone(&member) as Arc<dyn Group>,
            store: Arc::clone(&tether) as Arc<dyn ObjectStore>,
            clock: Arc::clone(&world.clock) as Arc<dyn Clock>,
            reporter: Arc::clone(&world.notes) as Arc<dyn Reporter>,
            claims: TopicClaims::new(StartPoint::Earliest, vec![TOPIC.to_owned()]),
            until: Some(ends(world)),
            memory: Seat::alone(MEMORY, 0),
            requests: Arc::new(RequestMetrics::default()),
            threads: Threads { consumers: 1, builders: 1, pinned: false },
            schedule: Schedule::Stream,
        })?;
        pipeline.env().claims.claim_all(pipeline.env(), &[TOPIC.to_owned()]).await?;
        Ok(Self { tether, member, pipeline, events, stop: watch::Sender::new(false) })
    }

    /// Runs to its end, or until `dying` opens.
    pub(super) async fn run(&mut self, dying: &Gate) -> End {
        let mut stop = self.stop.subscribe();
        let outcome = tokio::select! {
            outcome = self.pipeline.run(&mut self.events, &mut stop) => outcome,
            () = dying.opened() => return End::Dying,
        };
        match outcome {
            Outcome::ReachedEnd => End::Reached,
            Outcome::Failed(error) => End::Stopped(error),
            Outcome::Stopped => unreachable!("nobody stops it"),
        }
    }

    /// Ends as the command does. The member stays known to the group, as a static one does.
    pub(super) async fn stop(self) {
        self.pipeline.stop(false).await;
        self.member.crash();
    }

    /// Dies as by SIGKILL: nothing of it is sent any more.
    pub(super) fn kill(self) {
        self.tether.cut();
        self.member.crash();
    }
}

fn ends(world: &World) -> BTreeMap<TopicPartition, i64> {
    let partitions = world.cluster.partitions(TOPIC).into_iter();
    partitions.map(|tp| (tp.clone(), world.cluster.look(&tp, |log| log.bounds().stable_end))).collect()
}

fn rule(world: &World, store: &dyn ObjectStore) -> Rule {
    let class = world.cell.service.class();
    Rule {
        name: "cells".to_owned(),
        group: "catchment-cells".to_owned(),
        encoding: world.scene.encoding,
        auto_level: false,
        layout: Layout::Hive,
        window: WindowPolicy { every_ms: WINDOW_MS, by: WindowBy::RecordTime, bytes_max: WINDOW_BYTES_MAX },
        on_gap: GapPolicy { retention: OnGap::Halt, truncation: OnGap::Halt, corrupt_batch: OnGap::Halt, topic_recreated: OnGap::Halt },
        accept: Vec::new(),
        moved_from: Vec::new(),
        upload_deadline: catchment::limits::UPLOAD_DEADLINE_DEFAULT,
        destination_hash: Rule::hash_destination(store, &Layout::Hive),
        classes: GuardClasses { put: class, complete: class, forgets_completed: true },
    }
}
