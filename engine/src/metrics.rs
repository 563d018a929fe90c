//! Counters and gauges of the process, in the text form that Prometheus reads.
//!
//! Names are a contract: dashboards and alerts use them. A counter is an atomic; labels are fixed when the family is made, so
//! that counting never allocates.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use catchment_formats::GapCause;

use crate::budget::MemoryBudget;
use crate::report::WindowCommitted;
use crate::segment::Run;
use crate::source::TopicPartition;
use crate::window::CloseReason;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const CAUSES: [GapCause; 5] =
    [GapCause::Retention, GapCause::Truncation, GapCause::TopicRecreated, GapCause::CorruptBatch, GapCause::OperatorSkip];

/// Everything the process counts.
#[derive(Debug)]
pub struct Metrics {
    format: &'static str,
    budget: Arc<MemoryBudget>,
    /// Records in committed objects.
    pub records_written: Counter,
    /// Bytes of committed objects.
    pub bytes_written: Counter,
    /// Committed objects.
    pub objects_committed: Counter,
    /// Records older than their window's slot.
    pub late_records: Counter,
    /// Windows closed early, by size.
    pub early_size: Counter,
    /// Windows closed early, for memory.
    pub early_pressure: Counter,
    /// Multipart uploads opened.
    pub open_uploads: Counter,
    /// Stale uploads aborted.
    pub uploads_aborted: Counter,
    /// Publishing requests that did not answer with success.
    pub publish_retries: Counter,
    /// OffsetCommits sent again.
    pub commit_retries: Counter,
    /// Lanes that dropped what was open and recovered.
    pub lane_restarts: Counter,
    /// Lanes that stopped.
    pub lanes_stopped: Counter,
    /// Events other than records and ends.
    pub queue_faults: Counter,
    /// Pinned windows that were found in the store.
    pub recovered_objects: Counter,
    /// Objects of a pinned start with another end: must stay 0.
    pub adopted_ends: Counter,
    /// Times the group's offset was behind a stored object.
    pub group_regressions: Counter,
    /// Intents written in another encoding than they name.
    pub reencoded: Counter,
    gaps: [Counter; 5],
    commit_delay_ms_sum: Counter,
    commit_delay_count: Counter,
    read: Counter,
    runs: Mutex<BTreeMap<TopicPartition, Weak<Run>>>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(format: &'static str, budget: Arc<MemoryBudget>) -> Self {
        Self {
            format,
            budget,
            records_written: Counter::default(),
            bytes_written: Counter::default(),
            objects_committed: Counter::default(),
            late_records: Counter::default(),
            early_size: Counter::default(),
            early_pressure: Counter::default(),
            open_uploads: Counter::default(),
            uploads_aborted: Counter::default(),
            publish_retries: Counter::default(),
            commit_retries: Counter::default(),
            lane_restarts: Counter::default(),
            lanes_stopped: Counter::default(),
            queue_faults: Counter::default(),
            recovered_objects: Counter::default(),
            adopted_ends: Counter::default(),
            group_regressions: Counter::default(),
            reencoded: Counter::default(),
            gaps: Default::default(),
            commit_delay_ms_sum: Counter::default(),
            commit_delay_count: Counter::default(),
            read: Counter::default(),
            runs: Mutex::default(),
        }
    }

    /// Follows a run for lag and records read.
    pub fn track(&self, tp: &TopicPartition, run: &Arc<Run>) {
        let before = self.runs().insert(tp.clone(), Arc::downgrade(run));
        if let Some(ended) = before.and_then(|weak| weak.upgrade()) {
            self.read.add(ended.records_read.load(Ordering::Relaxed));
        }
    }

    /// Counts a committed window.
    pub fn window(&self, window: &WindowCommitted) {
        self.records_written.add(window.records);
        self.bytes_written.add(window.bytes);
        self.objects_committed.inc();
        self.late_records.add(window.late);
        match window.reason {
            CloseReason::Size => self.early_size.inc(),
            CloseReason::Pressure => self.early_pressure.inc(),
            _ => {}
        }
        self.commit_delay_ms_sum.add(u64::try_from(window.delay_ms).unwrap_or(0));
        self.commit_delay_count.inc();
    }

    /// Counts a gap.
    pub fn gap(&self, cause: GapCause) {
        let at = CAUSES.iter().position(|c| *c == cause).expect("every cause is listed");
        self.gaps[at].inc();
    }

    /// Gaps so far, of all causes.
    pub fn gaps(&self) -> u64 {
        self.gaps.iter().map(Counter::get).sum()
    }

    /// Records read by the runs of this process, and the records that living runs are behind.
    pub fn read_and_lag(&self) -> (u64, i64) {
        let (mut read, mut lag) = (self.read.get(), 0);
        for run in self.runs().values().filter_map(Weak::upgrade) {
            read += run.records_read.load(Ordering::Relaxed);
            lag += (run.log_end.load(Ordering::Relaxed) - run.position.load(Ordering::Relaxed)).max(0);
        }
        (read, lag)
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, BTreeMap<TopicPartition, Weak<Run>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let (read, lag) = self.read_and_lag();
        counter(&mut out, "records_read_total", "Records taken from Kafka.", "", read);
        counter(&mut out, "records_written_total", "Records in committed objects.", "", self.records_written.get());
        counter(&mut out, "written_bytes_total", "Bytes of committed objects.", "", self.bytes_written.get());
        let format = format!("{{format=\"{}\"}}", self.format);
        counter(&mut out, "objects_committed_total", "Committed objects.", &format, self.objects_committed.get());
        counter(&mut out, "late_records_total", "Records older than their window's slot.", "", self.late_records.get());
        family(&mut out, "early_closes_total", "Windows closed before their time.", "counter");
        sample(&mut out, "early_closes_total", "{reason=\"size\"}", self.early_size.get());
        sample(&mut out, "early_closes_total", "{reason=\"pressure\"}", self.early_pressure.get());
        family(&mut out, "gaps_total", "Ranges of offsets that could not be stored.", "counter");
        for (cause, count) in CAUSES.iter().zip(&self.gaps) {
            sample(&mut out, "gaps_total", &format!("{{cause=\"{}\"}}", cause.as_str()), count.get());
        }
        counter(&mut out, "store_retries_total", "Publishing requests without a success.", "{op=\"publish\"}", self.publish_retries.get());
        counter(&mut out, "commit_retries_total", "OffsetCommits sent again.", "", self.commit_retries.get());
        counter(&mut out, "lane_restarts_total", "Lanes that recovered while running.", "", self.lane_restarts.get());
        counter(&mut out, "lanes_stopped_total", "Lanes that stopped.", "", self.lanes_stopped.get());
        counter(&mut out, "queue_faults_total", "Fetch events other than records and ends.", "", self.queue_faults.get());
        counter(&mut out, "recovered_objects_total", "Pinned windows found in the store.", "", self.recovered_objects.get());
        counter(&mut out, "adopted_ends_total", "Objects whose end was not the pinned one.", "", self.adopted_ends.get());
        counter(&mut out, "group_regressions_total", "Group offsets behind a stored object.", "", self.group_regressions.get());
        family(&mut out, "window_commit_delay_seconds", "From a window's close to its object.", "summary");
        let sum = self.commit_delay_ms_sum.get();
        let _ = writeln!(out, "catchment_window_commit_delay_seconds_sum {}.{:03}", sum / 1000, sum % 1000);
        sample(&mut out, "window_commit_delay_seconds_count", "", self.commit_delay_count.get());
        gauge(&mut out, "lag_records", "Records between the positions and the ends last seen.", u64::try_from(lag).unwrap_or(0));
        gauge(&mut out, "memory_budget_bytes", "What blocks, encoders and parts may take.", self.budget.limit() as u64);
        gauge(&mut out, "memory_used_bytes", "What they take.", self.budget.used() as u64);
        family(&mut out, "build_info", "The running build.", "gauge");
        sample(&mut out, "build_info", &format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1);
        out
    }
}

fn family(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP catchment_{name} {help}\n# TYPE catchment_{name} {kind}");
}

fn sample(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(out, "catchment_{name}{labels} {value}");
}

fn counter(out: &mut String, name: &str, help: &str, labels: &str, value: u64) {
    family(out, name, help, "counter");
    sample(out, name, labels, value);
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    family(out, name, help, "gauge");
    sample(out, name, "", value);
}
