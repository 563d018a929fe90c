//! What is no damage: a backup that runs while it is verified, objects of later versions, and
//! other people's objects beside. And what is found although the comparison fails.

use super::compare::Topic;
use super::*;
use crate::store::layer::StoreLayer;
use crate::store::{ListPage, OpenUpload, Part, StoreResult};

/// A store that is listed before `late` was written, and read afterwards.
#[derive(Debug)]
struct Running {
    store: Arc<dyn ObjectStore>,
    late: Vec<String>,
    listings: Mutex<u32>,
}

impl Running {
    fn place(backup: &Backup, late: &[&String]) -> (Place, Arc<Self>) {
        let late = late.iter().map(|key| (*key).clone()).collect();
        let running = Arc::new(Self { store: Arc::clone(&backup.store), late, listings: Mutex::new(0) });
        (Place::new(Arc::clone(&running) as Arc<dyn ObjectStore>, ""), running)
    }
}

impl StoreLayer for Running {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.store
    }

    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>> {
        Box::pin(async move {
            let mut page = self.store.list(prefix, delimiter, after).await?;
            if !prefix.contains("_catchment/") {
                let mut listings = self.listings.lock().unwrap();
                *listings += 1;
                if *listings == 1 {
                    page.objects.retain(|object| !self.late.contains(&object.key));
                }
            }
            Ok(page)
        })
    }

    fn put<'a>(&'a self, _: &'a str, _: Payload, _: &'a Metadata, _: Guard) -> BoxFuture<'a, StoreResult<String>> {
        unreachable!("verify only reads")
    }

    fn create_upload<'a>(&'a self, _: &'a str, _: &'a Metadata, _: Guard) -> BoxFuture<'a, StoreResult<String>> {
        unreachable!("verify only reads")
    }

    fn upload_part<'a>(&'a self, _: &'a str, _: &'a str, _: u32, _: Payload) -> BoxFuture<'a, StoreResult<Part>> {
        unreachable!("verify only reads")
    }

    fn list_parts<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, StoreResult<Vec<Part>>> {
        unreachable!("verify only reads")
    }

    fn complete_upload<'a>(&'a self, _: &'a str, _: &'a str, _: &'a [Part], _: Guard) -> BoxFuture<'a, StoreResult<String>> {
        unreachable!("verify only reads")
    }

    fn abort_upload<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        unreachable!("verify only reads")
    }

    fn list_uploads<'a>(&'a self, _: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        unreachable!("verify only reads")
    }
}

async fn anchored(backup: &Backup, key: &str) {
    let anchor = serde_json::json!({ "v": 1, "key": key, "E": 250, "topic_id": "0" }).to_string();
    backup.write(&ControlKeys::of_path("orders").anchor("r", 0), anchor.as_bytes(), &Metadata::new()).await;
}

#[tokio::test]
async fn what_is_written_while_the_place_is_listed_is_no_hole() {
    let backup = Backup::in_files(Encoding::PARQUET_ZSTD1).filled().await;
    anchored(&backup, &backup.keys[2]).await;
    // The first and the middle of one lane, and the last one of the other, which only its anchor names.
    for late in [&[&backup.keys[0]][..], &[&backup.keys[1], &backup.keys[4]], &[&backup.keys[2]]] {
        let (place, running) = Running::place(&backup, late);
        let report = verify(&place, None, |_| {}).await.unwrap();
        assert_eq!(kinds(&report), [], "{late:?}: {report:?}");
        let in_a_hole = late.iter().filter(|key| **key != &backup.keys[2]).count() as u64;
        assert_eq!(report.objects, 6 - late.len() as u64 + in_a_hole, "{report:?}");
        assert_eq!(*running.listings.lock().unwrap(), 1 + u32::from(in_a_hole > 0), "listed again once, and only for a hole");
    }
}

#[tokio::test]
async fn a_hole_that_stays_is_reported() {
    let backup = Backup::in_files(Encoding::PARQUET_ZSTD1).filled().await;
    let without = backup.without(&backup.keys[1]).await;
    let (place, _) = Running::place(&without, &[&backup.keys[4]]);
    let report = verify(&place, None, |_| {}).await.unwrap();
    assert_eq!(kinds(&report), [(backup.keys[2].as_str(), DamageKind::Hole)], "{report:?}");
}

#[tokio::test]
async fn an_object_of_a_later_version_is_noted_and_takes_its_place() {
    // The version is changed in place, digit for digit, wherever the object or its record says it.
    for (encoding, old, new) in
        [(Encoding::PARQUET_ZSTD1, "parquet.zstd1.v1", "parquet.zstd1.v2"), (RAW_LEN32, "raw.len32.zstd1.v1", "raw.len32.zstd1.v2")]
    {
        let backup = Backup::in_files(encoding).filled().await;
        let key = key_of(&backup);
        let holder = if encoding == RAW_LEN32 { ControlKeys::of_path("orders").object(0, 140) } else { key.clone() };
        let (later, n) = replaced(&backup.bytes(&holder).await, old, new);
        assert!(n > 0, "{old} is written");
        backup.write(&holder, &later, &Metadata::new()).await;
        let report = backup.verify().await;
        assert_eq!(kinds(&report), [], "{encoding}: {report:?}");
        assert!(report.notes.iter().any(|note| note.contains(&key) && note.contains("needs a newer catchment")), "{report:?}");
        assert_eq!(kinds(&backup.compare(Topic::new()).await), []);
        let (nonsense, _) = replaced(&backup.bytes(&holder).await, new, &new.replace("zstd1.v2", "zstd9.vX"));
        backup.write(&holder, &nonsense, &Metadata::new()).await;
        assert_eq!(kinds(&backup.verify().await), [(key.as_str(), DamageKind::Unreadable)], "{encoding}");
    }
}

#[tokio::test]
async fn other_peoples_objects_beside_the_topics_are_noted() {
    let backup = Backup::in_memory(Encoding::PARQUET_ZSTD1).filled().await;
    for key in ["README.md", "other/data.csv"] {
        backup.write(key, b"x", &Metadata::new()).await;
    }
    let report = backup.verify().await;
    assert_eq!(kinds(&report), [], "{report:?}");
    assert!(report.notes.iter().any(|note| note.starts_with("2 object(s) outside") && note.contains("README.md")), "{report:?}");
}

#[tokio::test]
async fn a_comparison_that_fails_leaves_the_report_on_the_objects() {
    let backup = Backup::in_files(Encoding::PARQUET_ZSTD1).filled().await;
    let without = backup.without(&backup.keys[1]).await;
    let report = without.compare(Topic::elsewhere()).await;
    assert_eq!(kinds(&report), [(backup.keys[2].as_str(), DamageKind::Hole)], "{report:?}");
    assert_eq!(report.failure.as_ref().map(|e| e.code), Some(codes::COMPARE));
    assert!(report.notes.iter().any(|note| note.contains("was not finished") && note.contains("C0505")), "{report:?}");
}

#[tokio::test]
async fn proofs_with_absurd_counts_overflow_nothing() {
    let backup = Backup::in_files(RAW_LEN32).filled().await;
    let (bytes, mut proof) = object(&RAW_LEN32, &lane(0), 140, 200, &[], &records(140, 200));
    (proof.counts.records, proof.counts.value_bytes, proof.counts.null_values) = (u64::MAX, u64::MAX, 1);
    let key = key_of(&backup);
    backup.put(&key, &bytes, &proof).await;
    let report = backup.verify().await;
    assert_eq!(kinds(&report), [(key.as_str(), DamageKind::Counts)], "{report:?}");
    assert_eq!(report.records, u64::MAX);
}

#[tokio::test]
async fn an_object_that_grows_is_read_as_it_was_listed() {
    let store = MemoryStore::default();
    store.put("k", Payload::from_bytes("0123456789"), &Metadata::new(), Guard::Overwrite).await.unwrap();
    assert_eq!(spool::Spool::fetch(&store, "k", 4).await.unwrap().unwrap().len(), 4);
    let huge = vec![b' '; usize::try_from(crate::store::CONTROL_BYTES_MAX).unwrap() + 10];
    store.put("_catchment/owners/orders.json", Payload::from_bytes(huge), &Metadata::new(), Guard::Overwrite).await.unwrap();
    let mut notes = Vec::new();
    control::Control::read(&Place::new(Arc::new(store), ""), "", &mut notes).await.unwrap();
    assert!(notes.len() == 1 && notes[0].contains("not readable"), "{notes:?}");
}
