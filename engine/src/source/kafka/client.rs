//! The clients: what both kinds share (logs, errors, bearer tokens), and the reader client with the thread that serves it.
//!
//! Two kinds of librdkafka client are used. The *group client* ([`group`](super::group)) subscribes, heartbeats and commits, and never
//! fetches: its partitions are paused from the start. The *reader client* has no group at all and fetches by the per-partition
//! calls of [`queue`](super::queue), which start and stop at any offset at any time. So a rebalance never races with a seek, and a
//! record can land on no queue but its partition's own.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as K};
use rdkafka::statistics::Statistics;

use crate::error::{Error, ErrorKind};

use super::config::{ClientProperties, KafkaConfig};
use super::deadline::wall_ms;
use super::errors::{Diagnostics, OPEN_FAILED, client_error};

/// How long a poll thread waits for an event, and so how late it sees that it should end.
const POLL: Duration = Duration::from_millis(100);

/// How long a bearer token that does not say so is taken to live. Shorter: the file is read more often. Longer: a token is used after
/// its end, and a connection is refused until the next refresh.
const TOKEN_LIFE_MS: i64 = 5 * 60 * 1000;

/// What every client does with logs, errors and token requests.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) diagnostics: Arc<Diagnostics>,
    token_file: Option<PathBuf>,
}

impl Shared {
    pub(crate) fn new(config: &KafkaConfig, diagnostics: Arc<Diagnostics>) -> Self {
        Self { diagnostics, token_file: config.sasl.as_ref().and_then(|s| s.token_file.clone()) }
    }

    pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(K::Fail);
        self.diagnostics.note(code, reason);
        tracing::warn!(target: "librdkafka", code = ?code, "{reason}");
    }

    pub(crate) fn token(&self) -> Result<OAuthToken, Box<dyn StdError>> {
        match &self.token_file {
            Some(path) => read_token(path, wall_ms()),
            None => Err("no token file is configured".into()),
        }
    }
}

/// Reads a bearer token. Its principal and end come from its claims where it is a JWT.
fn read_token(path: &Path, now_ms: i64) -> Result<OAuthToken, Box<dyn StdError>> {
    let token = std::fs::read_to_string(path).map_err(|e| format!("cannot read the token file {}: {e}", path.display()))?;
    let token = token.trim().to_owned();
    if token.is_empty() {
        return Err(format!("the token file {} is empty", path.display()).into());
    }
    let claims = claims(&token);
    let claim = |name: &str| claims.as_ref().and_then(|c| c.get(name));
    let lifetime_ms = claim("exp").and_then(serde_json::Value::as_f64).map_or(now_ms + TOKEN_LIFE_MS, |s| (s * 1000.0) as i64);
    if lifetime_ms <= now_ms {
        return Err(format!("the token in {} has expired", path.display()).into());
    }
    let principal_name = claim("sub").and_then(serde_json::Value::as_str).unwrap_or("catchment").to_owned();
    Ok(OAuthToken { token, principal_name, lifetime_ms })
}

fn claims(token: &str) -> Option<serde_json::Value> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&base64url(payload)?).ok()
}

/// Decodes base64url without padding.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = ((bits << 6) | u32::from(value)) & 0xFFFF;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(((bits >> held) & 0xFF) as u8);
        }
    }
    Some(out)
}

/// Makes a client. No network is touched yet.
pub(crate) fn create<C: ConsumerContext>(properties: &ClientProperties, context: C) -> Result<BaseConsumer<C>, Error> {
    let mut config = ClientConfig::new();
    for (key, value) in properties.iter() {
        config.set(key, value);
    }
    config.set_log_level(RDKafkaLogLevel::Info);
    BaseConsumer::from_config_and_context(&config, context).map_err(|e| client_error(&e))
}

/// The reader client's callbacks.
#[derive(Debug)]
pub(crate) struct ReaderContext(Shared);

impl ClientContext for ReaderContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Shared::log(level, facility, message);
    }

    fn stats(&self, _statistics: Statistics) {}

    fn stats_raw(&self, statistics: &[u8]) {
        tracing::debug!(target: "librdkafka", "statistics {}", String::from_utf8_lossy(statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        self.0.token()
    }
}

impl ConsumerContext for ReaderContext {}

/// A reader client and the thread that serves its main queue. Lives as long as any queue opened from it.
pub(crate) struct Reader {
    pub(crate) consumer: Arc<BaseConsumer<ReaderContext>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    pub(crate) fn new(properties: &ClientProperties, shared: Shared) -> Result<Self, Error> {
        let consumer = Arc::new(create(properties, ReaderContext(shared))?);
        let ends = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("kafka-reader".into())
            .spawn({
                let (consumer, ends) = (Arc::clone(&consumer), Arc::clone(&ends));
                move || {
                    while !ends.load(Ordering::Acquire) {
                        // Logs, errors and token requests are handled inside; records never come here.
                        let _ = consumer.poll(POLL);
                    }
                }
            })
            .map_err(|e| Error::new(OPEN_FAILED, ErrorKind::Retryable, "a thread cannot be started").because(e))?;
        Ok(Self { consumer, ends, thread: Some(thread) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook; there is nothing to add while dropping.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_decodes() {
        assert_eq!(base64url("eyJzdWIiOiJhIn0").unwrap(), br#"{"sub":"a"}"#);
        assert_eq!(base64url("_-8").unwrap(), [0xFF, 0xEF]);
        assert!(base64url("!").is_none());
    }

    #[test]
    fn a_tokens_claims_give_principal_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        // {"sub":"a","exp":2000}
        std::fs::write(&path, "e30.eyJzdWIiOiJhIiwiZXhwIjoyMDAwfQ.x\n").unwrap();
        let token = read_token(&path, 1_000).unwrap();
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("a", 2_000_000));
        assert!(read_token(&path, 2_000_000).is_err());
        std::fs::write(&path, "opaque").unwrap();
        assert_eq!(read_token(&path, 1_000).unwrap().lifetime_ms, 1_000 + TOKEN_LIFE_MS);
        std::fs::write(&path, "\n").unwrap();
        assert!(read_token(&path, 1_000).is_err());
        assert!(read_token(&dir.path().join("none"), 1_000).is_err());
    }
}
