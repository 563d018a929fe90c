//! Errors as RFC 9457 problem details, with the program's code, context and next step.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::error::{Code, Error, ErrorKind, codes};
use crate::service::state::{CONNECTION_EXISTS, RULE_EXISTS, VERSION_OUTDATED};

/// There is nothing at this path.
pub(super) const NO_SUCH_PATH: Code = Code(607);

/// What a call that failed is answered.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    errors: Vec<Error>,
}

impl Problem {
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

fn status_of(error: &Error) -> StatusCode {
    match (error.code, error.kind) {
        (RULE_EXISTS | CONNECTION_EXISTS, _) => StatusCode::CONFLICT,
        (VERSION_OUTDATED, _) => StatusCode::PRECONDITION_FAILED,
        (_, ErrorKind::NotFound) => StatusCode::NOT_FOUND,
        (_, ErrorKind::Invalid) => StatusCode::UNPROCESSABLE_ENTITY,
        (_, ErrorKind::Denied) => StatusCode::FORBIDDEN,
        (_, ErrorKind::Asks | ErrorKind::Fenced) => StatusCode::CONFLICT,
        (_, ErrorKind::Unreachable) => StatusCode::BAD_GATEWAY,
        (_, ErrorKind::Retryable) => StatusCode::SERVICE_UNAVAILABLE,
        (_, ErrorKind::Corrupt | ErrorKind::Bug) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Vec<Error>> for Problem {
    fn from(errors: Vec<Error>) -> Self {
        // What is named first is what the others follow from.
        let status = errors.first().map_or(StatusCode::INTERNAL_SERVER_ERROR, status_of);
        Self { status, errors }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::from(vec![error])
    }
}

fn details(error: &Error) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("code".into(), json!(error.code.to_string()));
    fields.insert("detail".into(), json!(error.message));
    for (label, value) in &error.context {
        fields.insert((*label).to_owned(), json!(value));
    }
    fields.extend(error.cause.as_ref().map(|cause| ("cause".to_owned(), json!(cause))));
    fields.extend(error.help.as_ref().map(|help| ("help".to_owned(), json!(help))));
    fields
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = self.errors.first().map(details).unwrap_or_default();
        body.insert("status".into(), json!(self.status.as_u16()));
        body.insert("title".into(), json!(self.status.canonical_reason().unwrap_or_default()));
        body.insert("errors".into(), self.errors.iter().map(|error| Value::Object(details(error))).collect());
        (self.status, [(CONTENT_TYPE, "application/problem+json")], Value::Object(body).to_string()).into_response()
    }
}

/// Whatever is not there.
pub(super) async fn no_such_path() -> Problem {
    Problem::from(Error::new(NO_SUCH_PATH, ErrorKind::NotFound, "there is nothing at this path").help("docs/api.md lists the paths"))
}

/// A body that is not JSON.
pub(super) fn not_json(why: impl std::fmt::Display) -> Problem {
    Problem::from(Error::new(codes::CONFIG_SYNTAX, ErrorKind::Invalid, "the body is not JSON").because(why).help("send a JSON object"))
        .with_status(StatusCode::BAD_REQUEST)
}
