//! Memory, disk, file descriptors and names that run short: the process says so, and nothing is lost.

use std::path::Path;
use std::time::Duration;

use catchment::descriptors::FILES_MIN;
use catchment_tests::exhaustion::{Batches, MemoryGroup, few_files, full_disk, is_required, stalled_store, two_of_one_name};
use catchment_tests::process::Program;

/// Three minutes before a release, and in continuous integration for batches that are not compressed; less each time.
fn stalled_for(batches: Batches) -> Duration {
    let is_set = |name| std::env::var_os(name).is_some();
    let is_long = is_set("CATCHMENT_TEST_FULL") || is_set("CI") && batches == Batches::Plain;
    Duration::from_secs(if is_long { 180 } else { 20 })
}

fn stays_within_the_budget(batches: Batches) {
    let report = stalled_store(batches, stalled_for(batches)).unwrap_or_else(|why| panic!("{why}"));
    println!("{report:?}");
    assert_eq!((report.kills, report.differing), (0, 0));
    assert!(report.hung > 0 && report.compared > 0);
    assert!(report.peak <= report.budget * 6 / 5, "peak {} MiB of {} MiB", report.peak >> 20, report.budget >> 20);
    assert!(report.peak > report.budget / 2, "the budget was never needed: peak {} MiB", report.peak >> 20);
    // Without a group the kernel ends nobody, and the peak alone says what it came to.
    println!("cgroup: {}", report.group);
}

#[test]
fn a_stalled_store_and_64_partitions_stay_within_the_budget() {
    stays_within_the_budget(Batches::Plain);
}

#[test]
fn batches_that_unfold_a_thousand_times_stay_within_the_budget() {
    stays_within_the_budget(Batches::Alike);
}

#[test]
fn batches_that_unfold_only_later_stay_within_the_budget() {
    stays_within_the_budget(Batches::AlikeLater);
}

/// Else no process would ever have been killed above.
#[test]
fn a_process_that_passes_its_group_is_ended_and_counted() {
    const LIMIT: u64 = 64 << 20;
    let group = match MemoryGroup::new(LIMIT) {
        Ok(group) => group,
        Err(why) if is_required() => panic!("no memory cgroup: {why}"),
        Err(why) => return println!("no memory cgroup: {why}"),
    };
    // A line without an end, which its reader must hold.
    let hungry = format!("head -c {} /dev/zero | tail -n 1 > /dev/null", 4 * LIMIT);
    let exit = group.program(Program::of(Path::new("sh"), ["-c", &hungry])).run(Duration::from_secs(60));
    assert_eq!(exit.code(), Some(128 + 9), "{exit:?}");
    assert!(group.kills() > 0 && group.peak().is_none_or(|peak| peak <= LIMIT), "{} kills, peak {:?}", group.kills(), group.peak());
}

#[test]
fn a_full_disk_is_named_and_waited_for() {
    let (said, exit) = full_disk().unwrap_or_else(|why| panic!("{why}"));
    println!("{said}");
    assert!(said.contains("C0303") && said.contains("No space left on device") && said.contains("free some space"), "{said}");
    exit.assert_code(0);
}

#[test]
fn a_process_with_too_few_file_descriptors_does_not_start_and_says_so() {
    for limit in [8, 16, 32, FILES_MIN - 1] {
        let exit = few_files(limit).unwrap_or_else(|why| panic!("{limit}: {why}"));
        exit.assert_code(1);
        assert!(exit.stderr.contains("C0121") && exit.stderr.contains("ulimit -n"), "{limit}: {}", exit.stderr);
    }
}

#[test]
fn as_many_file_descriptors_as_a_start_asks_for_are_enough() {
    few_files(FILES_MIN).unwrap_or_else(|why| panic!("{why}")).assert_code(0);
}

#[test]
fn the_older_of_two_processes_of_one_name_is_fenced() {
    let [first, second] = two_of_one_name().unwrap_or_else(|why| panic!("{why}"));
    first.assert_code(6);
    // Found by the client between two commits, or by a commit.
    assert!(["C0205", "C0404"].iter().any(|code| first.stderr.contains(code)), "{}", first.stderr);
    second.assert_code(0);
}
