//! How many instructions the stages of the byte path take, held to what `benches/instructions.json` says, within 1 %. Times of a shared machine say nothing about 1 %;
//! Callgrind's counts are the same every time.
//!
//! A stage that takes fewer is written down, too, or the next change could take them back unseen:
//! `RECORD_INSTRUCTIONS=1 cargo test --release --workspace --test instructions`.
//!
//! zstd and the allocator are C, which whatever compiler the machine has translates, and copies are the C library's: by another compiler than what the counts were
//! written down with, every stage is held to 10 %. On another architecture the counts are others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// By how much a count may differ from what is written down.
const TOLERANCE: f64 = 0.01;

/// The same by another C compiler than then.
const TOLERANCE_OF_C: f64 = 0.1;

const STAGES: [&str; 5] = ["push", "zstd1", "parquet.none.v1", "parquet.zstd1.v1", "raw.len32.zstd1.v1"];

const RECORD_BYTES: [usize; 3] = [100, 1_000, 10_000];

/// What is written down.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
struct Recorded {
    architecture: String,
    c_compiler: String,
    instructions: BTreeMap<String, u64>,
}

/// What `cc` says of itself first.
fn c_compiler() -> String {
    let said = Command::new("cc").arg("--version").output().expect("the C compiler that zstd was translated by");
    String::from_utf8_lossy(&said.stdout).lines().next().unwrap_or_default().to_owned()
}

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
    let architecture = std::env::consts::ARCH.to_owned();
    let now = Recorded { architecture, c_compiler: c_compiler(), instructions: counted };
    if std::env::var_os("RECORD_INSTRUCTIONS").is_some() {
        let text = serde_json::to_string_pretty(&now).expect("plain data") + "\n";
        std::fs::write(written_down(), text).expect("the file can be written");
    }
    let text = std::fs::read_to_string(written_down()).expect("benches/instructions.json is there");
    let then: Recorded = serde_json::from_str(&text).expect("a compiler, names and numbers");
    assert_eq!(now.instructions.keys().collect::<Vec<_>>(), then.instructions.keys().collect::<Vec<_>>());
    if now.architecture != then.architecture {
        println!("{now:?}, to be compared on {} only", then.architecture);
        return;
    }
    let differing = differing(&now, &then);
    assert!(differing.is_empty(), "instructions differ from benches/instructions.json:\n{}", differing.join("\n"));
}

/// What differs by more than it may, in words.
fn differing(now: &Recorded, then: &Recorded) -> Vec<String> {
    let tolerance = if now.c_compiler == then.c_compiler { TOLERANCE } else { TOLERANCE_OF_C };
    let by = |stage: &str, count: u64| count as f64 / then.instructions[stage] as f64 - 1.0;
    now.instructions
        .iter()
        .filter(|(stage, count)| by(stage, **count).abs() > tolerance)
        .map(|(stage, count)| {
            format!("{stage}: {count}, {:+.1} %, of which {:.0} % are allowed", by(stage, *count) * 100.0, tolerance * 100.0)
        })
        .collect()
}

#[test]
fn more_and_fewer_instructions_are_found_and_another_c_compiler_is_allowed_for() {
    let recorded = |c_compiler: &str, push: u64, zstd1: u64| Recorded {
        architecture: String::new(),
        c_compiler: c_compiler.to_owned(),
        instructions: BTreeMap::from([("push 1 B".to_owned(), push), ("zstd1 1 B".to_owned(), zstd1)]),
    };
    let then = recorded("cc 1", 1_000, 1_000);
    let found = |now: Recorded| differing(&now, &then).len();
    assert_eq!(found(recorded("cc 1", 1_009, 991)), 0);
    assert_eq!(found(recorded("cc 1", 1_011, 989)), 2);
    assert_eq!(found(recorded("cc 2", 1_090, 910)), 0);
    assert_eq!(found(recorded("cc 2", 1_110, 890)), 2);
}
