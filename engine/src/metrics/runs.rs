//! What can be read off the running lanes and the memory budget at the moment of the question.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::budget::MemoryBudget;
use crate::segment::Run;
use crate::source::TopicPartition;

/// The runs of all lanes, and what the runs before them had read.
#[derive(Debug)]
pub struct Runs {
    memory_limit: usize,
    /// What these counters outlive.
    budget: Weak<MemoryBudget>,
    lanes: Mutex<BTreeMap<TopicPartition, Tracked>>,
    /// How long topics keep a record, in milliseconds, where that is known and has an end.
    retention: Mutex<BTreeMap<Arc<str>, i64>>,
    records_before: AtomicU64,
    bytes_before: AtomicU64,
    now_ms: AtomicI64,
}

/// A lane's last run. What it has read stays counted when it has ended: a counter never falls.
#[derive(Debug)]
struct Tracked {
    run: Weak<Run>,
    records: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Tracked {
    fn of(run: &Arc<Run>) -> Self {
        Self { run: Arc::downgrade(run), records: Arc::clone(&run.records_read), bytes: Arc::clone(&run.bytes_read) }
    }
}

/// How far lanes are behind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lag {
    /// Records between the positions and the ends last seen.
    pub records: i64,
    /// Age of the last record read by the lane that is furthest behind, in seconds.
    pub seconds: f64,
    /// Until retention takes a record of the lane that is nearest to it, if that lane reads no more, in seconds; none where the topics keep their records for ever
    /// or nobody knows.
    pub loss_seconds: Option<f64>,
}

impl Lag {
    /// How far two processes together are behind.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_add(other.records),
            seconds: self.seconds.max(other.seconds),
            loss_seconds: self.loss_seconds.into_iter().chain(other.loss_seconds).reduce(f64::min),
        }
    }
}

/// What was read so far, and how much is left.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Records read.
    pub records: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
    /// What is left.
    pub lag: Lag,
}

/// One lane at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct LanePosition {
    /// The lane.
    pub tp: TopicPartition,
    /// The next offset that it reads.
    pub position: i64,
    /// The log's end as last seen; below the position while nothing was seen.
    pub end: i64,
}

/// Sums over all runs.
#[derive(Debug, Default)]
struct Sums {
    records: u64,
    bytes: u64,
    lag_records: i64,
    lag_ms: i64,
    /// Until retention takes a record that is not read, in milliseconds.
    loss_ms: Option<i64>,
}

impl Runs {
    /// No run yet.
    pub(super) fn new(budget: &Arc<MemoryBudget>) -> Self {
        Self {
            memory_limit: budget.limit(),
            budget: Arc::downgrade(budget),
            lanes: Mutex::default(),
            retention: Mutex::default(),
            records_before: AtomicU64::new(0),
            bytes_before: AtomicU64::new(0),
            now_ms: AtomicI64::new(0),
        }
    }

    /// Follows a lane's new run.
    pub(super) fn track(&self, tp: &TopicPartition, run: &Arc<Run>) {
        let mut lanes = self.tracked();
        // Under the lock: nobody may see the sums without either of the two.
        if let Some(ended) = lanes.insert(tp.clone(), Tracked::of(run)) {
            self.records_before.fetch_add(ended.records.load(Ordering::Relaxed), Ordering::Relaxed);
            self.bytes_before.fetch_add(ended.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// How long a topic keeps a record; none: for ever, or nobody knows.
    pub(super) fn note_retention(&self, topic: &Arc<str>, ms: Option<i64>) {
        let mut retention = self.retention.lock().unwrap_or_else(PoisonError::into_inner);
        match ms {
            Some(ms) => retention.insert(Arc::clone(topic), ms),
            None => retention.remove(topic),
        };
    }

    /// The wall clock's time at the moment of the question.
    pub(super) fn set_now(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// How far all lanes together are behind at this moment.
    pub(super) fn lag(&self, now_ms: i64) -> Lag {
        self.progress(now_ms).lag
    }

    /// What all lanes have read, and how far they are behind.
    pub(super) fn progress(&self, now_ms: i64) -> Progress {
        let sums = self.sums(now_ms);
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let lag = Lag { records: sums.lag_records, seconds: seconds(sums.lag_ms), loss_seconds: sums.loss_ms.map(seconds) };
        Progress { records: sums.records, bytes: sums.bytes, lag }
    }

    /// Bytes of the memory budget that are taken, and how many there are.
    pub(super) fn memory(&self) -> (usize, usize) {
        (self.memory_used(), self.memory_fair())
    }

    /// Where each living lane stands.
    pub(super) fn lanes(&self) -> Vec<LanePosition> {
        let of = |(tp, lane): (&TopicPartition, &Tracked)| {
            let run = lane.run.upgrade()?;
            let (position, end) = (run.position.load(Ordering::Relaxed), run.log_end.load(Ordering::Relaxed));
            Some(LanePosition { tp: tp.clone(), position, end })
        };
        self.tracked().iter().filter_map(of).collect()
    }

    /// Of a rule among others its part of what they share: it may hold more while they need less.
    fn memory_fair(&self) -> usize {
        self.budget.upgrade().map_or(self.memory_limit, |budget| budget.fair_bytes())
    }

    fn memory_used(&self) -> usize {
        self.budget.upgrade().map_or(0, |budget| budget.used())
    }

    fn tracked(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Tracked>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sums(&self, now_ms: i64) -> Sums {
        let lanes = self.tracked();
        let mut sums = Sums {
            records: self.records_before.load(Ordering::Relaxed),
            bytes: self.bytes_before.load(Ordering::Relaxed),
            ..Sums::default()
        };
        let retention = self.retention.lock().unwrap_or_else(PoisonError::into_inner);
        for (tp, lane) in lanes.iter() {
            sums.records += lane.records.load(Ordering::Relaxed);
            sums.bytes += lane.bytes.load(Ordering::Relaxed);
            let Some(run) = lane.run.upgrade() else { continue };
            let behind = run.log_end.load(Ordering::Relaxed) - run.position.load(Ordering::Relaxed);
            let last = run.last_timestamp.load(Ordering::Relaxed);
            sums.lag_records += behind.max(0);
            let age_ms = if behind > 0 && last > 0 { now_ms.saturating_sub(last) } else { 0 };
            sums.lag_ms = sums.lag_ms.max(age_ms);
            if let Some(kept_ms) = retention.get(&tp.topic) {
                let left = kept_ms.saturating_sub(age_ms).max(0);
                sums.loss_ms = Some(sums.loss_ms.map_or(left, |least| least.min(left)));
            }
        }
        sums
    }
}

impl Collector for Runs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let sums = self.sums(self.now_ms.load(Ordering::Relaxed));
        let mut show = |name, help, metric: &dyn Encodes| metric.encode_as(&mut encoder, name, help);
        show("records_read", "Records taken from Kafka", &ConstCounter::new(sums.records))?;
        show("read_bytes", "Bytes of the keys, values and headers taken from Kafka", &ConstCounter::new(sums.bytes))?;
        show("lag_records", "Records between the positions and the ends last seen", &ConstGauge::new(sums.lag_records))?;
        show(
            "lag_seconds",
            "Age of the last record read by the lane that is furthest behind",
            &ConstGauge::new(sums.lag_ms as f64 / 1000.0),
        )?;
        if let Some(ms) = sums.loss_ms {
            let help = "Until retention takes a record of the lane that is nearest to it, if that lane reads no more";
            show("time_to_data_loss_seconds", help, &ConstGauge::new(ms as f64 / 1000.0))?;
        }
        show("memory_budget_bytes", "What blocks, encoders and parts may take", &ConstGauge::new(self.memory_fair() as i64))?;
        show("memory_used_bytes", "What they take", &ConstGauge::new(self.memory_used() as i64))
    }
}

/// A value that is shown once, under a name.
trait Encodes {
    fn encode_as(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> Result<(), Error>;
}

impl<M: EncodeMetric> Encodes for M {
    fn encode_as(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> Result<(), Error> {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}
