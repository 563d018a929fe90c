//! How a multipart upload is cut into parts.

use md5::{Digest as _, Md5};

use super::{Part, StoreLimits};
use crate::limits::{MULTIPART_BYTES_MIN, MULTIPART_BYTES_MIN_PRESSED};

/// Size of the first parts, in bytes. Smaller parts would cost more requests, larger ones memory: an upload holds a few of
/// them at a time.
pub const PART_BYTES: u64 = 16 << 20;

/// Parts of equal size before the next ones double. With 10,000 parts this reaches 12 TiB, beyond AWS's 5 TiB an object;
/// earlier doubling would cost memory for objects that never grow so large (the first 1,000 parts are 15.6 GiB).
const PARTS_BEFORE_DOUBLING: u32 = 1000;

/// Largest part: below every service's 5 GB.
const PART_BYTES_MAX: u64 = 4 << 30;

/// Size of part `number` (from 1), in bytes; the last part of an upload may be smaller.
pub fn part_bytes(number: u32, limits: &StoreLimits) -> u64 {
    let doublings = if limits.equal_parts { 0 } else { number.saturating_sub(1) / PARTS_BEFORE_DOUBLING };
    let grown = limits.part_bytes.checked_shl(doublings).filter(|bytes| *bytes <= PART_BYTES_MAX).unwrap_or(PART_BYTES_MAX);
    grown.clamp(limits.part_bytes_min.min(limits.put_bytes_max), limits.put_bytes_max)
}

/// Encoded bytes at which a window becomes a multipart upload: [`MULTIPART_BYTES_MIN`] where parts have their usual size.
pub fn upload_bytes_min(limits: &StoreLimits) -> u64 {
    MULTIPART_BYTES_MIN / PART_BYTES * limits.part_bytes
}

/// The same under memory pressure.
pub fn upload_bytes_min_pressed(limits: &StoreLimits) -> u64 {
    MULTIPART_BYTES_MIN_PRESSED / PART_BYTES * limits.part_bytes
}

/// The largest object that the parts can hold, in bytes.
pub fn object_bytes_max(limits: &StoreLimits) -> u64 {
    (1..=limits.parts_max).map(|number| part_bytes(number, limits)).fold(0, u64::saturating_add)
}

/// Whether the store makes an object of these parts as far as their sizes go: of parts of one size and a last one that may be smaller, or of any.
pub fn fit(parts: &[Part], limits: &StoreLimits) -> bool {
    let (Some(first), Some((last, others))) = (parts.first(), parts.split_last()) else { return true };
    !limits.equal_parts || (others.iter().all(|part| part.size == first.size) && last.size <= first.size)
}

/// The ETag of a completed upload as AWS, COS and MinIO form it: MD5 over the parts' MD5s, then `-` and their number.
///
/// None if a part's ETag is no MD5: then nothing is known. Where a bucket encrypts with its own keys, the ETag is not this
/// one either; so an equal ETag proves the content, and another one proves nothing.
pub fn multipart_etag(parts: &[Part]) -> Option<String> {
    let mut md5 = Md5::new();
    for part in parts {
        let digits = part.etag.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        for pair in digits.chunks(2) {
            let digit = |b: u8| (b as char).to_digit(16);
            md5.update([u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?]);
        }
    }
    let hex: String = md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{hex}-{}", parts.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(part_bytes_min: u64) -> StoreLimits {
        StoreLimits {
            part_bytes: PART_BYTES,
            part_bytes_min,
            parts_max: 10_000,
            equal_parts: false,
            put_bytes_max: 5_000_000_000,
            key_bytes_max: 1024,
            segment_bytes_max: 1024,
            metadata: true,
            multipart: true,
        }
    }

    fn parts_of(object: u64, limits: &StoreLimits) -> u32 {
        let mut left = object;
        (1..)
            .find(|number| {
                left = left.saturating_sub(part_bytes(*number, limits));
                left == 0
            })
            .unwrap()
    }

    proptest! {
        #[test]
        fn no_object_needs_too_many_parts(object in 1..=5_u64 << 40, part_bytes_min in prop::sample::select(vec![1, 1 << 20, 5 << 20])) {
            let limits = limits(part_bytes_min);
            prop_assert!(parts_of(object, &limits) <= limits.parts_max);
        }

        #[test]
        fn every_part_is_within_limits_and_parts_never_shrink(number in 1..10_000_u32, part_bytes_min in 1..=64_u64 << 20) {
            let limits = limits(part_bytes_min);
            let (this, next) = (part_bytes(number, &limits), part_bytes(number + 1, &limits));
            prop_assert!(this >= part_bytes_min && this <= limits.put_bytes_max && next >= this);
        }
    }

    #[test]
    fn the_largest_object_is_beyond_what_services_take() {
        assert!(object_bytes_max(&limits(5 << 20)) > 5 << 40);
        assert_eq!(part_bytes(1, &limits(1)), PART_BYTES);
        assert_eq!(part_bytes(1000, &limits(1)), PART_BYTES);
        assert_eq!(part_bytes(1001, &limits(1)), 2 * PART_BYTES);
    }

    /// Some stores (R2) complete an upload only if all its parts but the last are of one size.
    #[test]
    fn parts_are_of_one_size_up_to_fifteen_gibibytes() {
        let limits = limits(5 << 20);
        let equal = (1..).take_while(|number| part_bytes(*number, &limits) == PART_BYTES).count() as u64;
        assert!(equal * PART_BYTES >= 15 << 30, "{equal} parts");
    }

    #[test]
    fn a_store_of_equal_parts_gets_them_up_to_its_last_part() {
        let limits = StoreLimits { equal_parts: true, ..limits(5 << 20) };
        assert!((1..=limits.parts_max).all(|number| part_bytes(number, &limits) == PART_BYTES));
        assert_eq!(object_bytes_max(&limits), 10_000 * PART_BYTES);
    }

    #[test]
    fn parts_fit_a_store_of_equal_parts_if_only_the_last_is_smaller() {
        let parts = |sizes: &[u64]| sizes.iter().map(|size| Part { number: 1, size: *size, etag: String::new() }).collect::<Vec<_>>();
        let equal = StoreLimits { equal_parts: true, ..limits(1) };
        for (sizes, expected) in [
            (&[][..], true),
            (&[7], true),
            (&[7, 7], true),
            (&[7, 7, 3], true),
            (&[7, 8], false),
            (&[7, 14, 3], false),
            (&[7, 3, 7], false),
        ] {
            assert_eq!(fit(&parts(sizes), &equal), expected, "{sizes:?}");
            assert!(fit(&parts(sizes), &limits(1)));
        }
    }

    #[test]
    fn an_upload_begins_at_whole_parts() {
        let usual = limits(5 << 20);
        assert_eq!((upload_bytes_min(&usual), upload_bytes_min_pressed(&usual)), (MULTIPART_BYTES_MIN, MULTIPART_BYTES_MIN_PRESSED));
        let small = StoreLimits { part_bytes: 1000, ..limits(1) };
        assert_eq!((upload_bytes_min(&small), upload_bytes_min_pressed(&small), part_bytes(1, &small)), (4000, 1000, 1000));
    }

    #[test]
    fn etags_are_formed_as_aws_does() {
        let part = |etag: &str| Part { number: 1, size: 1, etag: etag.to_owned() };
        // MD5 of the 16 bytes of the MD5 of nothing.
        assert_eq!(multipart_etag(&[part("d41d8cd98f00b204e9800998ecf8427e")]).unwrap(), "59adb24ef3cdbe0297f05b395827453f-1");
        assert_eq!(multipart_etag(&[part("no-md5")]), None);
        assert_eq!(multipart_etag(&[part(&"g".repeat(32))]), None);
    }
}
