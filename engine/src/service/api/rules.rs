//! Rules: created, shown, edited, paused, resumed, sealed, deleted; their windows, gaps and log.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::Service;
use super::problem::{Problem, not_json};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Accept;
use crate::error::{Error, ErrorKind, codes};
use crate::service::definition;
use crate::service::observer::{RuleState, Status};
use crate::service::state::{StoredRule, Wanted};

/// Who changes things, in the audit: there is one token.
pub(super) const CALLER: &str = "api";

/// What one answer lists if it is not told how much, and at most.
const PAGE: (u32, u32) = (100, 1_000);

pub(super) fn now_ms() -> i64 {
    SystemClock::new().wall_ms()
}

pub(super) fn json_of(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(e) => Problem::from(Error::new(codes::OUTPUT, ErrorKind::Bug, "the answer cannot be written").because(e)).into_response(),
    }
}

fn shown(rule: &StoredRule, status: Option<&Status>) -> Value {
    json!({
        "name": rule.name,
        "version": rule.version,
        "wanted": rule.wanted.as_str(),
        "state": status.map(|status| status.state),
        "reason": status.and_then(|status| status.reason.as_deref()),
        "since_ms": status.map(|status| status.since_ms),
        "created_ms": rule.created_ms,
        "body": serde_json::from_str::<Value>(&rule.body).unwrap_or_default(),
    })
}

fn answer(service: &Service, status: StatusCode, rule: &StoredRule) -> Response {
    let running = service.supervisor.status(&rule.name);
    (status, [(ETAG, format!("\"{}\"", rule.version))], json_of(&shown(rule, running.as_ref()))).into_response()
}

pub(super) async fn list(State(service): State<Service>) -> Result<Response, Problem> {
    let running = service.supervisor.statuses();
    let rules = service.state.rules()?;
    Ok(json_of(&rules.iter().map(|rule| shown(rule, running.get(&rule.name))).collect::<Value>()))
}

pub(super) async fn create(State(service): State<Service>, body: Bytes) -> Result<Response, Problem> {
    let (name, body) = definition::split(serde_json::from_slice(&body).map_err(not_json)?)?;
    let body = definition::resolved(&service.supervisor.config()?, &body)?;
    service.supervisor.plan(&name, &body, Vec::new())?;
    let rule = service.state.create(&name, &body, CALLER, now_ms())?;
    service.supervisor.apply(&name, Vec::new(), false).await?;
    Ok(answer(&service, StatusCode::CREATED, &rule))
}

pub(super) async fn show(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Problem> {
    let rule = service.state.rule(&name)?;
    Ok(answer(&service, StatusCode::OK, &rule))
}

pub(super) async fn edit(
    State(service): State<Service>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let before = service.state.rule(&name)?;
    let body = definition::body_of(&name, serde_json::from_slice(&body).map_err(not_json)?)?;
    let body = definition::resolved(&service.supervisor.config()?, &body)?;
    let plan = service.supervisor.plan(&name, &body, Vec::new())?;
    definition::check_edit(&service.supervisor.plan(&name, &before.body, Vec::new())?, &plan)?;
    let rule = service.state.edit(&name, seen_version(&headers)?, &body, CALLER, now_ms())?;
    // The open windows finish under the old version; what is written from there on goes where the new one says.
    service.supervisor.apply(&name, Vec::new(), false).await?;
    Ok(answer(&service, StatusCode::OK, &rule))
}

/// The version that the caller has seen, by `If-Match`.
fn seen_version(headers: &HeaderMap) -> Result<Option<i64>, Error> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    text.trim_matches('"').parse().map(Some).map_err(|e| {
        Error::new(codes::CONFIG_VALUE, ErrorKind::Invalid, "If-Match holds no version of a rule")
            .because(e)
            .help("send the ETag that a GET of the rule has answered")
    })
}

pub(super) async fn delete(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Problem> {
    service.state.rule(&name)?;
    service.supervisor.remove(&name, CALLER, now_ms()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn pause(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Problem> {
    want(&service, &name, Wanted::Paused, Vec::new()).await
}

pub(super) async fn resume(State(service): State<Service>, Path(name): Path<String>, body: Bytes) -> Result<Response, Problem> {
    let accept = accepted(&body)?;
    want(&service, &name, Wanted::Running, accept).await
}

/// The operator's answers in `{"accept": [...]}`; an empty body gives none.
fn accepted(body: &[u8]) -> Result<Vec<Accept>, Problem> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let body: Value = serde_json::from_slice(body).map_err(not_json)?;
    let refused = |why: String| {
        Problem::from(
            Error::new(codes::CONFIG_VALUE, ErrorKind::Invalid, "accept must be a list of answers")
                .because(why)
                .help("docs/cli.md lists the answers that --accept takes"),
        )
    };
    let words: Vec<String> = match body.get("accept") {
        Some(words) => serde_json::from_value(words.clone()).map_err(|e| refused(e.to_string()))?,
        None => Vec::new(),
    };
    words.iter().map(|word| word.parse::<Accept>()).collect::<Result<_, _>>().map_err(|e| refused(e.to_string()))
}

async fn want(service: &Service, name: &str, wanted: Wanted, accept: Vec<Accept>) -> Result<Response, Problem> {
    let rule = service.state.want(name, wanted, CALLER, now_ms())?;
    let failed = service.supervisor.status(name).is_some_and(|status| status.state == RuleState::Failed);
    // A resume starts a failed rule again, and one whose lanes ask; a pause of a paused one changes nothing.
    let anew = wanted == Wanted::Running && (failed || !accept.is_empty());
    service.supervisor.apply(name, accept, anew).await?;
    Ok(answer(service, StatusCode::ACCEPTED, &rule))
}

pub(super) async fn seal(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Problem> {
    let rule = service.state.rule(&name)?;
    // It ends with its windows closed, and goes on behind them.
    service.supervisor.apply(&name, Vec::new(), true).await?;
    Ok(answer(&service, StatusCode::ACCEPTED, &rule))
}

pub(super) async fn versions(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Problem> {
    service.state.rule(&name)?;
    let versions = service.state.versions(&name)?.into_iter().map(|(version, body, at_ms)| {
        json!({ "version": version, "at_ms": at_ms, "body": serde_json::from_str::<Value>(&body).unwrap_or_default() })
    });
    Ok(json_of(&versions.collect::<Value>()))
}

/// A number of the query string.
fn number<T: std::str::FromStr<Err: std::fmt::Display>>(query: &BTreeMap<String, String>, name: &'static str) -> Result<Option<T>, Error> {
    query.get(name).map(|text| text.parse()).transpose().map_err(|e: T::Err| {
        Error::new(codes::CONFIG_VALUE, ErrorKind::Invalid, format!("{name} is no number"))
            .because(e)
            .help("leave it out, or give a number")
    })
}

pub(super) async fn windows(
    State(service): State<Service>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, Problem> {
    service.state.rule(&name)?;
    let (before, limit) = (number(&query, "before")?.unwrap_or(i64::MAX), number(&query, "limit")?.unwrap_or(PAGE.0).min(PAGE.1));
    Ok(json_of(&service.state.windows(&name, before, limit)?))
}

pub(super) async fn gaps(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Problem> {
    service.state.rule(&name)?;
    Ok(json_of(&service.state.gaps(&name)?))
}

pub(super) async fn log(
    State(service): State<Service>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, Problem> {
    service.state.rule(&name)?;
    let (after, limit) = (number(&query, "after")?, number(&query, "limit")?.unwrap_or(PAGE.0).min(PAGE.1));
    Ok(json_of(&service.state.log(&name, after, limit)?))
}
