//! How long something took on this machine: the wall clock's time, less the time for which the machine stood still.
//!
//! A promise of seconds is one of the program. A host that gives a virtual machine's processors to others for a while breaks no promise of it, and fails no test
//! of one. What is taken off is what the kernel counts as stolen, or by how much a thread overslept that does nothing but sleep, whichever is more; on a
//! machine that is nobody else's that is nothing. What the tests themselves have the machine do is not taken off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the witness sleeps at a time.
const NAP: Duration = Duration::from_millis(10);

/// By how much it may oversleep on a machine that is busy and does not stand still.
const OVERSLEPT: Duration = Duration::from_millis(100);

/// The kernel's ticks in a second, which Linux gives to programs.
const TICKS_PER_SECOND: u64 = 100;

/// What the witness has seen.
#[derive(Debug, Default)]
struct Seen {
    stood_still_us: AtomicU64,
    is_over: AtomicBool,
}

/// Runs from when it is made.
#[derive(Debug)]
pub struct Stopwatch {
    began: Instant,
    stolen: Duration,
    seen: Arc<Seen>,
    witness: Option<JoinHandle<()>>,
}

impl Stopwatch {
    /// Starts one.
    pub fn start() -> Self {
        let seen = Arc::new(Seen::default());
        let witness = std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || watch(&seen)
        });
        Self { began: Instant::now(), stolen: stolen(), seen, witness: Some(witness) }
    }

    /// The time since then for which the machine was there.
    pub fn elapsed(&self) -> Duration {
        let overslept = Duration::from_micros(self.seen.stood_still_us.load(Ordering::SeqCst));
        self.began.elapsed().saturating_sub(overslept.max(stolen().saturating_sub(self.stolen)))
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Ordering::SeqCst);
        if let Some(witness) = self.witness.take() {
            witness.join().expect("the witness does not panic");
        }
    }
}

fn watch(seen: &Seen) {
    while !seen.is_over.load(Ordering::SeqCst) {
        let began = Instant::now();
        std::thread::sleep(NAP);
        let overslept = began.elapsed().saturating_sub(NAP);
        if overslept > OVERSLEPT {
            seen.stood_still_us.fetch_add(u64::try_from(overslept.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }
}

/// Processor time that the host has given to others since the machine started, of each processor on average.
fn stolen() -> Duration {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    stolen_in(&stat) / processors
}

/// The sum of all processors: the eighth number of the first line, in ticks.
fn stolen_in(stat: &str) -> Duration {
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu "));
    let ticks = line.and_then(|line| line.split_whitespace().nth(7)?.parse::<u64>().ok()).unwrap_or_default();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_had_of_the_processors_is_the_eighth_number() {
        let stat = "cpu  100 2 300 4000 50 6 7 250 0 0\ncpu0 50 1 150 2000 25 3 3 125 0 0\n";
        assert_eq!(stolen_in(stat), Duration::from_millis(2_500));
        assert_eq!(stolen_in(""), Duration::ZERO);
        assert_eq!(stolen_in("cpu  100 2 300 4000"), Duration::ZERO);
    }

    #[test]
    fn a_stopwatch_runs_while_the_machine_does() {
        let wall = Instant::now();
        let watch = Stopwatch::start();
        std::thread::sleep(Duration::from_millis(300));
        let took = watch.elapsed();
        let wall = wall.elapsed();
        assert!(took <= wall, "{took:?} of {wall:?}");
        watch.seen.stood_still_us.fetch_add(200_000, Ordering::SeqCst);
        assert!(watch.elapsed() + Duration::from_millis(200) <= watch.began.elapsed(), "what was overslept is taken off");
    }
}
