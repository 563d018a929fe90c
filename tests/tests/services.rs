//! The harness itself: real servers start, answer at every door, refuse a wrong secret, and come back after a kill; the generator
//! and the oracle agree on what they hold. If this file fails, no other result means anything.

use std::time::{Duration, Instant};

use catchment_tests::admin::{Admin, GroupOffset};
use catchment_tests::bucket::Bucket;
use catchment_tests::generate::{Codec, Plan, Profile, RecordProducer, continue_fill, fill};
use catchment_tests::oracle::Truth;
use catchment_tests::services::{Kafka, KafkaOptions, KafkaVersion, Listener, Minio, TokenEndpoint};
use rdkafka::ClientConfig;
use rdkafka::client::OAuthToken;

/// A name that no earlier run used: a shared broker may be an outside one with a memory.
fn unique(name: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970");
    format!("{name}-{:x}-{:x}", std::process::id(), now.as_micros())
}

fn client(kafka: &Kafka, listener: Listener, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.listener(listener)).set("message.timeout.ms", "60000");
    config.set(
        "security.protocol",
        match listener {
            Listener::Plaintext => "plaintext",
            Listener::Sasl => "sasl_plaintext",
            Listener::SaslSsl => "sasl_ssl",
            Listener::Ssl | Listener::MutualTls => "ssl",
        },
    );
    if matches!(listener, Listener::SaslSsl | Listener::Ssl | Listener::MutualTls) {
        config.set("ssl.ca.location", kafka.certificate("ca.pem").display().to_string());
    }
    for (key, value) in more {
        config.set(*key, *value);
    }
    config
}

/// Sends one record through a listener and reads it back through the same one.
fn comes_through(kafka: &Kafka, listener: Listener, more: &[(&str, &str)]) {
    let topic = unique("door");
    Admin::new(kafka.bootstrap()).create_topic(&topic, 1, &[]);
    let config = client(kafka, listener, more);
    let producer = RecordProducer::of(&config);
    producer.send(&topic, 0, &Profile::plain().record(1, &topic, 0, 1));
    producer.flush();
    let mut config = config;
    config.remove("message.timeout.ms");
    assert_eq!(Truth::read_with(&config, &topic).len(), 1, "{listener:?} {more:?}");
}

/// Nothing gets through a listener with these settings.
fn is_refused(kafka: &Kafka, listener: Listener, more: &[(&str, &str)]) {
    let topic = unique("shut");
    Admin::new(kafka.bootstrap()).create_topic(&topic, 1, &[]);
    let mut config = client(kafka, listener, more);
    config.set("message.timeout.ms", "5000"); // it is never let in, however long it tries
    let producer = RecordProducer::of(&config);
    producer.send(&topic, 0, &Profile::plain().record(1, &topic, 0, 1));
    assert!(producer.try_flush(Duration::from_secs(8)).is_err(), "{listener:?} let a client in with {more:?}");
    assert!(Truth::read(kafka.bootstrap(), &topic).is_empty());
}

#[test]
fn plain_listeners_answer() {
    comes_through(Kafka::shared(), Listener::Plaintext, &[]);
    comes_through(Kafka::shared_v3(), Listener::Plaintext, &[]);
}

#[test]
fn accounts_are_checked() {
    let kafka = Kafka::start(KafkaOptions::default());
    let (user, password) = kafka.account();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for listener in [Listener::Sasl, Listener::SaslSsl] {
            let with = |password| [("sasl.mechanism", mechanism), ("sasl.username", user), ("sasl.password", password)];
            comes_through(&kafka, listener, &with(password));
            is_refused(&kafka, listener, &with("wrong"));
        }
    }
}

#[test]
fn an_old_broker_checks_accounts_and_certificates() {
    let kafka = Kafka::start(KafkaOptions { version: KafkaVersion::V3, ..KafkaOptions::default() });
    let (user, password) = kafka.account();
    let with = |password| [("sasl.mechanism", "PLAIN"), ("sasl.username", user), ("sasl.password", password)];
    comes_through(&kafka, Listener::Sasl, &with(password));
    is_refused(&kafka, Listener::Sasl, &with("wrong"));
    comes_through(&kafka, Listener::Ssl, &[]);
}

/// Sends one record with a token of `endpoint`, whose lifetime the client is told to be a minute whatever it really is.
fn send_with_token(kafka: &Kafka, listener: Listener, endpoint: &TokenEndpoint, patience: Duration) -> Result<(), String> {
    let (_, answer) = endpoint.request(TokenEndpoint::ACCOUNT.1).expect("the endpoint answers");
    let token = answer["access_token"].as_str().ok_or("no token")?.to_owned();
    let source = move || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let lifetime_ms = i64::try_from(now.as_millis())? + 60_000;
        Ok(OAuthToken { token: token.clone(), principal_name: "catchment".into(), lifetime_ms })
    };
    let timeout = patience.as_millis().to_string();
    let config = client(kafka, listener, &[("sasl.mechanism", "OAUTHBEARER"), ("message.timeout.ms", &timeout)]);
    let producer = RecordProducer::with_tokens(&config, Box::new(source));
    producer.send("t", 0, &Profile::plain().record(1, "t", 0, 1));
    producer.try_flush(patience + Duration::from_secs(3))
}

#[test]
fn tokens_are_checked() {
    let kafka = Kafka::start(KafkaOptions::default());
    Admin::new(kafka.bootstrap()).create_topic("t", 1, &[]);
    let (good, expired) = (TokenEndpoint::start(300), TokenEndpoint::start(-300));
    for listener in [Listener::Sasl, Listener::SaslSsl] {
        send_with_token(&kafka, listener, &good, Duration::from_secs(60)).expect("a good token opens the door");
        send_with_token(&kafka, listener, &expired, Duration::from_secs(5)).expect_err("an expired token does not");
    }
    assert_eq!(good.request("wrong").expect("the endpoint answers").0, 401);
    assert_eq!(Truth::read(kafka.bootstrap(), "t").len(), 2);
}

#[test]
fn certificates_are_checked() {
    let kafka = Kafka::start(KafkaOptions::default());
    let path = |name| kafka.certificate(name).display().to_string();
    let (client, client_key, rogue, rogue_key) = (path("client.pem"), path("client.key"), path("rogue.pem"), path("rogue.key"));
    comes_through(&kafka, Listener::Ssl, &[]);
    is_refused(&kafka, Listener::Ssl, &[("ssl.ca.location", &path("rogue-ca.pem"))]);
    comes_through(&kafka, Listener::MutualTls, &[("ssl.certificate.location", &client), ("ssl.key.location", &client_key)]);
    is_refused(&kafka, Listener::MutualTls, &[]);
    is_refused(&kafka, Listener::MutualTls, &[("ssl.certificate.location", &rogue), ("ssl.key.location", &rogue_key)]);
}

#[test]
fn the_mixture_is_read_back_and_aborts_are_not() {
    for kafka in [Kafka::shared(), Kafka::shared_v3()] {
        let (admin, topic) = (Admin::new(kafka.bootstrap()), unique("mixed"));
        // 3.2 has no such setting, and takes any time.
        let v3 = std::ptr::eq(kafka, Kafka::shared_v3());
        if v3 {
            admin.create_topic(&topic, 3, &[])
        } else {
            admin.create_mixed_topic(&topic, 3)
        }
        let plan = Plan::mixed(7, &topic, 3, 20_000);
        let mut filled = fill(kafka.bootstrap(), &plan);
        assert!(filled.aborted > 0 && filled.visible + filled.aborted == 20_000, "{filled:?}");
        let truth = Truth::read(kafka.bootstrap(), &topic);
        assert_eq!(truth.len() as u64, filled.visible);
        // Offsets hold markers and aborted records too.
        let offsets: i64 = (0..3).map(|p| admin.log_range(&topic, p).1).sum();
        assert!(offsets > 20_000, "{offsets} offsets");
        continue_fill(kafka.bootstrap(), &plan, &mut filled);
        assert_eq!(Truth::read(kafka.bootstrap(), &topic).len() as u64, filled.visible);
        assert_eq!(filled.next_sequence.iter().sum::<u64>(), 40_000);
    }
}

#[test]
fn a_broker_survives_kill_and_freeze() {
    for version in [KafkaVersion::V4, KafkaVersion::V3] {
        let kafka = Kafka::start(KafkaOptions { version, ..KafkaOptions::default() });
        let admin = Admin::new(kafka.bootstrap());
        admin.create_topic("t", 2, &[]);
        fill(kafka.bootstrap(), &Plan::plain(1, "t", 2, 1000));
        let before = Truth::read(kafka.bootstrap(), "t");
        kafka.kill();
        assert!(std::net::TcpStream::connect(kafka.bootstrap()).is_err(), "a killed broker still answers");
        kafka.restart();
        assert_eq!(Truth::read(kafka.bootstrap(), "t"), before);
        kafka.freeze();
        let producer =
            RecordProducer::of(ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).set("message.timeout.ms", "1500"));
        producer.send("t", 0, &Profile::plain().record(1, "t", 0, 0));
        assert!(producer.try_flush(Duration::from_secs(3)).is_err(), "a frozen broker took a record");
        kafka.thaw();
        kafka.stop();
        kafka.restart();
        assert!(Truth::read(kafka.bootstrap(), "t").len() >= before.len());
        assert_eq!(kafka.segments("t", 0).len(), 1);
    }
}

#[test]
fn accidents_happen_as_told() {
    let kafka = Kafka::shared();
    let (admin, topic, group) = (Admin::new(kafka.bootstrap()), unique("accident"), unique("group"));
    admin.create_topic(&topic, 1, &[]);
    fill(kafka.bootstrap(), &Plan::plain(1, &topic, 1, 100));
    admin.delete_records(&topic, 0, 40);
    assert_eq!(admin.log_range(&topic, 0), (40, 100));
    admin.set_partitions(&topic, 3);
    admin.set_topic_settings(&topic, &[("retention.ms", "3600000")]);
    assert_eq!(admin.group_offset(&group, &topic, 0), None);
    let committed = GroupOffset { offset: 57, metadata: "{\"v\":1}".into() };
    admin.set_group_offset(&group, &topic, 0, &committed);
    assert_eq!(admin.group_offset(&group, &topic, 0), Some(committed));
    admin.delete_group(&group);
    assert_eq!(admin.group_offset(&group, &topic, 0), None);
    admin.delete_topic(&topic);
    admin.create_topic(&topic, 1, &[]);
    assert_eq!(admin.log_range(&topic, 0), (0, 0));
}

#[test]
fn retention_deletes_old_segments_within_seconds() {
    let kafka = Kafka::shared();
    let (admin, topic) = (Admin::new(kafka.bootstrap()), unique("retention"));
    admin.create_topic(&topic, 1, &[("segment.bytes", "1048576"), ("retention.bytes", "1048576"), ("file.delete.delay.ms", "100")]);
    let mut plan = Plan::plain(1, &topic, 1, 20_000);
    plan.codecs = vec![Codec::None];
    fill(kafka.bootstrap(), &plan);
    let began = Instant::now();
    while admin.log_range(&topic, 0).0 == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "nothing was deleted");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn minio_keeps_what_it_took_and_obeys_its_policy() {
    let minio = Minio::start_with_policy();
    let bucket = Bucket::create(&minio, "kept");
    bucket.put("a/b", b"content".to_vec());
    minio.kill();
    minio.restart();
    assert_eq!(bucket.get("a/b"), b"content");
    assert_eq!(bucket.list("a/").len(), 1);
    minio.deny(&["s3:PutObject denied/"]);
    bucket.put("allowed/x", Vec::new());
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bucket.put("denied/x", Vec::new())));
    assert!(refused.is_err(), "a denied action was done");
    minio.deny(&[]);
    bucket.put("denied/x", Vec::new());
    assert_eq!(bucket.data_keys(""), ["a/b", "allowed/x", "denied/x"]);
    assert_eq!(bucket.uploads("a/b"), []);
}

#[test]
fn the_shared_store_answers() {
    let bucket = Bucket::create(Minio::shared(), &unique("shared"));
    bucket.put("k", vec![7; 100_000]);
    assert_eq!(bucket.get("k"), vec![7; 100_000]);
    bucket.delete("k");
    assert!(bucket.list("").is_empty());
}

/// A test run that is killed leaves nothing behind.
#[test]
fn a_server_ends_with_its_owner() {
    let run = tempfile::tempdir().expect("a temporary directory");
    let dir = run.path().join("minio");
    let mut owner = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("services/minio.sh");
    let up = std::process::Command::new("bash")
        .arg(script)
        .args(["up", "--policy", "--owner", &owner.id().to_string(), "--dir"])
        .arg(&dir)
        .output();
    let said = String::from_utf8(up.expect("bash runs").stdout).expect("settings are text");
    let address = said.lines().find_map(|line| line.strip_prefix("MINIO_ENDPOINT=http://")).expect("it says where it listens").to_owned();
    assert!(std::net::TcpStream::connect(&address).is_ok(), "{address} does not listen");
    owner.kill().and_then(|()| owner.wait().map(drop)).expect("sleep can be killed");
    let began = Instant::now();
    while std::net::TcpStream::connect(&address).is_ok() || dir.exists() {
        assert!(began.elapsed() < Duration::from_secs(20), "{address} outlives its owner");
        std::thread::sleep(Duration::from_millis(100));
    }
}
