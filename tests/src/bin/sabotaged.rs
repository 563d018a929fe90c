//! `sabotaged simulation SEEDS`, `sabotaged story NAME`, `sabotaged kafka-cells FILTER` and `sabotaged s3-cells FILTER`: one layer of the harness with an engine whose guards `CATCHMENT_SABOTAGE` can
//! take out, one at a time. Exit 0 if nothing was found, [`FOUND`] if something was, which is printed, a line each, 2 for bad arguments; anything else is no
//! finding but a harness that broke. Run by `catchment_tests::sabotage`.

use std::process::ExitCode;

use catchment::sabotage::Switch;
use catchment_tests::sabotage::FOUND;
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
    let findings = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["simulation", seeds] => seeds.parse().ok().map(simulate),
        ["story", name] => simulation::STORIES.iter().find(|(known, _)| *known == name).map(|(_, tell)| tell()),
        ["kafka-cells", filter] => Some(play_kafka_cells(filter)),
        ["s3-cells", filter] => Some(play_s3_cells(filter)),
        _ => None,
    };
    match findings {
        None => {
            eprintln!("say simulation SEEDS, story NAME, kafka-cells FILTER or s3-cells FILTER");
            ExitCode::from(2)
        }
        Some(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Some(findings) => {
            findings.iter().for_each(|finding| println!("{}", finding.replace('\n', " | ")));
            ExitCode::from(FOUND)
        }
    }
}

/// What was found in the first seeds in which anything was.
fn simulate(seeds: u64) -> Vec<String> {
    let strides = (0..seeds).step_by(usize::try_from(STRIDE).unwrap_or(1));
    let reports = strides.map(|first| simulation::run(first, STRIDE.min(seeds - first), Scope::Every));
    let found = reports.map(|report| report.findings).find(|findings| !findings.is_empty()).unwrap_or_default();
    found.into_iter().flat_map(|(seed, what)| what.into_iter().map(move |what| format!("seed {seed}: {what}"))).collect()
}

fn play_kafka_cells(filter: &str) -> Vec<String> {
    let report = kafka_cells::run(filter);
    assert!(report.cells > 0, "no cell is called {filter}");
    report.failures.into_iter().map(|failure| format!("{}: {}", failure.id, failure.why)).collect()
}

fn play_s3_cells(filter: &str) -> Vec<String> {
    let report = s3_cells::run(filter, 1);
    assert!(report.cells > 0, "no cell is called {filter}");
    let failures = report.results.into_iter().flat_map(|cell| cell.failures.into_iter().map(move |why| format!("{}: {why}", cell.id)));
    failures.collect()
}
