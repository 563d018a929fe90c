//! The form of a connection or a store, and the body that it describes.
//!
//! A new one is an edit of nothing. What the form does not know stays as it is; secrets are never in it: an empty field keeps the one that is there, which
//! only its mask stands for here. One that was typed before is not sent back, nor is the id that goes with it.

use serde_json::{Map, Value, json};

use super::super::context::Page;
use super::super::forms::Fields;
use super::super::inputs::{Input, InputKind};
use crate::config::secret::MASK;
use crate::config::{Mechanism, Preset, Words as _};
use crate::definition::is_secret;
use crate::error::{Error, ErrorKind, Result, codes};
use crate::service::connections::brokers_of;
use crate::service::definition::Kind;

/// The field that names secrets to be forgotten.
pub(super) const FORGET: &str = "forget";

/// How secrets are asked for.
struct Secrets {
    /// What is said of an access key's id.
    id_hint: &'static str,
    hint: &'static str,
    /// What is said of one that was typed before, and not sent back.
    again: &'static str,
    /// Whether one that was typed before must be typed again: left empty it would be the stored one.
    must: bool,
}

impl Secrets {
    fn input(&self, id: &'static str, label: &'static str, typed: &Fields) -> Input {
        self.unfilled(Input::new(id, label, InputKind::Secret).hint(self.hint), typed)
    }

    /// The id of a secret, which is seen while it is typed.
    fn id(&self, id: &'static str, label: &'static str, typed: &Fields) -> Input {
        self.unfilled(Input::new(id, label, InputKind::Text).hint(self.id_hint), typed)
    }

    fn unfilled(&self, input: Input, typed: &Fields) -> Input {
        let was_typed = !typed.text(input.id).is_empty();
        Input { problem: was_typed.then(|| self.again.to_owned()), required: self.must && was_typed, ..input }
    }

    /// Further properties: what was typed of them, but for secrets.
    fn properties(&self, label: &'static str, hint: &'static str, typed: &Fields) -> Input {
        let lines = typed.lines("properties");
        let shown: String = lines.lines().map(|line| format!("{}\n", without_secret(line))).collect();
        let shown = shown.trim_end_matches('\n');
        let problem = (shown != lines.trim_end_matches('\n')).then(|| self.again.to_owned());
        Input { kind: InputKind::Area, problem, ..Input::text("properties", label, shown) }.hint(hint)
    }
}

/// Inputs of a new one.
pub(super) fn of_new(p: &Page, kind: Kind, typed: &Fields) -> Vec<Input> {
    let t = &p.t.of_service;
    let secrets = Secrets { id_hint: t.access_key_hint, hint: t.secret_hint, again: t.type_again, must: false };
    let name = Input::text("name", p.t.name, typed.text("name")).hint(p.t.name_hint).required();
    std::iter::once(name).chain(settings(p, kind, typed, &secrets)).collect()
}

/// Inputs of one that stands: without its name, which is fixed.
pub(super) fn of_standing(p: &Page, kind: Kind, typed: &Fields) -> Vec<Input> {
    let t = &p.t.of_service;
    let secrets = Secrets { id_hint: t.secret_kept_hint, hint: t.secret_kept_hint, again: t.type_again, must: true };
    settings(p, kind, typed, &secrets)
}

fn settings(p: &Page, kind: Kind, typed: &Fields, secrets: &Secrets) -> Vec<Input> {
    match kind {
        Kind::Kafka => source_inputs(p, typed, secrets),
        Kind::Store => store_inputs(p, typed, secrets),
    }
}

fn source_inputs(p: &Page, typed: &Fields, secrets: &Secrets) -> Vec<Input> {
    let t = &p.t.of_service;
    let encryption = [("", t.no_tls), ("system", t.tls_system), ("ca", t.tls_ca)];
    vec![
        Input::text("brokers", t.brokers, typed.text("brokers")).hint(t.brokers_hint).required(),
        optional("preset", t.preset, t.no_preset, Preset::WORDS, typed),
        Input::words("tls", t.encryption, typed.text("tls"), &encryption),
        Input::text("ca", t.ca_file, typed.text("ca")).hint(t.ca_hint),
        optional("mechanism", t.login, t.no_login, Mechanism::WORDS, typed),
        Input::text("username", t.username, typed.text("username")),
        secrets.input("password", t.password, typed),
        secrets.properties(t.properties, t.properties_hint, typed),
    ]
}

fn store_inputs(p: &Page, typed: &Fields, secrets: &Secrets) -> Vec<Input> {
    let t = &p.t.of_service;
    vec![
        Input::text("url", p.t.address, typed.text("url")).hint(t.url_hint).required(),
        secrets.id("access_key_id", t.access_key, typed),
        secrets.input("secret_access_key", t.secret_key, typed),
        secrets.input("session_token", t.session_token, typed),
    ]
}

/// A property as it was typed; of a secret its name alone. The mask is none, nor is where one is read.
fn without_secret(line: &str) -> &str {
    let Some((key, value)) = line.split_once('=') else { return line };
    let value = value.trim();
    let is_place = value == MASK || value.starts_with("env:") || value.starts_with("file:");
    if is_secret(key.trim()) && !value.is_empty() && !is_place { &line[..=key.len()] } else { line }
}

/// Refuses a secret among the further properties that has no value: it was typed before, and not sent back.
///
/// # Errors
/// `C0105`.
pub(super) fn check(fields: &Fields) -> Result<()> {
    let lines = fields.lines("properties");
    let mut pairs = lines.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
    match pairs.find(|(key, value)| value.is_empty() && is_secret(key)) {
        None => Ok(()),
        Some((key, _)) => {
            let error = Error::new(codes::CONFIG_VALUE, ErrorKind::Invalid, "a secret has no value").with("property", key);
            Err(error.help("type it again, or leave the line out"))
        }
    }
}

/// A choice among the engine's own words, or none of them.
fn optional(id: &'static str, label: &'static str, none: &'static str, words: &'static [&'static str], typed: &Fields) -> Input {
    let options = words.iter().map(|word| ((*word).to_owned(), (*word).to_owned()));
    let options = std::iter::once((String::new(), none.to_owned())).chain(options).collect();
    Input { value: typed.text(id).to_owned(), ..Input::new(id, label, InputKind::Select(options)) }
}

/// Secrets of the form that a body has: their fields and labels.
pub(super) fn secrets_of(p: &Page, kind: Kind, body: &Value) -> Vec<(&'static str, &'static str)> {
    let t = &p.t.of_service;
    let all = match kind {
        Kind::Kafka => vec![(&body["sasl"]["password"], "password", t.password)],
        Kind::Store => vec![
            (&body["access_key_id"], "access_key_id", t.access_key),
            (&body["secret_access_key"], "secret_access_key", t.secret_key),
            (&body["session_token"], "session_token", t.session_token),
        ],
    };
    all.into_iter().filter(|(value, ..)| !value.is_null()).map(|(_, field, label)| (field, label)).collect()
}

/// Secrets of a body that are not shown and that the form has no field for: their keys. They can be kept here, but not typed.
pub(super) fn secrets_without_field(body: &Value) -> Vec<&'static str> {
    let all = [("tls.key_password", &body["tls"]["key_password"]), ("sasl.client_secret", &body["sasl"]["client_secret"])];
    all.into_iter().filter(|(_, value)| value.as_str() == Some(MASK)).map(|(key, _)| key).collect()
}

/// What one that stands would have been typed as, but for its secrets.
pub(super) fn typed_of(kind: Kind, body: &Value) -> Fields {
    let tls = match (&body["tls"], &body["tls"]["ca"]) {
        (Value::Object(_), Value::String(_)) => "ca",
        (Value::Object(_), _) => "system",
        _ => "",
    };
    let brokers: Vec<String> =
        body["brokers"].as_array().map_or_else(|| vec![text(&body["brokers"])], |all| all.iter().map(text).collect());
    let properties = body["properties"].as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value)));
    let fields = match kind {
        Kind::Store => vec![("url", text(&body["url"]))],
        Kind::Kafka => vec![
            ("brokers", brokers.join(",")),
            ("preset", text(&body["preset"])),
            ("tls", tls.to_owned()),
            ("ca", text(&body["tls"]["ca"])),
            ("mechanism", text(&body["sasl"]["mechanism"])),
            ("username", text(&body["sasl"]["username"])),
            ("properties", properties.collect::<Vec<_>>().join("\n")),
        ],
    };
    Fields::of(fields)
}

/// A value as it is typed; what is not there is left empty.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The body that a form makes of one that stands; of nothing, if it is new.
pub(super) fn body(kind: Kind, standing: Option<&Value>, fields: &Fields) -> Value {
    let standing = standing.and_then(Value::as_object).cloned().unwrap_or_default();
    Value::Object(match kind {
        Kind::Kafka => source_body(standing, fields),
        Kind::Store => store_body(standing, fields),
    })
}

fn source_body(mut body: Map<String, Value>, fields: &Fields) -> Map<String, Value> {
    let brokers: Vec<&str> = fields.text("brokers").split([',', '\n']).map(str::trim).filter(|broker| !broker.is_empty()).collect();
    if body.get("brokers").is_none_or(|standing| brokers_of(standing) != brokers) {
        body.insert("brokers".to_owned(), json!(brokers));
    }
    put(&mut body, "preset", fields.text("preset"));
    let mut tls = taken(&mut body, "tls");
    match fields.text("tls") {
        "ca" => drop(tls.insert("ca".to_owned(), fields.text("ca").into())),
        _ => drop(tls.remove("ca")),
    }
    if !fields.text("tls").is_empty() {
        body.insert("tls".to_owned(), Value::Object(tls));
    }
    let mut sasl = taken(&mut body, "sasl");
    ["mechanism", "username"].iter().for_each(|key| put(&mut sasl, key, fields.text(key)));
    put_secret(&mut sasl, "password", fields);
    if !fields.text("mechanism").is_empty() {
        body.insert("sasl".to_owned(), Value::Object(sasl));
    }
    let standing = taken(&mut body, "properties");
    let properties = properties(&fields.lines("properties"), &standing);
    if !properties.is_empty() {
        body.insert("properties".to_owned(), Value::Object(properties));
    }
    body
}

fn store_body(mut body: Map<String, Value>, fields: &Fields) -> Map<String, Value> {
    put(&mut body, "url", fields.text("url"));
    ["access_key_id", "secret_access_key", "session_token"].iter().for_each(|key| put_secret(&mut body, key, fields));
    body
}

/// Properties as they are typed; one that reads as it stood stays as it was written, a number or a boolean.
fn properties(lines: &str, standing: &Map<String, Value>) -> Map<String, Value> {
    let pairs = lines.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
    let kept = |key: &str, value: &str| standing.get(key).filter(|kept| text(kept).trim() == value).cloned();
    pairs.map(|(key, value)| (key.to_owned(), kept(key, value).unwrap_or_else(|| value.into()))).collect()
}

/// A table of a body, taken out of it; one that is not there is empty.
fn taken(body: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match body.remove(key) {
        Some(Value::Object(table)) => table,
        _ => Map::new(),
    }
}

/// What is left empty is left out.
fn put(to: &mut Map<String, Value>, key: &str, text: &str) {
    if text.is_empty() {
        to.remove(key);
    } else {
        to.insert(key.to_owned(), text.into());
    }
}

/// What is left empty stays, unless it is to be forgotten.
fn put_secret(to: &mut Map<String, Value>, key: &str, fields: &Fields) {
    let is_forgotten = fields.all(FORGET).any(|forgotten| forgotten == key);
    if is_forgotten || !fields.text(key).is_empty() {
        put(to, key, fields.text(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &str)]) -> Fields {
        Fields::of(pairs.iter().map(|(name, value)| (*name, (*value).to_owned())))
    }

    #[test]
    fn a_form_that_is_sent_back_unchanged_changes_nothing() {
        let source = json!({
            "brokers": ["a:1", "b:2"],
            "preset": "ckafka",
            "tls": { "ca": "/ca.pem", "certificate": "/c.pem", "key": "/k.pem", "key_password": "***", "verify": false },
            "sasl": { "mechanism": "PLAIN", "username": "u", "password": "***" },
            "properties": { "client.id": "x", "ssl.key.password": "***" },
        });
        let plain = json!({ "brokers": ["a:1"] });
        let oauth = json!({ "brokers": ["a:1"], "tls": {}, "sasl": { "mechanism": "OAUTHBEARER", "token_file": "/t", "scope": "s" } });
        let text = json!({ "brokers": "a:1" });
        let texts = json!({ "brokers": "a:1, b:2" });
        let mixed = json!({ "brokers": ["a:1,b:2", "c:3"], "properties": {
            "enable.ssl.certificate.verification": true, "fetch.wait.max.ms": 5, "ssl.key.password": "***" } });
        for body_before in [&source, &plain, &oauth, &text, &texts, &mixed] {
            assert_eq!(&body(Kind::Kafka, Some(body_before), &typed_of(Kind::Kafka, body_before)), body_before);
        }
        let store = json!({ "url": "s3://lake/", "access_key_id": "***", "secret_access_key": "env:KEY", "session_token": "***" });
        assert_eq!(body(Kind::Store, Some(&store), &typed_of(Kind::Store, &store)), store);
    }

    #[test]
    fn a_secret_that_was_typed_as_a_property_is_not_sent_back_and_is_not_taken_for_an_empty_one() {
        for (typed, shown) in [
            ("sasl.password=hush", "sasl.password="),
            (" ssl.key.password = hush=more", " ssl.key.password ="),
            ("sasl.password=***", "sasl.password=***"),
            ("sasl.password=file:/p", "sasl.password=file:/p"),
            ("client.id=x", "client.id=x"),
            ("sasl.oauthbearer.token.endpoint.url=https://h/", "sasl.oauthbearer.token.endpoint.url=https://h/"),
            ("hush", "hush"),
        ] {
            assert_eq!(without_secret(typed), shown);
        }
        let checked = |lines: &str| check(&fields(&[("properties", lines)])).map_err(|error| error.to_string());
        assert!(checked("client.id=\r\nsasl.password=hush\r\n").is_ok() && checked("").is_ok());
        let refused = checked("client.id=x\r\nsasl.password = ").unwrap_err();
        assert!(refused.contains("C0105") && refused.contains("sasl.password"), "{refused}");
    }

    #[test]
    fn a_secret_stays_until_it_is_typed_anew_or_forgotten() {
        let store = json!({ "url": "s3://lake/", "access_key_id": "***", "secret_access_key": "***", "session_token": "***" });
        let typed =
            fields(&[("url", "s3://lake/"), ("secret_access_key", "new"), (FORGET, "session_token"), (FORGET, "secret_access_key")]);
        let wanted = json!({ "url": "s3://lake/", "access_key_id": "***", "secret_access_key": "new" });
        assert_eq!(body(Kind::Store, Some(&store), &typed), wanted);
    }

    #[test]
    fn what_is_typed_anew_is_written_as_it_is_typed() {
        let source = json!({ "brokers": "a:1", "properties": { "enable.ssl.certificate.verification": true, "fetch.wait.max.ms": 5 } });
        let typed = fields(&[("brokers", "b:2"), ("properties", "enable.ssl.certificate.verification=false\r\nfetch.wait.max.ms = 5")]);
        let wanted =
            json!({ "brokers": ["b:2"], "properties": { "enable.ssl.certificate.verification": "false", "fetch.wait.max.ms": 5 } });
        assert_eq!(body(Kind::Kafka, Some(&source), &typed), wanted);
    }

    #[test]
    fn secrets_that_no_field_asks_for_are_named_unless_they_are_shown() {
        let hidden = json!({ "tls": { "key_password": "***" }, "sasl": { "client_secret": "***", "password": "***" } });
        assert_eq!(secrets_without_field(&hidden), ["tls.key_password", "sasl.client_secret"]);
        let shown = json!({ "tls": { "key_password": "file:/p" }, "sasl": { "password": "***" } });
        assert!(secrets_without_field(&shown).is_empty() && secrets_without_field(&json!({ "url": "s3://lake/" })).is_empty());
    }

    #[test]
    fn what_is_emptied_goes_with_what_only_it_needs() {
        let source =
            json!({ "brokers": ["a:1"], "tls": { "ca": "/ca" }, "sasl": { "mechanism": "PLAIN", "username": "u", "password": "***" } });
        let typed = fields(&[("brokers", "a:1, b:2"), ("tls", "system"), ("ca", "/ca")]);
        assert_eq!(body(Kind::Kafka, Some(&source), &typed), json!({ "brokers": ["a:1", "b:2"], "tls": {} }));
    }
}
