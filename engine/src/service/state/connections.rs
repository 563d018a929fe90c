//! Kafka connections and stores that were created beside those of the config file.

use rusqlite::{Connection, params};

use super::audit::audit;
use super::rules::all_rules;
use super::{State, failed};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::service::definition::Kind;

/// There is a connection or a store of this name.
pub const CONNECTION_EXISTS: Code = Code(611);
/// There is no connection or store of this name.
pub const CONNECTION_UNKNOWN: Code = Code(612);

/// The connection or store is named by a rule.
pub const CONNECTION_IN_USE: Code = Code(618);

/// A Kafka connection or a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredConnection {
    /// `kafka` or `store`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its body, as JSON. May hold secrets.
    pub body: String,
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
        self.select("SELECT kind, name, body FROM connection ORDER BY kind, name", params![], |row| {
            Ok(StoredConnection { kind: row.get(0)?, name: row.get(1)?, body: row.get(2)? })
        })
    }

    /// Keeps a new one. Its body may hold secrets, so the audit has its name alone.
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
            audit(db, at_ms, who, &format!("define {kind}"), None, Some(name))
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
            let gone = db.execute("DELETE FROM connection WHERE kind = ?1 AND name = ?2", params![section, name]).map_err(failed)?;
            if gone == 0 {
                return Err(connection_unknown(section, name));
            }
            audit(db, at_ms, who, &format!("forget {section}"), None, Some(name))
        })
    }
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

    use super::super::{Edit, Origin, state};
    use super::*;

    #[test]
    fn no_rule_is_left_without_a_connection_that_goes_while_it_comes() {
        let body = "{\"source\":{\"kafka\":\"k\"}}";
        let needs = [(Kind::Kafka, "k".to_owned())];
        for round in 0..200 {
            let state = state();
            let connection = StoredConnection { kind: "kafka".into(), name: "k".into(), body: "{}".into() };
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
        let connection = StoredConnection { kind: "store".into(), name: "s".into(), body: "{}".into() };
        state.put_connection(&connection, "me", 1).unwrap();
        assert_eq!(state.put_connection(&connection, "me", 2).unwrap_err().code, CONNECTION_EXISTS);
        assert_eq!(state.connections().unwrap(), [connection]);
        assert_eq!(state.delete_connection(Kind::Kafka, "s", "me", 3).unwrap_err().code, CONNECTION_UNKNOWN);
        state.delete_connection(Kind::Store, "s", "me", 3).unwrap();
        assert!(state.connections().unwrap().is_empty());
    }
}
