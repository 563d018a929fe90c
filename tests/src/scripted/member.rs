//! One client of the group: its leases, and rule A1 of the commit protocol.
//!
//! As the engine's committer and its rebalance callback do it: a commit is only sent for a lane that lives, with the generation that the
//! member has when it is sent, and a lane is not killed by a revocation while a commit of it is under way. Where the real client holds the
//! lane's lock for that long, this one counts the commit, so that nothing blocks a thread that others need.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catchment::Error;
use catchment::lane::{AliveGuard, LaneLease};
use catchment::source::{CommitError, Committed, Group, GroupEvent, TopicPartition};
use catchment::store::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot};

use super::group::{CommitRequest, MemberId, ScriptedGroup};
use crate::gate::Gate;

/// What a commit is answered that does not reach the coordinator.
pub const OUT_OF_REACH: &str = "the coordinator is out of reach";

/// Rises with every assignment, whatever the group.
static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);

#[derive(Debug, Default)]
struct Client {
    generation: i32,
    leases: BTreeMap<TopicPartition, Arc<LaneLease>>,
    /// Since when it has each partition, among all events of the test.
    leased_at: BTreeMap<TopicPartition, u64>,
    /// Partitions whose commits are under way: of the engine's lanes one after the other, and what a lane that is gone has sent beside it.
    under_way: BTreeMap<TopicPartition, u32>,
    /// Whether it reaches the coordinator.
    cut_off: bool,
    crashed: bool,
}

/// What a commit on its way holds on to, whatever becomes of who has sent it.
#[derive(Debug, Default)]
struct Shared {
    client: Mutex<Client>,
    commit_ended: Notify,
    /// Its connection to the coordinator: requests arrive in the order in which they were sent.
    connection: Arc<tokio::sync::Mutex<()>>,
}

/// A member of a [`ScriptedGroup`].
pub struct Member {
    id: MemberId,
    instance: Option<String>,
    group: Arc<ScriptedGroup>,
    shared: Arc<Shared>,
    events: mpsc::Sender<GroupEvent>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({})", self.id)
    }
}

impl Shared {
    fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    pub(super) fn new(id: MemberId, group: Arc<ScriptedGroup>, instance: Option<&str>, events: mpsc::Sender<GroupEvent>) -> Self {
        let client = Mutex::new(Client { generation: -1, ..Client::default() });
        let shared = Arc::new(Shared { client, ..Shared::default() });
        Self { id, instance: instance.map(str::to_owned), group, shared, events }
    }

    /// Locked after a lane, never before one.
    fn client(&self) -> MutexGuard<'_, Client> {
        self.shared.client()
    }

    /// Its id.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// Its name, if it is a static member.
    pub(super) fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// Whether the coordinator hears of it.
    pub(super) fn is_connected(&self) -> bool {
        let client = self.client();
        !client.cut_off && !client.crashed
    }

    /// The partitions that it thinks it has, in order.
    pub fn assigned(&self) -> Vec<TopicPartition> {
        let mut partitions: Vec<_> = self.client().leases.keys().cloned().collect();
        partitions.sort();
        partitions
    }

    /// Since when its lane of a partition lives, among all events of the test; none if it has none that lives.
    pub fn leased_at(&self, tp: &TopicPartition) -> Option<u64> {
        let client = self.client();
        client.leases.get(tp).filter(|lease| lease.seems_alive()).and_then(|_| client.leased_at.get(tp).copied())
    }

    /// The assign callback. Partitions that it has already get new leases.
    pub(super) fn assign(&self, partitions: Vec<TopicPartition>, generation: i32) {
        self.client().generation = generation;
        let leases = self.new_leases(partitions);
        self.tell(GroupEvent::Assigned(leases));
    }

    fn new_leases(&self, partitions: Vec<TopicPartition>) -> Vec<Arc<LaneLease>> {
        let lease = |tp| Arc::new(LaneLease::new(tp, NEXT_EPOCH.fetch_add(1, Ordering::SeqCst)));
        let leases: Vec<_> = partitions.into_iter().map(lease).collect();
        let older: Vec<_> = {
            let (mut client, now) = (self.client(), self.group.now());
            client.leased_at.extend(leases.iter().map(|lease| (lease.tp.clone(), now)));
            leases.iter().filter_map(|lease| client.leases.insert(lease.tp.clone(), Arc::clone(lease))).collect()
        };
        older.iter().for_each(|lease| lease.kill());
        leases
    }

    /// The revoke callback for all partitions: returns once no commit of them is under way and no lane lives.
    pub(super) async fn revoke_all(&self) {
        // One after the other, as a rebalance callback kills them: a lane may begin a commit until it is its turn.
        let gone = std::mem::take(&mut self.client().leases);
        for lease in gone.values() {
            loop {
                let ended = self.shared.commit_ended.notified();
                if !self.client().under_way.contains_key(&lease.tp) {
                    break;
                }
                ended.await;
            }
            lease.kill();
        }
    }

    /// Leases for partitions whose commit was refused and that are its own still: no callback comes for those.
    pub fn renew(&self) {
        let dead = |client: &Client| client.leases.values().filter(|l| !l.seems_alive()).map(|l| l.tp.clone()).collect::<Vec<_>>();
        let dead = dead(&self.client());
        if !dead.is_empty() {
            let leases = self.new_leases(dead);
            self.tell(GroupEvent::Assigned(leases));
        }
    }

    /// Cuts it off from the coordinator, or lets it reach it again. It goes on meanwhile as if nothing were: a zombie once others have its
    /// partitions.
    pub fn set_cut_off(&self, cut_off: bool) {
        self.client().cut_off = cut_off;
    }

    /// Its process is gone: nothing of it is sent any more. What is on its way arrives.
    pub fn crash(&self) {
        let leases: Vec<_> = {
            let mut client = self.client();
            client.crashed = true;
            client.leases.values().cloned().collect()
        };
        leases.iter().for_each(|lease| lease.kill());
    }

    /// The client cannot go on.
    pub fn fail(&self, error: Error) {
        let gone = std::mem::take(&mut self.client().leases);
        gone.values().for_each(|lease| lease.kill());
        self.tell(GroupEvent::Fatal(error));
    }

    fn tell(&self, event: GroupEvent) {
        // A pipeline that is gone takes no events; one that lags so far behind is a bug of the test.
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            panic!("too many events are waiting: {event:?}");
        }
    }

    /// Counts a commit as under way, if its lane lives. As the engine's committer it goes by the lane's lock alone.
    fn begin(&self, lane: &Arc<LaneLease>) -> Option<UnderWay> {
        let _alive = lane.lock()?;
        let mut client = self.client();
        *client.under_way.entry(lane.tp.clone()).or_default() += 1;
        Some(UnderWay { shared: Arc::clone(&self.shared), tp: lane.tp.clone() })
    }

    /// Sends a commit now: the generation with which it arrives, if it gets away, and the lane's lock, under which it does.
    fn send<'a>(&self, lane: &'a Arc<LaneLease>) -> Result<(AliveGuard<'a>, i32), CommitError> {
        let Some(alive) = lane.lock() else { return Err(CommitError::LaneDead) };
        let (generation, reaches) = {
            let client = self.client();
            (client.generation, !client.cut_off && !client.crashed)
        };
        if !reaches {
            return Err(CommitError::Unknown(OUT_OF_REACH.into()));
        }
        if generation < 0 {
            // A coordinator takes a commit without a generation from anybody while its group is empty.
            return Err(CommitError::StaleMember("the client is not a member of the group".into()));
        }
        Ok((alive, generation))
    }

    /// A commit that was sent: a task of its own, which nobody can call back. It is under way until it has arrived.
    async fn deliver(&self, request: CommitRequest, generation: i32, travels: Gate, under_way: Arc<UnderWay>) -> Result<(), CommitError> {
        let (answers, answer) = oneshot::channel();
        let (group, connection) = (Arc::clone(&self.group), Arc::clone(&self.shared.connection));
        tokio::spawn(async move {
            let _turn = connection.lock().await;
            travels.opened().await;
            let answer = group.commit(&request, generation);
            // A sender that is gone gets no answer.
            let is_awaited = answers.send(answer.clone()).is_ok();
            group.arrived(&request, &answer, is_awaited);
            drop(under_way);
        });
        answer.await.expect("what is on its way arrives")
    }
}

/// A commit that has begun and not ended.
#[derive(Debug)]
struct UnderWay {
    shared: Arc<Shared>,
    tp: TopicPartition,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut client = self.shared.client();
        if let Some(count) = client.under_way.get_mut(&self.tp) {
            *count -= 1;
            if *count == 0 {
                client.under_way.remove(&self.tp);
            }
        }
        drop(client);
        self.shared.commit_ended.notify_waiters();
    }
}

impl Group for Member {
    fn fetch<'a>(&'a self, tp: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Committed>, Error>> {
        Box::pin(async move { self.group.fetch(tp) })
    }

    fn commit<'a>(&'a self, lane: &'a Arc<LaneLease>, commit: Committed) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(async move {
            let request = CommitRequest { member: self.id, tp: lane.tp.clone(), commit };
            let Some(under_way) = self.begin(lane).map(Arc::new) else { return Err(CommitError::LaneDead) };
            let fate = self.group.fate(&request);
            if let Some(held) = &fate.held {
                held.opened().await;
            }
            let sent = match fate.travels {
                _ if !fate.arrives => Ok(()),
                None => self.send(lane).and_then(|(_alive, generation)| self.group.commit(&request, generation)),
                Some(travels) => match self.send(lane).map(|(_alive, generation)| generation) {
                    Ok(generation) => self.deliver(request, generation, travels, Arc::clone(&under_way)).await,
                    Err(e) => Err(e),
                },
            };
            if let Some(answered) = &fate.answered {
                answered.opened().await;
            }
            let result = fate.answer.map_or(sent, Err);
            if matches!(result, Err(CommitError::StaleMember(_) | CommitError::InstanceFenced)) {
                lane.kill();
            }
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::group::Fate;
    use crate::scripted::order::Order;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition { topic: Arc::from("t"), partition }
    }

    fn at(offset: i64) -> Committed {
        Committed { offset, leader_epoch: -1, metadata: format!("note {offset}") }
    }

    fn leases(events: &mut mpsc::Receiver<GroupEvent>) -> Vec<Arc<LaneLease>> {
        match events.try_recv() {
            Ok(GroupEvent::Assigned(leases)) => leases,
            other => panic!("{other:?}"),
        }
    }

    /// A group of two members; the first has partitions 0 and 1.
    async fn two_members() -> (Arc<ScriptedGroup>, [Arc<Member>; 2], [mpsc::Receiver<GroupEvent>; 2]) {
        let group = ScriptedGroup::new(Order::default());
        let (one, mut one_events) = group.join(None);
        let (two, mut two_events) = group.join(None);
        group.rebalance(&[(&one, vec![tp(0), tp(1)])]).await;
        assert!(leases(&mut two_events).is_empty());
        assert_eq!(one.assigned(), [tp(0), tp(1)]);
        let held = leases(&mut one_events);
        assert!(held.iter().all(|lease| lease.lock().is_some()));
        one.tell(GroupEvent::Assigned(held));
        (group, [one, two], [one_events, two_events])
    }

    #[tokio::test]
    async fn a_commit_is_kept_with_its_note_and_logged_in_order() {
        let (group, [one, _], [mut events, _]) = two_members().await;
        let lanes = leases(&mut events);
        assert_eq!(one.fetch(&tp(0)).await.unwrap(), None);
        one.commit(&lanes[0], at(5)).await.unwrap();
        one.commit(&lanes[1], at(7)).await.unwrap();
        one.commit(&lanes[0], at(9)).await.unwrap();
        assert_eq!(one.fetch(&tp(0)).await.unwrap(), Some(at(9)));
        let log = group.accepted();
        assert_eq!(log.iter().map(|a| (a.order, a.tp.partition, a.commit.offset)).collect::<Vec<_>>(), [(0, 0, 5), (1, 1, 7), (2, 0, 9)]);
        group.forget_offsets();
        assert_eq!(one.fetch(&tp(0)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_revoked_lane_commits_nothing() {
        let (group, [one, two], [mut one_events, mut two_events]) = two_members().await;
        let lanes = leases(&mut one_events);
        group.rebalance(&[(&one, vec![tp(1)]), (&two, vec![tp(0)])]).await;
        assert_eq!(one.commit(&lanes[0], at(1)).await, Err(CommitError::LaneDead));
        assert_eq!(one.commit(&lanes[1], at(1)).await, Err(CommitError::LaneDead), "a kept partition has a new lease");
        assert_eq!((one.leased_at(&tp(0)), one.leased_at(&tp(1)), two.leased_at(&tp(0))), (None, Some(0), Some(0)));
        assert!(one.commit(&leases(&mut one_events)[0], at(1)).await.is_ok());
        assert!(two.commit(&leases(&mut two_events)[0], at(2)).await.is_ok());
    }

    /// What rule A1 is for: the coordinator itself would take it.
    #[tokio::test]
    async fn the_coordinator_takes_a_commit_for_a_partition_that_the_member_lost() {
        let (group, [one, two], _events) = two_members().await;
        group.rebalance(&[(&two, vec![tp(0), tp(1)])]).await;
        let request = CommitRequest { member: one.id(), tp: tp(0), commit: at(3) };
        assert_eq!(group.commit(&request, 2), Ok(()));
        assert!(matches!(group.commit(&request, 1), Err(CommitError::StaleMember(_))));
    }

    /// As a request on a socket: whoever sent it may be dead when it arrives, and what it sent first arrives first.
    #[tokio::test]
    async fn a_commit_that_was_sent_arrives_whatever_becomes_of_its_sender() {
        let (group, [one, _], [mut events, _]) = two_members().await;
        let (lanes, gates) = (leases(&mut events), [Gate::default(), Gate::default()]);
        for (lane, gate) in lanes.iter().zip(&gates) {
            let travels = gate.clone();
            group.set_commits(move |_| Fate { travels: Some(travels.clone()), ..Fate::default() });
            let (member, lane) = (Arc::clone(&one), Arc::clone(lane));
            let asked = tokio::spawn(async move { member.commit(&lane, at(4)).await });
            tokio::task::yield_now().await;
            asked.abort();
        }
        one.crash();
        gates[1].open();
        tokio::task::yield_now().await;
        assert!(group.accepted().is_empty(), "the second one is behind the first");
        gates[0].open();
        while group.accepted().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(group.accepted().iter().map(|a| a.tp.partition).collect::<Vec<_>>(), [0, 1]);
    }

    #[tokio::test]
    async fn a_revocation_waits_for_a_commit_under_way() {
        let (group, [one, two], [mut events, _two_events]) = two_members().await;
        let lane = leases(&mut events).remove(0);
        let gate = Gate::default();
        let held = gate.clone();
        group.set_commits(move |_| Fate { held: Some(held.clone()), ..Fate::default() });
        let (member, lane) = (Arc::clone(&one), Arc::clone(&lane));
        let commit = tokio::spawn(async move { member.commit(&lane, at(4)).await });
        tokio::task::yield_now().await;
        let (coordinator, to) = (Arc::clone(&group), Arc::clone(&two));
        let rebalance = tokio::spawn(async move { coordinator.rebalance(&[(&to, vec![tp(0)])]).await });
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        assert!(!rebalance.is_finished() && group.accepted().is_empty());
        gate.open();
        assert_eq!(commit.await.unwrap(), Ok(()));
        rebalance.await.unwrap();
        assert_eq!(group.accepted()[0].generation, 1, "sent before the rebalance went on");
    }

    #[tokio::test]
    async fn a_zombie_is_refused_once_it_reaches_the_coordinator_again() {
        let (group, [one, two], [mut one_events, mut two_events]) = two_members().await;
        let lane = leases(&mut one_events).remove(0);
        one.set_cut_off(true);
        group.rebalance(&[(&two, vec![tp(0), tp(1)])]).await;
        assert!(lane.seems_alive(), "it does not know");
        assert!(matches!(one.commit(&lane, at(1)).await, Err(CommitError::Unknown(_))));
        two.commit(&leases(&mut two_events)[0], at(8)).await.unwrap();
        one.set_cut_off(false);
        assert!(matches!(one.commit(&lane, at(1)).await, Err(CommitError::StaleMember(_))));
        assert!(!lane.seems_alive());
        assert_eq!(group.committed(&tp(0)), Some(at(8)));
    }

    #[tokio::test]
    async fn a_static_member_comes_back_to_its_partitions_and_fences_its_older_self() {
        let group = ScriptedGroup::new(Order::default());
        let (first, mut first_events) = group.join(Some("m"));
        group.rebalance(&[(&first, vec![tp(0)])]).await;
        let old = leases(&mut first_events).remove(0);
        let (second, mut second_events) = group.join(Some("m"));
        assert_eq!(first.commit(&old, at(1)).await, Err(CommitError::InstanceFenced));
        second.commit(&leases(&mut second_events)[0], at(2)).await.unwrap();
        assert_eq!(group.accepted().len(), 1);
    }

    #[tokio::test]
    async fn fates_are_as_the_plan_says() {
        let (group, [one, _], [mut events, _]) = two_members().await;
        let lane = leases(&mut events).remove(0);
        group.set_commits(|request| Fate::lost(request.commit.offset == 2));
        for offset in [1, 2] {
            assert!(matches!(one.commit(&lane, at(offset)).await, Err(CommitError::Unknown(_))));
        }
        assert_eq!(group.committed(&tp(0)), Some(at(2)), "one of the two had arrived");
        group.set_commits(|_| Fate::refused(CommitError::RebalanceInProgress));
        assert_eq!(one.commit(&lane, at(3)).await, Err(CommitError::RebalanceInProgress));
        group.set_commits(|_| Fate::refused(CommitError::StaleMember("x".into())));
        assert!(one.commit(&lane, at(3)).await.is_err() && !lane.seems_alive());
        one.renew();
        group.set_commits(|_| Fate::default());
        one.commit(&leases(&mut events)[0], at(3)).await.unwrap();
        group.set_fetches(|_| Some(Error::new(catchment::Code(1), catchment::ErrorKind::Retryable, "no")));
        assert!(one.fetch(&tp(0)).await.is_err());
    }

    #[tokio::test]
    async fn nothing_of_a_crashed_member_is_sent() {
        let (group, [one, _], [mut events, _]) = two_members().await;
        let lane = leases(&mut events).remove(0);
        one.crash();
        assert_eq!(one.commit(&lane, at(1)).await, Err(CommitError::LaneDead));
        assert!(group.accepted().is_empty());
    }
}
