//! The promise under faults far more frequent than life, by seed: `tests/src/simulation/`.
//!
//! A failure names its seeds and the command that runs each one again with its trace.

use catchment_tests::simulation::plan::Scope;
use catchment_tests::simulation::{SEEDS_JUDGED, SimulationReport, replay, run, run_seed};

/// Seeds of an ordinary run, and of a long one.
const SEEDS: (u64, u64) = (SEEDS_JUDGED, 20_000);

/// What was found in the first few seeds that ended badly, and how to run them again.
fn findings(report: &SimulationReport) -> String {
    let first = report.findings.iter().take(5);
    first.map(|(seed, what)| format!("\n{}\n    {}", replay(*seed, Scope::Every), what.join("\n    "))).collect()
}

#[test]
fn nothing_is_lost_duplicated_or_altered() {
    let full = std::env::var_os("CATCHMENT_TEST_FULL").is_some();
    let report = run(0, if full { SEEDS.1 } else { SEEDS.0 }, Scope::Every);
    println!("{} seeds, {} faults: {:?}", report.seeds, report.faults, report.by_fault);
    println!("{} records compared, {} excused", report.compared, report.excused);
    println!("killed in {:?}; {:?}", report.crashes, report.uploads);
    assert!(report.findings.is_empty(), "{} seeds ended badly:{}", report.findings.len(), findings(&report));
    assert_eq!((report.lost, report.duplicated, report.altered), (0, 0, 0));
    let twofold: Vec<String> = report.twofold.iter().map(|seed| replay(*seed, Scope::Every)).collect();
    assert_eq!(twofold, [""; 0], "these gave two traces");
    assert!(report.deterministic && report.faults >= 40_000, "{} faults", report.faults);
    assert_eq!(report.shortfalls(), [""; 0], "every fault is felt, every operation killed in and what kills leave cleaned up often enough");
}

/// Nothing of a process gets into a trace: not its hash seeds, its time zone or where it runs.
#[test]
fn a_trace_is_the_same_in_other_processes() {
    for seed in 1..=3 {
        let here = run_seed(seed, Scope::Every, true).trace.join("\n") + "\n";
        for zone in ["Asia/Shanghai", "America/Lima"] {
            let dir = tempfile::tempdir().expect("a directory");
            let mut simulate = std::process::Command::new(env!("CARGO_BIN_EXE_simulate"));
            let there = simulate.args(["--seed", &seed.to_string()]).env("TZ", zone).current_dir(&dir).output().expect("it runs");
            assert!(there.status.success(), "{}", replay(seed, Scope::Every));
            assert!(there.stdout == here.as_bytes(), "another trace in {zone}: {}", replay(seed, Scope::Every));
        }
    }
}

#[test]
fn a_trace_is_the_same_byte_for_byte() {
    for (seed, scope) in (1..=5).flat_map(|seed| [(seed, Scope::Settled), (seed, Scope::Every)]) {
        let (one, two) = (run_seed(seed, scope, true), run_seed(seed, scope, true));
        assert!(one.trace.len() > 50 && one.trace == two.trace, "{}", replay(seed, scope));
    }
}
