//! A lane's windows in the model: steps 1 to 6, move by move as `catchment::commit::publish` makes them.

use catchment::decision::{Finding, Next};

use super::action::{Answer, Event, Move};
use super::bridge;
use super::mutants::Mutant;
use super::protocol::Protocol;
use super::recover::{settle, tiles_from};
use super::setting::Windows;
use super::state::{Commit, Content, Failure, Intent, Key, Lane, Member, Note, Offset, State, Step, Task};
use super::store::Effect;

impl Protocol {
    /// The moves of a task that reads, pins and publishes.
    pub(super) fn window_moves(&self, s: &State, w: usize, l: usize, out: &mut Vec<Move>) {
        let (lane, task) = (&s.lanes[l], &s.workers[w].tasks[l]);
        let errors = s.left.errors > 0;
        match task.step {
            Step::Reading => self.reading_moves(s, w, l, out),
            Step::Check => {
                out.push(Move::Check);
                self.deny_head(s, out);
            }
            Step::Pin => {
                self.commit_moves(s, w, Move::Pin, out);
                if self.is(Mutant::AsynchronousPin) {
                    out.push(Move::Send);
                }
            }
            Step::Send => {
                let old = task.intent.is_some_and(|intent| intent.old) && !self.is(Mutant::NoRenewal);
                if old {
                    self.commit_moves(s, w, Move::Pin, out);
                } else {
                    out.push(Move::Send);
                }
                self.recommit_moves(s, w, out);
            }
            Step::Sent(_) => {
                out.push(Move::Answer);
                if errors {
                    out.extend([Move::LoseAnswer, Move::Deny, Move::Conflict]);
                }
                if self.is(Mutant::TidyBeforeSettle) {
                    out.push(Move::Tidy(Answer::Arrives));
                }
                self.recommit_moves(s, w, out);
                let unheard = lane.open_intent().is_none() && s.workers[w].member == Member::Current;
                if self.is(Mutant::AsynchronousPin) && unheard {
                    out.push(Move::Pin(Answer::Arrives));
                }
            }
            Step::Look(_) => {
                out.push(Move::Look);
                self.deny_head(s, out);
            }
            _ => {}
        }
    }

    fn reading_moves(&self, s: &State, w: usize, l: usize, out: &mut Vec<Move>) {
        let (lane, task) = (&s.lanes[l], &s.workers[w].tasks[l]);
        // The daily commit of an idle lane matters only where the group may have forgotten the last one.
        let known = Some(Commit { position: task.position, note: Note::Tidy(task.start) }) == lane.committed;
        let recommits = self.setting.faults.regressions > 0 && s.workers[w].member == Member::Current && !known;
        if task.untidied || recommits {
            self.commit_moves(s, w, Move::Tidy, out);
        }
        if task.dead && !self.is(Mutant::PinOfDeadLane) {
            return;
        }
        if self.setting.faults.expiries > 0 && lane.anchor != task.start {
            out.push(Move::Anchor);
        }
        let end = self.setting.log_end;
        let whole = lane.log_start <= task.position;
        if whole && task.upload.is_none() && task.position < end && !self.setting.is_visible(task.position) {
            out.push(Move::PassOver);
        }
        if self.setting.windows != Windows::Put && task.upload.is_none() && task.position < end {
            out.push(Move::Open);
        }
        if self.setting.windows == Windows::Multipart && task.upload.is_none() {
            return;
        }
        // An object has a record that readers see, or something to list as missing.
        let first = lane.log_start.max(task.position + 1);
        let makes_object = |to: Offset| !whole || self.setting.has_visible(task.position, to);
        out.extend((first..=end).filter(|to| makes_object(*to)).map(Move::Close));
    }

    /// A commit that is answered, one whose answer is lost, and one that is refused for its generation.
    pub(super) fn commit_moves(&self, s: &State, w: usize, with: fn(Answer) -> Move, out: &mut Vec<Move>) {
        out.push(with(Answer::Arrives));
        if s.left.errors > 0 {
            if s.workers[w].member == Member::Current {
                out.push(with(Answer::Lost));
            }
            if self.setting.cooperative && s.workers[w].member == Member::Current {
                out.push(Move::RefuseCommit);
            }
        }
    }

    fn recommit_moves(&self, s: &State, w: usize, out: &mut Vec<Move>) {
        if self.is(Mutant::RecommitOverIntent) && s.workers[w].member == Member::Current {
            out.push(Move::Tidy(Answer::Arrives));
        }
    }

    /// PUT of the anchor: a lower bound, whoever writes it.
    pub(super) fn write_anchor(&self, s: &mut State, w: usize, l: usize) {
        let start = s.workers[w].tasks[l].start;
        self.saw(if start < s.lanes[l].anchor { Event::AnchoredBack } else { Event::Anchored });
        s.lanes[l].anchor = start;
    }

    /// Records without anything visible make no object; the position moves over them.
    pub(super) fn pass_over(&self, s: &mut State, w: usize, l: usize) {
        self.saw(Event::PassedOver);
        let task = &mut s.workers[w].tasks[l];
        while task.position < self.setting.log_end && !self.setting.is_visible(task.position) {
            task.position += 1;
        }
        task.untidied = true;
    }

    /// CreateMultipartUpload, after a look at the key if none was looked at.
    pub(super) fn open(&self, s: &mut State, w: usize, l: usize) {
        let by = s.workers[w].member;
        let (lane, task) = (&mut s.lanes[l], &mut s.workers[w].tasks[l]);
        let key = Key { start: task.start, directory: lane.directory(task.start) };
        if !task.checked && !self.is(Mutant::NoFirstLook) {
            if lane.object(key).is_some() {
                self.found_taken(lane, task);
                return;
            }
            self.saw(Event::CheckedFree);
        }
        task.checked = true;
        self.abort_stale(lane, key, None, by);
        task.upload = Some(self.open_upload(lane, key, None));
    }

    /// Steps 1 and 2: the records up to `end` are read and encoded; for an upload, all parts are there.
    pub(super) fn close(&self, s: &mut State, w: usize, l: usize, end: Offset) {
        let (lane, task) = (&mut s.lanes[l], &mut s.workers[w].tasks[l]);
        let gap = (lane.log_start > task.position).then_some((task.position, lane.log_start));
        self.saw(if gap.is_some() { Event::ClosedWithGap } else { Event::Closed });
        let content = Content { end, gap, reading: lane.compacted };
        let key = match task.upload {
            Some(id) => lane.upload(id).key,
            None => Key { start: task.start, directory: lane.directory(task.start) },
        };
        if let Some(id) = task.upload {
            let upload = lane.upload_mut(id);
            // Parts of an upload that is gone are refused: the lane starts again.
            if upload.fate != super::state::Fate::Open {
                self.saw(Event::NoSuchUpload);
                *task = Task { dead: task.dead, ..Task::at(Step::Fetch) };
                return;
            }
            upload.content = Some(content);
        }
        task.body = task.upload.is_none().then_some(content);
        task.intent = Some(Intent { key, end, gap, upload: task.upload.take(), old: false });
        task.step = if task.checked || self.is(Mutant::NoFirstLook) { self.after_check() } else { Step::Check };
    }

    fn after_check(&self) -> Step {
        if self.is(Mutant::NoPin) || self.is(Mutant::PublishBeforePin) { Step::Send } else { Step::Pin }
    }

    /// R2.
    pub(super) fn check(&self, s: &mut State, w: usize, l: usize) {
        let by = s.workers[w].member;
        let (lane, task) = (&mut s.lanes[l], &mut s.workers[w].tasks[l]);
        let key = task.intent.expect("a window is closed").key;
        if lane.object(key).is_some() {
            self.found_taken(lane, task);
            return;
        }
        self.saw(Event::CheckedFree);
        self.abort_stale(lane, key, None, by);
        task.checked = true;
        task.step = self.after_check();
    }

    /// The group's memory had gone back behind a stored object: what is stored is walked over.
    fn found_taken(&self, lane: &Lane, task: &mut Task) {
        self.saw(Event::CheckedTaken);
        let end = tiles_from(lane, task.start);
        settle(task, end, task.start);
    }

    /// Step 3, or the renewal of an old pin.
    pub(super) fn pin(&self, s: &mut State, w: usize, l: usize, answer: Answer) {
        let task = s.workers[w].tasks[l];
        let Some(intent) = task.intent else { return };
        let fresh = Intent { old: false, ..intent };
        let before = s.lanes[l].open_intent();
        if !self.commit(s, w, l, Commit { position: task.position, note: Note::Intent(fresh) }) {
            self.saw(Event::PinRefused);
            refuse(&mut s.workers[w].tasks[l]);
            return;
        }
        if before.is_some() {
            self.saw(Event::PinnedAgain);
        }
        if answer == Answer::Lost {
            self.saw(Event::PinnedUnheard);
            s.left.errors -= 1;
            return;
        }
        self.saw(if task.step == Step::Send { Event::PinRenewed } else { Event::Pinned });
        if task.untidied {
            self.saw(Event::PinCarriedTidy);
        }
        let task = &mut s.workers[w].tasks[l];
        task.untidied = false;
        if self.is(Mutant::PublishBeforePin) && task.step == Step::Pin && s.lanes[l].object(fresh.key).is_some() {
            settle(task, fresh.end, fresh.end);
            return;
        }
        task.intent = Some(fresh);
        if !matches!(task.step, Step::Sent(_)) {
            task.step = Step::Send;
        }
    }

    /// Step 6: P = S = E.
    pub(super) fn tidy(&self, s: &mut State, w: usize, l: usize, answer: Answer) {
        let task = s.workers[w].tasks[l];
        let (mut position, mut start) = (task.position, task.start);
        if self.is(Mutant::TidyBeforeSettle)
            && let Some(intent) = task.intent
        {
            (position, start) = (intent.end, intent.end);
        }
        if !self.commit(s, w, l, Commit { position, note: Note::Tidy(start) }) {
            self.saw(Event::TidyRefused);
            refuse(&mut s.workers[w].tasks[l]);
            return;
        }
        if answer == Answer::Lost {
            self.saw(Event::TidiedUnheard);
            s.left.errors -= 1;
            return;
        }
        self.saw(Event::Tidied);
        let task = &mut s.workers[w].tasks[l];
        task.untidied = false;
        if task.dead && !self.is(Mutant::PinOfDeadLane) {
            *task = Task::default();
        }
    }

    /// A commit with the generation before is refused, although the lane stayed: it is dropped.
    pub(super) fn refuse_commit(&self, s: &mut State, w: usize, l: usize) {
        self.saw(Event::CommitRefusedOnce);
        s.left.errors -= 1;
        refuse(&mut s.workers[w].tasks[l]);
    }

    /// Step 4.
    pub(super) fn send(&self, s: &mut State, w: usize, l: usize) {
        let task = &mut s.workers[w].tasks[l];
        let intent = task.intent.expect("a window is pinned");
        self.saw(if intent.upload.is_some() { Event::CompleteSent } else { Event::PutSent });
        if s.workers[w].member == Member::Stale {
            self.saw(Event::SentByZombie);
        }
        s.workers[w].tasks[l].step = Step::Sent(s.lanes[l].object(intent.key).is_none());
    }

    /// The request takes effect, if it may, and is answered.
    pub(super) fn answer(&self, s: &mut State, w: usize, l: usize) {
        let request = s.workers[w].tasks[l].request().expect("a request is on its way");
        let answer = match self.take_effect(&mut s.lanes[l], &request) {
            Effect::Refused(failure) => {
                self.saw(if failure == Failure::Exists { Event::GuardRefused } else { Event::NoSuchUpload });
                Err(failure)
            }
            effect => {
                self.saw(match effect {
                    Effect::Over => Event::PublishedOver,
                    Effect::Again => Event::CompleteRepeated,
                    _ => Event::Published,
                });
                Ok(())
            }
        };
        self.judge(s, w, l, answer);
    }

    /// Nobody knows what became of a request: it may still take effect.
    pub(super) fn lose_answer(&self, s: &mut State, w: usize, l: usize) {
        self.saw(Event::AnswerLost);
        s.left.errors -= 1;
        super::group::detach(s, w, l);
        self.judge(s, w, l, Err(Failure::Unknown));
    }

    /// The request had no effect, for want of a permission or because another was under way.
    pub(super) fn fail(&self, s: &mut State, w: usize, l: usize, failure: Failure) {
        self.saw(if failure == Failure::Denied { Event::Denied } else { Event::Conflicted });
        s.left.errors -= 1;
        self.judge(s, w, l, Err(failure));
    }

    /// Step 5, by the engine's own judgement of the answer.
    fn judge(&self, s: &mut State, w: usize, l: usize, answer: Result<(), Failure>) {
        let task = &mut s.workers[w].tasks[l];
        let intent = task.intent.expect("a window is pinned");
        let taken_for_done = match answer {
            Err(Failure::Unknown) => self.is(Mutant::UnknownIsDone),
            Err(Failure::NoSuchUpload) => self.is(Mutant::GoneIsDone),
            _ => false,
        };
        let next = bridge::after_publish(if taken_for_done { Ok(()) } else { answer }, intent.end);
        let failure = answer.err().unwrap_or(Failure::Unknown);
        self.follow(task, &intent, next, failure);
    }

    /// HEAD after a request that did not succeed.
    pub(super) fn look(&self, s: &mut State, w: usize, l: usize) {
        let (lane, task) = (&s.lanes[l], &mut s.workers[w].tasks[l]);
        let Step::Look(failure) = task.step else { return };
        let intent = task.intent.expect("a window is pinned");
        let finding = self.finding(lane, l, &intent);
        let next = bridge::after_look(failure, &finding, &intent);
        self.saw(match (&finding, &next) {
            (Finding::OtherEnd(_), _) => Event::LookedOtherEnd,
            (Finding::Absent, Next::Rebuild) => Event::LookedRebuild,
            (Finding::Absent, _) => Event::LookedAbsent,
            _ => Event::LookedOurs,
        });
        self.follow(task, &intent, next, failure);
    }

    fn follow(&self, task: &mut Task, intent: &Intent, next: Next, failure: Failure) {
        match next {
            Next::Settled(_) if self.is(Mutant::PublishBeforePin) => task.step = Step::Pin,
            Next::Settled(end) => settle(task, bridge::settled_end(end), intent.end),
            Next::Look | Next::AwaitPermission => task.step = Step::Look(failure),
            Next::Repeat if self.is(Mutant::NoRepeat) => task.step = Step::Stopped,
            Next::Repeat => task.step = Step::Send,
            Next::Rebuild => *task = Task { dead: task.dead, ..Task::at(Step::Fetch) },
            Next::StopForeign(_) | Next::StopRefused => task.step = Step::Stopped,
        }
    }
}

/// The lane is dropped; nothing of it becomes visible that was not pinned.
pub(super) fn refuse(task: &mut Task) {
    *task = Task { dead: task.dead, ..Task::at(Step::Refused) };
}
