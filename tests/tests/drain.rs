//! What the whole job costs beside a bare drain of the same topic in the same run, on a real Kafka and a real MinIO. Processor time and peak memory as
//! the kernel counts them, so that a slow machine is none the worse for it.

use std::time::Duration;

use catchment_tests::bed::unique;
use catchment_tests::bucket::Bucket;
use catchment_tests::process::{Program, bench_binary, binary};
use catchment_tests::services::{Kafka, Minio};

/// How long a round may take, filling the topic and reading everything back included.
const LIMIT: Duration = Duration::from_secs(600);

/// Mebibytes of records.
const MIB: &str = "2048";

/// How often it is measured; the worst of the rounds in which the floor stood still counts.
fn rounds() -> u32 {
    if std::env::var_os("CATCHMENT_TEST_FULL").is_some() { 3 } else { 1 }
}

#[test]
fn a_backup_costs_less_than_twice_a_bare_drain_inside_its_budget() {
    let bucket = Bucket::create(Minio::shared(), &unique("drain"));
    let exit = Program::of(&bench_binary("ratio"), ["--json", "-b", Kafka::shared().bootstrap(), "--to", &bucket.url("")])
        .args(["--formats", "parquet", "--record-bytes", "1024", "--mib", MIB, "--rounds", &rounds().to_string()])
        .envs(Minio::shared().environment())
        .envs([("CATCHMENT_BIN", binary())])
        .run(LIMIT * rounds());
    exit.assert_code(0);
    println!("{}{}", exit.stderr, exit.stdout);
    let report: serde_json::Value = serde_json::from_str(&exit.stdout).expect("one JSON object");
    let [row] = &report["rows"].as_array().expect("rows")[..] else { panic!("one row was asked for: {report}") };
    assert_eq!(row["rounds"], rounds(), "{row}");
    let figure = |value: &serde_json::Value| value.as_f64().unwrap_or_else(|| panic!("a number: {row}"));
    assert!(figure(&row["ratio_to_drain_range"][1]) <= 1.9, "{row}");
    assert!(figure(&row["peak_rss_mib"]) <= 512.0, "{row}");
}
