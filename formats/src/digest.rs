//! Checksums: the order-sensitive digest of an object's records.
//!
//! Both halves are CRC-64/XZ (the polynomial that COS reports as `x-cos-hash-crc64ecma`), taken over streams that do not
//! depend on how the records were batched. `docs/FORMATS.md` defines the streams byte by byte.

use std::fmt;
use std::str::FromStr;

use arrow_buffer::ToByteSlice;
use crc_fast::CrcAlgorithm;
use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::error::FormatError;
use crate::proof::Counts;
use crate::record::HeadersView;

#[cfg(target_endian = "big")]
compile_error!("columns are hashed as they lie in memory, which must be little-endian");

/// Digest of an object's records, written `crc64:<16 hex of the values>-<16 hex of the rest>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest {
    /// CRC of the value stream: the values as the encoding frames them, before compression.
    pub values: u64,
    /// CRC of keys, headers, offsets, timestamps and lengths.
    pub rest: u64,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "crc64:{:016x}-{:016x}", self.values, self.rest)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        text.parse()
    }
}

impl FromStr for Digest {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let is_hex = |s: &str| s.len() == 16 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let hex = |s: &str| is_hex(s).then(|| u64::from_str_radix(s, 16).ok()).flatten();
        text.strip_prefix("crc64:")
            .and_then(|t| t.split_once('-'))
            .and_then(|(values, rest)| Some(Self { values: hex(values)?, rest: hex(rest)? }))
            .ok_or_else(|| FormatError::Corrupt(format!("not a digest: {text:?}")))
    }
}

/// Computes the [`Digest`] and the [`Counts`] of records, block by block. The result does not depend on where blocks end.
///
/// Each column has a running CRC of its own, so that a block is hashed as eight slices; the digest's rest is the CRC over the
/// columns' CRCs.
#[derive(Clone, Debug)]
pub struct DigestBuilder {
    values: Crc,
    columns: [Crc; 8],
    counts: Counts,
}

/// A running CRC-64/XZ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crc(crc_fast::Digest);

impl Crc {
    pub(crate) fn new() -> Self {
        Self(crc_fast::Digest::new(CrcAlgorithm::Crc64Xz))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.update(bytes);
        }
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.finalize()
    }
}

impl Default for DigestBuilder {
    fn default() -> Self {
        Self { values: Crc::new(), columns: [Crc::new(); 8], counts: Counts::default() }
    }
}

impl DigestBuilder {
    /// A builder that has seen no record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a block's records. All blocks of one digest have the same layout, the encoding's.
    pub fn push(&mut self, block: &Block) {
        self.values.update(block.values());
        let slices: [&[u8]; 8] = [
            block.offsets().to_byte_slice(),
            block.timestamps().to_byte_slice(),
            block.timestamp_types().to_byte_slice(),
            block.key_lens().to_byte_slice(),
            block.keys(),
            block.value_lens().to_byte_slice(),
            block.header_lens().to_byte_slice(),
            block.headers(),
        ];
        for (crc, bytes) in self.columns.iter_mut().zip(slices) {
            crc.update(bytes);
        }
        self.count(block);
    }

    fn count(&mut self, block: &Block) {
        let counts = &mut self.counts;
        counts.records += block.rows() as u64;
        counts.null_values += block.null_values() as u64;
        counts.value_bytes += block.value_bytes() as u64;
        counts.key_bytes += block.keys().len() as u64;
        for (name, value) in HeadersView::from_canonical(block.headers()).iter() {
            counts.header_bytes += (name.len() + value.map_or(0, <[u8]>::len)) as u64;
        }
        if let Some((min, max)) = timestamp_range(block) {
            counts.timestamp_min = Some(counts.timestamp_min.map_or(min, |m| m.min(min)));
            counts.timestamp_max = Some(counts.timestamp_max.map_or(max, |m| m.max(max)));
        }
    }

    /// Counts of the records so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Digest of the records so far.
    pub fn digest(&self) -> Digest {
        let mut rest = Crc::new();
        rest.update(&self.counts.records.to_le_bytes());
        for column in &self.columns {
            rest.update(&column.value().to_le_bytes());
        }
        Digest { values: self.values.value(), rest: rest.value() }
    }
}

/// Smallest and largest timestamp among the records that have one.
fn timestamp_range(block: &Block) -> Option<(i64, i64)> {
    if block.timestamp_types().iter().all(|t| *t != -1) {
        let min = block.timestamps().iter().min()?;
        let max = block.timestamps().iter().max()?;
        return Some((*min, *max));
    }
    let timed = || block.timestamps().iter().zip(block.timestamp_types()).filter(|(_, kind)| **kind != -1).map(|(ts, _)| *ts);
    Some((timed().min()?, timed().max()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::ValueLayout;
    use crate::testing::{Record, oddities};

    fn digest(records: &[Record], layout: ValueLayout) -> Digest {
        let mut builder = DigestBuilder::new();
        let mut block = Block::new(layout);
        records.iter().for_each(|r| r.push_to(&mut block));
        builder.push(&block);
        builder.digest()
    }

    /// The worked example of docs/FORMATS.md, computed there by another program.
    #[test]
    fn the_documented_example_holds() {
        let first = Record {
            key: Some(b"k".to_vec()),
            headers: vec![(b"a".to_vec(), Some(b"1".to_vec()))],
            timestamp: 1_700_000_000_000,
            ..Record::of(10, b"hello")
        };
        let second = Record { value: None, timestamp: 1_700_000_000_001, ..Record::of(11, b"") };
        let records = [first, second];
        assert_eq!(digest(&records, ValueLayout::Plain).to_string(), "crc64:853dd06cf381ff77-b7a667554a82ed94");
        assert_eq!(digest(&records, ValueLayout::Len32).to_string(), "crc64:d8079d04e340c46b-b7a667554a82ed94");
    }

    #[test]
    fn every_change_shows() {
        let all = oddities();
        let whole = digest(&all, ValueLayout::Bare);
        for i in 0..all.len() {
            let mut changed: Vec<Vec<Record>> = vec![all.clone(); 8];
            changed[0].remove(i);
            changed[1][i].offset += 1;
            changed[2][i].timestamp = changed[2][i].timestamp.wrapping_add(1);
            changed[3][i].timestamp_type = match all[i].timestamp_type {
                crate::TimestampType::Create => crate::TimestampType::Append,
                _ => crate::TimestampType::Create,
            };
            changed[4][i].key = Some(b"other".to_vec());
            changed[5][i].value = if all[i].value.is_some() { None } else { Some(Vec::new()) };
            changed[6][i].headers.push((Vec::new(), None));
            changed[7][i].value = Some(b"other".to_vec());
            for records in changed {
                assert_ne!(digest(&records, ValueLayout::Bare), whole, "record {i}");
            }
        }
    }

    #[test]
    fn the_text_form_is_one() {
        let digest = Digest { values: 0xabc, rest: u64::MAX };
        assert_eq!(digest.to_string(), "crc64:0000000000000abc-ffffffffffffffff");
        assert_eq!(digest.to_string().parse::<Digest>().expect("a digest"), digest);
        for text in ["", "crc64:", "crc64:abc-def", "crc64:0000000000000ABC-ffffffffffffffff", "crc64:+000000000000abc-ffffffffffffffff"] {
            assert!(text.parse::<Digest>().is_err(), "{text:?}");
        }
    }
}
