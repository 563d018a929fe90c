//! Kafka connections and stores that rules name: those of the config file, and those that were created beside them.
//!
//! Place in the flow: as [`changes`](super::changes) for rules: the API and the console ask here, the [state](super::state) keeps what comes of it. None is
//! written over, since rules may rest on it, and none is forgotten that a rule names.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::changes::now_ms;
use super::definition::{self, Kind};
pub use super::state::CONNECTION_IN_USE;
use super::state::{Origin, State, StoredConnection, connection_exists, connection_unknown};
use super::supervisor::Supervisor;
use crate::config::{Config, KafkaSettings, StoreSettings};
use crate::error::{Error, Result};

/// A connection or a store as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Connection {
    /// Its name.
    pub name: String,
    /// Where it is defined.
    pub origin: Origin,
    /// Its keys with secrets masked; null for one of the config file.
    pub body: Option<Value>,
}

fn shown(connection: &StoredConnection) -> Connection {
    Connection { name: connection.name.clone(), origin: Origin::Api, body: Some(definition::masked(&connection.body)) }
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
        let of_file = names.iter().map(|name| Connection { name: (*name).clone(), origin: Origin::File, body: None });
        let created = created.iter().filter(|one| one.kind == kind.section() && !names.contains(&&one.name)).map(shown);
        Ok(of_file.chain(created).collect())
    }

    /// Creates one.
    ///
    /// # Errors
    /// Every problem of the body; `C0601`, `C0611`.
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
        Config::parse(&definition::to_toml(kind.section(), &name, &body)?, "body")?;
        let connection = StoredConnection { kind: kind.section().to_owned(), name, body };
        let (kept, who) = (connection.clone(), who.to_owned());
        self.state().ask(move |state| state.put_connection(&kept, &who, now_ms())).await?;
        Ok(shown(&connection))
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

    /// A store by its name.
    ///
    /// # Errors
    /// `C0601`, `C0612`.
    pub async fn store_named(&self, name: &str) -> Result<StoreSettings> {
        self.config().await?.stores.remove(name).ok_or_else(|| connection_unknown("store", name))
    }
}
