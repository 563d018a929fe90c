//! `proof --json [--quick]` runs every layer of the proof and prints one JSON object of what it has just seen; `proof --seed N [--settled]` runs one
//! simulation again and prints its trace. Without `--json` the figures come as a table. Exit 1 if a layer found anything, or met too little to show anything.
//!
//! `--quick` takes fewer seeds, the small settings of the model, the first two passages of each point and no frozen processes; the cells are all played
//! in both. What it does not run: the tests against real servers, which `scripts/test` does.

use std::process::ExitCode;

use catchment_tests::model::Effort;
use catchment_tests::s3_cells::S3CellsReport;
use catchment_tests::simulation::plan::Scope;
use catchment_tests::simulation::run_seed;
use catchment_tests::{crashes, kafka_cells, model, s3_cells, sabotage, simulation};
use serde::Serialize;

/// Seeds of the simulation, and of the quick one.
const SEEDS: (u64, u64) = (2_000, 400);

#[derive(Serialize)]
struct Proof {
    simulation: Simulation,
    model: Model,
    kills: Kills,
    s3_cells: Cells,
    kafka_cells: Cells,
    sabotage: Sabotage,
}

#[derive(Serialize)]
struct Simulation {
    seeds: u64,
    faults: u64,
    lost: u64,
    duplicated: u64,
    altered: u64,
    deterministic: bool,
}

#[derive(Serialize)]
struct Model {
    states: usize,
    violations: usize,
    mutants: usize,
    mutants_caught: usize,
}

#[derive(Serialize)]
struct Kills {
    points: usize,
    kills: u32,
    lost: u64,
    duplicated: u64,
}

#[derive(Serialize)]
struct Cells {
    cells: usize,
    failed: usize,
}

#[derive(Serialize)]
struct Sabotage {
    builds: u32,
    caught: u32,
    slowest_s: f64,
}

impl Cells {
    /// All are played, and all must pass; those whose trouble stands for another one are not counted.
    fn of_s3(report: &S3CellsReport) -> Self {
        Self { cells: report.cells - report.replaced, failed: report.failed }
    }
}

/// What was found, in words, beside the figures.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn note(&mut self, layer: &str, what: impl IntoIterator<Item = String>) {
        self.0.extend(what.into_iter().map(|what| format!("{layer}: {what}")));
    }

    /// What the process ends with.
    fn exit(&self) -> u8 {
        u8::from(!self.0.is_empty())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|a| a == flag);
    if let Some(at) = arguments.iter().position(|a| a == "--seed") {
        let Some(seed) = arguments.get(at + 1).and_then(|n| n.parse().ok()) else { return usage() };
        return replay(seed, if has("--settled") { Scope::Settled } else { Scope::Every });
    }
    if arguments.iter().any(|a| !["--json", "--quick"].contains(&a.as_str())) {
        return usage();
    }
    let mut findings = Findings::default();
    let proof = prove(has("--quick"), &mut findings);
    let text = if has("--json") { serde_json::to_string(&proof) } else { serde_json::to_string_pretty(&proof) };
    println!("{}", text.expect("figures are plain JSON"));
    for finding in &findings.0 {
        eprintln!("{finding}");
    }
    ExitCode::from(findings.exit())
}

fn usage() -> ExitCode {
    eprintln!("say --json [--quick], or --seed N [--settled]");
    ExitCode::from(2)
}

fn replay(seed: u64, scope: Scope) -> ExitCode {
    let outcome = run_seed(seed, scope, true);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    ExitCode::from(u8::from(!outcome.verdict.is_good()))
}

fn prove(quick: bool, findings: &mut Findings) -> Proof {
    Proof {
        simulation: simulate(if quick { SEEDS.1 } else { SEEDS.0 }, findings),
        model: check_model(if quick { Effort::Quick } else { Effort::Whole }, findings),
        kills: kill(quick, findings),
        s3_cells: play_s3(findings),
        kafka_cells: play_kafka(findings),
        sabotage: take_guards_out(findings),
    }
}

fn simulate(seeds: u64, findings: &mut Findings) -> Simulation {
    progress("simulation");
    let report = simulation::run(0, seeds, Scope::Every);
    findings.note("simulation", report.shortfalls());
    findings.note("simulation", report.findings.iter().map(|(seed, what)| format!("seed {seed}: {what:?}")));
    if !report.deterministic {
        findings.note("simulation", ["a seed that was run twice gave two traces".to_owned()]);
    }
    let simulation::SimulationReport { seeds, faults, lost, duplicated, altered, deterministic, .. } = report;
    Simulation { seeds, faults, lost, duplicated, altered, deterministic }
}

fn check_model(effort: Effort, findings: &mut Findings) -> Model {
    progress("model");
    let report = model::run(effort);
    findings.note("model", report.shortfalls(effort));
    findings.note("model", report.settings.iter().flat_map(|s| s.violations.iter().map(move |v| format!("{} {:?}: {v}", s.name, s.class))));
    findings
        .note("model", report.broken.iter().filter(|m| m.broke.values().all(Vec::is_empty)).map(|m| format!("{} breaks nothing", m.name)));
    let unbroken = model::report::unbroken(&report.broken);
    findings.note("model", unbroken.into_iter().map(|name| format!("no mutant breaks {name}, so it may be void")));
    let model::ModelReport { states, violations, mutants, mutants_caught, .. } = report;
    Model { states, violations, mutants, mutants_caught }
}

fn kill(quick: bool, findings: &mut Findings) -> Kills {
    progress("kills");
    let report = crashes::run("", u32::from(!quick));
    findings.note("kills", report.failures.iter().map(|f| format!("{}: {}", f.id, f.why)));
    if !quick {
        findings.note("kills", report.shortfalls());
        progress("frozen processes");
        let frozen = crashes::sleepers::run("");
        findings.note("frozen processes", frozen.shortfalls());
        findings.note("frozen processes", frozen.failures.iter().map(|f| format!("{}: {}", f.id, f.why)));
    }
    Kills { points: report.points, kills: report.kills, lost: report.lost, duplicated: report.duplicated }
}

fn play_s3(findings: &mut Findings) -> Cells {
    progress("cells of the S3 server");
    let report = s3_cells::run("", 1);
    findings.note("s3", report.results.iter().flat_map(|cell| cell.failures.iter().map(move |why| format!("{}: {why}", cell.id))));
    let cells = Cells::of_s3(&report);
    findings.note("s3", too_few("cells", cells.cells, s3_cells::OWN_CELLS_MIN));
    cells
}

fn play_kafka(findings: &mut Findings) -> Cells {
    progress("cells of the Kafka rows");
    let report = kafka_cells::run("");
    findings.note("kafka", report.strangely_unseen(true).into_iter().map(|id| format!("{id}: is its subject to be seen or not?")));
    findings.note("kafka", report.failures.iter().map(|f| format!("{}: {}; {}", f.id, f.why, kafka_cells::replay(&f.id))));
    findings.note("kafka", too_few("cells", report.cells as usize, kafka_cells::CELLS_MIN));
    Cells { cells: report.cells as usize, failed: report.failed as usize }
}

fn take_guards_out(findings: &mut Findings) -> Sabotage {
    progress("sabotage");
    let report = sabotage::run("");
    findings.note("sabotage", report.false_alarms.iter().cloned());
    findings.note("sabotage", report.late().map(|case| format!("{} was not missed in time", case.switch)));
    findings.note("sabotage", too_few("guards", report.builds as usize, sabotage::GUARDS_MIN as usize));
    Sabotage { builds: report.builds, caught: report.caught, slowest_s: report.slowest_s }
}

/// A list that was cut short proves less than it says.
fn too_few(what: &str, n: usize, min: usize) -> Option<String> {
    (n < min).then(|| format!("only {n} {what} of at least {min}"))
}

fn progress(layer: &str) {
    eprintln!("{layer} ...");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_whose_trouble_was_replaced_are_not_counted() {
        let report = S3CellsReport { cells: 10, replaced: 3, failed: 2, ..S3CellsReport::default() };
        let Cells { cells, failed } = Cells::of_s3(&report);
        assert_eq!((cells, failed), (7, 2));
    }

    #[test]
    fn a_list_that_was_cut_short_is_a_finding() {
        assert_eq!(too_few("cells", 671, 672), Some("only 671 cells of at least 672".to_owned()));
        assert_eq!(too_few("cells", 672, 672), None);
    }

    /// What exits with 1 must have said why.
    #[test]
    fn whatever_a_layer_notes_is_a_finding() {
        let mut findings = Findings::default();
        findings.note("model", []);
        assert_eq!(findings.exit(), 0);
        findings.note("model", ["only 5 states".to_owned()]);
        assert_eq!((findings.exit(), findings.0), (1, vec!["model: only 5 states".to_owned()]));
    }

    /// Scripts read these names.
    #[test]
    fn the_figures_have_the_names_that_were_promised() {
        let proof = Proof {
            simulation: Simulation { seeds: 1, faults: 2, lost: 3, duplicated: 4, altered: 5, deterministic: true },
            model: Model { states: 6, violations: 7, mutants: 8, mutants_caught: 9 },
            kills: Kills { points: 10, kills: 11, lost: 12, duplicated: 13 },
            s3_cells: Cells { cells: 14, failed: 15 },
            kafka_cells: Cells { cells: 16, failed: 17 },
            sabotage: Sabotage { builds: 18, caught: 19, slowest_s: 20.5 },
        };
        let promised = concat!(
            r#"{"simulation":{"seeds":1,"faults":2,"lost":3,"duplicated":4,"altered":5,"deterministic":true},"#,
            r#""model":{"states":6,"violations":7,"mutants":8,"mutants_caught":9},"#,
            r#""kills":{"points":10,"kills":11,"lost":12,"duplicated":13},"#,
            r#""s3_cells":{"cells":14,"failed":15},"kafka_cells":{"cells":16,"failed":17},"#,
            r#""sabotage":{"builds":18,"caught":19,"slowest_s":20.5}}"#
        );
        assert_eq!(serde_json::to_string(&proof).unwrap(), promised);
    }
}
