//! Kafka connections and stores that rules name: those of the config file, and those that were created here.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Service;
use super::extract::{Body, OfPath};
use super::openapi::{NewSource, NewStore};
use super::problem::{CONNECTION_IN_USE, Problem};
use super::view::json_of;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::service::changes::now_ms;
use crate::service::definition::{self, Kind};
use crate::service::state::{Origin, State as Kept, StoredConnection, connection_exists};

/// A connection or a store as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connection)]
pub(super) struct ConnectionView {
    /// Its name.
    name: String,
    /// Where it is defined.
    origin: Origin,
    /// Its keys with secrets masked; null for one of the config file.
    body: Option<Value>,
}

/// Kafka connections that rules may name
#[utoipa::path(get, path = "/sources", tag = "connections", responses((status = 200, description = "All of them", body = [ConnectionView])))]
pub(super) async fn sources(State(service): State<Service>) -> Result<Response, Problem> {
    list(&service, Kind::Kafka).await
}

/// Stores that rules may name
#[utoipa::path(get, path = "/stores", tag = "connections", responses((status = 200, description = "All of them", body = [ConnectionView])))]
pub(super) async fn stores(State(service): State<Service>) -> Result<Response, Problem> {
    list(&service, Kind::Store).await
}

/// A new Kafka connection; none is written over
#[utoipa::path(post, path = "/sources", tag = "connections", request_body = NewSource,
    responses((status = 201, description = "It can be named", body = ConnectionView)))]
pub(super) async fn create_source(State(service): State<Service>, body: Body) -> Result<Response, Problem> {
    create(&service, Kind::Kafka, body.0).await
}

/// A new store; none is written over
#[utoipa::path(post, path = "/stores", tag = "connections", request_body = NewStore,
    responses((status = 201, description = "It can be named", body = ConnectionView)))]
pub(super) async fn create_store(State(service): State<Service>, body: Body) -> Result<Response, Problem> {
    create(&service, Kind::Store, body.0).await
}

/// Forgets a Kafka connection that no rule names
#[utoipa::path(delete, path = "/sources/{name}", tag = "connections", params(("name" = String, Path, description = "The connection")),
    responses((status = 204, description = "It is forgotten")))]
pub(super) async fn delete_source(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    delete(&service, Kind::Kafka, name).await
}

/// Forgets a store that no rule names
#[utoipa::path(delete, path = "/stores/{name}", tag = "connections", params(("name" = String, Path, description = "The store")),
    responses((status = 204, description = "It is forgotten")))]
pub(super) async fn delete_store(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    delete(&service, Kind::Store, name).await
}

async fn list(service: &Service, kind: Kind) -> Result<Response, Problem> {
    let base = service.supervisor.base();
    let created = service.state.ask(Kept::connections).await?;
    let names: Vec<&String> = match kind {
        Kind::Kafka => base.kafka.keys().collect(),
        Kind::Store => base.stores.keys().collect(),
    };
    let view = |name: &String| ConnectionView { name: name.clone(), origin: Origin::File, body: None };
    let of_file: Vec<ConnectionView> = names.into_iter().map(view).collect();
    let is_of_file = |name: &String| of_file.iter().any(|known| known.name == *name);
    let created: Vec<ConnectionView> =
        created.iter().filter(|connection| connection.kind == kind.section() && !is_of_file(&connection.name)).map(shown).collect();
    Ok(json_of(&of_file.iter().chain(&created).collect::<Vec<_>>()))
}

fn shown(connection: &StoredConnection) -> ConnectionView {
    ConnectionView { name: connection.name.clone(), origin: Origin::Api, body: Some(definition::masked(&connection.body)) }
}

async fn create(service: &Service, kind: Kind, body: Value) -> Result<Response, Problem> {
    let (name, body) = definition::split(body)?;
    let config = service.supervisor.config().await?;
    let exists = match kind {
        Kind::Kafka => config.kafka.contains_key(&name),
        Kind::Store => config.stores.contains_key(&name),
    };
    if exists {
        return Err(Problem::from(connection_exists(&name)));
    }
    Config::parse(&definition::to_toml(kind.section(), &name, &body)?, "body")?;
    let connection = StoredConnection { kind: kind.section().to_owned(), name, body };
    let (kept, who) = (connection.clone(), service.by().who);
    service.state.ask(move |state| state.put_connection(&kept, &who, now_ms())).await?;
    Ok((StatusCode::CREATED, json_of(&shown(&connection))).into_response())
}

async fn delete(service: &Service, kind: Kind, name: String) -> Result<Response, Problem> {
    if let Some(rule) = service.state.ask(Kept::rules).await?.into_iter().find(|rule| kind.names_in(&rule.body) == Some(name.clone())) {
        return Err(Problem::from(
            Error::new(CONNECTION_IN_USE, ErrorKind::Invalid, "a rule names it")
                .with("name", &name)
                .with("rule", &rule.name)
                .help("edit that rule first"),
        ));
    }
    let who = service.by().who;
    service.state.ask(move |state| state.delete_connection(kind.section(), &name, &who, now_ms())).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
