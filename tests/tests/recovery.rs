//! States that go wrong between two runs, or with a window pinned: group offsets, destinations, topics and logs. Each ends with every
//! record stored once, or with the stop and the code that the protocol demands.
//!
//! The real binary and a real Kafka; MinIO, or where an intent must stay open the S3 server in this process.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use catchment_tests::admin::GroupOffset;
use catchment_tests::bed::{Bed, Place, RUN_LIMIT, config_file};
use catchment_tests::services::{Kafka, KafkaOptions, Minio};
use serde_json::Value;

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

#[test]
fn deleted_group_offsets_are_found_again_from_the_anchors() {
    let mut bed = backed_up();
    bed.admin.delete_group(&bed.group());
    bed.fill(400);
    let exit = bed.backup_all(&[]);
    assert!(exit.stderr.contains("found from the anchor"), "{}", exit.stderr);
    bed.assert_complete("after the group was deleted");
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
        let pinned = intent["key"].as_str().expect("a key");
        let objects = bed.verify("", true);
        assert_eq!(objects["records"], 500, "{objects}");
        assert_eq!(objects["compared"], 500, "{objects}");
        let decoder = catchment_formats::parquet::ParquetDecoder::new(bed.place.get(pinned)).expect("the pinned format");
        let range = decoder.proof().range;
        assert_eq!((range.start, range.end), (number(&intent, "S"), number(&intent, "E")));
        assert_eq!(decoder.proof().encoding, intent["enc"].as_str().expect("an encoding"));
        let raw = bed.place.data_keys("").iter().filter(|key| key.ends_with(".gz")).count();
        assert_eq!(raw > 0, edited[0] == "--format", "what was not pinned follows the new settings");
        if raw == 0 {
            bed.assert_complete("after other settings");
        }
    }
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

#[test]
fn a_topic_created_again_goes_into_a_directory_of_its_own() {
    let mut bed = backed_up();
    let old = bed.place.data_keys("");
    bed.admin.delete_topic(&bed.topic);
    bed.admin.create_mixed_topic(&bed.topic, 2);
    bed.fill(300);
    bed.assert_stops(&[], 1, "C0421");
    bed.backup_all(&["--accept", "topic-recreated"]);
    bed.fill(300);
    bed.backup_all(&[]);
    let later = format!("{}~", bed.topic);
    let (new, standing): (Vec<_>, Vec<_>) = bed.place.data_keys("").into_iter().partition(|key| key.starts_with(&later));
    assert_eq!(standing, old, "the first incarnation's objects stay as they are");
    let suffix = new.first().and_then(|key| key.strip_prefix(&later)?.split('/').next()).expect("objects of the second");
    assert!(suffix.len() == 8 && suffix.bytes().all(|b| b.is_ascii_hexdigit()), "{suffix}");
    bed.truth().assert_equals(&bed.place.stored(&later), "the second incarnation");
    bed.verify("", false);
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
fn a_log_that_ends_below_the_position_stops_the_lane() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::minio(Minio::shared()));
    bed.fill(300);
    bed.backup_all(&[]);
    let before = bed.place.data_keys("");
    // What an unclean leader election leaves: the group is ahead of the log.
    let note = bed.admin.group_offset(&bed.group(), &bed.topic, 0).expect("an offset");
    commit(&bed, 0, note.offset + 100, &note.metadata);
    let exit = bed.backup(&["--until-end"]).run(RUN_LIMIT);
    exit.assert_code(1);
    assert!(exit.stderr.contains("C0423"), "{}", exit.stderr);
    assert_eq!(bed.place.data_keys(""), before);
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
    let segment = kafka.segments(&bed.topic, 0).remove(0);
    let file = OpenOptions::new().read(true).write(true).open(&segment).expect("open the segment");
    let middle = file.metadata().expect("its size").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).expect("read");
    file.write_all_at(&[byte[0] ^ 1], middle).expect("write");
    drop(file);
    kafka.restart();
    let halted = bed.backup(&["--until-end"]).run(RUN_LIMIT);
    assert!(halted.code() != Some(0) && halted.stderr.contains("C0428"), "{:?} {}", halted.status, halted.stderr);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = config_file(dir.path(), &bed, "on_gap = { corrupt_batch = \"continue\" }");
    bed.backup_all(&["--config", &config]);
    let report = bed.verify("", false);
    let [gap] = &report["gaps"].as_array().expect("a list")[..] else { panic!("one gap: {report}") };
    assert_eq!(gap["cause"], "corrupt_batch", "{gap}");
    let lost = number(gap, "from")..number(gap, "to");
    assert!(!lost.is_empty() && lost.start > 0 && lost.end < 600, "{gap}");
    assert!(lost.end - lost.start <= 200, "no more than a batch: {gap}");
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
fn a_stop_leaves_nothing_behind_that_the_next_run_would_store_twice() {
    let mut bed = in_process();
    let mut process = bed.backup(&["--window", "1h"]).spawn();
    process.wait_for_stderr("backup runs", Duration::from_secs(60));
    std::thread::sleep(Duration::from_secs(2));
    process.terminate(Duration::from_secs(10)).assert_code(0);
    bed.fill(100);
    bed.backup_all(&[]);
    bed.assert_complete("after a stop with an open window");
}
