//! The records of the cells: every kind of key, value and header, as a function of partition and number.

use crate::broker::batches::{Batch, Record};

/// Time of the first record: 2025-11-24T16:00:00Z.
pub(crate) const FIRST_MS: i64 = 1_764_000_000_000;

/// Milliseconds from one record to the next: a window of one second has 50 of them.
pub(crate) const STEP_MS: i64 = 20;

/// Records of a batch that is filled.
pub(crate) const BATCH_RECORDS: usize = 25;

/// The `n`-th record of a partition.
pub(crate) fn record(partition: i32, n: i64) -> Record {
    let mut random = fastrand::Rng::with_seed(u64::from(partition.unsigned_abs()) << 32 ^ n.unsigned_abs());
    let text = |random: &mut fastrand::Rng, max: usize| -> Vec<u8> {
        let len = random.usize(0..max);
        (0..len).map(|_| random.alphanumeric() as u8).collect()
    };
    let has_value = n % 11 != 7;
    // Never without both: in the old formats the client cannot tell such a record from one that it misreads.
    let key = (n % 3 != 0 || !has_value).then(|| text(&mut random, 20));
    let value = has_value.then(|| format!("{partition}/{n} ").into_bytes().into_iter().chain(text(&mut random, 150)).collect());
    let headers = match n % 4 {
        0 => vec![(b"trace".to_vec(), Some(text(&mut random, 16))), (b"trace".to_vec(), None)],
        1 => vec![(b"\xff\x00name".to_vec(), Some(Vec::new()))],
        _ => Vec::new(),
    };
    Record { timestamp: FIRST_MS + n * STEP_MS, key, value, headers }
}

/// The records from `first` on.
pub(crate) fn records(partition: i32, first: i64, count: usize) -> Vec<Record> {
    (first..).take(count).map(|n| record(partition, n)).collect()
}

/// A sound batch of the records from `first` on.
pub(crate) fn batch(partition: i32, first: i64, count: usize) -> Batch {
    Batch::of(records(partition, first, count))
}

/// A record of this many bytes that do not compress.
pub(crate) fn large_record(n: i64, bytes: usize) -> Record {
    let mut random = fastrand::Rng::with_seed(n.unsigned_abs());
    let mut value = vec![0; bytes];
    random.fill(&mut value);
    Record { timestamp: FIRST_MS + n * STEP_MS, value: Some(value), ..Record::default() }
}
