//! The group's coordinator: members, generations, committed offsets, and a log of every commit that was accepted.
//!
//! It checks what Kafka's checks, and no more: that the member is one, and that its generation is the group's. **Not who owns the
//! partition**: a member that lost one and commits for it with its new generation is accepted. So whatever keeps such commits from being
//! sent is tested, not replaced. What became of each commit is the plan's to say ([`Fate`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use catchment::Error;
use catchment::source::{CommitError, Committed, GroupEvent, TopicPartition};
use tokio::sync::mpsc;

use super::member::Member;
use super::order::Order;
use crate::gate::Gate;

/// Names a member: unique in the group.
pub type MemberId = u64;

/// Events that a pipeline may leave untaken: assignments of one test.
const EVENTS: usize = 256;

/// A commit that the coordinator accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// When, among all events of the test.
    pub order: u64,
    /// Who sent it.
    pub member: MemberId,
    /// The group's generation.
    pub generation: i32,
    /// The partition.
    pub tp: TopicPartition,
    /// What was committed.
    pub commit: Committed,
}

/// A commit on its way.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// Who sends it.
    pub member: MemberId,
    /// The partition.
    pub tp: TopicPartition,
    /// What is committed.
    pub commit: Committed,
}

/// What becomes of a commit. The default is nothing unusual.
#[derive(Clone, Debug)]
pub struct Fate {
    /// The client holds it until this opens, and sends it with the generation that it has by then.
    pub held: Option<Gate>,
    /// It arrives when this opens, whatever has become of its sender by then; what the member sends later arrives behind it.
    pub travels: Option<Gate>,
    /// Whether the coordinator gets it.
    pub arrives: bool,
    /// The answer comes when this opens.
    pub answered: Option<Gate>,
    /// What the client is told instead of the coordinator's answer.
    pub answer: Option<CommitError>,
}

impl Default for Fate {
    fn default() -> Self {
        Self { held: None, travels: None, arrives: true, answered: None, answer: None }
    }
}

impl Fate {
    /// The answer is lost, and the request with it unless it `arrives`.
    pub fn lost(arrives: bool) -> Self {
        Self { arrives, answer: Some(CommitError::Unknown("as the test wants it".into())), ..Self::default() }
    }

    /// The coordinator answers this and does nothing.
    pub fn refused(answer: CommitError) -> Self {
        Self { arrives: false, answer: Some(answer), ..Self::default() }
    }
}

type CommitPlan = Arc<dyn Fn(&CommitRequest) -> Fate + Send + Sync>;
type FetchPlan = Arc<dyn Fn(&TopicPartition) -> Option<Error> + Send + Sync>;
type ArrivalWatch = Arc<dyn Fn(&CommitRequest, &Result<(), CommitError>, bool) + Send + Sync>;

#[derive(Default)]
struct State {
    generation: i32,
    members: BTreeMap<MemberId, Arc<Member>>,
    /// Static members whose name another one took.
    fenced: BTreeSet<MemberId>,
    committed: BTreeMap<TopicPartition, Committed>,
    accepted: Vec<Accepted>,
    serial: u64,
}

/// A consumer group.
pub struct ScriptedGroup {
    state: Mutex<State>,
    order: Order,
    commits: RwLock<CommitPlan>,
    fetches: RwLock<FetchPlan>,
    arrivals: RwLock<ArrivalWatch>,
}

impl fmt::Debug for ScriptedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(f, "ScriptedGroup({} members in generation {})", state.members.len(), state.generation)
    }
}

impl ScriptedGroup {
    /// An empty group whose commits are numbered by `order`.
    pub fn new(order: Order) -> Arc<Self> {
        let (commits, fetches): (CommitPlan, FetchPlan) = (Arc::new(|_| Fate::default()), Arc::new(|_| None));
        let arrivals: ArrivalWatch = Arc::new(|_, _, _| {});
        Arc::new(Self {
            state: Mutex::default(),
            order,
            commits: RwLock::new(commits),
            fetches: RwLock::new(fetches),
            arrivals: RwLock::new(arrivals),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client joins. One that comes under the name of a static member fences it and takes its partitions over without a rebalance;
    /// any other has none before the next one.
    pub fn join(self: &Arc<Self>, instance: Option<&str>) -> (Arc<Member>, mpsc::Receiver<GroupEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let (member, older, generation) = {
            let mut state = self.state();
            state.serial += 1;
            let id = state.serial;
            let older = state.members.values().find(|m| instance.is_some() && m.instance() == instance).cloned();
            if let Some(older) = &older {
                state.members.remove(&older.id());
                state.fenced.insert(older.id());
            }
            let member = Arc::new(Member::new(id, Arc::clone(self), instance, events));
            state.members.insert(id, Arc::clone(&member));
            (member, older, state.generation)
        };
        if let Some(older) = older {
            member.assign(older.assigned(), generation);
        }
        (member, receiver)
    }

    /// One rebalance: every member that the coordinator reaches gives up what it has, and gets what is listed. Members that it does not
    /// reach are none any more.
    pub async fn rebalance(&self, assignment: &[(&Arc<Member>, Vec<TopicPartition>)]) {
        let members: Vec<_> = self.state().members.values().cloned().collect();
        for member in &members {
            if member.is_connected() {
                member.revoke_all().await;
            }
        }
        let generation = {
            let mut state = self.state();
            state.members.retain(|_, member| member.is_connected());
            state.generation += 1;
            state.generation
        };
        for member in members.iter().filter(|m| m.is_connected()) {
            let listed = assignment.iter().find(|(to, _)| to.id() == member.id());
            member.assign(listed.map(|(_, partitions)| partitions.clone()).unwrap_or_default(), generation);
        }
    }

    /// A client that had lost its session, or its older self to this call, is a member again: it gives up what it thinks it has, and gets
    /// nothing before the next rebalance.
    pub async fn rejoin(&self, member: &Arc<Member>) {
        member.revoke_all().await;
        self.state().members.insert(member.id(), Arc::clone(member));
    }

    /// Decides about every commit from now on.
    pub fn set_commits(&self, plan: impl Fn(&CommitRequest) -> Fate + Send + Sync + 'static) {
        *self.commits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    }

    /// Decides which look-ups of an offset fail from now on.
    pub fn set_fetches(&self, plan: impl Fn(&TopicPartition) -> Option<Error> + Send + Sync + 'static) {
        *self.fetches.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    }

    /// Tells of each commit that was on its way when it arrives: what the coordinator answers, and whether anybody waits for it.
    pub fn set_arrivals(&self, watch: impl Fn(&CommitRequest, &Result<(), CommitError>, bool) + Send + Sync + 'static) {
        *self.arrivals.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(watch);
    }

    pub(super) fn arrived(&self, request: &CommitRequest, answer: &Result<(), CommitError>, is_awaited: bool) {
        let watch = Arc::clone(&self.arrivals.read().unwrap_or_else(PoisonError::into_inner));
        watch(request, answer, is_awaited);
    }

    pub(super) fn fate(&self, request: &CommitRequest) -> Fate {
        let plan = Arc::clone(&self.commits.read().unwrap_or_else(PoisonError::into_inner));
        plan(request)
    }

    /// An OffsetFetch.
    pub(super) fn fetch(&self, tp: &TopicPartition) -> Result<Option<Committed>, Error> {
        let plan = Arc::clone(&self.fetches.read().unwrap_or_else(PoisonError::into_inner));
        plan(tp).map_or_else(|| Ok(self.committed(tp)), Err)
    }

    /// An OffsetCommit of a member that thinks that the group is in `generation`.
    pub(super) fn commit(&self, request: &CommitRequest, generation: i32) -> Result<(), CommitError> {
        let CommitRequest { member, tp, commit } = request.clone();
        let mut state = self.state();
        if state.fenced.contains(&member) {
            return Err(CommitError::InstanceFenced);
        }
        if !state.members.contains_key(&member) {
            return Err(CommitError::StaleMember("UNKNOWN_MEMBER_ID".into()));
        }
        if generation != state.generation {
            return Err(CommitError::StaleMember("ILLEGAL_GENERATION".into()));
        }
        state.committed.insert(tp.clone(), commit.clone());
        state.accepted.push(Accepted { order: self.order.next(), member, generation, tp, commit });
        Ok(())
    }

    /// The number of the next event of the test.
    pub(super) fn now(&self) -> u64 {
        self.order.now()
    }

    /// Whether the coordinator knows a member.
    pub fn has(&self, member: MemberId) -> bool {
        self.state().members.contains_key(&member)
    }

    /// What the group knows of a partition.
    pub fn committed(&self, tp: &TopicPartition) -> Option<Committed> {
        self.state().committed.get(tp).cloned()
    }

    /// Somebody else commits, or an operator resets the offset.
    pub fn set_committed(&self, tp: &TopicPartition, commit: Committed) {
        self.state().committed.insert(tp.clone(), commit);
    }

    /// The group's offsets are forgotten, as by their retention.
    pub fn forget_offsets(&self) {
        self.state().committed.clear();
    }

    /// Every commit that was accepted so far, in order.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.state().accepted.clone()
    }
}
