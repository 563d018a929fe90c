//! What an API call or a file gives as a rule, a connection or a store, and the plan that follows from it.
//!
//! A body has the keys of the config file, as JSON. It is read as the config file is: through its TOML form, so that there is one reader, one list of
//! keys, and one text for each mistake. What is kept is the JSON with its keys in order, so that equal bodies are equal texts.

use serde_json::{Map, Value, json};

use super::state::StoredConnection;
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

/// The connections and stores of the config file, and those that were created beside them.
///
/// # Errors
/// What is wrong with one that was created; it was checked when it was.
pub fn with_created(base: &Config, created: &[StoredConnection]) -> Result<Config, Vec<Error>> {
    let mut config = Config { rules: Default::default(), ..base.clone() };
    for connection in created {
        let one = Config::parse(&to_toml(&connection.kind, &connection.name, &connection.body)?, BODY)?;
        config.kafka.extend(one.kafka);
        config.stores.extend(one.stores);
    }
    Ok(config)
}

/// The plan of a rule.
///
/// # Errors
/// Every problem of the body, and what it names that is not defined.
pub fn plan(config: &Config, name: &str, body: &str, budget: ByteSize, options: RunOptions) -> Result<BackupPlan, Vec<Error>> {
    let rule = Config::parse(&to_toml("rule", name, body)?, BODY)?.rules.remove(name).unwrap_or_default();
    let rule = RuleSettings { metrics: None, budget: rule.budget.clone().or_else(|| Some(Given::flag("--rule-budget", budget))), ..rule };
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
            Value::String(text) if is_secret(key) && !text.starts_with("env:") && !text.starts_with("file:") => *text = "***".to_owned(),
            _ => {}
        }
    }
}

fn is_secret(key: &str) -> bool {
    crate::config::secret::is_secret_property(key) || ["password", "secret", "access_key", "token"].iter().any(|word| key.contains(word))
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
    fn secrets_are_masked_and_references_are_not() {
        let body = json!({ "url": "s3://b/", "access_key_id": "AKIA", "secret_access_key": "file:/x", "sasl": { "password": "hush", "username": "u" } });
        let shown = masked(&body.to_string());
        assert_eq!(shown["access_key_id"], "***");
        assert_eq!(shown["secret_access_key"], "file:/x");
        assert_eq!((&shown["sasl"]["password"], &shown["sasl"]["username"]), (&json!("***"), &json!("u")));
    }
}
