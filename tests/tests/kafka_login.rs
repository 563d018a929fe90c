//! Every way to log in, against the listeners of a real broker, with a wrong secret too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use catchment::config::{KafkaSettings, Mechanism, SaslSettings, Secret, TlsSettings};
use catchment::error::{Code, ErrorKind};
use catchment::source::kafka::{KafkaCluster, errors};
use catchment::source::{Committed, Group, Source};
use catchment_tests::admin::Admin;
use catchment_tests::bed::RUN_LIMIT;
use catchment_tests::process::{Exit, Program};
use catchment_tests::services::{Kafka, KafkaOptions, Listener, TokenEndpoint};
use catchment_tests::source::{SHARE, assigned, join, no_wake, read_to_end, tp};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const TOPIC: &str = "door";

fn node() -> Kafka {
    let kafka = Kafka::start(KafkaOptions::default());
    Admin::new(kafka.bootstrap()).create_topic(TOPIC, 1, &[]);
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().expect("a producer");
    producer.send(BaseRecord::<(), str>::to(TOPIC).payload("x")).expect("queue a record");
    producer.flush(Duration::from_secs(20)).expect("flush");
    kafka
}

fn config(kafka: &Kafka, listener: Listener, sasl: Option<SaslSettings>, tls: Option<TlsSettings>) -> KafkaSettings {
    KafkaSettings { sasl, tls, ..KafkaSettings::plaintext(kafka.listener(listener)) }
}

fn trusting(kafka: &Kafka) -> TlsSettings {
    TlsSettings { ca: Some(kafka.certificate("ca.pem")), ..TlsSettings::default() }
}

/// Reader and group client both get in: a record is read, and a commit made.
async fn gets_in(config: KafkaSettings, rule: &str) {
    let cluster = KafkaCluster::connect(config, SHARE).await.expect("connect");
    let mut queue = cluster.open(&tp(TOPIC, 0), 0, -1, no_wake()).expect("open");
    assert_eq!(read_to_end(&mut *queue).0.len(), 1);
    let mut joined = join(&cluster, rule, &[TOPIC.to_owned()]).await.expect("join");
    let lease = assigned(&mut joined).await.remove(0);
    let commit = Committed { offset: 1, leader_epoch: 0, metadata: rule.to_owned() };
    joined.group.commit(&lease, commit.clone()).await.expect("commit");
    assert_eq!(joined.group.fetch(&lease.tp).await.expect("fetch"), Some(commit));
    joined.handle.close(Duration::from_secs(20)).expect("close");
}

/// Nobody gets in; the error has this code and names `named`; no secret is in it.
async fn is_refused(config: KafkaSettings, code: Code, named: &str) {
    let error = KafkaCluster::connect(config, SHARE).await.expect_err("the door is shut");
    let told = format!("{error} {}", error.help.clone().unwrap_or_default());
    assert_eq!(error.code, code, "{told}");
    assert!(told.contains(named), "{told}");
    assert!(!told.contains("wrong-canary"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts() {
    let kafka = node();
    let (user, password) = kafka.account();
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let login = |password: &str| Some(SaslSettings::password(mechanism, user, password));
        let rule = mechanism.as_str().to_lowercase();
        gets_in(config(&kafka, Listener::Sasl, login(password), None), &rule).await;
        gets_in(config(&kafka, Listener::SaslSsl, login(password), Some(trusting(&kafka))), &rule).await;
        is_refused(config(&kafka, Listener::Sasl, login("wrong-canary"), None), errors::AUTHENTICATION, mechanism.as_str()).await;
    }
    let unknown = SaslSettings::password(Mechanism::Plain, "nobody", "wrong-canary");
    is_refused(config(&kafka, Listener::SaslSsl, Some(unknown), Some(trusting(&kafka))), errors::AUTHENTICATION, "sasl.username").await;
    // No account where one is wanted, and the wrong protocol: the address answers, but not in this language.
    let error = KafkaCluster::connect(config(&kafka, Listener::Sasl, None, None), SHARE).await.expect_err("the door is shut");
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_endpoint() {
    let kafka = node();
    let endpoint = TokenEndpoint::start(300);
    let login = |secret: &str| {
        let (id, _) = TokenEndpoint::ACCOUNT;
        Some(SaslSettings {
            token_endpoint: Some(endpoint.url().to_owned()),
            client_id: Some(id.to_owned()),
            client_secret: Some(Secret::new(secret)),
            ..SaslSettings::new(Mechanism::OAuthBearer)
        })
    };
    gets_in(config(&kafka, Listener::Sasl, login(TokenEndpoint::ACCOUNT.1), None), "endpoint").await;
    gets_in(config(&kafka, Listener::SaslSsl, login(TokenEndpoint::ACCOUNT.1), Some(trusting(&kafka))), "endpoint").await;
    is_refused(config(&kafka, Listener::Sasl, login("wrong-canary"), None), errors::AUTHENTICATION, "sasl.client_secret").await;
    let over_tls = config(&kafka, Listener::SaslSsl, login("wrong-canary"), Some(trusting(&kafka)));
    is_refused(over_tls, errors::AUTHENTICATION, "sasl.client_secret").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_file() {
    let kafka = node();
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, lifetime: i64| -> PathBuf {
        let path = dir.path().join(name);
        write_token(&path, lifetime);
        path
    };
    let login = |path: PathBuf| Some(SaslSettings { token_file: Some(path), ..SaslSettings::new(Mechanism::OAuthBearer) });
    for (listener, tls) in [(Listener::Sasl, None), (Listener::SaslSsl, Some(trusting(&kafka)))] {
        gets_in(config(&kafka, listener, login(write("good", 300)), tls.clone()), "file").await;
        is_refused(config(&kafka, listener, login(write("old", -300)), tls), errors::AUTHENTICATION, "expired").await;
    }
    is_refused(config(&kafka, Listener::Sasl, login(dir.path().join("none")), None), errors::AUTHENTICATION, "none").await;

    // A token of a few seconds is read again before it ends, and new connections get in with the new one.
    let path = write("short", 12);
    let cluster = KafkaCluster::connect(config(&kafka, Listener::Sasl, login(path), None), SHARE).await.expect("connect");
    for _ in 0..5 {
        write("short", 12);
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.bounds(&tp(TOPIC, 0)).await.expect("bounds");
    }
    write("short", 12);
    let mut queue = cluster.open(&tp(TOPIC, 0), 0, -1, no_wake()).expect("a second client");
    read_to_end(&mut *queue);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates() {
    let kafka = node();
    gets_in(config(&kafka, Listener::Ssl, None, Some(trusting(&kafka))), "tls").await;
    let distrusting = TlsSettings { ca: Some(kafka.certificate("rogue-ca.pem")), ..TlsSettings::default() };
    is_refused(config(&kafka, Listener::Ssl, None, Some(distrusting.clone())), errors::TLS, "tls.ca").await;
    gets_in(config(&kafka, Listener::Ssl, None, Some(TlsSettings { verify: false, ..distrusting })), "tls").await;

    let shown = |certificate: &str, key: &str| TlsSettings {
        certificate: Some(kafka.certificate(certificate)),
        key: Some(kafka.certificate(key)),
        ..trusting(&kafka)
    };
    gets_in(config(&kafka, Listener::MutualTls, None, Some(shown("client.pem", "client.key"))), "mtls").await;
    is_refused(config(&kafka, Listener::MutualTls, None, Some(trusting(&kafka))), errors::TLS, "tls.certificate").await;
    is_refused(config(&kafka, Listener::MutualTls, None, Some(shown("rogue.pem", "rogue.key"))), errors::TLS, "tls.certificate").await;

    let unlocked = |password| TlsSettings { key_password: password, ..shown("client.pem", "client-locked.key") };
    gets_in(config(&kafka, Listener::MutualTls, None, Some(unlocked(Some(Secret::new(Kafka::KEY_PASSWORD))))), "mtls").await;
    for wrong in [Some(Secret::new("wrong-canary")), None] {
        is_refused(config(&kafka, Listener::MutualTls, None, Some(unlocked(wrong))), errors::PROPERTY_REFUSED, "ssl.key.location").await;
    }
}

/// A way in as a config file has it: the keys of its `[kafka.door]`.
fn way_in(kafka: &Kafka, listener: Listener, keys: &str) -> String {
    format!("[kafka.door]\nbrokers = \"{}\"\n{keys}\n", kafka.listener(listener))
}

/// `ca`, and more keys beside, as a config file has them.
fn tls_keys(kafka: &Kafka, more: &str) -> String {
    format!("tls = {{ ca = \"{}\"{more} }}", kafka.certificate("ca.pem").display())
}

/// `ca`, and a client's certificate and key.
fn mutual_keys(kafka: &Kafka, certificate: &str, key: &str, more: &str) -> String {
    let path = |name: &str| kafka.certificate(name).display().to_string();
    tls_keys(kafka, &format!(", certificate = \"{}\", key = \"{}\"{more}", path(certificate), path(key)))
}

fn account_keys(mechanism: &str, user: &str, password: &str) -> String {
    format!("sasl = {{ mechanism = \"{mechanism}\", username = \"{user}\", password = \"{password}\" }}")
}

fn token_keys(endpoint: &TokenEndpoint, secret: &str) -> String {
    let (id, url) = (TokenEndpoint::ACCOUNT.0, endpoint.url());
    format!("sasl = {{ mechanism = \"OAUTHBEARER\", token_endpoint = \"{url}\", client_id = \"{id}\", client_secret = \"{secret}\" }}")
}

/// Writes a token of the endpoint's account that ends after so many seconds, and returns it.
fn write_token(path: &Path, lifetime: i64) -> String {
    let (_, answer) = TokenEndpoint::start(lifetime).request(TokenEndpoint::ACCOUNT.1).expect("a token");
    let token = answer["access_token"].as_str().expect("a token").to_owned();
    std::fs::write(path, &token).expect("write");
    token
}

/// The keys that name a file with such a token, and the token.
fn token_file_keys(directory: &Path, lifetime: i64) -> (String, String) {
    let path = directory.join(format!("token-{lifetime}"));
    let token = write_token(&path, lifetime);
    (format!("sasl = {{ mechanism = \"OAUTHBEARER\", token_file = \"{}\" }}", path.display()), token)
}

/// A config file with one rule that backs [`TOPIC`] up from there into `data/` of the directory.
fn rule_file(directory: &Path, name: &str, way_in: &str) -> String {
    let (path, data) = (directory.join("catchment.toml"), directory.join("data"));
    let rest = format!("[store.disk]\nurl = \"file://{}/\"\n[rule.{name}]\nsource = {{ topics = \"{TOPIC}\" }}\n", data.display());
    std::fs::write(&path, format!("{way_in}{rest}")).expect("write");
    path.to_str().expect("a UTF-8 path").to_owned()
}

/// A rule of a config file with this way in backs the topic up, and `verify` goes the same way.
fn lets_in(name: &str, way_in: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = rule_file(directory.path(), name, way_in);
    Program::new(["backup", "--config", &file, "--until-end"]).run(RUN_LIMIT).assert_code(0);
    let data = directory.path().join("data");
    let exit = Program::new(["verify"]).args([&data]).args(["--config", &file, "--kafka", "door"]).run(RUN_LIMIT);
    exit.assert_code(0);
    assert!(exit.stdout.contains("1 records, 1 compared with Kafka"), "{name}: {}", exit.stdout);
}

/// One with this way in is refused with this code, and writes nothing. It is as loud as it can be: nothing of a secret may stand in a debug message either.
fn keeps_out(way_in: &str, code: &str, exit_code: i32) -> Exit {
    let directory = tempfile::tempdir().expect("a directory");
    let file = rule_file(directory.path(), "out", way_in);
    let exit = Program::new(["backup", "-vv", "--config", &file, "--until-end"]).run(RUN_LIMIT);
    exit.assert_code(exit_code);
    assert!(exit.stderr.contains(&format!("error[{code}]")), "{way_in}: no {code} in: {}", exit.stderr);
    assert!(!directory.path().join("data").exists(), "{way_in}: nothing is written");
    exit
}

#[test]
fn a_config_file_lets_the_program_in() {
    let (kafka, endpoint) = (node(), TokenEndpoint::start(300));
    let directory = tempfile::tempdir().expect("a directory");
    let (user, password) = kafka.account();
    let shown = mutual_keys(&kafka, "client.pem", "client.key", "");
    let unlock = format!(", key_password = \"{}\"", Kafka::KEY_PASSWORD);
    let unlocked = mutual_keys(&kafka, "client.pem", "client-locked.key", &unlock);
    let scram = format!("{}\n{}", account_keys("SCRAM-SHA-512", user, password), tls_keys(&kafka, ""));
    for (name, way_in) in [
        ("plain", way_in(&kafka, Listener::Sasl, &account_keys("PLAIN", user, password))),
        ("scram", way_in(&kafka, Listener::SaslSsl, &scram)),
        ("mutual", way_in(&kafka, Listener::MutualTls, &shown)),
        ("unlocked", way_in(&kafka, Listener::MutualTls, &unlocked)),
        ("token", way_in(&kafka, Listener::Sasl, &token_keys(&endpoint, TokenEndpoint::ACCOUNT.1))),
        ("token-file", way_in(&kafka, Listener::Sasl, &token_file_keys(directory.path(), 300).0)),
    ] {
        lets_in(name, &way_in);
    }
}

#[test]
fn a_config_file_with_a_wrong_secret_keeps_the_program_out_and_the_secret_in() {
    let (kafka, endpoint) = (node(), TokenEndpoint::start(300));
    let account = |mechanism| account_keys(mechanism, kafka.account().0, "wrong-canary");
    let rogue = std::fs::read_to_string(kafka.certificate("rogue.key")).expect("the key is readable");
    let rogue_line = rogue.lines().nth(1).expect("a key has lines");
    let scram = format!("{}\n{}", account("SCRAM-SHA-512"), tls_keys(&kafka, ""));
    let shown = mutual_keys(&kafka, "rogue.pem", "rogue.key", "");
    for (way_in, (code, exit_code), secret) in [
        (way_in(&kafka, Listener::Sasl, &account("PLAIN")), ("C0211", 1), "wrong-canary"),
        (way_in(&kafka, Listener::SaslSsl, &scram), ("C0211", 1), "wrong-canary"),
        (way_in(&kafka, Listener::MutualTls, &shown), ("C0212", 2), rogue_line),
        (way_in(&kafka, Listener::Sasl, &token_keys(&endpoint, "wrong-canary")), ("C0211", 1), "wrong-canary"),
    ] {
        let exit = keeps_out(&way_in, code, exit_code);
        assert!(exit.stderr.contains("DEBUG") && !format!("{}{}", exit.stdout, exit.stderr).contains(secret), "{way_in}: {}", exit.stderr);
    }
    // A token that has expired is not even sent.
    let directory = tempfile::tempdir().expect("a directory");
    let (keys, token) = token_file_keys(directory.path(), -300);
    let exit = keeps_out(&way_in(&kafka, Listener::Sasl, &keys), "C0211", 1);
    assert!(exit.stderr.contains("has expired") && !format!("{}{}", exit.stdout, exit.stderr).contains(&token), "{}", exit.stderr);
}

#[test]
fn a_config_file_gets_in_by_each_preset() {
    let kafka = node();
    let account = account_keys("PLAIN", kafka.account().0, kafka.account().1);
    // As a property, which says nothing of whether TLS is wanted, as `tls` would.
    let trust = format!("properties = {{ \"ssl.ca.location\" = \"{}\" }}", kafka.certificate("ca.pem").display());
    for (preset, listener, keys) in [
        ("ckafka", Listener::Sasl, account.clone()),
        ("redpanda", Listener::Plaintext, String::new()),
        // These two encrypt by themselves: nothing else here asks for it.
        ("msk", Listener::Ssl, trust.clone()),
        ("confluent", Listener::SaslSsl, format!("{account}\n{trust}")),
    ] {
        lets_in(preset, &way_in(&kafka, listener, &format!("preset = \"{preset}\"\n{keys}")));
    }
}

#[test]
fn a_preset_in_a_config_file_says_what_its_brokers_want() {
    let kafka = node();
    let new_protocol = "properties = { \"group.protocol\" = \"consumer\" }";
    let wrong = account_keys("PLAIN", kafka.account().0, "wrong-canary");
    for (preset, listener, keys, (code, exit_code), says) in [
        ("ckafka", Listener::Sasl, wrong.as_str(), ("C0211", 1), "instance#user"),
        ("ckafka", Listener::Plaintext, new_protocol, ("C0214", 2), "leave group.protocol out"),
        ("redpanda", Listener::Plaintext, new_protocol, ("C0214", 2), "leave group.protocol out"),
        ("confluent", Listener::SaslSsl, "", ("C0217", 2), "needs sasl"),
    ] {
        let exit = keeps_out(&way_in(&kafka, listener, &format!("preset = \"{preset}\"\n{keys}")), code, exit_code);
        assert!(exit.stderr.contains(says), "{preset}: {}", exit.stderr);
    }
}
