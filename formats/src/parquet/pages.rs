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

use super::decode::{corrupt, from_parquet};
use crate::error::FormatError;

/// Longest page header that is read. Ours have under 64 bytes; a longer one is none of ours.
const HEADER_BYTES_MAX: u64 = 4096;

/// Most bytes that one compressed byte can stand for: a block of zstd has up to 128 KiB and takes at least four bytes. gzip stays far
/// below.
const EXPANSION_MAX: u64 = 32 << 10;

/// How deep structs may nest in a header.
const DEPTH_MAX: u32 = 8;

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
pub(super) fn check_pages<R: ChunkReader>(object: &R, chunk: &ColumnChunkMetaData) -> Result<(), FormatError> {
    let (mut at, mut left) = chunk.byte_range();
    let mut plain_left = u64::try_from(chunk.uncompressed_size()).map_err(|_| corrupt("a column chunk of negative size"))?;
    while left > 0 {
        let header = PageHeader::read(object.get_read(at).map_err(from_parquet)?.take(left.min(HEADER_BYTES_MAX)))?;
        let bytes = header.bytes + header.compressed;
        let plain = header.bytes + header.plain;
        if bytes > left || plain > plain_left || header.plain > header.compressed.saturating_mul(EXPANSION_MAX) {
            let claim = format!("a page claims {} bytes, {} of them compressed", header.plain, header.compressed);
            return Err(corrupt(format!("{claim}, in a chunk that has {left} and {plain_left} left")));
        }
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
}

impl PageHeader {
    /// Reads a header of Thrift's compact protocol; what is not about sizes is skipped.
    fn read(input: impl Read) -> Result<Self, FormatError> {
        const PLAIN: i64 = 2;
        const COMPRESSED: i64 = 3;
        let mut from = Compact { input, at: 0 };
        let (mut header, mut id) = (Self::default(), 0);
        while let Some(kind) = from.field(&mut id)? {
            match (id, kind) {
                (PLAIN, I32) => header.plain = from.size()?,
                (COMPRESSED, I32) => header.compressed = from.size()?,
                _ => from.skip(kind, DEPTH_MAX)?,
            }
        }
        Ok(Self { bytes: from.at, ..header })
    }
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Thrift compact protocol, the reading half: as much of it as page headers need.
struct Compact<R> {
    input: R,
    at: u64,
}

impl<R: Read> Compact<R> {
    fn byte(&mut self) -> Result<u8, FormatError> {
        let mut byte = [0];
        match self.input.read_exact(&mut byte) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Err(corrupt("a page header does not end")),
            Err(e) => return Err(e.into()),
        }
        self.at += 1;
        Ok(byte[0])
    }

    fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(corrupt("a number in a page header does not end"))
    }

    fn zigzag(&mut self) -> Result<i64, FormatError> {
        let coded = self.varint()?;
        Ok((coded >> 1).cast_signed() ^ -(coded & 1).cast_signed())
    }

    fn size(&mut self) -> Result<u64, FormatError> {
        let size = i32::try_from(self.zigzag()?).ok().and_then(|size| u64::try_from(size).ok());
        size.ok_or_else(|| corrupt("a page of a size that none can have"))
    }

    /// The next field's type, with its id in `id`; none at the struct's end.
    fn field(&mut self, id: &mut i64) -> Result<Option<u8>, FormatError> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        *id = match head >> 4 {
            0 => self.zigzag()?,
            delta => *id + i64::from(delta),
        };
        Ok(Some(head & 0xf))
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Result<(), FormatError> {
        match kind {
            TRUE | FALSE => {}
            BYTE => _ = self.byte()?,
            I16 | I32 | I64 => _ = self.varint()?,
            DOUBLE => self.skip_bytes(8)?,
            BINARY => {
                let len = self.varint()?;
                self.skip_bytes(len)?;
            }
            LIST if depth > 0 => self.skip_list(depth - 1)?,
            STRUCT if depth > 0 => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth - 1)?;
                }
            }
            _ => return Err(corrupt("a page header with a field that none has")),
        }
        Ok(())
    }

    fn skip_list(&mut self, depth: u32) -> Result<(), FormatError> {
        let head = self.byte()?;
        let len = if head >> 4 == 0xf { self.varint()? } else { u64::from(head >> 4) };
        for _ in 0..len {
            match head & 0xf {
                // In a list a boolean is a byte of its own.
                TRUE | FALSE => _ = self.byte()?,
                kind => self.skip(kind, depth)?,
            }
        }
        Ok(())
    }

    fn skip_bytes(&mut self, len: u64) -> Result<(), FormatError> {
        for _ in 0..len {
            self.byte()?;
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
            data.i32(1, 3).bool(2, true).i8(3, 1).nested(4, |stats| _ = stats.binary(1, b"min").i32_list(2, &[1; 20]));
        });
        to.end();
        bytes
    }

    #[test]
    fn sizes_are_found_and_the_rest_is_skipped() {
        let mut bytes = header(70_000, 65_000);
        let len = bytes.len() as u64;
        bytes.extend_from_slice(b"the page");
        assert_eq!(PageHeader::read(&bytes[..]).unwrap(), PageHeader { bytes: len, compressed: 65_000, plain: 70_000 });
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
