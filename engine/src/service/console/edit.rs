//! An edit: the settings as a form or as a file, what would change, and then the new version.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use super::actions::to_rule;
use super::context::Page;
use super::draft::{Draft, FieldProblems, STEPS};
use super::elsewhere::{Elsewhere, deeds};
use super::forms::Fields;
use super::inputs::{Fold, Input, InputKind};
use super::refusal::{ProblemShown, Refusal, problems, shown};
use crate::config::Config;
use crate::error::Error;
use crate::service::api::{OfPath, Service, malformed};
use crate::service::changes::By;
use crate::service::definition::{self, Difference};
use crate::service::state::{Origin, StoredRule};

#[derive(Template)]
#[template(path = "console/edit.html")]
struct EditPage {
    p: Page,
    name: String,
    tab: &'static str,
    version: i64,
    read_only: bool,
    inputs: Vec<Input>,
    fold: Option<Fold>,
    toml: String,
    from_toml: bool,
    problems: Vec<ProblemShown>,
    review: Option<Review>,
    elsewhere: Elsewhere,
}

/// What an edit would change.
struct Review {
    body: String,
    differences: Vec<Difference>,
}

impl EditPage {
    fn new(p: Page, config: &Config, rule: &StoredRule, draft: &Draft, wrong: &FieldProblems) -> Self {
        let fields: Vec<&str> = STEPS.concat().into_iter().filter(|field| *field != "name").collect();
        let (inputs, fold) = draft.form(p.t, config, &fields, wrong);
        Self {
            name: rule.name.clone(),
            tab: "edit",
            version: rule.version,
            read_only: rule.origin == Origin::File,
            inputs,
            fold,
            toml: definition::to_toml("rule", &rule.name, &rule.body).unwrap_or_default(),
            from_toml: false,
            problems: Vec::new(),
            review: None,
            elsewhere: Elsewhere::new(),
            p,
        }
    }

    /// Says how a body becomes the new version by other means. A rule of a file is changed in its file.
    fn with_elsewhere(mut self, body: &str) -> Self {
        if !self.read_only {
            self.elsewhere = deeds::edit(&self.p, &self.name, self.version, body);
        }
        self
    }
}

async fn standing(service: &Service, name: &str) -> Result<(Config, StoredRule), Error> {
    let (config, name) = (service.supervisor.config().await?, name.to_owned());
    Ok((config, service.state.ask(move |state| state.rule(&name)).await?))
}

/// Shows the settings.
pub(super) async fn page(State(service): State<Service>, p: Page, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    let (config, rule) = standing(&service, &name).await?;
    let draft = Draft::of_body(&name, &rule.body);
    Ok(shown(&EditPage::new(p, &config, &rule, &draft, &Vec::new()).with_elsewhere(&rule.body)))
}

/// Shows what would change, or makes it so.
pub(super) async fn go(
    State(service): State<Service>,
    by: By,
    p: Page,
    OfPath(name): OfPath<String>,
    fields: Fields,
) -> Result<Response, Refusal> {
    let (config, rule) = standing(&service, &name).await?;
    let version = fields.text("version").parse::<i64>().map_err(|e| malformed("version", e))?;
    if fields.text("go") == "save" {
        let body = serde_json::from_str(fields.text("body")).map_err(|e| malformed("body", e))?;
        let body = definition::body_of(&name, body)?;
        service.supervisor.edit(&name, Some(version), &body, &by).await?;
        return Ok(to_rule(&name, "edited"));
    }
    let standing = Draft::of_body(&name, &rule.body);
    let from_toml = fields.text("go") == "review-toml";
    let (draft, body) = match from_toml {
        true => (standing, body_of_toml(&name, &fields.lines("toml"))),
        false => {
            let draft = Draft::of_form(&fields, &standing);
            let body = definition::merged(&rule.body, draft.changes_from(&standing)).map_err(Vec::from);
            (draft, body)
        }
    };
    let reviewed = match body {
        Ok(body) => review(&service, &by, &name, body).await,
        Err(errors) => Err(errors),
    };
    // What stands in a file is no field's.
    let wrong = if from_toml { Vec::new() } else { draft.all_problems(p.t, &config) };
    let mut page = EditPage::new(p, &config, &rule, &draft, &wrong);
    // Of the version that was shown, so that somebody else's change meanwhile is told.
    page.version = version;
    match reviewed {
        Ok(review) => page.review = Some(review),
        Err(errors) => page.problems = problems(&errors),
    }
    if from_toml {
        (page.from_toml, page.toml) = (true, fields.lines("toml"));
    }
    let body = page.review.as_ref().map_or_else(|| rule.body.clone(), |review| review.body.clone());
    Ok(shown(&page.with_elsewhere(&body)))
}

async fn review(service: &Service, by: &By, name: &str, body: String) -> Result<Review, Vec<Error>> {
    let wanted = [(name.to_owned(), body.clone())].into();
    let changes = service.supervisor.changes(&wanted, false, by).await?;
    Ok(Review { body, differences: changes.into_iter().flat_map(|change| change.differences).collect() })
}

/// The body of `[rule.NAME]` in a file's text.
fn body_of_toml(name: &str, text: &str) -> Result<String, Vec<Error>> {
    let problems = Config::parse(text, "toml").err();
    if let Some(problems) = problems {
        return Err(problems);
    }
    let body = definition::rules_of(text)?.remove(name);
    let body = body.ok_or_else(|| vec![malformed("the file", format_args!("it has no [rule.{name}]"))])?;
    let value: Value = serde_json::from_str(&body).map_err(|e| malformed("the file", e))?;
    Ok(definition::body_of(name, value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_the_config_file_is() {
        assert_eq!(body_of_toml("a", "[rule.a]\nmax_bytes = \"1GiB\"\n").unwrap(), r#"{"max_bytes":"1GiB"}"#);
        for refused in ["[rule.b]\n", "[rule.a]\nwindow = 5\n", "no file", "[rule.a]\nnonsense = 1\n"] {
            assert!(body_of_toml("a", refused).is_err(), "{refused}");
        }
    }
}
