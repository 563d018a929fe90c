//! The model as stateright sees it: states, the actions that a state allows, and what each of them does.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use stateright::{Model, Property};

use super::action::{Action, Coverage, Event, Move};
use super::mutants::Mutant;
use super::properties::{self, Invariant};
use super::setting::Setting;
use super::state::{Failure, Lane, Life, Offset, State, Task, Worker};

/// The protocol in one setting, whole or with one guard less.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// The bounded world.
    pub setting: Setting,
    /// The guard that is taken away.
    pub mutant: Option<Mutant>,
    /// Whether states that differ only in the names of workers and lanes count as one. Counterexamples are told without that.
    pub symmetric: bool,
    /// What was seen so far.
    pub coverage: Arc<Coverage>,
    /// Invariants that were found broken: the first, and so the shortest, way to each is kept.
    pub broken: Arc<[AtomicBool; Invariant::ALL.len()]>,
}

impl Protocol {
    /// The protocol as it is.
    pub fn new(setting: Setting, coverage: Arc<Coverage>) -> Self {
        Self { setting, mutant: None, symmetric: true, coverage, broken: Arc::default() }
    }

    /// The protocol without one of its guards.
    pub fn without(setting: Setting, mutant: Mutant) -> Self {
        Self { setting, mutant: Some(mutant), symmetric: false, coverage: Arc::default(), broken: Arc::default() }
    }

    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(super) fn saw(&self, event: Event) {
        self.coverage.count(event);
    }

    /// What Kafka's logs may do, and time.
    fn world_actions(&self, s: &State, out: &mut Vec<Action>) {
        for (l, lane) in (0_u8..).zip(&s.lanes) {
            if s.left.compactions > 0 {
                out.push(Action::Compact(l));
            }
            if s.left.retentions > 0 {
                out.extend((lane.log_start + 1..=self.setting.log_end).map(|to| Action::Retain(l, to)));
            }
            if self.may_go_back(s, usize::from(l)) {
                out.push(Action::GroupGoesBack(l));
            }
        }
        let outage = s.left.outages > 0 && !s.lanes.iter().any(Lane::is_completing);
        if outage || self.waits_for_deadline(s) {
            out.push(Action::DeadlinePasses);
        }
    }

    fn lane_actions(&self, s: &State, out: &mut Vec<Action>) {
        let mut moves = Vec::new();
        for (w, worker) in s.workers.iter().enumerate().filter(|(_, worker)| worker.life == Life::Live) {
            for l in 0..worker.tasks.len() {
                self.recovery_moves(s, w, l, &mut moves);
                self.window_moves(s, w, l, &mut moves);
                let (w, l) = (small(w), small(l));
                out.extend(moves.drain(..).map(|step| Action::Move(w, l, step)));
            }
        }
    }

    fn retain(&self, s: &mut State, l: usize, to: Offset) {
        self.saw(Event::Retained);
        s.left.retentions -= 1;
        let lane = &mut s.lanes[l];
        lane.log_start = to;
        let position = lane.committed.map_or(0, |commit| commit.position);
        if position < to {
            self.saw(if lane.open_intent().is_some() { Event::RetainedPinned } else { Event::RetainedUnread });
        }
    }

    fn apply(&self, s: &mut State, action: Action) {
        match action {
            Action::Start(w) => {
                self.saw(Event::Started);
                let worker = &mut s.workers[usize::from(w)];
                (worker.life, worker.member) = (Life::Live, super::state::Member::Out);
            }
            Action::Crash(w) => self.crash(s, w.into()),
            Action::Pause(w) => self.pause(s, w.into()),
            Action::Wake(w) => {
                let worker = &mut s.workers[usize::from(w)];
                worker.life = Life::Live;
                let zombie = worker.member == super::state::Member::Stale;
                self.saw(if zombie { Event::WokeAsZombie } else { Event::WokeInTime });
            }
            Action::Learn(w) => self.learn(s, w.into()),
            Action::Rebalance(owners) => self.rebalance(s, owners),
            Action::DeadlinePasses => {
                s.left.outages -= u8::from(!self.waits_for_deadline(s));
                self.pass_deadline(s);
            }
            Action::OffsetsExpire => self.expire(s),
            Action::Compact(l) => {
                self.saw(Event::Compacted);
                s.left.compactions -= 1;
                s.lanes[usize::from(l)].compacted = true;
            }
            Action::Retain(l, to) => self.retain(s, l.into(), to),
            Action::GroupGoesBack(l) => self.go_back(s, l.into()),
            Action::LoseUpload(l, u) => {
                self.saw(Event::UploadLost);
                s.left.lost_uploads -= 1;
                s.lanes[usize::from(l)].upload_mut(u).end(super::state::Fate::Gone);
            }
            Action::Land(l, r) => self.land(s, l.into(), r.into()),
            Action::Finish(l, u) => self.finish(s, l.into(), u),
            Action::Move(w, l, step) => self.make_move(s, w.into(), l.into(), step),
        }
    }

    fn make_move(&self, s: &mut State, w: usize, l: usize, step: Move) {
        match step {
            Move::Fetch => self.fetch(s, w, l),
            Move::Walk => self.walk(s, w, l),
            Move::Anchor => self.write_anchor(s, w, l),
            Move::PassOver => self.pass_over(s, w, l),
            Move::Open => self.open(s, w, l),
            Move::Close(end) => self.close(s, w, l, end),
            Move::Check => self.check(s, w, l),
            Move::Pin(answer) => self.pin(s, w, l, answer),
            Move::Tidy(answer) => self.tidy(s, w, l, answer),
            Move::RefuseCommit => self.refuse_commit(s, w, l),
            Move::Send => self.send(s, w, l),
            Move::Answer => self.answer(s, w, l),
            Move::LoseAnswer => self.lose_answer(s, w, l),
            Move::Deny => self.fail(s, w, l, Failure::Denied),
            Move::Conflict => self.fail(s, w, l, Failure::Conflict),
            Move::Look => self.look(s, w, l),
            Move::DenyHead => self.denied_head(s, w, l),
            Move::Recover => self.recover(s, w, l),
            Move::Parts => self.list_parts(s, w, l),
            Move::PartsShort => self.list_fewer_parts(s, w, l),
            Move::LookAgain => self.look_again(s, w, l),
            Move::ReadAgain(end) => self.read_again(s, w, l, end),
            Move::GiveUp(answer) => self.ask_and_give_up(s, w, l, answer),
            Move::Outwait => self.outwait(s, w, l),
            Move::Restart => self.restart(s, w, l),
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let tasks = vec![Task::default(); self.setting.lanes.into()];
        let worker = Worker { tasks, ..Worker::default() };
        let workers = vec![worker; self.setting.workers.into()];
        vec![State { workers, lanes: vec![Lane::default(); self.setting.lanes.into()], left: self.setting.faults }]
    }

    fn actions(&self, s: &State, out: &mut Vec<Action>) {
        self.group_actions(s, out);
        self.lane_actions(s, out);
        self.store_actions(s, out);
        self.world_actions(s, out);
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut s = before.clone();
        self.apply(&mut s, action);
        self.forget_spent(&mut s);
        if self.symmetric {
            s = s.canonical();
        }
        (s != *before).then_some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

fn small(index: usize) -> u8 {
    u8::try_from(index).expect("few workers and lanes")
}
