//! Rules and their versions.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;

use super::audit::audit;
use super::connections::check_needs;
use super::{State, StoredRelease, failed, releases};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::service::definition::{Kind, differences};

mod kept;

pub use kept::{Edit, Origin, StoredRule, StoredVersion, Wanted};

/// There is no rule of this name.
pub const RULE_UNKNOWN: Code = Code(602);
/// There is a rule of this name.
pub const RULE_EXISTS: Code = Code(603);
/// The rule was changed by somebody else meanwhile.
pub const VERSION_OUTDATED: Code = Code(604);
/// The rule has no version of this number.
pub const VERSION_UNKNOWN: Code = Code(613);
/// The rule comes from a file, and is changed there.
pub const RULE_OF_A_FILE: Code = Code(614);

impl State {
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
        find(&self.db(), name)
    }

    /// A new rule, wanted to run, in version 1.
    ///
    /// # Errors
    /// `C0601`, `C0603`.
    pub fn create(&self, name: &str, body: &str, origin: Origin, who: &str, at_ms: i64) -> Result<StoredRule> {
        self.create_naming(name, body, &[], origin, who, at_ms)
    }

    /// The same, if these connections and stores are still there.
    ///
    /// # Errors
    /// `C0601`, `C0603`, `C0612`.
    pub fn create_naming(
        &self,
        name: &str,
        body: &str,
        needs: &[(Kind, String)],
        origin: Origin,
        who: &str,
        at_ms: i64,
    ) -> Result<StoredRule> {
        self.change(|db| {
            if look_for(db, name)?.is_some() {
                return Err(rule_exists(name));
            }
            check_needs(db, needs)?;
            let sql = "INSERT INTO rule (name, version, wanted, created_ms, origin) VALUES (?1, 1, 'running', ?2, ?3)";
            db.execute(sql, params![name, at_ms, origin.as_str()]).map_err(failed)?;
            db.execute("INSERT INTO rule_version VALUES (?1, 1, ?2, ?3)", params![name, body, at_ms]).map_err(failed)?;
            audit(db, at_ms, who, "create", Some(name), Some(body))?;
            find(db, name)
        })
    }

    /// A new version of a rule, if its current one is `version` and it is defined in that `origin`. An equal body is no new version.
    ///
    /// # Errors
    /// `C0601`, `C0602`, `C0604`, `C0614`.
    pub fn edit(&self, name: &str, version: Option<i64>, body: &str, origin: Origin, who: &str, at_ms: i64) -> Result<StoredRule> {
        self.edit_to(name, &Edit { version, body, ..Edit::default() }, origin, who, at_ms)
    }

    /// The same, of a version that may write elsewhere.
    ///
    /// # Errors
    /// As [`edit`](Self::edit), and `C0612` if what it needs is gone.
    pub fn edit_to(&self, name: &str, edit: &Edit<'_>, origin: Origin, who: &str, at_ms: i64) -> Result<StoredRule> {
        self.change(|db| {
            let rule = find(db, name)?;
            if edit.version.is_some_and(|version| version != rule.version) {
                return Err(outdated("rule", name, rule.version));
            }
            check_origin(&rule, origin)?;
            if rule.origin != origin {
                db.execute("UPDATE rule SET origin = ?2 WHERE name = ?1", params![name, origin.as_str()]).map_err(failed)?;
                audit(db, at_ms, who, "take over", Some(name), None)?;
            }
            let rule = StoredRule { origin, ..rule };
            if rule.body == edit.body {
                return Ok(rule);
            }
            check_needs(db, &edit.needs)?;
            write_version(db, &rule, edit, who, at_ms)
        })
    }

    /// Says whether a rule should run. The audit has the answers to its stopped lanes, also of one that runs already: who lets a loss pass is known. It has a
    /// resumption, too, of one that `is_mended` by it: it should have run, and did not as it should.
    ///
    /// # Errors
    /// `C0601`, `C0602`.
    pub fn want(&self, name: &str, wanted: Wanted, accept: &[String], is_mended: bool, who: &str, at_ms: i64) -> Result<StoredRule> {
        self.change(|db| {
            let rule = find(db, name)?;
            if rule.wanted != wanted {
                db.execute("UPDATE rule SET wanted = ?2 WHERE name = ?1", params![name, wanted.as_str()]).map_err(failed)?;
            }
            if rule.wanted != wanted || !accept.is_empty() || is_mended {
                let answers = (!accept.is_empty()).then(|| json!({ "accept": accept }).to_string());
                let action = if wanted == Wanted::Paused { "pause" } else { "resume" };
                audit(db, at_ms, who, action, Some(name), answers.as_deref())?;
            }
            Ok(StoredRule { wanted, ..rule })
        })
    }

    /// The files have a rule no more.
    ///
    /// # Errors
    /// `C0601`, `C0602`.
    pub fn orphan(&self, name: &str, who: &str, at_ms: i64) -> Result<()> {
        self.change(|db| {
            find(db, name)?;
            db.execute("UPDATE rule SET origin = 'orphan' WHERE name = ?1", params![name]).map_err(failed)?;
            audit(db, at_ms, who, "orphan", Some(name), None)
        })
    }

    /// Forgets a rule that is defined in that `origin`, its versions, windows, gaps and log. Its objects and the audit stay, and what it has outside is to be given up: that is answered.
    ///
    /// # Errors
    /// `C0601`, `C0602`, `C0614`.
    pub fn delete(&self, name: &str, origin: Origin, who: &str, at_ms: i64) -> Result<StoredRelease> {
        let gone = self.change(|db| {
            let rule = find(db, name)?;
            check_origin(&rule, origin)?;
            let gone = releases::record(db, &rule, who)?;
            for table in ["rule_version", "rule_move", "window", "gap", "log", "verification", "request"] {
                db.execute(&format!("DELETE FROM {table} WHERE rule = ?1"), params![name]).map_err(failed)?;
            }
            db.execute("DELETE FROM rule WHERE name = ?1", params![name]).map_err(failed)?;
            audit(db, at_ms, who, "delete", Some(name), None)?;
            Ok(gone)
        })?;
        // Whoever follows its log learns that there is none.
        self.written.send_modify(|number| *number += 1);
        Ok(gone)
    }

    /// A rule's versions, oldest first.
    ///
    /// # Errors
    /// `C0601`.
    pub fn versions(&self, name: &str) -> Result<Vec<StoredVersion>> {
        self.select("SELECT version, body, at_ms FROM rule_version WHERE rule = ?1 ORDER BY version", params![name], version_of)
    }

    /// One version of a rule.
    ///
    /// # Errors
    /// `C0601`, `C0613`.
    pub fn version(&self, name: &str, version: i64) -> Result<StoredVersion> {
        let sql = "SELECT version, body, at_ms FROM rule_version WHERE rule = ?1 AND version = ?2";
        self.select(sql, params![name, version], version_of)?.pop().ok_or_else(|| {
            Error::new(VERSION_UNKNOWN, ErrorKind::NotFound, "the rule has no version of this number")
                .with("rule", name)
                .with("version", version)
                .help("`catchment rule versions` lists them")
        })
    }

    /// The destinations that a rule has left by its edits, by their hashes: what is committed for one of them is no surprise. A worker was told them.
    ///
    /// # Errors
    /// `C0601`.
    pub fn left_destinations(&self, rule: &StoredRule) -> Result<Vec<String>> {
        let sql = "SELECT destination FROM rule_move WHERE rule = ?1 AND version <= ?2
            UNION SELECT json_each.value FROM taken, json_each(taken.moved_from) WHERE taken.rule = ?1 ORDER BY 1";
        self.select(sql, params![rule.name, rule.version], |row| row.get(0))
    }
}

/// The current version of `rule` becomes the one before.
fn write_version(db: &Connection, rule: &StoredRule, edit: &Edit<'_>, who: &str, at_ms: i64) -> Result<StoredRule> {
    let (name, next) = (&rule.name, rule.version.saturating_add(1));
    db.execute("INSERT INTO rule_version VALUES (?1, ?2, ?3, ?4)", params![name, next, edit.body, at_ms]).map_err(failed)?;
    db.execute("UPDATE rule SET version = ?2 WHERE name = ?1", params![name, next]).map_err(failed)?;
    // Only what is left by this very step: if somebody else was faster, nobody has looked at where the rule stood.
    if let Some((_, destination)) = edit.leaves.as_ref().filter(|(from, _)| *from == rule.version) {
        db.execute("INSERT INTO rule_move VALUES (?1, ?2, ?3)", params![name, next, destination]).map_err(failed)?;
    }
    let changed = serde_json::to_string(&differences(&rule.body, edit.body)).unwrap_or_default();
    audit(db, at_ms, who, "edit", Some(name), Some(&changed))?;
    Ok(StoredRule { version: next, body: edit.body.to_owned(), ..rule.clone() })
}

const RULES: &str = "SELECT rule.name, rule.version, rule.wanted, rule.origin, rule.created_ms, rule_version.body FROM rule
    JOIN rule_version ON rule_version.rule = rule.name AND rule_version.version = rule.version";

fn rule_of(row: &Row<'_>) -> rusqlite::Result<StoredRule> {
    let (wanted, origin): (String, String) = (row.get(2)?, row.get(3)?);
    Ok(StoredRule {
        name: row.get(0)?,
        version: row.get(1)?,
        wanted: Wanted::of(&wanted),
        origin: Origin::of(&origin),
        created_ms: row.get(4)?,
        body: row.get(5)?,
    })
}

fn version_of(row: &Row<'_>) -> rusqlite::Result<StoredVersion> {
    Ok(StoredVersion { version: row.get(0)?, body: row.get(1)?, at_ms: row.get(2)? })
}

pub(super) fn all_rules(db: &Connection) -> Result<Vec<StoredRule>> {
    let mut statement = db.prepare_cached(RULES).map_err(failed)?;
    let rules = statement.query_map(params![], rule_of).map_err(failed)?;
    rules.collect::<rusqlite::Result<_>>().map_err(failed)
}

fn look_for(db: &Connection, name: &str) -> Result<Option<StoredRule>> {
    db.query_row(&format!("{RULES} WHERE rule.name = ?1"), params![name], rule_of).optional().map_err(failed)
}

fn find(db: &Connection, name: &str) -> Result<StoredRule> {
    look_for(db, name)?.ok_or_else(|| {
        Error::new(RULE_UNKNOWN, ErrorKind::NotFound, "there is no rule of this name")
            .with("rule", name)
            .help("`catchment rule list` names them")
    })
}

/// What somebody has seen is not the current version any more.
pub(super) fn outdated(label: &'static str, name: &str, version: i64) -> Error {
    Error::new(VERSION_OUTDATED, ErrorKind::Invalid, "it was changed meanwhile")
        .with(label, name)
        .with("version", version)
        .help("look at the current version, and make the change again")
}

/// There is a rule of this name.
pub fn rule_exists(name: &str) -> Error {
    Error::new(RULE_EXISTS, ErrorKind::Invalid, "there is a rule of this name")
        .with("rule", name)
        .help("choose another name, or edit that rule")
}

/// Whether whoever changes rules of that `origin` may change this one.
///
/// # Errors
/// `C0603`, `C0614`.
pub fn check_origin(rule: &StoredRule, origin: Origin) -> Result<()> {
    match (rule.origin, origin) {
        (Origin::File, Origin::Api) => {
            Err(Error::new(RULE_OF_A_FILE, ErrorKind::Invalid, "the rule comes from a file, and is changed there")
                .with("rule", &rule.name)
                .help("edit the file, then send the service SIGHUP; a pause needs no file"))
        }
        (Origin::Api, Origin::File) => Err(Error::new(RULE_EXISTS, ErrorKind::Invalid, "a rule of this name was created through the API")
            .with("rule", &rule.name)
            .help("give the one in the file another name, or delete the other one")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::state;
    use super::*;

    #[test]
    fn a_rule_is_created_once_and_edited_from_the_version_that_was_seen() {
        let state = state();
        let rule = state.create("orders", "{}", Origin::Api, "me", 1).unwrap();
        assert_eq!((rule.version, rule.wanted), (1, Wanted::Running));
        assert_eq!(state.create("orders", "{}", Origin::Api, "me", 2).unwrap_err().code, RULE_EXISTS);
        assert_eq!(state.edit("orders", Some(1), "{\"a\":1}", Origin::Api, "me", 3).unwrap().version, 2);
        assert_eq!(state.edit("orders", Some(1), "{}", Origin::Api, "me", 4).unwrap_err().code, VERSION_OUTDATED);
        assert_eq!(state.edit("orders", Some(2), "{\"a\":1}", Origin::Api, "me", 5).unwrap().version, 2, "nothing has changed");
        let versions: Vec<_> = state.versions("orders").unwrap().into_iter().map(|v| (v.version, v.body, v.at_ms)).collect();
        assert_eq!(versions, [(1, "{}".to_owned(), 1), (2, "{\"a\":1}".to_owned(), 3)]);
        assert_eq!(state.version("orders", 1).unwrap().body, "{}");
        assert_eq!(state.version("orders", 3).unwrap_err().code, VERSION_UNKNOWN);
        assert_eq!(state.rule("none").unwrap_err().code, RULE_UNKNOWN);
    }

    #[test]
    fn a_rule_of_a_file_is_changed_there_alone_and_paused_anywhere() {
        let state = state();
        state.create("a", "{}", Origin::File, "file", 1).unwrap();
        assert_eq!(state.edit("a", None, "{\"a\":1}", Origin::Api, "me", 2).unwrap_err().code, RULE_OF_A_FILE);
        assert_eq!(state.delete("a", Origin::Api, "me", 2).unwrap_err().code, RULE_OF_A_FILE);
        assert_eq!(state.want("a", Wanted::Paused, &[], false, "me", 2).unwrap().wanted, Wanted::Paused);
        assert_eq!(state.edit("a", None, "{\"a\":1}", Origin::File, "file", 3).unwrap().version, 2);
        state.create("b", "{}", Origin::Api, "me", 4).unwrap();
        assert_eq!(state.edit("b", None, "{\"a\":1}", Origin::File, "file", 5).unwrap_err().code, RULE_EXISTS);
        state.orphan("a", "file", 6).unwrap();
        let orphan = state.rule("a").unwrap();
        assert_eq!((orphan.origin, orphan.version), (Origin::Orphan, 2), "what is known of it stays");
        state.want("a", Wanted::Running, &[], false, "me", 7).unwrap();
        assert_eq!(state.rule("a").unwrap().runs(), Wanted::Paused, "nobody defines it");
        let back = state.edit("a", None, "{\"a\":1}", Origin::File, "file", 8).unwrap();
        assert_eq!((back.origin, back.version, back.runs()), (Origin::File, 2, Wanted::Running));
        state.orphan("a", "file", 9).unwrap();
        state.delete("a", Origin::Api, "me", 10).unwrap();
    }

    #[test]
    fn an_answer_stands_in_the_audit() {
        let state = state();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        let answers = ["truncation".to_owned(), "destination".to_owned()];
        state.want("a", Wanted::Running, &[], false, "me", 2).unwrap();
        state.want("a", Wanted::Running, &answers, false, "you", 3).unwrap();
        state.want("a", Wanted::Paused, &[], false, "me", 4).unwrap();
        state.want("a", Wanted::Running, &answers[..1], false, "me", 5).unwrap();
        state.want("a", Wanted::Running, &[], true, "you", 6).unwrap();
        let said = state.audited(Some("a"), i64::MAX, 9).unwrap();
        let said: Vec<_> =
            said.iter().map(|entry| (entry.at_ms, entry.who.as_str(), entry.action.as_str(), entry.detail.as_deref())).collect();
        let wanted = [
            (6, "you", "resume", None),
            (5, "me", "resume", Some(r#"{"accept":["truncation"]}"#)),
            (4, "me", "pause", None),
            (3, "you", "resume", Some(r#"{"accept":["truncation","destination"]}"#)),
            (1, "me", "create", Some("{}")),
        ];
        assert_eq!(said, wanted, "of one that runs the answers alone are a change, of one that does not its resumption");
    }

    #[test]
    fn what_an_edit_has_left_is_remembered_for_the_versions_behind_it() {
        let state = state();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        let edit = |body: &str, leaves: Option<(i64, &str)>| {
            let leaves = leaves.map(|(version, hash)| (version, hash.to_owned()));
            state.edit_to("a", &Edit { body, leaves, ..Edit::default() }, Origin::Api, "me", 2).unwrap()
        };
        let same = edit("{\"x\":1}", None);
        assert!(state.left_destinations(&same).unwrap().is_empty());
        let moved = edit("{\"x\":2}", Some((2, "first")));
        assert_eq!(state.left_destinations(&moved).unwrap(), ["first"]);
        assert!(state.left_destinations(&same).unwrap().is_empty(), "that version has left nothing");
        let raced = edit("{\"x\":3}", Some((2, "stale")));
        assert_eq!(state.left_destinations(&raced).unwrap(), ["first"], "somebody else was faster");
        let back = edit("{\"x\":4}", Some((4, "second")));
        assert_eq!(state.left_destinations(&back).unwrap(), ["first", "second"]);
        state.delete("a", Origin::Api, "me", 3).unwrap();
        let anew = state.create("a", "{}", Origin::Api, "me", 4).unwrap();
        assert!(state.left_destinations(&StoredRule { version: 9, ..anew }).unwrap().is_empty());
    }
}
