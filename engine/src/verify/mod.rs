//! Reads a backup again and says whether every record is there exactly once.
//!
//! Place in the flow: after everything. [`Place`] is where to look, [`listing`] what stands there, [`object`] reads one object
//! and holds it against its own proof, [`lanes`] holds the objects of a lane against each other by the invariants, [`kafka`]
//! holds them against the topic. What is wrong becomes a [`Damage`] of a named kind in the [`Report`]; a store or a broker that
//! does not answer is an error instead: nothing is called damaged that could not be read. Nor is what a running backup writes meanwhile.
//!
//! Memory is bounded by the number of objects read at a time, each spooled to a temporary file above 8 MiB, plus a line for each
//! object listed. Nothing is ever written to the store.

mod comparison;
pub mod control;
pub mod kafka;
pub mod lanes;
mod late;
pub mod listing;
pub mod object;
pub mod place;
pub mod proof;
pub mod report;
pub mod rows;
pub mod spool;

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinSet;

pub use place::Place;
pub use report::{Damage, DamageKind, Gap, Report};

use crate::error::{Error, ErrorKind, Result, codes};
use crate::source::Source;
use lanes::{Lane, LaneObject};
use listing::Listing;

/// Objects read at a time. Each takes a decoder, an encoder and up to 8 MiB of its bytes; more than cores gain little.
const OBJECTS_AT_ONCE: usize = 4;

/// Lanes compared with Kafka at a time.
const LANES_AT_ONCE: usize = 4;

/// How far a verification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done: `reading objects`, `comparing with Kafka`.
    pub step: &'static str,
    /// Objects done.
    pub done: u64,
    /// Objects in all.
    pub total: u64,
}

/// Verifies what stands at `place`; with a `source`, compares it with Kafka too. A comparison that cannot be finished is
/// [`Report::failure`]: what was found in the objects stands without it.
///
/// # Errors
/// If nothing stands there, the store does not answer, or a temporary file cannot be written.
pub async fn verify(place: &Place, source: Option<Arc<dyn Source>>, progress: impl Fn(Progress)) -> Result<Report> {
    verify_listed(place, Listing::read(place).await?, source, progress).await
}

/// The same of the directories that a rule owns at `place` and of nothing beside them.
///
/// # Errors
/// As [`verify`].
pub async fn verify_rule(place: &Place, rule: &str, source: Option<Arc<dyn Source>>, progress: impl Fn(Progress)) -> Result<Report> {
    verify_listed(place, Listing::of_rule(place, rule).await?, source, progress).await
}

async fn verify_listed(place: &Place, listing: Listing, source: Option<Arc<dyn Source>>, progress: impl Fn(Progress)) -> Result<Report> {
    if listing.is_empty(place) {
        return Err(Error::new(codes::NOTHING_THERE, ErrorKind::NotFound, "there is no object here")
            .with("url", place.url())
            .help("check the prefix; `catchment ls` with a shorter one shows what is there"));
    }
    let listing = Arc::new(listing);
    let mut report = Report::default();
    listing.report(&mut report);
    let objects = read_all(place, &listing, &progress).await?;
    let mut lanes = lanes::group(&listing, objects);
    late::fill_holes(place, &listing, &mut lanes, &mut report).await?;
    lanes.iter().for_each(|lane| lane.check(place, &listing, &mut report));
    listing.check_anchors(place, &mut report).await?;
    if let Some(source) = source
        && let Err(error) = compare_all(place, source, lanes, &progress, &mut report).await
    {
        report.notes.push(format!("the comparison with Kafka was not finished: {error}"));
        report.failure = Some(error);
    }
    report.sort();
    Ok(report)
}

async fn read_all(place: &Place, listing: &Arc<Listing>, progress: &impl Fn(Progress)) -> Result<Vec<LaneObject>> {
    let total = listing.objects.len();
    let (mut running, mut next, mut objects) = (JoinSet::new(), 0, Vec::with_capacity(total));
    while objects.len() < total {
        while next < total && running.len() < OBJECTS_AT_ONCE {
            let (store, listing, index) = (Arc::clone(&place.store), Arc::clone(listing), next);
            running.spawn(async move { object::check(&*store, &listing, index).await });
            next += 1;
        }
        objects.push(joined(running.join_next().await)?);
        progress(Progress { step: "reading objects", done: objects.len() as u64, total: total as u64 });
    }
    Ok(objects)
}

async fn compare_all(
    place: &Place,
    source: Arc<dyn Source>,
    lanes: Vec<Lane>,
    progress: &impl Fn(Progress),
    report: &mut Report,
) -> Result<()> {
    let total: usize = lanes.iter().map(|lane| lane.objects.len()).sum();
    let (mut running, mut waiting, mut busy, mut done) = (JoinSet::new(), lanes, HashSet::new(), 0);
    loop {
        // Two rules may back up one partition, and a source opens a partition once at a time.
        while running.len() < LANES_AT_ONCE
            && let Some(next) = waiting.iter().position(|lane| !busy.contains(&partition_of(lane)))
        {
            let lane = waiting.remove(next);
            busy.insert(partition_of(&lane));
            let (store, source) = (Arc::clone(&place.store), Arc::clone(&source));
            running.spawn(async move {
                let found = kafka::compare(store, source, &lane).await?;
                Ok((partition_of(&lane), lane.objects.len(), found))
            });
        }
        if running.is_empty() {
            return Ok(());
        }
        let (partition, objects, found) = joined(running.join_next().await)?;
        busy.remove(&partition);
        done += objects;
        report.damage.extend(found.damage);
        report.notes.extend(found.notes);
        report.compared += found.compared;
        progress(Progress { step: "comparing with Kafka", done: done as u64, total: total as u64 });
    }
}

fn partition_of(lane: &Lane) -> (String, i32) {
    (lane.key.topic.clone(), lane.key.partition)
}

/// The result of a task; a panic in it goes on here.
fn joined<T>(result: Option<std::result::Result<Result<T>, tokio::task::JoinError>>) -> Result<T> {
    match result.expect("a task is running") {
        Ok(result) => result,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

#[cfg(test)]
mod tests;
