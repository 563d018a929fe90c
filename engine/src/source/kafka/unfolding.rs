//! How far fetch responses unfold: what a byte on the wire costs in memory once librdkafka has made records of it.
//!
//! librdkafka's limits of a response count its bytes as they are sent, compressed, and a queue that is too full stops a partition only after the whole
//! response was unfolded. Equal values in zstd batches unfold to a thousand times their bytes, so no fixed limit fits: it is either a request for each
//! batch, or many times the budget. A reader client therefore begins with limits for the worst case, and is replaced by one with other limits when
//! its statistics show what the topics hold ([`fetching`](super::fetching)).
//!
//! Pure, but for a lock. It does not see which partition unfolds how far: the limits are those of the mean, with a margin.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::limits::{FetchLimits, RECORD_COST, UNFOLDING_MAX, UNFOLDING_MIN};

/// Bytes received that are enough to judge by. Fewer, and the answers to other requests than fetches weigh.
const SAMPLE_BYTES: u64 = 256 << 10;

/// Bytes of memory that are enough to judge by, whatever was received for them.
const SAMPLE_UNFOLDED: u64 = 8 << 20;

/// How long everything must have unfolded much less than was assumed before larger responses are asked for. Shorter: a topic that varies makes
/// clients come and go. Longer: more requests than needed, for longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the totals stand in the statistics: the last bytes of them.
const TOTALS_BYTES: usize = 1024;

/// What a client has received since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Responses of any kind.
    pub(crate) responses: u64,
    /// Their bytes on the wire.
    pub(crate) bytes: u64,
    /// Records made of them.
    pub(crate) records: u64,
    /// The bytes of these records.
    pub(crate) record_bytes: u64,
}

impl Received {
    /// Reads the totals that end librdkafka's statistics; none if they are not there.
    pub(crate) fn of_statistics(json: &[u8]) -> Option<Self> {
        let tail = String::from_utf8_lossy(&json[json.len().saturating_sub(TOTALS_BYTES)..]);
        let number = |name: &str| {
            let (_, value) = tail.rsplit_once(&format!("\"{name}\":"))?;
            value.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        Some(Self {
            responses: number("rx")?,
            bytes: number("rx_bytes")?,
            records: number("rxmsgs")?,
            record_bytes: number("rxmsg_bytes")?,
        })
    }

    /// What came since `earlier`; none if a total has shrunk, as they do when a partition is closed.
    fn since(&self, earlier: &Self) -> Option<Self> {
        Some(Self {
            responses: self.responses.checked_sub(earlier.responses)?,
            bytes: self.bytes.checked_sub(earlier.bytes)?,
            records: self.records.checked_sub(earlier.records)?,
            record_bytes: self.record_bytes.checked_sub(earlier.record_bytes)?,
        })
    }

    fn unfolded(&self) -> u64 {
        self.record_bytes + self.records * RECORD_COST
    }
}

/// Watches one reader client, and says when it should be replaced.
#[derive(Debug)]
pub(crate) struct Unfolding {
    watch: Mutex<Watch>,
    /// What the next client should assume; 0: this one will do.
    verdict: AtomicU64,
}

impl Unfolding {
    /// Watches a client with these limits.
    pub(crate) fn new(limits: &FetchLimits) -> Self {
        Self { watch: Mutex::new(Watch::new(limits)), verdict: AtomicU64::new(0) }
    }

    /// Takes note of a client's totals, `at` this time after some fixed moment.
    pub(crate) fn note(&self, received: Received, at: Duration) {
        let verdict = self.watch.lock().unwrap_or_else(PoisonError::into_inner).observe(received, at);
        if let Some(unfolding) = verdict {
            self.verdict.store(unfolding, Ordering::Release);
        }
    }

    /// Whether the client should be replaced. One atomic load: the consumers ask before each batch.
    pub(crate) fn has_verdict(&self) -> bool {
        self.verdict.load(Ordering::Acquire) != 0
    }

    /// What the next client should assume. Told once.
    pub(crate) fn take_verdict(&self) -> Option<u64> {
        Some(self.verdict.swap(0, Ordering::AcqRel)).filter(|&unfolding| unfolding != 0)
    }
}

#[derive(Debug)]
struct Watch {
    assumed: u64,
    response: u64,
    mark: Received,
    /// The most that any sample since then called for.
    peak: u64,
    since: Duration,
}

impl Watch {
    fn new(limits: &FetchLimits) -> Self {
        Self { assumed: limits.unfolding, response: limits.response, mark: Received::default(), peak: UNFOLDING_MIN, since: Duration::ZERO }
    }

    fn observe(&mut self, received: Received, at: Duration) -> Option<u64> {
        let Some(sample) = received.since(&self.mark) else {
            self.mark = received;
            return None;
        };
        if sample.bytes < SAMPLE_BYTES && sample.unfolded() < SAMPLE_UNFOLDED {
            return None;
        }
        self.mark = received;
        let unfolding = sample.unfolded().div_ceil(sample.bytes.max(1)).max(1);
        // Twice as much as was seen: partitions differ, and so do the batches of one.
        let wanted = (2 * unfolding).checked_next_power_of_two().unwrap_or(u64::MAX).clamp(UNFOLDING_MIN, UNFOLDING_MAX);
        if unfolding > self.assumed {
            return Some(wanted).filter(|&wanted| wanted > self.assumed);
        }
        // Responses that are nearly empty are mostly frame: they do not tell how far a full one unfolds.
        if sample.bytes / sample.responses.max(1) < self.response / 4 {
            return None;
        }
        self.widen(wanted, at)
    }

    /// Larger responses: at once behind the limits that a start has, else after a time in which much less was seen throughout.
    fn widen(&mut self, wanted: u64, at: Duration) -> Option<u64> {
        if self.assumed == UNFOLDING_MAX {
            return Some(wanted).filter(|&wanted| wanted < self.assumed);
        }
        if self.since.is_zero() {
            self.since = at;
        }
        self.peak = self.peak.max(wanted);
        if at.saturating_sub(self.since) < PATIENCE {
            return None;
        }
        self.since = at;
        let peak = std::mem::replace(&mut self.peak, UNFOLDING_MIN);
        Some(peak).filter(|&peak| peak <= self.assumed / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: u64 = 64 << 20;

    fn limits(unfolding: u64) -> FetchLimits {
        FetchLimits::new(SHARE, 4, unfolding)
    }

    /// Totals after `responses` full responses more whose bytes unfold `times`.
    fn after(before: Received, limits: &FetchLimits, responses: u64, times: u64) -> Received {
        let bytes = responses * limits.response;
        Received {
            responses: before.responses + responses,
            bytes: before.bytes + bytes,
            record_bytes: before.record_bytes + bytes * times,
            ..before
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000 + seconds)
    }

    #[test]
    fn the_totals_are_those_at_the_end() {
        let json = br#"{"brokers":{"a":{"rx":7,"rxbytes":9}},"topics":{"t":{"partitions":{"0":{"rxmsgs":3,"rxbytes":5}}}}, "tx":2, "tx_bytes":80, "rx":12, "rx_bytes":3456, "txmsgs":0, "txmsg_bytes":0, "rxmsgs":78, "rxmsg_bytes":901}"#;
        assert_eq!(Received::of_statistics(json), Some(Received { responses: 12, bytes: 3456, records: 78, record_bytes: 901 }));
        assert_eq!(Received::of_statistics(b"{}"), None);
    }

    #[test]
    fn a_start_asks_for_larger_responses_after_its_first_sample() {
        let limits = limits(UNFOLDING_MAX);
        let unfolding = Unfolding::new(&limits);
        unfolding.note(after(Received::default(), &limits, 1, 3), at(0));
        assert!(!unfolding.has_verdict(), "one small response is no sample");
        unfolding.note(after(Received::default(), &limits, 100, 3), at(1));
        assert!(unfolding.has_verdict());
        assert_eq!((unfolding.take_verdict(), unfolding.take_verdict()), (Some(8), None));
    }

    #[test]
    fn small_records_count_what_librdkafka_adds_to_them() {
        let mut watch = Watch::new(&limits(UNFOLDING_MAX));
        let sample = Received { responses: 100, bytes: 10 << 20, records: 100_000, record_bytes: 10 << 20 };
        assert_eq!(watch.observe(sample, at(0)), Some(16), "10 MiB of records and 32 MB beside them");
    }

    #[test]
    fn more_than_assumed_makes_the_responses_smaller_at_once() {
        let limits = limits(4);
        let mut watch = Watch::new(&limits);
        let usual = after(Received::default(), &limits, 8, 3);
        assert_eq!(watch.observe(usual, at(0)), None);
        assert_eq!(watch.observe(after(usual, &limits, 1, 100), at(1)), Some(256));
    }

    #[test]
    fn an_unfolding_beyond_all_limits_is_lived_with() {
        let limits = limits(UNFOLDING_MAX);
        let mut watch = Watch::new(&limits);
        assert_eq!(watch.observe(after(Received::default(), &limits, 100, 5_000), at(0)), None);
    }

    #[test]
    fn less_than_assumed_makes_them_larger_when_it_lasts() {
        let limits = limits(256);
        let mut watch = Watch::new(&limits);
        let mut received = Received::default();
        for second in 0..60 {
            received = after(received, &limits, 8, 10);
            assert_eq!(watch.observe(received, at(second)), None, "{second}");
        }
        received = after(received, &limits, 8, 10);
        assert_eq!(watch.observe(received, at(60)), Some(32));
    }

    #[test]
    fn one_sample_that_unfolds_keeps_them_small_for_another_minute() {
        let limits = limits(256);
        let mut watch = Watch::new(&limits);
        let mut received = Received::default();
        for second in 0..=60 {
            received = after(received, &limits, 8, if second == 30 { 100 } else { 10 });
            assert_eq!(watch.observe(received, at(second)), None, "{second}");
        }
    }

    #[test]
    fn nearly_empty_responses_say_nothing() {
        let limits = limits(UNFOLDING_MAX);
        let mut watch = Watch::new(&limits);
        let sample = Received { responses: 10_000, bytes: 1 << 20, records: 10, record_bytes: 1_000 };
        assert_eq!(watch.observe(sample, at(0)), None);
    }

    #[test]
    fn totals_that_shrink_begin_anew() {
        let limits = limits(UNFOLDING_MAX);
        let mut watch = Watch::new(&limits);
        let before = Received { responses: 1_000, bytes: 1_000, records: 1_000, record_bytes: 1 << 30 };
        assert!(watch.observe(before, at(0)).is_none());
        let closed = Received { record_bytes: 0, ..before };
        assert_eq!(watch.observe(closed, at(1)), None);
        assert_eq!(watch.observe(after(closed, &limits, 100, 2), at(2)), Some(4));
    }
}
