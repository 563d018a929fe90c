//! The truth about a topic: what a `read_committed` consumer of its own sees in the broker's log, and the comparison with what
//! was stored.
//!
//! Each record is reduced to a SHA-256 over its canonical form, the same in `tests/readers/canonical.py`:
//!
//! ```text
//! i32be partition | i64be offset | i8 timestamp type (0 create, 1 append, -1 none) | i64be timestamp (-1 if the type is -1)
//! | bytes key | bytes value | i32be number of headers | for each: bytes name | bytes value
//! where bytes = i32be length | the bytes, and null is length -1
//! ```
//!
//! Not done here: the oracle knows nothing of windows, objects or protocols; only of records.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use catchment_formats::RecordView;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sha2::{Digest, Sha256};

use crate::native;

/// How long a broker may be silent before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// SHA-256 of a record's canonical form.
pub type RecordHash = [u8; 32];

/// Where a record lies.
pub type Place = (i32, i64);

/// The hash of one record, given piece by piece.
pub fn record_hash<'a>(
    place: Place,
    timestamp: (i64, i8),
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> RecordHash {
    let mut hash = Sha256::new();
    let (at, kind) = timestamp;
    hash.update(place.0.to_be_bytes());
    hash.update(place.1.to_be_bytes());
    hash.update(kind.to_be_bytes());
    hash.update(if kind == -1 { -1 } else { at }.to_be_bytes());
    let mut bytes = |b: Option<&[u8]>| {
        hash.update(b.map_or(-1, length).to_be_bytes());
        hash.update(b.unwrap_or_default());
    };
    bytes(key);
    bytes(value);
    hash.update(i32::try_from(headers.len()).expect("Kafka counts are i32").to_be_bytes());
    for (name, value) in headers {
        for b in [Some(name), value] {
            hash.update(b.map_or(-1, length).to_be_bytes());
            hash.update(b.unwrap_or_default());
        }
    }
    hash.finalize().into()
}

/// The hash of a record in the form in which the formats library has it.
pub fn view_hash(partition: i32, record: &RecordView<'_>) -> RecordHash {
    let headers: Vec<_> = record.headers.iter().collect();
    let time = (record.timestamp, record.timestamp_type as i8);
    record_hash((partition, record.offset), time, record.key, record.value, headers.into_iter())
}

fn length(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).expect("Kafka lengths are i32")
}

/// One record of the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Of the whole record.
    hash: RecordHash,
    /// Of the bare value; `None` for null. For raw objects, which hold nothing else.
    value: Option<RecordHash>,
}

/// Every record of a topic that was visible when it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    records: BTreeMap<Place, Entry>,
}

impl Truth {
    /// Reads a topic from its beginning to the end that each partition has (open transactions end it) as the reading reaches it.
    pub fn read(bootstrap: &str, topic: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap);
        Self::read_with(&config, topic)
    }

    /// The same with a client's settings of the test's own, for listeners and accounts.
    pub fn read_with(config: &ClientConfig, topic: &str) -> Self {
        let mut truth = Self::default();
        read_topic(config, topic, |message| {
            let headers = native::headers(message);
            let place = (message.partition(), message.offset());
            let hash = record_hash(
                place,
                native::timestamp(message),
                message.key(),
                message.payload(),
                headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())),
            );
            let value = message.payload().map(|bytes| Sha256::digest(bytes).into());
            let twice = truth.records.insert(place, Entry { hash, value });
            assert!(twice.is_none(), "the broker gave {topic} {place:?} twice");
        });
        truth
    }

    /// A truth that was not read from a broker: each record's place, its hash, and its bare value.
    pub fn of(records: impl IntoIterator<Item = (Place, RecordHash, Option<Vec<u8>>)>) -> Self {
        let entry = |hash, value: Option<Vec<u8>>| Entry { hash, value: value.map(|bytes| Sha256::digest(bytes).into()) };
        Self { records: records.into_iter().map(|(place, hash, value)| (place, entry(hash, value))).collect() }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the topic shows no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The hash of the record at a place; none if none is visible there.
    pub fn hash(&self, place: Place) -> Option<RecordHash> {
        self.records.get(&place).map(|entry| entry.hash)
    }

    /// The records' places, ascending by partition and offset.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.records.keys().copied()
    }

    /// Only the records that `keep` answers yes for: a start point, a lost range.
    pub fn filtered(&self, keep: impl Fn(Place) -> bool) -> Self {
        let records = self.records.iter().filter(|(place, _)| keep(**place)).map(|(p, h)| (*p, *h)).collect();
        Self { records }
    }

    /// What a raw decoder must find, as `tests/readers/raw_decode.py` writes it: a line `partition index hash` for each value in offset order,
    /// the index counted per partition. `nulls`: whether the framing writes them.
    pub fn value_lines(&self, nulls: bool) -> Vec<String> {
        let mut indices = BTreeMap::<i32, u64>::new();
        let mut lines = Vec::new();
        for ((partition, _), entry) in &self.records {
            if entry.value.is_none() && !nulls {
                continue;
            }
            let index = indices.entry(*partition).or_default();
            lines.push(format!("{partition} {index} {}", entry.value.map_or_else(|| "null".to_owned(), |hash| hex(&hash))));
            *index += 1;
        }
        lines
    }

    /// Compares with what was stored.
    pub fn compare(&self, stored: &Stored) -> Difference {
        let mut difference = Difference { compared: self.records.len(), ..Difference::default() };
        for (place, Entry { hash, .. }) in &self.records {
            match stored.records.get(place).map(Vec::as_slice) {
                None | Some([]) => difference.lost.push(*place),
                Some([one]) if one == hash => {}
                Some([_]) => difference.altered.push(*place),
                Some([_, _, ..]) => difference.duplicated.push(*place),
            }
        }
        difference.foreign = stored.records.keys().filter(|place| !self.records.contains_key(place)).copied().collect();
        difference
    }

    /// Fails unless exactly these records were stored, each once and unaltered.
    ///
    /// # Panics
    /// With the kinds of difference, their numbers and first places.
    #[track_caller]
    pub fn assert_equals(&self, stored: &Stored, what: &str) {
        let difference = self.compare(stored);
        assert!(difference.is_none(), "{what}: {difference}");
    }
}

/// Reads a topic from beginning to end with a consumer that is no member of any group.
fn read_topic(config: &ClientConfig, topic: &str, mut each: impl FnMut(&BorrowedMessage<'_>)) {
    let mut config = config.clone();
    for (key, value) in [
        ("group.id", "catchment-test-oracle"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "error"),
        ("check.crcs", "true"),
        ("fetch.message.max.bytes", "16777216"),
        ("queued.max.messages.kbytes", "65536"),
    ] {
        config.set(key, value);
    }
    let consumer: BaseConsumer = config.create().expect("a consumer can be made");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap_or_else(|e| panic!("no metadata of {topic}: {e}"));
    let partitions: Vec<i32> = metadata.topics().iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
    assert!(!partitions.is_empty(), "topic {topic} does not exist");
    let mut list = TopicPartitionList::new();
    for partition in &partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning).expect("the beginning is an offset");
    }
    consumer.assign(&list).expect("partitions can be assigned");
    let mut open: std::collections::BTreeSet<i32> = partitions.into_iter().collect();
    let mut heard = Instant::now();
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                each(&message);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = Instant::now();
                open.remove(&partition);
            }
            // A connection that is lost is made anew; one that stays away is silence.
            None
            | Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure))) => {
                assert!(heard.elapsed() < PATIENCE, "{topic}: the broker has been silent for {PATIENCE:?}, partitions {open:?} not done")
            }
            Some(Err(e)) => panic!("cannot read {topic}: {e}"),
        }
    }
}

/// Every record that was found in a store, as often as it was found.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    records: BTreeMap<Place, Vec<RecordHash>>,
}

impl Stored {
    /// Adds a record that was found once more.
    pub fn push(&mut self, place: Place, hash: RecordHash) {
        self.records.entry(place).or_default().push(hash);
    }

    /// Adds a record in the form in which the formats library decodes it.
    pub fn push_view(&mut self, partition: i32, record: &RecordView<'_>) {
        self.push((partition, record.offset), view_hash(partition, record));
    }

    /// Reads a file of `tests/readers`: a line `partition offset hash` for each row.
    pub fn from_digest_file(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
        let mut stored = Self::default();
        for line in text.lines() {
            let (place, hash) = parse_line(line).unwrap_or_else(|| panic!("{}: not a digest line: {line:?}", path.display()));
            stored.push(place, hash);
        }
        stored
    }

    /// How many rows were found, duplicates included.
    pub fn rows(&self) -> usize {
        self.records.values().map(Vec::len).sum()
    }
}

fn hex(hash: &RecordHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_line(line: &str) -> Option<(Place, RecordHash)> {
    let mut words = line.split(' ');
    let place = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let hex = words.next().filter(|h| h.len() == 64 && h.is_ascii())?;
    let mut hash = RecordHash::default();
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some((place, hash))
}

/// How a store differs from the truth. Each place stands in one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Records of the truth.
    pub compared: usize,
    /// In the topic, not in the store.
    pub lost: Vec<Place>,
    /// More than once in the store.
    pub duplicated: Vec<Place>,
    /// Once in the store, with other content.
    pub altered: Vec<Place>,
    /// In the store, not visible in the topic: aborted, or never sent.
    pub foreign: Vec<Place>,
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        [&self.lost, &self.duplicated, &self.altered, &self.foreign].iter().all(|list| list.is_empty())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} records", self.compared)?;
        for (what, list) in [("lost", &self.lost), ("duplicated", &self.duplicated), ("altered", &self.altered), ("foreign", &self.foreign)]
        {
            write!(f, ", {} {what}", list.len())?;
            if !list.is_empty() {
                write!(f, " {:?}{}", &list[..list.len().min(5)], if list.len() > 5 { "…" } else { "" })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(place: Place, value: Option<&[u8]>) -> RecordHash {
        record_hash(place, (1, 0), None, value, [].into_iter())
    }

    fn truth() -> Truth {
        let entry = |n| Entry { hash: hash((0, n), Some(b"v")), value: None };
        Truth { records: (0..10).map(|n| ((0, n), entry(n))).collect() }
    }

    #[test]
    fn equal_is_no_difference() {
        let mut stored = Stored::default();
        truth().records.iter().for_each(|(place, entry)| stored.push(*place, entry.hash));
        assert!(truth().compare(&stored).is_none());
        assert_eq!(stored.rows(), 10);
    }

    #[test]
    fn every_kind_of_difference_is_told_apart() {
        let mut stored = Stored::default();
        for n in 1..10 {
            stored.push((0, n), hash((0, n), Some(b"v")));
        }
        stored.push((0, 4), hash((0, 4), Some(b"v")));
        stored.records.insert((0, 6), vec![hash((0, 6), Some(b"w"))]);
        stored.push((1, 0), hash((1, 0), None));
        let difference = truth().compare(&stored);
        assert_eq!(difference.lost, [(0, 0)]);
        assert_eq!(difference.duplicated, [(0, 4)]);
        assert_eq!(difference.altered, [(0, 6)]);
        assert_eq!(difference.foreign, [(1, 0)]);
        assert_eq!(difference.to_string(), "of 10 records, 1 lost [(0, 0)], 1 duplicated [(0, 4)], 1 altered [(0, 6)], 1 foreign [(1, 0)]");
    }

    #[test]
    fn null_and_empty_differ() {
        assert_ne!(hash((0, 0), None), hash((0, 0), Some(b"")));
        let with = |headers: &[(&'static [u8], Option<&'static [u8]>)]| record_hash((0, 0), (1, 0), None, None, headers.iter().copied());
        assert_ne!(with(&[(b"a", None)]), with(&[(b"a", Some(b""))]));
        assert_ne!(with(&[(b"a", None), (b"b", None)]), with(&[(b"b", None), (b"a", None)]));
        assert_ne!(with(&[]), with(&[(b"", None)]));
    }

    /// The same record stands in `tests/readers/canonical.py`.
    #[test]
    fn the_canonical_form_is_that_of_the_readers() {
        let headers: [(&[u8], Option<&[u8]>); 2] = [(b"h", None), (b"\xff", Some(b""))];
        let hash = record_hash((3, 1 << 40), (-1, 0), Some(b""), Some(b"value"), headers.into_iter());
        assert_eq!(hex(&hash), "2e691007467b0904f377280698a4313fac67b905526e84c9a9ea6238d2cc276a");
    }
}
