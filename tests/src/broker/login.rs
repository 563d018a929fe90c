//! SASL PLAIN: who may log in, and for how long.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse};
use kafka_protocol::protocol::StrBytes;

use super::cluster::code;

/// An account, and what is offered.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password, which a script may change.
    pub password: String,
    /// The mechanisms that are offered.
    pub mechanisms: Vec<String>,
    /// How long a login lasts (KIP-368); zero: as long as the connection.
    pub lifetime: Duration,
    /// Logins that were accepted.
    pub accepted: u32,
    /// Logins that were refused.
    pub refused: u32,
}

impl Login {
    /// PLAIN for one account.
    pub fn plain(user: &str, password: &str) -> Self {
        let mechanisms = vec!["PLAIN".to_owned()];
        Self { user: user.to_owned(), password: password.to_owned(), mechanisms, lifetime: Duration::ZERO, accepted: 0, refused: 0 }
    }

    pub(super) fn handshake(&self, request: &SaslHandshakeRequest) -> SaslHandshakeResponse {
        let known = self.mechanisms.iter().any(|m| **m == *request.mechanism);
        let mechanisms = self.mechanisms.iter().map(|m| StrBytes::from_string(m.clone())).collect();
        let error = if known { code::NONE } else { code::UNSUPPORTED_SASL_MECHANISM };
        SaslHandshakeResponse::default().with_error_code(error).with_mechanisms(mechanisms)
    }

    pub(super) fn authenticate(&mut self, request: &SaslAuthenticateRequest, version: i16) -> SaslAuthenticateResponse {
        let expected = format!("\0{}\0{}", self.user, self.password);
        if request.auth_bytes != expected {
            self.refused += 1;
            return SaslAuthenticateResponse::default()
                .with_error_code(code::SASL_AUTHENTICATION_FAILED)
                .with_error_message(Some(StrBytes::from_static_str("Authentication failed: invalid credentials")));
        }
        self.accepted += 1;
        let lifetime = if version >= 1 { i64::try_from(self.lifetime.as_millis()).unwrap_or(i64::MAX) } else { 0 };
        SaslAuthenticateResponse::default().with_auth_bytes(Bytes::new()).with_session_lifetime_ms(lifetime)
    }
}

/// How far a connection has come with its login.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    authenticated: Option<Instant>,
}

impl Session {
    pub(super) fn new() -> Self {
        Self { authenticated: None }
    }

    pub(super) fn begin(&mut self) {
        self.authenticated = Some(Instant::now());
    }

    /// Whether a request may be answered.
    pub(super) fn admits(&self, key: ApiKey, login: Option<&Login>) -> bool {
        let Some(login) = login else { return true };
        match self.authenticated {
            None => key == ApiKey::ApiVersions,
            Some(since) => login.lifetime.is_zero() || since.elapsed() < login.lifetime,
        }
    }
}
