//! Bearer tokens for OAUTHBEARER: from a file, or from a token endpoint by client credentials (RFC 6749, section 4.4).
//!
//! librdkafka asks for a token at a client's start and again when four fifths of its life are over; a failure is reported as an
//! error of the login and asked again after ten seconds. The question comes on the thread that polls the client, which a slow
//! endpoint holds up for [`ENDPOINT_TIMEOUT`] at most; heartbeats go on meanwhile. (librdkafka could ask an endpoint itself, but only when
//! built against a libcurl that its configure script finds, which the bundled one is not.)

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD as STANDARD, BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use rdkafka::client::OAuthToken;
use serde_json::Value;

use crate::config::{Mechanism, SaslSettings, Secret};
use crate::https::{self, Tls, escaped};

use super::deadline::wall_ms;

type Outcome<T> = Result<T, Box<dyn StdError>>;

/// How long a token that does not say so is taken to live. Shorter: it is fetched more often. Longer: it is used after its end, and a
/// connection is refused until the next refresh.
const TOKEN_LIFE_MS: i64 = 5 * 60 * 1000;

/// How long the endpoint may take.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer that is read; tokens are a few kilobytes.
const ANSWER_MAX: usize = 1 << 20;

/// Where tokens come from.
#[derive(Clone, Debug)]
pub(crate) enum TokenSource {
    /// A file, read again each time.
    File(PathBuf),
    /// An endpoint that gives tokens for a client's id and secret.
    Endpoint { url: String, client_id: String, secret: Secret, scope: Option<String> },
}

impl TokenSource {
    /// The source that a login names, if it is one by tokens.
    pub(crate) fn of(sasl: &SaslSettings) -> Option<Self> {
        if sasl.mechanism != Mechanism::OAuthBearer {
            return None;
        }
        if let Some(path) = &sasl.token_file {
            return Some(Self::File(path.clone()));
        }
        let (url, client_id, secret) = (sasl.token_endpoint.clone()?, sasl.client_id.clone()?, sasl.client_secret.clone()?);
        Some(Self::Endpoint { url, client_id, secret, scope: sasl.scope.clone() })
    }

    /// A token that lives now. Blocks.
    pub(crate) fn token(&self) -> Outcome<OAuthToken> {
        match self {
            Self::File(path) => read(path, wall_ms()),
            Self::Endpoint { url, client_id, secret, scope } => {
                let secret = secret.reveal("sasl.client_secret")?;
                let answer = request(url, client_id, &secret, scope.as_deref())?;
                of_answer(&answer, client_id, wall_ms())
            }
        }
    }
}

fn read(path: &Path, now_ms: i64) -> Outcome<OAuthToken> {
    let token = std::fs::read_to_string(path).map_err(|e| format!("cannot read the token file {}: {e}", path.display()))?;
    let token = token.trim();
    if token.is_empty() {
        return Err(format!("the token file {} is empty", path.display()).into());
    }
    living(token, None, "catchment", now_ms).map_err(|e| format!("the token in {} {e}", path.display()).into())
}

/// The token of an endpoint's answer.
fn of_answer(answer: &Value, client_id: &str, now_ms: i64) -> Outcome<OAuthToken> {
    let token = answer.get("access_token").and_then(Value::as_str).ok_or("the token endpoint's answer holds no access_token")?;
    let lives_ms = answer.get("expires_in").and_then(Value::as_f64).map(|s| (s * 1000.0) as i64);
    living(token, lives_ms, client_id, now_ms).map_err(|e| format!("the token endpoint's token {e}").into())
}

/// Principal and end come from the token's claims where it is a JWT.
fn living(token: &str, lives_ms: Option<i64>, principal: &str, now_ms: i64) -> Result<OAuthToken, &'static str> {
    let claims = claims(token);
    let claim = |name: &str| claims.as_ref().and_then(|c| c.get(name));
    let by_claim = claim("exp").and_then(Value::as_f64).map(|s| (s * 1000.0) as i64);
    let lifetime_ms = by_claim.unwrap_or_else(|| now_ms.saturating_add(lives_ms.unwrap_or(TOKEN_LIFE_MS)));
    if lifetime_ms <= now_ms {
        return Err("has expired");
    }
    let principal_name = claim("sub").and_then(Value::as_str).unwrap_or(principal).to_owned();
    Ok(OAuthToken { token: token.to_owned(), principal_name, lifetime_ms })
}

/// Asks the endpoint. The client's account goes into the header, form-encoded, as every endpoint must accept; one that wants it in the body
/// is asked again that way.
fn request(url: &str, client_id: &str, secret: &str, scope: Option<&str>) -> Outcome<Value> {
    let mut form = "grant_type=client_credentials".to_owned();
    if let Some(scope) = scope {
        form += &format!("&scope={}", escaped(scope));
    }
    let (status, body) = post(url, &form, Some((client_id, secret)))?;
    let (status, body) = match status {
        400 | 401 => post(url, &format!("{form}&client_id={}&client_secret={}", escaped(client_id), escaped(secret)), None)?,
        _ => (status, body),
    };
    if status != 200 {
        return Err(format!("the token endpoint {url} answers {status}").into());
    }
    Ok(serde_json::from_slice(&body).map_err(|e| format!("the token endpoint {url} does not answer in JSON: {e}"))?)
}

/// One POST of a form. Blocks: librdkafka's callback has no runtime of its own.
fn post(url: &str, form: &str, account: Option<(&str, &str)>) -> Outcome<(u16, Bytes)> {
    let mut request = Request::post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").header(ACCEPT, "application/json");
    if let Some((user, password)) = account {
        request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{}:{}", escaped(user), escaped(password)))));
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(form.as_bytes())))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tls = Tls::default();
    let answer = runtime.block_on(async { tokio::time::timeout(ENDPOINT_TIMEOUT / 2, https::exchange(request, &tls, ANSWER_MAX)).await });
    let answer = answer.map_err(|_| format!("the token endpoint {url} did not answer within {} s", (ENDPOINT_TIMEOUT / 2).as_secs()))?;
    let (status, body) = answer.map_err(|e| format!("the token endpoint {url} cannot be asked: {}", https::with_sources(&*e)))?;
    Ok((status.as_u16(), body))
}

fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_claims_give_principal_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        // {"sub":"a","exp":2000}
        std::fs::write(&path, "e30.eyJzdWIiOiJhIiwiZXhwIjoyMDAwfQ.x\n").unwrap();
        let token = read(&path, 1_000).unwrap();
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("a", 2_000_000));
        assert!(read(&path, 2_000_000).is_err());
        std::fs::write(&path, "opaque").unwrap();
        assert_eq!(read(&path, 1_000).unwrap().lifetime_ms, 1_000 + TOKEN_LIFE_MS);
        std::fs::write(&path, "\n").unwrap();
        assert!(read(&path, 1_000).is_err());
        assert!(read(&dir.path().join("none"), 1_000).is_err());
    }

    #[test]
    fn an_answer_gives_the_life_of_an_opaque_token() {
        let answer = serde_json::json!({"access_token": "opaque", "expires_in": 60});
        let token = of_answer(&answer, "id", 1_000).unwrap();
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("id", 61_000));
        assert!(of_answer(&serde_json::json!({"error": "invalid_client"}), "id", 0).is_err());
    }
}
