//! The seam between the engine and the formats: [`Encoding`] names how an object is written, [`SegmentEncoder`] writes it.

use std::fmt;
use std::str::FromStr;

use crate::block::{Block, ValueLayout};
use crate::error::FormatError;
use crate::proof::{LaneId, Missing, Proof};

/// Where encoded bytes go.
pub trait ByteSink {
    /// Appends bytes to the object.
    fn put(&mut self, bytes: &[u8]);
}

impl ByteSink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Compression of pages (Parquet) or frames (raw).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As is.
    None,
    /// zstd at a level from 1 to 22.
    Zstd(u8),
    /// gzip at a level from 1 to 9.
    Gzip(u8),
}

/// How values are told apart in a raw object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Not at all: values stand one after another.
    None,
    /// Each value ends with a newline. Values that contain one cannot be told apart.
    Newline,
    /// `i32be length` before each value, -1 for null.
    Len32,
}

/// The file format of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Parquet, one row a record.
    Parquet,
    /// Values only, in order.
    Raw(Framing),
}

/// Everything that decides an object's bytes besides its records: format, framing, codec, level and version. Its text form,
/// such as `parquet.zstd1.v1` or `raw.len32.zstd1.v1`, is stored in intents and objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// The file format.
    pub format: Format,
    /// The codec and its level.
    pub codec: Codec,
}

impl Encoding {
    /// Parquet with zstd level 1, the default.
    pub const PARQUET_ZSTD1: Self = Self { format: Format::Parquet, codec: Codec::Zstd(1) };

    /// The file extension, without a dot: `parquet`, `bin`, `bin.zst` or `bin.gz`.
    pub fn extension(&self) -> &'static str {
        match (self.format, self.codec) {
            (Format::Parquet, _) => "parquet",
            (Format::Raw(_), Codec::None) => "bin",
            (Format::Raw(_), Codec::Zstd(_)) => "bin.zst",
            (Format::Raw(_), Codec::Gzip(_)) => "bin.gz",
        }
    }

    /// How blocks for this encoding lay out their values.
    pub fn value_layout(&self) -> ValueLayout {
        match self.format {
            Format::Parquet => ValueLayout::Plain,
            Format::Raw(Framing::None) => ValueLayout::Bare,
            Format::Raw(Framing::Newline) => ValueLayout::Newline,
            Format::Raw(Framing::Len32) => ValueLayout::Len32,
        }
    }
}

impl Encoding {
    /// Whether this text form is that of a version after the one that this build writes and reads: such an object is not damaged.
    pub fn is_of_later_version(text: &str) -> bool {
        text.rsplit_once(".v").and_then(|(_, version)| version.parse::<u32>().ok()).is_some_and(|version| version > 1)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.format {
            Format::Parquet => "parquet",
            Format::Raw(Framing::None) => "raw.none",
            Format::Raw(Framing::Newline) => "raw.newline",
            Format::Raw(Framing::Len32) => "raw.len32",
        })?;
        match self.codec {
            Codec::None => f.write_str(".none")?,
            Codec::Zstd(level) => write!(f, ".zstd{level}")?,
            Codec::Gzip(level) => write!(f, ".gzip{level}")?,
        }
        f.write_str(".v1")
    }
}

impl FromStr for Encoding {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let unknown = || FormatError::UnknownEncoding(text.to_owned());
        let body = text.strip_suffix(".v1").ok_or_else(unknown)?;
        let (format, codec) = body.rsplit_once('.').ok_or_else(unknown)?;
        let format = match format {
            "parquet" => Format::Parquet,
            "raw.none" => Format::Raw(Framing::None),
            "raw.newline" => Format::Raw(Framing::Newline),
            "raw.len32" => Format::Raw(Framing::Len32),
            _ => return Err(unknown()),
        };
        let level = |digits: &str, max: u8| -> Result<u8, FormatError> {
            digits.parse().ok().filter(|l| (1..=max).contains(l) && *l.to_string() == *digits).ok_or_else(unknown)
        };
        let codec = match codec {
            "none" => Codec::None,
            c if c.starts_with("zstd") => Codec::Zstd(level(&c[4..], 22)?),
            c if c.starts_with("gzip") => Codec::Gzip(level(&c[4..], 9)?),
            _ => return Err(unknown()),
        };
        Ok(Self { format, codec })
    }
}

/// Turns the records of one range into the bytes of one object.
///
/// Bytes given to `out` are final and come in the object's order; what is still held inside is at most one page of each
/// column and the compressed small columns of the open row group ([`held_bytes`](Self::held_bytes)).
pub trait SegmentEncoder: Send {
    /// Appends a block's records. Blocks come in the layout of the encoding, in offset order.
    fn append(&mut self, block: &Block, out: &mut dyn ByteSink);

    /// Ends the object at `end`. Called once, last.
    fn finish(&mut self, end: i64, missing: &[Missing], out: &mut dyn ByteSink) -> Proof;

    /// Bytes of memory held inside.
    fn held_bytes(&self) -> usize;
}

/// An encoder for the object of `lane` that starts at offset `start`.
pub fn segment_encoder(encoding: &Encoding, lane: &LaneId, start: i64) -> Box<dyn SegmentEncoder> {
    match encoding.format {
        Format::Parquet => Box::new(crate::parquet::ParquetEncoder::new(*encoding, lane.clone(), start)),
        Format::Raw(_) => Box::new(crate::raw::RawEncoder::new(*encoding, lane.clone(), start)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_versions_are_told_from_nonsense() {
        for text in ["parquet.zstd1.v2", "raw.len32.zstd1.v10", "orc.lz4.v3"] {
            assert!(Encoding::is_of_later_version(text) && text.parse::<Encoding>().is_err(), "{text}");
        }
        for text in ["parquet.zstd1.v1", "parquet.zstd99.v1", "parquet.zstd1", "nonsense", "x.v", "x.v-2", ""] {
            assert!(!Encoding::is_of_later_version(text), "{text}");
        }
    }
}
