//! What a process finds that is to be killed: nothing, or what an earlier one left that was killed from outside.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::bench::Bench;
use super::overtaken;
use super::visible::TOPICS;
use crate::s3::{Fault, Op, Request};

/// How long lanes may take to come where a scenario wants them.
const PATIENCE: Duration = Duration::from_secs(60);

/// How late answers come that nobody is to hear: longer than the process lives.
const NEVER: Duration = Duration::from_secs(600);

/// What the process finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// Empty topics' directories, no group.
    Fresh,
    /// The same, and the first answer to each publishing request is lost: the object stands, and a 500 is said.
    Unanswered,
    /// Every lane has a pinned window that was never published.
    Pinned,
    /// Every lane has a pinned window whose object stands, and nobody has heard.
    Standing,
    /// As `Pinned`, and the store says at the first Complete that it does not know the upload.
    UploadGone,
    /// As `Pinned`, and Kafka gives less, while the upload cannot be completed as it stands.
    Overtaken,
}

/// Brings about what the process finds, and returns how many others were killed for it.
pub(super) fn prepare(bench: &Bench<'_>, scenario: Scenario) -> Result<u32, String> {
    let state = bench.store_state();
    match scenario {
        Scenario::Fresh => return Ok(0),
        Scenario::Unanswered => {
            once_a_key(bench, |_| true, || Fault::done_but(500, "InternalError"));
            return Ok(0);
        }
        Scenario::Pinned | Scenario::UploadGone | Scenario::Overtaken => {
            state.set_faults(|request| if publishes(request) { Fault::refused(503, "SlowDown") } else { Fault::default() });
        }
        Scenario::Standing => {
            state.set_faults(|request| Fault { after: if publishes(request) { NEVER } else { Duration::ZERO }, ..Fault::default() });
        }
    }
    leave_pinned(bench, scenario == Scenario::Standing)?;
    match scenario {
        Scenario::Overtaken => overtaken::overtake(bench)?,
        Scenario::UploadGone => {
            once_a_key(bench, |request| request.op == Op::CompleteMultipartUpload, || Fault::refused(404, "NoSuchUpload"));
        }
        _ => bench.take_everything(),
    }
    Ok(1)
}

/// Whether a request makes a data object visible.
fn publishes(request: &Request) -> bool {
    matches!(request.op, Op::PutObject | Op::CompleteMultipartUpload) && !request.key.contains("_catchment/")
}

/// The first publishing request of each key that fits meets a fault.
fn once_a_key(
    bench: &Bench<'_>,
    fits: impl Fn(&Request) -> bool + Send + Sync + 'static,
    fault: impl Fn() -> Fault + Send + Sync + 'static,
) {
    let seen = Mutex::new(HashMap::<String, u32>::new());
    bench.store_state().set_faults(move |request| {
        if !publishes(request) || !fits(request) {
            return Fault::default();
        }
        let mut seen = seen.lock().expect("nothing panics here");
        let times = seen.entry(request.key.clone()).or_default();
        *times += 1;
        if *times == 1 { fault() } else { Fault::default() }
    });
}

/// A process comes so far that every lane has a window pinned, with its object visible or not, and is killed.
fn leave_pinned(bench: &Bench<'_>, visible: bool) -> Result<(), String> {
    let mut process = bench.program("member-1").spawn();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pinned = bench.pinned_keys();
        let versions = bench.store_state().versions();
        if pinned.len() == TOPICS && pinned.iter().all(|key| versions.contains_key(key) == visible) {
            // The record of a raw upload is written between pin and Complete, and each lane is asked to publish before it waits.
            if visible || pinned.iter().all(|key| bench.was_asked_to_publish(key)) {
                process.kill();
                return Ok(());
            }
        }
        if let Some(status) = process.poll() {
            return Err(format!("preparing, it ended: {status}; {}", super::bench::tail(&process.stderr())));
        }
        if Instant::now() > deadline {
            return Err(format!("not every lane was pinned: {pinned:?}; {}", super::bench::tail(&process.stderr())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
