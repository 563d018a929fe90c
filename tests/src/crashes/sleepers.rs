//! Processes that fall asleep between pin and tidy, past their session, while another member takes over; then they wake.
//!
//! The sleeper stops itself by SIGSTOP at a point, of normal operation or, where it has found what a killed one pinned, of the recovery.
//! Another member joins, gets every lane once the sleeper's session is over, and goes on to the end. Then the sleeper is woken: what it was
//! about to send it may send, an upload that it was about to abort it may abort, what it was about to commit is refused, and in the end it
//! finds that everything is there. With a store whose guard is atomic, with one whose guard lets two writers pass, and with one that has none.

use std::fmt;
use std::time::{Duration, Instant};

use catchment::crash::Point;
use catchment::store::GuardClass;
use serde::Serialize;
use tokio::runtime::Handle;

use super::bench::{Bench, Compared, Form, Format, Sending, tail};
use super::cells::{CLASSES, lists_completed, makes_sense, scenario_of};
use super::uploads::Left;
use super::{CellFailure, at_once, failure_of, scenario};
use crate::process::Process;
use crate::s3::Op;

/// Cells that run at a time. A cell is asleep, or waits for a session's end, nearly all of the time.
const CELLS_AT_ONCE: usize = 32;

/// How long a process may take to fall asleep, and another one to take over and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Points between pin and tidy: those of a process that pins, and those of one that finds a pin.
const POINTS: [Point; 19] = [
    Point::PinSent,
    Point::AfterPin,
    Point::BeforeRecord,
    Point::AfterRecord,
    Point::BeforePublish,
    Point::PublishSent,
    Point::AfterPublish,
    Point::BeforeLook,
    Point::AfterLook,
    Point::BeforeTidy,
    Point::BeforeIntentLook,
    Point::BeforeAdopt,
    Point::BeforeListParts,
    Point::BeforeLateComplete,
    Point::AfterLateComplete,
    Point::BeforeReadAgain,
    Point::BeforeRepublish,
    Point::AfterRepublish,
    Point::BeforeAbortReplaced,
];

/// What the sleepers came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SleepersReport {
    /// Processes that slept past their session and woke.
    pub sleepers: u32,
    /// Records compared.
    pub compared: u64,
    /// Records that were visible and are not stored.
    pub lost: u64,
    /// Records that are stored more than once.
    pub duplicated: u64,
    /// Records that are stored with another content.
    pub altered: u64,
    /// Objects that were written a second time, with the same bytes, by class of the guard: A, B, C.
    pub rewritten: [u64; 3],
    /// Uploads that sleepers aborted when they woke.
    pub aborted: u64,
    /// Wall-clock time.
    pub seconds: f64,
    /// Cells that failed, and why.
    pub failures: Vec<CellFailure>,
}

impl fmt::Display for SleepersReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sleepers, compared, lost, duplicated, altered, rewritten, aborted, failures, seconds } = self;
        write!(f, "{sleepers} sleepers, {compared} records compared: {lost} lost, {duplicated} duplicated, {altered} altered; ")?;
        write!(
            f,
            "{rewritten:?} objects rewritten by class, {aborted} uploads aborted after waking; {} failed; {seconds:.1} s",
            failures.len()
        )
    }
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    point: Point,
    form: Form,
    class: GuardClass,
}

#[derive(Clone, Debug, Default)]
struct Found {
    slept: bool,
    compared: Compared,
    rewritten: u64,
    aborted: u64,
    failure: Option<String>,
}

impl Cell {
    fn id(&self) -> String {
        format!("{}.{}.{:?}", self.point.name(), self.form.name(), self.class)
    }

    /// The command that runs it again.
    fn replay(&self) -> String {
        format!("CRASH_CELL={} cargo test --release --workspace --test crashes -- a_sleeper_between --nocapture", self.id())
    }
}

/// Single PUTs of Parquet, and multipart uploads of raw values with the records that those need.
fn cells() -> Vec<Cell> {
    let forms = [Form { sending: Sending::Put, format: Format::Parquet }, Form { sending: Sending::Multipart, format: Format::Raw }];
    let mut cells = Vec::new();
    for class in CLASSES {
        for form in forms {
            let points = POINTS.into_iter().filter(|point| makes_sense(*point, form));
            cells.extend(points.map(|point| Cell { point, form, class }));
        }
    }
    cells
}

/// Runs the cells whose ids contain `filter`; all, if it is empty.
///
/// # Panics
/// If no threads or sockets can be had.
pub fn run(filter: &str) -> SleepersReport {
    let began = Instant::now();
    let cells: Vec<Cell> = cells().into_iter().filter(|cell| cell.id().contains(filter)).collect();
    let mut report = SleepersReport::default();
    for (cell, (found, _)) in cells.iter().zip(at_once(CELLS_AT_ONCE, &cells, run_cell)) {
        report.sleepers += u32::from(found.slept);
        report.compared += found.compared.records;
        report.lost += found.compared.lost;
        report.duplicated += found.compared.duplicated;
        report.altered += found.compared.altered;
        report.rewritten[cell.class as usize] += found.rewritten;
        report.aborted += found.aborted;
        report.failures.extend(found.failure.map(|why| CellFailure { id: cell.id(), why, replay: cell.replay() }));
    }
    report.seconds = began.elapsed().as_secs_f64();
    report
}

fn run_cell(handle: &Handle, cell: &Cell) -> Found {
    let mut found = Found::default();
    found.failure = failure_of(|| sleep_and_wake(handle, cell, &mut found));
    found
}

fn sleep_and_wake(handle: &Handle, cell: &Cell, found: &mut Found) -> Result<(), String> {
    let lists = lists_completed(cell.point, cell.form, cell.class);
    let bench = Bench::with_listing(handle, cell.form, cell.class, lists);
    scenario::prepare(&bench, scenario_of(cell.point, cell.form.sending))?;
    let mut sleeper = bench.armed(&format!("{}:2:stop", cell.point.name()), "member-1").spawn();
    await_asleep(&mut sleeper)?;
    let left = Left::now(&bench);
    // It ends only when it has every lane, which it has only when the sleeper's session is over.
    let successor = bench.program("member-2").run(PATIENCE);
    if successor.code() != Some(0) {
        return Err(format!("the successor ended with {}: {}", successor.status, tail(&successor.stderr)));
    }
    if !is_asleep(&sleeper) {
        return Err("the sleeper did not sleep until then".to_owned());
    }
    found.slept = true;
    left.verdict(&bench)?;
    let requests = bench.store_state().log().len();
    sleeper.thaw();
    let woken = sleeper.wait(PATIENCE);
    if woken.code() != Some(0) {
        return Err(format!("the sleeper ended with {}: {}", woken.status, tail(&woken.stderr)));
    }
    let is_abort = |op: Op| op == Op::AbortMultipartUpload;
    found.aborted = bench.store_state().log()[requests..].iter().filter(|r| is_abort(r.op) && r.status == 204).count() as u64;
    found.compared = bench.compare()?;
    found.rewritten = bench.rewritten();
    if cell.class == GuardClass::A && found.rewritten > 0 {
        return Err(format!("an atomic guard let {} second writes through", found.rewritten));
    }
    Ok(())
}

fn is_asleep(process: &Process) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

fn await_asleep(process: &mut Process) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    while !is_asleep(process) {
        if let Some(status) = process.poll() {
            return Err(format!("the point was not passed: {status}; {}", tail(&process.stderr())));
        }
        if Instant::now() > deadline {
            return Err(format!("it did not fall asleep: {}", tail(&process.stderr())));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
