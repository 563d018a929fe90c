//! `catchment rule ...`: everything that the API does with rules, from a terminal.
//!
//! The answer goes to stdout as JSON, as the API gives it; `list` prints a table unless `--json` is said. A refusal is shown as an error of this program.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::header::{AUTHORIZATION, IF_MATCH};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::Outcome;
use super::output::{print, print_json};
use crate::config::{Accept, NAME_PATTERN, is_name};
use crate::error::{Code, Error, ErrorKind, Result, codes};

/// The service cannot be asked.
const SERVICE_UNREACHABLE: Code = Code(609);
/// The service refuses.
const SERVICE_REFUSES: Code = Code(610);

/// How long a call may take. An edit and a pause wait for pinned windows.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The largest answer that is read.
const ANSWER_MAX: usize = 64 << 20;

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
    /// Forget a rule; its objects stay
    Delete(NameArgs),
    /// Its versions
    Versions(NameArgs),
    /// Its last windows
    Windows(NameArgs),
    /// Its gaps
    Gaps(NameArgs),
    /// Its log
    Log(NameArgs),
}

#[derive(Args, Clone, Debug)]
struct NameArgs {
    /// The rule
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
}

#[derive(Args, Clone, Debug)]
struct BodyArgs {
    /// The rule
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// Config file with [rule.NAME]
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// A name becomes part of an address: nothing else may.
fn name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(format!("a rule's name matches {NAME_PATTERN}")) }
}

impl BodyArgs {
    /// The rule's table as the API takes it.
    fn body(&self) -> Result<Value> {
        let failed = |e: &dyn std::fmt::Display| {
            Error::new(codes::CONFIG_UNREADABLE, ErrorKind::Invalid, "the rule cannot be read")
                .with("file", self.file.display())
                .because(e)
                .help("name a config file that has a table [rule.NAME]; `catchment config check FILE` finds all its problems")
        };
        let text = std::fs::read_to_string(&self.file).map_err(|e| failed(&e))?;
        let file: Value = toml::from_str(&text).map_err(|e| failed(&e.message()))?;
        match file.get("rule").and_then(|rules| rules.get(&self.name)) {
            Some(Value::Object(body)) => Ok(Value::Object(body.clone())),
            Some(_) => Err(failed(&format_args!("rule.{} is no table", self.name))),
            None => Err(failed(&format_args!("it has no [rule.{}]", self.name))),
        }
    }
}

/// A call to the API.
struct Call {
    method: &'static str,
    path: String,
    body: Option<Value>,
    version: Option<i64>,
}

impl Call {
    fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None, version: None }
    }

    fn of(action: &Action) -> Result<Self> {
        let of_rule = |method, NameArgs { name }: &NameArgs, below: &str| Self::new(method, format!("/rules/{name}{below}"));
        Ok(match action {
            Action::List { .. } => Self::new("GET", "/rules"),
            Action::Show(name) => of_rule("GET", name, ""),
            Action::Create(body) => {
                let mut fields = body.body()?;
                fields["name"] = json!(body.name);
                Self { body: Some(fields), ..Self::new("POST", "/rules") }
            }
            Action::Edit { body, version } => {
                Self { body: Some(body.body()?), version: *version, ..Self::new("PUT", format!("/rules/{}", body.name)) }
            }
            Action::Pause(name) => of_rule("POST", name, "/pause"),
            Action::Resume { name, accept } => {
                let accept: Vec<String> = accept.iter().map(ToString::to_string).collect();
                Self { body: Some(json!({ "accept": accept })), ..of_rule("POST", name, "/resume") }
            }
            Action::Seal(name) => of_rule("POST", name, "/seal"),
            Action::Delete(name) => of_rule("DELETE", name, ""),
            Action::Versions(name) => of_rule("GET", name, "/versions"),
            Action::Windows(name) => of_rule("GET", name, "/windows"),
            Action::Gaps(name) => of_rule("GET", name, "/gaps"),
            Action::Log(name) => of_rule("GET", name, "/log"),
        })
    }

    /// Makes the call. Returns the answer, null for an empty one.
    async fn make(&self, service: &str, token: &str) -> Result<Value> {
        let url = format!("{}/api/v1{}", service.trim_end_matches('/'), self.path);
        let unreachable = |why: &dyn std::fmt::Display| {
            Error::new(SERVICE_UNREACHABLE, ErrorKind::Unreachable, "the service cannot be asked")
                .with("url", &url)
                .because(why)
                .help("start it with `catchment serve`, or say where it is with --service")
        };
        let mut request = Request::builder().method(self.method).uri(&url).header(AUTHORIZATION, format!("Bearer {token}"));
        if let Some(version) = self.version {
            request = request.header(IF_MATCH, format!("\"{version}\""));
        }
        let body = self.body.as_ref().map(ToString::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| unreachable(&e))?;
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
            .map_err(|e| unreachable(&e))?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let answer = tokio::time::timeout(TIMEOUT, client.request(request)).await.map_err(|e| unreachable(&e))?;
        let answer = answer.map_err(|e| unreachable(&std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string)))?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), ANSWER_MAX).collect().await.map_err(|e| unreachable(&e))?.to_bytes();
        let value: Value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).map_err(|e| unreachable(&e))? };
        if status.is_success() { Ok(value) } else { Err(refusal(status.as_u16(), &value)) }
    }
}

/// A problem of the service as an error of this program.
fn refusal(status: u16, problem: &Value) -> Error {
    let text = |name: &str| problem[name].as_str();
    let kind = match status {
        404 => ErrorKind::NotFound,
        401 | 403 => ErrorKind::Denied,
        400..=499 => ErrorKind::Invalid,
        _ => ErrorKind::Retryable,
    };
    let error = Error::new(SERVICE_REFUSES, kind, text("detail").unwrap_or("the service refuses"))
        .with("code", text("code").unwrap_or("none"))
        .help(text("help").unwrap_or("look at the service's own messages"));
    // The others follow from the first one, or are found again once that is mended.
    let more = problem["errors"].as_array().map_or(0, Vec::len).saturating_sub(1);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    match text("cause").or(text("rule")).or(text("at")) {
        Some(cause) => error.because(format!("{cause}{more}")),
        None => error,
    }
}

/// Name, version, state and reason of each rule, in columns.
fn table(rules: &Value) -> String {
    let text = |rule: &Value, name: &str| rule[name].as_str().unwrap_or("-").to_owned();
    let rows = rules.as_array().into_iter().flatten().map(|rule| {
        let version = rule["version"].to_string();
        format!("{:<24} {version:>7}  {:<15} {}\n", text(rule, "name"), text(rule, "state"), text(rule, "reason"))
    });
    format!("{:<24} {:>7}  {:<15} {}\n", "NAME", "VERSION", "STATE", "REASON") + &rows.collect::<String>()
}

pub(super) fn main(args: &RuleArgs) -> Outcome {
    let token = token(args)?;
    let call = Call::of(&args.action)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(codes::RUNTIME, ErrorKind::Retryable, "the runtime cannot be started").because(e))?;
    let answer = runtime.block_on(call.make(&args.service, &token))?;
    match &args.action {
        Action::List { json: false } => print(table(&answer))?,
        Action::Delete(_) => {}
        _ => print_json(&answer)?,
    }
    Ok(ExitCode::SUCCESS)
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
    fn a_rule_is_taken_out_of_a_config_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.toml");
        std::fs::write(&file, "[rule.orders]\nsource = { topics = [\"orders\"] }\nmax_bytes = 1048576\n").unwrap();
        let body = |name: &str| BodyArgs { name: name.to_owned(), file: file.clone() }.body();
        assert_eq!(body("orders").unwrap(), json!({ "source": { "topics": ["orders"] }, "max_bytes": 1_048_576 }));
        let error = body("other").unwrap_err();
        assert!(error.cause.unwrap().contains("no [rule.other]"));
        std::fs::write(&file, "rule = 3\n").unwrap();
        assert!(body("orders").is_err());
        std::fs::write(&file, "[rule]\norders = 5\n").unwrap();
        assert!(body("orders").unwrap_err().cause.unwrap().contains("no table"));
        assert!(name("orders").is_ok() && name("orders?x").is_err());
    }

    #[test]
    fn a_refusal_keeps_code_and_help() {
        let problem = json!({ "detail": "there is no rule of this name", "code": "C0602", "help": "look", "rule": "x" });
        let error = refusal(404, &problem);
        assert_eq!(
            (error.kind, error.message.as_str(), error.help.as_deref()),
            (ErrorKind::NotFound, "there is no rule of this name", Some("look"))
        );
        assert!(error.context.contains(&("code", "C0602".to_owned())));
    }
}
