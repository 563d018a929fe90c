//! What every encoder keeps of its object: whose it is, where it stands, and what its proof will say.

use crate::block::Block;
use crate::digest::DigestBuilder;
use crate::encoder::{ByteSink, Encoding};
use crate::proof::{LaneId, Missing, Proof};
use crate::record::OffsetRange;

/// The object that is being written.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) encoding: Encoding,
    pub(crate) lane: LaneId,
    /// Bytes given to the sink.
    pub(crate) written: u64,
    start: i64,
    next_offset: i64,
    digest: DigestBuilder,
    finished: bool,
}

impl Object {
    pub(crate) fn new(encoding: Encoding, lane: LaneId, start: i64) -> Self {
        Self { encoding, lane, written: 0, start, next_offset: start, digest: DigestBuilder::new(), finished: false }
    }

    /// Takes note of a block. The asserts are the seam's contract: what breaks one would otherwise become a wrong object.
    pub(crate) fn accept(&mut self, block: &Block) {
        assert!(!self.finished, "nothing is appended after the end");
        assert_eq!(block.layout(), self.encoding.value_layout(), "the block's layout is the encoding's");
        let (Some(first), Some(last)) = (block.offsets().first(), block.offsets().last()) else { return };
        assert!(*first >= self.next_offset, "offset {first} where {} or more is due", self.next_offset);
        self.next_offset = last + 1;
        self.digest.push(block);
    }

    pub(crate) fn put(&mut self, bytes: &[u8], out: &mut dyn ByteSink) {
        self.written += bytes.len() as u64;
        out.put(bytes);
    }

    /// Ends the object; its proof lacks the size as yet.
    pub(crate) fn finish(&mut self, end: i64, missing: &[Missing]) -> Proof {
        assert!(!self.finished, "an object ends once");
        assert!(end >= self.next_offset, "an object that ends at {end} lacks offsets before {}", self.next_offset);
        self.finished = true;
        Proof {
            lane: self.lane.clone(),
            range: OffsetRange::new(self.start, end),
            missing: missing.to_vec(),
            counts: self.digest.counts(),
            digest: self.digest.digest(),
            encoding: self.encoding.to_string(),
            size: None,
        }
    }
}
