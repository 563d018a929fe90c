//! `catchment rule ...`: everything that the API does with rules, from a terminal.
//!
//! The answer goes to stdout as JSON, as the API gives it; `list` prints a table and `log --follow` lines. A refusal is shown as an error of this program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Outcome;
use super::output::{print, print_json};
use crate::config::{Accept, NAME_PATTERN, is_name};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::https::escaped;
use crate::text::one_line;

pub(super) mod call;

use call::{Call, Service};

/// How often a verification is asked for until it has ended.
const VERIFY_INTERVAL: Duration = Duration::from_millis(500);

/// Flags of `rule`.
#[derive(Args, Clone, Debug)]
pub(super) struct RuleArgs {
    /// Address of the service
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8520", env = "CATCHMENT_SERVICE")]
    service: String,
    /// File with the token: `token` in the service's --state directory
    #[arg(long, global = true, value_name = "FILE", env = "CATCHMENT_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// All rules and what they are doing
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One rule
    Show(NameArgs),
    /// A new rule from a config file's [rule.NAME]
    Create(BodyArgs),
    /// A new version of a rule from a config file's [rule.NAME]
    Edit {
        #[command(flatten)]
        body: BodyArgs,
        /// Only if this is the rule's current version
        #[arg(long, value_name = "N")]
        version: Option<i64>,
    },
    /// A copy of a rule under another name
    Clone {
        #[command(flatten)]
        name: NameArgs,
        /// The new rule
        #[arg(value_name = "NEW", value_parser = name)]
        new: String,
        /// Config file whose [rule.NEW] gives keys anew
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Stop a rule until it is resumed
    Pause(NameArgs),
    /// Run a rule that is paused or has failed
    Resume {
        #[command(flatten)]
        name: NameArgs,
        /// Answer the question of a stopped lane; may be repeated
        #[arg(long, value_name = "WHAT", value_parser = super::words::<Accept>())]
        accept: Vec<Accept>,
    },
    /// Close the open windows now
    Seal(NameArgs),
    /// Read everything again that a rule has stored; exit 4 if anything is damaged
    Verify {
        #[command(flatten)]
        name: NameArgs,
        /// Compare every record with Kafka, too
        #[arg(long)]
        compare: bool,
        /// Begin it, and do not wait for its end
        #[arg(long)]
        no_wait: bool,
    },
    /// Make an earlier version the current one again, as a new version
    Rollback {
        #[command(flatten)]
        name: NameArgs,
        /// The number of the earlier version
        #[arg(value_name = "N")]
        version: i64,
    },
    /// What a rule does: its settings in effect, its topics, what its objects are called
    Explain(NameArgs),
    /// Forget a rule; its objects stay
    Delete(NameArgs),
    /// Its versions
    Versions(NameArgs),
    /// Its last windows
    Windows(NameArgs),
    /// Its gaps
    Gaps(NameArgs),
    /// How fast it was and how far behind, over the last half hour
    Series(NameArgs),
    /// Its log
    Log {
        #[command(flatten)]
        name: NameArgs,
        /// Go on with what comes
        #[arg(short, long)]
        follow: bool,
    },
    /// Objects and directories below its prefix
    Files {
        #[command(flatten)]
        name: NameArgs,
        /// A directory, with its trailing slash
        #[arg(value_name = "DIRECTORY")]
        directory: Option<String>,
    },
    /// What applying the rules of config files would change
    Diff(SetArgs),
    /// Make the rules what config files say
    Apply(SetArgs),
    /// Who changed what
    Audit {
        /// Only changes of this rule
        #[arg(value_name = "NAME", value_parser = name)]
        rule: Option<String>,
    },
    /// Kafka connections that rules may name
    Sources,
    /// A new Kafka connection from a config file's [kafka.NAME]
    CreateSource(BodyArgs),
    /// Forget a Kafka connection that no rule names
    DeleteSource(NameArgs),
    /// Try a Kafka connection
    TestSource(NameArgs),
    /// Topics of a Kafka connection
    Topics {
        #[command(flatten)]
        name: NameArgs,
        /// A part of the name, or an expression with a leading ^
        #[arg(value_name = "SEARCH", default_value = "")]
        search: String,
    },
    /// Stores that rules may name
    Stores,
    /// A new store from a config file's [store.NAME]
    CreateStore(BodyArgs),
    /// Forget a store that no rule names
    DeleteStore(NameArgs),
    /// What a store permits, and what its create-only guards are worth
    ProbeStore(NameArgs),
    /// Workers that run rules of the service
    Workers,
    /// Copy the service's state into a file of its state directory
    CopyState,
}

#[derive(Args, Clone, Debug)]
struct NameArgs {
    /// Its name
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
}

#[derive(Args, Clone, Debug)]
struct BodyArgs {
    /// Its name
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// Config file that has its table
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Args, Clone, Debug)]
struct SetArgs {
    /// Config files with [rule.NAME] tables
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Forget the rules that are in none of them
    #[arg(long)]
    prune: bool,
}

/// A name becomes part of an address: nothing else may.
fn name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(format!("a name matches {NAME_PATTERN}")) }
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
fn table(file: &Path, section: &str, name: &str) -> Result<Value> {
    tables(file, section)?.remove(name).ok_or_else(|| unreadable(file, &format_args!("it has no [{section}.{name}]")))
}

impl BodyArgs {
    /// The table with its name, as the API takes something new.
    fn named(&self, section: &str) -> Result<Value> {
        let mut fields = table(&self.file, section, &self.name)?;
        fields["name"] = json!(self.name);
        Ok(fields)
    }
}

impl SetArgs {
    fn body(&self) -> Result<Value> {
        let mut rules = serde_json::Map::new();
        for file in &self.files {
            rules.extend(tables(file, "rule")?);
        }
        Ok(json!({ "rules": rules, "prune": self.prune }))
    }
}

/// The call that an action is.
fn call_of(action: &Action) -> Result<Call> {
    let at = |method, NameArgs { name }: &NameArgs, below: &str| Call::new(method, format!("/rules/{name}{below}"));
    let at_source = |method, NameArgs { name }: &NameArgs, below: &str| Call::new(method, format!("/sources/{name}{below}"));
    let at_store = |method, NameArgs { name }: &NameArgs, below: &str| Call::new(method, format!("/stores/{name}{below}"));
    Ok(match action {
        Action::List { .. } => Call::new("GET", "/rules"),
        Action::Show(name) => at("GET", name, ""),
        Action::Create(body) => Call::new("POST", "/rules").with_body(body.named("rule")?),
        Action::Edit { body, version } => {
            Call::new("PUT", format!("/rules/{}", body.name)).with_body(table(&body.file, "rule", &body.name)?).if_version(*version)
        }
        Action::Clone { name, new, file } => {
            let mut over = file.as_ref().map_or_else(|| Ok(json!({})), |file| table(file, "rule", new))?;
            over["name"] = json!(new);
            at("POST", name, "/clone").with_body(over)
        }
        Action::Pause(name) => at("POST", name, "/pause"),
        Action::Resume { name, accept } => {
            let accept: Vec<String> = accept.iter().map(ToString::to_string).collect();
            at("POST", name, "/resume").with_body(json!({ "accept": accept }))
        }
        Action::Seal(name) => at("POST", name, "/seal"),
        Action::Verify { name, compare, .. } => at("POST", name, "/verify").with_body(json!({ "compare": compare })),
        Action::Rollback { name, version } => at("POST", name, "/rollback").with_body(json!({ "version": version })),
        Action::Explain(name) => at("GET", name, "/explain"),
        Action::Delete(name) => at("DELETE", name, ""),
        Action::Versions(name) => at("GET", name, "/versions"),
        Action::Windows(name) => at("GET", name, "/windows"),
        Action::Gaps(name) => at("GET", name, "/gaps"),
        Action::Series(name) => at("GET", name, "/series"),
        Action::Log { name, follow } => at("GET", name, if *follow { "/log/follow" } else { "/log" }),
        Action::Files { name, directory } => {
            at("GET", name, &format!("/files?directory={}", escaped(directory.as_deref().unwrap_or_default())))
        }
        Action::Diff(set) => Call::new("POST", "/diff").with_body(set.body()?),
        Action::Apply(set) => Call::new("POST", "/apply").with_body(set.body()?),
        Action::Audit { rule } => Call::new("GET", rule.as_ref().map_or("/audit".to_owned(), |rule| format!("/audit?rule={rule}"))),
        Action::Sources => Call::new("GET", "/sources"),
        Action::CreateSource(body) => Call::new("POST", "/sources").with_body(body.named("kafka")?),
        Action::DeleteSource(name) => at_source("DELETE", name, ""),
        Action::TestSource(name) => at_source("POST", name, "/test"),
        Action::Topics { name, search } => at_source("GET", name, &format!("/topics?search={}", escaped(search))),
        Action::Stores => Call::new("GET", "/stores"),
        Action::CreateStore(body) => Call::new("POST", "/stores").with_body(body.named("store")?),
        Action::DeleteStore(name) => at_store("DELETE", name, ""),
        Action::ProbeStore(name) => at_store("POST", name, "/probe"),
        Action::Workers => Call::new("GET", "/workers"),
        Action::CopyState => Call::new("POST", "/state/copy"),
    })
}

/// Name, version, state and reason of each rule, in columns.
fn list(rules: &Value) -> String {
    let text = |rule: &Value, name: &str| rule[name].as_str().unwrap_or("-").to_owned();
    let row = |rule: &Value| vec![text(rule, "name"), rule["version"].to_string(), text(rule, "state"), text(rule, "reason")];
    let rows: Vec<Vec<String>> = rules.as_array().into_iter().flatten().map(row).collect();
    super::output::table(&["NAME", "VERSION", "STATE", "REASON"], &rows)
}

/// A line of a log.
fn line(line: &Value) -> String {
    let at = line["at_ms"].as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).map_or_else(String::new, |at| at.to_string());
    let lane = match (line["topic"].as_str(), line["partition"].as_i64()) {
        (Some(topic), Some(partition)) => format!(" {topic}/{partition}"),
        _ => String::new(),
    };
    one_line(&format!("{at} {}{lane} {}", line["level"].as_str().unwrap_or("-"), line["text"].as_str().unwrap_or("-"))) + "\n"
}

pub(super) fn main(args: &RuleArgs) -> Outcome {
    let service = Service { url: args.service.clone(), token: token(args)? };
    let call = call_of(&args.action)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(codes::RUNTIME, ErrorKind::Retryable, "the runtime cannot be started").because(e))?;
    if matches!(args.action, Action::Log { follow: true, .. }) {
        runtime.block_on(call.follow(&service, |found| print(line(found))))?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer = runtime.block_on(call.make(&service))?;
    match &args.action {
        Action::List { json: false } => print(list(&answer))?,
        Action::Verify { name, no_wait: false, .. } => return verified(&runtime.block_on(end_of_verification(&service, name))?),
        _ if answer.is_null() => {}
        _ => print_json(&answer)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn end_of_verification(service: &Service, NameArgs { name }: &NameArgs) -> Result<Value> {
    let ask = Call::new("GET", format!("/rules/{name}/verify"));
    loop {
        let found = ask.make(service).await?;
        if found["state"] != "running" {
            return Ok(found);
        }
        tokio::time::sleep(VERIFY_INTERVAL).await;
    }
}

fn verified(found: &Value) -> Outcome {
    print_json(found)?;
    let error =
        |code, kind, message: &str| Error::new(code, kind, message).help("its report says what and where; docs/errors.md what can be done");
    match found["state"].as_str() {
        Some("sound") => Ok(ExitCode::SUCCESS),
        Some("damaged") => Err(error(codes::VERIFY_DAMAGE, ErrorKind::Corrupt, "the backup is damaged").into()),
        _ => Err(error(codes::COMPARE, ErrorKind::Retryable, "the verification was not finished").into()),
    }
}

fn token(args: &RuleArgs) -> Result<String> {
    let failed = |why: String| {
        Error::new(codes::CONFIG_UNREADABLE, ErrorKind::Invalid, "the token cannot be read")
            .because(why)
            .help("name the file `token` in the service's --state directory: --token-file, or CATCHMENT_TOKEN_FILE")
    };
    let Some(file) = &args.token_file else { return Err(failed("no file is named".to_owned())) };
    let text = std::fs::read_to_string(file).map_err(|e| failed(format!("{}: {e}", file.display())))?;
    Ok(text.trim().to_owned())
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
    }

    #[test]
    fn a_line_of_a_log_is_one_line_whatever_it_holds() {
        let shown = line(&json!({ "at_ms": 0, "level": "warn", "topic": "t", "partition": 3, "text": "a\nb\u{1b}[2J" }));
        assert_eq!(shown, "1970-01-01T00:00:00Z warn t/3 a\\nb\\u{1b}[2J\n");
    }
}
