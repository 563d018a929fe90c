//! What a second core is worth: records of memory into a store that keeps nothing, by one CPU and by two, in turn.
//!
//! Its place: a mode of `ratio`. The engine runs in a process of its own that is kept to so many of its CPUs, and has as many threads that read and
//! as many that encode as it would have on a machine of that size. Speed is by the clock here, from the start to the last object: CPU time says
//! nothing of how well threads go side by side. So a machine with anything else to do shows too little.
//!
//! Guarantee: the ratio is made within a round, as all ratios are, and each run of it is checked as [every run of ours](crate::in_process) is.

use std::fmt::Write as _;

use serde::Serialize;

use crate::figures::{Spread, rounded};
use crate::in_process::{Input, Ran, Work};
use crate::machine::Machine;
use crate::measure::Programs;
use crate::report::{now, pretty};
use crate::row::{Format, Source};
use crate::{Failure, GIB, cores};

/// CPUs of the two runs of a round.
const CPUS: [usize; 2] = [1, 2];

/// One run of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    mb_s: f64,
    cpu_s_per_gib: f64,
}

impl Run {
    fn of(ran: &Ran) -> Self {
        let bytes = ran.value_bytes as f64;
        Self { mb_s: bytes / 1e6 / ran.wall_s, cpu_s_per_gib: ran.cpu_s * GIB / bytes }
    }
}

/// What one format and size shows, over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct ScaleRow {
    /// What is written.
    pub format: Format,
    /// About how large a record's value is.
    pub record_bytes: usize,
    /// What records come from.
    pub source: Source,
    /// The store.
    pub store: &'static str,
    /// The CPUs of the figures that follow.
    pub cpus: [usize; 2],
    /// Megabytes (10^6) of values for a second by the clock, medians.
    pub mb_s: [f64; 2],
    /// CPU seconds per GiB of values, medians.
    pub cpu_s_per_gib: [f64; 2],
    /// The second speed by the first, the median of the rounds.
    pub speed_up: f64,
    /// Its lowest and highest.
    pub speed_up_range: [f64; 2],
    /// Rounds that were measured.
    pub rounds: usize,
}

impl ScaleRow {
    fn of(format: Format, record_bytes: usize, rounds: &[[Run; 2]]) -> Self {
        let medians = |of: fn(&Run) -> f64| [0, 1].map(|n| rounded(Spread::of(rounds.iter().map(|round| of(&round[n]))).median));
        let speed_up = Spread::of_ratios(rounds.iter().map(|[one, two]| (two.mb_s, one.mb_s)));
        Self {
            format,
            record_bytes,
            source: Source::Synthetic,
            store: "null",
            cpus: CPUS,
            mb_s: medians(|run| run.mb_s),
            cpu_s_per_gib: medians(|run| run.cpu_s_per_gib),
            speed_up: rounded(speed_up.median),
            speed_up_range: [rounded(speed_up.low), rounded(speed_up.high)],
            rounds: rounds.len(),
        }
    }
}

/// Everything that one run has measured.
#[derive(Clone, Debug, Serialize)]
pub struct Scale {
    /// The rows, in the order in which they were measured.
    pub scale: Vec<ScaleRow>,
    /// Where.
    pub machine: Machine,
    /// When it was finished.
    pub date: String,
    /// By which words.
    pub command: String,
    /// MiB of values of a run.
    pub mib: u64,
}

impl Scale {
    /// Measures these formats and sizes. Each round is told on standard error as soon as it is over.
    ///
    /// # Errors
    /// If this process may not use two CPUs, or a run fails.
    pub fn measure(formats: &[Format], sizes: &[usize], mib: u64, rounds: u32, command: String) -> Result<Self, Failure> {
        let there = cores::allowed().len();
        if there < CPUS[1] {
            return Err(Failure::Asked(format!("--scale needs {} CPUs, and this process may use {there}", CPUS[1])));
        }
        let programs = Programs::new()?;
        let mut scale = Vec::new();
        for (size, format) in sizes.iter().flat_map(|size| formats.iter().map(move |format| (*size, *format))) {
            let measured = (1..=rounds).map(|n| round(&programs, format, size, mib, n)).collect::<Result<Vec<_>, _>>()?;
            scale.push(ScaleRow::of(format, size, &measured));
        }
        Ok(Self { scale, machine: Machine::this(), date: now(), command, mib })
    }

    /// For scripts.
    pub fn json(&self) -> String {
        pretty(self)
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = format!("{}\n{}, {}\n", self.command, self.date, self.machine);
        out.push_str("records of memory to a store that keeps nothing; MB/s by the clock, CPU seconds per GiB, by 1 and by 2 CPUs\n\n");
        out.push_str(" format  bytes  MB/s 1  MB/s 2  CPU-s 1  CPU-s 2  speed-up     from-to  rounds\n");
        for row in &self.scale {
            let ([one, two], [cpu_one, cpu_two], [low, high]) = (row.mb_s, row.cpu_s_per_gib, row.speed_up_range);
            let range = format!("{low:.2}-{high:.2}");
            writeln!(
                out,
                "{:>7}  {:>5}  {one:>6.0}  {two:>6.0}  {cpu_one:>7.2}  {cpu_two:>7.2}  {:>8.2}  {range:>10}  {:>6}",
                row.format.name(),
                row.record_bytes,
                row.speed_up,
                row.rounds,
            )
            .expect("a string takes everything");
        }
        out
    }
}

/// Both runs, one after the other.
fn round(programs: &Programs, format: Format, record_bytes: usize, mib: u64, n: u32) -> Result<[Run; 2], Failure> {
    let run = |cpus: usize| {
        let from = Input::Records { record_bytes, mib };
        let work = Work { from, format, to: None, rule: format!("ratio-scale-{cpus}"), cpus: Some(cpus), count: false };
        programs.engine(&work).map(|(_, ran)| Run::of(&ran))
    };
    let runs = [run(CPUS[0])?, run(CPUS[1])?];
    let [one, two] = runs.map(|run| run.mb_s);
    eprintln!("{} {record_bytes} B, round {n}: {one:.0} MB/s by one CPU, {two:.0} by two: {:.2}", format.name(), two / one);
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rounds() -> Vec<[Run; 2]> {
        let run = |mb_s, cpu_s_per_gib| Run { mb_s, cpu_s_per_gib };
        vec![
            [run(400.0, 2.6), run(760.0, 2.7)],
            // A machine that was half as fast meanwhile shows the same.
            [run(200.0, 2.6), run(376.0, 2.8)],
            [run(410.0, 2.5), run(738.0, 2.7)],
        ]
    }

    #[test]
    fn the_speed_up_is_made_within_a_round() {
        let row = ScaleRow::of(Format::Parquet, 1024, &rounds());
        assert_eq!((row.speed_up, row.speed_up_range, row.rounds), (1.88, [1.8, 1.9], 3));
        assert_eq!((row.mb_s, row.cpu_s_per_gib), ([400.0, 738.0], [2.6, 2.7]));
    }

    #[test]
    fn speed_is_by_the_clock_and_cost_by_the_cpu() {
        let ran = Ran { records: 1, value_bytes: 1 << 30, cpu_s: 2.5, minor_faults: 0, wall_s: 2.0, allocations: None };
        assert_eq!(Run::of(&ran), Run { mb_s: 536.870_912, cpu_s_per_gib: 2.5 });
    }

    #[test]
    fn both_forms_have_all_figures() {
        let row = ScaleRow::of(Format::Raw, 10_240, &rounds());
        let scale = Scale { scale: vec![row], machine: Machine::this(), date: now(), command: "ratio --scale".into(), mib: 64 };
        let printed: serde_json::Value = serde_json::from_str(&scale.json()).unwrap();
        let row = &printed["scale"][0];
        for (name, expected) in [
            ("format", json!("raw")),
            ("source", json!("synthetic")),
            ("store", json!("null")),
            ("speed_up", json!(1.88)),
            ("cpus", json!([1, 2])),
        ] {
            assert_eq!(row[name], expected, "{name}: {row}");
        }
        let table = scale.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[4].len(), lines[5].len(), "{table}");
        assert!(lines[5].ends_with("1.88   1.80-1.90       3") && lines.iter().skip(2).all(|line| line.len() <= 120), "{table}");
    }
}
