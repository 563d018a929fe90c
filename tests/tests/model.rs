//! The commit protocol, every state of it: the invariants hold in all settings, and without any one guard they do not.
//!
//! `docs/design/counterexamples.md` is what the model finds without each guard. To write it anew after a change of the model:
//! `CATCHMENT_TEST_WRITE=1 cargo test --release -p catchment-tests --test model`.

use std::path::Path;

use catchment_tests::model::Effort;
use catchment_tests::model::report::{explore, page, try_mutants, unbroken};

#[test]
fn the_protocol_holds_in_every_state() {
    let effort = if std::env::var_os("CATCHMENT_TEST_FULL").is_some() { Effort::Whole } else { Effort::Usual };
    let report = explore(effort);
    for s in &report.settings {
        println!("{:32} {:?} {:9} states {:9} steps, depth {:2}, {:.1} s", s.name, s.class, s.states, s.transitions, s.depth, s.seconds);
        assert!(s.violations.is_empty(), "{} in class {:?}:\n{}", s.name, s.class, s.violations.join("\n\n"));
    }
    println!("{} states", report.states);
    assert_eq!(report.shortfalls(effort), [""; 0]);
}

#[test]
fn every_guard_is_needed_and_every_invariant_can_be_broken() {
    let mutants = try_mutants();
    let unharmed: Vec<&str> = mutants.iter().filter(|mutant| mutant.shown.is_none()).map(|mutant| mutant.does).collect();
    assert!(unharmed.is_empty(), "nothing breaks without these guards: {unharmed:?}");
    assert_eq!(unbroken(&mutants), [""; 0], "no mutant breaks these, so they may be void");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/design/counterexamples.md");
    let found = page(&mutants);
    if std::env::var_os("CATCHMENT_TEST_WRITE").is_some() {
        std::fs::write(&path, &found).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).expect("the page is there");
    let differs = written.lines().zip(found.lines()).position(|(written, found)| written != found);
    assert!(written == found, "docs/design/counterexamples.md is not what the model finds (line {:?}); see this file's header", differs);
}
