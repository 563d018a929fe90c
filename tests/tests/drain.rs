//! What the whole job costs beside a bare drain of the same topic in the same run, on a real Kafka and a real MinIO. Processor time and peak memory as
//! the kernel counts them, so that a slow machine is none the worse for it.

use std::time::Duration;

use catchment_tests::bed::unique;
use catchment_tests::bucket::Bucket;
use catchment_tests::process::{Program, bench_binary};
use catchment_tests::services::{Kafka, Minio};

/// How long a round may take, filling the topic and reading everything back included.
const LIMIT: Duration = Duration::from_secs(600);

/// Mebibytes of records.
const MIB: &str = "2048";

/// How often it is measured; the worst round counts.
fn rounds() -> u32 {
    if std::env::var_os("CATCHMENT_TEST_FULL").is_some() { 3 } else { 1 }
}

#[test]
fn a_backup_costs_less_than_twice_a_bare_drain_inside_its_budget() {
    let bucket = Bucket::create(Minio::shared(), &unique("drain"));
    let exit = Program::of(&bench_binary("versus_drain"), ["-b", Kafka::shared().bootstrap(), "--to", &bucket.url("")])
        .args(["--mib", MIB, "--rounds", &rounds().to_string()])
        .envs(Minio::shared().environment())
        .run(LIMIT * rounds());
    exit.assert_code(0);
    println!("{}", exit.stdout);
    let rows: Vec<_> = exit.stdout.lines().filter(|line| line.trim_start().starts_with("parquet")).collect();
    assert_eq!(rows.len(), rounds() as usize, "a row of figures for each round");
    for row in rows {
        let figures: Vec<f64> = row.split_whitespace().skip(1).map(|figure| figure.parse().expect("a number")).collect();
        let [_, _, _, to_drain, _, peak_mib, _] = figures[..] else { panic!("seven figures: {row}") };
        assert!(to_drain <= 1.9, "{row}");
        assert!(peak_mib <= 512.0, "{row}");
    }
}
