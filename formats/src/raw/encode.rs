//! The encoder: cuts the framed bytes into frames of one size and compresses each by itself.

use super::FRAME_BYTES;
use crate::block::Block;
use crate::compress::compressed;
use crate::encoder::{ByteSink, Codec, Encoding, Format, SegmentEncoder};
use crate::object::Object;
use crate::proof::{LaneId, Missing, Proof};

/// Writes raw objects.
#[derive(Debug)]
pub struct RawEncoder {
    object: Object,
    /// Framed bytes that do not fill a frame yet. Unused without a codec, where frames cannot be told apart.
    frame: Vec<u8>,
}

impl RawEncoder {
    /// An encoder for the object of `lane` that starts at offset `start`.
    ///
    /// # Panics
    /// If `encoding` is not a raw encoding.
    pub fn new(encoding: Encoding, lane: LaneId, start: i64) -> Self {
        assert!(matches!(encoding.format, Format::Raw(_)), "the encoding is raw");
        Self { object: Object::new(encoding, lane, start), frame: Vec::new() }
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
            compressed(self.object.encoding.codec, frame, |body| self.object.put(body, out));
            bytes = later;
        }
        if !bytes.is_empty() {
            self.frame.reserve_exact(FRAME_BYTES - self.frame.len());
            self.frame.extend_from_slice(bytes);
        }
    }

    fn end_frame(&mut self, out: &mut dyn ByteSink) {
        let frame = std::mem::take(&mut self.frame);
        compressed(self.object.encoding.codec, &frame, |body| self.object.put(body, out));
        self.frame = frame;
        self.frame.clear();
    }
}

impl SegmentEncoder for RawEncoder {
    fn append(&mut self, block: &Block, out: &mut dyn ByteSink) {
        self.object.accept(block);
        if self.object.encoding.codec == Codec::None {
            self.object.put(block.values(), out);
        } else {
            self.append_framed(block.values(), out);
        }
    }

    fn finish(&mut self, end: i64, missing: &[Missing], out: &mut dyn ByteSink) -> Proof {
        let proof = self.object.finish(end, missing);
        // An object without a value is one empty frame, not an empty object, which some decompressors call cut short.
        if self.object.encoding.codec != Codec::None && (!self.frame.is_empty() || self.object.written == 0) {
            self.end_frame(out);
        }
        Proof { size: Some(self.object.written), ..proof }
    }

    fn held_bytes(&self) -> usize {
        self.frame.capacity()
    }
}
