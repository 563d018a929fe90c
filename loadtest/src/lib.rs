//! Load for tests and benches: records with realistic entropy, JSON events of about 100 B, 1 KB or 10 KB, a function of a seed.
//!
//! What it does not do yet: rates, transactions, verification, reports.

use std::fmt::Write;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const WORDS: [&str; 24] = [
    "river", "basin", "rain", "delta", "stone", "bridge", "lake", "spring", "gauge", "flood", "valley", "weir", "mill", "reed", "ferry",
    "canal", "mouth", "source", "bank", "drift", "ridge", "fall", "stream", "pond",
];

/// Makes records; equal seeds make equal records.
#[derive(Debug)]
pub struct Records {
    state: u64,
    sequence: u64,
    bytes: usize,
    text: String,
}

impl Records {
    /// Records of about `bytes` bytes each.
    pub fn new(seed: u64, bytes: usize) -> Self {
        Self { state: seed, sequence: 0, bytes, text: String::new() }
    }

    fn next(&mut self) -> u64 {
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next record's value.
    pub fn value(&mut self) -> &str {
        let (id, user, session) = (self.sequence, self.next() % 5_000_000, self.next());
        self.sequence += 1;
        self.text.clear();
        let (level, took) = (["info", "info", "info", "warn", "error"][(session % 5) as usize], session % 3000);
        write!(self.text, "{{\"id\":{id},\"user\":{user},\"level\":\"{level}\",\"ms\":{took},\"s\":\"{:08x}\"", session as u32)
            .expect("a string takes everything");
        if self.bytes > 200 {
            write!(self.text, ",\"session\":\"{session:016x}\",\"ip\":\"10.{}.{}.{}\",\"text\":\"", user % 250, took % 250, id % 250)
                .expect("a string takes everything");
            while self.text.len() + 10 < self.bytes {
                let n = self.next();
                // Small numbers often: words repeat as words do.
                let word = WORDS[((n % 24).min((n >> 8) % 24)) as usize];
                self.text.push_str(word);
                self.text.push(' ');
                if n.is_multiple_of(9) {
                    write!(self.text, "{} ", n >> 40 & 0xffff).expect("a string takes everything");
                }
            }
            self.text.push('"');
        }
        self.text.push('}');
        &self.text
    }
}

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
    let made = futures_block(admin.create_topics(&[new], &AdminOptions::new())).expect("an answer");
    assert!(made[0].is_ok(), "{made:?}");
    let producer: BaseProducer = config.create().expect("a producer");
    let mut records = Records::new(1, record_bytes);
    let (mut sent, mut bytes) = (0_u64, 0_u64);
    while bytes < mib << 20 {
        let value = records.value();
        bytes += value.len() as u64;
        let key = format!("{:012x}", sent.wrapping_mul(0x9e37_79b9) & 0xffff_ffff);
        let timestamp = 1_760_000_000_000 + i64::try_from(sent / 50).expect("fits");
        loop {
            let partition = i32::try_from(sent % 8).expect("below 8");
            match producer.send(BaseRecord::to(topic).partition(partition).payload(value).key(&key).timestamp(timestamp)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(5));
                }
                Err((e, _)) => panic!("{e}"),
            }
        }
        sent += 1;
        if sent.is_multiple_of(1024) {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(120)).expect("everything is taken");
    sent
}

/// Waits for a future by polling it; admin calls are rare.
fn futures_block<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
