//! What is printed: one JSON object for scripts, or a table for people.
//!
//! Both hold the same figures, with what is needed to judge them: date, machine, command, rounds that do not count.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Machine;
use crate::row::Row;

/// Everything that one run has measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The rows, in the order in which they were measured.
    pub rows: Vec<Row>,
    /// Where.
    pub machine: Machine,
    /// When it was finished.
    pub date: String,
    /// By which words.
    pub command: String,
    /// MiB of values in a topic that was filled for this run.
    pub mib: u64,
    /// Rounds that were measured, of all rows.
    pub rounds: usize,
    /// Those of them that do not count, since the floor had moved by more than a tenth.
    pub dropped: usize,
}

impl Report {
    /// Of these rows, now.
    pub fn of(rows: Vec<Row>, command: String, mib: u64) -> Self {
        let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
        Self { machine: Machine::this(), date: now(), command, mib, rounds: sum(|row| row.rounds), dropped: sum(|row| row.dropped), rows }
    }

    /// For scripts.
    pub fn json(&self) -> String {
        pretty(self)
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = format!("{}\n{}, {}\n{LEGEND}\n\n", self.command, self.date, self.machine);
        let width = HEAD.map(str::len);
        line(&mut out, &HEAD.map(str::to_owned), &width);
        for row in &self.rows {
            line(&mut out, &cells(row), &width);
        }
        for row in &self.rows {
            details(&mut out, row);
        }
        out
    }
}

/// The time, as reports have it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// One JSON object for scripts.
pub(crate) fn pretty(report: &impl Serialize) -> String {
    serde_json::to_string_pretty(report).expect("plain values serialise")
}

/// Columns of a line, so that a table can be read in a terminal.
const COLUMNS: usize = 120;

const LEGEND: &str =
    "engine, floor, drain: CPU seconds per GiB of values; /floor, /drain: the engine by them; MB/s: for a second of CPU time;
MiB: the engine's peak; faults: minor, per GiB; drop: rounds that do not count";

/// Wide enough for every figure below it.
const HEAD: [&str; 15] = [
    " format",
    "bytes",
    "    source",
    " codec",
    "store",
    "engine",
    "floor",
    "drain",
    "/floor",
    "   from-to",
    "/drain",
    " MB/s",
    "  MiB",
    "faults",
    "drop",
];

fn cells(row: &Row) -> [String; 15] {
    let [low, high] = row.ratio_range;
    let or_none = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"));
    [
        row.format.name().to_owned(),
        row.record_bytes.to_string(),
        row.source.name().to_owned(),
        row.topic_codec.clone(),
        row.store.clone(),
        format!("{:.2}", row.engine_cpu_s_per_gib),
        format!("{:.2}", row.floor_cpu_s_per_gib),
        or_none(row.drain_cpu_s_per_gib),
        format!("{:.2}", row.ratio),
        format!("{low:.2}-{high:.2}"),
        or_none(row.ratio_to_drain),
        format!("{:.0}", row.mb_s_per_core),
        format!("{:.0}", row.peak_rss_mib),
        format!("{:.0}", row.minor_faults_per_gib),
        format!("{}/{}", row.dropped, row.rounds),
    ]
}

fn line(out: &mut String, cells: &[String; 15], width: &[usize; 15]) {
    for (cell, width) in cells.iter().zip(width) {
        write!(out, "{cell:>width$}  ").expect("a string takes everything");
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
}

/// Where the engine's time goes, what it has allocated, and what the floor is made of.
fn details(out: &mut String, row: &Row) {
    let (format, bytes, source, codec, store) = (row.format.name(), row.record_bytes, row.source.name(), &row.topic_codec, &row.store);
    let roles = named(row.roles.iter().filter(|(_, cpu_s)| **cpu_s >= 0.005), 2);
    wrapped(out, &format!("\n{format} {bytes} B, {codec}, {source} to {store}: "), &roles);
    if let (Some(of_all), Some(by_role)) = (row.allocations_per_record, &row.allocations_by_role) {
        wrapped(out, &format!("  {of_all:.4} allocations per record: "), &named(by_role.iter(), 4));
    }
    let parts = &row.floor_parts;
    writeln!(
        out,
        "  floor alone: zstd {:.2}, loopback {:.2}, copies and checksums {:.2}; the floor is {:.2} of their sum{}",
        parts.compression,
        parts.loopback,
        parts.copies,
        parts.floor_to_sum,
        if parts.within_a_tenth { "" } else { ", MORE THAN A TENTH OFF" },
    )
    .expect("a string takes everything");
}

/// Roles with their figures, the largest first.
fn named<'a>(figures: impl Iterator<Item = (&'a String, &'a f64)>, digits: usize) -> Vec<String> {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(|a, b| b.1.total_cmp(a.1));
    figures.into_iter().map(|(role, figure)| format!("{role} {figure:.digits$}")).collect()
}

/// Items behind a beginning, on as many lines as they need.
fn wrapped(out: &mut String, begin: &str, items: &[String]) {
    out.push_str(begin);
    let mut column = begin.trim_start_matches('\n').len();
    for (n, item) in items.iter().enumerate() {
        let comma = if n + 1 < items.len() { "," } else { "" };
        if column + item.len() + comma.len() > COLUMNS {
            out.truncate(out.trim_end().len());
            out.push_str("\n    ");
            column = 4;
        }
        write!(out, "{item}{comma} ").expect("a string takes everything");
        column += item.len() + comma.len() + 1;
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cost::Cost;
    use crate::floor::{Floored, Parts};
    use crate::in_process::{Allocations, Input};
    use crate::row::{Case, Format, Round};

    fn report() -> Report {
        let from = Input::Topic { brokers: "h:1".into(), topic: "t".into() };
        let case = Case { from, topic_codec: "zstd".into(), format: Format::Raw, record_bytes: 100 };
        let cost = |cpu_s| Cost { cpu_s, peak_mib: 300.0, minor_faults: 10, roles: [("upload".into(), 0.75 * cpu_s)].into() };
        let parts = Parts { compression: 0.0, loopback: 0.2, copies: 0.1 };
        let floor = Floored { cpu_s_per_gib: 0.3, parts };
        let round = Round { engine: cost(2.0), drain: Some(cost(2.5)), floor, records: 1 << 20, value_bytes: 1 << 30 };
        let counted = Allocations { records: 1000, calls: [("builder".into(), 2), ("consumer".into(), 3)].into() };
        let of_memory = Case { from: Input::Records { record_bytes: 100, mib: 1024 }, topic_codec: "none".into(), ..case.clone() };
        let undrained = Round { drain: None, ..round.clone() };
        let rows = vec![Row::of(&case, "file", &[round.clone(), round], None), Row::of(&of_memory, "null", &[undrained], Some(&counted))];
        Report::of(rows, "ratio --json".into(), 1024)
    }

    /// What scripts may rely on.
    #[test]
    fn the_json_has_what_the_contract_names() {
        let printed: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        let row = &printed["rows"][0];
        for name in [
            "record_bytes",
            "engine_cpu_s_per_gib",
            "floor_cpu_s_per_gib",
            "drain_cpu_s_per_gib",
            "ratio",
            "ratio_to_drain",
            "spread",
            "mb_s_per_core",
            "peak_rss_mib",
            "minor_faults_per_gib",
        ] {
            assert!(row[name].is_number(), "{name}: {row}");
        }
        for (name, expected) in [
            ("format", json!("raw")),
            ("codec", json!("none")),
            ("source", json!("librdkafka")),
            ("store", json!("file")),
            ("topic_codec", json!("zstd")),
            ("ratio", json!(6.667)),
            ("ratio_to_drain", json!(0.8)),
            ("spread", json!(0.0)),
            ("roles", json!({"unseen": 0.5, "upload": 1.5})),
            ("rounds", json!(2)),
            ("topic", json!("t")),
            ("allocations_per_record", json!(null)),
        ] {
            assert_eq!(row[name], expected, "{name}: {row}");
        }
        let of_memory = &printed["rows"][1];
        for (name, expected) in [
            ("source", json!("synthetic")),
            ("store", json!("null")),
            ("topic", json!(null)),
            ("drain_cpu_s_per_gib", json!(null)),
            ("ratio_to_drain", json!(null)),
            ("ratio", json!(6.667)),
            ("allocations_per_record", json!(0.005)),
            ("allocations_by_role", json!({"builder": 0.002, "consumer": 0.003})),
        ] {
            assert_eq!(of_memory[name], expected, "{name}: {of_memory}");
        }
        assert_eq!((&printed["rounds"], &printed["dropped"]), (&json!(3), &json!(0)));
        assert!(printed["machine"]["cores"].as_u64().is_some_and(|cores| cores > 0), "{printed}");
        assert!(printed["date"].is_string() && printed["command"] == "ratio --json", "{printed}");
    }

    #[test]
    fn the_table_has_a_line_for_each_row_and_its_columns_stand_below_each_other() {
        let table = report().table();
        let lines: Vec<&str> = table.lines().collect();
        let (head, row, of_memory) = (lines[5], lines[6], lines[7]);
        assert!(head.ends_with("drop") && row.ends_with("0/2") && of_memory.ends_with("0/1"), "{table}");
        let end = |line: &str, text: &str| line.find(text).unwrap_or_else(|| panic!("{text}: {table}")) + text.len();
        assert_eq!(end(head, "/floor"), end(row, "6.67"), "{table}");
        assert_eq!(end(head, "drain"), end(of_memory, " -"), "{table}");
        assert!(table.contains("raw 100 B, zstd, librdkafka to file: upload 1.50, unseen 0.50\n"), "{table}");
        assert!(table.contains("  0.0050 allocations per record: consumer 0.0030, builder 0.0020\n"), "{table}");
        assert!(table.contains("the floor is 1.00 of their sum\n"), "{table}");
        // The first two say where it ran, and by which words.
        assert!(lines.iter().skip(2).all(|line| line.len() <= COLUMNS), "{table}");
    }

    #[test]
    fn many_roles_take_several_lines() {
        let mut out = String::new();
        let items: Vec<String> = (0..20).map(|n| format!("role-{n} 1.00")).collect();
        wrapped(&mut out, "begin: ", &items);
        assert!(out.lines().count() > 1 && out.lines().all(|line| line.len() <= COLUMNS && line == line.trim_end()), "{out}");
        assert_eq!(out.split_whitespace().collect::<Vec<_>>().join(" "), format!("begin: {}", items.join(", ")));
    }
}
