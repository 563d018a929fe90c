//! A store whose parts are small, so that a test's small windows become multipart uploads.
//!
//! Only the advertised sizes of a part differ: from them follows when a window becomes an upload, as everywhere. Requests pass unchanged; the store must
//! take such parts.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::store::{
    BoxFuture, Guard, GuardClass, ListPage, Metadata, ObjectInfo, ObjectStore, OpenUpload, Part, Payload, StoreLimits, StoreResult,
};

/// The variable that gives the size of a part, in bytes.
const VARIABLE: &str = "CATCHMENT_CRASH_PART_BYTES";

#[derive(Debug)]
struct SmallParts {
    inner: Arc<dyn ObjectStore>,
    part_bytes: u64,
}

/// `store` with parts of the size that the environment asks for; as it is, if it asks for none.
pub(crate) fn with_parts_of_env(store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    match std::env::var(VARIABLE) {
        Ok(text) => {
            let part_bytes = text.parse().unwrap_or_else(|e| panic!("{VARIABLE}={text}: {e}"));
            Arc::new(SmallParts { inner: store, part_bytes })
        }
        Err(_) => store,
    }
}

impl ObjectStore for SmallParts {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn identity(&self) -> String {
        self.inner.identity()
    }

    fn limits(&self) -> StoreLimits {
        StoreLimits { part_bytes: self.part_bytes, part_bytes_min: self.part_bytes, ..self.inner.limits() }
    }

    fn guard_name(&self) -> &'static str {
        self.inner.guard_name()
    }

    fn guard_class_best(&self) -> GuardClass {
        self.inner.guard_class_best()
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
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
