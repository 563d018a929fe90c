//! The `catchment` binary as a child process: arguments in, output and exit code out, signals by pid, peak memory.
//!
//! Which binary: `CATCHMENT_BIN`, which `scripts/test` sets to the one that it built, else the one that `cargo build` makes now. A stale
//! binary is never run by mistake.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stopwatch::Stopwatch;

/// How often a wait looks again.
const TICK: Duration = Duration::from_millis(10);

/// How long a stopwatch's witness may take to note what it overslept.
const WITNESSED: Duration = Duration::from_millis(100);

/// The features of the engine that is built for tests alone: one build for both of its binaries, each of which uses its half.
const ARMED: &str = "catchment/crash-points,catchment-tests/sabotage";

/// The path of the binary under test.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("CATCHMENT_BIN").map_or_else(|| build(&["--bin", "catchment"]), PathBuf::from))
}

/// The path of the binary with crash points. It lies beside the one under test, which has none.
pub fn crashing_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let build = || build(&["--features", ARMED, "--example", "catchment-crashing"]);
    BINARY.get_or_init(|| std::env::var_os("CATCHMENT_CRASHING_BIN").map_or_else(build, PathBuf::from))
}

/// The path of this harness with an engine whose guards can be taken out.
pub fn sabotaged_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let build = || build(&["--features", ARMED, "--bin", "sabotaged"]);
    BINARY.get_or_init(|| std::env::var_os("CATCHMENT_SABOTAGED_BIN").map_or_else(build, PathBuf::from))
}

/// The path of a binary of the benches. It lies beside the one under test.
pub fn bench_binary(name: &str) -> PathBuf {
    let beside = binary().with_file_name(name);
    if beside.exists() { beside } else { build(&["--bin", name]) }
}

/// Builds what the last of these arguments names.
fn build(target: &[&str]) -> PathBuf {
    let name = target.last().expect("a target is named");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // --workspace: the features that the tests are built with, so that dependencies are not built a second time.
    let out = Command::new(cargo)
        .args(["build", "--release", "--workspace", "--message-format=json"])
        .args(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|e| panic!("cannot run cargo: {e}"));
    assert!(out.status.success(), "the binary under test does not build");
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == *name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable that it built")
}

/// What begins the names of variables that the program reads.
const OURS: [&str; 4] = ["AWS_", "CATCHMENT_", "OTEL_", "TENCENTCLOUD_"];

/// A command line of the program under test. Variables that could point it at a real account or collector are taken out.
#[derive(Debug)]
pub struct Program {
    command: Command,
}

impl Program {
    /// `catchment ARGS...`
    pub fn new<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::of(binary(), args)
    }

    /// The same of another binary.
    pub fn of<S: AsRef<OsStr>>(binary: &Path, args: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(binary);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| OURS.iter().any(|prefix| name.starts_with(prefix))) {
                command.env_remove(name);
            }
        }
        Self { command }
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self {
        self.command.envs(variables);
        self
    }

    /// The same program, run by another: `sh -c '...; exec "$0" "$@"'`.
    pub fn within(self, wrapper: &[&str]) -> Self {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// The directory to run in.
    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Starts it.
    pub fn spawn(mut self) -> Process {
        let line: Vec<OsString> = self.command.get_args().map(OsStr::to_owned).collect();
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("cannot run {:?}: {e}", self.command.get_program()));
        let stdout = Capture::of(child.stdout.take().expect("stdout is piped"));
        let stderr = Capture::of(child.stderr.take().expect("stderr is piped"));
        Process { child, line, stdout, stderr, ended: None }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it has not ended after `limit`, with what it said so far.
    pub fn run(self, limit: Duration) -> Exit {
        self.spawn().wait(limit)
    }
}

/// How a process ended, and what it said.
#[derive(Clone, Debug)]
pub struct Exit {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Exit {
    /// The exit code; `None` after a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails unless the code is `expected`, with everything that the program said.
    #[track_caller]
    pub fn assert_code(&self, expected: i32) -> &Self {
        assert_eq!(self.code(), Some(expected), "{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr);
        self
    }
}

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    line: Vec<OsString>,
    stdout: Capture,
    stderr: Capture,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    /// Sends a signal. Nothing happens if it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.poll().is_none() {
            kill(Pid::from_raw(self.pid()), signal).unwrap_or_else(|e| panic!("cannot send {signal}: {e}"));
        }
    }

    /// SIGKILL, waited for.
    pub fn kill(mut self) -> Exit {
        self.signal(Signal::SIGKILL);
        self.wait(Duration::from_secs(60))
    }

    /// SIGTERM, waited for up to `limit`.
    pub fn terminate(mut self, limit: Duration) -> Exit {
        self.signal(Signal::SIGTERM);
        self.wait(limit)
    }

    /// SIGSTOP: it hangs, and its sessions run out.
    pub fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    /// How it ended, if it has.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// Waits for its end. The limit is one of time for which the machine was there: see [`Stopwatch`].
    ///
    /// # Panics
    /// If it has not ended after `limit`, with what it said so far.
    pub fn wait(mut self, limit: Duration) -> Exit {
        let watch = Stopwatch::start();
        loop {
            if let Some(status) = self.poll() {
                return Exit { status, stdout: self.stdout.finish(), stderr: self.stderr.finish() };
            }
            if watch.elapsed() >= limit {
                // After a standstill the watch's witness may not have noted yet what it overslept.
                std::thread::sleep(WITNESSED);
                assert!(watch.elapsed() < limit + WITNESSED, "{:?} did not end within {limit:?}{}", self.line, self.said());
            }
            std::thread::sleep(TICK);
        }
    }

    /// Waits until standard error has a line that contains `text`, and returns the line.
    ///
    /// # Panics
    /// If none came within `limit`, or the program ended without one.
    pub fn wait_for_stderr(&mut self, text: &str, limit: Duration) -> String {
        self.wait_for(text, limit, |process| &process.stderr)
    }

    /// Waits until standard output has a line that contains `text`, and returns the line.
    ///
    /// # Panics
    /// If none came within `limit`, or the program ended without one.
    pub fn wait_for_stdout(&mut self, text: &str, limit: Duration) -> String {
        self.wait_for(text, limit, |process| &process.stdout)
    }

    fn wait_for(&mut self, text: &str, limit: Duration, stream: fn(&Self) -> &Capture) -> String {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.poll(); // first: what it said last is then there to be read
            if ended.is_some() {
                stream(self).join();
            }
            if let Some(line) = stream(self).find(text, TICK) {
                return line;
            }
            assert!(ended.is_none(), "{:?} ended ({:?}) without saying {text:?}{}", self.line, ended, self.said());
            assert!(Instant::now() < deadline, "{:?} did not say {text:?} within {limit:?}{}", self.line, self.said());
        }
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Its peak resident memory so far, in bytes; 0 once it has ended.
    pub fn memory_peak_bytes(&self) -> u64 {
        status_number(self.pid(), "VmHWM:") << 10
    }

    /// Its resident memory now, in bytes; 0 once it has ended.
    pub fn memory_bytes(&self) -> u64 {
        status_number(self.pid(), "VmRSS:") << 10
    }

    /// How many threads it has.
    pub fn threads(&self) -> u64 {
        status_number(self.pid(), "Threads:")
    }

    /// How many file descriptors it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// The CPU time that it has used, user and system, all threads, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The fields after the name, which may hold spaces: utime and stime are the 14th and 15th of all.
        let fields: Vec<_> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks: f64 = fields.iter().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
        ticks / 100.0 // USER_HZ, fixed at 100 in what Linux shows to programs
    }

    fn said(&self) -> String {
        format!("\n--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number of `/proc/PID/status`, in the unit that it has there.
fn status_number(pid: i32, field: &str) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// One output stream, read by a thread of its own so that the program never waits for us.
#[derive(Debug)]
struct Capture {
    said: Arc<(Mutex<String>, Condvar)>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Capture {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let said = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let shared = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                shared.0.lock().expect("no holder panics").push_str(&String::from_utf8_lossy(&line));
                shared.1.notify_all();
                line.clear();
            }
        });
        Self { said, reader: Mutex::new(Some(reader)) }
    }

    fn text(&self) -> String {
        self.said.0.lock().expect("no holder panics").clone()
    }

    /// The first line that contains `text`, waiting once for more output for up to `wait`.
    fn find(&self, text: &str, wait: Duration) -> Option<String> {
        let line = |said: &str| said.lines().find(|line| line.contains(text)).map(str::to_owned);
        let said = self.said.0.lock().expect("no holder panics");
        line(&said).or_else(|| {
            let (said, _) = self.said.1.wait_timeout(said, wait).expect("no holder panics");
            line(&said)
        })
    }

    /// Waits until the stream has ended; not for long, as a child of the program may hold it open.
    fn join(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut reader = self.reader.lock().expect("no holder panics");
        while reader.as_ref().is_some_and(|r| !r.is_finished()) {
            if Instant::now() > deadline {
                return;
            }
            std::thread::sleep(TICK);
        }
        if let Some(reader) = reader.take() {
            reader.join().expect("the reader does not panic");
        }
    }

    fn finish(&self) -> String {
        self.join();
        self.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program { command }.spawn()
    }

    #[test]
    fn output_and_code_are_kept() {
        let exit = shell("echo out; echo err >&2; exit 7").wait(Duration::from_secs(10));
        assert_eq!((exit.code(), exit.stdout.as_str(), exit.stderr.as_str()), (Some(7), "out\n", "err\n"));
    }

    #[test]
    fn lines_are_seen_as_they_come() {
        let mut process = shell("echo one; exec sleep 30");
        assert_eq!(process.wait_for_stdout("on", Duration::from_secs(10)), "one");
        assert!(process.memory_peak_bytes() > 0 && process.open_files() > 0);
        assert_eq!(process.kill().code(), None);
    }

    #[test]
    #[should_panic(expected = "without saying")]
    fn a_line_that_never_comes_is_told() {
        shell("echo one").wait_for_stdout("two", Duration::from_secs(10));
    }

    #[test]
    #[should_panic(expected = "did not end within")]
    fn a_program_that_hangs_is_told() {
        shell("exec sleep 30").wait(Duration::from_millis(200));
    }

    #[test]
    fn a_frozen_program_stands_still_and_goes_on() {
        let mut process = shell("while :; do echo tick; sleep 0.02; done");
        process.wait_for_stdout("tick", Duration::from_secs(10));
        process.freeze();
        // What it had said comes yet; then nothing does.
        let stands_still = |process: &Process| {
            let before = process.stdout().len();
            std::thread::sleep(Duration::from_millis(300));
            process.stdout().len() == before
        };
        assert!((0..30).any(|_| stands_still(&process)));
        let before = process.stdout().len();
        process.thaw();
        assert!((0..30).any(|_| !stands_still(&process)));
        assert!(process.stdout().len() > before);
        assert_eq!(process.terminate(Duration::from_secs(5)).code(), None);
    }
}
