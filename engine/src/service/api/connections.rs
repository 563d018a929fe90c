//! Kafka connections and stores that rules name: those of the config file, and those that were created here.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Service;
use super::problem::{Problem, not_json};
use super::rules::{CALLER, json_of, now_ms};
use crate::config::Config;
use crate::service::definition::{self, Kind};
use crate::service::state::{StoredConnection, connection_exists};

pub(super) async fn sources(State(service): State<Service>) -> Result<Response, Problem> {
    list(&service, Kind::Kafka)
}

pub(super) async fn stores(State(service): State<Service>) -> Result<Response, Problem> {
    list(&service, Kind::Store)
}

pub(super) async fn create_source(State(service): State<Service>, body: Bytes) -> Result<Response, Problem> {
    create(&service, Kind::Kafka, &body)
}

pub(super) async fn create_store(State(service): State<Service>, body: Bytes) -> Result<Response, Problem> {
    create(&service, Kind::Store, &body)
}

fn list(service: &Service, kind: Kind) -> Result<Response, Problem> {
    let created = service.state.connections()?;
    let config = service.supervisor.config()?;
    let names: Vec<&String> = match kind {
        Kind::Kafka => config.kafka.keys().collect(),
        Kind::Store => config.stores.keys().collect(),
    };
    let shown = |name: &&String| match created.iter().find(|c| c.kind == kind.section() && c.name == **name) {
        Some(connection) => json!({ "name": name, "from": "api", "body": definition::masked(&connection.body) }),
        None => json!({ "name": name, "from": "file" }),
    };
    Ok(json_of(&names.iter().map(shown).collect::<Value>()))
}

fn create(service: &Service, kind: Kind, body: &[u8]) -> Result<Response, Problem> {
    let (name, body) = definition::split(serde_json::from_slice(body).map_err(not_json)?)?;
    let config = service.supervisor.config()?;
    let exists = match kind {
        Kind::Kafka => config.kafka.contains_key(&name),
        Kind::Store => config.stores.contains_key(&name),
    };
    if exists {
        return Err(Problem::from(connection_exists(&name)));
    }
    Config::parse(&definition::to_toml(kind.section(), &name, &body)?, "body")?;
    let connection = StoredConnection { kind: kind.section().to_owned(), name: name.clone(), body };
    service.state.put_connection(&connection, CALLER, now_ms())?;
    let shown = json!({ "name": name, "from": "api", "body": definition::masked(&connection.body) });
    Ok((StatusCode::CREATED, json_of(&shown)).into_response())
}
