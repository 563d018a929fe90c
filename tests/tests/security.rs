//! Who gets in: TLS, certificates of clients, further tokens. The real binary over real sockets, certificates of an authority of the tests' own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use catchment_tests::bed::{Bed, Place};
use catchment_tests::process::{Exit, Program};
use catchment_tests::rules_service::{PATIENCE, RulesService};
use catchment_tests::services::Kafka;
use catchment_tests::tls::{Certificates, TlsStream, ask, connect, send};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn bed() -> Bed {
    Bed::new(Kafka::shared().bootstrap(), 1, Place::in_process())
}

/// A service that speaks TLS, with these flags more.
fn over_tls(bed: &Bed, certificates: &Certificates, flags: &[&str]) -> RulesService {
    let (certificate, key) = (certificates.arg("server.pem"), certificates.arg("server.key"));
    RulesService::start_with(bed, &[&["--tls-cert", &certificate, "--tls-key", &key], flags].concat())
}

/// `catchment rule list` with these flags more.
fn list(service: &RulesService, flags: &[&str]) -> Exit {
    service.command(&["list", "--json"]).args(flags).run(PATIENCE)
}

#[track_caller]
fn assert_refused(exit: &Exit, code: &str) {
    assert!(exit.code() != Some(0) && exit.stderr.contains(code), "{:?} without {code}: {}", exit.code(), exit.stderr);
}

fn enter(service: &RulesService, certificates: &Certificates) -> TlsStream {
    connect(service.address(), &certificates.file("ca.pem"), None).expect("the service listens")
}

#[test]
fn the_service_speaks_tls_to_whoever_trusts_its_authority_and_nothing_else() {
    let (bed, certificates) = (bed(), Certificates::make());
    let service = over_tls(&bed, &certificates, &[]);
    assert!(service.address().starts_with("https://"), "{}", service.address());
    let ca = certificates.arg("ca.pem");
    list(&service, &["--ca", &ca]).assert_code(0);
    service.command(&["list"]).envs([("CATCHMENT_CA", ca.as_str())]).run(PATIENCE).assert_code(0);
    let other = list(&service, &["--ca", &certificates.arg("rogue-ca.pem")]);
    other.assert_code(5);
    assert!(other.stderr.contains("C0609") && other.stderr.contains("certificate"), "{}", other.stderr);
    assert_refused(&list(&service, &[]), "C0609");

    // Plain HTTP to the port is not answered in HTTP.
    let authority = service.address().strip_prefix("https://").expect("TLS");
    let mut plain = TcpStream::connect(authority).expect("the service listens");
    plain.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    // It may hang up at the first byte that is no TLS.
    let _ = write!(plain, "GET /livez HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    let mut answered = Vec::new();
    let _ = plain.read_to_end(&mut answered); // an alert, a reset, or nothing
    assert!(!answered.starts_with(b"HTTP"), "{answered:?}");

    let alive = ask(enter(&service, &certificates), "GET /livez", &[], "").expect("an answer");
    assert!(alive.starts_with("HTTP/1.1 200") && alive.contains("strict-transport-security: max-age="), "{alive}");
    let without = ask(enter(&service, &certificates), "GET /api/v1/rules", &[], "").expect("an answer");
    assert!(without.starts_with("HTTP/1.1 401") && without.contains("C0606"), "{without}");
    let form = format!("token={}", service.token());
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let login = ask(enter(&service, &certificates), "POST /console/login", &headers, &form).expect("an answer");
    assert!(login.starts_with("HTTP/1.1 303") && login.contains("; HttpOnly; SameSite=Strict; Secure"), "{login}");

    // A connection that says nothing keeps nobody out.
    let _silent: Vec<_> = (0..200).map(|_| TcpStream::connect(authority).expect("the service listens")).collect();
    list(&service, &["--ca", &ca]).assert_code(0);
}

#[test]
fn a_log_is_followed_over_tls() {
    let (bed, certificates) = (bed(), Certificates::make());
    let service = over_tls(&bed, &certificates, &[]);
    let (ca, topic) = (certificates.arg("ca.pem"), bed.topic.clone());
    service.command(&["create", &topic, &service.rule(&bed, ""), "--ca", &ca]).run(PATIENCE).assert_code(0);
    let token = format!("Bearer {}", service.token());
    let mut stream = enter(&service, &certificates);
    let line = format!("GET /api/v1/rules/{topic}/log/follow");
    send(&mut stream, &line, &[("Authorization", &token), ("Last-Event-ID", "0")], "").expect("it listens");
    let began = Instant::now();
    let mut lines = BufReader::new(stream).lines();
    loop {
        let line = lines.next().expect("the stream goes on").expect("a line");
        if line.starts_with("data: ") && line.contains("running: 1 topic(s)") {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no line of a rule that runs");
    }
}

#[test]
fn with_an_authority_for_clients_nobody_comes_in_without_a_certificate_and_a_token() {
    let (bed, certificates) = (bed(), Certificates::make());
    let (ca, address) = (certificates.arg("ca.pem"), certificates.file("ca.pem"));
    let service = over_tls(&bed, &certificates, &["--tls-client-ca", &ca]);
    let pair = |name: &str| [certificates.arg(&format!("{name}.pem")), certificates.arg(&format!("{name}.key"))];
    let [certificate, key] = pair("client");
    list(&service, &["--ca", &ca, "--cert", &certificate, "--key", &key]).assert_code(0);
    let variables = [("CATCHMENT_CA", &ca), ("CATCHMENT_CERT", &certificate), ("CATCHMENT_KEY", &key)];
    service.command(&["list"]).envs(variables).run(PATIENCE).assert_code(0);
    assert_refused(&list(&service, &["--ca", &ca]), "C0609");
    let [rogue, rogue_key] = pair("rogue");
    assert_refused(&list(&service, &["--ca", &ca, "--cert", &rogue, "--key", &rogue_key]), "C0609");
    assert_refused(&list(&service, &["--ca", &ca, "--cert", &certificate, "--key", &rogue_key]), "C0651");
    assert_refused(&list(&service, &["--ca", &ca, "--cert", &certificate]), "C0101");

    let own = (Path::new(&certificate), Path::new(&key));
    let shown = connect(service.address(), &address, Some(own)).and_then(|stream| ask(stream, "GET /api/v1/rules", &[], ""));
    assert!(shown.expect("an answer").starts_with("HTTP/1.1 401"), "a certificate is no token");
    for path in ["GET /livez", "GET /api/v1/rules", "GET /console/login"] {
        let answer = connect(service.address(), &address, None).and_then(|stream| ask(stream, path, &[], ""));
        assert!(!answer.is_ok_and(|answer| answer.starts_with("HTTP")), "{path} without a certificate");
    }
}

#[test]
fn certificates_are_read_again_at_a_hangup_and_bad_ones_change_nothing() {
    let (bed, old, new) = (bed(), Certificates::make(), Certificates::make());
    let place = tempfile::tempdir().expect("a directory");
    let [certificate, key] = ["server.pem", "server.key"].map(|name| place.path().join(name));
    let put = |from: &Certificates| {
        std::fs::copy(from.file("server.pem"), &certificate).expect("a copy");
        std::fs::copy(from.file("server.key"), &key).expect("a copy");
    };
    put(&old);
    let [certificate_arg, key_arg] = [&certificate, &key].map(|path| path.to_str().expect("UTF-8").to_owned());
    let mut service = RulesService::start_with(&bed, &["--tls-cert", &certificate_arg, "--tls-key", &key_arg]);
    list(&service, &["--ca", &old.arg("ca.pem")]).assert_code(0);
    put(&new);
    service.process_mut().signal(Signal::SIGHUP);
    service.process_mut().wait_for_stderr("the certificates were read again", PATIENCE);
    list(&service, &["--ca", &new.arg("ca.pem")]).assert_code(0);
    assert_refused(&list(&service, &["--ca", &old.arg("ca.pem")]), "C0609");
    std::fs::write(&key, "no key").expect("it can be written");
    service.process_mut().signal(Signal::SIGHUP);
    let said = service.process_mut().wait_for_stderr("the certificates were not taken over", PATIENCE);
    assert!(said.contains("C0650") && said.contains("server.key"), "{said}");
    list(&service, &["--ca", &new.arg("ca.pem")]).assert_code(0);
}

#[test]
fn files_that_cannot_be_served_with_are_refused_by_name() {
    let certificates = Certificates::make();
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state").to_str().expect("UTF-8").to_owned();
    let serve = |flags: &[&str]| Program::new([&["serve", "--state", &state, "--listen", "127.0.0.1:0"], flags].concat());
    let refused = |flags: &[&str], code: &str, named: &str| {
        let exit = serve(flags).run(PATIENCE);
        exit.assert_code(2);
        assert!(exit.stderr.contains(code) && exit.stderr.contains(named), "{flags:?} without {code} or {named}: {}", exit.stderr);
        assert!(!exit.stderr.contains("BEGIN EC") && !exit.stderr.contains("PRIVATE KEY-----\nM"), "{}", exit.stderr);
    };
    let [server, key, client, ca] = ["server.pem", "server.key", "client.pem", "ca.pem"].map(|name| certificates.arg(name));
    refused(&["--tls-cert", "/nonexistent/c.pem", "--tls-key", &key], "C0650", "/nonexistent/c.pem");
    refused(&["--tls-cert", &server, "--tls-key", "/nonexistent/k.pem"], "C0650", "/nonexistent/k.pem");
    refused(&["--tls-cert", &server, "--tls-key", &ca], "C0650", "ca.pem");
    refused(&["--tls-cert", &server, "--tls-key", &key, "--tls-client-ca", &key], "C0650", "server.key");
    refused(&["--tls-cert", &client, "--tls-key", &key], "C0651", "client.pem");
    refused(&["--tls-cert", &server], "C0101", "--tls-key");
    refused(&["--tls-client-ca", &ca], "C0101", "--tls-cert");

    let mut expired = serve(&["--tls-cert", &certificates.expired(), "--tls-key", &key]).spawn();
    let warned = expired.wait_for_stderr("C0652", PATIENCE);
    assert!(warned.contains("expired.pem"), "{warned}");
    expired.wait_for_stderr("the API is at https://", PATIENCE);
    expired.terminate(PATIENCE).assert_code(0);
}

#[test]
fn an_address_that_others_reach_wants_tls_or_a_word() {
    let certificates = Certificates::make();
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state").to_str().expect("UTF-8").to_owned();
    let serve = |flags: &[&str]| Program::new([&["serve", "--state", &state, "--listen", "0.0.0.0:0"], flags].concat());
    let refused = serve(&[]).run(PATIENCE);
    refused.assert_code(2);
    assert!(refused.stderr.contains("C0608") && refused.stderr.contains("--tls-cert"), "{}", refused.stderr);
    let mut served = serve(&["--tls-cert", &certificates.arg("server.pem"), "--tls-key", &certificates.arg("server.key")]).spawn();
    served.wait_for_stderr("the API is at https://0.0.0.0:", PATIENCE);
    served.terminate(PATIENCE).assert_code(0);
}

#[test]
fn a_token_that_others_can_read_is_refused_before_anything_runs() {
    let bed = bed();
    let mut service = RulesService::start(&bed);
    service.stop().assert_code(0);
    let state = service.dir().join("state");
    let set_mode = |mode: u32| {
        std::fs::set_permissions(state.join("token"), std::fs::Permissions::from_mode(mode)).expect("it is the test's own");
    };
    set_mode(0o644);
    let exit = Program::new(["serve", "--listen", "127.0.0.1:0", "--state"]).args([&state]).run(PATIENCE);
    exit.assert_code(1);
    assert!(exit.stderr.contains("C0653") && exit.stderr.contains("0644"), "{}", exit.stderr);
    assert!(!exit.stderr.contains(&service.token()) && !exit.stderr.contains("the API is at"), "{}", exit.stderr);
    set_mode(0o600);
    service.start_again(&[]);
    service.done(&["list", "--json"]);
}

/// A service and the directory of its state; `catchment token` with both.
struct Tokens {
    service: RulesService,
    state: String,
    /// All that was said, but for tokens that were made.
    said: String,
    /// Tokens that were made: none of them may be said again.
    made: Vec<String>,
}

impl Tokens {
    fn start(bed: &Bed) -> Self {
        let service = RulesService::start(bed);
        let state = service.dir().join("state").to_str().expect("UTF-8").to_owned();
        Self { made: vec![service.token()], said: String::new(), service, state }
    }

    fn run(&mut self, args: &[&str]) -> Exit {
        let exit = Program::new([&["token"], args, &["--state", &self.state, "--service", self.service.address()]].concat()).run(PATIENCE);
        self.said += &exit.stderr;
        if args[0] != "add" {
            self.said += &exit.stdout;
        }
        exit
    }

    fn add(&mut self, name: &str) -> String {
        let exit = self.run(&["add", name]);
        exit.assert_code(0);
        let text = exit.stdout.trim().to_owned();
        assert!(text.starts_with(&format!("ct_{name}_")) && text.len() == name.len() + 4 + 64, "a token of another form");
        self.made.push(text.clone());
        text
    }

    /// `catchment rule ARGS...` with another token than the file's.
    fn with(&mut self, token: &str, args: &[&str]) -> Exit {
        let file = self.service.dir().join("further");
        std::fs::write(&file, format!("{token}\n")).expect("a file");
        let flags = ["--service", self.service.address(), "--token-file", file.to_str().expect("UTF-8")];
        let exit = Program::new([&["rule"], args, &flags].concat()).run(PATIENCE);
        self.said += &format!("{}{}", exit.stdout, exit.stderr);
        exit
    }

    /// Status of a call that shows this token, without a process for it.
    fn status(&self, token: &str) -> u16 {
        let address = self.service.address().strip_prefix("http://").expect("plain HTTP");
        let mut stream = TcpStream::connect(address).expect("the service listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        write!(stream, "GET /api/v1/tokens HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n")
            .expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }
}

#[test]
fn a_further_token_works_under_its_name_over_restarts_until_it_is_removed() {
    let bed = bed();
    let mut tokens = Tokens::start(&bed);
    let topic = bed.topic.clone();
    let ci = tokens.add("ci");
    assert!(tokens.run(&["add", "ci"]).stderr.contains("C0654"), "a name is unique");
    let rule = tokens.service.rule(&bed, "");
    tokens.with(&ci, &["create", &topic, &rule]).assert_code(0);
    let audit = tokens.service.done(&["audit"]);
    let who = |action: &str| {
        let entries = audit.as_array().into_iter().flatten();
        entries.filter(|entry| entry["action"] == action).map(|entry| entry["who"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((who("create"), who("make token")), (vec![json!("api:ci")], vec![json!("token")]), "{audit}");
    assert!(tokens.run(&["ls"]).stdout.lines().any(|line| line.starts_with("ci ")), "it is listed");

    tokens.service.kill_and_start();
    assert_eq!(tokens.status(&format!("{}0", &ci[..ci.len() - 1])), if ci.ends_with('0') { 200 } else { 401 });
    tokens.with(&ci, &["show", &topic]).assert_code(0);
    tokens.run(&["remove", "ci"]).assert_code(0);
    assert_refused(&tokens.with(&ci, &["show", &topic]), "C0606");
    tokens.run(&["remove", "ci"]).assert_code(3);

    // Where no service runs, the state itself is changed.
    let exit = tokens.service.stop();
    tokens.said += &exit.stderr;
    let later = tokens.add("later");
    let listed: Value = serde_json::from_str(&tokens.run(&["ls", "--json"]).stdout).expect("JSON");
    assert_eq!(listed[0]["name"], "later", "{listed}");
    tokens.service.start_again(&[]);
    tokens.with(&later, &["show", &topic]).assert_code(0);
    assert_eq!(tokens.status(&ci), 401);

    // Neither a token nor a hash is in anything that was said, or that is answered.
    tokens.said += &audit.to_string();
    for line in ["GET /tokens", "GET /audit", "GET /openapi.json", "GET /rules"] {
        tokens.said += &tokens.service.call(line, &Value::Null).1.to_string();
    }
    tokens.said += &tokens.service.process_mut().stderr();
    assert!(tokens.said.contains("make token") && tokens.said.contains("the API is at"), "the search has something to search");
    for token in &tokens.made {
        let chance = token.rsplit('_').next().expect("a part");
        assert!(!tokens.said.contains(chance), "a token is shown");
    }
    assert!(!tokens.said.contains("argon2"), "a hash is shown");
}

#[test]
fn who_guesses_a_further_token_is_slowed_down_and_locks_nobody_out() {
    let bed = bed();
    let mut tokens = Tokens::start(&bed);
    let (ci, file) = (tokens.add("ci"), tokens.service.token());
    // Its hash alone is there now, so that each guess costs one.
    tokens.service.kill_and_start();
    let wrong = format!("ct_ci_{}", "0".repeat(64));
    let (deadline, mut refused) = (Instant::now() + PATIENCE * 3, 0);
    // One is forgotten each second, so how many it takes depends on how fast they come.
    let last = loop {
        match tokens.status(&wrong) {
            401 => refused += 1,
            other => break other,
        }
        assert!(Instant::now() < deadline, "{refused} guesses were all looked at");
    };
    assert!(last == 429 && refused >= 300, "{last} after {refused} guesses");
    assert_eq!(tokens.status(&file), 200, "who has the file's token is always heard");
    // One that was not shown since the start has to wait for its turn, a second at most, and is heard from then on.
    let began = Instant::now();
    while tokens.status(&ci) != 200 {
        assert!(began.elapsed() < PATIENCE, "it is never heard");
        std::thread::sleep(Duration::from_millis(200));
    }
    for _ in 0..20 {
        tokens.status(&wrong);
    }
    assert_eq!(tokens.status(&ci), 200, "once it is known it is always heard");
}

#[test]
fn a_further_token_does_not_lead_to_that_of_the_file() {
    let bed = bed();
    let mut tokens = Tokens::start(&bed);
    let (ci, topic, state) = (tokens.add("ci"), bed.topic.clone(), tokens.state.clone());
    let dir = tokens.service.dir().to_owned();
    std::os::unix::fs::symlink(&state, dir.join("link")).expect("a link");
    let file = dir.join("connections.toml");
    let text = format!(
        "[store.own]\nurl = \"file://{state}/\"\n[store.linked]\nurl = \"file://{here}/link/x/\"\n[store.above]\nurl = \"file://{here}/\"\n\
         [kafka.own]\nbrokers = [\"127.0.0.1:1\"]\nsasl = {{ mechanism = \"PLAIN\", username = \"u\", password = \"file:{state}/token\" }}\n",
        here = dir.display()
    );
    std::fs::write(&file, text).expect("a config file");
    let file = file.to_str().expect("UTF-8");
    for (verb, name) in [("create-store", "own"), ("create-store", "linked"), ("create-source", "own")] {
        assert_refused(&tokens.with(&ci, &[verb, name, file]), "C0657");
    }
    // A place may hold the state, as long as nobody goes there.
    tokens.with(&ci, &["create-store", "above", file]).assert_code(0);
    let rule = tokens.service.rule(&bed, "to = { store = \"above\", prefix = \"state/\" }");
    assert_refused(&tokens.with(&ci, &["create", &topic, &rule]), "C0657");
    let rule = tokens.service.rule(&bed, "to = { store = \"above\" }");
    tokens.with(&ci, &["create", &topic, &rule]).assert_code(0);
    for path in ["file?key=state/token", "file?key=link/token", "files?directory=state/"] {
        let (status, answer) = tokens.service.call(&format!("GET /rules/{topic}/{path}"), &Value::Null);
        assert_eq!((status, &answer["code"]), (403, &json!("C0657")), "{path}: {answer}");
    }
    for token in &tokens.made {
        assert!(!tokens.said.contains(token.as_str()), "a token was said");
    }
}
