//! CPU time of a running process by the role of its threads: what the table says about where the engine's time goes.
//!
//! A role is a thread's name without its number: `consumer-0` and `consumer-1` are `consumer`, librdkafka's `rdk:broker1` is `rdk:broker`. The first
//! thread is `main`, whatever it is called. Threads are looked at several times a second while the process runs, and the last value of each is kept.
//!
//! What it does not know: what a thread did after the last look at it. That is at most [`LOOK`] of its time, and nothing of the process's sum, which the
//! kernel counts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// CPU seconds by role.
pub type Roles = BTreeMap<String, f64>;

/// How often threads are looked at. A look at two dozen of them takes about a millisecond, of another process's time.
pub const LOOK: Duration = Duration::from_millis(100);

/// Looks at the threads of a process for as long as `wait` waits for its end; answers what `wait` does, and what each role cost.
///
/// # Panics
/// If no thread can be started to look.
pub fn watch<T>(pid: u32, wait: impl FnOnce() -> T) -> (T, Roles) {
    let (running, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let mut threads = Threads::default();
            loop {
                threads.look(pid);
                if ended.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                    return threads.roles();
                }
            }
        });
        let waited = wait();
        drop(running);
        (waited, watcher.join().expect("looking does not panic"))
    })
}

/// The threads of a process that were seen, by id: their roles, and their CPU time in nanoseconds when they were seen last.
#[derive(Default)]
struct Threads(BTreeMap<u32, (String, u64)>);

impl Threads {
    /// Threads that end meanwhile are passed over: they keep the value that they had before.
    fn look(&mut self, pid: u32) {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return };
        for task in tasks.flatten() {
            let Some(thread) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some((name, cpu_ns)) = read(&task.path()) {
                // A thread has its parent's name until it has set its own, so the last name counts too.
                let role = if thread == pid { "main".to_owned() } else { role(&name) };
                self.0.insert(thread, (role, cpu_ns));
            }
        }
    }

    fn roles(self) -> Roles {
        let mut roles = Roles::new();
        for (role, cpu_ns) in self.0.into_values() {
            *roles.entry(role).or_default() += cpu_ns as f64 / 1e9;
        }
        roles
    }
}

/// A thread's name and its CPU time in nanoseconds.
fn read(task: &Path) -> Option<(String, u64)> {
    let text = |file: &str| std::fs::read_to_string(task.join(file)).ok();
    Some((text("comm")?, on_cpu_ns(&text("schedstat")?)?))
}

/// The first number of `schedstat` is the time on a CPU, the second the time in a run queue, the third the number of turns.
fn on_cpu_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// A name without its number and what joins the two. The kernel cuts names after 15 bytes.
pub(crate) fn role(name: &str) -> String {
    name.trim().trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_role_is_a_name_without_its_number() {
        for (name, expected) in [
            ("consumer-0\n", "consumer"),
            ("builder-12\n", "builder"),
            ("rdk:broker1\n", "rdk:broker"),
            ("rdk:broker-1\n", "rdk:broker"), // a broker by its bootstrap address
            ("rdk:main\n", "rdk:main"),
            ("upload\n", "upload"),
        ] {
            assert_eq!(role(name), expected);
        }
    }

    #[test]
    fn only_time_on_a_cpu_counts() {
        assert_eq!((on_cpu_ns("156923 4498644 2\n"), on_cpu_ns("")), (Some(156_923), None));
    }

    #[test]
    fn threads_of_one_role_are_added_and_ended_ones_stay() {
        let mut threads = Threads::default();
        threads.0.insert(1, ("main".into(), 5));
        threads.0.insert(2, ("consumer".into(), 1_000_000_000));
        threads.0.insert(3, ("consumer".into(), 500_000_000));
        threads.look(u32::MAX); // nobody has this id
        assert_eq!(threads.roles(), Roles::from([("consumer".into(), 1.5), ("main".into(), 5e-9)]));
    }

    #[test]
    fn a_busy_thread_is_seen_by_its_name() {
        let ((), roles) = watch(std::process::id(), || {
            let busy = || {
                let began = Instant::now();
                while began.elapsed() < 4 * LOOK {
                    std::hint::spin_loop();
                }
            };
            std::thread::Builder::new().name("busy-7".into()).spawn(busy).unwrap().join().unwrap();
        });
        assert!(roles.get("busy").is_some_and(|seconds| *seconds > 0.0), "{roles:?}");
    }
}
