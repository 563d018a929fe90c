//! `catchment` as a child process: its version, a verification, a backup that is watched while it runs.
//!
//! Place: a load test measures the program that is shipped, as it is shipped; nothing of the engine is linked in here.
//!
//! Guarantee: a backup that is dropped is killed and waited for.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::failure::{Failure, Result};

/// Lines of standard error that are kept for an error message.
const LINES_KEPT: usize = 12;

/// The program.
#[derive(Clone, Debug)]
pub struct Catchment {
    path: PathBuf,
}

/// An object that was stored, as the program says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Window {
    /// Its records.
    pub records: u64,
    /// Its size.
    pub bytes: u64,
    /// From the window's close to the object, in milliseconds; below 0 if it was closed before its time.
    pub delay_ms: i64,
}

impl Catchment {
    /// The program at this path, or beside this one.
    ///
    /// # Errors
    /// If it is not there.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => std::env::current_exe()
                .map_err(|e| Failure::new("the program's own path is not known").because(e))?
                .with_file_name("catchment"),
        };
        if path.is_file() {
            return Ok(Self { path });
        }
        Err(Failure::usage(format!("there is no program {}", path.display())).help("name it with --catchment PATH or CATCHMENT_BIN"))
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.path);
        // Its messages are read here.
        command.args(arguments).stdin(Stdio::null()).env_remove("CATCHMENT_LOG").env_remove("CATCHMENT_LOG_FORMAT");
        command
    }

    fn unstartable(&self, e: &std::io::Error) -> Failure {
        Failure::new(format!("{} cannot be started", self.path.display())).because(e).help("name the program with --catchment PATH")
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn output(&self, arguments: &[String]) -> Result<Output> {
        self.command(arguments).output().map_err(|e| self.unstartable(&e))
    }

    /// What it says of itself, in one line.
    ///
    /// # Errors
    /// If it cannot be started, or is another program.
    pub fn version(&self) -> Result<String> {
        let output = self.output(&["--version".to_owned()])?;
        let said = String::from_utf8_lossy(&output.stdout).lines().map(str::trim).collect::<Vec<_>>().join(", ");
        if output.status.success() && said.starts_with("catchment ") {
            return Ok(said);
        }
        Err(Failure::usage(format!("{} is not catchment", self.path.display())).help("name the program with --catchment PATH"))
    }

    /// Starts a backup, which serves its metrics on a port of its own choice.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn backup(&self, arguments: &[String]) -> Result<Backup> {
        let mut command = self.command(arguments);
        command.args(["--metrics", "127.0.0.1:0", "--log-format", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| self.unstartable(&e))?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let stdout = child.stdout.take().map(|pipe| listen(pipe, &heard, Heard::window));
        let stderr = child.stderr.take().map(|pipe| listen(pipe, &heard, Heard::message));
        let mut backup = Backup { child, heard, listeners: Vec::new(), ended: None };
        for listener in [stdout, stderr].into_iter().flatten() {
            backup.listeners.push(listener.map_err(|e| Failure::new("a thread cannot be started").because(e).help("check ulimit -u"))?);
        }
        Ok(backup)
    }
}

/// What a backup has said so far.
#[derive(Debug, Default)]
struct Heard {
    windows: Vec<Window>,
    stored_records: u64,
    metrics: Option<SocketAddr>,
    is_running: bool,
    last_lines: VecDeque<String>,
}

impl Heard {
    fn window(&mut self, line: &str) {
        if let Ok(window) = serde_json::from_str::<Window>(line) {
            self.stored_records += window.records;
            self.windows.push(window);
        }
    }

    fn message(&mut self, line: &str) {
        if self.metrics.is_none() {
            self.metrics = line.split_once("metrics at http://").and_then(|(_, rest)| rest.split_once('/')?.0.parse().ok());
        }
        self.is_running |= line.contains("backup runs");
        if self.last_lines.len() == LINES_KEPT {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line.to_owned());
    }
}

fn listen(pipe: impl Read + Send + 'static, heard: &Arc<Mutex<Heard>>, take: fn(&mut Heard, &str)) -> std::io::Result<JoinHandle<()>> {
    let heard = Arc::clone(heard);
    let listen = move || {
        for line in BufReader::new(pipe).lines().map_while(|line| line.ok()) {
            take(&mut heard.lock().unwrap_or_else(PoisonError::into_inner), &line);
        }
    };
    std::thread::Builder::new().name("listener".into()).spawn(listen)
}

/// A backup that runs.
#[derive(Debug)]
pub struct Backup {
    child: Child,
    heard: Arc<Mutex<Heard>>,
    listeners: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Backup {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its metrics are, once it has said so.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.heard().metrics
    }

    /// Whether it has begun to read.
    pub fn is_running(&self) -> bool {
        self.heard().is_running
    }

    /// Records in the objects that it has stored.
    pub fn stored_records(&self) -> u64 {
        self.heard().stored_records
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn has_ended(&mut self) -> Result<bool> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().map_err(|e| Failure::new("the backup cannot be waited for").because(e))?;
        }
        Ok(self.ended.is_some())
    }

    /// Asks it to stop (SIGTERM).
    pub fn terminate(&self) {
        if self.ended.is_none()
            && let Ok(pid) = i32::try_from(self.child.id())
        {
            // If it has ended by itself meanwhile, that is as well.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// What it has stored, once it has ended.
    ///
    /// # Errors
    /// If it failed.
    pub fn finish(mut self) -> Result<Vec<Window>> {
        let status = match self.ended {
            Some(status) => status,
            None => self.child.wait().map_err(|e| Failure::new("the backup cannot be waited for").because(e))?,
        };
        self.ended = Some(status);
        for listener in self.listeners.drain(..) {
            let _ = listener.join(); // one that panicked has nothing more to say
        }
        let windows = std::mem::take(&mut self.heard().windows);
        if status.success() {
            return Ok(windows);
        }
        let said = self.heard().last_lines.iter().map(|line| format!("\n    {line}")).collect::<String>();
        Err(Failure::new(format!("the backup failed ({status}). It said last:{said}"))
            .help("the code in its message is explained in docs/errors.md"))
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_says_is_understood() {
        let mut heard = Heard::default();
        heard.window(
            r#"{"rule":"r","topic":"t","partition":0,"window":"[0, 5)","records":5,"bytes":900,"reason":"end","delay_ms":12,"key":"k"}"#,
        );
        heard.window("not JSON");
        assert_eq!((heard.windows, heard.stored_records), (vec![Window { records: 5, bytes: 900, delay_ms: 12 }], 5));
        let mut heard = Heard::default();
        heard.message(r#"{"level":"INFO","fields":{"message":"metrics at http://127.0.0.1:4711/metrics"}}"#);
        assert_eq!((heard.metrics, heard.is_running), (Some(SocketAddr::from(([127, 0, 0, 1], 4711))), false));
        heard.message(r#"{"fields":{"message":"backup runs"}}"#);
        assert!(heard.is_running);
        (0..100).for_each(|n| heard.message(&n.to_string()));
        assert_eq!((heard.last_lines.len(), heard.last_lines.back().map(String::as_str)), (LINES_KEPT, Some("99")));
    }

    #[test]
    fn a_program_that_is_not_there_or_another_one_is_a_usage_error() {
        let missing = Catchment::find(Some(Path::new("/nowhere/catchment"))).expect_err("it is not there");
        assert!(missing.to_string().contains("--catchment"), "{missing}");
        let other = Catchment::find(Some(Path::new("/bin/true"))).expect("it is there").version().expect_err("it is another one");
        assert!(other.to_string().contains("is not catchment"), "{other}");
    }

    #[test]
    fn a_backup_that_fails_is_quoted() {
        let shell = |script: &str| {
            let mut child = Command::new("/bin/sh").args(["-c", script]).stderr(Stdio::piped()).spawn().expect("there is a shell");
            let heard = Arc::new(Mutex::new(Heard::default()));
            let listener = listen(child.stderr.take().expect("stderr is piped"), &heard, Heard::message).expect("a thread");
            Backup { child, heard, listeners: vec![listener], ended: None }
        };
        let failure = shell("echo no such bucket >&2; exit 5").finish().expect_err("it failed");
        assert!(failure.to_string().contains("no such bucket") && failure.to_string().contains('5'), "{failure}");
        let mut sleeper = shell("exec sleep 60");
        assert!(!sleeper.has_ended().expect("it can be asked"));
        sleeper.terminate();
        assert!(sleeper.finish().is_err(), "a signal ended it");
    }
}
