//! Bugs that the simulation has found, each as a story of its own: what happens, when, and what must come of it.
//!
//! The production pipeline on a scripted Kafka and a simulated store; nothing happens by chance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use catchment::clock::SystemClock;
use catchment::commit::control::{self, Owner};
use catchment::config::UPLOAD_DEADLINE_MIN;
use catchment::intent::CommitNote;
use catchment::limits::CLOCKS_APART_MAX;
use catchment::source::QueueFault;
use catchment::store::key::{ControlKeys, Layout, TopicName};
use catchment::store::{Guard, GuardClass, Metadata, ObjectStore, Payload};
use catchment::{Code, Error, ErrorKind};
use catchment_formats::{Codec, Encoding, Format, Framing, GapCause, Missing};
use catchment_tests::scripted::cluster::Question;
use catchment_tests::simulation::directed::{Directed, create_again};
use catchment_tests::simulation::full_copy::{self, FullCopy, pinned, unguarded};
use catchment_tests::simulation::plan::Plan;
use catchment_tests::simulation::store::FaultyStore;
use catchment_tests::simulation::vitals::Vitals;
use catchment_tests::simulation::{dead_lane, given_up, went_back};

/// `[0, 20)` is stored; then the log is cut, and the lane has said so to the group and waits for the log.
async fn cut(end: i64) -> Directed {
    let mut directed = Directed::new(GuardClass::A, 20);
    directed.start().await;
    directed.pass(30).await;
    directed.shared.cluster.change(&directed.tp(), |log| log.truncate(end));
    directed.pass(300).await;
    let note = directed.group.committed(&directed.tp()).expect("a note").metadata;
    assert_eq!(CommitNote::parse(&note).map(|note| note.pending().to_vec()), Ok(vec![Missing(end, 20, GapCause::Truncation)]));
    directed
}

#[tokio::test(start_paused = true)]
async fn a_pinned_window_is_not_read_again_from_a_topic_that_was_made_again_meanwhile() {
    let mut directed = pinned(Directed::plan()).await;
    // The new topic comes after the lane has asked whose topic it is, and before it reads.
    let (cluster, done) = (Arc::clone(&directed.shared.cluster), AtomicBool::new(false));
    let again = Arc::clone(&cluster);
    cluster.set_plan(move |question| {
        if matches!(question, Question::Open(..)) && !done.swap(true, Ordering::Relaxed) {
            create_again(&again, 60);
        }
        None
    });
    directed.start().await;
    directed.pass(300).await;
    let objects = directed.objects().await;
    let old: Vec<_> = objects.iter().filter(|(key, _)| !key.contains('~')).map(|(_, proof)| proof.range.end).collect();
    assert_eq!(old.iter().max(), Some(&20), "{objects:?}");
    assert_eq!((directed.missing().await, directed.committed()), (vec![Missing(20, 25, GapCause::TopicRecreated)], 60));
}

#[tokio::test(start_paused = true)]
async fn what_the_lane_of_a_topic_that_is_gone_was_to_list_is_listed_by_the_next_one() {
    let directed = cut(10).await;
    directed.create_again(30);
    directed.pass(300).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![Missing(10, 20, GapCause::TopicRecreated)], 30));
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_of_an_earlier_incarnation_is_read_of_the_new_one() {
    let mut directed = cut(2).await;
    directed.create_again(0);
    directed.pass(300).await;
    directed.append(30);
    let (intent, gap) = (directed.kill_when_pinned().await, Missing(2, 20, GapCause::TopicRecreated));
    assert_eq!((intent.end, intent.missing), (5, vec![gap]));
    directed.start().await;
    directed.pass(300).await;
    let records: u64 = directed.objects().await.iter().filter(|(key, _)| key.contains('~')).map(|(_, proof)| proof.counts.records).sum();
    assert_eq!((records, directed.missing().await, directed.committed()), (30, vec![gap], 30));
}

/// The log is cut inside a pinned window and written on; the copy of whoever pinned it lands or not, after the next process has looked for it.
async fn cut_inside_a_pinned_window(old_copy_lands: bool) -> Directed {
    let copy = FullCopy::of(Directed::plan()).await;
    let mut directed = pinned(Directed::plan()).await;
    directed.shared.cluster.change(&directed.tp(), |log| {
        log.truncate(22);
        log.append(38);
    });
    let (store, sent) = (Arc::clone(&directed.shared.store), AtomicBool::new(!old_copy_lands));
    directed.shared.cluster.set_plan(move |question| {
        if matches!(question, Question::Open(..)) && !sent.swap(true, Ordering::Relaxed) {
            let (store, copy) = (Arc::clone(&store), copy.clone());
            tokio::spawn(async move { copy.land(&*store, Guard::IfAbsent).await });
        }
        None
    });
    directed.start().await;
    directed.pass(300).await;
    directed
}

#[tokio::test(start_paused = true)]
async fn a_cut_inside_a_pinned_window_whose_old_copy_stands_is_listed() {
    let directed = cut_inside_a_pinned_window(true).await;
    // Its records are those of the log before it was cut: what was written anew at their offsets is nowhere.
    assert_eq!((directed.missing().await, directed.committed()), (vec![Missing(22, 25, GapCause::Truncation)], 60));
}

#[tokio::test(start_paused = true)]
async fn a_cut_inside_a_pinned_window_that_is_read_again_leaves_nothing_out() {
    let directed = cut_inside_a_pinned_window(false).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![], 60));
}

#[tokio::test(start_paused = true)]
async fn a_window_that_a_cut_log_gives_otherwise_waits_for_the_one_that_was_pinned() {
    let copy = FullCopy::of(unguarded()).await;
    let mut directed = pinned(unguarded()).await;
    directed.shared.cluster.change(&directed.tp(), |log| {
        log.truncate(22);
        log.append(20);
    });
    directed.start().await;
    directed.pass(600).await;
    copy.land(&*directed.shared.store, Guard::Overwrite).await;
    directed.pass(7_200).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![Missing(22, 25, GapCause::Truncation)], 42));
}

#[test]
fn a_full_copy_that_lands_at_the_last_moment_has_precedence_over_what_retention_left() {
    assert_eq!(full_copy::run(), [""; 0]);
}

#[test]
fn a_commit_that_waits_until_its_lane_was_revoked_is_not_sent() {
    assert_eq!(dead_lane::run(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_full_copy_that_lands_at_the_last_moment_has_precedence_over_what_a_corrupt_batch_left() {
    let corruption = |directed: &Directed| directed.shared.cluster.change(&directed.tp(), |log| log.corrupt(22..25, u32::MAX));
    assert_eq!(full_copy::lands_at_the_last_moment(corruption).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_full_copy_that_lands_at_the_last_moment_has_precedence_over_one_in_another_encoding() {
    let unknown = |directed: &Directed| {
        let mut commit = directed.group.committed(&directed.tp()).expect("a note");
        let Ok(CommitNote::Intent(mut intent)) = CommitNote::parse(&commit.metadata) else { panic!("{commit:?}") };
        intent.enc = "parquet.zstd1.v9".into();
        commit.metadata = CommitNote::Intent(intent).print();
        directed.group.set_committed(&directed.tp(), commit);
    };
    assert_eq!(full_copy::lands_at_the_last_moment(unknown).await, [""; 0]);
}

#[test]
fn a_complete_that_was_taken_and_shows_late_has_precedence_behind_an_atomic_guard_too() {
    assert_eq!(given_up::complete_shows_late(), [""; 0]);
}

#[test]
fn an_upload_of_a_pinned_window_is_given_up_by_the_owner_of_its_lane_alone() {
    assert_eq!(given_up::by_zombie(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_by_a_year_does_not_make_a_pin_old() {
    for days in [400, -400] {
        let copy = FullCopy::of(unguarded()).await;
        let mut directed = Directed::planned(unguarded(), 20);
        directed.start().await;
        directed.pass(30).await;
        // The store is away when the window is pinned, and its request on the way.
        directed.shared.world.take_store_down(Duration::from_secs(30));
        directed.append(20);
        let intent = directed.pass_until_pinned().await;
        assert_eq!((intent.start, intent.end), (20, 25));
        directed.shared.world.jump(days * 86_400_000);
        directed.shared.cluster.change(&directed.tp(), |log| log.retain_from(23));
        directed.reassign().await;
        directed.pass(directed.shared.world.plan.upload_deadline.as_secs() - 60).await;
        assert_eq!(full_copy::published_early(&directed), None, "{days} days");
        copy.land(&*directed.shared.store, Guard::Overwrite).await;
        directed.pass(600).await;
        assert_eq!(full_copy::not_adopted(&directed, &copy).await, [""; 0], "{days} days");
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_that_a_store_believes_both_do_not_make_a_pin_old() {
    // A quarter of an hour behind when it is pinned, and as much ahead when the next process comes.
    let deadline = UPLOAD_DEADLINE_MIN.to_duration();
    let plan = Plan { upload_deadline: deadline, ..unguarded() };
    let copy = FullCopy::of(plan.clone()).await;
    let mut directed = pinned(plan).await;
    directed.shared.world.jump(29 * 60_000);
    directed.shared.cluster.change(&directed.tp(), |log| log.retain_from(23));
    directed.start().await;
    directed.pass(deadline.as_secs() - 60).await;
    assert_eq!(full_copy::published_early(&directed), None);
    copy.land(&*directed.shared.store, Guard::Overwrite).await;
    directed.pass(600).await;
    assert_eq!(full_copy::not_adopted(&directed, &copy).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pin_that_is_old_by_clocks_that_agree_is_not_waited_for() {
    let mut directed = pinned(unguarded()).await;
    let old = directed.shared.world.plan.upload_deadline + CLOCKS_APART_MAX;
    directed.pass(old.as_secs()).await;
    directed.shared.cluster.change(&directed.tp(), |log| log.retain_from(23));
    directed.start().await;
    directed.pass(300).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![Missing(20, 23, GapCause::Retention)], 40));
}

/// Raw windows of several parts, which a record beside them proves: `[20, 25)` is pinned, and the process is dead before it has written that.
async fn pinned_without_record() -> Directed {
    let raw = Encoding { format: Format::Raw(Framing::Len32), codec: Codec::None };
    let mut directed = Directed::planned(Plan { encoding: raw, part_bytes: 64, ..Directed::plan() }, 20);
    directed.start().await;
    directed.pass(30).await;
    directed.append(20);
    assert!(directed.kill_when_pinned().await.upload.is_some());
    directed
}

/// The same, and Kafka gives less of the window when it is read again; the record of the full one lands ten minutes later. In every guard class: nothing
/// guards a record.
async fn record_lands_late(spoil: impl Fn(&Directed)) -> Directed {
    let key = "_catchment/objects/events/0/00000000000000000020.json";
    let mut twin = pinned_without_record().await;
    twin.start().await;
    twin.pass(300).await;
    let record = twin.shared.store.get(key, None).await.unwrap().expect("the record of a full window");

    let mut directed = pinned_without_record().await;
    spoil(&directed);
    directed.start().await;
    directed.pass(600).await;
    directed.shared.store.put(key, Payload::from_bytes(record), &Metadata::new(), Guard::Overwrite).await.expect("nothing guards it");
    directed.pass(directed.shared.world.plan.upload_deadline.as_secs()).await;
    directed
}

#[tokio::test(start_paused = true)]
async fn a_record_that_comes_late_does_not_disown_an_object_that_holds_less() {
    let directed = record_lands_late(|directed| directed.shared.cluster.change(&directed.tp(), |log| log.retain_from(23))).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![Missing(20, 23, GapCause::Retention)], 40));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_comes_late_does_not_disown_an_object_that_compaction_made_smaller() {
    let compaction = |directed: &Directed| directed.shared.cluster.change(&directed.tp(), |log| log.compact(|offset| offset != 22));
    let directed = record_lands_late(compaction).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![], 40));
    let objects = directed.objects().await;
    let (_, proof) = objects.iter().find(|(_, proof)| proof.range.start == 20).expect("the pinned window");
    assert_eq!((proof.range.end, proof.counts.records), (25, 4), "it is its own record that stands");
}

#[tokio::test(start_paused = true)]
async fn credentials_that_have_expired_while_a_topic_is_made_again_are_outwaited() {
    let mut directed = Directed::new(GuardClass::A, 20);
    directed.start().await;
    directed.pass(30).await;
    directed.shared.world.deny(Duration::from_secs(60));
    directed.create_again(30);
    directed.pass(300).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![], 30));
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_batch_of_a_pinned_window_is_listed_once_when_the_window_is_read_again() {
    let mut directed = Directed::new(GuardClass::A, 20);
    directed.start().await;
    directed.pass(30).await;
    directed.shared.cluster.change(&directed.tp(), |log| {
        log.corrupt(22..25, u32::MAX);
        log.append(20);
    });
    let (intent, gap) = (directed.kill_when_pinned().await, Missing(22, 25, GapCause::CorruptBatch));
    assert_eq!((intent.start, intent.missing), (20, vec![gap]));
    directed.start().await;
    directed.pass(300).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![gap], 40));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_cut_below_a_corrupt_batch_is_noticed_behind_it() {
    let mut directed = Directed::new(GuardClass::A, 20);
    directed.start().await;
    directed.pass(30).await;
    directed.shared.cluster.change(&directed.tp(), |log| {
        log.corrupt(22..25, u32::MAX);
        log.append(5);
    });
    directed.pass(600).await;
    let passed_over = Missing(22, 25, GapCause::CorruptBatch);
    assert_eq!((directed.missing().await, directed.committed()), (vec![passed_over], 25));
    // Nobody has read anything behind the batch.
    directed.kill();
    directed.start().await;
    directed.pass(60).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![passed_over], 25), "it is met again, and passed");
    directed.kill();
    directed.shared.cluster.change(&directed.tp(), |log| {
        log.truncate(21);
        log.append(20);
    });
    directed.start().await;
    directed.pass(600).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![passed_over, Missing(21, 25, GapCause::Truncation)], 41));
}

#[tokio::test(start_paused = true)]
async fn two_corrupt_batches_in_one_window_are_both_passed_over() {
    let mut directed = Directed::new(GuardClass::A, 20);
    directed.start().await;
    directed.pass(30).await;
    directed.shared.cluster.change(&directed.tp(), |log| {
        log.corrupt(21..22, u32::MAX);
        log.corrupt(23..24, u32::MAX);
        log.append(20);
    });
    directed.pass(600).await;
    let missing = [(21, 22), (23, 24)].map(|(from, to)| Missing(from, to, GapCause::CorruptBatch));
    assert_eq!((directed.missing().await, directed.committed()), (missing.to_vec(), 40));
}

/// Where no guard is atomic, a window that gives less than was pinned waits an hour for what may be on its way. One that gives all does not.
#[tokio::test(start_paused = true)]
async fn a_corrupt_batch_that_was_passed_long_ago_keeps_no_later_window_waiting() {
    let mut directed = Directed::planned(unguarded(), 20);
    directed.shared.cluster.change(&directed.tp(), |log| log.corrupt(2..5, u32::MAX));
    directed.start().await;
    directed.pass(600).await;
    let gap = Missing(2, 5, GapCause::CorruptBatch);
    assert_eq!((directed.missing().await, directed.committed()), (vec![gap], 20));
    // The lane begins again, and once more with a window pinned: it remembers the batch.
    directed.shared.cluster.fault(&directed.tp(), QueueFault::Other("as the test wants it".into()));
    directed.pass(30).await;
    let (group, refused) = (Arc::downgrade(&directed.group), AtomicBool::new(false));
    directed.group.set_fetches(move |tp| {
        let committed = group.upgrade()?.committed(tp)?;
        let is_pinned = matches!(CommitNote::parse(&committed.metadata), Ok(CommitNote::Intent(_)));
        (is_pinned && !refused.swap(true, Ordering::Relaxed)).then(|| Error::new(Code(1), ErrorKind::Retryable, "no answer to a look-up"))
    });
    directed.append(20);
    directed.pass(300).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![gap], 40));
    assert!(directed.shared.world.traced().2.iter().any(|line| line.contains("no answer to a look-up")), "it did begin again");
}

#[tokio::test(start_paused = true)]
async fn what_the_next_object_must_list_outlives_the_groups_offsets() {
    let mut directed = cut(10).await;
    directed.stop().await;
    directed.group.forget_offsets();
    directed.append(30);
    directed.start().await;
    directed.pass(300).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![Missing(10, 20, GapCause::Truncation)], 40));
    // The anchor is older than the object that lists it: it is not listed twice.
    directed.kill();
    directed.group.forget_offsets();
    directed.append(30);
    directed.start().await;
    directed.pass(300).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![Missing(10, 20, GapCause::Truncation)], 70));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_cut_while_the_groups_offsets_expired_is_noticed() {
    let mut directed = Directed::new(GuardClass::A, 20);
    directed.start().await;
    directed.pass(30).await;
    directed.stop().await;
    directed.group.forget_offsets();
    directed.shared.cluster.change(&directed.tp(), |log| {
        log.truncate(10);
        log.append(30);
    });
    directed.start().await;
    directed.pass(300).await;
    assert_eq!((directed.missing().await, directed.committed()), (vec![Missing(10, 20, GapCause::Truncation)], 40));
}

/// Deleted, and created again under its name: the group is gone, and so are the records that were stored first.
#[tokio::test(start_paused = true)]
async fn a_rule_that_takes_back_its_claim_keeps_its_start_and_goes_on_behind_its_objects() {
    let mut directed = Directed::new(GuardClass::A, 20);
    directed.start().await;
    directed.pass(30).await;
    directed.stop().await;
    let store = Arc::clone(&directed.shared.store);
    let owner = ControlKeys::new(&Layout::Hive, &TopicName::new(&directed.tp().topic)).owner();
    let claimed: Owner = control::read(&*store, &owner).await.unwrap().expect("a claim");
    let released = Owner { released: true, ..claimed.clone() };
    control::write(&*store, &SystemClock::new(), &owner, &released).await.unwrap();
    directed.group.forget_offsets();
    directed.shared.cluster.change(&directed.tp(), |log| {
        log.retain_from(10);
        log.append(20);
    });
    directed.start().await;
    directed.pass(300).await;
    assert_eq!(directed.committed(), 40);
    assert_eq!(control::read::<Owner>(&*store, &owner).await.unwrap(), Some(claimed), "its objects begin where they began");
    assert!(directed.missing().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_late_does_not_change_where_lanes_start() {
    let directed = Directed::new(GuardClass::B, 0);
    let store = FaultyStore::new(Arc::clone(&directed.shared.world), Arc::clone(&directed.shared.store), 1, Vitals::default());
    let keys = ControlKeys::new(&Layout::Hive, &TopicName::new("t"));
    let owner = |start| Owner {
        v: 1,
        rule: "r".into(),
        group: "g".into(),
        cluster: "c".into(),
        topic: "t".into(),
        topic_id: "5".repeat(32),
        start: [(0, start)].into(),
        released: false,
    };
    let clock = SystemClock::new();
    for start in [9, 5] {
        let standing = control::claim(&store, &clock, &keys, &owner(start), Guard::IfAbsent, false).await.unwrap();
        assert_eq!(standing, owner(9), "what stands is what counts, whoever claims again");
    }
    assert_eq!(control::read::<Owner>(&*directed.shared.store, &keys.owner()).await.unwrap(), Some(owner(9)));
}

#[test]
fn an_offset_that_went_back_while_the_format_was_edited_stores_nothing_twice() {
    assert_eq!(went_back::run(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_upload_of_a_process_that_died_is_aborted_once_it_is_too_old_to_be_alive() {
    let plan = Plan { part_bytes: 256, ..Directed::plan() };
    let deadline = plan.upload_deadline.as_secs();
    let mut directed = Directed::planned(plan, 20);
    directed.start().await;
    let key = directed.kill_when_uploading().await;
    // The next process is there in time: its object stands when the upload could still be somebody's.
    directed.start().await;
    directed.pass(300).await;
    assert_eq!((directed.committed(), directed.objects().await[0].0.clone()), (20, key.clone()));
    assert_eq!(directed.shared.store.open_uploads(), [key]);
    directed.pass(deadline).await;
    assert_eq!(directed.shared.store.open_uploads(), [""; 0]);
}

/// The other rules of a service leave no room for a record, for hours.
#[tokio::test(start_paused = true)]
async fn a_record_without_room_is_asked_for_ever_more_seldom_and_what_lies_before_it_is_stored() {
    let mut directed = Directed::with_windows(GuardClass::A, 20, 3_600_000);
    directed.start().await;
    directed.pass(30).await;
    assert_eq!(directed.committed(), 0, "its window is open");
    let opened = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&opened);
    directed.shared.cluster.set_plan(move |question| {
        counted.fetch_add(u64::from(matches!(question, Question::Open(..))), Ordering::Relaxed);
        None
    });
    for _ in 0..20 {
        directed.shared.cluster.fault(&directed.tp(), QueueFault::TooLarge { bytes: 50, limit: 40, ever: 60 });
    }
    directed.pass(600).await;
    assert_eq!((directed.committed(), directed.objects().await.len()), (20, 1), "what was read is not read again");
    let asked = opened.load(Ordering::Relaxed);
    // After 1, 2, 4, ... 64 s, and then every two minutes.
    assert!((5..=10).contains(&asked), "asked for {asked} times in ten minutes");
    directed.append(20);
    directed.pass(3 * 3_600).await;
    assert_eq!((directed.committed(), directed.missing().await), (40, vec![]));
}
