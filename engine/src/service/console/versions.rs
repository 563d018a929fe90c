//! A rule's versions: what each has changed, and the way back to one.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::context::Page;
use super::elsewhere::{Elsewhere, deeds};
use super::refusal::{Refusal, shown};
use super::show::{self, Moment};
use crate::service::api::{OfPath, Service};
use crate::service::definition::{self, Difference};

/// Versions that are shown, the last ones.
const VERSIONS_MAX: usize = 100;

#[derive(Template)]
#[template(path = "console/versions.html")]
struct VersionsPage {
    p: Page,
    name: String,
    tab: &'static str,
    versions: Vec<Version>,
    elsewhere: Elsewhere,
}

struct Version {
    number: i64,
    at: Moment,
    current: bool,
    first: bool,
    differences: Vec<Difference>,
    toml: String,
}

/// Lists them, newest first.
pub(super) async fn page(State(service): State<Service>, p: Page, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    let asked = name.clone();
    let (rule, stored) = service.state.ask(move |state| Ok((state.rule(&asked)?, state.versions(&asked)?))).await?;
    let before = std::iter::once(None).chain(stored.iter().map(Some));
    let mut versions: Vec<Version> = stored
        .iter()
        .zip(before)
        .map(|(version, before)| Version {
            number: version.version,
            at: show::moment(version.at_ms),
            current: version.version == rule.version,
            first: before.is_none(),
            differences: before.map(|before| definition::differences(&before.body, &version.body)).unwrap_or_default(),
            toml: definition::to_toml("rule", &name, &version.body).unwrap_or_default(),
        })
        .collect();
    versions.reverse();
    versions.truncate(VERSIONS_MAX);
    let earlier = versions.iter().find(|version| !version.current).map(|version| version.number);
    Ok(shown(&VersionsPage { tab: "versions", elsewhere: deeds::versions(&p, &name, earlier), versions, name, p }))
}
