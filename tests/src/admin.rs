//! What an operator, or an accident, does to a cluster: topics made, changed and deleted, records dropped, group offsets moved.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long a broker may take for one request before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// The next offset to read.
    pub offset: i64,
    /// The string beside it.
    pub metadata: String,
}

/// An administrator of one cluster. Every call waits for its effect and panics when it fails: a test's set-up must hold.
#[expect(missing_debug_implementations, reason = "the client has none")]
pub struct Admin {
    client: AdminClient<DefaultClientContext>,
    bootstrap: String,
}

impl Admin {
    /// An administrator of the cluster behind a plain listener.
    pub fn new(bootstrap: &str) -> Self {
        let client = ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client can be made");
        Self { client, bootstrap: bootstrap.to_owned() }
    }

    /// Makes a topic with these settings, such as `("message.timestamp.after.max.ms", "9223372036854775807")`.
    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        // A broker that has just started may answer metadata before its controller does; the topic of a late answer exists then.
        let deadline = Instant::now() + PATIENCE;
        for attempt in 1.. {
            match wait(self.client.create_topics([&new], &options())) {
                Ok(results) if results.iter().any(has_no_broker_yet) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Ok(results) => {
                    each(results.into_iter().filter(|r| attempt == 1 || !already_there(r)).collect(), "create");
                    break;
                }
                Err(e) => assert!(attempt < 3, "the broker answers: {e:?}"),
            }
        }
        self.await_partitions(topic, partitions);
    }

    /// Makes a topic that takes every record of [`Profile::mixed`](crate::generate::Profile::mixed).
    pub fn create_mixed_topic(&self, topic: &str, partitions: i32) {
        self.create_topic(topic, partitions, &[("message.timestamp.after.max.ms", "9223372036854775807")]);
    }

    /// Deletes a topic and waits until the broker no longer knows it.
    pub fn delete_topic(&self, topic: &str) {
        each(wait(self.client.delete_topics(&[topic], &options())).expect("the broker answers"), "delete");
        self.await_metadata(topic, |partitions| partitions.is_none());
    }

    /// Raises a topic's number of partitions.
    pub fn set_partitions(&self, topic: &str, partitions: i32) {
        let count = usize::try_from(partitions).expect("partitions >= 0");
        let results = wait(self.client.create_partitions(&[NewPartitions::new(topic, count)], &options())).expect("the broker answers");
        each(results, "add partitions to");
        self.await_partitions(topic, partitions);
    }

    /// Replaces *all* of a topic's settings: what is not named here goes back to the broker's default.
    pub fn set_topic_settings(&self, topic: &str, settings: &[(&str, &str)]) {
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (key, value) in settings {
            alter = alter.set(key, value);
        }
        for result in wait(self.client.alter_configs([&alter], &options())).expect("the broker answers") {
            result.unwrap_or_else(|(_, e)| panic!("cannot alter topic {topic}: {e}"));
        }
    }

    /// Drops the records of a partition below `offset`, as retention would.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset >= 0");
        let answer = wait(self.client.delete_records(&list, &options())).expect("the broker answers");
        for element in answer.elements() {
            element.error().unwrap_or_else(|e| panic!("cannot delete records of {topic}/{partition}: {e}"));
        }
    }

    /// First and next offset of a partition's log. Waits for a leader, up to 30 s.
    pub fn log_range(&self, topic: &str, partition: i32) -> (i64, i64) {
        log_range(self.client.inner(), topic, partition)
    }

    /// Deletes a group with all its offsets. Waits for members to leave, up to 30 s.
    pub fn delete_group(&self, group: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let results = wait(self.client.delete_groups(&[group], &options())).expect("the broker answers");
            match results.into_iter().next() {
                Some(Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound))) => return,
                Some(Err((_, RDKafkaErrorCode::NonEmptyGroup))) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                other => panic!("cannot delete group {group}: {other:?}"),
            }
        }
    }

    /// What a group has committed, if anything.
    pub fn group_offset(&self, group: &str, topic: &str, partition: i32) -> Option<GroupOffset> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let consumer = self.group_client(group);
        let found = until_coordinated(|| consumer.committed_offsets(list.clone(), PATIENCE))
            .unwrap_or_else(|e| panic!("no offsets of group {group}: {e}"));
        let element = found.find_partition(topic, partition).expect("the partition that was asked for");
        element.error().unwrap_or_else(|e| panic!("no answer on the offset of {topic}/{partition} in group {group}: {e}"));
        match element.offset() {
            Offset::Offset(offset) => Some(GroupOffset { offset, metadata: element.metadata().to_owned() }),
            _ => None,
        }
    }

    /// Commits for a group as a foreign client would: from outside, so only while the group has no members.
    pub fn set_group_offset(&self, group: &str, topic: &str, partition: i32, to: &GroupOffset) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(to.offset)).expect("an offset >= 0");
        list.find_partition(topic, partition).expect("it was just added").set_metadata(to.metadata.as_str());
        let consumer = self.group_client(group);
        until_coordinated(|| consumer.commit(&list, CommitMode::Sync)).unwrap_or_else(|e| panic!("cannot commit for group {group}: {e}"));
    }

    fn group_client(&self, group: &str) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer can be made")
    }

    fn await_partitions(&self, topic: &str, partitions: i32) {
        let wanted = usize::try_from(partitions).expect("partitions >= 0");
        self.await_metadata(topic, |found| found == Some(wanted));
    }

    /// Topics change asynchronously: the controller says yes before the brokers know.
    fn await_metadata(&self, topic: &str, reached: impl Fn(Option<usize>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metadata = self.client.inner().fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
            let of_topic = metadata.topics().iter().find(|t| t.name() == topic).filter(|t| t.error().is_none());
            let led = of_topic.map(|t| t.partitions().iter().filter(|p| p.leader() >= 0).count());
            if reached(led) {
                return;
            }
            assert!(Instant::now() < deadline, "topic {topic} did not change within {PATIENCE:?}: {led:?} partitions");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Asks again while the group's coordinator is being found or is loading: a new broker's first seconds.
fn until_coordinated<T>(ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(e) if is_coordinator_away(&e) && Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            answer => return answer,
        }
    }
}

fn is_coordinator_away(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator, WaitingForCoordinator};
    matches!(error.rdkafka_error_code(), Some(NotCoordinator | CoordinatorLoadInProgress | CoordinatorNotAvailable | WaitingForCoordinator))
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

fn already_there(result: &Result<String, (String, Code)>) -> bool {
    matches!(result, Err((_, Code::TopicAlreadyExists)))
}

/// A controller whose broker is not registered, or fenced since it was late, finds none that could have the partition.
fn has_no_broker_yet(result: &Result<String, (String, Code)>) -> bool {
    matches!(result, Err((_, Code::InvalidReplicationFactor)))
}

fn each(results: Vec<Result<String, (String, Code)>>, what: &str) {
    for result in results {
        result.unwrap_or_else(|(topic, e)| panic!("cannot {what} topic {topic}: {e}"));
    }
}

/// First and next offset of a partition's log, by any client. Waits for a leader, up to 30 s: a broker that stood still is without its leaders for a moment.
pub(crate) fn log_range<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> (i64, i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.fetch_watermarks(topic, partition, PATIENCE) {
            Ok(range) => return range,
            Err(e) => assert!(Instant::now() < deadline, "the broker does not answer: {e}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits for a future on this thread, in a test that is asynchronous itself or not.
pub fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
