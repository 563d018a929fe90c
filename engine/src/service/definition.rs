//! [Definitions](crate::definition) as the service needs them: the config file with the connections and stores that were created beside it.

use super::own_files::OwnFiles;
use super::state::StoredConnection;
use crate::config::Config;
use crate::error::{Error, Result};

pub use crate::definition::{
    Difference, Kind, bodies_of, body_of, check_edit, differences, masked, masked_differences, merged, plan, resolved, rules_of, split,
    to_toml, unmasked,
};

/// The connections and stores of the config file, and those that were created beside them. What the file has counts; one that was created by an
/// earlier version and cannot be read any more, or that leads into the service's own state, is left out, and what names it says so.
pub fn with_created(base: &Config, created: &[StoredConnection], own: &OwnFiles) -> Config {
    let mut config = Config { rules: Default::default(), ..base.clone() };
    for connection in created {
        match one(connection, own) {
            Ok(one) => {
                // The later one of two counts.
                config.kafka = one.kafka.into_iter().chain(config.kafka).collect();
                config.stores = one.stores.into_iter().chain(config.stores).collect();
            }
            Err(errors) => errors.iter().for_each(|e| tracing::error!(name = connection.name, "a connection cannot be used any more: {e}")),
        }
    }
    config
}

/// A config that has this connection alone.
fn one(connection: &StoredConnection, own: &OwnFiles) -> Result<Config, Vec<Error>> {
    let config = Config::parse(&to_toml(&connection.kind, &connection.name, &connection.body)?, "body")?;
    own.check_connections(&config)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn difference(key: &str, before: Value, after: Value) -> Difference {
        Difference { key: key.to_owned(), before, after }
    }

    #[test]
    fn a_secret_that_has_changed_is_named_and_not_shown() {
        let of = |password: &str, url: &str| {
            let login = json!({ "mechanism": "PLAIN", "username": "u", "password": password });
            json!({ "url": url, "sasl": login, "properties": { "ssl.key.password": password, "client.id": "x" } }).to_string()
        };
        let changed = masked_differences(&of("hush-one", "a"), &of("hush-two", "b"));
        let both = |key: &str| difference(key, json!("***"), json!("***"));
        assert_eq!(changed, [both("properties.ssl.key.password"), both("sasl.password"), difference("url", json!("a"), json!("b"))]);
        assert!(masked_differences(&of("hush-one", "a"), &of("hush-one", "a")).is_empty());
    }

    #[test]
    fn a_secret_that_comes_or_goes_or_moves_to_where_it_is_read_is_told_from_one_that_stays() {
        let (none, typed, read) = ("{}", r#"{"session_token":"hush-one"}"#, r#"{"session_token":"env:TOKEN"}"#);
        let (mask, place) = (json!("***"), json!("env:TOKEN"));
        for (before, after, was, is) in [
            (none, typed, &Value::Null, &mask),
            (typed, read, &mask, &place),
            (read, typed, &place, &mask),
            (typed, none, &mask, &Value::Null),
        ] {
            assert_eq!(masked_differences(before, after), [difference("session_token", was.clone(), is.clone())], "{before} {after}");
        }
    }

    #[test]
    fn what_was_created_stands_beside_what_the_file_has_and_never_in_its_place() {
        let base = Config::parse("[kafka.k]\nbrokers = [\"h:1\"]\n", "base").unwrap();
        let created = |name: &str, body: &str| StoredConnection { kind: "kafka".into(), name: name.into(), body: body.into(), version: 1 };
        let config = with_created(
            &base,
            &[created("k", r#"{"brokers":["h:2"]}"#), created("more", r#"{"brokers":["h:3"]}"#), created("old", r#"{"nonsense":1}"#)],
            &OwnFiles::below(None),
        );
        assert_eq!(config.kafka.keys().collect::<Vec<_>>(), ["k", "more"]);
        assert_eq!(config.kafka["k"].brokers, ["h:1"]);
    }
}
