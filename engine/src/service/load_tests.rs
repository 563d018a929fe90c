//! Load tests: the reports that `catchment-loadtest run --out DIR/NAME` has left in a directory, for the API and the console to show.
//!
//! Place in the flow: `serve --load-tests DIR` names the directory. A load test is a directory in it with a `report.json`, which is read by [`report`], and
//! beside that the page `report.html`, which is handed on as it is.
//!
//! Guarantees: nothing is written, and nothing is read but these two files: names are checked, and each step is opened from the one above it without following
//! a link, whatever changes meanwhile. A report that cannot be read is listed with the place of its mistake; one that is too large is not read.
//!
//! Not here: no load test is started. It belongs on a machine that it does not disturb, and its program is another one.

use std::fs::{DirEntry, File};
use std::io::{self, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::blocking::blocking;
use crate::error::{Code, Error, ErrorKind, Result};

mod report;

pub use report::{Latency, LoadTest, Throughput};

/// There is no directory of load tests, or it cannot be read.
pub const LOAD_TESTS_UNREADABLE: Code = Code(670);
/// There is no load test of this name, or no page of it.
pub const LOAD_TEST_UNKNOWN: Code = Code(671);

/// Load tests that are listed: the newest.
const LISTED_MAX: usize = 100;

/// Entries of the directory that are looked at.
const ENTRIES_MAX: usize = 10_000;

/// The largest report that is read. A second of a run takes about 200 bytes, so this is more than a day.
const REPORT_BYTES_MAX: u64 = 32 << 20;

/// Bytes of a name.
const NAME_BYTES_MAX: usize = 100;

const REPORT: &str = "report.json";
const PAGE: &str = "report.html";

/// The load tests of a service.
#[derive(Clone, Debug, Default)]
pub struct LoadTests {
    directory: Option<Arc<Path>>,
}

/// The newest load tests, by when their reports were written.
#[derive(Debug, Default)]
pub struct Listed {
    /// How many there are.
    pub all: usize,
    /// The newest of them.
    pub newest: Vec<LoadTest>,
}

/// Whether a load test may have this name: it becomes part of a path, of an address and of a command.
pub fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= NAME_BYTES_MAX && name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(is_plain)
}

impl LoadTests {
    /// Those of a directory, if there is one.
    pub fn of(directory: Option<&Path>) -> Self {
        Self { directory: directory.map(Arc::from) }
    }

    /// Where they are.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// The newest load tests, each of which may be one that cannot be read.
    ///
    /// # Errors
    /// `C0670`.
    pub async fn list(&self) -> Result<Listed> {
        self.within(list).await
    }

    /// One load test, which may be one that cannot be read.
    ///
    /// # Errors
    /// `C0670`, `C0671`.
    pub async fn one(&self, name: &str) -> Result<LoadTest> {
        let name = name.to_owned();
        self.within(move |_, root| match open(root, &name, REPORT) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(unknown(&name)),
            _ => Ok(read(root, &name)),
        })
        .await
    }

    /// The page of a load test, and its size.
    ///
    /// # Errors
    /// `C0670`, `C0671`.
    pub async fn page(&self, name: &str) -> Result<(File, u64)> {
        let name = name.to_owned();
        self.within(move |_, root| {
            let failed = |e: io::Error| unknown(&name).because(format_args!("{PAGE}: {e}"));
            let page = open(root, &name, PAGE).map_err(failed)?;
            let size = page.metadata().map_err(failed)?.len();
            Ok((page, size))
        })
        .await
    }

    /// Does something in the directory, on a thread that may wait for the disk.
    async fn within<T: Send + 'static>(&self, job: impl FnOnce(&Path, &File) -> Result<T> + Send + 'static) -> Result<T> {
        let Some(directory) = self.directory.clone() else {
            return Err(Error::new(LOAD_TESTS_UNREADABLE, ErrorKind::NotFound, "this service has no directory of load tests")
                .help("start it with --load-tests DIR"));
        };
        blocking(move || {
            let root = File::open(&directory).map_err(|e| unreadable(&directory, &e))?;
            job(&directory, &root)
        })
        .await
    }
}

fn unreadable(directory: &Path, why: &io::Error) -> Error {
    Error::new(LOAD_TESTS_UNREADABLE, ErrorKind::NotFound, "the directory of load tests cannot be read")
        .with("dir", directory.display())
        .because(why)
        .help("make the directory that --load-tests names, and let the service's user read it")
}

fn unknown(name: &str) -> Error {
    Error::new(LOAD_TEST_UNKNOWN, ErrorKind::NotFound, "there is no load test of this name")
        .with("load_test", crate::text::one_line(name))
        .help("`catchment rule load-tests` lists them; a link is none")
}

fn list(directory: &Path, root: &File) -> Result<Listed> {
    let entries = std::fs::read_dir(directory).map_err(|e| unreadable(directory, &e))?;
    let names = entries.take(ENTRIES_MAX).filter_map(|entry| name_of(&entry.ok()?));
    let mut found: Vec<(SystemTime, String)> = names.filter_map(|name| Some((written_at(root, &name)?, name))).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(Listed { all: found.len(), newest: found.iter().take(LISTED_MAX).map(|(_, name)| read(root, name)).collect() })
}

/// The name of what may be a load test. A file beside them is none.
fn name_of(entry: &DirEntry) -> Option<String> {
    let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
    entry.file_name().into_string().ok().filter(|name| !is_file && is_name(name))
}

/// When a report was written; none if there is none. One that cannot be opened is the oldest, and is listed as such.
fn written_at(root: &File, name: &str) -> Option<SystemTime> {
    match open(root, name, REPORT) {
        Ok(file) => Some(file.metadata().and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(SystemTime::UNIX_EPOCH),
    }
}

/// A load test as its report says; one whose report cannot be read says why.
fn read(root: &File, name: &str) -> LoadTest {
    let (at, limit) = (format!("{name}/{REPORT}"), REPORT_BYTES_MAX >> 20);
    let opened = open(root, name, REPORT).and_then(|file| Ok((file.metadata()?.len(), file)));
    let found = match opened {
        Ok((size, _)) if size > REPORT_BYTES_MAX => Err(format!("{at}: it has more than {limit} MiB")),
        Ok((_, file)) => report::read(&at, BufReader::new(file.take(REPORT_BYTES_MAX))),
        Err(e) => Err(format!("{at}: {e}")),
    };
    match found {
        Ok(found) => LoadTest { name: name.to_owned(), has_page: open(root, name, PAGE).is_ok(), ..found },
        Err(problem) => LoadTest { name: name.to_owned(), problem: Some(problem), ..LoadTest::default() },
    }
}

/// Opens a file of a load test. There is none of a name that is none.
fn open(root: &File, name: &str, file: &str) -> io::Result<File> {
    if !is_name(name) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // A pipe would keep whoever opens it waiting.
    let file = open_at(&open_at(root, name, OFlag::O_DIRECTORY)?, file, OFlag::O_NONBLOCK)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

/// Opens what is in a directory, and is no link.
fn open_at(directory: &File, name: &str, kind: OFlag) -> io::Result<File> {
    match openat(directory, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | kind, Mode::empty()) {
        Ok(opened) => Ok(File::from(opened)),
        Err(Errno::ELOOP | Errno::ENOTDIR) => Err(io::Error::other("it is a link, which is not followed, or no directory")),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests;
