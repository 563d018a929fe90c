//! One request by HTTP or HTTPS, for whoever is not a store: token endpoints, and a service of this program.
//!
//! TLS is rustls, with the system's certificates unless the caller trusts others. Answers are read up to a bound. No retries, no redirects, no time-out: callers have their own.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::http::uri::Scheme;
use hyper::{Request, Response, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;

/// Why there is no answer.
pub(crate) type Failure = Box<dyn StdError + Send + Sync>;

/// Whom a caller trusts, and what it shows of itself; by default the system's authorities, and nothing.
#[derive(Clone, Default)]
pub(crate) struct Tls(Option<Arc<ClientConfig>>);

impl std::fmt::Debug for Tls {
    /// Without what is in it: a key may be.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl From<ClientConfig> for Tls {
    fn from(config: ClientConfig) -> Self {
        Self(Some(Arc::new(config)))
    }
}

/// Sends a request. Returns the answer with its body still to be read.
pub(crate) async fn send(request: Request<Full<Bytes>>, tls: &Tls) -> Result<Response<Incoming>, Failure> {
    if request.uri().scheme() == Some(&Scheme::HTTP) {
        // No certificates are needed for it, and a small machine may have none.
        return Ok(Client::builder(TokioExecutor::new()).build_http().request(request).await?);
    }
    let builder = match &tls.0 {
        Some(config) => HttpsConnectorBuilder::new().with_tls_config(ClientConfig::clone(config)),
        None => HttpsConnectorBuilder::new().with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())?,
    };
    let connector = builder.https_only().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector).request(request).await?)
}

/// Sends a request and reads its answer, of at most so many bytes.
pub(crate) async fn exchange(request: Request<Full<Bytes>>, tls: &Tls, answer_max: usize) -> Result<(StatusCode, Bytes), Failure> {
    let response = send(request, tls).await?;
    let status = response.status();
    Ok((status, Limited::new(response.into_body(), answer_max).collect().await?.to_bytes()))
}

/// An error and what caused it; the outermost alone says no more than that it failed.
pub(crate) fn with_sources(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

/// Percent-encodes a value of a form or a query.
pub(crate) fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for b in value.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out += &format!("%{b:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped() {
        assert_eq!(escaped("a b&c=é~"), "a%20b%26c%3D%C3%A9~");
    }
}
