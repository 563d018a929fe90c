//! What readers ask: Fetch, ListOffsets, OffsetForLeaderEpoch.
//!
//! Fetches are answered without sessions, as a broker may. A response is full when its bytes are; an empty one waits as long as the
//! client allows.

use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData};
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, ProducerId,
};

use super::cluster::{Cluster, Outcome, Partition, Pending, code};
use super::log::{Extent, Slice};
use super::served::Served;

/// The version from which a fetch names topics by UUID.
const FETCH_BY_ID: i16 = 13;

/// The version from which a refusal names the leader.
const FETCH_NAMES_LEADER: i16 = 12;

/// `ListOffsets` asks for the end.
pub(super) const LATEST: i64 = -1;

/// `ListOffsets` asks for the start.
pub(super) const EARLIEST: i64 = -2;

/// The limits of one fetch that is being filled.
struct Filling {
    node: i32,
    version: i16,
    committed: bool,
    cut: bool,
    batches_max: usize,
    /// Nothing was put into the response so far.
    is_empty: bool,
    room: usize,
    damaged: u32,
}

impl Cluster {
    pub(super) fn fetch(&mut self, request: &FetchRequest, version: i16, pending: &Pending) -> Outcome {
        let mut filling = Filling {
            node: pending.node,
            version,
            committed: request.isolation_level == 1,
            cut: self.cuts_batches,
            batches_max: self.batches_per_fetch.unwrap_or(usize::MAX),
            is_empty: true,
            room: usize::try_from(request.max_bytes).unwrap_or_default(),
            damaged: 0,
        };
        let responses: Vec<FetchableTopicResponse> = request.topics.iter().map(|topic| self.fetch_topic(topic, &mut filling)).collect();
        let says_something = |p: &PartitionData| {
            p.error_code != code::NONE || p.preferred_read_replica.0 >= 0 || p.records.as_ref().is_some_and(|r| !r.is_empty())
        };
        let deadline = pending.after(Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or_default()));
        if Instant::now() < deadline && !responses.iter().flat_map(|t| &t.partitions).any(says_something) {
            return Outcome::Wait(deadline);
        }
        (0..filling.damaged).for_each(|_| self.tally.note(Served::DamagedBatch));
        self.last_fetch_max_bytes = request.max_bytes;
        FetchResponse::default().with_responses(responses).into()
    }

    fn fetch_topic(&mut self, asked: &FetchTopic, filling: &mut Filling) -> FetchableTopicResponse {
        let by_id = filling.version >= FETCH_BY_ID;
        let found =
            self.topics.iter_mut().find(|(name, topic)| if by_id { topic.id == asked.topic_id } else { name[..] == *asked.topic.0 });
        let unknown = if by_id { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION };
        let mut topic = found.map(|(_, topic)| topic);
        let partitions = asked.partitions.iter().map(|p| {
            let partition = topic.as_mut().and_then(|t| t.partitions.get_mut(usize::try_from(p.partition).ok()?));
            let data = match partition {
                None => refused(unknown),
                Some(partition) => fetch_partition(partition, p, filling),
            };
            data.with_partition_index(p.partition)
        });
        let partitions = partitions.collect();
        FetchableTopicResponse::default().with_topic(asked.topic.clone()).with_topic_id(asked.topic_id).with_partitions(partitions)
    }

    pub(super) fn list_offsets(&self, request: &ListOffsetsRequest, version: i16, node: i32) -> ListOffsetsResponse {
        let committed = request.isolation_level == 1;
        let of_topic = |topic: &kafka_protocol::messages::list_offsets_request::ListOffsetsTopic| {
            let known = self.topics.get(&*topic.name.0);
            let of = |asked: &ListOffsetsPartition| {
                let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
                let partition = known.and_then(|t| t.partitions.get(usize::try_from(asked.partition_index).ok()?));
                let Some(partition) = partition else { return answer.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION) };
                let refusal = leadership(partition, node, asked.current_leader_epoch);
                if refusal != code::NONE {
                    return answer.with_error_code(refusal);
                }
                let (offset, time) = look_up(partition, asked.timestamp, committed);
                // The version that has no field for it refuses to carry one.
                let epoch = if version >= 4 && offset >= 0 { partition.log.epoch() } else { -1 };
                answer.with_offset(offset).with_timestamp(time).with_leader_epoch(epoch)
            };
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(topic.partitions.iter().map(of).collect())
        };
        ListOffsetsResponse::default().with_topics(request.topics.iter().map(of_topic).collect())
    }

    pub(super) fn offset_for_leader_epoch(&self, request: &OffsetForLeaderEpochRequest, node: i32) -> OffsetForLeaderEpochResponse {
        let topics = request.topics.iter().map(|topic| {
            let known = self.topics.get(&*topic.topic.0);
            let partitions = topic.partitions.iter().map(|asked| {
                let answer = EpochEndOffset::default().with_partition(asked.partition);
                let partition = known.and_then(|t| t.partitions.get(usize::try_from(asked.partition).ok()?));
                let Some(partition) = partition else { return answer.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION) };
                let refusal = leadership(partition, node, asked.current_leader_epoch);
                if refusal != code::NONE {
                    return answer.with_error_code(refusal);
                }
                let (epoch, end) = partition.log.end_of_epoch(asked.leader_epoch);
                answer.with_leader_epoch(epoch).with_end_offset(end)
            });
            OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    }
}

fn refused(error: i16) -> PartitionData {
    PartitionData::default().with_error_code(error).with_high_watermark(-1)
}

/// Whether a node may answer for a partition to a client that knows this epoch.
fn leadership(partition: &Partition, node: i32, epoch: i32) -> i16 {
    let current = partition.log.epoch();
    match () {
        () if partition.denied => code::TOPIC_AUTHORIZATION_FAILED,
        () if partition.leader < 0 => code::LEADER_NOT_AVAILABLE,
        () if partition.leader != node => code::NOT_LEADER_OR_FOLLOWER,
        () if epoch >= 0 && epoch < current => code::FENCED_LEADER_EPOCH,
        () if epoch > current => code::UNKNOWN_LEADER_EPOCH,
        () => code::NONE,
    }
}

fn fetch_partition(partition: &mut Partition, asked: &FetchPartition, filling: &mut Filling) -> PartitionData {
    let follows = partition.leader != filling.node && partition.preferred == Some(filling.node) && !partition.denied;
    if !follows {
        let refusal = leadership(partition, filling.node, asked.current_leader_epoch);
        if refusal != code::NONE {
            return refused(refusal).with_current_leader(leader_of(partition, refusal, filling.version));
        }
    }
    let (offset, replica_end) = (asked.fetch_offset, partition.replica_end(filling.node));
    let log = &mut partition.log;
    let bounds = PartitionData::default()
        .with_high_watermark(log.high_watermark().min(replica_end))
        .with_last_stable_offset(log.stable_end().min(replica_end))
        .with_log_start_offset(log.start());
    if !log.contains(offset, replica_end) {
        return bounds.with_error_code(code::OFFSET_OUT_OF_RANGE);
    }
    if let Some(follower) = partition.preferred.filter(|_| !follows && filling.version >= 11) {
        return bounds.with_preferred_read_replica(BrokerId(follower));
    }
    let bytes_max = usize::try_from(asked.partition_max_bytes).unwrap_or_default().min(filling.room);
    if filling.room == 0 {
        return bounds;
    }
    let Filling { committed, cut, batches_max, is_empty: at_least_one, .. } = *filling;
    let Slice { bytes, aborted, damaged } = log.slice(Extent { offset, bytes_max, at_least_one, batches_max, committed, cut, replica_end });
    filling.is_empty &= bytes.is_empty();
    filling.room = filling.room.saturating_sub(bytes.len());
    filling.damaged += damaged;
    let aborted = aborted.iter().map(|t| AbortedTransaction::default().with_producer_id(ProducerId(t.producer)).with_first_offset(t.first));
    bounds.with_aborted_transactions(Some(aborted.collect())).with_records(Some(bytes))
}

/// The leader as a refusal names it (KIP-951), where the version can.
fn leader_of(partition: &Partition, refusal: i16, version: i16) -> LeaderIdAndEpoch {
    let names = version >= FETCH_NAMES_LEADER
        && partition.advertised_leader.is_none()
        && matches!(refusal, code::NOT_LEADER_OR_FOLLOWER | code::FENCED_LEADER_EPOCH);
    if names {
        LeaderIdAndEpoch::default().with_leader_id(BrokerId(partition.leader)).with_leader_epoch(partition.log.epoch())
    } else {
        LeaderIdAndEpoch::default()
    }
}

fn look_up(partition: &Partition, timestamp: i64, committed: bool) -> (i64, i64) {
    let log = &partition.log;
    match timestamp {
        EARLIEST => (log.start(), -1),
        LATEST if committed => (log.stable_end(), -1),
        LATEST => (log.high_watermark(), -1),
        at => log.offset_of_time(at).unwrap_or((-1, -1)),
    }
}
