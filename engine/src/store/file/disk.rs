//! Objects of the file store: durable, atomic writes, reads, and listings in key order. All of it blocks.

use std::ffi::OsString;
use std::fs::{self, File, Metadata as FileMetadata};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nix::unistd::{AccessFlags, access};

use super::{Failure, HIDDEN, OF_FILES};
use crate::store::key::PROBES;
use crate::store::memory::cut_range;
use crate::store::{Guard, ListPage, Metadata, ObjectInfo, Payload, StoreErrorKind};

/// Entries of a page of a listing, as on S3.
const PAGE_ENTRIES_MAX: usize = 1000;

/// Age from which a temporary file is taken for one of a dead process. A live write takes minutes at worst; keeping the rest
/// of a crash for a day costs disk only.
const TEMP_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The store's directory.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    temp: PathBuf,
    serial: AtomicU64,
    /// Whether files that are found must be durable, since somebody will rely on them.
    for_writing: bool,
    /// Directories that were synced.
    #[cfg(test)]
    pub(super) synced: std::sync::Mutex<Vec<PathBuf>>,
    /// The step that fails for now, and the error of the operating system that it fails with.
    #[cfg(test)]
    pub(super) trouble: std::sync::Mutex<Option<(Step, i32)>>,
}

/// A step of a write that the operating system may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A temporary file is made.
    Create,
    /// Bytes are written into it.
    Write,
    /// They are made durable.
    SyncFile,
    /// The file gets its name.
    Name,
    /// The name is made durable.
    SyncDirectory,
}

impl Disk {
    /// Takes a directory that exists or can be made, and removes old temporary files. Nothing is created before the first write, so that
    /// a run that is refused leaves nothing behind.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let (standing, missing) = standing_part(root)?;
        if !standing.is_dir() {
            return Err(io::Error::new(ErrorKind::NotADirectory, format!("{} is not a directory", standing.display())));
        }
        access(&standing, AccessFlags::W_OK | AccessFlags::X_OK)?;
        let root = joined(standing, &missing);
        let disk = Self::of(root, true);
        disk.remove_old_temp_files()?;
        Ok(disk)
    }

    /// Takes a directory as it is, for reading: nothing is created or removed.
    pub(super) fn existing(root: &Path) -> io::Result<Self> {
        Ok(Self::of(root.canonicalize()?, false))
    }

    fn of(root: PathBuf, for_writing: bool) -> Self {
        let temp = root.join(HIDDEN[0]);
        let serial = AtomicU64::new(0);
        #[cfg(test)]
        return Self { root, temp, serial, for_writing, synced: Default::default(), trouble: Default::default() };
        #[cfg(not(test))]
        Self { root, temp, serial, for_writing }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Removes an object, and the directories that only it has kept.
    pub(super) fn remove(&self, key: &str) -> io::Result<()> {
        match fs::remove_file(self.path(key)) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let below = key.match_indices('/').map(|(at, _)| &key[..at]).rev();
        for directory in below.take_while(|directory| directory.len() >= PROBES.len()) {
            if fs::remove_dir(self.path(directory)).is_err() {
                break; // Something else stands in it.
            }
        }
        Ok(())
    }

    /// Writes an object and answers its ETag.
    pub(super) fn put(&self, key: &str, body: &Payload, guard: Guard) -> Result<String, Failure> {
        let mut temp = self.temp_file()?;
        self.fill(&mut temp, body)?;
        self.publish(temp, key, guard)
    }

    /// Writes a body into a temporary file.
    pub(super) fn fill(&self, temp: &mut TempFile, body: &Payload) -> io::Result<()> {
        self.step(Step::Write)?;
        body.chunks().iter().try_for_each(|chunk| temp.file.write_all(chunk))
    }

    /// Makes the bytes of a temporary file durable. One whose sync has failed is given up with all that is in it: Linux forgets what it could not write,
    /// and a second sync of the same file would call that a success.
    pub(super) fn sync_file(&self, temp: &TempFile) -> io::Result<()> {
        self.step(Step::SyncFile)?;
        temp.file.sync_all()
    }

    /// Whether a step may be taken; tests refuse it in place of the operating system.
    fn step(&self, step: Step) -> io::Result<()> {
        #[cfg(test)]
        if let Some((_, errno)) = self.trouble.lock().unwrap().filter(|(failing, _)| *failing == step) {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let _ = step;
        Ok(())
    }

    /// Syncs a temporary file and gives it its name.
    pub(super) fn publish(&self, temp: TempFile, key: &str, guard: Guard) -> Result<String, Failure> {
        self.sync_file(&temp)?;
        let etag = etag(&temp.file.metadata()?);
        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.root);
        self.create_directory(parent)?;
        self.step(Step::Name)?;
        match guard {
            Guard::IfAbsent => match fs::hard_link(&temp.path, &path) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    self.sync_up_from(parent)?;
                    return Err(Failure::new(StoreErrorKind::Exists, "the file exists"));
                }
                linked => linked.map_err(link_failure)?,
            },
            Guard::Overwrite => fs::rename(&temp.path, &path)?,
        }
        self.sync_up_from(parent)?;
        Ok(etag)
    }

    /// Makes the names on the way from the root to this directory durable, and those in it. Somebody else may have made any of them and
    /// died before saying so to the disk.
    fn sync_up_from(&self, directory: &Path) -> io::Result<()> {
        for directory in directory.ancestors().take_while(|directory| directory.starts_with(&self.root)) {
            self.sync_directory(directory)?;
        }
        Ok(())
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_directory(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.synced.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(path.to_owned());
        self.step(Step::SyncDirectory)?;
        File::open(path)?.sync_all()
    }

    pub(super) fn head(&self, key: &str) -> Result<Option<ObjectInfo>, Failure> {
        let path = self.path(key);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => {
                if self.for_writing {
                    self.sync_up_from(path.parent().unwrap_or(&self.root))?;
                }
                Ok(Some(info(key, &meta)))
            }
            Ok(_) => Ok(None),
            Err(e) if absent(&e) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn get(&self, key: &str, range: Option<std::ops::Range<u64>>) -> Result<Option<Bytes>, Failure> {
        let file = match File::open(self.path(key)) {
            Ok(file) => file,
            Err(e) if absent(&e) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(None);
        }
        let range = cut_range(range, meta.len());
        let length = usize::try_from(range.end - range.start).map_err(|_| Failure::new(StoreErrorKind::Invalid, "range too large"))?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(Some(bytes.into()))
    }

    pub(super) fn list(&self, prefix: &str, delimiter: bool, after: Option<&str>) -> Result<ListPage, Failure> {
        let mut listing = Listing { prefix, delimiter, after, page: ListPage::default(), last: String::new() };
        // Only the directory that the prefix names can hold matches.
        let directory = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        if !directory.is_empty() && super::check_key(directory.trim_end_matches('/')).is_err() {
            return Err(Failure::new(StoreErrorKind::Invalid, format!("prefix {prefix:?}")));
        }
        self.walk(directory, &mut listing)?;
        Ok(listing.page)
    }

    /// Visits a directory in key order; false once the page is full.
    fn walk(&self, directory: &str, listing: &mut Listing<'_>) -> Result<bool, Failure> {
        for (key, meta) in self.entries(directory)? {
            let is_directory = key.ends_with('/');
            if !listing.may_hold(&key) || HIDDEN.contains(&key.as_str()) {
                continue;
            }
            let go_on = if is_directory && !(listing.delimiter && key.len() > listing.prefix.len()) {
                self.walk(&key, listing)?
            } else if is_directory {
                // A directory stands in the page only if it holds an object: stores without directories show it so.
                !self.holds_file(&key)? || listing.push_directory(&key)
            } else {
                listing.push_object(info(&key, &meta))
            };
            if !go_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Entries of a directory as keys in key order; a directory's key ends with a slash.
    fn entries(&self, directory: &str) -> Result<Vec<(String, FileMetadata)>, Failure> {
        let entries = match fs::read_dir(self.path(directory)) {
            Ok(entries) => entries,
            Err(e) if absent(&e) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is not UTF-8 was not written by this store, and no key can name it.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let meta = match fs::metadata(entry.path()) {
                Ok(meta) => meta,
                Err(e) if absent(&e) => continue,
                Err(e) => return Err(e.into()),
            };
            let slash = if meta.is_dir() { "/" } else { "" };
            keys.push((format!("{directory}{name}{slash}"), meta));
        }
        keys.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(keys)
    }

    fn holds_file(&self, directory: &str) -> Result<bool, Failure> {
        for (key, _) in self.entries(directory)? {
            if HIDDEN.contains(&key.as_str()) {
                continue;
            }
            if !key.ends_with('/') || self.holds_file(&key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Creates a directory and its parents and makes their names durable.
    pub(super) fn create_directory(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_directory(parent)?;
        }
        match fs::create_dir(path) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        path.parent().map_or(Ok(()), |parent| self.sync_directory(parent))
    }

    /// A new temporary file; removed when dropped, whatever became of it.
    pub(super) fn temp_file(&self) -> io::Result<TempFile> {
        let path = self.temp_path()?;
        self.step(Step::Create)?;
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok(TempFile { path, file })
    }

    fn temp_path(&self) -> io::Result<PathBuf> {
        self.create_directory(&self.temp)?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        Ok(self.temp.join(format!("{}-{serial}-{:016x}", std::process::id(), fastrand::u64(..))))
    }

    /// Removes a directory with all that is in it. It gets a temporary name first: one that is half removed when the process dies is then
    /// swept with the temporary files, and is no half of anything else.
    pub(super) fn remove_directory(&self, directory: &Path) -> io::Result<()> {
        let doomed = self.temp_path()?;
        fs::rename(directory, &doomed)?;
        fs::remove_dir_all(doomed)
    }

    fn remove_old_temp_files(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.temp) {
            Err(e) if absent(&e) => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Some(meta) = entry.metadata().ok().filter(is_old) else { continue };
            // Another process may have removed it meanwhile; what stays is removed next time.
            let _ = if meta.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
        Ok(())
    }
}

/// A temporary file and its path.
#[derive(Debug)]
pub(super) struct TempFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // Gone already after a rename; a leftover is removed when the store is opened a day later.
        let _ = fs::remove_file(&self.path);
    }
}

/// A path without links in what exists of it.
pub(super) fn absolute(path: &Path) -> io::Result<PathBuf> {
    standing_part(path).map(|(standing, missing)| joined(standing, &missing))
}

fn joined(standing: PathBuf, missing: &[OsString]) -> PathBuf {
    missing.iter().rev().fold(standing, |path, name| path.join(name))
}

/// The longest part of a path that exists, without links in it, and the names that are missing, the last one first.
fn standing_part(path: &Path) -> io::Result<(PathBuf, Vec<OsString>)> {
    let mut missing = Vec::new();
    let mut standing = path;
    loop {
        match (standing.canonicalize(), standing.file_name(), standing.parent()) {
            (Ok(found), ..) => return Ok((found, missing)),
            (Err(e), Some(name), Some(parent)) if e.kind() == ErrorKind::NotFound => {
                missing.push(name.to_owned());
                standing = parent;
            }
            (Err(e), ..) => return Err(e),
        }
    }
}

struct Listing<'a> {
    prefix: &'a str,
    delimiter: bool,
    after: Option<&'a str>,
    page: ListPage,
    last: String,
}

impl Listing<'_> {
    /// Whether this entry, or something below this directory, belongs to the rest of the listing.
    fn may_hold(&self, key: &str) -> bool {
        let is_directory = key.ends_with('/');
        let in_prefix = key.starts_with(self.prefix) || (is_directory && self.prefix.starts_with(key));
        let is_left = self.after.is_none_or(|after| key > after || (is_directory && after.starts_with(key)));
        in_prefix && is_left
    }

    fn push_object(&mut self, info: ObjectInfo) -> bool {
        self.room_for(&info.key.clone()) && {
            self.page.objects.push(info);
            true
        }
    }

    fn push_directory(&mut self, key: &str) -> bool {
        if self.after.is_some_and(|after| after.starts_with(key)) {
            return true;
        }
        self.room_for(key) && {
            self.page.directories.push(key.to_owned());
            true
        }
    }

    fn room_for(&mut self, key: &str) -> bool {
        if self.page.objects.len() + self.page.directories.len() == PAGE_ENTRIES_MAX {
            self.page.next = Some(std::mem::take(&mut self.last));
            return false;
        }
        key.clone_into(&mut self.last);
        true
    }
}

/// A file's ETag. A hard link keeps all of it, so that a write and a later HEAD agree; a new file of the same name differs.
pub(super) fn etag(meta: &FileMetadata) -> String {
    format!("{:x}-{:x}-{:x}", meta.ino(), i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()), meta.len())
}

pub(super) fn age(meta: &FileMetadata) -> Duration {
    // A time of change in the future (a clock set back) counts as now.
    meta.modified().ok().and_then(|modified| modified.elapsed().ok()).unwrap_or_default()
}

/// Whether a file was left behind by a process that is dead by now.
pub(super) fn is_old(meta: &FileMetadata) -> bool {
    age(meta) > TEMP_AGE_MAX
}

/// Link(2) says that a file system has no hard links by an error that reads like a missing permission.
pub(super) fn link_failure(e: io::Error) -> Failure {
    use nix::errno::Errno::{EMLINK, EOPNOTSUPP, EPERM, EXDEV};
    let lacks_links = [EPERM, EOPNOTSUPP, EXDEV, EMLINK].iter().any(|errno| e.raw_os_error() == Some(*errno as i32));
    match lacks_links {
        true => Failure::new(StoreErrorKind::Invalid, format!("{OF_FILES}it has no hard links here: {e}")),
        false => e.into(),
    }
}

pub(super) fn absent(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn info(key: &str, meta: &FileMetadata) -> ObjectInfo {
    ObjectInfo { key: key.to_owned(), size: meta.len(), etag: etag(meta), metadata: Metadata::new(), crc64: None }
}
