//! What a turn took from the queue.

use std::sync::atomic::Ordering;

use crate::segment::Run;

/// A record that was copied into a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenRecord {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    /// Bytes of key, value and headers.
    pub(super) bytes: u64,
    pub(super) timestamp: i64,
}

/// The records of a turn, summed; shown once a turn, since a shared counter costs more than a record's other accounts.
#[derive(Debug, Default)]
pub(super) struct Taken {
    records: u64,
    bytes: u64,
    last_timestamp: i64,
}

impl Taken {
    pub(super) fn add(&mut self, record: &TakenRecord) {
        self.records += 1;
        self.bytes += record.bytes;
        self.last_timestamp = record.timestamp;
    }

    pub(super) fn show(&mut self, run: &Run) {
        if self.records > 0 {
            run.records_read.fetch_add(self.records, Ordering::Relaxed);
            run.bytes_read.fetch_add(self.bytes, Ordering::Relaxed);
            run.last_timestamp.store(self.last_timestamp, Ordering::Relaxed);
            *self = Self::default();
        }
    }
}
