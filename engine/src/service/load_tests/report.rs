//! A report of `catchment-loadtest`, as far as it is shown.
//!
//! Place in the flow: [`super`] opens the file, the API and the console show what is made of it here. Its form is that of `loadtest/src/report.rs`, on which the
//! engine does not depend: what is missing in a file is not known, and what is not known here is left alone.
//!
//! Guarantees: no throughput of a load test that was not verified, even if its file says one; texts are short, and steer neither a terminal nor a page;
//! brokers are shown without who logs in there.
//!
//! Not here: whether the verdict is right. The program that wrote the file has looked.

use std::fmt;
use std::io::Read;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::text::one_line;

/// The form of the file.
const VERSION: u64 = 1;

/// Characters of a text that are shown.
const TEXT_MAX: usize = 200;

/// Texts of a list that are shown.
const TEXTS_MAX: usize = 10;

/// A load test as it is shown. What its report does not say is null.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct LoadTest {
    /// Its name: that of its directory.
    pub name: String,
    /// Why its report cannot be read, with file, line and column; nothing else is known then.
    pub problem: Option<String>,
    /// When it began, ms since 1970.
    pub began_ms: Option<i64>,
    /// Whether every committed record was found in the backup, once and whole, and nothing else.
    pub verified: bool,
    /// Some of what was wrong.
    pub faults: Vec<String>,
    /// Bootstrap brokers, without users and passwords.
    pub brokers: Vec<String>,
    /// The topic.
    pub topic: Option<String>,
    /// Its partitions.
    pub partitions: Option<u64>,
    /// When the backup ran: `drain`, after everything was sent, or `live`, meanwhile.
    pub mode: Option<String>,
    /// Bytes of a record's value.
    pub record_bytes: Option<String>,
    /// Keys of the records.
    pub keys: Option<String>,
    /// Codec of the batches.
    pub codec: Option<String>,
    /// The rate; null for as fast as possible.
    pub rate: Option<String>,
    /// Records in a transaction; null without transactions.
    pub transaction_records: Option<u64>,
    /// Committed records.
    pub records: Option<u64>,
    /// Bytes of their values.
    pub bytes: Option<u64>,
    /// From when a record was due, without a rate from when it was sent, to its acknowledgement.
    pub latency: Option<Latency>,
    /// How fast the backup was; null unless it was verified.
    pub throughput: Option<Throughput>,
    /// CPU time of the backup, user and system, in seconds.
    pub cpu_s: Option<f64>,
    /// Peak resident memory of the backup.
    pub peak_rss_bytes: Option<u64>,
    /// Stored objects.
    pub objects: Option<u64>,
    /// Their size.
    pub object_bytes: Option<u64>,
    /// Cores of the machine.
    pub cores: Option<u64>,
    /// Its processor.
    pub cpu: Option<String>,
    /// Its kernel.
    pub kernel: Option<String>,
    /// The program that was tested, with its version.
    pub catchment: Option<String>,
    /// Version of the Kafka client that sent the load.
    pub librdkafka: Option<String>,
    /// Whether there is a page of it.
    pub has_page: bool,
}

/// Latencies of sending, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(as = LoadTestLatency)]
pub struct Latency {
    /// Half of them were shorter.
    pub p50_ms: Option<f64>,
    /// Ninety-nine in a hundred.
    pub p99_ms: Option<f64>,
    /// 999 in a thousand.
    pub p999_ms: Option<f64>,
    /// The longest.
    pub max_ms: Option<f64>,
}

/// How fast a backup was.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(as = LoadTestThroughput)]
pub struct Throughput {
    /// From the start of the backup to the end of its last process.
    pub seconds: Option<f64>,
    /// Records in a second.
    pub records_per_s: Option<f64>,
    /// Bytes of values in a second.
    pub bytes_per_s: Option<f64>,
    /// CPU time for a GiB of values.
    pub cpu_s_per_gib: Option<f64>,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    version: Option<u64>,
    began: Option<String>,
    brokers: Few,
    mode: Option<String>,
    environment: Environment,
    load: Load,
    produced: Produced,
    verdict: Verdict,
    cost: Cost,
    throughput: Option<Throughput>,
}

#[derive(Debug, Default, Deserialize)]
struct Environment {
    cores: Option<u64>,
    cpu: Option<String>,
    kernel: Option<String>,
    catchment: Option<String>,
    librdkafka: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Load {
    topic: Option<String>,
    partitions: Option<u64>,
    record_bytes: Option<String>,
    keys: Option<String>,
    codec: Option<String>,
    rate: Option<String>,
    transaction_records: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Produced {
    committed_records: Option<u64>,
    committed_bytes: Option<u64>,
    latency: Option<Latency>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Verdict {
    passed: bool,
    faults: Few,
    objects: Option<u64>,
    object_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Cost {
    cpu_s: Option<f64>,
    peak_rss_bytes: Option<u64>,
}

/// The first texts of a list, however long it is.
#[derive(Debug, Default)]
struct Few(Vec<String>);

impl<'de> Deserialize<'de> for Few {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FewOfList)
    }
}

struct FewOfList;

impl<'de> Visitor<'de> for FewOfList {
    type Value = Few;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few, A::Error> {
        let mut few = Vec::new();
        while few.len() < TEXTS_MAX {
            match list.next_element()? {
                Some(text) => few.push(text),
                None => return Ok(Few(few)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Few(few))
    }
}

/// Reads a report, which is the file `at`. Its name is the caller's matter.
///
/// # Errors
/// Why it cannot be read: file, line and column, reason.
pub(super) fn read(at: &str, file: impl Read) -> Result<LoadTest, String> {
    let content: Content = serde_json::from_reader(file).map_err(|e| problem(at, &e))?;
    match content.version {
        None | Some(VERSION) => Ok(shown(content)),
        Some(other) => Err(format!("{at}: it is of version {other}, and version {VERSION} is read here")),
    }
}

fn problem(at: &str, error: &serde_json::Error) -> String {
    let (line, column, said) = (error.line(), error.column(), error.to_string());
    match said.strip_suffix(&format!(" at line {line} column {column}")) {
        Some(why) => format!("{at}:{line}:{column}: {}", short(why)),
        None => format!("{at}: {}", short(&said)),
    }
}

fn shown(found: Content) -> LoadTest {
    let Content { began, brokers, mode, environment: here, load, produced, verdict, cost, throughput, .. } = found;
    let text = |text: Option<String>| text.map(|text| short(&text));
    let verified = verdict.passed && verdict.faults.0.is_empty();
    LoadTest {
        began_ms: began.and_then(|at| at.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_millisecond),
        verified,
        faults: verdict.faults.0.iter().map(|fault| short(fault)).collect(),
        brokers: brokers.0.iter().map(|broker| short(&masked(broker))).collect(),
        topic: text(load.topic),
        partitions: load.partitions,
        mode: text(mode),
        record_bytes: text(load.record_bytes),
        keys: text(load.keys),
        codec: text(load.codec),
        rate: text(load.rate),
        transaction_records: load.transaction_records,
        records: produced.committed_records,
        bytes: produced.committed_bytes,
        latency: produced.latency,
        throughput: throughput.filter(|_| verified),
        cpu_s: cost.cpu_s,
        peak_rss_bytes: cost.peak_rss_bytes,
        objects: verdict.objects,
        object_bytes: verdict.object_bytes,
        cores: here.cores,
        cpu: text(here.cpu),
        kernel: text(here.kernel),
        catchment: text(here.catchment),
        librdkafka: text(here.librdkafka),
        ..LoadTest::default()
    }
}

/// A broker's address without who logs in there.
fn masked(broker: &str) -> String {
    broker.rsplit_once('@').map_or_else(|| broker.to_owned(), |(_, address)| format!("***@{address}"))
}

/// The beginning of a text, in one line.
fn short(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", one_line(&text[..end])),
        None => one_line(text),
    }
}
