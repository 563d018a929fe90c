//! Verification of a rule: begun by a call, which does not wait for it, and ended by another one.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Service;
use super::extract::{Body, OfPath};
use super::problem::Problem;
use super::view::{VerificationView, json_of};
use crate::error::codes;
use crate::error::{Error, ErrorKind};
use crate::service::changes::By;

/// How much to verify.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Extent {
    /// Compare every record with Kafka, too.
    compare: bool,
}

/// Begins to read everything again that a rule has written
#[utoipa::path(post, path = "/rules/{name}/verify", tag = "rules", request_body = Option<Extent>,
    params(("name" = String, Path, description = "The rule")),
    responses((status = 202, description = "It has begun, or waits for another one to end", body = VerificationView)))]
pub(super) async fn begin(State(service): State<Service>, OfPath(name): OfPath<String>, body: Body) -> Result<Response, Problem> {
    let extent: Extent = body.into()?;
    let plan = service.supervisor.plan_of_rule(&name).await?;
    let begun = service.verifications.begin(plan, extent.compare).await?;
    Ok((StatusCode::ACCEPTED, json_of(&VerificationView::from(begun))).into_response())
}

/// Ends the verification of a rule that waits or runs
#[utoipa::path(delete, path = "/rules/{name}/verify", tag = "rules", params(("name" = String, Path, description = "The rule")),
    responses((status = 200, description = "It has ended, unfinished", body = VerificationView)))]
pub(super) async fn cancel(State(service): State<Service>, by: By, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    Ok(json_of(&VerificationView::from(service.verifications.cancel(&name, &by.who).await?)))
}

/// The last verification of a rule
#[utoipa::path(get, path = "/rules/{name}/verify", tag = "rules", params(("name" = String, Path, description = "The rule")),
    responses((status = 200, description = "How far it is, and what it found", body = VerificationView)))]
pub(super) async fn show(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    let asked = name.clone();
    let found = service.state.ask(move |state| state.rule(&asked).and_then(|_| state.verification(&asked))).await?;
    let found = found.ok_or_else(|| {
        Error::new(codes::NOTHING_THERE, ErrorKind::NotFound, "the rule was not verified yet")
            .with("rule", &name)
            .help("`catchment rule verify` begins it")
    })?;
    Ok(json_of(&VerificationView::from(found)))
}
