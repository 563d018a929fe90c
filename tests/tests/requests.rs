//! What a window costs in requests: one PUT below the multipart threshold, four and its parts above it.

use std::collections::BTreeMap;

use catchment_tests::bed::{Bed, Place};
use catchment_tests::s3::Op;
use catchment_tests::services::Kafka;

/// Requests by operation and key, less control objects and listings.
fn by_key(bed: &Bed) -> BTreeMap<String, Vec<Op>> {
    let mut requests = BTreeMap::<String, Vec<Op>>::new();
    for logged in bed.place.server().state().log().into_iter().filter(|l| !l.key.contains("_catchment/") && !l.key.is_empty()) {
        requests.entry(logged.key).or_default().push(logged.op);
    }
    requests
}

#[test]
fn a_window_below_the_multipart_threshold_costs_one_put() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::in_process());
    bed.fill(1000);
    bed.backup_all(&[]);
    let objects = bed.place.data_keys("");
    let requests = by_key(&bed);
    assert!(objects.len() > 10, "windows of a second: {objects:?}");
    let looked_at: usize = requests.values().map(|ops| ops.iter().filter(|op| **op == Op::HeadObject).count()).sum();
    assert_eq!(looked_at, 2, "the first key of each lane, once");
    for key in &objects {
        let writes: Vec<_> = requests[key].iter().filter(|op| !matches!(op, Op::HeadObject | Op::ListMultipartUploads)).collect();
        assert_eq!(writes, [&Op::PutObject], "{key}");
    }
    bed.assert_complete("counted");
}
