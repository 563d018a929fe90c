//! What a run of the model says: figures for reports, and the page of counterexamples.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use catchment::store::GuardClass;
use serde::Serialize;

use super::action::{Coverage, Event};
use super::mutants::Mutant;
use super::properties::Invariant;
use super::protocol::Protocol;
use super::search::{self, Counterexample};
use super::setting::Setting;
use super::settings::{CLASSES, Effort, setting_of, settings};
use super::tell;

/// Fewer states than this would be another model.
pub const STATES_MIN: usize = 1_000_000;

/// Steps between states after which the search for a mutant's counterexamples ends: some mutants never come to an end.
const MUTANT_TRANSITIONS_MAX: usize = 600_000;

/// What a run found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelReport {
    /// Distinct states, over all settings, up to the names of workers and lanes.
    pub states: usize,
    /// Invariants found broken, over all settings of the whole protocol.
    pub violations: usize,
    /// Guards that were taken away, one at a time.
    pub mutants: usize,
    /// Those of them that broke an invariant in some class.
    pub mutants_caught: usize,
    /// Each setting of the whole protocol.
    pub settings: Vec<SettingReport>,
    /// How often each event was seen in them.
    pub events: BTreeMap<String, u64>,
    /// Each mutant.
    pub broken: Vec<MutantReport>,
}

impl ModelReport {
    /// What is against the protocol, or too little to show anything: a run that goes round in circles, too few states, an event that never came. Of all
    /// settings; the quick ones are held to their ends alone.
    pub fn shortfalls(&self, effort: Effort) -> Vec<String> {
        let circles = self.settings.iter().filter(|s| !s.ends);
        let mut short: Vec<String> =
            circles.map(|s| format!("{} in class {:?}: a run without faults goes round in circles", s.name, s.class)).collect();
        if effort == Effort::Quick {
            return short;
        }
        if self.states < STATES_MIN {
            short.push(format!("only {} states", self.states));
        }
        let unseen =
            Event::ALL.iter().map(|event| format!("{event:?}")).filter(|event| self.events.get(event).is_none_or(|times| *times == 0));
        short.extend(unseen.map(|event| format!("never seen in any setting: {event}")));
        short
    }
}

/// What was found in one setting.
#[derive(Clone, Debug, Serialize)]
pub struct SettingReport {
    /// Its name.
    pub name: &'static str,
    /// The class of the store.
    pub class: GuardClass,
    /// Distinct states.
    pub states: usize,
    /// Steps from each of them.
    pub transitions: usize,
    /// Length of the longest of the shortest ways to a state.
    pub depth: usize,
    /// Whether every run without faults ends.
    pub ends: bool,
    /// What was found broken, with the way to it.
    pub violations: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// What became of the protocol without one guard.
#[derive(Clone, Debug, Serialize)]
pub struct MutantReport {
    /// The mutant.
    pub name: String,
    /// What it does.
    pub does: &'static str,
    /// Where it was tried.
    pub setting: &'static str,
    /// What it broke in each class, and in how many steps.
    pub broke: BTreeMap<GuardClass, Vec<(&'static str, usize)>>,
    /// The counterexample that says most, and its class.
    pub shown: Option<Shown>,
}

/// A counterexample in words.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The class of the store.
    pub class: GuardClass,
    /// The invariant that it breaks.
    pub invariant: &'static str,
    /// How.
    pub violation: String,
    /// Its steps.
    pub steps: Vec<String>,
}

/// Explores all settings and tries all mutants.
pub fn run(effort: Effort) -> ModelReport {
    let mut report = explore(effort);
    report.broken = try_mutants();
    report.mutants = report.broken.len();
    report.mutants_caught = report.broken.iter().filter(|mutant| mutant.shown.is_some()).count();
    report
}

/// The whole protocol, in all settings.
pub fn explore(effort: Effort) -> ModelReport {
    let coverage = Arc::new(Coverage::default());
    let settings = side_by_side(&settings(effort), |setting| explore_setting(*setting, &coverage));
    let events = Event::ALL.iter().map(|event| (format!("{event:?}"), coverage.of(*event))).collect();
    let states = settings.iter().map(|s| s.states).sum();
    let violations = settings.iter().map(|s| s.violations.len() + usize::from(!s.ends)).sum();
    ModelReport { states, violations, settings, events, ..ModelReport::default() }
}

fn explore_setting(setting: Setting, coverage: &Arc<Coverage>) -> SettingReport {
    let model = Protocol::new(setting, Arc::clone(coverage));
    let found = search::visit(&model, None);
    let ends = search::always_ends(&Protocol::new(setting, Arc::default()));
    SettingReport {
        name: setting.name,
        class: setting.put,
        states: found.states,
        transitions: found.transitions,
        depth: found.depth,
        ends,
        violations: found.broken.iter().map(in_words).collect(),
        seconds: found.took.as_secs_f64(),
    }
}

fn in_words(found: &Counterexample) -> String {
    format!("{}: {}\n{}", found.invariant.name(), found.violation, tell::lines(&found.path).join("\n"))
}

/// The protocol without each of its guards, in all classes.
pub fn try_mutants() -> Vec<MutantReport> {
    side_by_side(Mutant::ALL, |mutant| try_mutant(*mutant))
}

fn try_mutant(mutant: Mutant) -> MutantReport {
    let setting = setting_of(mutant);
    let mut report =
        MutantReport { name: format!("{mutant:?}"), does: mutant.does(), setting: setting.name, broke: BTreeMap::new(), shown: None };
    let mut shown: Option<(usize, Shown)> = None;
    for class in CLASSES {
        let found = search::visit(&Protocol::without(setting.in_class(class), mutant), Some(MUTANT_TRANSITIONS_MAX));
        report.broke.insert(class, found.broken.iter().map(|b| (b.invariant.name(), b.steps())).collect());
        let worst = found.broken.iter().min_by_key(|b| harm(b.invariant));
        if let Some(worst) = worst.filter(|b| shown.as_ref().is_none_or(|(least, _)| harm(b.invariant) < *least)) {
            let (invariant, violation, steps) = (worst.invariant.name(), worst.violation.clone(), tell::lines(&worst.path));
            shown = Some((harm(worst.invariant), Shown { class, invariant, violation, steps }));
        }
    }
    report.shown = shown.map(|(_, shown)| shown);
    report
}

/// Invariants that no mutant breaks, so that nobody knows whether they could be broken at all.
pub fn unbroken(mutants: &[MutantReport]) -> Vec<&'static str> {
    let broken: BTreeSet<&str> = mutants.iter().flat_map(|m| m.broke.values().flatten()).map(|(invariant, _)| *invariant).collect();
    Invariant::ALL.iter().map(|invariant| invariant.name()).filter(|name| !broken.contains(name)).collect()
}

/// What a reader of the bucket would suffer, the worst first.
fn harm(invariant: Invariant) -> usize {
    let order = [
        Invariant::NoLoss,
        Invariant::NoDuplicate,
        Invariant::Gapless,
        Invariant::Final,
        Invariant::Kept,
        Invariant::Progress,
        Invariant::OneIntent,
        Invariant::MissingPinned,
        Invariant::PinnedFirst,
    ];
    order.iter().position(|i| *i == invariant).unwrap_or(order.len())
}

/// Does a job for each item, several at a time; the results are in the items' order.
fn side_by_side<T: Sync, R: Send>(items: &[T], job: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((at, item)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?))) {
                    let result = job(item);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The page of counterexamples: what each guard is for.
pub fn page(mutants: &[MutantReport]) -> String {
    let mut page = String::from(
        "# What each guard is for\n\n\
         Written by the model (`tests/src/model/`, explained in [model.md](model.md)); `tests/tests/model.rs` compares this page with what the model\n\
         finds. Each guard of the commit protocol is taken away, one at a time, and the rest is explored breadth first, so that what is\n\
         shown is a shortest way to the damage. The table names what broke in each class of store, and in how many steps; an empty field means\n\
         that nothing broke there: the store's own guard, or another rule, stood in. Guards without a mutant stand in [model.md](model.md).\n\n\
         | mutant | A | B | C |\n| --- | --- | --- | --- |\n",
    );
    for mutant in mutants {
        let _ = write!(page, "| [{}](#{}) |", mutant.does, anchor(mutant.does));
        for class in CLASSES {
            let broke = mutant.broke.get(&class).map(Vec::as_slice).unwrap_or_default();
            let fields: Vec<String> = broke.iter().map(|(invariant, steps)| format!("{invariant} {steps}")).collect();
            let _ = write!(page, " {} |", fields.join(", "));
        }
        page.push('\n');
    }
    page += "\nKeys are written `d<directory>/<first offset>`; P is the committed offset, S the start of the next object.\n";
    for mutant in mutants {
        tell_mutant(&mut page, mutant);
    }
    page
}

fn tell_mutant(page: &mut String, mutant: &MutantReport) {
    let _ = write!(page, "\n## {}\n\n", mutant.does);
    let Some(shown) = &mutant.shown else {
        let _ = writeln!(page, "Nothing broke (`{}`).", mutant.name);
        return;
    };
    let _ = writeln!(page, "`{}`, {}, class {:?}: {} is broken.\n\n```text", mutant.name, mutant.setting, shown.class, shown.invariant);
    for (number, step) in (1..).zip(&shown.steps) {
        let _ = writeln!(page, "{number:2}  {step}");
    }
    let _ = writeln!(page, "    {}\n```", shown.violation);
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sufficient() -> ModelReport {
        let setting = SettingReport {
            name: "s",
            class: GuardClass::A,
            states: STATES_MIN,
            transitions: 0,
            depth: 0,
            ends: true,
            violations: Vec::new(),
            seconds: 0.0,
        };
        let events = Event::ALL.iter().map(|event| (format!("{event:?}"), 1)).collect();
        ModelReport { states: STATES_MIN, settings: vec![setting], events, ..ModelReport::default() }
    }

    #[test]
    fn circles_too_few_states_and_events_that_never_came_are_found() {
        assert_eq!(sufficient().shortfalls(Effort::Whole), [""; 0]);
        let mut damaged = sufficient();
        damaged.settings[0].ends = false;
        damaged.states -= 1;
        damaged.events.insert("Crashed".to_owned(), 0);
        damaged.events.remove("Paused");
        let found = damaged.shortfalls(Effort::Whole);
        assert_eq!((found.len(), damaged.shortfalls(Effort::Quick).len()), (4, 1), "{found:?}");
        assert!(found[0].contains("circles") && found[1].contains("999999 states") && found[2].contains("Crashed"), "{found:?}");
    }

    #[test]
    fn an_invariant_that_no_mutant_breaks_is_found() {
        let of = |class, broken: &[Invariant]| {
            let broke = BTreeMap::from([(class, broken.iter().map(|invariant| (invariant.name(), 1)).collect())]);
            MutantReport { name: "M".to_owned(), does: "does", setting: "s", broke, shown: None }
        };
        let (first, others) = Invariant::ALL.split_first().expect("there are invariants");
        let mutants = [of(GuardClass::A, others), of(GuardClass::C, &[*first])];
        assert_eq!(unbroken(&mutants), [""; 0]);
        assert_eq!(unbroken(&mutants[..1]), [first.name()]);
    }
}
