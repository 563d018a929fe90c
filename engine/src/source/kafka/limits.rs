//! How much the fetch queues may hold: a pure function of the reader's memory share and the number of partitions.
//!
//! librdkafka's thresholds say when a partition *stops* fetching, count value bytes only, and know nothing of the ~320 bytes that each
//! queued record costs beside them. So the share is split: one response in flight, then for each partition values, records, and
//! the slice by which a fetch may overshoot its threshold. Response and slice are counted as they are sent, compressed; their parts of the share are
//! divided by how far they are assumed to unfold.

/// Memory that librdkafka spends on one queued record beside its bytes (an op of 312 bytes, and its allocator's rounding).
/// Lower: the budget is broken by small records. Higher: queues of small records run dry.
pub(crate) const RECORD_COST: u64 = 320;

/// The least that responses are assumed to unfold. Less is seen with large records that are not compressed; but then a topic whose batches begin to
/// unfold would pass the budget before that is seen, and larger responses than these cost no less CPU.
pub const UNFOLDING_MIN: u64 = 8;

/// The most that responses are assumed to unfold, and what a start assumes. More is seen with values that are all alike, and then a response is a
/// batch or two, whatever is asked for.
pub const UNFOLDING_MAX: u64 = 1024;

/// Partitions whose statistics cost about 1 % of a core if they are made each millisecond.
const STATISTICS_PARTITIONS: u64 = 2;

/// The longest interval of statistics that librdkafka takes, ms.
const STATISTICS_MS_MAX: u64 = 86_400_000;

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
    /// Bytes of memory that a byte of a response is assumed to become.
    pub unfolding: u64,
    /// `statistics.interval.ms`, how often it is seen what they become.
    pub statistics_ms: u64,
}

impl FetchLimits {
    /// Splits `share` bytes over `partitions` open at a time, if each byte of a response becomes `unfolding` bytes of memory.
    ///
    /// The floors keep a partition moving when the share is absurdly small; then, and where a broker sends one batch larger than a
    /// slice (it always sends at least one), the share is exceeded.
    pub fn new(share: u64, partitions: u32, unfolding: u64) -> Self {
        let (partitions, unfolding) = (u64::from(partitions.max(1)), unfolding.clamp(UNFOLDING_MIN, UNFOLDING_MAX));
        // One response is one contiguous buffer: above 32 MiB one slow partition pins it all.
        let response = (share / 8).clamp(1 << 20, 64 << 20);
        let each = share.saturating_sub(response) / partitions;
        Self {
            queue_kib: (each / 2 / 1024).clamp(64, 2_000_000),
            queue_records: (each / 4 / RECORD_COST).clamp(64, 1_000_000),
            slice: (each / 8).clamp(64 << 10, 8 << 20) / unfolding,
            response: response / unfolding,
            unfolding,
            // A start asks for one batch at a time until it has seen some; what is read on changes slowly, if at all.
            statistics_ms: (if unfolding == UNFOLDING_MAX { 100 } else { 1_000 })
                .max(partitions / STATISTICS_PARTITIONS)
                .min(STATISTICS_MS_MAX),
        }
    }

    /// What the queues of `partitions` hold at most, bytes, where no single batch exceeds a slice, and nothing unfolds further than was assumed.
    pub fn bound(&self, partitions: u32) -> u64 {
        let each = self.queue_kib * 1024 + self.queue_records * RECORD_COST + 2 * self.slice * self.unfolding;
        self.response * self.unfolding + each * u64::from(partitions)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_common_case_reads_in_large_slices() {
        let limits = FetchLimits::new(128 << 20, 8, 2);
        assert_eq!(limits.response, 8 << 20);
        assert_eq!(limits.queue_kib, 7 << 10);
        assert!(limits.slice > 768 << 10, "{limits:?}");
        assert!(limits.queue_records > 10_000, "{limits:?}");
    }

    proptest! {
        #[test]
        fn the_share_is_kept_where_the_floors_do_not_bind(
            each in (512u64 << 10)..(64 << 20),
            partitions in 1u32..2_000,
            unfolding in UNFOLDING_MIN..=UNFOLDING_MAX,
        ) {
            // An eighth of the share at most is the response.
            let share = each * u64::from(partitions) * 8 / 7 + (2 << 20);
            let limits = FetchLimits::new(share, partitions, unfolding);
            prop_assert!(limits.bound(partitions) <= share, "{limits:?}");
        }

        #[test]
        fn values_are_in_librdkafkas_ranges(share in any::<u64>(), partitions in any::<u32>(), unfolding in any::<u64>()) {
            let limits = FetchLimits::new(share, partitions, unfolding);
            prop_assert!((1..=2_097_151).contains(&limits.queue_kib));
            prop_assert!((1..=10_000_000).contains(&limits.queue_records));
            prop_assert!((1..=1_000_000_000).contains(&limits.slice));
            prop_assert!(limits.slice <= 4 << 20 && (1_000..=32 << 20).contains(&limits.response));
            prop_assert!(limits.statistics_ms <= 86_400_000);
        }
    }
}
