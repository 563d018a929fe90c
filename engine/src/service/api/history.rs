//! What became of a rule: versions, windows, gaps, log; who changed what; copies of the state.
#![expect(unused_qualifications, reason = "utoipa's macro writes them for parameters")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Service;
use super::extract::{Before, OfPath, OfQuery, limit};
use super::problem::{Problem, malformed};
use super::view::{VersionView, json_of};
use crate::error::Error;
use crate::metrics::CONTENT_TYPE as TEXT_TYPE;
use crate::service::changes::{By, now_ms};
use crate::service::metrics;
use crate::service::series::Point;
use crate::service::state::{Audited, Grave, LogLine, StoredGap, StoredWindow};

/// A rule's versions, oldest first
#[utoipa::path(get, path = "/rules/{name}/versions", tag = "history", params(("name" = String, Path, description = "The rule")),
    responses((status = 200, description = "All of them", body = [VersionView])))]
pub(super) async fn versions(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    let versions = service.state.ask(move |state| state.rule(&name).and_then(|_| state.versions(&name))).await?;
    Ok(json_of(&versions.into_iter().map(VersionView::from).collect::<Vec<_>>()))
}

/// A rule's windows, newest first
#[utoipa::path(get, path = "/rules/{name}/windows", tag = "history", params(("name" = String, Path, description = "The rule"), Before),
    responses((status = 200, description = "A page of them", body = [StoredWindow])))]
pub(super) async fn windows(
    State(service): State<Service>,
    OfPath(name): OfPath<String>,
    OfQuery(page): OfQuery<Before>,
) -> Result<Response, Problem> {
    let limit = page.limit()?;
    Ok(json_of(&service.state.ask(move |state| state.rule(&name).and_then(|_| state.windows(&name, page.number(), limit))).await?))
}

/// Ranges of a rule's topics that could not be stored, oldest first
#[utoipa::path(get, path = "/rules/{name}/gaps", tag = "history", params(("name" = String, Path, description = "The rule")),
    responses((status = 200, description = "All of them", body = [StoredGap])))]
pub(super) async fn gaps(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    Ok(json_of(&service.state.ask(move |state| state.rule(&name).and_then(|_| state.gaps(&name))).await?))
}

/// Which lines to list.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Lines {
    /// The first lines with a higher number.
    after: Option<i64>,
    /// The last lines with a lower number; without either the last ones.
    before: Option<i64>,
    /// How many, at most 1,000; 100 if it is left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Lines of a rule's log, oldest first
#[utoipa::path(get, path = "/rules/{name}/log", tag = "history", params(("name" = String, Path, description = "The rule"), Lines),
    responses((status = 200, description = "The last ones, or those behind or before a number", body = [LogLine])))]
pub(super) async fn log(
    State(service): State<Service>,
    OfPath(name): OfPath<String>,
    OfQuery(page): OfQuery<Lines>,
) -> Result<Response, Problem> {
    let limit = limit(page.limit)?;
    if page.after.is_some() && page.before.is_some() {
        return Err(Problem::from(malformed("the query string", "after and before exclude each other")));
    }
    let lines = service.state.ask(move |state| {
        state.rule(&name)?;
        match page.before {
            Some(before) => state.log_page(&name, before, Grave::Info, "", limit),
            None => state.log(&name, page.after, limit),
        }
    });
    Ok(json_of(&lines.await?))
}

/// How fast a rule has read and how far it was behind, over the last half hour, oldest first
#[utoipa::path(get, path = "/rules/{name}/series", tag = "history", params(("name" = String, Path, description = "The rule")),
    responses((status = 200, description = "A point every five seconds while it runs", body = [Point])))]
pub(in crate::service) async fn series(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    let asked = name.clone();
    service.state.ask(move |state| state.rule(&asked)).await?;
    Ok(json_of(&service.series.of(&name)))
}

/// Which changes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Changes {
    /// Only changes of this rule, which may be gone.
    rule: Option<String>,
    /// Only entries with a lower number: that of the last one of the page before.
    before: Option<i64>,
    /// How many, at most 1,000; 100 if it is left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Who changed what, newest first
#[utoipa::path(get, path = "/audit", tag = "history", params(Changes),
    responses((status = 200, description = "A page of changes", body = [Audited])))]
pub(super) async fn audit(State(service): State<Service>, OfQuery(page): OfQuery<Changes>) -> Result<Response, Problem> {
    let (limit, before) = (limit(page.limit)?, page.before.unwrap_or(i64::MAX));
    Ok(json_of(&service.state.ask(move |state| state.audited(page.rule.as_deref(), before, limit)).await?))
}

/// Where a copy is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Copied {
    /// The file, on the service's machine.
    file: String,
}

/// Copies the service's state into a file of its state directory
#[utoipa::path(post, path = "/state/copy", tag = "history", responses((status = 201, description = "Where it is", body = Copied)))]
pub(super) async fn copy(State(service): State<Service>, by: By) -> Result<Response, Problem> {
    let file = copy_state(&service, &by.who).await?;
    Ok((StatusCode::CREATED, json_of(&Copied { file: file.display().to_string() })).into_response())
}

/// What all rules count, for Prometheus.
pub(super) async fn metrics(State(service): State<Service>) -> Response {
    let text = metrics::page(&service.supervisor, now_ms());
    ([(CONTENT_TYPE, TEXT_TYPE)], text).into_response()
}

/// Copies the state, whoever asks for it.
///
/// # Errors
/// `C0601`.
pub(in crate::service) async fn copy_state(service: &Service, who: &str) -> Result<PathBuf, Error> {
    static LAST: AtomicI64 = AtomicI64::new(0);
    // Two at the same moment are two files.
    let now = now_ms();
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1))).unwrap_or_default();
    let (file, who) = (service.copies.join(format!("state-{}.db", now.max(last + 1))), who.to_owned());
    let to = file.clone();
    let copied =
        service.state.ask(move |state| state.copy_to(&to).and_then(|()| state.note(&who, "copy the state", None, to.to_str(), now_ms())));
    copied.await.map(|()| file)
}

/// Whether the service can answer: it can ask its state.
pub(super) async fn ready(State(service): State<Service>) -> Response {
    match service.state.ask(crate::service::state::State::answers).await {
        Ok(()) => "ok".into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}
