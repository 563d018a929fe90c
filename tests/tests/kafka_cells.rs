//! The Kafka rows of the failure matrix: real librdkafka, production pipeline, scripted broker. 0 lost, 0 duplicated, 0 altered.

use catchment_tests::kafka_cells;

#[test]
fn every_cell_keeps_the_promise() {
    let filter = std::env::var("KAFKA_CELL").unwrap_or_default();
    let report = kafka_cells::run(&filter);
    println!("{report}");
    println!("rows {:?}; slowest {:?}", report.rows, report.slowest);
    for failure in &report.failures {
        println!("{}: {}", failure.id, failure.why);
    }
    assert_eq!(report.failed, 0, "{} cells failed", report.failed);
    assert_eq!((report.lost, report.duplicated, report.altered, report.foreign), (0, 0, 0, 0));
    assert!(report.cells > 0 && report.compared > 0 && report.faults + u64::from(report.cells) > 0);
}
