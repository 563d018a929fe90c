//! What an API call or a file gives as a rule, a connection or a store, and the plan that follows from it.
//!
//! Place in the flow: between whoever defines something and the `service`, which keeps it. A body has the keys of the config file, as JSON. It is read as the
//! config file is: through its TOML form, so that there is one reader, one list of keys, and one text for each mistake. What is kept is the JSON with its keys
//! in order, so that equal bodies are equal texts.
//!
//! Pure, and built without Kafka and S3: anybody may send a body, so it is fuzzed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::config::secret::{MASK, is_secret_property};
use crate::config::{BackupPlan, ByteSize, Config, Given, Overrides, RuleSettings, RunOptions, is_name};
use crate::error::{Error, ErrorKind, codes};

/// What a body is called in messages.
const BODY: &str = "body";

/// A kind of thing that rules name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[kafka.NAME]`, at `/api/v1/sources`.
    Kafka,
    /// `[store.NAME]`, at `/api/v1/stores`.
    Store,
}

impl Kind {
    /// Its section in the config file.
    pub fn section(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Store => "store",
        }
    }

    /// The one that a rule's body names.
    pub fn names_in(self, body: &str) -> Option<String> {
        let (section, key) = match self {
            Self::Kafka => ("source", "kafka"),
            Self::Store => ("to", "store"),
        };
        let body: Value = serde_json::from_str(body).ok()?;
        body.get(section)?.get(key)?.as_str().map(str::to_owned)
    }
}

/// Takes `name` out of a body. Returns it with the rest, in one text for equal bodies.
///
/// # Errors
/// `C0105` if the body is no object, or has no name that can be one.
pub fn split(body: Value) -> Result<(String, String), Error> {
    let mut fields = fields_of(body)?;
    match fields.remove("name") {
        Some(Value::String(name)) if is_name(&name) => Ok((name, Value::Object(fields).to_string())),
        Some(other) => {
            Err(refused(&format!("{other} cannot be a name")).help("use lower-case letters, digits, dots, dashes and underscores"))
        }
        None => Err(refused("the body has no name").help("give it a key \"name\"")),
    }
}

/// A body without its name, in one text for equal bodies.
///
/// # Errors
/// `C0105` if it is no object, or has another name than `name`.
pub fn body_of(name: &str, body: Value) -> Result<String, Error> {
    let mut fields = fields_of(body)?;
    match fields.remove("name") {
        Some(given) if given != name => Err(refused("a name is fixed").with("name", name).help("create another one under the new name")),
        _ => Ok(Value::Object(fields).to_string()),
    }
}

fn fields_of(body: Value) -> Result<Map<String, Value>, Error> {
    match body {
        Value::Object(fields) => Ok(fields),
        _ => Err(refused("the body must be an object with the keys of the config file")),
    }
}

fn refused(message: &str) -> Error {
    Error::new(codes::CONFIG_VALUE, ErrorKind::Invalid, message)
        .help("send an object with the keys of the config file; docs/config.md lists them")
}

/// The TOML form of a body: `[rule.NAME]` and its tables.
///
/// # Errors
/// `C0105` for what TOML cannot hold, such as null.
pub fn to_toml(section: &str, name: &str, body: &str) -> Result<String, Error> {
    let body: Value = serde_json::from_str(body).map_err(|e| refused("the body is not JSON").because(e))?;
    let file = json!({ section: { name: body } });
    toml::to_string(&file)
        .map_err(|e| refused("the body holds what a config file cannot").because(e).help("leave out keys that have no value"))
}

/// A rule's body with the connection and the store written out that it leaves out because there is only one: another one that is created later changes
/// nothing about it.
///
/// # Errors
/// `C0105` if it is not JSON.
pub fn resolved(config: &Config, body: &str) -> Result<String, Error> {
    let mut body: Value = serde_json::from_str(body).map_err(|e| refused("the body is not JSON").because(e))?;
    let only = |mut names: Vec<&String>| names.pop().filter(|_| names.is_empty()).cloned();
    for (section, key, name) in
        [("source", "kafka", only(config.kafka.keys().collect())), ("to", "store", only(config.stores.keys().collect()))]
    {
        if let (Some(fields), Some(name)) = (body.as_object_mut(), name)
            && let Value::Object(table) = fields.entry(section).or_insert_with(|| json!({}))
        {
            table.entry(key).or_insert(Value::String(name));
        }
    }
    Ok(body.to_string())
}

/// A body with some of its keys given anew; a table that is given replaces the keys that it names, null takes a key away.
///
/// # Errors
/// `C0105` if either is no object.
pub fn merged(body: &str, over: Value) -> Result<String, Error> {
    let mut fields = fields_of(serde_json::from_str(body).map_err(|e| refused("the body is not JSON").because(e))?)?;
    for (key, value) in fields_of(over)? {
        match (fields.get_mut(&key), value) {
            (Some(Value::Object(inner)), Value::Object(over)) => over.into_iter().for_each(|(key, value)| put(inner, key, value)),
            (_, value) => put(&mut fields, key, value),
        }
    }
    Ok(Value::Object(fields).to_string())
}

fn put(fields: &mut Map<String, Value>, key: String, value: Value) {
    if value.is_null() {
        fields.remove(&key);
    } else {
        fields.insert(key, value);
    }
}

/// A key whose value differs between two bodies.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Difference {
    /// The key with the tables that hold it: `window.every`.
    pub key: String,
    /// What it was; null if it was not given.
    pub before: Value,
    /// What it is; null if it is not given any more.
    pub after: Value,
}

/// What differs between two bodies, by key.
pub fn differences(before: &str, after: &str) -> Vec<Difference> {
    let read = |body: &str| flat(serde_json::from_str(body).unwrap_or_default());
    let (mut before, mut after) = (read(before), read(after));
    let keys: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    let values = keys.into_iter().map(|key| (before.remove(&key).unwrap_or_default(), after.remove(&key).unwrap_or_default(), key));
    values.filter(|(before, after, _)| before != after).map(|(before, after, key)| Difference { key, before, after }).collect()
}

/// What differs between two bodies of a connection or a store, without their secrets: one that has changed is named, with the mask for what it was and is.
pub fn masked_differences(before: &str, after: &str) -> Vec<Difference> {
    let (shown_before, shown_after) = (flat(masked(before)), flat(masked(after)));
    let shown = |all: &BTreeMap<String, Value>, key: &str| all.get(key).cloned().unwrap_or_default();
    let keys = differences(before, after).into_iter().map(|difference| difference.key);
    keys.map(|key| Difference { before: shown(&shown_before, &key), after: shown(&shown_after, &key), key }).collect()
}

/// The values of a body by their keys, each with the tables that hold it.
fn flat(body: Value) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    flatten("", body, &mut keys);
    keys
}

fn flatten(path: &str, value: Value, to: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => fields.into_iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key } else { format!("{path}.{key}") };
            flatten(&path, value, to);
        }),
        value => drop(to.insert(path.to_owned(), value)),
    }
}

/// The bodies of a config file's rules, by name. The text is a config file that was read without a problem.
///
/// # Errors
/// `C0103` if it is not.
pub fn rules_of(text: &str) -> Result<BTreeMap<String, String>, Error> {
    bodies_of(text, "rule")
}

/// The bodies of one of its sections, by name; they may hold secrets.
///
/// # Errors
/// As [`rules_of`].
pub fn bodies_of(text: &str, section: &str) -> Result<BTreeMap<String, String>, Error> {
    let file: Value = toml::from_str(text).map_err(|e| {
        Error::new(codes::CONFIG_SYNTAX, ErrorKind::Invalid, "not TOML").because(e.message()).help("`catchment config check FILE`")
    })?;
    let bodies = file.get(section).and_then(Value::as_object).cloned().unwrap_or_default();
    Ok(bodies.into_iter().map(|(name, body)| (name, body.to_string())).collect())
}

/// Refuses an edit that would read on elsewhere, or under another group: there is nothing to go on from.
///
/// # Errors
/// `C0106`.
pub fn check_edit(before: &BackupPlan, after: &BackupPlan) -> Result<(), Error> {
    if before.group == after.group && before.kafka.brokers == after.kafka.brokers {
        return Ok(());
    }
    Err(Error::new(codes::CONFIG_RELATION, ErrorKind::Invalid, "an edit changes neither the group nor the cluster")
        .with("rule", &before.rule)
        .help("create another rule, with a start, for what is read there"))
}

/// The plan of a rule.
///
/// # Errors
/// Every problem of the body, and what it names that is not defined.
pub fn plan(config: &Config, name: &str, body: &str, budget: ByteSize, options: RunOptions) -> Result<BackupPlan, Vec<Error>> {
    let rule = Config::parse(&to_toml("rule", name, body)?, BODY)?.rules.remove(name).unwrap_or_default();
    let rule = RuleSettings { metrics: None, budget: rule.budget.clone().or_else(|| Some(Given::flag("--budget", budget))), ..rule };
    let config = Config { rules: [(name.to_owned(), rule)].into(), ..config.clone() };
    BackupPlan::new(&config, Overrides { rule: Some(name.to_owned()), ..Overrides::default() }, options)
}

/// A connection's or a store's body without its secrets.
pub fn masked(body: &str) -> Value {
    let mut value = serde_json::from_str(body).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        mask(fields);
    }
    value
}

fn mask(fields: &mut Map<String, Value>) {
    for (key, value) in fields.iter_mut() {
        match value {
            Value::Object(inner) => mask(inner),
            Value::String(text) if text.starts_with("env:") || text.starts_with("file:") => {}
            value if is_secret(key) => *value = json!(MASK),
            _ => {}
        }
    }
}

/// A body that was shown without its secrets, with those of the body before in the places where the mask still stands.
///
/// # Errors
/// `C0105` if there is none to keep in such a place.
pub fn unmasked(mut body: Value, before: &str) -> Result<Value, Error> {
    let before = serde_json::from_str(before).unwrap_or_default();
    if let Value::Object(fields) = &mut body {
        keep_secrets(fields, &before)?;
    }
    Ok(body)
}

fn keep_secrets(fields: &mut Map<String, Value>, before: &Value) -> Result<(), Error> {
    for (key, value) in fields.iter_mut() {
        let kept = before.get(key);
        match value {
            Value::Object(inner) => keep_secrets(inner, kept.unwrap_or(&Value::Null))?,
            Value::String(text) if text == MASK && is_secret(key) => {
                let none =
                    || refused("there is no secret to keep").with("key", key).help("write it out, or where it is: env:NAME or file:/path");
                *value = kept.cloned().ok_or_else(none)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a key of a connection or a store, or a property, holds a secret, by its name.
pub fn is_secret(key: &str) -> bool {
    // Where a token comes from is no secret.
    !["token_file", "token_endpoint", "sasl.oauthbearer.token.endpoint.url"].contains(&key)
        && (is_secret_property(key) || ["password", "secret", "access_key", "token"].iter().any(|word| key.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"file:///x/\"\n";

    fn plan_of(body: &Value) -> Result<BackupPlan, Vec<Error>> {
        let config = Config::parse(BASE, "base").unwrap();
        plan(&config, "orders", &body.to_string(), "128MiB".parse().unwrap(), RunOptions::default())
    }

    #[test]
    fn a_body_has_the_keys_of_the_config_file() {
        let plan = plan_of(&json!({ "source": { "topics": ["orders"] }, "window": { "every": "1m" }, "max_bytes": 2_000_000 })).unwrap();
        assert_eq!((plan.rule.as_str(), plan.group.as_str(), plan.window.every.to_string().as_str()), ("orders", "catchment-orders", "1m"));
        assert_eq!(plan.budget.bytes(), 128 << 20);
    }

    #[test]
    fn mistakes_are_those_of_the_config_file() {
        let code = |body: Value| plan_of(&body).unwrap_err()[0].code;
        assert_eq!(code(json!({ "source": { "topic": "a" } })), codes::CONFIG_UNKNOWN_KEY);
        assert_eq!(code(json!({ "source": { "topics": ["a"] }, "window": { "every": "2d" } })), codes::CONFIG_RELATION);
        assert_eq!(code(json!({ "source": { "topics": ["a"], "kafka": "none" } })), codes::CONFIG_NAME);
        assert_eq!(code(json!({ "source": null })), codes::CONFIG_VALUE);
    }

    #[test]
    fn a_name_is_taken_out_and_equal_bodies_are_equal_texts() {
        let (name, body) = split(json!({ "window": {}, "name": "a", "source": { "topics": ["t"], "kafka": "k" } })).unwrap();
        assert_eq!((name.as_str(), body.as_str()), ("a", r#"{"source":{"kafka":"k","topics":["t"]},"window":{}}"#));
        for body in [json!([]), json!({}), json!({ "name": "A b" }), json!({ "name": 1 })] {
            assert_eq!(split(body).unwrap_err().code, codes::CONFIG_VALUE);
        }
        assert!(body_of("a", json!({ "name": "b" })).is_err());
    }

    #[test]
    fn what_is_left_out_is_written_out_while_there_is_one() {
        let config = Config::parse(BASE, "base").unwrap();
        let body = resolved(&config, r#"{"source":{"topics":["t"]}}"#).unwrap();
        assert_eq!(body, r#"{"source":{"kafka":"k","topics":["t"]},"to":{"store":"s"}}"#);
        assert_eq!(resolved(&config, &body).unwrap(), body);
        let none = Config::default();
        assert_eq!(resolved(&none, r#"{"source":{}}"#).unwrap(), r#"{"source":{}}"#);
    }

    #[test]
    fn an_edit_stays_with_its_group_and_its_cluster() {
        let of = |group: &str| plan_of(&json!({ "source": { "topics": ["a"] }, "group": group })).unwrap();
        check_edit(&of("g"), &of("g")).unwrap();
        assert_eq!(check_edit(&of("g"), &of("h")).unwrap_err().code, codes::CONFIG_RELATION);
    }

    #[test]
    fn keys_are_given_anew_and_taken_away_one_by_one() {
        let body = r#"{"to":{"prefix":"a/","store":"s"},"window":{"every":"1m"}}"#;
        let over = json!({ "to": { "prefix": "b/" }, "window": null, "budget": "128MiB" });
        let merged = merged(body, over).unwrap();
        assert_eq!(merged, r#"{"budget":"128MiB","to":{"prefix":"b/","store":"s"}}"#);
        let told: Vec<_> = differences(body, &merged).into_iter().map(|d| (d.key, d.before, d.after)).collect();
        let text = |key: &str, before: Value, after: Value| (key.to_owned(), before, after);
        assert_eq!(
            told,
            [
                text("budget", Value::Null, json!("128MiB")),
                text("to.prefix", json!("a/"), json!("b/")),
                text("window.every", json!("1m"), Value::Null),
            ]
        );
        assert!(differences(&merged, &merged).is_empty());
    }

    #[test]
    fn rules_of_a_file_are_bodies() {
        let rules = rules_of("[kafka.k]\nbrokers = \"h:1\"\n[rule.a]\nsource = { topics = [\"t\"] }\n[rule.b]\nmax_bytes = 5\n").unwrap();
        let rules: Vec<_> = rules.iter().map(|(name, body)| (name.as_str(), body.as_str())).collect();
        assert_eq!(rules, [("a", r#"{"source":{"topics":["t"]}}"#), ("b", r#"{"max_bytes":5}"#)]);
        assert!(rules_of("no toml").is_err());
    }

    #[test]
    fn secrets_are_masked_and_references_are_not() {
        let body = json!({ "url": "s3://b/", "access_key_id": "AKIA", "secret_access_key": "file:/x", "sasl": { "password": "hush", "username": "u" } });
        let shown = masked(&body.to_string());
        let numbers = masked(r#"{"properties":{"ssl.key.password":123456,"fetch.wait.max.ms":5}}"#);
        assert_eq!(numbers, json!({ "properties": { "ssl.key.password": "***", "fetch.wait.max.ms": 5 } }));
        assert_eq!(shown["access_key_id"], "***");
        assert_eq!(shown["secret_access_key"], "file:/x");
        assert_eq!((&shown["sasl"]["password"], &shown["sasl"]["username"]), (&json!("***"), &json!("u")));
    }

    #[test]
    fn where_a_token_comes_from_is_shown() {
        let body = json!({
            "sasl": { "token_endpoint": "https://t/", "token_file": "/t", "client_secret": "hush" },
            "session_token": "hush",
            "properties": { "sasl.oauthbearer.token.endpoint.url": "https://t/" },
        });
        let mut wanted = body.clone();
        wanted["sasl"]["client_secret"] = json!(MASK);
        wanted["session_token"] = json!(MASK);
        assert_eq!(masked(&body.to_string()), wanted);
    }

    #[test]
    fn a_secret_that_was_not_shown_is_kept() {
        let before =
            json!({ "brokers": ["h:1"], "sasl": { "username": "u", "password": "hush" }, "properties": { "ssl.key.password": 5 } });
        let mut shown = masked(&before.to_string());
        assert_eq!(unmasked(shown.clone(), &before.to_string()).unwrap(), before);
        shown["sasl"]["password"] = json!("new");
        assert_eq!(unmasked(shown.clone(), &before.to_string()).unwrap()["sasl"]["password"], "new");
        let nothing_to_keep = unmasked(json!({ "sasl": { "password": "***" } }), r#"{"sasl":{"username":"u"}}"#).unwrap_err();
        assert_eq!(nothing_to_keep.code, codes::CONFIG_VALUE);
        assert!(!format!("{nothing_to_keep:?}").contains("hush"));
        assert_eq!(unmasked(json!({ "prefix": "***" }), "{}").unwrap(), json!({ "prefix": "***" }), "that is no secret's place");
    }
}
