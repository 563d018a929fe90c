//! The failure matrix's Kafka rows, cell by cell: the production pipeline with the real librdkafka against a scripted broker.
//!
//! ```text
//!   rows/*.rs --list of cells--> run(filter) --a Bench each--> Broker (scripted), HeldStore (memory or files), runtime::backup (production)
//!                                     \--> KafkaCellsReport
//! ```
//!
//! A cell scripts a topic's contents and what goes wrong, runs the backup as the command does, again where it says so, and compares every
//! record that was stored with the script's own list, or finds that the lane stopped with the code that the protocol demands and nothing was
//! lost or repeated. It passes only if what it is about was to be seen ([`judge`]): each of its faults fired, the broker did answer what it
//! is about; if contents were compared; and if what the broker accepted and the store took keeps the invariants ([`order`]).
//!
//! One cell alone: [`run`] with its id, or by hand as [`replay`] says; with `CATCHMENT_LOG=debug` engine and client say what they do.

pub(crate) mod bench;
mod clock;
mod comparison;
pub(crate) mod contents;
pub(crate) mod data;
mod judge;
mod order;
mod rows;
mod store;
mod watcher;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catchment::store::BoxFuture;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use bench::Bench;

use crate::broker::batches;

/// There are at least so many. The list grows; who takes cells out of it says so here.
pub const CELLS_MIN: usize = 356;

/// Cells that run at a time. Most of a cell is waiting; more would make the machine, not the protocol, late.
const CELLS_AT_ONCE: usize = 16;

/// How long one cell may take.
const CELL_LIMIT: Duration = Duration::from_secs(300);

/// The cells whose subject nobody can see at the broker. A cell that is not named here must show its own.
const UNSEEN: [&str; 1] = ["k22.bootstrap-partly-dead"];

/// What a cell finds: nothing, or why it failed.
type Check = Result<(), String>;

/// What a cell does.
type Body = Arc<dyn for<'a> Fn(&'a mut Bench) -> BoxFuture<'a, Check> + Send + Sync>;

/// One cell.
#[derive(Clone)]
pub(crate) struct Cell {
    row: &'static str,
    id: String,
    what: String,
    nodes: usize,
    body: Body,
}

/// A list of cells that is being written.
#[derive(Default)]
pub(crate) struct Cells(Vec<Cell>);

impl Cells {
    /// A cell of one broker.
    pub(crate) fn add<F>(&mut self, row: &'static str, id: impl Into<String>, what: impl Into<String>, body: F)
    where
        F: for<'a> Fn(&'a mut Bench) -> BoxFuture<'a, Check> + Send + Sync + 'static,
    {
        self.add_with_nodes(1, row, id, what, body);
    }

    /// A cell of several brokers.
    pub(crate) fn add_with_nodes<F>(&mut self, nodes: usize, row: &'static str, id: impl Into<String>, what: impl Into<String>, body: F)
    where
        F: for<'a> Fn(&'a mut Bench) -> BoxFuture<'a, Check> + Send + Sync + 'static,
    {
        self.0.push(Cell { row, id: id.into(), what: what.into(), nodes, body: Arc::new(body) });
    }
}

/// A cell as a list names it.
#[derive(Clone, Debug, Serialize)]
pub struct CellName {
    /// The row of the failure matrix.
    pub row: String,
    /// Its id, by which it is run alone.
    pub id: String,
    /// What goes wrong in it, and what must come of it.
    pub what: String,
}

/// A cell that failed.
#[derive(Clone, Debug, Serialize)]
pub struct CellFailure {
    /// Its id.
    pub id: String,
    /// Why.
    pub why: String,
}

/// What running the cells found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KafkaCellsReport {
    /// Cells that ran.
    pub cells: u32,
    /// Cells that failed.
    pub failed: u32,
    /// Cells by row of the failure matrix.
    pub rows: BTreeMap<String, u32>,
    /// Times that a fault fired.
    pub faults: u64,
    /// Other things that cells are about and that were seen.
    pub shown: u64,
    /// Cells whose subject nobody can see at the broker, and why.
    pub unseen: BTreeMap<String, String>,
    /// Runs of the pipeline.
    pub runs: u64,
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
    /// Wall-clock time.
    pub seconds: f64,
    /// The slowest cells: id and seconds.
    pub slowest: Vec<(String, f64)>,
    /// Why cells failed.
    pub failures: Vec<CellFailure>,
}

impl fmt::Display for KafkaCellsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cells, failed, faults, shown, runs, compared, lost, duplicated, altered, foreign, seconds, .. } = self;
        write!(f, "{cells} cells, {failed} failed; {runs} runs, {faults} faults fired, {shown} other subjects seen, ")?;
        write!(f, "{compared} records compared: ")?;
        write!(f, "{lost} lost, {duplicated} duplicated, {altered} altered, {foreign} foreign; {seconds:.1} s")
    }
}

/// Every cell.
fn all() -> Vec<Cell> {
    let mut cells = Cells::default();
    rows::list(&mut cells);
    cells.0
}

/// The names of all cells.
pub fn names() -> Vec<CellName> {
    all().into_iter().map(|c| CellName { row: c.row.to_owned(), id: c.id, what: c.what }).collect()
}

/// The command that runs one cell by hand.
pub fn replay(id: &str) -> String {
    format!("KAFKA_CELL={id} CATCHMENT_LOG=debug cargo test --release --workspace --test kafka_cells -- --nocapture")
}

/// Runs the cells whose id contains `filter`; all, if it is empty. A whole id runs one cell.
///
/// # Panics
/// If a runtime cannot be made.
pub fn run(filter: &str) -> KafkaCellsReport {
    if let Ok(levels) = std::env::var("CATCHMENT_LOG") {
        // A second run in one process keeps the first log.
        let _ = tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr).try_init();
    }
    let all = all();
    let exact: Vec<Cell> = all.iter().filter(|c| c.id == filter).cloned().collect();
    let chosen = if exact.is_empty() { all.into_iter().filter(|c| c.id.contains(filter)).collect() } else { exact };
    // Takes a processor for a while, and would do so while other cells count seconds.
    batches::prepare_bomb();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime can be made");
    let report = runtime.block_on(run_all(chosen));
    runtime.shutdown_timeout(Duration::from_secs(5));
    report
}

async fn run_all(cells: Vec<Cell>) -> KafkaCellsReport {
    let began = Instant::now();
    let (slots, mut running, mut report) = (Arc::new(Semaphore::new(CELLS_AT_ONCE)), JoinSet::new(), KafkaCellsReport::default());
    for cell in cells {
        let slots = Arc::clone(&slots);
        running.spawn(async move {
            let _slot = slots.acquire_owned().await;
            let began = Instant::now();
            let (tally, outcome) = run_cell(&cell).await;
            (cell, tally, outcome, began.elapsed())
        });
    }
    while let Some(done) = running.join_next().await {
        let (cell, tally, outcome, took) = done.expect("a cell's panic is caught within it");
        report.cells += 1;
        *report.rows.entry(cell.row.to_owned()).or_default() += 1;
        report.add(&tally);
        report.unseen.extend(tally.unseen.map(|why| (cell.id.clone(), why.to_owned())));
        report.slowest.push((cell.id.clone(), (took.as_secs_f64() * 10.0).round() / 10.0));
        if let Err(why) = outcome {
            report.failed += 1;
            report.failures.push(CellFailure { id: cell.id, why });
        }
    }
    report.slowest.sort_by(|a, b| b.1.total_cmp(&a.1));
    report.slowest.truncate(10);
    report.failures.sort_by(|a, b| a.id.cmp(&b.id));
    report.seconds = began.elapsed().as_secs_f64();
    report
}

/// What a cell counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    runs: u64,
    faults: u64,
    shown: u64,
    unseen: Option<&'static str>,
    compared: u64,
    lost: u64,
    duplicated: u64,
    altered: u64,
    foreign: u64,
}

impl KafkaCellsReport {
    /// Cells that say that nobody can see their subject and are not known for it; of a run of all cells, also those that are known and say nothing.
    pub fn strangely_unseen(&self, all: bool) -> Vec<&str> {
        let unknown = self.unseen.keys().map(String::as_str).filter(|id| !UNSEEN.contains(id));
        let silent = UNSEEN.into_iter().filter(|id| all && !self.unseen.contains_key(*id));
        unknown.chain(silent).collect()
    }

    fn add(&mut self, tally: &Tally) {
        self.runs += tally.runs;
        self.faults += tally.faults;
        self.shown += tally.shown;
        self.compared += tally.compared;
        self.lost += tally.lost;
        self.duplicated += tally.duplicated;
        self.altered += tally.altered;
        self.foreign += tally.foreign;
    }
}

async fn run_cell(cell: &Cell) -> (Tally, Check) {
    let (body, nodes) = (Arc::clone(&cell.body), cell.nodes);
    let work = tokio::spawn(async move {
        let mut bench = Bench::new(nodes).await;
        let outcome = tokio::time::timeout(CELL_LIMIT, body(&mut bench)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("not over after {CELL_LIMIT:?}")));
        bench.judge(outcome).await
    });
    match work.await {
        Ok(judged) => judged,
        Err(failure) => (Tally::default(), Err(format!("it panicked: {failure}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_cells_may_say_that_nobody_can_see_their_subject() {
        let report = |ids: &[&str]| KafkaCellsReport {
            unseen: ids.iter().map(|id| ((*id).to_owned(), "nobody looks".to_owned())).collect(),
            ..KafkaCellsReport::default()
        };
        assert_eq!(report(&UNSEEN).strangely_unseen(true), [""; 0]);
        assert_eq!(report(&[UNSEEN[0], "k1.new"]).strangely_unseen(true), ["k1.new"]);
        assert_eq!(report(&[]).strangely_unseen(true), UNSEEN);
        assert_eq!(report(&[]).strangely_unseen(false), [""; 0], "another cell alone");
    }
}
