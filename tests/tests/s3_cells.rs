//! Everything that can go wrong with every request of a backup, on a server with the manners of each service: nothing is lost, stored
//! twice or altered, and the backup ends by itself. The cells are those of `catchment_tests::s3_cells`; its header says how to play one again.

use std::collections::BTreeSet;

use catchment_tests::s3_cells::{Cell, OWN_CELLS_MIN, S3CellsReport, Service, run};

/// Seeds of each cell in a long run.
const SEEDS_FULL: u64 = 20;

/// Seeds of each cell: as many as asked for, else one, or in a long run as many as before a release.
fn seeds() -> u64 {
    let full = std::env::var_os("CATCHMENT_TEST_FULL").is_some();
    let asked = std::env::var("CATCHMENT_S3_SEEDS").ok().map(|n| n.parse().expect("CATCHMENT_S3_SEEDS is a number"));
    asked.unwrap_or(if full { SEEDS_FULL } else { 1 })
}

fn print(report: &S3CellsReport) {
    for result in report.results.iter().filter(|result| !result.trace.is_empty() || !result.passed()) {
        println!("{} ({}), {} ms, met {} of {} times", result.id, result.what, result.elapsed_ms, result.fired, result.due);
        result.stops.iter().for_each(|stop| println!("  stopped: {stop}"));
        result.failures.iter().for_each(|failure| println!("  failed: {failure}"));
        if !result.passed() {
            println!("  again: {}", result.replay());
        }
        result.trace.iter().for_each(|line| println!("    {line}"));
    }
    println!("{}", serde_json::to_string(&S3CellsReport { results: Vec::new(), ..report.clone() }).expect("plain figures"));
}

/// Plays the cells whose ids contain `part`; all of them must pass.
#[track_caller]
fn assert_passed(part: &str, seeds: u64) {
    let report = run(part, seeds);
    print(&report);
    assert!(report.cells > 0, "no id contains {part:?}");
    assert_eq!((report.failed, report.lost, report.duplicated, report.altered), (0, 0, 0, 0), "{part}");
}

#[test]
fn every_cell_keeps_every_record_exactly_once() {
    assert_passed(&std::env::var("CATCHMENT_S3_CELLS").unwrap_or_default(), seeds());
}

#[test]
fn cells_have_ids_of_their_own_and_say_what_goes_wrong() {
    let cells = Cell::all();
    cells.iter().for_each(|cell| println!("{cell}: {}", cell.what()));
    assert_eq!(cells.iter().map(ToString::to_string).collect::<BTreeSet<_>>().len(), cells.len());
    assert!(cells.iter().all(|cell| !cell.what().is_empty()));
    let own = cells.iter().filter(|cell| cell.service != Service::Unguarded && !cell.is_replaced()).count();
    println!("{own} cells of AWS, COS and MinIO are not replaced ones");
    assert!(own >= OWN_CELLS_MIN, "{own} cells");
}

#[test]
fn a_put_that_something_in_between_answers_is_not_taken_for_stored() {
    assert_passed("PutObject/garbage", 3);
}

#[test]
fn a_look_that_something_in_between_answers_shows_nobodys_object() {
    assert_passed("HeadObject/garbage", 3);
    assert_passed("GetObject/garbage/after", 3);
}

#[test]
fn an_object_that_is_found_and_cannot_be_read_is_looked_at_again() {
    assert_passed("GetObject/not-found/after", 3);
}

#[test]
fn a_part_that_meets_a_conflict_is_sent_again() {
    assert_passed("UploadPart/conflict", 3);
}

#[test]
fn uploads_whose_create_was_not_answered_are_aborted_once_their_key_stands() {
    assert_passed("CreateMultipartUpload/reset", 3);
    assert_passed("CreateMultipartUpload/late", 3);
}

#[test]
fn stale_uploads_are_aborted_although_that_was_refused_for_a_while() {
    assert_passed("AbortMultipartUpload/denied", 3);
    assert_passed("ListMultipartUploads/denied", 3);
}
