//! A new rule in four screens: what it is, what it reads, where it writes, and a review of all of it.
//!
//! Each screen is one form that carries what the others hold, so nothing is kept here and the browser's back button works. Its buttons either go on or ask a
//! cluster or a store something, and show the same screen with the answer.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::actions::to_rule;
use super::context::Page;
use super::draft::{Draft, FieldProblems, STEPS};
use super::elsewhere::{Elsewhere, deeds};
use super::estimate::{Estimate, estimate};
use super::forms::Fields;
use super::inputs::{Fold, Input, InputKind};
use super::policy;
use super::refusal::{ProblemShown, Refusal, problems, shown};
use super::show::{self, Moment};
use crate::config::{BackupPlan, Config};
use crate::error::{Error, Result};
use crate::service::api::Service;
use crate::service::changes::By;
use crate::service::definition;
use crate::service::inspection::{Probed, Sample, TopicFound, example_key};

/// Topics of a search whose sizes are asked for: a request or three for each of their partitions.
const SIZED_MAX: usize = 10;
/// Records of a sample.
const SAMPLE: usize = 5;
/// Keys that are shown.
const KEYS_MAX: usize = 5;
/// The screen on which a rule is created.
const REVIEW: usize = 4;

#[derive(Template)]
#[template(path = "console/add.html")]
struct AddPage {
    p: Page,
    step: usize,
    steps: [(usize, &'static str); REVIEW],
    heading: &'static str,
    hidden: Vec<(&'static str, String)>,
    inputs: Vec<Input>,
    fold: Option<Fold>,
    problems: Vec<ProblemShown>,
    show_values: bool,
    search: String,
    reached: Option<String>,
    searched: bool,
    found: Vec<Topic>,
    sampled: bool,
    sample_of: String,
    samples: Vec<SampleShown>,
    keys: Vec<String>,
    probed: Option<Probed>,
    review: Vec<(&'static str, String)>,
    estimate: Option<Estimate>,
    toml: String,
    policies: Vec<(String, String)>,
    elsewhere: Elsewhere,
}

struct Topic {
    name: String,
    partitions: i32,
    records: String,
    last_hour: String,
    chosen: bool,
}

struct SampleShown {
    partition: i32,
    offset: i64,
    at: Moment,
    key: Option<String>,
    key_size: String,
    value: Option<String>,
    value_size: String,
    headers: Vec<String>,
}

impl AddPage {
    fn new(p: Page, service: &Service, config: &Config, draft: &Draft, step: usize, wrong: &FieldProblems) -> Self {
        let t = p.t;
        let shown = STEPS.get(step - 1).copied().unwrap_or_default();
        let headings = [t.step_basics, t.step_source, t.step_delivery, t.step_review];
        let (inputs, fold) = draft.form(t, config, shown, wrong);
        Self {
            step,
            steps: [(1, headings[0]), (2, headings[1]), (3, headings[2]), (4, headings[3])],
            heading: headings[step - 1],
            hidden: draft.hidden(shown),
            inputs,
            fold,
            problems: Vec::new(),
            show_values: service.show_values,
            search: String::new(),
            reached: None,
            searched: false,
            found: Vec::new(),
            sampled: false,
            sample_of: String::new(),
            samples: Vec::new(),
            keys: Vec::new(),
            probed: None,
            review: Vec::new(),
            estimate: None,
            toml: String::new(),
            policies: Vec::new(),
            elsewhere: Vec::new(),
            p,
        }
    }
}

/// The first screen.
pub(super) async fn begin(State(service): State<Service>, p: Page) -> Result<Response, Refusal> {
    let config = service.supervisor.config().await?;
    let draft = Draft::new(&config);
    Ok(shown(&AddPage::new(p, &service, &config, &draft, 1, &Vec::new())))
}

/// What a screen sends.
pub(super) async fn go(State(service): State<Service>, by: By, p: Page, fields: Fields) -> Result<Response, Refusal> {
    let config = service.supervisor.config().await?;
    let draft = Draft::of_form(&fields, &Draft::new(&config));
    let step = fields.text("step").parse::<usize>().unwrap_or(1).clamp(1, REVIEW);
    // The Enter key in the search presses the first button, which goes on.
    let is_search = step == 2 && fields.text("go") == "next" && !fields.text("search").is_empty() && draft.text("topics").is_empty();
    match fields.text("go") {
        "back" => show_step(&service, p, &config, &draft, (step - 1).max(1)).await,
        "next" if !is_search => forward(&service, &by, p, &config, &draft, step).await,
        go => ask(&service, p, &config, &draft, step, if is_search { "search" } else { go }, fields.text("search")).await,
    }
}

/// Goes on to the next screen, or from the last one to the new rule; whatever is wrong keeps the screen.
async fn forward(service: &Service, by: &By, p: Page, config: &Config, draft: &Draft, step: usize) -> Result<Response, Refusal> {
    let wrong = draft.problems(p.t, config, step);
    // What only the next screen has a field for is mended there.
    let is_of_next = step + 1 < REVIEW && wrong.is_empty() && !draft.problems(p.t, config, step + 1).is_empty();
    let refused = match step {
        _ if !wrong.is_empty() => Vec::new(),
        1 => is_taken(service, draft.text("name")).await?,
        REVIEW => match service.supervisor.create(draft.text("name"), &draft.body().to_string(), by).await {
            Ok(_) => return Ok(to_rule(draft.text("name"), "created")),
            Err(errors) => errors,
        },
        _ if is_of_next => Vec::new(),
        _ => plan(service, draft).await.err().unwrap_or_default(),
    };
    if wrong.is_empty() && refused.is_empty() {
        return show_step(service, p, config, draft, step + 1).await;
    }
    if step == REVIEW {
        return review(service, p, config, draft, refused).await;
    }
    let mut page = AddPage::new(p, service, config, draft, step, &wrong);
    page.problems = problems(&refused);
    Ok(shown(&page))
}

/// Tells early what the creation would be refused for.
async fn is_taken(service: &Service, name: &str) -> Result<Vec<Error>> {
    let rules = service.state.ask(crate::service::state::State::rules).await?;
    Ok(if rules.iter().any(|rule| rule.name == name) { vec![crate::service::state::rule_exists(name)] } else { Vec::new() })
}

async fn plan(service: &Service, draft: &Draft) -> Result<BackupPlan, Vec<Error>> {
    service.supervisor.plan(draft.text("name"), &draft.body().to_string(), Vec::new()).await
}

async fn show_step(service: &Service, p: Page, config: &Config, draft: &Draft, step: usize) -> Result<Response, Refusal> {
    if step == REVIEW {
        return review(service, p, config, draft, Vec::new()).await;
    }
    let mut page = AddPage::new(p, service, config, draft, step, &Vec::new());
    if step == 3 {
        page.keys = keys(service, draft).await.unwrap_or_default();
    }
    Ok(shown(&page))
}

/// The keys that objects of the topics would have, as far as topics are named.
async fn keys(service: &Service, draft: &Draft) -> Result<Vec<String>, Vec<Error>> {
    let plan = plan(service, draft).await?;
    let named = plan.topics.iter().filter(|topic| !topic.starts_with('^')).take(KEYS_MAX);
    Ok(named.map(|topic| example_key(&plan, topic)).collect::<Result<_>>()?)
}

/// Asks a cluster or a store, and shows the screen with the answer.
async fn ask(
    service: &Service,
    p: Page,
    config: &Config,
    draft: &Draft,
    step: usize,
    what: &str,
    search: &str,
) -> Result<Response, Refusal> {
    let mut page = AddPage::new(p, service, config, draft, step, &Vec::new());
    page.search = search.to_owned();
    let answered = match what {
        "test" => test(service, draft, &mut page).await,
        "search" => find(service, draft, &mut page).await,
        "sample" => sample(service, draft, &mut page).await,
        "probe" => probe(service, draft, &mut page).await,
        _ => keys(service, draft).await.map(|keys| page.keys = keys),
    };
    page.problems = problems(&answered.err().unwrap_or_default());
    Ok(shown(&page))
}

async fn test(service: &Service, draft: &Draft, page: &mut AddPage) -> Result<(), Vec<Error>> {
    let kafka = service.supervisor.kafka_named(draft.text("source")).await?;
    let reached = service.inspector.reach(&kafka).await?;
    let numbers = [reached.cluster, show::count(reached.topics as i64), show::count(reached.took_ms as i64)];
    page.reached = Some(page.p.t.fill(page.p.t.reached, &numbers.each_ref().map(String::as_str)));
    Ok(())
}

async fn find(service: &Service, draft: &Draft, page: &mut AddPage) -> Result<(), Vec<Error>> {
    let kafka = service.supervisor.kafka_named(draft.text("source")).await?;
    let found = service.inspector.topics(&kafka, &page.search).await?;
    let sized: Vec<String> = found.iter().take(SIZED_MAX).map(|topic| topic.name.clone()).collect();
    let extents = service.inspector.extents(&kafka, &sized).await?;
    let chosen = draft.topics();
    let shown = |topic: TopicFound| {
        let extent = extents.iter().find(|extent| extent.name == topic.name);
        let number =
            |of: fn(&crate::service::inspection::TopicExtent) -> i64| extent.map_or_else(|| "–".to_owned(), |e| show::count(of(e)));
        Topic {
            records: number(|e| e.records),
            last_hour: number(|e| e.records_last_hour),
            chosen: chosen.contains(&topic.name),
            partitions: topic.partitions,
            name: topic.name,
        }
    };
    (page.searched, page.found) = (true, found.into_iter().map(shown).collect());
    Ok(())
}

async fn sample(service: &Service, draft: &Draft, page: &mut AddPage) -> Result<(), Vec<Error>> {
    let kafka = service.supervisor.kafka_named(draft.text("source")).await?;
    let Some(first) = draft.topics().into_iter().next() else {
        mark(&mut page.inputs, "topics", page.p.t.choose_topics);
        return Ok(());
    };
    let topic = match first.starts_with('^') {
        true => service.inspector.topics(&kafka, &first).await?.into_iter().next().map_or(first, |topic| topic.name),
        false => first,
    };
    let samples = service.inspector.sample(&kafka, &topic, SAMPLE, service.show_values).await?;
    page.samples = samples.into_iter().map(sample_shown).collect();
    (page.sampled, page.sample_of) = (true, topic);
    Ok(())
}

/// Ties a problem to an input.
fn mark(inputs: &mut [Input], id: &str, text: &str) {
    if let Some(input) = inputs.iter_mut().find(|input| input.id == id) {
        input.problem = Some(text.to_owned());
    }
}

fn sample_shown(sample: Sample) -> SampleShown {
    let size = |bytes: Option<usize>| bytes.map_or_else(|| "–".to_owned(), |bytes| show::size(bytes as f64));
    SampleShown {
        partition: sample.partition,
        offset: sample.offset,
        at: show::moment(sample.timestamp_ms),
        key: sample.key,
        key_size: size(sample.key_bytes),
        value: sample.value,
        value_size: size(sample.value_bytes),
        headers: sample.headers,
    }
}

async fn probe(service: &Service, draft: &Draft, page: &mut AddPage) -> Result<(), Vec<Error>> {
    let store = service.supervisor.store_named(draft.text("store"), draft.text("prefix")).await?;
    page.probed = Some(service.inspector.probe(&store, draft.text("prefix")).await?);
    page.keys = keys(service, draft).await?;
    Ok(())
}

/// The last screen: all of it once more, what it will cost, and the same by other means. What the cluster does not answer is left out.
async fn review(service: &Service, p: Page, config: &Config, draft: &Draft, refused: Vec<Error>) -> Result<Response, Refusal> {
    let (name, body) = (draft.text("name").to_owned(), draft.body());
    let mut page = AddPage::new(p, service, config, draft, REVIEW, &Vec::new());
    let (t, mut found) = (page.p.t, refused);
    match plan(service, draft).await {
        Ok(plan) => {
            page.policies = policy::policies(&plan.to.store.url, &plan.to.prefix)
                .into_iter()
                .map(|(cloud, text)| (t.fill(t.policy_for, &[cloud]), text))
                .collect();
            if let Err(error) = look(service, &plan, &mut page).await {
                found.push(error);
            }
        }
        Err(errors) => found.extend(errors),
    }
    page.problems = problems(&found);
    page.toml = definition::to_toml("rule", &name, &body.to_string())?;
    page.review = STEPS.concat().into_iter().filter_map(|field| reviewed(&page, config, draft, field)).collect();
    page.elsewhere = deeds::review(&page.p, &name, body);
    Ok(shown(&page))
}

async fn look(service: &Service, plan: &BackupPlan, page: &mut AddPage) -> Result<()> {
    let explained = service.inspector.explain(plan).await?;
    page.estimate = Some(estimate(page.p.t, &service.inspector, plan, &explained).await?);
    page.keys = explained.example_keys.into_iter().take(KEYS_MAX).collect();
    Ok(())
}

/// A setting as the review shows it: one that is given.
fn reviewed(page: &AddPage, config: &Config, draft: &Draft, field: &str) -> Option<(&'static str, String)> {
    if field == "framing" && draft.text("kind") != "raw" {
        return None;
    }
    let input = draft.inputs(page.p.t, config, &[field], &Vec::new()).pop()?;
    let value = match &input.kind {
        InputKind::Area => draft.topics().join(", "),
        _ => input.value.clone(),
    };
    (!value.is_empty()).then_some((input.label, value))
}
