//! Logging in with a token, and out.

use askama::Template;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{ORIGIN, RETRY_AFTER, SET_COOKIE};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, http::HeaderMap};
use serde::Deserialize;

use super::context::{Page, own_path};
use super::forms::Fields;
use super::refusal::{Refusal, shown};
use super::session::{Session, clear_cookie, set_cookie};
use crate::error::{Error, ErrorKind, codes};
use crate::service::api::{OfQuery, Service, Shown, look_at};
use crate::service::web;

#[derive(Template)]
#[template(path = "console/login.html")]
struct LoginPage {
    p: Page,
    next: String,
    problem: Option<&'static str>,
}

/// Where to go afterwards.
#[derive(Debug, Deserialize)]
pub(super) struct Destination {
    next: Option<String>,
}

/// Asks for the token.
pub(super) async fn show(p: Page, OfQuery(to): OfQuery<Destination>) -> Response {
    let next = own_path(to.next.as_deref().unwrap_or_default());
    if p.logged_in { Redirect::to(&next).into_response() } else { shown(&LoginPage { p, next, problem: None }) }
}

/// Takes a token. Whoever has failed too often is not told whether it was wrong for a while; a right one that is known is always heard, since behind a
/// proxy everybody has one address.
pub(super) async fn enter(State(service): State<Service>, p: Page, fields: Fields, request: Request) -> Result<Response, Refusal> {
    let (next, address) = (own_path(fields.text("next")), web::address_of(&request));
    let holder = match look_at(&service, address, fields.text("token")).await {
        Shown::Right(holder) => holder,
        Shown::Unheard(_) => {
            let page = shown(&LoginPage { problem: Some(p.t.too_many_attempts), next, p });
            return Ok((StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "60")], page).into_response());
        }
        Shown::Wrong => {
            tracing::warn!(%address, "a login with a wrong token");
            let page = shown(&LoginPage { problem: Some(p.t.wrong_token), next, p });
            return Ok((StatusCode::FORBIDDEN, page).into_response());
        }
    };
    let session = service
        .sessions
        .begin(holder, service.tls || comes_over_tls(request.headers()))
        .map_err(|e| Error::new(codes::RUNTIME, ErrorKind::Retryable, "no session can be opened").because(e).help("try again"))?;
    let cookie = set_cookie(&session.id, session.over_tls);
    Ok(([(SET_COOKIE, cookie)], Redirect::to(&next)).into_response())
}

/// Whether the browser reached the console over TLS, also if a proxy has ended it: browsers say where a form comes from.
fn comes_over_tls(headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

/// Ends the session.
pub(super) async fn leave(State(service): State<Service>, Extension(session): Extension<Session>) -> Response {
    service.sessions.end(&session.id);
    ([(SET_COOKIE, clear_cookie())], Redirect::to("/console/login")).into_response()
}
