//! The Kafka source and group against a real broker.
//!
//! Each test makes topics and groups of its own, so they run side by side.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use catchment::config::KafkaSettings;
use catchment::error::ErrorKind;
use catchment::source::kafka::{KafkaCluster, errors};
use catchment::source::{CommitError, Committed, Group, GroupEvent, QueueFault, Source, Wake};
use catchment_formats::TimestampType;
use catchment_tests::admin::Admin;
use catchment_tests::services::Kafka;
use catchment_tests::source::{Event, SHARE, assigned, connect, first_fault, join, next_event, no_wake, read_to_end, tp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

/// The address of the broker that all tests share.
fn broker() -> String {
    Kafka::shared().bootstrap().to_owned()
}

fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn admin(broker: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker).create().expect("an admin client")
}

async fn make_topic(broker: &str, partitions: i32) -> String {
    let name = unique("source");
    make_named_topic(broker, &name, partitions).await;
    name
}

async fn make_named_topic(broker: &str, name: &str, partitions: i32) {
    let (broker, name) = (broker.to_owned(), name.to_owned());
    let make = move || Admin::new(&broker).create_mixed_topic(&name, partitions);
    tokio::task::spawn_blocking(make).await.expect("the topic is made");
}

fn producer(broker: &str, more: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker).set("linger.ms", "0");
    for (key, value) in more {
        config.set(*key, *value);
    }
    config.create().expect("a producer")
}

fn produce(producer: &BaseProducer, topic: &str, partition: i32, values: impl IntoIterator<Item = String>) {
    for value in values {
        producer.send(BaseRecord::<(), String>::to(topic).partition(partition).payload(&value)).expect("queue a record");
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(30)).expect("flush");
}

fn commit_of(offset: i64, metadata: &str) -> Committed {
    Committed { offset, leader_epoch: 0, metadata: metadata.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_record_survives() {
    let broker = broker();
    let topic = make_topic(&broker, 1).await;
    let producer = producer(&broker, &[]);
    let bytes = |b: &[u8]| Some(b.to_vec());
    let odd = OwnedHeaders::new()
        .insert(Header { key: "a", value: Some(&b"1"[..]) })
        .insert(Header { key: "a", value: Some(&b""[..]) })
        .insert(Header { key: "", value: None::<&[u8]> })
        .insert(Header { key: "with\0zero", value: Some(&b"\xFF\x00"[..]) });
    let big = vec![7_u8; 900_000];
    type Case<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, i64, Option<OwnedHeaders>);
    let cases: Vec<Case<'_>> = vec![
        (None, None, 1, None),
        (Some(b""), Some(b""), 0, None),
        (Some(b"k"), None, 1_700_000_000_000, None),
        (None, Some(b"\xFF\xFE"), 1_011_686_400_000_000, Some(odd)),
        (Some(b"k"), Some(&big), 5, None),
    ];
    for (key, value, timestamp, headers) in &cases {
        let mut record = BaseRecord::<[u8], [u8]>::to(&topic).partition(0).timestamp(*timestamp);
        record.key = *key;
        record.payload = *value;
        record.headers = headers.clone();
        producer.send(record).expect("queue a record");
    }
    producer.flush(Duration::from_secs(30)).expect("flush");

    let cluster = connect(&broker, &[]).await;
    let mut queue = cluster.open(&tp(&topic, 0), 0, -1, no_wake()).expect("open");
    let (records, end) = read_to_end(&mut *queue);
    assert_eq!(end, 5);
    assert_eq!(records.len(), cases.len());
    for (i, (record, (key, value, timestamp, _))) in records.iter().zip(&cases).enumerate() {
        assert_eq!(record.offset, i as i64);
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (*key, *value), "record {i}");
        // librdkafka's producer takes 0 for "now".
        if *timestamp != 0 {
            assert_eq!(record.timestamp, *timestamp, "record {i}");
        }
        assert_eq!((record.timestamp_type, record.epoch), (TimestampType::Create, 0));
    }
    assert_eq!(
        records[3].headers,
        [(b"a".to_vec(), bytes(b"1")), (b"a".to_vec(), bytes(b"")), (b"".to_vec(), None), (b"with\0zero".to_vec(), bytes(b"\xFF\x00"))]
    );
    assert!(records[0].headers.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_counts_aborted_and_control_records() {
    let broker = broker();
    let topic = make_topic(&broker, 1).await;
    let producer = producer(&broker, &[("transactional.id", &unique("tx")), ("transaction.timeout.ms", "60000")]);
    let second = Duration::from_secs(60);
    producer.init_transactions(second).expect("init");
    producer.begin_transaction().expect("begin");
    produce(&producer, &topic, 0, (0..3).map(|i| format!("kept {i}")));
    producer.commit_transaction(second).expect("commit");
    producer.begin_transaction().expect("begin");
    produce(&producer, &topic, 0, (0..5).map(|i| format!("aborted {i}")));

    let cluster = connect(&broker, &[]).await;
    let p = tp(&topic, 0);
    let open = cluster.bounds(&p).await.expect("bounds");
    assert_eq!((open.start, open.stable_end, open.end), (0, 4, 9), "an open transaction holds the stable end back");
    producer.abort_transaction(second).expect("abort");

    let mut queue = cluster.open(&p, 0, -1, no_wake()).expect("open");
    let (records, mut end) = read_to_end(&mut *queue);
    assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), [0, 1, 2]);
    // The abort may become stable a moment later: then one more end comes.
    while end < 10 {
        match next_event(&mut *queue, Duration::from_secs(60)).expect("the end after the abort") {
            Event::End(offset) => end = offset,
            other => panic!("{other:?}"),
        }
    }
    let closed = cluster.bounds(&p).await.expect("bounds");
    assert_eq!((end, closed.stable_end, closed.end), (10, 10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_outside_the_log_faults_and_a_new_start_works() {
    let broker = broker();
    let topic = make_topic(&broker, 1).await;
    produce(&producer(&broker, &[]), &topic, 0, (0..10).map(|i| i.to_string()));
    let cluster = connect(&broker, &[]).await;
    let p = tp(&topic, 0);
    let mut queue = cluster.open(&p, 1_000, -1, no_wake()).expect("open");
    let fault = first_fault(&mut *queue);
    assert!(matches!(fault, QueueFault::OutOfRange(_)), "{fault:?}");
    drop(queue);
    let mut queue = cluster.open(&p, 3, -1, no_wake()).expect("open");
    assert_eq!(read_to_end(&mut *queue).0.first().map(|r| r.offset), Some(3));
    drop(queue);

    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(6)).expect("a list");
    admin(&broker).delete_records(&list, &AdminOptions::new()).await.expect("delete records");
    let mut queue = cluster.open(&p, 3, -1, no_wake()).expect("open");
    let fault = first_fault(&mut *queue);
    assert!(matches!(fault, QueueFault::OutOfRange(_)), "{fault:?}");
    let bounds = cluster.bounds(&p).await.expect("bounds");
    assert_eq!((bounds.start, bounds.end), (6, 10));
    // Opened again while the faulted queue is still there: it is taken over.
    let mut again = cluster.open(&p, bounds.start, -1, no_wake()).expect("open");
    assert_eq!(read_to_end(&mut *again).0.iter().map(|r| r.offset).collect::<Vec<_>>(), [6, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_epoch_that_does_not_reach_the_position_is_a_truncation() {
    let broker = broker();
    let topic = make_topic(&broker, 1).await;
    produce(&producer(&broker, &[]), &topic, 0, (0..10).map(|i| i.to_string()));
    let cluster = connect(&broker, &[]).await;
    let p = tp(&topic, 0);
    // The first open of the topic in this client: its leader is not known yet when the epoch is to be checked.
    let mut queue = cluster.open(&p, 4, 0, no_wake()).expect("open");
    assert_eq!(read_to_end(&mut *queue).0.iter().map(|r| r.offset).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9]);
    drop(queue);
    let mut queue = cluster.open(&p, 500, 0, no_wake()).expect("open");
    let fault = first_fault(&mut *queue);
    assert!(matches!(fault, QueueFault::Truncated { .. }), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_opened_again_is_taken_over_and_wakes() {
    let broker = broker();
    let topic = make_topic(&broker, 1).await;
    let producer = producer(&broker, &[]);
    let cluster = connect(&broker, &[]).await;
    let p = tp(&topic, 0);
    let mut older = cluster.open(&p, 0, -1, no_wake()).expect("open");
    let wakes = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&wakes);
    let wake: Wake = Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let mut newer = cluster.open(&p, 0, -1, wake).expect("open");
    let fault = first_fault(&mut *older);
    assert!(matches!(fault, QueueFault::Other(_)), "{fault:?}");
    drop(older);
    assert_eq!(read_to_end(&mut *newer), (vec![], 0));
    assert!(!newer.fill());
    let before = wakes.load(Ordering::Relaxed);
    assert!(before > 0, "the end woke the consumer");
    produce(&producer, &topic, 0, ["x".to_owned()]);
    assert_eq!(read_to_end(&mut *newer).1, 1, "dropping the older queue did not stop the newer fetch");
    assert!(wakes.load(Ordering::Relaxed) > before);
    // Thousands of opens and drops while records come: nothing lands on a dead queue, nothing crashes.
    produce(&producer, &topic, 0, (0..2_000).map(|i| i.to_string()));
    for start in 0..100 {
        let mut queue = cluster.open(&p, start, -1, no_wake()).expect("open");
        if start % 10 == 0 {
            let records = read_to_end(&mut *queue).0;
            assert_eq!((records[0].offset, records.len() as i64), (start, 2_001 - start));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_times_are_looked_up() {
    let broker = broker();
    let topic = make_topic(&broker, 3).await;
    let producer = producer(&broker, &[]);
    for at in [1_000, 2_000, 3_000] {
        producer.send(BaseRecord::<(), str>::to(&topic).partition(1).payload("x").timestamp(at)).expect("queue");
    }
    producer.flush(Duration::from_secs(30)).expect("flush");
    let cluster = connect(&broker, &[]).await;
    assert!(!cluster.cluster_id().is_empty());
    let info = cluster.topic(&topic).await.expect("describe").expect("the topic exists");
    assert_eq!(info.partitions, 3);
    assert!(info.id.len() == 32 && info.id.bytes().all(|b| b.is_ascii_hexdigit()), "{}", info.id);
    assert_eq!(cluster.topic(&unique("none")).await.expect("describe"), None);
    let partitions = [tp(&topic, 0), tp(&topic, 1), tp(&topic, 2)];
    assert_eq!(cluster.offsets_for_time(&partitions, 1_500).await.expect("times"), [None, Some(1), None]);
    assert_eq!(cluster.offsets_for_time(&partitions, -5).await.expect("times"), [None, Some(0), None]);
    assert_eq!(cluster.offsets_for_time(&partitions, 9_000).await.expect("times"), [None, None, None]);
    assert_eq!(cluster.topics(&format!("^{topic}$")).await.expect("topics"), std::slice::from_ref(&topic));
    assert_eq!(cluster.topics(&unique("none")).await.unwrap_err().code, errors::UNKNOWN_TOPIC);
    let missing = cluster.bounds(&tp(&topic, 9)).await.unwrap_err();
    // The cluster has answered before: a partition that it does not know may only be new.
    assert_eq!((missing.code, missing.kind), (errors::UNKNOWN_TOPIC, ErrorKind::Retryable), "{missing}");
    assert_eq!(cluster.bounds(&tp("a b", 0)).await.unwrap_err().code, errors::BAD_TOPIC);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topics_policy_says_whether_it_is_compacted() {
    for broker in [broker(), Kafka::shared_v3().bootstrap().to_owned()] {
        let (topic, admin) = (unique("source"), Admin::new(&broker));
        admin.create_topic(&topic, 1, &[]);
        let cluster = connect(&broker, &[]).await;
        assert_eq!(cluster.is_compacted(&topic).await.expect("an answer"), Some(false));
        for (policy, expected) in [("compact", true), ("compact,delete", true), ("delete", false)] {
            admin.set_topic_settings(&topic, &[("cleanup.policy", policy)]);
            let started = Instant::now();
            while cluster.is_compacted(&topic).await.expect("an answer") != Some(expected) {
                assert!(started.elapsed() < Duration::from_secs(60), "{policy} is not seen");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        cluster.is_compacted("no-such-topic").await.expect_err("there is none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_listens_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let error = KafkaCluster::connect(KafkaSettings::plaintext(&address), SHARE).await.unwrap_err();
    assert_eq!((error.code, error.kind), (errors::UNREACHABLE, ErrorKind::Unreachable), "{error}");
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_a_commit_reads_back_equal() {
    let broker = broker();
    let topic = make_topic(&broker, 2).await;
    let cluster = connect(&broker, &[("group.instance.id", "")]).await;
    let mut joined = join(&cluster, &unique("meta"), std::slice::from_ref(&topic)).await.expect("join");
    let leases = assigned(&mut joined).await;
    assert_eq!(leases.len(), 2);
    assert_eq!(joined.group.fetch(&leases[0].tp).await.expect("fetch"), None);
    let long: String = ('\u{20}'..'\u{7e}').cycle().take(2_890).chain("é∀".chars()).collect();
    let commit = Committed { offset: 12, leader_epoch: 3, metadata: long };
    joined.group.commit(&leases[0], commit.clone()).await.expect("commit");
    assert_eq!(joined.group.fetch(&leases[0].tp).await.expect("fetch"), Some(commit));

    // One of two commits in a request is refused: the other one stands, and each is told its own result.
    let (good, bad) = (commit_of(1, "good"), commit_of(1, &"x".repeat(5_000)));
    for _ in 0..20 {
        let (a, b) = tokio::join!(joined.group.commit(&leases[0], good.clone()), joined.group.commit(&leases[1], bad.clone()));
        assert_eq!((a, b), (Ok(()), Err(CommitError::MetadataTooLarge)));
    }
    assert_eq!(joined.group.fetch(&leases[1].tp).await.expect("fetch"), None);
    joined.handle.close(Duration::from_secs(20)).expect("close");
    assert_eq!(joined.group.commit(&leases[0], good).await, Err(CommitError::LaneDead));
    assert!(!leases[1].seems_alive());
}

/// Two members share four partitions: each partition has one living lease, revoked lanes cannot commit, and what is left over goes back.
async fn two_members_share(properties: &[(&str, &str)], names: [&str; 2]) {
    let broker = broker();
    let topic = make_topic(&broker, 4).await;
    let rule = unique("share");
    let join = async |name: &str| {
        let mut properties = properties.to_vec();
        properties.push(("group.instance.id", name));
        join(&connect(&broker, &properties).await, &rule, std::slice::from_ref(&topic)).await.expect("join")
    };
    let mut first = join(names[0]).await;
    let alone = assigned(&mut first).await;
    assert_eq!(alone.len(), 4);
    for lease in &alone {
        first.group.commit(lease, commit_of(1, "alone")).await.expect("commit");
    }
    let mut second = join(names[1]).await;
    let mut of_second = assigned(&mut second).await;
    // Both sides settle: an incremental rebalance takes two rounds, an eager one may take two as well.
    let mut of_first = alone.clone();
    let settled = async {
        loop {
            of_first.retain(|l| l.seems_alive());
            of_second.retain(|l| l.seems_alive());
            if of_first.len() == 2 && of_second.len() == 2 {
                return;
            }
            tokio::select! {
                event = first.events.recv() => if let Some(GroupEvent::Assigned(leases)) = event { of_first.extend(leases) },
                event = second.events.recv() => if let Some(GroupEvent::Assigned(leases)) = event { of_second.extend(leases) },
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), settled).await.expect("two lanes each within 60 s");
    let mut all: Vec<_> = of_first.iter().chain(&of_second).map(|l| l.tp.partition).collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    for lease in alone.iter().filter(|l| !l.seems_alive()) {
        assert_eq!(first.group.commit(lease, commit_of(99, "dead")).await, Err(CommitError::LaneDead));
    }
    for (group, leases) in [(&first.group, &of_first), (&second.group, &of_second)] {
        for lease in leases {
            group.commit(lease, commit_of(2, "shared")).await.expect("commit");
        }
    }
    for partition in 0..4 {
        let committed = first.group.fetch(&tp(&topic, partition)).await.expect("fetch").expect("an offset");
        assert_eq!((committed.offset, committed.metadata.as_str()), (2, "shared"));
    }
    second.handle.close(Duration::from_secs(20)).expect("close");
    assert!(of_second.iter().all(|l| !l.seems_alive()));
    first.handle.close(Duration::from_secs(20)).expect("close");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_static_members_share() {
    two_members_share(&[("session.timeout.ms", "30000")], ["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_static_range_members_share() {
    two_members_share(&[("session.timeout.ms", "30000"), ("partition.assignment.strategy", "range")], ["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dynamic_range_members_share() {
    two_members_share(&[("partition.assignment.strategy", "range")], ["", ""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cooperative_members_share() {
    two_members_share(&[("partition.assignment.strategy", "cooperative-sticky")], ["", ""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_of_the_new_protocol_share() {
    two_members_share(&[("group.protocol", "consumer")], ["", ""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_static_members_of_the_new_protocol_share() {
    two_members_share(&[("group.protocol", "consumer")], ["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_restarts_gets_its_lanes_back_at_once() {
    let broker = broker();
    let topic = make_topic(&broker, 2).await;
    let rule = unique("restart");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let cluster = connect(&broker, &[]).await;
        let started = Instant::now();
        let mut joined = join(&cluster, &rule, std::slice::from_ref(&topic)).await.expect("join");
        let leases = assigned(&mut joined).await;
        assert!(started.elapsed() < Duration::from_secs(40), "no wait for a session of 45 s");
        assert_eq!(leases.len(), 2);
        seen.push(joined.handle.member.clone().expect("a static name"));
        joined.handle.close(Duration::from_secs(20)).expect("close");
    }
    assert!(seen[0] == seen[1] && seen[0].starts_with(&rule) && seen[0].ends_with("-0"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_under_one_name_fences_the_first() {
    let broker = broker();
    let topic = make_topic(&broker, 1).await;
    let rule = unique("fence");
    let cluster = connect(&broker, &[("group.instance.id", "one")]).await;
    let mut first = join(&cluster, &rule, std::slice::from_ref(&topic)).await.expect("join");
    let lease = assigned(&mut first).await.remove(0);
    first.group.commit(&lease, commit_of(1, "")).await.expect("commit");
    let cluster = connect(&broker, &[("group.instance.id", "one")]).await;
    let mut second = join(&cluster, &rule, std::slice::from_ref(&topic)).await.expect("join");
    let event = tokio::time::timeout(Duration::from_secs(60), first.events.recv()).await.expect("an event").expect("an event");
    let GroupEvent::Fatal(error) = event else { panic!("{event:?}") };
    assert_eq!((error.code, error.kind), (errors::INSTANCE_FENCED, ErrorKind::Fenced));
    assert_eq!(first.group.commit(&lease, commit_of(9, "")).await, Err(CommitError::LaneDead));
    let lease = assigned(&mut second).await.remove(0);
    second.group.commit(&lease, commit_of(2, "")).await.expect("commit");
    first.handle.close(Duration::from_secs(20)).expect("close");
    second.handle.close(Duration::from_secs(20)).expect("close");
}

struct Member {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Member {
    fn start(broker: &str, rule: &str, topic: &str, instance: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kafka_member"))
            .args([broker, rule, topic, instance])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a member");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let bytes = self.output.read_line(&mut line).expect("a line of the member");
        assert!(bytes > 0, "the member is gone");
        line.trim().to_owned()
    }

    fn send(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().expect("its input"), "{line}").expect("write to the member");
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("signal the member");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A member is stopped past its session while another takes its lane over and commits; then it wakes with a commit at hand. With
/// `leaves` the other has left again, so that the group is empty: a coordinator would then take a commit without a generation.
async fn a_stopped_member_cannot_commit(leaves: bool) {
    let broker = broker();
    let topic = make_topic(&broker, 1).await;
    let rule = unique("stopped");
    let mut stopped = Member::start(&broker, &rule, &topic, "stopped");
    while stopped.line() != "assigned 1" {}
    stopped.send("commit 0 1 first");
    assert_eq!(stopped.line(), "ok");
    stopped.signal(Signal::SIGSTOP);
    let cluster = connect(&broker, &[("group.instance.id", "")]).await;
    let mut other = join(&cluster, &rule, std::slice::from_ref(&topic)).await.expect("join");
    let lease = assigned(&mut other).await.remove(0);
    other.group.commit(&lease, commit_of(5, "other")).await.expect("commit");
    if leaves {
        other.handle.close(Duration::from_secs(20)).expect("close");
    }
    for _ in 0..3 {
        stopped.send("commit 0 2 stale");
    }
    stopped.signal(Signal::SIGCONT);
    let mut answers = Vec::new();
    while answers.len() < 3 {
        let line = stopped.line();
        if !line.starts_with("assigned") {
            answers.push(line);
        }
    }
    assert!(answers[0].contains("StaleMember") || answers[0].contains("LaneDead"), "{answers:?}");
    assert!(answers.iter().all(|a| a.starts_with("refused")), "{answers:?}");
    let mut config = ClientConfig::new();
    let bystander: BaseConsumer =
        config.set("bootstrap.servers", &broker).set("group.id", other.group.id()).create().expect("a consumer that does not join");
    let mut asked = TopicPartitionList::new();
    asked.add_partition(&topic, 0);
    let committed = bystander.committed_offsets(asked, Duration::from_secs(20)).expect("fetch");
    let element = &committed.elements()[0];
    assert_eq!((element.offset(), element.metadata()), (Offset::Offset(5), "other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_stopped_past_its_session_cannot_commit() {
    a_stopped_member_cannot_commit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_wakes_in_an_empty_group_cannot_commit() {
    a_stopped_member_cannot_commit(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_later_joins_by_its_pattern() {
    let broker = broker();
    let prefix = unique("pattern");
    let (first, second) = (format!("{prefix}.first"), format!("{prefix}.second"));
    make_named_topic(&broker, &first, 1).await;
    let cluster = connect(&broker, &[("group.instance.id", "")]).await;
    let mut joined = join(&cluster, &prefix, &[format!("^{prefix}\\.")]).await.expect("join");
    assert_eq!(assigned(&mut joined).await[0].tp, tp(&first, 0));
    make_named_topic(&broker, &second, 2).await;
    loop {
        let leases = assigned(&mut joined).await;
        if leases.len() == 3 {
            assert_eq!((leases[0].tp.clone(), leases[2].tp.clone()), (tp(&first, 0), tp(&second, 1)));
            break;
        }
    }
    joined.handle.close(Duration::from_secs(20)).expect("close");
    let missing = join(&cluster, &prefix, &[unique("none")]).await.unwrap_err();
    assert_eq!((missing.code, missing.kind), (errors::UNKNOWN_TOPIC, ErrorKind::NotFound));
}
