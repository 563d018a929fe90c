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

/// Contiguous records of one window, column by column. `-1` stands for null in the length columns.
#[derive(Debug)]
pub struct Block {
    layout: ValueLayout,
    values: Vec<u8>,
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
            values: Vec::new(),
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
        self.values.clear();
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
        if let Some(key) = record.key {
            self.keys.extend_from_slice(key);
        }
        let headers = record.headers.as_bytes();
        self.headers.extend_from_slice(headers);
        self.header_lens.push(u32::try_from(headers.len()).expect("a record is smaller than 4 GiB"));
        self.offsets.push(record.offset);
        self.timestamps.push(record.timestamp);
        self.timestamp_types.push(record.timestamp_type as i8);
    }

    fn push_value(&mut self, value: Option<&[u8]>) {
        let Some(bytes) = value else {
            if self.layout == ValueLayout::Len32 {
                self.values.extend_from_slice(&(-1_i32).to_be_bytes());
            }
            return;
        };
        let len = u32::try_from(bytes.len()).expect("Kafka lengths are i32");
        match self.layout {
            ValueLayout::Plain => self.values.extend_from_slice(&len.to_le_bytes()),
            ValueLayout::Len32 => self.values.extend_from_slice(&len.to_be_bytes()),
            ValueLayout::Bare | ValueLayout::Newline => {}
        }
        self.values.extend_from_slice(bytes);
        if self.layout == ValueLayout::Newline {
            self.values.push(b'\n');
        }
    }

    /// Whether the block should be handed on. Decided by the records alone.
    pub fn is_full(&self) -> bool {
        self.values.len() >= BLOCK_VALUE_BYTES || self.rows() >= BLOCK_ROWS || self.keys.len() + self.headers.len() >= BLOCK_SIDE_BYTES
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
        &self.values
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
        self.values.capacity()
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
            let value = value_len.map(|n| &self.values[bare_at..bare_at + n]);
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
