//! `catchment token`: further tokens of a service, each under a name of its own.
//!
//! A service that runs is asked by its API; where none runs, its state is changed. A token is printed once, when it is made: what is kept is a hash.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Outcome;
use super::output::{print, print_json, table};
use super::remote::RemoteArgs;
use super::rule::call::{Call, Service};
use super::rule::name;
use crate::error::{Error, ErrorKind, Result, codes};
use crate::service::changes::now_ms;
use crate::service::state::State;
use crate::service::tokens;

/// Who changes tokens where no service runs, for the audit.
const WHO: &str = "command line";

/// Flags of `token`.
#[derive(Args, Clone, Debug)]
pub(super) struct TokenArgs {
    /// Directory of the service's state, on its own machine: the token is taken from there, and no service need run
    #[arg(long, global = true, value_name = "DIR", env = "CATCHMENT_STATE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Make a further token and print it, this once
    Add {
        /// Its name
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
    },
    /// Names of the further tokens
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget a further token and end its sessions
    Remove {
        /// Its name
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
    },
}

/// Who is asked.
enum Keeper {
    State(Box<State>),
    Service(Service),
}

impl TokenArgs {
    fn keeper(&self) -> Result<Keeper> {
        let Some(dir) = &self.state else { return Ok(Keeper::Service(self.remote.service()?)) };
        match State::open_if_free(&dir.join("state.db"))? {
            Some(state) => Ok(Keeper::State(Box::new(state))),
            None => Ok(Keeper::Service(self.remote.service_with(&dir.join("token"))?)),
        }
    }
}

fn ask(service: &Service, call: &Call) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(codes::RUNTIME, ErrorKind::Retryable, "the runtime cannot be started").because(e))?;
    runtime.block_on(call.make(service))
}

impl Keeper {
    fn add(&self, name: &str) -> Result<String> {
        match self {
            Self::State(state) => Ok(tokens::make(state, name, WHO)?.0),
            Self::Service(service) => {
                let made = ask(service, &Call::new("POST", "/tokens").with_body(json!({ "name": name })))?;
                Ok(made["token"].as_str().unwrap_or_default().to_owned())
            }
        }
    }

    fn list(&self) -> Result<Value> {
        match self {
            Self::State(state) => {
                let shown = state.tokens()?.into_iter().map(|token| json!({ "name": token.name, "made_ms": token.made_ms }));
                Ok(shown.collect())
            }
            Self::Service(service) => ask(service, &Call::new("GET", "/tokens")),
        }
    }

    fn remove(&self, name: &str) -> Result<()> {
        match self {
            Self::State(state) => state.remove_token(name, WHO, now_ms()),
            Self::Service(service) => ask(service, &Call::new("DELETE", format!("/tokens/{name}"))).map(drop),
        }
    }
}

/// Name and time of each token, in columns.
fn columns(tokens: &Value) -> String {
    let made = |token: &Value| token["made_ms"].as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let row = |token: &Value| {
        let made = made(token).map_or_else(|| "-".to_owned(), |at| at.to_string());
        vec![token["name"].as_str().unwrap_or("-").to_owned(), made]
    };
    let rows: Vec<Vec<String>> = tokens.as_array().into_iter().flatten().map(row).collect();
    table(&["NAME", "MADE"], &rows)
}

pub(super) fn main(args: &TokenArgs) -> Outcome {
    let keeper = args.keeper()?;
    match &args.action {
        Action::Add { name } => print(format_args!("{}\n", keeper.add(name)?))?,
        Action::Ls { json: true } => print_json(&keeper.list()?)?,
        Action::Ls { json: false } => print(columns(&keeper.list()?))?,
        Action::Remove { name } => keeper.remove(name)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_kept_where_no_service_runs() {
        let dir = tempfile::tempdir().unwrap();
        drop(State::open(&dir.path().join("state.db")).unwrap());
        let keeper = || Keeper::State(Box::new(State::open_if_free(&dir.path().join("state.db")).unwrap().unwrap()));
        let text = keeper().add("ci").unwrap();
        assert!(text.starts_with("ct_ci_"));
        let listed = keeper().list().unwrap();
        assert_eq!(listed[0]["name"], "ci");
        let shown = format!("{listed}{}", columns(&listed));
        assert!(shown.contains("NAME") && !shown.contains("argon2") && !shown.contains(&text));
        keeper().remove("ci").unwrap();
        assert_eq!(keeper().list().unwrap(), json!([]));
    }
}
