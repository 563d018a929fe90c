//! A memory cgroup: a process in it is ended by the kernel when it passes the limit.
//!
//! Version 2 where the memory controller is handed down to this machine's groups, else version 1. Where neither may be made, [`MemoryGroup::new`]
//! says why; what the caller then measures is the process's own peak.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::Program;

/// A group that is removed when dropped.
#[derive(Debug)]
pub struct MemoryGroup {
    dir: PathBuf,
    version: u8,
}

impl MemoryGroup {
    /// A group with this limit in bytes, swap included where the kernel counts it.
    ///
    /// # Errors
    /// If no group can be made, and why.
    pub fn new(limit: u64) -> Result<Self, String> {
        let name = format!("catchment-test-{}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let v2 = || Self::make(root.join(&name), 2, &[("memory.max", limit), ("memory.swap.max", 0)]);
        let v1 = || Self::make(root.join("memory").join(&name), 1, &[("memory.limit_in_bytes", limit)]);
        if root.join("cgroup.controllers").exists() { v2() } else { v1() }
    }

    fn make(dir: PathBuf, version: u8, limits: &[(&str, u64)]) -> Result<Self, String> {
        fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let group = Self { dir, version };
        for (file, limit) in limits {
            let path = group.dir.join(file);
            // Swap may not be counted by this kernel; the limit itself must be there.
            let optional = file.contains("swap") && !path.exists();
            if !optional {
                fs::write(&path, limit.to_string()).map_err(|e| format!("{}: {e}", path.display()))?;
            }
        }
        Ok(group)
    }

    /// 1 or 2.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// `program` in the group from its first instruction on.
    pub fn program(&self, program: Program) -> Program {
        program.within(&["sh", "-c", &format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", self.dir.display())])
    }

    /// The most memory that the group has had, in bytes; page cache that the kernel would give back is part of it.
    pub fn peak(&self) -> Option<u64> {
        let file = if self.version == 2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        fs::read_to_string(self.dir.join(file)).ok()?.trim().parse().ok()
    }

    /// How often the kernel has ended a process of the group for its memory.
    pub fn kills(&self) -> u64 {
        let file = if self.version == 2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A group with a process in it cannot be removed; the next run has another name.
        let _ = fs::remove_dir(&self.dir);
    }
}
