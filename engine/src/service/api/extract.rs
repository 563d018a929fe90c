//! The parts of a call, and what is answered to one that has another form.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::IntoParams;

use super::problem::{Problem, malformed, not_json};

/// Parts of the path.
#[derive(Debug)]
pub(in crate::service) struct OfPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for OfPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::from(malformed("the path", rejection.body_text())).with_status(rejection.status())),
        }
    }
}

/// The query string.
#[derive(Debug)]
pub(in crate::service) struct OfQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for OfQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::from(malformed("the query string", rejection.body_text()))),
        }
    }
}

/// A JSON body; null if it is empty.
#[derive(Debug)]
pub(super) struct Body(pub Value);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| Problem::from(malformed("the body", rejection.body_text())).with_status(rejection.status()))?;
        if bytes.is_empty() {
            return Ok(Self(Value::Null));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(not_json)
    }
}

impl Body {
    /// The body as a value of this type.
    ///
    /// # Errors
    /// `C0619` with what is wrong where.
    pub(super) fn into<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let body = if self.0.is_null() { Value::Object(serde_json::Map::new()) } else { self.0 };
        serde_json::from_value(body).map_err(|e| Problem::from(malformed("the body", e)))
    }
}

/// The version that the caller has seen, by `If-Match`.
pub(super) fn seen_version(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(IF_MATCH)?.to_str().unwrap_or_default().trim();
    // No version has the number of what is none: 412, as for any other one that is not current.
    (text != "*").then(|| text.trim_matches('"').parse().unwrap_or(-1))
}

/// What one answer lists if it is not told how much, and at most.
const PAGE: (u32, u32) = (100, 1_000);

/// A page of a list whose newest entries come first.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Before {
    /// Only entries with a lower number: that of the last one of the page before.
    before: Option<i64>,
    /// How many, at most 1,000; 100 if it is left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

impl Before {
    pub(super) fn number(self) -> i64 {
        self.before.unwrap_or(i64::MAX)
    }

    pub(super) fn limit(self) -> Result<u32, Problem> {
        limit(self.limit)
    }
}

/// From where to go on.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::service) struct After {
    /// Only entries with a higher number; without it those that come.
    pub(super) after: Option<i64>,
}

pub(super) fn limit(given: Option<u32>) -> Result<u32, Problem> {
    match given.unwrap_or(PAGE.0) {
        limit @ 1..=1_000 => Ok(limit),
        other => Err(Problem::from(malformed("the query string", format_args!("limit is {other}, outside 1 to {}", PAGE.1)))),
    }
}
