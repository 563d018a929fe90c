//! Fills a topic for the benches: eight partitions, as fast as the broker takes it, with [`Records`] as they are.
//!
//! Not done here: rates, transactions, and anything that a reader could check. [`produce`](crate::produce) does that.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::records::Records;
use crate::topic::wait;

/// Fills a new topic of 8 partitions with `mib` MiB of values and answers the number of records.
///
/// # Panics
/// If the broker does not take them, or the topic exists.
pub fn fill(brokers: &str, topic: &str, record_bytes: usize, mib: u64, codec: &str) -> u64 {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("compression.codec", codec).set("linger.ms", "50").set("batch.size", "262144");
    config.set("queue.buffering.max.messages", "1000000").set("queue.buffering.max.kbytes", "262144");
    let admin: AdminClient<DefaultClientContext> = config.create().expect("an admin client");
    let new = NewTopic::new(topic, 8, TopicReplication::Fixed(1));
    let made = wait(admin.create_topics(&[new], &AdminOptions::new())).expect("an answer");
    assert!(made[0].is_ok(), "{made:?}");
    let producer: BaseProducer = config.create().expect("a producer");
    let mut records = Records::new(1, record_bytes);
    let (mut sent, mut bytes) = (0_u64, 0_u64);
    while bytes < mib << 20 {
        let value = records.value();
        bytes += value.len() as u64;
        send(&producer, topic, value, sent);
        sent += 1;
        if sent.is_multiple_of(1024) {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(120)).expect("everything is taken");
    sent
}

fn send(producer: &BaseProducer, topic: &str, value: &str, sent: u64) {
    let key = format!("{:012x}", sent.wrapping_mul(0x9e37_79b9) & 0xffff_ffff);
    let timestamp = 1_760_000_000_000 + i64::try_from(sent / 50).expect("fits");
    let partition = i32::try_from(sent % 8).expect("below 8");
    loop {
        match producer.send(BaseRecord::to(topic).partition(partition).payload(value).key(&key).timestamp(timestamp)) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => producer.poll(Duration::from_millis(5)),
            Err((e, _)) => panic!("{e}"),
        }
    }
}
