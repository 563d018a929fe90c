//! What a machine runs out of: memory, disk, file descriptors, threads; and a name that two processes have.
//!
//! The shipped binary as a process against the scripted broker and the S3 server of this process, over real sockets. Each function here brings about one
//! shortage, says what the process did, and compares what is stored in the end; the tests say what it should have done.

mod cgroup;
mod memory;
mod small_disk;

use std::process::Command;
use std::time::Duration;

use catchment::store::GuardClass;
use catchment::store::open::{OpenOptions, open};
use tokio::runtime::Runtime;

pub use cgroup::{MemoryGroup, ThreadGroup, is_required};
pub use memory::{Batches, MemoryReport, stalled_store};
pub use small_disk::SmallDisk;

use crate::crashes::bench::{Bench, Form, Format, Sending};
use crate::gate::Gate;
use crate::process::{Exit, binary};
use crate::s3::Op;

/// How long a process may take that has what it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Large records, which the shipped binary stores by single PUTs.
const LARGE: Form = Form { sending: Sending::Multipart, format: Format::Parquet };

const SMALL: Form = Form { sending: Sending::Put, format: Format::Parquet };

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime can be made")
}

/// Runs a command that only root may run, by sudo if it must be.
fn as_root(words: &[&str]) -> Result<(), String> {
    let mut why = String::new();
    for words in [words.to_vec(), [&["sudo", "-n"], words].concat()] {
        match Command::new(words[0]).args(&words[1..]).output() {
            Ok(out) if out.status.success() => return Ok(()),
            Ok(out) => why += &String::from_utf8_lossy(&out.stderr),
            Err(e) => why += &format!("{}: {e}; ", words[0]),
        }
    }
    Err(why)
}

/// A backup to files on a disk that is too small: what it said before anybody made space, and how it ended after. Everything is compared.
///
/// # Errors
/// If something is missing or wrong in the end.
///
/// # Panics
/// If no disk can be mounted, or the process does not say a word.
pub fn full_disk() -> Result<(String, Exit), String> {
    let (runtime, disk) = (runtime(), SmallDisk::new(1024));
    let bench = Bench::new(runtime.handle(), LARGE, GuardClass::A);
    let directory = disk.path().join("backup");
    std::fs::create_dir(&directory).map_err(|e| e.to_string())?;
    let url = format!("file://{}/", directory.display());
    let mut process = bench.program_to(binary(), &url, "member-1").spawn();
    let said = process.wait_for_stderr("waiting for the store", PATIENCE);
    // It has had time to do something foolish.
    std::thread::sleep(Duration::from_secs(3));
    if let Some(status) = process.poll() {
        return Err(format!("it ended on a full disk: {status}; {}", process.stderr()));
    }
    disk.grow(64 << 10);
    let exit = process.wait(PATIENCE);
    let store = runtime.block_on(open(&url, &OpenOptions::default())).map_err(|e| e.to_string())?;
    bench.compare_in(store)?.verdict()?;
    Ok((said, exit))
}

/// A backup that may have so many files open, to its end. What it stored is compared if it came there; if it did not, one that has enough goes on first.
///
/// # Errors
/// If something is missing or wrong in the end.
pub fn few_files(limit: u64) -> Result<Exit, String> {
    let runtime = runtime();
    let bench = Bench::new(runtime.handle(), SMALL, GuardClass::A);
    let limited = bench.program_of(binary(), "member-1").within(&["sh", "-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
    let exit = limited.run(PATIENCE);
    if exit.code() != Some(0) {
        bench.finish()?;
    }
    bench.compare()?.verdict()?;
    Ok(exit)
}

/// A backup in this group, to its end. What it stored is compared if it came there; if it did not, one without a limit goes on first.
///
/// # Errors
/// If something is missing or wrong in the end.
pub fn few_threads(group: &ThreadGroup) -> Result<Exit, String> {
    let runtime = runtime();
    let bench = Bench::new(runtime.handle(), SMALL, GuardClass::A);
    let exit = group.program(bench.program_of(binary(), "member-1")).run(PATIENCE);
    if exit.code() != Some(0) {
        bench.finish()?;
    }
    bench.compare()?.verdict()?;
    Ok(exit)
}

/// Two processes of one config that gives them one instance id: how each of them ended. Everything is compared.
///
/// # Errors
/// If something is missing or wrong in the end.
pub fn two_of_one_name() -> Result<[Exit; 2], String> {
    let runtime = runtime();
    let bench = Bench::new(runtime.handle(), SMALL, GuardClass::A);
    let state = bench.store_state();
    // What the first one stores is not answered before it has ended: only the second one can end it.
    let answers = Gate::default();
    let held = answers.clone();
    state.set_faults(move |request| {
        let is_data = request.op == Op::PutObject && request.key.contains("dt=");
        crate::s3::Fault { held: is_data.then(|| held.clone()), ..crate::s3::Fault::default() }
    });
    let mut first = bench.program_of(binary(), "member-1").spawn();
    let deadline = std::time::Instant::now() + PATIENCE;
    while bench.pinned_keys().is_empty() {
        if first.poll().is_some() || std::time::Instant::now() > deadline {
            return Err(format!("the first one pinned nothing: {}", first.stderr()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = bench.program_of(binary(), "member-1").spawn();
    let first = first.wait(PATIENCE);
    answers.open();
    let exits = [first, second.wait(PATIENCE)];
    if exits.iter().all(|exit| exit.code() != Some(0)) {
        bench.take_everything();
        bench.finish()?;
    }
    bench.compare()?.verdict()?;
    Ok(exits)
}
