//! Encodings of Kafka records, as bytes.
//!
//! The promise of this crate: **equal records and an equal [`Encoding`] give equal bytes**, however the records were batched
//! on their way in. Nothing here reads a clock, a file, a socket or a random number, and nothing here knows Kafka or an
//! object store; the engine hands in [`Block`]s and gets bytes and a [`Proof`] back.
//!
//! In the order of the data: a [`RecordView`] is appended to a [`Block`]; a [`SegmentEncoder`] turns blocks into the bytes
//! of one object and ends with the object's [`Proof`]; the decoders turn the bytes into records again.

pub mod block;
mod compress;
pub mod digest;
pub mod encoder;
pub mod error;
mod level;
mod object;
pub mod parquet;
pub mod proof;
pub mod raw;
pub mod record;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod testing;

pub use block::{Block, ValueLayout};
pub use digest::{Digest, DigestBuilder};
pub use encoder::{ByteSink, Codec, Encoding, Format, Framing, SegmentEncoder, segment_encoder};
pub use error::FormatError;
pub use level::LevelProbe;
pub use proof::{Counts, GapCause, LaneId, Missing, Proof};
pub use record::{HeadersBuf, HeadersView, OffsetRange, RecordView, TimestampType};
