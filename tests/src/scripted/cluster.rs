//! A cluster as the engine reads it: topics of scripted logs, and faults of every question that the engine may ask.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use catchment::source::{LogBounds, PartitionQueue, QueueFault, Source, TopicInfo, TopicPartition, Wake};
use catchment::store::BoxFuture;
use catchment::{Code, Error, ErrorKind};
use catchment_formats::OffsetRange;

use super::log::{Met, PartitionLog, Shape};
use super::queue::ScriptedQueue;
use crate::generate::Rng;
use crate::oracle::Truth;

/// A question of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A queue is opened at this offset.
    Open(TopicPartition, i64),
    /// A partition's extent.
    Bounds(TopicPartition),
    /// A topic's description.
    Topic(String),
    /// The first offset of a time.
    OffsetsForTime,
}

/// Decides which questions fail.
pub type SourcePlan = Arc<dyn Fn(&Question) -> Option<Error> + Send + Sync>;

/// Is told what readers meet. Called with the cluster locked.
pub type Watch = Arc<dyn Fn(Met) + Send + Sync>;

/// A partition, its log, and who reads it.
pub(super) struct Partition {
    pub(super) log: PartitionLog,
    /// Faults that the reader meets next.
    pub(super) faults: VecDeque<QueueFault>,
    /// By process: the number of the opening that may read, and whom to wake.
    pub(super) readers: BTreeMap<u64, (u64, Wake)>,
}

impl Partition {
    /// Whoever reads it, to be woken outside the lock.
    fn wakes(&self) -> Vec<Wake> {
        self.readers.values().map(|(_, wake)| Arc::clone(wake)).collect()
    }
}

struct Topic {
    id: String,
    partitions: Vec<Partition>,
}

/// What the cluster holds.
pub(super) struct State {
    topics: BTreeMap<Arc<str>, Topic>,
    /// Topics that were ever made; numbers incarnations.
    made: u64,
    openings: u64,
    pub(super) watch: Watch,
    /// Whether readers are told that they have reached an end.
    pub(super) tells_ends: bool,
}

impl Default for State {
    fn default() -> Self {
        Self { topics: BTreeMap::new(), made: 0, openings: 0, watch: Arc::new(|_| ()), tells_ends: true }
    }
}

impl State {
    pub(super) fn partition(&mut self, tp: &TopicPartition) -> Option<&mut Partition> {
        self.topics.get_mut(&tp.topic)?.partitions.get_mut(usize::try_from(tp.partition).ok()?)
    }
}

/// A cluster without brokers.
pub struct ScriptedCluster {
    id: String,
    seed: u64,
    state: Arc<Mutex<State>>,
    plan: RwLock<SourcePlan>,
}

impl fmt::Debug for ScriptedCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScriptedCluster({})", self.id)
    }
}

impl ScriptedCluster {
    /// A cluster without topics.
    pub fn new(seed: u64) -> Self {
        Self { id: format!("scripted-{seed:x}"), seed, state: Arc::default(), plan: RwLock::new(Arc::new(|_| None)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a topic, or makes it again: with another id and other records at the same offsets.
    pub fn create(&self, topic: &str, partitions: i32, shape: &Shape) {
        let name: Arc<str> = Arc::from(topic);
        let mut state = self.state();
        let incarnation = state.made;
        state.made += 1;
        let seed = self.seed.wrapping_add(incarnation << 32);
        let log = |partition| PartitionLog::new(seed, &name, partition, shape.clone());
        let partition = |n| Partition { log: log(n), faults: VecDeque::new(), readers: BTreeMap::new() };
        let topic = Topic {
            id: format!("{:016x}{:016x}", Rng::new(self.seed ^ incarnation << 40).next_u64(), self.seed),
            partitions: (0..partitions).map(partition).collect(),
        };
        state.topics.insert(name, topic);
    }

    /// Deletes a topic.
    pub fn delete(&self, topic: &str) {
        let gone = self.state().topics.remove(topic);
        gone.iter().flat_map(|t| &t.partitions).flat_map(Partition::wakes).for_each(|wake| wake());
    }

    /// Changes a partition's log and wakes its reader.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn change<T>(&self, tp: &TopicPartition, change: impl FnOnce(&mut PartitionLog) -> T) -> T {
        let (result, wakes) = {
            let mut state = self.state();
            let partition = state.partition(tp).unwrap_or_else(|| panic!("no partition {tp}"));
            (change(&mut partition.log), partition.wakes())
        };
        // Outside the lock: whoever is woken may come right back.
        wakes.iter().for_each(|wake| wake());
        result
    }

    /// Looks at a partition's log.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn look<T>(&self, tp: &TopicPartition, look: impl FnOnce(&PartitionLog) -> T) -> T {
        look(&self.state().partition(tp).unwrap_or_else(|| panic!("no partition {tp}")).log)
    }

    /// The reader of a partition meets this fault next.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn fault(&self, tp: &TopicPartition, fault: QueueFault) {
        self.state().partition(tp).unwrap_or_else(|| panic!("no partition {tp}")).faults.push_back(fault);
        self.change(tp, |_| ());
    }

    /// Decides about every question from now on.
    pub fn set_plan(&self, plan: impl Fn(&Question) -> Option<Error> + Send + Sync + 'static) {
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    }

    /// Readers are told no end from now on, as of logs that grow while each response is made.
    pub fn tell_no_ends(&self) {
        self.state().tells_ends = false;
    }

    /// Tells what readers meet from now on. Must not ask the cluster anything.
    pub fn set_watch(&self, watch: impl Fn(Met) + Send + Sync + 'static) {
        self.state().watch = Arc::new(watch);
    }

    /// Opens a partition for one of several processes. Each reads a partition by one queue at a time.
    ///
    /// # Errors
    /// As the plan says.
    pub fn open_as(
        &self,
        process: u64,
        tp: &TopicPartition,
        offset: i64,
        epoch: i32,
        wake: Wake,
    ) -> Result<Box<dyn PartitionQueue>, Error> {
        self.ask(&Question::Open(tp.clone(), offset))?;
        assert!(offset >= 0, "{tp} is opened at {offset}");
        let mut state = self.state();
        state.openings += 1;
        let opening = (process, state.openings);
        if let Some(partition) = state.partition(tp) {
            partition.readers.insert(process, (opening.1, wake));
        }
        Ok(Box::new(ScriptedQueue::new(Arc::clone(&self.state), tp.clone(), opening, offset, epoch)))
    }

    fn ask(&self, question: &Question) -> Result<(), Error> {
        let plan = Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner));
        plan(question).map_or(Ok(()), Err)
    }

    /// The partitions of a topic; none if it does not exist.
    pub fn partitions(&self, topic: &str) -> Vec<TopicPartition> {
        let state = self.state();
        let Some((name, found)) = state.topics.get_key_value(topic) else { return Vec::new() };
        let count = i32::try_from(found.partitions.len()).expect("few partitions");
        (0..count).map(|partition| TopicPartition { topic: Arc::clone(name), partition }).collect()
    }

    /// How many partitions of a topic are being read.
    pub fn being_read(&self, topic: &str) -> usize {
        let state = self.state();
        state.topics.get(topic).map_or(0, |topic| topic.partitions.iter().filter(|partition| !partition.readers.is_empty()).count())
    }

    /// Every record of a topic that a reader could read now, by the oracle's hash of it.
    pub fn truth(&self, topic: &str) -> Truth {
        let partitions = self.partitions(topic);
        let records = partitions.iter().flat_map(|tp| {
            self.look(tp, |log| {
                let bounds = log.bounds();
                (bounds.start..bounds.stable_end).filter_map(|offset| log.record(offset)).collect::<Vec<_>>()
            })
            .into_iter()
            .map(|found| ((tp.partition, found.offset), found.hash(tp.partition), found.record.value))
        });
        Truth::of(records.collect::<Vec<_>>())
    }

    /// Whether a reader sees any record in a range of offsets.
    pub fn is_visible(&self, tp: &TopicPartition, range: OffsetRange) -> bool {
        self.look(tp, |log| (range.start..range.end.min(log.bounds().stable_end)).any(|offset| log.record(offset).is_some()))
    }
}

fn no_topic(name: &str) -> Error {
    Error::new(Code(222), ErrorKind::Retryable, "the topic is not known").with("topic", name)
}

impl Source for ScriptedCluster {
    fn cluster_id(&self) -> &str {
        &self.id
    }

    fn open(&self, tp: &TopicPartition, offset: i64, leader_epoch: i32, wake: Wake) -> Result<Box<dyn PartitionQueue>, Error> {
        self.open_as(0, tp, offset, leader_epoch, wake)
    }

    fn expect_partitions(&self, _partitions: usize) {}

    fn bounds<'a>(&'a self, tp: &'a TopicPartition) -> BoxFuture<'a, Result<LogBounds, Error>> {
        Box::pin(async move {
            self.ask(&Question::Bounds(tp.clone()))?;
            self.state().partition(tp).map(|partition| partition.log.bounds()).ok_or_else(|| no_topic(&tp.topic))
        })
    }

    fn offsets_for_time<'a>(
        &'a self,
        partitions: &'a [TopicPartition],
        timestamp_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<Option<i64>>, Error>> {
        Box::pin(async move {
            self.ask(&Question::OffsetsForTime)?;
            let mut state = self.state();
            let first = |tp: &TopicPartition| {
                let log = &state.partition(tp)?.log;
                let bounds = log.bounds();
                (bounds.start..bounds.end).find(|offset| log.record(*offset).is_some_and(|r| r.record.timestamp >= timestamp_ms))
            };
            Ok(partitions.iter().map(first).collect())
        })
    }

    fn topic<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<TopicInfo>, Error>> {
        Box::pin(async move {
            self.ask(&Question::Topic(name.to_owned()))?;
            let state = self.state();
            Ok(state.topics.get_key_value(name).map(|(name, topic)| TopicInfo {
                name: Arc::clone(name),
                id: topic.id.clone(),
                partitions: i32::try_from(topic.partitions.len()).expect("few partitions"),
            }))
        })
    }

    fn is_compacted<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<bool>, Error>> {
        Box::pin(async move {
            let state = self.state();
            Ok(state.topics.get(topic).map(|topic| topic.partitions.iter().any(|partition| partition.log.is_compacted())))
        })
    }

    /// Names only: whoever scripts a cluster knows its topics.
    fn topics<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        Box::pin(async move {
            assert!(!pattern.starts_with('^'), "a scripted cluster has no patterns");
            Ok(self.state().topics.keys().filter(|name| &***name == pattern).map(|name| name.to_string()).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use catchment::source::LastRead;

    use super::*;
    use crate::generate::Profile;
    use crate::source::{Event, first_fault, next_event, no_wake, read_to_end};

    fn cluster() -> (ScriptedCluster, TopicPartition) {
        let cluster = ScriptedCluster::new(5);
        cluster.create("t", 2, &Shape::with_holes(Profile::mixed()));
        let tp = cluster.partitions("t").remove(0);
        cluster.change(&tp, |log| log.append(600));
        (cluster, tp)
    }

    #[test]
    fn a_queue_yields_what_is_visible_and_then_the_end() {
        let (cluster, tp) = cluster();
        let mut queue = cluster.open(&tp, 0, -1, no_wake()).unwrap();
        let (records, end) = read_to_end(&mut *queue);
        assert_eq!((end, records.len()), (600, cluster.truth("t").len()));
        assert!(records.len() < 600, "there are holes");
        assert!(!queue.fill(), "the end is told once");
        cluster.change(&tp, |log| log.append(50));
        let (more, end) = read_to_end(&mut *queue);
        assert!(end == 650 && more.iter().all(|r| (600..650).contains(&r.offset)));
    }

    #[test]
    fn what_was_read_is_the_oracles_truth() {
        let (cluster, tp) = cluster();
        let mut queue = cluster.open(&tp, 0, -1, no_wake()).unwrap();
        let mut stored = crate::oracle::Stored::default();
        while queue.fill() {
            if let Some(catchment::source::QueueEvent::Record(record, _)) = queue.peek() {
                stored.push_view(tp.partition, &record);
            }
            queue.pop();
        }
        cluster.truth("t").assert_equals(&stored, "a queue");
    }

    #[test]
    fn a_position_outside_the_log_and_a_log_that_was_cut_are_faults() {
        let (cluster, tp) = cluster();
        cluster.change(&tp, |log| log.retain_from(100));
        assert!(matches!(first_fault(&mut *cluster.open(&tp, 99, -1, no_wake()).unwrap()), QueueFault::OutOfRange(_)));
        assert!(matches!(first_fault(&mut *cluster.open(&tp, 601, -1, no_wake()).unwrap()), QueueFault::OutOfRange(_)));
        let mut queue = cluster.open(&tp, 100, -1, no_wake()).unwrap();
        read_to_end(&mut *queue);
        cluster.change(&tp, |log| {
            log.truncate(500);
            log.append(200);
        });
        assert!(matches!(first_fault(&mut *queue), QueueFault::Truncated { cut: Some(LastRead { end: 500, epoch: 0 }), .. }));
        assert!(matches!(first_fault(&mut *cluster.open(&tp, 600, 0, no_wake()).unwrap()), QueueFault::Truncated { .. }));
        assert_eq!(read_to_end(&mut *cluster.open(&tp, 600, 1, no_wake()).unwrap()).1, 700, "that epoch goes on");
    }

    #[test]
    fn a_partition_is_read_by_one_queue_at_a_time_and_its_reader_is_woken() {
        let (cluster, tp) = cluster();
        let woken = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&woken);
        let mut first = cluster.open(&tp, 0, -1, Arc::new(move || _ = counter.fetch_add(1, Ordering::SeqCst))).unwrap();
        cluster.change(&tp, |log| log.append(1));
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        let mut second = cluster.open(&tp, 0, -1, no_wake()).unwrap();
        assert!(matches!(first_fault(&mut *first), QueueFault::Other(_)));
        drop(first);
        assert!(matches!(next_event(&mut *second, Duration::ZERO), Some(Event::Record(_))));
        let mut elsewhere = cluster.open_as(1, &tp, 0, -1, no_wake()).unwrap();
        assert!(matches!(next_event(&mut *elsewhere, Duration::ZERO), Some(Event::Record(_))), "another process has a queue of its own");
        assert!(matches!(next_event(&mut *second, Duration::ZERO), Some(Event::Record(_))));
    }

    #[tokio::test]
    async fn a_topic_that_is_made_again_has_another_id_and_other_records() {
        let (cluster, tp) = cluster();
        let (id, truth) = (cluster.topic("t").await.unwrap().unwrap().id, cluster.truth("t"));
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        cluster.delete("t");
        assert_eq!(cluster.topic("t").await.unwrap(), None);
        assert!(cluster.bounds(&tp).await.is_err());
        cluster.create("t", 2, &Shape::with_holes(Profile::mixed()));
        cluster.change(&tp, |log| log.append(600));
        assert_ne!(cluster.topic("t").await.unwrap().unwrap().id, id);
        assert_ne!(cluster.truth("t"), truth);
    }

    #[tokio::test]
    async fn questions_fail_as_the_plan_says() {
        let (cluster, tp) = cluster();
        cluster.set_plan(|question| matches!(question, Question::Bounds(_)).then(|| no_topic("t")));
        assert!(cluster.bounds(&tp).await.is_err() && cluster.topic("t").await.is_ok());
        cluster.fault(&tp, QueueFault::Denied("no".into()));
        assert_eq!(first_fault(&mut *cluster.open(&tp, 0, -1, no_wake()).unwrap()), QueueFault::Denied("no".into()));
    }
}
