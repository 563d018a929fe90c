//! What the service remembers: rules and their versions, what became of them, connections, and who changed what. One SQLite file.
//!
//! Every change is one transaction, written ahead and synced, so that what an API call was told is true after a crash. The file is opened by one
//! process at a time. Times are milliseconds since 1970. What waits for the disk runs on threads that may wait: [`State::ask`].

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, Row};
use tokio::sync::watch;

use crate::error::{Code, Error, ErrorKind, Result, codes};

mod audit;
mod check;
mod connections;
mod copy;
mod history;
mod outbox;
mod releases;
mod rules;
mod tokens;
mod verifications;
mod workers;

pub use audit::Audited;
pub use connections::{CONNECTION_EXISTS, CONNECTION_IN_USE, CONNECTION_UNKNOWN, StoredConnection, connection_exists, connection_unknown};
pub use history::{Entry, Grave, LogLine, StoredGap, StoredWindow, Whose};
pub use outbox::{Report, Taken};
pub use releases::StoredRelease;
pub use rules::{
    Edit, Origin, RULE_EXISTS, RULE_OF_A_FILE, RULE_UNKNOWN, StoredRule, StoredVersion, VERSION_OUTDATED, VERSION_UNKNOWN, Wanted,
    check_origin, rule_exists,
};
pub use tokens::{StoredToken, TOKEN_EXISTS, TOKEN_UNKNOWN};
pub use verifications::{StoredVerification, VerificationState};
pub use workers::{REPORTS_WITHOUT_NUMBERS, Request, Requests, StoredWorker, WORKER_UNKNOWN, worker_unknown};

/// The state cannot be opened, read or written.
pub const STATE_FAILED: Code = Code(601);

/// Each step brings the file from its number to the next; they are never changed, only added to.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE rule (name TEXT PRIMARY KEY, version INTEGER NOT NULL, wanted TEXT NOT NULL, created_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE rule_version (rule TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (rule, version)) STRICT;
    CREATE TABLE window (id INTEGER PRIMARY KEY, rule TEXT NOT NULL, version INTEGER NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
        range_start INTEGER NOT NULL, range_end INTEGER NOT NULL, key TEXT NOT NULL, bytes INTEGER NOT NULL, records INTEGER NOT NULL,
        reason TEXT NOT NULL, late INTEGER NOT NULL, delay_ms INTEGER NOT NULL, at_ms INTEGER NOT NULL) STRICT;
    CREATE INDEX window_rule ON window (rule, id);
    CREATE TABLE gap (id INTEGER PRIMARY KEY, rule TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, range_start INTEGER NOT NULL,
        range_end INTEGER NOT NULL, cause TEXT NOT NULL, at_ms INTEGER NOT NULL, UNIQUE (rule, topic, partition, range_start, range_end)) STRICT;
    CREATE TABLE log (id INTEGER PRIMARY KEY, rule TEXT NOT NULL, at_ms INTEGER NOT NULL, level TEXT NOT NULL, topic TEXT, partition INTEGER,
        code TEXT, text TEXT NOT NULL) STRICT;
    CREATE INDEX log_rule ON log (rule, id);
    CREATE TABLE connection (kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, name)) STRICT;
    CREATE TABLE audit (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL, rule TEXT, detail TEXT) STRICT;
",
    "
    ALTER TABLE rule ADD COLUMN origin TEXT NOT NULL DEFAULT 'api';
    CREATE TABLE log_kept (id INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT NOT NULL, at_ms INTEGER NOT NULL, level TEXT NOT NULL, topic TEXT,
        partition INTEGER, code TEXT, text TEXT NOT NULL) STRICT;
    INSERT INTO log_kept SELECT id, rule, at_ms, level, topic, partition, code, text FROM log;
    DROP TABLE log;
    ALTER TABLE log_kept RENAME TO log;
    CREATE INDEX log_rule ON log (rule, id);
    CREATE TABLE verification (rule TEXT PRIMARY KEY, state TEXT NOT NULL, began_ms INTEGER NOT NULL, ended_ms INTEGER, report TEXT, problem TEXT) STRICT;
",
    "ALTER TABLE connection ADD COLUMN version INTEGER NOT NULL DEFAULT 1;",
    "
    CREATE TABLE token (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, hash TEXT NOT NULL, made_ms INTEGER NOT NULL) STRICT;
",
    "
    CREATE TABLE rule_move (rule TEXT NOT NULL, version INTEGER NOT NULL, destination TEXT NOT NULL, PRIMARY KEY (rule, version)) STRICT;
",
    "
    ALTER TABLE window ADD COLUMN worker TEXT;
    CREATE INDEX window_range ON window (rule, topic, partition, range_start);
    ALTER TABLE log ADD COLUMN worker TEXT;
    CREATE TABLE worker (id TEXT PRIMARY KEY, name TEXT NOT NULL, delivered INTEGER NOT NULL, lost INTEGER NOT NULL, seen_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE request (rule TEXT PRIMARY KEY, number INTEGER NOT NULL, seal INTEGER NOT NULL, accept TEXT NOT NULL) STRICT;
    CREATE TABLE identity (id TEXT PRIMARY KEY) STRICT;
    CREATE TABLE taken (rule TEXT PRIMARY KEY, moved_from TEXT NOT NULL, request INTEGER NOT NULL) STRICT;
    CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, report TEXT NOT NULL) STRICT;
",
    "
    CREATE TABLE release (rule TEXT NOT NULL, created_ms INTEGER NOT NULL, body TEXT NOT NULL, who TEXT NOT NULL, PRIMARY KEY (rule, created_ms)) STRICT;
",
    "
    CREATE TABLE request_kept (rule TEXT NOT NULL, number INTEGER NOT NULL, seal INTEGER NOT NULL, accept TEXT NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (rule, number)) STRICT;
    INSERT INTO request_kept SELECT rule, number, seal, accept, 0 FROM request;
    DROP TABLE request;
    ALTER TABLE request_kept RENAME TO request;
",
    "ALTER TABLE release ADD COLUMN earlier TEXT NOT NULL DEFAULT '[]';",
];

/// The state of one service.
#[derive(Debug)]
pub struct State {
    db: Mutex<Connection>,
    /// Rises with each batch of entries that was written down.
    written: watch::Sender<u64>,
    /// Whether what rules report goes into the outbox, for a server.
    is_workers: bool,
    /// Where its file is; none of one in memory.
    directory: Option<PathBuf>,
}

fn failed(error: rusqlite::Error) -> Error {
    if check::is_damage(&error) {
        return check::damaged(error);
    }
    Error::new(STATE_FAILED, ErrorKind::Retryable, "the service's state cannot be read or written")
        .because(error)
        .help("check the space and the permissions of the directory given by --state")
}

impl State {
    /// Opens the file, making or migrating it.
    ///
    /// # Errors
    /// `C0601`, also for a file that is damaged or that a later version has written.
    pub fn open(file: &Path) -> Result<Self> {
        // It holds secrets of connections. SQLite gives the files beside it the same mode.
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(file).map_err(|e| {
            Error::new(STATE_FAILED, ErrorKind::Invalid, "the service's state cannot be opened")
                .with("file", file.display())
                .because(e)
                .help("check the permissions of the directory given by --state")
        })?;
        let db = Connection::open(file).map_err(|e| failed(e).with("file", file.display()))?;
        let state = Self::prepare(db).map_err(|e| e.with("file", file.display()))?;
        Ok(Self { directory: file.parent().map(Path::to_owned), ..state })
    }

    /// Opens a file that is there and that no service has open; none if one has.
    ///
    /// # Errors
    /// `C0601`, also if there is no such file: who makes it owns it, and that should be the service's user.
    pub fn open_if_free(file: &Path) -> Result<Option<Self>> {
        if !file.is_file() {
            return Err(Error::new(STATE_FAILED, ErrorKind::NotFound, "there is no state of a service in this directory")
                .with("file", file.display())
                .help("name the directory that `catchment serve --state` has; its first start makes the state"));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let asked = Connection::open_with_flags(file, flags).and_then(|db| {
            db.busy_timeout(std::time::Duration::from_secs(1))?;
            db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0))
        });
        match asked {
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(None),
            Err(e) => Err(failed(e).with("file", file.display())),
            Ok(_) => Self::open(file).map(Some),
        }
    }

    /// The directory of its file, in which the service keeps its own; none of a state in memory.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Whether it is a worker's.
    pub(super) fn is_workers(&self) -> bool {
        self.is_workers
    }

    /// Opens the file of a worker: what its rules report is kept until a server has it.
    ///
    /// # Errors
    /// `C0601`.
    pub fn open_of_worker(file: &Path) -> Result<Self> {
        Ok(Self { is_workers: true, ..Self::open(file)? })
    }

    fn prepare(mut db: Connection) -> Result<Self> {
        // Exclusive first: set later, the lock would come with the first write only, and two services could run the same rules.
        db.execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 1000;",
        )
        .map_err(failed)?;
        let found: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        let Some(due) = MIGRATIONS.get(found as usize..) else {
            return Err(Error::new(STATE_FAILED, ErrorKind::Invalid, "the service's state was written by a later version")
                .with("found", found)
                .with("known", MIGRATIONS.len())
                .help("run that version, or put back a copy of the directory from before"));
        };
        check::whole(&db)?;
        for (step, number) in due.iter().zip(found + 1..) {
            let change = db.transaction().map_err(failed)?;
            change.execute_batch(step).map_err(failed)?;
            change.pragma_update(None, "user_version", number).map_err(failed)?;
            change.commit().map_err(failed)?;
        }
        let state = Self { db: Mutex::new(db), written: watch::Sender::new(0), is_workers: false, directory: None };
        state.forget_running_verifications()?;
        Ok(state)
    }

    /// Asks or changes something on a thread that may wait for the disk.
    ///
    /// # Errors
    /// Those of the question.
    pub async fn ask<T: Send + 'static>(self: &Arc<Self>, question: impl FnOnce(&Self) -> Result<T> + Send + 'static) -> Result<T> {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || question(&this)).await.unwrap_or_else(|failure| {
            Err(Error::new(codes::PART_ENDED, ErrorKind::Bug, "a question to the service's state has ended by itself").because(failure))
        })
    }

    /// Whether it answers: one entry is looked up, whatever it says. What asks whether a process is ready asks this, every few seconds.
    ///
    /// # Errors
    /// `C0601`.
    pub fn answers(&self) -> Result<()> {
        self.select("SELECT id FROM audit LIMIT 1", [], |_| Ok(())).map(drop)
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut db = self.db();
        let transaction = db.transaction().map_err(failed)?;
        let value = change(&transaction)?;
        transaction.commit().map_err(failed)?;
        Ok(value)
    }

    fn select<T>(&self, sql: &str, params: impl rusqlite::Params, of: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>> {
        let db = self.db();
        let mut statement = db.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(params, of).map_err(failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(failed)
    }
}

#[cfg(test)]
impl State {
    /// Makes questions to a table fail, until it has its name again.
    pub(super) fn rename_table(&self, from: &str, to: &str) {
        self.db().execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    }
}

#[cfg(test)]
fn state() -> State {
    State::prepare(Connection::open_in_memory().unwrap()).unwrap()
}

/// A window whose every value is another one.
#[cfg(test)]
fn window() -> StoredWindow {
    StoredWindow {
        id: 1,
        version: 2,
        topic: "t".into(),
        partition: 3,
        start: 4,
        end: 5,
        key: "k".into(),
        bytes: 6,
        records: 7,
        reason: "time".into(),
        late: 8,
        delay_ms: 9,
        at_ms: 10,
        worker: Some("one".into()),
    }
}

/// A line of the log of a rule `a`.
#[cfg(test)]
fn line(text: &str) -> Entry {
    let line = LogLine { id: 0, at_ms: 1, level: "info".into(), topic: None, partition: None, code: None, text: text.into(), worker: None };
    Entry::Line("a".into(), line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_service_at_a_time_has_it_and_nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.db");
        let state = State::open(&file).unwrap();
        assert_eq!(State::open(&file).unwrap_err().code, STATE_FAILED);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(State::open_if_free(&file).unwrap().is_none(), "a service has it");
        drop(state);
        State::open(&file).unwrap();
        assert!(State::open_if_free(&file).unwrap().is_some());
        assert_eq!(State::open_if_free(&dir.path().join("none.db")).unwrap_err().code, STATE_FAILED);
    }

    #[test]
    fn a_state_answers_until_it_cannot_be_read() {
        let state = state();
        state.answers().unwrap();
        state.note("me", "try", None, None, 1).unwrap();
        state.answers().unwrap();
        state.rename_table("audit", "hidden");
        assert_eq!(state.answers().unwrap_err().code, STATE_FAILED);
    }

    #[test]
    fn a_state_of_a_later_version_is_refused() {
        let db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "user_version", 1_000).unwrap();
        assert_eq!(State::prepare(db).unwrap_err().code, STATE_FAILED);
    }

    #[test]
    fn a_state_of_the_first_version_keeps_what_it_holds() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(MIGRATIONS[0]).unwrap();
        db.pragma_update(None, "user_version", 1).unwrap();
        db.execute_batch("INSERT INTO rule VALUES ('a', 1, 'paused', 5); INSERT INTO rule_version VALUES ('a', 1, '{}', 5)").unwrap();
        db.execute_batch("INSERT INTO connection VALUES ('store', 's', '{}')").unwrap();
        let state = State::prepare(db).unwrap();
        let rule = state.rule("a").unwrap();
        assert_eq!((rule.wanted, rule.origin, rule.created_ms), (Wanted::Paused, Origin::Api, 5));
        assert_eq!(state.connections().unwrap()[0].version, 1);
        state.add_token("t", "$h", "me", 6).unwrap();
    }
}
