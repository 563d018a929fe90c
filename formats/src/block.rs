//! A columnar arena of contiguous records of one window, about 1 MiB.
//!
//! Place in the flow: the consumer fills a block (the only user-space copy of a value), the builder hands it to the encoder,
//! the pool takes it back. Values are stored in the layout that the encoding writes, so that any run of records is one slice
//! of bytes that can be compressed as it lies.

use crate::record::{HeadersView, RecordView, TimestampType};

/// Bytes of values after which a block, and with it a Parquet value page, is full. A page ends with the record that
/// reaches this. Smaller costs compression (each page is one zstd frame), larger costs cache misses and memory.
pub const BLOCK_VALUE_BYTES: usize = 1 << 20;

/// Records after which a block, and with it a value page, is full, whatever its bytes. Bounds the row columns of tiny values.
pub const BLOCK_ROWS: usize = 1 << 16;

/// Bytes of keys and headers after which a block is full. Says nothing about pages.
pub const BLOCK_SIDE_BYTES: usize = 1 << 20;

/// How values lie in a block's value buffer: the bytes that the encoding will write before compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueLayout {
    /// Parquet PLAIN: `u32le length | bytes`; null writes nothing.
    Plain,
    /// Raw, no framing: the bytes; null writes nothing.
    Bare,
    /// Raw, newline: the bytes and `\n`; null writes nothing.
    Newline,
    /// Raw, len32: `i32be length | bytes`; null is length -1.
    Len32,
}

impl ValueLayout {
    /// Bytes that a value takes in this layout.
    pub fn framed_len(self, value: Option<usize>) -> usize {
        match (self, value) {
            (Self::Plain | Self::Len32, Some(n)) => n + 4,
            (Self::Bare, Some(n)) => n,
            (Self::Newline, Some(n)) => n + 1,
            (Self::Len32, None) => 4,
            (Self::Plain | Self::Bare | Self::Newline, None) => 0,
        }
    }
}

/// Bytes kept free in front of the values, for the definition levels of the Parquet page that a full block becomes: a `u32`
/// length, a run header of at most three bytes ([`BLOCK_ROWS`] doubled, as a varint) and the run's value.
const PAGE_PREFIX_ROOM: usize = 8;

/// Contiguous records of one window, column by column. `-1` stands for null in the length columns.
#[derive(Debug)]
pub struct Block {
    layout: ValueLayout,
    /// [`PAGE_PREFIX_ROOM`] bytes, then the framed values.
    page: Vec<u8>,
    /// Where the page prefix begins in `page`; [`PAGE_PREFIX_ROOM`] while the block is not a whole page.
    prefix_at: usize,
    null_values: usize,
    null_keys: usize,
    keys: Vec<u8>,
    headers: Vec<u8>,
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    timestamp_types: Vec<i8>,
    value_lens: Vec<i32>,
    key_lens: Vec<i32>,
    header_lens: Vec<u32>,
}

impl Block {
    /// An empty block for values in `layout`.
    pub fn new(layout: ValueLayout) -> Self {
        Self {
            layout,
            page: vec![0; PAGE_PREFIX_ROOM],
            prefix_at: PAGE_PREFIX_ROOM,
            null_values: 0,
            null_keys: 0,
            keys: Vec::new(),
            headers: Vec::new(),
            offsets: Vec::new(),
            timestamps: Vec::new(),
            timestamp_types: Vec::new(),
            value_lens: Vec::new(),
            key_lens: Vec::new(),
            header_lens: Vec::new(),
        }
    }

    /// Forgets the records, keeps the memory, and takes `layout` from now on.
    pub fn reset(&mut self, layout: ValueLayout) {
        self.layout = layout;
        self.page.truncate(PAGE_PREFIX_ROOM);
        self.prefix_at = PAGE_PREFIX_ROOM;
        self.null_values = 0;
        self.null_keys = 0;
        self.keys.clear();
        self.headers.clear();
        self.offsets.clear();
        self.timestamps.clear();
        self.timestamp_types.clear();
        self.value_lens.clear();
        self.key_lens.clear();
        self.header_lens.clear();
    }

    /// Copies one record in. Offsets must ascend; the caller checks that.
    pub fn push(&mut self, record: &RecordView<'_>) {
        debug_assert!(self.offsets.last().is_none_or(|last| *last < record.offset), "offsets ascend within a block");
        self.push_value(record.value);
        let len = |bytes: Option<&[u8]>| bytes.map_or(-1, |b| i32::try_from(b.len()).expect("Kafka lengths are i32"));
        self.value_lens.push(len(record.value));
        self.key_lens.push(len(record.key));
        match record.key {
            Some(key) => self.keys.extend_from_slice(key),
            None => self.null_keys += 1,
        }
        let headers = record.headers.as_bytes();
        self.headers.extend_from_slice(headers);
        self.header_lens.push(u32::try_from(headers.len()).expect("a record is smaller than 4 GiB"));
        self.offsets.push(record.offset);
        self.timestamps.push(record.timestamp);
        self.timestamp_types.push(record.timestamp_type as i8);
        if self.fills_page() {
            self.write_page_prefix();
        }
    }

    /// Whether the records reach the end of a value page, if the page began with the block.
    fn fills_page(&self) -> bool {
        self.values().len() >= BLOCK_VALUE_BYTES || self.rows() >= BLOCK_ROWS
    }

    /// Writes the definition levels of a page without nulls in front of the values, so that the page can be compressed as it
    /// lies in the block.
    fn write_page_prefix(&mut self) {
        let mut header = self.rows() << 1;
        let mut run = [0_u8; 4];
        let mut len = 0;
        while header >= 0x80 && len < 2 {
            run[len] = (header & 0x7f) as u8 | 0x80;
            header >>= 7;
            len += 1;
        }
        if header >= 0x80 || self.null_values > 0 {
            self.prefix_at = PAGE_PREFIX_ROOM;
            return;
        }
        run[len] = header as u8;
        run[len + 1] = 1;
        len += 2;
        self.prefix_at = PAGE_PREFIX_ROOM - 4 - len;
        self.page[self.prefix_at..self.prefix_at + 4].copy_from_slice(&(len as u32).to_le_bytes());
        self.page[self.prefix_at + 4..PAGE_PREFIX_ROOM].copy_from_slice(&run[..len]);
    }

    /// Definition levels and values of the value page that these records make if the page begins with them. None unless the
    /// block is full without a null and its last record is the one that fills the page.
    pub(crate) fn whole_page(&self) -> Option<&[u8]> {
        let last = usize::try_from(*self.value_lens.last()?).ok();
        let bytes_before_last = self.values().len() - self.layout.framed_len(last);
        let whole = self.prefix_at < PAGE_PREFIX_ROOM && bytes_before_last < BLOCK_VALUE_BYTES && self.rows() <= BLOCK_ROWS;
        whole.then(|| &self.page[self.prefix_at..])
    }

    fn push_value(&mut self, value: Option<&[u8]>) {
        let Some(bytes) = value else {
            if self.layout == ValueLayout::Len32 {
                self.page.extend_from_slice(&(-1_i32).to_be_bytes());
            }
            self.null_values += 1;
            return;
        };
        let len = u32::try_from(bytes.len()).expect("Kafka lengths are i32");
        match self.layout {
            ValueLayout::Plain => self.page.extend_from_slice(&len.to_le_bytes()),
            ValueLayout::Len32 => self.page.extend_from_slice(&len.to_be_bytes()),
            ValueLayout::Bare | ValueLayout::Newline => {}
        }
        self.page.extend_from_slice(bytes);
        if self.layout == ValueLayout::Newline {
            self.page.push(b'\n');
        }
    }

    /// Whether the block should be handed on. Decided by the records alone.
    pub fn is_full(&self) -> bool {
        self.fills_page() || self.keys.len() + self.headers.len() >= BLOCK_SIDE_BYTES
    }

    /// Number of records.
    pub fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// How values lie in [`values`](Self::values).
    pub fn layout(&self) -> ValueLayout {
        self.layout
    }

    /// All values, framed by the layout.
    pub fn values(&self) -> &[u8] {
        &self.page[PAGE_PREFIX_ROOM..]
    }

    /// Bytes of the bare values, without what the layout adds.
    pub fn value_bytes(&self) -> usize {
        let framing = match self.layout {
            ValueLayout::Plain => 4 * (self.rows() - self.null_values),
            ValueLayout::Bare => 0,
            ValueLayout::Newline => self.rows() - self.null_values,
            ValueLayout::Len32 => 4 * self.rows(),
        };
        self.values().len() - framing
    }

    /// Number of records whose value is null.
    pub fn null_values(&self) -> usize {
        self.null_values
    }

    /// Number of records whose key is null.
    pub fn null_keys(&self) -> usize {
        self.null_keys
    }

    /// All keys, one after another, without lengths.
    pub fn keys(&self) -> &[u8] {
        &self.keys
    }

    /// All header lists in canonical form, one after another.
    pub fn headers(&self) -> &[u8] {
        &self.headers
    }

    /// Offsets, ascending.
    pub fn offsets(&self) -> &[i64] {
        &self.offsets
    }

    /// Timestamps in milliseconds.
    pub fn timestamps(&self) -> &[i64] {
        &self.timestamps
    }

    /// Timestamp types, as [`TimestampType`] numbers them.
    pub fn timestamp_types(&self) -> &[i8] {
        &self.timestamp_types
    }

    /// Lengths of the bare values in bytes, -1 for null.
    pub fn value_lens(&self) -> &[i32] {
        &self.value_lens
    }

    /// Lengths of the keys in bytes, -1 for null.
    pub fn key_lens(&self) -> &[i32] {
        &self.key_lens
    }

    /// Lengths of the canonical header lists in bytes, 0 for none.
    pub fn header_lens(&self) -> &[u32] {
        &self.header_lens
    }

    /// Bytes of memory that the block holds, filled or not.
    pub fn capacity_bytes(&self) -> usize {
        self.page.capacity()
            + self.keys.capacity()
            + self.headers.capacity()
            + self.offsets.capacity() * 8
            + self.timestamps.capacity() * 8
            + self.timestamp_types.capacity()
            + (self.value_lens.capacity() + self.key_lens.capacity() + self.header_lens.capacity()) * 4
    }

    /// The records again, for decoders, checks and slow paths.
    pub fn iter(&self) -> impl Iterator<Item = RecordView<'_>> {
        let (mut value_at, mut key_at, mut header_at) = (0, 0, 0);
        (0..self.rows()).map(move |row| {
            let value_len = usize::try_from(self.value_lens[row]).ok();
            let framed = self.layout.framed_len(value_len);
            let bare_at = value_at
                + match self.layout {
                    ValueLayout::Plain | ValueLayout::Len32 => 4,
                    ValueLayout::Bare | ValueLayout::Newline => 0,
                };
            let value = value_len.map(|n| &self.values()[bare_at..bare_at + n]);
            value_at += framed;
            let key = usize::try_from(self.key_lens[row]).ok().map(|n| &self.keys[key_at..key_at + n]);
            key_at += key.map_or(0, <[u8]>::len);
            let header_len = self.header_lens[row] as usize;
            let headers = HeadersView::from_canonical(&self.headers[header_at..header_at + header_len]);
            header_at += header_len;
            RecordView {
                offset: self.offsets[row],
                timestamp: self.timestamps[row],
                timestamp_type: match self.timestamp_types[row] {
                    0 => TimestampType::Create,
                    1 => TimestampType::Append,
                    _ => TimestampType::None,
                },
                key,
                value,
                headers,
            }
        })
    }
}
