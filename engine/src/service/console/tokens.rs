//! Further tokens: listed, made, removed.
//!
//! Place in the flow: makes and removes them as the [API](crate::service::api::tokens) does, with the same right: only whoever has logged in with the token of
//! the state directory's file. Others see the names.
//!
//! Guarantees: the text of a token is on the page that answers its making, and on no other; it is kept nowhere.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::connections::Done;
use super::context::Page;
use super::elsewhere::{Elsewhere, deeds};
use super::forms::Fields;
use super::refusal::{ProblemShown, Refusal, problems, shown};
use super::show::{self, Moment};
use crate::error::Error;
use crate::service::api::{OfPath, OfQuery, Service, tokens};
use crate::service::changes::By;
use crate::service::state::State as Kept;
use crate::service::tokens::Holder;

#[derive(Template)]
#[template(path = "console/tokens.html")]
struct TokensPage {
    p: Page,
    notice: Option<&'static str>,
    problems: Vec<ProblemShown>,
    /// The one that was just made.
    made: Option<Made>,
    tokens: Vec<Row>,
    /// Whether whoever looks may make and remove some.
    may_change: bool,
    /// A name that was refused.
    typed: String,
    elsewhere: Elsewhere,
}

struct Made {
    name: String,
    text: String,
}

struct Row {
    name: String,
    made: Moment,
}

/// What is said above the list.
#[derive(Default)]
struct Said {
    notice: Option<&'static str>,
    errors: Vec<Error>,
    made: Option<Made>,
    typed: String,
}

async fn page(service: &Service, p: Page, holder: &Holder, said: Said) -> Result<Response, Refusal> {
    let tokens = service.state.ask(Kept::tokens).await?;
    let may_change = tokens::check(holder).is_ok();
    Ok(shown(&TokensPage {
        notice: said.notice,
        problems: problems(&said.errors),
        made: said.made,
        tokens: tokens.into_iter().map(|token| Row { made: show::moment(token.made_ms), name: token.name }).collect(),
        may_change,
        typed: said.typed,
        elsewhere: deeds::tokens(&p, may_change),
        p,
    }))
}

/// Lists them.
pub(super) async fn list(
    State(service): State<Service>,
    p: Page,
    holder: Holder,
    OfQuery(done): OfQuery<Done>,
) -> Result<Response, Refusal> {
    let notice = (done.done.as_deref() == Some("removed")).then_some(p.t.of_service.done_token_removed);
    page(&service, p, &holder, Said { notice, ..Said::default() }).await
}

/// Makes one, and shows its text this once: no redirect, since the next page must not have it.
pub(super) async fn create(State(service): State<Service>, p: Page, holder: Holder, by: By, fields: Fields) -> Result<Response, Refusal> {
    tokens::check(&holder)?;
    let name = fields.text("name").to_owned();
    let said = match service.tokens.add(&service.state, &name, &by.who).await {
        Ok(text) => Said { made: Some(Made { name, text }), ..Said::default() },
        Err(error) => Said { errors: vec![error], typed: name, ..Said::default() },
    };
    page(&service, p, &holder, said).await
}

/// Forgets one.
pub(super) async fn remove(
    State(service): State<Service>,
    holder: Holder,
    by: By,
    OfPath(name): OfPath<String>,
) -> Result<Response, Refusal> {
    tokens::check(&holder)?;
    tokens::forget(&service, &name, &by).await?;
    Ok(Redirect::to("/console/tokens?done=removed").into_response())
}
