//! One object against its range of the topic, record by record.
//!
//! Place in the flow: [`kafka`](super::kafka) runs one for each object of a lane, on a thread of its own, since it waits for Kafka. A Parquet object is held
//! against the topic field by field; a raw one by its stream of values, and by its digest for the rest.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use catchment_formats::raw::{RawDecoder, RawItem};
use catchment_formats::{Block, DigestBuilder, Encoding, Format, FormatError, Framing, Proof, RecordView, ValueLayout};

use super::kafka::Found;
use super::listing::Listed;
use super::report::{Damage, DamageKind};
use super::spool::{ParquetSpool, Spool, SpoolReader, unwritable};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::source::{PartitionQueue, QueueEvent, Source, TopicPartition, Wake};

/// How long Kafka may yield nothing. A broker's restart fits; a topic that is gone does not wait for ever.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Differences named one by one for each object; the rest is counted.
const NAMED_MAX: usize = 5;

/// The visible records of a range, one at a time.
struct Records {
    queue: Box<dyn PartitionQueue>,
    end: i64,
    signal: Arc<(Mutex<bool>, Condvar)>,
    tp: TopicPartition,
}

impl Records {
    fn open(source: &dyn Source, tp: &TopicPartition, from: i64, end: i64) -> Result<Self> {
        let signal = Arc::new((Mutex::new(false), Condvar::new()));
        let waker = Arc::clone(&signal);
        let wake: Wake = Arc::new(move || {
            *waker.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            waker.1.notify_one();
        });
        Ok(Self { queue: source.open(tp, from, -1, wake)?, end, signal, tp: tp.clone() })
    }

    /// Waits for the next record of the range; false at its end.
    fn ready(&mut self) -> Result<bool> {
        loop {
            if !self.queue.fill() {
                self.wait()?;
                continue;
            }
            match self.queue.peek() {
                Some(QueueEvent::Record(record, _)) => return Ok(record.offset < self.end),
                Some(QueueEvent::End(at)) if at >= self.end => return Ok(false),
                // The last stable offset may hang behind for a while; new records or a later end will come.
                Some(QueueEvent::End(_)) => self.queue.pop(),
                Some(QueueEvent::Fault(fault)) => return Err(self.failed(format!("{fault:?}"))),
                None => {}
            }
        }
    }

    fn record(&mut self) -> Option<RecordView<'_>> {
        match self.queue.peek() {
            Some(QueueEvent::Record(record, _)) => Some(record),
            _ => None,
        }
    }

    fn wait(&self) -> Result<()> {
        let guard = self.signal.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut woken, timeout) =
            self.signal.1.wait_timeout_while(guard, SILENCE_MAX, |woken| !*woken).unwrap_or_else(PoisonError::into_inner);
        *woken = false;
        if timeout.timed_out() { Err(self.failed(format!("nothing came for {} s", SILENCE_MAX.as_secs()))) } else { Ok(()) }
    }

    fn failed(&self, why: String) -> Error {
        Error::new(codes::COMPARE_READ, ErrorKind::Unreachable, "the topic cannot be read for comparison")
            .with("topic", &self.tp.topic)
            .with("partition", self.tp.partition)
            .because(why)
            .help("check that the brokers are up and that this user may read the topic, then verify again")
    }
}

/// One object against its range of the topic.
pub(super) struct Comparison<'a> {
    listed: &'a Listed,
    proof: &'a Proof,
    /// First offset that is compared.
    from: i64,
    /// Whether compaction may have dropped records that have a key.
    may_drop: bool,
    differences: Vec<String>,
    unnamed: usize,
    found: Found,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(listed: &'a Listed, proof: &'a Proof, log_start: i64, may_drop: bool) -> Self {
        let from = proof.range.start.max(log_start);
        Self { listed, proof, from, may_drop, differences: Vec::new(), unnamed: 0, found: Found::default() }
    }

    pub(super) fn run(mut self, source: &dyn Source, tp: &TopicPartition, spool: &Spool) -> Result<Found> {
        let encoding: Encoding = self.proof.encoding.parse().map_err(|e: FormatError| self.unreadable(e))?;
        if self.from > self.proof.range.start {
            let range = self.proof.range;
            self.found.notes.push(format!("{tp}: of {range} Kafka has nothing below {} any more; that part was not compared", self.from));
        }
        let mut records = Records::open(source, tp, self.from, self.proof.range.end)?;
        match encoding.format {
            Format::Parquet => self.parquet(&mut records, spool)?,
            Format::Raw(_) if self.from == self.proof.range.start => self.raw(&mut records, spool, &encoding)?,
            Format::Raw(_) => {}
        }
        if self.unnamed > 0 {
            self.differences.push(format!("and {} more", self.unnamed));
        }
        for detail in std::mem::take(&mut self.differences) {
            self.found.damage.push(Damage::new(&self.listed.key, DamageKind::Records, detail));
        }
        Ok(self.found)
    }

    fn differs(&mut self, detail: String) {
        if self.differences.len() < NAMED_MAX { self.differences.push(detail) } else { self.unnamed += 1 }
    }

    fn is_missing(&self, offset: i64) -> bool {
        self.proof.missing.iter().any(|m| m.covers(offset))
    }

    /// The next record of Kafka that the object should hold; moves past those that it lists as missing.
    fn due(&self, records: &mut Records) -> Result<bool> {
        while records.ready()? {
            match records.record() {
                Some(record) if self.is_missing(record.offset) => records.queue.pop(),
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    fn parquet(&mut self, records: &mut Records, spool: &Spool) -> Result<()> {
        let mut decoder = ParquetSpool::open(spool).map_err(|e| self.unreadable(e))?;
        let mut block = Block::new(ValueLayout::Plain);
        while decoder.next_block(&mut block).map_err(|e| self.unreadable(e))? {
            let from = self.from;
            for stored in block.iter().filter(|r| r.offset >= from) {
                self.stored(records, &stored)?;
            }
        }
        while self.due(records)? {
            self.absent(records);
        }
        Ok(())
    }

    /// Holds one stored record against Kafka's next ones.
    fn stored(&mut self, records: &mut Records, stored: &RecordView<'_>) -> Result<()> {
        loop {
            let due = if self.due(records)? { records.record() } else { None };
            match due {
                Some(record) if record.offset < stored.offset => self.absent(records),
                Some(record) if record.offset == stored.offset => {
                    let fields = differing_fields(&record, stored);
                    if !fields.is_empty() {
                        self.differs(format!("offset {} is altered: {}", stored.offset, fields.join(", ")));
                    }
                    self.found.compared += 1;
                    records.queue.pop();
                    return Ok(());
                }
                _ if self.may_drop && stored.key.is_some() => {
                    self.found.dropped += 1;
                    return Ok(());
                }
                _ => {
                    self.differs(format!("offset {} is extra: Kafka has no such record, and nothing can have dropped it", stored.offset));
                    return Ok(());
                }
            }
        }
    }

    fn absent(&mut self, records: &mut Records) {
        if let Some(offset) = records.record().map(|r| r.offset) {
            self.differs(format!("offset {offset} is missing: Kafka has it, the object does not"));
        }
        self.found.compared += 1;
        records.queue.pop();
    }

    /// Raw objects hold values alone: the stream of values is compared byte by byte, the rest by its digest.
    fn raw(&mut self, records: &mut Records, spool: &Spool, encoding: &Encoding) -> Result<()> {
        let layout = encoding.value_layout();
        let mut stream = ValueStream::open(spool, encoding).map_err(|e| self.unreadable(e))?;
        let mut digest = DigestBuilder::new();
        let mut block = Block::new(layout);
        let (mut same, mut seen) = (true, 0_u64);
        while self.due(records)? {
            let Some(record) = records.record() else { break };
            seen += 1;
            let offset = record.offset;
            block.reset(layout);
            block.push(&record);
            records.queue.pop();
            digest.push(&block);
            self.found.compared += 1;
            if same {
                let found = stream.starts_with(block.values()).map_err(|e| self.unreadable(e))?;
                same = found == Match::Equal;
                match found {
                    Match::Equal => {}
                    Match::Different => self.differs(format!("from offset {offset} on the values are altered")),
                    Match::Ended => self.differs(format!("from offset {offset} on the values are missing")),
                }
            }
        }
        let dropped = self.proof.counts.records.saturating_sub(seen);
        if self.may_drop && dropped > 0 && self.proof.counts.key_bytes > 0 {
            // Of a stream that lacks records, nothing behind the first one can be compared.
            self.differences.clear();
            self.unnamed = 0;
            self.found.dropped += dropped;
            self.found.compared -= seen;
            return Ok(());
        }
        if same && !stream.is_at_end().map_err(|e| self.unreadable(e))? {
            self.differs("values are extra: they go on after Kafka's last one of the range".to_owned());
        } else if same && digest.digest() != self.proof.digest {
            self.differs("keys, headers, offsets, timestamps or empty values are altered: their digest is not Kafka's".to_owned());
        }
        Ok(())
    }

    fn unreadable(&self, e: FormatError) -> Error {
        match e {
            FormatError::Io(e) if e.raw_os_error().is_some() => unwritable(e),
            other => Error::new(codes::OBJECT_UNREADABLE, ErrorKind::Corrupt, "an object changed while it was verified")
                .with("key", &self.listed.key)
                .because(other),
        }
    }
}

fn differing_fields(kafka: &RecordView<'_>, stored: &RecordView<'_>) -> Vec<&'static str> {
    let fields = [
        ("value", kafka.value == stored.value),
        ("key", kafka.key == stored.key),
        ("headers", kafka.headers == stored.headers),
        ("timestamp", kafka.timestamp == stored.timestamp),
        ("timestamp type", kafka.timestamp_type == stored.timestamp_type),
    ];
    fields.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Equal,
    Different,
    Ended,
}

/// The framed values of a raw object as one stream of bytes: read without their framing, since a value of any length is compared piece by piece.
struct ValueStream<'a> {
    decoder: RawDecoder<SpoolReader<'a>>,
    /// Bytes decoded and not compared yet begin at `at`.
    buffer: Vec<u8>,
    at: usize,
}

impl<'a> ValueStream<'a> {
    fn open(spool: &'a Spool, encoding: &Encoding) -> Result<Self, FormatError> {
        let unframed = Encoding { format: Format::Raw(Framing::None), ..*encoding };
        Ok(Self { decoder: RawDecoder::new(spool.reader(), &unframed)?, buffer: Vec::new(), at: 0 })
    }

    /// Compares the next bytes and moves past them.
    fn starts_with(&mut self, bytes: &[u8]) -> Result<Match, FormatError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.is_at_end()? {
                return Ok(Match::Ended);
            }
            let n = rest.len().min(self.buffer.len() - self.at);
            if rest[..n] != self.buffer[self.at..self.at + n] {
                return Ok(Match::Different);
            }
            self.at += n;
            rest = &rest[n..];
        }
        Ok(Match::Equal)
    }

    fn is_at_end(&mut self) -> Result<bool, FormatError> {
        while self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            let Some(item) = self.decoder.next_item()? else { return Ok(true) };
            if let RawItem::Value(piece) = item {
                self.buffer.extend_from_slice(piece);
            }
        }
        Ok(false)
    }
}
