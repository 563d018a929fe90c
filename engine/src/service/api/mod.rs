//! The REST surface, `/api/v1`: JSON in and out, errors as problem+json with the program's codes, a token for everything but the probes.
//!
//! Place in the flow: outermost, beside the command line. A handler reads what a call gives, has [`changes`](super::changes) or another part of the service do
//! it, and shows what came of it. What the calls are is described by the code itself: `/api/v1/openapi.json`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::console::{self, Sessions};
use super::inspection::Inspector;
use super::load_tests::LoadTests;
use super::series::Series;
use super::state::State;
use super::supervisor::Supervisor;
use super::tokens::Tokens;
use super::verification::Verifications;
use super::web::{self, Attempts, Hosts};
use crate::error::{Error, ErrorKind, codes};

mod apply;
mod auth;
mod connections;
mod extract;
pub(in crate::service) mod files;
pub(in crate::service) mod follow;
pub(in crate::service) mod history;
mod inspect;
pub(in crate::service) mod load_tests;
mod openapi;
mod problem;
mod rules;
pub(in crate::service) mod tokens;
mod verify;
mod view;
mod workers;

pub(in crate::service) use auth::{Shown, look_at};
pub(in crate::service) use extract::{After, OfPath, OfQuery};
pub use openapi::described;
pub(in crate::service) use problem::{Problem, malformed, method_not_taken, nothing_at_this_path};

/// The longest body of a call. A rule has a few hundred bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What handlers share.
#[derive(Clone, Debug)]
pub struct Service {
    /// What is kept.
    pub state: Arc<State>,
    /// What runs.
    pub supervisor: Arc<Supervisor>,
    /// What is read again.
    pub verifications: Arc<Verifications>,
    /// Who asks clusters and stores.
    pub inspector: Arc<Inspector>,
    /// How fast rules were.
    pub series: Arc<Series>,
    /// What callers must show.
    pub tokens: Arc<Tokens>,
    /// Who has shown something else.
    pub attempts: Arc<Attempts>,
    /// Who is logged in to the console.
    pub sessions: Arc<Sessions>,
    /// The names that the service answers to.
    pub hosts: Arc<Hosts>,
    /// Reports of load tests.
    pub load_tests: LoadTests,
    /// Where copies of the state go.
    pub copies: Arc<std::path::Path>,
    /// Whether TLS is spoken here, and not only by a proxy before it.
    pub tls: bool,
    /// Whether keys and values of records are shown.
    pub show_values: bool,
}

/// All calls that need the token, and their description.
fn calls() -> OpenApiRouter<Service> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(rules::list, rules::create))
        .routes(routes!(rules::show, rules::edit, rules::delete))
        .routes(routes!(rules::pause))
        .routes(routes!(rules::resume))
        .routes(routes!(rules::seal))
        .routes(routes!(rules::roll_back))
        .routes(routes!(rules::clone_rule))
        .routes(routes!(rules::explain))
        .routes(routes!(rules::preview))
        .routes(routes!(verify::begin, verify::show, verify::cancel))
        .routes(routes!(history::versions))
        .routes(routes!(history::windows))
        .routes(routes!(history::gaps))
        .routes(routes!(history::log))
        .routes(routes!(follow::log))
        .routes(routes!(history::series))
        .routes(routes!(history::audit))
        .routes(routes!(files::list))
        .routes(routes!(files::show))
        .routes(routes!(files::download))
        .routes(routes!(apply::apply))
        .routes(routes!(apply::diff))
        .routes(routes!(connections::sources, connections::create_source))
        .routes(routes!(connections::source, connections::edit_source, connections::delete_source))
        .routes(routes!(connections::stores, connections::create_store))
        .routes(routes!(connections::store, connections::edit_store, connections::delete_store))
        .routes(routes!(inspect::test))
        .routes(routes!(inspect::topics))
        .routes(routes!(inspect::topic))
        .routes(routes!(inspect::records))
        .routes(routes!(inspect::probe))
        .routes(routes!(history::copy))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::delete))
        .routes(routes!(workers::list))
        .routes(routes!(workers::meet))
        .routes(routes!(workers::report))
        .routes(routes!(load_tests::list))
        .routes(routes!(load_tests::show))
        .routes(routes!(load_tests::download))
}

/// A change goes on to its end although its caller hangs up: what was written down is made so.
pub(in crate::service) async fn to_its_end(request: Request, next: Next) -> Response {
    if request.method() == Method::GET {
        return next.run(request).await;
    }
    tokio::spawn(next.run(request)).await.unwrap_or_else(|failure| {
        let error = Error::new(codes::PART_ENDED, ErrorKind::Bug, "a call has ended by itself").because(failure);
        Problem::from(error.help("report this with the service's log")).into_response()
    })
}

/// All routes, of the console too.
pub fn router(service: Service) -> Router {
    let (calls, api) = calls().split_for_parts();
    let described: Arc<OpenApi> = Arc::new(openapi::finished(api));
    let guarded = calls
        .route("/openapi.json", get(move || std::future::ready(view::json_of(&*described))))
        .layer(axum::middleware::from_fn(to_its_end))
        .layer(axum::middleware::from_fn_with_state(service.clone(), auth::check))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let metrics =
        Router::new().route("/metrics", get(history::metrics)).layer(axum::middleware::from_fn_with_state(service.clone(), auth::check));
    let named = Router::new()
        .nest("/api/v1", guarded)
        .merge(console::router(&service))
        .layer(axum::middleware::from_fn_with_state(service.clone(), web::host));
    Router::new()
        .merge(named)
        // A scraper speaks to addresses, and shows the token.
        .merge(metrics)
        .route("/livez", get(|| std::future::ready("ok")))
        .route("/readyz", get(history::ready))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(axum::middleware::from_fn_with_state(service.clone(), web::headers))
        .with_state(service)
}
