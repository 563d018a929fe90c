//! Errors as RFC 9457 problem details, with the program's code, context and next step.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Code, Error, ErrorKind, codes};
use crate::service::changes::{DIRECTORY_TAKEN, GROUP_TAKEN};
use crate::service::connections::CONNECTION_IN_USE;
use crate::service::state::{CONNECTION_EXISTS, RULE_EXISTS, RULE_OF_A_FILE, TOKEN_EXISTS, VERSION_OUTDATED};
use crate::service::verification::VERIFYING;
use crate::service::web::{OTHER_HOST, TOO_MANY_ATTEMPTS};
use crate::service::workers::WORKER_NAME_TAKEN;

/// There is nothing at this path.
pub(super) const NO_SUCH_PATH: Code = Code(607);
/// The path does not take this method.
pub(super) const NO_SUCH_METHOD: Code = Code(617);
/// A call is too large, or of another form than its description says.
pub(super) const MALFORMED: Code = Code(619);

/// What a call that failed is answered.
#[derive(Clone, Debug)]
pub(in crate::service) struct Problem {
    pub(in crate::service) status: StatusCode,
    pub(in crate::service) errors: Vec<Error>,
}

/// A problem as it is sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemView {
    /// The HTTP status.
    status: u16,
    /// What it means.
    title: &'static str,
    #[serde(flatten)]
    first: ErrorView,
    /// All errors, the first one included: what is named first is what the others follow from.
    errors: Vec<ErrorView>,
}

/// An error as it is sent.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Error)]
struct ErrorView {
    /// The program's code; docs/errors.md has a section for each.
    code: String,
    /// What happened.
    detail: String,
    /// Why, as the other side put it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// The next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    /// Where: rule, topic, partition, key.
    #[serde(flatten)]
    context: BTreeMap<&'static str, String>,
}

impl Problem {
    pub(in crate::service) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

fn status_of(error: &Error) -> StatusCode {
    match (error.code, error.kind) {
        (RULE_EXISTS | CONNECTION_EXISTS | TOKEN_EXISTS | RULE_OF_A_FILE | DIRECTORY_TAKEN | GROUP_TAKEN, _)
        | (VERIFYING | CONNECTION_IN_USE | WORKER_NAME_TAKEN, _) => StatusCode::CONFLICT,
        (OTHER_HOST, _) => StatusCode::MISDIRECTED_REQUEST,
        (TOO_MANY_ATTEMPTS, _) => StatusCode::TOO_MANY_REQUESTS,
        (VERSION_OUTDATED, _) => StatusCode::PRECONDITION_FAILED,
        (codes::CONFIG_SYNTAX | MALFORMED, _) => StatusCode::BAD_REQUEST,
        (NO_SUCH_METHOD, _) => StatusCode::METHOD_NOT_ALLOWED,
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

impl From<&Error> for ErrorView {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code.to_string(),
            detail: error.message.clone(),
            cause: error.cause.clone(),
            help: error.help.clone(),
            context: error.context.iter().cloned().collect(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let errors: Vec<ErrorView> = self.errors.iter().map(ErrorView::from).collect();
        let unknown = || ErrorView::from(&Error::new(codes::PART_ENDED, ErrorKind::Bug, "a call failed without a reason"));
        let first = errors.first().cloned().unwrap_or_else(unknown);
        let title = self.status.canonical_reason().unwrap_or_default();
        let body = ProblemView { status: self.status.as_u16(), title, first, errors };
        // Plain texts and numbers: nothing that JSON cannot hold.
        let text = serde_json::to_string(&body).unwrap_or_default();
        let mut response = (self.status, [(CONTENT_TYPE, "application/problem+json")], text).into_response();
        // The console makes a page of it.
        response.extensions_mut().insert(self);
        response
    }
}

/// Whatever is not there.
pub(super) async fn no_such_path() -> Problem {
    Problem::from(nothing_at_this_path())
}

/// There is nothing at a path.
pub(in crate::service) fn nothing_at_this_path() -> Error {
    Error::new(NO_SUCH_PATH, ErrorKind::NotFound, "there is nothing at this path").help("docs/api.md lists the paths")
}

/// A method that a path does not take.
pub(super) async fn no_such_method() -> Problem {
    Problem::from(method_not_taken("docs/api.md lists the calls"))
}

/// A path does not take a method.
pub(in crate::service) fn method_not_taken(help: &str) -> Error {
    Error::new(NO_SUCH_METHOD, ErrorKind::Invalid, "the path does not take this method").help(help)
}

/// A body that is not JSON.
pub(super) fn not_json(why: impl std::fmt::Display) -> Problem {
    Problem::from(Error::new(codes::CONFIG_SYNTAX, ErrorKind::Invalid, "the body is not JSON").because(why).help("send a JSON object"))
}

/// A part of a call that has another form than its description says.
pub(in crate::service) fn malformed(part: &str, why: impl std::fmt::Display) -> Error {
    Error::new(MALFORMED, ErrorKind::Invalid, format!("{part} has not the form that is described"))
        .because(why)
        .help("/api/v1/openapi.json describes every call")
}
