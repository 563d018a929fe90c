//! Every key of the config file, once: the reader refuses what is not listed here, the schema and the book are held to it.

use serde_json::{Value, json};

use super::words::{CodecKind, FormatKind, FramingKind, LayoutKind, Mechanism, OnGap, OnStop, Preset, ScheduleKind, WindowBy, Words};

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text.
    Text,
    /// Text that may hold a secret: `env:NAME`, `file:/path` or a literal.
    Secret,
    /// A size: `64MiB`.
    Size,
    /// A span of time: `5m`.
    Span,
    /// A level of compression: a whole number, or `auto`.
    Level,
    /// true or false.
    Bool,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Text, or a list of texts.
    Texts,
    /// A table of texts with free names.
    TextTable,
    /// A table with keys of its own, listed under this section.
    Section(&'static str),
}

/// A key of the config file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The section that holds it: `kafka`, `store`, `rule`, `rule.window`, ...
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it is for, in a line.
    pub doc: &'static str,
}

const fn key(section: &'static str, name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { section, name, kind, doc }
}

use Kind::{Bool, Level, Secret, Section, Size, Span, Text, TextTable, Texts, Word};

/// All keys, by section.
pub const KEYS: &[Key] = &[
    key("kafka", "brokers", Texts, "bootstrap addresses, HOST:PORT"),
    key("kafka", "preset", Word(Preset::WORDS), "settings that a kind of cluster needs"),
    key("kafka", "sasl", Section("kafka.sasl"), "how to log in; none: without"),
    key("kafka", "tls", Section("kafka.tls"), "encrypt; an empty table trusts the system's certificates"),
    key("kafka", "properties", TextTable, "librdkafka properties, passed through"),
    key("kafka.sasl", "mechanism", Word(Mechanism::WORDS), "how to prove who we are"),
    key("kafka.sasl", "username", Text, "user name (PLAIN, SCRAM)"),
    key("kafka.sasl", "password", Secret, "password (PLAIN, SCRAM)"),
    key("kafka.sasl", "token_file", Text, "file that holds the token, read again when it expires (OAUTHBEARER)"),
    key("kafka.sasl", "token_endpoint", Text, "URL that gives tokens for client credentials (OAUTHBEARER)"),
    key("kafka.sasl", "client_id", Text, "client id at the token endpoint (OAUTHBEARER)"),
    key("kafka.sasl", "client_secret", Secret, "client secret at the token endpoint (OAUTHBEARER)"),
    key("kafka.sasl", "scope", Text, "scope asked from the token endpoint (OAUTHBEARER)"),
    key("kafka.tls", "ca", Text, "PEM file of the certificate authorities to trust"),
    key("kafka.tls", "certificate", Text, "PEM file of the client's certificate (mutual TLS)"),
    key("kafka.tls", "key", Text, "PEM file of the client's private key (mutual TLS)"),
    key("kafka.tls", "key_password", Secret, "password of the private key"),
    key("kafka.tls", "verify", Bool, "check the broker's certificate and name"),
    key("store", "url", Text, "s3://BUCKET/PREFIX/, cos://BUCKET-APPID/PREFIX/?region=R or file:///DIR/"),
    key("store", "access_key_id", Secret, "access key id or secret id; else the usual variables"),
    key("store", "secret_access_key", Secret, "secret access key or secret key; else the usual variables"),
    key("store", "session_token", Secret, "session token of temporary credentials"),
    key("rule", "source", Section("rule.source"), "what is read"),
    key("rule", "window", Section("rule.window"), "how long an object is filled"),
    key("rule", "format", Section("rule.format"), "how an object is encoded"),
    key("rule", "to", Section("rule.to"), "where objects go"),
    key("rule", "max_bytes", Size, "uncompressed key, value and header bytes after which a window is closed early"),
    key("rule", "budget", Size, "memory for everything that is buffered"),
    key("rule", "on_gap", Section("rule.on_gap"), "what to do when records are missing in Kafka"),
    key("rule", "on_stop", Word(OnStop::WORDS), "what becomes of open windows at shutdown"),
    key("rule", "schedule", Word(ScheduleKind::WORDS), "how partitions share the memory"),
    key("rule", "group", Text, "consumer group id"),
    key("rule", "instance_id", Text, "group.instance.id of this process; `none` for a dynamic member"),
    key("rule", "upload_deadline", Span, "age after which an upload that nobody names is aborted"),
    key("rule", "metrics", Text, "address that serves /metrics, HOST:PORT"),
    key("rule.source", "kafka", Text, "name of a [kafka.NAME]"),
    key("rule.source", "topics", Texts, "topic names, or regular expressions with a leading ^"),
    key("rule.source", "start", Text, "where the first run starts"),
    key("rule.window", "every", Span, "length of a window"),
    key("rule.window", "by", Word(WindowBy::WORDS), "which clock closes a window"),
    key("rule.format", "kind", Word(FormatKind::WORDS), "file format"),
    key("rule.format", "framing", Word(FramingKind::WORDS), "how raw values are told apart"),
    key("rule.format", "codec", Word(CodecKind::WORDS), "compression"),
    key("rule.format", "level", Level, "compression level; auto: the records choose a level of zstd"),
    key("rule.to", "store", Text, "name of a [store.NAME]"),
    key("rule.to", "prefix", Text, "prefix below the store's own"),
    key("rule.to", "layout", Word(LayoutKind::WORDS), "how directories are named"),
    key("rule.to", "path", Text, "template of the directory, instead of a layout"),
    key("rule.to", "instance", Text, "instance id in the tencent layout"),
    key("rule.to", "topic_id", Text, "topic id in the tencent layout"),
    key("rule.on_gap", "retention", Word(OnGap::WORDS), "Kafka deleted records before they were read"),
    key("rule.on_gap", "truncation", Word(OnGap::WORDS), "the log was truncated below what had been read"),
    key("rule.on_gap", "corrupt_batch", Word(OnGap::WORDS), "a batch has a wrong checksum"),
    key("rule.on_gap", "topic_recreated", Word(OnGap::WORDS), "the topic was deleted and created again"),
];

/// The keys of one section.
pub fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |k| k.section == section)
}

/// A JSON schema (2020-12) of the config file, for editors.
pub fn json_schema() -> Value {
    let named = |section: &str| {
        json!({
            "type": "object",
            "propertyNames": { "pattern": super::NAME_PATTERN },
            "additionalProperties": section_schema(section),
        })
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Catchment config file",
        "type": "object",
        "additionalProperties": false,
        "properties": { "kafka": named("kafka"), "store": named("store"), "rule": named("rule") },
    })
}

/// A JSON schema of a thing with its name: what a call of the API gives as a new one.
pub fn named_schema(section: &str) -> Value {
    let mut schema = section_schema(section);
    schema["properties"]["name"] = json!({ "type": "string", "pattern": super::NAME_PATTERN });
    schema["required"] = json!(["name"]);
    schema
}

/// A JSON schema of a section's table.
pub fn section_schema(section: &str) -> Value {
    let properties: serde_json::Map<String, Value> = keys_of(section).map(|k| (k.name.to_owned(), key_schema(k))).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn key_schema(key: &Key) -> Value {
    let mut schema = match key.kind {
        Text | Secret if key.name == "start" => json!({ "type": ["string", "integer"] }),
        Text | Secret => json!({ "type": "string" }),
        Size => json!({ "type": ["string", "integer"], "pattern": super::units::size_pattern(), "minimum": 0 }),
        Span => json!({ "type": "string", "pattern": super::units::span_pattern() }),
        Level => json!({ "type": ["string", "integer"], "pattern": super::level::LEVEL_PATTERN, "minimum": 1, "maximum": 22 }),
        Bool => json!({ "type": "boolean" }),
        Word(words) => json!({ "type": "string", "enum": words }),
        Texts => json!({ "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] }),
        TextTable => json!({ "type": "object", "additionalProperties": { "type": ["string", "integer", "boolean"] } }),
        Section(section) => section_schema(section),
    };
    if let Value::Object(fields) = &mut schema {
        fields.insert("description".to_owned(), key.doc.into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_but_the_three_roots_is_a_key_of_another() {
        for key in KEYS {
            let is_root = ["kafka", "store", "rule"].contains(&key.section);
            let is_named = KEYS.iter().any(|k| matches!(k.kind, Section(s) if s == key.section));
            assert!(is_root || is_named, "{}", key.section);
        }
    }

    #[test]
    fn the_schema_names_every_key() {
        let text = json_schema().to_string();
        for key in KEYS {
            assert!(text.contains(&format!("\"{}\":", key.name)), "{}.{}", key.section, key.name);
        }
    }
}
