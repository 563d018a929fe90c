//! Workers: what they are told, and what they report.

use axum::extract::State;
use axum::response::Response;

use super::Service;
use super::extract::{Body, OfPath};
use super::problem::{Problem, malformed};
use super::view::json_of;
use crate::config::{NAME_PATTERN, is_name};
use crate::service::workers::{Contact, Delivered, Delivery, Orders, WorkerView};

/// The longest id of a worker.
const ID_MAX: usize = 64;

/// Workers that run rules of this service
#[utoipa::path(get, path = "/workers", tag = "workers", responses((status = 200, description = "All that are remembered, by name", body = [WorkerView])))]
pub(super) async fn list(State(service): State<Service>) -> Result<Response, Problem> {
    Ok(json_of(&service.supervisor.all_workers().await?))
}

/// What a worker is doing, and what it is to run
#[utoipa::path(put, path = "/workers/{name}", tag = "workers", request_body = Contact, params(("name" = String, Path, description = "The worker")),
    responses((status = 200, description = "What is to run, unless the worker has it", body = Orders)))]
pub(super) async fn meet(State(service): State<Service>, OfPath(name): OfPath<String>, body: Body) -> Result<Response, Problem> {
    let contact: Contact = body.into()?;
    if !is_name(&name) {
        return Err(malformed("the path", format_args!("{name:?} does not match {NAME_PATTERN}")).into());
    }
    if !(1..=ID_MAX).contains(&contact.id.len()) || !contact.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(malformed("id", format_args!("it has 1 to {ID_MAX} letters and digits")).into());
    }
    Ok(json_of(&service.supervisor.meet(&name, contact).await?))
}

/// What has happened at a worker; each report is written down once, however often it is sent
#[utoipa::path(post, path = "/workers/{name}/reports", tag = "workers", request_body = Delivery,
    params(("name" = String, Path, description = "The worker")),
    responses((status = 200, description = "How far they are written down", body = Delivered)))]
pub(super) async fn report(State(service): State<Service>, OfPath(name): OfPath<String>, body: Body) -> Result<Response, Problem> {
    let delivery: Delivery = body.into()?;
    Ok(json_of(&service.supervisor.take_reports(&name, delivery).await?))
}
