//! The demo as a newcomer runs it: it ends by itself, what it says is true, its query works, and Ctrl-C leaves nothing behind.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use catchment_tests::process::Program;
use catchment_tests::readers::duckdb;
use catchment_tests::stopwatch::Stopwatch;
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// One demo at a time: what one promises is not that of two.
static ALONE: Mutex<()> = Mutex::new(());

/// What it promises. It produces for 12 s and starts three workers.
const PROMISE: Duration = Duration::from_secs(30);

/// How long is waited for what it says, so that a broken promise is told with all of it.
const LIMIT: Duration = Duration::from_secs(120);

/// A temporary directory of the demo's own, so that what it leaves behind can be told from what others do.
fn temporary() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().canonicalize().expect("it exists");
    (dir, path)
}

fn demo(temporary: &Path) -> Program {
    Program::new(["demo"]).envs([("TMPDIR", temporary)])
}

/// The number that stands right before `words`.
#[track_caller]
fn number_before(text: &str, words: &str) -> u64 {
    let (before, _) = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in: {text}"));
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("no number before {words:?} in: {text}"))
}

/// The SQL of the line to try.
#[track_caller]
fn printed_query(text: &str) -> &str {
    let quoted = text.split_once("duckdb -c \"").and_then(|(_, rest)| rest.split_once('"'));
    quoted.unwrap_or_else(|| panic!("no query in: {text}")).0
}

/// Workers of the demo that runs in this temporary directory.
fn workers(temporary: &Path) -> Vec<PathBuf> {
    let place = temporary.to_str().expect("a UTF-8 path");
    let is_worker = |process: &PathBuf| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("demo-worker") && line.contains(place)
    };
    std::fs::read_dir("/proc").expect("/proc can be listed").flatten().map(|entry| entry.path()).filter(is_worker).collect()
}

fn directories(temporary: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(temporary).expect("it can be listed").flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

#[test]
fn it_kills_a_worker_with_a_pinned_window_and_shows_that_nothing_is_lost() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_dir, temporary) = temporary();
    let program = demo(&temporary);
    let watch = Stopwatch::start();
    let exit = program.run(LIMIT);
    let took = watch.elapsed();
    println!("the demo took {:.1} s", took.as_secs_f64());
    exit.assert_code(0);
    assert!(took < PROMISE, "it took {took:?}: {}", exit.stderr);
    assert!(exit.stderr.contains("pinned") && exit.stderr.contains("SIGKILL to the worker"), "{}", exit.stderr);
    let sent = number_before(&exit.stderr, " records were sent");
    assert!(sent > 0, "{}", exit.stderr);
    for (words, expected) in [(" lanes, ", 3), (" records, ", sent), (" compared with Kafka", sent), (" gap(s): sound", 0)] {
        assert_eq!(number_before(&exit.stdout, words), expected, "{words:?} in: {}", exit.stdout);
    }
    let rows = duckdb(printed_query(&exit.stdout));
    let rows: Vec<(i32, u64, i64, i64)> = serde_json::from_value(rows).expect("partition, count, first and last offset");
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [0, 1, 2], "{rows:?}");
    assert!(rows.iter().all(|(_, count, first, last)| *first == 0 && u64::try_from(last + 1).is_ok_and(|n| n == *count)), "{rows:?}");
    assert_eq!(rows.iter().map(|row| row.1).sum::<u64>(), sent, "{rows:?}");
    assert_eq!(workers(&temporary), [] as [PathBuf; 0], "a worker outlives the demo");
}

#[test]
fn an_interrupt_before_and_after_the_kill_leaves_nothing_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for moment in ["a practice broker runs", "a new worker takes over"] {
        let (_dir, temporary) = temporary();
        let mut process = demo(&temporary).spawn();
        process.wait_for_stderr(moment, LIMIT);
        let deadline = Instant::now() + LIMIT;
        while workers(&temporary).is_empty() {
            assert!(Instant::now() < deadline, "no worker runs: {}", process.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(directories(&temporary).len(), 1, "the demo works in a directory of its own");
        process.signal(Signal::SIGINT);
        let exit = process.wait(LIMIT);
        exit.assert_code(1);
        assert!(exit.stderr.contains("interrupted"), "{moment}: {}", exit.stderr);
        assert_eq!(directories(&temporary), [] as [PathBuf; 0], "{moment}: a directory is left");
        assert_eq!(workers(&temporary), [] as [PathBuf; 0], "{moment}: a worker is left");
    }
}
