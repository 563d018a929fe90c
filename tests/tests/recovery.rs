//! States that go wrong between two runs, or with a window pinned: group offsets, destinations, topics and logs. Each ends with every
//! record stored once, or with the stop and the code that the protocol demands.
//!
//! The real binary and a real Kafka; MinIO, or where an intent must stay open the S3 server in this process.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use catchment::commit::control::Owner;
use catchment::intent::parts_digest;
use catchment::store::parts::PART_BYTES;
use catchment::store::{GuardClass, Part};
use catchment_formats::parquet::ParquetDecoder;
use catchment_tests::admin::GroupOffset;
use catchment_tests::bed::{Bed, Place, RUN_LIMIT, config_file};
use catchment_tests::phases::Watch;
use catchment_tests::process::{Exit, Process};
use catchment_tests::s3::{Config, Logged, Op, Personality};
use catchment_tests::services::{Kafka, KafkaOptions, Minio};
use md5::{Digest, Md5};
use serde_json::Value;

/// How long a running backup may take for what it does by itself: rejoin, catch up, find a stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a stop may take on a machine that has other things to do. `outages` shows that it takes less than ten seconds.
const STOP: Duration = Duration::from_secs(60);

/// The same where an upload is gone: for two minutes its object may still appear. Or a log is short: that may pass for one.
const LONG_WAIT: Duration = Duration::from_secs(240);

/// Windows close by the clock, so that everything is committed soon after it came.
const BY_ARRIVAL: [&str; 2] = ["--window-by", "arrival"];

/// Windows that become multipart uploads, by a member whose name the next run takes over at once.
const LARGE: [&str; 6] = ["--window", "1h", "--max-bytes", "80MiB", "--instance-id", "member-1"];

/// As [`LARGE`], but that nothing closes while a test looks on.
const ENDLESS: [&str; 4] = ["--window", "1h", "--instance-id", "member-1"];

/// Two partitions of the shared Kafka, a bucket of the shared MinIO, 600 records of which all are backed up: some windows each.
fn backed_up() -> Bed {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::minio(Minio::shared()));
    bed.fill(600);
    bed.backup_all(&[]);
    bed
}

/// The same with a server in this process.
fn in_process() -> Bed {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process());
    bed.fill(300);
    bed
}

fn commit(bed: &Bed, partition: i32, offset: i64, metadata: &str) {
    let to = GroupOffset { offset, metadata: metadata.to_owned() };
    bed.admin.set_group_offset(&bed.group(), &bed.topic, partition, &to);
}

fn number(note: &Value, field: &str) -> i64 {
    note[field].as_i64().unwrap_or_else(|| panic!("no {field} in {note}"))
}

fn text<'a>(note: &'a Value, field: &str) -> &'a str {
    note[field].as_str().unwrap_or_else(|| panic!("no {field} in {note}"))
}

/// Fails unless the object under an intent's key has its range and its encoding.
#[track_caller]
fn assert_as_pinned(bed: &Bed, intent: &Value) {
    let decoder = ParquetDecoder::new(bed.place.get(text(intent, "key"))).expect("the pinned format");
    let range = decoder.proof().range;
    assert_eq!((range.start, range.end), (number(intent, "S"), number(intent, "E")));
    assert_eq!(decoder.proof().encoding, text(intent, "enc"));
}

/// A window that is pinned with its upload, complete but for the Complete; behind it are more records.
fn pinned_upload() -> (Bed, Value) {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process());
    bed.fill_large(300);
    let intent = bed.leave_intent(&LARGE);
    assert!(number(&intent["upload"], "bytes") > 64 << 20, "{intent}");
    assert!(number(&intent, "E") < 300, "{intent}");
    (bed, intent)
}

/// The digest of an object as of an upload in parts of the usual size.
fn digest_as_upload(object: &[u8]) -> String {
    let chunks = object.chunks(usize::try_from(PART_BYTES).expect("a part fits in memory"));
    let part = |(number, bytes): (u32, &[u8])| {
        let etag = Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Part { number, size: bytes.len() as u64, etag }
    };
    parts_digest(&(1..).zip(chunks).map(part).collect::<Vec<_>>())
}

/// The requests that write or end something under a key.
fn writes_of(log: &[Logged], key: &str) -> Vec<Op> {
    let reads = [Op::HeadObject, Op::GetObject, Op::ListParts, Op::ListObjects, Op::ListMultipartUploads];
    log.iter().filter(|r| r.key == key && !reads.contains(&r.op)).map(|r| r.op).collect()
}

/// Backs everything up in each of these layouts at the same time, below a prefix and under a rule of its own.
fn backup_in(bed: &Bed, layouts: &[(&str, &[&str])]) -> Vec<Exit> {
    let start = |(name, settings): &(&str, &[&str])| {
        let rule = rule_in(bed, name);
        bed.backup_to(&format!("{name}/"), &[&["--rule", &rule, "--until-end"][..], settings].concat()).spawn()
    };
    let running: Vec<_> = layouts.iter().map(start).collect();
    let exits: Vec<_> = running.into_iter().map(|process| process.wait(RUN_LIMIT)).collect();
    for exit in &exits {
        exit.assert_code(0);
    }
    exits
}

fn rule_in(bed: &Bed, layout: &str) -> String {
    format!("{layout}-{}", bed.topic)
}

#[test]
fn deleted_group_offsets_are_found_again_from_the_anchors_in_every_layout() {
    const LAYOUTS: [(&str, &[&str]); 4] = [
        ("hive", &["--layout", "hive"]),
        ("confluent", &["--layout", "confluent"]),
        ("tencent", &["--layout", "tencent", "--instance", "ckafka-1"]),
        ("template", &["--path", "archive/{topic}/{yyyy}/{mm}/p{partition}"]),
    ];
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::minio(Minio::shared()));
    bed.fill(600);
    backup_in(&bed, &LAYOUTS);
    for (name, _) in LAYOUTS {
        bed.admin.delete_group(&format!("catchment-{}", rule_in(&bed, name)));
    }
    bed.fill(400);
    let exits = backup_in(&bed, &LAYOUTS);
    let truth = bed.truth();
    for ((name, _), exit) in LAYOUTS.iter().zip(exits) {
        for partition in 0..2 {
            let resumed = format!("{}/{partition}: the group had no offset; going on at ", bed.topic);
            let line = exit.stderr.lines().find(|line| line.contains(&resumed)).unwrap_or_else(|| panic!("{name}: {}", exit.stderr));
            assert!(line.contains("at 300, found from the anchor"), "{name}: {line}");
        }
        let prefix = format!("{name}/");
        truth.assert_equals(&bed.place.stored(&prefix), name);
        let report = bed.verify(&prefix, true);
        assert_eq!((&report["compared"], &report["gaps"]), (&1000.into(), &Value::Array(Vec::new())), "{name}: {report}");
    }
}

#[test]
fn an_offset_reset_backward_stops_the_lane_until_it_is_accepted() {
    let mut bed = backed_up();
    commit(&bed, 0, 100, "");
    bed.fill(400);
    bed.assert_stops(&[], 1, "C0420");
    bed.backup_all(&["--accept", "foreign-commit"]);
    bed.assert_complete("after a reset backward");
}

#[test]
fn an_offset_reset_forward_stops_the_lane_until_it_is_accepted() {
    let mut bed = backed_up();
    bed.fill(400);
    // To the very end: whoever believed the offset would find nothing to do.
    for partition in [0, 1] {
        commit(&bed, partition, bed.admin.log_range(&bed.topic, partition).1, "");
    }
    bed.assert_stops(&[], 1, "C0420");
    bed.backup_all(&["--accept", "foreign-commit"]);
    bed.assert_complete("after a reset forward");
}

#[test]
fn a_foreign_commit_stops_the_lane_until_it_is_accepted() {
    let mut bed = backed_up();
    bed.fill(400);
    commit(&bed, 1, 450, "consumer-7");
    bed.assert_stops(&[], 1, "C0420");
    bed.backup_all(&["--accept", "foreign-commit"]);
    bed.assert_complete("after a foreign commit");
}

#[test]
fn an_older_note_of_the_group_itself_is_repaired_by_the_stored_objects() {
    let mut bed = backed_up();
    let older: Vec<_> = [0, 1].map(|p| bed.admin.group_offset(&bed.group(), &bed.topic, p).expect("an offset")).into();
    bed.fill(400);
    bed.backup_all(&[]);
    for (partition, note) in [0, 1].into_iter().zip(&older) {
        bed.admin.set_group_offset(&bed.group(), &bed.topic, partition, note);
    }
    bed.fill(200);
    let exit = bed.backup_all(&[]);
    assert!(exit.stderr.contains("had gone back"), "{}", exit.stderr);
    bed.assert_complete("after the group's state went back");
}

#[test]
fn a_pinned_window_is_finished_as_it_was_pinned_whatever_the_settings_are_now() {
    let fixed = ["--instance-id", "member-1"];
    for edited in [["--window", "7s", "--level", "9"], ["--format", "raw", "--codec", "gzip"]] {
        let mut bed = in_process();
        let intent = bed.leave_intent(&fixed);
        bed.fill(200);
        bed.backup_all(&[&fixed[..], &edited[..]].concat());
        let objects = bed.verify("", true);
        assert_eq!(objects["records"], 500, "{objects}");
        assert_eq!(objects["compared"], 500, "{objects}");
        assert_as_pinned(&bed, &intent);
        let raw = bed.place.data_keys("").iter().filter(|key| key.ends_with(".gz")).count();
        assert_eq!(raw > 0, edited[0] == "--format", "what was not pinned follows the new settings");
        if raw == 0 {
            bed.assert_complete("after other settings");
        }
    }
}

#[test]
fn a_pinned_upload_is_completed_as_it_was_pinned_whatever_the_settings_are_now() {
    for edited in [["--window", "7s", "--level", "9"], ["--format", "raw", "--framing", "len32"]] {
        let (bed, intent) = pinned_upload();
        let before = bed.place.server().state().log().len();
        bed.backup_all(&[&["--instance-id", "member-1"][..], &edited].concat());
        let log = bed.place.server().state().log();
        assert_eq!(writes_of(&log[before..], text(&intent, "key")), [Op::CompleteMultipartUpload], "nothing is written anew");
        assert_as_pinned(&bed, &intent);
        let objects = bed.verify("", true);
        assert_eq!((&objects["records"], &objects["compared"]), (&300.into(), &300.into()), "{objects}");
        let raw = bed.place.data_keys("").iter().filter(|key| !key.ends_with(".parquet")).count();
        assert_eq!(raw > 0, edited[0] == "--format", "what was not pinned follows the new settings");
    }
}

#[test]
fn a_pinned_upload_that_is_gone_is_written_again_byte_for_byte_whatever_the_settings_are_now() {
    let (bed, intent) = pinned_upload();
    bed.place.abort_uploads();
    let edited = ["--instance-id", "member-1", "--window", "7s", "--level", "9"];
    bed.backup(&edited).args(["--until-end"]).run(LONG_WAIT).assert_code(0);
    assert_as_pinned(&bed, &intent);
    assert_eq!(digest_as_upload(&bed.place.get(text(&intent, "key"))), text(&intent["upload"], "digest"));
    bed.assert_complete("after an upload was lost");
}

#[test]
fn a_pinned_upload_is_completed_although_kafka_has_dropped_its_records() {
    let (bed, intent) = pinned_upload();
    let truth = bed.truth();
    bed.admin.delete_records(&bed.topic, 0, number(&intent, "E"));
    let before = bed.place.server().state().log().len();
    bed.backup_all(&LARGE);
    let log = bed.place.server().state().log();
    assert_eq!(writes_of(&log[before..], text(&intent, "key")), [Op::CompleteMultipartUpload], "nothing is written anew");
    assert_as_pinned(&bed, &intent);
    truth.assert_equals(&bed.place.stored(""), "what Kafka had when the window was pinned");
    bed.assert_gaps("retention", &[]);
    bed.verify("", true);
}

#[test]
fn a_pinned_upload_that_is_gone_with_its_records_is_a_gap_of_its_range() {
    let (bed, intent) = pinned_upload();
    let truth = bed.truth();
    let (start, end) = (number(&intent, "S"), number(&intent, "E"));
    bed.admin.delete_records(&bed.topic, 0, end);
    bed.place.abort_uploads();
    bed.backup(&LARGE).args(["--until-end"]).run(LONG_WAIT).assert_code(0);
    let report = bed.assert_gaps("retention", &[(0, start, end)]);
    assert_eq!(report["gaps"][0]["key"], intent["key"], "the gap stands in the pinned object");
    assert_as_pinned(&bed, &intent);
    truth.filtered(|(_, offset)| offset >= end).assert_equals(&bed.place.stored(""), "what retention left");
}

/// Kills an instance that has uploaded parts of a window and pinned nothing. Returns the id of its upload.
fn leave_orphan(bed: &Bed) -> String {
    let state = bed.place.server().state();
    let before = state.log().len();
    let mut process = bed.backup(&ENDLESS).spawn();
    let deadline = Instant::now() + PATIENCE;
    let orphan = loop {
        let parts = state.log().split_off(before).into_iter().filter(|r| r.op == Op::UploadPart && r.status == 200);
        if let Some(id) = parts.filter(|part| !part.key.contains("_catchment/")).find_map(|part| part.upload) {
            break id;
        }
        let ended = process.poll();
        assert!(ended.is_none() && Instant::now() < deadline, "no part was uploaded ({ended:?}): {}", process.stderr());
        std::thread::sleep(Duration::from_millis(50));
    };
    process.kill();
    assert!(bed.offset(0).1.get("E").is_none(), "nothing is pinned");
    orphan
}

#[test]
fn an_orphan_upload_is_aborted_when_its_key_is_opened_again_but_not_before_it_is_old() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process());
    bed.fill_large(300);
    let state = bed.place.server().state();
    let open = || bed.place.open_uploads().into_iter().map(|(_, id)| id).collect::<Vec<_>>();
    let old = leave_orphan(&bed);
    assert_eq!(open(), [old.as_str()]);
    // Two windows of one hour; a living owner's upload is never that old.
    state.backdate_uploads(Duration::from_secs(2 * 3600 + 60));
    let young = leave_orphan(&bed);
    assert_eq!(open(), [young.as_str()], "the old one is gone, and its key has a new one");
    // Older than the upload deadline, younger than two windows.
    state.backdate_uploads(Duration::from_secs(100 * 60));
    bed.backup_all(&ENDLESS);
    let aborted = state.log().into_iter().filter(|r| r.op == Op::AbortMultipartUpload && !r.key.contains("_catchment/"));
    assert_eq!(aborted.filter_map(|r| r.upload).collect::<Vec<_>>(), [old]);
    assert_eq!(open(), [young], "the younger one is spared");
    bed.assert_complete("beside an orphan upload");
}

#[test]
fn another_destination_stops_the_lane_until_it_is_accepted() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::minio(Minio::shared()));
    let until_end = ["--until-end"];
    bed.fill(600);
    bed.backup_to("old/", &until_end).run(RUN_LIMIT).assert_code(0);
    bed.fill(400);
    let refused = bed.backup_to("new/", &until_end).run(RUN_LIMIT);
    refused.assert_code(1);
    assert!(refused.stderr.contains("C0422"), "{}", refused.stderr);
    assert!(bed.place.keys().iter().all(|k| !k.starts_with("new/") || k.contains("_catchment/probes/")), "{:?}", bed.place.keys());
    bed.backup_to("new/", &["--until-end", "--accept", "destination"]).run(RUN_LIMIT).assert_code(0);
    bed.fill(100);
    bed.backup_to("new/", &until_end).run(RUN_LIMIT).assert_code(0);
    bed.truth().assert_equals(&bed.place.stored(""), "two places together");
    bed.verify("old/", true);
    bed.verify("new/", true);
    assert!(!bed.place.data_keys("new/").is_empty());
}

#[test]
fn another_destination_waits_for_what_is_pinned_to_the_old_one() {
    let mut bed = in_process();
    let fixed = ["--instance-id", "member-1", "--until-end"];
    let accepting = ["--instance-id", "member-1", "--until-end", "--accept", "destination"];
    bed.leave_intent(&fixed);
    let refused = bed.backup_to("new/", &accepting).run(RUN_LIMIT);
    refused.assert_code(1);
    assert!(refused.stderr.contains("C0426"), "{}", refused.stderr);
    assert!(bed.place.data_keys("new/").is_empty());
    bed.backup(&fixed).run(RUN_LIMIT).assert_code(0);
    bed.fill(100);
    bed.backup_to("new/", &accepting).run(RUN_LIMIT).assert_code(0);
    bed.truth().assert_equals(&bed.place.stored(""), "two places together");
    bed.verify("new/", true);
}

/// A topic that was backed up, deleted and created again, and has records again. And the first one's objects.
fn created_again() -> (Bed, Vec<String>) {
    let mut bed = backed_up();
    let old = bed.place.data_keys("");
    bed.admin.delete_topic(&bed.topic);
    bed.admin.create_mixed_topic(&bed.topic, 2);
    bed.fill(300);
    (bed, old)
}

#[test]
fn a_topic_created_again_goes_into_a_directory_of_its_own() {
    let (mut bed, old) = created_again();
    bed.assert_stops(&[], 1, "C0421");
    bed.backup_all(&["--accept", "topic-recreated"]);
    bed.fill(300);
    bed.backup_all(&[]);
    assert_beside(&bed, &old);
}

#[test]
fn a_topic_created_again_goes_on_if_the_rule_permits_it() {
    let (mut bed, old) = created_again();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = config_file(dir.path(), &bed, "on_gap = { topic_recreated = \"continue\" }");
    bed.backup_all(&["--config", &config]);
    bed.fill(300);
    bed.backup_all(&["--config", &config]);
    assert_beside(&bed, &old);
}

/// Fails unless `old` are the first incarnation's objects still, and the second one's, in a directory of its own, are the topic.
#[track_caller]
fn assert_beside(bed: &Bed, old: &[String]) {
    let later = format!("{}~", bed.topic);
    let (new, standing): (Vec<_>, Vec<_>) = bed.place.data_keys("").into_iter().partition(|key| key.starts_with(&later));
    assert_eq!(standing, old, "the first incarnation's objects stay as they are");
    let suffix = new.first().and_then(|key| key.strip_prefix(&later)?.split('/').next()).expect("objects of the second");
    assert!(suffix.len() == 8 && suffix.bytes().all(|b| b.is_ascii_hexdigit()), "{suffix}");
    bed.truth().assert_equals(&bed.place.stored(&later), "the second incarnation");
    bed.verify("", false);
}

#[test]
fn a_topic_created_again_under_a_running_backup_stops_its_lane_until_it_is_accepted() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::minio(Minio::shared()));
    bed.fill(300);
    let mut process = bed.backup(&BY_ARRIVAL).spawn();
    bed.await_committed(&mut [&mut process], PATIENCE);
    let old = bed.place.data_keys("");
    // It sees no moment without a topic, only one that has records at the offsets that it reads next.
    process.freeze();
    bed.admin.delete_topic(&bed.topic);
    bed.admin.create_mixed_topic(&bed.topic, 1);
    bed.fill(900);
    process.thaw();
    let exit = process.wait(PATIENCE);
    exit.assert_code(1);
    assert!(exit.stderr.contains("C0421"), "{}", exit.stderr);
    assert_eq!(bed.place.data_keys(""), old, "nothing of the new topic is stored as the old one");
    bed.backup_all(&["--accept", "topic-recreated"]);
    assert_beside(&bed, &old);
}

#[test]
fn records_that_retention_took_between_two_runs_are_a_gap_of_that_range() {
    let mut bed = backed_up();
    let position = bed.offset(0).0;
    bed.fill(400);
    let truth = bed.truth();
    bed.admin.delete_records(&bed.topic, 0, position + 37);
    let exit = bed.backup_all(&[]);
    assert!(exit.stderr.contains("GAP"), "{}", exit.stderr);
    bed.assert_gaps("retention", &[(0, position, position + 37)]);
    let left = truth.filtered(|(partition, offset)| partition != 0 || !(position..position + 37).contains(&offset));
    left.assert_equals(&bed.place.stored(""), "what retention left");
}

#[test]
fn records_that_retention_took_from_a_pinned_window_are_a_gap_of_that_range() {
    let bed = in_process();
    let fixed = ["--instance-id", "member-1"];
    let intent = bed.leave_intent(&fixed);
    let truth = bed.truth();
    let (start, end) = (number(&intent, "S"), number(&intent, "E"));
    let kept_from = start + 17;
    assert!(kept_from < end, "{intent}");
    bed.admin.delete_records(&bed.topic, 0, kept_from);
    bed.backup_all(&fixed);
    let report = bed.assert_gaps("retention", &[(0, start, kept_from)]);
    assert_eq!(report["gaps"][0]["key"], intent["key"], "the gap stands in the pinned object");
    truth.filtered(|(_, offset)| !(start..kept_from).contains(&offset)).assert_equals(&bed.place.stored(""), "what retention left");
}

#[test]
fn records_that_retention_took_to_the_very_end_are_a_gap_of_that_range() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::minio(Minio::shared()));
    bed.fill(300);
    bed.backup_all(&[]);
    bed.fill(100);
    bed.admin.delete_records(&bed.topic, 0, 400);
    bed.backup_all(&[]);
    bed.assert_gaps("retention", &[(0, 300, 400)]);
}

#[test]
fn records_that_retention_took_stop_the_lane_if_the_rule_says_so() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::minio(Minio::shared()));
    bed.fill(300);
    bed.backup_all(&[]);
    bed.fill(200);
    let truth = bed.truth();
    bed.admin.delete_records(&bed.topic, 0, 337);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = config_file(dir.path(), &bed, "on_gap = { retention = \"halt\" }");
    bed.assert_stops(&["--config", &config], 1, "C0424");
    bed.backup_all(&[]);
    bed.assert_gaps("retention", &[(0, 300, 337)]);
    truth.filtered(|(_, offset)| !(300..337).contains(&offset)).assert_equals(&bed.place.stored(""), "what retention left");
}

#[test]
fn retention_that_overtakes_a_reader_that_is_held_back_leaves_a_gap_of_that_range() {
    const TAKEN: i64 = 250;
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process());
    bed.fill_large(300);
    bed.place.refuse_data();
    // Little memory and small windows: some are sealed and a little is fetched ahead, and then nothing is read before the store takes one.
    let held_back = [&BY_ARRIVAL[..], &["--max-bytes", "4MiB", "--budget", "96MiB"]].concat();
    let mut process = bed.backup(&held_back).spawn();
    let intent = bed.await_intent(&mut process);
    let truth = bed.truth();
    bed.admin.delete_records(&bed.topic, 0, TAKEN);
    bed.place.accept_data();
    bed.await_committed(&mut [&mut process], PATIENCE);
    assert!(process.stderr().contains("GAP"), "{}", process.stderr());
    process.terminate(STOP).assert_code(0);
    let report = bed.verify("", true);
    let [gap] = &report["gaps"].as_array().expect("a list")[..] else { panic!("one gap: {report}") };
    assert_eq!((gap["cause"].as_str(), number(gap, "to")), (Some("retention"), TAKEN), "{gap}");
    let lost = number(gap, "from")..TAKEN;
    assert!(lost.start >= number(&intent, "E") && !lost.is_empty(), "{gap} after {intent}");
    truth.filtered(|(_, offset)| !lost.contains(&offset)).assert_equals(&bed.place.stored(""), "what was read and what retention left");
}

/// 300 records, and a group that is 100 ahead of the log: what an unclean leader election leaves.
fn ahead_of_the_log() -> Bed {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::minio(Minio::shared()));
    bed.fill(300);
    bed.backup_all(&[]);
    let note = bed.admin.group_offset(&bed.group(), &bed.topic, 0).expect("an offset");
    assert_eq!(note.offset, 300);
    commit(&bed, 0, 400, &note.metadata);
    bed
}

/// Fails unless the gap is listed, and what stands in the log in its place is not stored.
#[track_caller]
fn assert_truncation_listed(bed: &Bed) {
    bed.assert_gaps("truncation", &[(0, 300, 400)]);
    let truth = bed.truth().filtered(|(_, offset)| !(300..400).contains(&offset));
    truth.assert_equals(&bed.place.stored(""), "what was not truncated");
}

/// A backup that has been permitted to wait for the log, and does.
fn awaiting_the_log(bed: &Bed, more: &[&str]) -> Process {
    let mut process = bed.backup(more).spawn();
    process.wait_for_stderr("waiting until the log, which ends at 300, has passed 400", LONG_WAIT);
    process
}

/// With this answer a backup waits until the log has passed the position, and goes on there.
fn outlives_a_truncation(bed: &mut Bed, answer: &[&str]) {
    let mut process = awaiting_the_log(bed, &[answer, &BY_ARRIVAL].concat());
    bed.fill(250);
    bed.await_committed(&mut [&mut process], PATIENCE);
    process.terminate(STOP).assert_code(0);
    assert_truncation_listed(bed);
}

#[test]
fn an_accepted_truncation_is_outwaited_and_listed_as_a_gap() {
    let mut bed = ahead_of_the_log();
    outlives_a_truncation(&mut bed, &["--accept", "truncation"]);
}

#[test]
fn a_truncation_that_the_rule_permits_is_outwaited_and_listed_as_a_gap() {
    let mut bed = ahead_of_the_log();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = config_file(dir.path(), &bed, "on_gap = { truncation = \"continue\" }");
    outlives_a_truncation(&mut bed, &["--config", &config]);
}

#[test]
fn a_log_that_ends_below_the_position_stops_the_lane() {
    let bed = ahead_of_the_log();
    let before = bed.place.data_keys("");
    let exit = bed.backup(&["--until-end"]).run(RUN_LIMIT);
    exit.assert_code(1);
    assert!(exit.stderr.contains("C0423"), "{}", exit.stderr);
    assert_eq!(bed.place.data_keys(""), before);
}

/// Flips a bit in the last record of the batch in the middle of a stopped broker's segment. Returns the batch's offsets.
fn corrupt_middle_batch(segment: &Path) -> Range<i64> {
    let mut bytes = std::fs::read(segment).expect("read the segment");
    let batches = batches(&bytes);
    assert!(batches.len() > 2, "good batches before and behind: {batches:?}");
    let (place, offsets) = batches[batches.len() / 2].clone();
    bytes[place.end - 2] ^= 1;
    std::fs::write(segment, bytes).expect("write the segment");
    offsets
}

/// Bytes and offsets of each batch of a segment of format 2: base offset, length of what follows, and 23 bytes in the last offset's delta.
fn batches(segment: &[u8]) -> Vec<(Range<usize>, Range<i64>)> {
    let long = |at: usize| segment[at..].first_chunk().map(|b| i64::from_be_bytes(*b)).expect("a whole header");
    let int = |at: usize| segment[at..].first_chunk().map(|b| i32::from_be_bytes(*b)).expect("a whole header");
    let (mut found, mut at) = (Vec::new(), 0);
    // What the broker has made room for and not written is zero.
    while segment.len() - at > 61 && int(at + 8) > 0 {
        let end = at + 12 + usize::try_from(int(at + 8)).expect("a length >= 0");
        found.push((at..end, long(at)..long(at) + i64::from(int(at + 23)) + 1));
        at = end;
    }
    found
}

#[test]
fn a_corrupt_batch_halts_the_lane_until_the_rule_lets_it_go_on() {
    let kafka = Kafka::start(KafkaOptions::default());
    let mut bed = Bed::new(kafka.bootstrap(), 1, Place::minio(Minio::shared()));
    for _ in 0..6 {
        bed.fill(100); // a batch or more each
    }
    let truth = bed.truth();
    kafka.stop();
    let lost = corrupt_middle_batch(&kafka.segments(&bed.topic, 0)[0]);
    kafka.restart();
    let halted = bed.backup(&["--until-end"]).run(RUN_LIMIT);
    halted.assert_code(4);
    assert!(halted.stderr.contains("error[C0428]"), "{}", halted.stderr);
    assert!(bed.offset(0).0 <= lost.start, "a lane that halts goes no further than the batch: {:?}, {lost:?}", bed.offset(0));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = config_file(dir.path(), &bed, "on_gap = { corrupt_batch = \"continue\" }");
    bed.backup_all(&["--config", &config]);
    bed.assert_gaps("corrupt_batch", &[(0, lost.start, lost.end)]);
    truth.filtered(|(_, offset)| !lost.contains(&offset)).assert_equals(&bed.place.stored(""), "what can be read");
}

#[test]
fn a_directory_of_another_rule_is_left_alone() {
    let bed = backed_up();
    let before = bed.place.keys();
    let exit = bed.backup(&["--rule", "somebody-else", "--until-end"]).run(RUN_LIMIT);
    exit.assert_code(6);
    assert!(exit.stderr.contains("C0412"), "{}", exit.stderr);
    assert_eq!(bed.place.keys(), before, "nothing is written");
    bed.assert_complete("after another rule tried");
}

#[test]
fn a_lane_whose_owner_record_became_anothers_stops() {
    for class in [GuardClass::A, GuardClass::B, GuardClass::C] {
        let place = Place::in_process_like(Config::new(Personality::Minio).guards(class, class));
        let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, place);
        bed.fill(100);
        let short_session = ["-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500"];
        let mut process = bed.backup(&[&BY_ARRIVAL[..], &short_session].concat()).spawn();
        let line = process.wait_for_stderr("backup runs", PATIENCE);
        assert!(line.contains(&format!("{class:?}/{class:?}")), "{line}");
        bed.await_committed(&mut [&mut process], PATIENCE);
        let stored = bed.place.data_keys("");
        // It sleeps past its session, so that its lane must begin again, with an anchor.
        process.freeze();
        take_over(&bed);
        await_no_member(&bed);
        bed.fill(100);
        process.thaw();
        let exit = process.wait(PATIENCE);
        exit.assert_code(6);
        assert!(exit.stderr.contains("C0412") && exit.stderr.contains("other-group"), "{}", exit.stderr);
        assert_eq!(bed.place.data_keys(""), stored, "class {class:?}: nothing is stored in another's directory");
        bed.assert_stops(&[], 6, "C0412");
    }
}

/// Another deployment's claim, which passed the store while nobody looked.
fn take_over(bed: &Bed) {
    let key = format!("_catchment/owners/{}.json", bed.topic);
    let standing: Owner = serde_json::from_slice(&bed.place.get(&key)).expect("an owner record");
    let other = Owner { rule: "other".to_owned(), group: "other-group".to_owned(), ..standing };
    bed.place.put(&key, serde_json::to_vec(&other).expect("a record is JSON"));
}

fn await_no_member(bed: &Bed) {
    let watch = Watch::new(bed.broker(), &bed.group(), &bed.topic, 1, "");
    let deadline = Instant::now() + PATIENCE;
    while !watch.owners().is_empty() {
        assert!(Instant::now() < deadline, "the member is still in its group: {:?}", watch.owners());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_stop_leaves_nothing_behind_that_the_next_run_would_store_twice() {
    let mut bed = in_process();
    let mut process = bed.backup(&["--window", "1h"]).spawn();
    process.wait_for_stderr("backup runs", Duration::from_secs(60));
    std::thread::sleep(Duration::from_secs(2));
    process.terminate(STOP).assert_code(0);
    bed.fill(100);
    bed.backup_all(&[]);
    bed.assert_complete("after a stop with an open window");
}
