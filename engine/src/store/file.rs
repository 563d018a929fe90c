//! Local files as an object store: `file:///dir/`.
//!
//! A write goes to a temporary file under `_catchment/tmp/` (outside the data prefix), is synced, and then gets its name by
//! `link(2)`, which fails if the name exists: a create-only guard that is atomic, and an object that is never seen half
//! written. The directories up to the root are synced before the write is acknowledged, and before a store that is open for
//! writing says that a file is there: whoever made it may have died before its own sync. Multipart uploads are directories of
//! part files under `_catchment/uploads/`; Complete joins them.
//!
//! What it does not do: user metadata (files have none that every file system keeps), and guarding against processes that
//! write below the root by other means. Blocking calls run on tokio's blocking threads.

mod disk;
mod uploads;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::parts::PART_BYTES;
use super::{
    BoxFuture, Guard, GuardClass, ListPage, Metadata, ObjectInfo, ObjectStore, OpenUpload, Part, Payload, StoreError, StoreErrorKind,
    StoreLimits, StoreResult, check_key,
};
use crate::error::{Code, Error, ErrorKind};
use disk::Disk;

/// What an error's detail begins with if it comes from the operating system and not from a service.
pub(super) const OF_FILES: &str = "file system: ";

/// Directories of the store's own that no read or listing shows.
const HIDDEN: [&str; 2] = ["_catchment/tmp/", "_catchment/uploads/"];

/// A directory as an object store.
#[derive(Debug)]
pub struct FileStore {
    url: String,
    disk: Arc<Disk>,
}

fn unusable(root: &Path, e: std::io::Error) -> Error {
    let kind = if e.kind() == std::io::ErrorKind::PermissionDenied { ErrorKind::Denied } else { ErrorKind::Invalid };
    Error::new(Code(312), kind, "the directory of the store cannot be used")
        .with("directory", root.display())
        .because(e)
        .help("give a directory that this user may create and write to")
}

/// The directory that a store in `root` has, absolute and without links; it need not exist.
///
/// # Errors
/// C0312 if it cannot be looked at.
pub(crate) fn root_of(root: &Path) -> Result<PathBuf, Error> {
    disk::absolute(root).map_err(|e| unusable(root, e))
}

impl FileStore {
    /// Opens the store in `root`, which is created by the first write if it does not exist. What a process left behind that died more
    /// than a day ago is removed. Blocks for a few file operations.
    ///
    /// # Errors
    /// C0312 if the directory, or the nearest one above it that exists, cannot be written to.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let fail = |e| unusable(root, e);
        let disk = Disk::open(root).map_err(fail)?;
        uploads::remove_old(&disk).map_err(fail)?;
        Ok(Self { url: format!("file://{}/", disk.root().display()), disk: Arc::new(disk) })
    }

    /// Opens a directory that exists, for reading: nothing is created, and writes fail unless it is a store already.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn existing(root: &Path) -> std::io::Result<Self> {
        let disk = Disk::existing(root)?;
        Ok(Self { url: format!("file://{}/", disk.root().display()), disk: Arc::new(disk) })
    }

    /// The directory, absolute.
    pub fn root(&self) -> PathBuf {
        self.disk.root().to_owned()
    }

    fn run<T, F>(&self, op: &'static str, key: &str, job: F) -> BoxFuture<'static, StoreResult<T>>
    where
        T: Send + 'static,
        F: FnOnce(&Disk, &str) -> Result<T, Failure> + Send + 'static,
    {
        let (disk, key) = (Arc::clone(&self.disk), key.to_owned());
        Box::pin(async move {
            let job = tokio::task::spawn_blocking(move || job(&disk, &key).map_err(|f| StoreError::new(f.kind, op, &key, f.detail)));
            // The thread's end without an answer (a panic, a shutdown) leaves the outcome open.
            job.await.unwrap_or_else(|e| Err(StoreError::new(StoreErrorKind::Unknown, op, "", e.to_string())))
        })
    }
}

/// A file operation that failed, before it is told which store operation it belongs to.
#[derive(Debug)]
struct Failure {
    kind: StoreErrorKind,
    detail: String,
}

impl Failure {
    fn new(kind: StoreErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match e.kind() {
            Io::PermissionDenied | Io::ReadOnlyFilesystem => StoreErrorKind::Denied,
            Io::InvalidFilename | Io::NotADirectory | Io::IsADirectory | Io::InvalidInput | Io::Unsupported => StoreErrorKind::Invalid,
            // A full disk, a failed sync, a file that vanished: whether anything took effect must be asked, and asking is cheap.
            _ => StoreErrorKind::Unknown,
        };
        Self::new(kind, format!("{OF_FILES}{e}"))
    }
}

/// A key of an object that users of the trait may read or write.
fn checked(key: &str) -> Result<(), Failure> {
    check_key(key).map_err(|detail| Failure::new(StoreErrorKind::Invalid, detail))?;
    if HIDDEN.iter().any(|hidden| key.starts_with(hidden)) {
        return Err(Failure::new(StoreErrorKind::Invalid, "the key is in a directory of the store's own"));
    }
    Ok(())
}

fn no_metadata(metadata: &Metadata) -> Result<(), Failure> {
    if metadata.is_empty() { Ok(()) } else { Err(Failure::new(StoreErrorKind::Invalid, "files keep no metadata")) }
}

impl ObjectStore for FileStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn identity(&self) -> String {
        self.url.clone()
    }

    fn limits(&self) -> StoreLimits {
        StoreLimits {
            part_bytes: PART_BYTES,
            part_bytes_min: 1,
            parts_max: 10_000,
            equal_parts: false,
            put_bytes_max: 5 << 30,
            // A path of Linux has 4,096 bytes, of which the root takes some.
            key_bytes_max: 1024,
            segment_bytes_max: 255,
            metadata: false,
            multipart: true,
        }
    }

    fn guard_name(&self) -> &'static str {
        "link"
    }

    fn guard_class_best(&self) -> GuardClass {
        GuardClass::A
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        let metadata = no_metadata(metadata);
        self.run("PutObject", key, move |disk, key| {
            metadata?;
            checked(key)?;
            disk.put(key, &body, guard)
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        self.run("HeadObject", key, |disk, key| {
            checked(key)?;
            disk.head(key)
        })
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<std::ops::Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        self.run("GetObject", key, |disk, key| {
            checked(key)?;
            disk.get(key, range)
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>> {
        let after = after.map(str::to_owned);
        self.run("ListObjects", prefix, move |disk, prefix| disk.list(prefix, delimiter, after.as_deref()))
    }

    fn create_upload<'a>(&'a self, key: &'a str, metadata: &'a Metadata, _guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        let metadata = no_metadata(metadata);
        self.run("CreateMultipartUpload", key, |disk, key| {
            metadata?;
            checked(key)?;
            uploads::create(disk, key)
        })
    }

    fn upload_part<'a>(&'a self, key: &'a str, upload: &'a str, number: u32, body: Payload) -> BoxFuture<'a, StoreResult<Part>> {
        let upload = upload.to_owned();
        let parts_max = self.limits().parts_max;
        self.run("UploadPart", key, move |disk, key| {
            if number == 0 || number > parts_max {
                return Err(Failure::new(StoreErrorKind::Invalid, format!("part number {number}")));
            }
            uploads::put_part(disk, key, &upload, number, &body)
        })
    }

    fn list_parts<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<Vec<Part>>> {
        let upload = upload.to_owned();
        self.run("ListParts", key, move |disk, key| uploads::parts(disk, key, &upload))
    }

    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        let (upload, parts) = (upload.to_owned(), parts.to_vec());
        self.run("CompleteMultipartUpload", key, move |disk, key| uploads::complete(disk, key, &upload, &parts, guard))
    }

    fn abort_upload<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        let upload = upload.to_owned();
        self.run("AbortMultipartUpload", key, move |disk, key| uploads::abort(disk, key, &upload))
    }

    fn list_uploads<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        self.run("ListMultipartUploads", key, |disk, key| uploads::where_key(disk, |of| of == key))
    }

    fn list_uploads_below<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        self.run("ListMultipartUploads", prefix, |disk, prefix| uploads::where_key(disk, |of| of.starts_with(prefix)))
    }

    fn remove_probe<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        match super::check_is_probe(key) {
            Ok(()) => self.run(super::REMOVE, key, |disk, key| Ok(disk.remove(key)?)),
            Err(e) => Box::pin(std::future::ready(Err(e))),
        }
    }
}

#[cfg(test)]
mod tests;
