//! The messages of groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, OffsetCommit, OffsetFetch.
//!
//! Place in the flow: between the [`cluster`](super::cluster) and the coordinator's state in [`groups`](super::groups).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::cluster::{Outcome, Pending, Topic, code};
use super::groups::{Group, Groups, JoinResult, Joiner, Phase, RefusedCommit, Ticket};
use super::offsets::Commit;
use super::refusals::{OFFSET_FETCH_OF_GROUPS, join_refusal, offset_commit_answer};
use super::requests::Asked;

/// The version from which a dynamic member is sent away once to come again with its id (KIP-394).
const JOIN_ASKS_TWICE: i16 = 4;

/// How often a request that waits looks again, if nothing wakes it before.
const LOOK: Duration = Duration::from_millis(50);

fn text(bytes: &StrBytes) -> String {
    bytes.as_str().to_owned()
}

fn message(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Groups {
    /// Answers a request that a coordinator answers.
    pub(super) fn answer(&mut self, asked: &Asked, version: i16, pending: &mut Pending, topics: &BTreeMap<String, Topic>) -> Outcome {
        match asked {
            Asked::JoinGroup(request) => self.join_group(request, version, pending),
            Asked::SyncGroup(request) => self.sync_group(request, pending),
            Asked::Heartbeat(request) => self.heartbeat(request).into(),
            Asked::LeaveGroup(request) => self.leave_group(request).into(),
            Asked::ConsumerGroupHeartbeat(request) => self.consumer_heartbeat(request, topics).into(),
            Asked::OffsetCommit(request) => self.offset_commit(request, topics).into(),
            Asked::OffsetFetch(request) => self.offset_fetch(request, version).into(),
            _ => unreachable!("not a group's request"),
        }
    }

    fn join_group(&mut self, request: &JoinGroupRequest, version: i16, pending: &mut Pending) -> Outcome {
        let Some(ticket) = pending.ticket.clone() else { return self.begin_join(request, version, pending) };
        let group = self.group(&request.group_id.0);
        match group.join_is_over(&ticket) {
            None => Outcome::Wait(Instant::now() + LOOK),
            Some(Err(error)) => join_refusal(request, error).into(),
            Some(Ok(())) => joined(group, &ticket.member, None).into(),
        }
    }

    fn begin_join(&mut self, request: &JoinGroupRequest, version: i16, pending: &mut Pending) -> Outcome {
        let instance = request.group_instance_id.as_ref().map(text);
        let new_id = self.new_id(instance.as_deref());
        let session = Duration::from_millis(u64::try_from(request.session_timeout_ms).unwrap_or_default());
        let joiner = Joiner {
            member: text(&request.member_id),
            instance,
            protocols: request.protocols.iter().map(|p| (text(&p.name), p.metadata.clone())).collect(),
            session: session.min(self.session_max.unwrap_or(session)),
            asks_twice: version >= JOIN_ASKS_TWICE,
        };
        let first_delay = self.first_delay;
        let group = self.group(&request.group_id.0);
        match group.join(joiner, new_id, first_delay) {
            JoinResult::Refused(error, member) => join_refusal(request, error).with_member_id(message(&member)).into(),
            JoinResult::Returned { member, predecessor } => joined(group, &member, Some(&predecessor)).into(),
            JoinResult::Waits(ticket) => {
                pending.ticket = Some(ticket);
                self.join_group(request, version, pending)
            }
        }
    }

    fn sync_group(&mut self, request: &SyncGroupRequest, pending: &mut Pending) -> Outcome {
        let group = self.group(&request.group_id.0);
        let (id, instance) = (text(&request.member_id), request.group_instance_id.as_deref());
        let refused = match group.check(&id, instance, request.generation_id) {
            code::NONE if matches!(group.phase, Phase::Joining(_)) => code::REBALANCE_IN_PROGRESS,
            error => error,
        };
        if refused != code::NONE {
            return SyncGroupResponse::default().with_error_code(refused).into();
        }
        if group.phase == Phase::Syncing && group.leader == id {
            group.assign(request.assignments.iter().map(|a| (text(&a.member_id), a.assignment.clone())));
        }
        if !group.is_stable() {
            pending.ticket = Some(Ticket { member: id, after: group.generation });
            return Outcome::Wait(Instant::now() + LOOK);
        }
        let assignment = group.members.get(&id).map(|m| m.assignment.clone()).unwrap_or_default();
        SyncGroupResponse::default().with_assignment(assignment).into()
    }

    fn heartbeat(&mut self, request: &HeartbeatRequest) -> HeartbeatResponse {
        let group = self.group(&request.group_id.0);
        let error = match group.check(&request.member_id, request.group_instance_id.as_deref(), request.generation_id) {
            code::NONE if matches!(group.phase, Phase::Joining(_)) => code::REBALANCE_IN_PROGRESS,
            error => error,
        };
        HeartbeatResponse::default().with_error_code(error)
    }

    fn leave_group(&mut self, request: &LeaveGroupRequest) -> LeaveGroupResponse {
        self.group(&request.group_id.0).remove(&request.member_id);
        LeaveGroupResponse::default()
    }

    fn offset_commit(&mut self, request: &OffsetCommitRequest, topics: &BTreeMap<String, Topic>) -> OffsetCommitResponse {
        let refused = self.commit_check(request);
        if refused != code::NONE {
            self.group(&request.group_id.0).refused.push(refused_commit(request, refused));
            return offset_commit_answer(request, refused);
        }
        let (bytes_max, strips) = (self.metadata_bytes_max, self.strips_metadata);
        let visible = Instant::now() + self.commits_late_by;
        let group = self.group(&request.group_id.0);
        group.committers.insert(text(&request.member_id));
        let answers = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|p| {
                let metadata = p.committed_metadata.as_ref().map(text).unwrap_or_default();
                let answer = OffsetCommitResponsePartition::default().with_partition_index(p.partition_index);
                if metadata.len() > bytes_max {
                    return answer.with_error_code(code::OFFSET_METADATA_TOO_LARGE);
                }
                let metadata = if strips { String::new() } else { metadata };
                let commit = Commit { offset: p.committed_offset, leader_epoch: p.committed_leader_epoch, metadata };
                let shown = topics.get(topic.name.0.as_str()).map(|t| t.shown(p.partition_index)).unwrap_or_default();
                group.offsets.accept(&topic.name.0, p.partition_index, commit, visible, shown);
                answer
            });
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        OffsetCommitResponse::default().with_topics(answers.collect())
    }

    /// As Kafka: from nobody in particular while the group is empty, else from a member of this generation; not while the leader assigns.
    fn commit_check(&mut self, request: &OffsetCommitRequest) -> i16 {
        let (id, generation) = (&request.member_id, request.generation_id_or_member_epoch);
        if let Some(error) = self.consumer_commit_check(&request.group_id.0, id, generation) {
            return error;
        }
        let group = self.group(&request.group_id.0);
        if generation < 0 && group.phase == Phase::Empty {
            return code::NONE;
        }
        match group.check(id, request.group_instance_id.as_deref(), generation) {
            code::NONE if group.phase == Phase::Syncing => code::REBALANCE_IN_PROGRESS,
            error => error,
        }
    }

    fn offset_fetch(&mut self, request: &OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
        if version < OFFSET_FETCH_OF_GROUPS {
            let group = self.group(&request.group_id.0);
            let topics = request.topics.iter().flatten().map(|t| {
                let of = |index: &i32| {
                    let answer = OffsetFetchResponsePartition::default().with_partition_index(*index);
                    match group.offsets.get(&t.name.0, *index) {
                        None => answer.with_committed_offset(-1),
                        Some(c) => answer
                            .with_committed_offset(c.offset)
                            .with_committed_leader_epoch(if version >= 5 { c.leader_epoch } else { -1 })
                            .with_metadata(Some(message(&c.metadata))),
                    }
                };
                OffsetFetchResponseTopic::default().with_name(t.name.clone()).with_partitions(t.partition_indexes.iter().map(of).collect())
            });
            return OffsetFetchResponse::default().with_topics(topics.collect());
        }
        let groups = request.groups.iter().map(|asked| {
            let group = self.group(&asked.group_id.0);
            let topics = asked.topics.iter().flatten().map(|t| {
                let of = |index: &i32| {
                    let answer = OffsetFetchResponsePartitions::default().with_partition_index(*index);
                    match group.offsets.get(&t.name.0, *index) {
                        None => answer.with_committed_offset(-1),
                        Some(c) => answer
                            .with_committed_offset(c.offset)
                            .with_committed_leader_epoch(c.leader_epoch)
                            .with_metadata(Some(message(&c.metadata))),
                    }
                };
                let partitions = t.partition_indexes.iter().map(of).collect();
                OffsetFetchResponseTopics::default().with_name(t.name.clone()).with_partitions(partitions)
            });
            OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone()).with_topics(topics.collect())
        });
        OffsetFetchResponse::default().with_groups(groups.collect())
    }
}

fn refused_commit(request: &OffsetCommitRequest, error: i16) -> RefusedCommit {
    let partitions = request.topics.iter().flat_map(|t| &t.partitions);
    let metadata = partitions.filter_map(|p| p.committed_metadata.as_ref().map(text)).next().unwrap_or_default();
    RefusedCommit { member: text(&request.member_id), error, metadata }
}

/// The answer to a join that is over. The leader gets everybody's metadata; a static member that is back is told its predecessor's id as
/// the leader's, so that it assigns nothing.
fn joined(group: &Group, member: &str, predecessor: Option<&str>) -> JoinGroupResponse {
    let leads = group.leader == member && predecessor.is_none();
    let members = group.members.iter().filter(|_| leads).map(|(id, m)| {
        let metadata = m.protocols.iter().find(|(name, _)| *name == group.protocol).map(|(_, metadata)| metadata.clone());
        JoinGroupResponseMember::default()
            .with_member_id(message(id))
            .with_group_instance_id(m.instance.as_deref().map(message))
            .with_metadata(metadata.unwrap_or_default())
    });
    let leader = if group.leader == member { predecessor.unwrap_or(member) } else { &group.leader };
    JoinGroupResponse::default()
        .with_generation_id(group.generation)
        .with_protocol_name(Some(message(&group.protocol)))
        .with_leader(message(leader))
        .with_member_id(message(member))
        .with_members(members.collect())
}
