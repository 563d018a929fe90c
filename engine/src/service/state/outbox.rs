//! What a worker keeps: the rules that its server told it, and what they report until the server has it.
//!
//! Reports have numbers without holes, given when they are written down. They are forgotten once the server has said that it has them, and the oldest go if the
//! server is away for too long; the server sees that by the hole.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Entry, LogLine, Origin, State, StoredConnection, StoredGap, StoredRule, StoredWindow, Whose, failed};
use crate::error::{Error, ErrorKind, Result, codes};

/// Reports that wait for a server at most, about 40 MB: a day of a hundred lanes with windows of five minutes, and as many lines.
const KEPT: u32 = 100_000;

/// Bytes of a text that are reported. An error is shorter.
const TEXT_MAX: usize = 8 << 10;

/// Something that a worker reports: one of a window, a gap and a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Its number: by one more than that of the report before it.
    #[schema(minimum = 1)]
    pub number: i64,
    /// The rule.
    pub rule: String,
    /// When that rule was created, as the server has told it: a report of another rule of this name is not written down. A worker of before
    /// this field leaves it out: what it reports goes to whichever rule has the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<i64>,
    /// A window that became an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<StoredWindow>,
    /// A range that could not be stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<StoredGap>,
    /// A line of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<LogLine>,
}

impl Report {
    fn of(entry: &Entry) -> Self {
        let empty = |whose: &Whose| {
            let Whose { rule, created_ms } = whose.clone();
            Self { number: 0, rule, created_ms, window: None, gap: None, line: None }
        };
        match entry {
            Entry::Window(whose, window) => Self { window: Some(window.clone()), ..empty(whose) },
            Entry::Gap(whose, gap) => Self { gap: Some(gap.clone()), ..empty(whose) },
            Entry::Line(whose, line) => Self { line: Some(LogLine { text: cut(&line.text), ..line.clone() }), ..empty(whose) },
        }
    }
}

/// So much of a text as is reported.
fn cut(text: &str) -> String {
    text.chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= TEXT_MAX).then_some(c)
        })
        .collect()
}

/// A rule as a worker was told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The rule.
    pub rule: StoredRule,
    /// The places that versions before this one have left, by their hashes.
    pub moved_from: Vec<String>,
    /// The last request to begin anew that was heard.
    pub request: i64,
}

/// Keeps entries for the server, and no more of them than are kept.
pub(super) fn put(db: &Connection, entries: &[Entry]) -> Result<()> {
    put_at_most(db, entries, KEPT)
}

fn put_at_most(db: &Connection, entries: &[Entry], kept: u32) -> Result<()> {
    for entry in entries {
        let report = serde_json::to_string(&Report::of(entry)).map_err(unreadable)?;
        db.execute("INSERT INTO outbox (report) VALUES (?1)", params![report]).map_err(failed)?;
    }
    db.execute("DELETE FROM outbox WHERE number <= (SELECT max(number) FROM outbox) - ?1", params![kept]).map(drop).map_err(failed)
}

fn unreadable(why: serde_json::Error) -> Error {
    Error::new(codes::PART_ENDED, ErrorKind::Bug, "a report cannot be written or read").because(why)
}

impl State {
    /// What tells this worker from others, whatever it is called: made once.
    ///
    /// # Errors
    /// `C0601`.
    pub fn identity(&self) -> Result<String> {
        self.change(|db| {
            let sql = "INSERT INTO identity SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT 1 FROM identity)";
            db.execute(sql, params![]).map_err(failed)?;
            db.query_row("SELECT id FROM identity", params![], |row| row.get(0)).map_err(failed)
        })
    }

    /// The first reports that the server does not have yet, in their order: so many as fit, but one at least if there is one.
    ///
    /// # Errors
    /// `C0601`.
    pub fn undelivered(&self, bytes: usize, at_most: u32) -> Result<Vec<Report>> {
        let found: Vec<(i64, String)> =
            self.select("SELECT number, report FROM outbox ORDER BY number LIMIT ?1", params![at_most], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let mut room = bytes;
        let fits = |(n, (_, text)): &(usize, (i64, String))| {
            let before = room;
            room = room.saturating_sub(text.len());
            *n == 0 || text.len() <= before
        };
        let of = |(_, (number, text)): (usize, (i64, String))| {
            serde_json::from_str::<Report>(&text).map(|report| Report { number, ..report }).map_err(unreadable)
        };
        found.into_iter().enumerate().take_while(fits).map(of).collect()
    }

    /// The server has the reports up to this one.
    ///
    /// # Errors
    /// `C0601`.
    pub fn delivered(&self, number: i64) -> Result<()> {
        self.change(|db| db.execute("DELETE FROM outbox WHERE number <= ?1", params![number]).map(drop).map_err(failed))
    }

    /// The rules that the server told last.
    ///
    /// # Errors
    /// `C0601`.
    pub fn taken(&self) -> Result<BTreeMap<String, Taken>> {
        let rules = self.rules()?;
        self.change(|db| {
            let of = |rule: StoredRule| {
                let sql = "SELECT moved_from, request FROM taken WHERE rule = ?1";
                let found = db.query_row(sql, params![rule.name], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).optional();
                let (left, request) = found.map_err(failed)?.unwrap_or_default();
                Ok((rule.name.clone(), Taken { rule, moved_from: serde_json::from_str(&left).unwrap_or_default(), request }))
            };
            rules.into_iter().map(of).collect()
        })
    }

    /// Keeps what the server has told in the place of all that it told before.
    ///
    /// # Errors
    /// `C0601`.
    pub fn take(&self, rules: &[Taken], connections: &[StoredConnection]) -> Result<()> {
        self.change(|db| {
            for table in ["rule", "rule_version", "taken", "connection"] {
                db.execute(&format!("DELETE FROM {table}"), params![]).map_err(failed)?;
            }
            rules.iter().try_for_each(|taken| take_rule(db, taken).map_err(failed))?;
            for StoredConnection { kind, name, body, version } in connections {
                db.execute("INSERT INTO connection VALUES (?1, ?2, ?3, ?4)", params![kind, name, body, version]).map_err(failed)?;
            }
            Ok(())
        })
    }
}

fn take_rule(db: &Connection, Taken { rule, moved_from, request }: &Taken) -> rusqlite::Result<()> {
    let sql = "INSERT INTO rule (name, version, wanted, created_ms, origin) VALUES (?1, ?2, ?3, ?4, ?5)";
    db.execute(sql, params![rule.name, rule.version, rule.wanted.as_str(), rule.created_ms, Origin::Api.as_str()])?;
    db.execute("INSERT INTO rule_version VALUES (?1, ?2, ?3, ?4)", params![rule.name, rule.version, rule.body, rule.created_ms])?;
    db.execute("INSERT INTO taken VALUES (?1, ?2, ?3)", params![rule.name, serde_json::to_string(moved_from).unwrap_or_default(), request])
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::{Wanted, line, state};
    use super::*;

    fn worker() -> State {
        State { is_workers: true, ..state() }
    }

    fn told(state: &State, bytes: usize) -> Vec<(i64, String)> {
        let text = |report: Report| (report.number, report.line.unwrap().text);
        state.undelivered(bytes, 100).unwrap().into_iter().map(text).collect()
    }

    #[test]
    fn reports_are_kept_in_order_until_they_are_delivered() {
        let state = worker();
        state.write(&[line("one"), line("two")]).unwrap();
        state.write(&[line("three")]).unwrap();
        assert!(state.log("a", None, 10).unwrap().is_empty(), "the log is the server's");
        let all = [(1, "one".to_owned()), (2, "two".to_owned()), (3, "three".to_owned())];
        assert_eq!(told(&state, 10_000), all);
        assert_eq!(told(&state, 10_000), all, "told is not delivered");
        assert_eq!(told(&state, 1), all[..1], "one at least");
        state.delivered(2).unwrap();
        assert_eq!(told(&state, 10_000), all[2..]);
        state.delivered(3).unwrap();
        assert_eq!(told(&state, 10_000), []);
        state.write(&[line("four")]).unwrap();
        assert_eq!(told(&state, 10_000), [(4, "four".to_owned())], "no number is given twice");
    }

    #[test]
    fn the_oldest_reports_go_if_nobody_takes_them() {
        let state = worker();
        let entries: Vec<Entry> = (0..10).map(|n| line(&n.to_string())).collect();
        state.change(|db| put_at_most(db, &entries, 4)).unwrap();
        let numbers: Vec<i64> = told(&state, 10_000).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [7, 8, 9, 10]);
    }

    #[test]
    fn a_report_says_which_rule_of_its_name_it_is_of_if_that_is_known() {
        let state = worker();
        let Entry::Line(whose, of) = line("known") else { panic!("it is a line") };
        state.write(&[Entry::Line(Whose { created_ms: Some(5), ..whose }, of), line("not known")]).unwrap();
        let reports = state.undelivered(10_000, 10).unwrap();
        assert_eq!(reports.iter().map(|report| report.created_ms).collect::<Vec<_>>(), [Some(5), None]);
        let old: Report = serde_json::from_str(r#"{"number":1,"rule":"a"}"#).unwrap();
        assert_eq!(old.created_ms, None, "of a worker that does not say");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let Some(line) = Report::of(&line(&"é".repeat(TEXT_MAX))).line else { panic!("it is a line") };
        assert_eq!(line.text, "é".repeat(TEXT_MAX / 2));
    }

    #[test]
    fn what_was_told_is_there_after_a_restart_and_replaced_by_what_is_told_next() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("worker.db");
        let rule = |name: &str, version| StoredRule {
            name: name.to_owned(),
            version,
            wanted: Wanted::Running,
            origin: Origin::Api,
            created_ms: 5,
            body: "{}".to_owned(),
        };
        let taken = |name: &str, version| Taken {
            rule: rule(name, version),
            moved_from: vec!["left".to_owned(); usize::from(version > 1)],
            request: 7,
        };
        let connection = StoredConnection { kind: "kafka".into(), name: "k".into(), body: "{}".into(), version: 1 };
        let state = State::open_of_worker(&file).unwrap();
        let id = state.identity().unwrap();
        state.take(&[taken("a", 1), taken("b", 3)], std::slice::from_ref(&connection)).unwrap();
        drop(state);
        let state = State::open_of_worker(&file).unwrap();
        assert_eq!(state.identity().unwrap(), id);
        assert_eq!(state.taken().unwrap().into_values().collect::<Vec<_>>(), [taken("a", 1), taken("b", 3)]);
        assert_eq!(state.connections().unwrap(), [connection]);
        assert_eq!(state.left_destinations(&rule("b", 3)).unwrap(), ["left"]);
        assert!(state.left_destinations(&rule("a", 1)).unwrap().is_empty());
        state.take(&[taken("b", 4)], &[]).unwrap();
        assert_eq!(state.taken().unwrap().into_values().collect::<Vec<_>>(), [taken("b", 4)]);
        assert!(state.connections().unwrap().is_empty());
    }
}
