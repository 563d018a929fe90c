//! What a process costs while it runs: CPU, memory and, by its metrics, how much it has read.
//!
//! Once a second from `/proc` and from the program's own `/metrics`. What cannot be read is left out; nothing is made up.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::catchment::Backup;

/// How often.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait for the metrics; the process that is measured may be busy.
const METRICS_WAIT: Duration = Duration::from_millis(400);

/// What Linux counts CPU time in towards programs (USER_HZ): always hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// One moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the test began.
    pub at_s: f64,
    /// CPU time in the last interval, in hundredths of one core.
    pub cpu_percent: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Bytes of keys, values and headers read from Kafka, in a second of the last interval. Absent if the run was not verified.
    pub read_bytes_per_s: Option<f64>,
    /// Records in stored objects so far. Absent if the run was not verified.
    pub stored_records: Option<u64>,
    /// Records that are committed in Kafka and not stored yet. Absent if the run was not verified.
    pub lag_records: Option<u64>,
}

/// Samples one process.
#[derive(Debug)]
pub struct Sampler {
    began: Instant,
    last_at: Duration,
    last: Counters,
}

/// Totals of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters {
    cpu_s: f64,
    read_bytes: Option<f64>,
}

impl Sampler {
    /// For a process that starts now, in a test that began then.
    pub fn new(began: Instant) -> Self {
        Self { began, last_at: began.elapsed(), last: Counters { cpu_s: 0.0, read_bytes: Some(0.0) } }
    }

    /// Whether it is time for a sample.
    pub fn is_due(&self) -> bool {
        self.began.elapsed() >= self.last_at + INTERVAL
    }

    /// Takes a sample, unless the process is gone. `stored_before` counts what earlier processes stored.
    pub fn take(&mut self, backup: &Backup, stored_before: u64, committed: u64) -> Option<Sample> {
        let pid = backup.pid();
        let cpu_s = cpu_seconds(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        let rss_bytes = memory_bytes(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")?;
        let read_bytes = backup.metrics().and_then(read_bytes);
        let at = self.began.elapsed();
        let seconds = (at - self.last_at).as_secs_f64().max(1e-3);
        let read = read_bytes.zip(self.last.read_bytes).map(|(now, before)| (now - before).max(0.0) / seconds);
        let stored = stored_before + backup.stored_records();
        let sample = Sample {
            at_s: at.as_secs_f64(),
            cpu_percent: (cpu_s - self.last.cpu_s).max(0.0) / seconds * 100.0,
            rss_bytes,
            read_bytes_per_s: read,
            stored_records: Some(stored),
            lag_records: Some(committed.saturating_sub(stored)),
        };
        (self.last_at, self.last) = (at, Counters { cpu_s, read_bytes });
        Some(sample)
    }
}

/// User and system time by `/proc/PID/stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name may hold spaces and brackets: fields are counted from its last bracket. utime and stime are the 14th and 15th of all.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// The most memory that a process has had resident so far; none if it is gone.
///
/// The kernel's own count at its end (`ru_maxrss`) would not do: it begins with what this process had when it started the other one.
pub fn peak_rss_bytes(pid: u32) -> Option<u64> {
    memory_bytes(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM:")
}

/// A size by `/proc/PID/status`.
fn memory_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// The counter of bytes that were read.
fn read_bytes(address: SocketAddr) -> Option<f64> {
    counter(&page(address).ok()?, "catchment_read_bytes_total")
}

fn page(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, METRICS_WAIT)?;
    stream.set_read_timeout(Some(METRICS_WAIT))?;
    stream.set_write_timeout(Some(METRICS_WAIT))?;
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The sum of a counter's samples on a page.
fn counter(page: &str, name: &str) -> Option<f64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
        let value = rest.rsplit_once('}').map_or(rest, |(_, value)| value);
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_whatever_the_process_is_called() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("42 nothing"), None);
        let status = "Name:\ta\nVmHWM:\t  9 kB\nVmRSS:\t  2048 kB\n";
        assert_eq!((memory_bytes(status, "VmRSS:"), memory_bytes(status, "VmHWM:")), (Some(2 << 20), Some(9 << 10)));
        assert_eq!(memory_bytes("Name:\ta\n", "VmRSS:"), None, "a process that is gone has none");
    }

    #[test]
    fn this_process_can_be_read() {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
        assert!(cpu_seconds(&stat).is_some_and(|seconds| seconds >= 0.0));
        assert!(peak_rss_bytes(std::process::id()).is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn a_counter_is_found_among_others() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# TYPE a counter\nab_total 7\na_total 12\na_total{x=\"} 1\"} 3.5 1700\n# EOF\n";
        assert_eq!(counter(page, "a_total"), Some(15.5));
        assert_eq!(counter(page, "c_total"), None);
    }
}
