//! The object store: keys, guards of three classes, uploads, and requests that take effect late or more than once.
//!
//! An atomic guard (A) lets the first writer of a key win. A racy one (B) may let a request pass that was sent while the key was free, whatever
//! has happened since. Without one (C) the last writer wins. A Complete consumes its upload when it is taken and shows its object then or later.

use catchment::store::GuardClass;

use super::action::{Action, Event};
use super::mutants::Mutant;
use super::protocol::Protocol;
use super::state::{Body, Content, Failure, Fate, Key, Lane, Member, Note, Object, Request, Seen, State, Step, Task, Upload};

/// What a request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// An object became visible.
    New,
    /// An object was written over.
    Over,
    /// An upload's object stands already.
    Again,
    /// Nothing, and why.
    Refused(Failure),
}

impl Protocol {
    /// What can happen in the store by itself.
    pub(super) fn store_actions(&self, s: &State, out: &mut Vec<Action>) {
        for (l, lane) in (0_u8..).zip(&s.lanes) {
            for (r, request) in (0_u8..).zip(&lane.requests) {
                if self.has_effect(lane, request) {
                    out.push(Action::Land(l, r));
                }
            }
            for (u, upload) in (0_u8..).zip(&lane.uploads) {
                match upload.fate {
                    Fate::Completing => out.push(Action::Finish(l, u)),
                    Fate::Open if s.left.lost_uploads > 0 => out.push(Action::LoseUpload(l, u)),
                    _ => {}
                }
            }
        }
    }

    fn guard_lets_pass(&self, lane: &Lane, request: &Request) -> bool {
        let class = if matches!(request.body, Body::Put(_)) { self.setting.put } else { self.setting.complete };
        lane.object(request.key).is_none() || class == GuardClass::C || class == GuardClass::B && request.passed
    }

    /// Whether a request would change anything if it took effect now.
    fn has_effect(&self, lane: &Lane, request: &Request) -> bool {
        let changes = match request.body {
            Body::Put(content) => lane.object(request.key).is_none_or(|o| o.now != content),
            Body::Complete(id) | Body::CompleteFewer(id) => lane.upload(id).fate == Fate::Open,
        };
        changes && self.guard_lets_pass(lane, request)
    }

    /// Whether a request can never change anything again: then it need not be remembered.
    fn is_spent(&self, lane: &Lane, request: &Request) -> bool {
        let gone = request.body.upload().is_some_and(|id| lane.upload(id).fate != Fate::Open);
        gone || !self.guard_lets_pass(lane, request)
    }

    /// A request that nobody waits for takes effect. A Complete's object shows later, by [`Action::Finish`].
    pub(super) fn land(&self, s: &mut State, l: usize, r: usize) {
        let request = s.lanes[l].requests[r];
        match request.body {
            Body::Put(content) => {
                let over = self.show(&mut s.lanes[l], request.key, content);
                self.saw(if over { Event::LandedOver } else { Event::LandedLate });
            }
            Body::Complete(id) | Body::CompleteFewer(id) => {
                self.saw(Event::CompleteTaken);
                let upload = s.lanes[l].upload_mut(id);
                (upload.content, upload.fate) = (Some(joined(upload, request.body)), Fate::Completing);
            }
        }
    }

    /// A Complete that was taken shows its object. Where guards are atomic, another object that came first still wins.
    pub(super) fn finish(&self, s: &mut State, l: usize, u: u8) {
        let lane = &mut s.lanes[l];
        let upload = lane.upload(u);
        let (key, content) = (upload.key, upload.content.expect("a Complete lists all parts"));
        if lane.object(key).is_some() && self.setting.complete == GuardClass::A {
            self.saw(Event::LandedRefused);
            lane.upload_mut(u).end(Fate::Gone);
            return;
        }
        self.saw(Event::CompleteFinished);
        lane.upload_mut(u).end(Fate::Completed);
        self.show(lane, key, content);
    }

    /// A request takes effect while its sender waits.
    pub(super) fn take_effect(&self, lane: &mut Lane, request: &Request) -> Effect {
        if let Some(id) = request.body.upload()
            && lane.upload(id).fate != Fate::Open
        {
            // AWS answers 200 to a repeated Complete, COS and MinIO that there is no such upload.
            let as_aws = self.setting.repeats_complete && lane.upload(id).fate == Fate::Completed;
            return if as_aws { Effect::Again } else { Effect::Refused(Failure::NoSuchUpload) };
        }
        if !self.guard_lets_pass(lane, request) {
            return Effect::Refused(Failure::Exists);
        }
        let content = match request.body {
            Body::Put(content) => content,
            Body::Complete(id) | Body::CompleteFewer(id) => {
                let content = joined(lane.upload(id), request.body);
                lane.upload_mut(id).end(Fate::Completed);
                content
            }
        };
        if self.show(lane, request.key, content) { Effect::Over } else { Effect::New }
    }

    /// An object becomes visible, or is written over: whether that was so.
    fn show(&self, lane: &mut Lane, key: Key, content: Content) -> bool {
        lane.see(Seen { pinned: false, key, end: content.end, gap: content.gap, forgotten: false });
        if let Some(object) = lane.objects.iter_mut().find(|o| o.key == key) {
            object.now = content;
            return true;
        }
        lane.objects.push(Object { key, first: content, now: content });
        lane.objects.sort_unstable();
        false
    }

    /// CreateMultipartUpload: an id that nobody knows.
    pub(super) fn open_upload(&self, lane: &mut Lane, key: Key, content: Option<Content>) -> u8 {
        self.saw(Event::UploadOpened);
        let id = lane.uploads.iter().position(|upload| *upload == Upload::FREE).unwrap_or(lane.uploads.len());
        if id == lane.uploads.len() {
            lane.uploads.push(Upload::FREE);
        }
        lane.uploads[id] = Upload { key, content, fate: Fate::Open, old: false };
        u8::try_from(id).expect("few uploads")
    }

    /// AbortMultipartUpload of what is open on a key, not named by `named`, and old enough (rule R7). Whoever was thrown out of the group and has
    /// not heard of it aborts like anybody else.
    pub(super) fn abort_stale(&self, lane: &mut Lane, key: Key, named: Option<u8>, by: Member) {
        let bound = lane.open_intent().and_then(|intent| intent.upload);
        let young_too = self.is(Mutant::AbortYoung);
        for (id, upload) in (0_u8..).zip(&mut lane.uploads) {
            if upload.key == key && upload.fate == Fate::Open && Some(id) != named && (upload.old || young_too) {
                self.saw(Event::StaleAborted);
                if by == Member::Stale {
                    self.saw(Event::StaleAbortedByZombie);
                }
                upload.end(if Some(id) == bound && !upload.old { Fate::Robbed } else { Fate::Gone });
            }
        }
    }

    /// AbortMultipartUpload of a pinned upload that is not to be completed any more (rule R5c). A zombie that does so takes it from the lane's owner.
    pub(super) fn give_up(&self, lane: &mut Lane, id: u8, by: Member) {
        self.saw(Event::UploadGivenUp);
        let is_bound = lane.open_intent().and_then(|intent| intent.upload) == Some(id);
        let upload = lane.upload_mut(id);
        upload.end(if is_bound && !upload.old && by == Member::Stale { Fate::Robbed } else { Fate::Gone });
    }

    /// The upload deadline passes: what is under way has taken effect, or never will, and its senders have lost the answer.
    pub(super) fn pass_deadline(&self, s: &mut State) {
        self.saw(Event::DeadlinePassed);
        for l in 0..s.lanes.len() {
            for w in 0..s.workers.len() {
                super::group::detach(s, w, l);
                let task = &mut s.workers[w].tasks[l];
                // What is not pinned yet has no age.
                let pinned = !matches!(task.step, Step::Check | Step::Pin);
                if let Some(intent) = &mut task.intent {
                    intent.old |= pinned;
                }
            }
            let lane = &mut s.lanes[l];
            lane.requests.clear();
            lane.uploads.iter_mut().for_each(|upload| upload.old = true);
            if let Some(Note::Intent(intent)) = lane.committed.as_mut().map(|c| &mut c.note) {
                intent.old = true;
            }
        }
    }

    /// Forgets what cannot matter any more, so that equal futures are one state.
    pub(super) fn forget_spent(&self, s: &mut State) {
        for l in 0..s.lanes.len() {
            let lane = &mut s.lanes[l];
            let mut requests = std::mem::take(&mut lane.requests);
            requests.retain(|request| !self.is_spent(lane, request));
            requests.sort_unstable();
            requests.dedup();
            lane.requests = requests;
            for id in 0..u8::try_from(lane.uploads.len()).expect("few uploads") {
                let known = is_known(s, l, id);
                let upload = s.lanes[l].upload_mut(id);
                // An orphan: whether it is aborted or not makes no difference to anybody.
                if !known && !matches!(upload.fate, Fate::Completing | Fate::Robbed) {
                    *upload = Upload::FREE;
                }
            }
            while s.lanes[l].uploads.last() == Some(&Upload::FREE) {
                s.lanes[l].uploads.pop();
            }
        }
    }
}

/// What a Complete makes of an upload: all its parts, or all but the last, which holds the last record.
fn joined(upload: &Upload, complete: Body) -> Content {
    let whole = upload.content.expect("only what has all its parts is completed");
    if matches!(complete, Body::CompleteFewer(_)) { Content { end: whole.end - 1, ..whole } } else { whole }
}

/// Whether anybody or anything still names an upload.
fn is_known(s: &State, l: usize, id: u8) -> bool {
    let lane = &s.lanes[l];
    let notes = [lane.committed, lane.previous];
    let noted = notes.iter().flatten().any(|c| matches!(c.note, Note::Intent(intent) if intent.upload == Some(id)));
    let names = |task: &Task| task.upload == Some(id) || task.intent.is_some_and(|intent| intent.upload == Some(id));
    noted || lane.requests.iter().any(|r| r.body.upload() == Some(id)) || s.workers.iter().any(|w| names(&w.tasks[l]))
}
