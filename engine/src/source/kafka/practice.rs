//! A broker inside the process, for the demo: librdkafka's mock cluster, and a producer of live records.
//!
//! It keeps a few megabytes, knows no transactions and no retention. That is enough to watch windows become objects, and nothing
//! else should be concluded from it.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use super::errors::client_error;
use crate::error::{Code, Error, ErrorKind, Result};

/// The practice broker cannot be started or written to.
pub const PRACTICE_FAILED: Code = Code(218);

/// How long the last records may take to be taken.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// A broker with one topic.
pub struct PracticeBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
    topic: String,
    partitions: i32,
    sent: u64,
}

impl std::fmt::Debug for PracticeBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PracticeBroker").field("topic", &self.topic).field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl PracticeBroker {
    /// Starts the broker with an empty topic.
    ///
    /// # Errors
    /// `C0218` if no port can be had.
    pub fn start(topic: &str, partitions: i32) -> Result<Self> {
        let failed = |e: rdkafka::error::KafkaError| {
            Error::new(PRACTICE_FAILED, ErrorKind::Retryable, "the practice broker cannot be started").because(e)
        };
        let cluster = MockCluster::new(1).map_err(failed)?;
        cluster.create_topic(topic, partitions, 1).map_err(failed)?;
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().map_err(|e| client_error(&e))?;
        Ok(Self { cluster, producer, topic: topic.to_owned(), partitions, sent: 0 })
    }

    /// Its address.
    pub fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Records sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends `count` records with the time `now_ms`, round robin.
    ///
    /// # Errors
    /// `C0218` if the broker does not take them.
    pub fn send(&mut self, count: u64, now_ms: i64) -> Result<()> {
        for _ in 0..count {
            let n = self.sent;
            let key = format!("customer-{}", n % 97);
            let value = format!("{{\"order\":{n},\"customer\":{},\"amount\":{}.{:02},\"at\":{now_ms}}}", n % 97, n % 900, n % 100);
            let record = BaseRecord::to(&self.topic)
                .partition(i32::try_from(n % u64::from(self.partitions.unsigned_abs())).unwrap_or_default())
                .key(&key)
                .payload(&value)
                .timestamp(now_ms)
                .headers(OwnedHeaders::new().insert(Header { key: "source", value: Some("demo") }));
            self.producer.send(record).map_err(|(e, _)| {
                Error::new(PRACTICE_FAILED, ErrorKind::Retryable, "the practice broker does not take a record").because(e)
            })?;
            self.sent += 1;
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Waits until the broker has everything.
    ///
    /// # Errors
    /// `C0218` if it does not in time.
    pub fn flush(&self) -> Result<()> {
        self.producer
            .flush(FLUSH_TIMEOUT)
            .map_err(|e| Error::new(PRACTICE_FAILED, ErrorKind::Retryable, "the practice broker has not taken all records").because(e))
    }
}
