//! The bare drain: librdkafka's batch API and zstd level 1 over pages of 1 MiB of values, and nothing else. The cheapest that a
//! backup through this client can be; no output, no offsets, no promise.
#![expect(unsafe_code, reason = "calls librdkafka's batch API directly, to be independent of the engine")]

use std::ffi::CString;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer};

/// Bytes of values in a page.
const PAGE_BYTES: usize = 1 << 20;

/// What was drained.
#[derive(Clone, Copy, Debug, Default)]
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
/// # Panics
/// If the broker or the topic is not there.
pub fn drain(brokers: &str, topic: &str) -> Drained {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("check.crcs", "true").set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true").set("queued.min.messages", "1000000").set("queued.max.messages.kbytes", "65536");
    config.set("fetch.wait.max.ms", "20").set("fetch.queue.backoff.ms", "5").set("auto.offset.reset", "error");
    let client: BaseConsumer = config.create().expect("a client");
    let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("metadata");
    let partitions = i32::try_from(metadata.topics()[0].partitions().len()).expect("few partitions");
    let name = CString::new(topic).expect("no NUL");
    let mut pages = Pages::new();
    // SAFETY: the client outlives everything that is made from its pointer here; each object is destroyed once, in the reverse order.
    unsafe {
        let native = client.client().native_ptr();
        let queue = sys::rd_kafka_queue_new(native);
        let handle = sys::rd_kafka_topic_new(native, name.as_ptr(), std::ptr::null_mut());
        for partition in 0..partitions {
            assert_eq!(sys::rd_kafka_consume_start_queue(handle, partition, 0, queue), 0);
        }
        drain_queue(queue, partitions, &mut pages);
        for partition in 0..partitions {
            sys::rd_kafka_consume_stop(handle, partition);
        }
        sys::rd_kafka_topic_destroy(handle);
        sys::rd_kafka_queue_destroy(queue);
    }
    pages.compress();
    pages.drained
}

/// Takes messages until every partition has reported its end.
///
/// # Safety
/// `queue` is live and fed by `partitions` partitions.
unsafe fn drain_queue(queue: *mut sys::rd_kafka_queue_t, partitions: i32, pages: &mut Pages) {
    let mut messages = vec![std::ptr::null_mut(); 1024];
    let mut left = partitions;
    while left > 0 {
        // SAFETY: the queue is live by this function's contract, and the array has the length that is passed.
        let taken = unsafe { sys::rd_kafka_consume_batch_queue(queue, 100, messages.as_mut_ptr(), messages.len()) };
        for message in &messages[..usize::try_from(taken).unwrap_or(0)] {
            // SAFETY: librdkafka gave us the message, which we destroy after the last look at it.
            unsafe {
                let m = &**message;
                match m.err {
                    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
                        pages.push(std::slice::from_raw_parts(m.payload.cast::<u8>(), m.len));
                    }
                    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => left -= 1,
                    other => panic!("{other:?}"),
                }
                sys::rd_kafka_message_destroy(*message);
            }
        }
    }
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
