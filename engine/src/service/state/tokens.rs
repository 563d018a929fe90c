//! Further tokens of the API: their names and the hashes of their texts.

use rusqlite::params;

use super::audit::audit;
use super::{State, failed};
use crate::error::{Code, Error, ErrorKind, Result};

/// There is a token of this name.
pub const TOKEN_EXISTS: Code = Code(654);
/// There is no token of this name.
pub const TOKEN_UNKNOWN: Code = Code(655);

/// A further token, without its text.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Its number; no later one has the same.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The argon2id hash of its text, in PHC form.
    pub hash: String,
    /// When it was made, ms since 1970.
    pub made_ms: i64,
}

impl std::fmt::Debug for StoredToken {
    /// Without the hash.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredToken").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl State {
    /// All of them, by name.
    ///
    /// # Errors
    /// `C0601`.
    pub fn tokens(&self) -> Result<Vec<StoredToken>> {
        self.select("SELECT id, name, hash, made_ms FROM token ORDER BY name", params![], |row| {
            Ok(StoredToken { id: row.get(0)?, name: row.get(1)?, hash: row.get(2)?, made_ms: row.get(3)? })
        })
    }

    /// Keeps a new one. The audit has its name alone.
    ///
    /// # Errors
    /// `C0601`, `C0654`.
    pub fn add_token(&self, name: &str, hash: &str, who: &str, at_ms: i64) -> Result<StoredToken> {
        self.change(|db| {
            let sql = "INSERT OR IGNORE INTO token (name, hash, made_ms) VALUES (?1, ?2, ?3)";
            if db.execute(sql, params![name, hash, at_ms]).map_err(failed)? == 0 {
                return Err(Error::new(TOKEN_EXISTS, ErrorKind::Invalid, "there is a token of this name")
                    .with("name", name)
                    .help("remove that one first, or choose another name"));
            }
            let id = db.last_insert_rowid();
            audit(db, at_ms, who, "make token", None, Some(name))?;
            Ok(StoredToken { id, name: name.to_owned(), hash: hash.to_owned(), made_ms: at_ms })
        })
    }

    /// Forgets one.
    ///
    /// # Errors
    /// `C0601`, `C0655`.
    pub fn remove_token(&self, name: &str, who: &str, at_ms: i64) -> Result<()> {
        self.change(|db| {
            if db.execute("DELETE FROM token WHERE name = ?1", params![name]).map_err(failed)? == 0 {
                return Err(Error::new(TOKEN_UNKNOWN, ErrorKind::NotFound, "there is no token of this name")
                    .with("name", name)
                    .help("`catchment token ls` names them"));
            }
            audit(db, at_ms, who, "remove token", None, Some(name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::state;
    use super::*;

    #[test]
    fn a_name_is_one_tokens_and_a_number_is_never_given_twice() {
        let state = state();
        let first = state.add_token("a", "$h1", "me", 1).unwrap();
        assert_eq!(state.add_token("a", "$h2", "me", 2).unwrap_err().code, TOKEN_EXISTS);
        assert_eq!(state.tokens().unwrap(), std::slice::from_ref(&first));
        state.remove_token("a", "you", 3).unwrap();
        assert_eq!(state.remove_token("a", "you", 4).unwrap_err().code, TOKEN_UNKNOWN);
        let second = state.add_token("a", "$h1", "me", 5).unwrap();
        assert!(second.id > first.id && !format!("{second:?}").contains("$h1"));
        let done: Vec<_> = state.audited(None, i64::MAX, 9).unwrap().into_iter().map(|a| (a.who, a.action, a.detail)).collect();
        let entry = |who: &str, action: &str| (who.to_owned(), action.to_owned(), Some("a".to_owned()));
        assert_eq!(done, [entry("me", "make token"), entry("you", "remove token"), entry("me", "make token")]);
    }
}
