//! The Kafka source's errors: codes, and what librdkafka says turned into what the operator can do.
//!
//! librdkafka reports a failed connection far from the call that needed it: the call times out, and the reason goes to a log line
//! or an error event. [`Diagnostics`] collects those, and [`Diagnostics::explain`] joins both into one [`Error`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as K};

use crate::error::{Code, Error, ErrorKind};

use crate::config::KafkaSettings;
use crate::config::secret::is_secret_property;

/// No broker could be reached.
pub const UNREACHABLE: Code = Code(201);
/// A broker was reached but did not answer in time, or the answer was an error that may pass.
pub const REQUEST_FAILED: Code = Code(202);
/// The topic or partition does not exist.
pub const UNKNOWN_TOPIC: Code = Code(203);
pub use crate::error::codes::NOT_AUTHORISED;
/// Another process has this static member's name.
pub const INSTANCE_FENCED: Code = Code(205);
/// The group client failed for good.
pub const GROUP_FAILED: Code = Code(206);
/// A partition cannot be opened.
pub const OPEN_FAILED: Code = Code(207);
/// No slot lock for the static member's name.
pub const NO_SLOT: Code = Code(208);
/// A property that the engine owns was given.
pub const PROPERTY_OWNED: Code = Code(210);
/// Authentication failed.
pub const AUTHENTICATION: Code = Code(211);
/// The TLS handshake failed.
pub const TLS: Code = Code(212);
/// librdkafka refuses a property or its value.
pub const PROPERTY_REFUSED: Code = Code(213);
/// The membership asked for breaks the fence of the commit protocol.
pub const MEMBERSHIP_REFUSED: Code = Code(214);
/// A topic name or pattern is not legal.
pub const BAD_TOPIC: Code = Code(216);
/// Settings of the connection contradict each other.
pub const CONNECTION_INVALID: Code = Code(217);
/// A broker advertises an address that cannot be reached from here.
pub const ADVERTISED_UNREACHABLE: Code = Code(221);
/// A consumer group that should be deleted has members.
pub const GROUP_HAS_MEMBERS: Code = Code(223);

/// What was heard about one broker, the last of it.
#[derive(Clone, Debug)]
struct Trouble {
    code: K,
    reason: String,
}

/// Stands for the login itself where no broker is named.
const NO_BROKER: &str = "login/-";

/// What librdkafka's log lines and error events said, by broker. Bounded by the number of brokers.
#[derive(Default)]
pub(crate) struct Diagnostics {
    /// Whether anything has ever worked: then a login that is refused is refused for a while (a broker that restarts, a token endpoint that
    /// is away), and a partition that is unknown is not known yet.
    has_worked: AtomicBool,
    by_broker: Mutex<BTreeMap<String, Trouble>>,
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Diagnostics")
    }
}

/// A broker's name as librdkafka writes it: `[protocol://]host:port/(bootstrap | node id)`, less the protocol.
fn broker_of(reason: &str) -> Option<&str> {
    let name = reason.split(": ").next()?;
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    let (address, node) = name.rsplit_once('/')?;
    let known = node == "bootstrap" || node.parse::<i32>().is_ok();
    (known && address.contains(':') && !address.contains(' ')).then_some(name)
}

impl Diagnostics {
    /// Keeps what an error event or a failure's log line said.
    pub(crate) fn note(&self, code: K, reason: &str) {
        // A refused certificate may come as an alert on a connection that was up already (TLS 1.3).
        let code = if reason.contains("SSL routines") { K::SSL } else { code };
        // A token that cannot be had is nobody's in particular.
        let broker = broker_of(reason).or(is_login(code).then_some(NO_BROKER));
        let Some(broker) = broker else { return };
        let trouble = Trouble { code, reason: reason.to_owned() };
        let mut all = self.by_broker.lock().unwrap_or_else(PoisonError::into_inner);
        // A refused login is followed by plain disconnects, which say less.
        let keep = all.get(broker).is_some_and(|t| is_login(t.code)) && !is_login(code);
        if !keep {
            all.insert(broker.to_owned(), trouble);
        }
    }

    /// Forgets everything: something worked.
    pub(crate) fn clear(&self) {
        self.has_worked.store(true, Ordering::Relaxed);
        self.by_broker.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether something went wrong since something last worked.
    pub(crate) fn is_troubled(&self) -> bool {
        !self.by_broker.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether waiting longer is pointless: a login was refused, or TLS does not come up.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.by_broker.lock().unwrap_or_else(PoisonError::into_inner).values().any(|t| is_login(t.code))
    }

    /// Turns the failure `code` of `what` into an error, with what was heard from the brokers.
    pub(crate) fn explain(&self, config: &KafkaSettings, what: &str, code: K) -> Error {
        let error = self.explain_as_if_first(config, what, code);
        let passes = matches!(error.code, AUTHENTICATION | TLS | UNKNOWN_TOPIC) && self.has_worked.load(Ordering::Relaxed);
        if passes { Error { kind: ErrorKind::Retryable, ..error } } else { error }
    }

    fn explain_as_if_first(&self, config: &KafkaSettings, what: &str, code: K) -> Error {
        let all = self.by_broker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(login) = all.values().find(|t| is_login(t.code)) {
            return login_failed(config, login);
        }
        if is_login(code) {
            return login_failed(config, &Trouble { code, reason: code.to_string() });
        }
        match code {
            K::TopicAuthorizationFailed | K::GroupAuthorizationFailed | K::ClusterAuthorizationFailed => {
                return Error::new(NOT_AUTHORISED, ErrorKind::Denied, format!("not authorised: {what}"))
                    .because(code)
                    .help("grant Describe and Read on the topics, and Read on the group, to this principal");
            }
            K::UnknownTopicOrPartition | K::UnknownTopic | K::UnknownPartition => {
                return Error::new(UNKNOWN_TOPIC, ErrorKind::NotFound, format!("no such topic or partition: {what}"))
                    .because(code)
                    .help("check the name, and that this principal may describe the topic");
            }
            // Fail: an admin call lost its broker.
            K::Fail | K::OperationTimedOut | K::BrokerTransportFailure | K::AllBrokersDown | K::Resolve | K::TimedOutQueue => {}
            _ => {
                return Error::new(REQUEST_FAILED, ErrorKind::Retryable, what.to_owned())
                    .because(code)
                    .help("try again, with -v to see what the client says");
            }
        }
        let advertised = all.iter().find(|(name, _)| !name.ends_with("/bootstrap"));
        let bootstrap = all.iter().find(|(name, _)| name.ends_with("/bootstrap"));
        match (advertised, bootstrap) {
            (Some((name, trouble)), None) => advertised_unreachable(name, &trouble.reason),
            (_, Some((_, trouble))) => unreachable(config, &trouble.reason),
            (None, None) => Error::new(REQUEST_FAILED, ErrorKind::Unreachable, what.to_owned())
                .because(code)
                .with("brokers", config.brokers.join(","))
                .help("check that the brokers are up and reachable from this machine"),
        }
    }
}

/// Whether a connection was refused its login or its TLS.
pub(super) fn is_login(code: K) -> bool {
    matches!(code, K::Authentication | K::SaslAuthenticationFailed | K::UnsupportedSASLMechanism | K::IllegalSASLState | K::SSL)
}

/// No bootstrap address answered.
fn unreachable(config: &KafkaSettings, reason: &str) -> Error {
    Error::new(UNREACHABLE, ErrorKind::Unreachable, "no broker can be reached")
        .with("brokers", config.brokers.join(","))
        .because(reason)
        .help("check host and port, and that the listener behind the port speaks the protocol of the config (plain, TLS, SASL)")
}

/// A bootstrap address answered, but the broker that it names cannot be reached. `broker` is `host:port[/node]`.
pub(crate) fn advertised_unreachable(broker: &str, reason: &str) -> Error {
    let (address, node) = broker.rsplit_once('/').unwrap_or((broker, "?"));
    Error::new(ADVERTISED_UNREACHABLE, ErrorKind::Unreachable, "broker advertises an address this machine cannot reach")
        .with("broker", node)
        .with("advertised", address)
        .because(reason)
        .help(format!(
            "set advertised.listeners on the broker to an address that this machine can reach, or make {address} resolve and answer here"
        ))
}

fn login_failed(config: &KafkaSettings, trouble: &Trouble) -> Error {
    if trouble.code == K::SSL {
        return Error::new(TLS, ErrorKind::Invalid, "the TLS connection to the broker cannot be set up").because(&trouble.reason).help(
            "check tls.ca (ssl.ca.location), the host name in the broker's certificate, and tls.certificate and tls.key for mutual TLS",
        );
    }
    let (mechanism, properties) = config.login();
    let error = Error::new(AUTHENTICATION, ErrorKind::Denied, format!("the broker refuses this login by {mechanism}"))
        .with("mechanism", mechanism)
        .because(&trouble.reason);
    error.help(format!("check {properties}, and that the listener offers {mechanism}"))
}

/// Turns an error of the crate into one for the operator. Values of secret properties never appear.
pub(crate) fn client_error(error: &KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, description, property, _) => {
            Error::new(PROPERTY_REFUSED, ErrorKind::Invalid, format!("librdkafka refuses the property {property}"))
                .with("property", property)
                .because(if is_secret_property(property) { "the value is not valid" } else { description })
                .help("see librdkafka's CONFIGURATION.md for its name and range")
        }
        KafkaError::ClientCreation(description) => {
            Error::new(PROPERTY_REFUSED, ErrorKind::Invalid, "librdkafka refuses the connection's settings")
                .because(description)
                .help("check the files and passwords of tls (ca, certificate, key, key_password), and the properties given by -X")
        }
        other => Error::new(REQUEST_FAILED, ErrorKind::Retryable, "librdkafka failed")
            .because(other)
            .help("try again, with -v to see what it says"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaSettings {
        KafkaSettings { brokers: vec!["127.0.0.1:1".into()], ..KafkaSettings::default() }
    }

    #[test]
    fn brokers_are_found_in_reasons() {
        assert_eq!(broker_of("127.0.0.1:1/bootstrap: Connect failed"), Some("127.0.0.1:1/bootstrap"));
        assert_eq!(broker_of("sasl_ssl://kafka-0.x:9093/12: Disconnected"), Some("kafka-0.x:9093/12"));
        assert_eq!(broker_of("1/1 brokers are down"), None);
        assert_eq!(broker_of(""), None);
    }

    #[test]
    fn an_advertised_host_is_named() {
        let heard = Diagnostics::default();
        heard.note(K::Resolve, "redpanda-0:9092/1: Failed to resolve 'redpanda-0:9092': Name or service not known");
        let error = heard.explain(&config(), "reading the log's bounds", K::OperationTimedOut);
        assert_eq!(error.code, ADVERTISED_UNREACHABLE);
        assert!(error.to_string().contains("advertised=redpanda-0:9092"), "{error}");
    }

    #[test]
    fn a_bootstrap_address_that_is_down_is_unreachable() {
        let heard = Diagnostics::default();
        heard.note(K::BrokerTransportFailure, "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused");
        let error = heard.explain(&config(), "x", K::BrokerTransportFailure);
        assert_eq!((error.code, error.kind), (UNREACHABLE, ErrorKind::Unreachable));
        heard.clear();
        assert_eq!(heard.explain(&config(), "x", K::OperationTimedOut).code, REQUEST_FAILED);
    }

    #[test]
    fn a_late_alert_is_a_tls_error() {
        let heard = Diagnostics::default();
        let alert = "ssl://h:1/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert number 42";
        heard.note(K::BrokerTransportFailure, alert);
        assert_eq!(heard.explain(&config(), "x", K::OperationTimedOut).code, TLS);
    }

    #[test]
    fn a_token_that_cannot_be_had_is_a_refused_login() {
        let heard = Diagnostics::default();
        heard.note(K::Authentication, "Failed to acquire SASL OAUTHBEARER token: the endpoint answers 401");
        assert!(heard.is_hopeless());
        assert_eq!(heard.explain(&config(), "x", K::OperationTimedOut).code, AUTHENTICATION);
    }

    #[test]
    fn a_refused_login_wins_over_the_disconnect_after_it() {
        let heard = Diagnostics::default();
        heard.note(K::Authentication, "sasl_plaintext://h:1/bootstrap: SASL authentication error: no");
        heard.note(K::BrokerTransportFailure, "sasl_plaintext://h:1/bootstrap: Disconnected");
        assert!(heard.is_hopeless());
        assert_eq!(heard.explain(&config(), "x", K::OperationTimedOut).code, AUTHENTICATION);
    }
}
