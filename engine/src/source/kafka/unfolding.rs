//! How far fetch responses unfold: what a byte on the wire costs in memory once librdkafka has made records of it.
//!
//! librdkafka's limits of a response count its bytes as they are sent, compressed, and a queue that is too full stops a partition only after the whole
//! response was unfolded. Equal values in zstd batches unfold to a thousand times their bytes, so no fixed limit fits: it is either a request for each
//! batch, or many times the budget. A reader client therefore begins with limits for the worst case, and is replaced by one with other limits when
//! its statistics show what the topics hold ([`fetching`](super::fetching)).
//!
//! Pure, but for a lock. It does not see which partition unfolds how far: the limits are those of the mean, with a margin. What is no data counts as
//! data that takes no memory, so the mean may come out too low: less is assumed in steps, each of which is looked at before the next.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::limits::{Assumed, FetchLimits, RECORD_COST, UNFOLDING_MAX, UNFOLDING_MIN};

/// Bytes received that are enough to judge by. Fewer, and a batch or two decide.
const SAMPLE_BYTES: u64 = 256 << 10;

/// Bytes of memory that are enough to judge by, whatever was received for them.
const SAMPLE_UNFOLDED: u64 = 8 << 20;

/// A sample says something if its records take this part of its bytes, as a divisor. Less is what idle partitions are answered. More would take many
/// partitions for idle that are behind and get their small batches one by one: much of such a response is frame.
const DATA_SHARE: u64 = 256;

/// How much less is assumed at a time.
const STEP: u64 = 8;

/// How long everything must have unfolded much less than was assumed before larger responses are asked for. Shorter: a topic that varies makes
/// clients come and go. Longer: more requests than needed, for longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the totals stand in the statistics: the last bytes of them.
const TOTALS_BYTES: usize = 1024;

/// What a client has received since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes of responses of any kind, as they were sent.
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
        Some(Self { bytes: number("rx_bytes")?, records: number("rxmsgs")?, record_bytes: number("rxmsg_bytes")? })
    }

    /// What came since `earlier`; none if a total has shrunk, as they do when a partition is closed.
    fn since(&self, earlier: &Self) -> Option<Self> {
        Some(Self {
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
pub(crate) struct Unfolding(Mutex<(Watch, Option<Assumed>)>);

impl Unfolding {
    /// Watches a client with these limits.
    pub(crate) fn new(limits: &FetchLimits) -> Self {
        Self(Mutex::new((Watch::new(limits.assumed), None)))
    }

    /// Takes note of a client's totals, `at` this time after it was made. Whether there is a verdict.
    pub(crate) fn note(&self, received: Received, at: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.0.observe(received, at) {
            Sample::Undecided => {}
            Sample::Keep => state.1 = None,
            Sample::Assume(assumed) => state.1 = Some(assumed),
        }
        state.1.is_some()
    }

    /// What the next client should assume, if this one should be replaced.
    pub(crate) fn verdict(&self) -> Option<Assumed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Sample {
    /// It says nothing, or not yet.
    Undecided,
    /// What is assumed will do.
    Keep,
    Assume(Assumed),
}

#[derive(Debug)]
struct Watch {
    assumed: Assumed,
    mark: Received,
    /// The most that any sample called for since then.
    peak: u64,
    since: Option<Duration>,
}

impl Watch {
    fn new(assumed: Assumed) -> Self {
        Self { assumed, mark: Received::default(), peak: UNFOLDING_MIN, since: None }
    }

    fn observe(&mut self, received: Received, at: Duration) -> Sample {
        let Some(sample) = received.since(&self.mark) else {
            self.mark = received;
            return Sample::Undecided;
        };
        if sample.bytes < SAMPLE_BYTES && sample.unfolded() < SAMPLE_UNFOLDED {
            return Sample::Undecided;
        }
        self.mark = received;
        let unfolding = sample.unfolded().div_ceil(sample.bytes.max(1)).max(1);
        // Twice as much as was seen: partitions differ, and so do the batches of one.
        let wanted = (2 * unfolding).checked_next_power_of_two().unwrap_or(u64::MAX).clamp(UNFOLDING_MIN, UNFOLDING_MAX);
        if unfolding > self.assumed.unfolding && wanted > self.assumed.unfolding {
            return Sample::Assume(Assumed { unfolding: wanted, at_once: false });
        }
        if sample.unfolded() * DATA_SHARE < sample.bytes {
            return Sample::Undecided;
        }
        if self.assumed.at_once { self.search(wanted) } else { self.outwait(wanted, at) }
    }

    /// At a start: a step is taken as soon as a sample allows it, until one does not.
    fn search(&mut self, wanted: u64) -> Sample {
        if wanted >= self.assumed.unfolding {
            self.assumed.at_once = false;
            return Sample::Keep;
        }
        Sample::Assume(Assumed { unfolding: wanted.max(self.assumed.unfolding / STEP), at_once: true })
    }

    /// Later: a step is taken after a time in which all samples would have allowed it.
    fn outwait(&mut self, wanted: u64, at: Duration) -> Sample {
        let since = *self.since.get_or_insert(at);
        self.peak = self.peak.max(wanted);
        if at.saturating_sub(since) < PATIENCE {
            return Sample::Keep;
        }
        self.since = Some(at);
        let peak = std::mem::replace(&mut self.peak, UNFOLDING_MIN);
        match peak <= self.assumed.unfolding / 4 {
            true => Sample::Assume(Assumed { unfolding: peak.max(self.assumed.unfolding / STEP), at_once: false }),
            false => Sample::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn watch(unfolding: u64) -> Watch {
        Watch::new(Assumed { unfolding, at_once: false })
    }

    /// Totals after `bytes` more that have unfolded `times`.
    fn after(before: Received, bytes: u64, times: u64) -> Received {
        Received { bytes: before.bytes + bytes, record_bytes: before.record_bytes + bytes * times, ..before }
    }

    fn first(bytes: u64, times: u64) -> Received {
        after(Received::default(), bytes, times)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn assume(unfolding: u64, at_once: bool) -> Sample {
        Sample::Assume(Assumed { unfolding, at_once })
    }

    #[test]
    fn the_totals_are_those_at_the_end() {
        let json = br#"{"brokers":{"a":{"rx":7,"rx_bytes":9}},"topics":{"t":{"partitions":{"0":{"rxmsgs":3,"rxbytes":5}}}}, "tx":2, "tx_bytes":80, "rx":12, "rx_bytes":3456, "txmsgs":0, "txmsg_bytes":0, "rxmsgs":78, "rxmsg_bytes":901}"#;
        assert_eq!(Received::of_statistics(json), Some(Received { bytes: 3456, records: 78, record_bytes: 901 }));
        assert_eq!(Received::of_statistics(b"{}"), None);
    }

    #[test]
    fn a_start_assumes_less_step_by_step() {
        let mut watch = Watch::new(Assumed::START);
        assert_eq!(watch.observe(first(MIB / 8, 3), at(0)), Sample::Undecided, "too little to judge by");
        assert_eq!(watch.observe(first(MIB, 3), at(0)), assume(128, true));
        assert_eq!(Watch::new(Assumed { unfolding: 128, at_once: true }).observe(first(MIB, 3), at(0)), assume(16, true));
        assert_eq!(Watch::new(Assumed { unfolding: 16, at_once: true }).observe(first(MIB, 3), at(0)), assume(8, true));
        assert_eq!(Watch::new(Assumed { unfolding: 8, at_once: true }).observe(first(MIB, 3), at(0)), Sample::Keep);
    }

    #[test]
    fn a_start_that_has_come_to_a_sample_of_its_kind_waits_from_then_on() {
        let mut watch = Watch::new(Assumed { unfolding: 128, at_once: true });
        assert_eq!(watch.observe(first(MIB, 60), at(0)), Sample::Keep);
        assert_eq!(watch.observe(after(first(MIB, 60), MIB, 1), at(1)), Sample::Keep);
    }

    #[test]
    fn small_records_count_what_librdkafka_adds_to_them() {
        let mut watch = Watch::new(Assumed { unfolding: 64, at_once: true });
        let sample = Received { bytes: 10 * MIB, records: 100_000, record_bytes: 10 * MIB };
        assert_eq!(watch.observe(sample, at(0)), assume(16, true), "10 MiB of records and 32 MB beside them");
    }

    #[test]
    fn more_than_assumed_makes_the_responses_smaller_at_once() {
        let mut watch = watch(8);
        assert_eq!(watch.observe(first(MIB, 8), at(0)), Sample::Keep);
        assert_eq!(watch.observe(after(first(MIB, 8), MIB / 8, 100), at(1)), assume(256, false));
    }

    #[test]
    fn an_unfolding_beyond_all_limits_is_lived_with() {
        assert_eq!(Watch::new(Assumed::START).observe(first(MIB, 5_000), at(0)), Sample::Keep);
    }

    #[test]
    fn less_than_assumed_makes_them_larger_when_it_lasts() {
        let mut watch = watch(256);
        let mut received = Received::default();
        for second in 0..60 {
            received = after(received, MIB, 10);
            assert_eq!(watch.observe(received, at(second)), Sample::Keep, "{second}");
        }
        assert_eq!(watch.observe(after(received, MIB, 10), at(60)), assume(32, false));
    }

    #[test]
    fn one_sample_that_unfolds_keeps_them_small_for_another_minute() {
        let mut watch = watch(256);
        let mut received = Received::default();
        for second in 0..=60 {
            received = after(received, MIB, if second == 30 { 100 } else { 10 });
            assert_eq!(watch.observe(received, at(second)), Sample::Keep, "{second}");
        }
    }

    #[test]
    fn answers_to_idle_partitions_say_nothing() {
        let idle = Received { bytes: 4 * MIB, records: 10, record_bytes: 1_000 };
        assert_eq!(Watch::new(Assumed::START).observe(idle, at(0)), Sample::Undecided);
    }

    #[test]
    fn single_records_of_many_partitions_are_data_although_most_of_it_is_frame() {
        let single = Received { bytes: 1_000 * 9_000, records: 1_000 * 3, record_bytes: 1_000 * 3 * 600 };
        assert_eq!(Watch::new(Assumed::START).observe(single, at(0)), assume(128, true));
    }

    #[test]
    fn totals_that_shrink_begin_anew() {
        let mut watch = Watch::new(Assumed::START);
        let before = Received { bytes: 1_000, records: 1_000, record_bytes: 1 << 30 };
        assert_eq!(watch.observe(before, at(0)), Sample::Keep);
        let closed = Received { record_bytes: 0, ..before };
        assert_eq!(watch.observe(closed, at(1)), Sample::Undecided);
        assert_eq!(watch.observe(after(closed, MIB, 200), at(2)), Sample::Keep);
    }

    #[test]
    fn a_verdict_is_withdrawn_by_a_sample_that_contradicts_it() {
        let unfolding = Unfolding::new(&FetchLimits::new(64 * MIB, 4, Assumed::START));
        assert!(unfolding.note(first(MIB, 3), at(0)));
        assert_eq!(unfolding.verdict(), Some(Assumed { unfolding: 128, at_once: true }));
        assert!(!unfolding.note(after(first(MIB, 3), MIB, 900), at(1)));
        assert_eq!(unfolding.verdict(), None);
    }
}
