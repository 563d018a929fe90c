//! What a lane does about things that it must not guess about: somebody else's object under its key, stored objects that do not tile, an intent in an
//! encoding of another build, more gaps than an intent holds, a day without records.
//!
//! The production pipeline on a scripted Kafka and a simulated store; nothing happens by chance.

use std::sync::Arc;

use catchment::clock::SystemClock;
use catchment::commit::control::{self, Owner};
use catchment::intent::CommitNote;
use catchment::limits::{ANCHOR_INTERVAL, MISSING_RANGES_MAX, RECOMMIT_INTERVAL};
use catchment::store::key::{ControlKeys, Layout, TopicName};
use catchment::store::{Guard, GuardClass, Metadata, ObjectStore, Payload};
use catchment_formats::GapCause;
use catchment_tests::memory_store::without;
use catchment_tests::simulation::directed::Directed;

/// `[0, 20)` is stored and its process runs.
async fn stored() -> Directed {
    let mut directed = Directed::new(GuardClass::A, 20);
    directed.start().await;
    directed.pass(30).await;
    assert_eq!(directed.committed(), 20);
    directed
}

/// Whether any line of the trace holds the text.
fn was_told(directed: &Directed, text: &str) -> bool {
    directed.shared.world.traced().2.iter().any(|line| line.contains(text))
}

#[tokio::test(start_paused = true)]
async fn an_object_of_somebody_else_under_a_pinned_key_stops_the_lane_and_is_left_alone() {
    let mut directed = stored().await;
    directed.append(20);
    let intent = directed.kill_when_pinned().await;
    let store = Arc::clone(&directed.shared.store);
    store.put(&intent.key, Payload::from_bytes("theirs"), &Metadata::new(), Guard::IfAbsent).await.expect("nobody is there yet");
    directed.start().await;
    directed.pass(300).await;
    assert!(was_told(&directed, "C0413"));
    assert_eq!(directed.committed(), 20, "the pin stands");
    assert_eq!(store.get(&intent.key, None).await.expect("the memory store answers").as_deref(), Some(&b"theirs"[..]));
}

/// Two that claimed a directory which a third had given up, at the same time: both wrote over its record, and both found themselves in it.
#[tokio::test(start_paused = true)]
async fn a_lane_that_has_lost_its_directory_stops_with_its_next_anchor_however_atomic_guards_are() {
    let directed = stored().await;
    let (store, clock) = (Arc::clone(&directed.shared.store), SystemClock::new());
    let owner = ControlKeys::new(&Layout::Hive, &TopicName::new(&directed.tp().topic)).owner();
    let ours: Owner = control::read(&*store, &owner).await.unwrap().expect("a claim");
    control::write(&*store, &clock, &owner, &Owner { group: "another".into(), ..ours }).await.unwrap();
    directed.pass(ANCHOR_INTERVAL.as_secs() + 60).await;
    assert!(was_told(&directed, "C0412"));
    directed.append(20);
    directed.pass(300).await;
    assert_eq!(directed.committed(), 20, "nothing is stored in another's directory");
}

#[tokio::test(start_paused = true)]
async fn objects_that_do_not_tile_stop_a_lane_whose_offset_is_forgotten() {
    let mut directed = stored().await;
    directed.append(20);
    directed.pass(30).await;
    assert_eq!(directed.committed(), 40);
    directed.kill();
    let objects = directed.objects().await;
    let (gone, _) = &objects[objects.len() / 2];
    directed.shared.store = without(&directed.shared.store, gone).await;
    directed.group.forget_offsets();
    directed.start().await;
    directed.pass(300).await;
    assert!(was_told(&directed, "C0427"));
    assert_eq!(directed.committed(), -1, "nothing is guessed");
    assert_eq!(directed.objects().await.len(), objects.len() - 1);
}

#[tokio::test(start_paused = true)]
async fn an_intent_in_an_encoding_of_another_build_is_written_in_ours() {
    let mut directed = stored().await;
    directed.append(20);
    let intent = directed.kill_when_pinned().await;
    let mut committed = directed.group.committed(&directed.tp()).expect("it is pinned");
    assert!(committed.metadata.contains("parquet.zstd1.v1"), "{}", committed.metadata);
    committed.metadata = committed.metadata.replace("parquet.zstd1.v1", "parquet.zstd1.v9");
    directed.group.set_committed(&directed.tp(), committed);
    directed.start().await;
    // A copy in the pinned encoding may be on its way for as long as an upload may take.
    directed.pass(3 * 3600).await;
    assert_eq!((directed.committed(), directed.missing().await), (40, vec![]));
    let objects = directed.objects().await;
    let (_, proof) = objects.iter().find(|(key, _)| *key == intent.key).expect("under the pinned key");
    assert_eq!((proof.range.start, proof.range.end, &*proof.encoding), (intent.start, intent.end, "parquet.zstd1.v1"));
}

#[tokio::test(start_paused = true)]
async fn a_window_closes_before_it_has_more_gaps_than_an_intent_holds() {
    let mut directed = Directed::with_windows(GuardClass::A, 20, 3_600_000);
    let corrupt: Vec<i64> = (0..20).map(|n| 21 + 2 * n).collect();
    directed.append(60);
    directed.shared.cluster.change(&directed.tp(), |log| {
        for &offset in &corrupt {
            log.corrupt(offset..offset + 1, u32::MAX);
        }
    });
    directed.start().await;
    directed.pass(4 * 3600).await;
    let missing: Vec<_> = directed.missing().await.iter().map(|gap| (gap.0, gap.1, gap.cause())).collect();
    assert_eq!(missing, corrupt.iter().map(|&offset| (offset, offset + 1, GapCause::CorruptBatch)).collect::<Vec<_>>());
    assert_eq!(directed.committed(), 80);
    let most = directed.objects().await.iter().map(|(_, proof)| proof.missing.len()).max();
    assert_eq!(most, Some(MISSING_RANGES_MAX));
}

#[tokio::test(start_paused = true)]
async fn an_idle_lane_commits_its_offset_again_each_day() {
    let directed = stored().await;
    let commits = || directed.group.accepted().len();
    directed.pass(RECOMMIT_INTERVAL.as_secs() / 2).await;
    let before = commits();
    directed.pass(RECOMMIT_INTERVAL.as_secs()).await;
    assert_eq!(commits(), before + 1);
    let committed = directed.group.committed(&directed.tp()).expect("it is there");
    assert!(matches!(CommitNote::parse(&committed.metadata), Ok(CommitNote::Tidy(_))));
    assert_eq!(committed.offset, 20);
}
