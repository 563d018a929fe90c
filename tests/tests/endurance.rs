//! What a process keeps up over many windows, faults, kills and signals, and what it says of a bucket that refuses: the real program and a real Kafka, the S3
//! server in this process.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use catchment::service::state::State;
use catchment_tests::bed::{Bed, Place, RUN_LIMIT};
use catchment_tests::process::{Process, Program, crashing_binary};
use catchment_tests::s3::{Config, Fault, Op, Personality};
use catchment_tests::services::Kafka;
use catchment_tests::stopwatch::Stopwatch;
use nix::sys::signal::Signal;

/// How long a process may take for what it does by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a stop may take on a machine that has other things to do. `outages` shows that it takes less than ten seconds.
const STOP: Duration = Duration::from_secs(60);

/// Of ten restarts the slowest is the 99th percentile.
const RESTARTS: usize = 10;

/// From the start of a process after a kill to its first new object.
const RESTART_MAX: Duration = Duration::from_secs(5);

/// Windows that are written under faults.
const WINDOWS: usize = 1_000;

/// One request in so many goes wrong.
const FAULT_EVERY: u64 = 40;

/// How many more file descriptors or threads a process may have late in a run than early in it: connections that were given up and opened anew, threads
/// for a name that is looked up. One that stayed of each fault would be ten times as many.
const SLACK: u64 = 16;

fn bed(partitions: i32, records: u64) -> Bed {
    let mut bed = Bed::new(Kafka::shared().bootstrap(), partitions, Place::in_process());
    bed.fill(records);
    bed
}

/// What is measured in seconds does not run beside what takes all of the machine.
static ALONE: Mutex<()> = Mutex::new(());

/// Row P3: the first signal waits for what is pinned, the second waits for nothing.
#[test]
fn a_second_signal_ends_the_process_at_once_and_loses_nothing() {
    // A static member, whose name the next process takes over at once.
    const MEMBER: [&str; 2] = ["--instance-id", "member-1"];
    let bed = bed(1, 300);
    bed.place.refuse_data();
    let mut process = bed.backup(&MEMBER).spawn();
    bed.await_intent(&mut process);
    process.signal(Signal::SIGTERM);
    // Taken one by one: two signals of a kind at the same moment are one.
    process.wait_for_stderr("stopping: finishing what is pinned", PATIENCE);
    assert_eq!(process.poll(), None, "it waits for the store: {}", process.stderr());
    let watch = Stopwatch::start();
    process.signal(Signal::SIGTERM);
    let exit = process.wait(STOP);
    assert_eq!(exit.code(), Some(130), "{}", exit.stderr);
    assert!(watch.elapsed() < Duration::from_secs(3), "it took {:?}", watch.elapsed());
    bed.place.accept_data();
    bed.backup_all(&MEMBER);
    bed.assert_complete("after two signals");
}

/// Row P8: a service does not begin anew in the place of rules that it cannot read, and leaves them to whoever can mend them.
#[test]
fn a_state_that_is_no_database_is_refused_and_left_as_it_is() {
    let state = tempfile::tempdir().expect("a temporary directory");
    let file = state.path().join("state.db");
    let torn: Vec<u8> = (0..8_192_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&file, &torn).expect("the directory is writable");
    let args = [OsStr::new("serve"), OsStr::new("--listen"), OsStr::new("127.0.0.1:0"), OsStr::new("--state"), state.path().as_os_str()];
    let exit = Program::new(args).run(PATIENCE);
    exit.assert_code(4);
    assert!(exit.stderr.contains("C0601") && exit.stderr.contains("state.db"), "{}", exit.stderr);
    assert_eq!(std::fs::read(&file).expect("it is there"), torn);
}

/// Row P8: a byte of what holds a table together.
#[test]
fn a_damaged_state_is_refused_and_a_copy_of_it_put_back() {
    const PAGE: usize = 4_096;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (file, copy) = (directory.path().join("state.db"), directory.path().join("copy.db"));
    let state = State::open(&file).expect("it is new");
    state.note("me", "before the damage", None, None, 1).and_then(|()| state.copy_to(&copy)).expect("the disk has room");
    drop(state);
    let mut damaged = std::fs::read(&file).expect("it is there");
    damaged[PAGE] ^= 0xff;
    std::fs::write(&file, &damaged).expect("the directory is writable");
    let serve = |more: &[&OsStr]| {
        let state =
            [OsStr::new("serve"), OsStr::new("--listen"), OsStr::new("127.0.0.1:0"), OsStr::new("--state"), directory.path().as_os_str()];
        Program::new([&state[..], more].concat())
    };
    let exit = serve(&[]).run(PATIENCE);
    exit.assert_code(4);
    assert!(exit.stderr.contains("C0601") && exit.stderr.contains("--restore"), "{}", exit.stderr);
    assert_eq!(std::fs::read(&file).expect("it is there"), damaged, "a state that is refused is left as it is");
    let mut restored = serve(&[OsStr::new("--restore"), copy.as_os_str()]).spawn();
    restored.wait_for_stderr("the API is at", PATIENCE);
    restored.terminate(STOP).assert_code(0);
    assert_eq!(std::fs::read(directory.path().join("state.db.before-restore")).expect("it is kept"), damaged);
    let audited = State::open(&file).and_then(|state| state.audited(None, i64::MAX, 10)).expect("it is whole");
    assert!(audited.iter().any(|entry| entry.action == "before the damage"), "{audited:?}");
}

/// Row P9: a limit that comes down under a running process, and a store that cuts its connections.
#[test]
fn descriptors_that_run_out_later_are_named_and_waited_for() {
    const BY_ARRIVAL: [&str; 2] = ["--window-by", "arrival"];
    let mut bed = bed(1, 300);
    let mut process = bed.backup(&BY_ARRIVAL).spawn();
    bed.await_committed(&mut [&mut process], PATIENCE);
    // It keeps what it has open, and no number below this is free.
    limit_files(&process, 8);
    bed.place.server().state().set_faults(|_| Fault::reset(false));
    bed.fill(300);
    process.wait_for_stderr("Too many open files", PATIENCE);
    bed.place.accept_data();
    limit_files(&process, 1024);
    bed.await_committed(&mut [&mut process], PATIENCE);
    process.terminate(STOP).assert_code(0);
    bed.assert_complete("after descriptors ran out");
}

/// Sets the soft limit of a process's open files.
fn limit_files(process: &Process, files: u32) {
    let pid = process.pid().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]).status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "prlimit, of util-linux: {status:?}");
}

/// Where the last object of partition 0 starts, by its key; -1 if there is none.
fn last_start(bed: &Bed) -> i64 {
    let keys = bed.place.data_keys("").into_iter();
    let starts = keys.filter_map(|key| key.split_once("+0+")?.1.split('.').next()?.parse().ok());
    starts.max().unwrap_or(-1)
}

/// A static member's partitions stay its own while it is away, so that nothing waits for a session.
#[test]
fn a_member_that_was_killed_stores_new_records_within_five_seconds_of_its_restart() {
    // Windows close by their size, a few records each: what is measured is not how long a window is open.
    const MEMBER: [&str; 4] = ["--instance-id", "member-1", "--max-bytes", "1KiB"];
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bed = bed(2, 400);
    let mut process = bed.backup(&MEMBER).spawn();
    process.wait_for_stdout(&bed.topic, PATIENCE);
    let mut took = Vec::new();
    for _ in 0..RESTARTS {
        process.kill();
        let end = bed.admin.log_range(&bed.topic, 0).1;
        bed.fill(200);
        let (watch, began) = (Stopwatch::start(), Instant::now());
        process = bed.backup(&MEMBER).spawn();
        // What the one before has left behind comes first, and does not count.
        while last_start(&bed) < end {
            assert!(process.poll().is_none() && began.elapsed() < PATIENCE, "nothing new is stored: {}", process.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
        took.push(watch.elapsed());
    }
    println!("from start to first new object: {took:?}");
    assert!(took.iter().max().is_some_and(|slowest| *slowest <= RESTART_MAX), "{took:?}");
    process.terminate(STOP).assert_code(0);
    bed.backup_all(&MEMBER);
    bed.assert_complete("after ten kills");
}

/// File descriptors and threads.
fn held_by(process: &Process) -> [u64; 2] {
    [process.open_files() as u64, process.threads()]
}

/// The largest of each.
fn most(samples: &[[u64; 2]]) -> [u64; 2] {
    samples.iter().fold([0; 2], |most, sample| [most[0].max(sample[0]), most[1].max(sample[1])])
}

/// What one request in [`FAULT_EVERY`] meets, one after the other: before and after it took effect.
fn trouble(number: u64) -> Fault {
    match number / FAULT_EVERY % 4 {
        0 => Fault::refused(503, "SlowDown"),
        1 => Fault::done_but(500, "InternalError"),
        2 => Fault::reset(false),
        _ => Fault::reset(true),
    }
}

/// The binary with crash points, for its small parts: so windows of a few kilobytes are uploads.
#[test]
fn a_thousand_windows_with_faults_leave_no_upload_no_file_and_no_thread() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let config = Config { part_bytes_min: Some(1), ..Config::new(Personality::Minio) };
    let mut bed = Bed::new(Kafka::shared().bootstrap(), 4, Place::in_process_like(config));
    // Some 170 bytes each.
    bed.fill(130_000);
    bed.place.server().state().set_faults(|request| {
        let number = if request.key.contains("_catchment/") { 1 } else { SEEN.fetch_add(1, Ordering::SeqCst) };
        if number % FAULT_EVERY == 0 { trouble(number) } else { Fault::default() }
    });
    let url = bed.place.url("");
    let args = ["backup", &bed.topic, "-b", bed.broker(), "--to", &url, "--rule", &bed.rule, "--instance-id", "none"];
    let windows = ["--window", "1h", "--max-bytes", "16KiB", "--codec", "none", "--until-end"];
    let program = Program::of(crashing_binary(), args).args(windows).envs(bed.place.environment());
    let mut process = program.envs([("CATCHMENT_CRASH_PART_BYTES", "3072")]).spawn();
    let (began, mut samples) = (Instant::now(), Vec::new());
    while process.poll().is_none() {
        assert!(began.elapsed() < RUN_LIMIT, "it has not ended: {}", process.stderr());
        if !bed.place.data_keys("").is_empty() {
            samples.push(held_by(&process));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    process.wait(STOP).assert_code(0);
    let uploads = bed.place.server().state().log().iter().filter(|request| request.op == Op::CompleteMultipartUpload).count();
    let objects = bed.place.data_keys("").len();
    let faults = SEEN.load(Ordering::SeqCst) / FAULT_EVERY;
    // The last sample may be of a process that is ending.
    samples.pop();
    let quarter = samples.len() / 4;
    assert!(quarter > 0, "it was over before anybody looked: {samples:?}");
    let (early, late) = (most(&samples[..2 * quarter]), most(&samples[samples.len() - quarter..]));
    println!("{objects} windows, {uploads} Completes, {faults} faults, {:?}; files and threads {early:?}, then {late:?}", began.elapsed());
    assert!(objects >= WINDOWS && uploads >= WINDOWS && faults >= 100, "{objects} windows, {uploads} Completes, {faults} faults");
    assert!(late[0] <= early[0] + SLACK && late[1] <= early[1] + SLACK, "files and threads: {early:?} grew to {late:?}");
    bed.place.accept_data();
    let open = bed.place.open_uploads();
    assert!(open.is_empty(), "uploads that nobody will complete: {open:?}");
    let deletions = bed.place.server().state().log().iter().filter(|request| request.op == Op::DeleteObject).count();
    assert_eq!(deletions, 0, "no right to delete is needed");
    bed.assert_complete("after a thousand windows");
}

/// Row S9: a refusal that somebody can mend is named, waited for, and then nothing is lost; one that nobody can ends the run.
#[test]
fn what_a_bucket_refuses_is_named_with_what_mends_it() {
    for (status, code, help) in [
        (400, "KMS.DisabledException", "kms:GenerateDataKey"),
        (400, "XMinioAdminBucketQuotaExceeded", "quota"),
        (307, "TemporaryRedirect", "region="),
    ] {
        let bed = bed(1, 100);
        refuse(&bed, status, code);
        let mut process = bed.backup(&["--until-end"]).spawn();
        let line = process.wait_for_stderr("waiting for the store", PATIENCE);
        assert!(line.contains(code) && line.contains(help), "{code}: {line}");
        assert_eq!(bed.place.data_keys(""), Vec::<String>::new(), "{code}");
        bed.place.accept_data();
        process.wait(RUN_LIMIT).assert_code(0);
        bed.assert_complete(code);
    }
    let bed = bed(1, 100);
    refuse(&bed, 301, "PermanentRedirect");
    let exit = bed.assert_stops(&[], 2, "C0304");
    assert!(exit.stderr.contains("PermanentRedirect") && exit.stderr.contains("region="), "{}", exit.stderr);
}

/// Every write of a data object is refused so.
fn refuse(bed: &Bed, status: u16, code: &'static str) {
    bed.place.server().state().set_faults(move |request| match request.op {
        Op::PutObject if !request.key.contains("_catchment/") => Fault::refused(status, code),
        _ => Fault::default(),
    });
}
