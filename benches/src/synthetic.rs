//! A source without a broker: records that are made once, in memory, and handed out by the batch as librdkafka's queues do.
//!
//! Its place: in front of the pipeline, where the client would be, for rows that leave the client out. The records are those that a topic is filled
//! with: the same values, keys of 12 bytes, timestamps of a steady stream, eight partitions. Each partition has the same 32 MiB of them again and
//! again, from a place of its own: more than caches and zstd's window hold. A record is a function of its partition and offset, so that it can be
//! said afterwards what an object must hold ([`Synthetic::expected`]).
//!
//! What it does not do: nothing is received, checked or unpacked, which is what the rows with a broker are for; and nothing goes wrong.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use catchment::source::{LogBounds, PartitionQueue, QueueEvent, Source, TopicInfo, TopicPartition, Wake};
use catchment::store::BoxFuture;
use catchment::{Code, Error, ErrorKind};
use catchment_formats::{Block, Counts, Digest, DigestBuilder, HeadersView, OffsetRange, RecordView, TimestampType, ValueLayout};
use catchment_loadtest::Records;

use crate::allocations;

/// The only topic.
pub const TOPIC: &str = "synthetic";

/// Its partitions: as many as those of a topic that is filled for a row.
pub const PARTITIONS: usize = 8;

/// Bytes of values that are made.
const POOL_BYTES: usize = 32 << 20;

/// Bytes of a key.
const KEY_BYTES: usize = 12;

/// Records that a queue takes at a time.
const BATCH: i64 = 1024;

/// Time of the first record, ms since 1970.
const BEGAN_MS: i64 = 1_760_000_000_000;

/// Records of all partitions that have the same time.
const RECORDS_PER_MS: i64 = 50;

/// The records that all partitions have: `key | value`, one after another.
struct Pool {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl Pool {
    fn new(record_bytes: usize) -> Self {
        let (mut records, mut pool) = (Records::new(1, record_bytes), Self { bytes: Vec::new(), ends: Vec::new() });
        let mut value_bytes = 0;
        while value_bytes < POOL_BYTES {
            let value = records.value();
            value_bytes += value.len();
            let key = format!("{:0KEY_BYTES$x}", (pool.ends.len() as u64).wrapping_mul(0x9e37_79b9) & 0xffff_ffff);
            pool.bytes.extend_from_slice(key.as_bytes());
            pool.bytes.extend_from_slice(value.as_bytes());
            pool.ends.push(pool.bytes.len());
        }
        pool
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    /// Key and value of a record.
    #[inline]
    fn get(&self, at: usize) -> (&[u8], &[u8]) {
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes[begin..self.ends[at]].split_at(KEY_BYTES)
    }

    fn value_bytes(&self) -> u64 {
        (self.bytes.len() - KEY_BYTES * self.len()) as u64
    }
}

/// A partition's records.
#[derive(Clone, Copy, Debug)]
struct Log {
    partition: usize,
    /// The place in the pool of the record at offset 0.
    first: usize,
    records: i64,
    value_bytes: u64,
}

impl Log {
    /// As many records as have so many bytes of values.
    fn new(pool: &Pool, partition: usize, bytes_min: u64) -> Self {
        let first = partition * pool.len() / PARTITIONS;
        let rounds = bytes_min / pool.value_bytes();
        let (mut records, mut value_bytes) = (rounds * pool.len() as u64, rounds * pool.value_bytes());
        let mut at = first;
        while value_bytes < bytes_min {
            value_bytes += pool.get(at).1.len() as u64;
            records += 1;
            at = (at + 1) % pool.len();
        }
        Self { partition, first, records: i64::try_from(records).expect("offsets are i64"), value_bytes }
    }

    /// The place in the pool of the record at an offset.
    fn place(&self, pool: &Pool, offset: i64) -> usize {
        let offset = usize::try_from(offset).expect("offsets begin at 0");
        (self.first + offset) % pool.len()
    }

    #[inline]
    fn view<'a>(&self, pool: &'a Pool, at: usize, offset: i64) -> RecordView<'a> {
        let (key, value) = pool.get(at);
        let of_all = offset * PARTITIONS as i64 + self.partition as i64;
        RecordView {
            offset,
            timestamp: BEGAN_MS + of_all / RECORDS_PER_MS,
            timestamp_type: TimestampType::Create,
            key: Some(key),
            value: Some(value),
            headers: HeadersView::default(),
        }
    }
}

/// The cluster.
pub struct Synthetic {
    pool: Arc<Pool>,
    logs: Vec<Log>,
    taken: Arc<Taken>,
}

impl std::fmt::Debug for Synthetic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Synthetic({} records)", self.records())
    }
}

impl Synthetic {
    /// With so many MiB of values in records of about `record_bytes`. With `count`, calls of the allocator are counted as soon as a quarter of them
    /// was taken.
    pub fn new(record_bytes: usize, mib: u64, count: bool) -> Self {
        let pool = Pool::new(record_bytes);
        let bytes_each = (mib << 20).div_ceil(PARTITIONS as u64);
        let logs: Vec<Log> = (0..PARTITIONS).map(|partition| Log::new(&pool, partition, bytes_each)).collect();
        let count_from = count.then(|| logs.iter().map(|log| log.records.unsigned_abs()).sum::<u64>() / 4);
        Self { pool: Arc::new(pool), logs, taken: Arc::new(Taken { records: AtomicU64::new(0), count_from }) }
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.logs.iter().map(|log| log.records.unsigned_abs()).sum()
    }

    /// Bytes of their values.
    pub fn value_bytes(&self) -> u64 {
        self.logs.iter().map(|log| log.value_bytes).sum()
    }

    /// Records that are taken while calls of the allocator are counted.
    pub fn counted(&self) -> u64 {
        self.taken.count_from.map_or(0, |from| self.records() - from)
    }

    /// The partitions, and where each ends.
    pub fn ends(&self) -> impl Iterator<Item = (TopicPartition, i64)> {
        let topic: Arc<str> = Arc::from(TOPIC);
        self.logs.iter().zip(0..).map(move |(log, partition)| (TopicPartition { topic: Arc::clone(&topic), partition }, log.records))
    }

    /// What an object with these offsets must say of its records; none if there are no such offsets.
    pub fn expected(&self, partition: i32, range: OffsetRange, layout: ValueLayout) -> Option<(Counts, Digest)> {
        let log = self.log(partition).filter(|log| range.start >= 0 && range.end <= log.records)?;
        let (mut digest, mut block) = (DigestBuilder::new(), Block::new(layout));
        let mut at = log.place(&self.pool, range.start);
        for offset in range.start..range.end {
            block.push(&log.view(&self.pool, at, offset));
            at = (at + 1) % self.pool.len();
            if block.is_full() {
                digest.push(&block);
                block.reset(layout);
            }
        }
        digest.push(&block);
        Some((digest.counts(), digest.digest()))
    }

    fn log(&self, partition: i32) -> Option<&Log> {
        self.logs.get(usize::try_from(partition).ok()?)
    }

    fn known(&self, tp: &TopicPartition) -> Result<&Log, Error> {
        let log = self.log(tp.partition).filter(|_| &*tp.topic == TOPIC);
        log.ok_or_else(|| Error::new(Code(222), ErrorKind::NotFound, "the topic does not exist").with("topic", tp))
    }
}

/// How many records all queues have taken.
struct Taken {
    records: AtomicU64,
    count_from: Option<u64>,
}

impl Taken {
    fn add(&self, records: i64) {
        let records = records.unsigned_abs();
        let before = self.records.fetch_add(records, Ordering::Relaxed);
        if self.count_from.is_some_and(|from| (before..before + records).contains(&from)) {
            allocations::begin();
        }
    }
}

/// A partition that is read.
struct Queue {
    pool: Arc<Pool>,
    log: Log,
    taken: Arc<Taken>,
    /// The record that is shown next, and its place in the pool.
    offset: i64,
    at: usize,
    /// Where the records end that were taken.
    batch_end: i64,
    has_told_end: bool,
}

impl Queue {
    fn new(cluster: &Synthetic, log: Log, offset: i64) -> Self {
        let (pool, taken) = (Arc::clone(&cluster.pool), Arc::clone(&cluster.taken));
        let at = log.place(&pool, offset);
        Self { pool, log, taken, offset, at, batch_end: offset, has_told_end: false }
    }
}

impl PartitionQueue for Queue {
    #[inline]
    fn fill(&mut self) -> bool {
        if self.offset < self.batch_end {
            return true;
        }
        if self.offset < self.log.records {
            self.batch_end = (self.offset + BATCH).min(self.log.records);
            self.taken.add(self.batch_end - self.offset);
            return true;
        }
        !self.has_told_end
    }

    #[inline]
    fn peek(&mut self) -> Option<QueueEvent<'_>> {
        if self.offset < self.batch_end {
            return Some(QueueEvent::Record(self.log.view(&self.pool, self.at, self.offset), 0));
        }
        let is_end = self.offset >= self.log.records && !self.has_told_end;
        is_end.then_some(QueueEvent::End(self.log.records))
    }

    #[inline]
    fn pop(&mut self) {
        if self.offset >= self.batch_end {
            self.has_told_end = true;
            return;
        }
        self.offset += 1;
        self.at += 1;
        if self.at == self.pool.len() {
            self.at = 0;
        }
    }

    fn seek(&mut self, offset: i64) -> Result<(), Error> {
        (self.offset, self.at, self.batch_end) = (offset, self.log.place(&self.pool, offset), offset);
        self.has_told_end = false;
        Ok(())
    }
}

impl Source for Synthetic {
    fn cluster_id(&self) -> &str {
        TOPIC
    }

    fn open(&self, tp: &TopicPartition, offset: i64, _leader_epoch: i32, _wake: Wake) -> Result<Box<dyn PartitionQueue>, Error> {
        Ok(Box::new(Queue::new(self, *self.known(tp)?, offset)))
    }

    fn expect_partitions(&self, _partitions: usize) {}

    fn bounds<'a>(&'a self, tp: &'a TopicPartition) -> BoxFuture<'a, Result<LogBounds, Error>> {
        Box::pin(ready(self.known(tp).map(|log| LogBounds { start: 0, stable_end: log.records, end: log.records })))
    }

    fn offsets_for_time<'a>(&'a self, partitions: &'a [TopicPartition], _at_ms: i64) -> BoxFuture<'a, Result<Vec<Option<i64>>, Error>> {
        Box::pin(ready(Ok(vec![None; partitions.len()])))
    }

    fn topic<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<TopicInfo>, Error>> {
        let partitions = PARTITIONS as i32;
        let info = (name == TOPIC).then(|| TopicInfo { name: Arc::from(TOPIC), id: "0".repeat(32), partitions });
        Box::pin(ready(Ok(info)))
    }

    fn is_compacted<'a>(&'a self, _topic: &'a str) -> BoxFuture<'a, Result<Option<bool>, Error>> {
        Box::pin(ready(Ok(Some(false))))
    }

    fn topics<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        Box::pin(ready(Ok((pattern == TOPIC).then(|| TOPIC.to_owned()).into_iter().collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD_BYTES: usize = 10_240;

    fn cluster() -> Synthetic {
        // Each partition has a little more than the pool, so that it begins again.
        Synthetic::new(RECORD_BYTES, 33 * PARTITIONS as u64, false)
    }

    fn open(cluster: &Synthetic, partition: i32, offset: i64) -> Box<dyn PartitionQueue> {
        let tp = TopicPartition { topic: Arc::from(TOPIC), partition };
        cluster.open(&tp, offset, -1, Arc::new(|| ())).unwrap()
    }

    /// Every record that a queue still has, into one digest; and its end.
    fn drain(queue: &mut dyn PartitionQueue) -> (Counts, Digest, Vec<i64>) {
        let (mut digest, mut ends, mut block) = (DigestBuilder::new(), Vec::new(), Block::new(ValueLayout::Plain));
        while queue.fill() {
            match queue.peek().unwrap() {
                QueueEvent::Record(record, _) => block.push(&record),
                QueueEvent::End(end) => ends.push(end),
                QueueEvent::Fault(fault) => panic!("{fault:?}"),
            }
            queue.pop();
            if block.is_full() {
                digest.push(&block);
                block.reset(ValueLayout::Plain);
            }
        }
        digest.push(&block);
        (digest.counts(), digest.digest(), ends)
    }

    #[test]
    fn a_queue_yields_what_is_expected_of_its_range_and_tells_the_end_once() {
        let cluster = cluster();
        let (tp, end) = cluster.ends().nth(3).unwrap();
        assert!(end > cluster.pool.len() as i64, "the pool was begun again");
        for from in [0, 1000, end] {
            let (counts, digest, ends) = drain(&mut *open(&cluster, tp.partition, from));
            assert_eq!((counts.records, ends), ((end - from).unsigned_abs(), vec![end]));
            let expected = cluster.expected(tp.partition, OffsetRange::new(from, end), ValueLayout::Plain);
            assert_eq!(expected, Some((counts, digest)), "from {from}");
        }
        assert_eq!(cluster.expected(tp.partition, OffsetRange::new(0, end + 1), ValueLayout::Plain), None);
        assert_eq!(cluster.expected(PARTITIONS as i32, OffsetRange::new(0, 1), ValueLayout::Plain), None);
    }

    #[test]
    fn a_queue_that_was_moved_goes_on_from_there() {
        let cluster = cluster();
        let mut queue = open(&cluster, 0, 0);
        let first = drain(&mut *queue);
        queue.seek(0).unwrap();
        assert_eq!(drain(&mut *queue), first);
    }

    #[test]
    fn partitions_have_as_much_as_was_asked_for_and_begin_with_other_records() {
        let cluster = cluster();
        let asked = 33 * PARTITIONS as u64 * (1 << 20);
        assert!((asked..asked + asked / 100).contains(&cluster.value_bytes()), "{}", cluster.value_bytes());
        let one = |partition| cluster.expected(partition, OffsetRange::new(0, 1), ValueLayout::Bare).unwrap().1.values;
        let firsts: std::collections::BTreeSet<u64> = (0..PARTITIONS as i32).map(one).collect();
        assert_eq!(firsts.len(), PARTITIONS);
        let sum: u64 = cluster.ends().map(|(_, end)| end.unsigned_abs()).sum();
        assert_eq!((sum, cluster.counted()), (cluster.records(), 0));
    }

    #[test]
    fn whoever_counts_begins_behind_a_quarter() {
        let cluster = Synthetic::new(RECORD_BYTES, 8, true);
        assert_eq!(cluster.counted(), cluster.records() - cluster.records() / 4);
    }
}
