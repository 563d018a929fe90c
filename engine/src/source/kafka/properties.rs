//! From the operator's settings to the property maps of librdkafka's clients. Pure, but for reading secrets.
//!
//! What the engine's promise rests on is set here and refused by name when given ([`OWNED`]); everything else passes through.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::secret::{MASK, is_secret_property};
use crate::config::{KafkaSettings, Mechanism, Preset, SaslSettings, Secret, TlsSettings};
use crate::error::{Error, ErrorKind};
use crate::sabotage::{Switch, removes};

use super::errors::{CONNECTION_INVALID, PROPERTY_OWNED};
use super::limits::FetchLimits;
use super::membership::{MemberName, Membership, Protocol};

/// Properties that the engine owns, and why.
const OWNED: &[(&str, &str)] = &[
    ("enable.auto.commit", "progress is committed with each window, never by a timer"),
    ("auto.commit.interval.ms", "progress is committed with each window, never by a timer"),
    ("auto.commit.enable", "progress is committed with each window, never by a timer"),
    ("enable.auto.offset.store", "positions are the engine's own"),
    ("offset.store.method", "positions are kept by the consumer group"),
    ("offset.store.path", "positions are kept by the consumer group"),
    ("offset.store.sync.interval.ms", "positions are kept by the consumer group"),
    ("auto.offset.reset", "a reset loses or repeats records silently; use the rule's start"),
    ("isolation.level", "aborted records must never be stored; it is read_committed"),
    ("enable.partition.eof", "a window's end counts on end-of-partition events"),
    ("check.crcs", "a corrupt batch must never be stored; it is on"),
    ("group.id", "it is catchment-<rule>; name the rule instead"),
    ("group.remote.assignor", "the broker's default keeps members comparable"),
    ("bootstrap.servers", "name the brokers by brokers or --brokers"),
    ("metadata.broker.list", "name the brokers by brokers or --brokers"),
    ("allow.auto.create.topics", "reading must never create a topic"),
    ("queued.min.messages", "it is derived from the memory budget"),
    ("queued.max.messages.kbytes", "it is derived from the memory budget"),
    ("fetch.message.max.bytes", "it is derived from the memory budget"),
    ("max.partition.fetch.bytes", "it is derived from the memory budget"),
    ("fetch.max.bytes", "it is derived from the memory budget"),
    ("message.max.bytes", "it is a limit of producers; batches of any size are read"),
    ("consume.callback.max.messages", "records are drained in batches"),
    ("log.queue", "logs are served by the engine's threads"),
    ("topic.metadata.refresh.interval.ms", "it bounds how late a new partition is seen"),
    ("sasl.oauthbearer.method", "the engine gets tokens itself; use sasl.token_endpoint or sasl.token_file"),
];

/// Properties that only make sense for the client in the group.
const GROUP_ONLY: &[&str] = &[
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "coordinator.query.interval.ms",
];

/// How often metadata is refreshed, ms: bounds how late a new partition or topic is seen. Shorter: more requests on large
/// clusters. Longer: records of a new partition wait for that long.
const METADATA_REFRESH_MS: u32 = 10_000;

/// librdkafka's default of `message.max.bytes`.
const MESSAGE_MAX_BYTES: u64 = 1_000_000;

/// A client's properties, with secrets in clear. Its `Debug` masks them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientProperties(BTreeMap<String, String>);

impl fmt::Debug for ClientProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Masked(&self.0).fmt(f)
    }
}

struct Masked<'a>(&'a BTreeMap<String, String>);

impl fmt::Debug for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(k, v)| (k, if is_secret_property(k) { MASK } else { v.as_str() }))).finish()
    }
}

impl ClientProperties {
    fn set(&mut self, key: &str, value: impl ToString) {
        self.0.insert(key.to_owned(), value.to_string());
    }

    /// Sets what the operator did not.
    fn set_default(&mut self, key: &str, value: impl ToString) {
        self.0.entry(key.to_owned()).or_insert_with(|| value.to_string());
    }

    /// The value of a property.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All properties.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

impl KafkaSettings {
    /// Checks everything that can be checked without a network, and that every secret can be read.
    ///
    /// # Errors
    /// `C0210` to `C0217`, each naming the setting.
    pub fn validate(&self) -> Result<(), Error> {
        self.membership()?;
        self.common().map(drop)
    }

    /// The membership that the properties ask for.
    ///
    /// # Errors
    /// `C0214`.
    pub fn membership(&self) -> Result<Membership, Error> {
        Membership::of(&self.properties, self.preset)
    }

    /// The mechanism and the settings to look at when a login is refused.
    pub(crate) fn login(&self) -> (&str, &'static str) {
        let given = self.properties.get("sasl.mechanism").or_else(|| self.properties.get("sasl.mechanisms"));
        let mechanism = self.sasl.as_ref().map(|s| s.mechanism.as_str()).or(given.map(String::as_str)).unwrap_or("TLS");
        let settings = match mechanism {
            "OAUTHBEARER" => "sasl.token_file or sasl.token_endpoint, sasl.client_id and sasl.client_secret",
            "TLS" => "that the listener wants no SASL, and tls.certificate and tls.key",
            _ if self.preset == Some(Preset::CKafka) => "sasl.username (CKafka wants instance#user) and sasl.password",
            _ => "sasl.username and sasl.password",
        };
        (mechanism, settings)
    }

    /// The properties of a reader client: no group, fetches by `limits`.
    ///
    /// # Errors
    /// `C0210` to `C0217`.
    pub fn reader_properties(&self, limits: &FetchLimits) -> Result<ClientProperties, Error> {
        let mut p = self.common()?;
        for key in GROUP_ONLY {
            p.0.remove(*key);
        }
        p.set("enable.partition.eof", true);
        p.set("check.crcs", !removes(Switch::BatchChecksum));
        p.set("queued.max.messages.kbytes", limits.queue_kib);
        p.set("queued.min.messages", limits.queue_records);
        p.set("fetch.message.max.bytes", limits.slice);
        p.set("fetch.max.bytes", limits.response);
        // librdkafka refuses a response that is smaller than this limit of a producer's.
        p.set("message.max.bytes", limits.response.min(MESSAGE_MAX_BYTES));
        // An operator who wants them more often has them; less often, and the limits above would follow too late. What is no number is librdkafka's to
        // refuse.
        match p.get("statistics.interval.ms").map(|ms| ms.trim().parse::<u64>()) {
            Some(Err(_)) => {}
            _ if limits.statistics_ms == 0 => {}
            Some(Ok(ms)) if (1..limits.statistics_ms).contains(&ms) => {}
            Some(Ok(_)) | None => p.set("statistics.interval.ms", limits.statistics_ms),
        }
        // Also caps a decompressed batch. Not part of the budget: it is a limit for one response, and a broker that honours
        // fetch.max.bytes comes near it only for a batch that is itself that large.
        p.set_default("receive.message.max.bytes", 100_000_000.max(limits.response + 512));
        // Few, large responses; the wait bounds what that costs an idle partition (and how late its end is seen). More than a slice would be waited for
        // in vain.
        let asked = p.get("fetch.min.bytes").map(|bytes| bytes.trim().parse::<u64>());
        if !matches!(asked, Some(Err(_))) {
            p.set("fetch.min.bytes", asked.and_then(Result::ok).unwrap_or(256 << 10).min(limits.slice));
        }
        p.set_default("fetch.wait.max.ms", 100);
        // After a queue was full its partition rests for this long. Shorter: wake-ups for nothing. Longer: the queue runs dry
        // (librdkafka's default of 1,000 ms halves the throughput).
        p.set_default("fetch.queue.backoff.ms", 10);
        Ok(p)
    }

    /// The properties of the group client: membership and commits, no fetching. `instance` is the static member's name.
    ///
    /// # Errors
    /// `C0210` to `C0217`.
    pub fn group_properties(&self, group: &str, membership: &Membership, instance: Option<&str>) -> Result<ClientProperties, Error> {
        let mut p = self.common()?;
        p.set("group.id", group);
        match (&membership.name, instance) {
            (MemberName::None, _) | (_, None) => drop(p.0.remove("group.instance.id")),
            (_, Some(name)) => p.set("group.instance.id", name),
        }
        match membership.protocol {
            Protocol::Classic(assignor) => p.set("partition.assignment.strategy", assignor.name()),
            Protocol::Consumer => p.set("group.protocol", "consumer"),
        }
        // Its partitions are paused from the start; should one ever be fetched, it stays small.
        p.set("queued.min.messages", 1);
        p.set("queued.max.messages.kbytes", 64);
        p.set("fetch.message.max.bytes", 1024);
        Ok(p)
    }

    fn common(&self) -> Result<ClientProperties, Error> {
        self.refuse_owned()?;
        if self.brokers.iter().all(|b| b.trim().is_empty()) {
            return Err(invalid("no brokers are named").help("name them by brokers = [\"host:9092\"] or --brokers host:9092"));
        }
        let mut p = ClientProperties::default();
        for (key, value) in &self.properties {
            let value = if is_secret_property(key) { Secret::from(value.as_str()).reveal(key)? } else { value.clone() };
            p.set(key, value);
        }
        p.set("bootstrap.servers", self.brokers.join(","));
        p.set_default("client.id", "catchment");
        self.apply_security(&mut p)?;
        p.set("enable.auto.commit", false);
        p.set("enable.auto.offset.store", false);
        p.set("auto.offset.reset", if removes(Switch::Reset) { "earliest" } else { "error" });
        p.set("isolation.level", if removes(Switch::Committed) { "read_uncommitted" } else { "read_committed" });
        p.set("allow.auto.create.topics", false);
        p.set("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS);
        p.set_default("socket.keepalive.enable", true);
        // A broker that restarts is found again within this time.
        p.set_default("reconnect.backoff.max.ms", 2_000);
        p.set_default("log.connection.close", false);
        Ok(p)
    }

    fn refuse_owned(&self) -> Result<(), Error> {
        for (key, why) in OWNED {
            if self.properties.contains_key(*key) {
                return Err(Error::new(PROPERTY_OWNED, ErrorKind::Invalid, format!("the property {key} is the engine's own: {why}"))
                    .with("property", key)
                    .help(format!("leave {key} out")));
            }
        }
        Ok(())
    }

    fn tls_wanted(&self) -> Option<TlsSettings> {
        let by_preset = matches!(self.preset, Some(Preset::Msk | Preset::Confluent)).then(TlsSettings::default);
        self.tls.clone().or(by_preset)
    }

    fn apply_security(&self, p: &mut ClientProperties) -> Result<(), Error> {
        let given = p.get("security.protocol").map(str::to_ascii_lowercase);
        let tls = match given.as_deref() {
            Some("plaintext" | "sasl_plaintext") if self.tls.is_none() => None,
            Some("ssl" | "sasl_ssl") => Some(self.tls_wanted().unwrap_or_default()),
            _ => self.tls_wanted(),
        };
        if self.preset == Some(Preset::Confluent) && self.sasl.is_none() && given.is_none() {
            return Err(
                invalid("the preset confluent needs sasl").help("set sasl = { mechanism = \"PLAIN\", username = KEY, password = SECRET }")
            );
        }
        let sasl = self.sasl.is_some() || p.get("sasl.mechanism").or(p.get("sasl.mechanisms")).is_some();
        let protocol = match (tls.is_some(), sasl) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        if let Some(given) = given.filter(|g| g != protocol) {
            return Err(invalid(format!("security.protocol={given} contradicts tls and sasl, which make it {protocol}"))
                .help("leave security.protocol out"));
        }
        p.set("security.protocol", protocol);
        if let Some(tls) = tls {
            tls.apply(p)?;
        }
        if let Some(sasl) = &self.sasl {
            sasl.apply(p)?;
        }
        Ok(())
    }
}

impl TlsSettings {
    fn apply(&self, p: &mut ClientProperties) -> Result<(), Error> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err(invalid("tls.certificate and tls.key must be given together"));
        }
        if let Some(ca) = &self.ca {
            p.set("ssl.ca.location", ca.display());
        }
        if let Some(certificate) = &self.certificate {
            p.set("ssl.certificate.location", certificate.display());
        }
        if let Some(key) = &self.key {
            p.set("ssl.key.location", key.display());
        }
        if let Some(password) = &self.key_password {
            p.set("ssl.key.password", password.reveal("tls.key_password")?);
        }
        if !self.verify {
            p.set("enable.ssl.certificate.verification", false);
            p.set("ssl.endpoint.identification.algorithm", "none");
        }
        Ok(())
    }
}

impl SaslSettings {
    fn apply(&self, p: &mut ClientProperties) -> Result<(), Error> {
        p.set("sasl.mechanism", self.mechanism.as_str());
        match self.mechanism {
            Mechanism::OAuthBearer => self.check_token_source(),
            Mechanism::Plain | Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
                let (Some(username), Some(password)) = (&self.username, &self.password) else {
                    return Err(invalid(format!("sasl by {} needs username and password", self.mechanism.as_str())));
                };
                p.set("sasl.username", username);
                p.set("sasl.password", password.reveal("sasl.password")?);
                Ok(())
            }
        }
    }

    /// The token is given to librdkafka by the refresh callback ([`token`](super::token)); here is only checked that there is a source.
    fn check_token_source(&self) -> Result<(), Error> {
        match (&self.token_file, &self.token_endpoint, &self.client_id, &self.client_secret) {
            (Some(_), None, None, None) => Ok(()),
            (None, Some(_), Some(_), Some(secret)) => secret.reveal("sasl.client_secret").map(drop),
            _ => Err(invalid("sasl by OAUTHBEARER needs either token_file, or token_endpoint, client_id and client_secret")),
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(CONNECTION_INVALID, ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests;
