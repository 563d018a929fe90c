//! Counterexamples in words: one line a step.

use std::fmt::Write as _;

use super::action::{Action, Answer, Move};
use super::bridge::range;
use super::state::{Body, Commit, Content, Fate, Intent, Key, Lane, Life, Member, Note, Offset, Request, State, Step, Task};

/// One line for each step of a path: the state before, what happened, the state after.
pub(super) fn lines(path: &[(State, Option<Action>)]) -> Vec<String> {
    let steps = path.windows(2).filter_map(|pair| Some((&pair[0].0, pair[0].1?, &pair[1].0)));
    steps.map(|(before, action, after)| Teller { before, after }.line(action)).collect()
}

struct Teller<'a> {
    before: &'a State,
    after: &'a State,
}

impl Teller<'_> {
    fn line(&self, action: Action) -> String {
        match action {
            Action::Start(w) => format!("{} starts", worker(w)),
            Action::Crash(w) => format!("{} dies{}", worker(w), self.left_behind(w)),
            Action::Pause(w) => format!("{} is frozen{}", worker(w), self.left_behind(w)),
            Action::Wake(w) => format!("{} wakes{}", worker(w), self.as_zombie(w)),
            Action::Learn(w) => format!("{} hears that it was thrown out", worker(w)),
            Action::Rebalance(owners) => self.rebalance(&owners),
            Action::DeadlinePasses => "the upload deadline passes: what was on its way has come to its end".into(),
            Action::OffsetsExpire => "the group stands empty for days: its offsets are forgotten".into(),
            Action::Compact(l) => format!("Kafka compacts {}", self.lane_name(l)),
            Action::Retain(l, to) => format!("retention moves the log start of {} to {to}", self.lane_name(l)),
            Action::GroupGoesBack(l) => format!("the group's memory goes back to {}", commit(self.after_lane(l).committed.as_ref())),
            Action::LoseUpload(_, u) => format!("the store's lifecycle rule aborts upload {u}"),
            Action::Land(l, r) => self.landing(l, r),
            Action::Finish(l, u) => {
                format!("the Complete of upload {u} shows its effect: {}", self.stands(l, self.before_lane(l).upload(u).key))
            }
            Action::Move(w, l, step) => format!("{}{} {}", worker(w), self.of_lane(l), self.tell_move(w, l, step)),
        }
    }

    fn before_lane(&self, l: u8) -> &Lane {
        &self.before.lanes[usize::from(l)]
    }

    fn after_lane(&self, l: u8) -> &Lane {
        &self.after.lanes[usize::from(l)]
    }

    /// A worker's task before and after the step.
    fn tasks(&self, w: u8, l: u8) -> (&Task, &Task) {
        let (w, l) = (usize::from(w), usize::from(l));
        (&self.before.workers[w].tasks[l], &self.after.workers[w].tasks[l])
    }

    fn lane_name(&self, l: u8) -> String {
        if self.before.lanes.len() == 1 { "the lane".into() } else { format!("lane {l}") }
    }

    fn of_lane(&self, l: u8) -> String {
        if self.before.lanes.len() == 1 { String::new() } else { format!(", lane {l},") }
    }

    fn as_zombie(&self, w: u8) -> &'static str {
        if self.before.workers[usize::from(w)].member == Member::Stale { ", as a zombie" } else { "" }
    }

    /// What a worker that dies or freezes has on its way.
    fn left_behind(&self, w: u8) -> String {
        let requests: Vec<String> =
            self.before.workers[usize::from(w)].tasks.iter().filter_map(Task::request).map(|r| request(&r)).collect();
        if requests.is_empty() { String::new() } else { format!(" with its {} on its way", requests.join(" and its ")) }
    }

    fn rebalance(&self, owners: &[u8]) -> String {
        let is_member = |w: &super::state::Worker| w.member == Member::Current && w.life == Life::Live;
        let members = (0_u8..).zip(&self.after.workers).filter(|(_, w)| is_member(w)).map(|(w, _)| worker(w));
        let mut line = format!("a generation begins with {}", members.collect::<Vec<_>>().join(" and "));
        for (l, owner) in (0_u8..).zip(owners).take(self.before.lanes.len()) {
            let _ = write!(line, "; {} goes to {}", self.lane_name(l), worker(*owner));
        }
        line
    }

    fn landing(&self, l: u8, r: u8) -> String {
        let landed = self.before_lane(l).requests[usize::from(r)];
        match landed.body {
            Body::Put(_) => format!("the {} takes effect late: {}", request(&landed), self.stands(l, landed.key)),
            Body::Complete(_) | Body::CompleteFewer(_) => format!("the {} is taken late", request(&landed)),
        }
    }

    /// What stands under a key now, and whether something else stood there before.
    fn stands(&self, l: u8, at: Key) -> String {
        let object = |lane: &Lane| lane.object(at).map(|o| o.now);
        match (object(self.before_lane(l)), object(self.after_lane(l))) {
            (_, None) => format!("nothing stands under {}", key(at)),
            (Some(old), Some(new)) if old != new => {
                format!("{} under {} is written over with {}", content(at, &old), key(at), content(at, &new))
            }
            (_, Some(new)) => format!("{} stands under {}", content(at, &new), key(at)),
        }
    }

    fn tell_move(&self, w: u8, l: u8, step: Move) -> String {
        let (before, after) = self.tasks(w, l);
        let intent = before.intent;
        let at = intent.map(|intent| intent.key).unwrap_or_default();
        match step {
            Move::Fetch => format!("asks the group: {}", commit(self.before_lane(l).committed.as_ref())),
            Move::Walk => format!("finds its place: S = {}", after.start),
            Move::Anchor => format!("writes the anchor {}", before.start),
            Move::PassOver => format!("passes over records that nobody sees: P = {}", after.position),
            Move::Open => self.opened(after),
            Move::Close(_) => self.closed(l, after),
            Move::Check => self.looked(l, at, "before its first pin"),
            Move::Pin(answer) | Move::Tidy(answer) => self.committed(w, l, step, answer),
            Move::RefuseCommit => "commits with the generation before and is refused: it drops the lane".into(),
            Move::Send => format!("sends the {}", after.request().as_ref().map_or_else(String::new, request)),
            Move::Answer => self.answered(l, before, after),
            Move::LoseAnswer => format!("loses the answer to its {}", before.request().as_ref().map_or_else(String::new, request)),
            Move::Deny => "is denied the request".into(),
            Move::Conflict => "is answered that another request was under way".into(),
            Move::DenyHead => format!("is denied the HEAD{}", if before.step == after.step { "" } else { " and takes that for absent" }),
            Move::Look => self.looked(l, at, "after that"),
            Move::Recover => self.looked(l, at, "for the intent"),
            Move::LookAgain => self.looked(l, at, "when a Complete must have shown its effect"),
            Move::Outwait => self.looked(l, at, "when no full copy can come any more"),
            Move::Parts => self.parts(intent, after),
            Move::PartsShort => self.parts_short(intent, after),
            Move::ReadAgain(end) => self.read_again(at, end, after),
            Move::GiveUp(_) => self.given_up(w, l, after),
            Move::Restart => "starts the lane again".into(),
        }
    }

    fn opened(&self, after: &Task) -> String {
        match after.upload {
            Some(id) => format!("opens upload {id}"),
            None => format!("finds the key taken: P = S = {}", after.start),
        }
    }

    fn closed(&self, l: u8, after: &Task) -> String {
        let Some(intent) = after.intent else { return "finds its upload gone and starts the lane again".into() };
        let what = after.body.or_else(|| intent.upload.and_then(|id| self.after_lane(l).upload(id).content));
        format!("closes a window: {}", what.map_or_else(String::new, |what| content(intent.key, &what)))
    }

    fn looked(&self, l: u8, at: Key, when: &str) -> String {
        match self.before_lane(l).object(at) {
            Some(object) => format!("looks at {} {when}: {}", key(at), content(at, &object.now)),
            None => format!("looks at {} {when}: nothing", key(at)),
        }
    }

    fn committed(&self, w: u8, l: u8, step: Move, answer: Answer) -> String {
        let (before, after) = self.tasks(w, l);
        if after.step == Step::Refused {
            return "commits and is refused: it drops the lane".into();
        }
        let again = if matches!(step, Move::Pin(_)) && before.step == Step::Send { " again" } else { "" };
        let verb = if matches!(step, Move::Pin(_)) { "pins" } else { "tidies" };
        let lost = if answer == Answer::Lost { ", and the answer is lost" } else { "" };
        format!("{verb}{again}: {}{lost}", commit(self.after_lane(l).committed.as_ref()))
    }

    fn answered(&self, l: u8, before: &Task, after: &Task) -> String {
        let Some(sent) = before.request() else { return String::new() };
        match after.step {
            Step::Look(failure) => format!("is answered {failure:?} to its {}", request(&sent)),
            _ => format!("is answered 200 to its {}: {}", request(&sent), self.stands(l, sent.key)),
        }
    }

    fn parts(&self, intent: Option<Intent>, after: &Task) -> String {
        let id = intent.and_then(|intent| intent.upload).unwrap_or_default();
        let what = if after.step == Step::Send { "is whole" } else { "is gone" };
        format!("lists the parts of upload {id}: it {what}")
    }

    fn parts_short(&self, intent: Option<Intent>, after: &Task) -> String {
        let id = intent.and_then(|intent| intent.upload).unwrap_or_default();
        let what = if after.step == Step::Send { "and takes them for all" } else { "and leaves it alone" };
        format!("is told of too few parts of upload {id} {what}")
    }

    fn given_up(&self, w: u8, l: u8, after: &Task) -> String {
        let id = self.tasks(w, l).0.intent.and_then(|intent| intent.upload).unwrap_or_default();
        let asked = format!("pins again what names upload {id}");
        match after.step {
            Step::Refused => return format!("{asked} and is refused: it drops the lane"),
            Step::GiveUp(_) => return format!("{asked}, and the answer is lost"),
            _ => {}
        }
        let is_open = |lane: &Lane| lane.uploads.get(usize::from(id)).is_some_and(|upload| upload.fate == Fate::Open);
        match (is_open(self.before_lane(l)), is_open(self.after_lane(l))) {
            (true, true) => format!("leaves upload {id} open"),
            (true, false) => format!("gives upload {id} up{}", self.as_zombie(w)),
            (false, _) => format!("gives upload {id} up, which is gone already"),
        }
    }

    fn read_again(&self, at: Key, end: Offset, after: &Task) -> String {
        let wanted = format!("reads {} again", range(at.start, end));
        let uploaded = || after.intent.and_then(|intent| intent.upload).map(|id| format!("{wanted} and uploads it as upload {id}"));
        match (after.step, after.body) {
            (Step::GiveUp(_), _) => format!("{wanted}: Kafka has less of it; the pinned upload is to be given up"),
            (Step::Outwait, _) => format!("{wanted}: Kafka has less of it; it waits for the deadline"),
            (_, Some(body)) => format!("{wanted}: {} for {}", content(at, &body), after.intent.map_or_else(String::new, |i| key(i.key))),
            _ => uploaded().unwrap_or(wanted),
        }
    }
}

fn worker(w: u8) -> String {
    format!("worker {}", w + 1)
}

fn key(at: Key) -> String {
    format!("d{}/{}", at.directory, at.start)
}

fn content(at: Key, what: &Content) -> String {
    let mut text = range(at.start, what.end).to_string();
    if let Some((from, to)) = what.gap {
        let _ = write!(text, " without {}", range(from, to));
    }
    if what.reading {
        text += " as compacted";
    }
    text
}

fn request(request: &Request) -> String {
    match request.body {
        Body::Put(what) => format!("PUT of {} to {}", content(request.key, &what), key(request.key)),
        Body::Complete(id) => format!("Complete of upload {id} to {}", key(request.key)),
        Body::CompleteFewer(id) => format!("Complete of upload {id} without its last part to {}", key(request.key)),
    }
}

fn commit(commit: Option<&Commit>) -> String {
    let Some(commit) = commit else { return "nothing".into() };
    let note = match commit.note {
        Note::Tidy(start) => format!("S = {start}"),
        Note::Intent(intent) => {
            let what = Content { end: intent.end, gap: intent.gap, reading: false };
            let upload = intent.upload.map_or_else(String::new, |id| format!(" by upload {id}"));
            format!("intent {} to {}{upload}", content(intent.key, &what), key(intent.key))
        }
    };
    format!("P = {}, {note}", commit.position)
}
