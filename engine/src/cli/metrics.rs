//! `/metrics` of a running backup.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use super::progress::Progress;
use crate::clock::{Clock as _, SystemClock};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::metrics::{CONTENT_TYPE as TEXT_TYPE, Metrics};
use crate::report::{LaneNote, Reporter, WindowCommitted};
use crate::runtime::{Observer, Started};
use crate::source::TopicPartition;

/// Serves the counters of the pipeline, once it runs.
#[derive(Debug)]
pub(super) struct MetricsServer {
    metrics: Arc<OnceLock<Arc<Metrics>>>,
}

impl MetricsServer {
    /// Listens at `address`.
    pub(super) async fn bind(address: SocketAddr) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| {
            Error::new(codes::METRICS_ADDRESS, ErrorKind::Invalid, "metrics cannot be served there")
                .with("address", address)
                .because(e)
                .help("choose another --metrics ADDR, such as 127.0.0.1:0 for any free port")
        })?;
        if let Ok(bound) = listener.local_addr() {
            tracing::info!("metrics at http://{bound}/metrics");
        }
        let metrics: Arc<OnceLock<Arc<Metrics>>> = Arc::default();
        let shown = Arc::clone(&metrics);
        let clock = Arc::new(SystemClock::new());
        let page = move || {
            let text = shown.get().map(|metrics| metrics.render(clock.wall_ms())).unwrap_or_default();
            std::future::ready(([(CONTENT_TYPE, TEXT_TYPE)], text))
        };
        let app = Router::new().route("/metrics", get(page));
        tokio::spawn(async move {
            if let Err(e) = axum::serve(listener, app).await {
                tracing::warn!("metrics are served no more: {e}");
            }
        });
        Ok(Self { metrics })
    }
}

/// The command line's progress, and metrics beside it.
#[derive(Debug)]
pub(super) struct WithMetrics {
    pub(super) progress: Arc<Progress>,
    pub(super) server: MetricsServer,
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
        let _ = self.server.metrics.set(Arc::clone(&started.metrics));
        self.progress.started(started);
    }
}
