//! `catchment worker`: runs the rules of a service on this machine, too.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backup::stop_on_signal;
use super::remote::TrustArgs;
use super::rule::call::{Call, Service};
use super::serve::{THREADS, check_budget, make_directory, push};
use super::{Outcome, metrics};
use crate::config::{ByteSize, Config, NAME_PATTERN, is_name};
use crate::error::{Code, Error, ErrorKind, Result, codes};
use crate::https::Tls;
use crate::otlp;
use crate::service;
use crate::service::state::State;
use crate::service::supervisor::Supervisor;
use crate::service::worker::{Server, Worker};
use crate::service::workers::{Contact, Delivered, Delivery, Orders};

/// The server does not answer in time.
const SERVER_SILENT: Code = Code(665);

/// How long the server may take to answer. It only writes down what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the end of the process waits for its last reports to be taken: what is not stays in the state.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Flags of `worker`.
#[derive(Args, Clone, Debug)]
pub(super) struct WorkerArgs {
    /// Address of the service whose rules to run
    #[arg(long, value_name = "URL", env = "CATCHMENT_SERVICE")]
    join: String,
    /// File with the token: a copy of `token` in the service's --state directory
    #[arg(long, value_name = "FILE", env = "CATCHMENT_TOKEN_FILE")]
    token_file: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// Directory of the worker's state: what the service told last, and what it does not have yet; made if it is not there [default: catchment-worker in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR", env = "CATCHMENT_STATE")]
    state: Option<PathBuf>,
    /// The worker's name, one of its own among those of the service [default: this machine's]
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Memory for everything that all rules buffer together
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    budget: ByteSize,
    /// Serve /metrics, /livez and /readyz here
    #[arg(long, value_name = "ADDR:PORT", env = "CATCHMENT_METRICS")]
    metrics: Option<SocketAddr>,
}

fn name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(format!("a name matches {NAME_PATTERN}")) }
}

pub(super) fn main(args: &WorkerArgs) -> Outcome {
    crate::alloc::verify()?;
    crate::alloc::hold_down_many_threads(args.budget.bytes());
    crate::descriptors::provide()?;
    crate::threads::provide(crate::threads::THREADS_MIN)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("worker")
        .enable_all()
        .build()
        .map_err(|e| Error::new(codes::RUNTIME, ErrorKind::Retryable, "the runtime cannot be started").because(e))?;
    runtime.block_on(work(args))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(ExitCode::SUCCESS)
}

async fn work(args: &WorkerArgs) -> Result<()> {
    check_budget(args.budget)?;
    let mut stop = stop_on_signal()?;
    let collector = otlp::Settings::of_process()?;
    let link = Link { url: args.join.clone(), token_file: args.token_file.clone(), tls: args.trust.tls(&args.join)? };
    link.service()?;
    let dir = state_directory(args)?;
    make_directory(&dir)?;
    let state = Arc::new(State::open_of_worker(&dir.join("worker.db"))?);
    let supervisor = Supervisor::new(Arc::clone(&state), Config::default(), args.budget)?;
    let name = args.name.clone().unwrap_or_else(name_of_host);
    if let Some(address) = args.metrics {
        metrics::serve(address, pages(&supervisor, &state)).await?;
    }
    let mut worker = Worker::new(name, state, Arc::clone(&supervisor), link)?;
    // First asked, then started: what was paused or deleted meanwhile must not run for a moment.
    let changes = worker.join().await?;
    supervisor.start().await?;
    worker.make_so(changes);
    let pusher = collector.map(|settings| push(settings, &supervisor));
    tracing::info!("running the rules of {}", args.join);
    tokio::select! {
        () = worker.follow() => {}
        _ = stop.wait_for(Option::is_some) => {}
    }
    supervisor.stop().await;
    if let Some(pusher) = pusher {
        pusher.finish().await;
    }
    if !matches!(tokio::time::timeout(LAST_WORDS, worker.deliver()).await, Ok(Ok(()))) {
        tracing::warn!("the server does not have all reports yet; the next start sends them");
    }
    Ok(())
}

/// What its rules count, and whether it is there and can work: without its state it can tell nobody what it does. The service may be away.
fn pages(supervisor: &Arc<Supervisor>, state: &Arc<State>) -> Router {
    let (shown, asked) = (Arc::clone(supervisor), Arc::clone(state));
    let ready = move || {
        let asked = Arc::clone(&asked);
        async move {
            match asked.ask(State::answers).await {
                Ok(()) => (StatusCode::OK, "ok".to_owned()),
                Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            }
        }
    };
    Router::new()
        .route("/metrics", metrics::metrics(move |now_ms| service::metrics::page(&shown, now_ms)))
        .route("/livez", get(|| std::future::ready("ok")))
        .route("/readyz", get(ready))
}

/// The name of this machine, as far as a worker may have it.
fn name_of_host() -> String {
    let host = nix::unistd::gethostname().map(|host| host.to_string_lossy().to_lowercase()).unwrap_or_default();
    let legal: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' }).take(63).collect();
    Some(legal).filter(|name| is_name(name)).unwrap_or_else(|| "worker".to_owned())
}

/// The directory that is named, or one of this user's.
fn state_directory(args: &WorkerArgs) -> Result<PathBuf> {
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".local/state"));
    let of_user = || std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home).map(|dir| dir.join("catchment-worker"));
    args.state.clone().or_else(of_user).ok_or_else(|| {
        Error::new(codes::CONFIG_MISSING, ErrorKind::Invalid, "there is no place for the worker's state")
            .help("name a directory with --state DIR")
    })
}

/// A service that is reached by its API.
#[derive(Debug)]
struct Link {
    url: String,
    token_file: PathBuf,
    tls: Tls,
}

impl Link {
    /// Reads the token each time: it may be given anew.
    fn service(&self) -> Result<Service> {
        let token = std::fs::read_to_string(&self.token_file).map_err(|e| {
            Error::new(codes::CONFIG_UNREADABLE, ErrorKind::Invalid, "the token cannot be read")
                .with("file", self.token_file.display())
                .because(e)
                .help("copy the file `token` of the service's --state directory to this machine, and name it with --token-file")
        })?;
        Ok(Service { url: self.url.clone(), token: token.trim().to_owned(), tls: self.tls.clone() })
    }

    async fn call<T: DeserializeOwned>(&self, method: &'static str, path: String, body: &impl Serialize) -> Result<T> {
        let unreadable = |why: &dyn std::fmt::Display| {
            Error::new(codes::OUTPUT, ErrorKind::Retryable, "the server and this worker do not understand each other")
                .because(why)
                .help("run the same version on both sides")
        };
        let body = serde_json::to_value(body).map_err(|e| unreadable(&e))?;
        let (service, call) = (self.service()?, Call::new(method, path).with_body(body));
        let answer = tokio::time::timeout(PATIENCE, call.make(&service)).await.map_err(|_| away(&self.url))??;
        serde_json::from_value(answer).map_err(|e| unreadable(&e))
    }
}

fn away(url: &str) -> Error {
    Error::new(SERVER_SILENT, ErrorKind::Unreachable, "the server does not answer")
        .with("url", url)
        .help("it may be busy or cut off; the worker goes on, and asks again")
}

impl Server for Link {
    async fn meet(&self, worker: &str, contact: &Contact) -> Result<Orders> {
        self.call("PUT", format!("/workers/{worker}"), contact).await
    }

    async fn report(&self, worker: &str, delivery: &Delivery) -> Result<Delivered> {
        self.call("POST", format!("/workers/{worker}/reports"), delivery).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_a_name_that_may_be_one() {
        assert!(is_name(&name_of_host()), "{}", name_of_host());
        assert!(name("one").is_ok() && name("One/..").is_err());
    }
}
