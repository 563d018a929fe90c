//! The cluster that a script describes: nodes, topics, leaders; and the requests about those.
//!
//! Everything is one value behind one lock, so that what a script changes is there for all nodes at once. Place in the flow: connections
//! hand requests to [`Cluster::answer`]; a request that must wait is handed in again when something has changed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, FindCoordinatorResponse, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::faults::{Act, Fault};
use super::groups::{Groups, Ticket};
use super::log::PartitionLog;
use super::login::Login;
use super::offsets::Shown;
use super::requests::{Asked, OFFERED, Reply};
use super::served::Tally;

/// Error codes of the protocol that answers are made of.
pub mod code {
    #![expect(missing_docs, reason = "the names are the protocol's own")]
    pub const NONE: i16 = 0;
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const LEADER_NOT_AVAILABLE: i16 = 5;
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub const BROKER_NOT_AVAILABLE: i16 = 8;
    pub const REPLICA_NOT_AVAILABLE: i16 = 9;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const NOT_COORDINATOR: i16 = 16;
    pub const ILLEGAL_GENERATION: i16 = 22;
    pub const INVALID_GROUP_ID: i16 = 24;
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    pub const INVALID_COMMIT_OFFSET_SIZE: i16 = 28;
    pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub const GROUP_AUTHORIZATION_FAILED: i16 = 30;
    pub const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
    pub const KAFKA_STORAGE_ERROR: i16 = 56;
    pub const SASL_AUTHENTICATION_FAILED: i16 = 58;
    pub const FENCED_LEADER_EPOCH: i16 = 74;
    pub const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub const OFFSET_NOT_AVAILABLE: i16 = 78;
    pub const MEMBER_ID_REQUIRED: i16 = 79;
    pub const GROUP_MAX_SIZE_REACHED: i16 = 81;
    pub const FENCED_INSTANCE_ID: i16 = 82;
    pub const UNSTABLE_OFFSET_COMMIT: i16 = 88;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
    pub const FENCED_MEMBER_EPOCH: i16 = 110;
    pub const STALE_MEMBER_EPOCH: i16 = 113;
}

/// A broker of the cluster.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its id.
    pub id: i32,
    /// The address that metadata names.
    pub host: String,
    /// The port that metadata names.
    pub port: u16,
}

/// A partition.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    /// Its log.
    pub log: PartitionLog,
    /// Its leader; -1 if there is none.
    pub leader: i32,
    /// The leader that metadata names, if that is another.
    pub advertised_leader: Option<i32>,
    /// The follower to which the leader sends readers.
    pub preferred: Option<i32>,
    /// Up to where a follower has copied, if not to the end.
    pub replica_ends: BTreeMap<i32, i64>,
    /// Nobody may read it.
    pub denied: bool,
}

impl Partition {
    /// Makes another node its leader; a new epoch begins.
    pub fn elect(&mut self, leader: i32) {
        self.leader = leader;
        let epoch = self.log.epoch() + 1;
        self.log.begin_epoch(epoch);
    }

    /// What a node has of the log.
    pub(super) fn replica_end(&self, node: i32) -> i64 {
        if node == self.leader { i64::MAX } else { self.replica_ends.get(&node).copied().unwrap_or(i64::MAX) }
    }
}

/// A topic.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its UUID; nil where brokers have none.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// What a reader can see of a partition now.
    pub(super) fn shown(&self, partition: i32) -> Shown {
        // As the engine writes UUIDs.
        let topic_id = if self.id.is_nil() { "0".to_owned() } else { self.id.simple().to_string() };
        let log = usize::try_from(partition).ok().and_then(|n| self.partitions.get(n)).map(|p| &p.log);
        let offsets = log.into_iter().flat_map(|log| log.visible()).map(|record| record.offset).collect();
        Shown { topic_id, offsets }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Pending {
    /// The node that was asked.
    pub(super) node: i32,
    /// When it came.
    pub(super) since: Instant,
    /// What JoinGroup and SyncGroup wait for.
    pub(super) ticket: Option<Ticket>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// An answer.
    Answer(Box<Reply>),
    /// Ask again when something has changed, or at this time.
    Wait(Instant),
}

impl<T: Into<Reply>> From<T> for Outcome {
    fn from(reply: T) -> Self {
        Self::Answer(Box::new(reply.into()))
    }
}

/// The whole cluster.
#[derive(Debug, Default)]
pub struct Cluster {
    /// Its brokers.
    pub nodes: Vec<Node>,
    /// Its topics.
    pub topics: BTreeMap<String, Topic>,
    /// Its groups.
    pub groups: Groups,
    /// The node that coordinates groups; -1 if there is none.
    pub coordinator: i32,
    /// Who may log in; none: no login.
    pub login: Option<Login>,
    /// Whether a batch that does not fit into a response is sent in part.
    pub cuts_batches: bool,
    /// The highest version of Fetch that is offered, if not the highest there is. From 12 on its responses are flexible.
    pub fetch_version_max: Option<i16>,
    /// Whether topics have UUIDs.
    pub without_topic_ids: bool,
    /// The most batches of a partition that one Fetch response has: small steps, so that something can happen between them.
    pub batches_per_fetch: Option<usize>,
    /// Whether KIP-848 is offered.
    pub next_generation_groups: bool,
    /// What the last fetch asked for at most.
    pub last_fetch_max_bytes: i32,
    /// What went wrong that no script asked for.
    pub complaints: Vec<String>,
    pub(super) faults: Vec<Fault>,
    pub(super) lets_go: bool,
    pub(super) orders: super::Orders,
    pub(super) tally: Tally,
    counts: BTreeMap<i16, u32>,
    topics_made: u64,
}

impl Cluster {
    /// Makes a topic, or makes it anew under another UUID. Leaders go round.
    pub fn make_topic(&mut self, name: &str, partitions: usize) {
        self.topics_made += 1;
        let id = Uuid::from_u128(0x5c41_7ed0_0000_4000_8000_0000_0000_0000 + u128::from(self.topics_made));
        let id = if self.without_topic_ids { Uuid::nil() } else { id };
        self.topics.insert(name.to_owned(), Topic { id, partitions: Vec::new() });
        self.add_partitions(name, partitions);
    }

    /// Adds partitions to a topic.
    pub fn add_partitions(&mut self, name: &str, more: usize) {
        let nodes: Vec<i32> = self.nodes.iter().map(|n| n.id).collect();
        let topic = self.topics.get_mut(name).expect("the topic was made");
        for _ in 0..more {
            let leader = nodes[topic.partitions.len() % nodes.len()];
            topic.partitions.push(Partition { leader, ..Partition::default() });
        }
    }

    /// A partition that a script has made.
    pub fn partition(&mut self, topic: &str, partition: usize) -> &mut Partition {
        &mut self.topics.get_mut(topic).expect("the topic was made").partitions[partition]
    }

    /// How many requests of a kind came.
    pub fn count(&self, api: ApiKey) -> u32 {
        self.counts.get(&(api as i16)).copied().unwrap_or_default()
    }

    /// Adds a fault, and gives the number by which [`fired`](Self::fired) knows it.
    pub fn add_fault(&mut self, fault: Fault) -> usize {
        self.faults.push(fault);
        self.faults.len() - 1
    }

    /// How often a fault fired.
    pub fn fired(&self, fault: usize) -> u32 {
        self.faults[fault].fired()
    }

    /// What is [held](Act::Hold) is handled now, and nothing is held from now on.
    pub fn let_go(&mut self) {
        self.lets_go = true;
    }

    /// Ends all faults; their counts stay.
    pub fn end_faults(&mut self) {
        self.faults.iter_mut().for_each(Fault::end);
    }

    /// What the faults do with a request. What happens to the cluster happens here.
    pub(super) fn meet_faults(&mut self, asked: &Asked, node: i32) -> Vec<Act> {
        *self.counts.entry(asked.key() as i16).or_default() += 1;
        let mut faults = std::mem::take(&mut self.faults);
        let acts: Vec<Act> = faults.iter_mut().filter_map(|f| f.meet(asked, node, |instance| self.groups.is_of(asked, instance))).collect();
        self.faults = faults;
        for act in &acts {
            if let Act::Happen(event) = act {
                event(self);
            }
        }
        acts
    }

    /// Answers a request, or says until when it waits.
    pub fn answer(&mut self, asked: &Asked, version: i16, pending: &mut Pending) -> Outcome {
        let outcome = self.outcome(asked, version, pending);
        if let Outcome::Answer(reply) = &outcome {
            self.note(asked, reply, pending.node);
        }
        outcome
    }

    fn outcome(&mut self, asked: &Asked, version: i16, pending: &mut Pending) -> Outcome {
        match asked {
            Asked::ApiVersions(_) => self.api_versions().into(),
            Asked::Metadata(request) => self.metadata(request, version).into(),
            Asked::FindCoordinator(_) => self.find_coordinator().into(),
            Asked::Fetch(request) => self.fetch(request, version, pending),
            Asked::ListOffsets(request) => self.list_offsets(request, version, pending.node).into(),
            Asked::OffsetForLeaderEpoch(request) => self.offset_for_leader_epoch(request, pending.node).into(),
            Asked::SaslHandshake(_) | Asked::SaslAuthenticate(_) => unreachable!("the connection answers those"),
            _ if pending.node != self.coordinator => super::refusals::refusal(asked, version, code::NOT_COORDINATOR).into(),
            _ => self.groups.answer(asked, version, pending, &self.topics),
        }
    }

    fn api_versions(&self) -> ApiVersionsResponse {
        let offered = OFFERED.iter().filter(|(key, ..)| self.next_generation_groups || *key != ApiKey::ConsumerGroupHeartbeat);
        let versions = |&(key, min, max): &(ApiKey, i16, i16)| {
            let max = if key == ApiKey::Fetch { self.fetch_version_max.unwrap_or(max) } else { max };
            ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
        };
        ApiVersionsResponse::default().with_api_keys(offered.map(versions).collect())
    }

    fn metadata(&self, request: &MetadataRequest, version: i16) -> MetadataResponse {
        let brokers = self.nodes.iter().map(|node| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(node.id))
                .with_host(StrBytes::from_string(node.host.clone()))
                .with_port(i32::from(node.port))
        });
        let topics: Vec<MetadataResponseTopic> = match &request.topics {
            Some(asked) if !asked.is_empty() || version > 0 => asked
                .iter()
                .map(|t| match &t.name {
                    Some(name) => self.describe(name),
                    None => self
                        .topics
                        .iter()
                        .find(|(_, topic)| topic.id == t.topic_id)
                        .map_or_else(|| unknown_id(t.topic_id), |(name, _)| self.describe(name)),
                })
                .collect(),
            _ => self.topics.keys().map(|name| self.describe(name)).collect(),
        };
        MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_cluster_id(Some(StrBytes::from_static_str("scripted")))
            .with_controller_id(BrokerId(self.nodes.first().map_or(-1, |n| n.id)))
            .with_topics(topics)
    }

    fn describe(&self, name: &str) -> MetadataResponseTopic {
        let described = MetadataResponseTopic::default().with_name(Some(topic_name(name)));
        let Some(topic) = self.topics.get(name) else { return described.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION) };
        let nodes: Vec<BrokerId> = self.nodes.iter().map(|n| BrokerId(n.id)).collect();
        let partitions = (0..).zip(&topic.partitions).map(|(index, partition)| {
            let leader = partition.advertised_leader.unwrap_or(partition.leader);
            MetadataResponsePartition::default()
                .with_error_code(if leader < 0 { code::LEADER_NOT_AVAILABLE } else { code::NONE })
                .with_partition_index(index)
                .with_leader_id(BrokerId(leader))
                .with_leader_epoch(partition.log.epoch() - i32::from(partition.advertised_leader.is_some()))
                .with_replica_nodes(nodes.clone())
                .with_isr_nodes(nodes.clone())
        });
        described.with_topic_id(topic.id).with_partitions(partitions.collect())
    }

    fn find_coordinator(&self) -> FindCoordinatorResponse {
        match self.nodes.iter().find(|n| n.id == self.coordinator) {
            None => FindCoordinatorResponse::default().with_error_code(code::COORDINATOR_NOT_AVAILABLE).with_node_id(BrokerId(-1)),
            Some(node) => FindCoordinatorResponse::default()
                .with_node_id(BrokerId(node.id))
                .with_host(StrBytes::from_string(node.host.clone()))
                .with_port(i32::from(node.port)),
        }
    }
}

fn unknown_id(id: Uuid) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_name(None).with_topic_id(id).with_error_code(code::UNKNOWN_TOPIC_ID)
}

/// A name as the messages carry it.
pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

impl Pending {
    /// A request that has just come to a node.
    pub(super) fn new(node: i32) -> Self {
        Self { node, since: Instant::now(), ticket: None }
    }

    /// A moment after it came.
    pub(super) fn after(&self, wait: Duration) -> Instant {
        self.since + wait
    }
}
