//! What the actions of `catchment rule` take, and what becomes of it: tables of config files, parameters of a query.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::call::Call;
use crate::config::{NAME_PATTERN, is_name};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::https::escaped;
use crate::service::load_tests::is_name as is_load_test_name;

#[derive(Args, Clone, Debug)]
pub(super) struct NameArgs {
    /// Its name
    #[arg(value_name = "NAME", value_parser = name)]
    pub(super) name: String,
}

#[derive(Args, Clone, Debug)]
pub(super) struct BodyArgs {
    /// Its name
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// Config file that has its table
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub(super) struct EditArgs {
    #[command(flatten)]
    body: BodyArgs,
    /// Only if this is its current version
    #[arg(long, value_name = "N")]
    version: Option<i64>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct PageArgs {
    /// Only entries with a lower number: that of the last one of the page before
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
    /// How many entries, at most 1000; 100 if it is left out
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ObjectArgs {
    #[command(flatten)]
    pub(super) name: NameArgs,
    /// The object's key below the rule's prefix
    #[arg(value_name = "KEY")]
    object: String,
}

#[derive(Args, Clone, Debug)]
pub(super) struct TopicArgs {
    #[command(flatten)]
    pub(super) name: NameArgs,
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub(super) topic: String,
}

#[derive(Args, Clone, Debug)]
pub(super) struct SetArgs {
    /// Config files with [rule.NAME] tables
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Forget the rules that are in none of them
    #[arg(long)]
    prune: bool,
}

/// A name becomes part of an address: nothing else may.
pub(in crate::cli) fn name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(format!("a name matches {NAME_PATTERN}")) }
}

/// The same of a load test, whose name is that of a directory.
pub(super) fn load_test_name(text: &str) -> Result<String, String> {
    match is_load_test_name(text) {
        true => Ok(text.to_owned()),
        false => Err("a load test is named by letters, digits, dots, dashes and underscores".to_owned()),
    }
}

fn unreadable(file: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::new(codes::CONFIG_UNREADABLE, ErrorKind::Invalid, "the table cannot be read")
        .with("file", file.display())
        .because(why)
        .help("name a config file that has it; `catchment config check FILE` finds all problems of rules")
}

/// The tables of a section of a config file, by name.
fn tables(file: &Path, section: &str) -> Result<BTreeMap<String, Value>> {
    let text = std::fs::read_to_string(file).map_err(|e| unreadable(file, &e))?;
    let content: Value = toml::from_str(&text).map_err(|e| unreadable(file, &e.message()))?;
    let tables = content.get(section).and_then(Value::as_object).cloned().unwrap_or_default();
    match tables.iter().find(|(_, table)| !table.is_object()) {
        Some((name, _)) => Err(unreadable(file, &format_args!("{section}.{name} is no table"))),
        None => Ok(tables.into_iter().collect()),
    }
}

/// `[section.name]` of a config file.
pub(super) fn table(file: &Path, section: &str, name: &str) -> Result<Value> {
    tables(file, section)?.remove(name).ok_or_else(|| unreadable(file, &format_args!("it has no [{section}.{name}]")))
}

impl BodyArgs {
    /// The table with its name, as the API takes something new.
    pub(super) fn named(&self, section: &str) -> Result<Value> {
        let mut fields = table(&self.file, section, &self.name)?;
        fields["name"] = json!(self.name);
        Ok(fields)
    }
}

impl EditArgs {
    /// The call that edits what lies at this path.
    pub(super) fn call(&self, path: &str, section: &str) -> Result<Call> {
        let fields = table(&self.body.file, section, &self.body.name)?;
        Ok(Call::new("PUT", format!("{path}/{}", self.body.name)).with_body(fields).if_version(self.version))
    }
}

impl SetArgs {
    pub(super) fn body(&self) -> Result<Value> {
        let mut rules = serde_json::Map::new();
        for file in &self.files {
            rules.extend(tables(file, "rule")?);
        }
        Ok(json!({ "rules": rules, "prune": self.prune }))
    }
}

impl ObjectArgs {
    pub(super) fn query(&self, path: &str, rows: Option<u32>) -> String {
        query(path, &[("key", Some(self.object.clone())), ("rows", rows.map(|n| n.to_string()))])
    }
}

/// A path with the parameters that are given.
pub(super) fn query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(value.as_ref()?))));
    let given: Vec<String> = given.collect();
    if given.is_empty() { path.to_owned() } else { format!("{path}?{}", given.join("&")) }
}

pub(super) fn page_query(path: &str, PageArgs { before, limit }: &PageArgs, more: (&str, Option<String>)) -> String {
    query(path, &[("before", before.map(|id| id.to_string())), ("limit", limit.map(|n| n.to_string())), more])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_taken_out_of_a_config_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.toml");
        std::fs::write(&file, "[rule.orders]\nsource = { topics = [\"orders\"] }\nmax_bytes = 1048576\n").unwrap();
        let body = |name: &str| BodyArgs { name: name.to_owned(), file: file.clone() }.named("rule");
        assert_eq!(body("orders").unwrap(), json!({ "name": "orders", "source": { "topics": ["orders"] }, "max_bytes": 1_048_576 }));
        let error = body("other").unwrap_err();
        assert!(error.cause.unwrap().contains("no [rule.other]"));
        assert!(table(&file, "kafka", "orders").is_err());
        std::fs::write(&file, "rule = 3\n").unwrap();
        assert!(body("orders").is_err());
        std::fs::write(&file, "[rule]\norders = 5\n").unwrap();
        assert!(body("orders").unwrap_err().cause.unwrap().contains("no table"));
        assert!(name("orders").is_ok() && name("orders?x").is_err());
        assert!(load_test_name("Run_1.a").is_ok() && load_test_name("../x").is_err() && load_test_name("x?y").is_err());
    }

    #[test]
    fn a_query_has_what_is_given_and_no_character_of_its_own() {
        let page = |before, limit| PageArgs { before, limit };
        assert_eq!(page_query("/windows", &page(None, None), ("", None)), "/windows");
        assert_eq!(page_query("/audit", &page(Some(7), Some(3)), ("rule", Some("a".to_owned()))), "/audit?before=7&limit=3&rule=a");
        assert_eq!(query("/file", &[("key", Some("a/b=1+2&c".to_owned()))]), "/file?key=a%2Fb%3D1%2B2%26c");
    }
}
