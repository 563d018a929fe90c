//! How much the fetch queues may hold: a pure function of the reader's memory share, the number of partitions, and how far batches unfold.
//!
//! librdkafka's thresholds say when a partition *stops* fetching, count value bytes only, and know nothing of the ~320 bytes that each
//! queued record costs beside them. So the share is split: one response in flight, then for each partition values, records, and
//! the slice by which a fetch may overshoot its threshold. Response and slice are counted as they are sent, compressed; their parts of the share are
//! divided by how far they are assumed to unfold.

use std::time::Duration;

/// Memory that librdkafka spends on one queued record beside its bytes (an op of 312 bytes, and its allocator's rounding).
/// Lower: the budget is broken by small records. Higher: queues of small records run dry.
pub(crate) const RECORD_COST: u64 = 320;

/// The least that responses are assumed to unfold. Less is seen with large records that are not compressed; but then a topic whose batches begin to
/// unfold would pass the budget before that is seen, and larger responses than these cost no less CPU.
pub const UNFOLDING_MIN: u64 = 8;

/// The most that responses are assumed to unfold, and what a start assumes. More is seen with values that are all alike, and then a response is a
/// batch or two, whatever is asked for.
pub const UNFOLDING_MAX: u64 = 1024;

/// A slice has room for this much of what does not unfold, divided like all else. Less than a batch, and a response holds one batch of one partition;
/// more, and each of many partitions overshoots by it a hundred times when batches begin to unfold.
const SLICE_UNFOLDED_MIN: u64 = 256 << 10;

/// The smallest slice: a batch of few records. More, and a start brings several batches of each partition before it is seen how far they unfold.
const SLICE_MIN: u64 = 256;

/// The smallest response that librdkafka asks for, with room to spare.
const RESPONSE_MIN: u64 = 2 << 10;

/// How often statistics are made, ms, while a start looks for its limits, and later. More often costs CPU, a hundredth of a core for each partition
/// and 10 us; less often is a longer start, or limits that follow later.
const STATISTICS_MS: (u64, u64) = (200, 1_000);

/// The longest interval of statistics that librdkafka takes, ms.
const STATISTICS_MS_MAX: u64 = 86_400_000;

/// How far batches are assumed to unfold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumed {
    /// Bytes of memory that a byte of a response becomes.
    pub unfolding: u64,
    /// How long less must be seen throughout before less is assumed. Zero at a start: then each sample decides.
    pub patience: Duration,
}

impl Assumed {
    /// Before anything was seen.
    pub const START: Self = Self { unfolding: UNFOLDING_MAX, patience: Duration::ZERO };
}

/// Limits of one reader client, in the units of the properties they become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// `queued.max.messages.kbytes`, KiB of values for each partition.
    pub queue_kib: u64,
    /// `queued.min.messages`, records for each partition.
    pub queue_records: u64,
    /// `fetch.message.max.bytes`, bytes of one partition in one response.
    pub slice: u64,
    /// `fetch.max.bytes`, bytes of one response.
    pub response: u64,
    /// `statistics.interval.ms`, how often it is seen what they become.
    pub statistics_ms: u64,
    /// What they rest on.
    pub assumed: Assumed,
}

impl FetchLimits {
    /// Splits `share` bytes over `partitions` open at a time.
    ///
    /// The floors keep a partition moving when the share is absurdly small; then, and where a broker sends one batch larger than a
    /// slice (it always sends at least one), the share is exceeded.
    pub fn new(share: u64, partitions: u32, assumed: Assumed) -> Self {
        let assumed = Assumed { unfolding: assumed.unfolding.clamp(UNFOLDING_MIN, UNFOLDING_MAX), ..assumed };
        let (partitions, unfolding) = (u64::from(partitions.max(1)), assumed.unfolding);
        // One response is one contiguous buffer, which the slowest of its partitions pins.
        let unfolded = (share / 8).clamp(1 << 20, 64 << 20);
        let response = (unfolded / unfolding).max(RESPONSE_MIN);
        let each = share.saturating_sub(unfolded) / partitions;
        let searching = assumed.patience.is_zero() && unfolding > UNFOLDING_MIN;
        Self {
            queue_kib: (each / 2 / 1024).clamp(64, 2_000_000),
            queue_records: (each / 4 / RECORD_COST).clamp(64, 1_000_000),
            slice: ((each / 8).clamp(SLICE_UNFOLDED_MIN, 8 << 20) / unfolding).max(SLICE_MIN).min(response),
            response: response.min(1_000_000_000),
            statistics_ms: (if searching { STATISTICS_MS.0 } else { STATISTICS_MS.1 }).max(partitions).min(STATISTICS_MS_MAX),
            assumed,
        }
    }

    /// Limits of a client that fetches nothing, and whose statistics nobody reads.
    pub fn idle() -> Self {
        Self { statistics_ms: 0, ..Self::new(0, 1, Assumed::START) }
    }

    /// What the queues of `partitions` hold at most, bytes, where no single batch exceeds a slice, nothing unfolds further than was assumed, and
    /// librdkafka keeps to the slice: it doubles a partition's whenever a response holds nothing that is visible, such as aborted batches alone.
    pub fn bound(&self, partitions: u32) -> u64 {
        let each = self.queue_kib * 1024 + self.queue_records * RECORD_COST + 2 * self.slice * self.assumed.unfolding;
        self.response * self.assumed.unfolding + each * u64::from(partitions)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{fetch_bytes_least as least, fetch_bytes_min as counted};

    fn limits(share: u64, partitions: u32, unfolding: u64) -> FetchLimits {
        FetchLimits::new(share, partitions, Assumed { unfolding, patience: Duration::from_secs(60) })
    }

    #[test]
    fn a_common_case_reads_in_large_slices() {
        let limits = limits(128 << 20, 8, 1);
        assert_eq!(limits.response, 2 << 20);
        assert_eq!(limits.queue_kib, 7 << 10);
        assert!(limits.slice > 200 << 10, "{limits:?}");
        assert!(limits.queue_records > 10_000, "{limits:?}");
    }

    #[test]
    fn slices_of_many_partitions_hold_a_usual_batch() {
        for partitions in [64, 2_000] {
            assert!(limits(85 << 20, partitions, 1).slice >= 32 << 10);
        }
    }

    #[test]
    fn statistics_are_rare_but_while_a_start_looks_for_its_limits() {
        let start = |partitions, unfolding| FetchLimits::new(85 << 20, partitions, Assumed { unfolding, ..Assumed::START }).statistics_ms;
        assert_eq!([start(64, 1024), limits(85 << 20, 64, 1024).statistics_ms, start(64, 8)], [200, 1_000, 1_000]);
        assert_eq!(start(5_000, 1024), 5_000);
    }

    #[test]
    fn the_least_that_a_rule_among_others_asks_for_becomes_no_more_than_is_counted_for_it() {
        for partitions in [1, 2, 8, 64, 500] {
            for unfolding in [UNFOLDING_MIN, 64, UNFOLDING_MAX] {
                let limits = limits(least(partitions), partitions, unfolding);
                assert!(limits.bound(partitions) <= counted(partitions) + RESPONSE_MIN * unfolding, "{partitions}: {limits:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_share_is_kept_where_the_floors_do_not_bind(
            each in (2u64 << 20)..(64 << 20),
            partitions in 1u32..2_000,
            unfolding in UNFOLDING_MIN..128,
        ) {
            // An eighth of the share at most is the response.
            let share = each * u64::from(partitions) * 8 / 7 + (2 << 20);
            let limits = limits(share, partitions, unfolding);
            prop_assert!(limits.bound(partitions) <= share, "{limits:?}");
        }

        #[test]
        fn values_are_in_librdkafkas_ranges(share in any::<u64>(), partitions in any::<u32>(), unfolding in any::<u64>()) {
            let limits = limits(share, partitions, unfolding);
            prop_assert!((1..=2_097_151).contains(&limits.queue_kib));
            prop_assert!((1..=10_000_000).contains(&limits.queue_records));
            prop_assert!((1..=1_000_000_000).contains(&limits.slice));
            prop_assert!((1_000..=1_000_000_000).contains(&limits.response));
            prop_assert!((1..=86_400_000).contains(&limits.statistics_ms));
        }
    }
}
