//! An answer that is nothing but an error, for every request.

use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, ConsumerGroupHeartbeatResponse, FetchResponse, FindCoordinatorResponse, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupResponse, ListOffsetsResponse, MetadataResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, OffsetForLeaderEpochResponse, SaslAuthenticateResponse,
    SaslHandshakeResponse, SyncGroupResponse,
};

use super::cluster::code;
use super::requests::{Asked, Reply};

/// The version from which OffsetFetch asks for several groups.
pub(super) const OFFSET_FETCH_OF_GROUPS: i16 = 8;

/// The answer to `asked` that says this error, of every partition where partitions are asked for.
pub(super) fn refusal(asked: &Asked, version: i16, error: i16) -> Reply {
    match asked {
        Asked::ApiVersions(_) => ApiVersionsResponse::default().with_error_code(error).into(),
        Asked::Metadata(request) => {
            let of = |t: &kafka_protocol::messages::metadata_request::MetadataRequestTopic| {
                MetadataResponseTopic::default().with_name(t.name.clone()).with_topic_id(t.topic_id).with_error_code(error)
            };
            MetadataResponse::default().with_topics(request.topics.iter().flatten().map(of).collect()).into()
        }
        Asked::FindCoordinator(_) => FindCoordinatorResponse::default().with_error_code(error).with_node_id(BrokerId(-1)).into(),
        Asked::JoinGroup(request) => join_refusal(request, error).into(),
        Asked::SyncGroup(_) => SyncGroupResponse::default().with_error_code(error).into(),
        Asked::Heartbeat(_) => HeartbeatResponse::default().with_error_code(error).into(),
        Asked::LeaveGroup(_) => LeaveGroupResponse::default().with_error_code(error).into(),
        Asked::ConsumerGroupHeartbeat(_) => ConsumerGroupHeartbeatResponse::default().with_error_code(error).into(),
        Asked::OffsetFetch(request) => offset_fetch_refusal(request, version, error).into(),
        Asked::OffsetCommit(request) => offset_commit_answer(request, error).into(),
        Asked::ListOffsets(request) => {
            let topics = request.topics.iter().map(|t| {
                let of = |p: &kafka_protocol::messages::list_offsets_request::ListOffsetsPartition| {
                    ListOffsetsPartitionResponse::default().with_partition_index(p.partition_index).with_error_code(error)
                };
                ListOffsetsTopicResponse::default().with_name(t.name.clone()).with_partitions(t.partitions.iter().map(of).collect())
            });
            ListOffsetsResponse::default().with_topics(topics.collect()).into()
        }
        Asked::OffsetForLeaderEpoch(request) => {
            let topics = request.topics.iter().map(|t| {
                let of = |p: &kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition| {
                    EpochEndOffset::default().with_partition(p.partition).with_error_code(error)
                };
                OffsetForLeaderTopicResult::default().with_topic(t.topic.clone()).with_partitions(t.partitions.iter().map(of).collect())
            });
            OffsetForLeaderEpochResponse::default().with_topics(topics.collect()).into()
        }
        Asked::Fetch(request) => {
            let responses = request.topics.iter().map(|t| {
                let of = |p: &kafka_protocol::messages::fetch_request::FetchPartition| {
                    PartitionData::default().with_partition_index(p.partition).with_error_code(error).with_high_watermark(-1)
                };
                let partitions = t.partitions.iter().map(of).collect();
                FetchableTopicResponse::default().with_topic(t.topic.clone()).with_topic_id(t.topic_id).with_partitions(partitions)
            });
            FetchResponse::default().with_responses(responses.collect()).into()
        }
        Asked::SaslHandshake(_) => SaslHandshakeResponse::default().with_error_code(error).into(),
        Asked::SaslAuthenticate(_) => SaslAuthenticateResponse::default().with_error_code(error).into(),
    }
}

pub(super) fn join_refusal(request: &JoinGroupRequest, error: i16) -> JoinGroupResponse {
    let none = || Some(kafka_protocol::protocol::StrBytes::default());
    JoinGroupResponse::default()
        .with_error_code(error)
        .with_generation_id(-1)
        .with_protocol_name(none())
        .with_member_id(request.member_id.clone())
}

/// The same error, or none, for every partition of a commit.
pub(super) fn offset_commit_answer(request: &OffsetCommitRequest, error: i16) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|t| {
        let partitions = t
            .partitions
            .iter()
            .map(|p| OffsetCommitResponsePartition::default().with_partition_index(p.partition_index).with_error_code(error));
        OffsetCommitResponseTopic::default().with_name(t.name.clone()).with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Errors of OffsetFetch that stand with a partition; all others stand with the group.
fn is_of_partition(error: i16) -> bool {
    matches!(error, code::UNSTABLE_OFFSET_COMMIT | code::UNKNOWN_TOPIC_OR_PARTITION | code::TOPIC_AUTHORIZATION_FAILED)
}

fn offset_fetch_refusal(request: &OffsetFetchRequest, version: i16, error: i16) -> OffsetFetchResponse {
    let (whole, each) = if is_of_partition(error) { (code::NONE, error) } else { (error, code::NONE) };
    if version < OFFSET_FETCH_OF_GROUPS {
        let topics = request.topics.iter().flatten().map(|t| {
            let of = |index: &i32| {
                OffsetFetchResponsePartition::default().with_partition_index(*index).with_committed_offset(-1).with_error_code(each)
            };
            OffsetFetchResponseTopic::default().with_name(t.name.clone()).with_partitions(t.partition_indexes.iter().map(of).collect())
        });
        return OffsetFetchResponse::default().with_error_code(whole).with_topics(topics.collect());
    }
    let groups = request.groups.iter().map(|group| {
        let topics = group.topics.iter().flatten().map(|t| {
            let of = |index: &i32| {
                OffsetFetchResponsePartitions::default().with_partition_index(*index).with_committed_offset(-1).with_error_code(each)
            };
            OffsetFetchResponseTopics::default().with_name(t.name.clone()).with_partitions(t.partition_indexes.iter().map(of).collect())
        });
        let topics = if whole == code::NONE { topics.collect() } else { Vec::new() };
        OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_error_code(whole).with_topics(topics)
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

/// The answer as of a client that was throttled.
pub(super) fn throttled(reply: Reply, ms: i32) -> Reply {
    match reply {
        Reply::Fetch(r) => r.with_throttle_time_ms(ms).into(),
        Reply::OffsetCommit(r) => r.with_throttle_time_ms(ms).into(),
        Reply::OffsetFetch(r) => r.with_throttle_time_ms(ms).into(),
        Reply::Metadata(r) => r.with_throttle_time_ms(ms).into(),
        Reply::ListOffsets(r) => r.with_throttle_time_ms(ms).into(),
        Reply::Heartbeat(r) => r.with_throttle_time_ms(ms).into(),
        other => other,
    }
}
