//! The last verification of each rule.

use rusqlite::{OptionalExtension, params};

use super::{State, failed};
use crate::error::Result;

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerificationState {
    /// It waits for others to end.
    Queued,
    /// It goes on.
    Running,
    /// Every record is there exactly once, but for the gaps that are listed.
    Sound,
    /// Something is wrong; the report says what.
    Damaged,
    /// It could not be finished; nothing is called damaged that could not be read.
    Unfinished,
}

impl VerificationState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Sound => "sound",
            Self::Damaged => "damaged",
            Self::Unfinished => "unfinished",
        }
    }

    fn of(word: &str) -> Self {
        match word {
            "queued" => Self::Queued,
            "running" => Self::Running,
            "sound" => Self::Sound,
            "damaged" => Self::Damaged,
            _ => Self::Unfinished,
        }
    }
}

/// A verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVerification {
    /// How far it is.
    pub state: VerificationState,
    /// When it was asked for.
    pub began_ms: i64,
    /// When it ended; none before.
    pub ended_ms: Option<i64>,
    /// What it found, as `catchment verify --json` prints it.
    pub report: Option<String>,
    /// Why it was not finished.
    pub problem: Option<String>,
}

impl StoredVerification {
    /// One that was asked for just now.
    pub fn queued(at_ms: i64) -> Self {
        Self { state: VerificationState::Queued, began_ms: at_ms, ended_ms: None, report: None, problem: None }
    }
}

impl State {
    /// Keeps a rule's verification in the place of the one before. What belongs to a rule that is gone is dropped.
    ///
    /// # Errors
    /// `C0601`.
    pub fn put_verification(&self, rule: &str, v: &StoredVerification) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO verification (rule, state, began_ms, ended_ms, report, problem)
            SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM rule WHERE name = ?1)";
        self.change(|db| {
            db.execute(sql, params![rule, v.state.as_str(), v.began_ms, v.ended_ms, v.report, v.problem]).map(drop).map_err(failed)
        })
    }

    /// Notes that a verification runs now, unless it has ended.
    ///
    /// # Errors
    /// `C0601`.
    pub fn run_verification(&self, rule: &str, began_ms: i64) -> Result<()> {
        let sql = "UPDATE verification SET state = 'running' WHERE rule = ?1 AND began_ms = ?2 AND state = 'queued'";
        self.change(|db| db.execute(sql, params![rule, began_ms]).map(drop).map_err(failed))
    }

    /// Keeps the end of a verification, unless the rule or the verification is another one by now.
    ///
    /// # Errors
    /// `C0601`.
    pub fn end_verification(&self, rule: &str, v: &StoredVerification) -> Result<()> {
        let sql = "UPDATE verification SET state = ?3, ended_ms = ?4, report = ?5, problem = ?6 WHERE rule = ?1 AND began_ms = ?2";
        self.change(|db| {
            db.execute(sql, params![rule, v.began_ms, v.state.as_str(), v.ended_ms, v.report, v.problem]).map(drop).map_err(failed)
        })
    }

    /// A rule's last verification; none if there was none.
    ///
    /// # Errors
    /// `C0601`.
    pub fn verification(&self, rule: &str) -> Result<Option<StoredVerification>> {
        let sql = "SELECT state, began_ms, ended_ms, report, problem FROM verification WHERE rule = ?1";
        let of = |row: &rusqlite::Row<'_>| {
            let state: String = row.get(0)?;
            Ok(StoredVerification {
                state: VerificationState::of(&state),
                began_ms: row.get(1)?,
                ended_ms: row.get(2)?,
                report: row.get(3)?,
                problem: row.get(4)?,
            })
        };
        self.db().query_row(sql, params![rule], of).optional().map_err(failed)
    }

    /// What ran or waited when the process ended does so no more.
    pub(super) fn forget_running_verifications(&self) -> Result<()> {
        let sql = "UPDATE verification SET state = 'unfinished', problem = 'the service was stopped meanwhile'
            WHERE state IN ('queued', 'running')";
        self.change(|db| db.execute(sql, params![]).map(drop).map_err(failed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, state};
    use super::*;

    #[test]
    fn the_last_one_is_kept_and_none_runs_for_ever() {
        let state = state();
        state.put_verification("a", &StoredVerification::queued(1)).unwrap();
        assert_eq!(state.verification("a").unwrap(), None, "there is no such rule");
        state.create("a", "{}", Origin::Api, "me", 1).unwrap();
        let sound = StoredVerification { state: VerificationState::Sound, ended_ms: Some(3), ..StoredVerification::queued(2) };
        state.put_verification("a", &sound).unwrap();
        assert_eq!(state.verification("a").unwrap(), Some(sound));
        state.put_verification("a", &StoredVerification::queued(4)).unwrap();
        state.end_verification("a", &StoredVerification { state: VerificationState::Damaged, ..StoredVerification::queued(2) }).unwrap();
        assert_eq!(state.verification("a").unwrap().unwrap().state, VerificationState::Queued, "that was another one");
        state.run_verification("a", 2).unwrap();
        assert_eq!(state.verification("a").unwrap().unwrap().state, VerificationState::Queued, "so was that");
        state.forget_running_verifications().unwrap();
        state.run_verification("a", 4).unwrap();
        assert_eq!(state.verification("a").unwrap().unwrap().state, VerificationState::Unfinished);
    }
}
