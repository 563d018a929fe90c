//! A store that takes no data object while it is told to: a window that is pinned stays pinned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use catchment::store::{
    BoxFuture, Guard, GuardClass, ListPage, Metadata, ObjectInfo, ObjectStore, OpenUpload, Part, Payload, StoreError, StoreErrorKind,
    StoreLimits, StoreResult,
};

/// The store.
#[derive(Debug)]
pub(crate) struct HeldStore {
    inner: Arc<dyn ObjectStore>,
    held: AtomicBool,
    refused: AtomicU32,
}

impl HeldStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, held: AtomicBool::new(false), refused: AtomicU32::new(0) }
    }

    /// Refuses data objects from now on, or takes them again.
    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// Data objects that were refused.
    pub(crate) fn refused(&self) -> u32 {
        self.refused.load(Ordering::SeqCst)
    }

    fn admit(&self, op: &'static str, key: &str) -> StoreResult<()> {
        if !self.held.load(Ordering::SeqCst) || key.contains("_catchment/") {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(StoreError::new(StoreErrorKind::Unknown, op, key, "the store is away"))
    }
}

impl ObjectStore for HeldStore {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn identity(&self) -> String {
        self.inner.identity()
    }

    fn limits(&self) -> StoreLimits {
        self.inner.limits()
    }

    fn guard_name(&self) -> &'static str {
        self.inner.guard_name()
    }

    fn guard_class_best(&self) -> GuardClass {
        self.inner.guard_class_best()
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(async move {
            self.admit("PutObject", key)?;
            self.inner.put(key, body, metadata, guard).await
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        self.inner.head(key)
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<std::ops::Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        self.inner.get(key, range)
    }

    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>> {
        self.inner.list(prefix, delimiter, after)
    }

    fn create_upload<'a>(&'a self, key: &'a str, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        self.inner.create_upload(key, metadata, guard)
    }

    fn upload_part<'a>(&'a self, key: &'a str, upload: &'a str, number: u32, body: Payload) -> BoxFuture<'a, StoreResult<Part>> {
        self.inner.upload_part(key, upload, number, body)
    }

    fn list_parts<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<Vec<Part>>> {
        self.inner.list_parts(key, upload)
    }

    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(async move {
            self.admit("CompleteMultipartUpload", key)?;
            self.inner.complete_upload(key, upload, parts, guard).await
        })
    }

    fn abort_upload<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        self.inner.abort_upload(key, upload)
    }

    fn list_uploads<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        self.inner.list_uploads(key)
    }
}
