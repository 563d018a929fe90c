//! Kafka connections and stores that were created beside those of the config file; of these, what the audit has.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::audit::audit;
use super::rules::{all_rules, outdated};
use super::{State, failed};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::service::definition::{Difference, Kind, masked_differences};
use crate::service::files::Bodies;

/// There is a connection or a store of this name.
pub const CONNECTION_EXISTS: Code = Code(611);
/// There is no connection or store of this name.
pub const CONNECTION_UNKNOWN: Code = Code(612);

/// The connection or store is named by a rule.
pub const CONNECTION_IN_USE: Code = Code(618);

/// The body of what is not there.
const NOTHING: &str = "{}";

/// A Kafka connection or a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredConnection {
    /// `kafka` or `store`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its body, as JSON. May hold secrets.
    pub body: String,
    /// The number of its version, from 1. Earlier ones are not kept: they hold secrets.
    pub version: i64,
}

/// What the audit says of a change of a connection or a store: later on, nothing else does, since earlier bodies are not kept.
#[derive(serde::Serialize)]
struct Changed<'a> {
    name: &'a str,
    /// Without secrets.
    differences: Vec<Difference>,
}

fn changed(name: &str, before: &str, after: &str) -> String {
    serde_json::to_string(&Changed { name, differences: masked_differences(before, after) }).unwrap_or_default()
}

/// A connection or a store is there already: rules may rest on it.
pub fn connection_exists(name: &str) -> Error {
    Error::new(CONNECTION_EXISTS, ErrorKind::Invalid, "there is one of this name, and rules may rest on it")
        .with("name", name)
        .help("create another one, and edit the rules that should use it")
}

/// There is none of this name.
pub fn connection_unknown(kind: &'static str, name: &str) -> Error {
    Error::new(CONNECTION_UNKNOWN, ErrorKind::NotFound, "there is none of this name")
        .with(kind, name)
        .help("GET /api/v1/sources and /api/v1/stores list them; the config file and the API define them")
}

impl State {
    /// All of them, by kind and name.
    ///
    /// # Errors
    /// `C0601`.
    pub fn connections(&self) -> Result<Vec<StoredConnection>> {
        self.select("SELECT kind, name, body, version FROM connection ORDER BY kind, name", params![], connection_of)
    }

    /// One of them.
    ///
    /// # Errors
    /// `C0601`, `C0612`.
    pub fn connection(&self, kind: &'static str, name: &str) -> Result<StoredConnection> {
        find(&self.db(), kind, name)
    }

    /// Keeps a new one, in version 1. Its body may hold secrets, and the audit has it without them.
    ///
    /// # Errors
    /// `C0601`, `C0611`.
    pub fn put_connection(&self, connection: &StoredConnection, who: &str, at_ms: i64) -> Result<()> {
        self.change(|db| {
            let StoredConnection { kind, name, body, .. } = connection;
            let sql = "INSERT OR IGNORE INTO connection (kind, name, body) VALUES (?1, ?2, ?3)";
            let made = db.execute(sql, params![kind, name, body]).map_err(failed)?;
            if made == 0 {
                return Err(connection_exists(name));
            }
            audit(db, at_ms, who, &format!("define {kind}"), None, Some(&changed(name, NOTHING, body)))
        })
    }

    /// Gives one another body, if its current version is `version`. An equal body is no new version.
    ///
    /// # Errors
    /// `C0601`, `C0604`, `C0612`.
    pub fn edit_connection(
        &self,
        (kind, name): (&'static str, &str),
        version: Option<i64>,
        body: &str,
        who: &str,
        at_ms: i64,
    ) -> Result<StoredConnection> {
        self.change(|db| {
            let standing = find(db, kind, name)?;
            if version.is_some_and(|version| version != standing.version) {
                return Err(outdated(kind, name, standing.version));
            }
            if standing.body == body {
                return Ok(standing);
            }
            let detail = changed(name, &standing.body, body);
            let next = StoredConnection { body: body.to_owned(), version: standing.version + 1, ..standing };
            let sql = "UPDATE connection SET body = ?3, version = ?4 WHERE kind = ?1 AND name = ?2";
            db.execute(sql, params![kind, name, body, next.version]).map_err(failed)?;
            audit(db, at_ms, who, &format!("redefine {kind}"), None, Some(&detail))?;
            Ok(next)
        })
    }

    /// Notes what a later reading of the config file has changed of its connections and stores. They are not kept here.
    ///
    /// # Errors
    /// `C0601`.
    pub fn note_reading(&self, before: &Bodies, later: &Bodies, who: &str, at_ms: i64) -> Result<()> {
        self.change(|db| {
            for one in before.became(later) {
                let action = match (one.before, one.after) {
                    (None, _) => "define",
                    (_, None) => "forget",
                    (Some(_), Some(_)) => "redefine",
                };
                let detail = changed(one.name, one.before.unwrap_or(NOTHING), one.after.unwrap_or(NOTHING));
                audit(db, at_ms, who, &format!("{action} {}", one.section), None, Some(&detail))?;
            }
            Ok(())
        })
    }

    /// Forgets one that no rule names. One step, so that no rule that names it is created meanwhile.
    ///
    /// # Errors
    /// `C0601`, `C0612`, `C0618`.
    pub fn delete_connection(&self, kind: Kind, name: &str, who: &str, at_ms: i64) -> Result<()> {
        let section = kind.section();
        self.change(|db| {
            if let Some(rule) = all_rules(db)?.into_iter().find(|rule| kind.names_in(&rule.body).as_deref() == Some(name)) {
                return Err(Error::new(CONNECTION_IN_USE, ErrorKind::Invalid, "a rule names it")
                    .with("name", name)
                    .with("rule", &rule.name)
                    .help("edit that rule first"));
            }
            let standing = find(db, section, name)?;
            db.execute("DELETE FROM connection WHERE kind = ?1 AND name = ?2", params![section, name]).map_err(failed)?;
            audit(db, at_ms, who, &format!("forget {section}"), None, Some(&changed(name, &standing.body, NOTHING)))
        })
    }
}

fn connection_of(row: &Row<'_>) -> rusqlite::Result<StoredConnection> {
    Ok(StoredConnection { kind: row.get(0)?, name: row.get(1)?, body: row.get(2)?, version: row.get(3)? })
}

fn find(db: &Connection, kind: &'static str, name: &str) -> Result<StoredConnection> {
    let sql = "SELECT kind, name, body, version FROM connection WHERE kind = ?1 AND name = ?2";
    let found = db.query_row(sql, params![kind, name], connection_of).optional().map_err(failed)?;
    found.ok_or_else(|| connection_unknown(kind, name))
}

/// Refuses a rule whose connections are gone. They were there when it was looked at; this is the same step as its being written down.
pub(super) fn check_needs(db: &Connection, needs: &[(Kind, String)]) -> Result<()> {
    for (kind, name) in needs {
        let sql = "SELECT EXISTS (SELECT 1 FROM connection WHERE kind = ?1 AND name = ?2)";
        if !db.query_row(sql, params![kind.section(), name], |row| row.get(0)).map_err(failed)? {
            return Err(connection_unknown(kind.section(), name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use serde_json::{Value, json};

    use super::super::{Edit, Origin, state};
    use super::*;
    use crate::service::state::VERSION_OUTDATED;

    #[test]
    fn no_rule_is_left_without_a_connection_that_goes_while_it_comes() {
        let body = "{\"source\":{\"kafka\":\"k\"}}";
        let needs = [(Kind::Kafka, "k".to_owned())];
        for round in 0..200 {
            let state = state();
            let connection = StoredConnection { kind: "kafka".into(), name: "k".into(), body: "{}".into(), version: 1 };
            state.put_connection(&connection, "me", 1).unwrap();
            state.create("standing", "{}", Origin::Api, "me", 1).unwrap();
            let both = Barrier::new(2);
            let comes = || {
                both.wait();
                let edit = Edit { body, needs: needs.to_vec(), ..Edit::default() };
                match round % 2 {
                    0 => state.create_naming("new", body, &needs, Origin::Api, "me", 2),
                    _ => state.edit_to("standing", &edit, Origin::Api, "me", 2),
                }
            };
            let goes = || {
                both.wait();
                state.delete_connection(Kind::Kafka, "k", "you", 2)
            };
            let (came, went) = std::thread::scope(|threads| {
                let (came, went) = (threads.spawn(comes), threads.spawn(goes));
                (came.join().unwrap(), went.join().unwrap())
            });
            match (&came, &went) {
                (Ok(_), Err(refused)) => assert_eq!(refused.code, CONNECTION_IN_USE),
                (Err(refused), Ok(())) => assert_eq!(refused.code, CONNECTION_UNKNOWN),
                both => panic!("{both:?}"),
            }
            let named = state.rules().unwrap().iter().any(|rule| Kind::Kafka.names_in(&rule.body).is_some());
            assert_eq!(named, !state.connections().unwrap().is_empty(), "what is named is there");
        }
    }

    #[test]
    fn a_connection_is_not_written_over() {
        let state = state();
        let connection = StoredConnection { kind: "store".into(), name: "s".into(), body: "{}".into(), version: 1 };
        state.put_connection(&connection, "me", 1).unwrap();
        assert_eq!(state.put_connection(&connection, "me", 2).unwrap_err().code, CONNECTION_EXISTS);
        assert_eq!(state.connections().unwrap(), [connection]);
        assert_eq!(state.delete_connection(Kind::Kafka, "s", "me", 3).unwrap_err().code, CONNECTION_UNKNOWN);
        state.delete_connection(Kind::Store, "s", "me", 3).unwrap();
        assert!(state.connections().unwrap().is_empty());
    }

    #[test]
    fn a_connection_is_edited_from_the_version_that_was_seen_and_its_secrets_are_in_no_audit() {
        let state = state();
        let connection = StoredConnection { kind: "store".into(), name: "s".into(), body: "{}".into(), version: 1 };
        state.put_connection(&connection, "me", 1).unwrap();
        let edit = |version, body| state.edit_connection(("store", "s"), version, body, "me", 2);
        let body = r#"{"session_token":"hush-canary"}"#;
        assert_eq!(edit(Some(1), body).unwrap().version, 2);
        assert_eq!(edit(Some(1), "{}").unwrap_err().code, VERSION_OUTDATED);
        assert_eq!(edit(None, body).unwrap().version, 2, "nothing has changed");
        assert_eq!(state.connection("store", "s").unwrap().body, body);
        assert_eq!(state.edit_connection(("kafka", "s"), None, "{}", "me", 3).unwrap_err().code, CONNECTION_UNKNOWN);
        let audit = state.audited(None, i64::MAX, 9).unwrap();
        assert_eq!(audit.iter().map(|entry| entry.action.as_str()).collect::<Vec<_>>(), ["redefine store", "define store"]);
        let redefined = r#"{"name":"s","differences":[{"key":"session_token","before":null,"after":"***"}]}"#;
        assert_eq!(audit[0].detail.as_deref(), Some(redefined));
        assert!(!format!("{audit:?}").contains("hush-canary"));
    }

    #[test]
    fn the_audit_has_what_a_connection_became_was_changed_in_and_had_been() {
        let state = state();
        let of = |user: &str, password: &str| json!({ "brokers": ["h:1"], "sasl": { "username": user, "password": password } }).to_string();
        let connection = StoredConnection { kind: "kafka".into(), name: "k".into(), body: of("u", "hush-one"), version: 1 };
        state.put_connection(&connection, "me", 1).unwrap();
        state.edit_connection(("kafka", "k"), None, &of("u", "hush-two"), "me", 2).unwrap();
        state.edit_connection(("kafka", "k"), None, &of("v", "hush-two"), "me", 3).unwrap();
        state.delete_connection(Kind::Kafka, "k", "me", 4).unwrap();
        let audit = state.audited(None, i64::MAX, 9).unwrap();
        let said: Vec<Value> = audit.iter().map(|entry| serde_json::from_str(entry.detail.as_deref().unwrap()).unwrap()).collect();
        let of_k = |differences: Value| json!({ "name": "k", "differences": differences });
        let was_and_is = |key: &str, before: Value, after: Value| json!({ "key": key, "before": before, "after": after });
        let all = |before: [Value; 3], after: [Value; 3]| {
            let values = ["brokers", "sasl.password", "sasl.username"].into_iter().zip(before.into_iter().zip(after));
            of_k(values.map(|(key, (before, after))| was_and_is(key, before, after)).collect())
        };
        let nothing = || [Value::Null, Value::Null, Value::Null];
        let body = |user: &str| [json!(["h:1"]), json!("***"), json!(user)];
        let changed = |key: &str, before: &str, after: &str| of_k(json!([was_and_is(key, json!(before), json!(after))]));
        let wanted = [
            all(body("v"), nothing()),
            changed("sasl.username", "u", "v"),
            changed("sasl.password", "***", "***"),
            all(nothing(), body("u")),
        ];
        assert_eq!(said, wanted);
        assert!(!format!("{audit:?}").contains("hush"), "{audit:?}");
    }
}
