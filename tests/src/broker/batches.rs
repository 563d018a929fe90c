//! Records and record batches as they lie in a log: format 2 with transactions and control records, and the message formats 0 and 1.
//!
//! Written by hand, since a script must be able to write what no producer does: batches that compaction has emptied, headers that repeat,
//! bytes that are not what their checksum says. Place in the flow: a script makes a [`Batch`], [`log`](super::log) gives it offsets.

use std::sync::LazyLock;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};

use super::codecs::Codec;

/// One record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers, in order. Formats 0 and 1 have none.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Whose batch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No transaction.
    Plain,
    /// Part of the open transaction of this producer.
    Transaction(i64),
    /// The marker that commits this producer's transaction.
    Commit(i64),
    /// The marker that aborts it.
    Abort(i64),
}

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A bit of the records is flipped; the checksum is not.
    Bit,
    /// The checksum itself is another.
    Checksum,
    /// The format's number is none that exists.
    Magic(i8),
    /// The codec's number is none that exists; the checksum is right.
    UnknownCodec,
    /// What should be compressed is noise; the checksum is right.
    Noise,
    /// A record says that it is longer than the batch; the checksum is right.
    RecordLength,
    /// The batch says that it is so many bytes longer than it is, or shorter.
    BatchLength(i32),
    /// What is compressed unfolds to 128 MiB, more than a client takes by default; the checksum is right.
    Bomb,
}

/// A batch that a script appends.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its records, one for each offset; none where compaction has removed one.
    pub records: Vec<Option<Record>>,
    /// Message format: 0, 1 or 2.
    pub magic: i8,
    /// Compression.
    pub codec: Codec,
    /// Producer and transaction.
    pub origin: Origin,
    /// The broker's time, where the topic has `LogAppendTime`.
    pub append_time: Option<i64>,
    /// What is wrong with it, and how often it is served so.
    pub damage: Option<(Damage, u32)>,
}

impl Batch {
    /// A sound batch of format 2.
    pub fn of(records: Vec<Record>) -> Self {
        let records = records.into_iter().map(Some).collect();
        Self { records, magic: 2, codec: Codec::None, origin: Origin::Plain, append_time: None, damage: None }
    }

    /// A transaction's marker.
    pub fn marker(origin: Origin) -> Self {
        Self { origin, ..Self::of(vec![Record { timestamp: 1_764_000_000_000, ..Record::default() }]) }
    }

    /// The same, compressed.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// The same in another format.
    #[must_use]
    pub fn with_magic(self, magic: i8) -> Self {
        Self { magic, ..self }
    }

    /// The same as part of a transaction.
    #[must_use]
    pub fn in_transaction(self, producer: i64) -> Self {
        Self { origin: Origin::Transaction(producer), ..self }
    }

    /// The same after a compaction that keeps the records for whose place in the batch `keep` says yes.
    #[must_use]
    pub fn compacted(mut self, keep: impl Fn(usize) -> bool) -> Self {
        self.records.iter_mut().enumerate().for_each(|(place, record)| {
            if !keep(place) {
                *record = None;
            }
        });
        self
    }

    /// The same, damaged as often as it is served up to `times`.
    #[must_use]
    pub fn damaged(self, damage: Damage, times: u32) -> Self {
        Self { damage: Some((damage, times)), ..self }
    }

    /// Its bytes with these offsets and this leader epoch.
    pub fn encode(&self, base: i64, leader_epoch: i32) -> Bytes {
        match self.magic {
            2 => encode_v2(self, base, leader_epoch, None),
            _ => encode_old(self, base),
        }
    }

    /// Its bytes as they are served while it is damaged.
    pub fn encode_damaged(&self, base: i64, leader_epoch: i32, damage: Damage) -> Bytes {
        if matches!(damage, Damage::UnknownCodec | Damage::Noise | Damage::RecordLength | Damage::Bomb) && self.magic == 2 {
            return encode_v2(self, base, leader_epoch, Some(damage));
        }
        let mut bytes = self.encode(base, leader_epoch).to_vec();
        let last = bytes.len() - 1;
        match damage {
            Damage::Checksum if self.magic == 2 => bytes[CRC_AT_V2] ^= 1,
            Damage::Checksum => bytes[CRC_AT_OLD] ^= 1,
            Damage::Magic(magic) => bytes[MAGIC_AT] = magic.to_be_bytes()[0],
            Damage::BatchLength(by) => {
                let length = length_of(bytes.len() - LENGTH_AT - 4) + by;
                bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
            }
            _ => bytes[last] ^= 0x10,
        }
        bytes.into()
    }
}

/// Where a batch, or a message of an old format, says how long it is from there on.
const LENGTH_AT: usize = 8;

/// Where the magic number stands, in every format.
const MAGIC_AT: usize = 16;

/// Where the checksum begins.
const CRC_AT_V2: usize = 17;

/// As [`CRC_AT_V2`], in formats 0 and 1.
const CRC_AT_OLD: usize = 12;

fn length_of(n: usize) -> i32 {
    i32::try_from(n).expect("a batch is smaller than 2 GiB")
}

/// A zigzag varint.
fn put_varint(to: &mut Vec<u8>, value: i64) {
    let mut rest = (value.wrapping_shl(1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        to.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

fn put_bytes(to: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(to, bytes.map_or(-1, |b| i64::from(length_of(b.len()))));
    to.extend_from_slice(bytes.unwrap_or_default());
}

fn record_v2(record: &Record, delta: i64, base_timestamp: i64) -> Vec<u8> {
    let mut body = vec![0];
    put_varint(&mut body, record.timestamp.wrapping_sub(base_timestamp));
    put_varint(&mut body, delta);
    put_bytes(&mut body, record.key.as_deref());
    put_bytes(&mut body, record.value.as_deref());
    put_varint(&mut body, i64::from(length_of(record.headers.len())));
    for (name, value) in &record.headers {
        put_bytes(&mut body, Some(name));
        put_bytes(&mut body, value.as_deref());
    }
    body
}

/// 128 MiB of zeros in a zstd frame.
static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| Codec::Zstd.compress(&vec![0; 128 << 20]));

/// Has [`Damage::Bomb`] ready before anybody waits for it.
pub fn prepare_bomb() {
    LazyLock::force(&BOMB);
}

/// The one record of a transaction's marker.
fn control_record(commit: bool) -> Record {
    let kind = [0, 0, 0, u8::from(commit)];
    Record { key: Some(kind.to_vec()), value: Some(vec![0; 6]), ..Record::default() }
}

fn encode_v2(batch: &Batch, base: i64, leader_epoch: i32, damage: Option<Damage>) -> Bytes {
    let (producer, transactional, control) = match batch.origin {
        Origin::Plain => (-1, false, None),
        Origin::Transaction(producer) => (producer, true, None),
        Origin::Commit(producer) => (producer, true, Some(true)),
        Origin::Abort(producer) => (producer, true, Some(false)),
    };
    let kept: Vec<(i64, Record)> = (0_i64..)
        .zip(&batch.records)
        .filter_map(|(delta, record)| {
            let record = record.clone()?;
            Some((delta, control.map_or(record.clone(), |commit| Record { timestamp: record.timestamp, ..control_record(commit) })))
        })
        .collect();
    let base_timestamp = batch.append_time.or(kept.first().map(|(_, r)| r.timestamp)).unwrap_or(-1);
    let max_timestamp = batch.append_time.or(kept.iter().map(|(_, r)| r.timestamp).max()).unwrap_or(-1);
    let mut records = Vec::new();
    for (place, (delta, record)) in kept.iter().enumerate() {
        let body = record_v2(record, *delta, base_timestamp);
        let lie = if damage == Some(Damage::RecordLength) && place == kept.len() / 2 { 1 << 20 } else { 0 };
        put_varint(&mut records, i64::from(length_of(body.len())) + lie);
        records.extend_from_slice(&body);
    }
    let mut payload = if records.is_empty() { Vec::new() } else { batch.codec.compress(&records) };
    if damage == Some(Damage::Noise) {
        payload = (0..64_u8).map(|n| n.wrapping_mul(167).wrapping_add(91)).collect();
    }
    if damage == Some(Damage::Bomb) {
        payload.clone_from(&BOMB);
    }
    let codec = if damage == Some(Damage::UnknownCodec) { 7 } else { batch.codec.number() };
    let attributes =
        codec | i16::from(batch.append_time.is_some()) << 3 | i16::from(transactional) << 4 | i16::from(control.is_some()) << 5;

    let mut checked = attributes.to_be_bytes().to_vec();
    checked.extend_from_slice(&(length_of(batch.records.len()) - 1).to_be_bytes());
    checked.extend_from_slice(&base_timestamp.to_be_bytes());
    checked.extend_from_slice(&max_timestamp.to_be_bytes());
    checked.extend_from_slice(&producer.to_be_bytes());
    checked.extend_from_slice(&(if producer < 0 { -1_i16 } else { 0 }).to_be_bytes());
    checked.extend_from_slice(&(-1_i32).to_be_bytes());
    checked.extend_from_slice(&length_of(kept.len()).to_be_bytes());
    checked.extend_from_slice(&payload);

    let mut bytes = base.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(length_of(checked.len()) + 9).to_be_bytes());
    bytes.extend_from_slice(&leader_epoch.to_be_bytes());
    bytes.push(2);
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, &checked);
    bytes.extend_from_slice(&u32::try_from(crc).expect("a CRC-32 has 32 bits").to_be_bytes());
    bytes.extend_from_slice(&checked);
    bytes.into()
}

/// A message of format 0 or 1.
fn message(magic: i8, offset: i64, attributes: i8, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
    let mut checked = vec![magic.to_be_bytes()[0], attributes.to_be_bytes()[0]];
    if magic == 1 {
        checked.extend_from_slice(&timestamp.to_be_bytes());
    }
    for bytes in [key, value] {
        checked.extend_from_slice(&bytes.map_or(-1, |b| length_of(b.len())).to_be_bytes());
        checked.extend_from_slice(bytes.unwrap_or_default());
    }
    let crc = u32::try_from(checksum(CrcAlgorithm::Crc32IsoHdlc, &checked)).expect("a CRC-32 has 32 bits");
    let mut bytes = offset.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(length_of(checked.len()) + 4).to_be_bytes());
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes.extend_from_slice(&checked);
    bytes
}

/// Formats 0 and 1: messages one after another, or one wrapper that holds them compressed. The wrapper has the last message's offset;
/// inside, format 0 has absolute offsets and format 1 relative ones.
fn encode_old(batch: &Batch, base: i64) -> Bytes {
    let append = i8::from(batch.append_time.is_some()) << 3;
    let wrapped = batch.codec != Codec::None;
    let mut bytes = Vec::new();
    for (delta, record) in (0..).zip(&batch.records).filter_map(|(delta, record)| Some((delta, record.as_ref()?))) {
        let offset = if wrapped && batch.magic == 1 { delta } else { base + delta };
        let timestamp = batch.append_time.filter(|_| !wrapped).unwrap_or(record.timestamp);
        let attributes = if wrapped { 0 } else { append };
        bytes.extend(message(batch.magic, offset, attributes, timestamp, record.key.as_deref(), record.value.as_deref()));
    }
    if !wrapped {
        return bytes.into();
    }
    let last = base + i64::from(length_of(batch.records.len())) - 1;
    let codec = i8::try_from(batch.codec.number()).expect("a codec's number is small");
    let timestamp = batch.append_time.or(batch.records.iter().flatten().map(|r| r.timestamp).max()).unwrap_or(-1);
    message(batch.magic, last, codec | append, timestamp, None, Some(&batch.codec.compress(&bytes))).into()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::records::{Compression, RecordBatchDecoder};

    use super::*;

    fn records() -> Vec<Record> {
        (0..5)
            .map(|n| Record {
                timestamp: 1_764_000_000_000 + n * 40_000_000_000,
                key: (n % 2 == 0).then(|| vec![b'k'; usize::try_from(n).expect("small")]),
                value: (n != 3).then(|| format!("value {n}").into_bytes()),
                headers: vec![(b"h".to_vec(), Some(vec![1])), (b"i".to_vec(), None)],
            })
            .collect()
    }

    /// Another implementation of the format reads what this one writes. It knows no older formats; those the client under test reads.
    #[test]
    fn an_independent_decoder_reads_format_2() {
        let batch = Batch::of(records()).compacted(|place| place != 1).in_transaction(7);
        let decoded = RecordBatchDecoder::decode(&mut batch.encode(1000, 4)).expect("a sound batch");
        assert_eq!((decoded.version, decoded.compression), (2, Compression::None));
        let places: Vec<_> = decoded.records.iter().map(|r| (r.offset, r.timestamp)).collect();
        let of = |n: i64| (1000 + n, 1_764_000_000_000 + n * 40_000_000_000);
        assert_eq!(places, [of(0), of(2), of(3), of(4)]);
        let first = &decoded.records[0];
        assert!(first.transactional && !first.control && first.producer_id == 7 && first.partition_leader_epoch == 4);
        assert_eq!(decoded.records[2].value, None);
        assert_eq!(first.headers.len(), 2);
    }

    #[test]
    fn markers_are_control_batches_and_empty_batches_keep_their_offsets() {
        let marker = RecordBatchDecoder::decode(&mut Batch::marker(Origin::Abort(9)).encode(5, 0)).expect("a sound batch");
        assert!(marker.records[0].control && marker.records[0].key.as_deref() == Some(&[0, 0, 0, 0]));
        let info = RecordBatchDecoder::decode_batch_info(&mut Batch::of(records()).compacted(|_| false).encode(5, 0)).expect("a header");
        assert_eq!((info[0].record_count, info[0].min_offset), (0, 5));
    }

    #[test]
    fn every_damage_changes_the_bytes() {
        let batch = Batch::of(records());
        let sound = batch.encode(0, 0);
        let all = [Damage::Bit, Damage::Checksum, Damage::Magic(5), Damage::UnknownCodec, Damage::Noise, Damage::RecordLength];
        for damage in all.into_iter().chain([Damage::BatchLength(-20), Damage::BatchLength(20), Damage::Bomb]) {
            assert_ne!(batch.encode_damaged(0, 0, damage), sound, "{damage:?}");
        }
        for damage in [Damage::Bit, Damage::Checksum, Damage::BatchLength(-20), Damage::BatchLength(20)] {
            assert!(RecordBatchDecoder::decode(&mut batch.encode_damaged(0, 0, damage)).is_err(), "{damage:?}");
        }
    }
}
