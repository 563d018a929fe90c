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
        let hex = |s: &str| (s.len() == 16).then(|| u64::from_str_radix(s, 16).ok()).flatten();
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
