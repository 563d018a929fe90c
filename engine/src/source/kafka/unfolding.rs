//! How far fetch responses unfold: what a byte on the wire costs in memory once librdkafka has made records of it.
//!
//! librdkafka's limits of a response count its bytes as they are sent, compressed, and a queue that is too full stops a partition only after the whole
//! response was unfolded. Equal values in zstd batches unfold to a thousand times their bytes, so no fixed limit fits: it is either a request for each
//! batch, or many times the budget. A reader client therefore begins with limits for the worst case, and is replaced by one with other limits when
//! its statistics show what the topics hold ([`fetching`](super::fetching)).
//!
//! Pure, but for a lock. It does not see which partition unfolds how far: the limits are those of the mean, with a margin. Nor does it see what part of
//! a response is frame: that is estimated, so the mean may come out too low. Therefore less is assumed in steps, each of which is looked at before
//! the next, and one that proves wrong is not taken again for twice as long as before.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::limits::{Assumed, FetchLimits, RECORD_COST, UNFOLDING_MAX, UNFOLDING_MIN};

/// Bytes received that are enough to judge by. Fewer, and a batch or two decide.
const SAMPLE_BYTES: u64 = 256 << 10;

/// Bytes of memory that are enough to judge by, whatever was received for them.
const SAMPLE_UNFOLDED: u64 = 8 << 20;

/// What a response spends on each partition that is asked for, and on itself, in bytes: an upper bound, since with several brokers each answers for its
/// own partitions.
const FRAME_BYTES: (u64, u64) = (40, 100);

/// A sample says something if this much of it is data for certain, in bytes. Records that were aborted are: nothing of them shows.
const DATA_BYTES: u64 = SAMPLE_BYTES / 4;

/// It also does if its records take this part of its bytes, as a divisor: many partitions that are behind and get their small batches one by one, so
/// that nearly all is frame. Less is what idle partitions are answered.
const DATA_SHARE: u64 = 256;

/// No less than this part of a sample is taken for data, as a divisor: the frame may be less than was estimated.
const DATA_SHARE_MIN: u64 = 8;

/// How much less is assumed at a time.
const STEP: u64 = 8;

/// How long everything must have unfolded much less than was assumed before larger responses are asked for; twice as long each time that more was seen
/// than assumed, up to the second. Shorter: a topic that varies makes clients come and go. Longer: more requests than needed, for longer.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

/// Where the totals stand in the statistics: the last bytes of them.
const TOTALS_BYTES: usize = 1024;

/// What a client has received since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Responses of any kind.
    pub(crate) responses: u64,
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
pub(crate) struct Unfolding(Mutex<(Watch, Option<Assumed>)>);

impl Unfolding {
    /// Watches a client with these limits, for so many partitions.
    pub(crate) fn new(limits: &FetchLimits, partitions: u32) -> Self {
        Self(Mutex::new((Watch::new(limits.assumed, partitions), None)))
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
    /// What a response is estimated to hold beside data, bytes.
    frame: u64,
    mark: Received,
    /// The most that any sample called for since then.
    peak: u64,
    since: Option<Duration>,
}

impl Watch {
    fn new(assumed: Assumed, partitions: u32) -> Self {
        let frame = u64::from(partitions) * FRAME_BYTES.0 + FRAME_BYTES.1;
        Self { assumed, frame, mark: Received::default(), peak: UNFOLDING_MIN, since: None }
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
        let certain = sample.bytes.saturating_sub(sample.responses * self.frame);
        let data = certain.max(sample.bytes / DATA_SHARE_MIN).max(1);
        let unfolding = sample.unfolded().div_ceil(data).max(1);
        // Twice as much as was seen: partitions differ, and so do the batches of one.
        let wanted = (2 * unfolding).checked_next_power_of_two().unwrap_or(u64::MAX).clamp(UNFOLDING_MIN, UNFOLDING_MAX);
        if unfolding > self.assumed.unfolding && wanted > self.assumed.unfolding {
            let patience = (2 * self.assumed.patience).clamp(PATIENCE.0, PATIENCE.1);
            return Sample::Assume(Assumed { unfolding: wanted, patience });
        }
        if certain < DATA_BYTES && sample.unfolded() * DATA_SHARE < sample.bytes {
            return Sample::Undecided;
        }
        if self.assumed.patience.is_zero() { self.search(wanted) } else { self.outwait(wanted, at) }
    }

    /// At a start: a step is taken as soon as a sample allows it, until what is assumed is what is wanted.
    fn search(&self, wanted: u64) -> Sample {
        let unfolding = wanted.max(self.assumed.unfolding / STEP).min(self.assumed.unfolding);
        let patience = if wanted >= unfolding { PATIENCE.0 } else { Duration::ZERO };
        Sample::Assume(Assumed { unfolding, patience })
    }

    /// Later: a step is taken after a time in which all samples would have allowed it.
    fn outwait(&mut self, wanted: u64, at: Duration) -> Sample {
        let since = *self.since.get_or_insert(at);
        self.peak = self.peak.max(wanted);
        if at.saturating_sub(since) < self.assumed.patience {
            return Sample::Keep;
        }
        self.since = Some(at);
        let peak = std::mem::replace(&mut self.peak, UNFOLDING_MIN);
        match peak <= self.assumed.unfolding / 4 {
            true => Sample::Assume(Assumed { unfolding: peak.max(self.assumed.unfolding / STEP), ..self.assumed }),
            false => Sample::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    const MINUTE: Duration = PATIENCE.0;

    fn watch(unfolding: u64) -> Watch {
        Watch::new(Assumed { unfolding, patience: MINUTE }, 8)
    }

    fn start(unfolding: u64) -> Watch {
        Watch::new(Assumed { unfolding, ..Assumed::START }, 8)
    }

    /// Totals after `bytes` more that have unfolded `times`, in one large response.
    fn after(before: Received, bytes: u64, times: u64) -> Received {
        Received { bytes: before.bytes + bytes, record_bytes: before.record_bytes + bytes * times, ..before }
    }

    fn first(bytes: u64, times: u64) -> Received {
        after(Received::default(), bytes, times)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn assume(unfolding: u64, patience: Duration) -> Sample {
        Sample::Assume(Assumed { unfolding, patience })
    }

    /// So many responses of so many partitions with one batch of `bytes` that unfolds `times`; a single record each.
    fn single_batches(responses: u64, partitions: u64, bytes: u64, times: u64) -> Received {
        Received { responses, bytes: responses * (partitions * 37 + bytes), records: responses, record_bytes: responses * bytes * times }
    }

    #[test]
    fn the_totals_are_those_at_the_end() {
        let json = br#"{"brokers":{"a":{"rx":7,"rx_bytes":9}},"topics":{"t":{"partitions":{"0":{"rxmsgs":3,"rxbytes":5}}}}, "tx":2, "tx_bytes":80, "rx":12, "rx_bytes":3456, "txmsgs":0, "txmsg_bytes":0, "rxmsgs":78, "rxmsg_bytes":901}"#;
        assert_eq!(Received::of_statistics(json), Some(Received { responses: 12, bytes: 3456, records: 78, record_bytes: 901 }));
        assert_eq!(Received::of_statistics(b"{}"), None);
    }

    #[test]
    fn a_start_assumes_less_step_by_step() {
        assert_eq!(start(1024).observe(first(MIB / 8, 3), at(0)), Sample::Undecided, "too little to judge by");
        assert_eq!(start(1024).observe(first(MIB, 3), at(0)), assume(128, Duration::ZERO));
        assert_eq!(start(128).observe(first(MIB, 3), at(0)), assume(16, Duration::ZERO));
        assert_eq!(start(16).observe(first(MIB, 3), at(0)), assume(8, MINUTE));
        assert_eq!(start(128).observe(first(MIB, 16), at(0)), assume(32, MINUTE), "this is what is wanted");
        assert_eq!(start(1024).observe(first(MIB, 900), at(0)), assume(1024, MINUTE), "so is this");
    }

    #[test]
    fn small_records_count_what_librdkafka_adds_to_them() {
        let sample = Received { responses: 10, bytes: 10 * MIB, records: 100_000, record_bytes: 10 * MIB };
        assert_eq!(start(64).observe(sample, at(0)), assume(16, MINUTE), "10 MiB of records and 32 MB beside them");
    }

    #[test]
    fn more_than_assumed_makes_the_responses_smaller_at_once_and_for_twice_as_long_each_time() {
        let mut watch = watch(8);
        assert_eq!(watch.observe(first(MIB, 8), at(0)), Sample::Keep);
        assert_eq!(watch.observe(after(first(MIB, 8), MIB / 8, 100), at(1)), assume(256, 2 * MINUTE));
        let mut later = Watch::new(Assumed { unfolding: 8, patience: 2 * MINUTE }, 8);
        assert_eq!(later.observe(first(MIB, 100), at(0)), assume(256, 4 * MINUTE));
        let mut at_last = Watch::new(Assumed { unfolding: 8, patience: PATIENCE.1 }, 8);
        assert_eq!(at_last.observe(first(MIB, 100), at(0)), assume(256, PATIENCE.1));
        assert_eq!(start(128).observe(first(MIB, 200), at(0)), assume(512, MINUTE));
    }

    #[test]
    fn an_unfolding_beyond_all_limits_is_lived_with() {
        assert_eq!(watch(UNFOLDING_MAX).observe(first(MIB, 5_000), at(0)), Sample::Keep);
    }

    #[test]
    fn less_than_assumed_makes_them_larger_when_it_lasts() {
        let mut watch = watch(256);
        let mut received = Received::default();
        for second in 0..60 {
            received = after(received, MIB, 10);
            assert_eq!(watch.observe(received, at(second)), Sample::Keep, "{second}");
        }
        assert_eq!(watch.observe(after(received, MIB, 10), at(60)), assume(32, MINUTE));
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
        let idle = Received { records: 10, record_bytes: 1_000, ..single_batches(10_000, 8, 0, 0) };
        assert!(idle.bytes > SAMPLE_BYTES);
        assert_eq!(start(1024).observe(Received { records: 10, ..idle }, at(0)), Sample::Undecided);
    }

    #[test]
    fn aborted_records_are_data_of_which_nothing_shows() {
        let aborted = Received { records: 0, record_bytes: 0, ..single_batches(20, 8, 16 << 10, 0) };
        assert_eq!(start(1024).observe(aborted, at(0)), assume(128, Duration::ZERO));
    }

    #[test]
    fn single_records_of_many_partitions_are_data_although_most_of_it_is_frame() {
        for partitions in [64, 200, 2_000] {
            let mut watch = Watch::new(Assumed::START, u32::try_from(partitions).unwrap());
            assert_eq!(watch.observe(single_batches(1_000, partitions, 300, 1), at(0)), assume(128, Duration::ZERO), "{partitions}");
        }
    }

    #[test]
    fn the_frame_does_not_hide_how_far_single_batches_unfold() {
        for partitions in [8, 64, 200] {
            let mut watch = Watch::new(Assumed::START, u32::try_from(partitions).unwrap());
            let sample = watch.observe(single_batches(1_000, partitions, 1_000, 1_000), at(0));
            assert!(matches!(sample, Sample::Assume(Assumed { unfolding: 1024, .. })), "{partitions}: {sample:?}");
        }
    }

    #[test]
    fn totals_that_shrink_begin_anew() {
        let mut watch = watch(UNFOLDING_MAX);
        let before = Received { responses: 1, bytes: 1_000, records: 1_000, record_bytes: 1 << 30 };
        assert_eq!(watch.observe(before, at(0)), Sample::Keep);
        let closed = Received { record_bytes: 0, ..before };
        assert_eq!(watch.observe(closed, at(1)), Sample::Undecided);
        assert_eq!(watch.observe(after(closed, MIB, 200), at(2)), Sample::Keep);
    }

    #[test]
    fn a_verdict_is_revised_by_a_sample_that_contradicts_it() {
        let unfolding = Unfolding::new(&FetchLimits::new(64 * MIB, 4, Assumed::START), 4);
        assert!(unfolding.note(first(MIB, 3), at(0)));
        assert_eq!(unfolding.verdict(), Some(Assumed { unfolding: 128, patience: Duration::ZERO }));
        assert!(unfolding.note(after(first(MIB, 3), MIB, 900), at(1)));
        assert_eq!(unfolding.verdict(), Some(Assumed { unfolding: 1024, patience: MINUTE }));
    }
}
