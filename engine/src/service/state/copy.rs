//! Copies of the whole state, made while it is in use and put back at a start.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::{MIGRATIONS, STATE_FAILED, State, failed};
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
        self.db().execute("VACUUM INTO ?1", params![text]).map_err(failed)?;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).map_err(failed_file)?;
        std::fs::File::open(file).and_then(|file| file.sync_all()).map_err(failed_file)
    }

    /// Puts a copy in the place of the state, which is kept beside it with the ending `.before-restore`. Nothing may have either of them open.
    ///
    /// # Errors
    /// `C0601`, also for a copy that is damaged or of a later version; then nothing is changed.
    pub fn restore(copy: &Path, file: &Path) -> Result<()> {
        check(copy)?;
        let failed = |e: std::io::Error| {
            Error::new(STATE_FAILED, ErrorKind::Retryable, "the copy cannot be put back")
                .with("file", file.display())
                .because(e)
                .help("check the space and the permissions of the directory given by --state")
        };
        if file.exists() {
            // What stands in the log beside it must go into the file first, or it would be played into the copy.
            drop(Self::open(file)?);
            std::fs::rename(file, file.with_extension("db.before-restore")).map_err(failed)?;
        }
        let beside = file.with_extension("db.restoring");
        std::fs::copy(copy, &beside).map_err(failed)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        std::fs::File::open(&beside).and_then(|file| file.sync_all()).map_err(failed)?;
        std::fs::rename(&beside, file).map_err(failed)
    }
}

/// Whether a copy is whole and of a version that is known.
fn check(copy: &Path) -> Result<()> {
    let refused = |why: String| {
        Error::new(STATE_FAILED, ErrorKind::Invalid, "this is no copy of a service's state")
            .with("file", copy.display())
            .because(why)
            .help("name a file that `catchment rule backup-state` has written")
    };
    let db = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| refused(e.to_string()))?;
    let whole: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(|e| refused(e.to_string()))?;
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
        let before = State::open(&file.with_extension("db.before-restore")).unwrap();
        assert_eq!(before.rules().unwrap().len(), 2);
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
