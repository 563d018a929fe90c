//! Each guard of the production code, taken out, is missed by at least one layer: `tests/src/sabotage/`.

use catchment_tests::sabotage;

#[test]
fn the_absence_of_each_guard_is_seen() {
    let report = sabotage::run(&std::env::var("SABOTAGE").unwrap_or_default());
    println!("{report}");
    assert_eq!(report.false_alarms, [""; 0], "nothing is found with every guard in place");
    let asked = std::env::var_os("SABOTAGE").is_some();
    assert!(asked || report.builds >= sabotage::GUARDS_MIN, "{} guards were taken out", report.builds);
    assert!(report.builds > 0 && report.caught == report.builds, "{} of {} caught", report.caught, report.builds);
}
