//! One open partition: start and stop of its fetch, and the batch drain.
//!
//! Audited unsafe, with [`native`](super::native). Records come by `rd_kafka_consume_batch_queue`, 1,024 at a time, from a queue of the
//! partition's own; each is destroyed as soon as it was copied out, since a kept one pins the whole fetch response it lies in.
//!
//! Guarantees:
//! - A record of the partition can land on no other queue: the per-partition API forwards to the queue given at the start, and the stop
//!   ends that before the queue is destroyed.
//! - Anything but a record or an end of partition becomes a [`QueueFault`]; nothing is skipped silently. Records come in order of their
//!   offsets, none below the offset asked for.
//! - A queue follows its cluster to another reader client between two drains, from the last record that it gave out. A record that shows between there
//!   and an end that it has passed is a fault: the log was cut, and written anew.
//! - At most one queue of a partition fetches. Opening a partition again takes it over from an older queue, which faults from then on.
//!
//! Ownership: [`Opening`] owns the topic handle and keeps the client alive; [`KafkaQueue`] owns the native queue, the messages taken
//! from it, and the wake-up closure whose address librdkafka holds. Its drop undoes these in order: wake-up off (the call takes the
//! queue's lock, under which librdkafka calls the closure, so none runs after it), messages, fetch, queue, and last the client.
#![expect(unsafe_code, reason = "the batch drain; each block says why it holds")]

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use catchment_formats::{HeadersBuf, RecordView, TimestampType};
use rdkafka::bindings as sys;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as K;

use crate::error::{Error, ErrorKind};
use crate::source::{LastRead, PartitionQueue, QueueEvent, QueueFault, TopicPartition, Wake};

use super::client::Reader;
use super::errors::OPEN_FAILED;
use super::fetching::Fetching;
use super::native;

/// Records taken from librdkafka at a time. Fewer: a lock and two clock reads are paid more often. More: their ops (320 bytes each) fall
/// out of the core's cache before they are read.
const BATCH: usize = 1_024;

/// How long a seek may take to be acknowledged; it is a message to a thread of this process.
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);

/// The version whose layout of a header [`header_name`] knows.
const HEADER_LAYOUT_VERSION: i32 = 0x020c_01ff;

/// A started fetch.
struct Opening {
    topic: *mut sys::rd_kafka_topic_t,
    partition: i32,
    stopped: AtomicBool,
    /// Set from outside the queue: what the batch API does not tell.
    fault: OnceLock<QueueFault>,
    wake: Wake,
    // After `topic` in destruction too: see Drop.
    reader: Arc<Reader>,
}

// SAFETY: librdkafka's objects may be used from any thread; the topic handle is only destroyed by the last owner.
unsafe impl Send for Opening {}
// SAFETY: as above; `stopped` makes the one call that must not be repeated exclusive.
unsafe impl Sync for Opening {}

impl Opening {
    /// Stops the fetch and cuts the queue off, once. Waits for librdkafka's main thread, not for a broker.
    fn stop(&self) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            // SAFETY: the topic handle is live. An error means that the partition was not fetched, which is what is wanted.
            let _ = unsafe { sys::rd_kafka_consume_stop(self.topic, self.partition) };
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.stop();
        // SAFETY: made by rd_kafka_topic_new, destroyed once, while `reader` still holds the client.
        unsafe { sys::rd_kafka_topic_destroy(self.topic) };
    }
}

/// Which partitions are fetched, and by which opening. One for each cluster; bounded by its partitions.
#[derive(Default)]
pub(crate) struct OpenPartitions(Mutex<HashMap<TopicPartition, Arc<Opening>>>);

impl OpenPartitions {
    /// The topics that are being read, in order, each once.
    pub(crate) fn topics(&self) -> Vec<String> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let topics: BTreeSet<&str> = open.keys().map(|tp| &*tp.topic).collect();
        topics.into_iter().map(str::to_owned).collect()
    }

    /// Whether nothing is read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Wakes the readers of all of them.
    pub(crate) fn wake(&self) {
        let open: Vec<_> = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for opening in open {
            (opening.wake)();
        }
    }

    /// Makes every queue of a topic fault. The batch API swallows what librdkafka says of a topic that is gone.
    pub(crate) fn fault(&self, topic: &str, fault: &QueueFault) {
        let hit: Vec<_> = {
            let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            open.iter().filter(|(tp, _)| &*tp.topic == topic).map(|(_, o)| Arc::clone(o)).collect()
        };
        for opening in hit {
            if opening.fault.set(fault.clone()).is_ok() {
                (opening.wake)();
            }
        }
    }
}

impl fmt::Debug for OpenPartitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenPartitions")
    }
}

/// The queue of one partition.
pub(crate) struct KafkaQueue {
    tp: TopicPartition,
    opening: Arc<Opening>,
    fetching: Arc<Fetching>,
    queue: *mut sys::rd_kafka_queue_t,
    /// Messages taken; those before `next` are destroyed.
    batch: Vec<*mut sys::rd_kafka_message_t>,
    next: usize,
    /// No record below this offset may come.
    position: i64,
    /// The leader epoch of the record before `position`; -1: not known.
    leader_epoch: i32,
    /// Where a client has said that the partition ends, if that is behind `position`: control records and holes lie between, and no record.
    seen_end: i64,
    headers: HeadersBuf,
    /// Not from librdkafka: the queue was taken over, or a drain failed.
    own_fault: Option<QueueFault>,
    /// From a box; librdkafka's opaque pointer until the wake-up is switched off. Freed in the drop, after that.
    wake: *mut Wake,
}

// SAFETY: all pointers are owned by this value and librdkafka lets them be used from any thread, one at a time (`&mut self`).
unsafe impl Send for KafkaQueue {}

impl fmt::Debug for KafkaQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaQueue").field("tp", &self.tp).field("position", &self.position).finish_non_exhaustive()
    }
}

unsafe extern "C" fn call_wake(_client: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the address of the `Wake` that the queue owns, live until the wake-up is switched off. librdkafka calls this
    // under the queue's lock, so a closure must not call back into it; ours only signal a consumer thread.
    let wake = unsafe { &*opaque.cast::<Wake>() };
    wake();
}

/// Starts to fetch a partition. Takes it over if it is open already.
///
/// # Errors
/// `C0207` if librdkafka refuses.
pub(crate) fn open(fetching: &Arc<Fetching>, tp: &TopicPartition, offset: i64, leader_epoch: i32, wake: Wake) -> Result<KafkaQueue, Error> {
    open_after(None, fetching, tp, offset, leader_epoch, wake)
}

/// As [`open`]; with an opening that it follows, only if that has not been taken over.
fn open_after(
    older: Option<&Arc<Opening>>,
    fetching: &Arc<Fetching>,
    tp: &TopicPartition,
    offset: i64,
    leader_epoch: i32,
    wake: Wake,
) -> Result<KafkaQueue, Error> {
    let refused = |what: &str, code: K| {
        Error::new(OPEN_FAILED, ErrorKind::Retryable, what).with("partition", tp).with("offset", offset).because(code)
    };
    if offset < 0 {
        return Err(Error::new(OPEN_FAILED, ErrorKind::Bug, "a partition is opened at a negative offset").with("partition", tp));
    }
    let name = CString::new(&*tp.topic).map_err(|_| refused("the topic's name holds a zero byte", K::InvalidTopic))?;
    let reader = fetching.reader()?;
    let mut open = fetching.open.0.lock().unwrap_or_else(PoisonError::into_inner);
    if older.is_some_and(|older| !open.get(tp).is_some_and(|now| Arc::ptr_eq(now, older))) {
        return Err(refused("the partition was opened again elsewhere in this process", K::State));
    }
    if let Some(older) = open.remove(tp) {
        older.stop();
    }
    let client = reader.consumer.client().native_ptr();
    // SAFETY: client and name are live; without a config the client's defaults hold.
    let topic = unsafe { sys::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
    if topic.is_null() {
        return Err(refused("the topic cannot be opened", last_error()));
    }
    // From here on, dropping `opening` gives everything back. Nothing is fetched yet, so there is nothing to stop.
    let opening = Arc::new(Opening {
        topic,
        partition: tp.partition,
        stopped: AtomicBool::new(true),
        fault: OnceLock::new(),
        wake: Arc::clone(&wake),
        reader,
    });
    // SAFETY: the client is live.
    let queue = unsafe { sys::rd_kafka_queue_new(client) };
    let this = KafkaQueue {
        tp: tp.clone(),
        opening: Arc::clone(&opening),
        fetching: Arc::clone(fetching),
        queue,
        batch: Vec::with_capacity(BATCH),
        next: 0,
        position: offset,
        leader_epoch,
        seen_end: offset,
        headers: HeadersBuf::default(),
        own_fault: None,
        wake: Box::into_raw(Box::new(wake)),
    };
    // SAFETY: queue and topic are live. The opaque pointer is the closure's, which `this` frees only after it has switched the
    // wake-up off; between the two nobody has it mutably.
    let started = unsafe {
        sys::rd_kafka_queue_cb_event_enable(queue, Some(call_wake), this.wake.cast());
        sys::rd_kafka_consume_start_queue(topic, tp.partition, offset, queue)
    };
    if started != 0 {
        let error = refused("the fetch cannot be started", last_error());
        drop(open);
        return Err(error);
    }
    opening.stopped.store(false, Ordering::Release);
    open.insert(tp.clone(), opening);
    drop(open);
    if leader_epoch >= 0 && offset > 0 {
        // Records fetched before this are outdated by it: librdkafka drops them from the queue.
        native::seek_with_epoch(&this.opening.reader.consumer, tp, offset, leader_epoch, SEEK_TIMEOUT)
            .map_err(|code| refused("the fetch cannot be moved to its leader epoch", code))?;
    }
    Ok(this)
}

fn last_error() -> K {
    // SAFETY: reads a thread-local of librdkafka.
    K::from(unsafe { sys::rd_kafka_last_error() })
}

impl KafkaQueue {
    fn cannot_move(&self, offset: i64, code: K) -> Error {
        Error::new(OPEN_FAILED, ErrorKind::Retryable, "the fetch cannot be moved")
            .with("partition", &self.tp)
            .with("offset", offset)
            .because(code)
    }

    /// Goes on with the client that has taken the place of this queue's. What was fetched and not drained is fetched again.
    fn follow(&mut self) {
        let wake = Arc::clone(&self.opening.wake);
        match open_after(Some(&self.opening), &self.fetching, &self.tp, self.position, self.leader_epoch, wake) {
            Ok(mut moved) => {
                moved.seen_end = self.seen_end.max(moved.position);
                if let Some(fault) = self.opening.fault.get() {
                    // Nobody else has seen the new opening yet but the watch of topics, which would say the same.
                    let _ = moved.opening.fault.set(fault.clone());
                }
                *self = moved;
            }
            Err(e) => self.own_fault = Some(QueueFault::Other(format!("the fetch cannot be moved to other limits: {e}"))),
        }
    }

    /// Stops the fetch and starts it at `offset`, onto the same queue.
    fn start_again(&mut self, offset: i64) -> Result<(), Error> {
        // Under the lock no other opening of the partition stops or starts it meanwhile.
        let _open = self.fetching.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.opening.stopped.swap(true, Ordering::AcqRel) {
            return Err(self.cannot_move(offset, K::State));
        }
        // SAFETY: topic and queue are live, and the partition is this opening's. An error of the stop means that nothing was fetched, which is
        // what is wanted.
        let started = unsafe {
            let _ = sys::rd_kafka_consume_stop(self.opening.topic, self.tp.partition);
            sys::rd_kafka_consume_start_queue(self.opening.topic, self.tp.partition, offset, self.queue)
        };
        if started != 0 {
            return Err(self.cannot_move(offset, last_error()));
        }
        self.opening.stopped.store(false, Ordering::Release);
        Ok(())
    }
}

impl PartitionQueue for KafkaQueue {
    fn fill(&mut self) -> bool {
        if self.next < self.batch.len() || self.own_fault.is_some() {
            return true;
        }
        if let Some(fault) = self.opening.fault.get() {
            self.own_fault = Some(fault.clone());
            return true;
        }
        if self.opening.stopped.load(Ordering::Acquire) {
            self.own_fault = Some(QueueFault::Other("the partition was opened again elsewhere in this process".into()));
            return true;
        }
        if self.opening.reader.is_retired() {
            self.follow();
            if self.own_fault.is_some() {
                return true;
            }
        }
        self.batch.clear();
        self.next = 0;
        // SAFETY: the queue is live, and the vector has room for BATCH pointers; librdkafka writes as many as it returns.
        let taken = unsafe {
            let taken = sys::rd_kafka_consume_batch_queue(self.queue, 0, self.batch.as_mut_ptr(), BATCH);
            self.batch.set_len(usize::try_from(taken).unwrap_or_default());
            taken
        };
        if taken < 0 {
            self.own_fault = Some(QueueFault::Other(format!("the queue cannot be drained: {}", last_error())));
            return true;
        }
        taken > 0
    }

    fn peek(&mut self) -> Option<QueueEvent<'_>> {
        if let Some(fault) = &self.own_fault {
            return Some(QueueEvent::Fault(fault.clone()));
        }
        let message = *self.batch.get(self.next)?;
        // SAFETY: messages from `next` on are live, and stay so while `self` is borrowed. The error is read as the integer that it is,
        // and no reference to the struct is made: a broker may send a code that the enum lacks.
        let (error, offset, partition) =
            unsafe { (ptr::addr_of!((*message).err).cast::<i32>().read(), (*message).offset, (*message).partition) };
        if error != 0 {
            return Some(event_of_error(message, native::code(error), offset));
        }
        if offset < self.position || partition != self.tp.partition {
            return Some(QueueEvent::Fault(QueueFault::Other(format!(
                "record {partition}/{offset} came where {} of {} or later was due",
                self.position, self.tp
            ))));
        }
        if offset < self.seen_end {
            // The client before this one had passed control records here; what shows now was written since. This one asked the leader by the epoch of the
            // record before, which is not theirs.
            let cut = LastRead { end: self.position, epoch: self.leader_epoch };
            let cause = format!("record {offset} shows where the log had none, below its end at {}", self.seen_end);
            return Some(QueueEvent::Fault(QueueFault::Truncated { cause, cut: Some(cut) }));
        }
        self.headers.clear();
        if !push_headers(message, &mut self.headers) {
            return Some(QueueEvent::Fault(QueueFault::Corrupt(format!("the headers of record {offset} cannot be parsed"))));
        }
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live.
        let (timestamp, epoch) =
            unsafe { (sys::rd_kafka_message_timestamp(message, &raw mut kind), sys::rd_kafka_message_leader_epoch(message)) };
        let view = RecordView {
            offset,
            timestamp,
            timestamp_type: match kind {
                sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => TimestampType::None,
                sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => TimestampType::Create,
                sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => TimestampType::Append,
            },
            // SAFETY: key and payload are null or point to as many bytes as their lengths say, live as long as the message.
            key: unsafe { bytes((*message).key, (*message).key_len) },
            // SAFETY: as above.
            value: unsafe { bytes((*message).payload, (*message).len) },
            headers: self.headers.view(),
        };
        if is_misread(&view, epoch) {
            return Some(QueueEvent::Fault(QueueFault::OldFormat(format!("record {offset} has neither key nor value nor leader epoch"))));
        }
        Some(QueueEvent::Record(view, epoch))
    }

    fn pop(&mut self) {
        let Some(&message) = self.batch.get(self.next) else { return };
        self.next += 1;
        // SAFETY: the message is live and not reachable any more: `next` has passed it.
        unsafe {
            match ptr::addr_of!((*message).err).cast::<i32>().read() {
                0 => {
                    self.position = self.position.max((*message).offset + 1);
                    self.leader_epoch = sys::rd_kafka_message_leader_epoch(message);
                }
                error if native::code(error) == K::PartitionEOF => self.seen_end = self.seen_end.max((*message).offset),
                _ => {}
            }
            sys::rd_kafka_message_destroy(message);
        }
    }

    fn seek(&mut self, offset: i64) -> Result<(), Error> {
        while self.next < self.batch.len() {
            self.pop();
        }
        (self.position, self.leader_epoch, self.seen_end) = (offset, -1, offset);
        // What is on its way from the old position is outdated by this: librdkafka drops it.
        match native::seek_with_epoch(&self.opening.reader.consumer, &self.tp, offset, -1, SEEK_TIMEOUT) {
            Ok(()) => Ok(()),
            // The fetch has ended by itself: behind a corrupt batch librdkafka may ask for an offset that it made up, which the broker does not
            // have.
            Err(K::State) => self.start_again(offset),
            Err(code) => Err(self.cannot_move(offset, code)),
        }
    }
}

impl Drop for KafkaQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is live. This takes its lock, so that afterwards no wake-up runs or will run.
        unsafe { sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut()) };
        for &message in &self.batch[self.next..] {
            // SAFETY: not destroyed yet, and never again: the batch goes with `self`.
            unsafe { sys::rd_kafka_message_destroy(message) };
        }
        {
            let mut open = self.fetching.open.0.lock().unwrap_or_else(PoisonError::into_inner);
            if open.get(&self.tp).is_some_and(|o| Arc::ptr_eq(o, &self.opening)) {
                open.remove(&self.tp);
            }
            // Under the lock: a later opening of this partition starts only after this stop.
            self.opening.stop();
        }
        // SAFETY: made by rd_kafka_queue_new, destroyed once; the stop has cut it off from the partition. The closure came from a box
        // and is not called any more.
        unsafe {
            sys::rd_kafka_queue_destroy(self.queue);
            drop(Box::from_raw(self.wake));
        }
    }
}

/// Whether a record looks like a message of format 0 or 1 that was read by the rules of a flexible Fetch response (version 12 and later).
///
/// librdkafka 2.5 to 2.15 does that: it takes the first zero byte of the key's length for a null key, the next one for a null value, and goes on
/// at a wrong byte, so that the rest of the response is lost. Only these formats have no leader epoch. A record that truly has neither key
/// nor value in an old format, of a broker before 2.7, looks the same.
fn is_misread(record: &RecordView<'_>, leader_epoch: i32) -> bool {
    leader_epoch < 0 && record.key.is_none() && record.value.is_none() && record.headers.as_bytes().is_empty()
}

/// Bytes that may be null.
///
/// # Safety
/// `data` is null or points to `len` bytes that live for `'a`.
unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: by this function's contract.
    (!data.is_null()).then(|| unsafe { slice::from_raw_parts(data.cast::<u8>(), len) })
}

/// Appends a message's headers; false if they cannot be parsed.
fn push_headers(message: *const sys::rd_kafka_message_t, into: &mut HeadersBuf) -> bool {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is live; the list stays owned by it.
    match K::from(unsafe { sys::rd_kafka_message_headers(message, &raw mut headers) }) {
        K::NoError => {}
        K::NoEnt => return true,
        _ => return false,
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list is live; past its end the call fails.
        let found = unsafe { sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size) };
        if K::from(found) != K::NoError {
            break;
        }
        // SAFETY: name and value were just given for a live header; the value is null or has `size` bytes.
        unsafe { into.push(header_name(name, value, size), bytes(value, size)) };
    }
    true
}

/// A header's name, which may hold any bytes.
///
/// The API gives a C string, and a name with a zero byte would come out cut short. The header's struct holds the length:
/// `{size_t ser_size, value_size, name_size; char *value; char name[]}` in the version that is bundled. With any other version, or
/// where the neighbouring fields are not what they must be, the name ends at its first zero.
///
/// # Safety
/// `name`, `value` and `size` came from one `rd_kafka_header_get_all` call on a live list.
unsafe fn header_name<'a>(name: *const std::ffi::c_char, value: *const c_void, size: usize) -> &'a [u8] {
    // SAFETY: in this version four words precede the name within its allocation; the strings are NUL-terminated.
    unsafe {
        if sys::rd_kafka_version() == HEADER_LAYOUT_VERSION {
            let fields = name.cast::<usize>();
            let (value_size, name_size, value_at) =
                (fields.sub(3).read_unaligned(), fields.sub(2).read_unaligned(), fields.sub(1).read_unaligned());
            if value_size == size && value_at == value as usize {
                return slice::from_raw_parts(name.cast(), name_size);
            }
        }
        CStr::from_ptr(name).to_bytes()
    }
}

/// What an error on the queue means for the lane.
fn event_of_error<'a>(message: *const sys::rd_kafka_message_t, code: K, offset: i64) -> QueueEvent<'a> {
    if code == K::PartitionEOF {
        return QueueEvent::End(offset);
    }
    // SAFETY: the message is live; its text is null or NUL-terminated.
    let text = unsafe {
        let text = sys::rd_kafka_message_errstr(message);
        if text.is_null() { code.to_string() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    };
    QueueEvent::Fault(fault_of(code, text))
}

/// The broker's answer to a question about the position's epoch stands in the text alone: `broker end offset is N (offset leader epoch E)`.
fn truncated(cause: String) -> QueueFault {
    let number = |text: &str| -> Option<i64> { text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok() };
    let cut = cause.split_once("broker end offset is ").and_then(|(_, rest)| {
        let epoch = rest.split_once("leader epoch ").and_then(|(_, rest)| i32::try_from(number(rest)?).ok());
        Some(LastRead { end: number(rest)?, epoch: epoch.unwrap_or(-1) })
    });
    QueueFault::Truncated { cause, cut }
}

fn fault_of(code: K, text: String) -> QueueFault {
    match code {
        // With the policy `error`, librdkafka wraps the reason of a reset in this one; its text names it.
        K::AutoOffsetReset if text.contains(&native::text_of(K::LogTruncation)) => truncated(text),
        K::AutoOffsetReset if text.contains(&native::text_of(K::OffsetOutOfRange)) => QueueFault::OutOfRange(text),
        K::OffsetOutOfRange => QueueFault::OutOfRange(text),
        K::LogTruncation => truncated(text),
        // NotImplemented: a message format, or a codec, that does not exist.
        K::BadMessage | K::BadCompression | K::InvalidMessage | K::Underflow | K::NotImplemented | K::UnsupportedCompressionType => {
            QueueFault::Corrupt(text)
        }
        K::TopicAuthorizationFailed | K::ClusterAuthorizationFailed => QueueFault::Denied(text),
        K::UnknownTopic | K::UnknownPartition | K::UnknownTopicOrPartition | K::UnknownTopicId => QueueFault::Gone(text),
        _ => QueueFault::Other(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_layout_is_that_of_the_bundled_version() {
        // SAFETY: takes nothing.
        assert_eq!(unsafe { sys::rd_kafka_version() }, HEADER_LAYOUT_VERSION, "check rd_kafka_header_t before raising the version");
    }

    #[test]
    fn header_names_keep_zero_bytes() {
        // SAFETY: the list is ours, names and values are as long as said, and it is destroyed once.
        unsafe {
            let list = sys::rd_kafka_headers_new(2);
            for (name, value) in [(&b"a\0b"[..], Some(&b"v"[..])), (b"\xff", None), (b"", Some(b"")), (b"n", None)] {
                let (data, size) = value.map_or((ptr::null(), -1), |v| (v.as_ptr().cast(), v.len() as isize));
                let _ = sys::rd_kafka_header_add(list, name.as_ptr().cast(), name.len() as isize, data, size);
            }
            let mut seen = Vec::new();
            for index in 0..4 {
                let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
                sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut size);
                seen.push((header_name(name, value, size).to_vec(), bytes(value, size).map(<[u8]>::to_vec)));
            }
            sys::rd_kafka_headers_destroy(list);
            assert_eq!(seen[0], (b"a\0b".to_vec(), Some(b"v".to_vec())));
            assert_eq!(seen[1], (b"\xff".to_vec(), None));
            assert_eq!(seen[3], (b"n".to_vec(), None));
        }
    }

    #[test]
    fn a_record_without_anything_is_a_misread_message_of_an_old_format() {
        let record = |key, value| RecordView {
            offset: 1,
            timestamp: 1,
            timestamp_type: TimestampType::Create,
            key,
            value,
            headers: catchment_formats::HeadersView::default(),
        };
        assert!(is_misread(&record(None, None), -1));
        assert!(!is_misread(&record(None, None), 0), "a tombstone without a key, in the format of today");
        assert!(!is_misread(&record(Some(&b""[..]), None), -1) && !is_misread(&record(None, Some(&b""[..])), -1));
    }

    #[test]
    fn errors_become_faults() {
        let reset = |text: &str| fault_of(K::AutoOffsetReset, text.to_owned());
        let out_of_range = "fetch failed due to requested offset not available on the broker: Broker: Offset out of range (broker 1)";
        assert!(matches!(reset(out_of_range), QueueFault::OutOfRange(_)));
        let truncated = "Partition log truncation detected at offset 500 (leader epoch 0): broker end offset is 10 \
                         (offset leader epoch 0). Reset to INVALID.: Local: Partition log truncation detected (broker 1)";
        assert!(matches!(reset(truncated), QueueFault::Truncated { cut: Some(LastRead { end: 10, epoch: 0 }), .. }));
        assert!(matches!(reset("no previously committed offset available: Local: No offset stored"), QueueFault::Other(_)));
        assert!(matches!(fault_of(K::BadMessage, String::new()), QueueFault::Corrupt(_)));
        assert!(matches!(fault_of(K::TopicAuthorizationFailed, String::new()), QueueFault::Denied(_)));
        assert!(matches!(fault_of(K::UnknownPartition, String::new()), QueueFault::Gone(_)));
        assert!(matches!(fault_of(K::KafkaStorageError, String::new()), QueueFault::Other(_)));
    }
}
