//! The consumer group: membership on a [control thread](super::control), leases for its lanes, commits through the committer.
//!
//! Place in the flow: [`KafkaGroup::join`] gives the pipeline a [`Group`] to commit to, a receiver of [`GroupEvent`]s, and a handle to
//! leave by. The group client behind it fetches nothing (its partitions are paused before they are assigned); records come from
//! the reader clients of the cluster.
//!
//! Guarantees (rule A1): a lease dies before the member answers the rebalance that takes its partition away, and its death waits for a
//! commit under way; after an error that is fatal for the client every lease is dead. A partition whose commit the coordinator refused
//! and that stays assigned gets a new lease, since no callback comes for it.
//!
//! Topics named by a pattern are resolved here, not by librdkafka, so that there is one regular expression syntax; new ones join the
//! subscription within seconds ([`control`](super::control)).

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as K};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::{mpsc, oneshot};

use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::lane::LaneLease;
use crate::source::{CommitError, Committed, Group, GroupEvent, Source, TopicPartition};
use crate::store::BoxFuture;

use super::assignments::Assignments;
use super::client::{Shared, create};
use super::cluster::KafkaCluster;
use super::committer::{Request, Work};
use super::control::Control;
use super::deadline::Deadline;
use super::errors::GROUP_FAILED;
use super::heartbeat::FirstHeartbeat;
use super::membership::{MemberName, Protocol};
use super::native::{self, Row};
use super::slot;
use super::topics::TopicPattern;

/// How long one look-up of a committed offset may take in all: long enough for a connection that swallows requests to be given up.
const FETCH_TIMEOUT: Duration = Duration::from_secs(90);

/// How long one try of it may take. librdkafka waits for a broker to change its state while the coordinator is not known, and may miss that it became
/// known: then nothing wakes it. Shorter: a slow coordinator is asked many times. Longer: a start that has met this stands still for longer.
const FETCH_TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Events that the pipeline has not taken yet, and commits that wait; both are small.
const EVENTS: usize = 64;
const COMMITS: usize = 1_024;

pub(super) type GroupClient = BaseConsumer<GroupContext>;

/// The group client's callbacks. Rebalances are served on the thread that polls: the control thread.
#[derive(Debug)]
pub(crate) struct GroupContext {
    shared: Shared,
    assignments: Arc<Assignments>,
}

impl ClientContext for GroupContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Shared::log(level, facility, message);
    }

    fn stats(&self, _statistics: Statistics) {}

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.shared.error(&error, reason);
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        self.shared.token()
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, client: &BaseConsumer<Self>, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let named: Vec<TopicPartition> =
            native::rows(partitions).into_iter().map(|r| TopicPartition { topic: Arc::from(r.topic), partition: r.partition }).collect();
        let incremental = matches!(client.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let outcome = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(partitions = ?named, incremental, "assigned");
            self.assign(client, named, incremental)
        } else {
            tracing::info!(partitions = ?named, incremental, lost = client.assignment_lost(), "revoked");
            // First the leases, then the answer to the rebalance.
            self.assignments.revoke(&named);
            if incremental { client.incremental_unassign(partitions) } else { client.unassign() }
        };
        if let Err(e) = outcome {
            let error = Error::new(GROUP_FAILED, ErrorKind::Retryable, "the group client cannot follow a rebalance").because(e);
            self.assignments.fail(error);
        }
    }
}

impl GroupContext {
    fn assign(&self, client: &GroupClient, named: Vec<TopicPartition>, incremental: bool) -> Result<(), KafkaError> {
        // An absolute offset, so that librdkafka looks nothing up; the pause keeps it from fetching there.
        let start = Committed { offset: 0, leader_epoch: -1, metadata: String::new() };
        let list = native::list(named.iter().map(|tp| (tp, &start)));
        if let Err(code) = native::pause(client, &list) {
            // It would fetch a little for nothing; its records go nowhere.
            tracing::warn!("the group client cannot pause its partitions: {code}");
        }
        if incremental {
            client.incremental_assign(&list)?;
        } else {
            client.assign(&list)?;
        }
        self.assignments.assign(named);
        Ok(())
    }
}

/// The group as the pipeline commits to it.
pub struct KafkaGroup {
    cluster: Arc<KafkaCluster>,
    client: Arc<GroupClient>,
    work: mpsc::Sender<Work>,
    group_id: String,
}

impl fmt::Debug for KafkaGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaGroup").field("id", &self.group_id).finish_non_exhaustive()
    }
}

/// What joining a group gives.
#[derive(Debug)]
pub struct Joined {
    /// To fetch and commit offsets.
    pub group: Arc<KafkaGroup>,
    /// Assignments, and the end of the client.
    pub events: mpsc::Receiver<GroupEvent>,
    /// To leave.
    pub handle: GroupHandle,
}

/// Keeps the membership alive. Dropping it ends the membership as [`close`](Self::close) does.
#[derive(Debug)]
pub struct GroupHandle {
    /// The static member's name, if it has one.
    pub member: Option<String>,
    ends: Arc<AtomicBool>,
    topics: Option<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
}

impl KafkaGroup {
    /// Joins the group `group_id` as a member of `rule` for `topics`, each a name or a pattern with a leading `^`.
    ///
    /// The first assignment comes as an event. A static member (the default) takes its name from rule, host and slot.
    ///
    /// # Errors
    /// `C0203` for a topic that does not exist, `C0208` for the slot, `C0214` for the membership, and those of the config.
    pub async fn join(cluster: &Arc<KafkaCluster>, rule: &str, group_id: &str, topics: &[String]) -> Result<Joined, Error> {
        let config = cluster.config();
        let membership = config.membership()?;
        let patterns = topics.iter().map(|t| TopicPattern::parse(t)).collect::<Result<Vec<_>, _>>()?;
        let selected = cluster.select(patterns.clone()).await?;
        let slot = match membership.name {
            MemberName::Slot => Some(slot::take(&std::env::temp_dir(), rule, cluster.cluster_id())?),
            MemberName::Given(_) | MemberName::None => None,
        };
        let member = match &membership.name {
            MemberName::Given(name) => Some(name.clone()),
            MemberName::Slot | MemberName::None => slot.as_ref().map(|s| s.name.clone()),
        };
        let group_id = group_id.to_owned();
        let properties = config.group_properties(&group_id, &membership, member.as_deref())?;
        let assignments = Arc::new(Assignments::default());
        let context = GroupContext { shared: cluster.shared(), assignments: Arc::clone(&assignments) };
        let client = Arc::new(create(&properties, context)?);
        let (work, commits) = mpsc::channel(COMMITS);
        let (events, receiver) = mpsc::channel(EVENTS);
        let ends = Arc::new(AtomicBool::new(false));
        let control = Control {
            cluster: Arc::clone(cluster),
            client: Arc::clone(&client),
            assignments,
            work: work.clone(),
            events,
            ends: Arc::clone(&ends),
            joins: (membership.protocol == Protocol::Consumer).then(FirstHeartbeat::awaited),
            committer: None,
            _slot: slot,
        };
        let (control, topics) = control.start(commits, patterns, selected)?;
        let group = Arc::new(Self { cluster: Arc::clone(cluster), client, work, group_id });
        Ok(Joined { group, events: receiver, handle: GroupHandle { member, ends, topics, control: Some(control) } })
    }

    /// The group's id.
    pub fn id(&self) -> &str {
        &self.group_id
    }
}

impl Group for KafkaGroup {
    fn fetch<'a>(&'a self, tp: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Committed>, Error>> {
        Box::pin(async move {
            let (client, asked) = (Arc::clone(&self.client), tp.clone());
            let found = blocking(move || fetch_committed(&client, &asked)).await;
            found.map_err(|code| self.cluster.explain(&format!("fetching the committed offset of {tp} in {}", self.group_id), code))
        })
    }

    fn commit<'a>(&'a self, lane: &'a Arc<LaneLease>, commit: Committed) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(async move {
            let (answer, result) = oneshot::channel();
            let request = Request { lane: Arc::clone(lane), commit, answer };
            // A closed channel means that the committer has ended, and with it every lease.
            self.work.send(Work::Commit(request)).await.map_err(|_| CommitError::LaneDead)?;
            result.await.unwrap_or(Err(CommitError::LaneDead))
        })
    }
}

/// OffsetFetch with require-stable: an offset that a transaction is about to change is waited for.
fn fetch_committed(client: &GroupClient, tp: &TopicPartition) -> Result<Option<Committed>, K> {
    let deadline = Deadline::after(FETCH_TIMEOUT);
    loop {
        let mut list = TopicPartitionList::new();
        list.add_partition(&tp.topic, tp.partition);
        let found = client.committed_offsets(list, deadline.left().clamp(Duration::from_millis(100), FETCH_TRY_TIMEOUT));
        let code = match found.as_ref().map(native::rows) {
            Ok(rows) => match rows.into_iter().next() {
                // Only no error and no offset together mean that there is none.
                Some(row) if row.code == K::NoError => {
                    let Row { offset, leader_epoch, metadata, .. } = row;
                    return Ok((offset >= 0).then_some(Committed { offset, leader_epoch, metadata }));
                }
                Some(row) => row.code,
                None => K::Fail,
            },
            Err(e) => e.rdkafka_error_code().unwrap_or(K::Fail),
        };
        // A time-out may be that of one try, or of one connection on which a request before this one is never answered.
        let passing = matches!(
            code,
            K::UnstableOffsetCommit
                | K::StaleMemberEpoch
                | K::CoordinatorLoadInProgress
                | K::NotCoordinator
                | K::OperationTimedOut
                | K::BrokerTransportFailure
        );
        if !passing || deadline.has_passed() {
            return Err(code);
        }
        crate::clock::block_for(Duration::from_millis(100));
    }
}

impl GroupHandle {
    /// Leaves: kills every lease, answers what is queued, ends the threads, closes the client. Blocks; a commit that librdkafka holds
    /// while the coordinator is away makes it last.
    ///
    /// # Errors
    /// `C0206` if it is not done within `timeout`; the threads go on, and ending the process is safe all the same.
    pub fn close(mut self, timeout: Duration) -> Result<(), Error> {
        self.finish(timeout)
    }

    fn finish(&mut self, timeout: Duration) -> Result<(), Error> {
        self.ends.store(true, Ordering::Release);
        let deadline = Deadline::after(timeout);
        if let Some(topics) = self.topics.take() {
            topics.thread().unpark();
            // Not waited for: it may be in a metadata request, and it only reads.
        }
        let Some(control) = self.control.take() else { return Ok(()) };
        while !control.is_finished() {
            if deadline.has_passed() {
                return Err(Error::new(GROUP_FAILED, ErrorKind::Retryable, "the group client is not closed yet")
                    .because("a commit or a broker's answer is still out"));
            }
            crate::clock::block_for(Duration::from_millis(10));
        }
        let _ = control.join();
        Ok(())
    }
}

impl Drop for GroupHandle {
    fn drop(&mut self) {
        if self.control.is_some() {
            let _ = self.finish(Duration::from_secs(10));
        }
    }
}
