//! Who changed what, and when. Only ever added to, but for the oldest entries.

use rusqlite::{Connection, params};

use super::{State, failed};
use crate::error::Result;

/// Entries that are kept: years of a busy team's changes.
const KEPT: u32 = 100_000;

/// A change of something.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Audited {
    /// Its number; later ones are larger.
    pub id: i64,
    /// When, ms since 1970.
    pub at_ms: i64,
    /// Who: the name of a token, or `file`.
    pub who: String,
    /// What was done.
    pub action: String,
    /// The rule, if it is about one.
    pub rule: Option<String>,
    /// What it became, or what was changed or answered; of a connection or a store as JSON, with its name and without secrets.
    pub detail: Option<String>,
}

pub(super) fn audit(db: &Connection, at_ms: i64, who: &str, action: &str, rule: Option<&str>, detail: Option<&str>) -> Result<()> {
    let sql = "INSERT INTO audit (at_ms, who, action, rule, detail) VALUES (?1, ?2, ?3, ?4, ?5)";
    db.execute(sql, params![at_ms, who, action, rule, detail]).map_err(failed)?;
    db.execute("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?1", params![KEPT]).map(drop).map_err(failed)
}

impl State {
    /// Notes a change that is kept elsewhere.
    ///
    /// # Errors
    /// `C0601`.
    pub fn note(&self, who: &str, action: &str, rule: Option<&str>, detail: Option<&str>, at_ms: i64) -> Result<()> {
        self.change(|db| audit(db, at_ms, who, action, rule, detail))
    }

    /// The last changes below number `before`, newest first; of one rule, or of all.
    ///
    /// # Errors
    /// `C0601`.
    pub fn audited(&self, rule: Option<&str>, before: i64, at_most: u32) -> Result<Vec<Audited>> {
        let sql =
            "SELECT id, at_ms, who, action, rule, detail FROM audit WHERE id < ?1 AND (?2 IS NULL OR rule = ?2) ORDER BY id DESC LIMIT ?3";
        self.select(sql, params![before, rule, at_most], |row| {
            Ok(Audited {
                id: row.get(0)?,
                at_ms: row.get(1)?,
                who: row.get(2)?,
                action: row.get(3)?,
                rule: row.get(4)?,
                detail: row.get(5)?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, state};

    #[test]
    fn changes_are_remembered_also_of_a_rule_that_is_gone() {
        let state = state();
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        state.create("b", "{}", Origin::Api, "me", 2).unwrap();
        state.delete("a", Origin::Api, "you", 3).unwrap();
        let done: Vec<_> = state.audited(Some("a"), i64::MAX, 10).unwrap().into_iter().map(|a| (a.who, a.action, a.at_ms)).collect();
        assert_eq!(done, [("you".into(), "delete".into(), 3), ("me".into(), "create".into(), 1)]);
        assert_eq!(state.audited(None, i64::MAX, 2).unwrap().len(), 2);
        assert_eq!(state.audited(None, 2, 9).unwrap().len(), 1);
    }
}
