//! A rule as it is kept: its version, whether it should run, where it is defined.

use crate::service::definition::Kind;

/// Whether a rule should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// It runs, also after a restart.
    Running,
    /// It does not, until somebody resumes it.
    Paused,
}

impl Wanted {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
        }
    }

    pub(super) fn of(word: &str) -> Self {
        if word == "paused" { Self::Paused } else { Self::Running }
    }
}

/// Where a rule is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It was created through the API, and is changed there.
    Api,
    /// In a file, and changed there.
    File,
    /// It was in a file that does not have it any more. It does not run, but keeps what is known of it: the file may take it back, the API take it over.
    Orphan,
}

impl Origin {
    pub(in crate::service::state) fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::File => "file",
            Self::Orphan => "orphan",
        }
    }

    pub(super) fn of(word: &str) -> Self {
        match word {
            "file" => Self::File,
            "orphan" => Self::Orphan,
            _ => Self::Api,
        }
    }
}

/// A rule as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRule {
    /// Its name.
    pub name: String,
    /// The number of its current version, from 1.
    pub version: i64,
    /// Whether it should run.
    pub wanted: Wanted,
    /// Where it is defined.
    pub origin: Origin,
    /// When it was created.
    pub created_ms: i64,
    /// The body of its current version, as JSON.
    pub body: String,
}

impl StoredRule {
    /// Whether it runs: an orphan does not, whatever it was wanted to do.
    pub fn runs(&self) -> Wanted {
        if self.origin == Origin::Orphan { Wanted::Paused } else { self.wanted }
    }
}

/// A version of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Its number, from 1.
    pub version: i64,
    /// Its body, as JSON.
    pub body: String,
    /// When it was made.
    pub at_ms: i64,
}

/// An edit of a rule.
#[derive(Clone, Debug, Default)]
pub struct Edit<'a> {
    /// The version that it is made from; none: whichever is current.
    pub version: Option<i64>,
    /// The new body.
    pub body: &'a str,
    /// The hash of the destination that the new version does not write to any more, and the version that did.
    pub leaves: Option<(i64, String)>,
    /// Connections and stores that the body names and no file defines.
    pub needs: Vec<(Kind, String)>,
}
