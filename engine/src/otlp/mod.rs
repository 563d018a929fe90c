//! Pushes metrics to a collector of OpenTelemetry, by OTLP over HTTP.
//!
//! Place in the flow: beside whatever runs. Every so often it asks for the page that `/metrics` would show, [translates](translate) it, and sends it where the
//! [settings] say; once more at the end. Names and values are those of `/metrics`.
//!
//! Guarantees: nothing waits for a collector, but for the end of the process, and that for two seconds. One that is away is warned of once, and then once an
//! hour; counters are totals, so nothing is lost with a push that was. What stands in headers is shown nowhere.
//!
//! Not here: gRPC, JSON, compression, and pushes that are repeated before their time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::clock::{Clock as _, SystemClock};
use crate::https;

mod settings;
mod translate;

pub(crate) use settings::Settings;
use translate::Starts;

/// How long the end of the process waits for the last push. Shorter: a slow collector lacks it. Longer: a stop waits for one that is away.
const LAST_PUSH: Duration = Duration::from_secs(2);

/// How often a collector that stays away is warned of.
const WARN_AGAIN: Duration = Duration::from_secs(3_600);

/// Bytes of an answer that are read: it says how many points were refused, and why.
const ANSWER_MAX: usize = 64 << 10;

/// Characters of a collector's reason that are repeated.
const REASON_MAX: usize = 200;

/// What `/metrics` would show at this time, ms since 1970; none while there is nothing to show.
type Page = Box<dyn Fn(i64) -> Option<String> + Send + Sync>;

/// Pushes that go on until they are told to end.
#[derive(Debug)]
pub(crate) struct Pusher {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Pusher {
    /// Starts to push what `page` shows.
    pub(crate) fn start(settings: Settings, page: impl Fn(i64) -> Option<String> + Send + Sync + 'static) -> Self {
        tracing::info!("metrics are pushed to {}", settings.shown());
        let (stop, stopped) = oneshot::channel();
        let clock = SystemClock::new();
        let starts = Starts::since(nanoseconds(clock.wall_ms()));
        let pushing = Pushing { settings, page: Box::new(page), clock, starts, trouble: Trouble::default() };
        Self { stop, task: tokio::spawn(pushing.run(stopped)) }
    }

    /// Pushes the last values, if the collector takes them in time.
    pub(crate) async fn finish(self) {
        // A task that has ended by itself hears nothing, and has said why.
        let _ = self.stop.send(());
        if let Err(failure) = self.task.await {
            tracing::warn!("the last metrics were not pushed: {failure}");
        }
    }
}

fn nanoseconds(wall_ms: i64) -> u64 {
    u64::try_from(wall_ms).unwrap_or_default().saturating_mul(1_000_000)
}

/// The task's own.
struct Pushing {
    settings: Settings,
    page: Page,
    clock: SystemClock,
    starts: Starts,
    trouble: Trouble,
}

impl Pushing {
    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.settings.interval) => {}
                _ = &mut stop => break,
            }
            // One that is under way at the end says less than the last one.
            tokio::select! {
                () = self.push() => {}
                _ = &mut stop => break,
            }
        }
        if tokio::time::timeout(LAST_PUSH, self.push()).await.is_err() {
            tracing::warn!("the last metrics were not pushed: {} does not answer in time", self.settings.shown());
        }
    }

    async fn push(&mut self) {
        let now_ms = self.clock.wall_ms();
        let Some(page) = (self.page)(now_ms) else { return };
        let request = translate::request(&page, &self.settings.resource, &mut self.starts, nanoseconds(now_ms));
        let outcome = self.send(request.encode_to_vec()).await;
        self.tell(outcome);
    }

    async fn send(&self, body: Vec<u8>) -> Result<(), String> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.settings.endpoint.clone();
        *request.headers_mut() = self.settings.headers.clone();
        let asked = https::exchange(request, &self.settings.tls, ANSWER_MAX);
        match tokio::time::timeout(self.settings.timeout, asked).await {
            Err(_) => Err("it does not answer in time".to_owned()),
            Ok(Err(why)) => Err(https::with_sources(&*why)),
            Ok(Ok((status, answer))) if status.is_success() => refused(answer),
            Ok(Ok((status, _))) => Err(format!("it answers {status}")),
        }
    }

    fn tell(&mut self, outcome: Result<(), String>) {
        let to = self.settings.shown();
        match (self.trouble.heard(outcome.is_ok(), self.clock.steady()), outcome) {
            (Some(failed), Err(why)) => tracing::warn!(failed, "metrics could not be pushed to {to}, which holds nothing up: {why}"),
            (Some(failed), Ok(())) => tracing::info!(failed, "metrics are pushed to {to} again"),
            (None, _) => {}
        }
    }
}

/// Says if a collector has refused some of what it was sent. An answer that is none of OTLP's is as good as an empty one.
fn refused(answer: Bytes) -> Result<(), String> {
    let partial = ExportMetricsServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    match partial.filter(|partial| partial.rejected_data_points > 0) {
        None => Ok(()),
        Some(partial) => {
            let why: String = partial.error_message.chars().take(REASON_MAX).collect();
            Err(format!("it refuses {} values: {}", partial.rejected_data_points, why.escape_debug()))
        }
    }
}

/// When a collector's troubles are worth a word.
#[derive(Debug, Default)]
struct Trouble {
    /// Pushes that have failed since one was taken.
    failed: u64,
    /// When that was said last, by the steady clock.
    said: Option<Duration>,
}

impl Trouble {
    /// Takes note of a push; answers how many have failed if that is to be said now.
    fn heard(&mut self, is_taken: bool, now: Duration) -> Option<u64> {
        if is_taken {
            let Self { failed, said } = std::mem::take(self);
            return said.map(|_| failed);
        }
        self.failed += 1;
        let is_due = self.said.is_none_or(|said| now.saturating_sub(said) >= WARN_AGAIN);
        is_due.then(|| {
            self.said = Some(now);
            self.failed
        })
    }
}

#[cfg(test)]
mod tests;
