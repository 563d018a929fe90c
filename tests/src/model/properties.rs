//! What must hold in every state: the invariants of the engine, asked of what the state shows, and progress.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use catchment::invariants::{self, Extent, Sight};
use stateright::{Model, Property};

use super::bridge::{key_text, missing, range};
use super::protocol::Protocol;
use super::state::{Content, Fate, Lane, Life, Member, Note, Object, Offset, Seen, State};

/// A property of every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// No offset is in two objects.
    NoDuplicate,
    /// The objects tile from the lane's start, and missing ranges lie within.
    Gapless,
    /// The group's offset is not past what is visible.
    NoLoss,
    /// A visible object keeps its bytes, but for a log that was compacted between two readings.
    Final,
    /// Nothing is visible before it was pinned.
    PinnedFirst,
    /// At most one range and key is accepted for a start.
    OneIntent,
    /// An object lacks no more than was pinned as missing.
    MissingPinned,
    /// Nothing is given up that somebody still has: the lane's owner a young upload that the open intent names, or a window in its memory; the store a
    /// copy whose Complete it has taken.
    Kept,
    /// When faults stop, every lane reaches its end: no state is stuck before that.
    Progress,
}

impl Invariant {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::NoDuplicate,
        Self::Gapless,
        Self::NoLoss,
        Self::Final,
        Self::PinnedFirst,
        Self::OneIntent,
        Self::MissingPinned,
        Self::Kept,
        Self::Progress,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoDuplicate => "NoDuplicate",
            Self::Gapless => "Gapless",
            Self::NoLoss => "NoLoss",
            Self::Final => "Final",
            Self::PinnedFirst => "PinnedFirst",
            Self::OneIntent => "OneIntent",
            Self::MissingPinned => "MissingPinned",
            Self::Kept => "Kept",
            Self::Progress => "Progress",
        }
    }

    /// How it is broken in this state, if it is.
    pub fn violation(self, model: &Protocol, state: &State) -> Option<String> {
        match self {
            Self::Kept => given_up(state),
            Self::Progress => model.is_stuck(state).then(|| "nothing goes on any more, and a lane has not reached its end".into()),
            _ => state.lanes.iter().find_map(|lane| self.of_lane(model, lane)),
        }
    }

    fn of_lane(self, model: &Protocol, lane: &Lane) -> Option<String> {
        let first = match self {
            Self::NoDuplicate => invariants::no_duplicate(&extents(lane)).into_iter().next(),
            Self::Gapless => gapless(lane),
            Self::NoLoss => no_loss(model, lane),
            Self::Final => final_bytes(model, lane),
            Self::PinnedFirst => invariants::pinned_first(&sights(&lane.sights)).into_iter().next(),
            Self::OneIntent => one_intent(lane),
            Self::MissingPinned => missing_pinned(lane),
            Self::Kept | Self::Progress => None,
        };
        first.map(|violation| violation.to_string())
    }
}

fn given_up(state: &State) -> Option<String> {
    if state.lanes.iter().flat_map(|lane| &lane.uploads).any(|upload| upload.fate == Fate::Robbed) {
        return Some("a young upload that the open intent names was aborted by somebody else".into());
    }
    let owners = state.workers.iter().filter(|w| w.life == Life::Live && w.member == Member::Current);
    let held = owners.flat_map(|w| w.tasks.iter().zip(&state.lanes)).find_map(|(task, lane)| {
        let (intent, body) = (task.intent.filter(|_| !task.dead)?, task.body?);
        let object = lane.object(intent.key).filter(|object| lacks_more(object, &body))?;
        Some(format!("the object of {} lacks records that the lane's owner still has", range(object.key.start, body.end)))
    });
    held.or_else(|| state.lanes.iter().find_map(taken_in_vain))
}

/// An object that came before a fuller copy which the store had in its hands.
fn taken_in_vain(lane: &Lane) -> Option<String> {
    lane.uploads.iter().filter(|upload| upload.fate == Fate::Completing).find_map(|upload| {
        let content = upload.content?;
        let object = lane.object(upload.key).filter(|object| lacks_more(object, &content))?;
        Some(format!("the object of {} lacks records of a copy whose Complete was taken", range(object.key.start, content.end)))
    })
}

/// Whether an object lacks more than another copy of its range.
fn lacks_more(object: &Object, copy: &Content) -> bool {
    let lost = |content: &Content| content.gap.map_or(0, |(from, to)| to - from);
    object.now.end == copy.end && lost(&object.now) > lost(copy)
}

/// The properties as stateright checks them. A broken one is reported once, for the first state that breaks it.
pub(super) fn all() -> Vec<Property<Protocol>> {
    macro_rules! always {
        ($($name:ident),*) => { vec![$(Property::always(Invariant::$name.name(), |m, s| holds(Invariant::$name, m, s))),*] };
    }
    always!(NoDuplicate, Gapless, NoLoss, Final, PinnedFirst, OneIntent, MissingPinned, Kept, Progress)
}

fn holds(invariant: Invariant, model: &Protocol, state: &State) -> bool {
    let broken = &model.broken[invariant as usize];
    broken.load(Ordering::Relaxed) || invariant.violation(model, state).is_none() || broken.swap(true, Ordering::Relaxed)
}

fn extents(lane: &Lane) -> Vec<Extent> {
    lane.objects.iter().map(|o| range(o.key.start, o.now.end).into()).collect()
}

fn gapless(lane: &Lane) -> Option<invariants::Violation> {
    let holes = invariants::gapless(Some(0), &extents(lane));
    let outside = lane.objects.iter().flat_map(|o| invariants::missing_within(range(o.key.start, o.now.end), &missing(o.now.gap)));
    holes.into_iter().chain(outside).next()
}

fn no_loss(model: &Protocol, lane: &Lane) -> Option<invariants::Violation> {
    let committed = lane.committed?.position;
    let visible = |between: catchment_formats::OffsetRange| {
        let small = |offset| Offset::try_from(offset).expect("the model's offsets are small");
        model.setting.has_visible(small(between.start), small(between.end))
    };
    invariants::no_loss(committed.into(), 0, &extents(lane), visible)
}

/// Where guards are atomic not even a compacted log gives other bytes to a key that is visible.
fn final_bytes(model: &Protocol, lane: &Lane) -> Option<invariants::Violation> {
    if lane.objects.iter().all(|o| o.first == o.now) {
        return None;
    }
    let print = |content: &Content| {
        let reading = if model.setting.has_atomic_guards() { content.reading } else { false };
        format!("{} {:?} {reading}", content.end, content.gap)
    };
    let prints = |of: fn(&Object) -> &Content| -> BTreeMap<String, String> {
        lane.objects.iter().map(|o| (key_text(o.key), print(of(o)))).collect()
    };
    invariants::final_bytes(&prints(|o| &o.first), &prints(|o| &o.now)).into_iter().next()
}

/// What the group's memory went back behind binds nobody.
fn one_intent(lane: &Lane) -> Option<invariants::Violation> {
    let remembered: Vec<Seen> = lane.sights.iter().filter(|seen| !seen.forgotten).copied().collect();
    invariants::one_intent(&sights(&remembered)).into_iter().next()
}

fn sights(seen: &[Seen]) -> Vec<Sight> {
    let sight = |seen: &Seen| {
        let (range, key) = (range(seen.key.start, seen.end), key_text(seen.key));
        if seen.pinned { Sight::Pinned { range, key } } else { Sight::Visible { range, key } }
    };
    seen.iter().map(sight).collect()
}

fn missing_pinned(lane: &Lane) -> Option<invariants::Violation> {
    if lane.objects.iter().all(|o| o.now.gap.is_none()) {
        return None;
    }
    let pinned = lane.sights.iter().filter(|seen| seen.pinned);
    let accepted: Vec<_> = pinned.map(|seen| (range(seen.key.start, seen.end), missing(seen.gap))).collect();
    lane.objects.iter().find_map(|o| invariants::missing_pinned(range(o.key.start, o.now.end), &missing(o.now.gap), &accepted))
}

impl Protocol {
    /// Whether nothing can go on unless something fails first, although a lane is not done.
    pub fn is_stuck(&self, s: &State) -> bool {
        if self.is_done(s) {
            return false;
        }
        let mut actions = Vec::new();
        self.actions(s, &mut actions);
        // A step that leaves everything as it is gets nobody anywhere.
        !actions.iter().any(|action| self.is_progress(s, action) && self.next_state(s, *action).is_some())
    }

    /// Whether the group knows that every lane is stored to its end.
    pub fn is_done(&self, s: &State) -> bool {
        let ends = |lane: &Lane| lane.committed.is_some_and(|c| c.position == self.setting.log_end && matches!(c.note, Note::Tidy(_)));
        s.lanes.iter().all(ends)
    }
}
