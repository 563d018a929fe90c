//! What the Kafka source does when the broker restarts, its log is damaged, a topic goes, or an address cannot be reached.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use catchment::config::KafkaSettings;
use catchment::error::ErrorKind;
use catchment::source::kafka::{KafkaCluster, errors};
use catchment::source::{CommitError, Committed, Group, QueueFault, Source};
use catchment_tests::admin::Admin;
use catchment_tests::services::{Kafka, KafkaOptions, KafkaVersion};
use catchment_tests::source::{Event, SHARE, assigned, connect, first_fault, join, next_event, no_wake, read_to_end, tp};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

fn produce(broker: &str, topic: &str, count: usize) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker).create().expect("a producer");
    for i in 0..count {
        producer.send(BaseRecord::<(), String>::to(topic).partition(0).payload(&format!("{i:0100}"))).expect("queue a record");
    }
    producer.flush(Duration::from_secs(30)).expect("flush");
}

fn commit_of(offset: i64) -> Committed {
    Committed { offset, leader_epoch: 0, metadata: "m".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_and_committing_go_on_after_a_broker_restart() {
    let kafka = Kafka::start(KafkaOptions::default());
    let broker = kafka.bootstrap().to_owned();
    Admin::new(&broker).create_topic("t", 1, &[]);
    produce(&broker, "t", 10);
    let cluster = connect(&broker, &[]).await;
    let mut queue = cluster.open(&tp("t", 0), 0, -1, no_wake()).expect("open");
    assert_eq!(read_to_end(&mut *queue).1, 10);
    let mut joined = join(&cluster, "restart", &["t".to_owned()]).await.expect("join");
    let lease = assigned(&mut joined).await.remove(0);
    joined.group.commit(&lease, commit_of(1)).await.expect("commit");
    kafka.kill();

    // librdkafka holds the commit while the coordinator is away; the broker is back before it gives up.
    let (group, held) = (joined.group.clone(), lease.clone());
    let waiting = tokio::spawn(async move { group.commit(&held, commit_of(2)).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    kafka.restart();
    let mut outcome = waiting.await.expect("the commit's task");
    // A lane that did not survive the restart has a successor; one that did, a commit that is taken in the end.
    let started = Instant::now();
    let mut lease = lease;
    while outcome.is_err() {
        assert!(started.elapsed() < Duration::from_secs(90), "{outcome:?}");
        match outcome {
            Err(CommitError::LaneDead | CommitError::StaleMember(_)) => lease = assigned(&mut joined).await.remove(0),
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
        outcome = joined.group.commit(&lease, commit_of(2)).await;
    }
    assert_eq!(joined.group.fetch(&lease.tp).await.expect("fetch"), Some(commit_of(2)));
    produce(&broker, "t", 5);
    let mut offsets = Vec::new();
    while offsets.len() < 5 {
        match next_event(&mut *queue, Duration::from_secs(60)).expect("records after the restart") {
            Event::Record(r) => offsets.push(r.offset),
            Event::End(_) => {}
            Event::Fault(fault) => panic!("{fault:?}"),
        }
    }
    assert_eq!(offsets, [10, 11, 12, 13, 14]);
    joined.handle.close(Duration::from_secs(60)).expect("close");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_a_corrupt_batch_not_a_hole() {
    let kafka = Kafka::start(KafkaOptions::default());
    Admin::new(kafka.bootstrap()).create_topic("t", 1, &[]);
    for _ in 0..3 {
        produce(kafka.bootstrap(), "t", 10);
    }
    kafka.stop();
    let segment = kafka.segments("t", 0).remove(0);
    let file = OpenOptions::new().read(true).write(true).open(&segment).expect("open the segment");
    let middle = file.metadata().expect("its size").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).expect("read");
    file.write_all_at(&[byte[0] ^ 1], middle).expect("write");
    drop(file);
    kafka.restart();
    let cluster = connect(kafka.bootstrap(), &[]).await;
    let mut queue = cluster.open(&tp("t", 0), 0, -1, no_wake()).expect("open");
    let mut next = 0;
    let fault = loop {
        match next_event(&mut *queue, Duration::from_secs(60)).expect("an event") {
            Event::Record(r) => {
                assert_eq!(r.offset, next, "no hole before the fault");
                next += 1;
            }
            Event::End(end) => panic!("the end {end} came without the fault"),
            Event::Fault(fault) => break fault,
        }
    };
    assert!(matches!(fault, QueueFault::Corrupt(_)), "{fault:?}");
    assert!((1..30).contains(&next), "the first batch was read, the last was not: {next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_is_gone_and_its_successor_has_another_id() {
    let kafka = Kafka::shared();
    let (admin, topic) = (Admin::new(kafka.bootstrap()), format!("gone-{}", std::process::id()));
    admin.create_topic(&topic, 1, &[]);
    produce(kafka.bootstrap(), &topic, 10);
    let cluster = connect(kafka.bootstrap(), &[]).await;
    let first = cluster.topic(&topic).await.expect("describe").expect("the topic");
    let mut queue = cluster.open(&tp(&topic, 0), 0, -1, no_wake()).expect("open");
    assert_eq!(read_to_end(&mut *queue).1, 10);
    admin.delete_topic(&topic);
    let fault = first_fault(&mut *queue);
    assert!(matches!(fault, QueueFault::Gone(_)), "{fault:?}");
    drop(queue);
    assert_eq!(cluster.topic(&topic).await.expect("describe"), None);
    admin.create_topic(&topic, 1, &[]);
    produce(kafka.bootstrap(), &topic, 3);
    let second = cluster.topic(&topic).await.expect("describe").expect("the topic");
    assert_ne!(first.id, second.id);
    // The old position is past the new log's end.
    let mut queue = cluster.open(&tp(&topic, 0), 10, -1, no_wake()).expect("open");
    let fault = first_fault(&mut *queue);
    assert!(matches!(fault, QueueFault::OutOfRange(_) | QueueFault::Gone(_)), "{fault:?}");
    drop(queue);

    // Made anew so fast that nobody saw it gone, with more records than before: no position tells, only the id does.
    // A client that asks in between does see it gone, and says so without an id: then once more.
    let mut faults = Vec::new();
    for _ in 0..5 {
        let before = cluster.topic(&topic).await.expect("describe").expect("the topic");
        let (_, end) = admin.log_range(&topic, 0);
        let mut queue = cluster.open(&tp(&topic, 0), 0, -1, no_wake()).expect("open");
        assert_eq!(read_to_end(&mut *queue).1, end);
        admin.delete_topic(&topic);
        admin.create_topic(&topic, 1, &[]);
        produce(kafka.bootstrap(), &topic, usize::try_from(end).expect("an offset >= 0") + 7);
        let fault = first_fault(&mut *queue);
        assert!(matches!(fault, QueueFault::Gone(_)), "{fault:?}");
        if matches!(&fault, QueueFault::Gone(text) if text.contains(&before.id)) {
            return;
        }
        faults.push(fault);
    }
    panic!("none names the topic that was read: {faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_broker_serves_source_and_group() {
    let kafka = Kafka::shared_v3();
    assert_eq!(KafkaVersion::default(), KafkaVersion::V4);
    let (admin, topic) = (Admin::new(kafka.bootstrap()), format!("old-{}", std::process::id()));
    admin.create_topic(&topic, 2, &[]);
    produce(kafka.bootstrap(), &topic, 10);
    let cluster = connect(kafka.bootstrap(), &[]).await;
    let info = cluster.topic(&topic).await.expect("describe").expect("the topic");
    assert_eq!((info.partitions, info.id.len()), (2, 32));
    let bounds = cluster.bounds(&tp(&topic, 0)).await.expect("bounds");
    assert_eq!((bounds.start, bounds.stable_end, bounds.end), (0, 10, 10));
    assert_eq!(cluster.offsets_for_time(&[tp(&topic, 0), tp(&topic, 1)], 0).await.expect("times"), [Some(0), None]);
    let mut queue = cluster.open(&tp(&topic, 0), 4, 0, no_wake()).expect("open");
    assert_eq!(read_to_end(&mut *queue).0.len(), 6);
    let mut joined = join(&cluster, &topic, std::slice::from_ref(&topic)).await.expect("join");
    let leases = assigned(&mut joined).await;
    assert_eq!(leases.len(), 2);
    let commit = Committed { offset: 4, leader_epoch: 0, metadata: "x".repeat(2_900) };
    joined.group.commit(&leases[0], commit.clone()).await.expect("commit");
    assert_eq!(joined.group.fetch(&leases[0].tp).await.expect("fetch"), Some(commit));
    joined.handle.close(Duration::from_secs(20)).expect("close");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advertised_host_that_does_not_resolve_is_named() {
    let advertised = "PLAINTEXT://no-such-host.invalid:9092,SASL://no-such-host.invalid:9093,SASLSSL://no-such-host.invalid:9094,\
                      TLS://no-such-host.invalid:9095,MTLS://no-such-host.invalid:9096";
    let properties = vec![("advertised.listeners".to_owned(), advertised.to_owned())];
    let kafka = Kafka::start(KafkaOptions { properties, ..KafkaOptions::default() });
    let error = KafkaCluster::connect(KafkaSettings::plaintext(kafka.bootstrap()), SHARE).await.expect_err("nothing behind that name");
    assert_eq!((error.code, error.kind), (errors::ADVERTISED_UNREACHABLE, ErrorKind::Unreachable), "{error}");
    assert!(error.to_string().contains("no-such-host.invalid:9092"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_went_away_is_unreachable_not_a_panic() {
    let kafka = Kafka::start(KafkaOptions::default());
    Admin::new(kafka.bootstrap()).create_topic("t", 1, &[]);
    let cluster = connect(kafka.bootstrap(), &[("socket.timeout.ms", "2000")]).await;
    kafka.kill();
    let error = cluster.bounds(&tp("t", 0)).await.expect_err("no broker");
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    kafka.restart();
    let started = Instant::now();
    while let Err(error) = cluster.bounds(&tp("t", 0)).await {
        assert!(started.elapsed() < Duration::from_secs(60), "{error}");
    }
}
