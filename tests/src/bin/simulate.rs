//! `simulate --seed N` runs one simulation and prints its trace; `simulate --seeds N [--first N]` runs many and prints a report as JSON.
//! With `--settled` Kafka loses nothing but by retention and compaction, and nobody is frozen or cut off. Exit 1 if anything was found.

use std::process::ExitCode;

use catchment_tests::simulation::plan::Scope;
use catchment_tests::simulation::{run, run_seed};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scope = if arguments.iter().any(|a| a == "--settled") { Scope::Settled } else { Scope::Every };
    let number = |flag: &str| arguments.iter().position(|a| a == flag).and_then(|at| arguments.get(at + 1)).and_then(|n| n.parse().ok());
    let is_good = match (number("--seed"), number("--seeds")) {
        (Some(seed), _) => {
            let outcome = run_seed(seed, scope, true);
            outcome.trace.iter().for_each(|line| println!("{line}"));
            outcome.verdict.is_good()
        }
        (None, Some(seeds)) => {
            let report = run(number("--first").unwrap_or(0), seeds, scope);
            println!("{}", serde_json::to_string_pretty(&report).expect("a report is plain JSON"));
            report.findings.is_empty() && report.deterministic
        }
        (None, None) => {
            eprintln!("say --seed N or --seeds N");
            return ExitCode::from(2);
        }
    };
    ExitCode::from(u8::from(!is_good))
}
