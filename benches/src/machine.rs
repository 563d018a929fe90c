//! The machine that a run was measured on, as far as it matters for its figures. It has no name here: figures are published.

use std::fmt;

use serde::Serialize;

/// A machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// This one. What it does not tell stays empty.
    pub fn this() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory_kib = field(&text("/proc/meminfo"), "MemTotal").split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
        Self {
            cpu: field(&text("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// The first `name: value`.
fn field(text: &str, name: &str) -> String {
    let value = |line: &str| line.strip_prefix(name)?.trim_start().strip_prefix(':').map(|value| value.trim().to_owned());
    text.lines().find_map(value).unwrap_or_default()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores, {} MiB, Linux {}", self.cpu, self.cores, self.memory_mib, self.kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: A CPU: fast\nMemTotal:       1024 kB\n";
        assert_eq!((field(text, "model name"), field(text, "MemTotal")), ("A CPU: fast".into(), "1024 kB".into()));
        assert_eq!(field(text, "flags"), "");
    }

    #[test]
    fn this_machine_has_cores_and_memory() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty(), "{machine}");
    }
}
