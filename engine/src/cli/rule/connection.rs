//! The actions of `catchment rule` on Kafka connections and stores, and the call of the API that each is.

use clap::Subcommand;

use super::args::{BodyArgs, EditArgs, NameArgs, TopicArgs, query};
use super::call::Call;
use crate::error::Result;
use crate::https::escaped;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum ConnectionAction {
    /// Kafka connections that rules may name
    Sources,
    /// One Kafka connection
    ShowSource(NameArgs),
    /// A new Kafka connection from a config file's [kafka.NAME]
    CreateSource(BodyArgs),
    /// Other settings for a Kafka connection, from a config file's [kafka.NAME]
    EditSource(EditArgs),
    /// Forget a Kafka connection that no rule names
    DeleteSource(NameArgs),
    /// Try a Kafka connection
    TestSource(NameArgs),
    /// Topics of a Kafka connection
    Topics {
        #[command(flatten)]
        name: NameArgs,
        /// A part of the name, or an expression with a leading ^
        #[arg(value_name = "SEARCH", default_value = "")]
        search: String,
    },
    /// What a topic holds, partition by partition
    Topic(TopicArgs),
    /// Some of a topic's last records
    Records {
        #[command(flatten)]
        topic: TopicArgs,
        /// How many records, at most 20
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// Stores that rules may name
    Stores,
    /// One store
    ShowStore(NameArgs),
    /// A new store from a config file's [store.NAME]
    CreateStore(BodyArgs),
    /// Other settings for a store, from a config file's [store.NAME]
    EditStore(EditArgs),
    /// Forget a store that no rule names
    DeleteStore(NameArgs),
    /// What a store permits, and what its create-only guards are worth
    ProbeStore {
        #[command(flatten)]
        name: NameArgs,
        /// Below this prefix, which is all that a policy for a rule with it need permit; the store's own if it is left out
        #[arg(long, value_name = "PREFIX")]
        prefix: Option<String>,
    },
}

impl ConnectionAction {
    /// The call that it is.
    pub(super) fn call(&self) -> Result<Call> {
        let source = |method, NameArgs { name }: &NameArgs, below: &str| Call::new(method, format!("/sources/{name}{below}"));
        let store = |method, NameArgs { name }: &NameArgs, below: &str| Call::new(method, format!("/stores/{name}{below}"));
        Ok(match self {
            Self::Sources => Call::new("GET", "/sources"),
            Self::ShowSource(name) => source("GET", name, ""),
            Self::CreateSource(body) => Call::new("POST", "/sources").with_body(body.named("kafka")?),
            Self::EditSource(edit) => edit.call("/sources", "kafka")?,
            Self::DeleteSource(name) => source("DELETE", name, ""),
            Self::TestSource(name) => source("POST", name, "/test"),
            Self::Topics { name, search } => source("GET", name, &format!("/topics?search={}", escaped(search))),
            Self::Topic(TopicArgs { name, topic }) => source("GET", name, &format!("/topics/{}", escaped(topic))),
            Self::Records { topic: TopicArgs { name, topic }, limit } => {
                let path = format!("/topics/{}/records", escaped(topic));
                source("GET", name, &query(&path, &[("limit", limit.map(|n| n.to_string()))]))
            }
            Self::Stores => Call::new("GET", "/stores"),
            Self::ShowStore(name) => store("GET", name, ""),
            Self::CreateStore(body) => Call::new("POST", "/stores").with_body(body.named("store")?),
            Self::EditStore(edit) => edit.call("/stores", "store")?,
            Self::DeleteStore(name) => store("DELETE", name, ""),
            Self::ProbeStore { name, prefix } => store("POST", name, &query("/probe", &[("prefix", prefix.clone())])),
        })
    }
}
