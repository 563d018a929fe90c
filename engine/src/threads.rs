//! Threads: the process does not start where it may not have those that it needs.
//!
//! librdkafka has one for each broker of each client, and ends the process if it gets none; the runtime panics. Neither says which limit it was, and each is
//! in a place where nothing can be done about it. So it is found out first, by starting as many as are needed at the same time: limits of users, of cgroups
//! and of the kernel are seen alike that way, and only the first of them could be asked for.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::error::{Error, ErrorKind, Result, codes};

/// Threads beside the first that a process which backs up must be able to have: two dozen for a rule and a broker, and some for the brokers of a small cluster.
/// Less lets one start that ends at its second broker; more refuses a container that has room enough.
pub const THREADS_MIN: usize = 64;

/// The same of a process that only reads: a runtime, one client of Kafka, calls that block.
pub const THREADS_TO_READ: usize = 16;

/// The stack of a thread that does nothing, in bytes.
const IDLE_STACK_BYTES: usize = 64 << 10;

/// Makes sure that this process may have so many threads more.
///
/// # Errors
/// `C0122` if it may not.
pub fn provide(needed: usize) -> Result<()> {
    start_at_once(needed, |gate| Builder::new().name("trial".into()).stack_size(IDLE_STACK_BYTES).spawn(move || drop(pass(&gate))))
        .map_err(|(started, why)| too_few(started, needed, why))
}

/// Starts so many threads, none of which ends before the last is there, and waits for their end. If one cannot be started: how many could be, and why not.
fn start_at_once(
    needed: usize,
    start: impl Fn(Arc<Mutex<()>>) -> io::Result<JoinHandle<()>>,
) -> std::result::Result<(), (usize, io::Error)> {
    let gate = Arc::new(Mutex::new(()));
    let closed = pass(&gate);
    let (mut started, mut refused) = (Vec::with_capacity(needed), None);
    while started.len() < needed && refused.is_none() {
        match start(Arc::clone(&gate)) {
            Ok(thread) => started.push(thread),
            Err(why) => refused = Some(why),
        }
    }
    drop(closed);
    let count = started.len();
    // Their ends count: whoever starts threads next wants their places.
    started.into_iter().for_each(|thread| drop(thread.join()));
    refused.map_or(Ok(()), |why| Err((count, why)))
}

fn pass(gate: &Mutex<()>) -> MutexGuard<'_, ()> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_few(started: usize, needed: usize, why: io::Error) -> Error {
    Error::new(codes::FEW_THREADS, ErrorKind::Denied, "this process may have too few threads")
        .with("possible", started)
        .with("needed", needed)
        .because(why)
        .help("raise the limit: ulimit -u of this user, TasksMax= of a systemd unit, pids.max of the cgroup (--pids-limit of a container)")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn threads_that_can_be_had_are_all_there_at_once_and_gone_afterwards() {
        let (alive, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = |gate: Arc<Mutex<()>>| {
            let (alive, most) = (Arc::clone(&alive), Arc::clone(&most));
            most.fetch_max(alive.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Builder::new().spawn(move || {
                drop(pass(&gate));
                alive.fetch_sub(1, Ordering::SeqCst);
            })
        };
        start_at_once(8, counted).unwrap();
        assert_eq!((alive.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 8));
        provide(THREADS_TO_READ).unwrap();
    }

    #[test]
    fn a_thread_that_is_refused_is_named_with_what_could_be_had() {
        let left = AtomicUsize::new(5);
        let limited = |gate: Arc<Mutex<()>>| match left.load(Ordering::SeqCst) {
            0 => Err(io::Error::from(io::ErrorKind::WouldBlock)),
            n => {
                left.store(n - 1, Ordering::SeqCst);
                Builder::new().spawn(move || drop(pass(&gate)))
            }
        };
        let (started, why) = start_at_once(8, limited).unwrap_err();
        assert_eq!(started, 5);
        let error = too_few(started, 8, why);
        assert!(error.code == codes::FEW_THREADS && error.help.is_some() && error.cause.is_some(), "{error}");
    }
}
