//! A process's way to a store: it ends when the process does.
//!
//! A pipeline that is dropped in a test tidies up behind it (a task that aborts an upload, say), which a process that was killed does not.
//! Once the tether is cut, nothing of its process reaches the store any more; what is on its way is dropped with the pipeline.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use catchment::store::layer::StoreLayer;
use catchment::store::{
    BoxFuture, Guard, ListPage, Metadata, ObjectInfo, ObjectStore, OpenUpload, Part, Payload, StoreError, StoreErrorKind, StoreLimits,
    StoreResult,
};

/// A store as one process sees it.
pub struct Tether {
    store: Arc<dyn ObjectStore>,
    limits: StoreLimits,
    cut: AtomicBool,
}

impl fmt::Debug for Tether {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tether({})", self.store.url())
    }
}

impl Tether {
    /// A process's own view of `store`, with these limits instead of its own.
    pub fn new(store: Arc<dyn ObjectStore>, limits: StoreLimits) -> Arc<Self> {
        Arc::new(Self { store, limits, cut: AtomicBool::new(false) })
    }

    /// The process is dead.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    fn hold<'a, T: Send + 'a>(&self, call: impl FnOnce() -> BoxFuture<'a, StoreResult<T>>) -> BoxFuture<'a, StoreResult<T>> {
        if !self.cut.load(Ordering::SeqCst) {
            return call();
        }
        let dead = StoreError::new(StoreErrorKind::Unknown, "Tether", "", "the process is dead");
        Box::pin(std::future::ready(Err(dead)))
    }
}

impl StoreLayer for Tether {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.store
    }

    fn limits(&self) -> StoreLimits {
        self.limits
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        self.hold(move || self.store.put(key, body, metadata, guard))
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        self.hold(move || self.store.head(key))
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        self.hold(move || self.store.get(key, range))
    }

    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>> {
        self.hold(move || self.store.list(prefix, delimiter, after))
    }

    fn create_upload<'a>(&'a self, key: &'a str, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        self.hold(move || self.store.create_upload(key, metadata, guard))
    }

    fn upload_part<'a>(&'a self, key: &'a str, upload: &'a str, number: u32, body: Payload) -> BoxFuture<'a, StoreResult<Part>> {
        self.hold(move || self.store.upload_part(key, upload, number, body))
    }

    fn list_parts<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<Vec<Part>>> {
        self.hold(move || self.store.list_parts(key, upload))
    }

    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        self.hold(move || self.store.complete_upload(key, upload, parts, guard))
    }

    fn abort_upload<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        self.hold(move || self.store.abort_upload(key, upload))
    }

    fn list_uploads<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        self.hold(move || self.store.list_uploads(key))
    }
}
