//! The rows of one row group: its columns read side by side, a few thousand rows at a time.

use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::file::reader::RowGroupReader;

use super::decode::{corrupt, from_parquet};
use super::schema::{
    HEADER_KEY, HEADER_VALUE, HEADERS_RAW, KEY, LEAVES, OFFSET, PARTITION, TIMESTAMP, TIMESTAMP_RAW, TIMESTAMP_TYPE, VALUE,
};
use crate::block::BLOCK_VALUE_BYTES;
use crate::error::FormatError;
use crate::record::HeadersBuf;

/// Rows of a block that a decoder fills, at most: bounds what the `parquet` crate holds for each of them.
const ROWS_MAX: u64 = 8192;

/// Column readers of the open row group.
pub(super) struct Group {
    pub(super) rows_left: u64,
    rows_at_once: usize,
    pub(super) value: Column<ByteArrayType>,
    pub(super) key: Column<ByteArrayType>,
    header_key: Column<ByteArrayType>,
    header_value: Column<ByteArrayType>,
    pub(super) partition: Column<Int32Type>,
    pub(super) offset: Column<Int64Type>,
    pub(super) timestamp: Column<Int64Type>,
    pub(super) timestamp_raw: Column<Int64Type>,
    pub(super) timestamp_type: Column<Int32Type>,
    pub(super) headers_raw: Column<ByteArrayType>,
}

/// One column's reader, and the levels and values of the rows at hand.
pub(super) struct Column<T: DataType> {
    reader: ColumnReaderImpl<T>,
    leaf: usize,
    definition: Vec<i16>,
    repetition: Vec<i16>,
    values: Vec<T::T>,
    level_at: usize,
    value_at: usize,
}

impl Group {
    pub(super) fn open(group: &dyn RowGroupReader) -> Result<Self, FormatError> {
        let metadata = group.metadata();
        let rows = u64::try_from(metadata.num_rows()).map_err(|_| corrupt("a row group has a negative number of rows"))?;
        let bytes = u64::try_from(metadata.total_byte_size()).unwrap_or(0).max(1);
        let rows_at_once = rows.saturating_mul(BLOCK_VALUE_BYTES as u64) / bytes;
        Ok(Self {
            rows_left: rows,
            rows_at_once: rows_at_once.clamp(1, ROWS_MAX) as usize,
            value: Column::open(group, VALUE)?,
            key: Column::open(group, KEY)?,
            header_key: Column::open(group, HEADER_KEY)?,
            header_value: Column::open(group, HEADER_VALUE)?,
            partition: Column::open(group, PARTITION)?,
            offset: Column::open(group, OFFSET)?,
            timestamp: Column::open(group, TIMESTAMP)?,
            timestamp_raw: Column::open(group, TIMESTAMP_RAW)?,
            timestamp_type: Column::open(group, TIMESTAMP_TYPE)?,
            headers_raw: Column::open(group, HEADERS_RAW)?,
        })
    }

    /// Reads the next rows of every column; says how many.
    pub(super) fn read(&mut self) -> Result<usize, FormatError> {
        let rows = self.rows_left.min(self.rows_at_once as u64) as usize;
        for column in [&mut self.value, &mut self.key, &mut self.header_key, &mut self.header_value, &mut self.headers_raw] {
            column.read(rows)?;
        }
        for column in [&mut self.offset, &mut self.timestamp, &mut self.timestamp_raw] {
            column.read(rows)?;
        }
        self.partition.read(rows)?;
        self.timestamp_type.read(rows)?;
        self.rows_left -= rows as u64;
        Ok(rows)
    }

    /// Appends one row's headers.
    pub(super) fn read_headers(&mut self, to: &mut HeadersBuf) -> Result<(), FormatError> {
        let mut first = true;
        while let Some(name) = self.header_key.element(first)? {
            let value = self.header_value.element(first)?.ok_or_else(|| corrupt("more header names than header values"))?;
            first = false;
            match (name, value) {
                (Element::Null, Element::Null) => return Ok(()),
                (Element::Value(name), Element::Value(value)) => to.push(name.data(), Some(value.data())),
                (Element::Value(name), Element::NullValue) => to.push(name.data(), None),
                _ => return Err(corrupt("a header without a name")),
            }
        }
        Ok(())
    }
}

/// One element of a list column.
enum Element<T> {
    /// The list is null or empty.
    Null,
    /// The element is there, its leaf is null.
    NullValue,
    Value(T),
}

impl<T: DataType> Column<T> {
    fn open(group: &dyn RowGroupReader, leaf: usize) -> Result<Self, FormatError> {
        let reader = get_typed_column_reader(group.get_column_reader(leaf).map_err(from_parquet)?);
        Ok(Self { reader, leaf, definition: Vec::new(), repetition: Vec::new(), values: Vec::new(), level_at: 0, value_at: 0 })
    }

    fn short(&self) -> FormatError {
        corrupt(format!("column {} ends early", LEAVES[self.leaf].path.join(".")))
    }

    fn read(&mut self, rows: usize) -> Result<(), FormatError> {
        self.definition.clear();
        self.repetition.clear();
        self.values.clear();
        self.level_at = 0;
        self.value_at = 0;
        let mut read = 0;
        while read < rows {
            let (records, _, levels) = self
                .reader
                .read_records(rows - read, Some(&mut self.definition), Some(&mut self.repetition), &mut self.values)
                .map_err(from_parquet)?;
            if records == 0 && levels == 0 {
                return Err(self.short());
            }
            read += records;
        }
        Ok(())
    }

    fn next_value(&mut self) -> Result<&T::T, FormatError> {
        self.value_at += 1;
        if self.value_at > self.values.len() {
            return Err(self.short());
        }
        Ok(&self.values[self.value_at - 1])
    }

    pub(super) fn required(&mut self) -> Result<&T::T, FormatError> {
        self.next_value()
    }

    pub(super) fn optional(&mut self) -> Result<Option<&T::T>, FormatError> {
        let level = *self.definition.get(self.level_at).ok_or_else(|| self.short())?;
        self.level_at += 1;
        if level == 0 { Ok(None) } else { self.next_value().map(Some) }
    }

    /// The next element of the row at hand; none when the row is at its end. `first` begins a row.
    fn element(&mut self, first: bool) -> Result<Option<Element<&T::T>>, FormatError> {
        match self.repetition.get(self.level_at) {
            Some(0) if first => {}
            Some(0) | None if !first => return Ok(None),
            Some(1) if !first => {}
            _ => return Err(self.short()),
        }
        let level = *self.definition.get(self.level_at).ok_or_else(|| self.short())?;
        self.level_at += 1;
        let full = i16::from(LEAVES[self.leaf].definition_max);
        match level {
            0 | 1 => Ok(Some(Element::Null)),
            level if level == full => self.next_value().map(|value| Some(Element::Value(value))),
            _ => Ok(Some(Element::NullValue)),
        }
    }
}
