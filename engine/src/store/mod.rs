//! Object stores, by the service's own verbs.
//!
//! Place in the flow: the last stage. [`ObjectStore`] is what the commit protocol needs and no more. Every write answers
//! *done*, *not done* or *unknown* ([`StoreErrorKind`]); an unknown outcome is resolved by the protocol, never guessed here.
//!
//! What is deliberately missing: rename, copy, multi-delete, append. Deletion is not part of the protocol: only the objects of a probe that somebody asked for
//! are removed.

mod errors;
pub mod file;
pub mod identity;
pub mod layer;
pub mod memory;
pub mod open;
pub mod parts;
pub mod probe;
pub mod retry;
#[cfg(feature = "s3")]
pub mod s3;
pub mod url;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub use catchment_protocol::key;
use catchment_protocol::key::check_key;
pub use catchment_protocol::store::{Metadata, ObjectInfo, OpenUpload, Part, StoreErrorKind, StoreLimits};

/// A boxed future; object-safe traits return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The body of a write: chunks that are sent one after another, never joined. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Payload {
    chunks: Arc<[Bytes]>,
    len: u64,
    crc64: u64,
}

impl Payload {
    /// A payload of these chunks. `crc64` is the CRC-64/XZ of all their bytes.
    pub fn new(chunks: Vec<Bytes>, crc64: u64) -> Self {
        let len = chunks.iter().map(|c| c.len() as u64).sum();
        Self { chunks: chunks.into(), len, crc64 }
    }

    /// A payload of one chunk, whose CRC is computed here.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &bytes);
        Self::new(vec![bytes], crc64)
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// CRC-64/XZ of all bytes.
    pub fn crc64(&self) -> u64 {
        self.crc64
    }

    /// All bytes in one piece; copies when there is more than one chunk.
    pub fn to_bytes(&self) -> Bytes {
        match &*self.chunks {
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes in {} chunks)", self.len, self.chunks.len())
    }
}

/// Whether a write must be refused if the key exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Send the store's guard header, if it is configured to have one.
    IfAbsent,
    /// Overwrite: control objects only.
    Overwrite,
}

/// Longest user metadata of an object, names and values together, in bytes: what S3 takes (COS takes 4 KB). More is
/// refused by AWS; less would push proofs into objects of their own for no reason.
pub const METADATA_BYTES_MAX: usize = 2048;

/// Most bytes that are read of a control object. They have a few hundred; whatever is larger is none, and must not fill the memory.
pub const CONTROL_BYTES_MAX: u64 = 1 << 20;

/// What is known of a store's create-only guard, per operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum GuardClass {
    /// Atomic: of several writers of one key exactly one succeeds.
    A,
    /// Present, but not known to be atomic.
    B,
    /// None, or ignored by the store.
    C,
}

/// One page of a listing, in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects of this page.
    pub objects: Vec<ObjectInfo>,
    /// With a delimiter: the directories of this page, each with its trailing slash.
    pub directories: Vec<String>,
    /// Pass to the next call; none at the end.
    pub next: Option<String>,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct StoreError {
    /// What became of it.
    pub kind: StoreErrorKind,
    /// The operation, as the service names it (`PutObject`).
    pub op: &'static str,
    /// The key, without the store's own prefix; empty for operations on the bucket.
    pub key: String,
    /// HTTP status and error code as the store gave them, or the transport's error.
    pub detail: String,
    /// How often it was tried.
    pub attempts: u32,
}

impl StoreError {
    /// An error of a single attempt.
    pub fn new(kind: StoreErrorKind, op: &'static str, key: &str, detail: impl Into<String>) -> Self {
        Self { kind, op, key: key.to_owned(), detail: detail.into(), attempts: 1 }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {} after {} attempt(s)", self.op, self.key, self.detail, self.attempts)
    }
}

impl std::error::Error for StoreError {}

/// The result of a store operation.
pub type StoreResult<T> = Result<T, StoreError>;

/// Is told about every request to a store, for metrics. Calls must return at once.
pub trait RequestObserver: Send + Sync + fmt::Debug {
    /// One request ended. `code` is the HTTP status, or 0 if there was none (timeout, reset).
    fn request(&self, op: &'static str, code: u16, duration: Duration);

    /// A request will be repeated for this reason.
    fn retry(&self, op: &'static str, reason: StoreErrorKind);
}

/// An object store below one prefix. All keys are relative to that prefix.
///
/// Reads, listings, CreateMultipartUpload and UploadPart are retried inside (repeating them cannot hurt). PutObject and
/// CompleteMultipartUpload are sent **once** a call: what an unknown outcome means is for the commit protocol to find out.
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// The store as a URL for messages, without secrets: `s3://bucket/prefix/`.
    fn url(&self) -> &str;

    /// Text that identifies endpoint, bucket and prefix; equal for equal destinations.
    fn identity(&self) -> String;

    /// What the store can take.
    fn limits(&self) -> StoreLimits;

    /// How writes are made create-only: the header's name, `link` for files, `none`.
    fn guard_name(&self) -> &'static str;

    /// The best class that the guard can have here, whatever a probe sees: [`GuardClass::C`] if no guard is sent,
    /// [`GuardClass::B`] for services whose guard is documented or reported not to be atomic.
    fn guard_class_best(&self) -> GuardClass;

    /// Writes an object in one request and answers its ETag.
    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>>;

    /// Asks for an object; none if it does not exist. 403 is an error, never none.
    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>>;

    /// Reads `range` (or all) of an object into memory; none if it does not exist. A range past the end is cut.
    fn get<'a>(&'a self, key: &'a str, range: Option<std::ops::Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>>;

    /// Lists keys that start with `prefix`, in key order; with `delimiter`, one level of directories.
    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>>;

    /// Opens a multipart upload and answers its id. A service that looks at the guard here already answers
    /// [`StoreErrorKind::Exists`] for a key that exists, as Complete would.
    fn create_upload<'a>(&'a self, key: &'a str, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>>;

    /// Uploads part `number` (from 1) and answers it.
    fn upload_part<'a>(&'a self, key: &'a str, upload: &'a str, number: u32, body: Payload) -> BoxFuture<'a, StoreResult<Part>>;

    /// Lists the parts of an upload, all pages.
    fn list_parts<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<Vec<Part>>>;

    /// Completes an upload and answers the object's ETag.
    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>>;

    /// Aborts an upload; an upload that does not exist is no error.
    fn abort_upload<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<()>>;

    /// Lists unfinished uploads of exactly `key`.
    fn list_uploads<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>>;

    /// Lists unfinished uploads of keys that start with `prefix`. MinIO answers none unless it is a key.
    fn list_uploads_below<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>>;

    /// The region that requests are signed for; none if there is no such thing.
    fn region(&self) -> Option<String> {
        None
    }

    /// Removes an object of a probe, where the store lets it. Whatever does not lie below [`PROBES`](key::PROBES) is refused before anything is sent: nothing else is
    /// ever removed.
    fn remove_probe<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move { Err(StoreError::new(StoreErrorKind::Invalid, REMOVE, key, "this store removes nothing")) })
    }
}

/// What a removal is called.
const REMOVE: &str = "DeleteObject";

/// Refuses the removal of what no probe has written.
fn check_is_probe(key: &str) -> StoreResult<()> {
    if key.strip_prefix(key::PROBES).is_some_and(|rest| rest.contains('/')) && check_key(key).is_ok() {
        return Ok(());
    }
    Err(StoreError::new(StoreErrorKind::Invalid, REMOVE, key, "only objects of probes are ever removed"))
}

/// Checks user metadata against what every store takes; the error says what is wrong.
fn check_metadata(metadata: &Metadata) -> Result<(), String> {
    let mut bytes = 0;
    for (name, value) in metadata {
        bytes += name.len() + value.len();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(format!("metadata name {name:?} has characters outside [a-z0-9-]"));
        }
        if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) || value.trim() != value {
            return Err(format!("metadata value of {name:?} is not printable ASCII without outer spaces"));
        }
    }
    if bytes > METADATA_BYTES_MAX {
        return Err(format!("metadata of {bytes} bytes, more than {METADATA_BYTES_MAX}"));
    }
    Ok(())
}
