//! The report of a run: what was sent, what came of it, on which machine, by which command line.
//!
//! Place: `run` writes it as `report.json`, and `report` makes a page of one or of two of these.
//!
//! Guarantee: without a verification that passed there is no throughput in it, at no moment of the run, even if the file says one.

mod chart;
mod compare;
mod environment;
mod page;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::compare::{Comparison, Row};
pub use self::environment::Environment;
pub use self::page::page;
use crate::failure::{Failure, Result};
use crate::load::LoadSummary;
use crate::produce::Figures;
use crate::sampling::Sample;
use crate::verify::Verdict;

/// Of the form of the file.
pub const VERSION: u32 = 1;

/// When the backup ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// After everything was sent: how fast can it be drained?
    Drain,
    /// While it was sent: does it keep up?
    Live,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Of the form of this file.
    pub version: u32,
    /// When it began, UTC.
    pub began: String,
    /// The command line, without secrets.
    pub command: Vec<String>,
    /// Bootstrap brokers. Reports of earlier versions do not name them.
    #[serde(default)]
    pub brokers: Vec<String>,
    /// Where it ran.
    pub environment: Environment,
    /// When the backup ran.
    pub mode: Mode,
    /// What was to be sent.
    pub load: LoadSummary,
    /// What was sent.
    pub produced: Figures,
    /// Whether the backup is right.
    pub verdict: Verdict,
    /// What the backup cost.
    pub cost: Cost,
    /// How fast it was. Absent unless the verdict is good.
    pub throughput: Option<Throughput>,
    /// Sizes of the stored objects, in the order in which they were stored.
    pub object_bytes: Vec<u64>,
    /// From a window's close to its object, in milliseconds, in the same order.
    pub window_delay_ms: Vec<u64>,
    /// Moment by moment.
    pub samples: Vec<Sample>,
}

/// What a backup cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU time, user and system.
    pub cpu_s: f64,
    /// Peak resident memory.
    pub peak_rss_bytes: u64,
}

/// How fast a backup was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// From the start of the backup to the end of its last process.
    pub seconds: f64,
    /// Records in a second.
    pub records_per_s: f64,
    /// Bytes of values in a second.
    pub bytes_per_s: f64,
    /// CPU time for a GiB of values.
    pub cpu_s_per_gib: f64,
    /// Size of the objects in parts of the values' size.
    pub stored_share: f64,
}

impl Throughput {
    /// Of so much in that time, at that cost.
    pub fn of(figures: &Figures, seconds: f64, cost: Cost, object_bytes: u64) -> Self {
        let (records, bytes) = (figures.committed_records as f64, figures.committed_bytes as f64);
        let seconds = seconds.max(1e-6);
        Self {
            seconds,
            records_per_s: records / seconds,
            bytes_per_s: bytes / seconds,
            cpu_s_per_gib: cost.cpu_s / (bytes / f64::from(1_u32 << 30)).max(1e-9),
            stored_share: object_bytes as f64 / bytes.max(1.0),
        }
    }
}

impl Report {
    /// The same without anything that says how fast the backup was, unless the verdict is good.
    pub fn honest(mut self) -> Self {
        if !self.verdict.passed {
            self.throughput = None;
            for sample in &mut self.samples {
                (sample.read_bytes_per_s, sample.stored_records, sample.lag_records) = (None, None, None);
            }
        }
        self
    }

    /// Reads a report.
    ///
    /// # Errors
    /// If the file cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Failure::new(format!("the report {shown} cannot be read"))
                .because(e)
                .help("name the report.json that catchment-loadtest run wrote")
        })?;
        let report: Self = serde_json::from_str(&text).map_err(|e| {
            Failure::new(format!("{shown} is not a report")).because(e).help("name the report.json that catchment-loadtest run wrote")
        })?;
        match report.version {
            VERSION => Ok(report.honest()),
            other => Err(Failure::new(format!("{shown} is a report of version {other}, and this program reads version {VERSION}"))),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write(path, &(serde_json::to_string_pretty(self).expect("plain values serialise") + "\n"))
    }
}

/// Writes a file.
///
/// # Errors
/// If that cannot be done.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let unwritable =
        |e| Failure::new(format!("{} cannot be written", path.display())).because(e).help("free some space, or choose another place");
    std::fs::write(path, text).map_err(unwritable)
}

/// A command line without secrets: values of properties that are one are left out.
pub fn without_secrets(words: impl IntoIterator<Item = String>) -> Vec<String> {
    const SECRET: [&str; 7] = ["password", "secret", "token", "jaas", "key.pem", "ssl.key", "assertion"];
    let is_secret = |name: &str| SECRET.iter().any(|part| name.to_ascii_lowercase().contains(part));
    let hide = |word: String| match word.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}=..."),
        _ => word,
    };
    words.into_iter().map(hide).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::audit::Findings;
    use crate::latency::Latencies;
    use crate::verify::Way;

    /// A run that was verified.
    pub(crate) fn example() -> Report {
        let mut latencies = Latencies::new();
        (1..=1000).for_each(|ms| latencies.add(std::time::Duration::from_millis(ms)));
        let produced = Figures {
            records: 1_100,
            bytes: 1_126_400,
            committed_records: 1_000,
            committed_bytes: 1 << 20,
            transactions: 11,
            aborted_transactions: 1,
            seconds: 2.0,
            is_scheduled: true,
            behind_ms: 3.0,
            latency: latencies.summary(),
            transaction_latency: None,
        };
        let payloads = Findings { committed: 1_000, read: 1_000, found: 1_000, ..Findings::default() };
        let verdict = Verdict {
            passed: true,
            faults: Vec::new(),
            payloads_read_from: Way::Objects,
            objects: 2,
            object_bytes: 300_000,
            records: 1_000,
            compared: 1_000,
            payloads,
        };
        let cost = Cost { cpu_s: 1.5, peak_rss_bytes: 90 << 20 };
        let sample = |n: u32| Sample {
            at_s: f64::from(n),
            cpu_percent: 80.0 + f64::from(n),
            rss_bytes: (60 + u64::from(n)) << 20,
            read_bytes_per_s: Some(1e6),
            stored_records: Some(u64::from(n) * 100),
            lag_records: Some(1000 - u64::from(n) * 100),
        };
        let load = LoadSummary {
            topic: "orders".to_owned(),
            partitions: 4,
            record_bytes: "1KiB".to_owned(),
            keys: "unique".to_owned(),
            codec: "none".to_owned(),
            rate: Some("500/s".to_owned()),
            transaction_records: Some(100),
            abort_percent: 10.0,
            seed: 7,
        };
        let environment = Environment {
            cores: 2,
            cpu: "A <CPU>".to_owned(),
            memory_bytes: 8 << 30,
            kernel: "6.1".to_owned(),
            catchment: "catchment 0.1.0".to_owned(),
            loadtest: "0.1.0".to_owned(),
            librdkafka: "2.12.1".to_owned(),
        };
        Report {
            version: VERSION,
            began: "2026-01-02T03:04:05Z".to_owned(),
            command: vec!["catchment-loadtest".to_owned(), "run".to_owned()],
            brokers: vec!["a:9092".to_owned(), "b:9092".to_owned()],
            environment,
            mode: Mode::Drain,
            load,
            throughput: Some(Throughput::of(&produced, 4.0, cost, verdict.object_bytes)),
            produced,
            verdict,
            cost,
            object_bytes: vec![100_000, 200_000],
            window_delay_ms: vec![20, 30],
            samples: (1..=8).map(sample).collect(),
        }
    }

    #[test]
    fn throughput_is_arithmetic() {
        let throughput = example().throughput.expect("it was verified");
        assert_eq!((throughput.records_per_s, throughput.bytes_per_s), (250.0, 262_144.0));
        assert!((throughput.cpu_s_per_gib - 1536.0).abs() < 1e-6, "{throughput:?}");
        assert!((throughput.stored_share - 300_000.0 / 1_048_576.0).abs() < 1e-9, "{throughput:?}");
    }

    #[test]
    fn a_report_that_was_not_verified_has_no_throughput_even_if_its_file_says_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("report.json");
        let mut report = example();
        report.verdict.passed = false;
        report.write(&path).expect("the directory is writable");
        let read = Report::read(&path).expect("it is a report");
        assert_eq!(read.throughput, None);
        assert!(read.samples.iter().all(
            |sample| sample.read_bytes_per_s.or(sample.lag_records.map(|lag| lag as f64)).is_none() && sample.stored_records.is_none()
        ));
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("report.json");
        example().write(&path).expect("the directory is writable");
        assert_eq!(Report::read(&path).expect("it was written"), example());
        let mut earlier = serde_json::to_value(example()).expect("plain values serialise");
        earlier.as_object_mut().expect("an object").remove("brokers");
        write(&path, &earlier.to_string()).expect("the directory is writable");
        assert_eq!(Report::read(&path).expect("an earlier one").brokers, Vec::<String>::new());
        write(&path, "{}").expect("the directory is writable");
        assert!(Report::read(&path).expect_err("it is none").to_string().contains("is not a report"));
        assert!(write(&directory.path().join("no/such/directory"), "").is_err());
    }

    #[test]
    fn secrets_are_left_out_of_the_command_line() {
        let words = ["run", "-X", "sasl.password=hunter2", "-Xssl.key.password=x", "--to", "s3://b/?region=r", "-X", "sasl.username=me"];
        let shown = without_secrets(words.map(str::to_owned)).join(" ");
        assert_eq!(shown, "run -X sasl.password=... -Xssl.key.password=... --to s3://b/?region=r -X sasl.username=me");
    }
}
