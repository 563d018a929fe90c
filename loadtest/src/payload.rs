//! Values that verify themselves: each says which record it is and carries a sum over all of its bytes.
//!
//! `{"id":"SEED.PARTITION.SEQUENCEc","crc":"SUM",...` and then the same event as [`Records`] makes. SEED has 16 hex digits, SUM eight: CRC-32C of the
//! whole value with eight zeros in its own place. The letter behind the sequence number says what its producer is going to do with it: `c` commit it,
//! `a` abort it. Whoever has only the value can so say whether it is whole, which one it is, and whether it may be there at all.
//!
//! Guarantee: a value is a function of seed, partition, sequence number, fate and the sizes that were asked for; a bit that is flipped is found for
//! sure, anything else but for one time in four thousand millions.
//!
//! Not done here: it cannot be seen from one value that others are missing; [`Audit`](crate::audit::Audit) counts.

use std::str::FromStr;

use crc_fast::{CrcAlgorithm, Digest};

use crate::records::{Records, mix};
use crate::units::Size;

const BEGIN: &[u8] = b"{\"id\":\"";
const BEFORE_SUM: &[u8] = b"\",\"crc\":\"";
const SUM_DIGITS: usize = 8;
const NO_SUM: &[u8; SUM_DIGITS] = b"00000000";

/// Longest text between the quotes of `id`: seed, partition, sequence number, letter and two dots.
const ID_BYTES_MAX: usize = 16 + 1 + 10 + 1 + 20 + 1;

/// Smallest size that can be asked for; name, sum and a small event take about that much.
pub const VALUE_BYTES_MIN: u64 = 100;

/// Largest size that can be asked for. Brokers refuse more than 1 MiB unless they are told otherwise.
pub const VALUE_BYTES_MAX: u64 = 64 << 20;

/// About how many bytes values have: one size, or any between two, each as likely as the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

impl Sizes {
    fn pick(self, chance: u64) -> usize {
        let bytes = self.min + chance % (self.max - self.min + 1);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.min == self.max {
            true => write!(f, "{}", Size(self.min)),
            false => write!(f, "{}..{}", Size(self.min), Size(self.max)),
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let (min, max) = (min.parse::<Size>()?.0, max.parse::<Size>()?.0);
        if min > max {
            return Err(format!("{text:?} runs backwards: write the smaller size first"));
        }
        if min < VALUE_BYTES_MIN || max > VALUE_BYTES_MAX {
            return Err(format!("a record has from {VALUE_BYTES_MIN} bytes to {}", Size(VALUE_BYTES_MAX)));
        }
        Ok(Self { min, max })
    }
}

/// Which record a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Of the production; each has its own.
    pub seed: u64,
    /// The partition that it was sent to.
    pub partition: i32,
    /// Its number within that partition, from 0.
    pub sequence: u64,
    /// Whether it belongs to a transaction that is aborted.
    pub is_aborted: bool,
}

/// Why a value is no record of a load test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWhole {
    /// It does not begin like one: somebody else's.
    Foreign,
    /// It begins like one and is not what was sent.
    Damaged,
}

impl Payload {
    /// Which record a value is, from the value alone.
    ///
    /// # Errors
    /// If it is none of a load test, or not as it was sent.
    pub fn read(value: &[u8]) -> Result<Self, NotWhole> {
        let rest = value.strip_prefix(BEGIN).ok_or(NotWhole::Foreign)?;
        Self::read_named(value, rest).ok_or(NotWhole::Damaged)
    }

    /// `rest` is what stands behind [`BEGIN`].
    fn read_named(value: &[u8], rest: &[u8]) -> Option<Self> {
        let id_bytes = rest.iter().take(ID_BYTES_MAX + 1).position(|byte| *byte == b'"')?;
        let sum_at = BEGIN.len() + id_bytes + BEFORE_SUM.len();
        let (head, tail) = value.split_at_checked(sum_at)?;
        let (found, tail) = tail.split_at_checked(SUM_DIGITS)?;
        let is_whole = head.ends_with(BEFORE_SUM) && found == hex(sum(head, tail));
        is_whole.then(|| Self::of_id(std::str::from_utf8(&rest[..id_bytes]).ok()?)).flatten()
    }

    fn of_id(id: &str) -> Option<Self> {
        let mut words = id.splitn(3, '.');
        let (seed, partition, last) = (words.next()?, words.next()?, words.next()?);
        let (sequence, is_aborted) = match last.strip_suffix('c') {
            Some(sequence) => (sequence, false),
            None => (last.strip_suffix('a')?, true),
        };
        let seed = u64::from_str_radix(seed, 16).ok()?;
        Some(Self { seed, partition: partition.parse().ok()?, sequence: sequence.parse().ok()?, is_aborted })
    }
}

/// The sum of a value that is cut in two around its own place.
fn sum(head: &[u8], tail: &[u8]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(head);
    digest.update(NO_SUM);
    digest.update(tail);
    digest.finalize()
}

fn hex(sum: u64) -> [u8; SUM_DIGITS] {
    std::array::from_fn(|at| b"0123456789abcdef"[(sum >> (4 * (SUM_DIGITS - 1 - at)) & 15) as usize])
}

/// Makes the values of one production.
#[derive(Debug)]
pub struct Payloads {
    seed: u64,
    sizes: Sizes,
    records: Records,
}

impl Payloads {
    /// Those of a seed.
    pub fn new(seed: u64, sizes: Sizes) -> Self {
        Self { seed, sizes, records: Records::new(seed, 0) }
    }

    /// The value of a record.
    pub fn value(&mut self, partition: i32, sequence: u64, is_aborted: bool) -> &str {
        let place = u64::from(partition.unsigned_abs()).wrapping_mul(0xd1b5_4a32_d192_ed03);
        let state = mix(self.seed ^ mix(place ^ sequence));
        let (bytes, seed, fate) = (self.sizes.pick(mix(state)), self.seed, if is_aborted { 'a' } else { 'c' });
        let text = self.records.value_of(
            state,
            bytes,
            sequence,
            format_args!("{{\"id\":\"{seed:016x}.{partition}.{sequence}{fate}\",\"crc\":\"00000000\","),
        );
        let at = text.find("\"crc\":\"").map_or(0, |at| at + BEFORE_SUM.len() - 2);
        let digits = hex(sum(&text.as_bytes()[..at], &text.as_bytes()[at + SUM_DIGITS..]));
        text.replace_range(at..at + SUM_DIGITS, std::str::from_utf8(&digits).expect("digits are ASCII"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: Sizes = Sizes { min: 1024, max: 1024 };

    #[test]
    fn a_value_says_which_record_it_is() {
        let mut payloads = Payloads::new(0xfeed, Sizes { min: 100, max: 5000 });
        for (partition, sequence, is_aborted) in [(0, 0, false), (7, 41, true), (i32::MAX, u64::MAX, false)] {
            let value = payloads.value(partition, sequence, is_aborted).to_owned();
            let expected = Payload { seed: 0xfeed, partition, sequence, is_aborted };
            assert_eq!(Payload::read(value.as_bytes()), Ok(expected), "{value}");
            let json: serde_json::Value = serde_json::from_str(&value).expect("a value is JSON");
            assert!(json["user"].is_u64() && json["level"].is_string(), "{value}");
            assert_eq!(payloads.value(partition, sequence, is_aborted), value, "a value is a function of its place");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_missing_byte_is_found() {
        let value = Payloads::new(3, Sizes { min: 300, max: 300 }).value(2, 9, false).as_bytes().to_vec();
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut damaged = value.clone();
                damaged[at] ^= 1 << bit;
                assert!(Payload::read(&damaged).is_err(), "byte {at}, bit {bit}");
            }
            assert!(Payload::read(&value[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(Payload::read(&[&value[..], b" "].concat()), Err(NotWhole::Damaged));
        assert_eq!(Payload::read(&[&value[..40], &value[41..]].concat()), Err(NotWhole::Damaged));
    }

    #[test]
    fn what_others_wrote_is_foreign() {
        for other in [&b""[..], b"{}", b"plain text", Records::new(1, 1024).value().as_bytes()] {
            assert_eq!(Payload::read(other), Err(NotWhole::Foreign));
        }
        assert_eq!(Payload::read(b"{\"id\":\"7\"}"), Err(NotWhole::Damaged), "it begins like one");
    }

    #[test]
    fn sizes_are_kept_and_spread_over_their_range() {
        let mut payloads = Payloads::new(1, KIB);
        assert!((0..1000).all(|n| payloads.value(0, n, false).len().abs_diff(1024) <= 12));
        let mut payloads = Payloads::new(1, Sizes { min: 300, max: 2300 });
        let sizes: Vec<usize> = (0..2000).map(|n| payloads.value(0, n, false).len()).collect();
        let (least, most) = (sizes.iter().min().expect("sizes"), sizes.iter().max().expect("sizes"));
        assert!(*least >= 288 && *least < 400 && *most > 2200 && *most <= 2312, "{least} to {most}");
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!(mean.abs_diff(1300) < 60, "{mean}");
    }

    #[test]
    fn sizes_parse_as_one_or_as_a_range() {
        assert_eq!("1KiB".parse(), Ok(KIB));
        assert_eq!("200..10KiB".parse(), Ok(Sizes { min: 200, max: 10_240 }));
        assert_eq!(Sizes { min: 200, max: 10_240 }.to_string(), "200B..10KiB");
        for wrong in ["", "12", "99", "2KiB..1KiB", "100..1GiB", "a..b", "..", "1KiB.."] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }
}
