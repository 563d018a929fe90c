//! Buckets with rules of their own: object lock, which keeps every version for a day, and parts of one size only.
//!
//! Object lock is that of a real MinIO. Parts of one size are what the S3 server in this process insists on, in the words of R2; the program with crash points has
//! parts so small that a thousand of them are soon sent.

use catchment_tests::bed::{Bed, Place, RUN_LIMIT, unique};
use catchment_tests::bucket::Bucket;
use catchment_tests::process::{Program, crashing_binary};
use catchment_tests::s3::{Config, Op, Personality};
use catchment_tests::services::{Kafka, Minio};

/// The size of a part; after a thousand of them it doubles, unless all must be of one size.
const PART_BYTES: usize = 4_096;

/// A bed whose bucket is locked.
fn locked_bed() -> Bed {
    let minio = Minio::shared();
    let place = Place::Minio(Bucket::create_locked(minio, &unique("locked")), minio.environment());
    Bed::new(Kafka::shared().bootstrap(), 1, place)
}

fn bucket(bed: &Bed) -> &Bucket {
    match &bed.place {
        Place::Minio(bucket, _) => bucket,
        Place::InProcess(..) => panic!("the bed stands on MinIO"),
    }
}

/// Row S14: single PUTs and a multipart upload, and what each start writes over: every write is a new version there.
#[test]
fn a_bucket_with_object_lock_takes_a_backup() {
    let mut bed = locked_bed();
    bed.fill(300);
    bed.backup_all(&[]);
    bed.assert_complete("in a bucket with object lock");
    bed.fill_large(300);
    bed.backup_all(&["--window", "1h"]);
    bed.assert_complete("after a second run into it");
    let bucket = bucket(&bed);
    let objects = bucket.list("");
    assert!(objects.values().any(|object| object.etag.contains('-')), "no object was a multipart upload: {objects:?}");
    for key in bed.place.data_keys("") {
        let (versions, markers) = bucket.versions(&key);
        assert_eq!((versions.len(), markers.len()), (1, 0), "{key} was written once, and nothing was deleted");
        let refused = bucket.delete_version(&key, &versions[0]).expect_err("it is locked");
        assert!(refused.contains("AccessDenied") || refused.contains("WORM"), "{refused}");
    }
    bed.assert_complete("after somebody has tried to delete every object");
}

/// A deletion that names no version is granted there, and hides the object: which `verify` finds, and who lifts the marker has it back.
#[test]
fn an_object_that_was_deleted_in_a_locked_bucket_is_missed_and_comes_back() {
    let mut bed = locked_bed();
    bed.fill(200);
    bed.backup_all(&[]);
    let (bucket, url) = (bucket(&bed), bed.place.url(""));
    let key = bed.place.data_keys("").swap_remove(0);
    bucket.delete(&key);
    let exit = Program::new(["verify", &url]).envs(bed.place.environment()).run(RUN_LIMIT);
    assert!(exit.assert_code(4).stderr.contains("C0501"), "{}", exit.stderr);
    let (versions, markers) = bucket.versions(&key);
    assert_eq!((versions.len(), markers.len()), (1, 1));
    bucket.delete_version(&key, &markers[0]).unwrap_or_else(|why| panic!("a marker is not locked: {why}"));
    bed.assert_complete("after the marker was lifted");
}

/// Records of some 10 MB on a store that makes no object of parts of several sizes.
fn equal_bed() -> Bed {
    let config = Config { equal_parts: true, part_bytes_min: Some(1), ..Config::new(Personality::Minio) };
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process_like(config));
    bed.fill_large(30);
    bed
}

/// A backup of all of it as one window, with this option in the address of the store.
fn backup_in_parts(bed: &Bed, option: &str, max_bytes: &str) -> Program {
    let url = bed.place.server().url("", option);
    let args = ["backup", &bed.topic, "-b", bed.broker(), "--to", &url, "--rule", &bed.rule, "--instance-id", "none"];
    Program::of(crashing_binary(), args)
        .args(["--window", "1h", "--max-bytes", max_bytes, "--codec", "none", "--until-end"])
        .envs(bed.place.environment())
        .envs([("CATCHMENT_CRASH_PART_BYTES", PART_BYTES.to_string())])
}

/// Row S7: what a store refuses whose name does not tell what it wants; and what was pinned for it and sent in vain is written again as it wants it.
#[test]
fn a_store_of_equal_parts_is_named_and_takes_everything_once_the_address_says_so() {
    let bed = equal_bed();
    for _ in 0..2 {
        let exit = backup_in_parts(&bed, "", "16MiB").run(RUN_LIMIT);
        exit.assert_code(2);
        assert!(exit.stderr.contains("C0304") && exit.stderr.contains("parts=equal"), "{}", exit.stderr);
        assert!(bed.place.data_keys("").is_empty(), "no object is made of such parts");
    }
    backup_in_parts(&bed, "parts=equal", "16MiB").run(RUN_LIMIT).assert_code(0);
    bed.assert_complete("in parts of one size");
    let keys = bed.place.data_keys("");
    assert!(keys.iter().any(|key| bed.place.get(key).len() > 1_000 * PART_BYTES), "parts would never have doubled: {keys:?}");
}

#[test]
fn a_window_that_its_parts_could_not_hold_is_refused_before_anything_is_written() {
    let bed = equal_bed();
    let exit = backup_in_parts(&bed, "parts=equal", "1GiB").run(RUN_LIMIT);
    exit.assert_code(2);
    assert!(exit.stderr.contains("C0106") && exit.stderr.contains("max_bytes"), "{}", exit.stderr);
    assert!(bed.place.keys().is_empty(), "written: {:?}", bed.place.keys());
    let asked = bed.place.server().state().log();
    assert!(!asked.iter().any(|request| matches!(request.op, Op::PutObject | Op::CreateMultipartUpload)), "{asked:?}");
}
