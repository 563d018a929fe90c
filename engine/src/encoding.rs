//! How the objects of a lane are encoded: as its rule says, or at the zstd level that its records choose.
//!
//! Place in the flow: a lane hands it to its runs, a reader puts it at the head of each window, and a builder asks it when the window's first block is there, before
//! a byte is encoded. Guarantee: a window has one encoding from its first byte to its last, and its proof and its intent name it. So whoever writes a pinned
//! window again takes it from the intent, and no record is asked. Not done here: the choice itself, which is [`LevelProbe`]'s.

use std::sync::{Arc, Mutex, PoisonError};

use catchment_formats::{Block, Codec, Encoding, LevelProbe, ValueLayout};

/// What a lane remembers of the level that its records have chosen.
pub type LevelMemory = Arc<Mutex<LevelProbe>>;

/// How the objects of a lane are encoded.
#[derive(Clone, Debug)]
pub struct LaneEncoding {
    encoding: Encoding,
    /// What chooses the level, if the rule leaves that to the records.
    memory: Option<LevelMemory>,
}

impl LaneEncoding {
    /// As a rule says: this one, or this one but for its zstd level, which the records choose.
    pub fn new(encoding: Encoding, auto_level: bool, memory: &LevelMemory) -> Self {
        Self { encoding, memory: auto_level.then(|| Arc::clone(memory)) }
    }

    /// This one, whatever the records are.
    pub fn fixed(encoding: Encoding) -> Self {
        Self { encoding, memory: None }
    }

    /// How blocks lay out their values. The level has no part in it.
    pub fn value_layout(&self) -> ValueLayout {
        self.encoding.value_layout()
    }

    /// The encoding of a window that begins with this block, or has no record.
    pub fn of_window(&self, first: Option<&Block>) -> Encoding {
        let Some(memory) = &self.memory else { return self.encoding };
        let mut probe = memory.lock().unwrap_or_else(PoisonError::into_inner);
        let level = match first {
            Some(block) => probe.level_for(block),
            None => probe.level(),
        };
        Encoding { codec: Codec::Zstd(level), ..self.encoding }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use catchment_formats::{HeadersView, RecordView, TimestampType};

    use super::*;

    /// Values that choose level 3: twenty documents that come again and again, each time changed a little.
    pub(crate) fn documents() -> impl Iterator<Item = Vec<u8>> {
        let originals: Vec<Vec<u8>> = (0..20).map(|n| (0..300).map(|at| letter(n * 300 + at)).collect()).collect();
        (0..1_500).map(move |n| {
            let mut document = originals[chance(n) as usize % 20].clone();
            for change in 0..30 {
                document[chance(n * 100 + change) as usize % 300] = letter(n * 100 + 50 + change);
            }
            document
        })
    }

    /// A record with this value and nothing else.
    pub(crate) fn record(offset: i64, value: &[u8]) -> RecordView<'_> {
        let (timestamp_type, headers) = (TimestampType::Create, HeadersView::default());
        RecordView { offset, timestamp: 0, timestamp_type, key: None, value: Some(value), headers }
    }

    fn block() -> Block {
        let mut block = Block::new(ValueLayout::Plain);
        (0..).zip(documents()).for_each(|(offset, value)| block.push(&record(offset, &value)));
        block
    }

    fn chance(number: u64) -> u64 {
        let z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 8
    }

    fn letter(number: u64) -> u8 {
        33 + (chance(number ^ 0x5eed_0000) % 90) as u8
    }

    #[test]
    fn an_encoding_that_is_fixed_asks_no_record() {
        for text in ["parquet.zstd1.v1", "raw.len32.zstd9.v1", "raw.newline.gzip6.v1", "raw.none.none.v1"] {
            let encoding: Encoding = text.parse().unwrap();
            let fixed = LaneEncoding::fixed(encoding);
            assert_eq!((fixed.of_window(Some(&block())), fixed.of_window(None)), (encoding, encoding));
            assert_eq!(fixed.value_layout(), encoding.value_layout());
        }
    }

    fn lane_of_fixed(memory: &LevelMemory) -> LaneEncoding {
        LaneEncoding::new(Encoding::PARQUET_ZSTD1, false, memory)
    }

    #[test]
    fn records_choose_the_level_and_nothing_else_and_the_lane_remembers_it() {
        let memory = LevelMemory::default();
        let lane = |text: &str| LaneEncoding::new(text.parse().unwrap(), true, &memory);
        assert_eq!(lane("parquet.zstd1.v1").of_window(None).to_string(), "parquet.zstd1.v1", "nothing has chosen yet");
        assert_eq!(lane("parquet.zstd1.v1").of_window(Some(&block())).to_string(), "parquet.zstd3.v1");
        assert_eq!(lane("raw.len32.zstd1.v1").of_window(None).to_string(), "raw.len32.zstd3.v1", "also of a later run");
        for other in [LaneEncoding::new(Encoding::PARQUET_ZSTD1, true, &LevelMemory::default()), lane_of_fixed(&memory)] {
            assert_eq!(other.of_window(None), Encoding::PARQUET_ZSTD1, "another lane, or a rule that leaves nothing to the records");
        }
    }
}
