//! The decoder: an object back to blocks of records, by way of the `parquet` crate.
//!
//! Nothing read from an object is trusted. Schema, proof, partition and the order of offsets are checked, and what the
//! `parquet` crate answers to damage with a panic becomes an error here. The digest is for the caller to compare
//! ([`DigestBuilder`](crate::DigestBuilder)).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, FileReader, RowGroupReader, SerializedFileReader};

use super::footer::{MAGIC, PROOF_KEY};
use super::schema::{
    HEADER_KEY, HEADER_VALUE, HEADERS_RAW, KEY, LEAVES, OFFSET, PARTITION, TIMESTAMP, TIMESTAMP_RAW, TIMESTAMP_TYPE, VALUE,
};
use crate::block::{BLOCK_VALUE_BYTES, Block};
use crate::encoder::{Encoding, Format};
use crate::error::FormatError;
use crate::proof::Proof;
use crate::record::{HeadersBuf, HeadersView, RecordView, TimestampType};

/// Rows of a block that a decoder fills, at most: bounds what the `parquet` crate holds for each of them.
const ROWS_MAX: u64 = 8192;

/// Reads Parquet objects.
pub struct ParquetDecoder<R: ChunkReader + 'static> {
    file: SerializedFileReader<R>,
    proof: Proof,
    groups_read: usize,
    group: Option<Group>,
    next_offset: i64,
    records: u64,
    headers: HeadersBuf,
    /// Set by the first error: what comes after it means nothing.
    failed: bool,
}

/// Column readers of the open row group.
struct Group {
    rows_left: u64,
    rows_at_once: usize,
    value: Column<ByteArrayType>,
    key: Column<ByteArrayType>,
    header_key: Column<ByteArrayType>,
    header_value: Column<ByteArrayType>,
    partition: Column<Int32Type>,
    offset: Column<Int64Type>,
    timestamp: Column<Int64Type>,
    timestamp_raw: Column<Int64Type>,
    timestamp_type: Column<Int32Type>,
    headers_raw: Column<ByteArrayType>,
}

/// One column's reader, and the levels and values of the rows at hand.
struct Column<T: DataType> {
    reader: ColumnReaderImpl<T>,
    leaf: usize,
    definition: Vec<i16>,
    repetition: Vec<i16>,
    values: Vec<T::T>,
    level_at: usize,
    value_at: usize,
}

fn corrupt(what: impl Into<String>) -> FormatError {
    FormatError::Corrupt(what.into())
}

fn from_parquet(e: ParquetError) -> FormatError {
    match e {
        ParquetError::External(e) => match e.downcast::<std::io::Error>() {
            Ok(io) => FormatError::Io(*io),
            Err(other) => corrupt(other.to_string()),
        },
        other => corrupt(other.to_string()),
    }
}

/// Runs code of the `parquet` crate, which meets some damage with a panic.
fn guarded<T>(what: &str, read: impl FnOnce() -> Result<T, FormatError>) -> Result<T, FormatError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(corrupt(format!("{what} cannot be decoded"))))
}

/// The proof in an object's footer. Reads nothing but the footer.
///
/// # Errors
/// If the footer cannot be read, is damaged, or holds no proof.
pub fn read_proof<R: ChunkReader>(object: &R) -> Result<Proof, FormatError> {
    guarded("the footer", || {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(object).map_err(from_parquet)?;
        proof_of(&metadata)
    })
}

/// What the last bytes of an object say of it.
#[derive(Clone, Debug, PartialEq)]
pub enum TailProof {
    /// The proof.
    Proof(Box<Proof>),
    /// The footer is longer: this many bytes of the object's end hold it.
    NeedsBytes(u64),
}

/// The proof in the last bytes of an object, for stores that are read by range.
///
/// # Errors
/// If the bytes do not end a Parquet file, are damaged, or hold no proof.
pub fn read_proof_from_tail(tail: &[u8]) -> Result<TailProof, FormatError> {
    let (rest, magic) = tail.split_last_chunk::<4>().ok_or_else(|| corrupt("too short for a Parquet file"))?;
    let (rest, len) = rest.split_last_chunk::<4>().ok_or_else(|| corrupt("too short for a Parquet file"))?;
    if magic != MAGIC {
        return Err(corrupt("not the end of a Parquet file"));
    }
    let len = u32::from_le_bytes(*len);
    let Some(at) = rest.len().checked_sub(len as usize) else {
        return Ok(TailProof::NeedsBytes(u64::from(len) + 8));
    };
    guarded("the footer", || {
        let metadata = ParquetMetaDataReader::decode_metadata(&rest[at..]).map_err(from_parquet)?;
        proof_of(&metadata).map(|proof| TailProof::Proof(Box::new(proof)))
    })
}

fn proof_of(metadata: &ParquetMetaData) -> Result<Proof, FormatError> {
    let pairs = metadata.file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let text = pairs.iter().find(|pair| pair.key == PROOF_KEY).and_then(|pair| pair.value.as_deref());
    let mut proof = Proof::from_json(text.ok_or_else(|| corrupt(format!("the footer has no {PROOF_KEY}")))?)?;
    proof.size = None;
    Ok(proof)
}

/// Comes before every other check, so that an object of a later version is called that and not damaged.
fn check_encoding(proof: &Proof) -> Result<(), FormatError> {
    match proof.encoding.parse::<Encoding>()?.format {
        Format::Parquet => Ok(()),
        Format::Raw(_) => Err(corrupt(format!("the proof of a Parquet object names encoding {:?}", proof.encoding))),
    }
}

fn check_schema(metadata: &ParquetMetaData) -> Result<(), FormatError> {
    let columns = metadata.file_metadata().schema_descr().columns();
    let same = columns.len() == LEAVES.len()
        && columns.iter().zip(&LEAVES).all(|(column, leaf)| {
            column.path().parts() == leaf.path
                && column.physical_type() as i32 == leaf.physical as i32
                && column.max_def_level() == i16::from(leaf.definition_max)
                && column.max_rep_level() == i16::from(leaf.repetition_max)
        });
    if same { Ok(()) } else { Err(corrupt("the columns are not those of this format")) }
}

/// Checks what the `parquet` crate asserts when it opens a chunk, and that no chunk claims a dictionary, which none has.
fn check_chunks(metadata: &ParquetMetaData) -> Result<(), FormatError> {
    let sane = metadata.row_groups().iter().flat_map(|group| group.columns()).all(|chunk| {
        chunk.dictionary_page_offset().is_none() && chunk.data_page_offset() >= 0 && chunk.compressed_size() >= 0 && chunk.num_values() >= 0
    });
    if sane { Ok(()) } else { Err(corrupt("the footer places a column chunk where none can be")) }
}

impl<R: ChunkReader + 'static> fmt::Debug for ParquetDecoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetDecoder").field("proof", &self.proof).field("records", &self.records).finish_non_exhaustive()
    }
}

impl<R: ChunkReader + 'static> ParquetDecoder<R> {
    /// Opens an object.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or is not of this format.
    pub fn new(object: R) -> Result<Self, FormatError> {
        let (file, proof) = guarded("the footer", || {
            let file = SerializedFileReader::new(object).map_err(from_parquet)?;
            let proof = proof_of(file.metadata())?;
            check_encoding(&proof)?;
            check_schema(file.metadata())?;
            check_chunks(file.metadata())?;
            Ok((file, proof))
        })?;
        let next_offset = proof.range.start;
        Ok(Self { file, proof, groups_read: 0, group: None, next_offset, records: 0, headers: HeadersBuf::default(), failed: false })
    }

    /// The object's proof, without its size.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Empties `block` and fills it with the next records, about 1 MiB of them, in the block's own layout. False at the end.
    ///
    /// # Errors
    /// If the object cannot be read or is damaged. The decoder is of no use afterwards.
    pub fn next_block(&mut self, block: &mut Block) -> Result<bool, FormatError> {
        block.reset(block.layout());
        if self.failed {
            return Err(corrupt("an earlier part of the object cannot be decoded"));
        }
        let result = guarded("a row group", || self.fill(block));
        self.failed = result.is_err();
        result
    }

    fn fill(&mut self, block: &mut Block) -> Result<bool, FormatError> {
        let mut group = match self.group.take() {
            Some(group) => group,
            None if self.groups_read == self.file.num_row_groups() => return self.check_end(),
            None => {
                let group = Group::open(&*self.file.get_row_group(self.groups_read).map_err(from_parquet)?)?;
                self.groups_read += 1;
                group
            }
        };
        let rows = group.read()?;
        for _ in 0..rows {
            self.push_row(&mut group, block)?;
        }
        if group.rows_left > 0 {
            self.group = Some(group);
        }
        Ok(true)
    }

    fn check_end(&self) -> Result<bool, FormatError> {
        if self.records == self.proof.counts.records {
            return Ok(false);
        }
        Err(corrupt(format!("{} records where the proof counts {}", self.records, self.proof.counts.records)))
    }

    fn push_row(&mut self, group: &mut Group, block: &mut Block) -> Result<(), FormatError> {
        let offset = *group.offset.required()?;
        if offset < self.next_offset || offset >= self.proof.range.end {
            let range = self.proof.range;
            return Err(corrupt(format!("offset {offset} where {} or more is due, in range {range}", self.next_offset)));
        }
        let partition = *group.partition.required()?;
        if partition != self.proof.lane.partition {
            return Err(corrupt(format!("partition {partition} in an object of partition {}", self.proof.lane.partition)));
        }
        let timestamp = match (group.timestamp.optional()?, group.timestamp_raw.optional()?) {
            (Some(ts), None) | (None, Some(ts)) => *ts,
            _ => return Err(corrupt(format!("offset {offset} does not have exactly one timestamp"))),
        };
        let timestamp_type = match group.timestamp_type.required()? {
            -1 => TimestampType::None,
            0 => TimestampType::Create,
            1 => TimestampType::Append,
            other => return Err(corrupt(format!("timestamp type {other} at offset {offset}"))),
        };
        self.headers.clear();
        group.read_headers(&mut self.headers)?;
        let headers = match group.headers_raw.optional()? {
            None => self.headers.view(),
            Some(raw) if self.headers.view().is_empty() => HeadersView::parse(raw.data())?,
            Some(_) => return Err(corrupt(format!("offset {offset} has headers in two columns"))),
        };
        let key = group.key.optional()?.map(ByteArray::data);
        let value = group.value.optional()?.map(ByteArray::data);
        block.push(&RecordView { offset, timestamp, timestamp_type, key, value, headers });
        self.next_offset = offset + 1;
        self.records += 1;
        Ok(())
    }
}

impl Group {
    fn open(group: &dyn RowGroupReader) -> Result<Self, FormatError> {
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
    fn read(&mut self) -> Result<usize, FormatError> {
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
    fn read_headers(&mut self, to: &mut HeadersBuf) -> Result<(), FormatError> {
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

    fn required(&mut self) -> Result<&T::T, FormatError> {
        self.next_value()
    }

    fn optional(&mut self) -> Result<Option<&T::T>, FormatError> {
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
