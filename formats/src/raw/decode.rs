//! The decoder: an object back to its values.
//!
//! What comes from the object is not trusted: a length in it never allocates more than the bytes that are really there.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::FRAME_BYTES;
use crate::digest::Crc;
use crate::encoder::{Codec, Encoding, Format, Framing};
use crate::error::FormatError;

/// One item of a raw object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawItem<'a> {
    /// A null value. Only `len32` stores them.
    Null,
    /// A value. Without framing, a piece of the concatenated values of at most 1 MiB.
    Value(&'a [u8]),
}

/// Reads raw objects.
pub struct RawDecoder<R: Read> {
    input: BufReader<Input<R>>,
    framing: Framing,
    crc: Crc,
    item: Vec<u8>,
}

enum Input<R: Read> {
    Plain(R),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<R>>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buf),
            Self::Zstd(input) => input.read(buf),
            Self::Gzip(input) => input.read(buf),
        }
    }
}

impl<R: Read> fmt::Debug for RawDecoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawDecoder").field("framing", &self.framing).finish_non_exhaustive()
    }
}

impl<R: Read> RawDecoder<R> {
    /// Opens an object of `encoding`.
    ///
    /// # Errors
    /// If `encoding` is not a raw encoding.
    pub fn new(object: R, encoding: &Encoding) -> Result<Self, FormatError> {
        let Format::Raw(framing) = encoding.format else {
            return Err(FormatError::Corrupt(format!("{encoding} is not a raw encoding")));
        };
        let input = match encoding.codec {
            Codec::None => Input::Plain(object),
            Codec::Zstd(_) => Input::Zstd(zstd::stream::read::Decoder::new(object)?),
            Codec::Gzip(_) => Input::Gzip(Box::new(MultiGzDecoder::new(BufReader::new(object)))),
        };
        Ok(Self { input: BufReader::with_capacity(1 << 16, input), framing, crc: Crc::new(), item: Vec::new() })
    }

    /// The next item; none at the end.
    ///
    /// # Errors
    /// [`FormatError::Corrupt`] if the object is damaged or cut short within an item, [`FormatError::Io`] if reading fails.
    /// An object cut short between items is recognised by its [`values_crc`](Self::values_crc).
    pub fn next_item(&mut self) -> Result<Option<RawItem<'_>>, FormatError> {
        self.item.clear();
        match self.framing {
            Framing::None => self.next_piece(),
            Framing::Newline => self.next_line(),
            Framing::Len32 => self.next_len32(),
        }
    }

    /// CRC of the framed bytes read so far; after the last item, what [`Digest::values`](crate::Digest::values) must be.
    pub fn values_crc(&self) -> u64 {
        self.crc.value()
    }

    /// Reads the next item and forgets it: its length, or none for null; none at the end. However long the item is, no more than 64 KiB of it
    /// are held: what claims gigabytes may be a few compressed bytes.
    ///
    /// # Errors
    /// As [`next_item`](Self::next_item).
    pub fn skip_item(&mut self) -> Result<Option<Option<u64>>, FormatError> {
        let len = match self.framing {
            Framing::None => Some(self.take(FRAME_BYTES as u64, false)?).filter(|len| *len > 0),
            Framing::Newline => self.take_line(false)?,
            Framing::Len32 => return self.take_len32(false),
        };
        Ok(len.map(Some))
    }

    /// Reads up to `len` bytes, and keeps them if that is wanted.
    fn take(&mut self, len: u64, keep: bool) -> Result<u64, FormatError> {
        let mut taken = 0;
        while taken < len {
            let piece = self.input.fill_buf().map_err(damaged)?;
            let n = piece.len().min(usize::try_from(len - taken).unwrap_or(usize::MAX));
            if n == 0 {
                break;
            }
            self.crc.update(&piece[..n]);
            if keep {
                self.item.extend_from_slice(&piece[..n]);
            }
            self.input.consume(n);
            taken += n as u64;
        }
        Ok(taken)
    }

    /// Reads to the next newline; answers the length before it.
    fn take_line(&mut self, keep: bool) -> Result<Option<u64>, FormatError> {
        let mut len = 0;
        loop {
            let piece = self.input.fill_buf().map_err(damaged)?;
            if piece.is_empty() {
                return if len == 0 { Ok(None) } else { Err(cut_short()) };
            }
            let end = piece.iter().position(|byte| *byte == b'\n');
            let line = &piece[..end.unwrap_or(piece.len())];
            len += line.len() as u64;
            if keep {
                self.item.extend_from_slice(line);
            }
            let n = line.len() + usize::from(end.is_some());
            self.crc.update(&piece[..n]);
            self.input.consume(n);
            if end.is_some() {
                return Ok(Some(len));
            }
        }
    }

    fn next_piece(&mut self) -> Result<Option<RawItem<'_>>, FormatError> {
        let len = self.take(FRAME_BYTES as u64, true)?;
        Ok((len > 0).then_some(RawItem::Value(&self.item)))
    }

    fn next_line(&mut self) -> Result<Option<RawItem<'_>>, FormatError> {
        Ok(self.take_line(true)?.map(|_| RawItem::Value(&self.item)))
    }

    fn next_len32(&mut self) -> Result<Option<RawItem<'_>>, FormatError> {
        Ok(match self.take_len32(true)? {
            None => None,
            Some(None) => Some(RawItem::Null),
            Some(Some(_)) => Some(RawItem::Value(&self.item)),
        })
    }

    /// Reads a length and as many bytes; answers the length, or none for null.
    fn take_len32(&mut self, keep: bool) -> Result<Option<Option<u64>>, FormatError> {
        self.item.clear();
        match self.take(4, true)? {
            0 => return Ok(None),
            4 => {}
            _ => return Err(cut_short()),
        }
        let len = i32::from_be_bytes(self.item[..4].try_into().expect("four bytes were taken"));
        if len == -1 {
            return Ok(Some(None));
        }
        let len = u64::try_from(len).map_err(|_| FormatError::Corrupt(format!("a value of length {len}")))?;
        self.item.clear();
        if self.take(len, keep)? < len {
            return Err(cut_short());
        }
        Ok(Some(Some(len)))
    }
}

fn cut_short() -> FormatError {
    FormatError::Corrupt("the object ends within a value".to_owned())
}

/// Decompressors report damage as I/O errors of these kinds, with no code of the system.
fn damaged(e: std::io::Error) -> FormatError {
    use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    match e.kind() {
        InvalidData | InvalidInput | UnexpectedEof | Other if e.raw_os_error().is_none() => FormatError::Corrupt(e.to_string()),
        _ => FormatError::Io(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Was an unbounded allocation: a megabyte of gzip could hold a line of a gigabyte, and verify counted it by holding it.
    #[test]
    fn an_item_that_is_skipped_takes_no_memory_however_long_it_is() {
        const LEN: u64 = 48 << 20;
        for (framing, head, tail) in [(Framing::Newline, &b""[..], &b"\n"[..]), (Framing::Len32, &(LEN as u32).to_be_bytes(), b"")] {
            let object = head.chain(std::io::repeat(b'x').take(LEN)).chain(tail);
            let encoding = Encoding { format: Format::Raw(framing), codec: Codec::None };
            let mut decoder = RawDecoder::new(object, &encoding).expect("a raw encoding");
            assert_eq!(decoder.skip_item().expect("it is whole"), Some(Some(LEN)), "{encoding}");
            assert!(decoder.item.capacity() < 1 << 10, "{encoding} holds {} bytes", decoder.item.capacity());
            assert_eq!(decoder.skip_item().expect("it is whole"), None, "{encoding}");
        }
    }
}
