//! On what a run was made: figures of different machines are different figures.

use serde::{Deserialize, Serialize};

/// A machine and the programs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Cores that this process may use.
    pub cores: u64,
    /// What the processor calls itself.
    pub cpu: String,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// What `catchment --version` says.
    pub catchment: String,
    /// Version of this program.
    pub loadtest: String,
    /// Version of the Kafka client in this program.
    pub librdkafka: String,
}

impl Environment {
    /// This machine, with a `catchment` of that version.
    pub fn here(catchment: String) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u64),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            memory_bytes: memory(&read("/proc/meminfo")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            catchment,
            loadtest: env!("CARGO_PKG_VERSION").to_owned(),
            librdkafka: rdkafka::util::get_rdkafka_version().1,
        }
    }
}

/// What stands behind `name :` in a text.
fn field(text: &str, name: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split_once(':').filter(|(found, _)| found.trim() == name));
    values.map(|(_, value)| value.trim().to_owned()).next()
}

fn memory(text: &str) -> u64 {
    let kib = field(text, "MemTotal").and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_understood() {
        assert_eq!(field("processor\t: 0\nmodel name\t: A CPU @ 3: fast\n", "model name").as_deref(), Some("A CPU @ 3: fast"));
        assert_eq!((memory("MemFree: 1 kB\nMemTotal:   2048 kB\n"), memory("")), (2 << 20, 0));
        let here = Environment::here("catchment 0.1.0".to_owned());
        assert!(here.cores > 0 && here.memory_bytes > 0 && !here.kernel.is_empty() && here.librdkafka.contains('.'), "{here:?}");
    }
}
