//! Sabotage: for each guard of the production code a run without it, which one of the layers must see.
//!
//! ```text
//!   table: guard -> layers --> `sabotaged` (the harness, built with the feature) with CATCHMENT_SABOTAGE=guard --> caught by, in seconds
//! ```
//!
//! The build is another one than that of the tests: its engine has the switches (`engine/protocol/src/sabotage.rs`) and the crash points, that of the tests and of
//! the shipped program has neither. Each layer must first pass without a switch; else finding something would mean nothing. A guard's absence is caught when a layer ends by
//! saying what it has found, and that is what the table expects of it: a harness that panics, runs out of memory or finds something else has caught nothing.
//! What is not shown: that one guard's absence is seen by every layer.

pub mod table;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::process::{Exit, Program, sabotaged_binary};
use crate::stopwatch::Stopwatch;
use table::{CASES, Case, Layer};

/// Guards that are taken out, at least.
pub const GUARDS_MIN: u32 = 12;

/// How long a guard's absence may stay unseen.
const LIMIT: Duration = Duration::from_secs(60);

/// How long one layer may take to end: many times what it needs with every guard in place.
const PATIENCE: Duration = Duration::from_secs(600);

/// Exit code of `sabotaged` when a layer has found something.
pub const FOUND: u8 = 10;

/// What became of one guard's absence.
#[derive(Clone, Debug, Serialize)]
pub struct SabotageCase {
    /// The switch.
    pub switch: &'static str,
    /// The layer that saw it, if one did.
    pub caught_by: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// What was seen, in a line.
    pub what: String,
}

/// What became of all of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SabotageReport {
    /// Guards that were taken out.
    pub builds: u32,
    /// Those whose absence was seen in time.
    pub caught: u32,
    /// The slowest, in seconds.
    pub slowest_s: f64,
    /// Layers that found something with every guard in place, which must be none.
    pub false_alarms: Vec<String>,
    /// Guard by guard.
    pub cases: Vec<SabotageCase>,
}

impl SabotageReport {
    /// The guards whose absence was not seen, or not in time.
    pub fn late(&self) -> impl Iterator<Item = &SabotageCase> {
        self.cases.iter().filter(|case| !case.is_caught())
    }
}

impl SabotageCase {
    fn is_caught(&self) -> bool {
        self.caught_by.is_some() && self.seconds < LIMIT.as_secs_f64()
    }
}

impl fmt::Display for SabotageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.cases {
            let by = case.caught_by.as_deref().unwrap_or("NOT CAUGHT");
            writeln!(f, "{:17} {:24} {:5.1} s  {}", case.switch, by, case.seconds, case.what)?;
        }
        write!(f, "{} of {} caught, the slowest in {:.1} s", self.caught, self.builds, self.slowest_s)
    }
}

/// Takes out each guard whose name contains `filter`, one after the other.
///
/// # Panics
/// If the build fails, or a layer does not come to an end.
pub fn run(filter: &str) -> SabotageReport {
    let cases: Vec<&Case> = CASES.iter().filter(|case| case.switch.contains(filter)).collect();
    let mut report = SabotageReport { false_alarms: false_alarms(&cases), ..SabotageReport::default() };
    for case in cases {
        let outcome = run_case(case);
        report.builds += 1;
        report.caught += u32::from(outcome.is_caught());
        report.slowest_s = report.slowest_s.max(outcome.seconds);
        report.cases.push(outcome);
    }
    report
}

/// The layers that find something although nothing is taken out.
fn false_alarms(cases: &[&Case]) -> Vec<String> {
    let mut layers: Vec<Layer> = cases.iter().flat_map(|case| case.layers.iter().copied()).collect();
    layers.sort_unstable();
    layers.dedup();
    layers
        .into_iter()
        .map(|layer| (layer, play(layer, None)))
        .filter(|(_, ending)| *ending != Ending::Nothing)
        .map(|(layer, ending)| format!("{layer}: {ending}"))
        .collect()
}

fn run_case(case: &Case) -> SabotageCase {
    let watch = Stopwatch::start();
    let mut outcome = SabotageCase { switch: case.switch, caught_by: None, seconds: 0.0, what: String::new() };
    for layer in case.layers {
        let ending = play(*layer, Some(case.switch));
        let caught = ending.finding(case.findings);
        outcome.what = short(caught.map_or_else(|| ending.to_string(), str::to_owned));
        if caught.is_some() {
            outcome.caught_by = Some(layer.to_string());
            break;
        }
    }
    outcome.seconds = watch.elapsed().as_secs_f64();
    outcome
}

/// How a layer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    /// It found nothing.
    Nothing,
    /// It found this.
    Found(Vec<String>),
    /// It broke: nobody knows what it would have found.
    Broke(String),
}

impl Ending {
    fn of(exit: &Exit) -> Self {
        match exit.code() {
            Some(0) => Self::Nothing,
            Some(code) if code == i32::from(FOUND) => Self::Found(exit.stdout.lines().map(str::to_owned).collect()),
            _ => Self::Broke(format!("{}: {}", exit.status, exit.stderr.lines().next().unwrap_or_default())),
        }
    }

    /// The finding that says one of what was expected.
    fn finding(&self, expected: &[&str]) -> Option<&str> {
        let Self::Found(findings) = self else { return None };
        findings.iter().map(String::as_str).find(|finding| expected.iter().any(|text| finding.contains(text)))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("found nothing"),
            Self::Found(findings) => write!(f, "found {}", findings.first().map_or("something and does not say what", String::as_str)),
            Self::Broke(how) => write!(f, "broke: {how}"),
        }
    }
}

/// The beginning of a long text.
fn short(text: String) -> String {
    text.chars().take(160).collect()
}

/// One layer in a process of its own.
fn play(layer: Layer, switch: Option<&str>) -> Ending {
    let program = Program::of(sabotaged_binary(), layer.arguments());
    let exit = program.envs(switch.map(|switch| ("CATCHMENT_SABOTAGE", switch))).run(PATIENCE);
    assert_ne!(exit.code(), Some(2), "{}", exit.stderr);
    Ending::of(&exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(script: &str) -> Ending {
        Ending::of(&Program::of("/bin/sh".as_ref(), ["-c", script]).run(LIMIT))
    }

    #[test]
    fn only_a_finding_of_the_expected_kind_catches() {
        let found = ended("echo 'seed 1: slow'; echo 'seed 2: 3 lost'; exit 10");
        assert_eq!(found.finding(&["lost"]), Some("seed 2: 3 lost"));
        assert_eq!(found.finding(&["altered"]), None);
        assert_eq!(ended("echo lost; exit 0"), Ending::Nothing);
        for broken in ["echo lost; exit 101", "echo lost; exit 1", "echo lost; kill -9 $$"] {
            let ending = ended(broken);
            assert!(matches!(ending, Ending::Broke(_)) && ending.finding(&["lost"]).is_none(), "{broken}: {ending}");
        }
    }
}
