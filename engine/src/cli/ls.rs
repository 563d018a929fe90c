//! `catchment ls URL`: lanes, or objects, with the offsets they stand for. Reads footers and proofs, not records.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use catchment_formats::Proof;
use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

use super::open::{PlaceArgs, block_on};
use super::{Outcome, output};
use crate::config::ByteSize;
use crate::error::{Error, ErrorKind, Result, codes};
use crate::verify::Place;
use crate::verify::lanes::LaneKey;
use crate::verify::listing::Listing;
use crate::verify::proof;

/// Proofs asked for at a time. Each is one small request; more would only meet the store's rate limits sooner.
const REQUESTS_AT_ONCE: usize = 16;

#[derive(Args, Debug)]
pub(super) struct LsArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// List every object instead of lanes
    #[arg(short = 'l', long)]
    objects: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An object as it is listed. What its proof would say is null where there is none.
#[derive(Debug, Serialize)]
struct ObjectRow {
    key: String,
    topic: String,
    partition: i32,
    start: i64,
    end: Option<i64>,
    records: Option<u64>,
    bytes: u64,
    missing: usize,
    encoding: Option<String>,
    #[serde(skip)]
    lane: LaneKey,
}

/// A lane as it is listed.
#[derive(Debug, Serialize)]
struct LaneRow {
    directory: String,
    topic: String,
    partition: i32,
    objects: u64,
    start: i64,
    end: Option<i64>,
    records: u64,
    bytes: u64,
    missing: usize,
    /// Objects whose proof could not be read; their records are not counted.
    unreadable: u64,
}

pub(super) fn main(args: &LsArgs) -> Outcome {
    let config = args.place.config()?;
    let objects = block_on(async {
        let place = args.place.open(&config).await?;
        Ok(rows(&place).await?)
    })?;
    match (args.objects, args.json) {
        (true, true) => output::print_json(&objects)?,
        (true, false) => output::print(objects_table(&objects))?,
        (false, true) => output::print_json(&lanes(&objects))?,
        (false, false) => output::print(lanes_table(&lanes(&objects)))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn rows(place: &Place) -> Result<Vec<ObjectRow>> {
    let listing = Arc::new(Listing::read(place).await?);
    if listing.objects.is_empty() {
        return Err(Error::new(codes::NOTHING_THERE, ErrorKind::NotFound, "there is no object here")
            .with("url", place.url())
            .help("name the prefix that a rule writes to, as its --to says"));
    }
    let (mut running, mut rows, mut next) = (JoinSet::<Result<ObjectRow>>::new(), Vec::new(), 0);
    while rows.len() < listing.objects.len() {
        while next < listing.objects.len() && running.len() < REQUESTS_AT_ONCE {
            let (store, listing, index) = (Arc::clone(&place.store), Arc::clone(&listing), next);
            running.spawn(async move { Ok(row(&listing, index, proof::look(&*store, &listing, &listing.objects[index]).await?.ok())) });
            next += 1;
        }
        match running.join_next().await.expect("a task is running") {
            Ok(row) => rows.push(row?),
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
    rows.sort_by(|a: &ObjectRow, b| (&a.lane, a.start, &a.key).cmp(&(&b.lane, b.start, &b.key)));
    Ok(rows)
}

fn row(listing: &Listing, index: usize, proof: Option<Proof>) -> ObjectRow {
    let listed = &listing.objects[index];
    ObjectRow {
        key: listed.key.clone(),
        topic: listed.topic.clone(),
        partition: listed.partition,
        start: listed.start,
        end: proof.as_ref().map(|p| p.range.end),
        records: proof.as_ref().map(|p| p.counts.records),
        bytes: listed.size,
        missing: proof.as_ref().map_or(0, |p| p.missing.len()),
        encoding: proof.map(|p| p.encoding),
        lane: LaneKey::of(listing, listed),
    }
}

fn lanes(objects: &[ObjectRow]) -> Vec<LaneRow> {
    let mut lanes: BTreeMap<&LaneKey, LaneRow> = BTreeMap::new();
    for object in objects {
        let lane = lanes.entry(&object.lane).or_insert_with(|| LaneRow {
            directory: object.lane.directory.clone(),
            topic: object.topic.clone(),
            partition: object.partition,
            objects: 0,
            start: object.start,
            end: None,
            records: 0,
            bytes: 0,
            missing: 0,
            unreadable: 0,
        });
        lane.objects += 1;
        lane.start = lane.start.min(object.start);
        lane.end = lane.end.max(object.end);
        // A proof may count whatever it likes.
        lane.records = lane.records.saturating_add(object.records.unwrap_or_default());
        lane.bytes = lane.bytes.saturating_add(object.bytes);
        lane.missing += object.missing;
        lane.unreadable += u64::from(object.records.is_none());
    }
    lanes.into_values().collect()
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

fn objects_table(objects: &[ObjectRow]) -> String {
    let row = |o: &ObjectRow| {
        vec![o.start.to_string(), or_dash(o.end), or_dash(o.records), output::size(ByteSize(o.bytes)), o.missing.to_string(), o.key.clone()]
    };
    output::table(&["FROM", "TO", "RECORDS", "SIZE", "GAPS", "KEY"], &objects.iter().map(row).collect::<Vec<_>>())
}

fn lanes_table(lanes: &[LaneRow]) -> String {
    let row = |l: &LaneRow| {
        vec![
            l.topic.clone(),
            l.partition.to_string(),
            l.objects.to_string(),
            l.start.to_string(),
            or_dash(l.end),
            l.records.to_string(),
            output::size(ByteSize(l.bytes)),
            l.missing.to_string(),
            l.directory.clone(),
        ]
    };
    let head = ["TOPIC", "PARTITION", "OBJECTS", "FROM", "TO", "RECORDS", "SIZE", "GAPS", "DIRECTORY"];
    output::table(&head, &lanes.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, records: u64) -> ObjectRow {
        let lane = LaneKey { directory: "t".to_owned(), topic: "t".to_owned(), partition: 0 };
        let (key, topic, encoding) = (key.to_owned(), "t".to_owned(), None);
        ObjectRow { key, topic, partition: 0, start: 0, end: None, records: Some(records), bytes: u64::MAX, missing: 0, encoding, lane }
    }

    #[test]
    fn proofs_with_absurd_counts_overflow_nothing() {
        let lanes = lanes(&[row("a", u64::MAX), row("b", 1)]);
        assert_eq!((lanes[0].records, lanes[0].bytes), (u64::MAX, u64::MAX));
    }

    #[test]
    fn keys_stay_in_their_lines() {
        let table = objects_table(&[row("a\x1b[2J\nb", 1)]);
        assert!(table.lines().count() == 2 && !table.contains('\x1b'), "{table:?}");
    }
}
