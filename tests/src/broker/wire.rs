//! Batches as they lie in a response, read again from their headers.
//!
//! Place in the flow: [`served`](super::served) looks at what goes out. What it does not do: open records, or check anything; where a
//! batch's length is damaged, what follows it is not found.

use super::served::Served;

/// Bytes before a batch's own length counts: its first offset, and the length itself.
const PREFIX_BYTES: usize = 12;

/// Bytes of a batch of format 2 before its records.
const HEADER_BYTES: usize = 61;

/// Milliseconds of 2000-01-01 and 2100-01-01: times between them are nothing special.
const USUAL_MS: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;

/// A batch, or a message of an old format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    base: i64,
    pub(super) last: i64,
    pub(super) is_control: bool,
    magic: i8,
    codec: i16,
    is_transactional: bool,
    has_append_time: bool,
    /// Records that are there, and those that there were.
    records: (i32, i32),
    /// The first and the largest time.
    times: (i64, i64),
}

impl Seen {
    /// The offset at which it begins; not known of an old message, which may hold others.
    pub(super) fn first_offset(&self) -> Option<i64> {
        (self.magic == 2).then_some(self.base)
    }

    /// What it is.
    pub(super) fn served(&self) -> Vec<Served> {
        let (left, all) = self.records;
        let is_odd = self.magic == 2 && left > 0 && !(USUAL_MS.contains(&self.times.0) && USUAL_MS.contains(&self.times.1));
        let mut served = vec![Served::Format(self.magic), Served::Compressed(self.codec)];
        let more = [
            (self.is_control, Served::Marker),
            (self.is_transactional && !self.is_control, Served::TransactionalBatch),
            (self.has_append_time, Served::AppendTime),
            (left == 0, Served::EmptyBatch),
            (0 < left && left < all, Served::HoledBatch),
            (is_odd, Served::OddTime),
        ];
        served.extend(more.into_iter().filter(|(is_so, _)| *is_so).map(|(_, what)| what));
        served
    }
}

/// All whole batches.
pub(super) fn batches(mut bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(size) = size_of_first(bytes).filter(|size| *size <= bytes.len()) {
        seen.extend(batch(&bytes[..size]));
        bytes = &bytes[size..];
    }
    seen
}

/// Whether the last batch is there in part.
pub(super) fn ends_within(mut bytes: &[u8]) -> bool {
    while let Some(size) = size_of_first(bytes).filter(|size| *size <= bytes.len()) {
        bytes = &bytes[size..];
    }
    !bytes.is_empty()
}

fn size_of_first(bytes: &[u8]) -> Option<usize> {
    let length = i32_at(bytes, 8)?;
    usize::try_from(length).ok().filter(|length| *length > 0).map(|length| length + PREFIX_BYTES)
}

fn i16_at(bytes: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn batch(bytes: &[u8]) -> Option<Seen> {
    let (base, magic) = (i64_at(bytes, 0)?, bytes.get(16)?.cast_signed());
    if magic < 2 {
        let attributes = i16::from(*bytes.get(17)?);
        let (codec, has_append_time) = (attributes & 7, attributes & 8 != 0);
        let seen = Seen {
            base,
            last: base,
            is_control: false,
            magic,
            codec,
            is_transactional: false,
            has_append_time,
            records: (1, 1),
            times: (0, 0),
        };
        return Some(seen);
    }
    let (attributes, last_delta) = (i16_at(bytes, 21)?, i32_at(bytes, 23)?);
    let is = |bit: i16| attributes & (1 << bit) != 0;
    (bytes.len() >= HEADER_BYTES).then_some(Seen {
        base,
        last: base + i64::from(last_delta),
        is_control: is(5),
        magic,
        codec: attributes & 7,
        is_transactional: is(4),
        has_append_time: is(3),
        records: (i32_at(bytes, 57)?, last_delta + 1),
        times: (i64_at(bytes, 27)?, i64_at(bytes, 35)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::batches::{Batch, Origin, Record};
    use crate::broker::codecs::Codec;

    fn records(count: usize) -> Vec<Record> {
        vec![Record { timestamp: 1_764_000_000_000, value: Some(vec![7; 40]), ..Record::default() }; count]
    }

    #[test]
    fn a_header_says_what_a_batch_is() {
        let of = |batch: Batch| batches(&batch.encode(100, 3))[0].served();
        assert_eq!(of(Batch::of(records(3))), [Served::Format(2), Served::Compressed(0)]);
        assert_eq!(of(Batch::of(records(3)).compacted(|n| n > 1))[2..], [Served::HoledBatch]);
        assert_eq!(of(Batch::of(records(3)).compacted(|_| false))[2..], [Served::EmptyBatch]);
        assert_eq!(of(Batch::of(records(3)).in_transaction(4))[2..], [Served::TransactionalBatch]);
        assert_eq!(of(Batch::marker(Origin::Abort(4)))[2..], [Served::Marker]);
        assert_eq!(of(Batch { append_time: Some(1_000), ..Batch::of(records(2)) })[2..], [Served::AppendTime, Served::OddTime]);
        assert_eq!(of(Batch::of(records(2)).with_codec(Codec::Zstd)), [Served::Format(2), Served::Compressed(4)]);
        assert_eq!(of(Batch::of(records(2)).with_magic(1).with_codec(Codec::Gzip)), [Served::Format(1), Served::Compressed(1)]);
    }

    #[test]
    fn whole_batches_are_found_and_the_rest_is_seen() {
        let mut bytes = Batch::of(records(3)).encode(10, 0).to_vec();
        bytes.extend(Batch::of(records(2)).with_magic(0).encode(13, 0));
        let found: Vec<(i64, i64)> = batches(&bytes).iter().map(|b| (b.base, b.last)).collect();
        assert_eq!((found, ends_within(&bytes)), (vec![(10, 12), (13, 13), (14, 14)], false));
        bytes.truncate(bytes.len() - 1);
        assert_eq!((batches(&bytes).len(), ends_within(&bytes), ends_within(&[])), (2, true, false));
    }
}
