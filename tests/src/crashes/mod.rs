//! Crash points: the binary is killed, or falls asleep, at every named place of the commit protocol, and what it leaves is finished by another run.
//!
//! ```text
//!   cells.rs --point x passage x {PUT, multipart} x {Parquet, raw}--> run(filter) --a Bench each--> scripted broker, S3 server (this process)
//!                                                                        |                               ^ real sockets
//!                                                                        +--> catchment-crashing (a process, killed by itself)
//!                                                                        \--> CrashReport
//! ```
//!
//! Why the scripted broker and not a real one: a kill is one of a real process, its librdkafka and its sockets, and what it leaves is what broker and
//! store have taken; both are outside of it and outlive it. The scripted ones start in no time, know without another client's word what is visible,
//! and remember every version of every object, so that hundreds of kills take minutes. Kills against a real Kafka are those of
//! `tests/tests/kills.rs`.
//!
//! A cell passes only if the process died by SIGKILL at its point (a process that ends without having passed it fails the cell), another one went on to
//! the end, and every record that the script made visible stands in exactly one object, unchanged.
//!
//! [`sleepers`](sleepers::run) does the same with SIGSTOP: another member takes over while the process sleeps past its session, then it wakes.

pub(crate) mod bench;
mod cells;
mod scenario;
pub mod sleepers;
mod visible;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use catchment::store::GuardClass;
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::runtime::{Handle, Runtime};

use bench::{Bench, Compared, Form};
use cells::Cell;

pub use crate::kafka_cells::CellFailure;

/// Cells that run at a time. Most of a cell is waiting; many more would make the machine late, not the protocol.
const CELLS_AT_ONCE: usize = 12;

/// What the kills came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CrashReport {
    /// Points at which a process was killed.
    pub points: usize,
    /// Processes that died at their point.
    pub kills: u32,
    /// Processes that were killed from outside to make what a recovery finds; not counted as kills.
    pub prepared: u32,
    /// Records compared.
    pub compared: u64,
    /// Records that were visible and are not stored.
    pub lost: u64,
    /// Records that are stored more than once.
    pub duplicated: u64,
    /// Records that are stored with another content.
    pub altered: u64,
    /// Records that are stored and were never visible.
    pub foreign: u64,
    /// Cells that make no sense, such as a part of a single PUT, and were not run.
    pub senseless: BTreeSet<String>,
    /// Wall-clock time.
    pub seconds: f64,
    /// The slowest cells: id and seconds.
    pub slowest: Vec<(String, f64)>,
    /// Cells that failed, and why.
    pub failures: Vec<CellFailure>,
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { points, kills, prepared, compared, lost, duplicated, altered, foreign, failures, seconds, .. } = self;
        write!(f, "{points} points, {kills} kills ({prepared} more to prepare), {compared} records compared: ")?;
        write!(f, "{lost} lost, {duplicated} duplicated, {altered} altered, {foreign} foreign; {} failed; {seconds:.1} s", failures.len())
    }
}

/// What one cell found.
#[derive(Clone, Debug, Default)]
struct Found {
    killed: bool,
    prepared: u32,
    compared: Compared,
    failure: Option<String>,
}

/// Kills at the points whose cells' ids contain `filter`; all, if it is empty. Each point is met at its first and second passage, and at `rounds` random
/// later ones.
///
/// # Panics
/// If no threads or sockets can be had.
pub fn run(filter: &str, rounds: u32) -> CrashReport {
    let began = Instant::now();
    let (cells, senseless) = cells::all(rounds);
    let chosen: Vec<Cell> = cells.into_iter().filter(|cell| cell.id().contains(filter)).collect();
    let done = at_once(CELLS_AT_ONCE, &chosen, run_cell);
    let mut report = CrashReport { senseless, seconds: 0.0, ..CrashReport::default() };
    let mut points = BTreeSet::new();
    for (cell, (found, seconds)) in chosen.iter().zip(done) {
        if found.killed {
            report.kills += 1;
            points.insert(cell.point);
        }
        report.prepared += found.prepared;
        report.compared += found.compared.records;
        report.lost += found.compared.lost;
        report.duplicated += found.compared.duplicated;
        report.altered += found.compared.altered;
        report.foreign += found.compared.foreign;
        report.slowest.push((cell.id(), seconds));
        report.failures.extend(found.failure.map(|why| CellFailure { id: cell.id(), why }));
    }
    report.points = points.len();
    report.slowest = slowest(report.slowest);
    report.seconds = began.elapsed().as_secs_f64();
    report
}

/// The ten slowest.
fn slowest(mut all: Vec<(String, f64)>) -> Vec<(String, f64)> {
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(10);
    all
}

/// Runs `body` for every item, so many at a time, and says what each gave and how long it took, in seconds.
fn at_once<T: Sync, R: Send>(threads: usize, items: &[T], body: impl Fn(&Handle, &T) -> R + Sync) -> Vec<(R, f64)> {
    let runtime = Runtime::new().expect("a runtime can be made");
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while let Some((n, item)) = Some(next.fetch_add(1, Ordering::SeqCst)).and_then(|n| Some((n, items.get(n)?))) {
                    let began = Instant::now();
                    let result = body(runtime.handle(), item);
                    let seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
                    done.lock().expect("no body panics").insert(n, (result, seconds));
                }
            });
        }
    });
    done.into_inner().expect("no body panics").into_values().collect()
}

/// Runs a binary with this in `CATCHMENT_CRASH`.
///
/// # Errors
/// If it did not come to the end, with how it ended, or something is missing.
///
/// # Panics
/// If no sockets can be had.
pub fn comes_to_the_end(binary: &Path, order: &str) -> Result<(), String> {
    let runtime = Runtime::new().expect("a runtime can be made");
    let bench = Bench::new(runtime.handle(), Form::ALL[0], GuardClass::A);
    let exit = bench.program_of(binary, "member-1").envs([("CATCHMENT_CRASH", order)]).run(bench::RUN_LIMIT);
    if exit.code() != Some(0) {
        return Err(format!("it ended with {}", exit.status));
    }
    bench.compare()?.verdict()
}

fn run_cell(handle: &Handle, cell: &Cell) -> Found {
    let mut found = Found::default();
    found.failure = failure_of(|| kill_and_finish(handle, cell, &mut found));
    found
}

/// Why a cell failed, if it did; a panic is a failure, too.
fn failure_of(run: impl FnOnce() -> Result<(), String>) -> Option<String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panic_text(&*panic))).err()
}

/// What a panic says.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned())).unwrap_or_else(|| "it panicked".to_owned())
}

fn kill_and_finish(handle: &Handle, cell: &Cell, found: &mut Found) -> Result<(), String> {
    let bench = Bench::new(handle, cell.form, cell.class());
    found.prepared = scenario::prepare(&bench, cell.scenario())?;
    let exit = bench.run(&cell.order(), "member-1");
    if std::os::unix::process::ExitStatusExt::signal(&exit.status) != Some(Signal::SIGKILL as i32) {
        return Err(format!("the point was not passed: {}; {}", exit.status, bench::tail(&exit.stderr)));
    }
    found.killed = true;
    bench.take_everything();
    bench.finish()?;
    found.compared = bench.compare()?;
    found.compared.verdict()
}
