//! The reference twin: a store in memory that does what the trait says, atomically, and nothing else.
//!
//! It is what the conformance suite compares the others with, and what simulations write to. Ages are told by tokio's clock,
//! so that a test with paused time moves them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use super::parts::PART_BYTES;
use super::{
    BoxFuture, Guard, GuardClass, ListPage, Metadata, ObjectInfo, ObjectStore, OpenUpload, Part, Payload, StoreError, StoreErrorKind,
    StoreLimits, StoreResult, check_key, check_metadata,
};

/// Entries of a page of a listing: S3's.
const PAGE_ENTRIES_MAX: usize = 1000;

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    limits: StoreLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    serial: u64,
}

#[derive(Debug)]
struct Object {
    body: Bytes,
    etag: String,
    metadata: Metadata,
}

#[derive(Debug)]
struct Upload {
    key: String,
    metadata: Metadata,
    parts: BTreeMap<u32, (Part, Bytes)>,
    created: Instant,
}

impl Default for MemoryStore {
    /// Limits as of S3, but for the size of a part: tests are cheaper with small ones.
    fn default() -> Self {
        Self::new(StoreLimits {
            part_bytes: PART_BYTES,
            part_bytes_min: 1,
            parts_max: 10_000,
            equal_parts: false,
            put_bytes_max: 5 << 30,
            key_bytes_max: 1024,
            segment_bytes_max: 1024,
            metadata: true,
            multipart: true,
        })
    }
}

impl MemoryStore {
    /// An empty store with these limits, which it enforces.
    pub fn new(limits: StoreLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// The keys that have unfinished uploads, each once.
    pub fn open_uploads(&self) -> Vec<String> {
        let state = self.state();
        let keys: std::collections::BTreeSet<&String> = state.uploads.values().map(|upload| &upload.key).collect();
        keys.into_iter().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uploads_where(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<OpenUpload> {
        let describe = |(id, upload): (&String, &Upload)| OpenUpload {
            key: upload.key.clone(),
            id: id.clone(),
            age_ms: u64::try_from(upload.created.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        self.state().uploads.iter().filter(|(_, upload)| is_wanted(&upload.key)).map(describe).collect()
    }

    fn check(&self, op: &'static str, key: &str, metadata: &Metadata) -> StoreResult<()> {
        let invalid = |detail| StoreError::new(StoreErrorKind::Invalid, op, key, detail);
        check_key(key).map_err(invalid)?;
        check_metadata(metadata).map_err(invalid)?;
        if !self.limits.metadata && !metadata.is_empty() {
            return Err(invalid("this store keeps no metadata".into()));
        }
        if key.len() > self.limits.key_bytes_max {
            return Err(invalid(format!("key of {} bytes", key.len())));
        }
        Ok(())
    }

    fn put_now(&self, key: &str, body: &Payload, metadata: &Metadata, guard: Guard) -> StoreResult<String> {
        const OP: &str = "PutObject";
        self.check(OP, key, metadata)?;
        if body.len() > self.limits.put_bytes_max {
            return Err(StoreError::new(StoreErrorKind::Invalid, OP, key, format!("body of {} bytes", body.len())));
        }
        self.state().insert(OP, key, body.to_bytes(), metadata.clone(), guard)
    }

    fn upload_part_now(&self, key: &str, upload: &str, number: u32, body: &Payload) -> StoreResult<Part> {
        const OP: &str = "UploadPart";
        if number == 0 || number > self.limits.parts_max {
            return Err(StoreError::new(StoreErrorKind::Invalid, OP, key, format!("part number {number}")));
        }
        let mut state = self.state();
        let upload = state.upload(OP, key, upload)?;
        let part = Part { number, size: body.len(), etag: format!("{:016x}", body.crc64()) };
        upload.parts.insert(number, (part.clone(), body.to_bytes()));
        Ok(part)
    }

    fn complete_now(&self, key: &str, id: &str, parts: &[Part], guard: Guard) -> StoreResult<String> {
        const OP: &str = "CompleteMultipartUpload";
        let mut state = self.state();
        let upload = state.upload(OP, key, id)?;
        let body = assemble(upload, parts, self.limits.part_bytes_min).map_err(|(kind, detail)| StoreError::new(kind, OP, key, detail))?;
        let metadata = upload.metadata.clone();
        let etag = state.insert(OP, key, body, metadata, guard)?;
        state.uploads.remove(id);
        Ok(etag)
    }

    fn list_now(&self, prefix: &str, delimiter: bool, after: Option<&str>) -> ListPage {
        let state = self.state();
        let from = after.filter(|after| *after >= prefix).map_or(Bound::Included(prefix), Bound::Excluded);
        let mut page = ListPage::default();
        let mut last = String::new();
        for (key, object) in state.objects.range::<str, _>((from, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix)) {
            let directory = delimiter.then(|| key[prefix.len()..].find('/').map(|slash| &key[..prefix.len() + slash + 1])).flatten();
            if directory.is_some_and(|d| page.directories.last().is_some_and(|seen| seen == d) || after.is_some_and(|a| a.starts_with(d))) {
                continue;
            }
            if page.objects.len() + page.directories.len() == PAGE_ENTRIES_MAX {
                page.next = Some(last);
                break;
            }
            last = directory.unwrap_or(key).to_owned();
            match directory {
                Some(directory) => page.directories.push(directory.to_owned()),
                None => page.objects.push(object.info(key, false)),
            }
        }
        page
    }
}

impl State {
    fn insert(&mut self, op: &'static str, key: &str, body: Bytes, metadata: Metadata, guard: Guard) -> StoreResult<String> {
        if guard == Guard::IfAbsent && self.objects.contains_key(key) {
            return Err(StoreError::new(StoreErrorKind::Exists, op, key, "the key exists"));
        }
        self.serial += 1;
        let etag = format!("{:016x}-{}", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &body), self.serial);
        self.objects.insert(key.to_owned(), Object { body, etag: etag.clone(), metadata });
        Ok(etag)
    }

    fn upload(&mut self, op: &'static str, key: &str, id: &str) -> StoreResult<&mut Upload> {
        let missing = || StoreError::new(StoreErrorKind::NoSuchUpload, op, key, format!("no upload {id:?} of this key"));
        self.uploads.get_mut(id).filter(|upload| upload.key == key).ok_or_else(missing)
    }
}

impl Object {
    fn info(&self, key: &str, metadata: bool) -> ObjectInfo {
        let mut metadata = if metadata { self.metadata.clone() } else { Metadata::new() };
        metadata.sort_unstable();
        ObjectInfo { key: key.to_owned(), size: self.body.len() as u64, etag: self.etag.clone(), metadata, crc64: None }
    }
}

/// Joins `parts` of an upload as Complete must: contiguous from 1, each one as uploaded, none but the last too small.
fn assemble(upload: &Upload, parts: &[Part], part_bytes_min: u64) -> Result<Bytes, (StoreErrorKind, String)> {
    if parts.is_empty() {
        return Err((StoreErrorKind::Invalid, "no parts".into()));
    }
    let mut body = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        if part.number as usize != index + 1 {
            return Err((StoreErrorKind::Invalid, format!("part {} in place {}", part.number, index + 1)));
        }
        let Some((_, bytes)) = upload.parts.get(&part.number).filter(|(stored, _)| stored.etag == part.etag) else {
            return Err((StoreErrorKind::NoSuchUpload, format!("no part {} with etag {}", part.number, part.etag)));
        };
        if index + 1 < parts.len() && (bytes.len() as u64) < part_bytes_min {
            return Err((StoreErrorKind::Invalid, format!("part {} of {} bytes is too small", part.number, bytes.len())));
        }
        body.extend_from_slice(bytes);
    }
    Ok(body.into())
}

/// Cuts `range` to an object of `size` bytes.
pub(super) fn cut_range(range: Option<std::ops::Range<u64>>, size: u64) -> std::ops::Range<u64> {
    let range = range.unwrap_or(0..size);
    let end = range.end.min(size);
    range.start.min(end)..end
}

impl ObjectStore for MemoryStore {
    fn url(&self) -> &str {
        "memory:///"
    }

    fn identity(&self) -> String {
        // Two twins are two destinations; the address tells them apart for as long as they live.
        format!("memory:{:p}", &raw const self.state)
    }

    fn limits(&self) -> StoreLimits {
        self.limits
    }

    fn guard_name(&self) -> &'static str {
        "memory"
    }

    fn guard_class_best(&self) -> GuardClass {
        GuardClass::A
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(async move { self.put_now(key, &body, metadata, guard) })
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        Box::pin(async move { Ok(self.state().objects.get(key).map(|object| object.info(key, true))) })
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<std::ops::Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        Box::pin(async move {
            Ok(self.state().objects.get(key).map(|object| {
                let range = cut_range(range, object.body.len() as u64);
                object.body.slice(range.start as usize..range.end as usize)
            }))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>> {
        Box::pin(async move { Ok(self.list_now(prefix, delimiter, after)) })
    }

    fn create_upload<'a>(&'a self, key: &'a str, metadata: &'a Metadata, _guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(async move {
            self.check("CreateMultipartUpload", key, metadata)?;
            let mut state = self.state();
            state.serial += 1;
            let id = format!("upload-{}", state.serial);
            let upload = Upload { key: key.to_owned(), metadata: metadata.clone(), parts: BTreeMap::new(), created: crate::clock::now() };
            state.uploads.insert(id.clone(), upload);
            Ok(id)
        })
    }

    fn upload_part<'a>(&'a self, key: &'a str, upload: &'a str, number: u32, body: Payload) -> BoxFuture<'a, StoreResult<Part>> {
        Box::pin(async move { self.upload_part_now(key, upload, number, &body) })
    }

    fn list_parts<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<Vec<Part>>> {
        Box::pin(async move { Ok(self.state().upload("ListParts", key, upload)?.parts.values().map(|(part, _)| part.clone()).collect()) })
    }

    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(async move { self.complete_now(key, upload, parts, guard) })
    }

    fn abort_upload<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            let mut state = self.state();
            if state.uploads.get(upload).is_some_and(|open| open.key == key) {
                state.uploads.remove(upload);
            }
            Ok(())
        })
    }

    fn remove_probe<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            super::check_is_probe(key)?;
            self.state().objects.remove(key);
            Ok(())
        })
    }

    fn list_uploads<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        Box::pin(async move { Ok(self.uploads_where(|of| of == key)) })
    }

    fn list_uploads_below<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        Box::pin(async move { Ok(self.uploads_where(|of| of.starts_with(prefix))) })
    }
}
