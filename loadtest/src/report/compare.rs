//! Two runs beside each other: each figure of both, and the difference in percent of the other run's.
//!
//! Not done here: no difference is called significant. One run each shows none; that takes several of both.

use super::Report;
use crate::units::{read_ms, read_number, read_size};

/// A figure of two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is.
    pub name: &'static str,
    /// This run's.
    pub this: String,
    /// The other run's.
    pub other: String,
    /// By how much this one is above the other one, in percent of that; none if either is not known, or the other one is 0.
    pub change_percent: Option<f64>,
}

/// Two runs beside each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// When the other one began.
    pub other_began: String,
    /// What was not alike, so that the figures are not of the same thing.
    pub unlike: Vec<String>,
    /// The figures.
    pub rows: Vec<Row>,
}

/// A figure, how it is shown, and how it is taken from a run.
type Figure = (&'static str, fn(f64) -> String, fn(&Report) -> Option<f64>);

const FIGURES: [Figure; 12] = [
    ("Throughput, values", |v| format!("{}/s", read_size(v)), |r| r.throughput.map(|t| t.bytes_per_s)),
    ("Throughput, records", |v| format!("{}/s", read_number(v.round())), |r| r.throughput.map(|t| t.records_per_s)),
    ("Time of the backup", |v| format!("{} s", read_number(v)), |r| r.throughput.map(|t| t.seconds)),
    ("CPU time for a GiB of values", |v| format!("{} s", read_number(v)), |r| r.throughput.map(|t| t.cpu_s_per_gib)),
    ("CPU time", |v| format!("{} s", read_number(v)), |r| Some(r.cost.cpu_s)),
    ("Peak memory", read_size, |r| Some(r.cost.peak_rss_bytes as f64)),
    ("Objects", read_number, |r| Some(r.verdict.objects as f64)),
    ("Size of the objects", read_size, |r| Some(r.verdict.object_bytes as f64)),
    ("Latency of sending, p50", read_ms, |r| r.produced.latency.map(|l| l.p50_ms)),
    ("Latency of sending, p99", read_ms, |r| r.produced.latency.map(|l| l.p99_ms)),
    ("Latency of sending, p99.9", read_ms, |r| r.produced.latency.map(|l| l.p999_ms)),
    ("Latency of sending, longest", read_ms, |r| r.produced.latency.map(|l| l.max_ms)),
];

/// By how much a figure is above another one, in percent of that.
fn change_percent(this: f64, other: f64) -> Option<f64> {
    (other != 0.0 && this.is_finite() && other.is_finite()).then(|| (this - other) / other.abs() * 100.0)
}

impl Comparison {
    /// Of a run with another one.
    pub fn of(this: &Report, other: &Report) -> Self {
        let row = |(name, show, take): &Figure| {
            let (mine, theirs) = (take(this), take(other));
            let shown = |value: Option<f64>| value.map_or_else(|| "not known".to_owned(), *show);
            let change_percent = mine.zip(theirs).and_then(|(mine, theirs)| change_percent(mine, theirs));
            Row { name, this: shown(mine), other: shown(theirs), change_percent }
        };
        Self { other_began: other.began.clone(), unlike: unlike(this, other), rows: FIGURES.iter().map(row).collect() }
    }
}

impl Row {
    /// The difference as it is shown.
    pub fn change(&self) -> String {
        self.change_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:+.1} %"))
    }
}

/// What two runs do not have in common.
fn unlike(this: &Report, other: &Report) -> Vec<String> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let facts = |r: &Report| {
        [
            ("mode", format!("{:?}", r.mode).to_lowercase()),
            ("partitions", r.load.partitions.to_string()),
            ("bytes of a record", r.load.record_bytes.clone()),
            ("keys", r.load.keys.clone()),
            ("codec", r.load.codec.clone()),
            ("rate", or_none(&r.load.rate)),
            ("records in a transaction", or_none(&r.load.transaction_records.map(|n| n.to_string()))),
            ("committed records", r.produced.committed_records.to_string()),
            ("cores", r.environment.cores.to_string()),
            ("processor", r.environment.cpu.clone()),
            ("kernel", r.environment.kernel.clone()),
            ("catchment", r.environment.catchment.clone()),
            ("librdkafka of the load test", r.environment.librdkafka.clone()),
            ("verified", if r.verdict.passed { "yes" } else { "no" }.to_owned()),
        ]
    };
    let pairs = facts(this).into_iter().zip(facts(other));
    pairs
        .filter(|((_, mine), (_, theirs))| mine != theirs)
        .map(|((name, mine), (_, theirs))| format!("{name}: {mine}, other {theirs}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn changes_are_in_percent_of_the_other_run() {
        assert_eq!(
            [change_percent(110.0, 100.0), change_percent(75.0, 100.0), change_percent(5.0, 5.0)],
            [Some(10.0), Some(-25.0), Some(0.0)]
        );
        assert_eq!([change_percent(5.0, 0.0), change_percent(f64::NAN, 1.0), change_percent(1.0, f64::INFINITY)], [None; 3]);
    }

    #[test]
    fn a_run_compared_with_itself_is_alike() {
        let comparison = Comparison::of(&example(), &example());
        assert_eq!(comparison.unlike, Vec::<String>::new());
        assert!(comparison.rows.iter().all(|row| row.change() == "+0.0 %" && row.this == row.other), "{comparison:?}");
    }

    #[test]
    fn what_differs_is_said() {
        let mut other = example();
        other.load.codec = "zstd".to_owned();
        other.environment.cores = 16;
        other.cost.peak_rss_bytes /= 2;
        let comparison = Comparison::of(&example(), &other);
        assert_eq!(comparison.unlike, ["codec: none, other zstd", "cores: 2, other 16"]);
        let memory = comparison.rows.iter().find(|row| row.name == "Peak memory").expect("there is such a row");
        assert_eq!((memory.this.as_str(), memory.other.as_str(), memory.change().as_str()), ("90.0 MiB", "45.0 MiB", "+100.0 %"));
    }

    #[test]
    fn a_run_that_was_not_verified_has_no_throughput_to_compare() {
        let mut other = example();
        other.verdict.passed = false;
        let comparison = Comparison::of(&example(), &other.honest());
        let row = &comparison.rows[0];
        assert_eq!((row.other.as_str(), row.change().as_str()), ("not known", "-"));
        assert!(comparison.unlike.contains(&"verified: yes, other no".to_owned()), "{:?}", comparison.unlike);
    }
}
