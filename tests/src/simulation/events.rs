//! What happens to the world of a simulation between two ticks. Whatever may keep a record from being stored is entered into the ledger.

use std::time::Duration;

use catchment::intent::{CommitNote, note_hash};
use catchment::source::{QueueFault, TopicPartition};
use catchment::store::ObjectStore as _;
use tokio::time::Instant;

use super::anchors::Forgetting;
use super::faults::Fault;
use super::plan::Event;
use super::process::TOPIC;
use super::story::Story;
use super::vitals::DOOMS;
use super::world::HOUR;

/// How far the wall clock may be off while the store goes on to believe it, in milliseconds: S3 puts up with a quarter of an hour.
const CLOCK_NEAR_MS: u64 = 14 * 60_000;

/// How far it may be off for a while: 400 days.
const CLOCK_FAR_MS: u64 = 400 * 86_400_000;

/// How often a topic is made again.
const INCARNATIONS_MAX: usize = 2;

impl Story {
    pub(super) async fn something_happens(&mut self) {
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
            Event::Weather => self.store_weather().await,
            Event::Jump => self.clock_jump(),
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

    /// A process dies wherever it stands, or in the next request of some operation. Requests are short and most are rare: few would be hit
    /// by chance.
    fn crash(&mut self) {
        let Some(n) = self.any_running() else { return };
        let Some(process) = &self.slots[n].process else { return };
        if self.world().below(2) == 0 {
            let operation = DOOMS[self.world().below(DOOMS.len() as u64) as usize];
            self.world().trace(format_args!("slot {n}: to die in {operation}"));
            return process.vitals.set_doom(Some(operation));
        }
        process.kill();
        self.bury(n);
    }

    /// A process was killed: the supervisor will start another one, and the coordinator give up the member.
    pub(super) fn bury(&mut self, n: usize) {
        let Some(process) = &self.slots[n].process else { return };
        let acts = process.vitals.last_acts();
        self.world().note_crash(process.life, &acts);
        let has_work = process.member.assigned().iter().any(|tp| {
            let end = self.shared.cluster.look(tp, |log| log.bounds().stable_end);
            self.committed(tp) < end
                || self.group.committed(tp).is_some_and(|c| matches!(CommitNote::parse(&c.metadata), Ok(CommitNote::Intent(_))))
        });
        if has_work || !acts.is_empty() {
            self.world().feel(Fault::Crashed);
        }
        let session = self.world().plan.session;
        let pause = self.world().between(Duration::ZERO, 2 * session);
        self.leave(n, pause);
        // A static member that comes back in time keeps its partitions; otherwise the session ends first.
        if !self.world().plan.is_static || pause > session {
            self.slots[n].expires_at = Some(Instant::now() + session);
        }
    }

    fn freeze_or_cut_off(&mut self) {
        let Some(n) = self.any_running() else { return };
        let now = Instant::now();
        let fault = if self.world().below(2) == 0 { Fault::Frozen } else { Fault::CutOff };
        let session = self.world().plan.session;
        let span = self.world().between(session / 2, self.world().plan.absence_max());
        let slot = &mut self.slots[n];
        let Some(process) = &slot.process else { return };
        process.member.set_cut_off(true);
        process.vitals.set_frozen(fault == Fault::Frozen);
        process.vitals.begin_absence(fault, now);
        (slot.away_since, slot.heals_at) = (Some(now), Some(now + span));
        slot.expires_at = Some(now + session);
        self.shared.world.trace(format_args!("slot {n}: {fault:?} for {span:?}"));
    }

    /// Up to where somebody ever committed or pinned what was in the log, whatever the group has forgotten since.
    fn pinned_end(&self, tp: &TopicPartition) -> i64 {
        let of_lane = self.group.accepted().into_iter().filter(|a| a.tp == *tp);
        let ends = of_lane.filter_map(|a| match CommitNote::parse(&a.commit.metadata).ok()? {
            note if !self.is_current(note.topic_hash()) => None,
            CommitNote::Intent(intent) => Some(intent.end),
            CommitNote::Tidy(_) => Some(a.commit.offset),
        });
        ends.max().unwrap_or_default()
    }

    fn retention(&mut self) {
        let tp = self.pick();
        let bounds = self.look(&tp);
        let committed = self.committed(&tp);
        let to = bounds.start + self.world().below((bounds.stable_end - bounds.start).unsigned_abs() + 1) as i64;
        self.ledger.lane(tp.partition).retain_from(to, self.shared.world.order.next());
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
        let (order, lane) = (self.shared.world.order.next(), self.ledger.lane(tp.partition));
        (bounds.start..bounds.stable_end).filter(|offset| offset % keep == 0).for_each(|offset| lane.compact(offset, order));
        self.shared.cluster.change(&tp, |log| log.compact(|offset| offset % keep != 0));
    }

    fn truncation(&mut self) {
        if !self.world().plan.loses_records {
            return;
        }
        let tp = self.pick();
        let bounds = self.look(&tp);
        let to = bounds.end - self.world().below((bounds.end - bounds.start).clamp(0, 40).unsigned_abs() + 1) as i64;
        let read_to = self.pinned_end(&tp);
        let (order, epoch) = (self.shared.world.order.next(), self.shared.cluster.look(&tp, |log| log.last_epoch()) + 1);
        self.ledger.lane(tp.partition).truncate(to..bounds.end, read_to, order, epoch);
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
        if !for_good && self.shared.cluster.look(&tp, |log| log.is_corrupt(&(from..to))) {
            // A batch that is corrupt twice in a row is taken for corrupt for good, and nobody can know better.
            return;
        }
        self.world().trace(format_args!("corruption of {tp} from {from} to {to}, for good: {for_good}"));
        self.ledger.lane(tp.partition).corrupt(from..to, for_good, self.shared.world.order.next());
        self.shared.cluster.change(&tp, |log| log.corrupt(from..to, if for_good { u32::MAX } else { 1 }));
    }

    async fn store_weather(&mut self) {
        match self.world().below(4) {
            0 | 1 => self.world().deny(self.world().between(Duration::from_secs(5), Duration::from_secs(300))),
            2 => self.world().take_store_down(self.world().between(Duration::from_secs(10), HOUR)),
            _ => self.hour_without_store().await,
        }
    }

    /// For an hour nobody can store anything, and everybody goes on trying. Nothing else happens meanwhile.
    async fn hour_without_store(&mut self) {
        self.world().take_store_down(HOUR);
        let until = Instant::now() + HOUR;
        while Instant::now() < until {
            tokio::time::sleep(self.world().between(Duration::from_secs(5), Duration::from_secs(20))).await;
            self.see_to_processes().await;
        }
    }

    /// The wall clock is set: by minutes, which a store puts up with; or by more than a year, until somebody sets it right, and the store refuses what is
    /// dated so.
    fn clock_jump(&self) {
        let world = self.world();
        if world.below(2) == 0 {
            return world.set_clock(world.below(2 * CLOCK_NEAR_MS + 1) as i64 - CLOCK_NEAR_MS as i64);
        }
        let shift_ms = world.below(2 * CLOCK_FAR_MS + 1) as i64 - CLOCK_FAR_MS as i64;
        world.leap(shift_ms, world.between(Duration::from_secs(2), Duration::from_secs(40)));
    }

    /// A lifecycle rule, or a person, aborts what uploads there are.
    async fn lifecycle(&mut self) {
        for key in self.shared.store.open_uploads() {
            for open in self.shared.store.list_uploads(&key).await.unwrap_or_default() {
                if self.shared.store.abort_upload(&key, &open.id).await.is_ok() {
                    self.world().trace(format_args!("a lifecycle rule aborts {} of {key}", open.id));
                    self.world().unmet(|unmet| unmet.abort(&open.id));
                }
                self.world().uploads(|book| book.abort(&open.id, None));
            }
        }
    }

    async fn recreation(&mut self) {
        if !self.world().plan.loses_records || self.ledger.incarnations().len() > INCARNATIONS_MAX {
            return;
        }
        for tp in self.partitions() {
            self.look(&tp);
        }
        self.shared.cluster.delete(TOPIC);
        self.ledger.delete(self.shared.world.order.next());
        Self::create_topic(&self.shared.world, &self.shared.cluster, &mut self.ledger).await;
        self.world().note_recreation(note_hash(self.ledger.current()));
    }

    /// Everybody stops, nobody comes back for a week, and the coordinator forgets. Nothing is on its way any more by then.
    async fn forgetting(&mut self) {
        let stopped_at = self.world().elapsed();
        self.stop_all(Duration::from_secs(60)).await;
        self.rebalance().await;
        tokio::time::sleep(Duration::from_secs(7 * 86_400)).await;
        let had: Vec<TopicPartition> = self.partitions().into_iter().filter(|tp| self.group.committed(tp).is_some()).collect();
        self.group.forget_offsets();
        self.world().trace(format_args!("the group forgets its offsets of {had:?}"));
        let order = self.world().order.next();
        self.forgotten_at.push(order);
        self.world().anchors(|book| book.forget(Forgetting { order, stopped_at }));
        self.world().unmet(|unmet| unmet.forget(had));
        let now = Instant::now();
        for slot in &mut self.slots {
            slot.starts_at = Some(now);
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
}
