//! The bare drain: librdkafka's batch API and zstd level 1 over pages of 1 MiB of values, and nothing else. The cheapest that a
//! backup through this client can be; no output, no offsets, no promise.
//!
//! Its place: the second denominator of a round, and the count that the round's objects are held against. It runs as a process of its own, so that its
//! memory and CPU time are its own.
#![expect(unsafe_code, reason = "calls librdkafka's batch API directly, to be independent of the engine")]

use std::ffi::CString;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use serde::{Deserialize, Serialize};

/// Bytes of values in a page.
const PAGE_BYTES: usize = 1 << 20;

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What was drained.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Drained {
    /// Records.
    pub records: u64,
    /// Bytes of values.
    pub value_bytes: u64,
    /// Bytes of compressed pages.
    pub compressed_bytes: u64,
}

/// Drains all partitions of a topic once.
///
/// # Errors
/// If the broker or the topic is not there, or a partition cannot be read.
pub fn drain(brokers: &str, topic: &str) -> KafkaResult<Drained> {
    let client = client(brokers)?;
    let partitions = partitions(&client, topic)?;
    let name = CString::new(topic)?;
    let mut pages = Pages::new();
    // SAFETY: the client outlives everything that is made from its pointer here; each object is destroyed once, in the reverse order.
    unsafe {
        let native = client.client().native_ptr();
        let queue = sys::rd_kafka_queue_new(native);
        let handle = sys::rd_kafka_topic_new(native, name.as_ptr(), std::ptr::null_mut());
        for partition in 0..partitions {
            assert_eq!(sys::rd_kafka_consume_start_queue(handle, partition, 0, queue), 0);
        }
        let drained = drain_queue(queue, partitions, &mut pages);
        for partition in 0..partitions {
            sys::rd_kafka_consume_stop(handle, partition);
        }
        sys::rd_kafka_topic_destroy(handle);
        sys::rd_kafka_queue_destroy(queue);
        drained?;
    }
    pages.compress();
    Ok(pages.drained)
}

/// Asks the brokers for what they have.
///
/// # Errors
/// If none of them answers.
pub fn greet(brokers: &str) -> KafkaResult<()> {
    client(brokers)?.fetch_metadata(None, ANSWER).map(drop)
}

fn client(brokers: &str) -> KafkaResult<BaseConsumer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("check.crcs", "true").set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true").set("queued.min.messages", "1000000").set("queued.max.messages.kbytes", "65536");
    config.set("fetch.wait.max.ms", "20").set("fetch.queue.backoff.ms", "5").set("auto.offset.reset", "error");
    config.create()
}

fn partitions(client: &BaseConsumer, topic: &str) -> KafkaResult<i32> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER)?;
    let found = metadata.topics().first().ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic))?;
    if let Some(error) = found.error() {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    Ok(i32::try_from(found.partitions().len()).expect("few partitions"))
}

/// Takes messages until every partition has reported its end.
///
/// # Safety
/// `queue` is live and fed by `partitions` partitions.
unsafe fn drain_queue(queue: *mut sys::rd_kafka_queue_t, partitions: i32, pages: &mut Pages) -> KafkaResult<()> {
    let mut messages = vec![std::ptr::null_mut(); 1024];
    let (mut left, mut failed) = (partitions, None);
    while left > 0 {
        // SAFETY: the queue is live by this function's contract, and the array has the length that is passed.
        let taken = unsafe { sys::rd_kafka_consume_batch_queue(queue, 100, messages.as_mut_ptr(), messages.len()) };
        for message in &messages[..usize::try_from(taken).unwrap_or(0)] {
            // SAFETY: librdkafka gave us the message, which we destroy after the last look at it.
            unsafe {
                match take(&**message, pages) {
                    Ok(more) => left -= i32::from(!more),
                    Err(error) => failed = Some(error),
                }
                sys::rd_kafka_message_destroy(*message);
            }
        }
        // After the whole array: each message of it has to be destroyed.
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(())
}

/// Takes one message; whether its partition goes on.
///
/// # Safety
/// The message is live.
unsafe fn take(message: &sys::rd_kafka_message_t, pages: &mut Pages) -> KafkaResult<bool> {
    match message.err {
        // A tombstone has no value, which is not the same as a pointer to nothing.
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR if message.payload.is_null() => pages.push(&[]),
        // SAFETY: a live message without an error has a payload of this length.
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => unsafe {
            pages.push(std::slice::from_raw_parts(message.payload.cast::<u8>(), message.len));
        },
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => return Ok(false),
        other => return Err(KafkaError::MessageConsumption(other.into())),
    }
    Ok(true)
}

struct Pages {
    page: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
    out: Vec<u8>,
    drained: Drained,
}

impl Pages {
    fn new() -> Self {
        let compressor = zstd::bulk::Compressor::new(1).expect("level 1 exists");
        let out = vec![0; zstd::zstd_safe::compress_bound(2 * PAGE_BYTES)];
        Self { page: Vec::with_capacity(2 * PAGE_BYTES), compressor, out, drained: Drained::default() }
    }

    fn push(&mut self, value: &[u8]) {
        self.drained.records += 1;
        self.drained.value_bytes += value.len() as u64;
        self.page.extend_from_slice(value);
        if self.page.len() >= PAGE_BYTES {
            self.compress();
        }
    }

    fn compress(&mut self) {
        let written = self.compressor.compress_to_buffer(&self.page, &mut self.out[..]).expect("the buffer is large enough");
        self.drained.compressed_bytes += written as u64;
        self.page.clear();
    }
}
