//! One partition's log: what stands at each offset, and what retention, a new leader, compaction and a bad disk do to it. Pure.
//!
//! A record is a function of (seed, topic, partition, offset) and of how often the log was truncated below it: what is written anew at an
//! old offset is another record, as in life. Some offsets hold no visible record: control records, aborted ones, and what compaction took.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use catchment::source::LogBounds;
use catchment_formats::TimestampType;

use crate::generate::{Profile, Record, Rng};
use crate::oracle::{RecordHash, record_hash};

/// What the offsets of a partition hold. Shares are per mille of the offsets.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What records look like.
    pub profile: Profile,
    /// Control records: the markers of transactions.
    pub control: u64,
    /// Records of aborted transactions.
    pub aborted: u64,
    /// Records whose timestamp the broker has set, out of the visible ones.
    pub append_time: u64,
}

impl Shape {
    /// Every offset holds a visible record with its producer's timestamp.
    pub fn whole(profile: Profile) -> Self {
        Self { profile, control: 0, aborted: 0, append_time: 0 }
    }

    /// Transactions: about one offset in six shows nothing.
    pub fn with_holes(profile: Profile) -> Self {
        Self { profile, control: 90, aborted: 80, append_time: 200 }
    }
}

/// A visible record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its offset.
    pub offset: i64,
    /// The leader epoch of its batch.
    pub epoch: i32,
    /// Who set the timestamp.
    pub timestamp_type: TimestampType,
    /// The rest of it.
    pub record: Record,
}

impl LogRecord {
    /// The oracle's hash of it.
    pub fn hash(&self, partition: i32) -> RecordHash {
        let record = &self.record;
        let headers = record.headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref()));
        let time = (record.timestamp, self.timestamp_type as i8);
        record_hash((partition, self.offset), time, record.key.as_deref(), record.value.as_deref(), headers)
    }
}

/// The offsets that one leader wrote.
#[derive(Clone, Debug)]
struct Era {
    from: i64,
    epoch: i32,
    /// Rises with each truncation, so that offsets that are written again hold other records.
    writing: u64,
}

/// Something that happened to the log or to its queue and that a reader has met, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// A batch that was corrupt.
    Corrupt {
        /// Whether it stays so, for as many readings as there will be.
        for_good: bool,
    },
    /// A place whose record compaction has taken.
    Compacted,
    /// The end of a queue that broke off.
    Broken {
        /// Whose queue it is.
        process: u64,
        /// Of which partition.
        partition: i32,
    },
}

/// A batch that a reader finds corrupt.
#[derive(Clone, Debug)]
struct Corrupt {
    offsets: Range<i64>,
    times: u32,
    met: bool,
}

/// A partition's log.
#[derive(Clone, Debug)]
pub struct PartitionLog {
    seed: u64,
    topic: Arc<str>,
    partition: i32,
    shape: Shape,
    start: i64,
    stable_end: i64,
    end: i64,
    hangs: bool,
    eras: Vec<Era>,
    compacted: BTreeSet<i64>,
    corrupt: Vec<Corrupt>,
    /// What each compaction took that no reader has come to.
    unmet: Vec<BTreeSet<i64>>,
    /// What readers have met and nobody has asked for.
    met: Vec<Met>,
}

impl PartitionLog {
    /// An empty log.
    pub fn new(seed: u64, topic: &Arc<str>, partition: i32, shape: Shape) -> Self {
        Self {
            seed,
            topic: Arc::clone(topic),
            partition,
            shape,
            start: 0,
            stable_end: 0,
            end: 0,
            hangs: false,
            eras: vec![Era { from: 0, epoch: 0, writing: 0 }],
            compacted: BTreeSet::new(),
            corrupt: Vec::new(),
            unmet: Vec::new(),
            met: Vec::new(),
        }
    }

    /// Its extent.
    pub fn bounds(&self) -> LogBounds {
        LogBounds { start: self.start, stable_end: self.stable_end, end: self.end }
    }

    /// Appends so many offsets.
    pub fn append(&mut self, offsets: i64) {
        self.end += offsets;
        if !self.hangs {
            self.stable_end = self.end;
        }
    }

    /// A transaction begins and does not end: what is appended from here on cannot be read yet.
    pub fn hang(&mut self) {
        self.hangs = true;
    }

    /// The hanging transaction ends.
    pub fn resolve(&mut self) {
        self.hangs = false;
        self.stable_end = self.end;
    }

    /// Retention deletes everything before `offset`.
    pub fn retain_from(&mut self, offset: i64) {
        self.start = self.start.max(offset.min(self.end));
        self.stable_end = self.stable_end.max(self.start);
    }

    /// A new leader that has everything the old one had.
    pub fn elect(&mut self) {
        let last = self.last_era();
        let era = Era { from: self.end, epoch: last.epoch + 1, writing: last.writing };
        self.eras.push(era);
    }

    /// A new leader that has nothing from `end` on.
    pub fn truncate(&mut self, end: i64) {
        let end = end.min(self.end);
        let last = self.last_era();
        let era = Era { from: end, epoch: last.epoch + 1, writing: last.writing + 1 };
        self.eras.retain(|era| era.from < end);
        self.eras.push(era);
        self.end = end;
        self.stable_end = self.stable_end.min(end);
        self.start = self.start.min(end);
        self.compacted.retain(|offset| *offset < end);
    }

    /// Compaction takes what `keep` answers no for, of what can be read.
    pub fn compact(&mut self, keep: impl Fn(i64) -> bool) {
        let taken: BTreeSet<i64> =
            (self.start..self.stable_end).filter(|offset| !keep(*offset) && self.record(*offset).is_some()).collect();
        self.compacted.extend((self.start..self.stable_end).filter(|offset| !keep(*offset)));
        self.unmet.push(taken);
    }

    /// Whether compaction has been here.
    pub fn is_compacted(&self) -> bool {
        !self.compacted.is_empty()
    }

    /// The next `times` readings of these offsets find a corrupt batch.
    pub fn corrupt(&mut self, offsets: Range<i64>, times: u32) {
        self.corrupt.push(Corrupt { offsets, times, met: false });
    }

    /// Whether a reading of any of these offsets would find a corrupt batch.
    pub fn is_corrupt(&self, offsets: &Range<i64>) -> bool {
        self.corrupt.iter().any(|c| c.times > 0 && c.offsets.start < offsets.end && offsets.start < c.offsets.end)
    }

    /// Whether a reading of this offset finds a corrupt batch; counts it as read.
    pub(super) fn meets_corrupt(&mut self, offset: i64) -> bool {
        let Some(corrupt) = self.corrupt.iter_mut().find(|c| c.times > 0 && c.offsets.contains(&offset)) else { return false };
        if !std::mem::replace(&mut corrupt.met, true) {
            self.met.push(Met::Corrupt { for_good: corrupt.times == u32::MAX });
        }
        // What is corrupt for good does not wear off.
        corrupt.times -= u32::from(corrupt.times < u32::MAX);
        true
    }

    /// A reader comes to an offset at which no batch is corrupt.
    pub(super) fn pass(&mut self, offset: i64) {
        let before = self.unmet.len();
        self.unmet.retain(|taken| !taken.contains(&offset));
        self.met.extend(std::iter::repeat_n(Met::Compacted, before - self.unmet.len()));
    }

    /// What readers have met since this was last asked.
    pub(super) fn take_met(&mut self) -> Vec<Met> {
        std::mem::take(&mut self.met)
    }

    /// The record at an offset; none for a hole, and outside the log.
    pub fn record(&self, offset: i64) -> Option<LogRecord> {
        if !(self.start..self.end).contains(&offset) || self.compacted.contains(&offset) {
            return None;
        }
        let era = self.era(offset);
        let seed = self.seed.wrapping_add(era.writing.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut rng = Rng::of(seed ^ 0x5EED, &self.topic, self.partition, offset.unsigned_abs());
        if rng.below(1000) < self.shape.control + self.shape.aborted {
            return None;
        }
        let timestamp_type = if rng.below(1000) < self.shape.append_time { TimestampType::Append } else { TimestampType::Create };
        let record = self.shape.profile.record(seed, &self.topic, self.partition, offset.unsigned_abs());
        Some(LogRecord { offset, epoch: era.epoch, timestamp_type, record })
    }

    /// Where the offsets that were written in an epoch or before it end now, if that is not where the log ends: the log was truncated for
    /// whoever has read further in that epoch.
    pub fn end_of_epoch(&self, epoch: i32) -> Option<i64> {
        self.eras.iter().find(|era| era.epoch > epoch).map(|era| era.from)
    }

    /// The current leader's epoch.
    pub fn last_epoch(&self) -> i32 {
        self.last_era().epoch
    }

    /// The leader epoch of the batch at an offset, shown or not.
    pub(super) fn epoch_at(&self, offset: i64) -> i32 {
        self.era(offset).epoch
    }

    fn era(&self, offset: i64) -> &Era {
        self.eras.iter().rev().find(|era| era.from <= offset).unwrap_or_else(|| self.last_era())
    }

    fn last_era(&self) -> &Era {
        self.eras.last().expect("a log has a leader")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(shape: Shape) -> PartitionLog {
        let mut log = PartitionLog::new(7, &Arc::from("t"), 3, shape);
        log.append(1000);
        log
    }

    fn visible(log: &PartitionLog) -> Vec<LogRecord> {
        (0..2000).filter_map(|offset| log.record(offset)).collect()
    }

    #[test]
    fn a_record_is_a_function_of_its_place_and_the_seed() {
        let whole = || log(Shape::whole(Profile::mixed()));
        assert_eq!(visible(&whole()), visible(&whole()));
        assert_eq!(visible(&whole()).len(), 1000);
        let other = PartitionLog { seed: 8, ..whole() };
        assert_ne!(visible(&whole())[0], visible(&other)[0]);
    }

    #[test]
    fn holes_are_as_many_as_the_shape_says_and_stay_where_they_are() {
        let holes = 1000 - visible(&log(Shape::with_holes(Profile::plain()))).len();
        assert!((120..220).contains(&holes), "{holes} of 1000");
        assert_eq!(visible(&log(Shape::with_holes(Profile::plain()))), visible(&log(Shape::with_holes(Profile::plain()))));
        let appended = visible(&log(Shape::with_holes(Profile::plain())));
        assert!(appended.iter().any(|r| r.timestamp_type == TimestampType::Append));
    }

    #[test]
    fn a_transaction_that_hangs_holds_the_readable_end_back() {
        let mut log = log(Shape::whole(Profile::plain()));
        log.hang();
        log.append(5);
        assert_eq!(log.bounds(), LogBounds { start: 0, stable_end: 1000, end: 1005 });
        log.resolve();
        assert_eq!(log.bounds().stable_end, 1005);
    }

    #[test]
    fn retention_and_compaction_take_records_away() {
        let mut log = log(Shape::whole(Profile::plain()));
        log.retain_from(400);
        log.compact(|offset| offset % 2 == 0);
        let left = visible(&log);
        assert!(left.iter().all(|r| r.offset >= 400 && r.offset % 2 == 0) && left.len() == 300);
    }

    #[test]
    fn what_is_written_after_a_truncation_is_something_else_of_a_later_epoch() {
        let mut log = log(Shape::whole(Profile::plain()));
        let before = visible(&log);
        log.elect();
        log.append(10);
        log.truncate(900);
        assert_eq!((log.bounds().end, log.end_of_epoch(0), log.end_of_epoch(1), log.end_of_epoch(2)), (900, Some(900), Some(900), None));
        log.append(100);
        let after = visible(&log);
        assert_eq!(before[..900], after[..900]);
        assert_eq!((after[899].epoch, after[900].epoch), (0, 2));
        assert!(before[900..].iter().zip(&after[900..]).all(|(a, b)| a.offset == b.offset && a.record.value != b.record.value));
    }

    #[test]
    fn a_batch_is_corrupt_as_often_as_was_said() {
        let mut log = log(Shape::whole(Profile::plain()));
        log.corrupt(10..20, 2);
        assert_eq!([9, 10, 19, 15, 20].map(|offset| log.meets_corrupt(offset)), [false, true, true, false, false]);
    }

    #[test]
    fn what_happened_to_the_log_is_met_once_and_only_where_it_shows() {
        let mut log = log(Shape::whole(Profile::plain()));
        log.corrupt(10..20, u32::MAX);
        log.corrupt(20..30, 1);
        log.compact(|offset| offset % 5 != 0);
        log.compact(|offset| offset % 5 != 0);
        assert!(log.take_met().is_empty(), "nobody has read it");
        assert!([10, 11, 20].iter().all(|offset| log.meets_corrupt(*offset)));
        [33, 35, 40].iter().for_each(|offset| log.pass(*offset));
        assert_eq!(log.take_met(), [Met::Corrupt { for_good: true }, Met::Corrupt { for_good: false }, Met::Compacted]);
        assert!(log.take_met().is_empty() && log.meets_corrupt(11));
    }
}
