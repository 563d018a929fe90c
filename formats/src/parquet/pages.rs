//! What the page headers of a column chunk claim, checked before anybody allocates by it.
//!
//! The `parquet` crate makes room for a page as large as its header says. A header that a flipped bit or an enemy made claim 2 GiB
//! would be believed; so every header is read here first and held against its chunk, and a chunk's sum against what compression can do.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::compact::{Compact, I32, STRUCT, wrong_type};
use super::decode::{corrupt, from_parquet};
use super::shape::check_statistics;
use crate::error::FormatError;

/// Longest page header that is read. Ours have under 64 bytes; a longer one is none of ours.
const HEADER_BYTES_MAX: u64 = 4096;

/// Most bytes that one compressed byte can stand for: a block of zstd has up to 128 KiB and takes at least four bytes. gzip stays far
/// below.
const EXPANSION_MAX: u64 = 32 << 10;

/// An object that two readers share.
pub(super) struct Shared<R>(Arc<R>);

impl<R: ChunkReader> Shared<R> {
    pub(super) fn new(object: R) -> Self {
        Self(Arc::new(object))
    }

    /// Length of the object.
    pub(super) fn bytes(&self) -> u64 {
        self.0.len()
    }
}

impl<R> Clone for Shared<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Length> Length for Shared<R> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<R: ChunkReader> ChunkReader for Shared<R> {
    type T = R::T;

    fn get_read(&self, start: u64) -> ParquetResult<R::T> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// Checks the headers of all pages of a chunk, whose place the caller has checked.
///
/// # Errors
/// If a header cannot be read, or claims more than its chunk has.
pub(super) fn check_pages<R: ChunkReader>(object: &R, chunk: &ColumnChunkMetaData, encoding: i32) -> Result<(), FormatError> {
    let (mut at, mut left) = chunk.byte_range();
    let mut plain_left = u64::try_from(chunk.uncompressed_size()).map_err(|_| corrupt("a column chunk of negative size"))?;
    let mut values_left = u64::try_from(chunk.num_values()).map_err(|_| corrupt("a column chunk with a negative number of values"))?;
    while left > 0 {
        let header = PageHeader::read(object.get_read(at).map_err(from_parquet)?.take(left.min(HEADER_BYTES_MAX)))?;
        let bytes = header.bytes + header.compressed;
        let plain = header.bytes + header.plain;
        if bytes > left || plain > plain_left || header.plain > header.compressed.saturating_mul(EXPANSION_MAX) {
            let claim = format!("a page claims {} bytes, {} of them compressed", header.plain, header.compressed);
            return Err(corrupt(format!("{claim}, in a chunk that has {left} and {plain_left} left")));
        }
        // Dictionaries and shared prefixes, which ours do without, let a few bytes stand for any number of large values.
        if header.kind != 0 || header.encoding != u64::from(encoding.unsigned_abs()) {
            return Err(corrupt(format!("a page of type {} and encoding {}", header.kind, header.encoding)));
        }
        // Runs of nulls take next to no bytes and much memory: the number of values is what bounds them.
        values_left = values_left.checked_sub(header.values).ok_or_else(|| corrupt("pages with more values than their chunk has"))?;
        (at, left, plain_left) = (at + bytes, left - bytes, plain_left - plain);
    }
    Ok(())
}

/// The sizes of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PageHeader {
    /// Length of the header itself.
    bytes: u64,
    /// Length of the page that follows it.
    compressed: u64,
    /// Length of the page once it is decompressed.
    plain: u64,
    /// The page's type; 0 is a data page of version 1.
    kind: u64,
    /// Values of the page, nulls included.
    values: u64,
    /// How they are encoded.
    encoding: u64,
}

impl PageHeader {
    /// Reads a header of Thrift's compact protocol, with no other fields than a data page of version 1 has.
    fn read(input: impl Read) -> Result<Self, FormatError> {
        const KIND: i64 = 1;
        const PLAIN: i64 = 2;
        const COMPRESSED: i64 = 3;
        const CHECKSUM: i64 = 4;
        const DATA_PAGE: i64 = 5;
        let mut from = Compact::new(input);
        let (mut header, mut id) = (Self::default(), 0);
        while let Some(kind) = from.field(&mut id)? {
            match (id, kind) {
                (KIND, I32) => header.kind = from.size()?,
                (PLAIN, I32) => header.plain = from.size()?,
                (COMPRESSED, I32) => header.compressed = from.size()?,
                (CHECKSUM, I32) => from.skip(kind, 0)?,
                (DATA_PAGE, STRUCT) => header.read_data_page(&mut from)?,
                _ => return Err(wrong_type()),
            }
        }
        Ok(Self { bytes: from.at, ..header })
    }

    fn read_data_page(&mut self, from: &mut Compact<impl Read>) -> Result<(), FormatError> {
        const VALUES: i64 = 1;
        const ENCODING: i64 = 2;
        const DEFINITION_ENCODING: i64 = 3;
        const REPETITION_ENCODING: i64 = 4;
        const STATISTICS: i64 = 5;
        let mut id = 0;
        while let Some(kind) = from.field(&mut id)? {
            match (id, kind) {
                (VALUES, I32) => self.values = from.size()?,
                (ENCODING, I32) => self.encoding = from.size()?,
                (DEFINITION_ENCODING | REPETITION_ENCODING, I32) => from.skip(kind, 0)?,
                (STATISTICS, STRUCT) => check_statistics(from)?,
                _ => return Err(wrong_type()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::thrift::StructWriter;
    use super::*;

    fn header(plain: i32, compressed: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut to = StructWriter::new(&mut bytes);
        to.i32(1, 0).i32(2, plain).i32(3, compressed).i32(4, -7);
        to.nested(5, |data| {
            data.i32(1, 3)
                .i32(2, 5)
                .i32(3, 3)
                .i32(4, 3)
                .nested(5, |stats| _ = stats.i64(3, 0).binary(5, b"max").binary(6, b"min").bool(7, true));
        });
        to.end();
        bytes
    }

    #[test]
    fn sizes_are_found_and_the_rest_is_skipped() {
        let mut bytes = header(70_000, 65_000);
        let len = bytes.len() as u64;
        bytes.extend_from_slice(b"the page");
        assert_eq!(
            PageHeader::read(&bytes[..]).unwrap(),
            PageHeader { bytes: len, compressed: 65_000, plain: 70_000, kind: 0, values: 3, encoding: 5 }
        );
        assert!(PageHeader::read(&bytes[..10]).is_err(), "cut short");
        assert!(PageHeader::read(&header(-1, 5)[..]).is_err(), "a negative size");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_run_on(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = PageHeader::read(&bytes[..]);
        }
    }
}
