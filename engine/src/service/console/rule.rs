//! A rule's own page: what it is doing and why, how fast, partition by partition, and what it has stored.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::Value;

use super::actions::notice;
use super::catalogue::Texts;
use super::context::Page;
use super::elsewhere::Elsewhere;
use super::elsewhere::deeds::{self, Offered};
use super::refusal::{Refusal, shown};
use super::rules::Summary;
use super::show::{self, Moment};
use super::timeline::{self, Timeline};
use super::words::{self, Badge};
use crate::config::{Accept, Words as _};
use crate::https::escaped;
use crate::service::api::{OfPath, OfQuery, Service};
use crate::service::changes::now_ms;
use crate::service::definition;
use crate::service::observer::{RuleState, Status};
use crate::service::state::{StoredGap, StoredRule, StoredVerification, StoredWindow, Wanted};

/// Windows of a page: some hours of a few partitions.
const WINDOWS_MAX: u32 = 200;
/// Windows that are listed below the drawing.
const LISTED_MAX: usize = 50;
/// Gaps that are listed.
const GAPS_MAX: usize = 200;
/// Partitions that are listed.
const PARTITIONS_MAX: usize = 512;
/// Damages that are listed; the report has all.
const DAMAGE_MAX: usize = 20;

#[derive(Template)]
#[template(path = "console/rule.html")]
struct RulePage {
    p: Page,
    name: String,
    tab: &'static str,
    notice: Option<&'static str>,
    state: Badge,
    reason: Option<String>,
    help: Option<String>,
    since: Moment,
    version: i64,
    origin: &'static str,
    paused: bool,
    /// A lane may have asked something.
    asks: bool,
    answers: Vec<(&'static str, &'static str)>,
    lag: Option<String>,
    /// Until retention takes what was not read.
    loss: Option<String>,
    source: String,
    topics: Vec<String>,
    store: String,
    prefix: String,
    every: String,
    verification: Option<VerificationShown>,
    partitions: Vec<PartitionRow>,
    timeline: Timeline,
    windows: Vec<WindowRow>,
    older: Option<String>,
    gaps: Vec<GapRow>,
    elsewhere: Elsewhere,
}

struct VerificationShown {
    state: Badge,
    began: Moment,
    ended: Option<Moment>,
    is_under_way: bool,
    counts: Option<String>,
    problem: Option<String>,
    damage: Vec<String>,
}

struct PartitionRow {
    topic: String,
    partition: i32,
    position: String,
    end: String,
    lag: String,
    trouble: Option<String>,
}

struct WindowRow {
    at: Moment,
    topic: String,
    partition: i32,
    start: i64,
    end: i64,
    records: String,
    size: String,
    reason: String,
    version: i64,
    file: String,
    /// To the object's page, if it lies where the rule writes now.
    link: Option<String>,
}

struct GapRow {
    at: Moment,
    topic: String,
    partition: i32,
    start: i64,
    end: i64,
    cause: String,
}

/// What is asked of a rule's page.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    done: Option<String>,
    before: Option<i64>,
}

/// What is kept of a rule.
struct Kept {
    rule: StoredRule,
    windows: Vec<StoredWindow>,
    gaps: Vec<StoredGap>,
    verification: Option<StoredVerification>,
    /// The versions that write where the current one does.
    here: BTreeSet<i64>,
}

async fn kept(service: &Service, name: String, before: i64) -> Result<Kept, Refusal> {
    let kept = service.state.ask(move |state| {
        let rule = state.rule(&name)?;
        let place = place_of(&rule.body);
        let here = state.versions(&name)?.into_iter().filter(|version| place_of(&version.body) == place);
        Ok(Kept {
            here: here.map(|version| version.version).collect(),
            rule,
            windows: state.windows(&name, before, WINDOWS_MAX)?,
            gaps: state.gaps(&name)?,
            verification: state.verification(&name)?,
        })
    });
    Ok(kept.await?)
}

/// Where a body's objects go.
fn place_of(body: &str) -> Value {
    serde_json::from_str::<Value>(body).map(|body| body["to"].clone()).unwrap_or_default()
}

/// Shows a rule.
pub(super) async fn page(
    State(service): State<Service>,
    p: Page,
    OfPath(name): OfPath<String>,
    OfQuery(asked): OfQuery<Asked>,
) -> Result<Response, Refusal> {
    let kept = kept(&service, name.clone(), asked.before.unwrap_or(i64::MAX)).await?;
    let (status, t, summary) = (service.supervisor.status(&name), p.t, Summary::of(&kept.rule.body));
    let status = status.as_ref();
    let state = status.map_or(RuleState::Waiting, |status| status.state);
    let lag = status.and_then(|status| status.lag(now_ms()));
    let (paused, asks) = (kept.rule.runs() == Wanted::Paused, matches!(state, RuleState::Degraded | RuleState::Failed));
    let verification = kept.verification.map(|v| verification(t, &v));
    let offered = Offered { runs: !paused, asks, verifies: verification.as_ref().is_some_and(|v| v.is_under_way) };
    let next_page = kept.windows.last().filter(|_| kept.windows.len() == WINDOWS_MAX as usize).map(|window| window.id);
    Ok(shown(&RulePage {
        tab: "",
        notice: notice(t, asked.done.as_deref()),
        state: words::state(t, state),
        reason: status.and_then(|status| status.reason.clone()),
        help: status.and_then(|status| status.help.clone()),
        since: show::moment(status.map_or(kept.rule.created_ms, |status| status.since_ms)),
        version: kept.rule.version,
        origin: words::origin(t, kept.rule.origin),
        paused,
        asks,
        answers: answers(t),
        lag: lag.map(|lag| show::lag(t, lag.records, lag.seconds)),
        loss: lag.and_then(|lag| lag.loss_seconds).map(|seconds| show::span(t, seconds)),
        verification,
        partitions: partitions(status),
        timeline: timeline::draw(t, &kept.windows, &kept.gaps),
        older: next_page.map(|id| format!("/console/rules/{name}?before={id}#windows-title")),
        windows: kept.windows.iter().take(LISTED_MAX).map(|window| window_row(t, &name, &kept.here, window)).collect(),
        gaps: kept.gaps.iter().rev().take(GAPS_MAX).map(|gap| gap_row(t, gap)).collect(),
        elsewhere: deeds::rule(&p, &name, offered),
        source: summary.source,
        topics: summary.topics,
        store: summary.store,
        prefix: summary.prefix,
        every: summary.every,
        name,
        p,
    }))
}

/// What lanes may be answered.
fn answers(t: &Texts) -> Vec<(&'static str, &'static str)> {
    let of = |word: &&'static str| {
        let text = match word.parse().ok()? {
            Accept::ForeignCommit => t.accept_foreign_commit,
            Accept::TopicRecreated => t.accept_topic_recreated,
            Accept::Destination => t.accept_destination,
            Accept::Truncation => t.accept_truncation,
        };
        Some((*word, text))
    };
    Accept::WORDS.iter().filter_map(of).collect()
}

fn partitions(status: Option<&Status>) -> Vec<PartitionRow> {
    let Some(status) = status else { return Vec::new() };
    let troubles: BTreeMap<_, _> = status.troubles().collect();
    let lanes = status.metrics.as_ref().map(|metrics| metrics.lanes()).unwrap_or_default();
    let row = |lane: crate::metrics::LanePosition| PartitionRow {
        topic: lane.tp.topic.to_string(),
        partition: lane.tp.partition,
        position: show::count(lane.position),
        end: if lane.end < 0 { "–".to_owned() } else { show::count(lane.end) },
        lag: show::count((lane.end - lane.position).max(0)),
        trouble: troubles.get(&lane.tp).map(|why| (*why).to_owned()),
    };
    lanes.into_iter().take(PARTITIONS_MAX).map(row).collect()
}

fn window_row(t: &Texts, name: &str, here: &BTreeSet<i64>, window: &StoredWindow) -> WindowRow {
    let link = || format!("/console/rules/{name}/file?key={}", escaped(&window.key));
    WindowRow {
        at: show::moment(window.at_ms),
        topic: window.topic.clone(),
        partition: window.partition,
        start: window.start,
        end: window.end,
        records: show::count(window.records),
        size: show::size(window.bytes as f64),
        reason: words::closed_by(t, &window.reason),
        version: window.version,
        file: window.key.rsplit('/').next().unwrap_or(&window.key).to_owned(),
        link: here.contains(&window.version).then(link),
    }
}

fn gap_row(t: &Texts, gap: &StoredGap) -> GapRow {
    GapRow {
        at: show::moment(gap.at_ms),
        topic: gap.topic.clone(),
        partition: gap.partition,
        start: gap.start,
        end: gap.end,
        cause: words::cause(t, &gap.cause),
    }
}

fn verification(t: &Texts, v: &StoredVerification) -> VerificationShown {
    let report: Option<Value> = v.report.as_deref().and_then(|report| serde_json::from_str(report).ok());
    let number = |report: &Value, key: &str| show::count(report[key].as_i64().unwrap_or_default());
    let counts = |report: &Value| {
        let listed = |key: &str| show::count(report[key].as_array().map_or(0, Vec::len) as i64);
        let numbers = [number(report, "objects"), number(report, "records"), number(report, "compared"), listed("gaps"), listed("damage")];
        t.fill(t.verification_counts, &numbers.each_ref().map(String::as_str))
    };
    let damage = report.iter().flat_map(|report| report["damage"].as_array().into_iter().flatten());
    let text = |damage: &Value| {
        let of = |key: &str| damage[key].as_str().unwrap_or_default();
        format!("{}: {}: {}", of("key"), of("kind"), of("detail"))
    };
    VerificationShown {
        state: words::verification(t, v.state),
        is_under_way: v.ended_ms.is_none() && v.problem.is_none(),
        began: show::moment(v.began_ms),
        ended: v.ended_ms.map(show::moment),
        counts: report.as_ref().map(counts),
        problem: v.problem.clone(),
        damage: damage.take(DAMAGE_MAX).map(text).collect(),
    }
}

/// The rule as a file that could be put beside the config file.
pub(super) async fn toml(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Refusal> {
    let asked = name.clone();
    let rule = service.state.ask(move |state| state.rule(&asked)).await?;
    let text = definition::to_toml("rule", &name, &rule.body)?;
    let headers = [(CONTENT_TYPE, "application/toml".to_owned()), (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.toml\""))];
    Ok((headers, text).into_response())
}
