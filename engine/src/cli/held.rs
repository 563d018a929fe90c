//! A store that holds one object between its pin and its publishing, for the demo.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use crate::store::{
    BoxFuture, Guard, GuardClass, ListPage, Metadata, ObjectInfo, ObjectStore, OpenUpload, Part, Payload, StoreLimits, StoreResult,
};

/// Objects that are published before one is held.
const FREE_OBJECTS: u32 = 4;

/// Passes everything through, but for one object: when it is to be published, a file is made and the request never sent.
#[derive(Debug)]
pub(super) struct HeldStore {
    inner: Arc<dyn ObjectStore>,
    file: PathBuf,
    published: AtomicU32,
}

impl HeldStore {
    /// Holds an object of `inner` and makes `file` when it does.
    pub(super) fn new(inner: Arc<dyn ObjectStore>, file: PathBuf) -> Self {
        Self { inner, file, published: AtomicU32::new(0) }
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
        let is_data = !key.starts_with("_catchment/");
        if is_data && self.published.fetch_add(1, Ordering::Relaxed) >= FREE_OBJECTS {
            // If the file cannot be made nobody will notice the hold, and the demo says that it gave up.
            let _ = std::fs::write(&self.file, key);
            return Box::pin(std::future::pending());
        }
        self.inner.put(key, body, metadata, guard)
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        self.inner.head(key)
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
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
        self.inner.complete_upload(key, upload, parts, guard)
    }

    fn abort_upload<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        self.inner.abort_upload(key, upload)
    }

    fn list_uploads<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        self.inner.list_uploads(key)
    }
}
