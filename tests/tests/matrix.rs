//! Rows of the failure matrix that concern the process itself, its clock and what it leaves to other builds, and a store that shows less than it has or
//! has less than it was given: `docs/TESTING.md` has the rows.
//!
//! The production pipeline on a scripted Kafka and a store in memory; nothing happens by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catchment::ErrorKind;
use catchment::clock::Clock;
use catchment::config::{Accept, StartPoint, WindowBy};
use catchment::error::codes;
use catchment::intent::CommitNote;
use catchment::pipeline::{Outcome, Parts, Pipeline};
use catchment::source::{CommitError, Committed};
use catchment::store::layer::StoreLayer;
use catchment::store::memory::MemoryStore;
use catchment::store::{
    BoxFuture, Guard, ListPage, Metadata, ObjectStore, Part, Payload, StoreError, StoreErrorKind, StoreLimits, StoreResult,
};
use catchment_formats::{Codec, Encoding, Format};
use catchment_tests::memory_store::without;
use catchment_tests::rig::{RULE, Rig, TOPIC, ToldClock};
use catchment_tests::scripted::group::Fate;
use tokio::sync::watch;

/// What goes wrong with the PUT of a data object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// The lane's own task panics at one of partition 1.
    Panic,
    /// The same, at the next one alone.
    PanicOnce,
    /// The store does not answer.
    Away,
    /// Half of the next one is stored, and no answer comes.
    Half,
    /// Half of the next one is stored, and the answer is an error.
    Torn,
}

/// A store in front of the one in memory.
#[derive(Debug)]
struct Front {
    memory: Arc<MemoryStore>,
    trouble: Mutex<Trouble>,
    /// If there are any, listings show these alone.
    listed: Mutex<Option<BTreeSet<String>>>,
    /// Whether a listing has left something out.
    has_hidden: AtomicBool,
    /// Size of a part, in bytes, if it is not the usual one.
    part_bytes: Mutex<Option<u64>>,
    /// The parts of each upload, as they were sent.
    parts: Mutex<BTreeMap<String, BTreeMap<u32, u64>>>,
}

impl Front {
    fn new(memory: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self {
            memory,
            trouble: Mutex::new(Trouble::None),
            listed: Mutex::default(),
            has_hidden: AtomicBool::new(false),
            part_bytes: Mutex::default(),
            parts: Mutex::default(),
        })
    }

    fn set(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = trouble;
    }
}

impl StoreLayer for Front {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.memory
    }

    fn limits(&self) -> StoreLimits {
        let usual = self.memory.limits();
        StoreLimits { part_bytes: self.part_bytes.lock().unwrap().unwrap_or(usual.part_bytes), ..usual }
    }

    fn upload_part<'a>(&'a self, key: &'a str, upload: &'a str, number: u32, body: Payload) -> BoxFuture<'a, StoreResult<Part>> {
        self.parts.lock().unwrap().entry(upload.to_owned()).or_default().insert(number, body.len());
        self.memory.upload_part(key, upload, number, body)
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        let trouble = if key.starts_with("_catchment/") { Trouble::None } else { *self.trouble.lock().unwrap() };
        let lost = move || StoreError::new(StoreErrorKind::Unknown, "PutObject", key, "no answer");
        match trouble {
            Trouble::Panic if key.contains("+1+") => panic!("as the test wants it"),
            Trouble::PanicOnce if key.contains("+1+") => {
                self.set(Trouble::None);
                panic!("as the test wants it")
            }
            Trouble::None | Trouble::Panic | Trouble::PanicOnce => self.memory.put(key, body, metadata, guard),
            Trouble::Away => Box::pin(std::future::ready(Err(lost()))),
            Trouble::Half | Trouble::Torn => {
                self.set(Trouble::None);
                let whole = body.to_bytes();
                let half = Payload::from_bytes(whole.slice(..whole.len() / 2));
                Box::pin(async move {
                    self.memory.put(key, half, metadata, guard).await?;
                    match trouble {
                        Trouble::Half => std::future::pending().await,
                        _ => Err(lost()),
                    }
                })
            }
        }
    }

    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>> {
        Box::pin(async move {
            let mut page = self.memory.list(prefix, delimiter, after).await?;
            if let Some(listed) = &*self.listed.lock().unwrap() {
                let all = page.objects.len();
                page.objects.retain(|object| listed.contains(&object.key));
                self.has_hidden.fetch_or(page.objects.len() < all, Ordering::SeqCst);
            }
            Ok(page)
        })
    }
}

/// A topic of so many partitions, and the store that its processes see.
fn rig(partitions: i32, records: i64) -> (Rig, Arc<Front>) {
    let mut front = None;
    let rig = Rig::new(partitions, records, |memory| {
        let made = Front::new(memory);
        front = Some(Arc::clone(&made));
        made
    });
    (rig, front.expect("the store was made"))
}

/// P10.
#[tokio::test(start_paused = true)]
async fn a_lane_that_panics_stops_alone_loudly_and_with_nothing_visible() {
    let (mut rig, front) = rig(3, 20);
    front.set(Trouble::Panic);
    rig.start().await;
    rig.pass(60).await;
    rig.append(20);
    rig.pass(60).await;
    assert_eq!([0, 2].map(|partition| rig.committed(partition).offset), [40, 40], "the other lanes go on");
    let whose: [&str; 4] = ["C0902", &format!("(\"rule\", \"{RULE}\")"), &format!("(\"topic\", \"{TOPIC}\")"), "(\"partition\", \"1\")"];
    assert_eq!(rig.told.with(&whose).len(), 1, "{:?}", rig.told);
    assert!(rig.pinned(1).is_some_and(|intent| intent.start == 0), "what it had pinned stays pinned");
    assert!(rig.objects().await.iter().all(|(_, proof)| proof.lane.partition != 1), "and it made nothing visible");
    let Outcome::Failed(error) = rig.stop().await else { panic!("a run in which a lane has panicked is none that was stopped") };
    assert_eq!((error.code, error.cause.as_deref()), (codes::PART_ENDED, Some("as the test wants it")));
    assert_ne!(error.kind.exit_code(), 0);
    front.set(Trouble::None);
    rig.start().await;
    rig.pass(300).await;
    rig.assert_complete("after a restart").await;
}

/// P10, where it does not happen again.
#[tokio::test(start_paused = true)]
async fn a_lane_that_has_panicked_once_begins_again_with_what_the_group_and_the_store_know() {
    let (mut rig, front) = rig(3, 20);
    front.set(Trouble::PanicOnce);
    rig.start().await;
    rig.pass(60).await;
    rig.append(20);
    rig.pass(60).await;
    assert_eq!([0, 1, 2].map(|partition| rig.committed(partition).offset), [40; 3]);
    assert_eq!(rig.told.with(&["Panicked", "C0902", "as the test wants it"]).len(), 1, "{:?}", rig.told);
    rig.assert_complete("after a panic").await;
    let outcome = rig.stop().await;
    assert!(matches!(outcome, Outcome::Stopped), "{outcome:?}");
}

/// P4, between a first commit and the look whether the broker keeps its metadata: what is found there is the next owner's.
#[tokio::test(start_paused = true)]
async fn a_process_that_lost_its_lane_before_it_read_its_first_commit_back_does_not_say_that_metadata_is_dropped() {
    let (mut rig, _) = rig(1, 20);
    rig.start().await;
    rig.kill_when_pinned().await;
    let before = rig.group.accepted().len();
    let (group, taken) = (Arc::downgrade(&rig.group), AtomicBool::new(false));
    rig.group.set_fetches(move |tp| {
        let group = group.upgrade()?;
        let first = group.accepted().get(before)?.commit.clone();
        if !taken.swap(true, Ordering::SeqCst) {
            let Ok(CommitNote::Intent(mut intent)) = CommitNote::parse(&first.metadata) else {
                panic!("who finds a pin pins again: {first:?}")
            };
            intent.at += 1;
            group.set_committed(tp, Committed { metadata: CommitNote::Intent(intent).print(), ..first });
            group.set_commits(|_| Fate::refused(CommitError::StaleMember("ILLEGAL_GENERATION".into())));
        }
        None
    });
    rig.start().await;
    rig.pass(60).await;
    let heirs = rig.pinned(0).expect("the next owner has pinned a window");
    assert_eq!(rig.group.accepted().len(), before + 1, "nothing of this process came behind it");
    assert!(rig.told.with(&["C0402"]).is_empty(), "{:?}", rig.told);
    let outcome = rig.stop().await;
    assert!(matches!(outcome, Outcome::Stopped), "{outcome:?}");
    assert_eq!((rig.pinned(0), rig.objects().await.len()), (Some(heirs), 0));
    rig.group.set_commits(|_| Fate::default());
    rig.start().await;
    rig.pass(300).await;
    rig.assert_complete("by the next process").await;
}

/// A clock that panics on one of the pipeline's threads.
#[derive(Debug)]
struct PanicsOn(&'static str, Arc<ToldClock>);

impl Clock for PanicsOn {
    fn wall_ms(&self) -> i64 {
        assert!(std::thread::current().name() != Some(self.0), "as the test wants it");
        self.1.wall_ms()
    }

    fn steady(&self) -> Duration {
        self.1.steady()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.1.sleep(duration)
    }

    fn random(&self) -> f64 {
        self.1.random()
    }
}

/// P10, where it is a thread that lanes share: they would wait for ever for what it was to bring.
#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_panics_ends_the_run_and_is_named() {
    let (rig, _) = rig(1, 20);
    let (member, mut events) = rig.group.join(None);
    let clock = Arc::new(PanicsOn("consumer-0", Arc::clone(&rig.clock)));
    let mut pipeline = Pipeline::start(Parts { clock, ..rig.parts(&member) }).expect("threads can be started");
    pipeline.env().claims.claim_all(pipeline.env(), &[TOPIC.to_owned()]).await.expect("nobody else claims it");
    rig.group.rebalance(&[(&member, rig.cluster.partitions(TOPIC))]).await;
    let (_stop, mut stopped) = watch::channel(false);
    let run = tokio::time::timeout(Duration::from_secs(30), pipeline.run(&mut events, &mut stopped));
    let outcome = run.await.expect("the run does not wait for a thread that is gone");
    pipeline.stop(false).await;
    let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!((error.code, error.kind), (codes::PART_ENDED, ErrorKind::Bug));
    assert!(error.context.contains(&("thread", "consumer-0".to_owned())), "{error:?}");
    assert_eq!(rig.objects().await.len(), 0);
}

/// P12.
#[tokio::test(start_paused = true)]
async fn a_window_that_another_version_has_pinned_waits_for_that_version() {
    let (mut rig, _) = rig(1, 20);
    rig.start().await;
    rig.pass(30).await;
    rig.append(20);
    rig.kill_when_pinned().await;
    let (ours, before) = (rig.committed(0), rig.objects().await);
    for version in [0, 2, 99] {
        let mut theirs = ours.clone();
        theirs.metadata = ours.metadata.replacen("\"v\":1", &format!("\"v\":{version}"), 1);
        assert_ne!(theirs, ours);
        rig.group.set_committed(&rig.tp(0), theirs.clone());
        // Not even an operator who takes it for a stranger's may have it written over.
        rig.rule.accept = vec![Accept::ForeignCommit];
        rig.start().await;
        rig.pass(300).await;
        rig.kill();
        assert_eq!((rig.committed(0), rig.objects().await), (theirs, before.clone()), "version {version}");
        assert_eq!(rig.told.with(&["C0425", &format!("(\"version\", \"{version}\")")]).len(), 1, "{:?}", rig.told);
    }
    rig.group.set_committed(&rig.tp(0), ours);
    rig.rule.accept = Vec::new();
    rig.start().await;
    rig.pass(300).await;
    rig.assert_complete("by the version that has pinned it").await;
}

/// S12.
#[tokio::test(start_paused = true)]
async fn an_object_that_was_stored_in_half_is_not_taken_for_the_window() {
    let (mut rig, front) = rig(1, 20);
    rig.start().await;
    rig.pass(30).await;
    rig.append(20);
    front.set(Trouble::Half);
    rig.pass(300).await;
    let intent = rig.pinned(0).expect("the window is pinned");
    rig.kill();
    let half = rig.memory.head(&intent.key).await.unwrap().expect("it stands");
    // The next process finds it by recovery, and neither takes it nor writes over it.
    rig.start().await;
    rig.pass(300).await;
    rig.kill();
    assert_eq!(rig.committed(0).offset, intent.start, "nothing is committed past what half an object holds");
    assert_eq!(rig.told.with(&["C0413", &intent.key]).len(), 1, "{:?}", rig.told);
    assert_eq!((rig.pinned(0), rig.memory.head(&intent.key).await.unwrap()), (Some(intent.clone()), Some(half)));
    // The operator moves it away.
    let whole = without(&rig.memory, &intent.key).await;
    rig.memory = Arc::clone(&whole);
    rig.store = whole;
    rig.start().await;
    rig.pass(300).await;
    rig.assert_complete("once it is out of the way").await;
}

/// S12: who has just sent it knows what it is to be.
#[tokio::test(start_paused = true)]
async fn an_object_of_this_process_that_was_stored_in_half_is_written_again() {
    let (mut rig, front) = rig(1, 20);
    rig.start().await;
    rig.pass(30).await;
    rig.append(20);
    front.set(Trouble::Torn);
    rig.pass(300).await;
    assert_eq!(rig.pinned(0), None, "{:?}", rig.told);
    rig.assert_complete("once it was written again").await;
}

/// S10.
#[tokio::test(start_paused = true)]
async fn a_listing_that_lags_has_nothing_stored_twice() {
    let (mut rig, front) = rig(2, 20);
    rig.start().await;
    rig.pass(30).await;
    let shown: BTreeSet<String> = rig.objects().await.into_iter().map(|(key, _)| key).collect();
    rig.append(20);
    rig.pass(30).await;
    let before = rig.objects().await;
    assert!(before.len() > shown.len());
    // The group forgets its offsets, and all that is left are anchors of the beginning and a listing that shows the older half.
    rig.kill();
    rig.group.forget_offsets();
    *front.listed.lock().unwrap() = Some(shown);
    rig.append(20);
    rig.start().await;
    rig.pass(300).await;
    assert!(front.has_hidden.load(Ordering::SeqCst), "the listing was asked for and left something out");
    rig.assert_complete("behind a listing that lags").await;
    let after = rig.objects().await;
    assert!(before.iter().all(|object| after.contains(object)), "what stood stands");
}

/// S7: some stores complete an upload only if all its parts but the last are of one size.
#[tokio::test(start_paused = true)]
async fn every_part_of_an_upload_but_the_last_is_of_one_size() {
    let (mut rig, front) = rig(2, 200);
    *front.part_bytes.lock().unwrap() = Some(256);
    rig.start().await;
    rig.pass(300).await;
    rig.assert_complete("by uploads").await;
    let uploads = front.parts.lock().unwrap().clone();
    assert!(uploads.len() > 10, "{uploads:?}");
    for parts in uploads.values() {
        let sizes: Vec<u64> = parts.values().copied().collect();
        let (last, others) = sizes.split_last().expect("an upload has parts");
        assert!(others.len() >= 3 && others.iter().all(|size| *size == 256) && *last <= 256, "{sizes:?}");
    }
}

/// T1.
#[tokio::test(start_paused = true)]
async fn wall_clocks_that_jump_by_400_days_lose_nothing_and_stop_nothing() {
    for (by, jump) in [WindowBy::RecordTime, WindowBy::Arrival].into_iter().flat_map(|by| [(by, 400), (by, -400)]) {
        let what = format!("{by:?}, {jump} days");
        let (mut rig, front) = rig(2, 12);
        rig.rule.window.by = by;
        rig.start().await;
        // With a window open.
        rig.pass(2).await;
        rig.append(13);
        rig.clock.jump_days(jump);
        rig.pass(60).await;
        assert_eq!(rig.committed(0).offset, 25, "{what}: with a window open");
        // With one pinned that the store does not take, there and back.
        front.set(Trouble::Away);
        rig.append(20);
        rig.pass(20).await;
        assert!(rig.pinned(0).is_some(), "{what}: a window is pinned");
        rig.clock.jump_days(-jump);
        rig.pass(20).await;
        rig.clock.jump_days(jump);
        rig.pass(20).await;
        front.set(Trouble::None);
        rig.pass(60).await;
        assert_eq!(rig.committed(0).offset, 45, "{what}: with one pinned");
        // Between the pin of one process and the recovery of the next.
        rig.append(20);
        rig.kill_when_pinned().await;
        rig.clock.jump_days(-jump);
        rig.start().await;
        rig.pass(120).await;
        rig.assert_complete(&what).await;
        // Directories come of the records' own times.
        assert!(rig.objects().await.iter().all(|(key, _)| key.contains("dt=2023-11-14")), "{what}: {:?}", rig.objects().await);
    }
}

/// C5.
#[tokio::test(start_paused = true)]
async fn an_older_configuration_that_comes_back_goes_on_where_the_newer_one_was() {
    let (mut rig, _) = rig(2, 20);
    rig.start_at = StartPoint::Offset(10);
    rig.start().await;
    rig.pass(30).await;
    rig.append(20);
    rig.pass(30).await;
    rig.assert_complete_from(10, "with the newer one").await;
    let before = rig.objects().await;
    for forget in [false, true] {
        // An older file: from the beginning, other windows, another compression.
        rig.kill();
        rig.start_at = StartPoint::Earliest;
        (rig.rule.window.every_ms, rig.rule.encoding) = (5_000, Encoding { format: Format::Parquet, codec: Codec::None });
        if forget {
            rig.group.forget_offsets();
        }
        rig.append(30);
        rig.start().await;
        rig.pass(120).await;
        rig.assert_complete_from(10, if forget { "with its offsets forgotten" } else { "with the older one" }).await;
    }
    let after = rig.objects().await;
    assert!(before.iter().all(|object| after.contains(object)), "what stood stands");
    assert!(after.iter().any(|(_, proof)| proof.encoding == "parquet.none.v1"), "the older one wrote as it says: {after:?}");
}
