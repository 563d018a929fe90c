//! The fetch queue of one partition, as the engine drains it.
//!
//! As with the real client: at most one queue of a partition fetches, the end is told each time it is reached, a position outside the log
//! and a log that was cut are faults, and so is a batch that cannot be read. Invisible records are passed over in silence.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catchment::Error;
use catchment::source::{LastRead, PartitionQueue, QueueEvent, QueueFault, TopicPartition};
use catchment_formats::{HeadersBuf, RecordView};

use super::cluster::State;
use super::log::{LogRecord, Met, PartitionLog};

/// Offsets that are looked at for one fill.
const BATCH: i64 = 256;

/// An event that was fetched.
enum Fetched {
    Record(LogRecord),
    End(i64),
    Fault(QueueFault),
}

/// An open partition.
pub(super) struct ScriptedQueue {
    cluster: Arc<Mutex<State>>,
    tp: TopicPartition,
    /// Whose opening of the partition this is, and which.
    opening: (u64, u64),
    position: i64,
    /// Leader epoch of the record before the position, -1 if not known.
    epoch: i32,
    batch: VecDeque<Fetched>,
    /// The end that was told last, until the position moves.
    told_end: Option<i64>,
    headers: HeadersBuf,
}

impl fmt::Debug for ScriptedQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScriptedQueue({} at {})", self.tp, self.position)
    }
}

impl ScriptedQueue {
    pub(super) fn new(cluster: Arc<Mutex<State>>, tp: TopicPartition, opening: (u64, u64), position: i64, epoch: i32) -> Self {
        Self { cluster, tp, opening, position, epoch, batch: VecDeque::new(), told_end: None, headers: HeadersBuf::default() }
    }

    /// One fetch. Nothing is taken if there is nothing new.
    fn fetch(&mut self) {
        let cluster = Arc::clone(&self.cluster);
        let mut state = lock(&cluster);
        let (watch, tells_ends) = (Arc::clone(&state.watch), state.tells_ends);
        let Some(partition) = state.partition(&self.tp) else {
            return self.batch.push_back(Fetched::Fault(QueueFault::Gone("the topic does not exist".into())));
        };
        if partition.readers.get(&self.opening.0).is_none_or(|(opening, _)| *opening != self.opening.1) {
            let fault = QueueFault::Other("the partition was opened again elsewhere in this process".into());
            return self.batch.push_back(Fetched::Fault(fault));
        }
        if let Some(fault) = partition.faults.pop_front() {
            watch(Met::Broken { process: self.opening.0, partition: self.tp.partition });
            return self.batch.push_back(Fetched::Fault(fault));
        }
        match self.misplaced(&partition.log) {
            Some(fault) => self.batch.push_back(Fetched::Fault(fault)),
            None => self.take(&mut partition.log, tells_ends),
        }
        partition.log.take_met().into_iter().for_each(|met| watch(met));
    }

    /// What is wrong with the position, if anything.
    fn misplaced(&self, log: &PartitionLog) -> Option<QueueFault> {
        let bounds = log.bounds();
        let epoch_end = Some(self.epoch).filter(|epoch| *epoch >= 0).and_then(|epoch| log.end_of_epoch(epoch));
        if let Some(end) = epoch_end.filter(|end| *end < self.position) {
            let cause = format!("epoch {} ends at {end}", self.epoch);
            return Some(QueueFault::Truncated { cause, cut: Some(LastRead { end, epoch: log.epoch_at(end - 1) }) });
        }
        let outside = self.position < bounds.start || self.position > bounds.end;
        outside.then(|| QueueFault::OutOfRange(format!("{} is not in [{}, {}]", self.position, bounds.start, bounds.end)))
    }

    fn take(&mut self, log: &mut PartitionLog, tells_ends: bool) {
        let readable = log.bounds().stable_end;
        for _ in 0..BATCH {
            if self.position >= readable {
                break;
            }
            if log.meets_corrupt(self.position) {
                return self.batch.push_back(Fetched::Fault(QueueFault::Corrupt(format!("the batch at {} is corrupt", self.position))));
            }
            log.pass(self.position);
            self.epoch = log.epoch_at(self.position);
            if let Some(record) = log.record(self.position) {
                self.batch.push_back(Fetched::Record(record));
            }
            self.position += 1;
        }
        if tells_ends && self.position >= readable && self.told_end != Some(self.position) {
            self.told_end = Some(self.position);
            self.batch.push_back(Fetched::End(self.position));
        }
    }
}

impl PartitionQueue for ScriptedQueue {
    fn fill(&mut self) -> bool {
        if self.batch.is_empty() {
            self.fetch();
        }
        !self.batch.is_empty()
    }

    fn peek(&mut self) -> Option<QueueEvent<'_>> {
        let LogRecord { offset, epoch, timestamp_type, record } = match self.batch.front()? {
            Fetched::End(offset) => return Some(QueueEvent::End(*offset)),
            Fetched::Fault(fault) => return Some(QueueEvent::Fault(fault.clone())),
            Fetched::Record(record) => record,
        };
        self.headers.clear();
        for (name, value) in &record.headers {
            self.headers.push(name, value.as_deref());
        }
        let view = RecordView {
            offset: *offset,
            timestamp: record.timestamp,
            timestamp_type: *timestamp_type,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: self.headers.view(),
        };
        Some(QueueEvent::Record(view, *epoch))
    }

    fn pop(&mut self) {
        self.batch.pop_front();
    }

    fn seek(&mut self, offset: i64) -> Result<(), Error> {
        (self.position, self.epoch, self.told_end) = (offset, -1, None);
        self.batch.clear();
        Ok(())
    }
}

impl Drop for ScriptedQueue {
    fn drop(&mut self) {
        let (process, number) = self.opening;
        if let Some(partition) = lock(&self.cluster).partition(&self.tp) {
            partition.readers.retain(|of, (opening, _)| *of != process || *opening != number);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
