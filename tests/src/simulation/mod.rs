//! Simulation: the production pipeline on a scripted Kafka, a store that fails and a clock that does as it is told; one thread, one seed.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`plan`] | what a seed stands for |
//! | [`faults`] | the kinds of faults, and how often each was felt |
//! | [`world`] | chance, time, the trace |
//! | [`vitals`] | processes that stand still or are dead, and what they had under way |
//! | [`kafka`] | commits and questions that fail |
//! | [`store`], `fate` | requests that are lost, refused, late or doubled |
//! | [`process`] | one process: the pipeline, driven on this thread |
//! | [`story`] | the beginning, the ticks, the end |
//! | `events` | what happens between two ticks |
//! | `supervisor` | who starts a process again, and who gets which partition |
//! | [`unmet`] | what has happened and no process has met yet |
//! | [`uploads`] | multipart uploads that nobody completes |
//! | [`anchors`] | what anchors said, and when the store refused one |
//! | [`directed`] | the same without chance, for tests that say what happens |
//! | [`went_back`], [`full_copy`], [`given_up`], [`dead_lane`] | stories of it, which are also told by an engine without a guard |
//! | [`ledger`] | every record that was ever visible, and what may be missing |
//! | [`verdict`] | what the store holds in the end, against ledger and invariants |
//! | `lane_judge` | the same of one lane: the invariants of the protocol |
//! | `records` | the same, record by record |
//! | `damage` | planted damage, which the judges must see |
//! | `legacy` | what the lane of a topic that is gone leaves to the next one |
//!
//! The same seed gives the same trace, byte for byte. What it does not cover: sockets, the AWS SDK, librdkafka, threads; other layers do.

pub mod anchors;
#[cfg(test)]
mod damage;
pub mod dead_lane;
pub mod directed;
mod events;
mod fate;
pub mod faults;
pub mod full_copy;
pub mod given_up;
pub mod kafka;
mod lane_judge;
pub mod ledger;
mod legacy;
pub mod plan;
pub mod process;
mod records;
pub mod store;
pub mod story;
mod supervisor;
pub mod unmet;
pub mod uploads;
pub mod verdict;
pub mod vitals;
pub mod went_back;
pub mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use faults::{Fault, Tally};
use plan::{Plan, Scope};
use uploads::UploadCounts;
use verdict::Verdict;
use vitals::OPERATIONS;
use world::World;

/// A story without chance: what is wrong in the end.
pub type Tell = fn() -> Vec<String>;

/// Stories that an engine without one of its guards is told by, too.
pub const STORIES: [(&str, Tell); 5] = [
    ("went-back", went_back::run),
    ("full-copy", full_copy::run),
    ("zombie-gives-up", given_up::by_zombie),
    ("late-complete", given_up::complete_shows_late),
    ("dead-lane", dead_lane::run),
];

/// What one seed gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is wrong, if anything.
    pub verdict: Verdict,
    /// How often each fault was felt.
    pub tally: Tally,
    /// In which operations processes were killed, and how often.
    pub crashes: BTreeMap<&'static str, u64>,
    /// What became of uploads.
    pub uploads: UploadCounts,
    /// CRC-64/XZ of the trace.
    pub trace_crc: u64,
    /// Lines of the trace.
    pub trace_lines: u64,
    /// The trace, if it was asked for.
    pub trace: Vec<String>,
}

/// Runs one seed.
///
/// # Panics
/// If there is no runtime to be had, or the pipeline itself panics.
pub fn run_seed(seed: u64, scope: Scope, keep_trace: bool) -> Outcome {
    let end = on_simulated_time(async { story::run(World::new(Plan::of(seed, scope), keep_trace)).await });
    let (trace_crc, trace_lines, trace) = end.world.traced();
    let uploads = end.world.uploads(|book| book.counts());
    Outcome { verdict: end.verdict, tally: end.world.tally(), crashes: end.world.crashes(), uploads, trace_crc, trace_lines, trace }
}

/// Runs something on one thread, where time passes only while nobody has anything to do.
///
/// # Panics
/// If there is no runtime to be had.
fn on_simulated_time<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(run)
}

/// The command that runs a seed again and prints its trace.
pub fn replay(seed: u64, scope: Scope) -> String {
    let settled = if scope == Scope::Settled { " --settled" } else { "" };
    format!("cargo run --release -p catchment-tests --bin simulate -- --seed {seed}{settled}")
}

/// Says how to repeat what ends in a panic.
struct OnPanic(String);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat it: {}", self.0);
        }
    }
}

/// What many seeds gave.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SimulationReport {
    /// Seeds that were run.
    pub seeds: u64,
    /// Faults that were felt.
    pub faults: u64,
    /// Records that are stored once, as they were.
    pub compared: u64,
    /// Records that should be stored and are not, where nobody can know better.
    pub excused: u64,
    /// Records lost.
    pub lost: u64,
    /// Records stored more than once.
    pub duplicated: u64,
    /// Records or objects that changed.
    pub altered: u64,
    /// Whether each seed that was run twice gave the same trace.
    pub deterministic: bool,
    /// The seeds that did not.
    pub twofold: Vec<u64>,
    /// How often each fault was felt.
    pub by_fault: Tally,
    /// In which operations processes were killed, and how often.
    pub crashes: BTreeMap<&'static str, u64>,
    /// What became of uploads.
    pub uploads: UploadCounts,
    /// What was found, by seed.
    pub findings: Vec<(u64, Vec<String>)>,
}

/// Seeds from which on a run is held to what it must have met.
pub const SEEDS_JUDGED: u64 = 2_000;

/// Times that each kind of fault must be felt then to mean something, and uploads be left by processes that were killed.
const FELT_MIN: u64 = 200;

/// Faults that must be felt in a seed, on the average: less is another simulation.
const FAULTS_A_SEED_MIN: u64 = 20;

/// Records that must be compared in a seed, on the average: fewer, and nothing lost says little.
const COMPARED_A_SEED_MIN: u64 = 100;

/// At most one record is excused for so many that are compared.
const EXCUSED_ONE_IN_MIN: u64 = 100;

/// Times that a process must be killed in each operation.
const KILLED_MIN: u64 = 5;

/// Of a hundred uploads that killed processes left, so many must be aborted by others. Of the rest most became objects, or nobody comes back to them.
const SWEPT_PERCENT_MIN: u64 = 75;

/// Of so many seeds one is run twice.
const TWICE_EVERY: u64 = 20;

/// Runs `seeds` seeds from `first` on, on as many threads as there are cores.
///
/// # Panics
/// As [`run_seed`].
pub fn run(first: u64, seeds: u64, scope: Scope) -> SimulationReport {
    let next = AtomicU64::new(first);
    let report = Mutex::new(SimulationReport { seeds, deterministic: true, ..SimulationReport::default() });
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|threads| {
        for _ in 0..cores {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let _command = OnPanic(replay(seed, scope));
                    let outcome = run_seed(seed, scope, false);
                    let same = !seed.is_multiple_of(TWICE_EVERY) || run_seed(seed, scope, false) == outcome;
                    report.lock().unwrap_or_else(PoisonError::into_inner).add(seed, &outcome, same);
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.findings.sort();
    report
}

impl SimulationReport {
    fn add(&mut self, seed: u64, outcome: &Outcome, same: bool) {
        self.faults += outcome.tally.sum();
        self.compared += outcome.verdict.compared;
        self.excused += outcome.verdict.excused;
        self.lost += outcome.verdict.lost;
        self.duplicated += outcome.verdict.duplicated;
        self.altered += outcome.verdict.altered;
        self.deterministic &= same;
        self.twofold.extend((!same).then_some(seed));
        self.by_fault.merge(&outcome.tally);
        self.uploads.merge(&outcome.uploads);
        for (operation, count) in &outcome.crashes {
            *self.crashes.entry(operation).or_default() += count;
        }
        if !outcome.verdict.is_good() {
            self.findings.push((seed, outcome.verdict.findings.clone()));
        }
    }

    /// What a run of every fault met too seldom to show anything. Of what each seed meets by chance alone, only long runs are judged.
    pub fn shortfalls(&self) -> Vec<String> {
        let mut short = Vec::new();
        if self.faults < self.seeds * FAULTS_A_SEED_MIN {
            short.push(format!("only {} faults were felt in {} seeds", self.faults, self.seeds));
        }
        if self.compared < self.seeds * COMPARED_A_SEED_MIN || self.excused * EXCUSED_ONE_IN_MIN > self.compared {
            short.push(format!("{} records were compared, and {} excused", self.compared, self.excused));
        }
        if self.seeds < SEEDS_JUDGED {
            return short;
        }
        let felt = Fault::of(Scope::Every).map(|fault| (fault, self.by_fault.of(fault)));
        short.extend(felt.filter(|(_, times)| *times < FELT_MIN).map(|(fault, times)| format!("{fault:?} was felt {times} times")));
        let killed = OPERATIONS.iter().map(|op| (op, self.crashes.get(op).copied().unwrap_or_default()));
        short.extend(
            killed.filter(|(_, times)| *times < KILLED_MIN).map(|(op, times)| format!("processes were killed {times} times in {op}")),
        );
        let UploadCounts { orphaned, swept, .. } = self.uploads;
        if orphaned < FELT_MIN || swept * 100 < orphaned * SWEPT_PERCENT_MIN {
            short.push(format!("killed processes left {orphaned} uploads, of which others aborted {swept}"));
        }
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each fault felt, each operation met and uploads swept just often enough.
    fn sufficient() -> SimulationReport {
        let mut report = SimulationReport { seeds: SEEDS_JUDGED, faults: SEEDS_JUDGED * FAULTS_A_SEED_MIN, ..SimulationReport::default() };
        (report.compared, report.excused) = (SEEDS_JUDGED * COMPARED_A_SEED_MIN, SEEDS_JUDGED * COMPARED_A_SEED_MIN / EXCUSED_ONE_IN_MIN);
        Fault::of(Scope::Every).for_each(|fault| (0..FELT_MIN).for_each(|_| report.by_fault.add(fault)));
        report.crashes = OPERATIONS.iter().map(|op| (*op, KILLED_MIN)).collect();
        report.uploads = UploadCounts { orphaned: FELT_MIN, swept: FELT_MIN * SWEPT_PERCENT_MIN / 100, left: 0 };
        report
    }

    #[test]
    fn a_long_run_that_meets_anything_too_seldom_is_found() {
        assert_eq!(sufficient().shortfalls(), [""; 0]);
        let damaged = |damage: &dyn Fn(&mut SimulationReport)| {
            let mut report = sufficient();
            damage(&mut report);
            report.shortfalls()
        };
        assert_eq!(damaged(&|r| r.faults -= 1).len(), 1);
        assert_eq!(damaged(&|r| r.compared -= 1).len(), 1);
        assert_eq!(damaged(&|r| r.excused += 1), [format!("{} records were compared, and {} excused", 200_000, 2_001)]);
        assert_eq!(damaged(&|r| r.by_fault = Tally::default()).len(), Fault::of(Scope::Every).count());
        let spared = |report: &mut SimulationReport| {
            report.crashes.remove(OPERATIONS[0]);
        };
        assert_eq!(damaged(&spared).len(), 1);
        assert_eq!(damaged(&|r| r.uploads.swept -= 1), ["killed processes left 200 uploads, of which others aborted 149"]);
        assert_eq!(damaged(&|r| r.uploads = UploadCounts { orphaned: 199, swept: 199, left: 0 }).len(), 1);
        assert_eq!(damaged(&|r| (r.seeds, r.crashes) = (400, BTreeMap::new())), [""; 0], "a short run need not meet everything");
    }
}
