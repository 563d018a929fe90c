//! The promise under faults far more frequent than life, by seed: `tests/src/simulation/`.
//!
//! A failure names its seeds. `cargo run --release -p catchment-tests --bin simulate -- --seed N` runs one again and prints its trace.

use catchment_tests::simulation::plan::Scope;
use catchment_tests::simulation::{run, run_seed};

const SEEDS: u64 = 2_000;

#[test]
fn nothing_is_lost_duplicated_or_altered() {
    let report = run(0, SEEDS, Scope::Every);
    println!("{} seeds, {} faults: {:?}", report.seeds, report.faults, report.by_fault);
    assert!(report.findings.is_empty(), "{:#?}", report.findings.iter().take(5).collect::<Vec<_>>());
    assert_eq!((report.lost, report.duplicated, report.altered), (0, 0, 0));
    assert!(report.deterministic, "a seed that was run twice gave two traces");
    assert!(report.faults >= 40_000, "{} faults", report.faults);
    assert_eq!(report.felt_less_than(200, Scope::Every), [], "every kind of fault is felt often enough to mean something");
}

#[test]
fn a_trace_is_the_same_byte_for_byte() {
    for (seed, scope) in (1..=5).flat_map(|seed| [(seed, Scope::Settled), (seed, Scope::Every)]) {
        let (one, two) = (run_seed(seed, scope, true), run_seed(seed, scope, true));
        assert!(one.trace.len() > 100 && one.trace == two.trace, "seed {seed} {scope:?}");
    }
}
