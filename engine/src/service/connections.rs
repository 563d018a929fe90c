//! Kafka connections and stores that rules name: those of the config file, and those that were created beside them.
//!
//! Place in the flow: as [`changes`](super::changes) for rules: the API and the console ask here, the [state](super::state) keeps what comes of it. None is
//! written over by a new one, none is forgotten that a rule names, and an edit leads none that a rule names elsewhere: a rule moves by an edit of its own, at
//! a window's boundary. Rules that run go on with the settings that they have until they start again.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::changes::now_ms;
use super::definition::{self, Kind};
use super::files::Bodies;
use super::own_files::OwnFiles;
pub use super::state::CONNECTION_IN_USE;
use super::state::{Origin, State, StoredConnection, connection_exists, connection_unknown};
use super::supervisor::Supervisor;
use crate::config::{Config, KafkaSettings, StoreSettings};
use crate::error::{Error, ErrorKind, Result, codes};

/// A connection or a store as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Connection {
    /// Its name.
    pub name: String,
    /// Where it is defined.
    pub origin: Origin,
    /// Its keys with secrets masked; null for one of the config file.
    pub body: Option<Value>,
    /// The number of its version, from 1; its ETag. Null for one of the config file.
    pub version: Option<i64>,
}

fn shown(connection: &StoredConnection) -> Connection {
    let (body, version) = (Some(definition::masked(&connection.body)), Some(connection.version));
    Connection { name: connection.name.clone(), origin: Origin::Api, body, version }
}

/// Where a body leads: what rests on it is read or written there. Not into the service's own state.
fn place(kind: Kind, name: &str, body: &str, own: &OwnFiles) -> Result<Vec<String>, Vec<Error>> {
    let config = Config::parse(&definition::to_toml(kind.section(), name, body)?, "body")?;
    own.check_connections(&config)?;
    let addresses = |all: &[String]| all.iter().filter(|address| !address.is_empty()).cloned().collect::<Vec<_>>();
    let brokers = config.kafka.get(name).map(|kafka| addresses(&kafka.brokers));
    let url = config.stores.get(name).map(|store| vec![store.url.clone()]);
    Ok(brokers.or(url).unwrap_or_default())
}

/// The addresses that a body gives as a list or as a text, with commas or without.
pub(super) fn brokers_of(given: &Value) -> Vec<&str> {
    let all = given.as_array().map_or(std::slice::from_ref(given), Vec::as_slice);
    let addresses = all.iter().filter_map(Value::as_str).flat_map(|text| text.split(','));
    addresses.map(str::trim).filter(|address| !address.is_empty()).collect()
}

/// The addresses of a body, whatever else is wrong with it.
fn named_in(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    match body["url"].as_str() {
        Some(url) => vec![url.to_owned()],
        None => brokers_of(&body["brokers"]).into_iter().map(str::to_owned).collect(),
    }
}

/// Where a connection's secrets go, and under what cover: whoever may not see them must not have them sent elsewhere. The same way is equal however it is
/// written.
fn way(body: &Value) -> Vec<Value> {
    let is_cover = |key: &str| ["security.", "ssl.", "sasl.", "https.", "enable.ssl"].iter().any(|head| key.starts_with(head));
    let properties = body["properties"].as_object().into_iter().flatten().filter(|(key, _)| is_cover(key));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let properties = properties.map(|(key, value)| json!([key, text(value)]));
    let fixed = [&body["url"], &body["preset"], &body["tls"], &body["sasl"]["mechanism"], &body["sasl"]["token_endpoint"]];
    std::iter::once(json!(brokers_of(&body["brokers"]))).chain(fixed.into_iter().cloned()).chain(properties).collect()
}

fn in_use(name: &str, rule: &str, help: &str) -> Error {
    Error::new(CONNECTION_IN_USE, ErrorKind::Invalid, "a rule names it").with("name", name).with("rule", rule).help(help)
}

impl Supervisor {
    /// All of a kind: those of the config file first.
    ///
    /// # Errors
    /// `C0601`.
    pub async fn connections(&self, kind: Kind) -> Result<Vec<Connection>> {
        let base = self.base();
        let created = self.state().ask(State::connections).await?;
        let names: Vec<&String> = match kind {
            Kind::Kafka => base.kafka.keys().collect(),
            Kind::Store => base.stores.keys().collect(),
        };
        let of_file = names.iter().map(|name| Connection { name: (*name).clone(), origin: Origin::File, body: None, version: None });
        let created = created.iter().filter(|one| one.kind == kind.section() && !names.contains(&&one.name)).map(shown);
        Ok(of_file.chain(created).collect())
    }

    /// One of a kind.
    ///
    /// # Errors
    /// `C0601`, `C0612`.
    pub async fn connection(&self, kind: Kind, name: &str) -> Result<Connection> {
        let found = self.connections(kind).await?.into_iter().find(|one| one.name == name);
        found.ok_or_else(|| connection_unknown(kind.section(), name))
    }

    /// Creates one.
    ///
    /// # Errors
    /// Every problem of the body; `C0601`, `C0611`, `C0657`.
    pub async fn create_connection(&self, kind: Kind, body: Value, who: &str) -> Result<Connection, Vec<Error>> {
        let (name, body) = definition::split(body)?;
        let config = self.config().await?;
        let exists = match kind {
            Kind::Kafka => config.kafka.contains_key(&name),
            Kind::Store => config.stores.contains_key(&name),
        };
        if exists {
            return Err(vec![connection_exists(&name)]);
        }
        place(kind, &name, &body, self.own_files())?;
        let connection = StoredConnection { kind: kind.section().to_owned(), name, body, version: 1 };
        let (kept, who) = (connection.clone(), who.to_owned());
        self.state().ask(move |state| state.put_connection(&kept, &who, now_ms())).await?;
        Ok(shown(&connection))
    }

    /// Gives one other settings. One of the config file is changed there.
    ///
    /// # Errors
    /// Every problem of the body; `C0601`, `C0604`, `C0612`, `C0657`; `C0618` if it would lead a rule elsewhere.
    pub async fn edit_connection(
        &self,
        kind: Kind,
        name: &str,
        version: Option<i64>,
        body: Value,
        who: &str,
    ) -> Result<Connection, Vec<Error>> {
        // A rule that is created meanwhile would find the connection moved under it.
        let _alone = self.writing().await;
        let body = self.edited(kind, name, body).await?;
        let (edited, who) = (name.to_owned(), who.to_owned());
        let edit = move |state: &State| state.edit_connection((kind.section(), &edited), version, &body, &who, now_ms());
        Ok(shown(&self.state().ask(edit).await?))
    }

    /// The settings that an edit would give one, to be tried before they are kept.
    ///
    /// # Errors
    /// As [`edit_connection`](Self::edit_connection), but for `C0604`.
    pub async fn settings_of_edit(&self, kind: Kind, name: &str, body: Value) -> Result<Config, Vec<Error>> {
        let body = self.edited(kind, name, body).await?;
        Config::parse(&definition::to_toml(kind.section(), name, &body)?, "body")
    }

    /// The body of an edit, with the secrets that its masks stand for.
    async fn edited(&self, kind: Kind, name: &str, body: Value) -> Result<String, Vec<Error>> {
        if self.connection(kind, name).await?.origin == Origin::File {
            return Err(vec![connection_unknown(kind.section(), name)]);
        }
        let sought = name.to_owned();
        let before = self.state().ask(move |state| state.connection(kind.section(), &sought)).await?;
        let full = definition::unmasked(body.clone(), &before.body)?;
        let keeps = full != body;
        let body = definition::body_of(name, full.clone())?;
        let place = |body: &str| place(kind, name, body, self.own_files());
        // One that an earlier version took, and this one does not, must be mended where it stands.
        let was = place(&before.body).unwrap_or_else(|_| named_in(&before.body));
        let moves = place(&body)? != was;
        if let Some(rule) = self.rule_that_names(kind, name).await?.filter(|_| moves) {
            return Err(vec![in_use(name, &rule, "create another one for the other address, and edit the rules that should use it")]);
        }
        if keeps && way(&full) != way(&serde_json::from_str(&before.body).unwrap_or_default()) {
            return Err(vec![
                Error::new(
                    codes::CONFIG_VALUE,
                    ErrorKind::Invalid,
                    "the connection leads elsewhere, and a secret that is not shown stays here",
                )
                .with("name", name)
                .help("write each secret out, or where it is: env:NAME or file:/path"),
            ]);
        }
        Ok(body)
    }

    async fn rule_that_names(&self, kind: Kind, name: &str) -> Result<Option<String>> {
        let rules = self.rules().await?.into_iter();
        Ok(rules.map(|rule| (kind.names_in(&rule.body), rule.name)).find(|(named, _)| named.as_deref() == Some(name)).map(|(_, rule)| rule))
    }

    /// Writes down what a later reading of the config file has changed of its connections and stores, without their secrets.
    ///
    /// # Errors
    /// `C0601`.
    pub async fn note_reading(&self, before: &Bodies, later: &Bodies, who: &str) -> Result<()> {
        let (before, later, who) = (before.clone(), later.clone(), who.to_owned());
        self.state().ask(move |state| state.note_reading(&before, &later, &who, now_ms())).await
    }

    /// Forgets one that no rule names.
    ///
    /// # Errors
    /// `C0601`, `C0612`, `C0618`.
    pub async fn delete_connection(&self, kind: Kind, name: String, who: &str) -> Result<()> {
        let who = who.to_owned();
        self.state().ask(move |state| state.delete_connection(kind, &name, &who, now_ms())).await
    }

    /// A Kafka connection by its name.
    ///
    /// # Errors
    /// `C0601`, `C0612`.
    pub async fn kafka_named(&self, name: &str) -> Result<KafkaSettings> {
        self.config().await?.kafka.remove(name).ok_or_else(|| connection_unknown("kafka", name))
    }

    /// A store by its name, to be used below this prefix.
    ///
    /// # Errors
    /// `C0601`, `C0612`, `C0657`.
    pub async fn store_named(&self, name: &str, prefix: &str) -> Result<StoreSettings> {
        let store = self.config().await?.stores.remove(name).ok_or_else(|| connection_unknown("store", name))?;
        self.check_place(&store, prefix)?;
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_way_is_equal_however_it_is_written() {
        let plain = way(&json!({ "brokers": ["a:1", "b:2"], "properties": { "enable.ssl.certificate.verification": "true" } }));
        for brokers in [json!("a:1,b:2"), json!(" a:1 , b:2,"), json!(["a:1,b:2"])] {
            let body = json!({ "brokers": brokers, "properties": { "enable.ssl.certificate.verification": true, "client.id": 5 } });
            assert_eq!(way(&body), plain, "{body}");
        }
        for other in [
            json!({ "brokers": "a:1", "properties": { "enable.ssl.certificate.verification": true } }),
            json!({ "brokers": "a:1,b:2", "properties": { "enable.ssl.certificate.verification": false } }),
            json!({ "brokers": "a:1,b:2" }),
        ] {
            assert_ne!(way(&other), plain, "{other}");
        }
    }

    #[test]
    fn the_same_place_is_equal_however_it_is_written() {
        let of = |brokers: Value| place(Kind::Kafka, "k", &json!({ "brokers": brokers }).to_string(), &OwnFiles::below(None)).unwrap();
        assert_eq!(of(json!("a:1, b:2,")), of(json!(["a:1", "b:2"])));
        assert_ne!(of(json!("a:1")), of(json!(["a:1", "b:2"])));
    }
}
