//! The encoder: cuts the framed bytes into frames of one size and compresses each by itself.

use std::fmt;

use super::FRAME_BYTES;
use crate::block::Block;
use crate::compress::compressed;
use crate::digest::DigestBuilder;
use crate::encoder::{ByteSink, Codec, Encoding, Format, SegmentEncoder};
use crate::proof::{LaneId, Missing, Proof};
use crate::record::OffsetRange;

/// Writes raw objects.
pub struct RawEncoder {
    encoding: Encoding,
    lane: LaneId,
    start: i64,
    next_offset: i64,
    digest: DigestBuilder,
    written: u64,
    /// Framed bytes that do not fill a frame yet. Unused without a codec, where frames cannot be told apart.
    frame: Vec<u8>,
    finished: bool,
}

impl fmt::Debug for RawEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawEncoder")
            .field("lane", &self.lane)
            .field("start", &self.start)
            .field("next_offset", &self.next_offset)
            .finish_non_exhaustive()
    }
}

impl RawEncoder {
    /// An encoder for the object of `lane` that starts at offset `start`.
    ///
    /// # Panics
    /// If `encoding` is not a raw encoding.
    pub fn new(encoding: Encoding, lane: LaneId, start: i64) -> Self {
        assert!(matches!(encoding.format, Format::Raw(_)), "the encoding is raw");
        Self { encoding, lane, start, next_offset: start, digest: DigestBuilder::new(), written: 0, frame: Vec::new(), finished: false }
    }

    fn put(&mut self, bytes: &[u8], out: &mut dyn ByteSink) {
        self.written += bytes.len() as u64;
        out.put(bytes);
    }

    fn append_framed(&mut self, mut bytes: &[u8], out: &mut dyn ByteSink) {
        if !self.frame.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(FRAME_BYTES - self.frame.len()));
            self.frame.extend_from_slice(now);
            bytes = later;
            if self.frame.len() == FRAME_BYTES {
                self.end_frame(out);
            }
        }
        while let Some((frame, later)) = bytes.split_at_checked(FRAME_BYTES) {
            compressed(self.encoding.codec, frame, |body| self.put(body, out));
            bytes = later;
        }
        if !bytes.is_empty() {
            self.frame.reserve_exact(FRAME_BYTES - self.frame.len());
            self.frame.extend_from_slice(bytes);
        }
    }

    fn end_frame(&mut self, out: &mut dyn ByteSink) {
        let frame = std::mem::take(&mut self.frame);
        compressed(self.encoding.codec, &frame, |body| self.put(body, out));
        self.frame = frame;
        self.frame.clear();
    }
}

impl SegmentEncoder for RawEncoder {
    fn append(&mut self, block: &Block, out: &mut dyn ByteSink) {
        assert!(!self.finished, "nothing is appended after the end");
        assert_eq!(block.layout(), self.encoding.value_layout(), "the block's layout is the encoding's");
        let (Some(first), Some(last)) = (block.offsets().first(), block.offsets().last()) else { return };
        assert!(*first >= self.next_offset, "offset {first} comes after {}", self.next_offset - 1);
        self.next_offset = last + 1;
        self.digest.push(block);
        if self.encoding.codec == Codec::None {
            self.put(block.values(), out);
        } else {
            self.append_framed(block.values(), out);
        }
    }

    fn finish(&mut self, end: i64, missing: &[Missing], out: &mut dyn ByteSink) -> Proof {
        assert!(!self.finished, "an object ends once");
        assert!(end >= self.next_offset, "an object that ends at {end} holds offset {}", self.next_offset - 1);
        self.finished = true;
        // An object without a value is one empty frame, not an empty object, which some decompressors call cut short.
        if self.encoding.codec != Codec::None && (!self.frame.is_empty() || self.written == 0) {
            self.end_frame(out);
        }
        Proof {
            lane: self.lane.clone(),
            range: OffsetRange::new(self.start, end),
            missing: missing.to_vec(),
            counts: self.digest.counts(),
            digest: self.digest.digest(),
            encoding: self.encoding.to_string(),
            size: Some(self.written),
        }
    }

    fn held_bytes(&self) -> usize {
        self.frame.capacity()
    }
}
