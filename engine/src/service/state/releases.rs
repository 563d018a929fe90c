//! Rules that were deleted, and what they had outside of this service is not given up yet: remembered until it is, over restarts too.

use rusqlite::{Connection, params};

use super::{State, StoredRule, failed};
use crate::error::Result;

/// A rule that was deleted, as far as giving up what it had needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRelease {
    /// Its name.
    pub rule: String,
    /// When it was created: another rule of its name may be deleted, too.
    pub created_ms: i64,
    /// The body of its last version, as JSON.
    pub body: String,
    /// Those of its earlier ones, oldest first: it may have written elsewhere.
    pub earlier: Vec<String>,
    /// Who has deleted it.
    pub who: String,
}

/// To be written down with the deletion: between the two nobody would know of it.
pub(super) fn record(db: &Connection, rule: &StoredRule, who: &str) -> Result<StoredRelease> {
    let sql = "SELECT body FROM rule_version WHERE rule = ?1 AND version < ?2 ORDER BY version";
    let mut statement = db.prepare_cached(sql).map_err(failed)?;
    let bodies = statement.query_map(params![rule.name, rule.version], |row| row.get(0)).map_err(failed)?;
    let earlier: Vec<String> = bodies.collect::<rusqlite::Result<_>>().map_err(failed)?;
    let kept = serde_json::to_string(&earlier).unwrap_or_default();
    let sql = "INSERT OR REPLACE INTO release (rule, created_ms, body, who, earlier) VALUES (?1, ?2, ?3, ?4, ?5)";
    db.execute(sql, params![rule.name, rule.created_ms, rule.body, who, kept]).map_err(failed)?;
    let StoredRule { name, created_ms, body, .. } = rule.clone();
    Ok(StoredRelease { rule: name, created_ms, body, earlier, who: who.to_owned() })
}

impl State {
    /// What is still to be given up, the oldest rules of a name first.
    ///
    /// # Errors
    /// `C0601`.
    pub fn releases(&self) -> Result<Vec<StoredRelease>> {
        self.select("SELECT rule, created_ms, body, who, earlier FROM release ORDER BY rule, created_ms", params![], |row| {
            let earlier = serde_json::from_str(&row.get::<_, String>(4)?).unwrap_or_default();
            Ok(StoredRelease { rule: row.get(0)?, created_ms: row.get(1)?, body: row.get(2)?, who: row.get(3)?, earlier })
        })
    }

    /// Nothing is to be given up any more of a rule that was deleted.
    ///
    /// # Errors
    /// `C0601`.
    pub fn released(&self, rule: &str, created_ms: i64) -> Result<()> {
        let sql = "DELETE FROM release WHERE rule = ?1 AND created_ms = ?2";
        self.change(|db| db.execute(sql, params![rule, created_ms]).map(drop).map_err(failed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, state};
    use super::*;

    #[test]
    fn a_deletion_is_remembered_until_all_is_given_up() {
        let state = state();
        for created_ms in [1, 3] {
            state.create("a", "{}", Origin::Api, "me", created_ms).unwrap();
            state.edit("a", None, "{\"b\":1}", Origin::Api, "me", created_ms).unwrap();
            state.delete("a", Origin::Api, "you", created_ms + 1).unwrap();
        }
        let of = |created_ms| StoredRelease {
            rule: "a".into(),
            created_ms,
            body: "{\"b\":1}".into(),
            earlier: vec!["{}".into()],
            who: "you".into(),
        };
        assert_eq!(state.releases().unwrap(), [of(1), of(3)]);
        state.released("a", 1).unwrap();
        assert_eq!(state.releases().unwrap(), [of(3)], "another rule of its name is another matter");
        state.released("a", 3).unwrap();
        assert_eq!(state.releases().unwrap(), []);
    }
}
