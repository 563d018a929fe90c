//! The hostile S3 server, cell by cell: every operation that the engine sends × everything that can go wrong × before and after it took
//! effect × the manners of AWS, COS, MinIO and of a service that ignores the create-only guard, which makes guard classes A, B and C. Real
//! sockets, the real SDK, and the production pipeline behind them.
//!
//! A cell is a small backup of two partitions in which one request goes wrong as the cell's id says. Kafka is scripted
//! ([`scripted`](crate::scripted)), the engine's own waits pass quickly, time-outs of requests are short and real. Where an operation is
//! only sent in recovery, a first process dies at the place that needs it, and the trouble meets the second one.
//!
//! A cell passes if the trouble was met as often as it strikes, the backup reached its end by itself, every record is in exactly one object, unaltered, the
//! protocol's invariants hold over all pins and objects, no object changed once it was visible, and no upload is left open. A process may
//! stop and ask only where the service has refused a request for good ([`Cell::may_stop`]); it is then started again.
//!
//! One cell again, with everything that was requested and committed:
//!
//! ```text
//! CATCHMENT_S3_CELLS=PutObject/reset/after/cos cargo test --release --workspace --test s3_cells -- every_cell --nocapture
//! ```
//!
//! Any part of an id selects all cells that contain it; `#7` behind an id is the data of seed 7.

mod cell;
mod harm;
mod instance;
mod judge;
mod play;
mod scene;
mod script;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use cell::{Cell, Moment, OPERATIONS, Service, Trouble};
use harm::{Gates, Harm};
use play::{Played, play};

/// Cells whose trouble is the operation's own, with the manners of AWS, COS and MinIO: so many at least were promised.
pub const OWN_CELLS_MIN: usize = 672;

/// Cells that run at a time: most of them wait most of the time.
const CELLS_AT_ONCE: usize = 12;

/// Runs of so few cells keep what happened in each; larger ones keep it of cells that failed.
const TRACED_MAX: usize = 6;

/// What came of one cell.
#[derive(Clone, Debug, Serialize)]
pub struct CellResult {
    /// Its id, and the seed of its data.
    pub id: String,
    /// What went wrong.
    pub what: String,
    /// Whether that stands for a trouble that makes no sense for the operation.
    pub is_replaced: bool,
    /// How often.
    pub fired: u64,
    /// How often it was to.
    pub due: u64,
    /// Records that were compared.
    pub compared: usize,
    /// Data objects that hold them.
    pub objects: usize,
    /// Records that are in no object.
    pub lost: usize,
    /// Records that are in more than one.
    pub duplicated: usize,
    /// Records that are not as they were sent, or were never sent.
    pub altered: usize,
    /// Why processes stopped before the end.
    pub stops: Vec<String>,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u128,
    /// Why it did not pass; empty if it did.
    pub failures: Vec<String>,
    /// What happened.
    #[serde(skip)]
    pub trace: Vec<String>,
}

/// What came of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct S3CellsReport {
    /// Cells that were played, each seed counted.
    pub cells: usize,
    /// Those whose trouble stands for another one that makes no sense for the operation.
    pub replaced: usize,
    /// Those that did not pass.
    pub failed: usize,
    /// Requests that went wrong.
    pub faults: u64,
    /// Records that were compared.
    pub compared: usize,
    /// Records that are in no object.
    pub lost: usize,
    /// Records that are in more than one.
    pub duplicated: usize,
    /// Records that are not as they were sent.
    pub altered: usize,
    /// Processes that stopped and had to be started again.
    pub stops: usize,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u128,
    /// Every cell.
    pub results: Vec<CellResult>,
}

/// Plays all cells whose ids contain `filter`, each with the data of so many seeds.
///
/// # Panics
/// If no runtime can be made.
pub fn run(filter: &str, seeds: u64) -> S3CellsReport {
    let runtime = Runtime::new().expect("a runtime can be made");
    let began = Instant::now();
    let (part, one_seed) = match filter.split_once('#') {
        Some((part, seed)) => (part, seed.parse().ok()),
        None => (filter, None),
    };
    let seeds: Vec<u64> = one_seed.map_or_else(|| (0..seeds).collect(), |seed| vec![seed]);
    let cells = Cell::all().into_iter().filter(|cell| cell.to_string().contains(part));
    let cells: Vec<_> = cells.flat_map(|cell| seeds.iter().map(move |seed| (cell, *seed))).collect();
    let results = runtime.block_on(play_all(cells));
    runtime.shutdown_timeout(Duration::from_secs(5));
    S3CellsReport { elapsed_ms: began.elapsed().as_millis(), ..S3CellsReport::of(results) }
}

async fn play_all(cells: Vec<(Cell, u64)>) -> Vec<CellResult> {
    let with_traces = cells.len() <= TRACED_MAX;
    let room = Arc::new(Semaphore::new(CELLS_AT_ONCE));
    let mut running = JoinSet::new();
    for (number, (cell, seed)) in cells.into_iter().enumerate() {
        let room = Arc::clone(&room);
        running.spawn(async move {
            let _room = room.acquire_owned().await;
            // A task of its own: a cell that panics fails, and the others go on.
            let played = tokio::spawn(play(cell, seed)).await.unwrap_or_else(|e| Err(format!("panicked: {e}")));
            let mut result = CellResult::of(&cell, seed, played);
            if result.passed() && !with_traces {
                result.trace.clear();
            }
            (number, result)
        });
    }
    let mut results = running.join_all().await;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

impl Cell {
    /// What goes wrong in it.
    pub fn what(&self) -> String {
        Harm::of(self, &Gates::default()).what
    }

    /// Whether its trouble makes no sense for its operation, and another one stands for it.
    pub fn is_replaced(&self) -> bool {
        Harm::of(self, &Gates::default()).is_replaced
    }
}

impl CellResult {
    fn of(cell: &Cell, seed: u64, played: Result<Played, String>) -> Self {
        let mut result = Self {
            id: format!("{cell}#{seed}"),
            what: cell.what(),
            is_replaced: cell.is_replaced(),
            fired: 0,
            due: 0,
            compared: 0,
            objects: 0,
            lost: 0,
            duplicated: 0,
            altered: 0,
            stops: Vec::new(),
            elapsed_ms: 0,
            failures: Vec::new(),
            trace: Vec::new(),
        };
        match played {
            Ok(played) => result.fill(cell, played),
            Err(why) => result.failures.push(why),
        }
        result
    }

    fn fill(&mut self, cell: &Cell, played: Played) {
        let difference = &played.verdict.difference;
        (self.fired, self.due) = (played.fired, played.due);
        (self.compared, self.objects) = (difference.compared, played.verdict.objects);
        (self.lost, self.duplicated) = (difference.lost.len(), difference.duplicated.len());
        self.altered = difference.altered.len() + difference.foreign.len();
        self.elapsed_ms = played.elapsed.as_millis();
        self.failures = played.verdict.violations;
        if !difference.is_none() {
            self.failures.push(difference.to_string());
        }
        if self.fired != self.due {
            self.failures.push(format!("the trouble was met {} times, and strikes {} times", self.fired, self.due));
        }
        if played.felt == Some(0) {
            self.failures.push("the client did not feel it: no request was given up or repeated".to_owned());
        }
        if self.compared == 0 || self.objects == 0 {
            self.failures.push("nothing was compared".to_owned());
        }
        if !played.stops.is_empty() && !cell.may_stop() {
            self.failures.push(format!("it stopped, and need not have: {:?}", played.stops));
        }
        (self.stops, self.trace) = (played.stops, played.trace);
    }

    /// Whether it passed.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// The command that plays it again, with everything that happens.
    pub fn replay(&self) -> String {
        let id = &self.id;
        format!("CATCHMENT_S3_CELLS='{id}' cargo test --release --workspace --test s3_cells -- every_cell --nocapture")
    }
}

impl S3CellsReport {
    fn of(results: Vec<CellResult>) -> Self {
        let mut report = Self { cells: results.len(), ..Self::default() };
        for result in &results {
            report.replaced += usize::from(result.is_replaced);
            report.failed += usize::from(!result.passed());
            report.faults += result.fired;
            report.compared += result.compared;
            report.lost += result.lost;
            report.duplicated += result.duplicated;
            report.altered += result.altered;
            report.stops += result.stops.len();
        }
        Self { results, ..report }
    }
}

#[cfg(test)]
mod tests {
    use super::judge::Verdict;
    use super::*;
    use crate::oracle::Difference;

    fn result(fired: u64, felt: Option<u64>, compared: usize) -> CellResult {
        let verdict = Verdict { difference: Difference { compared, ..Difference::default() }, objects: 1, violations: Vec::new() };
        let played = Played { verdict, fired, due: 1, felt, stops: Vec::new(), elapsed: Duration::ZERO, trace: Vec::new() };
        CellResult::of(&Cell::all()[0], 0, Ok(played))
    }

    #[test]
    fn a_trouble_that_was_not_met_or_not_felt_fails_its_cell() {
        assert_eq!(result(1, None, 1).failures, [""; 0]);
        assert_eq!(result(1, Some(1), 1).failures, [""; 0]);
        for damaged in [result(0, None, 1), result(1, Some(0), 1), result(1, None, 0)] {
            assert_eq!(damaged.failures.len(), 1, "{damaged:?}");
        }
    }

    #[test]
    fn cells_whose_trouble_is_another_one_are_told_apart() {
        let replaced = Cell::all().iter().filter(|cell| cell.is_replaced()).count();
        let results = Cell::all().iter().map(|cell| CellResult::of(cell, 0, Err("not played".to_owned()))).collect();
        let report = S3CellsReport::of(results);
        assert_eq!((report.cells - report.replaced, report.failed), (1_360 - replaced, 1_360));
        assert!(replaced > 0);
    }
}
