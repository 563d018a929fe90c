//! Sabotage: for each guard of the production code a run without it, which one of the layers must see.
//!
//! ```text
//!   table: guard -> layers --> `sabotaged` (the harness, built with the feature) with CATCHMENT_SABOTAGE=guard --> caught by, in seconds
//! ```
//!
//! The build is another one than that of the tests: its engine has the switches (`engine/src/sabotage.rs`), that of the tests and of the shipped
//! program has none. Each layer must first pass without a switch; else finding something would mean nothing. What is not shown: that one guard's
//! absence is seen by every layer.

pub mod table;

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::process::{Program, sabotaged_binary};
use table::{CASES, Case, Layer};

/// How long a guard's absence may stay unseen.
const LIMIT: Duration = Duration::from_secs(60);

/// How long one layer may take to end: many times what it needs with every guard in place.
const PATIENCE: Duration = Duration::from_secs(600);

/// Exit code of `sabotaged` when a layer has found something.
pub const FOUND: i32 = 1;

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
            writeln!(f, "{:16} {:24} {:5.1} s  {}", case.switch, by, case.seconds, case.what)?;
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
        .filter(|(_, run)| run.found)
        .map(|(layer, run)| format!("{layer}: {}", run.what))
        .collect()
}

fn run_case(case: &Case) -> SabotageCase {
    let began = Instant::now();
    let mut outcome = SabotageCase { switch: case.switch, caught_by: None, seconds: 0.0, what: String::new() };
    for layer in case.layers {
        let run = play(*layer, Some(case.switch));
        outcome.what = run.what;
        if run.found {
            outcome.caught_by = Some(layer.to_string());
            break;
        }
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome
}

struct Played {
    found: bool,
    what: String,
}

/// One layer in a process of its own. Whatever it ends with, but success and its own usage error, was seen: a finding, or an assertion.
fn play(layer: Layer, switch: Option<&str>) -> Played {
    let program = Program::of(sabotaged_binary(), layer.arguments());
    let exit = program.envs(switch.map(|switch| ("CATCHMENT_SABOTAGE", switch))).run(PATIENCE);
    assert_ne!(exit.code(), Some(2), "{}", exit.stderr);
    let text = if exit.code() == Some(FOUND) { &exit.stdout } else { &exit.stderr };
    Played { found: !exit.status.success(), what: text.lines().next().unwrap_or_default().chars().take(160).collect() }
}
