//! What happens in a simulation: records arrive, processes come, go, freeze and die, the log loses records, the store goes down; then faults
//! stop, and whatever is left must be done.
//!
//! Time passes in ticks. Between two of them everything else runs by itself.

use std::sync::Arc;
use std::time::Duration;

use catchment::intent::CommitNote;
use catchment::source::{LogBounds, QueueFault, Source as _, TopicPartition};
use catchment::store::ObjectStore as _;
use catchment::store::memory::MemoryStore;
use catchment::store::{StoreLimits, parts};
use catchment_formats::GapCause;
use tokio::time::Instant;

use super::faults::Fault;
use super::kafka::trouble;
use super::ledger::{Excuse, Ledger};
use super::plan::Event;
use super::process::{Process, START_MS, Shared, TOPIC};
use super::verdict::{self, Verdict};
use super::world::World;
use crate::generate::Profile;
use crate::scripted::cluster::ScriptedCluster;
use crate::scripted::group::ScriptedGroup;
use crate::scripted::log::Shape;

/// From one thing that happens to the next.
const TICK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// How long the group keeps a member that it does not hear.
const SESSION: Duration = Duration::from_secs(10);

/// How long a process may need for what is left once faults have stopped: longer than any deadline of the protocol.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// A place in which a process runs, or will.
#[derive(Debug, Default)]
struct Slot {
    process: Option<Process>,
    /// When the supervisor starts it next.
    starts_at: Option<Instant>,
    /// When the coordinator gives a silent member up.
    expires_at: Option<Instant>,
    /// When a frozen or cut-off process is well again.
    heals_at: Option<(Instant, Fault)>,
    /// When a member that lost its session notices.
    notices_at: Option<Instant>,
}

/// One simulation under way.
#[derive(Debug)]
struct Story {
    shared: Shared,
    group: Arc<ScriptedGroup>,
    slots: Vec<Slot>,
    ledger: Ledger,
    /// Processes started so far.
    lives: u64,
    /// Whether the members changed since the last rebalance.
    unbalanced: bool,
    /// Moments, by the order of events, at which the group's offsets were forgotten.
    forgotten_at: Vec<u64>,
}

/// How a simulation ended.
#[derive(Debug)]
pub struct End {
    /// What was found.
    pub verdict: Verdict,
    /// What was shared, with trace and tally.
    pub world: Arc<World>,
}

/// Runs a simulation from beginning to end, on the calling task's runtime, whose time must be paused.
pub async fn run(world: World) -> End {
    let mut story = Story::new(Arc::new(world)).await;
    for _ in 0..story.world().plan.ticks {
        story.tick().await;
        story.something_happens().await;
    }
    story.heal().await;
    let finished = story.finish().await;
    story.end(finished).await
}

impl Story {
    async fn new(world: Arc<World>) -> Self {
        let plan = &world.plan;
        let cluster = Arc::new(ScriptedCluster::new(plan.seed));
        let limits = MemoryStore::default().limits();
        let store = Arc::new(MemoryStore::new(StoreLimits { part_bytes: plan.part_bytes.min(parts::PART_BYTES), ..limits }));
        let group = ScriptedGroup::new(world.order.clone());
        let pending = trouble(&world, &group, &cluster);
        let slots = (0..plan.processes).map(|_| Slot { starts_at: Some(Instant::now()), ..Slot::default() }).collect();
        let mut ledger = Ledger::default();
        Self::create_topic(&world, &cluster, &mut ledger).await;
        let shared = Shared { world, cluster, store, pending };
        Self { shared, group, slots, ledger, lives: 0, unbalanced: false, forgotten_at: Vec::new() }
    }

    async fn create_topic(world: &World, cluster: &ScriptedCluster, ledger: &mut Ledger) {
        let profile = Profile::plain().with_times(START_MS, 200_000);
        cluster.create(TOPIC, world.plan.partitions, &Shape::with_holes(profile));
        loop {
            // A question of ours may fail like any other.
            match cluster.topic(TOPIC).await {
                Ok(Some(info)) => return ledger.incarnate(&info.id, info.partitions),
                other => world.trace(format_args!("asked for the topic: {other:?}")),
            }
        }
    }

    fn world(&self) -> &Arc<World> {
        &self.shared.world
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        self.shared.cluster.partitions(TOPIC)
    }

    fn pick(&self) -> TopicPartition {
        let mut partitions = self.partitions();
        partitions.swap_remove(self.world().below(partitions.len() as u64) as usize)
    }

    /// Enters what a partition shows into the ledger, before something is taken from it, and answers its extent.
    fn look(&mut self, tp: &TopicPartition) -> LogBounds {
        self.ledger.look(&self.shared.world, &self.shared.cluster, tp);
        self.shared.cluster.look(tp, |log| log.bounds())
    }

    fn committed(&self, tp: &TopicPartition) -> i64 {
        self.group.committed(tp).map_or(0, |c| c.offset)
    }

    /// Time passes; records arrive; what was due happens.
    async fn tick(&mut self) {
        tokio::time::sleep(self.world().between(TICK.0, TICK.1)).await;
        for tp in self.partitions() {
            let offsets = self.world().below(12) as i64;
            self.shared.cluster.change(&tp, |log| log.append(offsets));
        }
        self.see_to_processes().await;
    }

    /// Supervisor and coordinator.
    async fn see_to_processes(&mut self) {
        let now = Instant::now();
        for n in 0..self.slots.len() {
            self.see_to(n, now).await;
        }
        if self.unbalanced {
            self.rebalance().await;
        }
    }

    async fn see_to(&mut self, n: usize, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if let Some((_, fault)) = self.slots[n].heals_at.filter(|(at, _)| *at <= now) {
            self.slots[n].heals_at = None;
            if let Some(process) = &self.slots[n].process {
                process.freeze.set(false);
                process.member.set_cut_off(false);
                if self.slots[n].expires_at.is_none() {
                    self.world().feel(fault);
                    self.slots[n].notices_at = Some(now + self.world().between(Duration::ZERO, SESSION));
                }
            }
            self.slots[n].expires_at = None;
        }
        if is_due(self.slots[n].expires_at) {
            self.slots[n].expires_at = None;
            self.unbalanced = true;
        }
        if is_due(self.slots[n].notices_at) {
            self.slots[n].notices_at = None;
            if let Some(process) = &self.slots[n].process {
                self.group.rejoin(&process.member).await;
                self.unbalanced = true;
            }
        }
        if self.slots[n].process.as_ref().is_some_and(Process::has_ended) {
            self.leave(n, Duration::from_secs(5));
            self.unbalanced = true;
        }
        if is_due(self.slots[n].starts_at) {
            self.start(n);
        }
        if let Some(process) = &self.slots[n].process {
            process.member.renew();
        }
    }

    fn start(&mut self, n: usize) {
        self.lives += 1;
        let name = self.world().plan.is_static.then(|| format!("{TOPIC}-{n}"));
        let (member, events) = self.group.join(name.as_deref());
        self.unbalanced |= member.assigned().is_empty();
        self.world().trace(format_args!("slot {n}: p{} starts as m{}", self.lives, member.id()));
        let process = Process::start(&self.shared, self.lives, member, events);
        self.slots[n] = Slot { process: Some(process), ..Slot::default() };
    }

    /// The process of a slot is gone; another one comes after `pause`.
    fn leave(&mut self, n: usize, pause: Duration) {
        self.slots[n] = Slot { starts_at: Some(Instant::now() + pause), ..Slot::default() };
    }

    async fn rebalance(&mut self) {
        self.unbalanced = false;
        let reached: Vec<_> = self.slots.iter().filter_map(|s| s.process.as_ref().filter(|_| s.heals_at.is_none())).collect();
        let partitions = self.partitions();
        let shift = self.world().below(reached.len().max(1) as u64) as usize;
        let mut assignment: Vec<_> = reached.iter().map(|p| (&p.member, Vec::new())).collect();
        for (n, tp) in partitions.iter().enumerate() {
            let to = (n + shift) % assignment.len().max(1);
            if let Some((member, of_member)) = assignment.get_mut(to) {
                let bounds = self.shared.cluster.look(tp, |log| log.bounds());
                let had = reached.iter().any(|p| p.member.id() != member.id() && p.member.assigned().contains(tp));
                if had && self.committed(tp) < bounds.stable_end && !self.world().is_calm() {
                    self.world().feel(Fault::Revoked);
                }
                of_member.push(tp.clone());
            }
        }
        self.world().trace(format_args!("rebalance over {} members", assignment.len()));
        self.group.rebalance(&assignment).await;
    }

    async fn something_happens(&mut self) {
        if !self.world().strikes(self.world().plan.events) {
            return;
        }
        let events = self.world().plan.scope.events();
        match events[self.world().below(events.len() as u64) as usize] {
            Event::Crash => self.crash(),
            Event::Absence => self.freeze_or_cut_off(),
            Event::Rebalance => self.unbalanced = true,
            Event::Retention => self.retention(),
            Event::Compaction => self.compaction(),
            Event::Truncation => self.truncation(),
            Event::Corruption => self.corruption(),
            Event::Weather => self.store_weather(),
            Event::Jump => self.world().jump(self.world().below(7_200_000) as i64 - 3_600_000),
            Event::Lifecycle => self.lifecycle().await,
            Event::Recreation => self.recreation().await,
            Event::Forgetting => self.forgetting().await,
            Event::Stop => self.stop_one(),
            Event::Hang => self.hang(),
            Event::Break => self.shared.cluster.fault(&self.pick(), QueueFault::Other("as the simulation wants it".into())),
        }
    }

    fn any_running(&self) -> Option<usize> {
        let running: Vec<usize> =
            (0..self.slots.len()).filter(|n| self.slots[*n].process.is_some() && self.slots[*n].heals_at.is_none()).collect();
        (!running.is_empty()).then(|| running[self.world().below(running.len() as u64) as usize])
    }

    fn crash(&mut self) {
        let Some(n) = self.any_running() else { return };
        let Some(process) = &self.slots[n].process else { return };
        let has_work = process.member.assigned().iter().any(|tp| {
            let end = self.shared.cluster.look(tp, |log| log.bounds().stable_end);
            self.committed(tp) < end
                || self.group.committed(tp).is_some_and(|c| matches!(CommitNote::parse(&c.metadata), Ok(CommitNote::Intent(_))))
        });
        if has_work {
            self.world().feel(Fault::Crashed);
        }
        let pause = self.world().between(Duration::ZERO, 2 * SESSION);
        self.leave(n, pause);
        // A static member that comes back in time keeps its partitions; otherwise the session ends first.
        if !self.world().plan.is_static || pause > SESSION {
            self.slots[n].expires_at = Some(Instant::now() + SESSION);
        }
    }

    fn freeze_or_cut_off(&mut self) {
        let Some(n) = self.any_running() else { return };
        let now = Instant::now();
        let fault = if self.world().below(2) == 0 { Fault::Frozen } else { Fault::CutOff };
        let span = self.world().between(SESSION / 2, 6 * SESSION);
        let slot = &mut self.slots[n];
        let Some(process) = &slot.process else { return };
        process.member.set_cut_off(true);
        process.freeze.set(fault == Fault::Frozen);
        slot.heals_at = Some((now + span, fault));
        slot.expires_at = Some(now + SESSION);
        self.shared.world.trace(format_args!("slot {n}: {fault:?} for {span:?}"));
    }

    fn retention(&mut self) {
        let tp = self.pick();
        let bounds = self.look(&tp);
        let committed = self.committed(&tp);
        let to = bounds.start + self.world().below((bounds.stable_end - bounds.start).unsigned_abs() + 1) as i64;
        if to > committed {
            self.world().feel(Fault::Retention);
        }
        self.ledger.excuse(tp.partition, Excuse { from: 0, to, cause: Some(GapCause::Retention) });
        self.world().trace(format_args!("retention of {tp} to {to}, committed {committed}"));
        self.shared.cluster.change(&tp, |log| log.retain_from(to));
    }

    fn compaction(&mut self) {
        if !self.world().plan.loses_records {
            return;
        }
        let tp = self.pick();
        let bounds = self.look(&tp);
        let keep = 2 + self.world().below(5) as i64;
        for offset in (bounds.start..bounds.stable_end).filter(|offset| offset % keep == 0) {
            self.ledger.excuse(tp.partition, Excuse { from: offset, to: offset + 1, cause: None });
        }
        self.world().feel(Fault::Compaction);
        self.shared.cluster.change(&tp, |log| log.compact(|offset| offset % keep != 0));
    }

    fn truncation(&mut self) {
        if !self.world().plan.loses_records {
            return;
        }
        let tp = self.pick();
        let bounds = self.look(&tp);
        let to = bounds.end - self.world().below((bounds.end - bounds.start).clamp(0, 40).unsigned_abs() + 1) as i64;
        if self.committed(&tp) > to {
            self.world().feel(Fault::Truncation);
        }
        self.ledger.excuse(tp.partition, Excuse { from: to, to: bounds.end, cause: Some(GapCause::Truncation) });
        self.ledger.truncate(tp.partition, to);
        self.world().trace(format_args!("truncation of {tp} to {to}, committed {}", self.committed(&tp)));
        self.shared.cluster.change(&tp, |log| log.truncate(to));
    }

    fn corruption(&mut self) {
        if !self.world().plan.loses_records {
            return;
        }
        let tp = self.pick();
        let end = self.look(&tp).end;
        let from = self.committed(&tp).max(end - 10);
        let to = from + 1 + self.world().below(6) as i64;
        let for_good = self.world().below(2) == 0;
        self.world().feel(if for_good { Fault::CorruptBatch } else { Fault::CorruptOnce });
        let lane = self.ledger.lane(tp.partition);
        lane.may_repeat_differently = true;
        if for_good {
            self.ledger.excuse(tp.partition, Excuse { from, to, cause: Some(GapCause::CorruptBatch) });
        }
        self.shared.cluster.change(&tp, |log| log.corrupt(from..to, if for_good { u32::MAX } else { 1 }));
    }

    fn store_weather(&mut self) {
        let hour = Duration::from_secs(3600);
        match self.world().below(2) {
            0 => self.world().deny(self.world().between(Duration::from_secs(5), Duration::from_secs(300))),
            _ => self.world().take_store_down(self.world().between(Duration::from_secs(10), hour)),
        }
    }

    /// A lifecycle rule, or a person, aborts what uploads there are.
    async fn lifecycle(&mut self) {
        let mut any = false;
        for key in self.shared.store.open_uploads() {
            for open in self.shared.store.list_uploads(&key).await.unwrap_or_default() {
                any |= self.shared.store.abort_upload(&key, &open.id).await.is_ok();
            }
        }
        if any {
            self.world().feel(Fault::UploadsAborted);
        }
    }

    async fn recreation(&mut self) {
        if !self.world().plan.loses_records || self.ledger.lanes().len() > 2 * self.partitions().len() {
            return;
        }
        for tp in self.partitions() {
            let end = self.look(&tp).end;
            self.ledger.excuse(tp.partition, Excuse { from: 0, to: end, cause: Some(GapCause::TopicRecreated) });
        }
        self.world().feel(Fault::Recreated);
        self.shared.cluster.delete(TOPIC);
        Self::create_topic(&self.shared.world, &self.shared.cluster, &mut self.ledger).await;
    }

    /// Everybody stops, nobody comes back for a week, and the coordinator forgets. Nothing is on its way any more by then.
    async fn forgetting(&mut self) {
        self.stop_all(Duration::from_secs(60)).await;
        self.rebalance().await;
        tokio::time::sleep(Duration::from_secs(7 * 86_400)).await;
        self.group.forget_offsets();
        self.forgotten_at.push(self.world().order.next());
        self.world().feel(Fault::OffsetsForgotten);
        let now = Instant::now();
        for slot in &mut self.slots {
            slot.starts_at = Some(now);
        }
    }

    /// Everybody is asked to stop, and gone after `grace`.
    async fn stop_all(&mut self, grace: Duration) {
        for slot in &self.slots {
            slot.process.iter().for_each(Process::ask_to_stop);
        }
        tokio::time::sleep(grace).await;
        for n in 0..self.slots.len() {
            self.leave(n, Duration::ZERO);
        }
    }

    fn stop_one(&mut self) {
        if let Some(process) = self.any_running().and_then(|n| self.slots[n].process.as_ref()) {
            process.ask_to_stop();
        }
    }

    /// A transaction hangs, or the one that hung ends.
    fn hang(&mut self) {
        let tp = self.pick();
        let hangs = self.world().below(2) == 0;
        self.shared.cluster.change(&tp, |log| if hangs { log.hang() } else { log.resolve() });
    }

    /// Faults stop: the store is up, everybody runs, and no transaction hangs.
    async fn heal(&mut self) {
        self.world().trace(format_args!("faults stop"));
        self.world().calm_down();
        let now = Instant::now();
        for slot in &mut self.slots {
            if let Some((at, _)) = &mut slot.heals_at {
                *at = now;
            }
        }
        for tp in self.partitions() {
            self.shared.cluster.change(&tp, |log| {
                log.resolve();
                log.append(5);
            });
        }
    }

    /// Waits until everything that can be read is committed and nothing is pinned.
    async fn finish(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_secs(2)).await;
            self.see_to_processes().await;
            if began.elapsed().as_secs() % 60 < 2 {
                // Windows of records that nothing follows are closed by the clock; truncated logs must pass what was backed up.
                for tp in self.partitions() {
                    if began.elapsed() < Duration::from_secs(3600) {
                        self.shared.cluster.change(&tp, |log| log.append(3));
                    }
                }
            }
            if self.partitions().iter().all(|tp| self.is_done(tp)) {
                return true;
            }
        }
        false
    }

    fn is_done(&self, tp: &TopicPartition) -> bool {
        let end = self.shared.cluster.look(tp, |log| log.bounds().stable_end);
        self.group.committed(tp).is_some_and(|c| {
            c.offset == end && matches!(CommitNote::parse(&c.metadata), Ok(CommitNote::Tidy(note)) if self.is_current(&note.t))
        })
    }

    fn is_current(&self, topic_hash: &str) -> bool {
        catchment::intent::note_hash(self.ledger.current()) == topic_hash
    }

    async fn end(mut self, finished: bool) -> End {
        self.stop_all(Duration::from_secs(30)).await;
        // What is late has landed by now.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        for tp in self.partitions() {
            self.look(&tp);
        }
        let accepted = self.group.accepted();
        let mut verdict = verdict::judge(&self.shared.world, &self.shared.store, &self.ledger, &accepted, &self.forgotten_at).await;
        if !finished {
            let lag = self.partitions().iter().map(|tp| format!("{tp} at {}", self.committed(tp))).collect::<Vec<_>>().join(", ");
            verdict.findings.push(format!("faults have stopped, and the lag has not reached 0: {lag}"));
        }
        for finding in &verdict.findings {
            self.shared.world.trace(format_args!("FOUND {finding}"));
        }
        End { verdict, world: Arc::clone(&self.shared.world) }
    }
}
