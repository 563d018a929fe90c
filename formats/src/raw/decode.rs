//! The decoder: an object back to its values.
//!
//! What comes from the object is not trusted: a length in it never allocates more than the bytes that are really there.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

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

    fn take(&mut self, len: usize) -> Result<usize, FormatError> {
        let before = self.item.len();
        (&mut self.input).take(len as u64).read_to_end(&mut self.item).map_err(damaged)?;
        self.crc.update(&self.item[before..]);
        Ok(self.item.len() - before)
    }

    fn next_piece(&mut self) -> Result<Option<RawItem<'_>>, FormatError> {
        let len = self.take(FRAME_BYTES)?;
        Ok((len > 0).then_some(RawItem::Value(&self.item)))
    }

    fn next_line(&mut self) -> Result<Option<RawItem<'_>>, FormatError> {
        self.input.read_until(b'\n', &mut self.item).map_err(damaged)?;
        self.crc.update(&self.item);
        match self.item.split_last() {
            None => Ok(None),
            Some((b'\n', line)) => Ok(Some(RawItem::Value(line))),
            Some(_) => Err(cut_short()),
        }
    }

    fn next_len32(&mut self) -> Result<Option<RawItem<'_>>, FormatError> {
        match self.take(4)? {
            0 => return Ok(None),
            4 => {}
            _ => return Err(cut_short()),
        }
        let len = i32::from_be_bytes(self.item[..4].try_into().expect("four bytes were taken"));
        if len == -1 {
            return Ok(Some(RawItem::Null));
        }
        let len = usize::try_from(len).map_err(|_| FormatError::Corrupt(format!("a value of length {len}")))?;
        self.item.clear();
        if self.take(len)? < len {
            return Err(cut_short());
        }
        Ok(Some(RawItem::Value(&self.item)))
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
