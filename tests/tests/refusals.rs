//! What is wrong from the start is refused: an error with its code, cause and next step, the exit code of its kind, and nothing written.

use std::time::Duration;

use catchment_tests::bed::{Bed, Place, RUN_LIMIT};
use catchment_tests::process::{Exit, Program};
use catchment_tests::services::{Kafka, Minio};

/// Some records and an empty bucket.
fn bed() -> Bed {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::minio(Minio::shared()));
    bed.fill(100);
    bed
}

/// Fails unless it ended with this exit code and error, and the error says all of `words`.
#[track_caller]
fn assert_refused(exit: &Exit, code: i32, error: &str, words: &[&str]) {
    exit.assert_code(code);
    let said = exit.stderr.split_once(&format!("error[{error}]: "));
    let (_, said) = said.unwrap_or_else(|| panic!("no {error} in: {}", exit.stderr));
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
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
    assert_refused(&exit, 3, "C0302", &["catchment-no-such-bucket", "cause:", "help:"]);
}

#[test]
fn no_permission() {
    let bed = bed();
    let exit = bed.backup(&["--until-end"]).envs([("AWS_SECRET_ACCESS_KEY", "wrong")]).run(RUN_LIMIT);
    assert_refused(&exit, 1, "C0301", &["cause:", "help:"]);
    assert!(bed.place.keys().is_empty(), "written: {:?}", bed.place.keys());
}

#[test]
fn an_unreachable_broker() {
    let bed = bed();
    let Place::Minio(bucket, environment) = &bed.place else { panic!("the bed stands on MinIO") };
    // Port 1 of this machine: refused at once, and again until the program gives up.
    let args = ["backup", "orders", "-b", "127.0.0.1:1", "--to", &bucket.url(""), "--until-end"];
    let exit = Program::new(args).envs(environment.clone()).run(Duration::from_secs(40));
    assert_refused(&exit, 5, "C0201", &["127.0.0.1:1", "cause:", "refused", "help:"]);
    assert!(bed.place.keys().is_empty(), "written: {:?}", bed.place.keys());
}

#[test]
fn an_unknown_topic() {
    let mut bed = bed();
    let meant = format!("did you mean {}", bed.topic);
    bed.topic.push_str("-typo");
    assert_backup_refused(&bed, &[], 3, "C0203", &[&bed.topic, "help:", &meant]);
}

#[test]
fn flags_that_do_not_exist_or_do_not_fit() {
    let bed = bed();
    assert_backup_refused(&bed, &["--windw", "5m"], 2, "C0101", &["'--windw'", "help:", "'--window'"]);
    assert_backup_refused(&bed, &["--format", "parkett"], 2, "C0101", &["parkett", "parquet"]);
    assert_backup_refused(&bed, &["--window", "25h"], 2, "C0106", &["24h"]);
    assert_backup_refused(&bed, &["--layout", "tencent"], 2, "C0108", &["help:", "--instance"]);
    assert_backup_refused(&bed, &["-X", "enable.auto.commit=true"], 2, "C0210", &["enable.auto.commit", "help:"]);
}

#[test]
fn a_static_member_with_cooperative_sticky() {
    let more = ["--instance-id", "one", "-X", "partition.assignment.strategy=cooperative-sticky"];
    assert_backup_refused(&bed(), &more, 2, "C0214", &["cooperative-sticky", "cause:", "help:"]);
}

#[test]
fn lines_of_a_config_file() {
    let bed = bed();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("catchment.toml");
    let path = path.to_str().expect("a UTF-8 path");
    for (text, error, place, words) in [
        ("[rule.a]\nsource = = 3\n", "C0103", "2:10", &["at:"][..]),
        ("[rule.a]\non_stop = \"drop\"\nwindw = { every = \"5m\" }\n", "C0104", "3:1", &["help:", "did you mean \"window\"?"]),
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
    assert_refused(&exit, 6, "C0412", &[&bed.rule, "help:"]);
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
        assert_refused(&Program::new(args).run(RUN_LIMIT), code, error, &["help:"]);
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0, "nothing is written");
}

#[test]
fn verify_tells_nothing_from_damage() {
    let bed = bed();
    let Place::Minio(bucket, environment) = &bed.place else { panic!("the bed stands on MinIO") };
    let verify = || Program::new(["verify", &bucket.url("")]).envs(environment.clone()).run(RUN_LIMIT);
    assert_refused(&verify(), 3, "C0502", &["help:"]);
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
