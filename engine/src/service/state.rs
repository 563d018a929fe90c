//! What the service remembers: rules, their versions, windows, gaps, the log of each rule, and who changed what. One SQLite file.
//!
//! Every change is one transaction, written ahead and synced, so that what an API call was told is true after a crash. The file is opened by one
//! process at a time. Times are milliseconds since 1970.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::{Code, Error, ErrorKind, Result};

/// The state cannot be opened, read or written.
pub const STATE_FAILED: Code = Code(601);
/// There is no rule of this name.
pub const RULE_UNKNOWN: Code = Code(602);
/// There is a rule of this name.
pub const RULE_EXISTS: Code = Code(603);
/// The rule was changed by somebody else meanwhile.
pub const VERSION_OUTDATED: Code = Code(604);

/// There is a connection or a store of this name.
pub const CONNECTION_EXISTS: Code = Code(611);

/// Each step brings the file from its number to the next; they are never changed, only added to.
const MIGRATIONS: &[&str] = &["
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
"];

/// Whether a rule should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It runs, also after a restart.
    Running,
    /// It does not, until somebody resumes it.
    Paused,
}

impl Wanted {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
        }
    }

    fn of(word: &str) -> Self {
        if word == "paused" { Self::Paused } else { Self::Running }
    }
}

/// A rule as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRule {
    /// Its name.
    pub name: String,
    /// The number of its current version, from 1.
    pub version: i64,
    /// Whether it should run.
    pub wanted: Wanted,
    /// When it was created.
    pub created_ms: i64,
    /// The body of its current version, as JSON.
    pub body: String,
}

/// A Kafka connection or a store that was created beside those of the config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredConnection {
    /// `kafka` or `store`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its body, as JSON. May hold secrets.
    pub body: String,
}

/// A window that became an object.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StoredWindow {
    /// Its number; later ones are larger.
    pub id: i64,
    /// The version of the rule that wrote it.
    pub version: i64,
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its first offset.
    pub start: i64,
    /// The offset behind its last one.
    pub end: i64,
    /// Its object.
    pub key: String,
    /// The object's size.
    pub bytes: i64,
    /// Its records.
    pub records: i64,
    /// Why it was closed.
    pub reason: String,
    /// Records older than its slot.
    pub late: i64,
    /// From its close to its object, ms.
    pub delay_ms: i64,
    /// When.
    pub at_ms: i64,
}

/// A range of offsets that could not be stored.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StoredGap {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its first offset.
    pub start: i64,
    /// The offset behind its last one.
    pub end: i64,
    /// Why.
    pub cause: String,
    /// When it was found.
    pub at_ms: i64,
}

/// A line of a rule's log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LogLine {
    /// Its number; later ones are larger.
    pub id: i64,
    /// When.
    pub at_ms: i64,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The topic, if it is about one.
    pub topic: Option<String>,
    /// The partition, if it is about one.
    pub partition: Option<i32>,
    /// The code of an error.
    pub code: Option<String>,
    /// What happened.
    pub text: String,
}

/// Something to write down, as it is handed to the writer.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A window; its number is given when it is written.
    Window(String, StoredWindow),
    /// A gap. One that is known already is left as it is.
    Gap(String, StoredGap),
    /// A line; its number is given when it is written.
    Line(String, LogLine),
}

/// The state of one service.
#[derive(Debug)]
pub struct State(Mutex<Connection>);

fn failed(error: rusqlite::Error) -> Error {
    Error::new(STATE_FAILED, ErrorKind::Retryable, "the service's state cannot be read or written")
        .because(error)
        .help("check the space and the permissions of the directory given by --state")
}

impl State {
    /// Opens the file, making or migrating it.
    ///
    /// # Errors
    /// `C0601`, also for a file that a later version has written.
    pub fn open(file: &Path) -> Result<Self> {
        // It holds secrets of connections. SQLite gives the files beside it the same mode.
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(file).map_err(|e| {
            Error::new(STATE_FAILED, ErrorKind::Invalid, "the service's state cannot be opened")
                .with("file", file.display())
                .because(e)
                .help("check the permissions of the directory given by --state")
        })?;
        let db = Connection::open(file).map_err(|e| failed(e).with("file", file.display()))?;
        Self::prepare(db).map_err(|e| e.with("file", file.display()))
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
        for (step, number) in due.iter().zip(found + 1..) {
            let change = db.transaction().map_err(failed)?;
            change.execute_batch(step).map_err(failed)?;
            change.pragma_update(None, "user_version", number).map_err(failed)?;
            change.commit().map_err(failed)?;
        }
        Ok(Self(Mutex::new(db)))
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All rules, by name.
    ///
    /// # Errors
    /// `C0601`.
    pub fn rules(&self) -> Result<Vec<StoredRule>> {
        self.select(&format!("{RULES} ORDER BY rule.name"), params![], rule_of)
    }

    /// One rule.
    ///
    /// # Errors
    /// `C0601`, `C0602`.
    pub fn rule(&self, name: &str) -> Result<StoredRule> {
        find(&self.db(), name)?.ok_or_else(|| unknown(name))
    }

    /// A new rule, wanted to run, in version 1.
    ///
    /// # Errors
    /// `C0601`, `C0603`.
    pub fn create(&self, name: &str, body: &str, who: &str, at_ms: i64) -> Result<StoredRule> {
        self.change(|db| {
            if find(db, name)?.is_some() {
                return Err(Error::new(RULE_EXISTS, ErrorKind::Invalid, "there is a rule of this name")
                    .with("rule", name)
                    .help("choose another name, or edit that rule"));
            }
            db.execute("INSERT INTO rule VALUES (?1, 1, 'running', ?2)", params![name, at_ms]).map_err(failed)?;
            db.execute("INSERT INTO rule_version VALUES (?1, 1, ?2, ?3)", params![name, body, at_ms]).map_err(failed)?;
            audit(db, at_ms, who, "create", name, Some(body))?;
            find(db, name)?.ok_or_else(|| unknown(name))
        })
    }

    /// A new version of a rule, if its current one is `version`. An equal body is no new version.
    ///
    /// # Errors
    /// `C0601`, `C0602`, `C0604`.
    pub fn edit(&self, name: &str, version: Option<i64>, body: &str, who: &str, at_ms: i64) -> Result<StoredRule> {
        self.change(|db| {
            let rule = find(db, name)?.ok_or_else(|| unknown(name))?;
            if version.is_some_and(|version| version != rule.version) {
                return Err(Error::new(VERSION_OUTDATED, ErrorKind::Invalid, "the rule was changed meanwhile")
                    .with("rule", name)
                    .with("version", rule.version)
                    .help("look at the current version, and make the change again"));
            }
            if rule.body == body {
                return Ok(rule);
            }
            let next = rule.version + 1;
            db.execute("INSERT INTO rule_version VALUES (?1, ?2, ?3, ?4)", params![name, next, body, at_ms]).map_err(failed)?;
            db.execute("UPDATE rule SET version = ?2 WHERE name = ?1", params![name, next]).map_err(failed)?;
            audit(db, at_ms, who, "edit", name, Some(body))?;
            Ok(StoredRule { version: next, body: body.to_owned(), ..rule })
        })
    }

    /// Says whether a rule should run.
    ///
    /// # Errors
    /// `C0601`, `C0602`.
    pub fn want(&self, name: &str, wanted: Wanted, who: &str, at_ms: i64) -> Result<StoredRule> {
        self.change(|db| {
            let rule = find(db, name)?.ok_or_else(|| unknown(name))?;
            if rule.wanted != wanted {
                db.execute("UPDATE rule SET wanted = ?2 WHERE name = ?1", params![name, wanted.as_str()]).map_err(failed)?;
                audit(db, at_ms, who, if wanted == Wanted::Paused { "pause" } else { "resume" }, name, None)?;
            }
            Ok(StoredRule { wanted, ..rule })
        })
    }

    /// Forgets a rule, its versions, windows, gaps and log. Its objects and the audit stay.
    ///
    /// # Errors
    /// `C0601`, `C0602`.
    pub fn delete(&self, name: &str, who: &str, at_ms: i64) -> Result<()> {
        self.change(|db| {
            find(db, name)?.ok_or_else(|| unknown(name))?;
            for table in ["rule_version", "window", "gap", "log"] {
                db.execute(&format!("DELETE FROM {table} WHERE rule = ?1"), params![name]).map_err(failed)?;
            }
            db.execute("DELETE FROM rule WHERE name = ?1", params![name]).map_err(failed)?;
            audit(db, at_ms, who, "delete", name, None)
        })
    }

    /// All connections and stores, by kind and name.
    ///
    /// # Errors
    /// `C0601`.
    pub fn connections(&self) -> Result<Vec<StoredConnection>> {
        self.select("SELECT kind, name, body FROM connection ORDER BY kind, name", params![], |row| {
            Ok(StoredConnection { kind: row.get(0)?, name: row.get(1)?, body: row.get(2)? })
        })
    }

    /// Keeps a new connection or store. Its body may hold secrets, so the audit has its name alone.
    ///
    /// # Errors
    /// `C0601`, `C0611`.
    pub fn put_connection(&self, connection: &StoredConnection, who: &str, at_ms: i64) -> Result<()> {
        self.change(|db| {
            let StoredConnection { kind, name, body } = connection;
            let made = db.execute("INSERT OR IGNORE INTO connection VALUES (?1, ?2, ?3)", params![kind, name, body]).map_err(failed)?;
            if made == 0 {
                return Err(connection_exists(name));
            }
            let sql = "INSERT INTO audit (at_ms, who, action, rule, detail) VALUES (?1, ?2, ?3, NULL, ?4)";
            db.execute(sql, params![at_ms, who, format!("define {kind}"), name]).map(drop).map_err(failed)
        })
    }

    /// The bodies of a rule's versions, oldest first, with their numbers and times.
    ///
    /// # Errors
    /// `C0601`.
    pub fn versions(&self, name: &str) -> Result<Vec<(i64, String, i64)>> {
        let sql = "SELECT version, body, at_ms FROM rule_version WHERE rule = ?1 ORDER BY version";
        self.select(sql, params![name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
    }

    /// The last windows of a rule below number `before`, newest first.
    ///
    /// # Errors
    /// `C0601`.
    pub fn windows(&self, name: &str, before: i64, at_most: u32) -> Result<Vec<StoredWindow>> {
        let sql = "SELECT id, version, topic, partition, range_start, range_end, key, bytes, records, reason, late, delay_ms, at_ms
            FROM window WHERE rule = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3";
        self.select(sql, params![name, before, at_most], |row| {
            Ok(StoredWindow {
                id: row.get(0)?,
                version: row.get(1)?,
                topic: row.get(2)?,
                partition: row.get(3)?,
                start: row.get(4)?,
                end: row.get(5)?,
                key: row.get(6)?,
                bytes: row.get(7)?,
                records: row.get(8)?,
                reason: row.get(9)?,
                late: row.get(10)?,
                delay_ms: row.get(11)?,
                at_ms: row.get(12)?,
            })
        })
    }

    /// The gaps of a rule, oldest first.
    ///
    /// # Errors
    /// `C0601`.
    pub fn gaps(&self, name: &str) -> Result<Vec<StoredGap>> {
        let sql = "SELECT topic, partition, range_start, range_end, cause, at_ms FROM gap WHERE rule = ?1 ORDER BY id";
        self.select(sql, params![name], |row| {
            Ok(StoredGap {
                topic: row.get(0)?,
                partition: row.get(1)?,
                start: row.get(2)?,
                end: row.get(3)?,
                cause: row.get(4)?,
                at_ms: row.get(5)?,
            })
        })
    }

    /// The first lines of a rule's log above number `after`, or its last ones, oldest first.
    ///
    /// # Errors
    /// `C0601`.
    pub fn log(&self, name: &str, after: Option<i64>, at_most: u32) -> Result<Vec<LogLine>> {
        let order = if after.is_some() { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT * FROM (SELECT id, at_ms, level, topic, partition, code, text FROM log WHERE rule = ?1 AND id > ?2 ORDER BY id {order} LIMIT ?3)
            ORDER BY id"
        );
        self.select(&sql, params![name, after.unwrap_or(0), at_most], |row| {
            Ok(LogLine {
                id: row.get(0)?,
                at_ms: row.get(1)?,
                level: row.get(2)?,
                topic: row.get(3)?,
                partition: row.get(4)?,
                code: row.get(5)?,
                text: row.get(6)?,
            })
        })
    }

    /// Writes these down, in one transaction. What belongs to a rule that was deleted meanwhile is dropped.
    ///
    /// # Errors
    /// `C0601`.
    pub fn write(&self, entries: &[Entry]) -> Result<()> {
        self.change(|db| entries.iter().try_for_each(|entry| write(db, entry).map_err(failed)))
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

/// A connection or a store is there already: rules may rest on it.
pub fn connection_exists(name: &str) -> Error {
    Error::new(CONNECTION_EXISTS, ErrorKind::Invalid, "there is one of this name, and rules may rest on it")
        .with("name", name)
        .help("create another one, and edit the rules that should use it")
}

const RULES: &str = "SELECT rule.name, rule.version, rule.wanted, rule.created_ms, rule_version.body FROM rule
    JOIN rule_version ON rule_version.rule = rule.name AND rule_version.version = rule.version";

fn rule_of(row: &Row<'_>) -> rusqlite::Result<StoredRule> {
    let wanted: String = row.get(2)?;
    Ok(StoredRule { name: row.get(0)?, version: row.get(1)?, wanted: Wanted::of(&wanted), created_ms: row.get(3)?, body: row.get(4)? })
}

fn find(db: &Connection, name: &str) -> Result<Option<StoredRule>> {
    db.query_row(&format!("{RULES} WHERE rule.name = ?1"), params![name], rule_of).optional().map_err(failed)
}

fn unknown(name: &str) -> Error {
    Error::new(RULE_UNKNOWN, ErrorKind::NotFound, "there is no rule of this name")
        .with("rule", name)
        .help("`catchment rule list` names them")
}

fn audit(db: &Connection, at_ms: i64, who: &str, action: &str, rule: &str, detail: Option<&str>) -> Result<()> {
    let sql = "INSERT INTO audit (at_ms, who, action, rule, detail) VALUES (?1, ?2, ?3, ?4, ?5)";
    db.execute(sql, params![at_ms, who, action, rule, detail]).map(drop).map_err(failed)
}

fn write(db: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let sql = match entry {
        Entry::Window(..) => {
            "INSERT INTO window (rule, version, topic, partition, range_start, range_end, key, bytes, records, reason, late, delay_ms, at_ms)
            SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13 WHERE EXISTS (SELECT 1 FROM rule WHERE name = ?1)"
        }
        Entry::Gap(..) => {
            "INSERT OR IGNORE INTO gap (rule, topic, partition, range_start, range_end, cause, at_ms)
            SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE EXISTS (SELECT 1 FROM rule WHERE name = ?1)"
        }
        Entry::Line(..) => {
            "INSERT INTO log (rule, at_ms, level, topic, partition, code, text)
            SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE EXISTS (SELECT 1 FROM rule WHERE name = ?1)"
        }
    };
    let mut statement = db.prepare_cached(sql)?;
    match entry {
        Entry::Window(rule, w) => statement.execute(params![
            rule,
            w.version,
            w.topic,
            w.partition,
            w.start,
            w.end,
            w.key,
            w.bytes,
            w.records,
            w.reason,
            w.late,
            w.delay_ms,
            w.at_ms
        ]),
        Entry::Gap(rule, g) => statement.execute(params![rule, g.topic, g.partition, g.start, g.end, g.cause, g.at_ms]),
        Entry::Line(rule, l) => statement.execute(params![rule, l.at_ms, l.level, l.topic, l.partition, l.code, l.text]),
    }
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::prepare(Connection::open_in_memory().unwrap()).unwrap()
    }

    fn line(text: &str) -> LogLine {
        LogLine { id: 0, at_ms: 1, level: "info".into(), topic: None, partition: None, code: None, text: text.into() }
    }

    #[test]
    fn a_rule_is_created_once_and_edited_from_the_version_that_was_seen() {
        let state = state();
        let rule = state.create("orders", "{}", "me", 1).unwrap();
        assert_eq!((rule.version, rule.wanted), (1, Wanted::Running));
        assert_eq!(state.create("orders", "{}", "me", 2).unwrap_err().code, RULE_EXISTS);
        assert_eq!(state.edit("orders", Some(1), "{\"a\":1}", "me", 3).unwrap().version, 2);
        assert_eq!(state.edit("orders", Some(1), "{}", "me", 4).unwrap_err().code, VERSION_OUTDATED);
        assert_eq!(state.edit("orders", Some(2), "{\"a\":1}", "me", 5).unwrap().version, 2, "nothing has changed");
        assert_eq!(state.versions("orders").unwrap(), [(1, "{}".to_owned(), 1), (2, "{\"a\":1}".to_owned(), 3)]);
        assert_eq!(state.rule("none").unwrap_err().code, RULE_UNKNOWN);
    }

    #[test]
    fn what_is_wanted_and_written_down_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.db");
        let state = State::open(&file).unwrap();
        state.create("a", "{}", "me", 1).unwrap();
        state.want("a", Wanted::Paused, "me", 2).unwrap();
        state.write(&[Entry::Line("a".into(), line("one")), Entry::Line("a".into(), line("two"))]).unwrap();
        drop(state);
        let state = State::open(&file).unwrap();
        assert_eq!(state.rule("a").unwrap().wanted, Wanted::Paused);
        let lines = state.log("a", Some(0), 10).unwrap();
        assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(state.log("a", Some(lines[0].id), 10).unwrap().len(), 1);
        assert_eq!(state.log("a", None, 1).unwrap()[0].text, "two", "the last one");
    }

    #[test]
    fn one_service_at_a_time_has_it_and_nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.db");
        let state = State::open(&file).unwrap();
        assert_eq!(State::open(&file).unwrap_err().code, STATE_FAILED);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        drop(state);
        State::open(&file).unwrap();
    }

    #[test]
    fn a_connection_is_not_written_over() {
        let state = state();
        let connection = StoredConnection { kind: "store".into(), name: "s".into(), body: "{}".into() };
        state.put_connection(&connection, "me", 1).unwrap();
        assert_eq!(state.put_connection(&connection, "me", 2).unwrap_err().code, CONNECTION_EXISTS);
        assert_eq!(state.connections().unwrap(), [connection]);
    }

    #[test]
    fn a_rule_that_is_deleted_leaves_nothing_and_late_entries_are_dropped() {
        let state = state();
        state.create("a", "{}", "me", 1).unwrap();
        state.write(&[Entry::Line("a".into(), line("one"))]).unwrap();
        state.delete("a", "me", 2).unwrap();
        state.write(&[Entry::Line("a".into(), line("late"))]).unwrap();
        state.create("a", "{}", "me", 3).unwrap();
        assert!(state.log("a", None, 10).unwrap().is_empty());
    }

    #[test]
    fn a_gap_is_kept_once() {
        let state = state();
        state.create("a", "{}", "me", 1).unwrap();
        let gap = StoredGap { topic: "t".into(), partition: 0, start: 3, end: 9, cause: "retention".into(), at_ms: 5 };
        state.write(&[Entry::Gap("a".into(), gap.clone()), Entry::Gap("a".into(), StoredGap { at_ms: 6, ..gap.clone() })]).unwrap();
        assert_eq!(state.gaps("a").unwrap(), [gap]);
    }

    #[test]
    fn a_state_of_a_later_version_is_refused() {
        let db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "user_version", 1_000).unwrap();
        assert_eq!(State::prepare(db).unwrap_err().code, STATE_FAILED);
    }
}
