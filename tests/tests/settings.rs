//! Every setting that says what is read, how it is cut and where it goes, end to end on small topics: what is stored is what the setting
//! means, and `verify` agrees with Kafka.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use catchment_tests::admin::Admin;
use catchment_tests::bed::{Bed, Place, RUN_LIMIT, unique};
use catchment_tests::generate::{Codec, Plan, Profile, Record, RecordProducer, Rng, fill};
use catchment_tests::oracle::Truth;
use catchment_tests::process::{Process, Program};
use catchment_tests::readers::{Objects, assert_parquet_equals, assert_raw_equals};
use catchment_tests::services::{Kafka, KafkaOptions, Listener, Minio};

/// Two partitions of 300 plain records each, 20 ms apart from 2023-11-14T22:13:20Z on; offsets are sequence numbers.
fn bed() -> Bed {
    bed_on(Kafka::shared())
}

fn bed_on(kafka: &Kafka) -> Bed {
    let mut bed = Bed::new(kafka.bootstrap(), 2, Place::minio(Minio::shared()));
    bed.fill(600);
    bed
}

/// Backs up with these settings under a rule and a prefix of their own, and fails unless exactly `truth` is stored. Returns the keys.
#[track_caller]
fn backs_up(bed: &Bed, name: &str, settings: &[&str], truth: &Truth) -> Vec<String> {
    let prefix = format!("{name}/");
    let rule = format!("{name}-{}", bed.topic);
    let args = [&["--rule", &rule, "--until-end"], settings].concat();
    bed.backup_to(&prefix, &args).run(RUN_LIMIT).assert_code(0);
    truth.assert_equals(&bed.place.stored(&prefix), name);
    let report = bed.verify(&prefix, true);
    assert_eq!(report["records"], truth.len(), "{name}: {report}");
    assert_eq!(report["gaps"], serde_json::json!([]), "{name}: {report}");
    bed.place.data_keys(&prefix)
}

/// The same of a topic in a directory, run and verified by hand.
fn backs_up_to_directory(bootstrap: &str, topic: &str, directory: &Path, more: &[&str]) {
    let url = format!("file://{}/", directory.display());
    let args = ["backup", topic, "-b", bootstrap, "--to", &url, "--instance-id", "none", "--until-end"];
    Program::new(args).args(more).run(RUN_LIMIT).assert_code(0);
    Program::new(["verify", &url, "-b", bootstrap]).run(RUN_LIMIT).assert_code(0);
}

#[test]
fn every_layout_and_a_template_name_directories_as_they_say() {
    let bed = bed();
    let (topic, truth) = (&bed.topic, bed.truth());
    for (name, settings, directory) in [
        ("hive", &["--layout", "hive"][..], format!("{topic}/dt=2023-11-14/hour=22/")),
        ("tencent", &["--layout", "tencent", "--instance", "ckafka-1"], format!("ckafka-1/{topic}/")),
        (
            "named",
            &["--layout", "tencent", "--instance", "ckafka-1", "--topic-id", "topic-7"],
            "ckafka-1/topic-7/20231114221320/".to_owned(),
        ),
        ("confluent", &["--layout", "confluent"], format!("topics/{topic}/partition=1/")),
        ("template", &["--path", "archive/{topic}/{yyyy}/{mm}/p{partition}"], format!("archive/{topic}/2023/11/p1/")),
    ] {
        let keys = backs_up(&bed, name, settings, &truth);
        let below = format!("{name}/{directory}");
        assert!(keys.iter().any(|key| key.starts_with(&below)), "{below} is not among {keys:?}");
    }
}

#[test]
fn every_start_form_begins_where_it_says() {
    let bed = bed();
    let truth = bed.truth();
    backs_up(&bed, "earliest", &["--start", "earliest"], &truth);
    let from_150 = truth.filtered(|(_, offset)| offset >= 150);
    backs_up(&bed, "offset", &["--start", "150"], &from_150);
    backs_up(&bed, "time", &["--start", "@2023-11-14T22:13:23Z"], &from_150);
    backs_up(&bed, "millis", &["--start", "@1700000003000"], &from_150);
    let vector = truth.filtered(|(partition, offset)| offset >= if partition == 0 { 100 } else { 250 });
    backs_up(&bed, "vector", &["--start", "0:100,1:250"], &vector);
    let part = truth.filtered(|(partition, offset)| partition == 0 || offset >= 250);
    backs_up(&bed, "part", &["--start", "1:250"], &part);
}

#[test]
fn a_start_below_the_logs_beginning_is_a_listed_gap() {
    let bed = bed();
    bed.admin.delete_records(&bed.topic, 0, 120);
    bed.backup_all(&["--start", "100"]);
    bed.truth().filtered(|(_, offset)| offset >= 100).assert_equals(&bed.place.stored(""), "a start below the log's beginning");
    bed.assert_gaps("retention", &[(0, 100, 120)]);
}

#[test]
fn a_start_behind_the_logs_end_is_refused_and_does_not_stick() {
    let bed = bed();
    for start in ["301", "0:100,1:301"] {
        let exit = bed.assert_stops(&["--start", start], 2, "C0429");
        assert!(exit.stderr.contains("log_end:   300") && exit.stderr.contains("help:"), "{}", exit.stderr);
        assert!(bed.place.keys().is_empty(), "written: {:?}", bed.place.keys());
    }
    bed.backup_all(&["--start", "0:100,1:300"]);
    bed.truth().filtered(|(partition, offset)| partition == 0 && offset >= 100).assert_equals(&bed.place.stored(""), "the right start");
}

#[test]
fn latest_stores_what_comes_after_the_start() {
    let mut bed = bed();
    let rule = ["--start", "latest"];
    let mut process = bed.backup(&rule).spawn();
    process.wait_for_stderr("backup runs", Duration::from_secs(60));
    std::thread::sleep(Duration::from_secs(3)); // the start is an answer of the broker's, asked for after that line
    bed.fill(200);
    bed.await_committed(&mut [&mut process], Duration::from_secs(60));
    process.terminate(Duration::from_secs(15)).assert_code(0);
    bed.truth().filtered(|(_, offset)| offset >= 300).assert_equals(&bed.place.stored(""), "latest");
    bed.verify("", true);
}

#[test]
fn a_start_before_now_counts_from_now() {
    // A record every five minutes for two hours: the twelve newest of each partition are less than an hour old.
    let bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::minio(Minio::shared()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_millis() as i64;
    let profile = Profile::plain().with_times(now - 7_200_000 + 150_000, 300_000_000);
    fill(bed.broker(), &Plan { profile, ..Plan::plain(3, &bed.topic, 2, 48) });
    backs_up(&bed, "ago", &["--start", "@-1h"], &bed.truth().filtered(|(_, offset)| offset >= 12));
}

#[test]
fn windows_are_as_long_and_as_large_as_they_may() {
    let bed = bed();
    let truth = bed.truth();
    let seconds = backs_up(&bed, "1s", &["--window", "1s"], &truth);
    assert!((12..=20).contains(&seconds.len()), "6 s in windows of 1 s, two partitions: {seconds:?}");
    let day = backs_up(&bed, "24h", &["--window", "24h"], &truth);
    assert_eq!(day.len(), 2, "{day:?}");
    let small = backs_up(&bed, "small", &["--window", "24h", "--max-bytes", "8KiB"], &truth);
    assert!(small.len() >= 6, "some 60 KB a partition in windows of 8 KiB: {small:?}");
    backs_up(&bed, "arrival", &["--window", "1s", "--window-by", "arrival"], &truth);
}

#[test]
fn a_list_of_topics_goes_into_a_directory_for_each() {
    let bed = bed();
    let second = format!("{}.second", bed.topic);
    bed.admin.create_mixed_topic(&second, 2);
    fill(bed.broker(), &Plan::plain(5, &second, 2, 200));
    bed.backup_all(&["-t", &second]);
    let truths = [(&bed.topic, bed.truth()), (&second, Truth::read(bed.broker(), &second))];
    for (topic, truth) in &truths {
        truth.assert_equals(&bed.place.stored(&format!("{topic}/")), topic);
    }
    let report = bed.verify("", true);
    assert_eq!((&report["lanes"], &report["compared"]), (&4.into(), &800.into()), "{report}");
}

/// Waits until the bed's group has every record of these partitions, with nothing pinned.
fn await_partitions(bed: &Bed, partitions: i32, process: &mut Process) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let done = |partition| {
        let end = bed.admin.log_range(&bed.topic, partition).1;
        let found = bed.admin.group_offset(&bed.group(), &bed.topic, partition);
        found.is_some_and(|o| o.offset >= end && !o.metadata.contains("\"E\":"))
    };
    while !(0..partitions).all(done) {
        assert!(process.poll().is_none() && Instant::now() < deadline, "not committed: {}", process.stderr());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn partitions_that_are_added_later_are_stored_from_their_beginning() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::minio(Minio::shared()));
    bed.fill(300);
    let mut process = bed.backup(&["--start", "latest"]).spawn();
    process.wait_for_stderr("backup runs", Duration::from_secs(60));
    bed.admin.set_partitions(&bed.topic, 3);
    fill(bed.broker(), &Plan::plain(8, &bed.topic, 3, 600));
    await_partitions(&bed, 3, &mut process);
    process.terminate(Duration::from_secs(15)).assert_code(0);
    let truth = bed.truth().filtered(|(partition, offset)| partition > 0 || offset >= 300);
    assert_eq!(truth.len(), 600);
    truth.assert_equals(&bed.place.stored(""), "new partitions");
    assert_eq!(bed.verify("", true)["compared"], 600);
}

#[test]
fn two_processes_that_run_to_the_end_share_the_work_and_both_succeed() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 4, Place::minio(Minio::shared()));
    bed.fill(4000);
    let processes = [(); 2].map(|()| bed.backup_static(&["--until-end"]).spawn());
    for exit in processes.map(|process| process.wait(RUN_LIMIT)) {
        exit.assert_code(0);
    }
    bed.assert_complete("two processes to the end");
}

#[test]
fn a_run_to_the_end_waits_for_what_another_member_has_not_committed() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 4, Place::minio(Minio::shared()));
    bed.fill(4000);
    let kept_open = ["--window-by", "arrival", "--window", "24h", "-X", "session.timeout.ms=6000"];
    let mut holder = bed.backup_static(&kept_open).spawn();
    holder.wait_for_stderr("backup runs", Duration::from_secs(60));
    let mut waiting = bed.backup_static(&[&kept_open[..], &["--until-end"]].concat()).spawn();
    // What it has of the partitions it stores at once. The other member keeps its windows open.
    let committed = || {
        let is_done = |partition: &i32| {
            let found = bed.admin.group_offset(&bed.group(), &bed.topic, *partition);
            found.is_some_and(|o| o.offset >= bed.admin.log_range(&bed.topic, *partition).1 && !o.metadata.contains("\"E\":"))
        };
        (0..4).filter(is_done).count()
    };
    let deadline = Instant::now() + RUN_LIMIT;
    while committed() < 2 {
        assert!(waiting.poll().is_none() && Instant::now() < deadline, "{} of 4: {}", committed(), waiting.stderr());
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((waiting.poll(), committed()), (None, 2), "{}", waiting.stderr());
    holder.terminate(Duration::from_secs(15)).assert_code(0);
    waiting.wait(RUN_LIMIT).assert_code(0);
    bed.assert_complete("a run to the end that waited for another member");
}

/// Sends records in a transaction that is left open.
fn open_transaction(bed: &Bed, partition: i32, records: u64) -> RecordProducer {
    let producer = RecordProducer::transactional(bed.broker(), Codec::None, &bed.topic);
    producer.begin();
    for n in 0..records {
        producer.send(&bed.topic, partition, &Profile::plain().record(9, &bed.topic, partition, n));
    }
    producer.flush();
    producer
}

#[test]
fn a_transaction_that_hangs_does_not_hold_up_a_run_to_the_end() {
    let mut bed = bed();
    let transaction = open_transaction(&bed, 0, 50);
    // What comes behind it in its partition cannot be read before it has ended.
    bed.fill(200);
    bed.backup_all(&[]);
    let visible = bed.truth();
    assert_eq!(visible.len(), 700);
    visible.assert_equals(&bed.place.stored(""), "while a transaction hangs");
    transaction.commit();
    bed.backup_all(&[]);
    assert_eq!(bed.truth().len(), 850);
    bed.assert_complete("after the transaction was committed");
}

#[test]
fn aborted_records_at_the_end_of_a_partition_leave_no_lag() {
    let bed = bed();
    open_transaction(&bed, 0, 50).abort();
    bed.backup_all(&[]);
    for partition in 0..2 {
        assert_eq!(bed.offset(partition).0, bed.admin.log_range(&bed.topic, partition).1, "partition {partition}");
    }
    assert_eq!(bed.offset(0).0, 351, "aborted records and the marker of their end are behind the position");
    bed.assert_complete("with aborted records at the end");
}

#[test]
fn a_topic_whose_name_readers_would_hide_is_escaped() {
    let (kafka, rule) = (Kafka::shared().bootstrap(), unique("audit"));
    let topic = format!("_{rule}");
    Admin::new(kafka).create_mixed_topic(&topic, 1);
    fill(kafka, &Plan::plain(6, &topic, 1, 200));
    let directory = tempfile::tempdir().expect("a temporary directory");
    backs_up_to_directory(kafka, &topic, directory.path(), &["--rule", &rule, "--window", "24h"]);
    let objects = directory.path().join(format!("%5F{rule}/dt=2023-11-14/hour=22"));
    let name = format!("%5F{rule}+0+{:020}.parquet", 0);
    assert!(objects.join(&name).is_file(), "no {name} in {}", objects.display());
    assert_parquet_equals(&Truth::read(kafka, &topic), Objects::Directory(directory.path()), "");
}

/// A partition with records of these sizes, of runs of so many equal bytes.
fn bed_of_large_records(sizes: &[usize], run_bytes: usize, codec: Codec) -> Bed {
    let bed = Bed::new(Kafka::shared().bootstrap(), 1, Place::minio(Minio::shared()));
    let (producer, mut rng) = (RecordProducer::new(bed.broker(), codec), Rng::new(12));
    for (timestamp, bytes) in (1_700_000_000_000..).zip(sizes) {
        let runs = std::iter::repeat_with(|| std::iter::repeat_n(rng.next_u64().to_le_bytes()[0], run_bytes));
        let value = runs.flatten().take(*bytes).collect();
        producer.send(&bed.topic, 0, &Record { key: None, value: Some(value), headers: Vec::new(), timestamp });
    }
    producer.flush();
    bed
}

/// Waits until it has ended well, and returns the peak of its memory.
#[track_caller]
fn peak_of_success(mut process: Process) -> u64 {
    let (deadline, mut peak) = (Instant::now() + RUN_LIMIT, 0);
    while process.poll().is_none() && Instant::now() < deadline {
        peak = process.memory_peak_bytes().max(peak);
        std::thread::sleep(Duration::from_millis(10));
    }
    process.wait(Duration::ZERO).assert_code(0);
    peak
}

#[test]
fn the_largest_record_goes_through_a_small_budget() {
    const BUDGET: u64 = 128 << 20;
    let bed = bed_of_large_records(&[100, 12 << 20, 100], 1, Codec::None);
    let peak = peak_of_success(bed.backup(&["--budget", "128MiB", "--until-end"]).spawn());
    assert!(peak > 0 && peak <= BUDGET * 6 / 5, "peak {} MiB of {} MiB", peak >> 20, BUDGET >> 20);
    assert_eq!(bed.truth().len(), 3);
    bed.assert_complete("a record of 12 MiB");
}

#[test]
fn a_record_that_the_budget_cannot_hold_is_refused_until_the_budget_is_raised() {
    // The broker takes it for what it is compressed.
    let bed = bed_of_large_records(&[40 << 20], 64, Codec::Gzip);
    let exit = bed.assert_stops(&["--budget", "96MiB"], 2, "C0430");
    for word in ["record_bytes", "memory_bytes", "raise --budget"] {
        assert!(exit.stderr.contains(word), "no {word:?} in: {}", exit.stderr);
    }
    bed.backup_all(&["--budget", "256MiB"]);
    assert_eq!(bed.truth().len(), 1);
    bed.assert_complete("a record of 40 MiB");
}

#[test]
fn a_regex_takes_in_topics_that_are_created_later() {
    let kafka = Kafka::shared();
    let admin = Admin::new(kafka.bootstrap());
    let stem = unique("many");
    let topics = ["a", "b"].map(|name| format!("{stem}.{name}"));
    let make = |topic: &str| {
        admin.create_mixed_topic(topic, 2);
        fill(kafka.bootstrap(), &Plan::plain(5, topic, 2, 200));
    };
    make(&topics[0]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = format!("file://{}/", directory.path().display());
    let pattern = format!("^{stem}\\..*");
    let args = ["backup", &pattern, "-b", kafka.bootstrap(), "--to", &url, "--rule", &stem, "--window", "1s", "--instance-id", "none"];
    let mut process = Program::new(args).spawn();
    process.wait_for_stderr("backup runs", Duration::from_secs(60));
    make(&topics[1]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let group = format!("catchment-{stem}");
    let done = |topic: &String| {
        (0..2).all(|p| admin.group_offset(&group, topic, p).is_some_and(|o| o.offset >= 100 && !o.metadata.contains("\"E\":")))
    };
    while !topics.iter().all(done) {
        assert!(Instant::now() < deadline, "not committed: {}", process.stderr());
        std::thread::sleep(Duration::from_millis(200));
    }
    process.terminate(Duration::from_secs(15)).assert_code(0);
    for topic in &topics {
        let truth = Truth::read(kafka.bootstrap(), topic);
        assert_parquet_equals(&truth, Objects::Directory(directory.path()), &format!("{topic}/"));
    }
    Program::new(["verify", &url, "-b", kafka.bootstrap()]).run(RUN_LIMIT).assert_code(0);
}

#[test]
fn raw_codecs_and_framings_give_the_values_back_from_a_directory() {
    let bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::minio(Minio::shared()));
    let text = Profile { binary_values: 0, huge_values_per_million: 0, ..Profile::mixed() };
    fill(bed.broker(), &Plan { profile: text, ..Plan::mixed(9, &bed.topic, 2, 3000) });
    let truth = bed.truth();
    for (framing, codec) in [("len32", "none"), ("len32", "zstd"), ("len32", "gzip"), ("newline", "none"), ("newline", "zstd")] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let rule = format!("{framing}-{codec}-{}", bed.topic);
        let settings = ["--rule", &rule, "--format", "raw", "--framing", framing, "--codec", codec];
        backs_up_to_directory(bed.broker(), &bed.topic, directory.path(), &settings);
        assert_raw_equals(&truth, Objects::Directory(directory.path()), "", framing);
    }
}

#[test]
fn a_config_file_runs_a_rule() {
    let bed = bed();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("catchment.toml");
    let (data, rule, broker, topic) = (directory.path().join("data"), unique("rule"), bed.broker(), &bed.topic);
    let text = format!(
        "[kafka.local]\nbrokers = [\"{broker}\"]\n[store.disk]\nurl = \"file://{}/\"\n[rule.{rule}]\n\
         source = {{ kafka = \"local\", topics = [\"{topic}\"], start = \"150\" }}\nwindow = {{ every = \"1s\" }}\n\
         format = {{ kind = \"parquet\", level = 3 }}\nto = {{ store = \"disk\", prefix = \"lake/\", layout = \"confluent\" }}\n",
        data.display()
    );
    std::fs::write(&path, text).expect("the directory is writable");
    let path = path.to_str().expect("a UTF-8 path");
    Program::new(["config", "check", path]).run(RUN_LIMIT).assert_code(0);
    Program::new(["backup", "--config", path, "--rule", &rule, "--until-end"]).run(RUN_LIMIT).assert_code(0);
    let truth = bed.truth().filtered(|(_, offset)| offset >= 150);
    assert_parquet_equals(&truth, Objects::Directory(&data), &format!("lake/topics/{topic}/"));
    let url = format!("file://{}/lake/", data.display());
    Program::new(["verify", &url, "-b", broker]).run(RUN_LIMIT).assert_code(0);
    let listed = Program::new(["ls", &url, "-l", "--json"]).run(RUN_LIMIT).stdout;
    assert!(listed.contains("parquet.zstd3.v1") && !listed.contains("zstd1"), "{listed}");
}

#[test]
fn a_config_file_gives_the_logins_of_broker_and_store() {
    let kafka = Kafka::start(KafkaOptions::default());
    let (bed, directory) = (bed_on(&kafka), tempfile::tempdir().expect("a temporary directory"));
    let ((user, password), (key, secret)) = (kafka.account(), Minio::shared().keys());
    let written = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("the directory is writable");
        path.to_str().expect("a UTF-8 path").to_owned()
    };
    let Place::Minio(bucket, _) = &bed.place else { panic!("the bed stands on MinIO") };
    let (url, endpoint) = (bucket.url("lake/"), Minio::shared().endpoint());
    let text = format!(
        "[kafka.door]\nbrokers = \"{}\"\nsasl = {{ mechanism = \"SCRAM-SHA-256\", username = \"{user}\", password = \"file:{}\" }}\n\
         tls = {{ ca = \"{}\" }}\n[store.lake]\nurl = \"{url}?region=us-east-1&style=path&endpoint={endpoint}\"\n\
         access_key_id = \"{key}\"\nsecret_access_key = \"env:STORE_SECRET\"\n[rule.{}]\nsource = {{ topics = \"{}\" }}\nwindow = {{ every = \"1s\" }}\n",
        kafka.listener(Listener::SaslSsl),
        written("password", &format!("{password}\n")),
        kafka.certificate("ca.pem").display(),
        bed.rule,
        bed.topic
    );
    let config = written("catchment.toml", &text);
    let run = |args: &[&str]| Program::new(args).envs([("STORE_SECRET", secret)]).run(RUN_LIMIT);
    run(&["backup", "--config", &config, "--until-end"]).assert_code(0);
    bed.truth().assert_equals(&bed.place.stored("lake/"), "by a config file");
    let report = run(&["verify", &url, "--config", &config, "--kafka", "door"]);
    report.assert_code(0);
    assert!(report.stdout.contains(" 600 compared with Kafka") && report.stdout.contains("sound"), "{}", report.stdout);
}

#[test]
fn an_old_broker_serves_as_well() {
    let kafka = Kafka::shared_v3();
    let topic = unique("old");
    Admin::new(kafka.bootstrap()).create_topic(&topic, 2, &[]);
    fill(kafka.bootstrap(), &Plan::mixed(4, &topic, 2, 6000));
    let directory = tempfile::tempdir().expect("a temporary directory");
    backs_up_to_directory(kafka.bootstrap(), &topic, directory.path(), &[]);
    assert_parquet_equals(&Truth::read(kafka.bootstrap(), &topic), Objects::Directory(directory.path()), "");
}
