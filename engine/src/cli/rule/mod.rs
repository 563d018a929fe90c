//! `catchment rule ...`: everything that the API does with rules, from a terminal.
//!
//! The answer goes to stdout as JSON, as the API gives it; `list` prints a table and `log --follow` lines. A refusal is shown as an error of this program.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Outcome;
use super::output::{print, print_json};
use super::remote::RemoteArgs;
use crate::error::{Error, ErrorKind, Result, codes};
use crate::text::one_line;

mod action;
mod args;
pub(super) mod call;
mod connection;

use action::Action;
use args::NameArgs;
pub(super) use args::name;
use call::{Call, Service};

/// How often a verification is asked for until it has ended.
const VERIFY_INTERVAL: Duration = Duration::from_millis(500);

/// Flags of `rule`.
#[derive(Args, Clone, Debug)]
pub(super) struct RuleArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    action: Action,
}

#[cfg(test)]
impl RuleArgs {
    /// The call that it is.
    pub(super) fn call(&self) -> Result<Call> {
        self.action.call()
    }
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
    let service = args.remote.service()?;
    let call = args.action.call()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(codes::RUNTIME, ErrorKind::Retryable, "the runtime cannot be started").because(e))?;
    if matches!(args.action, Action::Log { follow: true, .. }) {
        runtime.block_on(call.follow(&service, |found| print(line(found))))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Action::Download { to, .. } | Action::LoadTest { report: Some(to), .. } = &args.action {
        runtime.block_on(download(&call, &service, to))?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer = runtime.block_on(call.make(&service))?;
    match &args.action {
        Action::List { json: false, .. } => print(list(&answer))?,
        Action::Verify { name, no_wait: false, .. } => return verified(&runtime.block_on(end_of_verification(&service, name))?),
        _ if answer.is_null() => {}
        _ => print_json(&answer)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes an answer's bytes into a new file. What is not whole is not left there.
async fn download(call: &Call, service: &Service, to: &Path) -> Result<(), Vec<Error>> {
    let failed = |e: std::io::Error| {
        let error = Error::new(codes::OUTPUT, ErrorKind::Invalid, "the file cannot be written").with("file", to.display()).because(e);
        error.help("name a file that is not there yet, in a directory that you may write")
    };
    let mut file = std::fs::File::create_new(to).map_err(failed)?;
    let written = call.fetch(service, |bytes| file.write_all(bytes).map_err(|e| vec![failed(e)])).await;
    if written.is_err() {
        // The first error is the one that counts.
        let _ = std::fs::remove_file(to);
    }
    written
}

async fn end_of_verification(service: &Service, NameArgs { name }: &NameArgs) -> Result<Value> {
    let ask = Call::new("GET", format!("/rules/{name}/verify"));
    loop {
        let found = ask.make(service).await?;
        if !matches!(found["state"].as_str(), Some("queued" | "running")) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_of_a_log_is_one_line_whatever_it_holds() {
        let shown = line(&json!({ "at_ms": 0, "level": "warn", "topic": "t", "partition": 3, "text": "a\nb\u{1b}[2J" }));
        assert_eq!(shown, "1970-01-01T00:00:00Z warn t/3 a\\nb\\u{1b}[2J\n");
    }
}
