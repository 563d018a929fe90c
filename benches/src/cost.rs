//! What a child process cost: CPU time and peak memory, as the kernel counted them.
#![expect(unsafe_code, reason = "wait4 is the only call that answers the resources of one child")]

use std::io::Read as _;
use std::process::{Command, Stdio};

/// Resources of one finished process.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// User and system CPU time in seconds.
    pub cpu_s: f64,
    /// Peak resident memory in MiB.
    pub peak_mib: f64,
}

/// Runs a command to its end; answers what it cost, and what it wrote to standard output.
///
/// # Panics
/// If it cannot be started or does not succeed: a benchmark of a failure is worth nothing.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
pub fn run(command: &mut Command) -> (Cost, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the command starts");
    let mut said = String::new();
    child.stdout.take().expect("stdout is piped").read_to_string(&mut said).expect("it speaks UTF-8");
    let pid = i32::try_from(child.id()).expect("pids are i32");
    let mut status = 0;
    // SAFETY: rusage is plain data for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pid is our child's, which nobody else waits for; both pointers are to live values.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert!(waited == pid && status == 0, "{command:?} ended with status {status}");
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    let cost = Cost { cpu_s: seconds(usage.ru_utime) + seconds(usage.ru_stime), peak_mib: usage.ru_maxrss as f64 / 1024.0 };
    (cost, said)
}
