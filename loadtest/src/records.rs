//! Records with realistic entropy: JSON events of about 100 B, 1 KB or 10 KB, a function of a seed.
//!
//! Place: the benches and the floor take [`Records`] as they are; [`Payloads`](crate::Payloads) puts a name and a sum in front of the same events, so
//! that a reader can check them.
//!
//! Guarantee: equal seeds and sizes make equal bytes, in every version: figures of different days are figures of the same work.

use std::fmt::{self, Write};

const WORDS: [&str; 24] = [
    "river", "basin", "rain", "delta", "stone", "bridge", "lake", "spring", "gauge", "flood", "valley", "weir", "mill", "reed", "ferry",
    "canal", "mouth", "source", "bank", "drift", "ridge", "fall", "stream", "pond",
];

/// Mixes a number into one that looks like chance: the end of splitmix64.
pub(crate) fn mix(number: u64) -> u64 {
    let z = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Makes records; equal seeds make equal records.
#[derive(Debug)]
pub struct Records {
    state: u64,
    sequence: u64,
    bytes: usize,
    text: String,
}

impl Records {
    /// Records of about `bytes` bytes each.
    pub fn new(seed: u64, bytes: usize) -> Self {
        Self { state: seed, sequence: 0, bytes, text: String::new() }
    }

    fn next(&mut self) -> u64 {
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// The next record's value.
    pub fn value(&mut self) -> &str {
        let id = self.sequence;
        self.sequence += 1;
        self.event(id, format_args!("{{\"id\":{id},"));
        &self.text
    }

    /// The value of a state, with a beginning of the caller's own in place of the number. It may be written into, but must keep its length.
    pub(crate) fn value_of(&mut self, state: u64, bytes: usize, id: u64, begin: fmt::Arguments<'_>) -> &mut String {
        (self.state, self.bytes) = (state, bytes);
        self.event(id, begin);
        &mut self.text
    }

    fn event(&mut self, id: u64, begin: fmt::Arguments<'_>) {
        let (user, session) = (self.next() % 5_000_000, self.next());
        self.text.clear();
        let (level, took) = (["info", "info", "info", "warn", "error"][(session % 5) as usize], session % 3000);
        write!(self.text, "{begin}\"user\":{user},\"level\":\"{level}\",\"ms\":{took},\"s\":\"{:08x}\"", session as u32)
            .expect("a string takes everything");
        if self.bytes > 200 {
            write!(self.text, ",\"session\":\"{session:016x}\",\"ip\":\"10.{}.{}.{}\",\"text\":\"", user % 250, took % 250, id % 250)
                .expect("a string takes everything");
            while self.text.len() + 10 < self.bytes {
                let n = self.next();
                // Small numbers often: words repeat as words do.
                let word = WORDS[((n % 24).min((n >> 8) % 24)) as usize];
                self.text.push_str(word);
                self.text.push(' ');
                if n.is_multiple_of(9) {
                    write!(self.text, "{} ", n >> 40 & 0xffff).expect("a string takes everything");
                }
            }
            self.text.push('"');
        }
        self.text.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these records were before anything else was made of them. A change would make figures of different days incomparable.
    #[test]
    fn equal_seeds_make_the_same_bytes_as_ever() {
        let mut records = Records::new(1, 100);
        let first = records.value().to_owned();
        assert!(first.starts_with("{\"id\":0,\"user\":") && first.ends_with("\"}"), "{first}");
        assert_ne!(records.value(), first);
        assert_eq!(Records::new(1, 100).value(), first);
        let sum = |bytes: usize| {
            let mut records = Records::new(1, bytes);
            (0..100).map(|_| records.value().bytes().fold(0_u64, |sum, b| mix(sum ^ u64::from(b)))).fold(0, u64::wrapping_add)
        };
        assert_eq!([sum(100), sum(1024), sum(10_240)], SUMS);
    }

    /// Of the first hundred records of seed 1, of 100 B, 1 KiB and 10 KiB.
    const SUMS: [u64; 3] = [0x31a5_4b33_1e15_2107, 0x4064_a4d4_bfcf_5d62, 0x3f3c_1cdf_a1a8_3edd];

    #[test]
    fn records_have_about_the_size_that_was_asked_for() {
        for bytes in [512, 1024, 10_240] {
            let mut records = Records::new(7, bytes);
            for _ in 0..1000 {
                let len = records.value().len();
                assert!(len + 12 >= bytes && len <= bytes + 12, "{len} of {bytes}");
            }
        }
    }
}
