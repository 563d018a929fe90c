//! Raw: the values of a range in order, framed and compressed, and nothing else.
//!
//! Place in the flow: [`RawEncoder`] turns blocks into an object, [`RawDecoder`] turns an object into values again. Keys,
//! headers, offsets and timestamps are not stored; the digest covers them all the same, so that an object can be compared with
//! Kafka. `docs/FORMATS.md` is the byte-level description.

mod decode;
mod encode;

#[cfg(test)]
mod tests;

pub use decode::{RawDecoder, RawItem};
pub use encode::RawEncoder;

/// Framed bytes in a frame. Every frame but the last has exactly this many, so that any reader can start at any of them.
/// Smaller costs compression, larger costs memory on both sides.
pub const FRAME_BYTES: usize = 1 << 20;
