//! Questions to the cluster by librdkafka's admin calls: topic UUIDs and settings, offsets by time, the last stable offset.
//!
//! Audited unsafe, by the same rules as [`native`](super). Each call has a queue of its own, so an answer can only be the answer to it;
//! answers are copied before their event is destroyed.
#![expect(unsafe_code, reason = "librdkafka's admin calls; each block says why it holds")]

use std::ffi::{CString, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode as K;

use super::{Row, list, millis, reach, row, rows_of, text};
use crate::source::{Committed, TopicPartition};

/// A queue for the results of admin calls, destroyed when dropped.
struct ResultQueue(*mut sys::rd_kafka_queue_t);

impl ResultQueue {
    fn new<C: ConsumerContext>(client: &BaseConsumer<C>) -> Self {
        // SAFETY: the client is live, and outlives the queue by the borrows of the functions that use it.
        Self(unsafe { sys::rd_kafka_queue_new(client.client().native_ptr()) })
    }

    /// Waits for the next event. The call's own time-out makes one come; ours is a second belt.
    fn wait(&self, timeout: Duration) -> Result<ResultEvent, K> {
        // SAFETY: the queue is live; a non-null event is ours to destroy.
        let event = unsafe { sys::rd_kafka_queue_poll(self.0, millis(timeout + Duration::from_secs(1))) };
        if event.is_null() {
            return Err(K::OperationTimedOut);
        }
        let event = ResultEvent(event);
        // SAFETY: the event is live.
        match K::from(unsafe { sys::rd_kafka_event_error(event.0) }) {
            K::NoError => Ok(event),
            code => Err(code),
        }
    }
}

impl Drop for ResultQueue {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_queue_new, destroyed once. Results still under way are discarded by librdkafka.
        unsafe { sys::rd_kafka_queue_destroy(self.0) };
    }
}

struct ResultEvent(*mut sys::rd_kafka_event_t);

impl Drop for ResultEvent {
    fn drop(&mut self) {
        // SAFETY: came from rd_kafka_queue_poll, destroyed once.
        unsafe { sys::rd_kafka_event_destroy(self.0) };
    }
}

/// Options of an admin call, destroyed when dropped.
struct Options(*mut sys::rd_kafka_AdminOptions_t);

impl Options {
    fn new<C: ConsumerContext>(client: &BaseConsumer<C>, op: sys::rd_kafka_admin_op_t, timeout: Duration) -> Self {
        let mut reason = [0 as c_char; 128];
        // SAFETY: the client is live; the reason's buffer is as long as it is said to be. A refused time-out leaves the default of 60 s.
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(client.client().native_ptr(), op);
            let _ = sys::rd_kafka_AdminOptions_set_request_timeout(options, millis(timeout), reason.as_mut_ptr(), reason.len());
            Self(options)
        }
    }

    fn set_broker(&self, broker: i32) {
        let mut reason = [0 as c_char; 128];
        // SAFETY: the options are live; the reason's buffer is as long as it is said to be. A refusal leaves the choice to librdkafka.
        unsafe {
            let _ = sys::rd_kafka_AdminOptions_set_broker(self.0, broker, reason.as_mut_ptr(), reason.len());
        }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_AdminOptions_new, destroyed once; calls copy what they need.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0) };
    }
}

/// A topic as DescribeTopics tells it.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) name: String,
    /// 32 lower-case hex digits, or `0` where the broker has none.
    pub(crate) id: String,
    pub(crate) partitions: i32,
    pub(crate) code: K,
}

/// Describes topics, in any order. The names hold no NUL.
pub(crate) fn describe_topics<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topics: &[String],
    timeout: Duration,
) -> Result<Vec<Described>, K> {
    let names = topics.iter().map(|t| CString::new(t.as_str())).collect::<Result<Vec<_>, _>>().map_err(|_| K::InvalidTopic)?;
    let options = Options::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout);
    // Any broker knows; without this the controller is asked, which may be one that nobody can reach.
    options.set_broker(reach(client, timeout)?);
    let queue = ResultQueue::new(client);
    let mut pointers: Vec<*const c_char> = names.iter().map(|n| n.as_ptr()).collect();
    // SAFETY: the collection copies the names and is destroyed after the call, which copies it.
    unsafe {
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        sys::rd_kafka_DescribeTopics(client.client().native_ptr(), collection, options.0, queue.0);
        sys::rd_kafka_TopicCollection_destroy(collection);
    }
    let event = queue.wait(timeout)?;
    // SAFETY: the event is a DescribeTopics result (no other call uses this queue) and owns everything that is read here.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err(K::Unknown);
        }
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        Ok((0..count).map(|i| topic_of(*described.add(i))).collect())
    }
}

/// Copies a description.
///
/// # Safety
/// `topic` belongs to a live result.
unsafe fn topic_of(topic: *const sys::rd_kafka_TopicDescription_t) -> Described {
    // SAFETY: by this function's contract; id and error may be null.
    unsafe {
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        let error = sys::rd_kafka_TopicDescription_error(topic);
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let bits = |id| (sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id));
        let (most, least) = if id.is_null() { (0, 0) } else { bits(id) };
        Described {
            name: text(sys::rd_kafka_TopicDescription_name(topic)),
            id: topic_id(most, least),
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            code: if error.is_null() { K::NoError } else { K::from(sys::rd_kafka_error_code(error)) },
        }
    }
}

/// A topic's UUID in the form of `TopicInfo::id`.
fn topic_id(most: i64, least: i64) -> String {
    if most == 0 && least == 0 { "0".to_owned() } else { format!("{most:016x}{least:016x}") }
}

/// The values of a topic's settings, as the broker that is asked has them; none of those that it does not know. The topic's name holds no NUL.
pub(crate) fn topic_settings<C: ConsumerContext, const N: usize>(
    client: &BaseConsumer<C>,
    topic: &str,
    names: [&str; N],
    timeout: Duration,
) -> Result<[Option<String>; N], K> {
    let name = CString::new(topic).map_err(|_| K::InvalidTopic)?;
    // Without this the call would spin while no broker can be reached.
    reach(client, timeout)?;
    let options = Options::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout);
    let queue = ResultQueue::new(client);
    // SAFETY: the resource copies the name and is destroyed after the call, which copies it; client, options and queue outlive the call.
    unsafe {
        let mut resource = sys::rd_kafka_ConfigResource_new(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name.as_ptr());
        sys::rd_kafka_DescribeConfigs(client.client().native_ptr(), &raw mut resource, 1, options.0, queue.0);
        sys::rd_kafka_ConfigResource_destroy(resource);
    }
    let event = queue.wait(timeout)?;
    // SAFETY: the event is a DescribeConfigs result (no other call uses this queue) and owns everything that is read here; the arrays
    // hold as many elements as their counts say.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConfigs_result(event.0);
        let mut count = 0;
        let resources =
            if result.is_null() { ptr::null_mut() } else { sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count) };
        if resources.is_null() || count != 1 {
            return Err(K::Unknown);
        }
        let resource = *resources;
        match K::from(sys::rd_kafka_ConfigResource_error(resource)) {
            K::NoError => {}
            code => return Err(code),
        }
        let mut entries = 0;
        let configs = sys::rd_kafka_ConfigResource_configs(resource, &raw mut entries);
        let entries: Vec<_> = (0..entries).map(|i| *configs.add(i)).collect();
        Ok(names.map(|name| {
            let found = entries.iter().find(|entry| text(sys::rd_kafka_ConfigEntry_name(**entry)) == name);
            found.map(|entry| text(sys::rd_kafka_ConfigEntry_value(*entry)))
        }))
    }
}

/// What an offset look-up asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OffsetSpec {
    /// The first offset.
    Earliest,
    /// The end, for readers of committed records: the last stable offset.
    StableEnd,
    /// The end: the high watermark.
    End,
    /// The first offset whose timestamp is at least this, ms.
    Time(i64),
}

/// Looks offsets up at the leaders, one for each partition; the rows come in any order. `partitions` must be distinct.
pub(crate) fn list_offsets<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
    timeout: Duration,
) -> Result<Vec<Row>, K> {
    use sys::rd_kafka_IsolationLevel_t as Isolation;
    let (offset, isolation) = match spec {
        OffsetSpec::Earliest => (-2, Isolation::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED),
        OffsetSpec::StableEnd => (-1, Isolation::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED),
        OffsetSpec::End => (-1, Isolation::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED),
        OffsetSpec::Time(at) => (at.max(0), Isolation::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED),
    };
    let asked = Committed { offset, leader_epoch: -1, metadata: String::new() };
    let list = list(partitions.iter().map(|tp| (tp, &asked)));
    let options = Options::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout);
    let queue = ResultQueue::new(client);
    // SAFETY: client, list, options and queue outlive the call, which copies the first two; the error is destroyed (null is fine).
    unsafe {
        sys::rd_kafka_error_destroy(sys::rd_kafka_AdminOptions_set_isolation_level(options.0, isolation));
        sys::rd_kafka_ListOffsets(client.client().native_ptr(), list.ptr(), options.0, queue.0);
    }
    let event = queue.wait(timeout)?;
    // SAFETY: the event is a ListOffsets result (no other call uses this queue) and owns everything that is read here.
    unsafe {
        let result = sys::rd_kafka_event_ListOffsets_result(event.0);
        if result.is_null() {
            return Err(K::Unknown);
        }
        let mut count = 0;
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        Ok((0..count).map(|i| answered(row(sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(i))))).collect())
    }
}

/// What a group has committed, of all partitions; nothing of a group that is not there. The name holds no NUL.
pub(crate) fn group_offsets<C: ConsumerContext>(client: &BaseConsumer<C>, group: &str, timeout: Duration) -> Result<Vec<Row>, K> {
    let name = CString::new(group).map_err(|_| K::InvalidGroupId)?;
    // Without this the call would spin while no broker can be reached.
    reach(client, timeout)?;
    let options = Options::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, timeout);
    let queue = ResultQueue::new(client);
    // SAFETY: the request copies the name (no list means all partitions) and is destroyed after the call, which copies it; client, options and queue outlive
    // the call.
    unsafe {
        let mut request = sys::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), ptr::null());
        sys::rd_kafka_ListConsumerGroupOffsets(client.client().native_ptr(), &raw mut request, 1, options.0, queue.0);
        sys::rd_kafka_ListConsumerGroupOffsets_destroy(request);
    }
    let event = queue.wait(timeout)?;
    // SAFETY: the event is a ListConsumerGroupOffsets result (no other call uses this queue) and owns everything that is read here; the array holds as many
    // elements as its count says, and partitions may be null.
    unsafe {
        let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event.0);
        if result.is_null() {
            return Err(K::Unknown);
        }
        let mut count = 0;
        let groups = sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
        if count != 1 {
            return Err(K::Unknown);
        }
        group_code(*groups)?;
        let partitions = sys::rd_kafka_group_result_partitions(*groups);
        Ok(if partitions.is_null() { Vec::new() } else { rows_of(partitions) })
    }
}

/// Deletes a group; refused by the broker while it has members. The name holds no NUL.
pub(crate) fn delete_group<C: ConsumerContext>(client: &BaseConsumer<C>, group: &str, timeout: Duration) -> Result<(), K> {
    let name = CString::new(group).map_err(|_| K::InvalidGroupId)?;
    reach(client, timeout)?;
    let options = Options::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETEGROUPS, timeout);
    let queue = ResultQueue::new(client);
    // SAFETY: the request copies the name and is destroyed after the call, which copies it; client, options and queue outlive the call.
    unsafe {
        let mut request = sys::rd_kafka_DeleteGroup_new(name.as_ptr());
        sys::rd_kafka_DeleteGroups(client.client().native_ptr(), &raw mut request, 1, options.0, queue.0);
        sys::rd_kafka_DeleteGroup_destroy(request);
    }
    let event = queue.wait(timeout)?;
    // SAFETY: the event is a DeleteGroups result (no other call uses this queue) and owns everything that is read here; the array holds as many elements as
    // its count says.
    unsafe {
        let result = sys::rd_kafka_event_DeleteGroups_result(event.0);
        if result.is_null() {
            return Err(K::Unknown);
        }
        let mut count = 0;
        let groups = sys::rd_kafka_DeleteGroups_result_groups(result, &raw mut count);
        if count == 1 { group_code(*groups) } else { Err(K::Unknown) }
    }
}

/// What became of a group.
///
/// # Safety
/// `group` belongs to a live result.
unsafe fn group_code(group: *const sys::rd_kafka_group_result_t) -> Result<(), K> {
    // SAFETY: by this function's contract; the error may be null.
    unsafe {
        let error = sys::rd_kafka_group_result_error(group);
        match if error.is_null() { K::NoError } else { K::from(sys::rd_kafka_error_code(error)) } {
            K::NoError => Ok(()),
            code => Err(code),
        }
    }
}

/// A leader that could not be asked leaves its partitions as they were made: no error, and the offset -1001. "No such record" is -1.
fn answered(row: Row) -> Row {
    let unanswered = row.code == K::NoError && row.offset == i64::from(sys::RD_KAFKA_OFFSET_INVALID);
    if unanswered { Row { code: K::BrokerTransportFailure, ..row } } else { row }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_whose_leader_did_not_answer_is_not_one_without_records() {
        let row = |offset| Row { topic: "t".into(), partition: 0, offset, leader_epoch: -1, metadata: String::new(), code: K::NoError };
        assert_eq!(answered(row(-1)).code, K::NoError);
        assert_eq!(answered(row(-1_001)).code, K::BrokerTransportFailure);
    }

    #[test]
    fn topic_ids_are_hex_or_zero() {
        assert_eq!(topic_id(0, 0), "0");
        assert_eq!(topic_id(1, -1), "0000000000000001ffffffffffffffff");
    }
}
