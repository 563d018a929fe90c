//! Measures a bucket's guard: does a create-only write spare what exists, and does it do so when eight clients race? And its listing: does it forget
//! an upload that was completed?
//!
//! Per operation, PutObject and CompleteMultipartUpload, because services differ between the two, and an unsupported guard
//! is usually ignored with 200. Writes a few small objects under `_catchment/probes/`. At the start of a rule they stay, since its credentials need not permit
//! a deletion, and the result is kept beside them for a day; who asks for a probe by hand has them removed where that is permitted ([`clean`]).
//!
//! A race that one client wins proves little, so what a service is known for caps the class
//! ([`ObjectStore::guard_class_best`]). What could not be measured counts as [`GuardClass::C`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{Guard, GuardClass, Metadata, ObjectStore, Payload, StoreError, StoreErrorKind, StoreResult, key};

/// Clients of a race. Racy services let several of eight through in most races; more clients would only cost requests.
const CLIENTS: usize = 8;

/// Races of each operation, each on a key of its own. A service that lets two winners through in one race of four passes six
/// of them once in six times, until the next day's probe; many more races would delay every start.
const RACES: usize = 6;

/// How often a step is begun anew, with another key, after an answer that leaves its outcome open.
const TRIES: usize = 4;

/// A result is used again for this long, in milliseconds: a bucket's versioning may be switched on any day, and a probe costs
/// about 300 requests.
const KEPT_MS: u64 = 24 * 3600 * 1000;

/// The version of a kept result.
const KEPT_VERSION: u32 = 2;

/// The classes of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardClasses {
    /// Of PutObject.
    pub put: GuardClass,
    /// Of CompleteMultipartUpload.
    pub complete: GuardClass,
    /// Whether an upload that was completed is listed no more. Where it is, an abort may take the object's bytes.
    pub forgets_completed: bool,
}

impl GuardClasses {
    /// What counts as long as nothing was measured.
    pub const UNKNOWN: Self = Self { put: GuardClass::C, complete: GuardClass::C, forgets_completed: false };
}

/// What is kept of a probe.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    v: u32,
    guard: String,
    put: GuardClass,
    complete: GuardClass,
    forgets_completed: bool,
    at_ms: u64,
}

/// The classes of the bucket: the kept ones if they are younger than a day and of the same guard, else measured and kept.
/// `now_ms` is the time since 1970.
///
/// # Errors
/// A request that failed for good, or whose outcome stayed open: the store is denied, gone, or away.
pub async fn classes(store: &Arc<dyn ObjectStore>, now_ms: u64) -> StoreResult<GuardClasses> {
    if let Some(kept) = read_kept(store, now_ms).await? {
        return Ok(kept);
    }
    let measured = measure(store).await?;
    let GuardClasses { put, complete, forgets_completed } = measured;
    let kept = Kept { v: KEPT_VERSION, guard: store.guard_name().to_owned(), put, complete, forgets_completed, at_ms: now_ms };
    let body = serde_json::to_vec(&kept).unwrap_or_default();
    // Not kept is measured again at the next start: no reason to fail this one.
    if let Err(e) = store.put(key::PROBE_RESULT, Payload::from_bytes(body), &Metadata::new(), Guard::Overwrite).await {
        tracing::warn!(error = %e, "the result of the guard's probe could not be kept");
    }
    Ok(measured)
}

async fn read_kept(store: &Arc<dyn ObjectStore>, now_ms: u64) -> StoreResult<Option<GuardClasses>> {
    let Some(body) = store.get(key::PROBE_RESULT, Some(0..super::CONTROL_BYTES_MAX)).await? else { return Ok(None) };
    // A file of another version, or somebody else's: measure again.
    let Ok(kept) = serde_json::from_slice::<Kept>(&body) else { return Ok(None) };
    let fresh =
        kept.v == KEPT_VERSION && kept.guard == store.guard_name() && now_ms.checked_sub(kept.at_ms).is_some_and(|age| age < KEPT_MS);
    let best = store.guard_class_best();
    let Kept { put, complete, forgets_completed, .. } = kept;
    Ok(fresh.then(|| GuardClasses { put: put.max(best), complete: complete.max(best), forgets_completed }))
}

/// Measures both operations now.
///
/// # Errors
/// As [`classes`].
pub async fn measure(store: &Arc<dyn ObjectStore>) -> StoreResult<GuardClasses> {
    measure_in(store, &new_run()).await
}

/// The directory of a probe of its own.
pub fn new_run() -> String {
    format!("{}{:016x}", key::PROBES, fastrand::u64(..))
}

/// [`measure`]s within the directory of a probe.
///
/// # Errors
/// As [`classes`].
pub async fn measure_in(store: &Arc<dyn ObjectStore>, run: &str) -> StoreResult<GuardClasses> {
    let best = store.guard_class_best();
    if best == GuardClass::C {
        return Ok(GuardClasses { forgets_completed: forgets_completed(store, run).await?, ..GuardClasses::UNKNOWN });
    }
    let put = measure_operation(store, &format!("{run}/put"), Operation::Put).await?.max(best);
    let complete = match store.limits().multipart {
        true => measure_operation(store, &format!("{run}/complete"), Operation::Complete).await?.max(best),
        false => GuardClass::C,
    };
    // Last: whoever may not write is told so of a PUT.
    Ok(GuardClasses { put, complete, forgets_completed: forgets_completed(store, run).await? })
}

/// Removes what a probe has written. Answers how many objects are left, which is nothing that a backup minds.
pub async fn clean(store: &dyn ObjectStore, run: &str) -> u64 {
    let (mut left, mut after) = (0, None);
    // Whoever may not list has written nothing that is known of.
    while let Ok(page) = store.list(&format!("{run}/"), false, after.as_deref()).await {
        for object in &page.objects {
            if let Err(e) = store.remove_probe(&object.key).await {
                tracing::debug!(error = %e, "an object of a probe could not be removed");
                left += 1;
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    left
}

/// Completes an upload and looks for it in the listing, more than once: a listing may lag.
async fn forgets_completed(store: &Arc<dyn ObjectStore>, run: &str) -> StoreResult<bool> {
    if !store.limits().multipart {
        return Ok(true);
    }
    for attempt in 0..TRIES {
        let key = format!("{run}/listed-{attempt}");
        if prepare(store, &key, "listed", Operation::Complete).await?.write(store).await? != Outcome::Written {
            continue;
        }
        match store.list_uploads(&key).await {
            Ok(uploads) if uploads.is_empty() => return Ok(true),
            // Who may not list has nothing to clean up by a listing.
            Err(e) if e.kind == StoreErrorKind::Denied => return Ok(false),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Put,
    Complete,
}

/// How one guarded write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Written,
    Refused,
    Open,
}

async fn measure_operation(store: &Arc<dyn ObjectStore>, run: &str, operation: Operation) -> StoreResult<GuardClass> {
    if !second_write_is_refused(store, run, operation).await? {
        return Ok(GuardClass::C);
    }
    for race in 0..RACES {
        if !one_client_wins(store, &format!("{run}/race-{race}"), operation).await? {
            return Ok(GuardClass::B);
        }
    }
    Ok(GuardClass::A)
}

/// Writes a key twice and reads it back.
async fn second_write_is_refused(store: &Arc<dyn ObjectStore>, run: &str, operation: Operation) -> StoreResult<bool> {
    for attempt in 0..TRIES {
        let key = format!("{run}/twice-{attempt}");
        let first = prepare(store, &key, "first", operation).await?.write(store).await?;
        if first == Outcome::Open {
            continue;
        }
        let second = match prepare(store, &key, "second", operation).await {
            Ok(write) => write.write(store).await?,
            // COS may refuse to open an upload of a key that exists.
            Err(e) if e.kind == StoreErrorKind::Exists => Outcome::Refused,
            Err(e) => return Err(e),
        };
        let kept = store.get(&key, None).await?.is_some_and(|body| body == "first");
        match second {
            Outcome::Refused => return Ok(kept),
            Outcome::Written => return Ok(false),
            Outcome::Open => {}
        }
    }
    Err(open_outcome(run, operation))
}

/// Lets all clients write one new key at once.
async fn one_client_wins(store: &Arc<dyn ObjectStore>, key: &str, operation: Operation) -> StoreResult<bool> {
    for attempt in 0..TRIES {
        let key = format!("{key}-{attempt}");
        let mut writes = Vec::new();
        for client in 0..CLIENTS {
            writes.push(prepare(store, &key, &client.to_string(), operation).await?);
        }
        let mut clients = JoinSet::new();
        for write in writes {
            let store = Arc::clone(store);
            clients.spawn(async move { write.write(&store).await });
        }
        let mut outcomes = Vec::new();
        while let Some(client) = clients.join_next().await {
            outcomes.push(client.unwrap_or(Ok(Outcome::Open))?);
        }
        if outcomes.iter().filter(|o| **o == Outcome::Written).count() > 1 {
            return Ok(false);
        }
        if !outcomes.contains(&Outcome::Open) {
            return Ok(true);
        }
    }
    Err(open_outcome(key, operation))
}

fn open_outcome(key: &str, operation: Operation) -> StoreError {
    let op = match operation {
        Operation::Put => "PutObject",
        Operation::Complete => "CompleteMultipartUpload",
    };
    StoreError::new(StoreErrorKind::Unknown, op, key, format!("no clear answer to the guard's probe in {TRIES} tries"))
}

/// A write that lacks only its last request.
enum Write {
    Put { key: String, body: Payload },
    Complete { key: String, upload: String, part: super::Part },
}

async fn prepare(store: &Arc<dyn ObjectStore>, key: &str, body: &str, operation: Operation) -> StoreResult<Write> {
    let (key, body) = (key.to_owned(), Payload::from_bytes(body.to_owned()));
    match operation {
        Operation::Put => Ok(Write::Put { key, body }),
        Operation::Complete => {
            let upload = store.create_upload(&key, &Metadata::new(), Guard::IfAbsent).await?;
            let part = store.upload_part(&key, &upload, 1, body).await?;
            Ok(Write::Complete { key, upload, part })
        }
    }
}

impl Write {
    async fn write(self, store: &Arc<dyn ObjectStore>) -> StoreResult<Outcome> {
        let result = match &self {
            Self::Put { key, body } => store.put(key, body.clone(), &Metadata::new(), Guard::IfAbsent).await,
            Self::Complete { key, upload, part } => {
                let result = store.complete_upload(key, upload, std::slice::from_ref(part), Guard::IfAbsent).await;
                if result.is_err() {
                    // A refused upload would be billed until somebody removes it.
                    store.abort_upload(key, upload).await?;
                }
                result
            }
        };
        match result {
            Ok(_) => Ok(Outcome::Written),
            Err(e) => match e.kind {
                StoreErrorKind::Exists | StoreErrorKind::Conflict => Ok(Outcome::Refused),
                StoreErrorKind::Unknown | StoreErrorKind::NoSuchUpload => Ok(Outcome::Open),
                _ => Err(e),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    fn memory() -> Arc<dyn ObjectStore> {
        Arc::new(MemoryStore::default())
    }

    #[tokio::test]
    async fn the_twin_is_atomic_and_the_result_is_kept_for_a_day() {
        let store = memory();
        let a = GuardClasses { put: GuardClass::A, complete: GuardClass::A, forgets_completed: true };
        assert_eq!(classes(&store, 1_000).await.unwrap(), a);
        let objects = store.list("", false, None).await.unwrap().objects;
        assert!(objects.iter().all(|o| o.key.starts_with("_catchment/probes/")), "{objects:?}");
        assert_eq!(classes(&store, 1_000 + KEPT_MS - 1).await.unwrap(), a);
        assert_eq!(store.list("", false, None).await.unwrap().objects.len(), objects.len(), "measured again within a day");
        classes(&store, 1_000 + KEPT_MS).await.unwrap();
        assert!(store.list("", false, None).await.unwrap().objects.len() > objects.len(), "not measured again");
    }

    #[tokio::test]
    async fn a_result_of_another_guard_or_from_the_future_is_not_used() {
        for kept in [
            r#"{"v":2,"forgets_completed":true,"guard":"if-none-match","put":"C","complete":"C","at_ms":500}"#,
            r#"{"v":2,"forgets_completed":true,"guard":"memory","put":"C","complete":"C","at_ms":2000}"#,
            r#"{"v":1,"guard":"memory","put":"C","complete":"C","at_ms":500}"#,
            "nonsense",
        ] {
            let store = memory();
            store.put(key::PROBE_RESULT, Payload::from_bytes(kept), &Metadata::new(), Guard::Overwrite).await.unwrap();
            assert_eq!(classes(&store, 1_000).await.unwrap().put, GuardClass::A, "{kept}");
        }
    }

    #[tokio::test]
    async fn a_kept_result_is_used() {
        let store = memory();
        let kept = r#"{"v":2,"forgets_completed":true,"guard":"memory","put":"B","complete":"C","at_ms":500}"#;
        store.put(key::PROBE_RESULT, Payload::from_bytes(kept), &Metadata::new(), Guard::Overwrite).await.unwrap();
        assert_eq!(
            classes(&store, 1_000).await.unwrap(),
            GuardClasses { put: GuardClass::B, complete: GuardClass::C, forgets_completed: true }
        );
    }

    #[tokio::test]
    async fn a_probe_by_hand_leaves_nothing_and_removes_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let files: Arc<dyn ObjectStore> = Arc::new(crate::store::file::FileStore::open(dir.path()).unwrap());
        for store in [memory(), files] {
            let others = ["_catchment/owners/t.json", "_catchment/probes/class.json", "t/dt=1/t+0+1.parquet"];
            for key in others {
                store.put(key, Payload::from_bytes("x"), &Metadata::new(), Guard::Overwrite).await.unwrap();
                assert_eq!(store.remove_probe(key).await.unwrap_err().kind, StoreErrorKind::Invalid, "{key}");
            }
            assert!(store.remove_probe("_catchment/probes/../owners/t.json").await.is_err());
            let run = new_run();
            measure_in(&store, &run).await.unwrap();
            assert!(!store.list(&run, false, None).await.unwrap().objects.is_empty());
            assert_eq!(clean(&*store, &run).await, 0);
            let standing = store.list("", false, None).await.unwrap().objects;
            assert_eq!(standing.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), others);
        }
    }
}
