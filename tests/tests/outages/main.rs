//! Services that go away under a running backup and come back, permissions too, and a store that is slow: it goes on by itself, loses
//! nothing, stores nothing twice and stays within its memory. And what a process runs short of itself ([`exhaustion`]), in one program with it: both wait
//! for minutes, and so they wait side by side.

mod exhaustion;

use std::time::{Duration, Instant};

use catchment_tests::bed::{Bed, Place};
use catchment_tests::generate::{Codec, Record, RecordProducer, Rng};
use catchment_tests::process::Process;
use catchment_tests::proxy::Proxy;
use catchment_tests::services::{Kafka, KafkaOptions, Minio};

/// Windows close by the clock, so that everything is committed soon after it came.
const BY_ARRIVAL: [&str; 4] = ["--window", "1s", "--window-by", "arrival"];

/// How long a backup may take to have everything after a service came back: back-off pauses, sessions, the backlog.
const CATCH_UP: Duration = Duration::from_secs(180);

/// How long a stop may take on a machine that has other things to do.
const STOP: Duration = Duration::from_secs(60);

/// How long a stop takes at most.
const STOP_PROMISED: Duration = Duration::from_secs(10);

/// How long a service is away: longer than sessions, request time-outs and every pause between two attempts.
const OUTAGE: Duration = Duration::from_secs(60);

/// How long a slow store is watched.
const SLOW: Duration = Duration::from_secs(180);

/// A backup that has stored its first windows.
fn running(bed: &mut Bed) -> Process {
    bed.fill(1000);
    let mut process = bed.backup(&BY_ARRIVAL).spawn();
    bed.await_committed(&mut [&mut process], CATCH_UP);
    process
}

/// Sends records all through an outage of this length.
fn fill_for(bed: &mut Bed, length: Duration) {
    let began = Instant::now();
    while began.elapsed() < length {
        bed.fill(200);
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn finish(bed: &Bed, mut process: Process, what: &str) {
    bed.await_committed(&mut [&mut process], CATCH_UP);
    process.terminate(STOP).assert_code(0);
    bed.assert_complete(what);
}

#[test]
fn a_store_that_hangs_and_one_that_is_restarted_are_waited_for() {
    let store = Minio::start();
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::minio(&store));
    let process = running(&mut bed);
    store.freeze();
    fill_for(&mut bed, OUTAGE / 2);
    store.thaw();
    fill_for(&mut bed, Duration::from_secs(2));
    store.kill();
    fill_for(&mut bed, OUTAGE);
    store.restart();
    fill_for(&mut bed, Duration::from_secs(2));
    finish(&bed, process, "after a store that was away");
}

#[test]
fn a_broker_that_is_restarted_is_waited_for() {
    let kafka = Kafka::start(KafkaOptions::default());
    let mut bed = Bed::new(kafka.bootstrap(), 2, Place::minio(Minio::shared()));
    let process = running(&mut bed);
    kafka.kill();
    std::thread::sleep(OUTAGE / 2);
    kafka.restart();
    bed.fill(1000);
    finish(&bed, process, "after a broker that was away");
}

#[test]
fn a_permission_that_is_taken_away_is_waited_for() {
    let store = Minio::start_with_policy();
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::minio(&store));
    let mut process = running(&mut bed);
    store.deny(&["s3:PutObject"]);
    let stored = bed.place.data_keys("").len();
    bed.fill(500);
    process.wait_for_stderr("waiting for the store", Duration::from_secs(30));
    assert!(process.stderr().contains("PutObject") && process.stderr().contains("403"), "{}", process.stderr());
    assert_eq!(bed.place.data_keys("").len(), stored, "nothing can be written now");
    store.deny(&["s3:GetObject"]);
    fill_for(&mut bed, Duration::from_secs(5));
    store.deny(&[]);
    finish(&bed, process, "after a permission was given back");
}

/// A backlog of values of this size and no redundancy, behind a store at 1 MB/s: the peak of memory stays by the budget, and once the
/// store is fast again everything is there, once.
fn slow_store(value_bytes: usize, records: u64, budget_mib: u64) {
    let proxy = Proxy::start(Minio::shared().endpoint());
    let bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::minio_behind(Minio::shared(), &proxy.address()));
    send(&bed, value_bytes, records);
    proxy.set_upload_rate(1_000_000);
    let mut process = bed.backup(&["--window", "1h", "--budget", &format!("{budget_mib}MiB")]).spawn();
    let (began, mut peak) = (Instant::now(), 0);
    while began.elapsed() < SLOW {
        assert!(process.poll().is_none(), "it ended: {}", process.stderr());
        peak = process.memory_peak_bytes().max(peak);
        std::thread::sleep(Duration::from_millis(200));
    }
    let sent = proxy.uploaded_bytes();
    println!("values of {value_bytes} B: peak {} MiB of a budget of {budget_mib} MiB, {} MB uploaded", peak >> 20, sent / 1_000_000);
    assert!(peak <= (budget_mib << 20) * 6 / 5, "peak {} MiB of {budget_mib} MiB", peak >> 20);
    assert!(sent > SLOW.as_secs() * 500_000, "the store was the bottleneck and work went on: {sent} B");
    proxy.set_upload_rate(0);
    process.terminate(STOP).assert_code(0);
    bed.backup_all(&["--window", "1h"]);
    bed.assert_complete(&format!("behind a slow store, {value_bytes} B"));
}

fn send(bed: &Bed, value_bytes: usize, records: u64) {
    let producer = RecordProducer::new(bed.broker(), Codec::None);
    let mut rng = Rng::new(11);
    for n in 0..records {
        let mut value = Vec::with_capacity(value_bytes + 8);
        while value.len() < value_bytes {
            value.extend_from_slice(&rng.next_u64().to_le_bytes());
        }
        value.truncate(value_bytes);
        let timestamp = 1_700_000_000_000 + i64::try_from(n / 1000).expect("a count fits");
        let record = Record { key: None, value: Some(value), headers: Vec::new(), timestamp };
        producer.send(&bed.topic, i32::try_from(n % 2).expect("0 or 1"), &record);
    }
    producer.flush();
}

/// Both at once: each waits for its own connection most of the time. The budgets are small enough for the backlogs to fill them.
#[test]
fn a_slow_store_does_not_grow_the_process() {
    std::thread::scope(|scope| {
        scope.spawn(|| slow_store(100, 3_000_000, 128));
        scope.spawn(|| slow_store(1 << 20, 400, 256));
    });
}

#[test]
fn a_stop_during_work_takes_less_than_ten_seconds() {
    let proxy = Proxy::start(Minio::shared().endpoint());
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 2, Place::minio_behind(Minio::shared(), &proxy.address()));
    bed.fill(20_000);
    let mut process = bed.backup(&[]).spawn();
    process.wait_for_stdout(&bed.topic, CATCH_UP);
    process.terminate(STOP_PROMISED).assert_code(0);
    let mut process = bed.backup(&[]).spawn();
    process.wait_for_stdout(&bed.topic, CATCH_UP);
    proxy.hang();
    bed.fill(2000);
    std::thread::sleep(Duration::from_secs(2));
    process.terminate(STOP_PROMISED).assert_code(0);
    proxy.resume();
    bed.backup_all(&[]);
    bed.assert_complete("after two stops");
}

#[test]
fn two_processes_of_one_rule_share_its_partitions() {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 4, Place::minio(Minio::shared()));
    bed.fill(1000);
    // Static members, named by slot: one command line serves both.
    let (mut first, mut second) = (bed.backup_static(&BY_ARRIVAL).spawn(), bed.backup_static(&BY_ARRIVAL).spawn());
    let deadline = Instant::now() + CATCH_UP;
    while !(first.stdout().contains(&bed.topic) && second.stdout().contains(&bed.topic)) {
        assert!(Instant::now() < deadline, "only one works: {}{}", first.stderr(), second.stderr());
        bed.fill(400);
        std::thread::sleep(Duration::from_millis(500));
    }
    bed.await_committed(&mut [&mut first, &mut second], CATCH_UP);
    first.terminate(STOP).assert_code(0);
    bed.fill(400);
    // A static member that left is waited for by the group until its session ends; then the other one takes over.
    bed.await_committed(&mut [&mut second], CATCH_UP);
    second.terminate(STOP).assert_code(0);
    bed.assert_complete("two processes");
}
