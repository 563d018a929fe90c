//! A store that takes no data object while it is told to: a window that is pinned stays pinned.
//! It knows since when each object can be visible.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use catchment::store::layer::StoreLayer;
use catchment::store::{BoxFuture, Guard, Metadata, ObjectStore, Part, Payload, StoreError, StoreErrorKind, StoreResult};

/// The store.
#[derive(Debug)]
pub(crate) struct HeldStore {
    inner: Arc<dyn ObjectStore>,
    held: AtomicBool,
    refused: AtomicU32,
    completed: AtomicU32,
    since: Mutex<BTreeMap<String, Instant>>,
}

impl HeldStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, held: AtomicBool::new(false), refused: AtomicU32::new(0), completed: AtomicU32::new(0), since: Mutex::default() }
    }

    /// Refuses data objects from now on, or takes them again.
    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// Data objects that were refused.
    pub(crate) fn refused(&self) -> u32 {
        self.refused.load(Ordering::SeqCst)
    }

    /// Multipart uploads that were completed.
    pub(crate) fn completed(&self) -> u32 {
        self.completed.load(Ordering::SeqCst)
    }

    /// The moment from which an object can have been visible: when the first request that wrote it was sent.
    pub(crate) fn visible_since(&self, key: &str) -> Option<Instant> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    /// A request that was sent at this time has written an object.
    fn note_written(&self, key: &str, sent: Instant) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).entry(key.to_owned()).or_insert(sent);
    }

    fn admit(&self, op: &'static str, key: &str) -> StoreResult<()> {
        if !self.held.load(Ordering::SeqCst) || key.contains("_catchment/") {
            return Ok(());
        }
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
