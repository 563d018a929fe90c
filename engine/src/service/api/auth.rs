//! The token that every call must show: `Authorization: Bearer TOKEN`.

use std::net::IpAddr;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Service;
use super::problem::Problem;
use crate::error::{Code, Error, ErrorKind};
use crate::service::changes::By;
use crate::service::tokens::{Holder, Verdict};
use crate::service::web;

/// A call without the token.
pub(super) const TOKEN_WANTED: Code = Code(606);

/// What a token that was shown is worth.
pub(in crate::service) enum Shown {
    Right(Holder),
    Wrong,
    /// Not looked at: why.
    Unheard(Error),
}

/// Looks at a token that somebody at `address` shows. One that is known is always heard: nobody can lock out who has it. What is not is counted before it is
/// looked at, since many may come at once.
pub(in crate::service) async fn look_at(service: &Service, address: IpAddr, text: &str) -> Shown {
    if let Some(holder) = service.tokens.known(text) {
        return Shown::Right(holder);
    }
    if service.attempts.are_spent(address) {
        return Shown::Unheard(web::too_many());
    }
    service.attempts.failed_again(address);
    match service.tokens.verdict(text).await {
        Verdict::Right(holder) => {
            service.attempts.one_was_none(address);
            Shown::Right(holder)
        }
        Verdict::Wrong => Shown::Wrong,
        Verdict::Busy => Shown::Unheard(web::too_many_at_once()),
    }
}

/// Lets a call through that shows a token, and says whose it is.
pub(super) async fn check(State(service): State<Service>, mut request: Request, next: Next) -> Response {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    let address = web::address_of(&request);
    let looked_at = match shown {
        Some(text) => look_at(&service, address, text).await,
        None if service.attempts.are_spent(address) => Shown::Unheard(web::too_many()),
        None => Shown::Wrong,
    };
    match looked_at {
        Shown::Right(holder) => {
            request.extensions_mut().insert(holder.by_api());
            request.extensions_mut().insert(holder);
            next.run(request).await
        }
        Shown::Unheard(error) => ([(RETRY_AFTER, "60")], Problem::from(error)).into_response(),
        Shown::Wrong => {
            let error = Error::new(TOKEN_WANTED, ErrorKind::Denied, "this call needs the token")
                .help("send the text of the file `token` in the service's --state directory as Authorization: Bearer");
            let problem = Problem::from(error).with_status(StatusCode::UNAUTHORIZED);
            ([(WWW_AUTHENTICATE, "Bearer")], problem).into_response()
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = StatusCode;

    /// Who asks, for the audit: the layer around the calls, or that of the console, has said so.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Holder {
    type Rejection = StatusCode;

    /// Whose token was shown, as [`By`].
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
