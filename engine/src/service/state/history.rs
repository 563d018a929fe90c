//! What became of a rule: its windows, its gaps, its log. Written in batches by the journal; the oldest go when there are too many.

use rusqlite::{Connection, Row, params};
use tokio::sync::watch;

use super::{State, failed, outbox};
use crate::error::Result;

/// Windows of a rule that are kept: two years of a partition at five minutes. The objects say the same for ever.
const WINDOWS_KEPT: u32 = 200_000;

/// Lines of a rule's log that are kept.
const LINES_KEPT: u32 = 20_000;

/// A window that became an object.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
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
    /// When, ms since 1970.
    pub at_ms: i64,
    /// The worker that stored it; null for the service itself.
    #[serde(default)]
    pub worker: Option<String>,
}

/// A range of offsets that could not be stored.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
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
    /// When it was found, ms since 1970.
    pub at_ms: i64,
}

/// A line of a rule's log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct LogLine {
    /// Its number; later ones are larger.
    pub id: i64,
    /// When, ms since 1970.
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
    /// The worker that says so; null for the service itself.
    #[serde(default)]
    pub worker: Option<String>,
}

/// How grave a line is at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grave {
    /// Every line.
    Info = 0,
    /// Warnings and errors.
    Warn = 1,
    /// Errors.
    Error = 2,
}

/// Whose entry it is. A name alone does not tell: its rule may have been deleted, and another one have it by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The rule's name.
    pub rule: String,
    /// When it was created, ms since 1970; none if nobody has said: then it is whichever has the name.
    pub created_ms: Option<i64>,
}

impl From<&str> for Whose {
    fn from(rule: &str) -> Self {
        Self { rule: rule.to_owned(), created_ms: None }
    }
}

/// Something to write down, as it is handed to the writer. What is of a rule that is gone is not written.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A window; its number is given when it is written. One that is known already is left as it is.
    Window(Whose, StoredWindow),
    /// A gap. One that is known already is left as it is.
    Gap(Whose, StoredGap),
    /// A line; its number is given when it is written.
    Line(Whose, LogLine),
}

impl Entry {
    /// The name of its rule.
    pub fn rule(&self) -> &str {
        match self {
            Self::Window(whose, _) | Self::Gap(whose, _) | Self::Line(whose, _) => &whose.rule,
        }
    }
}

const WINDOW_COLUMNS: &str =
    "version, topic, partition, range_start, range_end, key, bytes, records, reason, late, delay_ms, at_ms, worker";
/// Whether the window stands there already. A process that dies between its object and its commit has told of it, and whoever finishes it tells again.
const IS_KNOWN: &str = "EXISTS (SELECT 1 FROM window
    WHERE rule = ?1 AND topic = ?3 AND partition = ?4 AND range_start = ?5 AND range_end = ?6 AND key = ?7)";

const GAP_COLUMNS: &str = "topic, partition, range_start, range_end, cause, at_ms";
const LINE_COLUMNS: &str = "at_ms, level, topic, partition, code, text, worker";

impl State {
    /// The last windows of a rule below number `before`, newest first.
    ///
    /// # Errors
    /// `C0601`.
    pub fn windows(&self, name: &str, before: i64, at_most: u32) -> Result<Vec<StoredWindow>> {
        let sql = format!("SELECT id, {WINDOW_COLUMNS} FROM window WHERE rule = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3");
        self.select(&sql, params![name, before, at_most], window_of)
    }

    /// The gaps of a rule, oldest first.
    ///
    /// # Errors
    /// `C0601`.
    pub fn gaps(&self, name: &str) -> Result<Vec<StoredGap>> {
        self.select(&format!("SELECT {GAP_COLUMNS} FROM gap WHERE rule = ?1 ORDER BY id"), params![name], gap_of)
    }

    /// The first lines of a rule's log above number `after`, or its last ones, oldest first.
    ///
    /// # Errors
    /// `C0601`.
    pub fn log(&self, name: &str, after: Option<i64>, at_most: u32) -> Result<Vec<LogLine>> {
        let order = if after.is_some() { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT * FROM (SELECT id, {LINE_COLUMNS} FROM log WHERE rule = ?1 AND id > ?2 ORDER BY id {order} LIMIT ?3) ORDER BY id"
        );
        self.select(&sql, params![name, after.unwrap_or(0), at_most], line_of)
    }

    /// The last lines of a rule's log below number `before` that are at least this grave and contain a text, oldest first.
    ///
    /// # Errors
    /// `C0601`.
    pub fn log_page(&self, name: &str, before: i64, grave: Grave, text: &str, at_most: u32) -> Result<Vec<LogLine>> {
        let sql = format!(
            "SELECT * FROM (SELECT id, {LINE_COLUMNS} FROM log WHERE rule = ?1 AND id < ?2 AND (?3 = 0 OR level = 'error' OR ?3 = 1 AND level = 'warn')
                AND instr(lower(text), lower(?4)) > 0 ORDER BY id DESC LIMIT ?5) ORDER BY id"
        );
        self.select(&sql, params![name, before, grave as u8, text, at_most], line_of)
    }

    /// Writes these down, in one transaction, and tells those who follow. What belongs to a rule that was deleted meanwhile is dropped. A worker keeps them
    /// for its server.
    ///
    /// # Errors
    /// `C0601`.
    pub fn write(&self, entries: &[Entry]) -> Result<()> {
        let is_workers = self.is_workers;
        self.change(|db| match is_workers {
            true => outbox::put(db, entries),
            false => entries.iter().try_for_each(|entry| write(db, entry).map_err(failed)),
        })?;
        self.written.send_modify(|number| *number += 1);
        Ok(())
    }

    /// Changes whenever something was written down.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Forgets the oldest windows and lines of a rule that has more than are kept.
    ///
    /// # Errors
    /// `C0601`.
    pub fn prune(&self, name: &str) -> Result<()> {
        self.prune_to(name, WINDOWS_KEPT, LINES_KEPT)
    }

    fn prune_to(&self, name: &str, windows: u32, lines: u32) -> Result<()> {
        self.change(|db| {
            for (table, kept) in [("window", windows), ("log", lines)] {
                let sql = format!(
                    "DELETE FROM {table} WHERE rule = ?1 AND id <= (SELECT id FROM {table} WHERE rule = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)"
                );
                db.execute(&sql, params![name, kept]).map_err(failed)?;
            }
            Ok(())
        })
    }
}

fn window_of(row: &Row<'_>) -> rusqlite::Result<StoredWindow> {
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
        worker: row.get(13)?,
    })
}

fn gap_of(row: &Row<'_>) -> rusqlite::Result<StoredGap> {
    Ok(StoredGap {
        topic: row.get(0)?,
        partition: row.get(1)?,
        start: row.get(2)?,
        end: row.get(3)?,
        cause: row.get(4)?,
        at_ms: row.get(5)?,
    })
}

fn line_of(row: &Row<'_>) -> rusqlite::Result<LogLine> {
    Ok(LogLine {
        id: row.get(0)?,
        at_ms: row.get(1)?,
        level: row.get(2)?,
        topic: row.get(3)?,
        partition: row.get(4)?,
        code: row.get(5)?,
        text: row.get(6)?,
        worker: row.get(7)?,
    })
}

/// Inserts a row of a rule, unless the rule is gone.
fn insert(db: &Connection, how: &str, columns: &str, whose: &Whose, values: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<()> {
    insert_unless(db, how, columns, whose, values, "FALSE")
}

fn insert_unless(
    db: &Connection,
    how: &str,
    columns: &str,
    whose: &Whose,
    values: &[&dyn rusqlite::ToSql],
    unless: &str,
) -> rusqlite::Result<()> {
    let places: Vec<String> = (2..values.len() + 2).map(|n| format!("?{n}")).collect();
    let sql = format!(
        "{how} (rule, {columns}) SELECT ?1, {}
         WHERE EXISTS (SELECT 1 FROM rule WHERE name = ?1 AND created_ms = coalesce(?{}, created_ms)) AND NOT {unless}",
        places.join(", "),
        values.len() + 2
    );
    let mut all: Vec<&dyn rusqlite::ToSql> = vec![&whose.rule];
    all.extend(values);
    all.push(&whose.created_ms);
    db.prepare_cached(&sql)?.execute(&*all).map(drop)
}

pub(super) fn write(db: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    match entry {
        Entry::Window(whose, w) => insert_unless(
            db,
            "INSERT INTO window",
            WINDOW_COLUMNS,
            whose,
            &[
                &w.version,
                &w.topic,
                &w.partition,
                &w.start,
                &w.end,
                &w.key,
                &w.bytes,
                &w.records,
                &w.reason,
                &w.late,
                &w.delay_ms,
                &w.at_ms,
                &w.worker,
            ],
            IS_KNOWN,
        ),
        Entry::Gap(whose, g) => {
            insert(db, "INSERT OR IGNORE INTO gap", GAP_COLUMNS, whose, &[&g.topic, &g.partition, &g.start, &g.end, &g.cause, &g.at_ms])
        }
        Entry::Line(whose, l) => {
            insert(db, "INSERT INTO log", LINE_COLUMNS, whose, &[&l.at_ms, &l.level, &l.topic, &l.partition, &l.code, &l.text, &l.worker])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, Wanted, line, state, window};
    use super::*;

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn what_is_wanted_and_written_down_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.db");
        let state = State::open(&file).unwrap();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        state.want("a", Wanted::Paused, &[], false, "me", 2).unwrap();
        state.write(&[line("one"), line("two")]).unwrap();
        drop(state);
        let state = State::open(&file).unwrap();
        assert_eq!(state.rule("a").unwrap().wanted, Wanted::Paused);
        let lines = state.log("a", Some(0), 10).unwrap();
        assert_eq!(texts(&lines), ["one", "two"]);
        assert_eq!(state.log("a", Some(lines[0].id), 10).unwrap().len(), 1);
        assert_eq!(texts(&state.log("a", None, 1).unwrap()), ["two"], "the last one");
    }

    #[test]
    fn a_window_is_read_as_it_was_written() {
        let state = state();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        let window = window();
        state.write(&[Entry::Window("a".into(), window.clone())]).unwrap();
        assert_eq!(state.windows("a", i64::MAX, 10).unwrap(), std::slice::from_ref(&window));
        state.write(&[Entry::Window("a".into(), StoredWindow { worker: Some("two".into()), at_ms: 11, ..window.clone() })]).unwrap();
        assert_eq!(state.windows("a", i64::MAX, 10).unwrap(), std::slice::from_ref(&window), "finished by another one");
        state.write(&[Entry::Window("a".into(), StoredWindow { start: 5, end: 6, ..window })]).unwrap();
        assert_eq!(state.windows("a", i64::MAX, 10).unwrap().len(), 2);
        assert!(state.windows("a", 1, 10).unwrap().is_empty());
    }

    #[test]
    fn an_entry_of_a_deleted_rule_is_not_the_next_ones_of_its_name() {
        let state = state();
        let of = |created_ms: Option<i64>, text: &str| match line(text) {
            Entry::Line(whose, line) => Entry::Line(Whose { created_ms, ..whose }, line),
            other => other,
        };
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        state.delete("a", Origin::Api, "me", 2).unwrap();
        state.create("a", "{}", Origin::Api, "me", 3).unwrap();
        state.write(&[of(Some(1), "late"), of(Some(3), "its own"), of(None, "nobody has said whose")]).unwrap();
        assert_eq!(texts(&state.log("a", Some(0), 10).unwrap()), ["its own", "nobody has said whose"]);
    }

    #[test]
    fn a_rule_that_is_deleted_leaves_nothing_and_late_entries_are_dropped() {
        let state = state();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        state.write(&[line("one")]).unwrap();
        state.delete("a", Origin::Api, "me", 2).unwrap();
        state.write(&[line("late")]).unwrap();
        state.create("a", "{}", Origin::Api, "me", 3).unwrap();
        assert!(state.log("a", None, 10).unwrap().is_empty());
    }

    #[test]
    fn a_gap_is_kept_once() {
        let state = state();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        let gap = StoredGap { topic: "t".into(), partition: 0, start: 3, end: 9, cause: "retention".into(), at_ms: 5 };
        state.write(&[Entry::Gap("a".into(), gap.clone()), Entry::Gap("a".into(), StoredGap { at_ms: 6, ..gap.clone() })]).unwrap();
        assert_eq!(state.gaps("a").unwrap(), [gap]);
    }

    #[test]
    fn the_oldest_lines_go_and_the_newest_stay() {
        let state = state();
        for rule in ["a", "b"] {
            state.create(rule, "{}", Origin::Api, "me", 1).unwrap();
        }
        state.write(&[line("one"), line("two"), line("three")]).unwrap();
        state.prune_to("b", 0, 0).unwrap();
        state.prune_to("a", 0, 3).unwrap();
        assert_eq!(state.log("a", None, 10).unwrap().len(), 3);
        state.prune_to("a", 0, 2).unwrap();
        assert_eq!(texts(&state.log("a", None, 10).unwrap()), ["two", "three"]);
    }

    #[test]
    fn a_log_is_read_page_by_page_by_gravity_and_text() {
        let state = state();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        let grave = |level: &str, text: &str| match line(text) {
            Entry::Line(rule, line) => Entry::Line(rule, LogLine { level: level.into(), ..line }),
            other => other,
        };
        state.write(&[grave("info", "one"), grave("warn", "two"), grave("error", "Three"), grave("info", "four")]).unwrap();
        let page = |before, grave, text: &str, limit| state.log_page("a", before, grave, text, limit).unwrap();
        let last = page(i64::MAX, Grave::Info, "", 2);
        assert_eq!(texts(&last), ["Three", "four"]);
        assert_eq!(texts(&page(last[0].id, Grave::Info, "", 2)), ["one", "two"]);
        assert_eq!(texts(&page(i64::MAX, Grave::Warn, "", 9)), ["two", "Three"]);
        assert_eq!(texts(&page(i64::MAX, Grave::Error, "", 9)), ["Three"]);
        assert_eq!(texts(&page(i64::MAX, Grave::Info, "tHREE", 9)), ["Three"]);
        assert_eq!(texts(&page(i64::MAX, Grave::Info, "%", 9)), [] as [&str; 0], "a text is no pattern");
    }

    #[test]
    fn whoever_follows_is_told() {
        let state = state();
        let written = state.written();
        assert!(!written.has_changed().unwrap());
        state.write(&[line("one")]).unwrap();
        assert!(written.has_changed().unwrap());
    }
}
