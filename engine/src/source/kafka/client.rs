//! The clients: what both kinds share (logs, errors, bearer tokens), and the reader client with the thread that serves it.
//!
//! Two kinds of librdkafka client are used. The *group client* ([`group`](super::group)) subscribes, heartbeats and commits, and never
//! fetches: its partitions are paused from the start. The *reader client* has no group at all and fetches by the per-partition
//! calls of [`queue`](super::queue), which start and stop at any offset at any time. So a rebalance never races with a seek, and a
//! record can land on no queue but its partition's own.

use std::error::Error as StdError;
use std::fmt;
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
use tokio::time::Instant;

use crate::clock;
use crate::error::{Error, ErrorKind};

use super::errors::{Diagnostics, OPEN_FAILED, client_error};
use super::fetching::Bell;
use super::properties::ClientProperties;
use super::token::TokenSource;
use super::unfolding::{Received, Unfolding};
use crate::config::KafkaSettings;

/// How long a poll thread waits for an event, and so how late it sees that it should end.
const POLL: Duration = Duration::from_millis(100);

/// What every client does with logs, errors and token requests.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) diagnostics: Arc<Diagnostics>,
    tokens: Option<TokenSource>,
}

impl Shared {
    pub(crate) fn new(config: &KafkaSettings, diagnostics: Arc<Diagnostics>) -> Self {
        Self { diagnostics, tokens: config.sasl.as_ref().and_then(TokenSource::of) }
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
        // That no broker is left follows from the failures before it, and comes again with every attempt to reconnect.
        match code {
            K::AllBrokersDown => tracing::debug!(target: "librdkafka", code = ?code, "{reason}"),
            _ => tracing::warn!(target: "librdkafka", code = ?code, "{reason}"),
        }
    }

    pub(crate) fn token(&self) -> Result<OAuthToken, Box<dyn StdError>> {
        self.tokens.as_ref().ok_or("no source of tokens is configured")?.token()
    }
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
pub(crate) struct ReaderContext {
    shared: Shared,
    unfolding: Arc<Unfolding>,
    made: Instant,
    bell: Arc<Bell>,
}

impl ClientContext for ReaderContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Shared::log(level, facility, message);
    }

    fn stats(&self, _statistics: Statistics) {}

    fn stats_raw(&self, statistics: &[u8]) {
        tracing::trace!(target: "librdkafka", "statistics {}", String::from_utf8_lossy(statistics));
        if let Some(received) = Received::of_statistics(statistics) {
            let has_verdict = self.unfolding.note(received, clock::now() - self.made);
            if has_verdict {
                self.bell.ring();
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.shared.error(&error, reason);
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        self.shared.token()
    }
}

impl ConsumerContext for ReaderContext {}

/// A reader client and the thread that serves its main queue.
pub(crate) struct Reader {
    pub(crate) consumer: Arc<BaseConsumer<ReaderContext>>,
    /// What it sees of the data.
    pub(crate) unfolding: Arc<Unfolding>,
    /// Another client has taken its place.
    is_retired: AtomicBool,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    pub(crate) fn new(properties: &ClientProperties, unfolding: Unfolding, shared: Shared, bell: Arc<Bell>) -> Result<Self, Error> {
        let unfolding = Arc::new(unfolding);
        let context = ReaderContext { shared, unfolding: Arc::clone(&unfolding), made: clock::now(), bell };
        let consumer = Arc::new(create(properties, context)?);
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
        Ok(Self { consumer, unfolding, is_retired: AtomicBool::new(false), ends, thread: Some(thread) })
    }

    /// Queues move to another client from now on.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }

    /// Whether queues should move to another client. One atomic load: it is asked before each batch.
    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
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
