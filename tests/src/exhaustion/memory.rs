//! A store that has stalled, 64 partitions that go on, and no more memory than 768 MiB; their batches as they are, and compressed to a thousandth or, later, to a
//! hundredth.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use catchment::store::open::open;
use serde::Serialize;

use super::cgroup::{MemoryGroup, is_required};
use crate::broker::Broker;
use crate::broker::batches::{Batch, Record};
use crate::broker::codecs::Codec;
use crate::kafka_cells::bench::QUICK;
use crate::kafka_cells::contents::{Expected, compare};
use crate::kafka_cells::data::FIRST_MS;
use crate::process::{Process, Program, binary};
use crate::s3::{Config, Fault, Op, Personality, S3Server};

/// What the group may have.
const LIMIT: u64 = 768 << 20;

/// What the process is told to keep to.
const BUDGET: u64 = 512 << 20;

const PARTITIONS: usize = 64;

/// Records of a partition, 10 MiB of values: all of them together are a quarter more than the budget.
const RECORDS: i64 = 160;

const VALUE_BYTES: usize = 64 << 10;

/// Records of a partition that are noise: 2 MiB, so that the process has seen many before it sees others.
const NOISE_RECORDS: i64 = 32;

/// How long the process may take to store everything once the store is back.
const CATCH_UP: Duration = Duration::from_secs(240);

/// How long a stop may take on a machine that has other things to do. `outages` shows that it takes less than ten seconds.
const STOP: Duration = Duration::from_secs(60);

/// How much longer it may take to fill its memory.
const FILLING: Duration = Duration::from_secs(120);

/// How often the process is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How far the batches of the topic unfold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batches {
    /// Not compressed.
    Plain,
    /// Equal bytes, compressed: a thousand times.
    Alike,
    /// Noise first, and then a hundred times.
    AlikeLater,
}

/// What a stalled store did to a process.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryReport {
    /// What it was told to keep to, in bytes.
    pub budget: u64,
    /// What the kernel allowed it, in bytes; none: no group could be made, and only its own peak was measured.
    pub limit: Option<u64>,
    /// Which version of cgroups, or why there was none.
    pub group: String,
    /// Its largest resident memory, in bytes.
    pub peak: u64,
    /// What the group had at most, page cache included, in bytes.
    pub group_peak: Option<u64>,
    /// How often the kernel ended it.
    pub kills: u64,
    /// How long the store was stalled, in seconds.
    pub stalled_s: f64,
    /// Requests of data that the store let hang.
    pub hung: usize,
    /// Records compared after the store was back.
    pub compared: u64,
    /// Records lost, stored twice, altered.
    pub differing: u64,
}

/// Runs a backup of 64 partitions into a store that takes no byte for `stalled`, ends it, and runs another one to the end into the store as it should be.
///
/// # Errors
/// If a process ended before its time, or with an error, or there is no group where there must be one.
///
/// # Panics
/// If no sockets can be had.
pub fn stalled_store(batches: Batches, stalled: Duration) -> Result<MemoryReport, String> {
    let group = MemoryGroup::new(LIMIT);
    if let (Err(why), true) = (&group, is_required()) {
        return Err(format!("no memory cgroup can be made, and CI is set (CATCHMENT_TEST_WITHOUT_CGROUP=1 goes without): {why}"));
    }
    let runtime = super::runtime();
    let (broker, server) = runtime.block_on(async {
        (Broker::start(1).await, S3Server::start(Config::new(Personality::Minio)).await.expect("a loopback port can be had"))
    });
    fill(&broker, batches);
    let hung = stall(&server);
    let start = || match &group {
        Ok(group) => group.program(program(&broker, &server)).spawn(),
        Err(_) => program(&broker, &server).spawn(),
    };
    let mut process = start();
    let mut peak = watch(&mut process, stalled, &hung)?;
    let exit = process.terminate(STOP);
    if exit.code() != Some(0) {
        return Err(format!("told to stop, it ended with {}: {}", exit.status, exit.stderr));
    }
    let hung = hung.load(Ordering::SeqCst);
    server.state().set_faults(|_| Fault::default());
    let (mut process, began) = (start(), Instant::now());
    while process.poll().is_none() && began.elapsed() < CATCH_UP {
        peak = peak.max(process.memory_peak_bytes());
        std::thread::sleep(TICK);
    }
    let exit = process.wait(TICK);
    if exit.code() != Some(0) {
        return Err(format!("it ended with {}: {}", exit.status, exit.stderr));
    }
    let (compared, differing) = compare_all(&runtime, &broker, &server)?;
    let (name, group) = match group {
        Ok(group) => (format!("version {}, swap counted: {}", group.version(), group.counts_swap()), Some(group)),
        Err(why) => (format!("none: {why}"), None),
    };
    Ok(MemoryReport {
        budget: BUDGET,
        limit: group.as_ref().map(|_| LIMIT),
        group: name,
        peak,
        group_peak: group.as_ref().and_then(MemoryGroup::peak),
        kills: group.as_ref().map_or(0, MemoryGroup::kills),
        stalled_s: stalled.as_secs_f64(),
        hung,
        compared,
        differing,
    })
}

/// From now on the store reads no body of a data object. Returns the number of requests that it has let hang.
fn stall(server: &S3Server) -> Arc<AtomicUsize> {
    let hung = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&hung);
    server.state().set_faults(move |request| {
        if !matches!(request.op, Op::PutObject | Op::UploadPart) || request.key.contains("_catchment/") {
            return Fault::default();
        }
        count.fetch_add(1, Ordering::SeqCst);
        Fault { before: Duration::from_secs(3600), ..Fault::default() }
    });
    hung
}

/// The peak of a process's memory in this time, in which it must not end, and for as long as it takes to fill half of its budget and to meet the store.
fn watch(process: &mut Process, time: Duration, hung: &AtomicUsize) -> Result<u64, String> {
    let (began, mut peak) = (Instant::now(), 0);
    let is_full = |peak: u64| peak > BUDGET / 2 && hung.load(Ordering::SeqCst) > 0;
    while began.elapsed() < time || (!is_full(peak) && began.elapsed() < FILLING + time) {
        if let Some(status) = process.poll() {
            return Err(format!("it ended behind a stalled store: {status}; {}", process.stderr()));
        }
        peak = process.memory_peak_bytes().max(peak);
        std::thread::sleep(TICK);
    }
    Ok(peak)
}

fn fill(broker: &Broker, batches: Batches) {
    const BATCH: i64 = 16;
    let codec = if batches == Batches::Plain { Codec::None } else { Codec::Zstd };
    broker.with(|cluster| {
        cluster.make_topic("t", PARTITIONS);
        for partition in 0..PARTITIONS {
            let log = &mut cluster.partition("t", partition).log;
            while log.end() < RECORDS {
                let next = log.end();
                log.append(Batch::of((next..next + BATCH).map(|n| record(batches, partition, n)).collect()).with_codec(codec));
            }
        }
    });
}

fn record(batches: Batches, partition: usize, n: i64) -> Record {
    let mut noise = fastrand::Rng::with_seed(u64::try_from(n).unwrap_or_default() * 1024 + partition as u64);
    let repeated: Vec<u8> = match batches {
        Batches::Plain | Batches::Alike => format!("{partition}/{n} ").into_bytes(),
        Batches::AlikeLater => {
            let length = if n < NOISE_RECORDS { VALUE_BYTES } else { VALUE_BYTES / 100 };
            std::iter::repeat_with(|| noise.u8(..)).take(length).collect()
        }
    };
    let value = repeated.into_iter().cycle().take(VALUE_BYTES).collect();
    Record { timestamp: FIRST_MS + n, value: Some(value), ..Record::default() }
}

fn program(broker: &Broker, server: &S3Server) -> Program {
    let url = server.url("", "");
    let budget = format!("{}MiB", BUDGET >> 20);
    let properties = QUICK.iter().flat_map(|(name, value)| ["-X".to_owned(), format!("{name}={value}")]);
    Program::of(binary(), ["backup", "t", "-b", &broker.addresses()[0], "--to", &url, "--rule", "cell", "--until-end"])
        .args(["--window", "1h", "--instance-id", "member-1", "--budget", &budget])
        .args(["--format", "raw", "--framing", "len32", "--codec", "none"])
        .args(properties)
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
}

fn compare_all(runtime: &tokio::runtime::Runtime, broker: &Broker, server: &S3Server) -> Result<(u64, u64), String> {
    let mut expected = Expected::default();
    broker.with(|cluster| {
        for partition in 0..PARTITIONS {
            let number = i32::try_from(partition).expect("a small number");
            expected.add(number, cluster.partition("t", partition).log.visible());
        }
    });
    let store = runtime.block_on(open(&server.url("", ""), &server.options())).map_err(|e| e.to_string())?;
    let found = runtime.block_on(compare(&*store, "t/", &expected))?;
    let differing = [&found.lost, &found.duplicated, &found.altered, &found.foreign].iter().map(|list| list.len() as u64).sum();
    Ok((expected.len() as u64, differing))
}
