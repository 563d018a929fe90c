//! An edit of a connection or a store that was created here: its settings as a form, which are tried or saved.
//!
//! Guarantees: a stored secret is not in the form and goes nowhere else: settings that lead elsewhere are neither tried nor saved with it. Whoever was
//! overtaken is told, and nothing is written over.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::Value;

use super::super::context::Page;
use super::super::elsewhere::{Elsewhere, deeds};
use super::super::forms::Fields;
use super::super::inputs::{Input, InputKind};
use super::super::refusal::{ProblemShown, Refusal, problems, shown};
use super::{Said, base, form, said_of_source, said_of_store};
use crate::error::Error;
use crate::service::api::{OfPath, Problem, Service, malformed};
use crate::service::changes::By;
use crate::service::definition::Kind;
use crate::service::inspection::Probed;
use crate::service::state::connection_unknown;

#[derive(Template)]
#[template(path = "console/connection.html")]
struct ConnectionPage {
    p: Page,
    base: &'static str,
    to_list: &'static str,
    test: &'static str,
    name: String,
    version: i64,
    notice: Option<String>,
    problems: Vec<ProblemShown>,
    probed: Option<Probed>,
    inputs: Vec<Input>,
    stored: Vec<Stored>,
    /// Secrets that cannot be typed here, by key, and the command that gives them anew.
    without_field: Vec<&'static str>,
    by_command: String,
    elsewhere: Elsewhere,
}

/// A secret that is stored.
struct Stored {
    field: &'static str,
    label: &'static str,
    /// Whether it is to be forgotten.
    forgotten: bool,
}

/// What is edited: its keys with secrets masked, and its version.
struct Standing {
    name: String,
    body: Value,
    version: i64,
}

/// One that was created here; what the config file has is changed there.
async fn standing(service: &Service, kind: Kind, name: String) -> Result<Standing, Error> {
    let found = service.supervisor.connection(kind, &name).await?;
    match found.body.zip(found.version) {
        Some((body, version)) => Ok(Standing { name, body, version }),
        None => Err(connection_unknown(kind.section(), &name)),
    }
}

fn page(p: Page, kind: Kind, standing: Standing, typed: &Fields, said: Said) -> Response {
    let t = &p.t.of_service;
    let is_source = kind == Kind::Kafka;
    let is_forgotten = |field: &str| typed.all(form::FORGET).any(|forgotten| forgotten == field);
    let stored = form::secrets_of(&p, kind, &standing.body).into_iter();
    shown(&ConnectionPage {
        base: base(kind),
        to_list: if is_source { t.to_sources } else { t.to_stores },
        test: if is_source { p.t.test_connection } else { p.t.probe_store },
        notice: said.notice,
        problems: problems(&said.errors),
        probed: said.probed,
        inputs: form::of_standing(&p, kind, typed),
        stored: stored.map(|(field, label)| Stored { field, label, forgotten: is_forgotten(field) }).collect(),
        without_field: form::secrets_without_field(&standing.body),
        by_command: deeds::edit_by_command(&p, kind, &standing.name),
        elsewhere: deeds::connection(&p, kind, &standing.name, standing.version, &standing.body),
        name: standing.name,
        version: standing.version,
        p,
    })
}

async fn ask(service: &Service, p: Page, kind: Kind, name: String) -> Result<Response, Refusal> {
    let standing = standing(service, kind, name).await?;
    let typed = form::typed_of(kind, &standing.body);
    Ok(page(p, kind, standing, &typed, Said::default()))
}

/// Saves what was typed, or tries it. The version is that of the form which was filled in.
async fn go(service: &Service, by: &By, p: Page, kind: Kind, name: String, fields: &Fields) -> Result<Response, Refusal> {
    let version = fields.text("version").parse::<i64>().map_err(|e| malformed("version", e))?;
    let standing = Standing { version, ..standing(service, kind, name).await? };
    if let Err(error) = form::check(fields) {
        return Ok(refused(p, kind, standing, fields, vec![error]));
    }
    let body = form::body(kind, Some(&standing.body), fields);
    if fields.text("go") == "test" {
        let said = tried(service, &p, kind, &standing.name, body).await;
        return Ok(page(p, kind, standing, fields, said));
    }
    match service.supervisor.edit_connection(kind, &standing.name, Some(version), body, &by.who).await {
        Ok(_) => Ok(Redirect::to(&format!("{}?done=edited", base(kind))).into_response()),
        Err(errors) => Ok(refused(p, kind, standing, fields, errors)),
    }
}

/// The form again, with what is wrong.
fn refused(p: Page, kind: Kind, standing: Standing, fields: &Fields, errors: Vec<Error>) -> Response {
    let status = Problem::from(errors.clone()).status;
    (status, page(p, kind, standing, fields, Said { errors, ..Said::default() })).into_response()
}

/// What comes of settings that are not saved.
async fn tried(service: &Service, p: &Page, kind: Kind, name: &str, body: Value) -> Said {
    let mut config = match service.supervisor.settings_of_edit(kind, name, body).await {
        Ok(config) => config,
        Err(errors) => return Said { errors, ..Said::default() },
    };
    match (config.kafka.remove(name), config.stores.remove(name)) {
        (Some(kafka), _) => said_of_source(service, p, &kafka).await,
        (None, Some(store)) => said_of_store(service, &store).await,
        (None, None) => Said { errors: vec![connection_unknown(kind.section(), name)], ..Said::default() },
    }
}

pub(in crate::service::console) async fn source(
    State(service): State<Service>,
    p: Page,
    OfPath(name): OfPath<String>,
) -> Result<Response, Refusal> {
    ask(&service, p, Kind::Kafka, name).await
}

pub(in crate::service::console) async fn store(
    State(service): State<Service>,
    p: Page,
    OfPath(name): OfPath<String>,
) -> Result<Response, Refusal> {
    ask(&service, p, Kind::Store, name).await
}

pub(in crate::service::console) async fn edit_source(
    State(service): State<Service>,
    by: By,
    p: Page,
    OfPath(name): OfPath<String>,
    fields: Fields,
) -> Result<Response, Refusal> {
    go(&service, &by, p, Kind::Kafka, name, &fields).await
}

pub(in crate::service::console) async fn edit_store(
    State(service): State<Service>,
    by: By,
    p: Page,
    OfPath(name): OfPath<String>,
    fields: Fields,
) -> Result<Response, Refusal> {
    go(&service, &by, p, Kind::Store, name, &fields).await
}
