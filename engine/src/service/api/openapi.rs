//! What the calls are, as OpenAPI 3.1: their paths by the handlers' own annotations, bodies by the list of keys of the config file.

use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, Info, OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder, Server};
use utoipa::{PartialSchema, ToSchema};

use super::problem::ProblemView;
use crate::config::keys;

/// A JSON schema as this library holds it.
///
/// # Panics
/// If it is none: it is written in this program, and a test makes all of them.
fn schema(value: serde_json::Value) -> RefOr<Schema> {
    RefOr::T(serde_json::from_value(value).expect("a schema of this program"))
}

/// The body of a rule: the keys of a config file's `[rule.NAME]`.
#[derive(Debug)]
pub(super) struct RuleBody;

impl PartialSchema for RuleBody {
    fn schema() -> RefOr<Schema> {
        schema(keys::section_schema("rule"))
    }
}

impl ToSchema for RuleBody {}

/// A new rule: its name and the keys of its body.
#[derive(Debug)]
pub(super) struct NewRule;

impl PartialSchema for NewRule {
    fn schema() -> RefOr<Schema> {
        schema(keys::named_schema("rule"))
    }
}

impl ToSchema for NewRule {}

/// A new Kafka connection: its name and the keys of `[kafka.NAME]`.
#[derive(Debug)]
pub(super) struct NewSource;

impl PartialSchema for NewSource {
    fn schema() -> RefOr<Schema> {
        schema(keys::named_schema("kafka"))
    }
}

impl ToSchema for NewSource {}

/// A Kafka connection: the keys of `[kafka.NAME]`. The mask in the place of a secret keeps the secret that is there.
#[derive(Debug)]
pub(super) struct SourceBody;

impl PartialSchema for SourceBody {
    fn schema() -> RefOr<Schema> {
        schema(keys::section_schema("kafka"))
    }
}

impl ToSchema for SourceBody {}

/// A store: the keys of `[store.NAME]`. The mask in the place of a secret keeps the secret that is there.
#[derive(Debug)]
pub(super) struct StoreBody;

impl PartialSchema for StoreBody {
    fn schema() -> RefOr<Schema> {
        schema(keys::section_schema("store"))
    }
}

impl ToSchema for StoreBody {}

/// A new store: its name and the keys of `[store.NAME]`.
#[derive(Debug)]
pub(super) struct NewStore;

impl PartialSchema for NewStore {
    fn schema() -> RefOr<Schema> {
        schema(keys::named_schema("store"))
    }
}

impl ToSchema for NewStore {}

/// What stands around the calls.
pub(super) fn base() -> OpenApi {
    let mut info = Info::new("Catchment", env!("CARGO_PKG_VERSION"));
    info.description = Some("Rules that back up Kafka topics to object stores, exactly once per window.".to_owned());
    let mut components = Components::new();
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/api/v1")]))
        .components(Some(components))
        .security(Some([SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]))
        .build()
}

/// The description with what every call may answer: a problem.
pub(super) fn finished(mut api: OpenApi) -> OpenApi {
    let components = api.components.get_or_insert_with(Components::new);
    components.schemas.insert(ProblemView::name().into_owned(), ProblemView::schema());
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(problem()));
        }
    }
    api
}

fn problem() -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemView::name()))).build();
    ResponseBuilder::new().description("What is wrong, and what to do about it").content("application/problem+json", content).build()
}

/// The description of all calls.
pub fn described() -> OpenApi {
    finished(super::calls().into_openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_described_and_may_be_refused() {
        let api = serde_json::to_value(described()).unwrap();
        assert!(api["openapi"].as_str().unwrap().starts_with("3.1"), "{}", api["openapi"]);
        let paths = api["paths"].as_object().unwrap();
        assert!(paths.len() >= 25, "{}", paths.len());
        for (path, item) in paths {
            for (method, operation) in item.as_object().unwrap() {
                assert!(operation["responses"]["default"].is_object(), "{method} {path}");
                assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            }
        }
        let rule = &api["components"]["schemas"]["NewRule"];
        assert_eq!(rule["additionalProperties"], false);
        assert!(rule["properties"]["source"]["properties"]["topics"].is_object(), "{rule}");
    }
}
