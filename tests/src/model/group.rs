//! The group's coordinator: members, generations, who has which lane, and what was committed.
//!
//! It checks the member and the generation of a commit and not who owns the partition, as Kafka does; that lanes are dead before their
//! member joins the next generation is the worker's part (rule A1). A rebalance is one step here: what a member does between its own
//! revocation and the new generation touches neither commits nor objects.

use super::action::{Action, Event, LANES_MAX};
use super::mutants::Mutant;
use super::protocol::Protocol;
use super::state::{Commit, Lane, Life, Member, Note, Seen, State, Step, Task};

impl Protocol {
    /// What can happen to the membership.
    pub(super) fn group_actions(&self, s: &State, out: &mut Vec<Action>) {
        for (w, worker) in (0_u8..).zip(&s.workers) {
            let left = &s.left;
            match worker.life {
                Life::Down => out.push(Action::Start(w)),
                Life::Live => {
                    if left.crashes > 0 {
                        out.push(Action::Crash(w));
                    }
                    // Freezing a worker that does nothing is like a slow one.
                    if left.pauses > 0 && worker.tasks.iter().any(|task| task.step != Step::None) {
                        out.push(Action::Pause(w));
                    }
                    if worker.member == Member::Stale {
                        out.push(Action::Learn(w));
                    }
                }
                Life::Paused => out.push(Action::Wake(w)),
            }
        }
        let is_live = |w: &super::state::Worker| w.life == Life::Live;
        let joins = s.workers.iter().any(|w| is_live(w) && w.member == Member::Out);
        let leaves = s.workers.iter().any(|w| !is_live(w) && w.member == Member::Current);
        if joins || leaves {
            self.rebalances(s, out);
        }
        if s.left.expiries > 0 && !s.workers.iter().any(is_live) && !s.lanes.iter().any(Lane::is_completing) {
            out.push(Action::OffsetsExpire);
        }
    }

    /// Every way to spread the lanes over who is alive and knows of no expulsion.
    fn rebalances(&self, s: &State, out: &mut Vec<Action>) {
        let members: Vec<u8> =
            (0_u8..).zip(&s.workers).filter(|(_, w)| w.life == Life::Live && w.member != Member::Stale).map(|(w, _)| w).collect();
        let second = if s.lanes.len() > 1 { &members[..] } else { &members[..members.len().min(1)] };
        for first in &members {
            for second in second {
                let mut owners = [*first; LANES_MAX];
                owners[1] = *second;
                out.push(Action::Rebalance(owners));
            }
        }
    }

    /// A new generation. Lanes that move are revoked first; eager ones are revoked all.
    pub(super) fn rebalance(&self, s: &mut State, owners: [u8; LANES_MAX]) {
        self.saw(Event::Rebalanced);
        for w in 0..s.workers.len() {
            let worker = &s.workers[w];
            let answers = worker.life == Life::Live && worker.member != Member::Stale;
            if !answers {
                let next = if worker.life == Life::Down { Member::Out } else { Member::Stale };
                s.workers[w].member = next;
                continue;
            }
            for (l, owner) in owners.iter().enumerate().take(s.lanes.len()) {
                let (worker, task) = (&s.workers[w], s.workers[w].tasks[l]);
                let had = worker.member == Member::Current && task.step != Step::None && !task.dead;
                let gets = usize::from(*owner) == w;
                if self.setting.cooperative && had && gets {
                    self.saw(Event::LaneKept);
                } else {
                    self.revoke(s, w, l);
                    if gets {
                        s.workers[w].tasks[l] = Task::at(Step::Fetch);
                    }
                }
            }
            s.workers[w].member = Member::Current;
        }
    }

    /// The lane dies. What it had sent may still take effect; it commits nothing more.
    fn revoke(&self, s: &mut State, w: usize, l: usize) {
        let task = s.workers[w].tasks[l];
        let publishes = matches!(task.step, Step::Send | Step::Sent(_) | Step::Look(_));
        if self.is(Mutant::PinOfDeadLane) || self.is(Mutant::TidyOfDeadLane) && (publishes || task.untidied) {
            s.workers[w].tasks[l].dead = task.step != Step::None;
            return;
        }
        if task.request().is_some() {
            self.saw(Event::RevokedWhilePublishing);
        }
        detach(s, w, l);
        s.workers[w].tasks[l] = Task::default();
    }

    /// A zombie hears that it was thrown out.
    pub(super) fn learn(&self, s: &mut State, w: usize) {
        self.saw(Event::ZombieLearned);
        for l in 0..s.lanes.len() {
            self.revoke(s, w, l);
        }
        s.workers[w].member = Member::Out;
    }

    /// A process dies. The coordinator finds out later.
    pub(super) fn crash(&self, s: &mut State, w: usize) {
        self.saw(Event::Crashed);
        s.left.crashes -= 1;
        for l in 0..s.lanes.len() {
            detach(s, w, l);
            s.workers[w].tasks[l] = Task::default();
        }
        s.workers[w].life = Life::Down;
        if s.workers[w].member == Member::Stale {
            s.workers[w].member = Member::Out;
        }
    }

    /// A process is frozen: whoever waited for an answer will have lost it.
    pub(super) fn pause(&self, s: &mut State, w: usize) {
        self.saw(Event::Paused);
        s.left.pauses -= 1;
        for l in 0..s.lanes.len() {
            detach(s, w, l);
        }
        s.workers[w].life = Life::Paused;
    }

    /// The group's offsets are forgotten: nobody was a member for days, so that nothing is on its way any more either.
    pub(super) fn expire(&self, s: &mut State) {
        self.saw(Event::OffsetsExpired);
        s.left.expiries -= 1;
        self.pass_deadline(s);
        for worker in &mut s.workers {
            worker.member = if worker.life == Life::Paused { Member::Stale } else { Member::Out };
        }
        for lane in &mut s.lanes {
            if lane.open_intent().is_some() {
                self.saw(Event::IntentForgotten);
            }
            lane.committed = None;
            // An intent that is forgotten before anything of it was visible was never binding for who comes next.
            let objects = lane.objects.clone();
            lane.sights.retain(|seen| objects.iter().any(|o| o.key == seen.key));
        }
    }

    /// Assumption A2 fails: the group's memory of a lane goes back by one commit.
    pub(super) fn go_back(&self, s: &mut State, l: usize) {
        self.saw(Event::GroupWentBack);
        s.left.regressions -= 1;
        let lane = &mut s.lanes[l];
        let before = lane.open_intent();
        lane.committed = lane.previous.take();
        let still = lane.open_intent().map(|intent| (intent.key, intent.end));
        if let Some(forgotten) = before.filter(|intent| still != Some((intent.key, intent.end))) {
            let is_it = |seen: &&mut Seen| seen.pinned && (seen.key, seen.end) == (forgotten.key, forgotten.end);
            lane.sights.iter_mut().filter(is_it).for_each(|seen| seen.forgotten = true);
        }
    }

    /// Whether the memory may go back now. Without atomic guards a request on its way would not be covered, as the design says.
    pub(super) fn may_go_back(&self, s: &State, l: usize) -> bool {
        let lane = &s.lanes[l];
        let is_quiet = |task: &Task| matches!(task.step, Step::None | Step::Fetch | Step::Walk | Step::Reading);
        let quiet = lane.requests.is_empty() && !lane.is_completing() && s.workers.iter().all(|w| is_quiet(&w.tasks[l]));
        s.left.regressions > 0 && lane.previous.is_some() && (self.setting.has_atomic_guards() || quiet)
    }

    /// An OffsetCommit as the coordinator judges it: by member and generation, not by owner.
    pub(super) fn commit(&self, s: &mut State, w: usize, l: usize, commit: Commit) -> bool {
        if s.workers[w].member != Member::Current && !self.is(Mutant::NoFence) {
            return false;
        }
        let lane = &mut s.lanes[l];
        if self.setting.faults.regressions > 0 && lane.committed != Some(commit) {
            lane.previous = lane.committed;
        }
        lane.committed = Some(commit);
        if let Note::Intent(intent) = commit.note {
            lane.see(Seen { pinned: true, key: intent.key, end: intent.end, gap: intent.gap, forgotten: false });
        }
        true
    }
}

/// Nobody waits any more for what a task had sent.
pub(super) fn detach(s: &mut State, w: usize, l: usize) {
    let task = &mut s.workers[w].tasks[l];
    if let Some(request) = task.request() {
        task.step = Step::Look(super::state::Failure::Unknown);
        s.lanes[l].requests.push(request);
    }
}
