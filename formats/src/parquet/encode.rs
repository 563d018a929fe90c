//! The encoder: cuts records into pages and row groups by the records alone, streams the value column.
//!
//! Invariant: where pages and row groups end depends on the sequence of records, never on where blocks end. A block that is
//! exactly one value page is compressed where it lies; any other run of records is first copied into the open page.

use std::fmt;

use super::chunk::ChunkMeta;
use super::columns::BytesColumn;
use super::cursor::Cursor;
use super::footer::{MAGIC, RowGroup, write_footer};
use super::schema::{LEAVES, VALUE};
use super::side::SideColumns;
use super::{ROW_GROUP_ROWS, ROW_GROUP_SIDE_BYTES, ROW_GROUP_VALUE_BYTES};
use crate::block::{BLOCK_ROWS, BLOCK_VALUE_BYTES, Block, ValueLayout};
use crate::digest::DigestBuilder;
use crate::encoder::{ByteSink, Encoding, Format, SegmentEncoder};
use crate::proof::{LaneId, Missing, Proof};
use crate::record::OffsetRange;

/// Writes Parquet objects.
pub struct ParquetEncoder {
    encoding: Encoding,
    lane: LaneId,
    start: i64,
    next_offset: i64,
    digest: DigestBuilder,
    written: u64,
    groups: Vec<RowGroup>,
    value: BytesColumn,
    side: SideColumns,
    /// Rows of the open row group.
    group_rows: u64,
    /// PLAIN value bytes of the open row group.
    group_value_bytes: u64,
    /// Bytes of keys and canonical headers in the open row group.
    side_bytes: u64,
    finished: bool,
}

impl fmt::Debug for ParquetEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetEncoder")
            .field("lane", &self.lane)
            .field("start", &self.start)
            .field("next_offset", &self.next_offset)
            .finish_non_exhaustive()
    }
}

impl ParquetEncoder {
    /// An encoder for the object of `lane` that starts at offset `start`.
    ///
    /// # Panics
    /// If `encoding` is not a Parquet encoding.
    pub fn new(encoding: Encoding, lane: LaneId, start: i64) -> Self {
        assert_eq!(encoding.format, Format::Parquet, "the encoding is Parquet");
        Self {
            encoding,
            lane,
            start,
            next_offset: start,
            digest: DigestBuilder::new(),
            written: 0,
            groups: Vec::new(),
            value: BytesColumn::new(VALUE),
            side: SideColumns::new(),
            group_rows: 0,
            group_value_bytes: 0,
            side_bytes: 0,
            finished: false,
        }
    }

    /// The run of records from `from` that goes into the open value page, and whether that page ends with it.
    fn segment(&self, block: &Block, from: Cursor) -> (Cursor, bool) {
        let page_rows = self.value.page_values() as usize;
        let bytes_left = BLOCK_VALUE_BYTES - self.value.page_bytes();
        let rows_left = BLOCK_ROWS - page_rows;
        let side_left = ROW_GROUP_SIDE_BYTES - self.side_bytes;
        let full =
            |to: &Cursor| to.value - from.value >= bytes_left || to.row - from.row >= rows_left || from.side_bytes_until(to) >= side_left;
        let end = Cursor::end_of(block);
        if !full(&end) {
            return (end, false);
        }
        if self.is_whole_page(block, from) && from.side_bytes_until(&end) < side_left {
            return (end, true);
        }
        let mut to = from;
        loop {
            to.step(block);
            if full(&to) {
                return (to, true);
            }
        }
    }

    fn is_whole_page(&self, block: &Block, from: Cursor) -> bool {
        from.row == 0 && self.value.page_values() == 0 && block.whole_page().is_some()
    }

    fn append_segment(&mut self, block: &Block, from: Cursor, to: Cursor, page_ends: bool, out: &mut dyn ByteSink) {
        self.open_group(out);
        let rows = to.row - from.row;
        let codec = self.encoding.codec;
        let whole = if page_ends && rows == block.rows() && self.is_whole_page(block, from) { block.whole_page() } else { None };
        let written = &mut self.written;
        if let Some(page) = whole {
            self.value.meta.write_page(VALUE, codec, page, rows as u64, &mut |bytes| put(written, out, bytes));
        } else {
            append_values(&mut self.value, block, from, to);
            if page_ends {
                self.value.end_page_to(codec, &mut |bytes| put(written, out, bytes));
            }
        }
        self.side.append(block, from, to, self.lane.partition, codec);
        self.group_rows += rows as u64;
        self.group_value_bytes += (to.value - from.value) as u64;
        self.side_bytes += from.side_bytes_until(&to);
        if page_ends && self.group_is_full() {
            self.end_group(out);
        }
    }

    /// Asked at the end of a value page. Value pages have at most [`BLOCK_ROWS`] rows, so a group that ends when one more
    /// might not fit never exceeds [`ROW_GROUP_ROWS`].
    fn group_is_full(&self) -> bool {
        self.group_value_bytes >= ROW_GROUP_VALUE_BYTES
            || self.group_rows > ROW_GROUP_ROWS - BLOCK_ROWS as u64
            || self.side_bytes >= ROW_GROUP_SIDE_BYTES
    }

    fn open_group(&mut self, out: &mut dyn ByteSink) {
        if self.written == 0 {
            put(&mut self.written, out, MAGIC);
        }
        if self.group_rows == 0 {
            self.value.meta.at = self.written;
        }
    }

    fn end_group(&mut self, out: &mut dyn ByteSink) {
        let codec = self.encoding.codec;
        let written = &mut self.written;
        self.value.end_page_to(codec, &mut |bytes| put(written, out, bytes));
        self.side.end_pages(codec);
        let mut chunks: [ChunkMeta; LEAVES.len()] = Default::default();
        chunks[VALUE] = std::mem::take(&mut self.value.meta);
        self.side.for_each_chunk(|leaf, meta, held| {
            meta.at = *written;
            put(written, out, held);
            held.clear();
            chunks[leaf] = std::mem::take(meta);
        });
        self.groups.push(RowGroup { rows: self.group_rows, chunks });
        self.group_rows = 0;
        self.group_value_bytes = 0;
        self.side_bytes = 0;
    }
}

fn put(written: &mut u64, out: &mut dyn ByteSink, bytes: &[u8]) {
    *written += bytes.len() as u64;
    out.put(bytes);
}

/// Copies a run of values into the open value page.
fn append_values(column: &mut BytesColumn, block: &Block, from: Cursor, to: Cursor) {
    column.extend(&block.values()[from.value..to.value]);
    if block.null_values() == 0 {
        column.push_levels(1, to.row - from.row);
        return;
    }
    for len in &block.value_lens()[from.row..to.row] {
        if *len < 0 {
            column.push_nulls(1);
        } else {
            column.push_levels(1, 1);
        }
    }
}

impl SegmentEncoder for ParquetEncoder {
    fn append(&mut self, block: &Block, out: &mut dyn ByteSink) {
        assert!(!self.finished, "nothing is appended after the end");
        assert_eq!(block.layout(), ValueLayout::Plain, "the block's layout is the encoding's");
        let (Some(first), Some(last)) = (block.offsets().first(), block.offsets().last()) else { return };
        assert!(*first >= self.next_offset, "offset {first} comes after {}", self.next_offset - 1);
        self.next_offset = last + 1;
        self.digest.push(block);
        let mut from = Cursor::default();
        while from.row < block.rows() {
            let (to, page_ends) = self.segment(block, from);
            self.append_segment(block, from, to, page_ends, out);
            from = to;
        }
    }

    fn finish(&mut self, end: i64, missing: &[Missing], out: &mut dyn ByteSink) -> Proof {
        assert!(!self.finished, "an object ends once");
        assert!(end >= self.next_offset, "an object that ends at {end} holds offset {}", self.next_offset - 1);
        self.finished = true;
        self.open_group(out);
        if self.group_rows > 0 {
            self.end_group(out);
        }
        let mut proof = Proof {
            lane: self.lane.clone(),
            range: OffsetRange::new(self.start, end),
            missing: missing.to_vec(),
            counts: self.digest.counts(),
            digest: self.digest.digest(),
            encoding: self.encoding.to_string(),
            size: None,
        };
        let mut footer = Vec::new();
        write_footer(&mut footer, self.encoding.codec, &self.groups, &proof);
        put(&mut self.written, out, &footer);
        proof.size = Some(self.written);
        proof
    }

    fn held_bytes(&self) -> usize {
        self.value.held_bytes() + self.side.held_bytes() + self.groups.capacity() * size_of::<RowGroup>()
    }
}
