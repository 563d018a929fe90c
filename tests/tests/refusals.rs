//! What is wrong from the start is refused: an error with its code, cause and next step, the exit code of its kind, and nothing written.

use std::time::Duration;

use catchment_tests::admin::Admin;
use catchment_tests::bed::{Bed, Place, RUN_LIMIT, unique};
use catchment_tests::process::{Exit, Program};
use catchment_tests::services::{Kafka, Minio};

/// Some records and an empty bucket.
fn bed() -> Bed {
    bed_with(Place::minio(Minio::shared()))
}

fn bed_with(place: Place) -> Bed {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, place);
    bed.fill(100);
    bed
}

/// Fails unless it ended with this exit code and error, and the error says all of `words`, where or why it went wrong, and what to do next.
#[track_caller]
fn assert_refused(exit: &Exit, code: i32, error: &str, words: &[&str]) {
    exit.assert_code(code);
    let said = exit.stderr.split_once(&format!("error[{error}]: "));
    let (_, said) = said.unwrap_or_else(|| panic!("no {error} in: {}", exit.stderr));
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    let labels = labels(said);
    assert!(labels.contains(&"help"), "{error} does not say what to do next: {said}");
    assert!(labels.iter().any(|label| *label != "help"), "{error} says neither where nor why: {said}");
}

/// The labels of the lines below an error's message: `cause`, `help`, and what else it knows.
fn labels(said: &str) -> Vec<&str> {
    let below = said.lines().skip(1).map_while(|line| line.strip_prefix("  "));
    below.filter_map(|line| line.split_once(':')).map(|(label, _)| label).filter(|label| !label.contains(' ')).collect()
}

/// Runs a backup of the bed with these arguments beside; nothing may be in its bucket afterwards.
#[track_caller]
fn assert_backup_refused(bed: &Bed, more: &[&str], code: i32, error: &str, words: &[&str]) {
    let exit = bed.backup(more).args(["--until-end"]).run(RUN_LIMIT);
    assert_refused(&exit, code, error, words);
    assert!(bed.place.keys().is_empty(), "written: {:?}", bed.place.keys());
}

#[test]
fn a_wrong_bucket() {
    let bed = bed();
    let args = ["backup", &bed.topic, "-b", bed.broker(), "--to", "s3://catchment-no-such-bucket/x/", "--until-end"];
    let exit = Program::new(args).envs(Minio::shared().environment()).run(RUN_LIMIT);
    assert_refused(&exit, 3, "C0302", &["catchment-no-such-bucket", "cause:"]);
}

#[test]
fn no_permission() {
    let bed = bed();
    let exit = bed.backup(&["--until-end"]).envs([("AWS_SECRET_ACCESS_KEY", "wrong")]).run(RUN_LIMIT);
    assert_refused(&exit, 1, "C0301", &["cause:"]);
    assert!(bed.place.keys().is_empty(), "written: {:?}", bed.place.keys());
}

#[test]
fn a_bucket_that_may_be_read_but_not_written() {
    let store = Minio::start_with_policy();
    store.deny(&["s3:PutObject"]);
    let bed = bed_with(Place::minio(&store));
    assert_backup_refused(&bed, &[], 1, "C0301", &["PutObject", "403", "cause:", "grant PutObject"]);
    assert_eq!(bed.admin.group_offset(&bed.group(), &bed.topic, 0), None, "nothing is committed");
    store.deny(&[]);
    bed.backup_all(&[]);
    bed.assert_complete("after the permission was granted");
}

#[test]
fn an_unreachable_broker() {
    let bed = bed();
    let Place::Minio(bucket, environment) = &bed.place else { panic!("the bed stands on MinIO") };
    // Port 1 of this machine: refused at once, and again until the program gives up.
    let args = ["backup", "orders", "-b", "127.0.0.1:1", "--to", &bucket.url(""), "--until-end"];
    let exit = Program::new(args).envs(environment.clone()).run(Duration::from_secs(40));
    assert_refused(&exit, 5, "C0201", &["127.0.0.1:1", "cause:", "refused"]);
    assert!(bed.place.keys().is_empty(), "written: {:?}", bed.place.keys());
}

#[test]
fn an_unknown_topic() {
    let mut bed = bed();
    let meant = format!("did you mean {}", bed.topic);
    bed.topic.push_str("-typo");
    assert_backup_refused(&bed, &[], 3, "C0203", &[&bed.topic, &meant]);
}

#[test]
fn flags_that_do_not_exist_or_do_not_fit() {
    let bed = bed();
    assert_backup_refused(&bed, &["--windw", "5m"], 2, "C0101", &["'--windw'", "'--window'"]);
    assert_backup_refused(&bed, &["--format", "parkett"], 2, "C0101", &["parkett", "parquet"]);
    assert_backup_refused(&bed, &["--window", "25h"], 2, "C0106", &["24h"]);
    assert_backup_refused(&bed, &["--layout", "tencent"], 2, "C0108", &["--instance"]);
    assert_backup_refused(&bed, &["-X", "enable.auto.commit=true"], 2, "C0210", &["enable.auto.commit"]);
}

#[test]
fn a_static_member_with_cooperative_sticky() {
    let more = ["--instance-id", "one", "-X", "partition.assignment.strategy=cooperative-sticky"];
    assert_backup_refused(&bed(), &more, 2, "C0214", &["cooperative-sticky", "cause:"]);
}

#[test]
fn the_new_group_protocol_with_an_old_broker() {
    let kafka = Kafka::shared_v3();
    let topic = unique("old");
    Admin::new(kafka.bootstrap()).create_topic(&topic, 1, &[]);
    let mut bed = Bed::of_topic(kafka.bootstrap(), &topic, 1, Place::minio(Minio::shared()));
    bed.fill(100);
    let exit = bed.backup(&["-X", "group.protocol=consumer", "--until-end"]).run(RUN_LIMIT);
    assert_refused(&exit, 2, "C0214", &["group.protocol=consumer", "cause:", "leave group.protocol out"]);
    assert_eq!(bed.place.data_keys(""), Vec::<String>::new());
    assert_eq!(bed.admin.group_offset(&bed.group(), &bed.topic, 0), None, "nothing is committed");
    bed.backup_all(&[]);
    bed.assert_complete("with the old protocol");
}

#[test]
fn lines_of_a_config_file() {
    let bed = bed();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("catchment.toml");
    let path = path.to_str().expect("a UTF-8 path");
    for (text, error, place, words) in [
        ("[rule.a]\nsource = = 3\n", "C0103", "2:10", &["at:"][..]),
        ("[rule.a]\non_stop = \"drop\"\nwindw = { every = \"5m\" }\n", "C0104", "3:1", &["did you mean \"window\"?"]),
        ("[rule.a]\nmax_bytes = \"much\"\n", "C0105", "2:", &["much"]),
    ] {
        std::fs::write(path, text).expect("the directory is writable");
        let place = format!("{path}:{place}");
        assert_backup_refused(&bed, &["--config", path, "--rule", "a"], 2, error, &[words, &[&place]].concat());
    }
}

#[test]
fn a_directory_of_another_rule() {
    let bed = bed();
    bed.backup_all(&[]);
    let before = bed.place.keys();
    let exit = bed.backup(&["--rule", "somebody-else", "--until-end"]).run(RUN_LIMIT);
    assert_refused(&exit, 6, "C0412", &[&bed.rule]);
    assert_eq!(bed.place.keys(), before, "nothing is written");
}

#[test]
fn a_directory_is_not_even_made_for_a_start_that_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let to = format!("file://{}/backup/", directory.path().display());
    let kafka = Kafka::shared().bootstrap();
    for (args, code, error) in [
        (["backup", "orders", "-b", "127.0.0.1:1", "--to", &to, "--until-end"], 5, "C0201"),
        (["backup", "no-such-topic", "-b", kafka, "--to", &to, "--until-end"], 3, "C0203"),
    ] {
        assert_refused(&Program::new(args).run(RUN_LIMIT), code, error, &[]);
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0, "nothing is written");
}

#[test]
fn verify_tells_nothing_from_damage() {
    let bed = bed();
    let Place::Minio(bucket, environment) = &bed.place else { panic!("the bed stands on MinIO") };
    let verify = || Program::new(["verify", &bucket.url("")]).envs(environment.clone()).run(RUN_LIMIT);
    assert_refused(&verify(), 3, "C0502", &[]);
    bed.backup_all(&[]);
    verify().assert_code(0);
    let keys = bed.place.data_keys("");
    let (first, second) = (&keys[0], &keys[1]);
    let intact = bucket.get(second);
    let mut bytes = intact.clone();
    bytes[100] ^= 1;
    bucket.put(second, bytes);
    let exit = verify();
    assert_refused(&exit, 4, "C0501", &[]);
    assert!(format!("{}{}", exit.stdout, exit.stderr).contains(second), "{exit:?}");
    bucket.put(second, intact);
    bucket.delete(first);
    assert_refused(&verify(), 4, "C0501", &[]);
}
