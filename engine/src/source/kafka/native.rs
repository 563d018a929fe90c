//! Calls into librdkafka that the safe crate lacks, or that lose something there.
//!
//! Audited unsafe, with [`queue`](super::queue) and [`admin`]: commits with a result per partition, committed offsets with epoch and any
//! metadata, metadata without a panic on names that are not UTF-8, the member's epoch. Every function takes a client by reference, so the client
//! outlives the call; every native object made here is destroyed here. All calls block.
#![expect(unsafe_code, reason = "librdkafka calls that the crate lacks; each block says why it holds")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode as K;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::source::{Committed, TopicPartition};

pub(crate) mod admin;

/// A raw error code as the crate's; codes that it does not know become `Unknown`.
pub(crate) fn code(raw: i32) -> K {
    RDKafkaRespErr::try_from(raw).map_or(K::Unknown, K::from)
}

/// A code's text as librdkafka writes it into its messages.
pub(crate) fn text_of(code: K) -> String {
    match RDKafkaRespErr::try_from(code as i32) {
        // SAFETY: takes any value of the enum and gives a static string.
        Ok(raw) => unsafe { text(sys::rd_kafka_err2str(raw)) },
        Err(_) => code.to_string(),
    }
}

/// Milliseconds as librdkafka takes them.
fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

/// Copies a C string; null gives the empty string.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string that outlives the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and NUL-terminated by this function's contract.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// One element of a partition list, copied.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    pub(crate) code: K,
}

/// Copies one element.
///
/// # Safety
/// `element` points to a live element of a partition list.
unsafe fn row(element: *const sys::rd_kafka_topic_partition_t) -> Row {
    // SAFETY: the element is live. The error is read as an integer, since a broker may send a code that the enum lacks.
    unsafe {
        let metadata = (*element).metadata.cast::<u8>();
        let metadata =
            if metadata.is_null() { &[][..] } else { std::slice::from_raw_parts(metadata.cast_const(), (*element).metadata_size) };
        Row {
            topic: text((*element).topic),
            partition: (*element).partition,
            offset: (*element).offset,
            leader_epoch: sys::rd_kafka_topic_partition_get_leader_epoch(element),
            metadata: String::from_utf8_lossy(metadata).into_owned(),
            code: code(ptr::addr_of!((*element).err).cast::<i32>().read()),
        }
    }
}

/// Copies a list.
///
/// # Safety
/// `list` points to a live partition list that nobody changes meanwhile.
unsafe fn rows_of(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<Row> {
    // SAFETY: the list is live, and `elems` holds `cnt` elements.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or_default();
        (0..count).map(|i| row((*list).elems.add(i))).collect()
    }
}

/// Copies a list's elements.
pub(crate) fn rows(list: &TopicPartitionList) -> Vec<Row> {
    // SAFETY: the list is borrowed, so it is live and unchanged.
    unsafe { rows_of(list.ptr()) }
}

/// A list of partitions with offset, leader epoch and metadata. Topic names hold no NUL (they are checked when they come in).
pub(crate) fn list<'a>(entries: impl IntoIterator<Item = (&'a TopicPartition, &'a Committed)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (i, (tp, commit)) in entries.into_iter().enumerate() {
        let mut element = list.add_partition(&tp.topic, tp.partition);
        if !commit.metadata.is_empty() {
            element.set_metadata(&commit.metadata);
        }
        // SAFETY: the list is owned here and has just got its i-th element.
        unsafe {
            let element = (*list.ptr()).elems.add(i);
            (*element).offset = commit.offset;
            sys::rd_kafka_topic_partition_set_leader_epoch(element, commit.leader_epoch);
        }
    }
    list
}

/// The epoch, or the generation, of the member; 0 or less until it has joined. Waits for the client's own thread, not for a broker.
pub(crate) fn member_epoch<C: ConsumerContext>(client: &BaseConsumer<C>) -> i32 {
    // SAFETY: the client outlives the call. What is given is null or an object of its own, which is read and destroyed here, once.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata(client.client().native_ptr());
        if metadata.is_null() {
            return -1;
        }
        let epoch = sys::rd_kafka_consumer_group_metadata_generation_id(metadata);
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        epoch
    }
}

/// What an OffsetCommit brought: the request's own error, and one for each partition.
#[derive(Debug, Default)]
struct CommitReply(Vec<Row>);

unsafe extern "C" fn keep_commit_reply(
    _client: *mut sys::rd_kafka_t,
    _error: sys::rd_kafka_resp_err_t,
    offsets: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    if !offsets.is_null() {
        // SAFETY: `opaque` is the `CommitReply` on the stack of `commit`, which waits for this call; the list is librdkafka's and
        // live during the callback.
        unsafe { (*opaque.cast::<CommitReply>()).0 = rows_of(offsets) };
    }
}

/// One OffsetCommit for all entries. Waits for as long as librdkafka holds it: it may be deferred until a coordinator is found, for up
/// to the session time-out. The results are in the order of the entries.
///
/// One caveat of librdkafka: where only some partitions failed, it reports the last error for *all* of them. The caller repeats
/// commits one by one to tell them apart.
pub(crate) fn commit<C: ConsumerContext>(client: &BaseConsumer<C>, entries: &[(&TopicPartition, &Committed)]) -> Vec<K> {
    let list = list(entries.iter().copied());
    let mut reply = CommitReply::default();
    // SAFETY: client and list outlive the call. Without a queue the call is synchronous: the callback runs on this thread, before it
    // returns, so the reply on this stack is live and not shared.
    let error = unsafe {
        sys::rd_kafka_commit_queue(
            client.client().native_ptr(),
            list.ptr(),
            ptr::null_mut(),
            Some(keep_commit_reply),
            ptr::from_mut(&mut reply).cast(),
        )
    };
    let whole = K::from(error);
    let of = |tp: &TopicPartition| reply.0.iter().find(|r| r.topic == *tp.topic && r.partition == tp.partition).map(|r| r.code);
    entries
        .iter()
        .map(|(tp, _)| match of(tp) {
            Some(K::NoError) | None => whole,
            Some(code) => code,
        })
        .collect()
}

/// The member's generation (or epoch) and id, as the next commit would carry them; none if the client has no group.
pub(crate) fn generation<C: ConsumerContext>(client: &BaseConsumer<C>) -> Option<(i32, String)> {
    // SAFETY: the client is live; the object is owned by us until it is destroyed, and its strings are copied before that.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata(client.client().native_ptr());
        if metadata.is_null() {
            return None;
        }
        let generation = sys::rd_kafka_consumer_group_metadata_generation_id(metadata);
        let member = text(sys::rd_kafka_consumer_group_metadata_member_id(metadata));
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        Some((generation, member))
    }
}

/// Makes a partition known to the client and pauses it, so that an assignment of it does not fetch.
pub(crate) fn pause<C: ConsumerContext>(client: &BaseConsumer<C>, partitions: &TopicPartitionList) -> Result<(), K> {
    for row in rows(partitions) {
        let topic = CString::new(row.topic).map_err(|_| K::InvalidTopic)?;
        // SAFETY: client and name outlive the call; the queue reference is given back at once. The call's use is its side effect:
        // pausing skips partitions that the client has never seen.
        unsafe {
            let queue = sys::rd_kafka_queue_get_partition(client.client().native_ptr(), topic.as_ptr(), row.partition);
            if !queue.is_null() {
                sys::rd_kafka_queue_destroy(queue);
            }
        }
    }
    // SAFETY: client and list outlive the call, which waits until the pause is in place.
    let error = unsafe { sys::rd_kafka_pause_partitions(client.client().native_ptr(), partitions.ptr()) };
    match K::from(error) {
        K::NoError => Ok(()),
        code => Err(code),
    }
}

/// Moves a fetch to `offset`, whose previous record has `leader_epoch`: librdkafka asks the leader whether that epoch reaches so far
/// before it fetches.
pub(crate) fn seek_with_epoch<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    tp: &TopicPartition,
    offset: i64,
    leader_epoch: i32,
    timeout: Duration,
) -> Result<(), K> {
    let position = Committed { offset, leader_epoch, metadata: String::new() };
    let list = list([(tp, &position)]);
    // SAFETY: client and list outlive the call; the error object is destroyed after its code was read.
    let whole = unsafe {
        let error = sys::rd_kafka_seek_partitions(client.client().native_ptr(), list.ptr(), millis(timeout));
        let whole = sys::rd_kafka_error_code(error);
        sys::rd_kafka_error_destroy(error);
        K::from(whole)
    };
    match (whole, rows(&list).first().map(|r| r.code)) {
        (K::NoError, Some(K::NoError) | None) => Ok(()),
        (K::NoError, Some(code)) | (code, _) => Err(code),
    }
}

/// A broker as the cluster's metadata names it.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: i32,
}

/// The cluster's brokers and the names of all its topics.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterMetadata {
    pub(crate) brokers: Vec<Broker>,
    /// Name, number of partitions, error.
    pub(crate) topics: Vec<(String, i32, K)>,
}

/// Metadata of all topics.
pub(crate) fn metadata<C: ConsumerContext>(client: &BaseConsumer<C>, timeout: Duration) -> Result<ClusterMetadata, K> {
    let mut found: *const sys::rd_kafka_metadata = ptr::null();
    // SAFETY: the client outlives the call; with success `found` is ours until it is destroyed, its arrays hold as many elements
    // as their counts say, and everything is copied before.
    unsafe {
        let error = K::from(sys::rd_kafka_metadata(client.client().native_ptr(), 1, ptr::null_mut(), &raw mut found, millis(timeout)));
        if error != K::NoError {
            return Err(error);
        }
        let count = |n: i32| usize::try_from(n).unwrap_or_default();
        let brokers = (0..count((*found).broker_cnt)).map(|i| {
            let b = (*found).brokers.add(i);
            Broker { id: (*b).id, host: text((*b).host), port: (*b).port }
        });
        let topics = (0..count((*found).topic_cnt)).map(|i| {
            let t = (*found).topics.add(i);
            (text((*t).topic), (*t).partition_cnt, code(ptr::addr_of!((*t).err).cast::<i32>().read()))
        });
        let copy = ClusterMetadata { brokers: brokers.collect(), topics: topics.collect() };
        sys::rd_kafka_metadata_destroy(found);
        Ok(copy)
    }
}

/// The id of a broker that answers. Waits for one without spinning, which the admin calls do not while their broker is down.
pub(crate) fn reach<C: ConsumerContext>(client: &BaseConsumer<C>, timeout: Duration) -> Result<i32, K> {
    let mut found: *const sys::rd_kafka_metadata = ptr::null();
    // SAFETY: the client outlives the call; with success `found` is ours and is destroyed at once. No topic is asked for but those that
    // the client knows.
    unsafe {
        let error = K::from(sys::rd_kafka_metadata(client.client().native_ptr(), 0, ptr::null_mut(), &raw mut found, millis(timeout)));
        if error != K::NoError {
            return Err(error);
        }
        let broker = (*found).orig_broker_id;
        sys::rd_kafka_metadata_destroy(found);
        Ok(broker)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn lists_carry_everything_both_ways() {
        let tp = TopicPartition { topic: Arc::from("t"), partition: 3 };
        let commit = Committed { offset: 7, leader_epoch: 5, metadata: "m".repeat(2_900) };
        let rows = rows(&list([(&tp, &commit)]));
        assert_eq!(rows.len(), 1);
        let r = &rows[0];
        assert_eq!((r.topic.as_str(), r.partition, r.offset, r.leader_epoch, r.code), ("t", 3, 7, 5, K::NoError));
        assert_eq!(r.metadata, commit.metadata);
    }

    #[test]
    fn unknown_codes_are_unknown() {
        assert_eq!(code(3), K::UnknownTopicOrPartition);
        assert_eq!(code(12_345), K::Unknown);
    }
}
