//! What the tests of this crate share: owned records, how they come about, and what every encoder must pass.

use proptest::prelude::*;

use crate::block::Block;
use crate::encoder::{ByteSink, Codec, Encoding, Format, Framing, segment_encoder};
use crate::parquet::TIMESTAMP_MAX;
use crate::proof::{GapCause, LaneId, Missing, Proof};
use crate::record::{HeadersBuf, RecordView, TimestampType};

/// A time in the year 34089, as microseconds taken for milliseconds are.
pub(crate) const YEAR_34089: i64 = 1_013_600_000_000_000;

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Record {
    /// A record with a value and nothing else worth a look.
    pub(crate) fn of(offset: i64, value: &[u8]) -> Self {
        Self {
            offset,
            timestamp: 1_700_000_000_000 + offset,
            timestamp_type: TimestampType::Create,
            key: None,
            value: Some(value.to_vec()),
            headers: Vec::new(),
        }
    }

    pub(crate) fn push_to(&self, block: &mut Block) {
        let mut headers = HeadersBuf::default();
        for (name, value) in &self.headers {
            headers.push(name, value.as_deref());
        }
        block.push(&RecordView {
            offset: self.offset,
            timestamp: self.timestamp,
            timestamp_type: self.timestamp_type,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: headers.view(),
        });
    }

    pub(crate) fn from_view(view: &RecordView<'_>) -> Self {
        Self {
            offset: view.offset,
            timestamp: view.timestamp,
            timestamp_type: view.timestamp_type,
            key: view.key.map(<[u8]>::to_vec),
            value: view.value.map(<[u8]>::to_vec),
            headers: view.headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

/// Records with everything that is odd and allowed, offsets 1000, 1003 and so on.
pub(crate) fn oddities() -> Vec<Record> {
    let base = Record::of(0, b"v");
    let with_headers =
        |headers: Vec<(&[u8], Option<&[u8]>)>| headers.into_iter().map(|(n, v)| (n.to_vec(), v.map(<[u8]>::to_vec))).collect::<Vec<_>>();
    let mut all = vec![
        Record { value: None, ..base.clone() },
        Record { value: Some(Vec::new()), key: Some(Vec::new()), ..base.clone() },
        Record { key: Some(vec![0xff, 0x00, 0xfe]), value: Some(vec![0x80, 0xff]), ..base.clone() },
        Record { headers: with_headers(vec![(b"a", Some(b"1")), (b"a", Some(b"2")), (b"a", None), (b"", Some(b""))]), ..base.clone() },
        Record { headers: with_headers(vec![(b"ok", Some(b"\xff\xfe")), (b"\xff\xfe", None), (b"", Some(b""))]), ..base.clone() },
        Record { headers: with_headers(vec![("é".as_bytes(), Some(b"\x00"))]), ..base.clone() },
    ];
    for timestamp in [-1, 0, 1, TIMESTAMP_MAX, TIMESTAMP_MAX + 1, YEAR_34089, i64::MIN, i64::MAX] {
        for timestamp_type in [TimestampType::None, TimestampType::Create, TimestampType::Append] {
            all.push(Record { timestamp, timestamp_type, ..base.clone() });
        }
    }
    for (i, record) in all.iter_mut().enumerate() {
        record.offset = 1_000 + 3 * i as i64;
    }
    all
}

pub(crate) fn lane() -> LaneId {
    LaneId {
        rule: "orders".to_owned(),
        cluster: "q1Sh-9_ISia_zwGINzRvyQ".to_owned(),
        topic: "orders".to_owned(),
        topic_id: "0123456789abcdef0123456789abcdef".to_owned(),
        partition: 3,
    }
}

pub(crate) fn encodings() -> Vec<Encoding> {
    let mut all = Vec::new();
    for format in [Format::Parquet, Format::Raw(Framing::None), Format::Raw(Framing::Newline), Format::Raw(Framing::Len32)] {
        for codec in [Codec::None, Codec::Zstd(1), Codec::Zstd(3), Codec::Gzip(1), Codec::Gzip(6)] {
            all.push(Encoding { format, codec });
        }
    }
    all
}

/// Encodes records in blocks of `sizes` rows, taken in turn, each block also ended when it is full.
pub(crate) fn encode(encoding: &Encoding, records: &[Record], sizes: &[usize], end: i64, missing: &[Missing]) -> (Vec<u8>, Proof) {
    let start = records.first().map_or(end, |r| r.offset).min(missing.first().map_or(i64::MAX, |m| m.0));
    let mut encoder = segment_encoder(encoding, &lane(), start);
    let mut bytes = Vec::new();
    let mut block = Block::new(encoding.value_layout());
    let mut sizes = sizes.iter().cycle();
    let mut size = *sizes.next().expect("a block size");
    for record in records {
        record.push_to(&mut block);
        if block.rows() >= size || block.is_full() {
            encoder.append(&block, &mut bytes);
            block.reset(encoding.value_layout());
            size = *sizes.next().expect("a cycle never ends");
        }
    }
    encoder.append(&block, &mut bytes);
    let proof = encoder.finish(end, missing, &mut bytes);
    (bytes, proof)
}

/// Encodes records in blocks that are handed on when they are full.
pub(crate) fn encode_full(encoding: &Encoding, records: &[Record]) -> (Vec<u8>, Proof) {
    encode(encoding, records, &[usize::MAX], records.last().map_or(0, |r| r.offset + 1), &[])
}

/// What every [`SegmentEncoder`] must do with these records: give the same bytes and the same proof however they are batched,
/// count its bytes, count the records, and give every byte to the sink in order.
pub(crate) fn conforms(encoding: &Encoding, records: &[Record], batchings: &[Vec<usize>]) -> (Vec<u8>, Proof) {
    let end = records.last().map_or(7, |r| r.offset + 5);
    let missing = [Missing(end - 2, end, GapCause::Retention)];
    let (bytes, proof) = encode(encoding, records, &[usize::MAX], end, &missing);
    assert_eq!(proof.size, Some(bytes.len() as u64), "{encoding}: the proof's size");
    assert_eq!(proof.counts.records, records.len() as u64, "{encoding}: the proof's count");
    assert_eq!(proof.encoding.parse::<Encoding>().expect("a known encoding"), *encoding);
    assert_eq!((proof.range.end, proof.missing.as_slice()), (end, missing.as_slice()));
    for sizes in batchings {
        let (again, proof_again) = encode(encoding, records, sizes, end, &missing);
        assert_eq!(proof, proof_again, "{encoding}: the proof depends on the batching {sizes:?}");
        assert!(bytes == again, "{encoding}: the bytes depend on the batching {sizes:?}");
    }
    (bytes, proof)
}

/// A sink that counts how often it was called.
#[derive(Default)]
pub(crate) struct CountingSink {
    pub(crate) bytes: Vec<u8>,
    pub(crate) puts: usize,
}

impl ByteSink for CountingSink {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.puts += 1;
    }
}

/// Bytes that mix text, random bytes, invalid UTF-8 and newlines.
fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => Just(Vec::new()),
        4 => proptest::collection::vec(any::<u8>(), 0..max),
        4 => proptest::collection::vec(b'a'..=b'z', 0..max),
        1 => Just(vec![0xff, 0xfe, b'\n', 0]),
    ]
}

fn header_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => Just(b"trace".to_vec()), 4 => "[a-zA-Zé]{0,8}".prop_map(String::into_bytes), 1 => Just(vec![0xff, b'x'])]
}

fn timestamp() -> impl Strategy<Value = (i64, TimestampType)> {
    let usual = (1_600_000_000_000_i64..1_900_000_000_000).prop_map(|ts| (ts, TimestampType::Create));
    let odd = prop_oneof![
        Just(-1),
        Just(0),
        Just(i64::MIN),
        Just(i64::MAX),
        Just(253_402_300_799_999),
        Just(253_402_300_800_000),
        Just(YEAR_34089),
        any::<i64>()
    ];
    let kind = prop_oneof![Just(TimestampType::None), Just(TimestampType::Create), Just(TimestampType::Append)];
    prop_oneof![6 => usual, 1 => (odd, kind)]
}

/// Up to `rows` records with all the oddities that Kafka allows.
pub(crate) fn records(rows: usize) -> impl Strategy<Value = Vec<Record>> {
    let record = (
        1_i64..4,
        timestamp(),
        proptest::option::weighted(0.7, bytes(20)),
        proptest::option::weighted(0.9, bytes(200)),
        prop_oneof![
            3 => Just(Vec::new()),
            1 => proptest::collection::vec((header_name(), proptest::option::weighted(0.8, bytes(12))), 0..5)
        ],
    );
    (any::<u32>(), proptest::collection::vec(record, 0..rows)).prop_map(|(first, rows)| {
        let mut offset = i64::from(first);
        rows.into_iter()
            .map(|(step, (timestamp, timestamp_type), key, value, headers)| {
                offset += step;
                Record { offset, timestamp, timestamp_type, key, value, headers }
            })
            .collect()
    })
}

/// Block sizes to batch records by.
pub(crate) fn batchings() -> impl Strategy<Value = Vec<Vec<usize>>> {
    proptest::collection::vec(proptest::collection::vec(1_usize..80, 1..6), 1..4)
}

/// Pseudo-random JSON-like values of about `len` bytes, the same for the same seed.
pub(crate) fn json(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 32);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(format!("{{\"id\":{},\"s\":\"{:x}\"}},", state % 100_000, state >> 44).as_bytes());
    }
    out.truncate(len);
    out
}
