//! Records whose every byte is known: a record is a function of (seed, topic, partition, sequence) and a [`Profile`].
//!
//! Equal arguments give equal records on every machine, so that a failing run is repeated by its seed. A sequence number counts the
//! records *sent* to a partition, aborted ones included; which of them are visible, and at which offsets, only the broker
//! knows, and [`crate::oracle`] asks it.

mod producer;

pub use producer::{Codec, Filled, Outcome, Plan, RecordProducer, TokenSource, continue_fill, fill};

/// One record as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key, if any.
    pub key: Option<Vec<u8>>,
    /// The value, if any.
    pub value: Option<Vec<u8>>,
    /// Names and values in order; names repeat and need not be UTF-8, values may be null.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Milliseconds since 1970-01-01 UTC. Never 0: librdkafka takes that for "now".
    pub timestamp: i64,
}

/// What the records of a run look like. Shares are per mille of the records.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Null values (tombstones).
    pub null_values: u64,
    /// Values of no bytes.
    pub empty_values: u64,
    /// Values from 4 KiB to 64 KiB.
    pub large_values: u64,
    /// Values from 64 KiB to [`value_bytes_max`](Self::value_bytes_max), per million instead of per mille.
    pub huge_values_per_million: u64,
    /// The size of the largest value, in bytes.
    pub value_bytes_max: usize,
    /// Values of random bytes; the others are JSON text that compresses about four to one.
    pub binary_values: u64,
    /// Null keys.
    pub null_keys: u64,
    /// Keys of no bytes.
    pub empty_keys: u64,
    /// Records with one to four headers.
    pub headers: u64,
    /// Header names that are not UTF-8, out of a thousand names. Clients that decode names cannot read such records.
    pub strange_names: u64,
    /// Timestamps years before the others, in the year 34089, or -1. A broker of 4.x refuses the future ones unless the topic sets
    /// `message.timestamp.after.max.ms`.
    pub strange_timestamps: u64,
    /// The timestamp of sequence 0, in milliseconds.
    pub time_start: i64,
    /// From one record of a partition to the next, in microseconds.
    pub time_step_micros: u64,
}

impl Profile {
    /// Everything at once: nulls, empty, binary, 1 B to 2 MiB, headers of every kind, times past and far ahead. About 1 KB a record.
    pub fn mixed() -> Self {
        Self {
            null_values: 30,
            empty_values: 20,
            large_values: 12,
            huge_values_per_million: 250,
            value_bytes_max: 2 << 20,
            binary_values: 300,
            null_keys: 150,
            empty_keys: 30,
            headers: 400,
            strange_names: 20,
            strange_timestamps: 60,
            time_start: 1_700_000_000_000,
            time_step_micros: 20_000,
        }
    }

    /// Plain events: a key, a JSON value of up to 300 B, a header on some, times that rise. For tests about something else.
    pub fn plain() -> Self {
        Self {
            null_values: 0,
            empty_values: 0,
            large_values: 0,
            huge_values_per_million: 0,
            binary_values: 0,
            null_keys: 0,
            empty_keys: 0,
            headers: 100,
            strange_names: 0,
            strange_timestamps: 0,
            ..Self::mixed()
        }
    }

    /// The same profile with times from `start` (milliseconds) on, `step_micros` apart within a partition.
    pub fn with_times(mut self, start: i64, step_micros: u64) -> Self {
        self.time_start = start;
        self.time_step_micros = step_micros;
        self
    }

    /// The record at `sequence` of a partition.
    pub fn record(&self, seed: u64, topic: &str, partition: i32, sequence: u64) -> Record {
        let mut rng = Rng::of(seed, topic, partition, sequence);
        let identity = format!("{seed:x}/{topic}/{partition}/{sequence}");
        Record {
            timestamp: self.timestamp(&mut rng, sequence),
            key: self.key(&mut rng),
            headers: self.header_list(&mut rng, &identity),
            value: self.value(&mut rng, &identity),
        }
    }

    fn timestamp(&self, rng: &mut Rng, sequence: u64) -> i64 {
        let step = i64::try_from(sequence.saturating_mul(self.time_step_micros) / 1000).expect("a run ends before the year 292 million");
        let regular = self.time_start + step;
        if !rng.per_mille(self.strange_timestamps) {
            return regular;
        }
        match rng.below(10) {
            0 => -1,
            1 => 1,                               // the first that librdkafka does not replace by "now"
            2..=4 => 1_013_600_000_000_000,       // in the year 34089, as microseconds taken for milliseconds are
            5 => 253_402_300_799_999,             // the last millisecond of the year 9999
            _ => regular - 94_608_000_000 + step, // three years before
        }
    }

    fn key(&self, rng: &mut Rng) -> Option<Vec<u8>> {
        match rng.below(1000) {
            n if n < self.null_keys => None,
            n if n < self.null_keys + self.empty_keys => Some(Vec::new()),
            n if n % 4 == 0 => {
                let len = 1 + rng.below(40) as usize;
                Some(rng.bytes(len))
            }
            _ => Some(format!("user-{:08}", rng.below(50_000)).into_bytes()),
        }
    }

    fn header_list(&self, rng: &mut Rng, identity: &str) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        if !rng.per_mille(self.headers) {
            return Vec::new();
        }
        let mut list = vec![(b"id".to_vec(), Some(identity.as_bytes().to_vec()))];
        for _ in 0..rng.below(4) {
            let name = match rng.below(4) {
                // A name that is no UTF-8, without a NUL: clients in C end a name there.
                _ if rng.per_mille(self.strange_names) => vec![0xff, 0xfe, b'x', 0xc3],
                0 => b"trace".to_vec(), // twice in one list now and then
                1 => "schlüssel-键".as_bytes().to_vec(),
                2 => Vec::new(),
                _ => format!("h{}", rng.below(20)).into_bytes(),
            };
            let value = match rng.below(6) {
                0 => None,
                1 => Some(Vec::new()),
                _ => {
                    let len = 1 + rng.below(60) as usize;
                    Some(rng.bytes(len))
                }
            };
            list.push((name, value));
        }
        list
    }

    fn value(&self, rng: &mut Rng, identity: &str) -> Option<Vec<u8>> {
        match rng.below(1000) {
            n if n < self.null_values => return None,
            n if n < self.null_values + self.empty_values => return Some(Vec::new()),
            _ => {}
        }
        let len = self.value_len(rng);
        let mut value = Vec::with_capacity(len + 80);
        if rng.per_mille(self.binary_values) {
            value.extend_from_slice(identity.as_bytes());
            value.push(0);
            let rest = len.saturating_sub(value.len());
            rng.extend_bytes(&mut value, rest);
        } else {
            value.extend_from_slice(format!("{{\"id\":\"{identity}\",\"text\":\"").as_bytes());
            while value.len() + 2 < len {
                value.extend_from_slice(WORDS[rng.below(WORDS.len() as u64) as usize].as_bytes());
            }
            value.truncate(len.saturating_sub(2));
            value.extend_from_slice(b"\"}");
        }
        value.truncate(len);
        Some(value)
    }

    /// From 1 byte up; small ones often, and every size class as often as the profile says.
    fn value_len(&self, rng: &mut Rng) -> usize {
        let len = if rng.below(1_000_000) < self.huge_values_per_million {
            rng.log_between(64 << 10, self.value_bytes_max)
        } else if rng.per_mille(self.large_values) {
            rng.log_between(4 << 10, 64 << 10)
        } else if rng.per_mille(self.large_values * 20) {
            rng.log_between(300, 4 << 10)
        } else {
            1 + rng.below(300) as usize
        };
        len.min(self.value_bytes_max)
    }
}

const WORDS: &[&str] =
    &["catch ", "river ", "basin ", "rain ", "spring ", "delta ", "stream ", "gauge ", "level ", "flow ", "weir ", "键值 ", "lock ", "\\n"];

/// splitmix64: enough for test data, and the same everywhere for ever.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn of(seed: u64, topic: &str, partition: i32, sequence: u64) -> Self {
        let mut rng = Self(seed);
        for byte in topic.bytes() {
            rng.0 = rng.next_u64() ^ u64::from(byte);
        }
        rng.0 = rng.next_u64() ^ u64::from(partition.unsigned_abs());
        rng.0 = rng.next_u64() ^ sequence;
        rng
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `[0, 1)`.
    pub fn fraction(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    fn per_mille(&mut self, share: u64) -> bool {
        self.below(1000) < share
    }

    /// A size from `low` to `high`, each doubling as likely as the next.
    fn log_between(&mut self, low: usize, high: usize) -> usize {
        let doublings = (high / low).max(1).ilog2();
        let from = low << self.below(u64::from(doublings.max(1)));
        from + self.below(from as u64) as usize + 1
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        self.extend_bytes(&mut bytes, len);
        bytes
    }

    fn extend_bytes(&mut self, to: &mut Vec<u8>, len: usize) {
        let end = to.len() + len;
        while to.len() < end {
            let word = self.next_u64().to_le_bytes();
            let n = word.len().min(end - to.len());
            to.extend_from_slice(&word[..n]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_arguments_give_equal_records() {
        let profile = Profile::mixed();
        for sequence in 0..2000 {
            assert_eq!(profile.record(7, "t", 3, sequence), profile.record(7, "t", 3, sequence));
        }
        assert_ne!(profile.record(7, "t", 3, 1), profile.record(8, "t", 3, 1));
        assert_ne!(profile.record(7, "t", 3, 1).value, profile.record(7, "u", 3, 1).value);
    }

    #[test]
    fn the_mixture_holds_every_kind() {
        let records: Vec<_> = (0..20_000).map(|n| Profile::mixed().record(1, "t", 0, n)).collect();
        let has = |what: &str, test: fn(&Record) -> bool| assert!(records.iter().any(test), "no record with {what}");
        has("a null value", |r| r.value.is_none());
        has("an empty value", |r| r.value.as_ref().is_some_and(Vec::is_empty));
        has("a value of one byte", |r| r.value.as_ref().is_some_and(|v| v.len() == 1));
        has("a value over 512 KiB", |r| r.value.as_ref().is_some_and(|v| v.len() > 512 << 10));
        has("a null key", |r| r.key.is_none());
        has("an empty key", |r| r.key.as_ref().is_some_and(Vec::is_empty));
        has("no header", |r| r.headers.is_empty());
        has("a null header value", |r| r.headers.iter().any(|h| h.1.is_none()));
        has("a name twice", |r| r.headers.iter().filter(|h| h.0 == b"trace").count() > 1);
        has("a name that is not UTF-8", |r| r.headers.iter().any(|h| std::str::from_utf8(&h.0).is_err()));
        has("no time", |r| r.timestamp == -1);
        has("a time past the year 9999", |r| r.timestamp > 253_402_300_799_999);
        assert!(records.iter().all(|r| r.timestamp != 0), "0 would be replaced by the clock");
        assert!(records.iter().filter_map(|r| r.value.as_ref()).all(|v| v.len() <= 2 << 20));
        let mean = records.iter().filter_map(|r| r.value.as_ref()).map(Vec::len).sum::<usize>() / records.len();
        assert!((500..2000).contains(&mean), "a mixed record has {mean} bytes on average");
    }
}
