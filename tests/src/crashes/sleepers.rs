//! Processes that fall asleep between pin and tidy, past their session, while another member takes over; then they wake.
//!
//! The sleeper stops itself by SIGSTOP at a point. Another member joins, gets every lane once the sleeper's session is over, and goes on to the end.
//! Then the sleeper is woken: what it was about to send it may send, what it was about to commit is refused, and in the end it finds that everything is
//! there. With a store whose guard is atomic, and with one whose guard lets two writers pass.

use std::fmt;
use std::time::{Duration, Instant};

use catchment::crash::Point;
use catchment::store::GuardClass;
use serde::Serialize;
use tokio::runtime::Handle;

use super::bench::{Bench, Compared, Form, Format, Sending, tail};
use super::scenario::{self, Scenario};
use super::{CellFailure, at_once, failure_of};
use crate::process::Process;

/// Cells that run at a time. A cell is asleep, or waits for a session's end, nearly all of the time.
const CELLS_AT_ONCE: usize = 20;

/// How long a process may take to fall asleep, and another one to take over and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Points between pin and tidy.
const POINTS: [Point; 10] = [
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
    /// Objects that were written a second time, with the same bytes, by class of the guard: A, B.
    pub rewritten: (u64, u64),
    /// Wall-clock time.
    pub seconds: f64,
    /// Cells that failed, and why.
    pub failures: Vec<CellFailure>,
}

impl fmt::Display for SleepersReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sleepers, compared, lost, duplicated, altered, rewritten, failures, seconds } = self;
        write!(f, "{sleepers} sleepers, {compared} records compared: {lost} lost, {duplicated} duplicated, {altered} altered; ")?;
        write!(f, "{} and {} objects rewritten in classes A and B; {} failed; {seconds:.1} s", rewritten.0, rewritten.1, failures.len())
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
    failure: Option<String>,
}

impl Cell {
    fn id(&self) -> String {
        format!("{}.{}.{:?}", self.point.name(), self.form.name(), self.class)
    }
}

/// Single PUTs of Parquet, and multipart uploads of raw values with the records that those need.
fn cells() -> Vec<Cell> {
    let forms = [Form { sending: Sending::Put, format: Format::Parquet }, Form { sending: Sending::Multipart, format: Format::Raw }];
    let mut cells = Vec::new();
    for class in [GuardClass::A, GuardClass::B] {
        for form in forms {
            let has = |point: &Point| form.format == Format::Raw || !matches!(point, Point::BeforeRecord | Point::AfterRecord);
            cells.extend(POINTS.into_iter().filter(has).map(|point| Cell { point, form, class }));
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
        let rewritten = if cell.class == GuardClass::A { &mut report.rewritten.0 } else { &mut report.rewritten.1 };
        *rewritten += found.rewritten;
        report.failures.extend(found.failure.map(|why| CellFailure { id: cell.id(), why }));
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
    let bench = Bench::new(handle, cell.form, cell.class);
    if matches!(cell.point, Point::BeforeLook | Point::AfterLook) {
        scenario::prepare(&bench, Scenario::Unanswered)?;
    }
    let mut sleeper = bench.armed(&format!("{}:2:stop", cell.point.name()), "member-1").spawn();
    await_asleep(&mut sleeper)?;
    // It ends only when it has every lane, which it has only when the sleeper's session is over.
    let successor = bench.program("member-2").run(PATIENCE);
    if successor.code() != Some(0) {
        return Err(format!("the successor ended with {}: {}", successor.status, tail(&successor.stderr)));
    }
    if !is_asleep(&sleeper) {
        return Err("the sleeper did not sleep until then".to_owned());
    }
    found.slept = true;
    sleeper.thaw();
    let woken = sleeper.wait(PATIENCE);
    if woken.code() != Some(0) {
        return Err(format!("the sleeper ended with {}: {}", woken.status, tail(&woken.stderr)));
    }
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
