//! One Kafka record, borrowed.
//!
//! Place in the flow: a source yields [`RecordView`]s, a [`Block`](crate::Block) copies them once. Header lists travel in one
//! canonical byte form, so that they can be copied, hashed and compared without being parsed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::FormatError;

/// A half-open range of offsets. Its end is what Kafka calls the committed offset: the next one to read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "UncheckedRange")]
pub struct OffsetRange {
    /// First offset of the range.
    pub start: i64,
    /// First offset after the range.
    pub end: i64,
}

/// A range as it is read, before its ends are compared.
#[derive(Deserialize)]
struct UncheckedRange {
    start: i64,
    end: i64,
}

impl TryFrom<UncheckedRange> for OffsetRange {
    type Error = FormatError;

    fn try_from(range: UncheckedRange) -> Result<Self, FormatError> {
        if range.start > range.end {
            return Err(FormatError::Corrupt(format!("offset range [{}, {}) runs backwards", range.start, range.end)));
        }
        Ok(Self { start: range.start, end: range.end })
    }
}

impl OffsetRange {
    /// The range `[start, end)`.
    ///
    /// # Panics
    /// If `end < start`: ranges are made from positions that only grow, so this is a bug of ours.
    pub fn new(start: i64, end: i64) -> Self {
        assert!(start <= end, "offset range [{start}, {end}) runs backwards");
        Self { start, end }
    }

    /// Whether the range holds no offset.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

impl fmt::Debug for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who set a record's timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i8)]
pub enum TimestampType {
    /// The record has none (message format v0).
    None = -1,
    /// The producer.
    Create = 0,
    /// The broker, when it appended the record.
    Append = 1,
}

/// One record as a source yields it. Null and empty are different things for keys, values and header values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordView<'a> {
    /// The record's offset in its partition.
    pub offset: i64,
    /// Milliseconds since 1970-01-01 UTC; any `i64` may come. Meaningless when the type is [`TimestampType::None`].
    pub timestamp: i64,
    /// Who set the timestamp.
    pub timestamp_type: TimestampType,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value, if there is one (none is a tombstone).
    pub value: Option<&'a [u8]>,
    /// The headers, in their order, duplicates included.
    pub headers: HeadersView<'a>,
}

/// A header list in canonical form: for each header `u32le name length | name | i32le value length or -1 | value`.
/// No headers is the empty slice.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadersView<'a>(&'a [u8]);

impl<'a> HeadersView<'a> {
    /// Takes bytes that [`HeadersBuf`] wrote.
    pub fn from_canonical(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes bytes of unknown origin.
    ///
    /// # Errors
    /// If they are not a canonical header list.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let corrupt = || FormatError::Corrupt("a header list is cut short or has a negative length".to_owned());
        let mut rest = bytes;
        while !rest.is_empty() {
            let (name_len, after) = rest.split_first_chunk().ok_or_else(corrupt)?;
            let name_len = usize::try_from(i32::from_le_bytes(*name_len)).map_err(|_| corrupt())?;
            let (value_len, after) = after.get(name_len..).and_then(<[u8]>::split_first_chunk).ok_or_else(corrupt)?;
            rest = match i32::from_le_bytes(*value_len) {
                -1 => after,
                n => usize::try_from(n).ok().and_then(|n| after.get(n..)).ok_or_else(corrupt)?,
            };
        }
        Ok(Self(bytes))
    }

    /// The canonical bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no header.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The headers as (name, value), in order.
    pub fn iter(&self) -> HeadersIter<'a> {
        HeadersIter(self.0)
    }
}

impl fmt::Debug for HeadersView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Iterates over a canonical header list.
#[derive(Clone, Debug)]
pub struct HeadersIter<'a>(&'a [u8]);

impl<'a> HeadersIter<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        head
    }

    fn take_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes were taken"))
    }
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let name_len = self.take_u32() as usize;
        let name = self.take(name_len);
        let value_len = self.take_u32().cast_signed();
        let value = usize::try_from(value_len).ok().map(|n| self.take(n));
        Some((name, value))
    }
}

/// Builds a canonical header list; reused from record to record.
#[derive(Clone, Debug, Default)]
pub struct HeadersBuf(Vec<u8>);

impl HeadersBuf {
    /// Forgets all headers and keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends one header. Lengths come from Kafka, where they are `i32`.
    pub fn push(&mut self, name: &[u8], value: Option<&[u8]>) {
        let len = |n: usize| i32::try_from(n).expect("Kafka lengths are i32");
        self.0.extend_from_slice(&len(name.len()).to_le_bytes());
        self.0.extend_from_slice(name);
        match value {
            Some(v) => {
                self.0.extend_from_slice(&len(v.len()).to_le_bytes());
                self.0.extend_from_slice(v);
            }
            None => self.0.extend_from_slice(&(-1_i32).to_le_bytes()),
        }
    }

    /// The list so far.
    pub fn view(&self) -> HeadersView<'_> {
        HeadersView(&self.0)
    }
}
