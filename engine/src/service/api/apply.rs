//! Sets of rules at once, as a repository of files gives them: what would change, and making it so.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Service;
use super::extract::Body;
use super::problem::Problem;
use super::rules::bodies;
use super::view::json_of;
use crate::service::changes::{Action, By, Change};

/// A set of rules.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    /// The body of each, by name.
    #[schema(value_type = std::collections::HashMap<String, super::openapi::RuleBody>)]
    rules: Map<String, Value>,
    /// Forget the rules that are not among them, but for those of files.
    #[serde(default)]
    prune: bool,
}

/// What applying a set of rules would change
#[utoipa::path(post, path = "/diff", tag = "rules", request_body = Rules,
    responses((status = 200, description = "Rule by rule; nothing is changed", body = [Change])))]
pub(super) async fn diff(State(service): State<Service>, by: By, body: Body) -> Result<Response, Problem> {
    let wanted: Rules = body.into()?;
    Ok(json_of(&service.supervisor.changes(&bodies(wanted.rules)?, wanted.prune, &by).await?))
}

/// Makes the rules what a set of them says
#[utoipa::path(post, path = "/apply", tag = "rules", request_body = Rules,
    responses((status = 200, description = "What was changed, rule by rule; if any is refused by its plan, none", body = [Change])))]
pub(super) async fn apply(State(service): State<Service>, by: By, body: Body) -> Result<Response, Problem> {
    let wanted: Rules = body.into()?;
    let made = service.supervisor.make_so(&bodies(wanted.rules)?, wanted.prune, &by).await?;
    for gone in made.iter().filter(|change| change.action == Action::Delete) {
        // Nobody can ask for its result any more.
        let _ = service.verifications.cancel(&gone.rule, &by.who).await;
    }
    Ok(json_of(&made))
}
