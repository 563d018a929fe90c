//! Kafka connections and stores that were created beside those of the config file.

use rusqlite::params;

use super::audit::audit;
use super::{State, failed};
use crate::error::{Code, Error, ErrorKind, Result};

/// There is a connection or a store of this name.
pub const CONNECTION_EXISTS: Code = Code(611);
/// There is no connection or store of this name.
pub const CONNECTION_UNKNOWN: Code = Code(612);

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

    /// Forgets one.
    ///
    /// # Errors
    /// `C0601`, `C0612`.
    pub fn delete_connection(&self, kind: &'static str, name: &str, who: &str, at_ms: i64) -> Result<()> {
        self.change(|db| {
            let gone = db.execute("DELETE FROM connection WHERE kind = ?1 AND name = ?2", params![kind, name]).map_err(failed)?;
            if gone == 0 {
                return Err(connection_unknown(kind, name));
            }
            audit(db, at_ms, who, &format!("forget {kind}"), None, Some(name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::state;
    use super::*;

    #[test]
    fn a_connection_is_not_written_over() {
        let state = state();
        let connection = StoredConnection { kind: "store".into(), name: "s".into(), body: "{}".into() };
        state.put_connection(&connection, "me", 1).unwrap();
        assert_eq!(state.put_connection(&connection, "me", 2).unwrap_err().code, CONNECTION_EXISTS);
        assert_eq!(state.connections().unwrap(), [connection]);
        assert_eq!(state.delete_connection("kafka", "s", "me", 3).unwrap_err().code, CONNECTION_UNKNOWN);
        state.delete_connection("store", "s", "me", 3).unwrap();
        assert!(state.connections().unwrap().is_empty());
    }
}
