//! One process of the production pipeline on a scripted Kafka, over any store and by a clock that does as it is told: for what a test wants to do to a
//! process itself.
//!
//! Time is simulated: the runtime's must be paused, but for a test that starts threads of its own from [`Rig::parts`]. Nothing happens by chance.
//!
//! What it does not have: the faults, the ledger and the judge of the [simulation](crate::simulation). What is stored is compared with what the
//! scripted cluster shows, record by record.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catchment::clock::Clock;
use catchment::commit::proof;
use catchment::commit::turns::Schedule;
use catchment::config::{GapPolicy, OnGap, StartPoint, WindowBy};
use catchment::intent::{CommitNote, Intent, note_hash};
use catchment::limits::UPLOAD_DEADLINE_DEFAULT;
use catchment::memory::Seat;
use catchment::pipeline::{Outcome, Parts, Pipeline, Threads};
use catchment::report::{LaneNote, Reporter, WindowCommitted};
use catchment::rule::Rule;
use catchment::source::{Committed, Group, GroupEvent, Source, TopicPartition};
use catchment::stages::Stages;
use catchment::store::key::Layout;
use catchment::store::layer::StoreLayer;
use catchment::store::memory::MemoryStore;
use catchment::store::probe::GuardClasses;
use catchment::store::{BoxFuture, Guard, GuardClass, Metadata, ObjectStore, Payload, StoreResult};
use catchment::topics::TopicClaims;
use catchment::window::WindowPolicy;
use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::{Block, Encoding, Proof, ValueLayout};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::generate::{Profile, Rng};
use crate::oracle::Stored;
use crate::scripted::cluster::ScriptedCluster;
use crate::scripted::group::ScriptedGroup;
use crate::scripted::log::Shape;
use crate::scripted::member::Member;
use crate::scripted::order::Order;
use crate::tether::Tether;

/// The rule that runs.
pub const RULE: &str = "rig";

/// The topic that it backs up.
pub const TOPIC: &str = "events";

/// The wall clock at the beginning and the time of the first record, ms since 1970. Records of a partition are 200 ms apart.
pub const START_MS: i64 = 1_700_000_000_000;

/// Memory of a pipeline, in bytes: more than any test fills.
const MEMORY: usize = 32 << 20;

/// Messages that may wait for the builder: more than a turn of small windows brings.
const QUEUED: usize = 1024;

/// How often idle stages look for something to do, at first and at last. Queues wake nobody here.
const IDLE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(640));

/// How long a write takes that makes something visible: long enough for a test to step in behind the pin.
const WRITE_TAKES: Duration = Duration::from_millis(5);

/// A clock that runs with the runtime's, and whose wall time jumps when it is told to.
#[derive(Debug)]
pub struct ToldClock {
    began: Instant,
    shift_ms: AtomicI64,
    random: Mutex<Rng>,
}

impl ToldClock {
    fn new() -> Self {
        Self { began: Instant::now(), shift_ms: AtomicI64::new(0), random: Mutex::new(Rng::new(1)) }
    }

    /// Somebody sets the wall clock, by so many days more or less. The steady one goes on.
    pub fn jump_days(&self, days: i64) {
        self.shift_ms.fetch_add(days * 86_400_000, Ordering::SeqCst);
    }
}

impl Clock for ToldClock {
    fn wall_ms(&self) -> i64 {
        START_MS + self.shift_ms.load(Ordering::SeqCst) + i64::try_from(self.steady().as_millis()).expect("a test ends before that")
    }

    fn steady(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn random(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fraction()
    }
}

/// What lanes said.
#[derive(Debug, Default)]
pub struct Told(Mutex<Vec<String>>);

impl Told {
    /// The notes that hold all of these texts.
    pub fn with(&self, texts: &[&str]) -> Vec<String> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().filter(|note| texts.iter().all(|text| note.contains(text))).cloned().collect()
    }
}

impl Reporter for Told {
    fn window(&self, _window: &WindowCommitted) {}

    fn lane(&self, tp: &TopicPartition, note: LaneNote<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{tp} {note:?}"));
    }
}

/// A cluster, a group, a store, and a process that comes and goes.
#[derive(Debug)]
pub struct Rig {
    /// Topics.
    pub cluster: Arc<ScriptedCluster>,
    /// The coordinator.
    pub group: Arc<ScriptedGroup>,
    /// What is stored.
    pub memory: Arc<MemoryStore>,
    /// The store as processes see it.
    pub store: Arc<dyn ObjectStore>,
    /// Time.
    pub clock: Arc<ToldClock>,
    /// What lanes of all processes said.
    pub told: Arc<Told>,
    /// The rule of the next process: windows of a second by record time, one PUT each, on a store with an atomic guard.
    pub rule: Rule,
    /// Where the rule of the next process starts.
    pub start_at: StartPoint,
    /// How lanes of the next process share its memory: in a stream.
    pub schedule: Schedule,
    process: Option<Life>,
}

/// A store that takes a moment for each PUT.
#[derive(Debug)]
struct Paced(Arc<dyn ObjectStore>);

impl StoreLayer for Paced {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.0
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(async move {
            tokio::time::sleep(WRITE_TAKES).await;
            self.0.put(key, body, metadata, guard).await
        })
    }
}

/// A process.
#[derive(Debug)]
struct Life {
    member: Arc<Member>,
    tether: Arc<Tether>,
    main: JoinHandle<Outcome>,
    stages: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.tether.cut();
        self.member.crash();
        self.main.abort();
        self.stages.abort();
    }
}

impl Rig {
    /// A topic of so many partitions with so many records each, every offset one of them, and nobody who reads it. `front` is what processes see of
    /// the store.
    pub fn new(partitions: i32, records: i64, front: impl FnOnce(Arc<MemoryStore>) -> Arc<dyn ObjectStore>) -> Self {
        let (cluster, memory) = (Arc::new(ScriptedCluster::new(1)), Arc::new(MemoryStore::default()));
        cluster.create(TOPIC, partitions, &Shape::whole(Profile::plain().with_times(START_MS, 200_000)));
        let store = front(Arc::clone(&memory));
        let (group, clock) = (ScriptedGroup::new(Order::default()), Arc::new(ToldClock::new()));
        let rig = Self {
            cluster,
            group,
            memory,
            store,
            clock,
            told: Arc::default(),
            rule: rule(),
            start_at: StartPoint::Earliest,
            schedule: Schedule::Stream,
            process: None,
        };
        rig.append(records);
        rig
    }

    /// A partition.
    pub fn tp(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: Arc::from(TOPIC), partition }
    }

    /// So many records arrive in each partition.
    pub fn append(&self, records: i64) {
        for tp in self.cluster.partitions(TOPIC) {
            self.cluster.change(&tp, |log| log.append(records));
        }
    }

    /// So many seconds pass.
    pub async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// What a pipeline of this member is made of.
    pub fn parts(&self, member: &Arc<Member>) -> Parts {
        self.parts_over(member, Arc::clone(&self.store))
    }

    fn parts_over(&self, member: &Arc<Member>, store: Arc<dyn ObjectStore>) -> Parts {
        Parts {
            rule: self.rule.clone(),
            source: Arc::clone(&self.cluster) as Arc<dyn Source>,
            group: Arc::clone(member) as Arc<dyn Group>,
            store,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            reporter: Arc::clone(&self.told) as Arc<dyn Reporter>,
            claims: TopicClaims::new(self.start_at.clone(), vec![TOPIC.to_owned()]),
            until: None,
            memory: Seat::alone(MEMORY, 0),
            requests: Arc::default(),
            threads: Threads { consumers: 1, builders: 1, pinned: false },
            schedule: self.schedule,
        }
    }

    /// Starts a process, which gets all partitions.
    pub async fn start(&mut self) {
        let (member, events) = self.group.join(None);
        let tether = Tether::new(Arc::new(Paced(Arc::clone(&self.store))), self.store.limits());
        let parts = self.parts_over(&member, Arc::clone(&tether) as Arc<dyn ObjectStore>);
        let (pipeline, stages) = Pipeline::assemble(parts, QUEUED);
        let (stop, stopped) = watch::channel(false);
        let (main, stages) = (tokio::spawn(live(pipeline, events, stopped)), tokio::spawn(drive(stages)));
        self.process = Some(Life { member: Arc::clone(&member), tether, main, stages, stop });
        self.group.rebalance(&[(&member, self.cluster.partitions(TOPIC))]).await;
    }

    /// The process is gone at once: nothing of it is sent any more.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// The process is asked to stop. How it ended.
    ///
    /// # Panics
    /// If there is none, or its main task panicked.
    pub async fn stop(&mut self) -> Outcome {
        let mut life = self.process.take().expect("a process runs");
        life.stop.send_replace(true);
        (&mut life.main).await.expect("its main task comes to an end")
    }

    /// The process dies as soon as the group has accepted a window of the first partition, before it can publish it.
    ///
    /// # Panics
    /// If none is pinned within a quarter of an hour.
    pub async fn kill_when_pinned(&mut self) -> Intent {
        for _ in 0..900_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if let Some(intent) = self.pinned(0) {
                self.kill();
                return intent;
            }
        }
        panic!("no window was pinned")
    }

    /// What is committed of a partition.
    ///
    /// # Panics
    /// If nothing is.
    pub fn committed(&self, partition: i32) -> Committed {
        self.group.committed(&self.tp(partition)).unwrap_or_else(|| panic!("nothing is committed of {partition}"))
    }

    /// What is pinned of a partition.
    pub fn pinned(&self, partition: i32) -> Option<Intent> {
        let committed = self.group.committed(&self.tp(partition))?;
        match CommitNote::parse(&committed.metadata) {
            Ok(CommitNote::Intent(intent)) => Some(*intent),
            _ => None,
        }
    }

    /// Key and proof of every data object, by key.
    ///
    /// # Panics
    /// If one does not say what it is.
    pub async fn objects(&self) -> Vec<(String, Proof)> {
        let page = self.memory.list("", false, None).await.expect("the memory store lists");
        assert!(page.next.is_none(), "more objects than a page holds");
        let mut found = Vec::new();
        for object in page.objects.iter().filter(|o| !o.key.starts_with("_catchment/")) {
            let seen = proof::look(&*self.memory, &Layout::Hive, &object.key).await.expect("the memory store answers");
            found.push((object.key.clone(), seen.and_then(|(_, proof)| proof).expect("each object says what it is")));
        }
        found
    }

    /// Every record that is stored.
    async fn stored(&self) -> Stored {
        let mut stored = Stored::default();
        for (key, proof) in self.objects().await {
            let bytes = self.memory.get(&key, None).await.expect("the memory store answers").expect("it was listed");
            let mut decoder = ParquetDecoder::new(bytes).unwrap_or_else(|e| panic!("{key}: {e}"));
            let mut block = Block::new(ValueLayout::Plain);
            while decoder.next_block(&mut block).unwrap_or_else(|e| panic!("{key}: {e}")) {
                block.iter().for_each(|record| stored.push_view(proof.lane.partition, &record));
            }
        }
        stored
    }

    /// Fails unless every record of the topic from `from` on is stored once and unaltered, the group has all of it with nothing pinned, and no object is
    /// there that was not pinned.
    ///
    /// # Panics
    /// With what differs.
    pub async fn assert_complete_from(&self, from: i64, what: &str) {
        self.cluster.truth(TOPIC).filtered(|(_, offset)| offset >= from).assert_equals(&self.stored().await, what);
        for tp in self.cluster.partitions(TOPIC) {
            let end = self.cluster.look(&tp, |log| log.bounds().stable_end);
            assert_eq!((self.committed(tp.partition).offset, self.pinned(tp.partition)), (end, None), "{what}: {tp}");
        }
        self.assert_pinned(what).await;
    }

    /// The same of all its records.
    ///
    /// # Panics
    /// With what differs.
    pub async fn assert_complete(&self, what: &str) {
        self.assert_complete_from(0, what).await;
    }

    /// Fails unless every object stands under a key that the group has accepted.
    ///
    /// # Panics
    /// With the key of one that does not.
    pub async fn assert_pinned(&self, what: &str) {
        let notes = self.group.accepted().into_iter().filter_map(|accepted| CommitNote::parse(&accepted.commit.metadata).ok());
        let pinned: BTreeSet<String> = notes
            .filter_map(|note| match note {
                CommitNote::Intent(intent) => Some(intent.key),
                CommitNote::Tidy(_) => None,
            })
            .collect();
        for (key, _) in self.objects().await {
            assert!(pinned.contains(&key), "{what}: {key} was never pinned");
        }
    }
}

fn rule() -> Rule {
    Rule {
        name: RULE.to_owned(),
        group: format!("catchment-{RULE}"),
        encoding: Encoding::PARQUET_ZSTD1,
        auto_level: false,
        layout: Layout::Hive,
        window: WindowPolicy { every_ms: 1_000, by: WindowBy::RecordTime, bytes_max: 64 << 10 },
        on_gap: GapPolicy { retention: OnGap::Halt, truncation: OnGap::Halt, corrupt_batch: OnGap::Halt, topic_recreated: OnGap::Halt },
        accept: Vec::new(),
        moved_from: Vec::new(),
        upload_deadline: UPLOAD_DEADLINE_DEFAULT,
        destination_hash: note_hash(RULE),
        classes: GuardClasses { put: GuardClass::A, complete: GuardClass::A, forgets_completed: true },
    }
}

async fn live(mut pipeline: Pipeline, mut events: mpsc::Receiver<GroupEvent>, mut stopped: watch::Receiver<bool>) -> Outcome {
    let outcome = match pipeline.env().claims.claim_all(pipeline.env(), &[TOPIC.to_owned()]).await {
        Ok(()) => pipeline.run(&mut events, &mut stopped).await,
        Err(error) => Outcome::Failed(error),
    };
    pipeline.stop(false).await;
    outcome
}

async fn drive(mut stages: Stages) {
    let mut idle = IDLE.0;
    loop {
        if stages.step() {
            idle = IDLE.0;
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(idle).await;
            idle = (idle * 2).min(IDLE.1);
        }
    }
}
