//! The two schedules of a pipeline, stream and sweep: what differs between them, and that nothing else does.
//!
//! The production pipeline on a scripted Kafka; the simulation draws the schedule from its seed, with all that goes wrong there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use catchment::commit::turns::Schedule;
use catchment::config::OnGap;
use catchment::store::layer::StoreLayer;
use catchment::store::{BoxFuture, Guard, Metadata, ObjectStore, Payload, StoreResult};
use catchment::window::WindowBy;
use catchment::{Code, Error, ErrorKind};
use catchment_formats::{GapCause, Missing, Proof};
use catchment_tests::rig::{Rig, TOPIC};
use catchment_tests::scripted::cluster::Question;

/// Partitions of the topic: more than lanes that read at a time.
const PARTITIONS: i32 = 12;

/// Records of each partition, 200 ms apart: eight windows of a second.
const RECORDS: i64 = 40;

fn rig(schedule: Schedule) -> Rig {
    let mut rig = Rig::new(PARTITIONS, RECORDS, |store| store as Arc<dyn ObjectStore>);
    rig.schedule = schedule;
    rig
}

/// The most partitions that were read at a time since this was asked for.
fn most_read(rig: &Rig) -> Arc<AtomicUsize> {
    let (cluster, most) = (Arc::clone(&rig.cluster), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    tokio::spawn(async move {
        loop {
            seen.fetch_max(cluster.being_read(TOPIC), Ordering::Relaxed);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    most
}

/// How often partitions were opened since this was asked for.
fn openings(rig: &Rig) -> Arc<AtomicUsize> {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    rig.cluster.set_plan(move |question| {
        count.fetch_add(usize::from(matches!(question, Question::Open(..))), Ordering::Relaxed);
        None
    });
    opened
}

#[tokio::test(start_paused = true)]
async fn a_sweep_stores_every_record_once_and_reads_few_partitions_at_a_time() {
    for readers in [1, 3] {
        let mut rig = rig(Schedule::Sweep { readers });
        let most = most_read(&rig);
        rig.start().await;
        for _ in 0..5 {
            rig.pass(7).await;
            rig.append(RECORDS);
        }
        rig.pass(120).await;
        rig.assert_complete("a sweep").await;
        assert_eq!(most.load(Ordering::Relaxed), readers);
    }
    let mut rig = rig(Schedule::Stream);
    let most = most_read(&rig);
    rig.start().await;
    rig.pass(5).await;
    assert_eq!(most.load(Ordering::Relaxed), PARTITIONS as usize, "a stream reads them all");
}

/// What one process makes of a topic that is a day old.
async fn backlog(schedule: Schedule) -> Vec<(String, Proof)> {
    let mut rig = rig(schedule);
    rig.clock.jump_days(1);
    rig.start().await;
    rig.pass(60).await;
    rig.assert_complete("a backlog").await;
    rig.objects().await
}

#[tokio::test(start_paused = true)]
async fn a_backlog_becomes_the_same_objects_in_both_schedules() {
    let (stream, sweep) = (backlog(Schedule::Stream).await, backlog(Schedule::Sweep { readers: 2 }).await);
    assert_eq!(stream.len(), 8 * PARTITIONS as usize);
    assert_eq!(stream, sweep);
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_news_is_asked_for_and_not_opened() {
    let mut rig = rig(Schedule::Sweep { readers: 2 });
    rig.clock.jump_days(1);
    rig.start().await;
    rig.pass(60).await;
    let opened = openings(&rig);
    rig.pass(600).await;
    assert_eq!(opened.load(Ordering::Relaxed), 0);
    rig.append(1);
    rig.pass(60).await;
    assert_eq!(opened.load(Ordering::Relaxed), PARTITIONS as usize, "once each: all that was there was due");
    rig.assert_complete("news").await;
}

#[tokio::test(start_paused = true)]
async fn by_arrival_a_turn_stores_all_that_has_arrived() {
    let mut rig = rig(Schedule::Sweep { readers: 2 });
    rig.rule.window.by = WindowBy::Arrival;
    rig.start().await;
    rig.pass(10).await;
    rig.append(RECORDS);
    rig.pass(10).await;
    rig.assert_complete("by arrival").await;
    assert_eq!(rig.objects().await.len(), 2 * PARTITIONS as usize, "one for each time that something had arrived");
}

#[tokio::test(start_paused = true)]
async fn a_window_whose_slot_does_not_end_is_closed_by_its_age_though_every_run_leaves_it() {
    let mut rig = rig(Schedule::Sweep { readers: 2 });
    rig.rule.window.every_ms = 60_000;
    // To this clock the records are a day ahead: they say nothing of where a window lies.
    rig.clock.jump_days(-1);
    rig.start().await;
    rig.pass(110).await;
    assert!(rig.objects().await.is_empty(), "it is open for twice its length");
    rig.pass(60).await;
    rig.assert_complete("by age").await;
    assert_eq!(rig.objects().await.len(), PARTITIONS as usize);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_in_a_sweep_is_followed_by_one_that_streams() {
    let mut rig = rig(Schedule::Sweep { readers: 1 });
    rig.start().await;
    rig.kill_when_pinned().await;
    rig.schedule = Schedule::Stream;
    rig.start().await;
    rig.pass(5).await;
    rig.kill();
    rig.schedule = Schedule::Sweep { readers: 1 };
    rig.append(RECORDS);
    rig.start().await;
    rig.pass(120).await;
    rig.assert_complete("one after the other").await;
}

/// One partition has no leader: opening it, or asking for its extent, fails.
fn lose_leader(rig: &Rig, is_asked: impl Fn(&Question) -> bool + Send + Sync + 'static) {
    rig.cluster
        .set_plan(move |question| is_asked(question).then(|| Error::new(Code(222), ErrorKind::Retryable, "the partition has no leader")));
}

#[tokio::test(start_paused = true)]
async fn a_lane_whose_partition_has_no_leader_leaves_its_turn_to_others() {
    for from_the_start in [true, false] {
        let mut rig = rig(Schedule::Sweep { readers: 1 });
        rig.clock.jump_days(1);
        let lost = rig.tp(0);
        // Where a rule begins is asked of all partitions, before any is read.
        let is_asked = move |question: &Question| match question {
            Question::Open(tp, _) => *tp == lost,
            Question::Bounds(tp) => *tp == lost && !from_the_start,
            _ => false,
        };
        let stored = match from_the_start {
            true => RECORDS,
            false => {
                rig.start().await;
                rig.pass(120).await;
                rig.append(RECORDS);
                2 * RECORDS
            }
        };
        lose_leader(&rig, is_asked);
        if from_the_start {
            rig.start().await;
        }
        rig.pass(120).await;
        for partition in 1..PARTITIONS {
            assert_eq!(rig.committed(partition).offset, stored, "{partition}");
        }
        rig.cluster.set_plan(|_| None);
        rig.pass(120).await;
        rig.assert_complete("the leader is back").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_never_comes_to_its_end_keeps_no_turn() {
    for by in [WindowBy::RecordTime, WindowBy::Arrival] {
        let mut rig = rig(Schedule::Sweep { readers: 1 });
        rig.rule.window.by = by;
        rig.cluster.tell_no_ends();
        rig.start().await;
        for _ in 0..60 {
            rig.pass(1).await;
            rig.append(5);
        }
        for partition in 0..PARTITIONS {
            assert!(rig.committed(partition).offset > 2 * RECORDS, "{by}: {partition} stands at {}", rig.committed(partition).offset);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_one_topic_keeps_no_turn_of_the_others() {
    let mut rig = Rig::new(PARTITIONS, RECORDS, |store| Arc::new(Stalls(store)) as Arc<dyn ObjectStore>);
    rig.schedule = Schedule::Sweep { readers: 2 };
    rig.clock.jump_days(1);
    rig.start().await;
    rig.pass(180).await;
    for partition in 2..PARTITIONS {
        assert_eq!(rig.committed(partition).offset, RECORDS, "{partition}");
    }
}

/// A store that never answers a PUT of the first two partitions.
#[derive(Debug)]
struct Stalls(Arc<dyn ObjectStore>);

impl StoreLayer for Stalls {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.0
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(async move {
            if key.contains("+0+") || key.contains("+1+") {
                std::future::pending::<()>().await;
            }
            self.0.put(key, body, metadata, guard).await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_retention_takes_from_a_lane_that_rests_is_told_and_listed_once() {
    let mut rig = rig(Schedule::Sweep { readers: 1 });
    rig.rule.on_gap.retention = OnGap::Continue;
    rig.clock.jump_days(1);
    rig.start().await;
    rig.pass(60).await;
    rig.append(RECORDS);
    let lost = rig.tp(3);
    rig.cluster.change(&lost, |log| log.retain_from(RECORDS + 10));
    rig.pass(60).await;
    let gap = Missing(RECORDS, RECORDS + 10, GapCause::Retention);
    let listed: Vec<Missing> = rig.objects().await.into_iter().flat_map(|(_, proof)| proof.missing).collect();
    assert_eq!((listed, rig.told.with(&["Gap"]).len()), (vec![gap], 1), "{:?}", rig.told.with(&["Gap"]));
}
