//! The decoder: an object back to blocks of records, by way of the `parquet` crate.
//!
//! Nothing read from an object is trusted. Schema, proof, partition, the sizes of pages and the order of offsets are checked, and
//! what the `parquet` crate answers to damage with a panic becomes an error here. The digest is for the caller to compare
//! ([`DigestBuilder`](crate::DigestBuilder)).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};

use super::claims::{check_footer, check_group, footer_len};
use super::footer::PROOF_KEY;
use super::pages::{Shared, check_pages};
use super::rows::Group;
use super::schema::LEAVES;
use super::shape::check_footer_shape;
use crate::block::Block;
use crate::encoder::{Encoding, Format};
use crate::error::FormatError;
use crate::proof::Proof;
use crate::record::{HeadersBuf, HeadersView, RecordView, TimestampType};

/// Reads Parquet objects.
pub struct ParquetDecoder<R: ChunkReader + 'static> {
    object: Shared<R>,
    file: SerializedFileReader<Shared<R>>,
    proof: Proof,
    groups_read: usize,
    group: Option<Group>,
    next_offset: i64,
    records: u64,
    headers: HeadersBuf,
    /// Set by the first error: what comes after it means nothing.
    failed: bool,
}

pub(super) fn corrupt(what: impl Into<String>) -> FormatError {
    FormatError::Corrupt(what.into())
}

pub(super) fn from_parquet(e: ParquetError) -> FormatError {
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
        check_footer(object)?;
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
    let len = footer_len(tail)?;
    let Some(at) = (tail.len() - 8).checked_sub(len as usize) else {
        return Ok(TailProof::NeedsBytes(u64::from(len) + 8));
    };
    let footer = &tail[at..tail.len() - 8];
    guarded("the footer", || {
        check_footer_shape(footer)?;
        let metadata = ParquetMetaDataReader::decode_metadata(footer).map_err(from_parquet)?;
        proof_of(&metadata).map(|proof| TailProof::Proof(Box::new(proof)))
    })
}

/// Where an object's first records stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstGroup {
    /// The bytes of the first row group; with those of the footer they are all that a [`ParquetDecoder`] reads for its records.
    pub bytes: std::ops::Range<u64>,
    /// How many records it has.
    pub rows: u64,
}

/// The first row group of an object of `object_bytes`, by its last bytes, which hold the whole footer; none if it has no record.
///
/// # Errors
/// If the bytes do not end a Parquet file of this format, or are damaged.
pub fn first_group_from_tail(tail: &[u8], object_bytes: u64) -> Result<Option<FirstGroup>, FormatError> {
    let len = footer_len(tail)? as usize;
    let at = (tail.len() - 8).checked_sub(len).ok_or_else(|| corrupt("the footer is longer"))?;
    let footer = &tail[at..tail.len() - 8];
    guarded("the footer", || {
        check_footer_shape(footer)?;
        let metadata = ParquetMetaDataReader::decode_metadata(footer).map_err(from_parquet)?;
        check_schema(&metadata)?;
        check_chunks(&metadata, object_bytes)?;
        let Some(group) = metadata.row_groups().first() else { return Ok(None) };
        check_group(group)?;
        let extents = group.columns().iter().map(|chunk| {
            // Both were checked to be no less than 0, and their sum to lie within the object.
            let (at, bytes) = (chunk.data_page_offset().unsigned_abs(), chunk.compressed_size().unsigned_abs());
            (at, at + bytes)
        });
        let bytes = extents.fold(object_bytes..0, |all, (from, to)| all.start.min(from)..all.end.max(to));
        Ok(Some(FirstGroup { bytes, rows: group.num_rows().unsigned_abs() }))
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

/// Checks what the `parquet` crate asserts when it opens a chunk, that each chunk lies within the object, and that none claims a
/// dictionary, which none has.
fn check_chunks(metadata: &ParquetMetaData, object_bytes: u64) -> Result<(), FormatError> {
    let within = |at: i64, bytes: i64| {
        let (at, bytes) = (u64::try_from(at).ok()?, u64::try_from(bytes).ok()?);
        at.checked_add(bytes).filter(|end| *end <= object_bytes)
    };
    let sane = metadata.row_groups().iter().flat_map(|group| group.columns()).all(|chunk| {
        chunk.dictionary_page_offset().is_none()
            && chunk.num_values() >= 0
            && within(chunk.data_page_offset(), chunk.compressed_size()).is_some()
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
        let object = Shared::new(object);
        let (file, proof) = guarded("the footer", || {
            check_footer(&object)?;
            let file = SerializedFileReader::new(object.clone()).map_err(from_parquet)?;
            let proof = proof_of(file.metadata())?;
            check_encoding(&proof)?;
            check_schema(file.metadata())?;
            check_chunks(file.metadata(), object.bytes())?;
            Ok((file, proof))
        })?;
        let next_offset = proof.range.start;
        Ok(Self {
            object,
            file,
            proof,
            groups_read: 0,
            group: None,
            next_offset,
            records: 0,
            headers: HeadersBuf::default(),
            failed: false,
        })
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
                let metadata = self.file.metadata().row_group(self.groups_read);
                check_group(metadata)?;
                for (chunk, leaf) in metadata.columns().iter().zip(&LEAVES) {
                    check_pages(&self.object, chunk, leaf.physical.encoding())?;
                }
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
