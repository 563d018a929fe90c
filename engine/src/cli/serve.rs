//! `catchment serve`: keeps and runs rules, and serves the API and the console.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Outcome;
use super::backup::stop_on_signal;
use crate::config::{BUDGET_MIN, ByteSize};
use crate::error::{Code, Error, ErrorKind, Result, codes};
use crate::otlp;
use crate::service::api::{self, Service};
use crate::service::changes::By;
use crate::service::files::{self, Bodies, Files};
use crate::service::load_tests::LoadTests;
use crate::service::metrics;
use crate::service::state::{Origin, STATE_FAILED, State};
use crate::service::supervisor::Supervisor;
use crate::service::tokens::Tokens;
use crate::service::verification::Verifications;
use crate::service::web::{Hosts, Identity, TlsFiles, TlsListener};

/// The service cannot listen there.
pub(super) const LISTEN_FAILED: Code = Code(608);

/// Threads that answer calls and talk to stores.
pub(super) const THREADS: usize = 4;

/// Flags of `serve`.
#[derive(Args, Clone, Debug)]
pub(super) struct ServeArgs {
    /// Directory of the service's state: rules, log, token; made if it is not there
    #[arg(long, value_name = "DIR", env = "CATCHMENT_STATE")]
    state: PathBuf,
    /// Serve the API and the console here
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8520")]
    listen: SocketAddr,
    /// Answer to this host name, too: one of a proxy or of a container; may be repeated. Names of this machine and the address of --listen are known
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Speak TLS with the certificate of this PEM file, behind it those up to its authority; read again at SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key of that certificate; a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let nobody in without a certificate of an authority of this PEM file; the token is wanted too
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Listen on an address that other machines reach, without TLS: the token goes over the network in clear
    #[arg(long)]
    insecure: bool,
    /// Config file with the Kafka connections and stores that rules may name
    #[arg(long, value_name = "FILE", env = "CATCHMENT_CONFIG")]
    config: Option<PathBuf>,
    /// Memory for everything that all rules buffer together
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    budget: ByteSize,
    /// Show keys and values of records to whoever has the token
    #[arg(long)]
    show_values: bool,
    /// Show load tests: each directory in this one that has the report of one. It is only read
    #[arg(long, value_name = "DIR", env = "CATCHMENT_LOAD_TESTS")]
    load_tests: Option<PathBuf>,
    /// Run no rules in this process: workers do
    #[arg(long)]
    no_run: bool,
    /// Put a copy of the state back before starting; what stands there is kept beside it
    #[arg(long, value_name = "FILE")]
    restore: Option<PathBuf>,
}

pub(super) fn main(args: &ServeArgs) -> Outcome {
    crate::alloc::verify()?;
    crate::alloc::hold_down_many_threads(args.budget.bytes());
    crate::descriptors::provide()?;
    crate::threads::provide(crate::threads::THREADS_MIN)?;
    let files = read_files(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("service")
        .enable_all()
        .build()
        .map_err(|e| Error::new(codes::RUNTIME, ErrorKind::Retryable, "the runtime cannot be started").because(e))?;
    runtime.block_on(serve(args, files))?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &ServeArgs, files: Files) -> Result<(), Vec<Error>> {
    check_address(args)?;
    check_budget(args.budget)?;
    let (mut stop, hangups) = (stop_on_signal()?, hangups()?);
    let collector = otlp::Settings::of_process()?;
    let identity = identity(args)?.map(Arc::new);
    let listener = tokio::net::TcpListener::bind(args.listen).await.map_err(|e| {
        Error::new(LISTEN_FAILED, ErrorKind::Invalid, "the service cannot listen there")
            .with("address", args.listen)
            .because(e)
            .help("choose another --listen ADDR, such as 127.0.0.1:0 for any free port")
    })?;
    let state = open_state(args)?;
    let supervisor = Supervisor::new(Arc::clone(&state), files.base.clone(), args.budget)?;
    if args.no_run {
        supervisor.leave_to_workers();
    }
    // Before any rule runs: its token may be one that is refused.
    let service = service(args, state, &supervisor)?;
    take_over(args, &supervisor, &files).await;
    supervisor.start().await?;
    let pusher = collector.map(|settings| push(settings, &supervisor));
    let series = Arc::clone(&service.series);
    let app = api::router(service).into_make_service_with_connect_info::<SocketAddr>();
    if let Ok(bound) = listener.local_addr() {
        let scheme = if identity.is_some() { "https" } else { "http" };
        tracing::info!("the API is at {scheme}://{bound}/api/v1, its token in {}", args.state.join("token").display());
        tracing::info!("the console is at {scheme}://{bound}/console");
    }
    let served = async {
        match identity.clone() {
            None => axum::serve(listener, app).await,
            Some(identity) => axum::serve(TlsListener::new(listener, identity).tap_io(|_| ()), app).await,
        }
    };
    tokio::select! {
        served = served => {
            if let Err(e) = served {
                tracing::error!("the API is served no more: {e}");
            }
        }
        () = series.watch(&supervisor) => {}
        () = reload_at(args, &supervisor, identity.as_deref(), hangups, files.connections) => {}
        _ = stop.wait_for(Option::is_some) => {}
    }
    supervisor.stop().await;
    if let Some(pusher) = pusher {
        pusher.finish().await;
    }
    Ok(())
}

/// Pushes what `/metrics` of a service shows.
pub(super) fn push(settings: otlp::Settings, supervisor: &Arc<Supervisor>) -> otlp::Pusher {
    let supervisor = Arc::clone(supervisor);
    otlp::Pusher::start(settings, move |now_ms| Some(metrics::page(&supervisor, now_ms)))
}

/// What handlers share.
fn service(args: &ServeArgs, state: Arc<State>, supervisor: &Arc<Supervisor>) -> Result<Service> {
    Ok(Service {
        tokens: Arc::new(Tokens::of(&args.state.join("token"), &state)?),
        verifications: Verifications::new(Arc::clone(&state)),
        inspector: Arc::default(),
        series: Arc::default(),
        attempts: Arc::default(),
        sessions: Arc::default(),
        hosts: Arc::new(Hosts::new(args.listen.ip(), &args.host)),
        load_tests: LoadTests::of(args.load_tests.as_deref()),
        copies: Arc::from(args.state.as_path()),
        tls: args.tls_cert.is_some(),
        show_values: args.show_values,
        supervisor: Arc::clone(supervisor),
        state,
    })
}

fn check_address(args: &ServeArgs) -> Result<()> {
    if args.listen.ip().is_loopback() || args.tls_cert.is_some() || args.insecure {
        return Ok(());
    }
    Err(Error::new(LISTEN_FAILED, ErrorKind::Invalid, "other machines reach this address, and there is no TLS")
        .with("address", args.listen)
        .help("name a certificate with --tls-cert and --tls-key, listen on 127.0.0.1 behind a proxy that speaks TLS, or say --insecure"))
}

/// What TLS is spoken with, if it is.
fn identity(args: &ServeArgs) -> Result<Option<Identity>> {
    let (Some(certificate), Some(key)) = (args.tls_cert.clone(), args.tls_key.clone()) else { return Ok(None) };
    Identity::of(TlsFiles { certificate, key, client_ca: args.tls_client_ca.clone() }).map(Some)
}

/// What each rule's `budget` must be too.
pub(super) fn check_budget(budget: ByteSize) -> Result<()> {
    if budget >= BUDGET_MIN {
        return Ok(());
    }
    Err(Error::new(codes::CONFIG_VALUE, ErrorKind::Invalid, "the memory budget is too small")
        .with("--budget", budget)
        .with("least", BUDGET_MIN)
        .help("give it more; each rule with few partitions takes about 8 MiB, however little it does"))
}

/// Makes a state directory, which is its owner's alone.
pub(super) fn make_directory(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| {
        Error::new(STATE_FAILED, ErrorKind::Invalid, "the state directory cannot be made")
            .with("dir", dir.display())
            .because(e)
            .help("check the path and that this user may write there")
    })
}

fn open_state(args: &ServeArgs) -> Result<Arc<State>> {
    make_directory(&args.state)?;
    let file = args.state.join("state.db");
    if let Some(copy) = &args.restore {
        State::restore(copy, &file)?;
    }
    Ok(Arc::new(State::open(&file)?))
}

/// Who changes rules of files.
fn by_files() -> By {
    By { who: "file".to_owned(), origin: Origin::File }
}

/// Listened for before anything else is done: without that the signal would end the process.
fn hangups() -> Result<Signal> {
    signal(SignalKind::hangup())
        .map_err(|e| Error::new(codes::RUNTIME, ErrorKind::Retryable, "signals cannot be listened for").because(e).help("start it again"))
}

/// Reads the files again at each SIGHUP. Files that cannot be read change nothing; a rule that is refused stays as it is, and is named. The audit has what
/// differs of connections and stores from those that are `known`.
async fn reload_at(args: &ServeArgs, supervisor: &Arc<Supervisor>, identity: Option<&Identity>, mut hangups: Signal, mut known: Bodies) {
    while hangups.recv().await.is_some() {
        match identity.map(Identity::read_again) {
            Some(Ok(())) => tracing::info!("the certificates were read again"),
            Some(Err(e)) => tracing::error!("the certificates were not taken over: {e}"),
            None => {}
        }
        match read_files(args) {
            Ok(files) => {
                supervisor.set_base(files.base.clone());
                match supervisor.note_reading(&known, &files.connections, &by_files().who).await {
                    Ok(()) => known = files.connections.clone(),
                    // The next reading tells it.
                    Err(e) => tracing::error!("what has changed of connections could not be written down: {e}"),
                }
                take_over(args, supervisor, &files).await;
                tracing::info!("the files were read again");
            }
            Err(errors) => errors.iter().for_each(|e| tracing::error!("the files were not taken over: {e}")),
        }
    }
}

fn read_files(args: &ServeArgs) -> Result<Files, Vec<Error>> {
    args.config.as_deref().map_or_else(|| Ok(Files::default()), files::read)
}

/// Without a file nothing is known of the rules of files: they go on.
async fn take_over(args: &ServeArgs, supervisor: &Arc<Supervisor>, files: &Files) {
    for error in supervisor.follow_files(&files.rules, args.config.is_some(), &by_files()).await {
        tracing::error!("a rule of a file was not taken over: {error}");
    }
}
