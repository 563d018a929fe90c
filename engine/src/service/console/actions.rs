//! Changes of a rule by a button: each goes through [`changes`](crate::service::changes) as a call of the API does, and shows the rule again.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::json;

use super::catalogue::Texts;
use super::context::Page;
use super::elsewhere::{Elsewhere, deeds};
use super::forms::Fields;
use super::refusal::{ProblemShown, Refusal, problems, shown};
use super::rules::Summary;
use crate::config::{Accept, is_name};
use crate::error::Error;
use crate::service::api::{OfPath, Service, malformed};
use crate::service::changes::{By, now_ms};
use crate::service::state::Wanted;

/// What was done, said once on the page after it.
pub(super) fn notice(t: &Texts, done: Option<&str>) -> Option<&'static str> {
    match done? {
        "created" => Some(t.done_created),
        "edited" => Some(t.done_edited),
        "paused" => Some(t.done_paused),
        "resumed" => Some(t.done_resumed),
        "sealed" => Some(t.done_sealed),
        "verifying" => Some(t.done_verifying),
        "verification-cancelled" => Some(t.done_verification_cancelled),
        "rolled-back" => Some(t.done_rolled_back),
        "deleted" => Some(t.done_deleted),
        "deleted-in-part" => Some(t.done_deleted_in_part),
        "copied" => Some(t.done_copied),
        _ => None,
    }
}

pub(super) fn to_rule(name: &str, done: &str) -> Response {
    Redirect::to(&format!("/console/rules/{name}?done={done}")).into_response()
}

/// Ends a rule until it is resumed.
pub(super) async fn pause(State(service): State<Service>, by: By, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    service.supervisor.want(&name, Wanted::Paused, Vec::new(), &by).await?;
    Ok(to_rule(&name, "paused"))
}

/// Runs a rule, with answers to what its lanes have asked.
pub(super) async fn resume(
    State(service): State<Service>,
    by: By,
    OfPath(name): OfPath<String>,
    fields: Fields,
) -> Result<Response, Refusal> {
    let accept = fields.all("accept").map(str::parse::<Accept>).collect::<Result<Vec<_>, _>>().map_err(|e| malformed("accept", e))?;
    service.supervisor.want(&name, Wanted::Running, accept, &by).await?;
    Ok(to_rule(&name, "resumed"))
}

/// Closes the open windows now.
pub(super) async fn seal(State(service): State<Service>, by: By, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    service.supervisor.seal(&name, &by).await?;
    Ok(to_rule(&name, "sealed"))
}

/// Begins to read again what is stored.
pub(super) async fn verify(State(service): State<Service>, OfPath(name): OfPath<String>, fields: Fields) -> Result<Response, Refusal> {
    let plan = service.supervisor.plan_of_rule(&name).await?;
    service.verifications.begin(plan, fields.has("compare")).await?;
    Ok(to_rule(&name, "verifying"))
}

/// Ends a verification that waits or runs.
pub(super) async fn cancel_verification(State(service): State<Service>, by: By, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    service.verifications.cancel(&name, &by.who).await?;
    Ok(to_rule(&name, "verification-cancelled"))
}

/// Makes an earlier version the current one again.
pub(super) async fn roll_back(
    State(service): State<Service>,
    by: By,
    OfPath(name): OfPath<String>,
    fields: Fields,
) -> Result<Response, Refusal> {
    let version = fields.text("version").parse().map_err(|e| malformed("version", e))?;
    service.supervisor.roll_back(&name, version, &by).await?;
    Ok(to_rule(&name, "rolled-back"))
}

#[derive(Template)]
#[template(path = "console/delete.html")]
struct DeletePage {
    p: Page,
    name: String,
    tab: &'static str,
    store: String,
    prefix: String,
    group: String,
    mistyped: bool,
    problems: Vec<ProblemShown>,
    elsewhere: Elsewhere,
}

async fn delete_page(service: &Service, p: Page, name: String, mistyped: bool, errors: &[Error]) -> Result<Response, Refusal> {
    let asked = name.clone();
    let rule = service.state.ask(move |state| state.rule(&asked)).await?;
    let summary = Summary::of(&rule.body);
    let group = service.supervisor.plan_of_rule(&name).await.map_or_else(|_| format!("catchment-{name}"), |plan| plan.group);
    Ok(shown(&DeletePage {
        tab: "delete",
        store: summary.store,
        prefix: summary.prefix,
        group,
        mistyped,
        problems: problems(errors),
        elsewhere: deeds::delete(&p, &name),
        name,
        p,
    }))
}

/// Says what a deletion does, and asks for the name.
pub(super) async fn ask_delete(State(service): State<Service>, p: Page, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    delete_page(&service, p, name, false, &[]).await
}

/// Forgets a rule whose name was typed.
pub(super) async fn delete(
    State(service): State<Service>,
    by: By,
    p: Page,
    OfPath(name): OfPath<String>,
    fields: Fields,
) -> Result<Response, Refusal> {
    if fields.text("confirm") != name {
        return delete_page(&service, p, name, true, &[]).await;
    }
    match service.supervisor.remove(&name, by.origin, &by.who, now_ms()).await {
        Ok(deleted) => {
            // Nobody can ask for its result any more.
            let _ = service.verifications.cancel(&name, &by.who).await;
            let done = if deleted.left_behind.is_empty() { "deleted" } else { "deleted-in-part" };
            Ok(Redirect::to(&format!("/console?done={done}")).into_response())
        }
        Err(error) => delete_page(&service, p, name, false, &[error]).await,
    }
}

#[derive(Template)]
#[template(path = "console/clone.html")]
struct ClonePage {
    p: Page,
    name: String,
    tab: &'static str,
    new: String,
    prefix: String,
    problems: Vec<ProblemShown>,
    elsewhere: Elsewhere,
}

fn clone_page(p: Page, name: String, new: String, prefix: String, errors: &[Error]) -> Response {
    let elsewhere = deeds::clone(&p, &name, &new, &prefix);
    shown(&ClonePage { tab: "clone", new, prefix, problems: problems(errors), elsewhere, name, p })
}

/// Asks for the name of a copy, and for where it writes: two rules never write a topic into one directory.
pub(super) async fn ask_clone(State(service): State<Service>, p: Page, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    let asked = name.clone();
    service.state.ask(move |state| state.rule(&asked)).await?;
    let new = format!("{name}-2");
    let prefix = format!("{new}/");
    Ok(clone_page(p, name, new, prefix, &[]))
}

/// Copies a rule.
pub(super) async fn clone(
    State(service): State<Service>,
    by: By,
    p: Page,
    OfPath(name): OfPath<String>,
    fields: Fields,
) -> Result<Response, Refusal> {
    let (new, prefix) = (fields.text("new").to_owned(), fields.text("prefix").to_owned());
    let over = json!({ "to": { "prefix": prefix } });
    let made = match is_name(&new) {
        true => service.supervisor.clone_rule(&name, &new, over, &by).await.map(drop),
        false => Err(vec![malformed("the name", format_args!("{new:?}"))]),
    };
    match made {
        Ok(()) => Ok(to_rule(&new, "created")),
        Err(errors) => Ok(clone_page(p, name, new, prefix, &errors)),
    }
}
