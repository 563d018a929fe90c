//! The web console: what people see of the service, in English and Chinese, on the port of the API.
//!
//! Place in the flow: beside the [API](super::api), on the same parts: a change goes through [`changes`](super::changes), never over HTTP. Pages are
//! written by the server from templates (`engine/templates/console`), all texts by the [catalogue]; style, scripts and icon are in the program ([assets]).
//! Scripts only draw charts and follow a log: everything else works without.
//!
//! Guarantees: nobody sees a page but the login without a [session]; nothing is changed but by a [form](forms) of that session; what comes from outside is
//! escaped; a page loads nothing from elsewhere. Not here: who may do what. Whoever has a token may do all.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use super::api::{Service, history, to_its_end};

mod actions;
mod add;
mod assets;
mod catalogue;
mod connections;
mod context;
mod draft;
mod edit;
mod elsewhere;
mod estimate;
mod explain;
mod files;
mod forms;
mod health;
mod inputs;
mod load_tests;
mod log;
mod login;
mod part;
mod policy;
mod reference;
mod refusal;
mod rule;
mod rules;
mod session;
mod show;
mod timeline;
mod tokens;
mod versions;
mod words;
mod workers;

#[cfg(test)]
mod tests;

pub use session::Sessions;

/// The longest form. A rule has a few hundred bytes.
const FORM_BYTES_MAX: usize = 256 << 10;

/// Pages of one rule, below `/console/rules/{name}`.
fn of_a_rule() -> Router<Service> {
    Router::new()
        .route("/", get(rule::page))
        .route("/rule.toml", get(rule::toml))
        .route("/series", get(history::series))
        .route("/pause", post(actions::pause))
        .route("/resume", post(actions::resume))
        .route("/seal", post(actions::seal))
        .route("/verify", post(actions::verify))
        .route("/verify/cancel", post(actions::cancel_verification))
        .route("/rollback", post(actions::roll_back))
        .route("/delete", get(actions::ask_delete).post(actions::delete))
        .route("/clone", get(actions::ask_clone).post(actions::clone))
        .route("/edit", get(edit::page).post(edit::go))
        .route("/versions", get(versions::page))
        .route("/explain", get(explain::page))
        .route("/log", get(log::page))
        .route("/log/follow", get(log::live))
        .route("/files", get(files::list))
        .route("/file", get(files::file))
        .route("/file/content", get(files::content))
}

/// Pages for those who are logged in.
fn pages() -> Router<Service> {
    Router::new()
        .route("/console", get(rules::list))
        .nest("/console/rules/{name}", of_a_rule())
        .route("/console/add", get(add::begin).post(add::go))
        .route("/console/sources", get(connections::sources).post(connections::create_source))
        .route("/console/sources/{name}/edit", get(connections::edit::source).post(connections::edit::edit_source))
        .route("/console/sources/{name}/test", post(connections::test))
        .route("/console/sources/{name}/delete", post(connections::delete_source))
        .route("/console/stores", get(connections::stores).post(connections::create_store))
        .route("/console/stores/{name}/edit", get(connections::edit::store).post(connections::edit::edit_store))
        .route("/console/stores/{name}/test", post(connections::probe))
        .route("/console/stores/{name}/delete", post(connections::delete_store))
        .route("/console/workers", get(workers::list))
        .route("/console/workers/{name}", get(workers::page))
        .route("/console/tokens", get(tokens::list).post(tokens::create))
        .route("/console/tokens/{name}/delete", post(tokens::remove))
        .route("/console/load-tests", get(load_tests::list))
        .route("/console/load-tests/compare", get(load_tests::compare))
        .route("/console/load-tests/{name}/report", get(load_tests::report))
        .route("/console/health", get(health::page))
        .route("/console/health/copy", post(health::copy))
        .route("/console/errors", get(reference::page))
        .route("/console/logout", post(login::leave))
        .route("/console/{*rest}", get(refusal::nothing))
        .method_not_allowed_fallback(refusal::no_such_method)
}

/// All routes.
pub(super) fn router(service: &Service) -> Router<Service> {
    let guarded = pages().layer(from_fn(to_its_end)).layer(from_fn(forms::of_session)).layer(from_fn(context::logged_in));
    let open = Router::new()
        .route("/", get(rules::front))
        .route("/console/login", get(login::show).post(login::enter))
        .route("/console/language", get(context::choose))
        .method_not_allowed_fallback(refusal::no_such_method)
        .layer(from_fn(forms::of_nobody));
    Router::new()
        .merge(guarded)
        .merge(open)
        .layer(from_fn_with_state(service.clone(), context::provide))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .route("/console/assets/{file}", get(assets::serve))
}
