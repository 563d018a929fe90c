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
        Self {
            machine: Machine::this(),
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            command,
            mib,
            rounds: sum(|row| row.rounds),
            dropped: sum(|row| row.dropped),
            rows,
        }
    }

    /// For scripts.
    ///
    /// # Panics
    /// Never: plain values can be serialised.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain values serialise")
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = format!("{}\n{}, {}\nCPU seconds per GiB of values\n\n", self.command, self.date, self.machine);
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

/// Wide enough for every figure below it.
const HEAD: [&str; 14] = [
    " format",
    "bytes",
    " topic",
    "store",
    "engine",
    " floor",
    " drain",
    "engine/floor",
    "     from-to",
    "engine/drain",
    "MB/s per core",
    "peak MiB",
    "minor faults/GiB",
    "dropped",
];

fn cells(row: &Row) -> [String; 14] {
    let [low, high] = row.ratio_range;
    [
        row.format.name().to_owned(),
        row.record_bytes.to_string(),
        row.topic_codec.clone(),
        row.store.clone(),
        format!("{:.2}", row.engine_cpu_s_per_gib),
        format!("{:.2}", row.floor_cpu_s_per_gib),
        format!("{:.2}", row.drain_cpu_s_per_gib),
        format!("{:.2}", row.ratio),
        format!("{low:.2}-{high:.2}"),
        format!("{:.2}", row.ratio_to_drain),
        format!("{:.0}", row.mb_s_per_core),
        format!("{:.0}", row.peak_rss_mib),
        format!("{:.0}", row.minor_faults_per_gib),
        format!("{} of {}", row.dropped, row.rounds),
    ]
}

fn line(out: &mut String, cells: &[String; 14], width: &[usize; 14]) {
    for (cell, width) in cells.iter().zip(width) {
        write!(out, "{cell:>width$}  ").expect("a string takes everything");
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
}

/// Where the engine's time goes, and what the floor is made of.
fn details(out: &mut String, row: &Row) {
    let mut roles: Vec<_> = row.roles.iter().filter(|(_, cpu_s)| **cpu_s >= 0.005).collect();
    roles.sort_by(|a, b| b.1.total_cmp(a.1));
    let roles: Vec<String> = roles.into_iter().map(|(role, cpu_s)| format!("{role} {cpu_s:.2}")).collect();
    let parts = &row.floor_parts;
    write!(
        out,
        "\n{} {} B, {}: {}\n  floor alone: zstd {:.2}, loopback {:.2}, copies and checksums {:.2}; the floor is {:.2} of their sum{}\n",
        row.format.name(),
        row.record_bytes,
        row.topic_codec,
        roles.join(", "),
        parts.compression,
        parts.loopback,
        parts.copies,
        parts.floor_to_sum,
        if parts.within_a_tenth { "" } else { ", MORE THAN A TENTH OFF" },
    )
    .expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cost::Cost;
    use crate::floor::{Floored, Parts};
    use crate::row::{Case, Format, Round};

    fn report() -> Report {
        let case = Case { format: Format::Raw, record_bytes: 100, topic_codec: "zstd".into(), topic: "t".into() };
        let cost = |cpu_s| Cost { cpu_s, peak_mib: 300.0, minor_faults: 10, roles: [("upload".into(), 0.75 * cpu_s)].into() };
        let parts = Parts { compression: 0.0, loopback: 0.2, copies: 0.1 };
        let floor = Floored { cpu_s_per_gib: 0.3, parts };
        let round = Round { engine: cost(2.0), drain: cost(2.5), floor, records: 1 << 20, value_bytes: 1 << 30 };
        Report::of(vec![Row::of(&case, "file", &[round.clone(), round])], "ratio --json".into(), 1024)
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
        ] {
            assert_eq!(row[name], expected, "{name}: {row}");
        }
        assert_eq!((&printed["rounds"], &printed["dropped"]), (&json!(2), &json!(0)));
        assert!(printed["machine"]["cores"].as_u64().is_some_and(|cores| cores > 0), "{printed}");
        assert!(printed["date"].is_string() && printed["command"] == "ratio --json", "{printed}");
    }

    #[test]
    fn the_table_has_a_line_for_each_row_and_its_columns_stand_below_each_other() {
        let table = report().table();
        let lines: Vec<&str> = table.lines().collect();
        let (head, row) = (lines[4], lines[5]);
        assert!(head.ends_with("dropped") && row.ends_with("0 of 2"), "{table}");
        let end = |line: &str, text: &str| line.find(text).unwrap_or_else(|| panic!("{text}: {table}")) + text.len();
        assert_eq!(end(head, "engine/floor"), end(row, "6.67"), "{table}");
        assert!(table.contains("raw 100 B, zstd: upload 1.50, unseen 0.50"), "{table}");
        assert!(table.contains("the floor is 1.00 of their sum\n"), "{table}");
    }
}
