//! The name of a static member: `<rule>-<host>-<slot>`.
//!
//! A static member that restarts under its old name gets its old partitions back without a rebalance; two processes under one name
//! fence each other. So a process takes the lowest slot whose lock file it can lock. The lock goes with the process however it ends,
//! `kill -9` included. It is advisory and local: hosts are told apart by their name.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, ErrorKind};

use super::errors::NO_SLOT;

/// Processes of one rule on one host. More would rather be threads of one.
const SLOTS_MAX: u32 = 64;

/// The longest `group.instance.id` that brokers take.
const NAME_MAX: usize = 249;

/// A locked slot, and the member's name that it stands for. Free again once dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The member's name.
    pub name: String,
    _lock: Flock<File>,
}

/// Takes the lowest free slot of a rule on this host. `scope` tells clusters apart. Lock files lie in `dir`, are shared by all users
/// of the host, and are never deleted (that would free a slot twice).
///
/// # Errors
/// `C0208` if none is free or no lock file can be made.
pub(crate) fn take(dir: &Path, rule: &str, scope: &str) -> Result<Slot, Error> {
    let host = nix::unistd::gethostname().map(|h| h.to_string_lossy().into_owned()).unwrap_or_else(|_| "host".to_owned());
    let mut last = None;
    for slot in 0..SLOTS_MAX {
        let path = dir.join(format!("catchment-{}-{}-{slot}.lock", legal(rule), legal(scope)));
        match lock(&path) {
            Ok(Some(lock)) => return Ok(Slot { name: member_name(rule, &host, slot), _lock: lock }),
            Ok(None) => {}
            Err(e) => last = Some((path, e)),
        }
    }
    let error = Error::new(NO_SLOT, ErrorKind::Invalid, "no slot is free for this member's name").with("directory", dir.display());
    let error = match last {
        Some((path, e)) => error.with("file", path.display()).because(e),
        None => error.because(format!("{SLOTS_MAX} processes of this rule run on this host")),
    };
    Err(error.help(
        "make the temporary directory writable (TMPDIR), or set the property group.instance.id to a name of its own for each process",
    ))
}

/// Locks the file; none if another process has it.
fn lock(path: &PathBuf) -> io::Result<Option<Flock<File>>> {
    // A file of another user can be locked too, but only if it is opened for reading and not created: see fs.protected_regular.
    let nofollow = libc::O_NOFOLLOW;
    let file = match OpenOptions::new().read(true).custom_flags(nofollow).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            match OpenOptions::new().read(true).write(true).create_new(true).custom_flags(nofollow).mode(0o644).open(path) {
                // Somebody was faster.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => OpenOptions::new().read(true).custom_flags(nofollow).open(path)?,
                other => other?,
            }
        }
        other => other?,
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(e.into()),
    }
}

fn member_name(rule: &str, host: &str, slot: u32) -> String {
    let tail = format!("-{slot}");
    let mut name = format!("{}-{}", legal(rule), legal(host));
    name.truncate(NAME_MAX - tail.len());
    name + &tail
}

/// Replaces what a member's name or a file's name must not hold.
fn legal(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_taken_in_order_and_freed_by_drop() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path(), "orders", "c").unwrap();
        let second = take(dir.path(), "orders", "c").unwrap();
        assert!(first.name.starts_with("orders-") && first.name.ends_with("-0"), "{}", first.name);
        assert!(second.name.ends_with("-1"), "{}", second.name);
        assert!(take(dir.path(), "other", "c").unwrap().name.ends_with("-0"));
        let name = first.name.clone();
        drop(first);
        assert_eq!(take(dir.path(), "orders", "c").unwrap().name, name);
    }

    #[test]
    fn names_are_legal_and_short_enough() {
        let name = member_name(&"r".repeat(200), &"h/ä ".repeat(100), 63);
        assert!(name.len() <= NAME_MAX && name.ends_with("-63") && name.is_ascii());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = take(Path::new("/no/such/directory"), "r", "c").unwrap_err();
        assert_eq!(error.code, NO_SLOT);
        assert!(error.to_string().contains("/no/such/directory"), "{error}");
    }
}
