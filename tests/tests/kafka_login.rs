//! Every way to log in, against the listeners of a real broker, with a wrong secret too.

use std::path::PathBuf;
use std::time::Duration;

use catchment::error::{Code, ErrorKind};
use catchment::source::kafka::{KafkaCluster, KafkaConfig, Mechanism, Sasl, Secret, Tls, errors};
use catchment::source::{Committed, Group, Source};
use catchment_tests::admin::Admin;
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

fn config(kafka: &Kafka, listener: Listener, sasl: Option<Sasl>, tls: Option<Tls>) -> KafkaConfig {
    KafkaConfig { sasl, tls, ..KafkaConfig::plaintext(kafka.listener(listener)) }
}

fn trusting(kafka: &Kafka) -> Tls {
    Tls { ca: Some(kafka.certificate("ca.pem")), ..Tls::default() }
}

/// Reader and group client both get in: a record is read, and a commit made.
async fn gets_in(config: KafkaConfig, rule: &str) {
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
async fn is_refused(config: KafkaConfig, code: Code, named: &str) {
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
        let login = |password: &str| Some(Sasl::password(mechanism, user, password));
        let rule = mechanism.name().to_lowercase();
        gets_in(config(&kafka, Listener::Sasl, login(password), None), &rule).await;
        gets_in(config(&kafka, Listener::SaslSsl, login(password), Some(trusting(&kafka))), &rule).await;
        is_refused(config(&kafka, Listener::Sasl, login("wrong-canary"), None), errors::AUTHENTICATION, mechanism.name()).await;
    }
    let unknown = Sasl::password(Mechanism::Plain, "nobody", "wrong-canary");
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
        Some(Sasl {
            token_endpoint: Some(endpoint.url().to_owned()),
            client_id: Some(id.to_owned()),
            client_secret: Some(Secret::from(secret)),
            ..Sasl::new(Mechanism::OauthBearer)
        })
    };
    gets_in(config(&kafka, Listener::Sasl, login(TokenEndpoint::ACCOUNT.1), None), "endpoint").await;
    gets_in(config(&kafka, Listener::SaslSsl, login(TokenEndpoint::ACCOUNT.1), Some(trusting(&kafka))), "endpoint").await;
    is_refused(config(&kafka, Listener::Sasl, login("wrong-canary"), None), errors::AUTHENTICATION, "sasl.client_secret").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_file() {
    let kafka = node();
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, lifetime: i64| -> PathBuf {
        let (_, answer) = TokenEndpoint::start(lifetime).request(TokenEndpoint::ACCOUNT.1).expect("a token");
        let path = dir.path().join(name);
        std::fs::write(&path, answer["access_token"].as_str().expect("a token")).expect("write");
        path
    };
    let login = |path: PathBuf| Some(Sasl { token_file: Some(path), ..Sasl::new(Mechanism::OauthBearer) });
    gets_in(config(&kafka, Listener::Sasl, login(write("good", 300)), None), "file").await;
    is_refused(config(&kafka, Listener::Sasl, login(write("old", -300)), None), errors::AUTHENTICATION, "expired").await;
    is_refused(config(&kafka, Listener::Sasl, login(dir.path().join("none")), None), errors::AUTHENTICATION, "none").await;

    // A token of a few seconds is read again before it ends, and new connections get in with the new one.
    let path = write("short", 6);
    let cluster = KafkaCluster::connect(config(&kafka, Listener::Sasl, login(path), None), SHARE).await.expect("connect");
    for _ in 0..4 {
        write("short", 6);
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.bounds(&tp(TOPIC, 0)).await.expect("bounds");
    }
    cluster.resize(catchment::source::kafka::ReadShare { bytes: 64 << 20, partitions: 1 }).expect("a second client");
    cluster.bounds(&tp(TOPIC, 0)).await.expect("bounds");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates() {
    let kafka = node();
    gets_in(config(&kafka, Listener::Ssl, None, Some(trusting(&kafka))), "tls").await;
    let distrusting = Tls { ca: Some(kafka.certificate("rogue-ca.pem")), ..Tls::default() };
    is_refused(config(&kafka, Listener::Ssl, None, Some(distrusting.clone())), errors::TLS, "tls.ca").await;
    gets_in(config(&kafka, Listener::Ssl, None, Some(Tls { verify: false, ..distrusting })), "tls").await;

    let shown = |certificate: &str, key: &str| Tls {
        certificate: Some(kafka.certificate(certificate)),
        key: Some(kafka.certificate(key)),
        ..trusting(&kafka)
    };
    gets_in(config(&kafka, Listener::MutualTls, None, Some(shown("client.pem", "client.key"))), "mtls").await;
    is_refused(config(&kafka, Listener::MutualTls, None, Some(trusting(&kafka))), errors::TLS, "tls.certificate").await;
    is_refused(config(&kafka, Listener::MutualTls, None, Some(shown("rogue.pem", "rogue.key"))), errors::TLS, "tls.certificate").await;
}
