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
//! A cell passes only if the process died by SIGKILL at its point (a process that ends without having passed it fails the cell), another
//! one went on to the end, every record that the script made visible stands in exactly one object, unchanged, which was pinned before it was
//! visible and under one intent (`pins.rs`), and no upload is open that the protocol promises to clean up (`uploads.rs`). Where retention has
//! taken a part of what was pinned (`overtaken.rs`), exactly that must be listed as missing.
//!
//! The store's guard is atomic (class A) at a point's first passage, racy (B) at its second and missing (C) at a random later one, and goes
//! round in further rounds. Where the next process finds uploads, they are in every second cell too old to be alive.
//!
//! [`sleepers`](sleepers::run) does the same with SIGSTOP: another member takes over while the process sleeps past its session, then it wakes.

pub(crate) mod bench;
mod cells;
mod overtaken;
mod pins;
mod scenario;
pub mod sleepers;
mod uploads;
mod visible;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use catchment::crash::Point;
use catchment::store::GuardClass;
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::runtime::{Handle, Runtime};

use bench::{Bench, Compared, Form};
use cells::Cell;
use uploads::Left;

/// Cells that run at a time. Most of a cell is waiting, in classes B and C for claims that must stand for a while; many more would make the
/// machine late, not the protocol.
const CELLS_AT_ONCE: usize = 24;

/// Kills that a run of all cells must make.
const KILLS_MIN: u32 = 300;

/// A cell that failed.
#[derive(Clone, Debug, Serialize)]
pub struct CellFailure {
    /// Its id.
    pub id: String,
    /// Why.
    pub why: String,
    /// The command that runs it again.
    pub replay: String,
}

impl fmt::Display for CellFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  again: {}", self.id, self.why, self.replay)
    }
}

/// What the kills came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CrashReport {
    /// Points at which a process was killed.
    pub points: usize,
    /// At how many points, by class of the store's guard: A, B, C.
    pub points_by_class: [usize; 3],
    /// Cells that were run.
    pub cells: usize,
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
    /// Uploads that dead processes left open.
    pub uploads_left: usize,
    /// How many of them may stay, by rule R7, and have.
    pub uploads_stayed: usize,
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
        let Self { points, points_by_class, kills, prepared, compared, uploads_left, uploads_stayed, .. } = self;
        let Self { lost, duplicated, altered, foreign, failures, seconds, .. } = self;
        write!(
            f,
            "{points} points (by class {points_by_class:?}), {kills} kills ({prepared} more to prepare), {compared} records compared: "
        )?;
        write!(f, "{lost} lost, {duplicated} duplicated, {altered} altered, {foreign} foreign; ")?;
        write!(f, "{uploads_left} uploads left open, {uploads_stayed} of which stayed; {} failed; {seconds:.1} s", failures.len())
    }
}

/// What one cell found.
#[derive(Clone, Debug, Default)]
struct Found {
    killed: bool,
    prepared: u32,
    compared: Compared,
    uploads_left: usize,
    uploads_stayed: usize,
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
    let mut report = CrashReport { cells: chosen.len(), senseless, ..CrashReport::default() };
    let mut points = [const { BTreeSet::new() }; 3];
    for (cell, (found, seconds)) in chosen.iter().zip(done) {
        if found.killed {
            points[cell.class() as usize].insert(cell.point);
        }
        report.add(cell, found, seconds);
    }
    report.points_by_class = points.each_ref().map(BTreeSet::len);
    report.points = points.into_iter().flatten().collect::<BTreeSet<_>>().len();
    report.slowest = slowest(report.slowest);
    report.seconds = began.elapsed().as_secs_f64();
    report
}

impl CrashReport {
    /// What a run of all cells, with a random passage of each point, met too seldom to show anything.
    pub fn shortfalls(&self) -> Vec<String> {
        let mut short = Vec::new();
        if self.points_by_class != [Point::ALL.len(); 3] {
            short.push(format!("of {} points {:?} were met in classes A, B and C", Point::ALL.len(), self.points_by_class));
        }
        if self.kills < KILLS_MIN || self.kills as usize != self.cells {
            short.push(format!("only {} kills in {} cells", self.kills, self.cells));
        }
        if self.uploads_stayed == 0 || self.uploads_left <= self.uploads_stayed {
            short.push(format!("{} uploads were left open and {} stayed: old ones and young ones", self.uploads_left, self.uploads_stayed));
        }
        short
    }

    fn add(&mut self, cell: &Cell, found: Found, seconds: f64) {
        self.kills += u32::from(found.killed);
        self.prepared += found.prepared;
        self.compared += found.compared.records;
        self.lost += found.compared.lost;
        self.duplicated += found.compared.duplicated;
        self.altered += found.compared.altered;
        self.foreign += found.compared.foreign;
        self.uploads_left += found.uploads_left;
        self.uploads_stayed += found.uploads_stayed;
        self.slowest.push((cell.id(), seconds));
        self.failures.extend(found.failure.map(|why| CellFailure { id: cell.id(), why, replay: cell.replay() }));
    }
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

/// The time between the first and the last topic's claim of a backup into a store whose guard is not atomic, and how many there were.
///
/// # Errors
/// If the backup did not come to the end, or something is missing.
///
/// # Panics
/// If no sockets can be had.
pub fn claims_apart(binary: &Path) -> Result<(Duration, usize), String> {
    let runtime = Runtime::new().expect("a runtime can be made");
    let bench = Bench::new(runtime.handle(), Form::ALL[0], GuardClass::B);
    let exit = bench.program_of(binary, "member-1").run(bench::RUN_LIMIT);
    if exit.code() != Some(0) {
        return Err(format!("it ended with {}: {}", exit.status, bench::tail(&exit.stderr)));
    }
    bench.compare()?.verdict()?;
    let claims = bench.claims();
    let apart = claims.iter().max().zip(claims.iter().min()).map_or(0, |(last, first)| last - first);
    Ok((Duration::from_millis(apart), claims.len()))
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
    let lists = cells::lists_completed(cell.point, cell.form, cell.class());
    let bench = Bench::with_listing(handle, cell.form, cell.class(), lists);
    found.prepared = scenario::prepare(&bench, cell.scenario())?;
    let exit = bench.run(&cell.order(), "member-1");
    if std::os::unix::process::ExitStatusExt::signal(&exit.status) != Some(Signal::SIGKILL as i32) {
        return Err(format!("the point was not passed: {}; {}", exit.status, bench::tail(&exit.stderr)));
    }
    found.killed = true;
    bench.take_everything();
    let left = if cell.is_found_late() { Left::now(&bench).age(&bench) } else { Left::now(&bench) };
    found.uploads_left = left.count();
    bench.finish()?;
    found.compared = bench.compare()?;
    found.uploads_stayed = left.verdict(&bench)?;
    found.compared.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_were_not_met_and_too_few_kills_are_found() {
        let met = [Point::ALL.len(); 3];
        let cells = KILLS_MIN as usize;
        let full =
            CrashReport { points_by_class: met, cells, kills: KILLS_MIN, uploads_left: 2, uploads_stayed: 1, ..CrashReport::default() };
        assert_eq!(full.shortfalls(), [""; 0]);
        let missed = CrashReport { points_by_class: [met[0], met[1] - 1, met[2]], ..full.clone() };
        let few = CrashReport { cells: cells - 1, kills: KILLS_MIN - 1, ..full.clone() };
        let spared = CrashReport { cells: cells + 1, ..full.clone() };
        let all_old = CrashReport { uploads_stayed: 0, ..full.clone() };
        let all_young = CrashReport { uploads_stayed: 2, ..full };
        for damaged in [missed, few, spared, all_old, all_young] {
            assert_eq!(damaged.shortfalls().len(), 1, "{damaged}");
        }
    }
}
