//! What the whole job costs beside a bare drain of the same topic in the same run, on a real Kafka and a real MinIO. Processor time and peak memory as
//! the kernel counts them, so that a slow machine is none the worse for it.

use std::time::Duration;

use catchment_tests::bed::unique;
use catchment_tests::bucket::Bucket;
use catchment_tests::process::{Program, bench_binary};
use catchment_tests::services::{Kafka, Minio};

/// How long it may take, filling the topic and reading everything back included.
const LIMIT: Duration = Duration::from_secs(240);

/// Mebibytes of records: as many as docs/PERFORMANCE.md has before a release, enough to outweigh a start each time.
fn mib() -> &'static str {
    if std::env::var_os("CATCHMENT_TEST_FULL").is_some() { "2048" } else { "512" }
}

#[test]
fn a_backup_costs_less_than_twice_a_bare_drain_inside_its_budget() {
    let bucket = Bucket::create(Minio::shared(), &unique("drain"));
    let exit = Program::of(&bench_binary("versus_drain"), ["-b", Kafka::shared().bootstrap(), "--to", &bucket.url("")])
        .args(["--mib", mib(), "--rounds", "1"])
        .envs(Minio::shared().environment())
        .run(LIMIT);
    exit.assert_code(0);
    println!("{}", exit.stdout);
    let row = exit.stdout.lines().find(|line| line.trim_start().starts_with("parquet")).expect("a row of figures");
    let figures: Vec<f64> = row.split_whitespace().skip(1).map(|figure| figure.parse().expect("a number")).collect();
    let [_, _, _, to_drain, _, peak_mib, _] = figures[..] else { panic!("seven figures: {row}") };
    assert!(to_drain <= 1.9, "{row}");
    assert!(peak_mib <= 512.0, "{row}");
}
