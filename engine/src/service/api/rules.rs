//! Rules: created, shown, edited, rolled back, cloned, paused, resumed, sealed, deleted, explained.
#![expect(unused_qualifications, reason = "utoipa's macro writes them for parameters")]

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::Service;
use super::extract::{Body, OfPath, OfQuery, limit, seen_version};
use super::openapi::{NewRule, RuleBody};
use super::problem::{Problem, malformed};
use super::view::{RuleView, answer, json_of, shown};
use crate::config::{Accept, is_name};
use crate::service::changes::{By, now_ms};
use crate::service::definition;
use crate::service::deletion::Deleted;
use crate::service::inspection::Explained;
use crate::service::state::{StoredRule, Wanted};

/// Which rules to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only rules whose names come behind this one: the last one of the page before.
    after: Option<String>,
    /// How many, at most 1,000; all of them if it is left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

impl Which {
    /// This page of all rules, which are sorted by name.
    fn of(&self, rules: Vec<StoredRule>) -> Result<Vec<StoredRule>, Problem> {
        let at_most = match self.limit {
            Some(given) => limit(Some(given))? as usize,
            None => rules.len(),
        };
        let behind = |rule: &StoredRule| self.after.as_ref().is_none_or(|after| rule.name > *after);
        Ok(rules.into_iter().filter(behind).take(at_most).collect())
    }
}

/// Rules and what they are doing
#[utoipa::path(get, path = "/rules", tag = "rules", params(Which),
    responses((status = 200, description = "All of them, or a page, by name", body = [RuleView])))]
pub(super) async fn list(State(service): State<Service>, OfQuery(which): OfQuery<Which>) -> Result<Response, Problem> {
    let running = service.supervisor.statuses();
    let rules = which.of(service.state.ask(crate::service::state::State::rules).await?)?;
    Ok(json_of(
        &rules
            .into_iter()
            .map(|rule| {
                let status = running.get(&rule.name);
                shown(rule, status)
            })
            .collect::<Vec<_>>(),
    ))
}

/// A new rule
#[utoipa::path(post, path = "/rules", tag = "rules", request_body = NewRule,
    responses((status = 201, description = "It is created, and starts", body = RuleView)))]
pub(super) async fn create(State(service): State<Service>, by: By, body: Body) -> Result<Response, Problem> {
    let (name, body) = definition::split(body.0)?;
    let rule = service.supervisor.create(&name, &body, &by).await?;
    Ok(([(LOCATION, format!("/api/v1/rules/{name}"))], answer(&service, StatusCode::CREATED, rule)).into_response())
}

/// One rule
#[utoipa::path(get, path = "/rules/{name}", tag = "rules", params(("name" = String, Path, description = "The rule")),
    responses((status = 200, description = "It, with its version as ETag", body = RuleView)))]
pub(super) async fn show(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    let rule = service.state.ask(move |state| state.rule(&name)).await?;
    Ok(answer(&service, StatusCode::OK, rule))
}

/// A new version of a rule, from a window boundary on
#[utoipa::path(put, path = "/rules/{name}", tag = "rules", request_body = RuleBody,
    params(("name" = String, Path, description = "The rule"), ("If-Match" = Option<String>, Header, description = "The ETag that was seen; 412 if it is not current")),
    responses((status = 200, description = "The new version", body = RuleView)))]
pub(super) async fn edit(
    State(service): State<Service>,
    by: By,
    OfPath(name): OfPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = definition::body_of(&name, body.0)?;
    let rule = service.supervisor.edit(&name, seen_version(&headers), &body, &by).await?;
    Ok(answer(&service, StatusCode::OK, rule))
}

/// Forgets a rule, its consumer group, its old unfinished uploads and its claims on directories; its objects stay
#[utoipa::path(delete, path = "/rules/{name}", tag = "rules", params(("name" = String, Path, description = "The rule")),
    responses((status = 200, description = "It has ended, and is forgotten: what goes, what stays, what could not be given up", body = Deleted)))]
pub(super) async fn delete(State(service): State<Service>, by: By, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    let deleted = service.supervisor.remove(&name, by.origin, &by.who, now_ms()).await?;
    // Nobody can ask for its result any more.
    let _ = service.verifications.cancel(&name, &by.who).await;
    Ok(json_of(&deleted))
}

/// Ends a rule, with its windows closed, until it is resumed
#[utoipa::path(post, path = "/rules/{name}/pause", tag = "rules", params(("name" = String, Path, description = "The rule")),
    responses((status = 202, description = "It is paused, also over restarts", body = RuleView)))]
pub(super) async fn pause(State(service): State<Service>, by: By, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    let rule = service.supervisor.want(&name, Wanted::Paused, Vec::new(), &by).await?;
    Ok(answer(&service, StatusCode::ACCEPTED, rule))
}

/// Answers to the questions of stopped lanes.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Answers {
    /// `foreign-commit`, `topic-recreated`, `destination`, `truncation`.
    accept: Vec<String>,
}

/// Runs a rule that is paused or has failed, or answers its stopped lanes
#[utoipa::path(post, path = "/rules/{name}/resume", tag = "rules", request_body = Option<Answers>,
    params(("name" = String, Path, description = "The rule")), responses((status = 202, description = "It starts", body = RuleView)))]
pub(super) async fn resume(State(service): State<Service>, by: By, OfPath(name): OfPath<String>, body: Body) -> Result<Response, Problem> {
    let answers: Answers = body.into()?;
    let accept = answers.accept.iter().map(|word| word.parse::<Accept>()).collect::<Result<Vec<_>, _>>();
    let accept = accept.map_err(|e| Problem::from(malformed("accept", e)))?;
    let rule = service.supervisor.want(&name, Wanted::Running, accept, &by).await?;
    Ok(answer(&service, StatusCode::ACCEPTED, rule))
}

/// Closes the open windows now
#[utoipa::path(post, path = "/rules/{name}/seal", tag = "rules", params(("name" = String, Path, description = "The rule")),
    responses((status = 202, description = "They are closed, and new ones open behind them", body = RuleView)))]
pub(super) async fn seal(State(service): State<Service>, by: By, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    let rule = service.supervisor.seal(&name, &by).await?;
    Ok(answer(&service, StatusCode::ACCEPTED, rule))
}

/// Which version to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Earlier {
    /// The number of an earlier version.
    version: i64,
}

/// Makes an earlier version the current one again, as a new version
#[utoipa::path(post, path = "/rules/{name}/rollback", tag = "rules", request_body = Earlier,
    params(("name" = String, Path, description = "The rule")), responses((status = 200, description = "The new version", body = RuleView)))]
pub(super) async fn roll_back(
    State(service): State<Service>,
    by: By,
    OfPath(name): OfPath<String>,
    body: Body,
) -> Result<Response, Problem> {
    let earlier: Earlier = body.into()?;
    let rule = service.supervisor.roll_back(&name, earlier.version, &by).await?;
    Ok(answer(&service, StatusCode::OK, rule))
}

/// A copy of a rule under another name, with the keys of the body given anew
#[utoipa::path(post, path = "/rules/{name}/clone", tag = "rules", request_body = NewRule,
    params(("name" = String, Path, description = "The rule to copy")),
    responses((status = 201, description = "It is created, and starts", body = RuleView)))]
pub(super) async fn clone_rule(
    State(service): State<Service>,
    by: By,
    OfPath(name): OfPath<String>,
    body: Body,
) -> Result<Response, Problem> {
    let (new, over) = definition::split(body.0)?;
    let over = serde_json::from_str(&over).unwrap_or_default();
    let rule = service.supervisor.clone_rule(&name, &new, over, &by).await?;
    Ok(answer(&service, StatusCode::CREATED, rule))
}

/// What a rule does: its settings in effect, its topics, what its objects are called
#[utoipa::path(get, path = "/rules/{name}/explain", tag = "rules", params(("name" = String, Path, description = "The rule")),
    responses((status = 200, description = "As of now", body = Explained)))]
pub(super) async fn explain(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    let plan = service.supervisor.plan_of_rule(&name).await?;
    Ok(json_of(&service.inspector.explain(&plan).await?))
}

/// What a rule would do that is not created yet
#[utoipa::path(post, path = "/preview", tag = "rules", request_body = NewRule,
    responses((status = 200, description = "As of now; nothing is created", body = Explained)))]
pub(super) async fn preview(State(service): State<Service>, body: Body) -> Result<Response, Problem> {
    let (name, body) = definition::split(body.0)?;
    let body = definition::resolved(&service.supervisor.config().await?, &body)?;
    let plan = service.supervisor.plan(&name, &body, Vec::new()).await?;
    Ok(json_of(&service.inspector.explain(&plan).await?))
}

/// Rules by name, as a body gives them.
pub(super) fn bodies(rules: Map<String, Value>) -> Result<std::collections::BTreeMap<String, String>, Problem> {
    rules
        .into_iter()
        .map(|(name, body)| match is_name(&name) {
            true => Ok((name.clone(), definition::body_of(&name, body)?)),
            false => Err(Problem::from(malformed("rules", format_args!("{name:?} cannot be a name")))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::state::Origin;

    #[test]
    fn every_rule_is_on_one_page() {
        let rule = |name: &str| StoredRule {
            name: name.to_owned(),
            version: 1,
            wanted: Wanted::Running,
            origin: Origin::Api,
            created_ms: 1,
            body: "{}".to_owned(),
        };
        let rules: Vec<StoredRule> = ["a", "b", "c"].map(rule).into();
        let page = |after: Option<&str>, limit| {
            let which = Which { after: after.map(str::to_owned), limit };
            which.of(rules.clone()).map(|rules| rules.into_iter().map(|rule| rule.name).collect::<Vec<_>>())
        };
        assert_eq!(page(None, None).unwrap(), ["a", "b", "c"]);
        assert_eq!(page(None, Some(2)).unwrap(), ["a", "b"]);
        assert_eq!(page(Some("b"), Some(2)).unwrap(), ["c"]);
        assert!(page(None, Some(0)).is_err() && page(None, Some(1_001)).is_err());
    }
}
