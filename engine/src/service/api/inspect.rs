//! Questions about connections and stores.
#![expect(unused_qualifications, reason = "utoipa's macro writes them for parameters")]

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Service;
use super::extract::{OfPath, OfQuery};
use super::problem::{Problem, malformed};
use super::view::json_of;
use crate::service::inspection::{Probed, Reached, Sample, TopicExtent, TopicFound};

/// Records of a sample at most.
const SAMPLE_MAX: u32 = 20;

/// Tries a Kafka connection
#[utoipa::path(post, path = "/sources/{name}/test", tag = "connections", params(("name" = String, Path, description = "The connection")),
    responses((status = 200, description = "What it reaches", body = Reached)))]
pub(super) async fn test(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    let settings = service.supervisor.kafka_named(&name).await?;
    Ok(json_of(&service.inspector.reach(&settings).await?))
}

/// What to search for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Search {
    /// A part of the name, or an expression with a leading `^`; all topics if it is left out.
    search: Option<String>,
}

/// Topics of a cluster, at most 100
#[utoipa::path(get, path = "/sources/{name}/topics", tag = "connections",
    params(("name" = String, Path, description = "The connection"), Search),
    responses((status = 200, description = "Those whose names match", body = [TopicFound])))]
pub(super) async fn topics(
    State(service): State<Service>,
    OfPath(name): OfPath<String>,
    OfQuery(query): OfQuery<Search>,
) -> Result<Response, Problem> {
    let settings = service.supervisor.kafka_named(&name).await?;
    Ok(json_of(&service.inspector.topics(&settings, query.search.as_deref().unwrap_or_default()).await?))
}

/// What a topic holds
#[utoipa::path(get, path = "/sources/{name}/topics/{topic}", tag = "connections",
    params(("name" = String, Path, description = "The connection"), ("topic" = String, Path, description = "The topic")),
    responses((status = 200, description = "Partition by partition", body = TopicExtent)))]
pub(super) async fn topic(State(service): State<Service>, OfPath((name, topic)): OfPath<(String, String)>) -> Result<Response, Problem> {
    let settings = service.supervisor.kafka_named(&name).await?;
    Ok(json_of(&service.inspector.topic(&settings, &topic).await?))
}

/// How much of a sample.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SampleSize {
    /// How many records, at most 20; 5 if it is left out.
    #[param(minimum = 1, maximum = 20)]
    limit: Option<u32>,
}

/// Some of a topic's last records; keys and values only if the service may show them
#[utoipa::path(get, path = "/sources/{name}/topics/{topic}/records", tag = "connections",
    params(("name" = String, Path, description = "The connection"), ("topic" = String, Path, description = "The topic"), SampleSize),
    responses((status = 200, description = "A few", body = [Sample])))]
pub(super) async fn records(
    State(service): State<Service>,
    OfPath((name, topic)): OfPath<(String, String)>,
    OfQuery(size): OfQuery<SampleSize>,
) -> Result<Response, Problem> {
    let limit = size.limit.unwrap_or(5);
    if !(1..=SAMPLE_MAX).contains(&limit) {
        return Err(Problem::from(malformed("the query string", format_args!("limit is {limit}, outside 1 to {SAMPLE_MAX}"))));
    }
    let settings = service.supervisor.kafka_named(&name).await?;
    Ok(json_of(&service.inspector.sample(&settings, &topic, limit as usize, service.show_values).await?))
}

/// Where to probe.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Below {
    /// The prefix of a rule, which is all that a policy for it need permit; the store's own if it is left out.
    prefix: Option<String>,
}

/// What a store permits below a prefix, and what its create-only guards are worth
#[utoipa::path(post, path = "/stores/{name}/probe", tag = "connections", params(("name" = String, Path, description = "The store"), Below),
    responses((status = 200, description = "By trying it", body = Probed)))]
pub(super) async fn probe(
    State(service): State<Service>,
    OfPath(name): OfPath<String>,
    OfQuery(query): OfQuery<Below>,
) -> Result<Response, Problem> {
    let prefix = query.prefix.as_deref().unwrap_or_default();
    let settings = service.supervisor.store_named(&name, prefix).await?;
    Ok(json_of(&service.inspector.probe(&settings, prefix).await?))
}
