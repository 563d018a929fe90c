//! `sabotaged simulation SEEDS`, `sabotaged kafka-cells FILTER` and `sabotaged s3-cells FILTER`: one layer of the harness with an engine whose guards `CATCHMENT_SABOTAGE` can
//! take out, one at a time. Exit 0 if nothing was found, 1 if something was, 2 for bad arguments. Run by `catchment_tests::sabotage`.

use std::process::ExitCode;

use catchment::sabotage::Switch;
use catchment_tests::simulation;
use catchment_tests::simulation::plan::Scope;
use catchment_tests::{kafka_cells, s3_cells};

/// Seeds between two looks at what was found. Without a guard a seed may take long to end; more would all be waited for.
const STRIDE: u64 = 4;

fn main() -> ExitCode {
    let known = |name: &String| Switch::ALL.iter().any(|(known, _)| known == name);
    if std::env::var("CATCHMENT_SABOTAGE").is_ok_and(|name| !known(&name)) {
        eprintln!("CATCHMENT_SABOTAGE names no switch; there are {:?}", Switch::ALL.map(|(name, _)| name));
        return ExitCode::from(2);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let finding = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["simulation", seeds] => seeds.parse().ok().map(simulate),
        ["kafka-cells", filter] => Some(play_kafka_cells(filter)),
        ["s3-cells", filter] => Some(play_s3_cells(filter)),
        _ => None,
    };
    match finding {
        None => {
            eprintln!("say simulation SEEDS, kafka-cells FILTER or s3-cells FILTER");
            ExitCode::from(2)
        }
        Some(None) => ExitCode::SUCCESS,
        Some(Some(what)) => {
            println!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(seeds: u64) -> Option<String> {
    (0..seeds).step_by(usize::try_from(STRIDE).unwrap_or(1)).find_map(|first| {
        let report = simulation::run(first, STRIDE.min(seeds - first), Scope::Every);
        let (seed, what) = report.findings.into_iter().next()?;
        Some(format!("seed {seed}: {}", what.into_iter().next().unwrap_or_default()))
    })
}

fn play_kafka_cells(filter: &str) -> Option<String> {
    let report = kafka_cells::run(filter);
    assert!(report.cells > 0, "no cell is called {filter}");
    report.failures.into_iter().next().map(|failure| format!("{}: {}", failure.id, failure.why))
}

fn play_s3_cells(filter: &str) -> Option<String> {
    let report = s3_cells::run(filter, 1);
    assert!(report.cells > 0, "no cell is called {filter}");
    report.results.into_iter().find_map(|cell| cell.failures.into_iter().next().map(|why| format!("{}: {why}", cell.id)))
}
