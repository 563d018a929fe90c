//! A lane's start in the model: rules R1 to R7, move by move as `catchment::commit::recover` makes them.

use catchment::decision::Finding;

use super::action::{Action, Answer, Event, Move};
use super::bridge;
use super::mutants::Mutant;
use super::protocol::Protocol;
use super::publish::refuse;
use super::setting::Windows;
use super::state::{Commit, Content, Fate, Intent, Lane, Life, Member, Note, Offset, State, Step, Task};

impl Protocol {
    /// The moves of a task that recovers.
    pub(super) fn recovery_moves(&self, s: &State, w: usize, l: usize, out: &mut Vec<Move>) {
        let (lane, task) = (&s.lanes[l], &s.workers[w].tasks[l]);
        match (task.step, task.intent) {
            (Step::Fetch, _) => out.push(Move::Fetch),
            (Step::Walk, _) => out.push(Move::Walk),
            (Step::Recover, _) => {
                out.push(Move::Recover);
                self.deny_head(s, out);
            }
            (Step::Parts, Some(intent)) => parts_moves(s, lane, &intent, out),
            // The wait is longer than a Complete that was taken needs to show its effect.
            (Step::Gone, Some(intent)) if !is_taken(lane, &intent) => out.push(Move::LookAgain),
            (Step::ReadAgain(_), Some(intent)) if self.is(Mutant::NewEnd) => {
                let first = lane.log_start.max(intent.key.start + 1);
                out.extend((first..=self.setting.log_end).map(Move::ReadAgain));
            }
            (Step::ReadAgain(_), Some(intent)) => out.push(Move::ReadAgain(intent.end)),
            (Step::GiveUp(_), _) => self.commit_moves(s, w, Move::GiveUp, out),
            (Step::Outwait, Some(intent)) if self.has_outwaited(lane, &intent) => {
                out.push(Move::Outwait);
                self.deny_head(s, out);
            }
            // The client starts a lane again that was refused a commit, if it is a member and the lane is its own.
            (Step::Refused, _) if s.workers[w].member == Member::Current && !self.is(Mutant::NoRestart) => out.push(Move::Restart),
            _ => {}
        }
    }

    /// Whether a full copy has landed by now, or never will. An atomic guard refuses what comes behind less, but for a Complete that it has let pass.
    fn has_outwaited(&self, lane: &Lane, intent: &Intent) -> bool {
        if self.setting.has_atomic_guards() {
            return !is_taken(lane, intent) || self.is(Mutant::NoWaitBehindGuard);
        }
        intent.old || self.is(Mutant::NoWait)
    }

    /// Whether time must pass for somebody.
    pub(super) fn waits_for_deadline(&self, s: &State) -> bool {
        if self.setting.has_atomic_guards() {
            return false;
        }
        let waits = |task: &Task| task.step == Step::Outwait && task.intent.is_some_and(|intent| !intent.old);
        !s.lanes.iter().any(Lane::is_completing) && s.workers.iter().any(|w| w.life == Life::Live && w.tasks.iter().any(waits))
    }

    /// R1.
    pub(super) fn fetch(&self, s: &mut State, w: usize, l: usize) {
        if s.workers[w].member == Member::Stale {
            self.saw(Event::FetchedAsZombie);
        }
        let dead = s.workers[w].tasks[l].dead;
        let task = match s.lanes[l].committed {
            None => {
                self.saw(Event::FetchedNothing);
                Task { dead, ..Task::at(Step::Walk) }
            }
            Some(commit) => match bridge::read_note(&commit.note) {
                Note::Tidy(start) => {
                    self.saw(Event::FetchedTidy);
                    Task { position: commit.position, start, dead, ..Task::at(Step::Reading) }
                }
                Note::Intent(intent) => {
                    self.saw(Event::FetchedIntent);
                    let (position, start) = (commit.position, intent.key.start);
                    Task { position, start, intent: Some(intent), dead, ..Task::at(Step::Recover) }
                }
            },
        };
        s.workers[w].tasks[l] = task;
    }

    /// No committed offset: from the anchor over what is stored.
    pub(super) fn walk(&self, s: &mut State, w: usize, l: usize) {
        let lane = &s.lanes[l];
        let from = if self.is(Mutant::StartAtLogStart) { lane.log_start } else { lane.anchor };
        let end = if self.is(Mutant::StartAtLogStart) { from } else { tiles_from(lane, from) };
        self.saw(Event::Walked);
        if end > from {
            self.saw(Event::WalkedOverObjects);
        }
        s.workers[w].tasks[l] = Task { position: end, start: end, untidied: true, ..Task::at(Step::Reading) };
    }

    /// R3 and R4, and R7 where nothing stands: what becomes of the uploads of a key that stands is the sweep's, which is not modelled.
    pub(super) fn recover(&self, s: &mut State, w: usize, l: usize) {
        let intent = s.workers[w].tasks[l].intent.expect("an intent was read");
        match self.finding(&s.lanes[l], l, &intent) {
            Finding::Absent => {
                self.saw(Event::RecoveredAbsent);
                let by = s.workers[w].member;
                self.abort_stale(&mut s.lanes[l], intent.key, intent.upload, by);
                self.after_absent(s, w, l, &intent);
            }
            Finding::Ours => {
                self.saw(Event::RecoveredOurs);
                settle(&mut s.workers[w].tasks[l], intent.end, intent.end);
            }
            Finding::OtherEnd(end) => {
                self.saw(Event::RecoveredOtherEnd);
                settle(&mut s.workers[w].tasks[l], bridge::settled_end(end), intent.end);
            }
            Finding::Foreign(_) => s.workers[w].tasks[l].step = Step::Stopped,
        }
    }

    /// What a HEAD says, by the engine's own comparison.
    pub(super) fn finding(&self, lane: &Lane, l: usize, intent: &Intent) -> Finding {
        match bridge::look(lane, l, intent) {
            Finding::Absent => Finding::Absent,
            _ if self.is(Mutant::AdoptWithoutCompare) => Finding::Ours,
            finding => finding,
        }
    }

    fn after_absent(&self, s: &mut State, w: usize, l: usize, intent: &Intent) {
        s.workers[w].tasks[l].step = if intent.upload.is_some() { Step::Parts } else { Step::ReadAgain(false) };
    }

    /// 403 is never absent: the lane names what is missing and asks again.
    pub(super) fn denied_head(&self, s: &mut State, w: usize, l: usize) {
        self.saw(Event::HeadDenied);
        s.left.errors -= 1;
        if !self.is(Mutant::DeniedIsAbsent) {
            return;
        }
        let task = s.workers[w].tasks[l];
        match (task.step, task.intent) {
            (Step::Recover, Some(intent)) => self.after_absent(s, w, l, &intent),
            (Step::Outwait, Some(_)) => self.encode_less(s, w, l),
            (Step::Check, _) => s.workers[w].tasks[l].step = Step::Pin,
            (Step::Look(_), _) => s.workers[w].tasks[l].step = Step::Send,
            _ => {}
        }
    }

    /// R5a: whether the upload that the intent names is whole.
    pub(super) fn list_parts(&self, s: &mut State, w: usize, l: usize) {
        let task = &mut s.workers[w].tasks[l];
        let upload = s.lanes[l].upload(task.intent.and_then(|intent| intent.upload).expect("an upload is named"));
        let whole = upload.is_whole();
        self.saw(if whole { Event::PartsWhole } else { Event::PartsGone });
        let not_whole = if self.is(Mutant::NoLookAgain) { self.read_again_outwaited() } else { Step::Gone };
        task.step = if whole { Step::Send } else { not_whole };
    }

    /// R5a: the parts that are listed are not those of the intent. The upload is there, so that nothing is waited for, and whoever has pinned it may still
    /// complete it. A raw object whose record is missing is read again by the same steps.
    pub(super) fn list_fewer_parts(&self, s: &mut State, w: usize, l: usize) {
        self.saw(Event::PartsShort);
        s.left.short_lists -= 1;
        let task = &mut s.workers[w].tasks[l];
        task.fewer = self.is(Mutant::AnyParts);
        task.step = if task.fewer { Step::Send } else { Step::ReadAgain(false) };
    }

    /// The upload is gone and its object had time to appear: where guards are atomic, nothing else is waited for.
    fn read_again_outwaited(&self) -> Step {
        Step::ReadAgain(self.setting.has_atomic_guards())
    }

    /// The object of an upload that is gone had time to appear.
    pub(super) fn look_again(&self, s: &mut State, w: usize, l: usize) {
        let intent = s.workers[w].tasks[l].intent.expect("an intent was read");
        match self.finding(&s.lanes[l], l, &intent) {
            Finding::Absent => {
                self.saw(Event::GoneAbsent);
                s.workers[w].tasks[l].step = self.read_again_outwaited();
            }
            finding => {
                self.saw(Event::GoneFound);
                adopt(&mut s.workers[w].tasks[l], &finding, &intent);
            }
        }
    }

    /// The intent's range, as far as Kafka has it.
    pub(super) fn read_again(&self, s: &mut State, w: usize, l: usize, end: Offset) {
        let (lane, task) = (&s.lanes[l], &s.workers[w].tasks[l]);
        let mut intent = task.intent.expect("an intent was read");
        intent.end = end;
        if self.is(Mutant::NewKey) {
            intent.key.directory = lane.directory(intent.key.start);
        }
        if bridge::lost_since_pin(&intent, task.position, lane.log_start).is_none() {
            self.read_whole(s, w, l, intent);
        } else {
            self.read_less(s, w, l, intent);
        }
    }

    /// R5b.
    fn read_whole(&self, s: &mut State, w: usize, l: usize, intent: Intent) {
        let by = s.workers[w].member;
        let (lane, task) = (&mut s.lanes[l], &mut s.workers[w].tasks[l]);
        self.saw(if lane.compacted { Event::ReadAgainCompacted } else { Event::ReadAgain });
        if intent.upload.is_some_and(|id| lane.upload(id).fate == Fate::Open) {
            self.saw(Event::ReadAgainBesideUpload);
        }
        let content = Content { end: intent.end, gap: intent.gap, reading: lane.compacted };
        self.encoded_again(lane, task, by, intent, content);
    }

    /// The beginning of R5c.
    fn read_less(&self, s: &mut State, w: usize, l: usize, intent: Intent) {
        self.saw(Event::ReadAgainLess);
        let task = &mut s.workers[w].tasks[l];
        task.intent = Some(intent);
        match (task.step, intent.upload) {
            (Step::ReadAgain(outwaited), Some(_)) => task.step = Step::GiveUp(outwaited),
            _ if self.setting.has_atomic_guards() => self.encode_less(s, w, l),
            _ => task.step = Step::Outwait,
        }
    }

    /// R5c, where an upload is pinned. Who was frozen since it read the intent learns here that the lane is another's, and the upload with it. The pin keeps its
    /// age: it says no more of when a request may be sent than the one before. Commit and abort are one step.
    pub(super) fn ask_and_give_up(&self, s: &mut State, w: usize, l: usize, answer: Answer) {
        let (by, task) = (s.workers[w].member, s.workers[w].tasks[l]);
        let (Step::GiveUp(outwaited), Some(intent)) = (task.step, task.intent) else { return };
        if !self.is(Mutant::GiveUpUnasked) {
            if !self.commit(s, w, l, Commit { position: task.position, note: Note::Intent(intent) }) {
                self.saw(Event::GiveUpRefused);
                refuse(&mut s.workers[w].tasks[l]);
                return;
            }
            if answer == Answer::Lost {
                self.saw(Event::PinnedUnheard);
                s.left.errors -= 1;
                return;
            }
        }
        let open = intent.upload.filter(|id| s.lanes[l].upload(*id).fate == Fate::Open);
        if let Some(id) = open.filter(|_| !self.is(Mutant::KeepUpload)) {
            self.give_up(&mut s.lanes[l], id, by);
        }
        if outwaited {
            self.encode_less(s, w, l);
        } else {
            s.workers[w].tasks[l].step = Step::Outwait;
        }
    }

    /// The end of R5c: a full copy has landed by now, or never will.
    pub(super) fn outwait(&self, s: &mut State, w: usize, l: usize) {
        let intent = s.workers[w].tasks[l].intent.expect("an intent was read");
        let behind_guard = self.setting.has_atomic_guards();
        match self.finding(&s.lanes[l], l, &intent) {
            Finding::Absent => {
                self.saw(if behind_guard { Event::OutwaitAbsentBehindGuard } else { Event::OutwaitAbsent });
                self.encode_less(s, w, l);
            }
            finding => {
                self.saw(if behind_guard { Event::OutwaitFoundBehindGuard } else { Event::OutwaitFound });
                adopt(&mut s.workers[w].tasks[l], &finding, &intent);
            }
        }
    }

    /// What Kafka has left of the intent's range.
    fn encode_less(&self, s: &mut State, w: usize, l: usize) {
        let by = s.workers[w].member;
        let (lane, task) = (&mut s.lanes[l], &mut s.workers[w].tasks[l]);
        let intent = task.intent.expect("an intent was read");
        let gap = bridge::lost_since_pin(&intent, task.position, lane.log_start).or(intent.gap);
        let content = Content { end: intent.end, gap, reading: lane.compacted };
        self.encoded_again(lane, task, by, intent, content);
    }

    /// A pinned range is encoded again. Another upload, or less than was pinned, is pinned anew before anything is sent.
    fn encoded_again(&self, lane: &mut Lane, task: &mut Task, by: Member, intent: Intent, content: Content) {
        let less = content.gap != intent.gap && !self.is(Mutant::LessWithoutPin);
        let by_upload = match self.setting.windows {
            Windows::Put => false,
            Windows::Multipart => true,
            Windows::Mixed => content.gap == intent.gap && intent.upload.is_some(),
        };
        let upload = if by_upload {
            self.abort_stale(lane, intent.key, None, by);
            Some(self.open_upload(lane, intent.key, Some(content)))
        } else {
            None
        };
        task.step = if less || upload.is_some() { Step::Pin } else { Step::Send };
        task.body = upload.is_none().then_some(content);
        let gap = if self.is(Mutant::LessWithoutPin) { intent.gap } else { content.gap };
        task.intent = Some(Intent { gap, upload, ..intent });
    }

    /// A lane that was refused a commit starts again.
    pub(super) fn restart(&self, s: &mut State, w: usize, l: usize) {
        self.saw(Event::Restarted);
        s.workers[w].tasks[l].step = Step::Fetch;
    }

    /// HEAD may be denied while faults are left.
    pub(super) fn deny_head(&self, s: &State, out: &mut Vec<Move>) {
        if s.left.errors > 0 {
            out.push(Move::DenyHead);
        }
    }

    /// Whether an action is more than a fault or an accident: what goes on when nothing fails any more.
    pub(super) fn is_progress(&self, s: &State, action: &Action) -> bool {
        match action {
            Action::Start(_) | Action::Learn(_) | Action::Rebalance(_) | Action::Finish(..) => true,
            Action::DeadlinePasses => self.waits_for_deadline(s),
            Action::Move(_, _, step) => match step {
                Move::Pin(answer) | Move::Tidy(answer) | Move::GiveUp(answer) => *answer == Answer::Arrives,
                Move::Anchor | Move::RefuseCommit | Move::LoseAnswer | Move::Deny | Move::Conflict | Move::DenyHead | Move::PartsShort => {
                    false
                }
                _ => true,
            },
            _ => false,
        }
    }
}

/// ListParts, which may name fewer parts of a whole upload than there are.
fn parts_moves(s: &State, lane: &Lane, intent: &Intent, out: &mut Vec<Move>) {
    out.push(Move::Parts);
    if s.left.short_lists > 0 && intent.upload.is_some_and(|id| lane.upload(id).is_whole()) {
        out.push(Move::PartsShort);
    }
}

/// Whether a Complete of an intent's upload was taken and has not shown its effect.
fn is_taken(lane: &Lane, intent: &Intent) -> bool {
    intent.upload.is_some_and(|id| lane.upload(id).fate == Fate::Completing)
}

/// From an end over the objects that follow it.
pub(super) fn tiles_from(lane: &Lane, from: Offset) -> Offset {
    let mut end = from;
    while let Some(object) = lane.objects.iter().find(|o| o.key.start == end && o.now.end > end) {
        end = object.now.end;
    }
    end
}

/// R4: what stands is the intent's range, or another end.
fn adopt(task: &mut Task, finding: &Finding, intent: &Intent) {
    match finding {
        Finding::OtherEnd(end) => settle(task, bridge::settled_end(*end), intent.end),
        Finding::Foreign(_) => task.step = Step::Stopped,
        Finding::Ours | Finding::Absent => settle(task, intent.end, intent.end),
    }
}

/// A range stands up to `end`. If that is not the pinned end, what was read behind it is dropped.
pub(super) fn settle(task: &mut Task, end: Offset, pinned: Offset) {
    let checked = task.checked && end == pinned;
    *task = Task { position: end, start: end, untidied: true, checked, dead: task.dead, ..Task::at(Step::Reading) };
}
