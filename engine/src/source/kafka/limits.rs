//! How much the fetch queues may hold: a pure function of the reader's memory share and the number of partitions.
//!
//! librdkafka's thresholds say when a partition *stops* fetching, count value bytes only, and know nothing of the ~320 bytes that each
//! queued record costs beside them. So the share is split: one response in flight, then for each partition values, records, and
//! the slice by which a fetch may overshoot its threshold.

/// Memory that librdkafka spends on one queued record beside its bytes (an op of 312 bytes, and its allocator's rounding).
/// Lower: the budget is broken by small records. Higher: queues of small records run dry.
const RECORD_COST: u64 = 320;

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
}

impl FetchLimits {
    /// Splits `share` bytes over `partitions` open at a time.
    ///
    /// The floors keep a partition moving when the share is absurdly small; then, and where a broker sends one batch larger than a
    /// slice (it always sends at least one), the share is exceeded.
    pub fn new(share: u64, partitions: u32) -> Self {
        let partitions = u64::from(partitions.max(1));
        // One response is one contiguous buffer: below 1 MiB a request a batch, above 32 MiB one slow partition pins it all.
        let response = (share / 8).clamp(1 << 20, 32 << 20);
        let each = share.saturating_sub(response) / partitions;
        Self {
            queue_kib: (each / 2 / 1024).clamp(64, 2_000_000),
            queue_records: (each / 4 / RECORD_COST).clamp(64, 1_000_000),
            slice: (each / 8).clamp(64 << 10, 4 << 20),
            response,
        }
    }

    /// What the queues of `partitions` hold at most, bytes, where no single batch exceeds a slice.
    pub fn bound(&self, partitions: u32) -> u64 {
        let each = self.queue_kib * 1024 + self.queue_records * RECORD_COST + 2 * self.slice;
        self.response + each * u64::from(partitions)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_common_case_reads_in_large_slices() {
        let limits = FetchLimits::new(128 << 20, 8);
        assert_eq!(limits.response, 16 << 20);
        assert_eq!(limits.queue_kib, 7 << 10);
        assert!(limits.slice > 1 << 20, "{limits:?}");
        assert!(limits.queue_records > 10_000, "{limits:?}");
    }

    proptest! {
        #[test]
        fn the_share_is_kept_where_the_floors_do_not_bind(each in (512u64 << 10)..(64 << 20), partitions in 1u32..2_000) {
            // An eighth of the share at most is the response.
            let share = each * u64::from(partitions) * 8 / 7 + (2 << 20);
            let limits = FetchLimits::new(share, partitions);
            prop_assert!(limits.bound(partitions) <= share, "{limits:?}");
        }

        #[test]
        fn values_are_in_librdkafkas_ranges(share in any::<u64>(), partitions in any::<u32>()) {
            let limits = FetchLimits::new(share, partitions);
            prop_assert!((1..=2_097_151).contains(&limits.queue_kib));
            prop_assert!((1..=10_000_000).contains(&limits.queue_records));
            prop_assert!((1..=1_000_000_000).contains(&limits.slice));
            prop_assert!(limits.slice <= 4 << 20 && limits.response >= 1 << 20);
        }
    }
}
