//! Processes that fall asleep between pin and tidy while another member takes over; then they wake.
//!
//! The sleeper stops itself by SIGSTOP at a point, of normal operation or, where it has found what a killed one pinned, of the recovery.
//! Another member joins, gets every lane once the sleeper's session is over, and goes on to the end. Then the sleeper is woken: what it was
//! about to send it may send, an upload that it was about to abort it may abort, what it was about to commit is refused, and in the end it
//! finds that everything is there. With a store whose guard is atomic, with one whose guard lets two writers pass, and with one that has none.
//!
//! Who has slept past its session knows so when it wakes: its client revokes every lane within milliseconds, and what it was about to send is sent only if
//! it is faster than that. How much it sent is counted, and nothing is demanded of it. So that requests of a process without its lanes surely come, some
//! points are also met by one that [does not know](Waking::Unaware): the coordinator has ended its session early, and says nothing to it until it has sent. Most
//! of these send what they were about to publish, and some must in each class; a guard of class A or B refuses it, since the object stands; in class C some
//! object must be written a second time, with the same bytes.
//!
//! Such a process may also end with C0205: a commit that it had sent under its old membership is sent again by its client once it has joined anew, and the
//! coordinator fences a static member that comes under a membership of before. Everything is asked of it as of the others, and how many ended so is said.

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
use crate::process::{Exit, Process};
use crate::s3::{Logged, Op};

/// Cells that run at a time. A cell is asleep, or waits for a session's end, nearly all of the time.
const CELLS_AT_ONCE: usize = 32;

/// The same of processes that do not know that their session is over. Few, and before the others: who sleeps for longer than
/// [`PIN_AGE_MAX`](catchment::limits::PIN_AGE_MAX), on a machine that has too much to do, renews its pin before it sends anything, and hears what became of it.
const UNAWARE_AT_ONCE: usize = 6;

/// How often the latter are run again, at most, if none of a class sent anything.
const AGAIN_MAX: usize = 2;

/// Sleepers: 13 points that single PUTs of Parquet pass between pin and tidy and 21 of multipart uploads of raw values, in classes A, B, C.
const SLEEPERS: u32 = (13 + 21) * 3;

/// Sleepers that do not know that their session is over: 2 points and 4 before a request that publishes, in classes A, B, C.
const UNAWARE: u32 = (2 + 4) * 3;

/// How long a process may take to fall asleep, and another one to take over and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// The session of a process that sleeps without knowing that it is over: longer than it sleeps.
const LONG_SESSION: Duration = Duration::from_secs(240);

/// Points behind which a request that publishes is the next thing that a lane does, but for the record beside a raw object. Not `publish-sent`: the request
/// may have been done before its process fell asleep. Not `before-late-complete`: who finds a pin renews it first.
const BEFORE_PUBLISHING: [Point; 4] = [Point::AfterPin, Point::BeforeRecord, Point::AfterRecord, Point::BeforePublish];

/// Points between pin and tidy: those of a process that pins, and those of one that finds a pin.
const POINTS: [Point; 21] = [
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
    Point::BeforeGiveUp,
    Point::AfterOutwait,
    Point::BeforeRepublish,
    Point::AfterRepublish,
    Point::BeforeAbortReplaced,
];

/// What processes did when they woke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Woken {
    /// How many slept and woke.
    pub sleepers: u32,
    /// Requests to publish a data object that they sent after that, by class of the guard: A, B, C.
    pub sent: [u64; 3],
    /// Objects that were written a second time, with the same bytes, by class.
    pub rewritten: [u64; 3],
    /// How many ended with C0205, fenced by a request of their own from before.
    pub fenced: u32,
}

impl fmt::Display for Woken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sleepers, sent, rewritten, fenced } = self;
        write!(f, "{sleepers} woke, sent {sent:?} publishing requests and rewrote {rewritten:?} objects by class, {fenced} were fenced")
    }
}

/// What the sleepers came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SleepersReport {
    /// Those that slept past their session.
    pub late: Woken,
    /// Those that did not know that their session was over.
    pub unaware: Woken,
    /// Records compared.
    pub compared: u64,
    /// Records that were visible and are not stored.
    pub lost: u64,
    /// Records that are stored more than once.
    pub duplicated: u64,
    /// Records that are stored with another content.
    pub altered: u64,
    /// Uploads that sleepers aborted when they woke.
    pub aborted: u64,
    /// Wall-clock time.
    pub seconds: f64,
    /// Cells that failed, and why.
    pub failures: Vec<CellFailure>,
}

impl fmt::Display for SleepersReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { late, unaware, compared, lost, duplicated, altered, aborted, failures, seconds } = self;
        write!(f, "past their session {late}; unaware of its end {unaware}; ")?;
        write!(f, "{compared} records compared: {lost} lost, {duplicated} duplicated, {altered} altered; ")?;
        write!(f, "{aborted} uploads aborted after waking; {} failed; {seconds:.1} s", failures.len())
    }
}

/// What a process knows when it wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waking {
    /// That its session is over.
    Late,
    /// Nothing.
    Unaware,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    point: Point,
    form: Form,
    class: GuardClass,
    waking: Waking,
}

impl SleepersReport {
    /// Runs cells, so many at a time, and adds what they found.
    fn play(&mut self, at_a_time: usize, cells: &[Cell]) {
        for (cell, (found, _)) in cells.iter().zip(at_once(at_a_time, cells, run_cell)) {
            self.add(cell, found);
        }
    }

    fn add(&mut self, cell: &Cell, found: Found) {
        let woken = if cell.waking == Waking::Late { &mut self.late } else { &mut self.unaware };
        woken.sleepers += u32::from(found.slept);
        woken.sent[cell.class as usize] += found.sent;
        woken.rewritten[cell.class as usize] += found.rewritten;
        woken.fenced += u32::from(found.fenced);
        self.compared += found.compared.records;
        self.lost += found.compared.lost;
        self.duplicated += found.compared.duplicated;
        self.altered += found.compared.altered;
        self.aborted += found.aborted;
        self.failures.extend(found.failure.map(|why| CellFailure { id: cell.id(), why, replay: cell.replay() }));
    }

    /// Whether a process without its lanes sent what the guard of this class refuses, or what a store without one takes.
    fn shows(&self, class: GuardClass) -> bool {
        self.unaware.sent[class as usize] > 0 && (class != GuardClass::C || self.unaware.rewritten[class as usize] > 0)
    }

    /// What a run of all cells met too seldom to show anything.
    pub fn shortfalls(&self) -> Vec<String> {
        let mut short = Vec::new();
        for (name, woken, all) in [("past their session", self.late, SLEEPERS), ("unaware", self.unaware, UNAWARE)] {
            if woken.sleepers != all {
                short.push(format!("{} of {all} {name} slept and woke", woken.sleepers));
            }
        }
        if !CLASSES.into_iter().all(|class| self.shows(class)) {
            short.push(format!("no request of a process without its lanes came, or none was felt: {}", self.unaware));
        }
        if self.aborted == 0 {
            short.push("no sleeper aborted an upload when it woke".to_owned());
        }
        short
    }
}

#[derive(Clone, Debug, Default)]
struct Found {
    slept: bool,
    compared: Compared,
    sent: u64,
    rewritten: u64,
    aborted: u64,
    fenced: bool,
    failure: Option<String>,
}

impl Cell {
    fn id(&self) -> String {
        let unaware = if self.waking == Waking::Unaware { ".unaware" } else { "" };
        format!("{}.{}.{:?}{unaware}", self.point.name(), self.form.name(), self.class)
    }

    /// Whether what its process did after waking is what the protocol and the store's guard let it do.
    fn judge(&self, rewritten: u64) -> Result<(), String> {
        if self.class != GuardClass::C && rewritten > 0 {
            return Err(format!("a guard of class {:?} let {rewritten} second writes of what stood through", self.class));
        }
        Ok(())
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
            let of = |points: &[Point], waking: Waking| {
                let points: Vec<Point> = points.iter().copied().filter(|point| makes_sense(*point, form)).collect();
                points.into_iter().map(move |point| Cell { point, form, class, waking })
            };
            cells.extend(of(&POINTS, Waking::Late).chain(of(&BEFORE_PUBLISHING, Waking::Unaware)));
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
    let (unaware, late): (Vec<Cell>, Vec<Cell>) = cells.into_iter().partition(|cell| cell.waking == Waking::Unaware);
    let mut report = SleepersReport::default();
    report.play(UNAWARE_AT_ONCE, &unaware);
    let slept = report.unaware.sleepers;
    // How many are faster than the word that their session is over is chance: on a machine that has too much to do it may be none of a class.
    for class in CLASSES.into_iter().filter(|_| filter.is_empty()) {
        let of_class: Vec<Cell> = unaware.iter().filter(|cell| cell.class == class).copied().collect();
        for _ in 0..AGAIN_MAX {
            if !report.shows(class) {
                report.play(UNAWARE_AT_ONCE, &of_class);
            }
        }
    }
    // Who slept the first time is counted, and nobody twice.
    report.unaware.sleepers = slept;
    report.play(CELLS_AT_ONCE, &late);
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
    let program = bench.armed(&format!("{}:2:stop", cell.point.name()), "member-1");
    let mut sleeper = match cell.waking {
        Waking::Late => program.spawn(),
        Waking::Unaware => program.args(["-X", &format!("session.timeout.ms={}", LONG_SESSION.as_millis())]).spawn(),
    };
    await_asleep(&mut sleeper)?;
    if cell.waking == Waking::Unaware {
        bench.give_up_silently("member-1");
    }
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
    if cell.waking == Waking::Unaware {
        await_publishing(&bench, requests);
        bench.tell_everybody();
    }
    let woken = sleeper.wait(PATIENCE);
    found.fenced = cell.waking == Waking::Unaware && is_fenced(&woken);
    if woken.code() != Some(0) && !found.fenced {
        return Err(format!("the sleeper ended with {}: {}", woken.status, tail(&woken.stderr)));
    }
    bench.settle();
    let log = &bench.store_state().log()[requests..];
    found.aborted = log.iter().filter(|r| r.op == Op::AbortMultipartUpload && r.status == 204).count() as u64;
    found.sent = log.iter().filter(|r| is_publishing(r)).count() as u64;
    found.compared = bench.compare()?;
    found.rewritten = bench.rewritten();
    cell.judge(found.rewritten)
}

/// Whether a process ended since its coordinator took it for another one under the same name.
fn is_fenced(exit: &Exit) -> bool {
    exit.code() == Some(6) && exit.stderr.contains("error[C0205]")
}

/// Waits until a data object was to be published after so many requests; how many were is judged later.
fn await_publishing(bench: &Bench<'_>, requests: usize) {
    let deadline = Instant::now() + PATIENCE / 4;
    while Instant::now() < deadline && !bench.store_state().log()[requests..].iter().any(is_publishing) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a request is one that makes a data object visible.
fn is_publishing(request: &Logged) -> bool {
    matches!(request.op, Op::PutObject | Op::CompleteMultipartUpload) && !request.key.contains("_catchment/")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleepers_that_are_missing_or_sent_nothing_are_found() {
        let (late, unaware) = (
            Woken { sleepers: SLEEPERS, ..Woken::default() },
            Woken { sleepers: UNAWARE, sent: [1; 3], rewritten: [0, 0, 1], ..Woken::default() },
        );
        let full = SleepersReport { late, unaware, aborted: 1, ..SleepersReport::default() };
        assert_eq!(full.shortfalls(), [""; 0]);
        let fewer = SleepersReport { late: Woken { sleepers: SLEEPERS - 1, ..late }, ..full.clone() };
        let fewer_unaware = SleepersReport { unaware: Woken { sleepers: 0, ..unaware }, ..full.clone() };
        let silent = SleepersReport { unaware: Woken { sent: [1, 0, 1], ..unaware }, ..full.clone() };
        let unfelt = SleepersReport { unaware: Woken { rewritten: [0; 3], ..unaware }, ..full.clone() };
        let tame = SleepersReport { aborted: 0, ..full };
        for damaged in [fewer, fewer_unaware, silent, unfelt, tame] {
            assert_eq!(damaged.shortfalls().len(), 1, "{damaged}");
        }
    }

    #[test]
    fn only_without_a_guard_may_an_object_be_written_again() {
        let form = Form { sending: Sending::Put, format: Format::Raw };
        for class in CLASSES {
            let judged = |rewritten| Cell { point: Point::BeforePublish, form, class, waking: Waking::Unaware }.judge(rewritten).is_ok();
            assert_eq!((judged(0), judged(1)), (true, class == GuardClass::C));
        }
    }
}
