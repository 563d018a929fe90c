//! The engine's Kafka source as tests drive it: queues read to their end, assignments waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catchment::config::KafkaSettings;
use catchment::lane::LaneLease;
use catchment::source::kafka::{Joined, KafkaCluster, KafkaGroup, ReadShare};
use catchment::source::{GroupEvent, PartitionQueue, QueueEvent, QueueFault, TopicPartition, Wake};
use catchment_formats::TimestampType;

/// Small, so that its limits are felt.
pub const SHARE: ReadShare = ReadShare { bytes: 32 << 20, partitions: 8 };

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects without TLS or login, with these librdkafka properties.
pub async fn connect(broker: &str, properties: &[(&str, &str)]) -> Arc<KafkaCluster> {
    let mut config = KafkaSettings::plaintext(broker);
    config.properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    KafkaCluster::connect(config, SHARE).await.expect("connect")
}

/// One partition.
pub fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: Arc::from(topic), partition }
}

/// For tests that poll.
pub fn no_wake() -> Wake {
    Arc::new(|| {})
}

/// A record, copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds.
    pub timestamp: i64,
    /// Who set the timestamp.
    pub timestamp_type: TimestampType,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Its batch's leader epoch.
    pub epoch: i32,
}

/// What a queue yielded, copied.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A record.
    Record(Record),
    /// The partition's end.
    End(i64),
    /// Anything else.
    Fault(QueueFault),
}

/// The next event, waited for; none if none comes in time.
pub fn next_event(queue: &mut dyn PartitionQueue, timeout: Duration) -> Option<Event> {
    let started = Instant::now();
    while !queue.fill() {
        if started.elapsed() > timeout {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let event = match queue.peek().expect("an event after fill") {
        QueueEvent::End(offset) => Event::End(offset),
        QueueEvent::Fault(fault) => Event::Fault(fault),
        QueueEvent::Record(r, epoch) => Event::Record(Record {
            offset: r.offset,
            timestamp: r.timestamp,
            timestamp_type: r.timestamp_type,
            key: r.key.map(<[u8]>::to_vec),
            value: r.value.map(<[u8]>::to_vec),
            headers: r.headers.iter().map(|(n, v)| (n.to_vec(), v.map(<[u8]>::to_vec))).collect(),
            epoch,
        }),
    };
    queue.pop();
    Some(event)
}

/// Reads to the first end; panics on a fault.
pub fn read_to_end(queue: &mut dyn PartitionQueue) -> (Vec<Record>, i64) {
    let mut records = Vec::new();
    loop {
        match next_event(queue, PATIENCE).expect("the partition's end in time") {
            Event::Record(r) => records.push(r),
            Event::End(end) => return (records, end),
            Event::Fault(fault) => panic!("{fault:?}"),
        }
    }
}

/// The first fault; what comes before it is dropped.
pub fn first_fault(queue: &mut dyn PartitionQueue) -> QueueFault {
    loop {
        match next_event(queue, PATIENCE).expect("a fault in time") {
            Event::Fault(fault) => return fault,
            Event::Record(_) | Event::End(_) => {}
        }
    }
}

/// The next assignment that holds at least one lane.
pub async fn assigned(joined: &mut Joined) -> Vec<Arc<LaneLease>> {
    loop {
        match tokio::time::timeout(PATIENCE, joined.events.recv()).await.expect("an assignment in time") {
            Some(GroupEvent::Assigned(leases)) if leases.is_empty() => {}
            Some(GroupEvent::Assigned(mut leases)) => {
                leases.sort_by(|a, b| a.tp.cmp(&b.tp));
                return leases;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Joins the group that belongs to a rule.
///
/// # Errors
/// As [`KafkaGroup::join`].
pub async fn join(cluster: &Arc<KafkaCluster>, rule: &str, topics: &[String]) -> Result<Joined, catchment::Error> {
    KafkaGroup::join(cluster, rule, &format!("catchment-{rule}"), topics).await
}
