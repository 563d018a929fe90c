//! Thrift compact protocol, the reading half: as much of it as the checks of footers and page headers need.
//!
//! What is read is not trusted: nothing is allocated, and structs nest only as deep as the caller says.

use std::io::Read;

use super::decode::corrupt;
use crate::error::FormatError;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
pub(super) const BYTE: u8 = 3;
pub(super) const I16: u8 = 4;
pub(super) const I32: u8 = 5;
pub(super) const I64: u8 = 6;
pub(super) const DOUBLE: u8 = 7;
pub(super) const BINARY: u8 = 8;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// Reads from a struct that is not trusted.
pub(super) struct Compact<R> {
    input: R,
    /// Bytes read so far.
    pub(super) at: u64,
}

impl<R: Read> Compact<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, at: 0 }
    }

    fn byte(&mut self) -> Result<u8, FormatError> {
        let mut byte = [0];
        match self.input.read_exact(&mut byte) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Err(corrupt("a header does not end")),
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
        Err(corrupt("a number in a header does not end"))
    }

    fn zigzag(&mut self) -> Result<i64, FormatError> {
        let coded = self.varint()?;
        Ok((coded >> 1).cast_signed() ^ -(coded & 1).cast_signed())
    }

    pub(super) fn size(&mut self) -> Result<u64, FormatError> {
        let size = i32::try_from(self.zigzag()?).ok().and_then(|size| u64::try_from(size).ok());
        size.ok_or_else(|| corrupt("a header with a number that none can have"))
    }

    /// The next field's type, with its id in `id`; none at the struct's end.
    pub(super) fn field(&mut self, id: &mut i64) -> Result<Option<u8>, FormatError> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let next = match head >> 4 {
            0 => self.zigzag()?,
            delta => *id + i64::from(delta),
        };
        // Ids have 16 bits, and whoever wraps them would see another field.
        if next <= *id || next > i64::from(i16::MAX) {
            return Err(corrupt("a header whose fields do not ascend"));
        }
        *id = next;
        Ok(Some(head & 0xf))
    }

    pub(super) fn skip(&mut self, kind: u8, depth: u32) -> Result<(), FormatError> {
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
            _ => return Err(corrupt("a header with a field that none has")),
        }
        Ok(())
    }

    /// A list's head: the type of its elements, and how many there are.
    pub(super) fn list(&mut self) -> Result<(u8, u64), FormatError> {
        let head = self.byte()?;
        let len = if head >> 4 == 0xf { self.varint()? } else { u64::from(head >> 4) };
        Ok((head & 0xf, len))
    }

    /// Every element of a list takes a byte at least. Lists of booleans, about whose bytes readers disagree, stand in no header.
    fn skip_list(&mut self, depth: u32) -> Result<(), FormatError> {
        let (kind, len) = self.list()?;
        if is_bool(kind) {
            return Err(corrupt("a header with a list of booleans"));
        }
        (0..len).try_for_each(|_| self.skip(kind, depth))
    }

    fn skip_bytes(&mut self, len: u64) -> Result<(), FormatError> {
        for _ in 0..len {
            self.byte()?;
        }
        Ok(())
    }
}

/// Whether a field of this type is a boolean, which stands in the type itself.
pub(super) fn is_bool(kind: u8) -> bool {
    matches!(kind, TRUE | FALSE)
}

/// The error for a field whose type is not that of its number: whoever reads by the number alone would see another value.
pub(super) fn wrong_type() -> FormatError {
    corrupt("a header with a field of another type")
}
