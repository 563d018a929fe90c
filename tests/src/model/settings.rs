//! The settings that are explored: what the protocol must stand, in each class of store, and one for each mutant.

use catchment::store::GuardClass;

use super::mutants::Mutant;
use super::setting::{Setting, Windows};
use super::state::Faults;

/// How much a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Of the families class C alone, where nothing but the fence holds, without the largest settings: half a minute.
    Quick,
    /// All classes, without the largest settings.
    Usual,
    /// All classes and settings: some minutes.
    Whole,
}

/// The classes, strongest first.
pub const CLASSES: [GuardClass; 3] = [GuardClass::A, GuardClass::B, GuardClass::C];

/// No faults.
const NONE: Faults = Setting::PLAIN.faults;

/// One of each that a run of weeks sees.
const USUAL: Faults = Faults { crashes: 1, pauses: 1, errors: 1, ..NONE };

/// The whole protocol must hold in all of these.
pub fn settings(effort: Effort) -> Vec<Setting> {
    let mut families = families();
    families.extend(crowds());
    if effort == Effort::Whole {
        families.extend(largest());
    }
    let classes = if effort == Effort::Quick { &CLASSES[2..] } else { &CLASSES[..] };
    let of_one_class = families.iter().flat_map(|family| classes.iter().map(|class| family.in_class(*class)));
    of_one_class.chain(of_two_classes()).chain(of_other_manners()).collect()
}

/// Stores whose operations have guards of different worth: Ceph's guards a PUT and no Complete.
fn of_two_classes() -> [Setting; 2] {
    let faults = Faults { retentions: 1, short_lists: 1, crashes: 1, pauses: 1, ..NONE };
    let mixed = Setting { windows: Windows::Mixed, log_end: 1, faults, ..Setting::PLAIN };
    [
        Setting { name: "only a PUT is guarded", put: GuardClass::A, complete: GuardClass::C, repeats_complete: false, ..mixed },
        Setting { name: "only a Complete is guarded", put: GuardClass::C, complete: GuardClass::A, ..mixed },
    ]
}

/// Stores of the weaker classes that answer a repeated Complete with success, whatever stands there by then.
fn of_other_manners() -> [Setting; 2] {
    let faults = Faults { lost_uploads: 1, ..USUAL };
    let multipart = Setting { windows: Windows::Multipart, log_end: 1, faults, ..Setting::PLAIN };
    [GuardClass::B, GuardClass::C].map(|class| Setting {
        name: "a Complete repeated as on AWS",
        repeats_complete: true,
        ..multipart.in_class(class)
    })
}

/// More than two workers, more than one lane, or both.
fn crowds() -> [Setting; 6] {
    let calm = Faults { errors: 0, ..USUAL };
    let lost = Faults { lost_uploads: 1, ..NONE };
    let put = Setting { log_end: 1, ..Setting::PLAIN };
    let multipart = Setting { windows: Windows::Multipart, ..put };
    let both = Setting { workers: 3, lanes: 2, ..put };
    [
        Setting { name: "three workers", workers: 3, log_end: 2, faults: USUAL, ..put },
        Setting { name: "three workers, multipart", workers: 3, faults: Faults { lost_uploads: 1, ..USUAL }, ..multipart },
        Setting { name: "two lanes, eager", lanes: 2, faults: calm, ..put },
        Setting { name: "two lanes, multipart", lanes: 2, faults: Faults { crashes: 1, ..lost }, ..multipart },
        Setting { name: "three workers, two lanes, crash", faults: Faults { crashes: 1, errors: 1, ..NONE }, ..both },
        Setting { name: "three workers, two lanes, multipart", windows: Windows::Multipart, faults: Faults { crashes: 1, ..lost }, ..both },
    ]
}

/// Two lanes and a worker that is frozen: about a million states in each class.
fn largest() -> [Setting; 2] {
    let faults = Faults { pauses: 1, ..NONE };
    let lanes = Setting { lanes: 2, log_end: 1, faults, ..Setting::PLAIN };
    let uploads = Setting { windows: Windows::Multipart, faults: Faults { lost_uploads: 1, ..faults }, ..lanes };
    [Setting { name: "three workers, two lanes, frozen", workers: 3, ..lanes }, Setting { name: "two lanes, multipart, frozen", ..uploads }]
}

fn families() -> Vec<Setting> {
    let put = Setting { faults: USUAL, ..Setting::PLAIN };
    let multipart = Setting { windows: Windows::Multipart, ..put };
    let mixed = Setting { windows: Windows::Mixed, log_end: 1, ..put };
    let calm = Faults { errors: 0, ..USUAL };
    // Uploads that could still be completed are given up because Kafka has less (rule R5c).
    let given_up = Faults { retentions: 1, short_lists: 1, ..USUAL };
    vec![
        Setting { name: "two workers", faults: Faults { errors: 2, ..USUAL }, ..put },
        Setting { name: "two lanes, cooperative", lanes: 2, log_end: 1, cooperative: true, faults: Faults { pauses: 0, ..USUAL }, ..put },
        Setting { name: "multipart", faults: Faults { lost_uploads: 1, ..USUAL }, ..multipart },
        Setting { name: "parts not listed", log_end: 1, faults: Faults { lost_uploads: 1, short_lists: 1, ..USUAL }, ..multipart },
        Setting { name: "compaction", faults: Faults { compactions: 1, ..USUAL }, ..put },
        Setting { name: "compaction, multipart", faults: Faults { compactions: 1, ..USUAL }, ..multipart },
        Setting { name: "retention", faults: Faults { retentions: 1, ..USUAL }, ..put },
        Setting { name: "retention, multipart", log_end: 1, faults: Faults { retentions: 1, lost_uploads: 1, ..calm }, ..multipart },
        Setting { name: "retention, mixed", faults: Faults { retentions: 1, lost_uploads: 1, ..calm }, ..mixed },
        Setting { name: "retention, parts not listed", faults: given_up, ..mixed },
        Setting { name: "retention, parts not listed, multipart", log_end: 1, faults: given_up, ..multipart },
        Setting { name: "outage", faults: Faults { outages: 1, ..USUAL }, ..put },
        Setting { name: "outage, multipart", faults: Faults { outages: 1, ..calm }, ..multipart },
        Setting { name: "outage and retention", faults: Faults { outages: 1, retentions: 1, ..calm }, ..mixed },
        Setting { name: "offsets forgotten", faults: Faults { expiries: 1, ..calm }, ..put },
        Setting { name: "offsets forgotten, multipart", faults: Faults { expiries: 1, ..calm }, ..multipart },
        Setting { name: "records that nobody sees", log_end: 3, invisible: 0b101, ..put },
        Setting { name: "the group goes back", faults: Faults { regressions: 1, ..USUAL }, ..put },
        Setting { name: "the group goes back, multipart", faults: Faults { regressions: 1, ..calm }, ..multipart },
    ]
}

/// Where a mutant is tried, in all classes: small worlds that hold what its guard is for.
pub fn setting_of(mutant: Mutant) -> Setting {
    let crash = Setting { name: "two crashes", faults: Faults { crashes: 2, ..NONE }, ..Setting::PLAIN };
    let pause = Setting { name: "a frozen worker", faults: Faults { pauses: 1, ..NONE }, ..Setting::PLAIN };
    let error = Setting { name: "a lost answer", faults: Faults { errors: 1, ..NONE }, ..Setting::PLAIN };
    let retention = Faults { retentions: 1, ..NONE };
    let retention = Setting { name: "retention and a crash", log_end: 1, faults: Faults { crashes: 1, ..retention }, ..Setting::PLAIN };
    let back = Faults { regressions: 1, crashes: 1, errors: 1, ..NONE };
    match mutant {
        Mutant::NoFence => pause,
        Mutant::NewKey | Mutant::NoWait | Mutant::StartAtLogStart => retention,
        Mutant::NoWaitBehindGuard | Mutant::KeepUpload => {
            let faults = Faults { short_lists: 1, ..retention.faults };
            Setting { name: "retention and a crash, parts not listed", windows: Windows::Multipart, faults, ..retention }
        }
        Mutant::GiveUpUnasked => {
            let faults = Faults { crashes: 0, pauses: 1, short_lists: 1, ..retention.faults };
            Setting { name: "retention and a frozen worker, parts not listed", windows: Windows::Multipart, faults, ..retention }
        }
        Mutant::LessWithoutPin => {
            let faults = Faults { crashes: 0, pauses: 1, ..retention.faults };
            Setting { name: "retention and a frozen worker", faults, ..retention }
        }
        Mutant::AdoptWithoutCompare | Mutant::NoFirstLook | Mutant::DeniedIsAbsent => {
            Setting { name: "the group goes back", faults: back, ..Setting::PLAIN }
        }
        Mutant::NoRenewal => {
            let faults = Faults { expiries: 1, pauses: 1, crashes: 1, ..NONE };
            Setting { name: "offsets forgotten and a frozen worker", faults, ..Setting::PLAIN }
        }
        Mutant::AbortYoung | Mutant::GoneIsDone => Setting { name: "multipart and a frozen worker", windows: Windows::Multipart, ..pause },
        Mutant::NoLookAgain => Setting { name: "retention and a crash, multipart", windows: Windows::Multipart, ..retention },
        Mutant::AnyParts => {
            let faults = Faults { short_lists: 1, ..NONE };
            Setting { name: "parts not listed", log_end: 1, windows: Windows::Multipart, faults, ..Setting::PLAIN }
        }
        Mutant::UnknownIsDone | Mutant::NoRepeat => error,
        Mutant::NoRestart => Setting { name: "a commit of the generation before", lanes: 2, log_end: 1, cooperative: true, ..error },
        Mutant::NoPin
        | Mutant::PublishBeforePin
        | Mutant::AsynchronousPin
        | Mutant::NewEnd
        | Mutant::TidyBeforeSettle
        | Mutant::TidyOfDeadLane
        | Mutant::PinOfDeadLane
        | Mutant::RecommitOverIntent => crash,
    }
}
