//! What a rule does, asked of its cluster now: settings in effect, topics, what its objects are called.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::context::Page;
use super::elsewhere::{Elsewhere, deeds};
use super::refusal::{ProblemShown, Refusal, problems, shown};
use super::show;
use crate::service::api::{OfPath, Service};
use crate::service::inspection::{Explained, TopicFound};

#[derive(Template)]
#[template(path = "console/explain.html")]
struct ExplainPage {
    p: Page,
    name: String,
    tab: &'static str,
    problems: Vec<ProblemShown>,
    files_an_hour: String,
    topics: Vec<(TopicFound, String)>,
    explained: Option<Explained>,
    elsewhere: Elsewhere,
}

/// Shows it; a cluster that does not answer is named on the page.
pub(super) async fn page(State(service): State<Service>, p: Page, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    let plan = service.supervisor.plan_of_rule(&name).await?;
    let (explained, errors) = match service.inspector.explain(&plan).await {
        Ok(explained) => (Some(explained), Vec::new()),
        Err(error) => (None, vec![error]),
    };
    let keyed = explained.iter().flat_map(|e| e.topics.iter().cloned().zip(e.example_keys.iter().cloned())).collect();
    let files = explained.as_ref().map_or(0.0, |e| e.objects_an_hour);
    Ok(shown(&ExplainPage {
        tab: "explain",
        problems: problems(&errors),
        files_an_hour: show::count(files.ceil() as i64),
        topics: keyed,
        explained,
        elsewhere: deeds::explain(&p, &name),
        name,
        p,
    }))
}
