//! Claims: before a lane of a topic first commits, the topic's directory is this rule's, and where its partitions start is written down.
//!
//! One claim a topic and process; lanes of the same topic wait for it. See "No committed offset" in the design notes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::OnceCell;

use crate::commit::control::{self, Owner};
use crate::commit::env::LaneEnv;
use crate::config::{Accept, StartPoint};
use crate::crash::{self, Point};
use crate::error::{Code, Error, ErrorKind, Result, codes};
use crate::intent::{CommitNote, VERSION, note_hash};
use crate::limits::TOPIC_ABSENT_WAIT;
use crate::source::{Source, TopicInfo, TopicPartition};
use crate::store::key::{ControlKeys, TopicName};
use crate::store::{Guard, GuardClass};

/// Topics that are claimed at a time when a rule starts. More would be throttled by a store.
const CLAIMS_IN_FLIGHT_MAX: usize = 64;

/// A topic's directory, and where its partitions start.
#[derive(Clone, Debug)]
pub struct TopicClaim {
    /// The topic as keys name it: with `~` and 8 hex digits of the UUID for a later incarnation.
    pub name: TopicName,
    /// Its control objects.
    pub keys: ControlKeys,
    /// The topic's UUID, or `0`.
    pub topic_id: String,
    /// Hash of the UUID, as notes carry it.
    pub topic_hash: String,
    /// Whether this is not the topic's first incarnation here.
    pub is_later_incarnation: bool,
    /// The owner record as it stood when the claim was made. Partitions that are absent from its start vector start at their earliest offset.
    pub owner: Owner,
}

impl TopicClaim {
    /// Whether a record that stands now is this claim's.
    pub fn is_owned_by(&self, standing: &Owner) -> bool {
        standing.is_same_deployment(&self.owner) && !standing.released
    }

    /// Whether an anchor was written for this incarnation.
    pub fn is_same_topic(&self, topic_id: &str) -> bool {
        self.topic_id == topic_id || self.topic_id == "0" || topic_id == "0"
    }
}

type ClaimCell = Arc<OnceCell<TopicClaim>>;

/// All claims of a rule in this process.
#[derive(Debug)]
pub struct TopicClaims {
    start: StartPoint,
    /// Topics that existed when the rule was started; others start at their earliest offset, whatever `start` says.
    first: Mutex<Vec<String>>,
    cells: Mutex<HashMap<Arc<str>, ClaimCell>>,
    /// Topics that the cluster did not know when it was last asked, and since when.
    absent: Mutex<HashMap<String, Duration>>,
    /// When each topic's UUID was last asked for, and what it was.
    identities: tokio::sync::Mutex<HashMap<Arc<str>, (Duration, String)>>,
}

impl TopicClaims {
    /// Claims that start new topics at `start`, with relative times resolved.
    pub fn new(start: StartPoint, first: Vec<String>) -> Self {
        Self {
            start,
            first: Mutex::new(first),
            cells: Mutex::default(),
            absent: Mutex::default(),
            identities: tokio::sync::Mutex::default(),
        }
    }

    /// The claim of a partition's topic, made now if this is the first lane of it.
    ///
    /// # Errors
    /// If the topic is gone, the directory is somebody else's, or the topic was created again and nobody accepted that.
    pub async fn claim(&self, env: &LaneEnv, tp: &TopicPartition) -> Result<TopicClaim> {
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(Arc::clone(&tp.topic)).or_default())
        };
        let claim = cell.get_or_try_init(|| self.make(env, &tp.topic)).await?.clone();
        // A topic may be created again while this process runs; its UUID is asked for at every assignment.
        let info = self.describe(env, &tp.topic).await?;
        if !claim.is_same_topic(&info.id) {
            // The store has permitted a claim of this topic before: credentials that have expired come back, and do not stop the lane.
            return self.make(env, &tp.topic).await.map_err(|e| match e.kind {
                ErrorKind::Denied => Error { kind: ErrorKind::Retryable, ..e },
                _ => e,
            });
        }
        Ok(claim)
    }

    /// The topic's UUID as the cluster names it, asked for no earlier than `since` on the steady clock. Lanes that close windows at the
    /// same time share one question.
    ///
    /// # Errors
    /// If the topic is gone or the cluster does not answer.
    pub async fn identity(&self, env: &LaneEnv, topic: &Arc<str>, since: Duration) -> Result<String> {
        let mut identities = self.identities.lock().await;
        if let Some((_, id)) = identities.get(topic).filter(|(at, _)| *at >= since) {
            return Ok(id.clone());
        }
        let asked = env.clock.steady();
        let id = self.describe(env, topic).await?.id;
        identities.insert(Arc::clone(topic), (asked, id.clone()));
        Ok(id)
    }

    /// Claims every topic that matches when the rule starts, so that all of them start where `start` says. Side by side: without an atomic guard each
    /// claim must stand for seconds before it counts, and a rule may have thousands of topics.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), of the first topic that has one. The others are claimed all the same: a claim that is broken off may stand.
    pub async fn claim_all(&self, env: &LaneEnv, topics: &[String]) -> Result<()> {
        // Boxed, since the compiler cannot tell that a stream of unnamed futures may change threads.
        let claims: Vec<BoxFuture<'_, _>> = topics.iter().map(|topic| self.claim_topic(env, topic).boxed()).collect();
        stream::iter(claims).buffered(CLAIMS_IN_FLIGHT_MAX).collect::<Vec<_>>().await.into_iter().collect()
    }

    async fn claim_topic(&self, env: &LaneEnv, topic: &str) -> Result<()> {
        let tp = TopicPartition { topic: Arc::from(topic), partition: 0 };
        self.claim(env, &tp).await.map(drop)
    }

    /// Asks for a topic. A broker that has just started may not know it yet: only one that stays unknown is gone.
    async fn describe(&self, env: &LaneEnv, topic: &str) -> Result<TopicInfo> {
        let found = env.source.topic(topic).await?;
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(info) = found {
            absent.remove(topic);
            return Ok(info);
        }
        let now = env.clock.steady();
        let since = *absent.entry(topic.to_owned()).or_insert(now);
        let kind = if now.saturating_sub(since) < TOPIC_ABSENT_WAIT { ErrorKind::Retryable } else { ErrorKind::NotFound };
        Err(Error::new(Code(222), kind, "the topic does not exist")
            .with("topic", topic)
            .help("check the name, or list the topics with your Kafka tools; a regular expression begins with ^"))
    }

    async fn make(&self, env: &LaneEnv, topic: &str) -> Result<TopicClaim> {
        let info = self.describe(env, topic).await?;
        let name = TopicName::new(topic);
        let keys = ControlKeys::new(&env.rule.layout, &name);
        env.rule.layout.check_length(&name, &env.store.limits())?;
        let wanted = Owner {
            v: VERSION,
            rule: env.rule.name.clone(),
            group: env.rule.group.clone(),
            cluster: env.source.cluster_id().to_owned(),
            topic: topic.to_owned(),
            topic_id: info.id.clone(),
            start: BTreeMap::new(),
            released: false,
        };
        let standing: Option<Owner> = control::read(&*env.store, &keys.owner()).await?;
        match standing {
            Some(owner) if !owner.released && !owner.is_same_deployment(&wanted) => Err(control::foreign_owner(&*env.store, &keys, &owner)),
            Some(owner) if owner.is_same_deployment(&wanted) && !owner.is_same_topic(&info.id) => {
                self.later_incarnation(env, &info, wanted).await
            }
            Some(owner) if !owner.released => Ok(claim_of(name, keys, &info, owner, false)),
            // It was given up by this very rule, which is back: its objects stand here, and begin where they began.
            Some(owner) if owner.is_same_deployment(&wanted) => {
                self.write_claim(env, name, &info, Owner { released: false, ..owner }, false, false).await
            }
            released => {
                let start = self.start_vector(env, &info).await?;
                let owner = Owner { start, ..wanted };
                self.write_claim(env, name, &info, owner, released.is_none(), false).await
            }
        }
    }

    async fn later_incarnation(&self, env: &LaneEnv, info: &TopicInfo, wanted: Owner) -> Result<TopicClaim> {
        let name = TopicName::later(&info.name, &info.id);
        let keys = ControlKeys::new(&env.rule.layout, &name);
        let standing: Option<Owner> = control::read(&*env.store, &keys.owner()).await?;
        match standing {
            Some(owner) if owner.is_same_deployment(&wanted) && owner.is_same_topic(&info.id) => match owner.released {
                false => Ok(claim_of(name, keys, info, owner, true)),
                true => self.write_claim(env, name, info, Owner { released: false, ..owner }, false, true).await,
            },
            Some(owner) => Err(control::foreign_owner(&*env.store, &keys, &owner)),
            None if env.rule.accepts(Accept::TopicRecreated) => {
                let start = start_vector(&*env.source, info, &StartPoint::Earliest).await?;
                self.write_claim(env, name, info, Owner { start, ..wanted }, true, true).await
            }
            None => Err(topic_recreated(info)),
        }
    }

    async fn write_claim(
        &self,
        env: &LaneEnv,
        name: TopicName,
        info: &TopicInfo,
        owner: Owner,
        is_new: bool,
        later: bool,
    ) -> Result<TopicClaim> {
        let guard = if is_new { env.rule.guard() } else { Guard::Overwrite };
        let atomic = env.rule.classes.put == GuardClass::A;
        let keys = ControlKeys::new(&env.rule.layout, &name);
        crash::point(Point::BeforeClaim);
        let standing = control::claim(&*env.store, &*env.clock, &keys, &owner, guard, atomic).await?;
        crash::point(Point::AfterClaim);
        if !standing.is_same_deployment(&owner) || !standing.is_same_topic(&info.id) {
            return Err(control::foreign_owner(&*env.store, &keys, &standing));
        }
        Ok(claim_of(name, keys, info, standing, later))
    }

    /// Where the partitions of a topic start that nobody has claimed in this store.
    async fn start_vector(&self, env: &LaneEnv, info: &TopicInfo) -> Result<BTreeMap<i32, i64>> {
        let committed = committed_starts(env, info).await?;
        if !committed.is_empty() {
            // The rule has written elsewhere; here it goes on where it stood.
            return Ok(committed);
        }
        let is_first = self.first.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|t| **t == *info.name);
        let start = if is_first { &self.start } else { &StartPoint::Earliest };
        start_vector(&*env.source, info, start).await
    }
}

/// The S of every partition that the group knows by notes of ours for another destination.
async fn committed_starts(env: &LaneEnv, info: &TopicInfo) -> Result<BTreeMap<i32, i64>> {
    let mut starts = BTreeMap::new();
    let topic_hash = note_hash(&info.id);
    for partition in 0..info.partitions {
        let tp = TopicPartition { topic: Arc::clone(&info.name), partition };
        let Some(committed) = env.group.fetch(&tp).await? else { continue };
        if let Ok(note) = CommitNote::parse(&committed.metadata)
            && note.topic_hash() == topic_hash
            && note.destination_hash() != env.rule.destination_hash
        {
            // Asked before the claim is written: its start vector would be wrong ever after.
            env.rule.check_destination(&note)?;
            starts.insert(partition, note.start());
        }
    }
    Ok(starts)
}

/// Where the partitions of a topic start by `start`, with relative times resolved.
///
/// # Errors
/// `C0429` for an offset behind its partition's end, or if the cluster does not answer.
pub(crate) async fn start_vector(source: &dyn Source, info: &TopicInfo, start: &StartPoint) -> Result<BTreeMap<i32, i64>> {
    let partitions: Vec<_> = (0..info.partitions).map(|partition| TopicPartition { topic: Arc::clone(&info.name), partition }).collect();
    let mut vector = BTreeMap::new();
    let mut bounds = Vec::new();
    for tp in &partitions {
        bounds.push(source.bounds(tp).await?);
    }
    // The extent is taken before the look-up by time: a record that arrives in between is then behind the end, not lost.
    let by_time = match start {
        StartPoint::Time(ms) => source.offsets_for_time(&partitions, *ms).await?,
        _ => vec![None; partitions.len()],
    };
    for ((tp, bounds), found) in partitions.iter().zip(&bounds).zip(by_time) {
        let offset = match start {
            StartPoint::Earliest => Some(bounds.start),
            StartPoint::Latest => Some(bounds.stable_end),
            StartPoint::Time(_) => Some(found.unwrap_or(bounds.stable_end).min(bounds.stable_end).max(bounds.start)),
            StartPoint::Ago(_) => unreachable!("relative times are resolved when the run begins"),
            StartPoint::Offset(offset) => Some(*offset),
            StartPoint::Offsets(offsets) => offsets.get(&tp.partition).copied(),
        };
        if let Some(offset) = offset {
            if offset > bounds.end {
                return Err(start_beyond_end(tp, offset, bounds.end));
            }
            vector.insert(tp.partition, offset);
        }
    }
    Ok(vector)
}

/// The question that a topic asks whose directory holds an earlier incarnation.
pub(crate) fn topic_recreated(info: &TopicInfo) -> Error {
    Error::new(codes::TOPIC_RECREATED, ErrorKind::Asks, "the topic was deleted and created again")
        .with("topic", &info.name)
        .with("topic_id", &info.id)
        .help("to back up the new topic beside the old one, start once with --accept topic-recreated")
}

fn start_beyond_end(tp: &TopicPartition, start: i64, log_end: i64) -> Error {
    Error::new(Code(429), ErrorKind::Invalid, "the start lies behind the partition's end")
        .with("topic", &tp.topic)
        .with("partition", tp.partition)
        .with("start", start)
        .with("log_end", log_end)
        .help("choose an offset that the partition has, or latest")
}

fn claim_of(name: TopicName, keys: ControlKeys, info: &TopicInfo, owner: Owner, later: bool) -> TopicClaim {
    TopicClaim { name, keys, topic_id: info.id.clone(), topic_hash: note_hash(&info.id), is_later_incarnation: later, owner }
}
