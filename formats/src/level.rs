//! The zstd level of objects whose records choose it.
//!
//! Place in the flow: asked before an object's first byte is encoded, with the block that it begins with; the answer becomes part of the object's
//! [`Encoding`](crate::Encoding). Guarantee: an answer follows from the blocks that were asked about so far, by the sizes that their values are compressed to
//! and a table. No clock is read: equal records choose equally on every machine. Does not: look at keys and headers, of which most topics have little,
//! or say anything of an object that was begun; its encoding is known.

use crate::block::Block;
use crate::compress::compressed;
use crate::encoder::Codec;

/// Bytes of values that are compressed to choose. Up to 256 KiB zstd has other parameters than for a page of 1 MiB, so that fewer would say little of pages;
/// more cost time and say the same.
const SAMPLE_BYTES: usize = 384 << 10;

/// Fewer bytes of values choose nothing: there is little to save, and what a topic's values have in common does not show yet.
const SAMPLE_BYTES_MIN: usize = 16 << 10;

/// The levels that are tried, and what a compressed byte counts at each. Level 2 takes about 1.2 times as long as level 1 and level 3 up to twice as long: for that
/// they must be smaller by about 3 % and 5 %. Higher weights would leave bytes that cost little to save, lower ones would spend time on nothing.
const LEVELS: [(u8, usize); 3] = [(1, 100), (2, 103), (3, 105)];

/// The level of a lane's objects, as their first records choose it.
///
/// It is asked about the first block of each object, but compresses a sample only if none was compressed before, or one that was at most half as large. So
/// a lane tries levels a few times in its life, not with every object, and what little data has chosen does not stand for much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelProbe {
    level: u8,
    /// Bytes of the sample that has chosen it.
    sampled: usize,
}

impl Default for LevelProbe {
    /// The lowest level, chosen by nothing.
    fn default() -> Self {
        Self { level: LEVELS[0].0, sampled: 0 }
    }
}

impl LevelProbe {
    /// The level of an object that begins with this block.
    pub fn level_for(&mut self, first: &Block) -> u8 {
        let values = first.values();
        let sample = &values[..values.len().min(SAMPLE_BYTES)];
        let enough = (2 * self.sampled).clamp(SAMPLE_BYTES_MIN, SAMPLE_BYTES);
        if self.sampled < SAMPLE_BYTES && sample.len() >= enough {
            *self = Self { level: best_level(sample), sampled: sample.len() };
        }
        self.level
    }

    /// The level of an object without records.
    pub fn level(&self) -> u8 {
        self.level
    }
}

/// The level whose bytes count least; of equal ones the lowest.
fn best_level(sample: &[u8]) -> u8 {
    let best = LEVELS.iter().min_by_key(|(level, weight)| compressed(Codec::Zstd(*level), sample, <[u8]>::len) * weight);
    best.map_or(LEVELS[0].0, |(level, _)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::ValueLayout;
    use crate::testing::{Record, json};

    /// splitmix64.
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn below(&mut self, n: usize) -> usize {
            ((u128::from(self.next()) * n as u128) >> 64) as usize
        }

        fn letter(&mut self) -> u8 {
            33 + self.below(90) as u8
        }
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut chance = Chance(3);
        (0..len).map(|_| chance.next() as u8).collect()
    }

    /// Copies of so many documents of this length, each with a tenth of its letters changed.
    fn documents(number: usize, length: usize, len: usize) -> Vec<u8> {
        let mut chance = Chance(2);
        let originals: Vec<Vec<u8>> = (0..number).map(|_| (0..length).map(|_| chance.letter()).collect()).collect();
        let mut out = Vec::with_capacity(len + length);
        while out.len() < len {
            let mut document = originals[chance.below(number)].clone();
            for _ in 0..length / 10 {
                let letter = chance.letter();
                document[chance.below(length)] = letter;
            }
            out.append(&mut document);
        }
        out.truncate(len);
        out
    }

    /// Documents that level 2 makes smallest, and level 3.
    fn best_at_2(len: usize) -> Vec<u8> {
        documents(1_000, 200, len)
    }

    fn best_at_3(len: usize) -> Vec<u8> {
        documents(20, 300, len)
    }

    fn block(values: &[u8]) -> Block {
        let mut block = Block::new(ValueLayout::Bare);
        Record::of(0, values).push_to(&mut block);
        block
    }

    fn chosen_by(values: &[u8]) -> u8 {
        LevelProbe::default().level_for(&block(values))
    }

    #[test]
    fn a_higher_level_is_chosen_where_its_bytes_pay_for_it() {
        assert_eq!(chosen_by(&noise(400_000)), 1, "no level does anything");
        assert_eq!(chosen_by(&json(1, 400_000)), 1, "2 % do not pay for level 3");
        assert_eq!(chosen_by(&best_at_2(400_000)), 2);
        assert_eq!(chosen_by(&best_at_3(400_000)), 3);
    }

    #[test]
    fn the_first_values_choose_whatever_follows() {
        let sample = best_at_3(SAMPLE_BYTES);
        for rest in [Vec::new(), noise(1), noise(SAMPLE_BYTES), best_at_2(2 * SAMPLE_BYTES)] {
            assert_eq!(chosen_by(&[sample.clone(), rest].concat()), 3);
        }
    }

    #[test]
    fn little_chooses_nothing_and_twice_as_much_chooses_again() {
        let mut probe = LevelProbe::default();
        let mut asked = |values: Vec<u8>| (probe.level_for(&block(&values)), probe.level());
        assert_eq!(asked(best_at_3(SAMPLE_BYTES_MIN - 1)), (1, 1));
        assert_eq!(asked(best_at_3(64 << 10)), (3, 3));
        assert_eq!(asked(noise((128 << 10) - 1)), (3, 3), "less than twice as much is not asked");
        assert_eq!(asked(noise(128 << 10)), (1, 1));
        assert_eq!(asked(best_at_2(500_000)), (2, 2));
        assert_eq!(asked(best_at_3(1 << 20)), (2, 2), "a whole sample has chosen for good");
    }
}
