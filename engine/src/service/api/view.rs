//! How rules and their states are shown.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Service;
use super::openapi::RuleBody;
use super::problem::Problem;
use crate::error::{Error, ErrorKind, codes};
use crate::service::changes::now_ms;
use crate::service::observer::{RuleState, Status};
use crate::service::state::{Origin, StoredRule, StoredVerification, StoredVersion, VerificationState, Wanted};
use crate::service::workers::RuleAtWorker;

/// A rule as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rule)]
pub(super) struct RuleView {
    /// Its name.
    name: String,
    /// The number of its current version, from 1; its ETag.
    version: i64,
    /// Whether it should run.
    wanted: Wanted,
    /// Where it is defined.
    origin: Origin,
    /// What it is doing.
    state: RuleState,
    /// Why, if that is not what it should be doing.
    reason: Option<String>,
    /// What to do about it.
    help: Option<String>,
    /// Since when, ms since 1970.
    since_ms: i64,
    /// When it was created, ms since 1970.
    created_ms: i64,
    /// Records between the positions and the ends last seen; null while it does not run.
    lag_records: Option<i64>,
    /// Age of the last record read by the partition that is furthest behind, in seconds; null while it does not run.
    lag_seconds: Option<f64>,
    /// Until retention takes a record that was not read, in seconds, if nothing more is read; null where the topics keep their records for ever, or nobody knows.
    time_to_loss_seconds: Option<f64>,
    /// What it is doing at workers that are present, by their names.
    workers: BTreeMap<String, RuleAtWorker>,
    /// Its current version.
    #[schema(schema_with = rule_body)]
    body: Value,
}

fn rule_body() -> utoipa::openapi::schema::Ref {
    utoipa::openapi::schema::Ref::from_schema_name(<RuleBody as ToSchema>::name())
}

/// A version of a rule as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Version)]
pub(super) struct VersionView {
    /// Its number, from 1.
    version: i64,
    /// When it was made, ms since 1970.
    at_ms: i64,
    /// Its keys.
    #[schema(schema_with = rule_body)]
    body: Value,
}

/// A verification as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verification)]
pub(super) struct VerificationView {
    /// How far it is.
    state: VerificationState,
    /// When it was asked for, ms since 1970.
    began_ms: i64,
    /// When it ended; null before.
    ended_ms: Option<i64>,
    /// What it found, as `catchment verify --json` prints it; null before.
    report: Option<Value>,
    /// Why it was not finished.
    problem: Option<String>,
}

pub(super) fn json_of(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(e) => Problem::from(Error::new(codes::OUTPUT, ErrorKind::Bug, "the answer cannot be written").because(e)).into_response(),
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

pub(super) fn shown(rule: StoredRule, status: Option<&Status>) -> RuleView {
    let lag = status.and_then(|status| status.lag(now_ms()));
    RuleView {
        state: status.map_or(RuleState::Waiting, |status| status.state),
        reason: status.and_then(|status| status.reason.clone()),
        help: status.and_then(|status| status.help.clone()),
        since_ms: status.map_or(rule.created_ms, |status| status.since_ms),
        lag_records: lag.map(|lag| lag.records),
        lag_seconds: lag.map(|lag| lag.seconds),
        time_to_loss_seconds: lag.and_then(|lag| lag.loss_seconds),
        workers: status.map(|status| status.elsewhere.clone()).unwrap_or_default(),
        body: json(&rule.body),
        name: rule.name,
        version: rule.version,
        wanted: rule.wanted,
        origin: rule.origin,
        created_ms: rule.created_ms,
    }
}

/// A rule with what it is doing now.
pub(super) fn answer(service: &Service, status: StatusCode, rule: StoredRule) -> Response {
    let running = service.supervisor.status(&rule.name);
    let tag = format!("\"{}\"", rule.version);
    (status, [(ETAG, tag)], json_of(&shown(rule, running.as_ref()))).into_response()
}

impl From<StoredVersion> for VersionView {
    fn from(version: StoredVersion) -> Self {
        Self { version: version.version, at_ms: version.at_ms, body: json(&version.body) }
    }
}

impl From<StoredVerification> for VerificationView {
    fn from(v: StoredVerification) -> Self {
        Self { state: v.state, began_ms: v.began_ms, ended_ms: v.ended_ms, report: v.report.as_deref().map(json), problem: v.problem }
    }
}
