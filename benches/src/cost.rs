//! What a child process cost: CPU time, peak memory and page faults, as the kernel counted them.
//!
//! Its place: every engine and every drain of a round is run by [`run`], watched in the same way, so that neither has an advantage. Peak memory is the
//! child's only if it is more than its parent's at the start, since the kernel's figure outlives `exec`: whoever measures stays small.
//!
//! What it does not do: it sets no limits and kills nothing; a command that hangs is waited for.
#![expect(unsafe_code, reason = "wait4 is the only call that answers the resources of one child")]

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};

use crate::Failure;
use crate::roles::{self, Roles};

/// Resources of one finished process.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// User and system CPU time in seconds.
    pub cpu_s: f64,
    /// Peak resident memory in MiB.
    pub peak_mib: f64,
    /// Page faults that needed no disk: memory that was touched for the first time.
    pub minor_faults: u64,
    /// CPU seconds by the role of its threads. Together they are less than `cpu_s` by what was not seen before a thread had ended.
    pub roles: Roles,
}

/// Runs a command to its end; answers what it cost, and what it wrote to standard output.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<(Cost, String), Failure> {
    let name = name_of(command);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| Failure::Asked(format!("{name} cannot be started: {e}")))?;
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut said = Vec::new();
    let (read, roles) = roles::watch(child.id(), || stdout.read_to_end(&mut said));
    let (status, usage) = wait(child.id()).map_err(|e| Failure::Tried(format!("{name} cannot be waited for: {e}")))?;
    read.map_err(|e| Failure::Tried(format!("what {name} says cannot be read: {e}")))?;
    if !status.success() {
        return Err(Failure::Tried(format!("{name} ended with {status}")));
    }
    Ok((cost(&usage, roles), String::from_utf8_lossy(&said).into_owned()))
}

/// The program and its first argument, which is its verb.
fn name_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args().take(1));
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn wait(pid: u32) -> std::io::Result<(ExitStatus, libc::rusage)> {
    let pid = i32::try_from(pid).expect("pids are i32");
    let mut status = 0;
    // SAFETY: rusage is plain data for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pid is our child's, which nobody else waits for; both pointers are to live values.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    if waited == pid { Ok((ExitStatus::from_raw(status), usage)) } else { Err(std::io::Error::last_os_error()) }
}

fn cost(usage: &libc::rusage, roles: Roles) -> Cost {
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    Cost {
        cpu_s: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        peak_mib: usage.ru_maxrss as f64 / 1024.0,
        minor_faults: usage.ru_minflt.unsigned_abs(),
        roles,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<(Cost, String), Failure> {
        run(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn what_a_child_says_and_costs_is_known() {
        let (cost, said) = shell("i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; echo done").unwrap();
        assert_eq!(said, "done\n");
        assert!(cost.cpu_s > 0.0 && cost.cpu_s < 60.0, "{cost:?}");
        assert!(cost.peak_mib > 0.1 && cost.minor_faults > 0, "{cost:?}");
    }

    #[test]
    fn a_child_that_fails_costs_nothing() {
        assert_eq!(shell("exit 7").unwrap_err(), Failure::Tried("sh -c ended with exit status: 7".into()));
        assert!(matches!(run(&mut Command::new("/nowhere/engine")).unwrap_err(), Failure::Asked(_)));
    }
}
