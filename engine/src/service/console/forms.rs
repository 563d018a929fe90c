//! What a form sends, and whether it was this console that had it sent.
//!
//! Place in the flow: a layer around every page that is only for those who are logged in, so that no handler can forget it. A change needs three things: a
//! session, whose cookie other sites' pages do not get sent; a browser that does not name another site as the sender; the session's own secret in the form.

use axum::body::Body;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, FromRequest as _, FromRequestParts, Request};
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;
use super::session::Session;
use crate::error::{Code, Error, ErrorKind};

/// A form that was not sent by this console, or by an earlier session of it.
pub(super) const FOREIGN_FORM: Code = Code(642);

/// The fields of a form, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Fields that nobody has typed.
    pub(super) fn of(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A field's value without the spaces around it; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find_map(|(found, value)| (found == name).then_some(value.trim())).unwrap_or_default()
    }

    /// A field's value as it is, but for the lines' ends, which browsers send as CR LF.
    pub(super) fn lines(&self, name: &str) -> String {
        self.0.iter().find_map(|(found, value)| (found == name).then(|| value.replace("\r\n", "\n"))).unwrap_or_default()
    }

    /// All values of fields of this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.trim())
    }

    /// Whether there is a field of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Fields {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Reads a form and lets it through if it is one of this session.
pub(super) async fn of_session(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let session = request.extensions().get::<Session>().cloned();
    match read(request).await {
        Ok((request, fields)) if session.is_some_and(|session| session.csrf == fields.text("csrf")) => next.run(request).await,
        Ok(_) => foreign("it does not hold the secret of this session").into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Reads a form of whoever is not logged in yet; it has no secret, but comes from here.
pub(super) async fn of_nobody(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    match read(request).await {
        Ok((request, _)) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn read(request: Request) -> Result<(Request, Fields), Refusal> {
    if !is_sent_from_here(request.headers()) {
        return Err(foreign("another site had it sent"));
    }
    let (parts, body) = request.into_parts();
    let Form(fields) = Form::<Vec<(String, String)>>::from_request(Request::from_parts(parts.clone(), body), &())
        .await
        .map_err(|rejection| malformed(&rejection))?;
    let mut request = Request::from_parts(parts, Body::empty());
    let fields = Fields(fields);
    request.extensions_mut().insert(fields.clone());
    Ok((request, fields))
}

/// Whether the browser says that this service's own page has sent it; one that says nothing is an old one, or none.
fn is_sent_from_here(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => origin.split_once("://").map(|(_, authority)| authority) == text(HOST.as_str()),
        (None, None) => true,
    }
}

fn foreign(why: &str) -> Refusal {
    let error = Error::new(FOREIGN_FORM, ErrorKind::Denied, "the form was not sent by this session of the console").because(why);
    Refusal::from(error.help("open the page again and repeat the change there"))
}

fn malformed(why: &FormRejection) -> Refusal {
    Refusal::from(crate::service::api::malformed("the form", why.body_text())).with_status(why.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_that_were_typed() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let fields =
            Fields(vec![pair("name", " a b "), pair("topic", "x"), pair("topic", "订"), pair("text", "1\r\n2"), pair("empty", "")]);
        assert_eq!((fields.text("name"), fields.text("none"), fields.lines("text").as_str()), ("a b", "", "1\n2"));
        assert_eq!(fields.all("topic").collect::<Vec<_>>(), ["x", "订"]);
        assert!(fields.has("empty") && !fields.has("none"));
    }

    #[test]
    fn a_form_of_another_site_is_told_by_the_browser() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            is_sent_from_here(&headers.collect())
        };
        assert!(of(&[("sec-fetch-site", "same-origin")]));
        assert!(!of(&[("sec-fetch-site", "cross-site")]) && !of(&[("sec-fetch-site", "same-site")]));
        assert!(of(&[("host", "127.0.0.1:1"), ("origin", "http://127.0.0.1:1")]));
        assert!(!of(&[("host", "127.0.0.1:1"), ("origin", "http://127.0.0.1:2")]));
        assert!(!of(&[("host", "127.0.0.1:1"), ("origin", "null")]));
        assert!(of(&[("host", "127.0.0.1:1")]), "the session's secret decides");
    }
}
