//! The CPUs that this process may use, and how it is kept to some of them.
//!
//! Its place: at the beginning of a run that shows what another core is worth. Threads have the CPUs of whoever starts them: a process is kept to
//! some by its first thread, before it has others.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Failure;

/// The calling thread.
const THIS: i32 = 0;

/// The CPUs that the calling thread may use, in order; none if the kernel does not say.
pub fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(THIS)).unwrap_or_default();
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect()
}

/// Keeps the calling thread, and those that it starts from now on, to the first of its CPUs.
///
/// # Errors
/// If there are not so many, or the kernel refuses.
pub fn keep_to(count: usize) -> Result<(), Failure> {
    let allowed = allowed();
    if count == 0 || allowed.len() < count {
        return Err(Failure::Asked(format!("{count} CPUs are needed, and this process may use {}", allowed.len())));
    }
    let mut set = CpuSet::new();
    allowed[..count]
        .iter()
        .try_for_each(|cpu| set.set(*cpu))
        .and_then(|()| sched_setaffinity(Pid::from_raw(THIS), &set))
        .map_err(|e| Failure::Tried(format!("this process cannot be kept to {count} CPUs: {e}")))
}

/// Whether the calling thread may use the machine's first CPUs and no others: the engine pins its threads by those numbers.
pub fn are_first() -> bool {
    allowed().into_iter().enumerate().all(|(n, cpu)| n == cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_kept_to_some_of_its_cpus() {
        let all = allowed();
        assert!(!all.is_empty());
        let inside = std::thread::spawn(|| {
            keep_to(1).unwrap();
            let started = std::thread::spawn(allowed).join().unwrap();
            (allowed(), started, are_first())
        });
        let one = all[..1].to_vec();
        assert_eq!(inside.join().unwrap(), (one.clone(), one, all[0] == 0), "what it starts has the same");
        assert_eq!(allowed(), all, "nobody else is touched");
    }

    #[test]
    fn cpus_that_are_not_there_are_refused() {
        for count in [0, CpuSet::count() + 1] {
            assert!(matches!(keep_to(count), Err(Failure::Asked(_))), "{count}");
        }
    }
}
