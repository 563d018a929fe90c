//! What workers are told to run: the rules as they stand, with what they need on another machine.
//!
//! Place in the flow: made of the [state](super::state) and the connections each time that a worker asks, and sent by [`workers`](super::workers) if it has
//! changed. It holds no secret: see [`portable`].

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::changes::now_ms;
use super::definition::Kind;
use super::portable;
use super::state::{Request, Requests, State, StoredRule, Wanted};
use super::supervisor::Supervisor;
use crate::config::Config;
use crate::error::Result;

/// Everything that is to run.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RuleSet {
    /// The rules.
    pub rules: Vec<RuleOrder>,
    /// The connections and stores that they name.
    pub connections: Vec<ConnectionOrder>,
    /// Rules that only the server itself can run.
    pub withheld: Vec<Withheld>,
}

/// A rule that is to run, or to be paused.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RuleOrder {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: i64,
    /// When it was created, ms since 1970: another one of its name is another rule.
    pub created_ms: i64,
    /// Whether it should run.
    pub wanted: Wanted,
    /// The keys of `[rule.NAME]`.
    #[schema(value_type = Object)]
    pub body: Value,
    /// The places that versions before this one have left, by their hashes.
    pub moved_from: Vec<String>,
    /// The number of the last request to begin anew; 0 if there was none.
    pub request: i64,
    /// The requests of the last minutes. Each is for who has not heard of it.
    #[serde(default)]
    pub requests: Vec<Request>,
    /// Whether the last of them wants the open windows closed: for workers of a version that knows one request alone.
    pub seal: bool,
    /// Its answers to the questions of stopped lanes: for the same.
    pub accept: Vec<String>,
}

/// A connection or a store that rules name. Secrets are references.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectionOrder {
    /// `kafka` or `store`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The keys of `[kafka.NAME]` or `[store.NAME]`.
    #[schema(value_type = Object)]
    pub body: Value,
}

/// A rule that workers do not get.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Withheld {
    /// The rule.
    pub rule: String,
    /// Why.
    pub reason: String,
}

impl Supervisor {
    /// Everything that workers are to run now.
    ///
    /// # Errors
    /// `C0601`.
    pub(super) async fn rule_set(&self) -> Result<RuleSet> {
        let config = self.config().await?;
        let ask = |state: &State| Ok((state.rules()?, state.requests(now_ms())?, state.all_left_destinations()?));
        let (rules, mut requests, mut left) = self.state().ask(ask).await?;
        let (mut set, mut connections) = (RuleSet::default(), BTreeMap::new());
        for rule in rules {
            match named_in(&config, &rule) {
                Ok(named) => {
                    connections.extend(named);
                    let requests = requests.remove(&rule.name).unwrap_or_default();
                    set.rules.push(order(&rule, requests, left.remove(&rule.name).unwrap_or_default()));
                }
                Err(error) => set.withheld.push(Withheld { rule: rule.name, reason: error.to_string() }),
            }
        }
        let connection = |((kind, name), body): ((&str, String), Value)| ConnectionOrder { kind: kind.to_owned(), name, body };
        set.connections = connections.into_iter().map(connection).collect();
        Ok(set)
    }
}

fn order(rule: &StoredRule, requests: Requests, moved_from: Vec<String>) -> RuleOrder {
    RuleOrder {
        name: rule.name.clone(),
        version: rule.version,
        created_ms: rule.created_ms,
        wanted: rule.runs(),
        body: serde_json::from_str(&rule.body).unwrap_or_default(),
        moved_from,
        request: requests.last,
        seal: requests.told.last().is_some_and(|last| last.seal),
        accept: requests.told.last().map(|last| last.accept.clone()).unwrap_or_default(),
        requests: requests.told,
    }
}

/// The connection and the store that a rule names, as they cross. What it names that is not there is not known on the other side either.
fn named_in(config: &Config, rule: &StoredRule) -> Result<Vec<((&'static str, String), Value)>> {
    let body: Value = serde_json::from_str(&rule.body).unwrap_or_default();
    portable::check_member(body["instance_id"].as_str())?;
    let mut named = Vec::new();
    if let Some(name) = Kind::Kafka.names_in(&rule.body)
        && let Some(settings) = config.kafka.get(&name)
    {
        named.push(((Kind::Kafka.section(), name), portable::kafka(settings)?));
    }
    if let Some(name) = Kind::Store.names_in(&rule.body)
        && let Some(settings) = config.stores.get(&name)
    {
        named.push(((Kind::Store.section(), name), portable::store(settings)?));
    }
    Ok(named)
}

/// A text that is the same for the same set, also in the next process. That a request is not told any more is no change of it.
pub(super) fn revision_of(set: &RuleSet) -> String {
    let mut hash = DefaultHasher::new();
    let without_requests = |rule: &RuleOrder| RuleOrder { requests: Vec::new(), seal: false, accept: Vec::new(), ..rule.clone() };
    let set = RuleSet { rules: set.rules.iter().map(without_requests).collect(), ..set.clone() };
    serde_json::to_string(&set).unwrap_or_default().hash(&mut hash);
    format!("{:016x}", hash.finish())
}

#[cfg(test)]
mod tests {
    use super::super::state::Origin;
    use super::*;

    #[test]
    fn a_rule_with_a_secret_in_its_connection_is_withheld_and_a_reference_is_not() {
        let rule = |body: &str| StoredRule {
            name: "r".into(),
            version: 1,
            wanted: Wanted::Running,
            origin: Origin::Api,
            created_ms: 1,
            body: body.into(),
        };
        let file =
            "[kafka.k]\nbrokers = \"h:1\"\n[store.s]\nurl = \"s3://lake/\"\naccess_key_id = \"env:A\"\nsecret_access_key = \"file:/x\"\n";
        let config = |text: &str| Config::parse(text, "test").unwrap();
        let body = r#"{"source":{"kafka":"k","topics":["t"]},"to":{"store":"s"}}"#;
        let named = named_in(&config(file), &rule(body)).unwrap();
        assert_eq!(named.iter().map(|((kind, name), _)| (*kind, name.as_str())).collect::<Vec<_>>(), [("kafka", "k"), ("store", "s")]);
        let inline = config(&file.replace("file:/x", "hush"));
        assert_eq!(named_in(&inline, &rule(body)).unwrap_err().code, portable::SECRET_INLINE);
        let named = rule(r#"{"instance_id":"me","source":{"kafka":"k"}}"#);
        assert_eq!(named_in(&config(file), &named).unwrap_err().code, portable::MEMBER_NAMED);
    }
}
