//! What every page knows of its call: the language, who is logged in, where it is.
//!
//! Place in the flow: a layer around all of the console. It also turns a [refusal](super::refusal) of a handler, which does not know the language, into a page,
//! and a problem of whatever it shares with the API as well.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{ACCEPT_LANGUAGE, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::assets;
use super::catalogue::{Language, Texts};
use super::reference::{self, Section};
use super::refusal::Refusal;
use super::session::{Session, cookie};
use crate::https::escaped;
use crate::service::api::{OfQuery, Problem, Service};
use crate::service::web;

/// The cookie that holds the language that was chosen.
const LANGUAGE_COOKIE: &str = "catchment_language";

/// A page's call.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) language: Language,
    pub(super) t: &'static Texts,
    /// What forms of this session hold; empty without one.
    pub(super) csrf: String,
    pub(super) logged_in: bool,
    /// Path and query.
    pub(super) here: String,
    /// Scheme and host that were named, for calls of the API that are shown: a token that is sent in clear where TLS is spoken is lost.
    pub(super) origin: String,
    /// The section of the navigation.
    pub(super) nav: &'static str,
}

impl Page {
    fn new(language: Language, session: Option<&Session>, here: &str, host: &str) -> Self {
        let nav = match here.split(['?', '/']).nth(2) {
            Some("sources") => "sources",
            Some("stores") => "stores",
            Some("workers") => "workers",
            Some("tokens") => "tokens",
            Some("load-tests") => "load-tests",
            Some("health") => "health",
            Some("add") => "add",
            _ => "rules",
        };
        let csrf = session.map(|session| session.csrf.clone()).unwrap_or_default();
        let scheme = if session.is_some_and(|session| session.over_tls) { "https" } else { "http" };
        let origin = format!("{scheme}://{host}");
        Self { language, t: language.texts(), csrf, logged_in: session.is_some(), here: here.to_owned(), origin, nav }
    }

    /// What the book says of what the engine says, where the reader's language is not the engine's.
    pub(super) fn told(&self, text: &str) -> Option<&'static Section> {
        reference::told(self.language, text)
    }

    pub(super) fn asset(&self, name: &str) -> String {
        assets::path_of(name)
    }

    pub(super) fn other_language(&self) -> Language {
        self.language.other()
    }

    pub(super) fn here_escaped(&self) -> String {
        escaped(&self.here)
    }

    pub(super) fn sections(&self) -> [(&'static str, &'static str, &'static str); 8] {
        let t = self.t;
        [
            ("rules", "/console", t.rules),
            ("add", "/console/add", t.add_rule),
            ("sources", "/console/sources", t.of_service.sources),
            ("stores", "/console/stores", t.of_service.stores),
            ("workers", "/console/workers", t.of_service.workers),
            ("tokens", "/console/tokens", t.of_service.tokens),
            ("load-tests", "/console/load-tests", t.of_load_tests.load_tests),
            ("health", "/console/health", t.of_service.health),
        ]
    }

    /// The pages of a rule: key, path, text.
    pub(super) fn rule_tabs(&self, name: &str) -> Vec<(&'static str, String, &'static str)> {
        let t = self.t;
        let tab = |key: &'static str, text| (key, format!("/console/rules/{name}{}{key}", if key.is_empty() { "" } else { "/" }), text);
        vec![
            tab("", t.overview),
            tab("log", t.log),
            tab("files", t.files),
            tab("versions", t.versions),
            tab("explain", t.explain),
            tab("edit", t.edit),
            tab("clone", t.clone),
            tab("delete", t.delete),
        ]
    }
}

#[cfg(test)]
impl Page {
    /// A page of nobody who came by this name.
    pub(super) fn at(language: Language, host: &str) -> Self {
        Self::new(language, None, "/console", host)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Provides handlers with their [`Page`] and, if somebody is logged in, the [`Session`].
pub(super) async fn provide(State(service): State<Service>, mut request: Request, next: Next) -> Response {
    let session = service.sessions.of(request.headers()).filter(|session| service.tokens.holds(&session.holder));
    let path = request.uri().path_and_query().map_or("/console", |here| here.as_str());
    // Where a form was sent to there is no page to come back to.
    let here = if request.method().is_safe() { path.to_owned() } else { section_of(path) };
    let page = Page::new(language_of(request.headers()), session.as_ref(), &here, &web::host_of(request.headers()).unwrap_or_default());
    request.extensions_mut().insert(page.clone());
    if let Some(session) = session {
        request.extensions_mut().insert(session.holder.by_console());
        request.extensions_mut().insert(session.holder.clone());
        request.extensions_mut().insert(session);
    }
    let mut response = next.run(request).await;
    let refused = response.extensions_mut().remove::<Refusal>();
    match refused.or_else(|| response.extensions_mut().remove::<Problem>().map(Refusal::from)) {
        Some(refusal) => refusal.page(page),
        None => response,
    }
}

/// Lets calls through of those who are logged in.
pub(super) async fn logged_in(request: Request, next: Next) -> Response {
    if request.extensions().get::<Session>().is_some() {
        return next.run(request).await;
    }
    let here = request.uri().path_and_query().map_or("/console", |here| here.as_str());
    // What was to be changed is not repeated: its form is of a session that has ended.
    let next = if request.method().is_safe() { here } else { "/console" };
    Redirect::to(&format!("/console/login?next={}", escaped(next))).into_response()
}

/// The page of the section that a path belongs to.
fn section_of(path: &str) -> String {
    match path.split(['?', '/']).nth(2) {
        Some(section @ ("add" | "sources" | "stores" | "workers" | "tokens" | "load-tests" | "health")) => format!("/console/{section}"),
        _ => "/console".to_owned(),
    }
}

fn language_of(headers: &HeaderMap) -> Language {
    let chosen = cookie(headers, LANGUAGE_COOKIE).and_then(Language::of_tag);
    chosen.unwrap_or_else(|| Language::accepted(headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default()))
}

/// A choice of a language.
#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    to: String,
    back: Option<String>,
}

/// Remembers a language and goes back to where it was chosen.
pub(super) async fn choose(State(service): State<Service>, OfQuery(choice): OfQuery<Choice>) -> Response {
    let back = own_path(choice.back.as_deref().unwrap_or_default());
    match Language::of_tag(&choice.to) {
        Some(language) => {
            let secure = if service.tls { "; Secure" } else { "" };
            let cookie = format!("{LANGUAGE_COOKIE}={}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax{secure}", language.tag());
            ([(SET_COOKIE, cookie)], Redirect::to(&back)).into_response()
        }
        None => Redirect::to(&back).into_response(),
    }
}

/// A path of the console; its front page for whatever is none.
pub(super) fn own_path(path: &str) -> String {
    let is_own = path == "/console" || path.starts_with("/console/") || path.starts_with("/console?");
    let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if is_own && is_plain { path.to_owned() } else { "/console".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site() {
        for own in ["/console", "/console/rules/a/log?level=warn", "/console?q=a"] {
            assert_eq!(own_path(own), own);
        }
        for foreign in [
            "",
            "https://evil.example/",
            "//evil.example/console",
            "/consoleevil",
            "/\\evil.example",
            "/console/\\x",
            "/console/\r\nX: y",
            "javascript:alert(1)",
        ] {
            assert_eq!(own_path(foreign), "/console", "{foreign:?}");
        }
    }

    #[test]
    fn the_language_is_that_of_the_cookie_else_of_the_browser() {
        let of = |cookie: &str, accepted: &str| {
            let headers = [(axum::http::header::COOKIE, cookie.parse().unwrap()), (ACCEPT_LANGUAGE, accepted.parse().unwrap())];
            language_of(&headers.into_iter().collect()).tag()
        };
        assert_eq!(of("", "zh-CN,zh;q=0.9,en;q=0.8"), "zh");
        assert_eq!(of("", "de, en;q=0.7, zh;q=0.3"), "en");
        assert_eq!(of("", "*"), "en");
        assert_eq!(of("catchment_language=zh", "en"), "zh");
        assert_eq!(of("catchment_language=xx", "en"), "en");
    }
}
