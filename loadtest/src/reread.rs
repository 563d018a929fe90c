//! Reads the committed records of a topic again, for stores whose objects are not read here.
//!
//! Place: the second way of [`verify`](crate::verify). What the topic holds is audited here; that the store holds what the topic holds is shown by
//! `catchment verify -b`, record by record.
//!
//! Guarantee: a consumer that is member of no group and commits nothing; it sees committed records alone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::audit::Audit;
use crate::failure::{Failure, Result};
use crate::topic::Cluster;

/// How long the cluster may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Hands every committed record of a topic to an audit.
///
/// # Errors
/// If the cluster does not give them.
pub fn read(cluster: &Cluster, topic: &str, partitions: i32, audit: &mut Audit<'_>) -> Result<()> {
    let consumer = consumer(cluster, topic, partitions)?;
    let mut open: BTreeSet<i32> = (0..partitions).collect();
    let mut heard = Instant::now();
    audit.begin();
    while !open.is_empty() {
        let polled = consumer.poll(Duration::from_millis(200));
        if polled.is_some() {
            heard = Instant::now();
        }
        match polled {
            Some(Ok(message)) => audit.take(topic, message.partition(), message.payload()),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(e)) => return Err(unreadable(topic, &e)),
            None if heard.elapsed() > PATIENCE => {
                return Err(unreadable(topic, &format!("nothing came for {} s from partitions {open:?}", PATIENCE.as_secs())));
            }
            None => {}
        }
    }
    Ok(())
}

fn consumer(cluster: &Cluster, topic: &str, partitions: i32) -> Result<BaseConsumer> {
    let mut config = cluster.config();
    for (name, value) in [
        ("group.id", "catchment-loadtest"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "error"),
        ("check.crcs", "true"),
        ("queued.max.messages.kbytes", "65536"),
    ] {
        config.set(name, value);
    }
    let consumer: BaseConsumer = config.create().map_err(|e| unreadable(topic, &e))?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).map_err(|e| unreadable(topic, &e))?;
    }
    consumer.assign(&list).map_err(|e| unreadable(topic, &e))?;
    Ok(consumer)
}

fn unreadable(topic: &str, cause: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("topic {topic} cannot be read again")).because(cause).help("check --brokers, and that this user may Read it")
}
