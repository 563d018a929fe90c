//! One process, one partition and no chance: for tests that say themselves what happens, and when. Time is simulated.

use std::sync::Arc;
use std::time::Duration;

use catchment::commit::turns::Schedule;
use catchment::intent::{CommitNote, Intent};
use catchment::limits::UPLOAD_DEADLINE_DEFAULT;
use catchment::source::TopicPartition;
use catchment::store::key::Layout;
use catchment::store::parts::PART_BYTES;
use catchment::store::{GuardClass, ObjectStore};
use catchment_formats::{Encoding, Missing, Proof};

use super::kafka::trouble;
use super::plan::{Plan, Scope};
use super::process::{Process, START_MS, Shared, TOPIC};
use super::world::World;
use crate::generate::Profile;
use crate::scripted::cluster::ScriptedCluster;
use crate::scripted::group::ScriptedGroup;
use crate::scripted::log::Shape;

/// Memory of a process, in bytes: more than any story fills.
const MEMORY: usize = 32 << 20;

/// A cluster, a group, a store, and a process that comes and goes. The runtime's time must be paused.
#[derive(Debug)]
pub struct Directed {
    /// World, cluster and store.
    pub shared: Shared,
    /// The coordinator.
    pub group: Arc<ScriptedGroup>,
    process: Option<Process>,
    lives: u64,
}

impl Directed {
    /// A topic with so many records, every offset one of them, and nobody who reads it.
    pub fn new(class: GuardClass, records: i64) -> Self {
        Self::with_windows(class, records, 1_000)
    }

    /// The same, with windows of so many milliseconds.
    pub fn with_windows(class: GuardClass, records: i64, window_ms: i64) -> Self {
        Self::planned(Plan { class, window_ms, ..Self::plan() }, records)
    }

    /// One partition, windows of a second in class A, each one PUT, more memory than that fills, read in a stream, and nothing that fails.
    pub fn plan() -> Plan {
        Plan {
            class: GuardClass::A,
            partitions: 1,
            window_ms: 1_000,
            window_bytes: 64 << 10,
            part_bytes: PART_BYTES,
            encoding: Encoding::PARQUET_ZSTD1,
            memory: MEMORY,
            schedule: Schedule::Stream,
            store_faults: 0,
            kafka_faults: 0,
            session: Duration::from_secs(10),
            upload_deadline: UPLOAD_DEADLINE_DEFAULT,
            ..Plan::of(1, Scope::Settled)
        }
    }

    /// A topic with so many records, by a plan.
    pub fn planned(plan: Plan, records: i64) -> Self {
        let store = Arc::new(plan.store());
        let world = Arc::new(World::new(plan, true));
        let (cluster, group) = (Arc::new(ScriptedCluster::new(1)), ScriptedGroup::new(world.order.clone()));
        let pending = trouble(&world, &group, &cluster);
        let shared = Shared { world, cluster, store, pending };
        create(&shared.cluster, records);
        Self { shared, group, process: None, lives: 0 }
    }

    /// The same cluster, group and store for a process of another plan: the rule was edited.
    #[must_use]
    pub fn edited(self, plan: Plan) -> Self {
        let shared = Shared { world: Arc::new(World::new(plan, true)), ..self.shared };
        Self { shared, process: None, ..self }
    }

    /// The partition.
    pub fn tp(&self) -> TopicPartition {
        TopicPartition { topic: Arc::from(TOPIC), partition: 0 }
    }

    /// Starts a process, which gets the partition.
    pub async fn start(&mut self) {
        self.lives += 1;
        let (member, events) = self.group.join(None);
        self.process = Some(Process::start(&self.shared, self.lives, Arc::clone(&member), events));
        self.group.rebalance(&[(&member, vec![self.tp()])]).await;
    }

    /// The process loses the partition, and gets it again: its lane recovers.
    ///
    /// # Panics
    /// If there is no process.
    pub async fn reassign(&self) {
        let member = &self.process.as_ref().expect("a process runs").member;
        self.group.rebalance(&[(member, vec![self.tp()])]).await;
    }

    /// Waits until a window is pinned.
    ///
    /// # Panics
    /// If none is within an hour.
    pub async fn pass_until_pinned(&self) -> Intent {
        for _ in 0..3_600_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let note = self.group.committed(&self.tp()).and_then(|committed| CommitNote::parse(&committed.metadata).ok());
            if let Some(CommitNote::Intent(intent)) = note {
                return *intent;
            }
        }
        panic!("no window was pinned")
    }

    /// The process is asked to stop, and ends.
    pub async fn stop(&mut self) {
        self.process.iter().for_each(Process::ask_to_stop);
        self.pass(30).await;
        self.kill();
    }

    /// The process is gone at once.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// The process dies as soon as the group has accepted a window, before it can learn of that and publish.
    ///
    /// # Panics
    /// If none is pinned within an hour.
    pub async fn kill_when_pinned(&mut self) -> Intent {
        let intent = self.pass_until_pinned().await;
        self.kill();
        intent
    }

    /// The process dies as soon as a part of an upload is stored, before it pins anything. The upload's key.
    ///
    /// # Panics
    /// If there is none within an hour.
    pub async fn kill_when_uploading(&mut self) -> String {
        for _ in 0..3_600_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            for key in self.shared.store.open_uploads() {
                for upload in self.shared.store.list_uploads(&key).await.expect("the memory store lists") {
                    if self.shared.store.list_parts(&key, &upload.id).await.is_ok_and(|parts| !parts.is_empty()) {
                        self.kill();
                        return key;
                    }
                }
            }
        }
        panic!("no part was uploaded")
    }

    /// So many seconds pass.
    pub async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// So many records arrive.
    pub fn append(&self, records: i64) {
        self.shared.cluster.change(&self.tp(), |log| log.append(records));
    }

    /// The topic is deleted and made again with so many records.
    pub fn create_again(&self, records: i64) {
        create_again(&self.shared.cluster, records);
    }

    /// The committed offset; -1 if there is none.
    pub fn committed(&self) -> i64 {
        self.group.committed(&self.tp()).map_or(-1, |committed| committed.offset)
    }

    /// Key and proof of every data object, by key.
    ///
    /// # Panics
    /// If one has no proof.
    pub async fn objects(&self) -> Vec<(String, Proof)> {
        let store = &*self.shared.store;
        let page = store.list("", false, None).await.expect("the memory store lists");
        let mut found = Vec::new();
        for object in page.objects.iter().filter(|o| !o.key.starts_with("_catchment/")) {
            let seen = catchment::commit::proof::look(store, &Layout::Hive, &object.key).await.expect("the memory store answers");
            found.push((object.key.clone(), seen.and_then(|(_, proof)| proof).expect("each object says what it is")));
        }
        found
    }

    /// Everything that objects list as missing.
    pub async fn missing(&self) -> Vec<Missing> {
        self.objects().await.into_iter().flat_map(|(_, proof)| proof.missing).collect()
    }
}

/// As [`Directed::create_again`], for whoever has only the cluster at hand.
pub fn create_again(cluster: &ScriptedCluster, records: i64) {
    cluster.delete(TOPIC);
    create(cluster, records);
}

fn create(cluster: &ScriptedCluster, records: i64) {
    cluster.create(TOPIC, 1, &Shape::whole(Profile::plain().with_times(START_MS, 200_000)));
    for tp in cluster.partitions(TOPIC) {
        cluster.change(&tp, |log| log.append(records));
    }
}
