//! Supervisor and coordinator: who starts a process again, when a session ends, and who gets which partition.

use std::time::Duration;

use tokio::time::Instant;

use super::faults::Fault;
use super::plan::SESSION_MAX;
use super::process::{Process, TOPIC};
use super::story::{Slot, Story};

impl Story {
    /// Everybody is asked to stop, and gone after `grace`.
    pub(super) async fn stop_all(&mut self, grace: Duration) {
        for slot in &self.slots {
            slot.process.iter().for_each(Process::ask_to_stop);
        }
        tokio::time::sleep(grace).await;
        for n in 0..self.slots.len() {
            self.leave(n, Duration::ZERO);
        }
    }

    /// Supervisor and coordinator.
    pub(super) async fn see_to_processes(&mut self) {
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
        if self.slots[n].process.as_ref().is_some_and(Process::is_killed) {
            self.bury(n);
        }
        if is_due(self.slots[n].heals_at) {
            self.get_well(n, now);
        }
        if is_due(self.slots[n].expires_at) {
            self.slots[n].expires_at = None;
            self.unbalanced = true;
        }
        if is_due(self.slots[n].notices_at) {
            self.slots[n].notices_at = None;
            let is_gone_early = std::mem::take(&mut self.slots[n].is_gone_early);
            if let Some(process) = &self.slots[n].process {
                if is_gone_early && !process.member.assigned().is_empty() {
                    self.world().feel(Fault::SessionShort);
                }
                if let Some(fault) = process.vitals.take_absence().filter(|_| !process.member.assigned().is_empty()) {
                    self.world().feel(fault);
                }
                self.world().trace(format_args!("slot {n}: m{} joins again", process.member.id()));
                self.group.rejoin(&process.member).await;
                self.unbalanced = true;
            }
        }
        // Killed since the look above, it is buried at the next one.
        let by_itself = |process: &&Process| process.has_ended() && !process.is_killed();
        if let Some(process) = self.slots[n].process.as_ref().filter(by_itself) {
            process.autopsy(self.world());
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

    /// Wakes a process, or lets it reach the coordinator again. If the group went on without it meanwhile, it learns that by and by: that is felt if it was
    /// away for longer than a session, and has lanes to lose.
    fn get_well(&mut self, n: usize, now: Instant) {
        (self.slots[n].heals_at, self.slots[n].expires_at) = (None, None);
        let away_since = self.slots[n].away_since.take();
        let Some(process) = &self.slots[n].process else { return };
        process.vitals.set_frozen(false);
        process.member.set_cut_off(false);
        let session = self.world().plan.session;
        process.vitals.end_absence(|since| self.group.has(process.member.id()) || now.duration_since(since) < session);
        if !self.group.has(process.member.id()) {
            self.slots[n].is_gone_early = away_since.is_some_and(|since| now.duration_since(since) < SESSION_MAX);
            self.slots[n].notices_at = Some(now + self.world().between(Duration::ZERO, session));
        }
    }

    fn start(&mut self, n: usize) {
        self.lives += 1;
        let name = self.world().plan.is_static.then(|| format!("{TOPIC}-{n}"));
        let (member, events) = self.group.join(name.as_deref());
        self.unbalanced |= member.assigned().is_empty();
        self.world().trace(format_args!("slot {n}: p{} starts as m{}", self.lives, member.id()));
        let process = Process::start(&self.shared, self.lives, member, events);
        process.vitals.set_doom(self.slots[n].doom);
        self.slots[n] = Slot { process: Some(process), ..Slot::default() };
    }

    /// The process of a slot is gone; another one comes after `pause`, and inherits a doom that was not met.
    pub(super) fn leave(&mut self, n: usize, pause: Duration) {
        let doom = self.slots[n].process.as_ref().map_or(self.slots[n].doom, |process| process.vitals.doom());
        self.slots[n] = Slot { starts_at: Some(Instant::now() + pause), doom, ..Slot::default() };
    }

    pub(super) async fn rebalance(&mut self) {
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
                    self.world().unmet(|unmet| unmet.move_lane(tp));
                }
                of_member.push(tp.clone());
            }
        }
        self.world().trace(format_args!("rebalance over {} members", assignment.len()));
        for (member, of_member) in &assignment {
            self.world().trace(format_args!("m{} has {of_member:?}", member.id()));
        }
        self.group.rebalance(&assignment).await;
    }
}
