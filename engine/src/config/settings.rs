//! A config file as it stands: Kafka profiles, stores, rules; nothing filled in yet.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::file::{Given, Problems, Section, unknown_key};
use super::level::Level;
use super::secret::{MASK, Secret, is_secret_property};
use super::start::StartPoint;
use super::units::{ByteSize, Span};
use super::words::{CodecKind, FormatKind, FramingKind, LayoutKind, Mechanism, OnGap, OnStop, Preset, ScheduleKind, WindowBy};
use super::{NAME_PATTERN, is_name};
use crate::error::{Error, ErrorKind, codes};
use crate::store::url::StoreUrl;

/// A config file.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `[kafka.NAME]`.
    pub kafka: BTreeMap<String, KafkaSettings>,
    /// `[store.NAME]`.
    pub stores: BTreeMap<String, StoreSettings>,
    /// `[rule.NAME]`.
    pub rules: BTreeMap<String, RuleSettings>,
}

/// How to reach a cluster.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Bootstrap addresses, `HOST:PORT`.
    pub brokers: Vec<String>,
    /// Settings that a kind of cluster needs.
    pub preset: Option<Preset>,
    /// How to log in; none: without.
    pub sasl: Option<SaslSettings>,
    /// How to encrypt; none: not at all.
    pub tls: Option<TlsSettings>,
    /// librdkafka properties, passed through after the owned ones were refused.
    pub properties: BTreeMap<String, String>,
}

impl std::fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let masked: BTreeMap<&str, &str> =
            self.properties.iter().map(|(k, v)| (k.as_str(), if is_secret_property(k) { MASK } else { v.as_str() })).collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("preset", &self.preset)
            .field("sasl", &self.sasl)
            .field("tls", &self.tls)
            .field("properties", &masked)
            .finish()
    }
}

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslSettings {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// User name (PLAIN, SCRAM).
    pub username: Option<String>,
    /// Password (PLAIN, SCRAM).
    pub password: Option<Secret>,
    /// File that holds the token (OAUTHBEARER).
    pub token_file: Option<PathBuf>,
    /// URL that gives tokens for client credentials (OAUTHBEARER).
    pub token_endpoint: Option<String>,
    /// Client id at the token endpoint.
    pub client_id: Option<String>,
    /// Client secret at the token endpoint.
    pub client_secret: Option<Secret>,
    /// Scope asked from the token endpoint.
    pub scope: Option<String>,
}

/// How to encrypt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file of the authorities to trust; none: the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's certificate (mutual TLS).
    pub certificate: Option<PathBuf>,
    /// PEM file of the client's private key (mutual TLS).
    pub key: Option<PathBuf>,
    /// Password of the private key.
    pub key_password: Option<Secret>,
    /// Whether the broker's certificate and name are checked.
    pub verify: bool,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { ca: None, certificate: None, key: None, key_password: None, verify: true }
    }
}

/// Where objects are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreSettings {
    /// `s3://`, `cos://` or `file://`, with the options of the store in its query.
    pub url: String,
    /// Access key id (COS: secret id).
    pub access_key_id: Option<Secret>,
    /// Secret access key (COS: secret key).
    pub secret_access_key: Option<Secret>,
    /// Session token of temporary credentials.
    pub session_token: Option<Secret>,
}

/// A rule as a file or a command line gives it. What is absent has a default, or is missed when the plan is made.
#[derive(Clone, Debug, Default)]
pub struct RuleSettings {
    /// `source.kafka`.
    pub kafka: Option<Given<String>>,
    /// `source.topics`.
    pub topics: Option<Given<Vec<String>>>,
    /// `source.start`.
    pub start: Option<Given<StartPoint>>,
    /// `window.every`.
    pub window_every: Option<Given<Span>>,
    /// `window.by`.
    pub window_by: Option<Given<WindowBy>>,
    /// `format.kind`.
    pub format: Option<Given<FormatKind>>,
    /// `format.framing`.
    pub framing: Option<Given<FramingKind>>,
    /// `format.codec`.
    pub codec: Option<Given<CodecKind>>,
    /// `format.level`.
    pub level: Option<Given<Level>>,
    /// `to.store`.
    pub store: Option<Given<String>>,
    /// `to.prefix`.
    pub prefix: Option<Given<String>>,
    /// `to.layout`.
    pub layout: Option<Given<LayoutKind>>,
    /// `to.path`.
    pub path: Option<Given<String>>,
    /// `to.instance`.
    pub instance: Option<Given<String>>,
    /// `to.topic_id`.
    pub topic_id: Option<Given<String>>,
    /// `max_bytes`.
    pub max_bytes: Option<Given<ByteSize>>,
    /// `budget`.
    pub budget: Option<Given<ByteSize>>,
    /// `on_gap.retention`.
    pub on_retention: Option<Given<OnGap>>,
    /// `on_gap.truncation`.
    pub on_truncation: Option<Given<OnGap>>,
    /// `on_gap.corrupt_batch`.
    pub on_corrupt_batch: Option<Given<OnGap>>,
    /// `on_gap.topic_recreated`.
    pub on_topic_recreated: Option<Given<OnGap>>,
    /// `on_stop`.
    pub on_stop: Option<Given<OnStop>>,
    /// `schedule`.
    pub schedule: Option<Given<ScheduleKind>>,
    /// `group`.
    pub group: Option<Given<String>>,
    /// `instance_id`.
    pub instance_id: Option<Given<String>>,
    /// `upload_deadline`.
    pub upload_deadline: Option<Given<Span>>,
    /// `metrics`.
    pub metrics: Option<Given<std::net::SocketAddr>>,
}

macro_rules! first_of {
    ($over:ident, $under:ident, $($field:ident),+ $(,)?) => {
        RuleSettings { $($field: $over.$field.or_else(|| $under.$field.clone()),)+ }
    };
}

impl RuleSettings {
    /// These settings, with those of `under` where there are none. A layout and a path template are one choice: giving
    /// either hides both of `under`.
    #[must_use]
    pub fn over(self, under: &Self) -> Self {
        let mut under = under.clone();
        if self.layout.is_some() || self.path.is_some() {
            (under.layout, under.path) = (None, None);
        }
        // The options of a format mean nothing to another one.
        if self.format.as_ref().is_some_and(|f| under.format.as_ref().is_some_and(|u| u.value != f.value)) {
            (under.framing, under.codec, under.level) = (None, None, None);
        }
        if self.codec.is_some() {
            under.level = None;
        }
        first_of!(
            self,
            under,
            kafka,
            topics,
            start,
            window_every,
            window_by,
            format,
            framing,
            codec,
            level,
            store,
            prefix,
            layout,
            path,
            instance,
            topic_id,
            max_bytes,
            budget,
            on_retention,
            on_truncation,
            on_corrupt_batch,
            on_topic_recreated,
            on_stop,
            schedule,
            group,
            instance_id,
            upload_deadline,
            metrics,
        )
    }
}

impl Config {
    /// Reads a config file's text; `file` is its name in messages.
    ///
    /// # Errors
    /// Every problem that the text has: syntax (then nothing else is looked at), unknown keys, values of wrong type or form.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Error>> {
        let problems = Problems::new(file, text);
        let (table, syntax) = DeTable::parse_recoverable(text);
        for error in &syntax {
            let message = error.message().trim().replace('\n', ", ");
            problems.add(codes::CONFIG_SYNTAX, &error.span().unwrap_or(0..0), format!("not TOML: {message}"));
        }
        let config = if syntax.is_empty() { Self::read(table.get_ref(), &problems) } else { Self::default() };
        let found = problems.into_vec();
        if found.is_empty() { Ok(config) } else { Err(found) }
    }

    fn read<'a>(table: &'a DeTable<'a>, problems: &'a Problems<'a>) -> Self {
        let mut config = Self::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "kafka" => config.kafka = named("kafka", value, problems, kafka),
                "store" => config.stores = named("store", value, problems, store),
                "rule" => config.rules = named("rule", value, problems, |section| Some(rule(section))),
                other => {
                    problems.push(unknown_key(other, "", &["kafka", "store", "rule"]).with("at", problems.at(key.span().start)));
                }
            }
        }
        config
    }
}

/// Reads `[kind.NAME]` for every name.
fn named<'a, T>(
    kind: &'static str,
    value: &'a toml::Spanned<DeValue<'a>>,
    problems: &'a Problems<'a>,
    read: impl Fn(&Section<'a>) -> Option<T>,
) -> BTreeMap<String, T> {
    let Some(table) = value.get_ref().as_table() else {
        problems.add(codes::CONFIG_VALUE, &value.span(), format!("{kind} must be a table of names: [{kind}.NAME]"));
        return BTreeMap::new();
    };
    let mut items = BTreeMap::new();
    for (key, item) in table {
        let name = key.get_ref().to_string();
        if !item.get_ref().is_table() {
            problems.add(codes::CONFIG_VALUE, &key.span(), format!("[{kind}] has no key {name:?}: it takes sections [{kind}.NAME]"));
            continue;
        }
        if !is_name(&name) {
            problems.add(codes::CONFIG_VALUE, &key.span(), format!("the name {name:?} does not match {NAME_PATTERN}"));
        }
        if let Some(section) = Section::new(kind, format!("{kind}.{name}"), item, problems)
            && let Some(item) = read(&section)
        {
            items.insert(name, item);
        }
    }
    items
}

fn value<T>(given: Option<Given<T>>) -> Option<T> {
    given.map(|g| g.value)
}

fn path(section: &Section<'_>, name: &str) -> Option<PathBuf> {
    value(section.text(name)).map(PathBuf::from)
}

fn secret(section: &Section<'_>, name: &str) -> Option<Secret> {
    value(section.text(name)).map(|text| Secret::new(&text))
}

fn kafka(section: &Section<'_>) -> Option<KafkaSettings> {
    let brokers = section.texts("brokers");
    if brokers.is_none() {
        section.problem(codes::CONFIG_MISSING, format!("[{}] needs brokers", section.path()));
    }
    let brokers = value(brokers).unwrap_or_default();
    let brokers = brokers.iter().flat_map(|b| b.split(',')).map(|b| b.trim().to_owned()).collect();
    Some(KafkaSettings {
        brokers,
        preset: value(section.parse("preset")),
        sasl: section.section("sasl", "kafka.sasl").and_then(|s| sasl(&s)),
        tls: section.section("tls", "kafka.tls").map(|s| tls(&s)),
        properties: section.text_table("properties").into_iter().collect(),
    })
}

fn sasl(section: &Section<'_>) -> Option<SaslSettings> {
    let mechanism = section.parse::<Mechanism>("mechanism");
    if mechanism.is_none() {
        section.problem(codes::CONFIG_MISSING, format!("{} needs a mechanism", section.path()));
    }
    let sasl = SaslSettings {
        username: value(section.text("username")),
        password: secret(section, "password"),
        token_file: path(section, "token_file"),
        token_endpoint: value(section.text("token_endpoint")),
        client_id: value(section.text("client_id")),
        client_secret: secret(section, "client_secret"),
        scope: value(section.text("scope")),
        ..SaslSettings::new(mechanism?.value)
    };
    if let Some(problem) = sasl.problem() {
        section.problem(codes::CONFIG_RELATION, format!("{}: {problem}", section.path()));
    }
    Some(sasl)
}

impl KafkaSettings {
    /// A connection without TLS or login, to `HOST:PORT` or several, separated by commas.
    pub fn plaintext(brokers: &str) -> Self {
        Self { brokers: brokers.split(',').map(str::to_owned).collect(), ..Self::default() }
    }
}

impl SaslSettings {
    /// A login of which nothing but the mechanism is known yet.
    pub fn new(mechanism: Mechanism) -> Self {
        Self {
            mechanism,
            username: None,
            password: None,
            token_file: None,
            token_endpoint: None,
            client_id: None,
            client_secret: None,
            scope: None,
        }
    }

    /// A login by user name and password.
    pub fn password(mechanism: Mechanism, username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { username: Some(username.into()), password: Some(password.into()), ..Self::new(mechanism) }
    }

    /// What is missing for the mechanism, or has no meaning with it.
    fn problem(&self) -> Option<String> {
        let mechanism = self.mechanism;
        if mechanism != Mechanism::OAuthBearer {
            let foreign =
                self.token_file.is_some() || self.token_endpoint.is_some() || self.client_id.is_some() || self.client_secret.is_some();
            return if self.username.is_none() || self.password.is_none() {
                Some(format!("mechanism {mechanism} needs username and password"))
            } else if foreign {
                Some(format!("token_file, token_endpoint, client_id and client_secret mean nothing to mechanism {mechanism}"))
            } else {
                None
            };
        }
        match (&self.token_file, &self.token_endpoint) {
            (Some(_), Some(_)) => Some("token_file and token_endpoint exclude each other".to_owned()),
            (None, None) => Some("mechanism OAUTHBEARER needs token_file, or token_endpoint with client_id and client_secret".to_owned()),
            (None, Some(_)) if self.client_id.is_none() || self.client_secret.is_none() => {
                Some("token_endpoint needs client_id and client_secret".to_owned())
            }
            // It is shown wherever the connection is, and would be a secret then.
            (None, Some(endpoint)) if has_user(endpoint) => {
                Some("token_endpoint names a user before its host; write client_id and client_secret instead".to_owned())
            }
            _ => None,
        }
    }
}

/// Whether a URL has a user's name, or a name and a password, before its host.
fn has_user(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

fn tls(section: &Section<'_>) -> TlsSettings {
    let tls = TlsSettings {
        ca: path(section, "ca"),
        certificate: path(section, "certificate"),
        key: path(section, "key"),
        key_password: secret(section, "key_password"),
        verify: value(section.flag("verify")).unwrap_or(true),
    };
    if tls.certificate.is_some() != tls.key.is_some() {
        section.problem(codes::CONFIG_RELATION, format!("{}: certificate and key need each other", section.path()));
    }
    tls
}

fn store(section: &Section<'_>) -> Option<StoreSettings> {
    let url = section.text("url");
    if url.is_none() {
        section.problem(codes::CONFIG_MISSING, format!("[{}] needs a url", section.path()));
    }
    let url = url?;
    if let Err(error) = StoreUrl::parse(&url.value) {
        section.refused(&url, error);
    }
    let store = StoreSettings {
        url: url.value,
        access_key_id: secret(section, "access_key_id"),
        secret_access_key: secret(section, "secret_access_key"),
        session_token: secret(section, "session_token"),
    };
    if store.access_key_id.is_some() != store.secret_access_key.is_some() {
        section.problem(codes::CONFIG_RELATION, format!("[{}]: access_key_id and secret_access_key need each other", section.path()));
    } else if store.session_token.is_some() && store.access_key_id.is_none() {
        let message = format!("[{}]: session_token needs the access_key_id and secret_access_key that it belongs to", section.path());
        section.problem(codes::CONFIG_RELATION, message);
    }
    Some(store)
}

fn rule(section: &Section<'_>) -> RuleSettings {
    let mut rule = RuleSettings {
        max_bytes: section.parse("max_bytes"),
        budget: section.parse("budget"),
        on_stop: section.parse("on_stop"),
        schedule: section.parse("schedule"),
        group: section.text("group"),
        instance_id: section.text("instance_id"),
        upload_deadline: section.parse("upload_deadline"),
        metrics: section.parse("metrics"),
        ..RuleSettings::default()
    };
    if let Some(source) = section.section("source", "rule.source") {
        rule.kafka = source.text("kafka");
        rule.topics = source.texts("topics");
        rule.start = source.parse("start");
    }
    if let Some(window) = section.section("window", "rule.window") {
        rule.window_every = window.parse("every");
        rule.window_by = window.parse("by");
    }
    if let Some(format) = section.section("format", "rule.format") {
        rule.format = format.parse("kind");
        rule.framing = format.parse("framing");
        rule.codec = format.parse("codec");
        rule.level = format.parse("level");
    }
    if let Some(to) = section.section("to", "rule.to") {
        rule.store = to.text("store");
        rule.prefix = to.text("prefix");
        rule.layout = to.parse("layout");
        rule.path = to.text("path");
        rule.instance = to.text("instance");
        rule.topic_id = to.text("topic_id");
    }
    if let Some(gap) = section.section("on_gap", "rule.on_gap") {
        rule.on_retention = gap.parse("retention");
        rule.on_truncation = gap.parse("truncation");
        rule.on_corrupt_batch = gap.parse("corrupt_batch");
        rule.on_topic_recreated = gap.parse("topic_recreated");
    }
    rule
}

impl Config {
    /// Reads and parses a config file.
    ///
    /// # Errors
    /// `C0102` if it cannot be read, else what [`Config::parse`] finds.
    pub fn load(path: &std::path::Path) -> Result<Self, Vec<Error>> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| {
            let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Invalid };
            vec![
                Error::new(codes::CONFIG_UNREADABLE, kind, format!("cannot read the config file {name}"))
                    .because(e)
                    .help("check the path and that this user may read it"),
            ]
        })?;
        Self::parse(&text, &name)
    }
}
