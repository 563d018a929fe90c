//! A rule as forms hold it: one text for each setting, and the body that follows from them.
//!
//! Place in the flow: between [forms](super::forms) and [`changes`](crate::service::changes), which alone decides whether a body is right. A setting that is at
//! its default is left out of a new body, and one that a form does not have is never touched by an edit.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::catalogue::Texts;
use super::forms::Fields;
use super::inputs::{Input, InputKind};
use crate::config::{Config, Span, WINDOW_DEFAULT, WINDOW_MAX, WINDOW_MIN, is_name};

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

/// All settings but the name and the topics, which have forms of their own.
const SETTINGS: [Setting; 13] = [
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
];

/// Fields of the steps, in their order.
pub(super) const STEPS: [&[&str]; 3] = [
    &["name", "store", "every", "by", "kind", "framing", "codec", "max_bytes"],
    &["source", "topics", "start"],
    &["layout", "prefix", "path", "instance"],
];

/// A rule that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Draft(BTreeMap<&'static str, String>);

/// What is wrong with single fields, in the reader's language.
pub(super) type FieldProblems = Vec<(&'static str, String)>;

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

    /// What a form says. Topics are typed or chosen.
    pub(super) fn of_form(fields: &Fields) -> Self {
        let mut draft = Self::default();
        for name in SETTINGS.iter().map(|setting| setting.field).chain(["name"]) {
            draft.0.insert(name, fields.text(name).to_owned());
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
        let topics = super::rules::Summary::of(&body.to_string()).topics;
        draft.0.insert("topics", topics.join("\n"));
        draft
    }

    /// What has no meaning beside something else goes back to its default.
    fn normalised(mut self) -> Self {
        if self.text("kind") != "raw" {
            self.0.insert("framing", "newline".to_owned());
        }
        if self.text("layout") != "tencent" {
            self.0.insert("instance", String::new());
        }
        if !self.text("path").is_empty() {
            self.0.insert("layout", "hive".to_owned());
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
            let (now, then) = (self.text(setting.field), before.text(setting.field));
            let is_default = now.is_empty() || now == setting.default;
            match (now == then, is_default, then.is_empty()) {
                // What was not there is not taken away.
                (true, ..) | (_, true, true) => {}
                (_, true, false) => put(setting.table, setting.key, Value::Null),
                (_, false, _) => put(setting.table, setting.key, value_of(setting, now)),
            }
        }
        if self.text("topics") != before.text("topics") {
            put("source", "topics", json!(self.topics()));
        }
        Value::Object(body)
    }

    /// What is wrong with the fields of a step, as far as one field alone shows it; the engine says the rest.
    pub(super) fn problems(&self, t: &Texts, config: &Config, step: usize) -> FieldProblems {
        let mut problems = FieldProblems::new();
        let mut wrong = |field: &'static str, text: &str| problems.push((field, text.to_owned()));
        match step {
            1 => {
                if !is_name(self.text("name")) {
                    wrong("name", t.name_hint);
                }
                if !config.stores.contains_key(self.text("store")) {
                    wrong("store", t.choose_store);
                }
                let every: Option<Span> = self.text("every").parse().ok();
                if !every.is_some_and(|every| (WINDOW_MIN..=WINDOW_MAX).contains(&every)) {
                    wrong("every", t.every_hint);
                }
            }
            2 => {
                if !config.kafka.contains_key(self.text("source")) {
                    wrong("source", t.choose_source);
                }
                if self.text("topics").is_empty() {
                    wrong("topics", t.choose_topics);
                }
            }
            _ => {
                if self.text("layout") == "tencent" && self.text("instance").is_empty() {
                    wrong("instance", t.instance_hint);
                }
            }
        }
        problems
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
            _ => return None,
        })
    }
}

/// A start may be a number in a body; everything else is a text.
fn value_of(setting: &Setting, text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if setting.field == "start" => number.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::definition::merged;

    fn config() -> Config {
        Config::parse("[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"file:///x/\"\n", "base").unwrap()
    }

    fn draft(pairs: &[(&'static str, &str)]) -> Draft {
        let mut draft = Draft::new(&config());
        draft.0.extend(pairs.iter().map(|(field, value)| (*field, (*value).to_owned())));
        draft.normalised()
    }

    #[test]
    fn a_new_body_has_what_is_not_a_default() {
        let body =
            draft(&[("name", "orders"), ("topics", "a\nb"), ("kind", "raw"), ("framing", "len32"), ("prefix", "x/"), ("start", "17")])
                .body();
        let expected = json!({
            "source": { "kafka": "k", "topics": ["a", "b"], "start": 17 },
            "window": { "every": "5m" },
            "format": { "kind": "raw", "framing": "len32" },
            "to": { "store": "s", "prefix": "x/" },
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn an_edit_changes_what_was_changed_and_nothing_else() {
        let standing = json!({
            "source": { "kafka": "k", "topics": ["a"], "start": "latest" },
            "format": { "kind": "raw", "framing": "len32", "level": 9 },
            "to": { "store": "s", "layout": "hive" },
            "on_stop": "close",
        })
        .to_string();
        let before = Draft::of_body("orders", &standing);
        assert_eq!(before.changes_from(&before), json!({}), "a form that is sent as it was shown changes nothing");
        let mut after = before.clone();
        after.0.extend([
            ("kind", "parquet".to_owned()),
            ("topics", "a\nc".to_owned()),
            ("start", String::new()),
            ("prefix", "p/".to_owned()),
        ]);
        let edited: Value = serde_json::from_str(&merged(&standing, after.normalised().changes_from(&before)).unwrap()).unwrap();
        let expected = json!({
            "source": { "kafka": "k", "topics": ["a", "c"] },
            "format": { "level": 9 },
            "to": { "store": "s", "layout": "hive", "prefix": "p/" },
            "on_stop": "close",
        });
        assert_eq!(edited, expected);
    }

    #[test]
    fn a_field_that_is_wrong_by_itself_is_named() {
        let t = &super::super::catalogue::ENGLISH;
        let wrong = |pairs: &[(&'static str, &str)], step| {
            draft(pairs).problems(t, &config(), step).into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(wrong(&[("name", "Orders"), ("every", "25h"), ("store", "none")], 1), ["name", "store", "every"]);
        assert_eq!(wrong(&[("name", "orders")], 1), [] as [&str; 0]);
        assert_eq!(wrong(&[("source", "")], 2), ["source", "topics"]);
        assert_eq!(wrong(&[("layout", "tencent")], 3), ["instance"]);
    }

    #[test]
    fn every_field_of_a_step_has_an_input_and_every_setting_a_step() {
        let fields: Vec<&str> = STEPS.concat();
        let draft = draft(&[]);
        assert_eq!(draft.inputs(&super::super::catalogue::CHINESE, &config(), &fields, &Vec::new()).len(), fields.len());
        assert!(SETTINGS.iter().all(|setting| fields.contains(&setting.field)));
    }
}
