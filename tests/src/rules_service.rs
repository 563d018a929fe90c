//! A service of rules as a process, and the command line that talks to it: what tests of `catchment serve` stand on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bed::Bed;
use crate::process::{Exit, Process, Program};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The key of a rule that gives it short windows.
pub const WINDOW: &str = "window = { every = \"1s\" }";

/// A service, and where its state and its files lie.
#[derive(Debug)]
pub struct RulesService {
    dir: tempfile::TempDir,
    /// None while there is none.
    process: Option<Process>,
    address: String,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
}

/// The bed's broker as `k` and its place as `s`, as the text of a config file.
pub fn config_of(bed: &Bed) -> String {
    let (broker, place) = (bed.broker(), bed.place.url(""));
    let properties = "{ \"session.timeout.ms\" = \"6000\" }";
    format!("[kafka.k]\nbrokers = [\"{broker}\"]\nproperties = {properties}\n[store.s]\nurl = \"{place}\"\n")
}

/// A bed with so many records, a service with these flags, and a rule named after the bed's topic that has stored all of them.
///
/// # Panics
/// If it does not come to that.
pub fn stored(mut bed: Bed, records: u64, flags: &[&str]) -> (Bed, RulesService, String) {
    bed.fill(records);
    let mut service = RulesService::start_with(&bed, flags);
    let topic = bed.topic.clone();
    service.done(&["create", &topic, &service.rule(&bed, WINDOW)]);
    service.await_state(&topic, "running");
    bed.await_committed(&mut [service.process_mut()], PATIENCE);
    (bed, service, topic)
}

impl RulesService {
    /// A service whose config file has the bed's broker as `k` and its place as `s`.
    pub fn start(bed: &Bed) -> Self {
        Self::start_with(bed, &[])
    }

    /// The same with more flags of `serve`.
    pub fn start_with(bed: &Bed, flags: &[&str]) -> Self {
        Self::start_on(&config_of(bed), bed, flags)
    }

    /// The same with more variables.
    pub fn start_in(bed: &Bed, variables: Vec<(String, String)>) -> Self {
        Self::made(&config_of(bed), &[], [bed.place.environment(), variables].concat())
    }

    /// The same with another text in its config file.
    pub fn start_on(config: &str, bed: &Bed, flags: &[&str]) -> Self {
        Self::made(config, flags, bed.place.environment())
    }

    fn made(config: &str, flags: &[&str], environment: Vec<(String, String)>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("catchment.toml"), config).expect("a config file");
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut service = Self { dir, process: None, address: String::new(), flags, environment };
        service.spawn();
        service
    }

    fn spawn(&mut self) {
        let state = self.dir.path().join("state");
        let mut process = Program::new(["serve", "--listen", "127.0.0.1:0", "--state"])
            .args([&state])
            .args([Path::new("--config"), &self.config()])
            .args(&self.flags)
            .envs(self.environment.clone())
            .spawn();
        let said = process.wait_for_stderr("the API is at ", PATIENCE);
        let address = said.split_once("the API is at ").and_then(|(_, rest)| rest.split_once("/api/v1")).expect("an address").0;
        self.address = address.to_owned();
        self.process = Some(process);
    }

    /// The directory of everything.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("catchment.toml")
    }

    /// The address of the API, without its path.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The token.
    ///
    /// # Panics
    /// If there is none.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("state/token")).expect("a token").trim().to_owned()
    }

    /// The file with the token.
    pub fn token_file(&self) -> PathBuf {
        self.dir.path().join("state/token")
    }

    /// The process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn process_mut(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// SIGKILL, and a new process on the same state.
    pub fn kill_and_start(&mut self) {
        self.process.take().expect("it runs").kill();
        self.spawn();
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// SIGTERM, which must be obeyed within a minute, on a machine that has other things to do.
    pub fn stop(&mut self) -> Exit {
        self.process.take().expect("it runs").terminate(Duration::from_secs(60))
    }

    /// Starts it again, with these flags from now on.
    pub fn start_again(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self.spawn();
    }

    /// A config file with a rule named after the bed's topic.
    pub fn rule(&self, bed: &Bed, keys: &str) -> String {
        self.rule_named(&bed.topic, &bed.topic, keys)
    }

    /// A config file with a rule of this name.
    pub fn rule_named(&self, name: &str, topic: &str, keys: &str) -> String {
        let file = self.dir.path().join("rule.toml");
        let text = format!("[rule.{name}]\nsource = {{ topics = [\"{topic}\"] }}\ninstance_id = \"none\"\n{keys}\n");
        std::fs::write(&file, text).expect("a config file");
        file.to_str().expect("a path in UTF-8").to_owned()
    }

    /// `catchment rule ARGS...` with the service's address and token.
    pub fn command(&self, args: &[&str]) -> Program {
        self.command_of("rule", args)
    }

    fn command_of(&self, verb: &str, args: &[&str]) -> Program {
        let token = self.dir.path().join("state/token");
        let token = token.to_str().expect("a path in UTF-8");
        Program::new([&[verb], args, &["--service", &self.address, "--token-file", token]].concat())
    }

    /// Runs an action.
    pub fn run(&self, args: &[&str]) -> Exit {
        self.command(args).run(PATIENCE)
    }

    /// The answer to an action that succeeds.
    pub fn done(&self, args: &[&str]) -> Value {
        self.done_by("rule", args)
    }

    /// The same of another verb that calls a service.
    pub fn done_by(&self, verb: &str, args: &[&str]) -> Value {
        let exit = self.command_of(verb, args).run(PATIENCE);
        exit.assert_code(0);
        serde_json::from_str(&exit.stdout).unwrap_or(Value::Null)
    }

    /// Status and body of the answer to one call, such as `GET /rules`, without a process for it.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn call(&self, line: &str, body: &Value) -> (u16, Value) {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let address = self.address.strip_prefix("http://").expect("plain HTTP");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(address).expect("the service listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let (length, token) = (body.len(), self.token());
        write!(
            stream,
            "{method} /api/v1{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n\r\n{body}"
        )
        .expect("the service listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Waits until a rule is in this state.
    ///
    /// # Panics
    /// If it does not come into it.
    pub fn await_state(&self, rule: &str, state: &str) -> Value {
        self.until(&["show", rule], |shown| shown["state"] == state)
    }

    /// Waits until an object of this version stands.
    ///
    /// # Panics
    /// If none comes.
    pub fn await_window(&self, rule: &str, version: i64) {
        self.until(&["windows", rule], |windows| {
            windows.as_array().is_some_and(|windows| windows.iter().any(|window| window["version"] == version))
        });
    }

    /// Repeats an action until its answer is as wanted.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn until(&self, args: &[&str], is_wanted: impl Fn(&Value) -> bool) -> Value {
        self.until_within(PATIENCE, args, is_wanted)
    }

    /// The same of what may take another time.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn until_within(&self, limit: Duration, args: &[&str], is_wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let answer = self.done(args);
            if is_wanted(&answer) {
                return answer;
            }
            let said = self.process.as_ref().map(Process::stderr).unwrap_or_default();
            assert!(began.elapsed() < limit, "{args:?} still gives {answer}; {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
