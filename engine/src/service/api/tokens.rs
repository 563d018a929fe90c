//! Further tokens: made, listed, removed. Only whoever has the token of the state directory's file may: a further one gives no others away.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Service;
use super::extract::{Body, OfPath};
use super::problem::Problem;
use super::view::json_of;
use crate::error::{Code, Error, ErrorKind};
use crate::service::changes::By;
use crate::service::state::StoredToken;
use crate::service::tokens::Holder;

/// Only the token of the file may do that.
const FILE_TOKEN_WANTED: Code = Code(656);

/// A token without its text, which is kept nowhere.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct TokenView {
    /// Its name; what it changes stands in the audit by `api:NAME` or `console:NAME`.
    name: String,
    /// When it was made, ms since 1970.
    made_ms: i64,
}

impl From<StoredToken> for TokenView {
    fn from(token: StoredToken) -> Self {
        Self { name: token.name, made_ms: token.made_ms }
    }
}

/// A new token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// Its name.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,62}$")]
    name: String,
}

/// A token that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeToken {
    /// Its name.
    name: String,
    /// Its text, said this once.
    token: String,
}

/// Further tokens, by name
#[utoipa::path(get, path = "/tokens", tag = "tokens", responses((status = 200, description = "All of them, without their texts", body = [TokenView])))]
pub(super) async fn list(State(service): State<Service>) -> Result<Response, Problem> {
    let tokens = service.state.ask(crate::service::state::State::tokens).await?;
    Ok(json_of(&tokens.into_iter().map(TokenView::from).collect::<Vec<_>>()))
}

/// A further token, whose text is said once
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, description = "It can be shown", body = MadeToken)))]
pub(super) async fn create(State(service): State<Service>, holder: Holder, by: By, body: Body) -> Result<Response, Problem> {
    check(&holder)?;
    let NewToken { name } = body.into()?;
    let token = service.tokens.add(&service.state, &name, &by.who).await?;
    Ok((StatusCode::CREATED, json_of(&MadeToken { name, token })).into_response())
}

/// Forgets a further token, and ends its sessions
#[utoipa::path(delete, path = "/tokens/{name}", tag = "tokens", params(("name" = String, Path, description = "The token")),
    responses((status = 204, description = "It is refused from now on")))]
pub(super) async fn delete(
    State(service): State<Service>,
    holder: Holder,
    by: By,
    OfPath(name): OfPath<String>,
) -> Result<Response, Problem> {
    check(&holder)?;
    forget(&service, &name, &by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Forgets a further token, and ends its sessions.
pub(in crate::service) async fn forget(service: &Service, name: &str, by: &By) -> Result<(), Error> {
    service.tokens.remove(&service.state, name, &by.who).await?;
    service.sessions.keep(|of| service.tokens.holds(of));
    Ok(())
}

/// Whether whoever asks may make and remove tokens.
pub(in crate::service) fn check(holder: &Holder) -> Result<(), Problem> {
    match holder {
        Holder::File => Ok(()),
        Holder::Named(name, _) => Err(Error::new(FILE_TOKEN_WANTED, ErrorKind::Denied, "a further token makes and removes no others")
            .with("token", name)
            .help("show the token of the file `token` in the service's --state directory")
            .into()),
    }
}
