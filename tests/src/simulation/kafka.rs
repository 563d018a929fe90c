//! Kafka as a process of the simulation sees it: commits and questions that fail, and an edge at which the process can be frozen.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catchment::intent::CommitNote;
use catchment::lane::LaneLease;
use catchment::source::{CommitError, Committed, Group, LogBounds, PartitionQueue, Source, TopicInfo, TopicPartition, Wake};
use catchment::store::BoxFuture;
use catchment::{Code, Error, ErrorKind};

use super::faults::Fault;
use super::vitals::Vitals;
use super::world::World;
use crate::gate::Gate;
use crate::scripted::cluster::ScriptedCluster;
use crate::scripted::group::{Fate, MemberId, ScriptedGroup};
use crate::scripted::log::Met;
use crate::scripted::member::{Member, OUT_OF_REACH};

/// Faults of commits that their senders have not felt yet. A lane waits for one commit at a time.
pub type Pending = Arc<Mutex<BTreeMap<(MemberId, TopicPartition), Fault>>>;

/// What tells an error of the simulation's from all others.
const WANTED: &str = "as the simulation wants it";

fn passing(what: &str) -> Error {
    Error::new(Code(222), ErrorKind::Retryable, format!("{what} failed, {WANTED}"))
}

fn is_wanted(error: &Error) -> bool {
    error.to_string().contains(WANTED)
}

/// Lets commits, look-ups and questions fail as the world's plan says.
pub fn trouble(world: &Arc<World>, group: &Arc<ScriptedGroup>, cluster: &Arc<ScriptedCluster>) -> Pending {
    let pending = Pending::default();
    let (of, noted) = (Arc::clone(world), Arc::clone(&pending));
    group.set_commits(move |request| {
        let (fate, fault) = fate(&of);
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(fault) => noted.insert((request.member, request.tp.clone()), fault),
            None => noted.remove(&(request.member, request.tp.clone())),
        };
        fate
    });
    let of = Arc::clone(world);
    group.set_arrivals(move |request, answer, is_awaited| {
        of.trace(format_args!("m{} commit of {} arrived: {answer:?}", request.member, request.tp));
        if answer.is_ok() && !is_awaited {
            of.feel(Fault::CommitOfTheDead);
        }
    });
    let of = Arc::clone(world);
    group.set_fetches(move |_| {
        of.strikes(of.plan.kafka_faults / 2).then(|| {
            of.feel(Fault::FetchFailed);
            passing("an OffsetFetch")
        })
    });
    let of = Arc::clone(world);
    cluster.set_watch(move |met| match met {
        Met::Corrupt { for_good: true } => of.feel(Fault::CorruptBatch),
        Met::Corrupt { for_good: false } => of.feel(Fault::CorruptOnce),
        Met::Compacted => of.feel(Fault::Compaction),
        Met::Broken { process, partition } => of.note_broken(process, partition),
    });
    let of = Arc::clone(world);
    // Felt by who has asked: a queue that cannot be opened is a broken one.
    cluster.set_plan(move |_| of.strikes(of.plan.kafka_faults / 4).then(|| passing("a question")));
    pending
}

fn opens_after(span: Duration) -> Gate {
    let gate = Gate::default();
    let opened = gate.clone();
    tokio::spawn(async move {
        tokio::time::sleep(span).await;
        opened.open();
    });
    gate
}

fn fate(world: &World) -> (Fate, Option<Fault>) {
    let between = |low, high| world.between(Duration::from_millis(low), Duration::from_millis(high));
    // The way there, and the way back behind it.
    let by = |way: Duration, back: Duration| (Some(opens_after(way)), Some(opens_after(way + back)));
    let (way, back) = (between(1, 30), between(1, 30));
    if !world.strikes(world.plan.kafka_faults) {
        let (travels, answered) = by(way, back);
        return (Fate { travels, answered, ..Fate::default() }, None);
    }
    let slow = || between(500, 20_000);
    match world.below(5) {
        0 => (Fate { answered: Some(opens_after(slow())), ..Fate::lost(false) }, Some(Fault::CommitLost)),
        1 => {
            let (travels, answered) = by(way, slow());
            (Fate { travels, answered, ..Fate::lost(true) }, Some(Fault::CommitAnswerLost))
        }
        2 => (Fate { held: Some(opens_after(slow())), ..Fate::default() }, Some(Fault::CommitHeld)),
        3 => {
            let (travels, answered) = by(slow(), back);
            (Fate { travels, answered, ..Fate::default() }, Some(Fault::CommitDelayed))
        }
        _ => (
            Fate { answered: Some(opens_after(back)), ..Fate::refused(CommitError::RebalanceInProgress) },
            Some(Fault::RebalanceInProgress),
        ),
    }
}

/// The group as one process sees it.
pub struct SimulatedGroup {
    /// The client.
    pub member: Arc<Member>,
    /// The trace.
    pub world: Arc<World>,
    /// The process.
    pub vitals: Vitals,
    /// Faults not felt yet.
    pub pending: Pending,
}

impl fmt::Debug for SimulatedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedGroup({})", self.member.id())
    }
}

impl SimulatedGroup {
    /// A commit that does not reach the coordinator shows a process that it is cut off; one that is refused, that it was away for too long.
    fn notice_absence(&self, result: &Result<(), CommitError>) {
        let felt = match result {
            Err(CommitError::Unknown(why)) if why == OUT_OF_REACH => self.vitals.notices_cut_off().then_some(Fault::CutOff),
            Err(CommitError::StaleMember(_) | CommitError::InstanceFenced) => self.vitals.take_absence(),
            _ => None,
        };
        if let Some(fault) = felt {
            self.world.feel(fault);
        }
    }

    /// The way there, or back.
    async fn travel(&self) {
        tokio::time::sleep(self.world.between(Duration::from_millis(1), Duration::from_millis(15))).await;
    }
}

impl Group for SimulatedGroup {
    fn fetch<'a>(&'a self, tp: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Committed>, Error>> {
        Box::pin(async move {
            self.vitals.thawed().await;
            let _under_way = self.vitals.begin("OffsetFetch");
            self.world.trace(format_args!("m{} fetches {tp}", self.member.id()));
            self.travel().await;
            let found = self.member.fetch(tp).await;
            self.travel().await;
            self.vitals.thawed().await;
            self.world.trace(format_args!("m{} fetched {tp}: {found:?}", self.member.id()));
            if let Ok(found) = &found {
                let met = self.world.unmet(|unmet| unmet.fetched(tp, found.is_some()));
                met.into_iter().for_each(|fault| self.world.feel(fault));
            }
            found
        })
    }

    fn commit<'a>(&'a self, lane: &'a Arc<LaneLease>, commit: Committed) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(async move {
            self.vitals.thawed().await;
            let _under_way = self.vitals.begin("OffsetCommit");
            let what = format!("{} at {} {}", lane.tp, commit.offset, commit.metadata);
            self.world.trace(format_args!("m{} commits {what}", self.member.id()));
            let note = CommitNote::parse(&commit.metadata);
            if let Ok(CommitNote::Intent(intent)) = &note {
                self.world.uploads(|book| intent.upload_id().into_iter().for_each(|id| book.name(id)));
            }
            let result = self.member.commit(lane, commit).await;
            self.vitals.thawed().await;
            self.world.trace(format_args!("m{} committed {what}: {result:?}", self.member.id()));
            if let (Ok(()), Ok(note)) = (&result, note) {
                self.world.note_commit(note.topic_hash());
            }
            let fault = self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&(self.member.id(), lane.tp.clone()));
            // What never got away was not delayed.
            if let Some(fault) = fault.filter(|fault| *fault != Fault::CommitDelayed || result.is_ok()) {
                self.world.feel(fault);
            }
            self.notice_absence(&result);
            result
        })
    }
}

/// The cluster as one process sees it.
#[derive(Debug)]
pub struct SimulatedSource {
    /// The cluster.
    pub cluster: Arc<ScriptedCluster>,
    /// Number of the process's life: a process that starts again opens queues of its own.
    pub life: u64,
    /// The process.
    pub vitals: Vitals,
    /// Who feels what fails.
    pub world: Arc<World>,
}

impl SimulatedSource {
    /// The answer to a question that somebody waits for.
    fn answered<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if answer.as_ref().is_err_and(is_wanted) {
            self.world.feel(Fault::QuestionFailed);
        }
        answer
    }
}

impl Source for SimulatedSource {
    fn cluster_id(&self) -> &str {
        self.cluster.cluster_id()
    }

    fn open(&self, tp: &TopicPartition, offset: i64, leader_epoch: i32, wake: Wake) -> Result<Box<dyn PartitionQueue>, Error> {
        let opened = self.cluster.open_as(self.life, tp, offset, leader_epoch, wake);
        match &opened {
            Ok(_) => self.world.note_opened(self.life, tp.partition),
            Err(_) => self.world.note_broken(self.life, tp.partition),
        }
        opened
    }

    fn expect_partitions(&self, partitions: usize) {
        self.cluster.expect_partitions(partitions);
    }

    fn bounds<'a>(&'a self, tp: &'a TopicPartition) -> BoxFuture<'a, Result<LogBounds, Error>> {
        Box::pin(async move {
            self.vitals.thawed().await;
            self.answered(self.cluster.bounds(tp).await)
        })
    }

    fn offsets_for_time<'a>(&'a self, tps: &'a [TopicPartition], timestamp_ms: i64) -> BoxFuture<'a, Result<Vec<Option<i64>>, Error>> {
        Box::pin(async move {
            self.vitals.thawed().await;
            self.answered(self.cluster.offsets_for_time(tps, timestamp_ms).await)
        })
    }

    fn topic<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<TopicInfo>, Error>> {
        Box::pin(async move {
            self.vitals.thawed().await;
            self.answered(self.cluster.topic(name).await)
        })
    }

    fn is_compacted<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<bool>, Error>> {
        self.cluster.is_compacted(topic)
    }

    fn topics<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        self.cluster.topics(pattern)
    }
}
