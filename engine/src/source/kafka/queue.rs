//! One open partition: start and stop of its fetch, and the batch drain.
//!
//! Audited unsafe, with [`native`](super::native), [`opening`](super::opening) and [`message`](super::message). Records come by `rd_kafka_consume_batch_queue`, 1,024 at a time, from a queue of the
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

use std::ffi::{CString, c_void};
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catchment_formats::{HeadersBuf, RecordView, TimestampType};
use rdkafka::bindings as sys;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as K;

use crate::error::{Error, ErrorKind};
use crate::source::{LastRead, PartitionQueue, QueueEvent, QueueFault, TopicPartition, Wake};

use super::errors::OPEN_FAILED;
use super::fetching::Fetching;
use super::message::{bytes, event_of_error, is_misread, push_headers};
use super::native;
use super::opening::Opening;

/// Records taken from librdkafka at a time. Fewer: a lock and two clock reads are paid more often. More: their ops (320 bytes each) fall
/// out of the core's cache before they are read.
const BATCH: usize = 1_024;

/// How long a seek may take to be acknowledged; it is a message to a thread of this process.
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);

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
    let mut open = fetching.open.lock();
    if older.is_some_and(|older| !open.get(tp).is_some_and(|now| Arc::ptr_eq(now, older))) {
        return Err(refused("the partition was opened again elsewhere in this process", K::State));
    }
    if let Some(older) = open.remove(tp) {
        older.stop();
    }
    let opening =
        Arc::new(Opening::new(reader, &name, tp.partition, wake).ok_or_else(|| refused("the topic cannot be opened", last_error()))?);
    let this = KafkaQueue::new(tp, &opening, fetching, offset, leader_epoch);
    if !this.start(offset) {
        let error = refused("the fetch cannot be started", last_error());
        drop(open);
        return Err(error);
    }
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
    /// A queue of its own for the opening, onto which nothing comes yet.
    fn new(tp: &TopicPartition, opening: &Arc<Opening>, fetching: &Arc<Fetching>, offset: i64, leader_epoch: i32) -> Self {
        let wake = Box::into_raw(Box::new(Arc::clone(&opening.wake)));
        // SAFETY: the client is live. The opaque pointer is the closure's, which is freed only after the wake-up has been switched off; between the
        // two nobody has it mutably.
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_new(opening.reader.consumer.client().native_ptr());
            sys::rd_kafka_queue_cb_event_enable(queue, Some(call_wake), wake.cast());
            queue
        };
        Self {
            tp: tp.clone(),
            opening: Arc::clone(opening),
            fetching: Arc::clone(fetching),
            queue,
            batch: Vec::with_capacity(BATCH),
            next: 0,
            position: offset,
            leader_epoch,
            seen_end: offset,
            headers: HeadersBuf::default(),
            own_fault: None,
            wake,
        }
    }

    /// Starts the fetch, under the lock of the openings; false: librdkafka refuses.
    fn start(&self, offset: i64) -> bool {
        // SAFETY: topic and queue are live, and the partition is this opening's.
        let started = unsafe { sys::rd_kafka_consume_start_queue(self.opening.topic, self.tp.partition, offset, self.queue) };
        self.opening.stopped.store(started != 0, Ordering::Release);
        started == 0
    }

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
        let _open = self.fetching.open.lock();
        if self.opening.stopped.swap(true, Ordering::AcqRel) {
            return Err(self.cannot_move(offset, K::State));
        }
        // SAFETY: the topic is live. An error means that nothing was fetched, which is what is wanted.
        let _ = unsafe { sys::rd_kafka_consume_stop(self.opening.topic, self.tp.partition) };
        if self.start(offset) { Ok(()) } else { Err(self.cannot_move(offset, last_error())) }
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
            let mut open = self.fetching.open.lock();
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
