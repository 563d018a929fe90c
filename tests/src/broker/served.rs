//! What the broker was seen to answer: a cell that is about no fault can say that what it is about did happen.
//!
//! ```text
//!   Cluster::answer, logins --an answer--> Cluster::note --> Tally: how often each Served
//! ```
//!
//! Everything here is read off the answers themselves, batches included, and not off the script that wrote the log. What it does not see:
//! what lies within records, and answers that a fault makes.

use std::collections::BTreeMap;

use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponsePartitions};
use kafka_protocol::messages::{
    FetchRequest, FetchResponse, JoinGroupRequest, JoinGroupResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetCommitResponse,
    OffsetFetchResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use uuid::Uuid;

use super::cluster::{Cluster, Partition, code};
use super::requests::{Asked, Reply};
use super::wire;

/// Something that a broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Served {
    /// A batch in part, at the end of a response.
    CutBatch,
    /// A batch that is larger than all that was asked for.
    OversizedBatch,
    /// A batch that a script has damaged.
    DamagedBatch,
    /// A batch of this message format.
    Format(i8),
    /// A batch under this codec's number.
    Compressed(i16),
    /// A batch with the broker's time.
    AppendTime,
    /// A batch with a time before 2000 or after 2100.
    OddTime,
    /// A batch that compaction has emptied.
    EmptyBatch,
    /// A batch of which compaction has taken some records.
    HoledBatch,
    /// What lies behind the offset that was asked for, which no batch has any more.
    Hole,
    /// A list of aborted transactions.
    AbortedList,
    /// A list of aborted transactions with one that began before the offset that was asked for.
    AbortedBefore,
    /// A batch of a transaction.
    TransactionalBatch,
    /// A transaction's marker.
    Marker,
    /// A transaction's marker behind which the log ends.
    MarkerLast,
    /// A readable end below the high watermark: a transaction is open there.
    OpenTransaction,
    /// A high watermark below the log's end: a leader that does not know better yet.
    LaggingEnd,
    /// A partition's end.
    End,
    /// A partition's end below what a group has committed.
    ShortEnd,
    /// A partition's start above 0, or that an offset lies below it.
    Expired,
    /// That another node leads, or leads in another epoch.
    WrongLeader,
    /// Records from a follower.
    FollowerFetch,
    /// Records from a follower that lacks some of the leader's.
    FollowerBehind,
    /// The end of an epoch.
    EpochEnd,
    /// The end of an epoch that is over.
    EpochOver,
    /// That there is no such topic, or a list of all topics without one that there was.
    UnknownTopic,
    /// The addresses of the brokers.
    Addresses,
    /// A topic that was not described before.
    NewTopic,
    /// More partitions of a topic than before.
    MorePartitions,
    /// Another UUID of a topic than before.
    NewTopicId,
    /// A topic without UUID.
    NoTopicId,
    /// That a member has joined.
    Joined,
    /// A group's next generation.
    Generation,
    /// A commit that was refused with this error.
    CommitRefused(i16),
    /// An older commit than the last one that was accepted, or none.
    OldOffset,
    /// A commit without metadata.
    BareOffset,
    /// That a login's mechanism is not offered.
    MechanismRefused,
    /// A login that was accepted.
    LoginAccepted,
    /// A login that was refused.
    LoginRefused,
    /// That the client was throttled.
    Throttled,
}

/// How often each thing was served, and what the next answers are compared with.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<Served, u32>,
    topics: BTreeMap<String, (Uuid, usize)>,
    generations: BTreeMap<String, i32>,
}

impl Tally {
    /// Counts one.
    pub(super) fn note(&mut self, what: Served) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// How often something was served.
    pub fn count(&self, what: Served) -> u32 {
        self.counts.get(&what).copied().unwrap_or_default()
    }

    fn note_all(&mut self, all: impl IntoIterator<Item = Served>) {
        all.into_iter().for_each(|what| self.note(what));
    }

    fn note_if(&mut self, happened: bool, what: Served) {
        self.note_all(happened.then_some(what));
    }

    fn topic(&mut self, topic: &MetadataResponseTopic) {
        self.note_if(is_unknown(topic.error_code), Served::UnknownTopic);
        let Some(name) = topic.name.as_ref().filter(|_| topic.error_code == code::NONE) else { return };
        self.note_if(topic.topic_id.is_nil(), Served::NoTopicId);
        let now = (topic.topic_id, topic.partitions.len());
        match self.topics.insert(name.0.as_str().to_owned(), now) {
            None => self.note(Served::NewTopic),
            Some(before) => {
                self.note_if(before.0 != now.0, Served::NewTopicId);
                self.note_if(before.1 < now.1, Served::MorePartitions);
            }
        }
    }

    /// Whether a list of all topics lacks one that was described before.
    fn misses_one(&self, topics: &[MetadataResponseTopic]) -> bool {
        let is_listed = |name: &str| topics.iter().any(|topic| topic.name.as_ref().is_some_and(|listed| *listed.0 == *name));
        self.topics.keys().any(|name| !is_listed(name))
    }

    fn joined(&mut self, asked: &JoinGroupRequest, reply: &JoinGroupResponse) {
        if reply.error_code != code::NONE {
            return;
        }
        self.note(Served::Joined);
        let before = self.generations.insert(asked.group_id.0.as_str().to_owned(), reply.generation_id);
        self.note_if(before.is_none_or(|before| before < reply.generation_id), Served::Generation);
    }

    fn committed(&mut self, reply: &OffsetCommitResponse) {
        let errors = reply.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).filter(|error| *error != code::NONE);
        self.note_all(errors.map(Served::CommitRefused));
    }
}

fn is_unknown(error: i16) -> bool {
    matches!(error, code::UNKNOWN_TOPIC_OR_PARTITION | code::UNKNOWN_TOPIC_ID)
}

fn is_wrong_leader(error: i16) -> bool {
    matches!(error, code::NOT_LEADER_OR_FOLLOWER | code::FENCED_LEADER_EPOCH | code::LEADER_NOT_AVAILABLE)
}

impl Cluster {
    /// How often something was served.
    pub fn served(&self, what: Served) -> u32 {
        self.tally.count(what)
    }

    /// Notes what an answer says.
    pub(super) fn note(&mut self, asked: &Asked, reply: &Reply, node: i32) {
        match (asked, reply) {
            (Asked::Fetch(asked), Reply::Fetch(reply)) => self.note_fetch(asked, reply, node),
            (Asked::ListOffsets(asked), Reply::ListOffsets(reply)) => self.note_offsets(asked, reply),
            (Asked::OffsetForLeaderEpoch(asked), Reply::OffsetForLeaderEpoch(reply)) => self.note_epochs(asked, reply),
            (Asked::Metadata(asked), Reply::Metadata(reply)) => {
                self.tally.note(Served::Addresses);
                self.tally.note_if(asked.topics.is_none() && self.tally.misses_one(&reply.topics), Served::UnknownTopic);
                reply.topics.iter().for_each(|topic| self.tally.topic(topic));
            }
            (Asked::JoinGroup(asked), Reply::JoinGroup(reply)) => self.tally.joined(asked, reply),
            (Asked::ConsumerGroupHeartbeat(asked), Reply::ConsumerGroupHeartbeat(reply)) => {
                self.tally.note_if(asked.member_epoch == 0 && reply.error_code == code::NONE, Served::Joined);
            }
            (_, Reply::OffsetCommit(reply)) => self.tally.committed(reply),
            (Asked::OffsetFetch(asked), Reply::OffsetFetch(reply)) => self.note_commits(&asked.group_id.0, reply),
            (_, Reply::SaslHandshake(reply)) => self.tally.note_if(reply.error_code != code::NONE, Served::MechanismRefused),
            (_, Reply::SaslAuthenticate(reply)) if reply.error_code == code::NONE => self.tally.note(Served::LoginAccepted),
            (_, Reply::SaslAuthenticate(_)) => self.tally.note(Served::LoginRefused),
            _ => {}
        }
    }

    fn note_fetch(&mut self, asked: &FetchRequest, reply: &FetchResponse, node: i32) {
        for (topic, answered) in asked.topics.iter().zip(&reply.responses) {
            let known = self.topics.iter().find(|(name, t)| t.id == topic.topic_id && !t.id.is_nil() || name[..] == *topic.topic.0);
            for (asked, data) in topic.partitions.iter().zip(&answered.partitions) {
                self.tally.note_if(is_unknown(data.error_code), Served::UnknownTopic);
                self.tally.note_if(is_wrong_leader(data.error_code), Served::WrongLeader);
                let partition = known.and_then(|(_, t)| t.partitions.get(usize::try_from(asked.partition).ok()?));
                if let Some(partition) = partition {
                    self.tally.note_all(in_partition(partition, asked, data, node));
                }
            }
        }
    }

    fn note_offsets(&mut self, asked: &ListOffsetsRequest, reply: &ListOffsetsResponse) {
        for (topic, answered) in asked.topics.iter().zip(&reply.topics) {
            for (asked, answer) in topic.partitions.iter().zip(&answered.partitions) {
                let partition =
                    self.topics.get(&*topic.name.0).and_then(|t| t.partitions.get(usize::try_from(asked.partition_index).ok()?));
                let lags = partition.is_some_and(|p| p.log.high_watermark() < p.log.end());
                let is_open = partition.is_some_and(|p| p.log.stable_end() < p.log.high_watermark());
                let is_end = asked.timestamp == super::fetch::LATEST && answer.error_code == code::NONE;
                self.tally.note_if(is_unknown(answer.error_code), Served::UnknownTopic);
                self.tally.note_if(is_end, Served::End);
                self.tally.note_if(is_end && lags, Served::LaggingEnd);
                self.tally.note_if(is_end && is_open, Served::OpenTransaction);
                let is_short = self.groups.is_committed_beyond(&topic.name.0, asked.partition_index, answer.offset);
                self.tally.note_if(is_end && is_short, Served::ShortEnd);
                self.tally.note_if(asked.timestamp == super::fetch::EARLIEST && answer.offset > 0, Served::Expired);
            }
        }
    }

    fn note_commits(&mut self, group: &str, reply: &OffsetFetchResponse) {
        for (group, topic, partition, offset, metadata) in commits_in(group, reply) {
            let is_old = self.groups.group(group).offsets.has_later(topic, partition, offset, metadata);
            self.tally.note_if(is_old, Served::OldOffset);
            self.tally.note_if(offset >= 0 && metadata.is_empty(), Served::BareOffset);
        }
    }

    fn note_epochs(&mut self, asked: &OffsetForLeaderEpochRequest, reply: &OffsetForLeaderEpochResponse) {
        for (topic, answered) in asked.topics.iter().zip(&reply.topics) {
            for (asked, answer) in topic.partitions.iter().zip(&answered.partitions) {
                let partition = self.topics.get(&*topic.topic.0).and_then(|t| t.partitions.get(usize::try_from(asked.partition).ok()?));
                let is_over = partition.is_some_and(|p| asked.leader_epoch < p.log.epoch());
                self.tally.note_if(answer.error_code == code::NONE, Served::EpochEnd);
                self.tally.note_if(answer.error_code == code::NONE && is_over, Served::EpochOver);
            }
        }
    }
}

/// What an OffsetFetch was answered: group, topic, partition, offset, metadata. The old versions name no group.
fn commits_in<'a>(group: &'a str, reply: &'a OffsetFetchResponse) -> impl Iterator<Item = (&'a str, &'a str, i32, i64, &'a str)> {
    let old = reply.topics.iter().flat_map(move |t| {
        let of = move |p: &'a OffsetFetchResponsePartition| (p.partition_index, p.committed_offset, p.metadata.as_deref(), p.error_code);
        t.partitions.iter().map(of).map(move |found| (group, &*t.name.0, found))
    });
    let new = reply.groups.iter().flat_map(|g| {
        g.topics.iter().flat_map(move |t| {
            let of = |p: &'a OffsetFetchResponsePartitions| (p.partition_index, p.committed_offset, p.metadata.as_deref(), p.error_code);
            t.partitions.iter().map(of).map(move |found| (&*g.group_id.0, &*t.name.0, found))
        })
    });
    let found = old.chain(new).filter(|(.., (.., error))| *error == code::NONE);
    found.map(|(group, topic, (partition, offset, metadata, _))| (group, topic, partition, offset, metadata.unwrap_or_default()))
}

/// What the answer about one partition says.
fn in_partition(partition: &Partition, asked: &FetchPartition, data: &PartitionData, node: i32) -> Vec<Served> {
    let (from, log) = (asked.fetch_offset, &partition.log);
    let records = data.records.as_deref().unwrap_or_default();
    let batches = wire::batches(records);
    let mut seen: Vec<Served> = batches.iter().flat_map(wire::Seen::served).collect();
    let mut note = |happened: bool, what| seen.extend(happened.then_some(what));
    note(wire::ends_within(records), Served::CutBatch);
    note(batches.first().is_some_and(|b| b.first_offset().is_some_and(|first| first > from)), Served::Hole);
    note(batches.len() == 1 && i64::from(asked.partition_max_bytes) < records.len() as i64, Served::OversizedBatch);
    note(batches.last().is_some_and(|b| b.is_control && b.last + 1 == log.end()), Served::MarkerLast);
    let aborted = data.aborted_transactions.iter().flatten();
    note(aborted.clone().next().is_some(), Served::AbortedList);
    note(aborted.clone().any(|t| t.first_offset < from), Served::AbortedBefore);
    note(data.error_code == code::NONE && data.last_stable_offset < data.high_watermark, Served::OpenTransaction);
    note(data.error_code == code::NONE && log.high_watermark() < log.end(), Served::LaggingEnd);
    note(data.error_code == code::OFFSET_OUT_OF_RANGE && from < log.start(), Served::Expired);
    let by_follower = partition.leader != node && data.error_code == code::NONE && data.preferred_read_replica.0 < 0;
    note(by_follower, Served::FollowerFetch);
    note(by_follower && partition.replica_end(node) < log.end(), Served::FollowerBehind);
    seen
}
