//! The list of cells: which point, at which passage, with which kind of object and class of the store's guard, after what.

use std::collections::BTreeSet;

use catchment::crash::Point;
use catchment::store::GuardClass;

use super::bench::{Form, Format, Sending};
use super::scenario::Scenario;
use super::visible::TOPICS;

/// Every class of a guard.
pub(super) const CLASSES: [GuardClass; 3] = [GuardClass::A, GuardClass::B, GuardClass::C];

/// One kill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) point: Point,
    /// At which passage of the point, from 1.
    passage: u32,
    /// Which kind of passage that is.
    turn: Turn,
    pub(super) form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    First,
    Second,
    /// A random later one, with the number of the round.
    Random(u32),
}

impl Cell {
    /// What it is called.
    pub(super) fn id(&self) -> String {
        let turn = match self.turn {
            Turn::First => "1st".to_owned(),
            Turn::Second => "2nd".to_owned(),
            Turn::Random(round) => format!("random{round}"),
        };
        format!("{}.{}.{turn}", self.point.name(), self.form.name())
    }

    /// What `CATCHMENT_CRASH` says.
    pub(super) fn order(&self) -> String {
        format!("{}:{}", self.point.name(), self.passage)
    }

    /// The class of the store's guard: another one at each passage, so that every point is met in all three with every kind of object.
    pub(super) fn class(&self) -> GuardClass {
        let turn = match self.turn {
            Turn::First => 0,
            Turn::Second => 1,
            Turn::Random(round) => 1 + round as usize,
        };
        CLASSES[turn % CLASSES.len()]
    }

    /// Whether uploads of the dead process are too old to be alive when the next one comes: in every second cell of a passage, and the
    /// other way round at the next.
    pub(super) fn is_found_late(&self) -> bool {
        (self.form.format == Format::Parquet) != (self.turn == Turn::Second)
    }

    /// What the process that is killed finds.
    pub(super) fn scenario(&self) -> Scenario {
        scenario_of(self.point, self.form.sending)
    }

    /// The command that runs it again.
    pub(super) fn replay(&self) -> String {
        let rounds = if let Turn::Random(round) = self.turn { round } else { 1 };
        let (variables, test) = (format!("CRASH_CELL={} CRASH_ROUNDS={rounds}", self.id()), "a_kill_at_any_point");
        format!("{variables} cargo test --release --workspace --test crashes -- {test} --nocapture")
    }
}

/// Whether the store of a cell lists uploads that were completed: those that are known to do so have no guard for a Complete either. Nothing is aborted
/// there, so that the point before an abort is not passed.
pub(super) fn lists_completed(point: Point, form: Form, class: GuardClass) -> bool {
    let is_raw_upload = form == Form { sending: Sending::Multipart, format: Format::Raw };
    is_raw_upload && class == GuardClass::C && point != Point::BeforeAbortReplaced
}

/// What a process finds that is to come to a point.
pub(super) fn scenario_of(point: Point, sending: Sending) -> Scenario {
    use Point as P;
    match point {
        P::BeforeLook | P::AfterLook => Scenario::Unanswered,
        P::BeforeAdopt | P::AfterAdopt => Scenario::Standing,
        P::BeforeGiveUp | P::AfterOutwait => Scenario::Overtaken,
        P::BeforeIntentLook | P::BeforeListParts | P::BeforeLateComplete | P::AfterLateComplete => Scenario::Pinned,
        P::BeforeReadAgain | P::BeforeRepublish | P::AfterRepublish if sending == Sending::Put => Scenario::Pinned,
        P::BeforeReadAgain | P::BeforeRepublish | P::AfterRepublish | P::BeforeAbortReplaced => Scenario::UploadGone,
        _ => Scenario::Fresh,
    }
}

/// Whether the protocol has this point for such objects.
pub(super) fn makes_sense(point: Point, form: Form) -> bool {
    use Point as P;
    match point {
        P::BeforeCreateUpload
        | P::AfterCreateUpload
        | P::PartSent
        | P::AfterPart
        | P::BeforeListParts
        | P::BeforeLateComplete
        | P::AfterLateComplete
        | P::BeforeGiveUp
        // Nobody waits for a single PUT behind an atomic guard.
        | P::AfterOutwait
        | P::BeforeAbortReplaced => form.sending == Sending::Multipart,
        // Parquet says itself what it is, and the metadata of a PUT does.
        P::BeforeRecord | P::AfterRecord => form.sending == Sending::Multipart && form.format == Format::Raw,
        _ => true,
    }
}

/// How often a run surely passes a point: once a lane, or once a window, of which a lane has three.
fn passages(point: Point, form: Form) -> u32 {
    use Point as P;
    let lanes = u32::try_from(TOPICS).expect("a small number");
    match point {
        P::PartSent | P::AfterPart => 5 * 3 * lanes,
        P::BeforeCreateUpload
        | P::AfterCreateUpload
        | P::BeforePin
        | P::PinSent
        | P::AfterPin
        | P::BeforeRecord
        | P::AfterRecord
        | P::BeforePublish
        | P::PublishSent
        | P::AfterPublish => 3 * lanes,
        // An upload whose answer is lost is looked for, and so is each object of a PUT.
        P::BeforeLook | P::AfterLook if form.sending == Sending::Put => 3 * lanes,
        _ => lanes,
    }
}

/// All cells, and the names of those that make no sense.
pub(super) fn all(rounds: u32) -> (Vec<Cell>, BTreeSet<String>) {
    let (mut cells, mut senseless) = (Vec::new(), BTreeSet::new());
    for point in Point::ALL.iter().copied() {
        for form in Form::ALL {
            if !makes_sense(point, form) {
                senseless.insert(format!("{}.{}", point.name(), form.name()));
                continue;
            }
            let turns = [Turn::First, Turn::Second].into_iter().chain((1..=rounds).map(Turn::Random));
            cells.extend(turns.map(|turn| Cell { point, passage: passage(point, form, turn), turn, form }));
        }
    }
    (cells, senseless)
}

fn passage(point: Point, form: Form, turn: Turn) -> u32 {
    match turn {
        Turn::First => 1,
        Turn::Second => 2,
        Turn::Random(round) => {
            let seed = point.name().bytes().chain(form.name().bytes()).fold(u64::from(round), |h, b| h.wrapping_mul(31) + u64::from(b));
            fastrand::Rng::with_seed(seed).u32(3..=passages(point, form))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_three_hundred_kills_and_each_has_a_name() {
        let (cells, senseless) = all(1);
        let names: BTreeSet<String> = cells.iter().map(Cell::id).collect();
        assert!(cells.len() >= 300 && names.len() == cells.len(), "{} cells, {} names", cells.len(), names.len());
        assert_eq!(cells.len() / 3 + senseless.len(), Point::ALL.len() * Form::ALL.len());
        assert!(Point::ALL.len() >= 25);
        assert_eq!(senseless.len(), 26, "who takes a cell out of the list says so here: {senseless:?}");
    }

    #[test]
    fn each_point_is_met_in_each_class_and_before_and_after_uploads_are_too_old() {
        for cells in all(1).0.chunks(3) {
            assert_eq!(cells.iter().map(Cell::class).collect::<Vec<_>>(), CLASSES, "{}", cells[0].id());
            assert!(cells.iter().any(Cell::is_found_late) && !cells.iter().all(Cell::is_found_late), "{}", cells[0].id());
        }
    }
}
