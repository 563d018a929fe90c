//! What a process that died has left in the store, where the store has changed it or shows it late: an upload that somebody's Complete was taken for, and an
//! object whose bytes are not those that were sent.
//!
//! The production pipeline on a scripted Kafka and a store in memory; nothing happens by chance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catchment::config::OnGap;
use catchment::store::layer::StoreLayer;
use catchment::store::memory::MemoryStore;
use catchment::store::{
    BoxFuture, Guard, Metadata, ObjectInfo, ObjectStore, Part, Payload, StoreError, StoreErrorKind, StoreLimits, StoreResult,
};
use catchment_tests::memory_store::without;
use catchment_tests::rig::Rig;

/// How long a Complete that was taken needs until its object shows.
const SHOWS_AFTER: Duration = Duration::from_secs(60);

/// Small enough that each window is an upload of several parts.
const PART_BYTES: u64 = 64;

/// A store that has taken a Complete of which nobody knows: the next one is told that there is no such upload, and the object shows a minute later.
#[derive(Debug)]
struct TakesLate {
    memory: Arc<MemoryStore>,
    is_next: AtomicBool,
    is_taken: AtomicBool,
}

impl TakesLate {
    fn gone(&self, op: &'static str, key: &str) -> Option<StoreError> {
        self.is_taken.load(Ordering::SeqCst).then(|| StoreError::new(StoreErrorKind::NoSuchUpload, op, key, "it was completed"))
    }
}

impl StoreLayer for TakesLate {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.memory
    }

    fn limits(&self) -> StoreLimits {
        StoreLimits { part_bytes: PART_BYTES, ..self.memory.limits() }
    }

    fn list_parts<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<Vec<Part>>> {
        match self.gone("ListParts", key) {
            Some(gone) => Box::pin(std::future::ready(Err(gone))),
            None => self.memory.list_parts(key, upload),
        }
    }

    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(async move {
            // Long enough for a test to step in behind the pin.
            tokio::time::sleep(Duration::from_millis(5)).await;
            if !self.is_next.swap(false, Ordering::SeqCst) {
                return self.memory.complete_upload(key, upload, parts, guard).await;
            }
            self.is_taken.store(true, Ordering::SeqCst);
            let (memory, to, upload, parts) = (Arc::clone(&self.memory), key.to_owned(), upload.to_owned(), parts.to_vec());
            tokio::spawn(async move {
                tokio::time::sleep(SHOWS_AFTER).await;
                memory.complete_upload(&to, &upload, &parts, guard).await.expect("it was taken");
            });
            Err(self.gone("CompleteMultipartUpload", key).expect("it is taken"))
        })
    }

    fn abort_upload<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        match self.gone("AbortMultipartUpload", key) {
            Some(_) => Box::pin(std::future::ready(Ok(()))),
            None => self.memory.abort_upload(key, upload),
        }
    }
}

/// The whole window was with the store; what Kafka has lost of it meanwhile is no gap.
#[tokio::test(start_paused = true)]
async fn a_complete_that_was_taken_and_shows_late_is_waited_for_before_less_is_published() {
    let mut made = None;
    let mut rig = Rig::new(1, 20, |memory| {
        let store = Arc::new(TakesLate { memory, is_next: AtomicBool::new(false), is_taken: AtomicBool::new(false) });
        made = Some(Arc::clone(&store));
        store
    });
    rig.rule.on_gap.retention = OnGap::Continue;
    let store = made.expect("the store was made");
    rig.start().await;
    rig.pass(30).await;
    rig.append(20);
    let intent = rig.kill_when_pinned().await;
    assert!(intent.upload.is_some() && (intent.start, intent.end) == (20, 25), "{intent:?}");
    rig.cluster.change(&rig.tp(0), |log| log.retain_from(23));
    store.is_next.store(true, Ordering::SeqCst);
    rig.start().await;
    // Until then the upload is gone for everybody; later ones are others.
    rig.pass(SHOWS_AFTER.as_secs() + 5).await;
    assert!(store.is_taken.swap(false, Ordering::SeqCst), "nobody has completed it: {:?}", rig.told);
    rig.pass(300).await;
    let objects = rig.objects().await;
    let (_, proof) = objects.iter().find(|(key, _)| *key == intent.key).expect("the pinned window");
    assert_eq!((proof.range.end, proof.counts.records, &proof.missing[..]), (25, 5, &[][..]), "{:?}", rig.told);
    assert!(objects.iter().all(|(_, proof)| proof.missing.is_empty()), "{objects:?}");
    assert_eq!((rig.committed(0).offset, rig.pinned(0)), (40, None));
}

/// A store that shows the sum of what it has, as COS does, and that stores another byte of the next data object and does not answer.
#[derive(Debug)]
struct Flips {
    memory: Arc<MemoryStore>,
    is_next: AtomicBool,
}

impl StoreLayer for Flips {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.memory
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        if key.starts_with("_catchment/") || !self.is_next.swap(false, Ordering::SeqCst) {
            return self.memory.put(key, body, metadata, guard);
        }
        let mut bytes = body.to_bytes().to_vec();
        bytes[10] ^= 1;
        Box::pin(async move {
            self.memory.put(key, Payload::from_bytes(bytes), metadata, guard).await?;
            std::future::pending().await
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        Box::pin(async move {
            let Some(info) = self.memory.head(key).await? else { return Ok(None) };
            let bytes = self.memory.get(key, None).await?.expect("it stands");
            Ok(Some(ObjectInfo { crc64: Some(Payload::from_bytes(bytes).crc64()), ..info }))
        })
    }
}

/// Who has sent it would write it again; who comes later has only its metadata to go by.
#[tokio::test(start_paused = true)]
async fn an_object_whose_bytes_are_not_those_that_were_sent_is_not_adopted() {
    let mut made = None;
    let mut rig = Rig::new(1, 20, |memory| {
        let store = Arc::new(Flips { memory, is_next: AtomicBool::new(false) });
        made = Some(Arc::clone(&store));
        store
    });
    let store = made.expect("the store was made");
    rig.start().await;
    rig.pass(30).await;
    assert_eq!(rig.committed(0).offset, 20, "sums that agree keep nothing from being stored");
    store.is_next.store(true, Ordering::SeqCst);
    rig.append(20);
    rig.pass(10).await;
    let intent = rig.pinned(0).expect("no answer has come");
    rig.kill();
    assert!(rig.memory.head(&intent.key).await.expect("the memory store answers").is_some(), "it stands, damaged");
    rig.start().await;
    rig.pass(300).await;
    assert_eq!((rig.committed(0).offset, rig.pinned(0).map(|pin| pin.key)), (20, Some(intent.key.clone())), "{:?}", rig.told);
    assert!(!rig.told.with(&["C0413"]).is_empty(), "{:?}", rig.told);

    // The operator moves it away, and the window is written again as it was pinned.
    rig.kill();
    rig.memory = without(&rig.memory, &intent.key).await;
    rig.store = Arc::new(Flips { memory: Arc::clone(&rig.memory), is_next: AtomicBool::new(false) });
    rig.start().await;
    rig.pass(300).await;
    rig.assert_complete("once it is out of the way").await;
}
