//! The log of one partition: batches, transactions, leader epochs, and what of it a `read_committed` reader may see.
//!
//! Place in the flow: a script appends, truncates and deletes; [`fetch`](super::fetch) reads slices; the truth of a cell is
//! [`visible`](PartitionLog::visible), computed from what the script wrote and not from the bytes that were served.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::batches::{Batch, Damage, Origin, Record};

/// A batch in its place.
#[derive(Clone, Debug)]
struct Placed {
    base: i64,
    last: i64,
    epoch: i32,
    batch: Batch,
    bytes: Bytes,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// Its producer.
    pub producer: i64,
    /// Its first record.
    pub first: i64,
    /// Its marker.
    pub last: i64,
}

/// A record that a reader must see.
#[derive(Clone, Debug)]
pub struct Visible {
    /// Its offset.
    pub offset: i64,
    /// Time and kind of time: 0 create, 1 append, -1 none.
    pub time: (i64, i8),
    /// The record.
    pub record: Record,
}

/// What a fetch gets.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Batches.
    pub bytes: Bytes,
    /// The aborted transactions that reach into them.
    pub aborted: Vec<Aborted>,
    /// Damaged batches among them.
    pub damaged: u32,
}

/// How much a fetch may get.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// From here on.
    pub offset: i64,
    /// Bytes.
    pub bytes_max: usize,
    /// Whether the first batch is sent whatever it takes, as the first one of a response is.
    pub at_least_one: bool,
    /// Batches.
    pub batches_max: usize,
    /// Whether nothing at or above the last stable offset is wanted.
    pub committed: bool,
    /// Whether the batch that does not fit any more is sent in part, as a broker does that sends bytes straight from its file.
    pub cut: bool,
    /// The replica that is asked has nothing at or above this offset.
    pub replica_end: i64,
}

/// A partition's log.
#[derive(Clone, Debug)]
pub struct PartitionLog {
    batches: Vec<Placed>,
    start: i64,
    end: i64,
    /// What readers may see, if that is less than the end: a new leader that does not know it yet.
    high_watermark: Option<i64>,
    open: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
    committed: Vec<Aborted>,
    /// Leader epochs and the offsets at which they began.
    epochs: Vec<(i32, i64)>,
}

impl Default for PartitionLog {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
            start: 0,
            end: 0,
            high_watermark: None,
            open: BTreeMap::new(),
            aborted: Vec::new(),
            committed: Vec::new(),
            epochs: vec![(0, 0)],
        }
    }
}

impl PartitionLog {
    /// First offset.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// The offset of the next record.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Where readers of uncommitted records stop.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.unwrap_or(self.end).min(self.end)
    }

    /// Where readers of committed records stop.
    pub fn stable_end(&self) -> i64 {
        self.open.values().min().copied().unwrap_or(i64::MAX).min(self.high_watermark())
    }

    /// The epoch of the leader that writes.
    pub fn epoch(&self) -> i32 {
        self.epochs.last().map_or(0, |(epoch, _)| *epoch)
    }

    /// A new leader writes from now on.
    pub fn begin_epoch(&mut self, epoch: i32) {
        self.epochs.push((epoch, self.end));
    }

    /// Shows readers less than there is, or all of it.
    pub fn set_high_watermark(&mut self, offset: Option<i64>) {
        self.high_watermark = offset;
    }

    /// Appends a batch and returns its first offset.
    pub fn append(&mut self, batch: Batch) -> i64 {
        let base = self.end;
        let last = base + i64::try_from(batch.records.len()).expect("a batch is small") - 1;
        self.note_transaction(batch.origin, base, last);
        let epoch = self.epoch();
        let bytes = batch.encode(base, epoch);
        self.batches.push(Placed { base, last, epoch, batch, bytes });
        self.end = last + 1;
        base
    }

    fn note_transaction(&mut self, origin: Origin, base: i64, last: i64) {
        match origin {
            Origin::Plain => {}
            Origin::Transaction(producer) => drop(self.open.entry(producer).or_insert(base)),
            Origin::Commit(producer) => {
                if let Some(first) = self.open.remove(&producer) {
                    self.committed.push(Aborted { producer, first, last });
                }
            }
            Origin::Abort(producer) => {
                if let Some(first) = self.open.remove(&producer) {
                    self.aborted.push(Aborted { producer, first, last });
                }
            }
        }
    }

    /// Leaves offsets out: a segment that compaction has emptied and thrown away.
    pub fn skip(&mut self, offsets: i64) {
        self.end += offsets;
    }

    /// Retention, or DeleteRecords: nothing below `offset` is readable any more.
    pub fn delete_before(&mut self, offset: i64) {
        self.start = self.start.max(offset);
        self.batches.retain(|b| b.last >= offset);
    }

    /// An unclean election: everything from `offset` on is gone.
    pub fn truncate(&mut self, offset: i64) {
        self.batches.retain(|b| b.base < offset);
        self.end = self.batches.last().map_or(self.start, |b| b.last + 1).min(self.end);
        self.open.retain(|_, first| *first < offset);
        self.aborted.retain(|t| t.last < offset);
        self.committed.retain(|t| t.last < offset);
        let end = self.end;
        self.epochs.retain(|(epoch, start)| *start < end || *epoch == 0);
    }

    /// Compaction of what is there already: in every batch, the records are kept for whose offset `keep` says yes.
    pub fn compact(&mut self, keep: impl Fn(i64) -> bool) {
        for placed in &mut self.batches {
            if matches!(placed.batch.origin, Origin::Commit(_) | Origin::Abort(_)) {
                continue;
            }
            let base = placed.base;
            placed.batch = placed.batch.clone().compacted(|place| keep(base + i64::try_from(place).expect("a batch is small")));
            placed.bytes = placed.batch.encode(base, placed.epoch);
        }
    }

    /// Throws the batch away in which `offset` lies, as compaction does with one that it has emptied.
    pub fn remove_batch_at(&mut self, offset: i64) {
        self.batches.retain(|b| !(b.base..=b.last).contains(&offset));
    }

    /// Damages the batch in which `offset` lies, as often as it is served up to `times`.
    pub fn damage(&mut self, offset: i64, damage: Damage, times: u32) {
        for placed in self.batches.iter_mut().filter(|b| (b.base..=b.last).contains(&offset)) {
            placed.batch.damage = Some((damage, times));
        }
    }

    /// First and last offset of the batch in which `offset` lies.
    pub fn batch_at(&self, offset: i64) -> Option<(i64, i64)> {
        self.batches.iter().find(|b| (b.base..=b.last).contains(&offset)).map(|b| (b.base, b.last))
    }

    /// The last offset and epoch up to which the log of `epoch` goes (KIP-101): the end of the largest epoch not above it.
    pub fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        let Some(at) = self.epochs.iter().rposition(|(known, _)| *known <= epoch) else { return (-1, -1) };
        (self.epochs[at].0, self.epochs.get(at + 1).map_or(self.end, |(_, start)| *start))
    }

    /// The first offset whose record is not older than this.
    pub fn offset_of_time(&self, timestamp: i64) -> Option<(i64, i64)> {
        self.batches.iter().flat_map(offsets_and_times).find(|(offset, time)| *offset >= self.start && *time >= timestamp)
    }

    /// Whether an offset can be fetched.
    pub fn contains(&self, offset: i64, replica_end: i64) -> bool {
        (self.start..=self.end.min(replica_end)).contains(&offset)
    }

    /// What a fetch gets.
    pub fn slice(&mut self, want: Extent) -> Slice {
        let until = if want.committed { self.stable_end() } else { self.high_watermark() }.min(want.replica_end);
        let mut bytes = BytesMut::new();
        let (mut upper, mut damaged) = (want.offset, 0);
        for placed in self.batches.iter_mut().filter(|b| b.last >= want.offset && b.base < until).take(want.batches_max) {
            let is_owed = want.at_least_one && bytes.is_empty();
            if !is_owed && bytes.len() + placed.bytes.len() > want.bytes_max {
                if want.cut && !bytes.is_empty() {
                    let room = want.bytes_max.saturating_sub(bytes.len()).min(placed.bytes.len() - 1);
                    bytes.extend_from_slice(&placed.bytes[..room]);
                }
                break;
            }
            let served = placed.serve();
            damaged += served.1;
            bytes.extend_from_slice(&served.0);
            upper = placed.last + 1;
        }
        let aborted = self.aborted.iter().filter(|t| t.last >= want.offset && t.first < upper).copied().collect();
        Slice { bytes: bytes.freeze(), aborted, damaged }
    }

    /// Every record that a `read_committed` reader sees now.
    pub fn visible(&self) -> Vec<Visible> {
        let until = self.stable_end();
        let shown = |placed: &&Placed| match placed.batch.origin {
            Origin::Plain => true,
            Origin::Transaction(producer) => {
                self.committed.iter().any(|t| t.producer == producer && (t.first..=t.last).contains(&placed.base))
            }
            Origin::Commit(_) | Origin::Abort(_) => false,
        };
        self.batches.iter().filter(shown).flat_map(records_of).filter(|v| (self.start..until).contains(&v.offset)).collect()
    }
}

/// The records of a batch as a reader gets them: format 0 has no times, and the old formats have no headers.
fn records_of(placed: &Placed) -> impl Iterator<Item = Visible> + '_ {
    let Placed { base, batch, .. } = placed;
    (0..).zip(&batch.records).filter_map(move |(delta, record)| {
        let mut record = record.clone()?;
        if batch.magic < 2 {
            record.headers.clear();
        }
        let time = match (batch.magic, batch.append_time) {
            (0, _) => (-1, -1),
            (_, Some(at)) => (at, 1),
            (_, None) => (record.timestamp, 0),
        };
        Some(Visible { offset: base + delta, time, record })
    })
}

impl Placed {
    /// The bytes as they are served now, and whether they are damaged.
    fn serve(&mut self) -> (Bytes, u32) {
        match &mut self.batch.damage {
            Some((damage, times)) if *times > 0 => {
                *times -= 1;
                let damage = *damage;
                (self.batch.encode_damaged(self.base, self.epoch, damage), 1)
            }
            _ => (self.bytes.clone(), 0),
        }
    }
}

fn offsets_and_times(placed: &Placed) -> impl Iterator<Item = (i64, i64)> + '_ {
    let append = placed.batch.append_time;
    let control = matches!(placed.batch.origin, Origin::Commit(_) | Origin::Abort(_));
    (0..)
        .zip(&placed.batch.records)
        .filter(move |_| !control)
        .filter_map(move |(delta, record)| Some((placed.base + delta, append.unwrap_or(record.as_ref()?.timestamp))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(records: usize) -> Batch {
        let record = |n: usize| Record { timestamp: 1000 + i64::try_from(n).expect("small"), value: Some(vec![1]), ..Record::default() };
        Batch::of((0..records).map(record).collect())
    }

    fn offsets(log: &PartitionLog) -> Vec<i64> {
        log.visible().iter().map(|v| v.offset).collect()
    }

    const ALL: Extent = Extent {
        offset: 0,
        bytes_max: usize::MAX,
        at_least_one: true,
        batches_max: usize::MAX,
        committed: true,
        cut: false,
        replica_end: i64::MAX,
    };

    #[test]
    fn aborted_and_open_transactions_are_not_visible() {
        let mut log = PartitionLog::default();
        log.append(batch(2).in_transaction(1));
        log.append(batch(2));
        log.append(batch(1).in_transaction(2));
        assert_eq!((log.stable_end(), log.end()), (0, 5));
        log.append(Batch::marker(Origin::Commit(1)));
        assert_eq!((log.stable_end(), offsets(&log)), (4, vec![0, 1, 2, 3]));
        log.append(Batch::marker(Origin::Abort(2)));
        log.append(batch(1));
        assert_eq!((log.stable_end(), offsets(&log)), (8, vec![0, 1, 2, 3, 7]));
        assert_eq!(log.slice(ALL).aborted, [Aborted { producer: 2, first: 4, last: 6 }]);
        let behind = log.slice(Extent { offset: 7, ..ALL });
        assert!(behind.aborted.is_empty() && behind.bytes.len() < log.slice(ALL).bytes.len());
    }

    #[test]
    fn retention_truncation_and_compaction_take_what_they_say() {
        let mut log = PartitionLog::default();
        for _ in 0..4 {
            log.append(batch(5));
        }
        log.compact(|offset| offset % 2 == 0);
        log.delete_before(6);
        assert_eq!((log.start(), offsets(&log)), (6, vec![6, 8, 10, 12, 14, 16, 18]));
        log.begin_epoch(3);
        log.truncate(15);
        assert_eq!((log.end(), offsets(&log)), (15, vec![6, 8, 10, 12, 14]));
        log.remove_batch_at(10);
        assert_eq!((log.end(), offsets(&log)), (15, vec![6, 8]));
    }

    #[test]
    fn epochs_end_where_the_next_begins() {
        let mut log = PartitionLog::default();
        log.append(batch(5));
        log.begin_epoch(2);
        log.append(batch(5));
        assert_eq!((log.end_of_epoch(0), log.end_of_epoch(1), log.end_of_epoch(2)), ((0, 5), (0, 5), (2, 10)));
        assert_eq!(log.end_of_epoch(-1), (-1, -1));
    }

    #[test]
    fn a_batch_that_does_not_fit_is_left_out_or_cut() {
        let mut log = PartitionLog::default();
        for _ in 0..3 {
            log.append(batch(5));
        }
        let whole = log.slice(Extent { bytes_max: 1, ..ALL }).bytes.len();
        assert!(whole > 0 && log.slice(Extent { bytes_max: 1, at_least_one: false, ..ALL }).bytes.is_empty());
        assert_eq!(log.slice(ALL).bytes.len(), 3 * whole);
        assert_eq!(log.slice(Extent { bytes_max: whole + 10, ..ALL }).bytes.len(), whole);
        assert_eq!(log.slice(Extent { bytes_max: whole + 10, cut: true, ..ALL }).bytes.len(), whole + 10);
    }
}
