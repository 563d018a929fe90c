//! What cannot be done, as a page: each error with its code and its own words, in the frame of the language.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

use super::context::Page;
use crate::error::{Error, ErrorKind, codes};
use crate::service::api::Problem;

/// Why a page cannot be shown, or a change not made.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    errors: Vec<Error>,
}

impl Refusal {
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// As a page.
    pub(super) fn page(self, p: Page) -> Response {
        let heading = if self.status == StatusCode::NOT_FOUND { p.t.not_found } else { p.t.refused };
        let page = RefusalPage { heading, problems: problems(&self.errors), p };
        (self.status, shown(&page)).into_response()
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { status: problem.status, errors: problem.errors }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}

impl From<Vec<Error>> for Refusal {
    fn from(errors: Vec<Error>) -> Self {
        Problem::from(errors).into()
    }
}

impl IntoResponse for Refusal {
    /// Only its status: whoever knows the language makes a page of it.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// An error as it is shown.
#[derive(Clone, Debug)]
pub(super) struct ProblemShown {
    pub(super) code: String,
    pub(super) text: String,
    pub(super) help: Option<String>,
}

/// Errors as they are shown.
pub(super) fn problems(errors: &[Error]) -> Vec<ProblemShown> {
    let shown = |error: &Error| {
        let mut text = error.message.clone();
        for (label, value) in &error.context {
            text += &format!("\n{label}: {value}");
        }
        if let Some(cause) = &error.cause {
            text += &format!("\ncause: {cause}");
        }
        ProblemShown { code: error.code.to_string(), text: crate::text::printable(&text), help: error.help.clone() }
    };
    errors.iter().map(shown).collect()
}

/// A page as an answer.
pub(super) fn shown(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(e) => Problem::from(Error::new(codes::OUTPUT, ErrorKind::Bug, "the page cannot be written").because(e)).into_response(),
    }
}

#[derive(Template)]
#[template(path = "console/refusal.html")]
struct RefusalPage {
    p: Page,
    heading: &'static str,
    problems: Vec<ProblemShown>,
}

/// Whatever is not there.
pub(super) async fn nothing() -> Refusal {
    Refusal::from(crate::service::api::nothing_at_this_path())
}

/// A page that is only sent to, and was opened; or one that is only opened, and was sent to.
pub(super) async fn no_such_method() -> Refusal {
    Refusal::from(crate::service::api::method_not_taken("open the page that has the button, and press it there"))
}
