//! Kafka connections and stores: listed, tried, created, forgotten; [edited](edit) on a page of their own.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;
use serde_json::Value;

use super::context::Page;
use super::elsewhere::{Elsewhere, deeds};
use super::forms::Fields;
use super::inputs::{Input, InputKind};
use super::refusal::{ProblemShown, Refusal, problems, shown};
use super::show;
use super::words;
use crate::config::{KafkaSettings, StoreSettings};
use crate::error::Error;
use crate::service::api::{OfPath, OfQuery, Service};
use crate::service::changes::By;
use crate::service::connections::Connection;
use crate::service::definition::Kind;
use crate::service::inspection::Probed;
use crate::service::state::{Origin, State as Kept};

pub(super) mod edit;
mod form;

#[derive(Template)]
#[template(path = "console/connections.html")]
struct ConnectionsPage {
    p: Page,
    base: &'static str,
    heading: &'static str,
    caption: &'static str,
    new_heading: &'static str,
    test: &'static str,
    notice: Option<String>,
    problems: Vec<ProblemShown>,
    probed: Option<Probed>,
    connections: Vec<Row>,
    inputs: Vec<Input>,
    elsewhere: Elsewhere,
}

struct Row {
    name: String,
    origin: &'static str,
    settings: Vec<(String, String)>,
    rules: Vec<String>,
    /// Whether it was created here, and can be edited and forgotten.
    own: bool,
}

/// What is said above the list.
#[derive(Default)]
struct Said {
    notice: Option<String>,
    errors: Vec<Error>,
    probed: Option<Probed>,
}

/// What was done on the page before.
#[derive(Debug, Deserialize)]
pub(super) struct Done {
    pub(super) done: Option<String>,
}

fn base(kind: Kind) -> &'static str {
    match kind {
        Kind::Kafka => "/console/sources",
        Kind::Store => "/console/stores",
    }
}

async fn page(service: &Service, p: Page, kind: Kind, typed: &Fields, said: Said) -> Result<Response, Refusal> {
    let connections = service.supervisor.connections(kind).await?;
    let rules = service.state.ask(Kept::rules).await?;
    let row = |one: Connection| Row {
        origin: words::origin(p.t, one.origin),
        settings: one.body.as_ref().map(|body| flat("", body)).unwrap_or_default(),
        rules: rules.iter().filter(|rule| kind.names_in(&rule.body).as_ref() == Some(&one.name)).map(|rule| rule.name.clone()).collect(),
        own: one.origin == Origin::Api,
        name: one.name,
    };
    let t = p.t;
    let is_source = kind == Kind::Kafka;
    let elsewhere = deeds::connections(&p, kind, connections.first().map(|one| one.name.as_str()));
    Ok(shown(&ConnectionsPage {
        base: base(kind),
        heading: if is_source { t.of_service.sources } else { t.of_service.stores },
        caption: if is_source { t.of_service.sources_caption } else { t.of_service.stores_caption },
        new_heading: if is_source { t.of_service.new_source } else { t.of_service.new_store },
        test: if is_source { t.test_connection } else { t.probe_store },
        notice: said.notice,
        problems: problems(&said.errors),
        probed: said.probed,
        connections: connections.into_iter().map(row).collect(),
        inputs: form::of_new(&p, kind, typed),
        elsewhere,
        p,
    }))
}

/// A body's keys; those in tables with the path to them.
fn flat(path: &str, value: &Value) -> Vec<(String, String)> {
    let Value::Object(fields) = value else {
        return vec![(path.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))];
    };
    let joined = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    fields.iter().flat_map(|(key, value)| flat(&joined(key), value)).collect()
}

async fn list(service: &Service, p: Page, kind: Kind, done: Done) -> Result<Response, Refusal> {
    let notice = match done.done.as_deref() {
        Some("created") => Some(p.t.of_service.done_connection_created.to_owned()),
        Some("edited") => Some(p.t.of_service.done_connection_edited.to_owned()),
        Some("deleted") => Some(p.t.of_service.done_connection_deleted.to_owned()),
        _ => None,
    };
    page(service, p, kind, &Fields::default(), Said { notice, ..Said::default() }).await
}

async fn create(service: &Service, by: &By, p: Page, kind: Kind, fields: &Fields) -> Result<Response, Refusal> {
    let mut body = form::body(kind, None, fields);
    body["name"] = fields.text("name").into();
    let made = match form::check(fields) {
        Ok(()) => service.supervisor.create_connection(kind, body, &by.who).await,
        Err(error) => Err(vec![error]),
    };
    match made {
        Ok(_) => Ok(Redirect::to(&format!("{}?done=created", base(kind))).into_response()),
        Err(errors) => page(service, p, kind, fields, Said { errors, ..Said::default() }).await,
    }
}

async fn delete(service: &Service, by: &By, p: Page, kind: Kind, name: String) -> Result<Response, Refusal> {
    match service.supervisor.delete_connection(kind, name, &by.who).await {
        Ok(()) => Ok(Redirect::to(&format!("{}?done=deleted", base(kind))).into_response()),
        Err(error) => page(service, p, kind, &Fields::default(), Said { errors: vec![error], ..Said::default() }).await,
    }
}

pub(super) async fn sources(State(service): State<Service>, p: Page, OfQuery(done): OfQuery<Done>) -> Result<Response, Refusal> {
    list(&service, p, Kind::Kafka, done).await
}

pub(super) async fn stores(State(service): State<Service>, p: Page, OfQuery(done): OfQuery<Done>) -> Result<Response, Refusal> {
    list(&service, p, Kind::Store, done).await
}

pub(super) async fn create_source(State(service): State<Service>, by: By, p: Page, fields: Fields) -> Result<Response, Refusal> {
    create(&service, &by, p, Kind::Kafka, &fields).await
}

pub(super) async fn create_store(State(service): State<Service>, by: By, p: Page, fields: Fields) -> Result<Response, Refusal> {
    create(&service, &by, p, Kind::Store, &fields).await
}

pub(super) async fn delete_source(
    State(service): State<Service>,
    by: By,
    p: Page,
    OfPath(name): OfPath<String>,
) -> Result<Response, Refusal> {
    delete(&service, &by, p, Kind::Kafka, name).await
}

pub(super) async fn delete_store(
    State(service): State<Service>,
    by: By,
    p: Page,
    OfPath(name): OfPath<String>,
) -> Result<Response, Refusal> {
    delete(&service, &by, p, Kind::Store, name).await
}

/// What a cluster says.
async fn said_of_source(service: &Service, p: &Page, kafka: &KafkaSettings) -> Said {
    match service.inspector.reach(kafka).await {
        Ok(reached) => {
            let numbers = [reached.cluster, show::count(reached.topics as i64), show::count(reached.took_ms as i64)];
            Said { notice: Some(p.t.fill(p.t.reached, &numbers.each_ref().map(String::as_str))), ..Said::default() }
        }
        Err(error) => Said { errors: vec![error], ..Said::default() },
    }
}

/// What a store permits.
async fn said_of_store(service: &Service, store: &StoreSettings) -> Said {
    match service.inspector.probe(store, "").await {
        Ok(probed) => Said { probed: Some(probed), ..Said::default() },
        Err(error) => Said { errors: vec![error], ..Said::default() },
    }
}

/// Tries a connection.
pub(super) async fn test(State(service): State<Service>, p: Page, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    let kafka = service.supervisor.kafka_named(&name).await?;
    let said = said_of_source(&service, &p, &kafka).await;
    page(&service, p, Kind::Kafka, &Fields::default(), said).await
}

/// Tries a store.
pub(super) async fn probe(State(service): State<Service>, p: Page, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    let store = service.supervisor.store_named(&name, "").await?;
    let said = said_of_store(&service, &store).await;
    page(&service, p, Kind::Store, &Fields::default(), said).await
}
