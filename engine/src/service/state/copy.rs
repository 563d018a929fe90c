//! Copies of the whole state, made while it is in use and put back at a start.

use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::{MIGRATIONS, STATE_FAILED, State, check, failed};
use crate::error::{Error, ErrorKind, Result};

impl State {
    /// Writes a copy as of now into a new file, which only its owner may read.
    ///
    /// # Errors
    /// `C0601`, also if the file exists.
    pub fn copy_to(&self, file: &Path) -> Result<()> {
        let failed_file = |e: std::io::Error| {
            Error::new(STATE_FAILED, ErrorKind::Retryable, "the state cannot be copied")
                .with("file", file.display())
                .because(e)
                .help("check the space and the permissions there")
        };
        let text = file.to_str().ok_or_else(|| failed_file(std::io::Error::other("the path is not UTF-8")))?;
        // Made empty, for its owner alone, before anything is in it.
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed_file)?;
        let copied = self.db().execute("VACUUM INTO ?1", params![text]).map_err(failed);
        let copied = copied.and_then(|_| std::fs::File::open(file).and_then(|file| file.sync_all()).map_err(failed_file));
        if copied.is_err() {
            // A part of a copy is none.
            let _ = std::fs::remove_file(file);
        }
        copied
    }

    /// Puts a copy in the place of the state, which is kept beside it with the ending `.before-restore`, whatever condition it is in. Nothing may have
    /// either of them open.
    ///
    /// # Errors
    /// `C0601`, also for a copy that is damaged or of a later version, and if the state of an earlier restore is still there; then nothing is changed.
    pub fn restore(copy: &Path, file: &Path) -> Result<()> {
        check(copy)?;
        let failed = |e: std::io::Error| {
            Error::new(STATE_FAILED, ErrorKind::Retryable, "the copy cannot be put back")
                .with("file", file.display())
                .because(e)
                .help("check the space and the permissions of the directory given by --state")
        };
        let kept = |ending: &str| Path::new(&format!("{}.before-restore{ending}", file.display())).to_owned();
        if kept("").exists() {
            return Err(Error::new(STATE_FAILED, ErrorKind::Invalid, "a state was restored here before")
                .with("file", kept("").display())
                .help("start without --restore; to restore once more, move that file away first"));
        }
        let beside = file.with_extension("db.restoring");
        std::fs::copy(copy, &beside).map_err(failed)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        std::fs::File::open(&beside).and_then(|file| file.sync_all()).map_err(failed)?;
        // SQLite would play what is left of the old state's log into the copy.
        for ending in ["-wal", "-shm", ""] {
            let old = Path::new(&format!("{}{ending}", file.display())).to_owned();
            if old.exists() {
                std::fs::rename(&old, kept(ending)).map_err(failed)?;
            }
        }
        std::fs::rename(&beside, file).map_err(failed)?;
        std::fs::File::open(file.parent().unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all()).map_err(failed)
    }
}

/// Whether a copy is whole and of a version that is known.
fn check(copy: &Path) -> Result<()> {
    let refused = |why: String| {
        Error::new(STATE_FAILED, ErrorKind::Invalid, "this is no copy of a service's state")
            .with("file", copy.display())
            .because(why)
            .help("name a file that `catchment rule copy-state` has written")
    };
    let db = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| refused(e.to_string()))?;
    let whole = check::look(&db, "PRAGMA integrity_check(1)").map_err(|e| refused(e.to_string()))?;
    let version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| refused(e.to_string()))?;
    match (whole.as_str(), version as usize) {
        ("ok", 1..) if version as usize <= MIGRATIONS.len() => Ok(()),
        ("ok", 0) => Err(refused("it has no rules in it".to_owned())),
        ("ok", _) => Err(refused(format!("it is of version {version}, and {} is known", MIGRATIONS.len()))),
        _ => Err(refused(whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    #[test]
    fn a_copy_is_put_back_with_what_it_held() {
        let dir = tempfile::tempdir().unwrap();
        let (file, copy) = (dir.path().join("state.db"), dir.path().join("copy.db"));
        let state = State::open(&file).unwrap();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        state.copy_to(&copy).unwrap();
        assert!(state.copy_to(&copy).is_err(), "a copy is not written over");
        state.create("b", "{}", Origin::Api, "me", 2).unwrap();
        drop(state);
        State::restore(&copy, &file).unwrap();
        let names: Vec<_> = State::open(&file).unwrap().rules().unwrap().into_iter().map(|rule| rule.name).collect();
        assert_eq!(names, ["a"]);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let before = State::open(&file.with_extension("db.before-restore")).unwrap();
        assert_eq!(before.rules().unwrap().len(), 2);
        drop(before);
        assert!(
            State::restore(&copy, &file).unwrap_err().help.unwrap().contains("without --restore"),
            "it would be rolled back at each start"
        );
    }

    #[test]
    fn the_log_of_a_state_that_is_gone_is_not_played_into_the_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (file, copy) = (dir.path().join("state.db"), dir.path().join("copy.db"));
        let state = State::open(&file).unwrap();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        state.copy_to(&copy).unwrap();
        state.create("b", "{}", Origin::Api, "me", 2).unwrap();
        // A crash, and somebody moves the database away but not its log.
        let wal = std::fs::read(dir.path().join("state.db-wal")).unwrap();
        drop(state);
        std::fs::remove_file(&file).unwrap();
        std::fs::write(dir.path().join("state.db-wal"), wal).unwrap();
        State::restore(&copy, &file).unwrap();
        let names: Vec<_> = State::open(&file).unwrap().rules().unwrap().into_iter().map(|rule| rule.name).collect();
        assert_eq!(names, ["a"]);
    }

    #[test]
    fn what_is_no_copy_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("state.db"), dir.path().join("other"));
        State::open(&file).unwrap().create("a", "{}", Origin::Api, "me", 1).unwrap();
        std::fs::write(&other, "no database").unwrap();
        assert_eq!(State::restore(&other, &file).unwrap_err().code, STATE_FAILED);
        assert!(State::restore(&dir.path().join("none"), &file).is_err());
        let state = State::open(&file).unwrap();
        assert_eq!(state.rules().unwrap().len(), 1);
        drop(state);
        let copy = dir.path().join("later");
        let later = Connection::open(&copy).unwrap();
        later.pragma_update(None, "user_version", 1_000).unwrap();
        drop(later);
        assert!(State::restore(&copy, &file).unwrap_err().cause.unwrap().contains("1000"));
    }
}
