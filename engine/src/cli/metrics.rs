//! The counters of a running backup: `/metrics`, and what is pushed to a collector. And where a process serves such pages.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{MethodRouter, get};

use super::progress::Progress;
use crate::clock::{Clock as _, SystemClock};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::metrics::{CONTENT_TYPE as TEXT_TYPE, Metrics};
use crate::otlp::{Pusher, Settings};
use crate::report::{LaneNote, Reporter, WindowCommitted};
use crate::runtime::{Observer, Started};
use crate::source::TopicPartition;

/// The counters of the pipeline, once it runs.
type Shown = Arc<OnceLock<Arc<Metrics>>>;

/// The command line's progress, and metrics beside it.
#[derive(Debug)]
pub(super) struct WithMetrics {
    progress: Arc<Progress>,
    metrics: Shown,
}

impl WithMetrics {
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self { progress, metrics: Shown::default() }
    }

    /// Serves the counters at `address`.
    pub(super) async fn serve(&self, address: SocketAddr) -> Result<()> {
        let shown = Arc::clone(&self.metrics);
        let page = move |now_ms| shown.get().map(|metrics| metrics.render(now_ms)).unwrap_or_default();
        serve(address, Router::new().route("/metrics", metrics(page))).await
    }

    /// Pushes the counters.
    pub(super) fn push(&self, settings: Settings) -> Pusher {
        let shown = Arc::clone(&self.metrics);
        Pusher::start(settings, move |now_ms| shown.get().map(|metrics| metrics.render(now_ms)))
    }
}

/// A page of metrics, made anew for whoever asks, at the time since 1970 in milliseconds.
pub(super) fn metrics(page: impl Fn(i64) -> String + Clone + Send + Sync + 'static) -> MethodRouter {
    let clock = Arc::new(SystemClock::new());
    get(move || std::future::ready(([(CONTENT_TYPE, TEXT_TYPE)], page(clock.wall_ms()))))
}

/// Serves pages at `address` until the process ends.
///
/// # Errors
/// `C0111` if nothing can be served there.
pub(super) async fn serve(address: SocketAddr, pages: Router) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| {
        Error::new(codes::METRICS_ADDRESS, ErrorKind::Invalid, "metrics cannot be served there")
            .with("address", address)
            .because(e)
            .help("choose another --metrics ADDR, such as 127.0.0.1:0 for any free port")
    })?;
    if let Ok(bound) = listener.local_addr() {
        tracing::info!("metrics at http://{bound}/metrics");
    }
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, pages).await {
            tracing::warn!("metrics are served no more: {e}");
        }
    });
    Ok(())
}

impl Reporter for WithMetrics {
    fn window(&self, window: &WindowCommitted) {
        self.progress.window(window);
    }

    fn lane(&self, tp: &TopicPartition, note: LaneNote<'_>) {
        self.progress.lane(tp, note);
    }
}

impl Observer for WithMetrics {
    fn started(&self, started: &Started) {
        // Set once: a process runs one pipeline.
        let _ = self.metrics.set(Arc::clone(&started.metrics));
        self.progress.started(started);
    }
}
