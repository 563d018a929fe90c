//! How many instructions the stages of the byte path take, held to what `benches/instructions.json` says, within 1 %. Times of a shared machine say nothing about 1 %;
//! Callgrind's counts are the same every time.
//!
//! A stage that takes fewer is written down, too, or the next change could take them back unseen:
//! `RECORD_INSTRUCTIONS=1 cargo test --release --workspace --test instructions`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// By how much a count may differ from what is written down.
const TOLERANCE: f64 = 0.01;

const STAGES: [&str; 5] = ["push", "zstd1", "parquet.none.v1", "parquet.zstd1.v1", "raw.len32.zstd1.v1"];

const RECORD_BYTES: [usize; 3] = [100, 1_000, 10_000];

fn written_down() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

/// Instructions of a stage, as Callgrind counts them.
fn count(stage: &str, record_bytes: usize, dir: &Path) -> u64 {
    let out = dir.join(format!("{stage}.{record_bytes}"));
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*stages::counted*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env!("CARGO_BIN_EXE_stages"))
        .args([stage, &record_bytes.to_string()])
        .output()
        .unwrap_or_else(|e| panic!("valgrind does not run: {e}; install it, or run scripts/test, which does"));
    assert!(done.status.success(), "{stage}: {}", String::from_utf8_lossy(&done.stderr));
    let text = std::fs::read_to_string(&out).unwrap_or_else(|e| panic!("{}: {e}", out.display()));
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    let count = total.and_then(|total| total.trim().parse().ok()).unwrap_or_default();
    assert!(count > 100_000, "{stage}: nothing was counted: {total:?}");
    count
}

#[test]
fn each_stage_takes_the_instructions_that_are_written_down() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut counted = BTreeMap::new();
    for stage in STAGES {
        for record_bytes in RECORD_BYTES {
            counted.insert(format!("{stage} {record_bytes} B"), count(stage, record_bytes, dir.path()));
        }
    }
    if std::env::var_os("RECORD_INSTRUCTIONS").is_some() {
        let text = serde_json::to_string_pretty(&counted).expect("plain data") + "\n";
        std::fs::write(written_down(), text).expect("the file can be written");
    }
    let text = std::fs::read_to_string(written_down()).expect("benches/instructions.json is there");
    let wanted: BTreeMap<String, u64> = serde_json::from_str(&text).expect("names and numbers");
    assert_eq!(counted.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    let differing: Vec<String> = counted
        .iter()
        .map(|(stage, count)| (stage, *count, *count as f64 / wanted[stage] as f64 - 1.0))
        .filter(|(.., by)| by.abs() > TOLERANCE)
        .map(|(stage, count, by)| format!("{stage}: {count}, {:+.1} %", by * 100.0))
        .collect();
    assert!(differing.is_empty(), "instructions differ from benches/instructions.json by more than 1 %:\n{}", differing.join("\n"));
}
