//! Every column but the value. Their pages wait until the row group ends, since a chunk must be contiguous.
//!
//! A page of these columns ends with every [`BLOCK_ROWS`]th row of the row group, and for columns of bytes also with the record
//! that brings it to [`SIDE_PAGE_BYTES`].

use super::TIMESTAMP_MAX;
use super::chunk::ChunkMeta;
use super::columns::{BytesColumn, IntsColumn};
use super::cursor::Cursor;
use super::schema::{HEADER_KEY, HEADER_VALUE, HEADERS_RAW, KEY, OFFSET, PARTITION, TIMESTAMP, TIMESTAMP_RAW, TIMESTAMP_TYPE};
use crate::block::{BLOCK_ROWS, Block};
use crate::encoder::Codec;
use crate::record::HeadersView;

/// Bytes after which a page of keys or headers ends: PLAIN bytes of keys and raw headers, canonical bytes of headers. Smaller
/// costs compression, larger costs memory in readers.
const SIDE_PAGE_BYTES: usize = 1 << 20;

/// The columns, each with its open page and its finished ones.
#[derive(Debug)]
pub(super) struct SideColumns {
    key: BytesColumn,
    header_key: BytesColumn,
    header_value: BytesColumn,
    partition: IntsColumn,
    offset: IntsColumn,
    timestamp: IntsColumn,
    timestamp_raw: IntsColumn,
    timestamp_type: IntsColumn,
    headers_raw: BytesColumn,
    /// Rows since the row group began or the last page end by rows.
    page_rows: usize,
    /// Canonical header bytes in the open pages of the two header columns.
    header_page_bytes: usize,
    scratch: Vec<u8>,
}

impl SideColumns {
    pub(super) fn new() -> Self {
        Self {
            key: BytesColumn::new(KEY),
            header_key: BytesColumn::new(HEADER_KEY),
            header_value: BytesColumn::new(HEADER_VALUE),
            partition: IntsColumn::new(PARTITION),
            offset: IntsColumn::new(OFFSET),
            timestamp: IntsColumn::new(TIMESTAMP),
            timestamp_raw: IntsColumn::new(TIMESTAMP_RAW),
            timestamp_type: IntsColumn::new(TIMESTAMP_TYPE),
            headers_raw: BytesColumn::new(HEADERS_RAW),
            page_rows: 0,
            header_page_bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// Appends a run of records, which lies within one row group.
    pub(super) fn append(&mut self, block: &Block, mut from: Cursor, end: Cursor, partition: i32, codec: Codec) {
        while from != end {
            let rows_left = BLOCK_ROWS - self.page_rows;
            let to = if end.row - from.row <= rows_left { end } else { from.advanced(block, rows_left) };
            self.append_rows(block, from, to, partition, codec);
            self.page_rows += to.row - from.row;
            if self.page_rows == BLOCK_ROWS {
                self.end_pages(codec);
            }
            from = to;
        }
    }

    fn append_rows(&mut self, block: &Block, from: Cursor, to: Cursor, partition: i32, codec: Codec) {
        let rows = from.row..to.row;
        self.append_keys(block, from, to, codec);
        self.append_headers(block, from, to, codec);
        self.partition.push_run(i64::from(partition), rows.len());
        let offsets = &block.offsets()[rows.clone()];
        self.offset.push_slice(offsets);
        self.offset.meta.widen(offsets[0], offsets[offsets.len() - 1]);
        self.append_timestamps(&block.timestamps()[rows.clone()], &block.timestamp_types()[rows]);
    }

    fn append_keys(&mut self, block: &Block, from: Cursor, to: Cursor, codec: Codec) {
        if block.null_keys() == block.rows() {
            self.key.push_nulls(to.row - from.row);
            return;
        }
        let mut keys = &block.keys()[from.key..to.key];
        for len in &block.key_lens()[from.row..to.row] {
            let Ok(len) = usize::try_from(*len) else {
                self.key.push_nulls(1);
                continue;
            };
            let (key, rest) = keys.split_at(len);
            self.key.push(1, key);
            keys = rest;
            if self.key.page_bytes() >= SIDE_PAGE_BYTES {
                self.key.end_page(codec);
            }
        }
    }

    fn append_headers(&mut self, block: &Block, from: Cursor, to: Cursor, codec: Codec) {
        if from.header == to.header {
            self.push_no_headers(to.row - from.row);
            self.headers_raw.push_nulls(to.row - from.row);
            return;
        }
        let mut headers = &block.headers()[from.header..to.header];
        for len in &block.header_lens()[from.row..to.row] {
            let (list, rest) = headers.split_at(*len as usize);
            headers = rest;
            self.append_header_list(HeadersView::from_canonical(list));
            self.header_page_bytes += list.len();
            if self.header_page_bytes >= SIDE_PAGE_BYTES {
                self.header_key.end_page(codec);
                self.header_value.end_page(codec);
                self.header_page_bytes = 0;
            }
            if self.headers_raw.page_bytes() >= SIDE_PAGE_BYTES {
                self.headers_raw.end_page(codec);
            }
        }
    }

    fn append_header_list(&mut self, list: HeadersView<'_>) {
        let typed = list.iter().all(|(name, _)| std::str::from_utf8(name).is_ok());
        if list.is_empty() || !typed {
            self.push_no_headers(1);
        }
        if !typed {
            self.headers_raw.push(1, list.as_bytes());
            return;
        }
        self.headers_raw.push_nulls(1);
        for (i, (name, value)) in list.iter().enumerate() {
            let repetition = u8::from(i > 0);
            self.header_key.push_repetition(repetition, 1);
            self.header_key.push(2, name);
            self.header_value.push_repetition(repetition, 1);
            match value {
                Some(value) => self.header_value.push(3, value),
                None => {
                    self.header_value.push_levels(2, 1);
                    self.header_value.meta.nulls += 1;
                }
            }
        }
    }

    fn push_no_headers(&mut self, n: usize) {
        for column in [&mut self.header_key, &mut self.header_value] {
            column.push_repetition(0, n);
            column.push_nulls(n);
        }
    }

    /// Exactly one of the two timestamp columns has a value in each row.
    fn append_timestamps(&mut self, timestamps: &[i64], types: &[i8]) {
        match types.first() {
            Some(first) if types.iter().all(|t| t == first) => self.timestamp_type.push_run(i64::from(*first), types.len()),
            _ => types.iter().for_each(|t| self.timestamp_type.push_slice(&[i64::from(*t)])),
        }
        let is_typed = |ts: i64, kind: i8| kind >= 0 && (0..=TIMESTAMP_MAX).contains(&ts);
        if timestamps.iter().zip(types).fold(true, |all, (ts, kind)| all & is_typed(*ts, *kind)) {
            push_timestamps(&mut self.timestamp, timestamps);
            self.timestamp_raw.push_nulls(timestamps.len());
            return;
        }
        for (ts, kind) in timestamps.iter().zip(types) {
            let (to, other) = if is_typed(*ts, *kind) {
                (&mut self.timestamp, &mut self.timestamp_raw)
            } else {
                (&mut self.timestamp_raw, &mut self.timestamp)
            };
            push_timestamps(to, &[*ts]);
            other.push_nulls(1);
        }
    }

    /// Ends all open pages.
    pub(super) fn end_pages(&mut self, codec: Codec) {
        for column in [&mut self.key, &mut self.header_key, &mut self.header_value, &mut self.headers_raw] {
            column.end_page(codec);
        }
        for column in [&mut self.partition, &mut self.offset, &mut self.timestamp, &mut self.timestamp_raw, &mut self.timestamp_type] {
            column.end_page(codec, &mut self.scratch);
        }
        self.page_rows = 0;
        self.header_page_bytes = 0;
    }

    /// Each column's chunk in the order of the schema: its leaf, what the footer says of it, its pages.
    pub(super) fn for_each_chunk(&mut self, mut then: impl FnMut(usize, &mut ChunkMeta, &mut Vec<u8>)) {
        then(KEY, &mut self.key.meta, &mut self.key.held);
        then(HEADER_KEY, &mut self.header_key.meta, &mut self.header_key.held);
        then(HEADER_VALUE, &mut self.header_value.meta, &mut self.header_value.held);
        then(PARTITION, &mut self.partition.meta, &mut self.partition.held);
        then(OFFSET, &mut self.offset.meta, &mut self.offset.held);
        then(TIMESTAMP, &mut self.timestamp.meta, &mut self.timestamp.held);
        then(TIMESTAMP_RAW, &mut self.timestamp_raw.meta, &mut self.timestamp_raw.held);
        then(TIMESTAMP_TYPE, &mut self.timestamp_type.meta, &mut self.timestamp_type.held);
        then(HEADERS_RAW, &mut self.headers_raw.meta, &mut self.headers_raw.held);
    }

    pub(super) fn held_bytes(&self) -> usize {
        let bytes = [&self.key, &self.header_key, &self.header_value, &self.headers_raw].map(BytesColumn::held_bytes);
        let ints = [&self.partition, &self.offset, &self.timestamp, &self.timestamp_raw, &self.timestamp_type];
        bytes.iter().sum::<usize>() + ints.map(IntsColumn::held_bytes).iter().sum::<usize>() + self.scratch.capacity()
    }
}

fn push_timestamps(column: &mut IntsColumn, timestamps: &[i64]) {
    column.push_slice(timestamps);
    let range = timestamps.iter().fold((i64::MAX, i64::MIN), |(min, max), ts| (min.min(*ts), max.max(*ts)));
    column.meta.widen(range.0, range.1);
}
