//! Kafka connections and stores that rules name: those of the config file, and those that were created here.

use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Service;
use super::extract::{Body, OfPath, seen_version};
use super::openapi::{NewSource, NewStore, SourceBody, StoreBody};
use super::problem::Problem;
use super::view::json_of;
use crate::service::changes::By;
use crate::service::connections::Connection;
use crate::service::definition::Kind;

/// Kafka connections that rules may name
#[utoipa::path(get, path = "/sources", tag = "connections", responses((status = 200, description = "All of them", body = [Connection])))]
pub(super) async fn sources(State(service): State<Service>) -> Result<Response, Problem> {
    Ok(json_of(&service.supervisor.connections(Kind::Kafka).await?))
}

/// Stores that rules may name
#[utoipa::path(get, path = "/stores", tag = "connections", responses((status = 200, description = "All of them", body = [Connection])))]
pub(super) async fn stores(State(service): State<Service>) -> Result<Response, Problem> {
    Ok(json_of(&service.supervisor.connections(Kind::Store).await?))
}

/// One Kafka connection
#[utoipa::path(get, path = "/sources/{name}", tag = "connections", params(("name" = String, Path, description = "The connection")),
    responses((status = 200, description = "It, with its version as ETag", body = Connection)))]
pub(super) async fn source(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    Ok(answer(StatusCode::OK, &service.supervisor.connection(Kind::Kafka, &name).await?))
}

/// One store
#[utoipa::path(get, path = "/stores/{name}", tag = "connections", params(("name" = String, Path, description = "The store")),
    responses((status = 200, description = "It, with its version as ETag", body = Connection)))]
pub(super) async fn store(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    Ok(answer(StatusCode::OK, &service.supervisor.connection(Kind::Store, &name).await?))
}

/// A new Kafka connection; none is written over
#[utoipa::path(post, path = "/sources", tag = "connections", request_body = NewSource,
    responses((status = 201, description = "It can be named", body = Connection)))]
pub(super) async fn create_source(State(service): State<Service>, by: By, body: Body) -> Result<Response, Problem> {
    create(&service, &by, Kind::Kafka, body).await
}

/// A new store; none is written over
#[utoipa::path(post, path = "/stores", tag = "connections", request_body = NewStore,
    responses((status = 201, description = "It can be named", body = Connection)))]
pub(super) async fn create_store(State(service): State<Service>, by: By, body: Body) -> Result<Response, Problem> {
    create(&service, &by, Kind::Store, body).await
}

/// Gives a Kafka connection other settings; brokers only while no rule names it
#[utoipa::path(put, path = "/sources/{name}", tag = "connections", request_body = SourceBody,
    params(("name" = String, Path, description = "The connection"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was seen; 412 if it is not current")),
    responses((status = 200, description = "Rules that start from now on use them", body = Connection)))]
pub(super) async fn edit_source(
    State(service): State<Service>,
    by: By,
    OfPath(name): OfPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    edit(&service, &by, Kind::Kafka, &name, &headers, body).await
}

/// Gives a store other settings; its address only while no rule names it
#[utoipa::path(put, path = "/stores/{name}", tag = "connections", request_body = StoreBody,
    params(("name" = String, Path, description = "The store"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was seen; 412 if it is not current")),
    responses((status = 200, description = "Rules that start from now on use them", body = Connection)))]
pub(super) async fn edit_store(
    State(service): State<Service>,
    by: By,
    OfPath(name): OfPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    edit(&service, &by, Kind::Store, &name, &headers, body).await
}

/// Forgets a Kafka connection that no rule names
#[utoipa::path(delete, path = "/sources/{name}", tag = "connections", params(("name" = String, Path, description = "The connection")),
    responses((status = 204, description = "It is forgotten")))]
pub(super) async fn delete_source(State(service): State<Service>, by: By, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    delete(&service, &by, Kind::Kafka, name).await
}

/// Forgets a store that no rule names
#[utoipa::path(delete, path = "/stores/{name}", tag = "connections", params(("name" = String, Path, description = "The store")),
    responses((status = 204, description = "It is forgotten")))]
pub(super) async fn delete_store(State(service): State<Service>, by: By, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    delete(&service, &by, Kind::Store, name).await
}

async fn create(service: &Service, by: &By, kind: Kind, body: Body) -> Result<Response, Problem> {
    let made = service.supervisor.create_connection(kind, body.0, &by.who).await?;
    Ok(answer(StatusCode::CREATED, &made))
}

async fn edit(service: &Service, by: &By, kind: Kind, name: &str, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let edited = service.supervisor.edit_connection(kind, name, seen_version(headers), body.0, &by.who).await?;
    Ok(answer(StatusCode::OK, &edited))
}

/// A connection with its version as the tag; one of the config file has none.
fn answer(status: StatusCode, connection: &Connection) -> Response {
    let body = json_of(connection);
    match connection.version {
        Some(version) => (status, [(ETAG, format!("\"{version}\""))], body).into_response(),
        None => (status, body).into_response(),
    }
}

async fn delete(service: &Service, by: &By, kind: Kind, name: String) -> Result<Response, Problem> {
    service.supervisor.delete_connection(kind, name, &by.who).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
