//! `catchment serve`: keeps and runs rules, and serves the API.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::Outcome;
use super::backup::stop_on_signal;
use crate::config::{ByteSize, Config};
use crate::error::{Code, Error, ErrorKind, Result, codes};
use crate::service::api::{self, Service, Token};
use crate::service::state::{STATE_FAILED, State};
use crate::service::supervisor::{Common, Supervisor};

/// The service cannot listen there.
pub(super) const LISTEN_FAILED: Code = Code(608);

/// Threads that answer calls and talk to stores.
const THREADS: usize = 4;

/// Flags of `serve`.
#[derive(Args, Clone, Debug)]
pub(super) struct ServeArgs {
    /// Directory of the service's state: rules, log, token; made if it is not there
    #[arg(long, value_name = "DIR", env = "CATCHMENT_STATE")]
    state: PathBuf,
    /// Serve the API here
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8520")]
    listen: SocketAddr,
    /// Listen on an address that other machines reach, without TLS: the token goes over the network in clear
    #[arg(long)]
    insecure: bool,
    /// Config file with the Kafka connections and stores that rules may name
    #[arg(long, value_name = "FILE", env = "CATCHMENT_CONFIG")]
    config: Option<PathBuf>,
    /// Memory for what a rule buffers that does not say how much it takes
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    rule_budget: ByteSize,
}

pub(super) fn main(args: &ServeArgs) -> Outcome {
    crate::alloc::verify()?;
    crate::descriptors::provide()?;
    let base = args.config.as_deref().map_or_else(|| Ok(Config::default()), Config::load)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("service")
        .enable_all()
        .build()
        .map_err(|e| Error::new(codes::RUNTIME, ErrorKind::Retryable, "the runtime cannot be started").because(e))?;
    runtime.block_on(serve(args, base))?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &ServeArgs, base: Config) -> Result<()> {
    if !args.listen.ip().is_loopback() && !args.insecure {
        return Err(Error::new(LISTEN_FAILED, ErrorKind::Invalid, "other machines reach this address, and there is no TLS")
            .with("address", args.listen)
            .help("listen on 127.0.0.1 behind a proxy that speaks TLS, or say --insecure"));
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&args.state).map_err(|e| {
        Error::new(STATE_FAILED, ErrorKind::Invalid, "the state directory cannot be made")
            .with("dir", args.state.display())
            .because(e)
            .help("check the path and that this user may write there")
    })?;
    let token = Arc::new(Token::of_file(&args.state.join("token"))?);
    let state = Arc::new(State::open(&args.state.join("state.db"))?);
    let listener = tokio::net::TcpListener::bind(args.listen).await.map_err(|e| {
        Error::new(LISTEN_FAILED, ErrorKind::Invalid, "the service cannot listen there")
            .with("address", args.listen)
            .because(e)
            .help("choose another --listen ADDR, such as 127.0.0.1:0 for any free port")
    })?;
    let mut stop = stop_on_signal()?;
    let supervisor = Supervisor::start(Arc::clone(&state), Common { base, rule_budget: args.rule_budget }).await?;
    if let Ok(bound) = listener.local_addr() {
        tracing::info!("the API is at http://{bound}/api/v1, its token in {}", args.state.join("token").display());
    }
    let app = api::router(Service { state, supervisor: Arc::clone(&supervisor), token });
    tokio::select! {
        served = axum::serve(listener, app) => {
            if let Err(e) = served {
                tracing::error!("the API is served no more: {e}");
            }
        }
        _ = stop.wait_for(Option::is_some) => {}
    }
    supervisor.stop().await;
    Ok(())
}
