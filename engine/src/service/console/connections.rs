//! Kafka connections and stores: listed, tried, created, forgotten.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::Page;
use super::elsewhere::{self, Elsewhere};
use super::forms::Fields;
use super::inputs::{Input, InputKind};
use super::refusal::{ProblemShown, Refusal, problems, shown};
use super::show;
use super::words;
use crate::config::{Mechanism, Preset, Words as _};
use crate::error::Error;
use crate::service::api::{OfPath, OfQuery, Service};
use crate::service::changes::By;
use crate::service::connections::Connection;
use crate::service::definition::Kind;
use crate::service::inspection::Probed;
use crate::service::state::{Origin, State as Kept};

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
    deletable: bool,
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
        deletable: one.origin == Origin::Api,
        name: one.name,
    };
    let t = p.t;
    let is_source = kind == Kind::Kafka;
    let (command, path) = if is_source { ("sources", "/sources") } else { ("stores", "/stores") };
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
        inputs: if is_source { source_inputs(&p, typed) } else { store_inputs(&p, typed) },
        elsewhere: elsewhere::of(&p, &[command], "GET", path, None),
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

/// A choice among the engine's own words, or none of them.
fn optional(id: &'static str, label: &'static str, none: &'static str, words: &'static [&'static str], typed: &Fields) -> Input {
    let options = words.iter().map(|word| ((*word).to_owned(), (*word).to_owned()));
    let options = std::iter::once((String::new(), none.to_owned())).chain(options).collect();
    Input { value: typed.text(id).to_owned(), ..Input::new(id, label, InputKind::Select(options)) }
}

fn source_inputs(p: &Page, typed: &Fields) -> Vec<Input> {
    let t = p.t;
    vec![
        Input::text("name", t.name, typed.text("name")).hint(t.name_hint).required(),
        Input::text("brokers", t.of_service.brokers, typed.text("brokers")).hint(t.of_service.brokers_hint).required(),
        optional("preset", t.of_service.preset, t.of_service.no_preset, Preset::WORDS, typed),
        Input::words(
            "tls",
            t.of_service.encryption,
            typed.text("tls"),
            &[("", t.of_service.no_tls), ("system", t.of_service.tls_system), ("ca", t.of_service.tls_ca)],
        ),
        Input::text("ca", t.of_service.ca_file, typed.text("ca")).hint(t.of_service.ca_hint),
        optional("mechanism", t.of_service.login, t.of_service.no_login, Mechanism::WORDS, typed),
        Input::text("username", t.of_service.username, typed.text("username")),
        Input::new("password", t.of_service.password, InputKind::Secret).hint(t.of_service.secret_hint),
        Input { kind: InputKind::Area, ..Input::text("properties", t.of_service.properties, &typed.lines("properties")) }
            .hint(t.of_service.properties_hint),
    ]
}

fn store_inputs(p: &Page, typed: &Fields) -> Vec<Input> {
    let t = p.t;
    vec![
        Input::text("name", t.name, typed.text("name")).hint(t.name_hint).required(),
        Input::text("url", t.address, typed.text("url")).hint(t.of_service.url_hint).required(),
        Input::text("access_key_id", t.of_service.access_key, typed.text("access_key_id")).hint(t.of_service.access_key_hint),
        Input::new("secret_access_key", t.of_service.secret_key, InputKind::Secret).hint(t.of_service.secret_hint),
        Input::new("session_token", t.of_service.session_token, InputKind::Secret).hint(t.of_service.secret_hint),
    ]
}

fn put(to: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        to.insert(key.to_owned(), text.into());
    }
}

/// The body that a form describes; what is left empty is left out.
fn source_body(fields: &Fields) -> Value {
    let brokers: Vec<&str> = fields.text("brokers").split([',', '\n']).map(str::trim).filter(|broker| !broker.is_empty()).collect();
    let mut body = Map::from_iter([("name".to_owned(), fields.text("name").into()), ("brokers".to_owned(), json!(brokers))]);
    put(&mut body, "preset", fields.text("preset"));
    match fields.text("tls") {
        "" => {}
        "ca" => drop(body.insert("tls".to_owned(), json!({ "ca": fields.text("ca") }))),
        _ => drop(body.insert("tls".to_owned(), json!({}))),
    }
    if !fields.text("mechanism").is_empty() {
        let mut sasl = Map::new();
        ["mechanism", "username", "password"].iter().for_each(|key| put(&mut sasl, key, fields.text(key)));
        body.insert("sasl".to_owned(), Value::Object(sasl));
    }
    let lines = fields.lines("properties");
    let properties: Map<String, Value> =
        lines.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim().to_owned(), value.trim().into())).collect();
    if !properties.is_empty() {
        body.insert("properties".to_owned(), Value::Object(properties));
    }
    Value::Object(body)
}

fn store_body(fields: &Fields) -> Value {
    let mut body = Map::new();
    ["name", "url", "access_key_id", "secret_access_key", "session_token"].iter().for_each(|key| put(&mut body, key, fields.text(key)));
    Value::Object(body)
}

async fn list(service: &Service, p: Page, kind: Kind, done: Done) -> Result<Response, Refusal> {
    let notice = match done.done.as_deref() {
        Some("created") => Some(p.t.of_service.done_connection_created.to_owned()),
        Some("deleted") => Some(p.t.of_service.done_connection_deleted.to_owned()),
        _ => None,
    };
    page(service, p, kind, &Fields::default(), Said { notice, ..Said::default() }).await
}

async fn create(service: &Service, by: &By, p: Page, kind: Kind, fields: &Fields) -> Result<Response, Refusal> {
    let body = if kind == Kind::Kafka { source_body(fields) } else { store_body(fields) };
    match service.supervisor.create_connection(kind, body, &by.who).await {
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

/// Tries a connection.
pub(super) async fn test(State(service): State<Service>, p: Page, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    let kafka = service.supervisor.kafka_named(&name).await?;
    let said = match service.inspector.reach(&kafka).await {
        Ok(reached) => {
            let numbers = [reached.cluster, show::count(reached.topics as i64), show::count(reached.took_ms as i64)];
            Said { notice: Some(p.t.fill(p.t.reached, &numbers.each_ref().map(String::as_str))), ..Said::default() }
        }
        Err(error) => Said { errors: vec![error], ..Said::default() },
    };
    page(&service, p, Kind::Kafka, &Fields::default(), said).await
}

/// Tries a store.
pub(super) async fn probe(State(service): State<Service>, p: Page, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    let store = service.supervisor.store_named(&name).await?;
    let said = match service.inspector.probe(&store, "").await {
        Ok(probed) => Said { probed: Some(probed), ..Said::default() },
        Err(error) => Said { errors: vec![error], ..Said::default() },
    };
    page(&service, p, Kind::Store, &Fields::default(), said).await
}
