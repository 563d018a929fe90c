//! Placeholder until the encoder lands.
use crate::{Block, ByteSink, Encoding, LaneId, Missing, Proof, SegmentEncoder};
/// The encoder.
#[derive(Debug)]
pub struct RawEncoder;
impl RawEncoder {
    /// New.
    pub fn new(_e: Encoding, _l: LaneId, _s: i64) -> Self {
        Self
    }
}
impl SegmentEncoder for RawEncoder {
    fn append(&mut self, _b: &Block, _o: &mut dyn ByteSink) {
        unimplemented!()
    }
    fn finish(&mut self, _e: i64, _m: &[Missing], _o: &mut dyn ByteSink) -> Proof {
        unimplemented!()
    }
    fn held_bytes(&self) -> usize {
        0
    }
}
