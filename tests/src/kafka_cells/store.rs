//! A store that takes no data object while it is told to: a window that is pinned stays pinned.
//! It knows since when each object can be visible, and since when it surely is.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use catchment::store::layer::StoreLayer;
use catchment::store::{
    BoxFuture, Guard, ListPage, Metadata, ObjectInfo, ObjectStore, Part, Payload, StoreError, StoreErrorKind, StoreResult,
};

/// The store.
#[derive(Debug)]
pub(crate) struct HeldStore {
    inner: Arc<dyn ObjectStore>,
    held: AtomicBool,
    refused: AtomicU32,
    first_refused: OnceLock<Instant>,
    refused_for_ms: AtomicU64,
    completed: AtomicU32,
    since: Mutex<BTreeMap<String, Instant>>,
    seen: Mutex<BTreeMap<String, Instant>>,
}

impl HeldStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            held: AtomicBool::default(),
            refused: AtomicU32::default(),
            first_refused: OnceLock::default(),
            refused_for_ms: AtomicU64::default(),
            completed: AtomicU32::default(),
            since: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Refuses data objects from now on, or takes them again.
    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// Data objects that were refused.
    pub(crate) fn refused(&self) -> u32 {
        self.refused.load(Ordering::SeqCst)
    }

    /// How long after the first data object that was refused the last one was.
    pub(crate) fn refused_for(&self) -> Duration {
        Duration::from_millis(self.refused_for_ms.load(Ordering::SeqCst))
    }

    /// Multipart uploads that were completed.
    pub(crate) fn completed(&self) -> u32 {
        self.completed.load(Ordering::SeqCst)
    }

    /// The moment from which an object can have been visible: when the first request that wrote it was sent.
    pub(crate) fn visible_since(&self, key: &str) -> Option<Instant> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    /// The moment from which an object surely is visible: when whoever wrote it heard so, or somebody else saw it.
    pub(crate) fn seen_at(&self, key: &str) -> Option<Instant> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    /// A request that was sent at this time has written an object.
    fn note_written(&self, key: &str, sent: Instant) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).entry(key.to_owned()).or_insert(sent);
        self.note_seen(key);
    }

    /// To be called before anybody hears of the object, so that what is done on the strength of that comes later.
    fn note_seen(&self, key: &str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(key.to_owned()).or_insert_with(Instant::now);
    }

    fn admit(&self, op: &'static str, key: &str) -> StoreResult<()> {
        if !self.held.load(Ordering::SeqCst) || key.contains("_catchment/") {
            return Ok(());
        }
        let since = self.first_refused.get_or_init(Instant::now).elapsed();
        self.refused_for_ms.fetch_max(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(StoreError::new(StoreErrorKind::Unknown, op, key, "the store is away"))
    }
}

impl StoreLayer for HeldStore {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.inner
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(async move {
            self.admit("PutObject", key)?;
            let sent = Instant::now();
            let etag = self.inner.put(key, body, metadata, guard).await?;
            self.note_written(key, sent);
            Ok(etag)
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        Box::pin(async move {
            let found = self.inner.head(key).await?;
            found.iter().for_each(|_| self.note_seen(key));
            Ok(found)
        })
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        Box::pin(async move {
            let found = self.inner.get(key, range).await?;
            found.iter().for_each(|_| self.note_seen(key));
            Ok(found)
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>> {
        Box::pin(async move {
            let page = self.inner.list(prefix, delimiter, after).await?;
            page.objects.iter().for_each(|object| self.note_seen(&object.key));
            Ok(page)
        })
    }

    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(async move {
            self.admit("CompleteMultipartUpload", key)?;
            let sent = Instant::now();
            let etag = self.inner.complete_upload(key, upload, parts, guard).await?;
            self.note_written(key, sent);
            self.completed.fetch_add(1, Ordering::SeqCst);
            Ok(etag)
        })
    }
}
