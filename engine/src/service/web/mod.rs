//! What stands before the API and the console alike: the names that the service answers to, how often somebody may fail to log in, and the headers of every
//! answer; and under all of it, if it is wanted, TLS.
//!
//! Place in the flow: layers around both routers. A page of another site must not reach the service through a name that it has bent to this machine, and
//! whoever guesses tokens must not guess fast. Who may do what is decided behind it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::api::{Problem, Service};
use crate::error::{Code, Error, ErrorKind};

pub mod attempts;
pub mod hosts;
pub mod tls;

pub use attempts::Attempts;
pub use hosts::Hosts;
pub use tls::{Identity, TlsFiles, TlsListener};

/// The call names a host that this service is not.
pub const OTHER_HOST: Code = Code(640);
/// Too many calls from this address have failed to show the token.
pub const TOO_MANY_ATTEMPTS: Code = Code(641);

/// Nothing may be loaded, sent or framed but what this service serves itself.
const CONTENT_SECURITY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Headers of every answer. The referrer stays within the service: without one, browsers would not say where a form was sent from.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// For a year browsers come here by TLS alone, whatever they are told. Said only where TLS is spoken.
const TRANSPORT_SECURITY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Adds the headers of every answer. What says nothing of its keeping is not kept: it may be secret.
pub(super) async fn headers(State(service): State<Service>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let to = response.headers_mut();
    for (name, value) in HEADERS {
        to.insert(name, HeaderValue::from_static(value));
    }
    if service.tls {
        to.insert(header::STRICT_TRANSPORT_SECURITY, TRANSPORT_SECURITY);
    }
    to.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Lets a call through that names a host which this service is.
pub(super) async fn host(State(service): State<Service>, request: Request, next: Next) -> Response {
    let named = host_of(request.headers());
    if named.as_deref().is_some_and(|named| service.hosts.serve(named)) {
        return next.run(request).await;
    }
    let error = Error::new(OTHER_HOST, ErrorKind::Denied, "this service does not answer to that name")
        .with("host", named.unwrap_or_default().escape_debug())
        .help("use the address that it listens on, or start it with --host NAME");
    Problem::from(error).into_response()
}

/// What the `Host` header says.
pub(super) fn host_of(headers: &HeaderMap) -> Option<String> {
    headers.get(header::HOST)?.to_str().ok().map(str::to_owned)
}

/// The caller's address. A router that is asked without a socket has callers of this machine.
pub(super) fn address_of(request: &Request) -> IpAddr {
    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>();
    connected.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(address)| address.ip())
}

/// What somebody is told who has failed too often.
pub(super) fn too_many() -> Error {
    Error::new(TOO_MANY_ATTEMPTS, ErrorKind::Denied, "too many calls from this address have shown a wrong token")
        .help("wait a minute, then show the text of the file `token` in the service's --state directory")
}

/// What somebody is told whose token nobody has the time to look at.
pub(super) fn too_many_at_once() -> Error {
    Error::new(TOO_MANY_ATTEMPTS, ErrorKind::Denied, "too many tokens that are not known yet are shown at once")
        .help("wait a minute, and show it again; once it was looked at it is always heard")
}
