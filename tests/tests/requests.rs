//! What a window costs in requests: one PUT below the multipart threshold, four and its parts above it.

use std::collections::BTreeMap;

use catchment_tests::bed::{Bed, Place};
use catchment_tests::s3::Op;
use catchment_tests::services::{Kafka, Minio};

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

#[test]
fn a_minio_counts_one_put_for_a_window_below_the_multipart_threshold_and_more_above() {
    let store = Minio::start_with_policy();
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::minio(&store));
    bed.fill(1000);
    bed.backup_all(&[]);
    bed.fill_large(400);
    bed.backup_all(&["--window", "1h", "--max-bytes", "80MiB"]);
    let Place::Minio(bucket, _) = &bed.place else { panic!("the bed stands on MinIO") };
    let (objects, writes) = (bucket.list(""), store.writes());
    let (mut single, mut multipart) = (0, 0);
    for (key, object) in objects.iter().filter(|(key, _)| !key.contains("_catchment/")) {
        // Create and Complete count, too.
        let parts: Option<u64> = object.etag.split_once('-').map(|(_, parts)| parts.parse().expect("a number of parts"));
        assert_eq!(writes[key], parts.map_or(1, |parts| parts + 2), "{key}, {object:?}");
        *(if parts.is_some() { &mut multipart } else { &mut single }) += 1;
    }
    assert!(single > 10 && multipart > 0, "{single} objects of one PUT, {multipart} of several parts");
    bed.assert_complete("counted");
}
