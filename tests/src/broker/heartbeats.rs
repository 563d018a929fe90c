//! Groups of the next generation (KIP-848), where the broker assigns: one heartbeat for everything.
//!
//! Enough of it for a member to join, to get all partitions of its topics or its share of them, and to be fenced. A partition goes to its
//! new owner only after the old one has said that it does not hold it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::cluster::{Topic, code};
use super::groups::Groups;

/// How often members are asked to be heard of.
const INTERVAL_MS: i32 = 100;

/// How long a member may be silent.
const SESSION: Duration = Duration::from_secs(3);

type Owned = BTreeSet<(Uuid, i32)>;

#[derive(Debug)]
struct ConsumerMember {
    instance: Option<String>,
    epoch: i32,
    topics: BTreeSet<String>,
    /// What it was told to hold.
    told: Owned,
    /// What it may still hold.
    holds: Owned,
    heard: Instant,
}

#[derive(Debug, Default)]
struct ConsumerGroup {
    epoch: i32,
    members: BTreeMap<String, ConsumerMember>,
}

/// All groups of the next generation.
#[derive(Debug, Default)]
pub(super) struct NextGeneration(BTreeMap<String, ConsumerGroup>);

impl NextGeneration {
    /// All members were heard of so much later than they were.
    pub(super) fn forgive(&mut self, late: Duration) {
        self.0.values_mut().flat_map(|group| group.members.values_mut()).for_each(|member| member.heard += late);
    }

    /// How many members a group has.
    pub(super) fn members(&self, group: &str) -> usize {
        self.0.get(group).map_or(0, |g| g.members.len())
    }
}

impl Groups {
    pub(super) fn consumer_heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        topics: &BTreeMap<String, Topic>,
    ) -> ConsumerGroupHeartbeatResponse {
        let id = if request.member_id.is_empty() { self.new_id(None) } else { request.member_id.as_str().to_owned() };
        let group = self.next_generation.0.entry(request.group_id.0.as_str().to_owned()).or_default();
        let answer = ConsumerGroupHeartbeatResponse::default().with_heartbeat_interval_ms(INTERVAL_MS);
        group.expire();
        match group.take(&id, request) {
            Err(error) => answer.with_error_code(error).with_member_epoch(-1),
            Ok(None) => answer.with_member_id(Some(StrBytes::from_string(id))).with_member_epoch(request.member_epoch),
            Ok(Some(joins)) => {
                let (epoch, assigned) = group.assign(&id, topics, joins);
                answer.with_member_id(Some(StrBytes::from_string(id))).with_member_epoch(epoch).with_assignment(assigned)
            }
        }
    }

    /// What a commit of a member of such a group gets; none if the group is none.
    pub(super) fn consumer_commit_check(&self, group: &str, member: &str, epoch: i32) -> Option<i16> {
        let group = self.next_generation.0.get(group).filter(|g| !g.members.is_empty())?;
        Some(match group.members.get(member) {
            None => code::UNKNOWN_MEMBER_ID,
            Some(m) if m.epoch != epoch => code::STALE_MEMBER_EPOCH,
            Some(_) => code::NONE,
        })
    }
}

impl ConsumerGroup {
    fn expire(&mut self) {
        let now = Instant::now();
        let before = self.members.len();
        self.members.retain(|_, m| now < m.heard + SESSION);
        self.epoch += i32::from(self.members.len() != before);
    }

    /// Takes in what the member says. None if it leaves; else whether it has just joined.
    fn take(&mut self, id: &str, request: &ConsumerGroupHeartbeatRequest) -> Result<Option<bool>, i16> {
        let instance = request.instance_id.as_ref().map(|i| i.as_str().to_owned());
        match request.member_epoch {
            -1 => {
                self.members.remove(id);
                self.epoch += 1;
                Ok(None)
            }
            // A static member that goes for a while.
            -2 => Ok(None),
            0 => {
                self.members.retain(|other, m| other == id || instance.is_none() || m.instance != instance);
                let topics = request.subscribed_topic_names.iter().flatten().map(|t| t.0.as_str().to_owned()).collect();
                let (told, holds) = (Owned::new(), Owned::new());
                self.epoch += 1;
                self.members.insert(id.to_owned(), ConsumerMember { instance, epoch: 0, topics, told, holds, heard: Instant::now() });
                Ok(Some(true))
            }
            epoch => {
                let member = self.members.get_mut(id).ok_or(code::UNKNOWN_MEMBER_ID)?;
                if member.epoch != epoch {
                    return Err(code::FENCED_MEMBER_EPOCH);
                }
                member.heard = Instant::now();
                if let Some(topics) = &request.subscribed_topic_names {
                    member.topics = topics.iter().map(|t| t.0.as_str().to_owned()).collect();
                }
                if let Some(owned) = &request.topic_partitions {
                    member.holds = owned.iter().flat_map(|t| t.partitions.iter().map(|p| (t.topic_id, *p))).collect();
                }
                Ok(Some(false))
            }
        }
    }

    /// The member's epoch, and its partitions if they are others than it was told.
    fn assign(&mut self, id: &str, topics: &BTreeMap<String, Topic>, joins: bool) -> (i32, Option<Assignment>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        let mut wanted = Owned::new();
        let member_topics = self.members.get(id).map(|m| m.topics.clone()).unwrap_or_default();
        let mut place = 0;
        for (name, topic) in topics.iter().filter(|(name, _)| member_topics.contains(*name)) {
            debug_assert!(!name.is_empty());
            for partition in (0..).take(topic.partitions.len()) {
                if ids[place % ids.len()] == id {
                    wanted.insert((topic.id, partition));
                }
                place += 1;
            }
        }
        // Whatever somebody else still holds comes later.
        let held: Owned = self.members.iter().filter(|(other, _)| *other != id).flat_map(|(_, m)| m.holds.iter().copied()).collect();
        let free: Owned = wanted.difference(&held).copied().collect();
        let epoch = self.epoch;
        let Some(member) = self.members.get_mut(id) else { return (-1, None) };
        member.epoch = epoch;
        member.holds.extend(free.iter().copied());
        let changed = joins || member.told != free;
        member.told.clone_from(&free);
        (epoch, changed.then(|| assignment_of(&free)))
    }
}

fn assignment_of(partitions: &Owned) -> Assignment {
    let mut of: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        of.entry(*topic).or_default().push(*partition);
    }
    let topics = of.into_iter().map(|(id, partitions)| TopicPartitions::default().with_topic_id(id).with_partitions(partitions));
    Assignment::default().with_topic_partitions(topics.collect())
}
