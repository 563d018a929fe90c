//! The group coordinator: membership of the classic protocol, and the checks that a commit must pass.
//!
//! It checks what Kafka checks, and no more: member and generation, never who owns a partition. Place in the flow: requests of groups end
//! here ([`group_requests`](super::group_requests) speaks their messages); a script looks at offsets, and changes them, here too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cluster::code;
use super::offsets::Offsets;
use super::requests::Asked;

/// A group's stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No members.
    Empty,
    /// Members join, until all have or this time.
    Joining(Instant),
    /// The leader computes the assignment.
    Syncing,
    /// Everybody knows its partitions.
    Stable,
}

/// A member.
#[derive(Clone, Debug)]
pub struct Member {
    /// The static member's name.
    pub instance: Option<String>,
    /// Names and metadata of the assignors that it knows.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    joined: bool,
    waits: bool,
    session: Duration,
    heard: Instant,
}

/// What JoinGroup or SyncGroup waits for.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The member's id, which the coordinator may have chosen.
    pub(super) member: String,
    /// The generation after which the answer comes.
    pub(super) after: i32,
}

/// A consumer group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Rises with every rebalance.
    pub generation: i32,
    /// Its stage.
    pub phase: Phase,
    /// Its members, by id.
    pub members: BTreeMap<String, Member>,
    pub(super) leader: String,
    pub(super) protocol: String,
    /// Ids that were given out (KIP-394) and have not joined yet.
    announced: BTreeSet<String>,
    /// What was committed.
    pub offsets: Offsets,
    /// Members whose commits were accepted.
    pub committers: BTreeSet<String>,
    /// Commits that were refused because of the member that sent them, or of the group's stage.
    pub refused: Vec<RefusedCommit>,
    /// Static members that came back into their place without a rebalance.
    pub returned: u32,
}

/// A commit that was refused.
#[derive(Clone, Debug)]
pub struct RefusedCommit {
    /// The member's id.
    pub member: String,
    /// The error.
    pub error: i16,
    /// What it would have said, of one of its partitions.
    pub metadata: String,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            generation: 0,
            phase: Phase::Empty,
            members: BTreeMap::new(),
            leader: String::new(),
            protocol: String::new(),
            announced: BTreeSet::new(),
            offsets: Offsets::default(),
            committers: BTreeSet::new(),
            refused: Vec::new(),
            returned: 0,
        }
    }
}

/// A look at the members that comes so much later than the one before shows that the process has stood still.
const STANDSTILL: Duration = Duration::from_millis(200);

/// Who joins, as its request says.
#[derive(Clone, Debug)]
pub(super) struct Joiner {
    pub(super) member: String,
    pub(super) instance: Option<String>,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) session: Duration,
    /// Whether a dynamic member must come again with the id that it is given.
    pub(super) asks_twice: bool,
}

/// What becomes of a join.
#[derive(Debug)]
pub(super) enum JoinResult {
    /// It waits for the others.
    Waits(Ticket),
    /// A static member is back and takes its predecessor's place without a rebalance. With it the predecessor's id.
    Returned { member: String, predecessor: String },
    /// An error, for the member of this id.
    Refused(i16, String),
}

/// All groups.
#[derive(Debug)]
pub struct Groups {
    groups: BTreeMap<String, Group>,
    /// The longest metadata that a commit may carry.
    pub metadata_bytes_max: usize,
    /// Metadata is dropped, as by a proxy that does not know it.
    pub strips_metadata: bool,
    /// How much later than it is answered a commit is there.
    pub commits_late_by: Duration,
    /// How long the first member of a group waits for others.
    pub first_delay: Duration,
    /// The longest session that a member gets, whatever it asked for.
    pub session_max: Option<Duration>,
    pub(super) next_generation: super::heartbeats::NextGeneration,
    serial: u64,
    ticked: Instant,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            groups: BTreeMap::new(),
            metadata_bytes_max: 4096,
            strips_metadata: false,
            commits_late_by: Duration::ZERO,
            first_delay: Duration::ZERO,
            session_max: None,
            next_generation: super::heartbeats::NextGeneration::default(),
            serial: 0,
            ticked: Instant::now(),
        }
    }
}

impl Groups {
    /// A group, made if it is not there.
    pub fn group(&mut self, id: &str) -> &mut Group {
        self.groups.entry(id.to_owned()).or_default()
    }

    /// Forgets a group with all its offsets.
    pub fn forget(&mut self, id: &str) {
        let group = self.group(id);
        let mut offsets = std::mem::take(&mut group.offsets);
        offsets.clear();
        *group = Group { offsets, ..Group::default() };
    }

    /// Whether a group has committed a later offset of a partition than this.
    pub(super) fn is_committed_beyond(&self, topic: &str, partition: i32, offset: i64) -> bool {
        self.groups.values().any(|g| g.offsets.get(topic, partition).is_some_and(|c| c.offset > offset))
    }

    /// How many members a group has, of either protocol.
    pub fn members(&mut self, id: &str) -> usize {
        self.next_generation.members(id).max(self.group(id).members.len())
    }

    /// A new member's id.
    pub(super) fn new_id(&mut self, instance: Option<&str>) -> String {
        self.serial += 1;
        format!("{}-{}", instance.unwrap_or("member"), self.serial)
    }

    /// Whether a request comes from the member of this instance id.
    pub(super) fn is_of(&self, asked: &Asked, instance: &str) -> bool {
        let given = match asked {
            Asked::JoinGroup(r) => r.group_instance_id.as_deref(),
            Asked::SyncGroup(r) => r.group_instance_id.as_deref(),
            Asked::Heartbeat(r) => r.group_instance_id.as_deref(),
            Asked::OffsetCommit(r) => r.group_instance_id.as_deref(),
            _ => None,
        };
        given == Some(instance)
    }

    /// Drops members that were not heard of, and ends joins that took too long. True if anything changed.
    pub(super) fn tick(&mut self) -> bool {
        self.forgive(Instant::now());
        let mut changed = false;
        for group in self.groups.values_mut() {
            changed |= group.tick();
        }
        changed
    }
}

impl Groups {
    /// Broker and clients share a process. If that has stood still, the heartbeats of before wait in the sockets, and nobody is given up for it.
    fn forgive(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.ticked);
        self.ticked = now;
        if late > STANDSTILL {
            self.groups.values_mut().flat_map(|group| group.members.values_mut()).for_each(|member| member.heard += late);
            self.next_generation.forgive(late);
        }
    }
}

impl Group {
    /// Whether every member knows its partitions.
    pub fn is_stable(&self) -> bool {
        self.phase == Phase::Stable
    }

    /// Makes everybody join again, as a change of the subscription would.
    pub fn rebalance(&mut self) {
        if !self.members.is_empty() && !matches!(self.phase, Phase::Joining(_)) {
            let session = self.members.values().map(|m| m.session).max().unwrap_or_default();
            self.begin_join(session);
        }
    }

    /// The session of a static member is over at once, however long it was to be. Nothing says so to it: it is a zombie and does not know it.
    pub fn end_session(&mut self, instance: &str) {
        let of_it = |member: &&mut Member| member.instance.as_deref() == Some(instance);
        self.members.values_mut().filter(of_it).for_each(|member| member.session = Duration::ZERO);
    }

    /// Drops every member, as a coordinator that has lost them does.
    pub fn expel_all(&mut self) {
        self.members.clear();
        self.phase = Phase::Empty;
    }

    fn begin_join(&mut self, patience: Duration) {
        self.phase = Phase::Joining(Instant::now() + patience);
        self.members.values_mut().for_each(|m| m.joined = false);
    }

    fn by_instance(&self, instance: &str) -> Option<String> {
        self.members.iter().find(|(_, m)| m.instance.as_deref() == Some(instance)).map(|(id, _)| id.clone())
    }

    /// Takes a join in. `new_id` is for a member that has none.
    pub(super) fn join(&mut self, joiner: Joiner, new_id: String, first_delay: Duration) -> JoinResult {
        self.tick();
        let standing = joiner.instance.as_deref().and_then(|i| self.by_instance(i));
        let id = match (joiner.member.is_empty(), standing) {
            (true, Some(predecessor)) => return self.replace(&predecessor, joiner, new_id),
            (true, None) if joiner.instance.is_none() && joiner.asks_twice => {
                self.announced.insert(new_id.clone());
                return JoinResult::Refused(code::MEMBER_ID_REQUIRED, new_id);
            }
            (true, None) => new_id,
            (false, Some(standing)) if standing != joiner.member => return JoinResult::Refused(code::FENCED_INSTANCE_ID, joiner.member),
            (false, _) if self.members.contains_key(&joiner.member) || self.announced.remove(&joiner.member) => joiner.member.clone(),
            (false, _) => return JoinResult::Refused(code::UNKNOWN_MEMBER_ID, joiner.member),
        };
        self.enter(id, joiner, first_delay)
    }

    fn enter(&mut self, id: String, joiner: Joiner, first_delay: Duration) -> JoinResult {
        let is_first = self.phase == Phase::Empty;
        if !matches!(self.phase, Phase::Joining(_)) {
            self.begin_join(joiner.session);
        }
        let Joiner { instance, protocols, session, .. } = joiner;
        let member = Member { instance, protocols, session, assignment: Bytes::new(), joined: true, waits: true, heard: Instant::now() };
        self.members.insert(id.clone(), member);
        if is_first && !first_delay.is_zero() {
            self.phase = Phase::Joining(Instant::now() + first_delay);
            // Held open: a member that never joins keeps it from being complete before its time.
            self.announced.insert(String::new());
        }
        let ticket = Ticket { member: id, after: self.generation };
        self.tick();
        JoinResult::Waits(ticket)
    }

    fn replace(&mut self, predecessor: &str, joiner: Joiner, new_id: String) -> JoinResult {
        let Some(mut member) = self.members.remove(predecessor) else {
            return JoinResult::Refused(code::UNKNOWN_MEMBER_ID, joiner.member);
        };
        if self.phase != Phase::Stable {
            return self.enter(new_id, joiner, Duration::ZERO);
        }
        self.returned += 1;
        member.heard = Instant::now();
        member.session = joiner.session;
        self.members.insert(new_id.clone(), member);
        if self.leader == predecessor {
            self.leader.clone_from(&new_id);
        }
        JoinResult::Returned { member: new_id, predecessor: predecessor.to_owned() }
    }

    fn tick(&mut self) -> bool {
        let now = Instant::now();
        let gone: Vec<String> =
            self.members.iter().filter(|(_, m)| !m.waits && now > m.heard + m.session).map(|(id, _)| id.clone()).collect();
        let mut changed = !gone.is_empty();
        gone.iter().for_each(|id| self.remove(id));
        if let Phase::Joining(deadline) = self.phase {
            let complete = self.members.values().all(|m| m.joined) && !self.announced.contains("");
            if complete || now >= deadline {
                self.complete_join();
                changed = true;
            }
        }
        changed
    }

    fn complete_join(&mut self) {
        self.announced.remove("");
        self.members.retain(|_, m| m.joined);
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            return;
        }
        self.generation += 1;
        self.phase = Phase::Syncing;
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        let common = |name: &str| self.members.values().all(|m| m.protocols.iter().any(|(n, _)| n == name));
        let first = self.members.values().next().map(|m| m.protocols.clone()).unwrap_or_default();
        self.protocol = first.into_iter().map(|(name, _)| name).find(|name| common(name)).unwrap_or_default();
        let now = Instant::now();
        self.members.values_mut().for_each(|m| (m.waits, m.heard, m.assignment) = (false, now, Bytes::new()));
    }

    /// Whether a join that waited can be answered now.
    pub(super) fn join_is_over(&self, ticket: &Ticket) -> Option<Result<(), i16>> {
        if !self.members.contains_key(&ticket.member) {
            return Some(Err(code::UNKNOWN_MEMBER_ID));
        }
        (self.generation > ticket.after && !matches!(self.phase, Phase::Joining(_))).then_some(Ok(()))
    }

    /// Removes a member; the others join again.
    pub(super) fn remove(&mut self, id: &str) {
        if self.members.remove(id).is_none() {
            return;
        }
        if self.members.is_empty() {
            self.phase = Phase::Empty;
        } else {
            self.rebalance();
        }
    }

    /// Gives everybody its partitions.
    pub(super) fn assign(&mut self, assignments: impl Iterator<Item = (String, Bytes)>) {
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.phase = Phase::Stable;
    }

    /// What a request of a member gets, before anything else is asked.
    pub(super) fn check(&mut self, id: &str, instance: Option<&str>, generation: i32) -> i16 {
        self.tick();
        if instance.and_then(|i| self.by_instance(i)).is_some_and(|standing| standing != id) {
            return code::FENCED_INSTANCE_ID;
        }
        let Some(member) = self.members.get_mut(id) else { return code::UNKNOWN_MEMBER_ID };
        member.heard = Instant::now();
        if generation == self.generation { code::NONE } else { code::ILLEGAL_GENERATION }
    }
}
