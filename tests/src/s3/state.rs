//! What a server holds and remembers.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::fault::{Fault, FaultPlan, FaultRules};
use super::request::{Op, Request};
use super::{Config, FaultRule, multipart};

/// A server's contents, its log, and the switches of a test.
pub struct State {
    pub(super) config: Config,
    begun: Instant,
    store: Mutex<Store>,
    log: Mutex<Vec<Logged>>,
    plan: RwLock<FaultPlan>,
    denied: AtomicBool,
    /// Bytes a second of all request bodies together; 0: no limit.
    rate: AtomicU64,
    rate_free_at: tokio::sync::Mutex<tokio::time::Instant>,
    /// Requests in progress, and effects that are yet to come.
    busy: tokio::sync::watch::Sender<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub objects: BTreeMap<String, Object>,
    pub uploads: BTreeMap<String, Upload>,
    /// Uploads that were completed: key and ETag, for a repeated Complete.
    pub completed: HashMap<String, (String, String)>,
    pub versions: BTreeMap<String, Vec<Version>>,
    pub serial: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Object {
    pub chunks: Arc<[Bytes]>,
    pub size: u64,
    pub etag: String,
    pub crc64: u64,
    pub metadata: BTreeMap<String, String>,
    pub written: Instant,
}

#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub key: String,
    pub metadata: BTreeMap<String, String>,
    pub has_checksums: bool,
    pub parts: BTreeMap<u32, PartBody>,
    pub initiated: SystemTime,
}

#[derive(Clone, Debug)]
pub(super) struct PartBody {
    pub chunks: Arc<[Bytes]>,
    pub size: u64,
    pub md5: [u8; 16],
    pub crc64_nvme: u64,
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// When it became visible, among all events of the test.
    pub order: u64,
    /// When it became visible, in milliseconds since the server's start.
    pub at_ms: u64,
    /// Its ETag, without quotes.
    pub etag: String,
    /// Its size in bytes.
    pub size: u64,
    /// CRC-64/XZ of its bytes: two versions of equal sum and size hold the same bytes.
    pub crc64: u64,
    /// Whether it is a deletion.
    pub deleted: bool,
    /// Its user metadata.
    pub metadata: BTreeMap<String, String>,
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Logged {
    /// When its headers arrived, in milliseconds since the server's start.
    pub begun_ms: u64,
    /// When it was answered.
    pub ended_ms: u64,
    /// What was asked.
    pub op: Op,
    /// The key, or the prefix of a listing.
    pub key: String,
    /// The upload's id.
    pub upload: Option<String>,
    /// The part's number.
    pub part: Option<u32>,
    /// Size of the request's body.
    pub bytes: u64,
    /// Whether it carried a guard header that this service knows.
    pub guarded: bool,
    /// Whether it carried a `Content-MD5`.
    pub md5: bool,
    /// The access key that it was signed with; empty if there was no signature.
    pub access_key: String,
    /// The session token that it carried.
    pub session_token: Option<String>,
    /// The HTTP status; 0 for a reset connection.
    pub status: u16,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("config", &self.config).finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            begun: Instant::now(),
            store: Mutex::default(),
            log: Mutex::default(),
            plan: RwLock::new(Arc::new(|_| Fault::default())),
            denied: AtomicBool::new(false),
            rate: AtomicU64::new(0),
            rate_free_at: tokio::sync::Mutex::new(tokio::time::Instant::now()),
            busy: tokio::sync::watch::Sender::new(0),
        }
    }

    /// Decides about every request from now on.
    pub fn set_faults(&self, plan: impl Fn(&Request) -> Fault + Send + Sync + 'static) {
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    }

    /// The same by rules.
    pub fn set_fault_rules(&self, rules: Vec<FaultRule>) {
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = FaultRules::plan(rules);
    }

    /// Answers everything with 403 AccessDenied, or stops doing so.
    pub fn set_denied(&self, denied: bool) {
        self.denied.store(denied, Ordering::SeqCst);
    }

    /// Reads all request bodies together at this many bytes a second; 0: as fast as they come.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.rate.store(bytes_per_second, Ordering::SeqCst);
    }

    /// Completes an upload, if there is one, as a request that was sent long ago does when it takes effect at last.
    pub fn complete_overdue(&self, id: &str) {
        multipart::complete_overdue(self, id);
    }

    /// Somebody replaces an object, or with none deletes it, behind everybody's back. Nothing is written down of it.
    pub fn tamper(&self, key: &str, body: Option<Bytes>) {
        let mut store = self.store();
        match (store.objects.get_mut(key), body) {
            (Some(object), Some(body)) => (object.size, object.chunks) = (body.len() as u64, [body].into()),
            (_, None) => drop(store.objects.remove(key)),
            (None, Some(_)) => panic!("{key} does not exist"),
        }
    }

    /// Requests that are in progress, and effects that are yet to come.
    pub fn in_progress(&self) -> usize {
        *self.busy.borrow()
    }

    /// Waits until no request is in progress and no effect is to come any more.
    pub async fn quiet(&self) {
        // The sender lives as long as `self`, so waiting can only end with the value.
        let _ = self.busy.subscribe().wait_for(|busy| *busy == 0).await;
    }

    /// Counts as busy until it is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.send_modify(|busy| *busy += 1);
        Busy(Arc::clone(self))
    }

    /// Makes all open uploads older by this much.
    pub fn backdate_uploads(&self, by: Duration) {
        for upload in self.store().uploads.values_mut() {
            upload.initiated -= by;
        }
    }

    /// All requests so far, in the order of their answers.
    pub fn log(&self) -> Vec<Logged> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every version of every key, in order.
    pub fn versions(&self) -> BTreeMap<String, Vec<Version>> {
        self.store().versions.clone()
    }

    /// Keys whose bytes changed, or that were deleted, after they had become visible. Control objects may change.
    pub fn changed_keys(&self) -> Vec<String> {
        let changed = |versions: &[Version]| {
            versions.windows(2).any(|w| (w[0].crc64, w[0].size, w[0].deleted) != (w[1].crc64, w[1].size, w[1].deleted))
        };
        let store = self.store();
        let keys = store.versions.iter().filter(|(key, versions)| !key.contains("_catchment/") && changed(versions));
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// The keys of the open uploads with their ids.
    pub fn open_uploads(&self) -> Vec<(String, String)> {
        self.store().uploads.iter().map(|(id, upload)| (upload.key.clone(), id.clone())).collect()
    }

    /// Whether an open upload has a part.
    pub fn has_parts(&self, id: &str) -> bool {
        self.store().uploads.get(id).is_some_and(|upload| !upload.parts.is_empty())
    }

    /// The body of an object.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.store().objects.get(key).map(|object| object.chunks.concat().into())
    }

    /// Log, versions and open uploads, as `GET /_log` sends them.
    pub fn dump(&self) -> Value {
        json!({ "requests": self.log(), "versions": self.versions(), "open_uploads": self.open_uploads() })
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fault(&self, request: &Request) -> Fault {
        let plan = Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner));
        if self.denied.load(Ordering::SeqCst) { Fault::refused(403, "AccessDenied") } else { plan(request) }
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn record(&self, request: &Request, begun_ms: u64, status: u16) {
        let logged = Logged {
            begun_ms,
            ended_ms: self.now_ms(),
            op: request.op,
            key: request.key.clone(),
            upload: request.upload.clone(),
            part: request.part,
            bytes: request.bytes,
            guarded: request.guarded,
            md5: request.md5,
            access_key: request.access_key.clone(),
            session_token: request.session_token.clone(),
            status,
        };
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(logged);
    }

    /// Waits until `bytes` more of request bodies may have passed.
    pub(super) async fn pace(&self, bytes: usize) {
        let rate = self.rate.load(Ordering::SeqCst);
        if rate == 0 {
            return;
        }
        let until = {
            let mut free_at = self.rate_free_at.lock().await;
            let now = tokio::time::Instant::now();
            *free_at = (*free_at).max(now) + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *free_at
        };
        tokio::time::sleep_until(until).await;
    }
}

/// Something that goes on in a server.
#[derive(Debug)]
pub(super) struct Busy(Arc<State>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|busy| *busy -= 1);
    }
}

impl Store {
    /// Makes an object visible.
    pub(super) fn insert(&mut self, key: &str, object: Object, order: u64, at_ms: u64) {
        let version = Version {
            order,
            at_ms,
            etag: object.etag.clone(),
            size: object.size,
            crc64: object.crc64,
            deleted: false,
            metadata: object.metadata.clone(),
        };
        self.versions.entry(key.to_owned()).or_default().push(version);
        self.objects.insert(key.to_owned(), object);
    }

    /// Removes an object, if it is there.
    pub(super) fn remove(&mut self, key: &str, order: u64, at_ms: u64) {
        if let Some(object) = self.objects.remove(key) {
            let version = Version { order, at_ms, etag: object.etag, size: 0, crc64: 0, deleted: true, metadata: BTreeMap::new() };
            self.versions.entry(key.to_owned()).or_default().push(version);
        }
    }
}
