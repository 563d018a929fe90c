//! The committer: the only thread that commits offsets, and the fence of the commit protocol (rule A1).
//!
//! It takes what is queued, drops requests of dead lanes, locks the living ones, and sends one OffsetCommit for all of them. The locks
//! are held until librdkafka has given the commit back, however long it holds it: it may defer a commit while the coordinator is
//! away and send it later with the generation it has by then, so a lane must not be revoked meanwhile.
//!
//! Locks are taken in the order of topic and partition; whoever kills a lane takes one lock at a time, so the two never deadlock.

use std::collections::VecDeque;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as K;
use tokio::sync::{mpsc, oneshot};

use crate::lane::{AliveGuard, LaneLease};
use crate::source::{CommitError, Committed};

use super::assignments::Assignments;
use super::errors::is_login;
use super::group::GroupContext;
use super::native;

/// Commits in one request. More: the reply of a coordinator that is slow holds more lanes up. Fewer: more round trips at a window's end.
const BATCH: usize = 256;

/// One lane's commit.
pub(crate) struct Request {
    pub(crate) lane: Arc<LaneLease>,
    pub(crate) commit: Committed,
    pub(crate) answer: oneshot::Sender<Result<(), CommitError>>,
}

/// What the committer is asked to do.
pub(crate) enum Work {
    Commit(Request),
    /// Answer what is queued and end. All leases are dead by then.
    End,
}

/// Runs until told to end. What is still queued then is answered as dead.
pub(crate) fn run(client: &BaseConsumer<GroupContext>, assignments: &Assignments, mut work: mpsc::Receiver<Work>) {
    let mut waiting: VecDeque<Request> = VecDeque::new();
    while let Some(first) = work.blocking_recv() {
        let mut ends = false;
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Work::Commit(request) => waiting.push_back(request),
                Work::End => ends = true,
            }
            next = if waiting.len() < BATCH { work.try_recv().ok() } else { None };
        }
        while !waiting.is_empty() {
            round(client, assignments, take_round(&mut waiting));
        }
        if ends {
            work.close();
        }
    }
}

/// The first request of each partition, in the order in which locks are taken. A second one of the same partition waits: it must
/// be sent after the first, and a lane's lock cannot be taken twice.
fn take_round(waiting: &mut VecDeque<Request>) -> Vec<Request> {
    let mut taken: Vec<Request> = Vec::new();
    let mut left = VecDeque::new();
    for request in waiting.drain(..) {
        if taken.iter().any(|t| t.lane.tp == request.lane.tp) {
            left.push_back(request);
        } else {
            taken.push(request);
        }
    }
    *waiting = left;
    taken.sort_by(|a, b| a.lane.tp.cmp(&b.lane.tp));
    taken
}

fn round(client: &BaseConsumer<GroupContext>, assignments: &Assignments, requests: Vec<Request>) {
    let results: Vec<Result<(), CommitError>> = {
        let guards: Vec<Option<AliveGuard<'_>>> = requests.iter().map(|r| r.lane.lock()).collect();
        let living: Vec<&Request> = requests.iter().zip(&guards).filter(|(_, g)| g.is_some()).map(|(r, _)| r).collect();
        let mut sent = send(client, &living).into_iter();
        guards
            .iter()
            .map(|g| if g.is_some() { sent.next().unwrap_or(Err(CommitError::LaneDead)) } else { Err(CommitError::LaneDead) })
            .collect()
    };
    for (request, result) in requests.into_iter().zip(results) {
        if matches!(result, Err(CommitError::StaleMember(_) | CommitError::InstanceFenced)) {
            assignments.refuse(&request.lane);
        }
        // Nobody waits any more if the pipeline dropped its future; the commit stands all the same.
        let _ = request.answer.send(result);
    }
}

/// Sends the commits of lanes whose locks are held.
fn send(client: &BaseConsumer<GroupContext>, living: &[&Request]) -> Vec<Result<(), CommitError>> {
    if living.is_empty() {
        return Vec::new();
    }
    if let Some(refusal) = not_a_member(client) {
        return living.iter().map(|_| Err(refusal.clone())).collect();
    }
    let entry = |r: &&Request| -> (crate::source::TopicPartition, Committed) { (r.lane.tp.clone(), r.commit.clone()) };
    let entries: Vec<_> = living.iter().map(entry).collect();
    let entries: Vec<_> = entries.iter().map(|(tp, commit)| (tp, commit)).collect();
    let mut codes = native::commit(client, &entries);
    if entries.len() > 1 && codes.iter().any(|c| is_of_one_partition(*c)) {
        // librdkafka gives one partition's error to all; the same commits again, one by one, tell them apart.
        codes = entries.iter().map(|e| native::commit(client, std::slice::from_ref(e))[0]).collect();
    }
    let fenced = client.client().fatal_error().is_some_and(|(code, _)| code == K::FencedInstanceId);
    codes.into_iter().map(|code| result_of(code, fenced)).collect()
}

/// A client that has lost its membership would commit without one (generation -1), and a coordinator takes that from anybody while
/// the group is empty. So nothing is sent then.
fn not_a_member(client: &BaseConsumer<GroupContext>) -> Option<CommitError> {
    match native::generation(client) {
        Some((generation, member)) if generation >= 0 && !member.is_empty() => None,
        _ => Some(CommitError::StaleMember("the client is not a member of the group".into())),
    }
}

/// Errors that say something about one partition, not about the request.
fn is_of_one_partition(code: K) -> bool {
    matches!(
        code,
        K::OffsetMetadataTooLarge
            | K::InvalidCommitOffsetSize
            | K::UnknownTopicOrPartition
            | K::TopicAuthorizationFailed
            | K::UnknownTopicId
    )
}

fn result_of(code: K, fenced: bool) -> Result<(), CommitError> {
    match code {
        K::NoError => Ok(()),
        K::FencedInstanceId => Err(CommitError::InstanceFenced),
        K::Fatal | K::Fenced if fenced => Err(CommitError::InstanceFenced),
        K::IllegalGeneration | K::UnknownMemberId | K::StaleMemberEpoch | K::FencedMemberEpoch => {
            Err(CommitError::StaleMember(code.to_string()))
        }
        K::RebalanceInProgress => Err(CommitError::RebalanceInProgress),
        K::OffsetMetadataTooLarge | K::InvalidCommitOffsetSize => Err(CommitError::MetadataTooLarge),
        _ if leaves_unknown(code) => Err(CommitError::Unknown(code.to_string())),
        _ => Err(CommitError::Refused(code.to_string())),
    }
}

/// Codes of a commit that the coordinator may have taken or not: those of a coordinator that is away, and those of the connection. librdkafka gives
/// a request that was on its way or in a queue the reason for which its connection fell, or did not come up again, and that may be a login.
fn leaves_unknown(code: K) -> bool {
    let of_coordinator = matches!(
        code,
        K::RequestTimedOut
            | K::NetworkException
            | K::WaitingForCoordinator
            | K::NotCoordinator
            | K::CoordinatorNotAvailable
            | K::CoordinatorLoadInProgress
    );
    let of_connection =
        is_login(code) || matches!(code, K::BrokerTransportFailure | K::AllBrokersDown | K::Resolve | K::BadMessage | K::Underflow);
    let of_client = matches!(
        code,
        K::OperationTimedOut
            | K::TimedOutQueue
            | K::BrokerDestroy
            | K::DestroyBroker
            | K::InProgress
            | K::Outdated
            | K::PurgeQueue
            | K::PurgeInflight
            | K::Retry
    );
    of_coordinator || of_connection || of_client
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::TopicPartition;

    fn request(partition: i32, offset: i64) -> Request {
        let tp = TopicPartition { topic: Arc::from("t"), partition };
        let commit = Committed { offset, leader_epoch: -1, metadata: String::new() };
        Request { lane: Arc::new(LaneLease::new(tp, 1)), commit, answer: oneshot::channel().0 }
    }

    #[test]
    fn a_round_has_one_commit_of_a_partition_in_lock_order() {
        let mut waiting: VecDeque<_> = [request(2, 1), request(1, 1), request(2, 2), request(2, 3)].into();
        let offsets = |round: Vec<Request>| round.iter().map(|r| (r.lane.tp.partition, r.commit.offset)).collect::<Vec<_>>();
        assert_eq!(offsets(take_round(&mut waiting)), [(1, 1), (2, 1)]);
        assert_eq!(offsets(take_round(&mut waiting)), [(2, 2)]);
        assert_eq!(offsets(take_round(&mut waiting)), [(2, 3)]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn codes_become_what_the_protocol_decides_on() {
        assert_eq!(result_of(K::NoError, false), Ok(()));
        for code in [K::IllegalGeneration, K::UnknownMemberId, K::StaleMemberEpoch] {
            assert!(matches!(result_of(code, false), Err(CommitError::StaleMember(_))), "{code:?}");
        }
        assert_eq!(result_of(K::RebalanceInProgress, false), Err(CommitError::RebalanceInProgress));
        assert_eq!(result_of(K::FencedInstanceId, false), Err(CommitError::InstanceFenced));
        assert_eq!(result_of(K::Fatal, true), Err(CommitError::InstanceFenced));
        assert!(matches!(result_of(K::Fatal, false), Err(CommitError::Refused(_))));
        assert_eq!(result_of(K::OffsetMetadataTooLarge, false), Err(CommitError::MetadataTooLarge));
        assert!(matches!(result_of(K::OperationTimedOut, false), Err(CommitError::Unknown(_))));
        for code in
            [K::GroupAuthorizationFailed, K::TopicAuthorizationFailed, K::NoOffset, K::InvalidArgument, K::Fail, K::CriticalSystemResource]
        {
            assert!(matches!(result_of(code, false), Err(CommitError::Refused(_))), "{code:?}");
        }
    }

    #[test]
    fn a_connection_that_does_not_come_up_again_says_nothing_of_the_commit() {
        for code in [
            K::BrokerTransportFailure,
            K::Authentication,
            K::SaslAuthenticationFailed,
            K::IllegalSASLState,
            K::SSL,
            K::Resolve,
            K::Underflow,
        ] {
            assert!(matches!(result_of(code, false), Err(CommitError::Unknown(_))), "{code:?}");
        }
    }
}
