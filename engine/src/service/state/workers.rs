//! What a server knows of its workers: how far each has reported, and what rules were last asked to do at once.
//!
//! A worker sends its reports until it hears that they are written down; what it sends twice is known by its number and written down once.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Entry, LogLine, Report, State, StoredWindow, Whose, failed, history};
use crate::error::{Code, Error, ErrorKind, Result};

/// There is no worker of this name and id.
pub const WORKER_UNKNOWN: Code = Code(660);

/// Reports that do not follow each other.
pub const REPORTS_WITHOUT_NUMBERS: Code = Code(661);

/// Workers that are remembered: those that were seen last.
const KEPT: u32 = 1_000;

/// How old the time may be that a worker was seen at: newer than that it is not written down again.
const SEEN_EVERY_MS: u64 = 60_000;

/// What is counted as lost at most: nobody reports as much.
const LOST_MAX: i64 = 1 << 50;

/// A worker as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWorker {
    /// What tells it from others.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// The number of its last report that was written down.
    pub delivered: i64,
    /// Reports that it had forgotten before it could send them.
    pub lost: i64,
    /// When it was seen, ms since 1970; up to a minute before it was seen last.
    pub seen_ms: i64,
}

/// For how long a request is told, in milliseconds: a worker that asks every other second and was away for longer was not meant. An answer to a question of last
/// week would else be given to the question of today.
const REQUEST_TOLD_MS: i64 = 600_000;

/// Requests to one rule that are remembered.
const REQUESTS_KEPT: u32 = 16;

/// A request to workers to begin a rule anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Request {
    /// Its number; later ones are larger.
    pub number: i64,
    /// Whether rules that run well begin anew, too.
    pub seal: bool,
    /// Answers to the questions of stopped lanes.
    pub accept: Vec<String>,
}

/// The requests to one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// The number of the last one; 0 if there was none.
    pub last: i64,
    /// Those that are young enough to be told, in order.
    pub told: Vec<Request>,
}

impl State {
    /// Notes that a worker is there. Returns the number of its last report that was written down.
    ///
    /// # Errors
    /// `C0601`.
    pub fn meet_worker(&self, id: &str, name: &str, at_ms: i64) -> Result<i64> {
        if let Some(known) = find(&self.db(), id)?.filter(|known| known.name == name && at_ms.abs_diff(known.seen_ms) < SEEN_EVERY_MS) {
            return Ok(known.delivered);
        }
        self.change(|db| {
            let sql = "INSERT INTO worker VALUES (?1, ?2, 0, 0, ?3) ON CONFLICT (id) DO UPDATE SET name = ?2, seen_ms = ?3";
            db.execute(sql, params![id, name, at_ms]).map_err(failed)?;
            let sql = "DELETE FROM worker WHERE id NOT IN (SELECT id FROM worker ORDER BY seen_ms DESC LIMIT ?1)";
            db.execute(sql, params![KEPT]).map_err(failed)?;
            db.query_row("SELECT delivered FROM worker WHERE id = ?1", params![id], |row| row.get(0)).map_err(failed)
        })
    }

    /// All workers that are remembered, of each name the one that was seen last.
    ///
    /// # Errors
    /// `C0601`.
    pub fn workers(&self) -> Result<BTreeMap<String, StoredWorker>> {
        let all = self.select(&format!("{WORKERS} ORDER BY seen_ms"), params![], worker_of)?;
        Ok(all.into_iter().map(|worker| (worker.name.clone(), worker)).collect())
    }

    /// Writes down what a worker reports, each report once, in one transaction. Returns the number of the last one that is written down.
    ///
    /// # Errors
    /// `C0601`, `C0660`, `C0661`.
    pub fn take_reports(&self, id: &str, name: &str, reports: &[Report], at_ms: i64) -> Result<i64> {
        check_numbers(reports)?;
        // What is known is read in the transaction: a call that was given up by its caller may still be under way.
        let (last, lost) = self.change(|db| {
            let known = find(db, id)?.filter(|known| known.name == name).ok_or_else(|| worker_unknown(name))?;
            let (Some(first), Some(last)) = (reports.first(), reports.last().filter(|last| last.number > known.delivered)) else {
                return Ok((known.delivered, 0));
            };
            for report in reports.iter().filter(|report| report.number > known.delivered) {
                entries(report, name, at_ms).iter().try_for_each(|entry| history::write(db, entry).map_err(failed))?;
            }
            // Only a worker whose journal was full leaves some out; or this state is older than what was delivered.
            let lost = first.number.saturating_sub(known.delivered).saturating_sub(1).clamp(0, LOST_MAX);
            let sql = "UPDATE worker SET delivered = ?2, lost = ?3, seen_ms = ?4 WHERE id = ?1";
            db.execute(sql, params![id, last.number, known.lost.saturating_add(lost).min(LOST_MAX), at_ms]).map_err(failed)?;
            Ok((last.number, lost))
        })?;
        self.written.send_modify(|number| *number += 1);
        if lost > 0 {
            tracing::warn!(
                worker = name,
                reports = lost,
                "a worker has forgotten reports before it could send them; the objects say the same"
            );
        }
        Ok(last)
    }

    /// Asks workers to begin a rule anew: with a seal whatever it does, else if it does not run well or its lanes are answered.
    ///
    /// # Errors
    /// `C0601`.
    pub fn request_anew(&self, rule: &str, seal: bool, accept: &[String], at_ms: i64) -> Result<()> {
        self.change(|db| {
            let sql = "INSERT INTO request SELECT ?1, 1 + coalesce((SELECT max(number) FROM request WHERE rule = ?1), 0), ?2, ?3, ?4
                WHERE EXISTS (SELECT 1 FROM rule WHERE name = ?1)";
            db.execute(sql, params![rule, seal, accept.join(" "), at_ms]).map_err(failed)?;
            let sql = "DELETE FROM request WHERE rule = ?1 AND number NOT IN (SELECT number FROM request WHERE rule = ?1 ORDER BY number DESC LIMIT ?2)";
            db.execute(sql, params![rule, REQUESTS_KEPT]).map(drop).map_err(failed)
        })
    }

    /// The requests to each rule that had one, as they are told now.
    ///
    /// # Errors
    /// `C0601`.
    pub fn requests(&self, now_ms: i64) -> Result<BTreeMap<String, Requests>> {
        // The last one for its number, whatever its age.
        let sql = "SELECT rule, number, seal, accept, at_ms FROM request WHERE at_ms BETWEEN ?1 AND ?2
            OR number = (SELECT max(number) FROM request AS other WHERE other.rule = request.rule) ORDER BY rule, number";
        let (from, to) = (now_ms.saturating_sub(REQUEST_TOLD_MS), now_ms.saturating_add(REQUEST_TOLD_MS));
        let all = self.select(sql, params![from, to], |row| {
            let accept: String = row.get(3)?;
            let accept = accept.split_whitespace().map(str::to_owned).collect();
            Ok((row.get::<_, String>(0)?, Request { number: row.get(1)?, seal: row.get(2)?, accept }, row.get::<_, i64>(4)?))
        })?;
        let mut requests: BTreeMap<String, Requests> = BTreeMap::new();
        for (rule, request, at_ms) in all {
            let of_rule = requests.entry(rule).or_default();
            of_rule.last = request.number;
            of_rule.told.extend((now_ms.abs_diff(at_ms) <= REQUEST_TOLD_MS.unsigned_abs()).then_some(request));
        }
        Ok(requests)
    }

    /// The places that current versions of rules have left, by their hashes, rule by rule.
    ///
    /// # Errors
    /// `C0601`.
    pub fn all_left_destinations(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let sql = "SELECT DISTINCT rule.name, destination FROM rule JOIN rule_move ON rule_move.rule = rule.name AND rule_move.version <= rule.version
            ORDER BY rule.name, destination";
        let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (rule, destination) in self.select(sql, params![], |row| Ok((row.get(0)?, row.get(1)?)))? {
            left.entry(rule).or_default().push(destination);
        }
        Ok(left)
    }
}

const WORKERS: &str = "SELECT id, name, delivered, lost, seen_ms FROM worker";

fn worker_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredWorker> {
    Ok(StoredWorker { id: row.get(0)?, name: row.get(1)?, delivered: row.get(2)?, lost: row.get(3)?, seen_ms: row.get(4)? })
}

fn find(db: &Connection, id: &str) -> Result<Option<StoredWorker>> {
    db.query_row(&format!("{WORKERS} WHERE id = ?1"), params![id], worker_of).optional().map_err(failed)
}

/// There is no worker of this name, or none with this id.
pub fn worker_unknown(name: &str) -> Error {
    Error::new(WORKER_UNKNOWN, ErrorKind::NotFound, "there is no worker of this name and id")
        .with("worker", name)
        .help("a worker makes itself known with PUT /api/v1/workers/NAME before it reports")
}

fn check_numbers(reports: &[Report]) -> Result<()> {
    let follow = reports.windows(2).all(|pair| pair[0].number.checked_add(1) == Some(pair[1].number));
    if follow && reports.first().is_none_or(|first| first.number >= 1) {
        return Ok(());
    }
    Err(Error::new(REPORTS_WITHOUT_NUMBERS, ErrorKind::Invalid, "the reports do not follow each other")
        .help("number them from 1, without a hole within one call"))
}

/// What a report says, in the name of its worker. Its clock may be wrong: nothing was later than now.
fn entries(report: &Report, worker: &str, now_ms: i64) -> Vec<Entry> {
    let by = Some(worker.to_owned());
    let whose = Whose { rule: report.rule.clone(), created_ms: report.created_ms };
    let at = |ms: i64| ms.clamp(0, now_ms.max(0));
    let window = report.window.clone().map(|window| {
        let counts = (window.bytes.max(0), window.records.max(0), window.late.max(0));
        let (at_ms, delay_ms) = (at(window.at_ms), window.delay_ms.max(0));
        let (bytes, records, late) = counts;
        Entry::Window(whose.clone(), StoredWindow { bytes, records, late, delay_ms, at_ms, worker: by.clone(), ..window })
    });
    let gap = report.gap.clone().map(|gap| Entry::Gap(whose.clone(), super::StoredGap { at_ms: at(gap.at_ms), ..gap }));
    let line = report.line.clone().map(|line| Entry::Line(whose.clone(), LogLine { at_ms: at(line.at_ms), worker: by, ..line }));
    [window, gap, line].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Edit, Origin, state};
    use super::*;

    fn report(number: i64) -> Report {
        let text = number.to_string();
        let line = LogLine { id: 0, at_ms: i64::MAX, level: "info".into(), topic: None, partition: None, code: None, text, worker: None };
        Report { number, rule: "a".into(), created_ms: None, window: None, gap: None, line: Some(line) }
    }

    fn server() -> State {
        let state = state();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        state.meet_worker("id", "one", 10).unwrap();
        state
    }

    fn texts(state: &State) -> Vec<String> {
        state.log("a", Some(0), 100).unwrap().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn each_report_is_written_down_once_however_often_it_comes() {
        let state = server();
        let take = |numbers: std::ops::RangeInclusive<i64>| {
            let reports: Vec<Report> = numbers.map(report).collect();
            state.take_reports("id", "one", &reports, 20).unwrap()
        };
        assert_eq!(take(1..=3), 3);
        assert_eq!(take(1..=3), 3, "the answer was lost");
        assert_eq!(take(2..=5), 5, "some of them are new");
        assert_eq!(take(1..=2), 5, "an old call that comes late");
        assert_eq!(texts(&state), ["1", "2", "3", "4", "5"]);
        let lines = state.log("a", Some(0), 1).unwrap();
        assert_eq!((lines[0].worker.as_deref(), lines[0].at_ms), (Some("one"), 20), "nothing was later than now");
        assert_eq!(state.meet_worker("id", "one", 30).unwrap(), 5);
        assert_eq!(state.workers().unwrap()["one"].lost, 0);
    }

    #[test]
    fn reports_of_a_deleted_rule_are_taken_and_do_not_become_the_next_ones_of_its_name() {
        let state = server();
        state.delete("a", Origin::Api, "me", 2).unwrap();
        state.create("a", "{}", Origin::Api, "me", 3).unwrap();
        let of = |number, created_ms| Report { created_ms, ..report(number) };
        // All are delivered: a worker would send what is refused for ever.
        assert_eq!(state.take_reports("id", "one", &[of(1, Some(1)), of(2, Some(3)), of(3, None)], 20).unwrap(), 3);
        assert_eq!(texts(&state), ["2", "3"], "one of before, one of its own, one of a worker that does not say");
    }

    #[test]
    fn a_worker_is_known_by_its_id_and_what_it_has_forgotten_is_counted() {
        let state = server();
        state.meet_worker("other", "two", 10).unwrap();
        state.take_reports("id", "one", &[report(1)], 20).unwrap();
        state.take_reports("other", "two", &[report(1)], 20).unwrap();
        assert_eq!(texts(&state), ["1", "1"], "two workers count for themselves");
        state.take_reports("id", "one", &[report(5)], 20).unwrap();
        assert_eq!(state.workers().unwrap()["one"].lost, 3);
        assert_eq!(state.take_reports("stranger", "one", &[report(1)], 20).unwrap_err().code, WORKER_UNKNOWN);
        assert_eq!(state.take_reports("id", "two", &[report(6)], 20).unwrap_err().code, WORKER_UNKNOWN);
        for bad in [&[report(6), report(8)][..], &[report(7), report(6)], &[report(0)], &[report(i64::MAX), report(i64::MIN)]] {
            assert_eq!(state.take_reports("id", "one", bad, 20).unwrap_err().code, REPORTS_WITHOUT_NUMBERS);
        }
        assert_eq!(state.meet_worker("id", "renamed", 30).unwrap(), 5, "under another name it is the same");
    }

    #[test]
    fn requests_are_numbered_rule_by_rule_and_go_with_the_rule() {
        let state = server();
        state.request_anew("none", true, &[], 5).unwrap();
        state.request_anew("a", true, &[], 5).unwrap();
        state.request_anew("a", false, &["destination".into(), "truncation".into()], 6).unwrap();
        let seal = Request { number: 1, seal: true, accept: Vec::new() };
        let answer = Request { number: 2, seal: false, accept: vec!["destination".into(), "truncation".into()] };
        let told = |now_ms| state.requests(now_ms).unwrap().remove("a").unwrap_or_default();
        assert_eq!(state.requests(6).unwrap().len(), 1);
        assert_eq!(told(6), Requests { last: 2, told: vec![seal.clone(), answer.clone()] }, "neither hides the other");
        assert_eq!(told(5 + REQUEST_TOLD_MS), Requests { last: 2, told: vec![seal, answer.clone()] });
        assert_eq!(told(6 + REQUEST_TOLD_MS), Requests { last: 2, told: vec![answer] });
        assert_eq!(told(7 + REQUEST_TOLD_MS), Requests { last: 2, told: Vec::new() }, "an answer is no answer to a later question");
        (0..2 * i64::from(REQUESTS_KEPT)).for_each(|_| state.request_anew("a", true, &[], 7).unwrap());
        assert_eq!((told(7).last, told(7).told.len()), (2 + 2 * i64::from(REQUESTS_KEPT), REQUESTS_KEPT as usize));
        state.delete("a", Origin::Api, "me", 2).unwrap();
        assert_eq!(state.requests(7).unwrap(), BTreeMap::new());
    }

    #[test]
    fn what_a_rule_has_left_is_told_with_it() {
        let state = server();
        assert!(state.all_left_destinations().unwrap().is_empty());
        let edit = Edit { body: r#"{"to":{"prefix":"x/"}}"#, leaves: Some((1, "left".to_owned())), ..Edit::default() };
        state.edit_to("a", &edit, Origin::Api, "me", 2).unwrap();
        assert_eq!(state.all_left_destinations().unwrap(), BTreeMap::from([("a".to_owned(), vec!["left".to_owned()])]));
    }
}
