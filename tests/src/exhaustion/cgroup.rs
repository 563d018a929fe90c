//! Cgroups: of memory, where a process is ended by the kernel when it passes the limit, and of threads, which it is refused beyond the limit, whoever it is.
//!
//! Version 2 where the controller is handed down to this machine's groups, else version 1; made as root, by sudo if it must be. Where neither may be made,
//! [`MemoryGroup::new`] and [`ThreadGroup::new`] say why; what a caller then measures is the process's own peak, or nothing. In continuous integration
//! that is not enough, unless somebody has said so ([`is_required`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::as_root;
use crate::process::Program;

/// Says that a machine of continuous integration may go without groups.
const WITHOUT: &str = "CATCHMENT_TEST_WITHOUT_CGROUP";

/// A group of one controller, removed when dropped.
#[derive(Debug)]
struct Group {
    dir: PathBuf,
    version: u8,
}

/// Whether a run without a group has failed: where `CI` is set, and nothing says that there are none.
pub fn is_required() -> bool {
    std::env::var_os("CI").is_some() && std::env::var_os(WITHOUT).is_none()
}

impl Group {
    /// A group with these limits, which depend on the version: files of it, and what they are to hold.
    fn new(controller: &str, limits: impl FnOnce(u8) -> Vec<(&'static str, u64)>) -> Result<Self, String> {
        // Several tests of one process have groups at a time.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("catchment-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::SeqCst));
        let root = Path::new("/sys/fs/cgroup");
        let (dir, version) = if root.join("cgroup.controllers").exists() {
            // Refused where it is handed down already, or where this machine's groups are not ours; the limit then tells.
            let _ = write(&root.join("cgroup.subtree_control"), &format!("+{controller}"));
            (root.join(&name), 2)
        } else {
            (root.join(controller).join(&name), 1)
        };
        as_root(&["mkdir", &dir.to_string_lossy()])?;
        let group = Self { dir, version };
        for (file, limit) in limits(version) {
            let path = group.dir.join(file);
            // Swap may not be counted by this kernel; the limit itself must be there.
            let is_optional = file.contains("sw") && !path.exists();
            if !is_optional {
                write(&path, &limit.to_string())?;
            }
        }
        Ok(group)
    }

    /// `program` in the group from its first instruction on.
    fn program(&self, program: Program) -> Program {
        let procs = self.dir.join("cgroup.procs");
        let procs = procs.display();
        let enter = format!("{{ echo $$ > {procs}; }} 2> /dev/null || echo $$ | sudo -n tee {procs} > /dev/null");
        program.within(&["sh", "-c", &format!("{{ {enter}; }} && exec \"$0\" \"$@\"")])
    }

    /// The number behind `name` in a file of the group.
    fn counted(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group with a process in it cannot be removed; the next run has another name.
        let _ = as_root(&["rmdir", &self.dir.to_string_lossy()]);
    }
}

/// A group that may have so many threads, those of all its processes together.
#[derive(Debug)]
pub struct ThreadGroup(Group);

impl ThreadGroup {
    /// A group with this limit.
    ///
    /// # Errors
    /// If no group can be made, and why.
    pub fn new(limit: u64) -> Result<Self, String> {
        Group::new("pids", |_| vec![("pids.max", limit)]).map(Self)
    }

    /// `program` in the group from its first instruction on.
    pub fn program(&self, program: Program) -> Program {
        self.0.program(program)
    }

    /// How often the kernel has refused the group a thread.
    ///
    /// # Panics
    /// If the kernel does not count that.
    pub fn refused(&self) -> u64 {
        self.0.counted("pids.events", "max ").expect("kernels since 4.8 count it")
    }
}

/// A group with a limit of memory.
#[derive(Debug)]
pub struct MemoryGroup(Group);

impl MemoryGroup {
    /// A group with this limit in bytes, swap included where the kernel counts it.
    ///
    /// # Errors
    /// If no group can be made, and why.
    pub fn new(limit: u64) -> Result<Self, String> {
        let group = Self(Group::new("memory", |version| match version {
            2 => vec![("memory.max", limit), ("memory.swap.max", 0)],
            // Memory with swap comes second: it cannot be less than memory.
            _ => vec![("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", limit)],
        })?);
        match group.killed() {
            Some(_) => Ok(group),
            None => Err("the kernel does not count the processes that it ends".to_owned()),
        }
    }

    /// 1 or 2.
    pub fn version(&self) -> u8 {
        self.0.version
    }

    /// Whether swap counts, too.
    pub fn counts_swap(&self) -> bool {
        let file = if self.0.version == 2 { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
        self.0.dir.join(file).exists()
    }

    /// `program` in the group from its first instruction on.
    pub fn program(&self, program: Program) -> Program {
        self.0.program(program)
    }

    /// The most memory that the group has had, in bytes; page cache that the kernel would give back is part of it.
    pub fn peak(&self) -> Option<u64> {
        let file = if self.0.version == 2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        fs::read_to_string(self.0.dir.join(file)).ok()?.trim().parse().ok()
    }

    /// How often the kernel has ended a process of the group for its memory.
    ///
    /// # Panics
    /// If the kernel does not say so any more.
    pub fn kills(&self) -> u64 {
        self.killed().expect("it did when the group was made")
    }

    fn killed(&self) -> Option<u64> {
        let file = if self.0.version == 2 { "memory.events" } else { "memory.oom_control" };
        self.0.counted(file, "oom_kill ")
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).or_else(|_| as_root(&["sh", "-c", &format!("echo {text} > {}", path.display())]))
}
