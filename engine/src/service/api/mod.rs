//! The REST surface, `/api/v1`: JSON in and out, errors as problem+json with the program's codes, a token for everything but the probes.
//!
//! Place in the flow: outermost, beside the command line. A handler checks a body by making the plan of it, has [`state`](super::state) write it down, and
//! tells the [`supervisor`](super::supervisor); it answers when all that is done.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::state::State;
use super::supervisor::Supervisor;

mod auth;
mod connections;
mod problem;
mod rules;

pub use auth::Token;

/// What handlers share.
#[derive(Clone, Debug)]
pub struct Service {
    /// What is kept.
    pub state: Arc<State>,
    /// What runs.
    pub supervisor: Arc<Supervisor>,
    /// What callers must show.
    pub token: Arc<Token>,
}

/// All routes.
pub fn router(service: Service) -> Router {
    let guarded = Router::new()
        .route("/rules", get(rules::list).post(rules::create))
        .route("/rules/{name}", get(rules::show).put(rules::edit).delete(rules::delete))
        .route("/rules/{name}/pause", post(rules::pause))
        .route("/rules/{name}/resume", post(rules::resume))
        .route("/rules/{name}/seal", post(rules::seal))
        .route("/rules/{name}/versions", get(rules::versions))
        .route("/rules/{name}/windows", get(rules::windows))
        .route("/rules/{name}/gaps", get(rules::gaps))
        .route("/rules/{name}/log", get(rules::log))
        .route("/sources", get(connections::sources).post(connections::create_source))
        .route("/stores", get(connections::stores).post(connections::create_store))
        .layer(axum::middleware::from_fn_with_state(service.clone(), auth::check));
    Router::new()
        .nest("/api/v1", guarded)
        .route("/livez", get(|| std::future::ready("ok")))
        .fallback(problem::no_such_path)
        .with_state(service)
}
