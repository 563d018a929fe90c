//! A store in front of another one: it changes some answers, and everything else passes through.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::{
    BoxFuture, Guard, GuardClass, ListPage, Metadata, ObjectInfo, ObjectStore, OpenUpload, Part, Payload, StoreLimits, StoreResult,
};

/// A store that is another one but for the methods that it writes itself. Whatever is a layer is an [`ObjectStore`].
pub trait StoreLayer: Send + Sync + fmt::Debug {
    /// The store behind it.
    fn inner(&self) -> &dyn ObjectStore;

    /// As [`ObjectStore::limits`].
    fn limits(&self) -> StoreLimits {
        self.inner().limits()
    }

    /// As [`ObjectStore::guard_class_best`].
    fn guard_class_best(&self) -> GuardClass {
        self.inner().guard_class_best()
    }

    /// As [`ObjectStore::put`].
    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        self.inner().put(key, body, metadata, guard)
    }

    /// As [`ObjectStore::head`].
    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        self.inner().head(key)
    }

    /// As [`ObjectStore::get`].
    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        self.inner().get(key, range)
    }

    /// As [`ObjectStore::list`].
    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>> {
        self.inner().list(prefix, delimiter, after)
    }

    /// As [`ObjectStore::create_upload`].
    fn create_upload<'a>(&'a self, key: &'a str, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        self.inner().create_upload(key, metadata, guard)
    }

    /// As [`ObjectStore::upload_part`].
    fn upload_part<'a>(&'a self, key: &'a str, upload: &'a str, number: u32, body: Payload) -> BoxFuture<'a, StoreResult<Part>> {
        self.inner().upload_part(key, upload, number, body)
    }

    /// As [`ObjectStore::list_parts`].
    fn list_parts<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<Vec<Part>>> {
        self.inner().list_parts(key, upload)
    }

    /// As [`ObjectStore::complete_upload`].
    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        self.inner().complete_upload(key, upload, parts, guard)
    }

    /// As [`ObjectStore::abort_upload`].
    fn abort_upload<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        self.inner().abort_upload(key, upload)
    }

    /// As [`ObjectStore::list_uploads`].
    fn list_uploads<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        self.inner().list_uploads(key)
    }

    /// As [`ObjectStore::list_uploads_below`].
    fn list_uploads_below<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        self.inner().list_uploads_below(prefix)
    }
}

impl<L: StoreLayer> ObjectStore for L {
    fn url(&self) -> &str {
        self.inner().url()
    }

    fn identity(&self) -> String {
        self.inner().identity()
    }

    fn limits(&self) -> StoreLimits {
        StoreLayer::limits(self)
    }

    fn guard_name(&self) -> &'static str {
        self.inner().guard_name()
    }

    fn guard_class_best(&self) -> GuardClass {
        StoreLayer::guard_class_best(self)
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        StoreLayer::put(self, key, body, metadata, guard)
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        StoreLayer::head(self, key)
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        StoreLayer::get(self, key, range)
    }

    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>> {
        StoreLayer::list(self, prefix, delimiter, after)
    }

    fn create_upload<'a>(&'a self, key: &'a str, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        StoreLayer::create_upload(self, key, metadata, guard)
    }

    fn upload_part<'a>(&'a self, key: &'a str, upload: &'a str, number: u32, body: Payload) -> BoxFuture<'a, StoreResult<Part>> {
        StoreLayer::upload_part(self, key, upload, number, body)
    }

    fn list_parts<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<Vec<Part>>> {
        StoreLayer::list_parts(self, key, upload)
    }

    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        StoreLayer::complete_upload(self, key, upload, parts, guard)
    }

    fn abort_upload<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        StoreLayer::abort_upload(self, key, upload)
    }

    fn list_uploads<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        StoreLayer::list_uploads(self, key)
    }

    fn list_uploads_below<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        StoreLayer::list_uploads_below(self, prefix)
    }

    fn region(&self) -> Option<String> {
        self.inner().region()
    }

    fn remove_probe<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        self.inner().remove_probe(key)
    }
}
