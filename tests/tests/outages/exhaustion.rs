//! Memory, disk, file descriptors, threads and names that run short: the process says so, and nothing is lost.

use std::path::Path;
use std::time::Duration;

use catchment::descriptors::FILES_MIN;
use catchment::threads::{THREADS_MIN, THREADS_TO_READ};
use catchment_tests::exhaustion::{
    Batches, MemoryGroup, ThreadGroup, few_files, few_threads, full_disk, is_required, stalled_store, two_of_one_name,
};
use catchment_tests::process::{Exit, Program};

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

/// A group of this many threads; none where no group can be made and nobody demands one.
fn thread_group(limit: usize) -> Option<ThreadGroup> {
    match ThreadGroup::new(limit as u64) {
        Ok(group) => Some(group),
        Err(why) if is_required() => panic!("no cgroup of threads: {why}"),
        Err(why) => {
            println!("no cgroup of threads: {why}");
            None
        }
    }
}

/// Fails unless it was refused for its threads, in words and without a panic.
#[track_caller]
fn assert_refused_threads(limit: usize, group: &ThreadGroup, exit: &Exit) {
    exit.assert_code(1);
    assert!(exit.stderr.contains("C0122") && exit.stderr.contains("pids.max"), "{limit}: {}", exit.stderr);
    assert!(!exit.stderr.contains("panicked"), "{limit}: {}", exit.stderr);
    assert!(group.refused() > 0, "{limit}: the kernel refused no thread");
}

/// A limit of a cgroup, which holds for root, too.
#[test]
fn a_process_with_too_few_threads_does_not_start_and_says_so() {
    // As many as are needed, without one for the process itself, are one too few.
    for limit in [1, 2, 8, 32, THREADS_MIN] {
        let Some(group) = thread_group(limit) else { return };
        let exit = few_threads(&group).unwrap_or_else(|why| panic!("{limit}: {why}"));
        assert_refused_threads(limit, &group, &exit);
    }
}

#[test]
fn as_many_threads_as_a_start_asks_for_are_enough() {
    let Some(group) = thread_group(THREADS_MIN + 1) else { return };
    few_threads(&group).unwrap_or_else(|why| panic!("{why}")).assert_code(0);
    assert_eq!(group.refused(), 0, "not only the trial had them");
}

/// Nothing is written by these, and they need less.
#[test]
fn a_command_that_only_reads_says_so_too_when_it_has_too_few_threads() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = format!("file://{}/", directory.path().display());
    let verify = || Program::new(["verify", &url]);
    let Some(group) = thread_group(THREADS_TO_READ) else { return };
    let exit = group.program(verify()).run(Duration::from_secs(60));
    assert_refused_threads(THREADS_TO_READ, &group, &exit);
    let Some(group) = thread_group(THREADS_TO_READ + 1) else { return };
    // There is nothing to verify, which it says when it has looked.
    let exit = group.program(verify()).run(Duration::from_secs(60));
    assert!(exit.assert_code(3).stderr.contains("C0502"), "{}", exit.stderr);
}

#[test]
fn the_older_of_two_processes_of_one_name_is_fenced() {
    let [first, second] = two_of_one_name().unwrap_or_else(|why| panic!("{why}"));
    first.assert_code(6);
    // Found by the client between two commits, or by a commit.
    assert!(["C0205", "C0404"].iter().any(|code| first.stderr.contains(code)), "{}", first.stderr);
    second.assert_code(0);
}
