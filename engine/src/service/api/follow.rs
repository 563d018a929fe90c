//! A rule's log as it grows: server-sent events, each a line as JSON with its number as the event's id.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::sync::watch;

use super::Service;
use super::extract::{After, OfPath, OfQuery};
use super::problem::Problem;
use crate::service::state::LogLine;
use crate::service::tokens::Holder;

/// Lines of one look.
const LINES_AT_ONCE: u32 = 500;

/// How often a silent connection shows that it lives: proxies close what says nothing for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A rule's log as it grows, until `until` is over: whoever may not see it any more sees no more of it.
///
/// # Errors
/// `C0601`, `C0602`, `C0619`.
pub(in crate::service) async fn follow(
    service: Service,
    holder: Holder,
    name: String,
    page: After,
    headers: &HeaderMap,
    until: impl Future<Output = ()> + Send + 'static,
) -> Result<Response, Problem> {
    let (written, asked) = (service.state.written(), name.clone());
    let newest = service.state.ask(move |state| state.rule(&asked).and_then(|_| state.log(&asked, None, 1))).await?;
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let seen = resumed.or(page.after).unwrap_or_else(|| newest.last().map_or(0, |line| line.id));
    let lines = lines(service, holder, name, seen, written).take_until(Box::pin(until));
    Ok(Sse::new(lines).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// Lines of a rule's log from now on, or behind a number, as server-sent events
#[utoipa::path(get, path = "/rules/{name}/log/follow", tag = "history",
    params(("name" = String, Path, description = "The rule"), After, ("Last-Event-ID" = Option<i64>, Header, description = "The last number that was seen")),
    responses((status = 200, description = "Goes on until the caller has enough", body = LogLine, content_type = "text/event-stream")))]
pub(super) async fn log(
    State(service): State<Service>,
    holder: Holder,
    OfPath(name): OfPath<String>,
    OfQuery(page): OfQuery<After>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    follow(service, holder, name, page, &headers, std::future::pending()).await
}

/// The lines behind a number, and those that come. Ends when they cannot be read, the rule is gone, or the token is.
fn lines(
    service: Service,
    holder: Holder,
    rule: String,
    seen: i64,
    written: watch::Receiver<u64>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let batches = stream::unfold((seen, written), move |(seen, mut written)| {
        let (service, holder, rule) = (service.clone(), holder.clone(), rule.clone());
        async move {
            loop {
                written.mark_unchanged();
                let asked = rule.clone();
                let found = service
                    .state
                    .ask(move |state| state.rule(&asked).and_then(|_| state.log(&asked, Some(seen), LINES_AT_ONCE)))
                    .await
                    .ok()?;
                if !service.tokens.holds(&holder) {
                    return None;
                }
                if let Some(last) = found.last() {
                    let seen = last.id;
                    return Some((stream::iter(found), (seen, written)));
                }
                written.changed().await.ok()?;
            }
        }
    });
    batches.flatten().map(|line| Ok(event(&line)))
}

fn event(line: &LogLine) -> Event {
    Event::default().id(line.id.to_string()).data(serde_json::to_string(line).unwrap_or_default())
}
