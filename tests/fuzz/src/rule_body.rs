//! Bodies of rules, as `POST /api/v1/rules` takes them: anybody who has the token may send any.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use catchment::Error;
use catchment::config::{ByteSize, Config, RunOptions};
use catchment::definition::{body_of, differences, masked, merged, plan, resolved, rules_of, split, to_toml};
use serde_json::{Value, json};

/// What the bodies may name.
static BASE: LazyLock<Config> = LazyLock::new(|| {
    let text = "[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"s3://lake/kafka/?region=r\"\n[store.t]\nurl = \"file:///tmp/x/\"\n";
    Config::parse(text, "base.toml").expect("a config file")
});

/// A rule that is accepted, printed as a config file, is the same rule when that is read; what is refused is refused with a code and a next step.
pub(crate) fn run(input: &[u8]) {
    // No key takes a number with a fraction, and the last digit of one that is read and printed again may differ.
    let Some(value) = serde_json::from_slice::<Value>(input).ok().filter(|value| !has_fraction(value)) else { return };
    let Some((name, body)) = accepted(split(value.clone()).map_err(Vec::from)) else { return };
    assert_eq!(accepted(body_of(&name, value).map_err(Vec::from)).as_ref(), Some(&body), "an edit takes what a creation takes");
    assert_eq!(accepted(merged(&body, json!({})).map_err(Vec::from)).as_ref(), Some(&body), "nothing is given anew");
    assert!(differences(&body, &body).is_empty());
    masked(&body);
    let Some(body) = accepted(resolved(&BASE, &body).map_err(Vec::from)) else { return };
    assert_eq!(resolved(&BASE, &body).ok().as_ref(), Some(&body), "nothing is left to be written out");
    let Some(planned) = accepted(plan(&BASE, &name, &body, ByteSize(512 << 20), RunOptions::default())) else { return };
    assert_eq!(planned.rule, name);
    let printed = to_toml("rule", &name, &body).unwrap_or_else(|e| panic!("{e}: a plan was made of {body}"));
    let again = rules_of(&printed).unwrap_or_else(|e| panic!("{e}: {printed}"));
    assert_eq!(again, BTreeMap::from([(name, body)]), "printed and read again: {printed}");
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// What was accepted; whatever is refused says what, and what to do about it.
fn accepted<T>(result: Result<T, Vec<Error>>) -> Option<T> {
    let errors = match result {
        Ok(value) => return Some(value),
        Err(errors) => errors,
    };
    assert!(!errors.is_empty(), "refused without a reason");
    for error in &errors {
        let has_help = error.help.as_ref().is_some_and(|help| !help.is_empty());
        assert!(error.code.0 > 0 && !error.message.is_empty() && has_help, "{error:?}");
    }
    None
}
