//! The Kafka rows of the failure matrix: real librdkafka, production pipeline, scripted broker. 0 lost, 0 duplicated, 0 altered.

use std::collections::BTreeSet;

use catchment_tests::kafka_cells;

/// The rows of the failure matrix.
const ROWS: u32 = 23;

#[test]
fn the_list_has_every_row_and_each_cell_once() {
    let names = kafka_cells::names();
    for name in &names {
        println!("{:<3} {}: {}", name.row, name.id, name.what);
    }
    let ids: BTreeSet<&str> = names.iter().map(|name| name.id.as_str()).collect();
    assert_eq!(ids.len(), names.len(), "an id stands for two cells");
    assert!(names.len() >= kafka_cells::CELLS_MIN, "{} cells are left", names.len());
    let rows: BTreeSet<&str> = names.iter().map(|name| name.row.as_str()).collect();
    let wanted: Vec<String> = (1..=ROWS).map(|row| format!("K{row}")).collect();
    assert_eq!(rows, wanted.iter().map(String::as_str).collect());
    for name in &names {
        assert_eq!(name.id.split('.').next(), Some(name.row.to_lowercase().as_str()), "{} stands in row {}", name.id, name.row);
    }
}

#[test]
fn every_cell_keeps_the_promise() {
    let filter = std::env::var("KAFKA_CELL").unwrap_or_default();
    let report = kafka_cells::run(&filter);
    println!("{report}");
    println!("rows {:?}; slowest {:?}; not to be seen at the broker {:?}", report.rows, report.slowest, report.unseen);
    for failure in &report.failures {
        println!("{}: {}\n  again: {}", failure.id, failure.why, kafka_cells::replay(&failure.id));
    }
    let failed: Vec<&str> = report.failures.iter().map(|failure| failure.id.as_str()).collect();
    assert!(report.failed == 0 && failed.is_empty(), "{} cells failed: {failed:?}", report.failed);
    assert_eq!((report.lost, report.duplicated, report.altered, report.foreign), (0, 0, 0, 0));
    assert_eq!(report.strangely_unseen(filter.is_empty()), [""; 0], "who cannot show what it is about is known by name");
    if filter.is_empty() {
        assert_eq!(report.cells as usize, kafka_cells::names().len(), "not every cell that is listed ran");
    }
    assert!(report.cells > 0 && report.compared > 0 && report.faults + report.shown + report.unseen.len() as u64 > 0);
}
