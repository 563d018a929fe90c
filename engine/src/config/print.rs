//! What is in effect, as TOML that could be fed back in, with secrets masked.

use std::fmt::Write as _;

use catchment_formats::{Codec, Format, Framing};
use toml_writer::ToTomlKey as _;

use super::destination::LayoutSettings;
use super::level::Level;
use super::plan::BackupPlan;
use super::secret::{MASK, is_secret_property};
use super::settings::{KafkaSettings, StoreSettings};

/// Appends `key = value` lines.
struct Lines(String);

impl Lines {
    fn section(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.0, "{gap}[{name}]");
    }

    fn literal(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn text(&mut self, key: &str, value: impl std::fmt::Display) {
        self.literal(key, quoted(&value.to_string()));
    }

    fn text_if(&mut self, key: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        let items: Vec<String> = values.iter().map(|v| quoted(v)).collect();
        self.literal(key, format_args!("[{}]", items.join(", ")));
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn path(path: Option<&std::path::PathBuf>) -> Option<std::path::Display<'_>> {
    path.map(|p| p.display())
}

impl BackupPlan {
    /// The plan as a config file; secrets are masked, defaults written out.
    pub fn to_toml(&self) -> String {
        let mut out = Lines(String::new());
        print_kafka(&mut out, &self.rule, &self.kafka);
        print_store(&mut out, &self.rule, &self.to.store);
        self.print_rule(&mut out);
        out.0
    }

    fn print_rule(&self, out: &mut Lines) {
        let rule = format!("rule.{}", self.rule.to_toml_key());
        out.section(&rule);
        out.text("max_bytes", self.max_bytes);
        out.text("budget", self.budget);
        out.text("on_stop", self.on_stop);
        out.text("schedule", self.schedule);
        out.text("group", &self.group);
        out.text_if("instance_id", if self.dynamic_member { Some("none") } else { self.instance_id.as_deref() });
        out.text("upload_deadline", self.upload_deadline);
        out.text_if("metrics", self.metrics);
        out.section(&format!("{rule}.source"));
        out.text("kafka", &self.rule);
        out.texts("topics", &self.topics);
        out.text("start", &self.start);
        out.section(&format!("{rule}.window"));
        out.text("every", self.window.every);
        out.text("by", self.window.by);
        out.section(&format!("{rule}.format"));
        self.print_format(out);
        out.section(&format!("{rule}.to"));
        out.text("store", &self.rule);
        out.text("prefix", &self.to.prefix);
        print_layout(out, &self.to.layout);
        out.section(&format!("{rule}.on_gap"));
        out.text("retention", self.on_gap.retention);
        out.text("truncation", self.on_gap.truncation);
        out.text("corrupt_batch", self.on_gap.corrupt_batch);
        out.text("topic_recreated", self.on_gap.topic_recreated);
    }

    fn print_format(&self, out: &mut Lines) {
        let framing = match self.encoding.format {
            Format::Parquet => None,
            Format::Raw(Framing::None) => Some("none"),
            Format::Raw(Framing::Newline) => Some("newline"),
            Format::Raw(Framing::Len32) => Some("len32"),
        };
        out.text("kind", if framing.is_some() { "raw" } else { "parquet" });
        out.text_if("framing", framing);
        let (codec, level) = match self.encoding.codec {
            Codec::None => ("none", None),
            Codec::Zstd(level) => ("zstd", Some(level)),
            Codec::Gzip(level) => ("gzip", Some(level)),
        };
        out.text("codec", codec);
        match level {
            Some(_) if self.auto_level => out.text("level", Level::Auto),
            Some(number) => out.literal("level", number),
            None => {}
        }
    }
}

fn print_kafka(out: &mut Lines, name: &str, kafka: &KafkaSettings) {
    let section = format!("kafka.{}", name.to_toml_key());
    out.section(&section);
    out.texts("brokers", &kafka.brokers);
    out.text_if("preset", kafka.preset);
    if let Some(sasl) = &kafka.sasl {
        out.section(&format!("{section}.sasl"));
        out.text("mechanism", sasl.mechanism);
        out.text_if("username", sasl.username.as_ref());
        out.text_if("password", sasl.password.as_ref());
        out.text_if("token_file", path(sasl.token_file.as_ref()));
        out.text_if("token_endpoint", sasl.token_endpoint.as_ref());
        out.text_if("client_id", sasl.client_id.as_ref());
        out.text_if("client_secret", sasl.client_secret.as_ref());
        out.text_if("scope", sasl.scope.as_ref());
    }
    if let Some(tls) = &kafka.tls {
        out.section(&format!("{section}.tls"));
        out.text_if("ca", path(tls.ca.as_ref()));
        out.text_if("certificate", path(tls.certificate.as_ref()));
        out.text_if("key", path(tls.key.as_ref()));
        out.text_if("key_password", tls.key_password.as_ref());
        out.literal("verify", tls.verify);
    }
    if !kafka.properties.is_empty() {
        out.section(&format!("{section}.properties"));
        for (key, value) in &kafka.properties {
            out.text(&key.to_toml_key(), if is_secret_property(key) { MASK } else { value });
        }
    }
}

fn print_store(out: &mut Lines, name: &str, store: &StoreSettings) {
    out.section(&format!("store.{}", name.to_toml_key()));
    out.text("url", &store.url);
    out.text_if("access_key_id", store.access_key_id.as_ref());
    out.text_if("secret_access_key", store.secret_access_key.as_ref());
    out.text_if("session_token", store.session_token.as_ref());
}

fn print_layout(out: &mut Lines, layout: &LayoutSettings) {
    match layout {
        LayoutSettings::Hive => out.text("layout", "hive"),
        LayoutSettings::Confluent => out.text("layout", "confluent"),
        LayoutSettings::Template(template) => out.text("path", template),
        LayoutSettings::Tencent { instance, topic_id } => {
            out.text("layout", "tencent");
            out.text("instance", instance);
            out.text_if("topic_id", topic_id.as_ref());
        }
    }
}
