//! A rule as forms hold it: one text for each setting, and the body that follows from them.
//!
//! Place in the flow: between [forms](super::forms) and [`changes`](crate::service::changes), which alone decides whether a body is right. A setting that is at
//! its default is left out of a new body, and one that a form does not have is never touched by an edit.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::catalogue::Texts;
use super::forms::Fields;
use super::inputs::{Fold, Input, InputKind};
use crate::config::{Config, OnGap, Span, WINDOW_DEFAULT, WINDOW_MAX, WINDOW_MIN, is_name};
use crate::store::key::checked_id;

/// A setting of a form: its field, the table and the key of the body, its default.
struct Setting {
    field: &'static str,
    table: &'static str,
    key: &'static str,
    default: &'static str,
}

const fn setting(field: &'static str, table: &'static str, key: &'static str, default: &'static str) -> Setting {
    Setting { field, table, key, default }
}

impl Setting {
    /// What a text of this setting means: an empty one is the default.
    fn or_default<'a>(&self, text: &'a str) -> &'a str {
        if text.is_empty() { self.default } else { text }
    }
}

/// All settings but the name and the topics, which have forms of their own.
const SETTINGS: [Setting; 18] = [
    setting("store", "to", "store", ""),
    setting("every", "window", "every", ""),
    setting("by", "window", "by", "record-time"),
    setting("kind", "format", "kind", "parquet"),
    setting("framing", "format", "framing", "newline"),
    setting("codec", "format", "codec", "zstd"),
    setting("max_bytes", "", "max_bytes", ""),
    setting("source", "source", "kafka", ""),
    setting("start", "source", "start", "earliest"),
    setting("layout", "to", "layout", "hive"),
    setting("prefix", "to", "prefix", ""),
    setting("path", "to", "path", ""),
    setting("instance", "to", "instance", ""),
    setting("topic_id", "to", "topic_id", ""),
    setting("on_retention", "on_gap", "retention", "continue"),
    setting("on_truncation", "on_gap", "truncation", "halt"),
    setting("on_corrupt_batch", "on_gap", "corrupt_batch", "halt"),
    setting("on_topic_recreated", "on_gap", "topic_recreated", "halt"),
];

/// What is done when records are missing. Few change it, so a form keeps it folded.
const ON_GAP: [&str; 4] = ["on_retention", "on_truncation", "on_corrupt_batch", "on_topic_recreated"];

/// Fields of the steps, in their order.
pub(super) const STEPS: [&[&str]; 3] = [
    &["name", "store", "every", "by", "kind", "framing", "codec", "max_bytes"],
    &["source", "topics", "start", "on_retention", "on_truncation", "on_corrupt_batch", "on_topic_recreated"],
    &["layout", "prefix", "path", "instance", "topic_id"],
];

/// A rule that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Draft(BTreeMap<&'static str, String>);

/// What is wrong with single fields, in the reader's language.
pub(super) type FieldProblems = Vec<(&'static str, String)>;

/// A field, whether what it says can be right, and what to say if not.
type Check = (&'static str, bool, &'static str);

impl Draft {
    /// An empty one, with the connection and the store that are the only ones.
    pub(super) fn new(config: &Config) -> Self {
        let only = |names: Vec<&String>| if let [one] = names[..] { one.clone() } else { String::new() };
        let mut draft = Self::default();
        for setting in &SETTINGS {
            draft.0.insert(setting.field, setting.default.to_owned());
        }
        draft.0.insert("every", WINDOW_DEFAULT.to_string());
        draft.0.insert("source", only(config.kafka.keys().collect()));
        draft.0.insert("store", only(config.stores.keys().collect()));
        draft
    }

    /// What a form says. Topics are typed or chosen. What the form does not have, as one of an earlier version's page, stays as it was before.
    pub(super) fn of_form(fields: &Fields, before: &Self) -> Self {
        let mut draft = Self::default();
        for name in SETTINGS.iter().map(|setting| setting.field).chain(["name"]) {
            let text = if fields.has(name) { fields.text(name) } else { before.text(name) };
            draft.0.insert(name, text.to_owned());
        }
        let mut topics: Vec<&str> = Vec::new();
        for topic in fields.text("topics").split(['\n', ',']).map(str::trim).chain(fields.all("topic")).filter(|topic| !topic.is_empty()) {
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        draft.0.insert("topics", topics.join("\n"));
        draft.normalised()
    }

    /// What a body says, with defaults.
    pub(super) fn of_body(name: &str, body: &str) -> Self {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let mut draft = Self([("name", name.to_owned())].into());
        for setting in &SETTINGS {
            let value = if setting.table.is_empty() { &body[setting.key] } else { &body[setting.table][setting.key] };
            draft.0.insert(setting.field, text(value).unwrap_or_else(|| setting.default.to_owned()));
        }
        // The one setting that a new body always has, and an old one need not.
        if draft.text("every").is_empty() {
            draft.0.insert("every", WINDOW_DEFAULT.to_string());
        }
        let topics = super::rules::Summary::of(&body.to_string()).topics;
        draft.0.insert("topics", topics.join("\n"));
        draft
    }

    /// What has no meaning beside something else goes back to its default.
    fn normalised(mut self) -> Self {
        if self.text("kind") != "raw" {
            self.0.insert("framing", "newline".to_owned());
        }
        // First, since a template hides the layout, and with it what is of a layout.
        if !self.text("path").is_empty() {
            self.0.insert("layout", "hive".to_owned());
        }
        if self.text("layout") != "tencent" {
            self.0.extend(["instance", "topic_id"].map(|field| (field, String::new())));
        }
        self
    }

    pub(super) fn text(&self, field: &str) -> &str {
        self.0.get(field).map(String::as_str).unwrap_or_default()
    }

    pub(super) fn topics(&self) -> Vec<String> {
        self.text("topics").lines().map(str::to_owned).collect()
    }

    /// All fields that a step does not show, to be carried along.
    pub(super) fn hidden(&self, shown: &[&str]) -> Vec<(&'static str, String)> {
        self.0.iter().filter(|(field, _)| !shown.contains(field)).map(|(field, value)| (*field, value.clone())).collect()
    }

    /// The body of a new rule.
    pub(super) fn body(&self) -> Value {
        self.changes_from(&Self::default())
    }

    /// What an edit gives anew, for [`merged`](crate::service::definition::merged): null for what goes back to its default.
    pub(super) fn changes_from(&self, before: &Self) -> Value {
        let mut body = Map::new();
        let mut put = |table: &str, key: &str, value: Value| match table {
            "" => drop(body.insert(key.to_owned(), value)),
            table => {
                if let Value::Object(fields) = body.entry(table).or_insert_with(|| json!({})) {
                    fields.insert(key.to_owned(), value);
                }
            }
        };
        for setting in &SETTINGS {
            let [now, then] = [self, before].map(|draft| setting.or_default(draft.text(setting.field)));
            // What was not there is not taken away.
            if now != then {
                put(setting.table, setting.key, if now == setting.default { Value::Null } else { value_of(setting, now) });
            }
        }
        if self.text("topics") != before.text("topics") {
            put("source", "topics", json!(self.topics()));
        }
        Value::Object(body)
    }

    /// What is wrong with the fields of a step, as far as one field alone shows it; the engine says the rest.
    pub(super) fn problems(&self, t: &Texts, config: &Config, step: usize) -> FieldProblems {
        let checks = match step {
            1 => self.basics(t, config),
            2 => self.reading(t, config),
            _ => self.delivery(t),
        };
        checks.into_iter().filter(|(_, is_right, _)| !is_right).map(|(field, _, text)| (field, text.to_owned())).collect()
    }

    /// The same of all steps.
    pub(super) fn all_problems(&self, t: &Texts, config: &Config) -> FieldProblems {
        (1..=STEPS.len()).flat_map(|step| self.problems(t, config, step)).collect()
    }

    fn basics(&self, t: &Texts, config: &Config) -> Vec<Check> {
        let every: Option<Span> = self.text("every").parse().ok();
        vec![
            ("name", is_name(self.text("name")), t.name_hint),
            ("store", config.stores.contains_key(self.text("store")), t.choose_store),
            ("every", every.is_some_and(|every| (WINDOW_MIN..=WINDOW_MAX).contains(&every)), t.every_hint),
        ]
    }

    fn reading(&self, t: &Texts, config: &Config) -> Vec<Check> {
        let is_word = |text: &str| text.is_empty() || text.parse::<OnGap>().is_ok();
        let of_gaps = ON_GAP.map(|field| (field, is_word(self.text(field)), t.choose_on_gap));
        let source = ("source", config.kafka.contains_key(self.text("source")), t.choose_source);
        let topics = ("topics", !self.text("topics").is_empty(), t.choose_topics);
        [source, topics].into_iter().chain(of_gaps).collect()
    }

    fn delivery(&self, t: &Texts) -> Vec<Check> {
        let (is_tencent, instance, topic_id) = (self.text("layout") == "tencent", self.text("instance"), self.text("topic_id"));
        let is_of_one_topic = matches!(self.topics().as_slice(), [topic] if !topic.starts_with('^'));
        let is_topic_id = topic_id.is_empty() || (is_of_one_topic && checked_id("topic_id", topic_id).is_ok());
        vec![("instance", !is_tencent || !instance.is_empty(), t.instance_hint), ("topic_id", is_topic_id, t.topic_id_hint)]
    }

    /// The inputs of a form: what everybody looks at, and what is folded.
    pub(super) fn form(&self, t: &Texts, config: &Config, fields: &[&str], problems: &FieldProblems) -> (Vec<Input>, Option<Fold>) {
        let (folded, plain): (Vec<&str>, Vec<&str>) = fields.iter().copied().partition(|field| ON_GAP.contains(field));
        let inputs = self.inputs(t, config, &folded, problems);
        let fold = (!inputs.is_empty()).then_some(Fold { open: !self.has_usual_policy(), inputs });
        (self.inputs(t, config, &plain, problems), fold)
    }

    /// Whether all that is folded is at its default.
    fn has_usual_policy(&self) -> bool {
        let is_usual = |setting: &Setting| setting.or_default(self.text(setting.field)) == setting.default;
        SETTINGS.iter().filter(|setting| ON_GAP.contains(&setting.field)).all(is_usual)
    }

    /// The inputs of some fields.
    pub(super) fn inputs(&self, t: &Texts, config: &Config, fields: &[&str], problems: &FieldProblems) -> Vec<Input> {
        fields
            .iter()
            .filter_map(|field| self.input(t, config, field))
            .map(|input| Input { problem: problems.iter().find(|(field, _)| *field == input.id).map(|(_, text)| text.clone()), ..input })
            .collect()
    }

    fn input(&self, t: &Texts, config: &Config, field: &str) -> Option<Input> {
        let value = self.text(field);
        Some(match field {
            "name" => Input::text("name", t.name, value).hint(t.name_hint).required(),
            "store" => Input::names("store", t.store, value, config.stores.keys()).hint(t.store_hint),
            "every" => Input::text("every", t.window, value).hint(t.every_hint).required(),
            "by" => Input::words("by", t.window_by, value, &[("record-time", t.by_record_time), ("arrival", t.by_arrival)]),
            "kind" => Input::words("kind", t.format, value, &[("parquet", t.format_parquet), ("raw", t.format_raw)]).hint(t.format_hint),
            "framing" => Input::words(
                "framing",
                t.framing,
                value,
                &[("newline", t.framing_newline), ("len32", t.framing_len32), ("none", t.framing_none)],
            )
            .hint(t.framing_hint),
            "codec" => Input::words("codec", t.codec, value, &[("zstd", "zstd"), ("gzip", "gzip"), ("none", t.codec_none)]),
            "max_bytes" => Input::text("max_bytes", t.max_bytes, value).hint(t.max_bytes_hint),
            "source" => Input::names("source", t.source, value, config.kafka.keys()).hint(t.source_hint),
            "topics" => Input { kind: InputKind::Area, ..Input::text("topics", t.topics, value) }.hint(t.topics_hint),
            "start" => Input::text("start", t.start, value).hint(t.start_hint),
            "layout" => Input::words(
                "layout",
                t.layout,
                value,
                &[("hive", t.layout_hive), ("tencent", t.layout_tencent), ("confluent", t.layout_confluent)],
            ),
            "prefix" => Input::text("prefix", t.prefix, value).hint(t.prefix_hint),
            "path" => Input::text("path", t.path, value).hint(t.path_hint),
            "instance" => Input::text("instance", t.instance, value).hint(t.instance_hint),
            "topic_id" => Input::text("topic_id", t.topic_id, value).hint(t.topic_id_hint),
            _ => return of_gap(t, field, value),
        })
    }
}

/// The choice for one kind of missing records. Where the value is neither word a browser shows the first one, with which nothing is passed over.
fn of_gap(t: &Texts, field: &str, value: &str) -> Option<Input> {
    let (id, label) = match field {
        "on_retention" => ("on_retention", t.on_retention),
        "on_truncation" => ("on_truncation", t.on_truncation),
        "on_corrupt_batch" => ("on_corrupt_batch", t.on_corrupt_batch),
        "on_topic_recreated" => ("on_topic_recreated", t.on_topic_recreated),
        _ => return None,
    };
    Some(Input::words(id, label, value, &[("halt", t.gap_halt), ("continue", t.gap_continue)]))
}

/// A start may be a number in a body; everything else is a text.
fn value_of(setting: &Setting, text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if setting.field == "start" => number.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests;
