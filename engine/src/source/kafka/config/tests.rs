//! Tests of the property maps.

use super::super::errors::{PROPERTY_OWNED, SECRET_UNREADABLE};
use super::*;

fn plain() -> KafkaConfig {
    KafkaConfig::plaintext("a:1,b:2")
}

fn with(properties: &[(&str, &str)]) -> KafkaConfig {
    KafkaConfig { properties: properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(), ..plain() }
}

fn reader(config: &KafkaConfig) -> Result<ClientProperties, Error> {
    config.reader_properties(&FetchLimits::new(64 << 20, 4))
}

fn group(config: &KafkaConfig) -> ClientProperties {
    config.group_properties("catchment-r", &config.membership().unwrap(), Some("r-h-0")).unwrap()
}

#[test]
fn what_the_promise_rests_on_is_set_in_both_clients() {
    for p in [reader(&plain()).unwrap(), group(&plain())] {
        for (key, value) in [
            ("bootstrap.servers", "a:1,b:2"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("isolation.level", "read_committed"),
            ("allow.auto.create.topics", "false"),
            ("security.protocol", "plaintext"),
        ] {
            assert_eq!(p.get(key), Some(value), "{key}");
        }
    }
}

#[test]
fn the_reader_has_no_group_and_sees_ends() {
    let p = reader(&with(&[("group.instance.id", "x"), ("session.timeout.ms", "6000")])).unwrap();
    assert_eq!((p.get("group.id"), p.get("group.instance.id"), p.get("session.timeout.ms")), (None, None, None));
    assert_eq!((p.get("enable.partition.eof"), p.get("check.crcs")), (Some("true"), Some("true")));
    assert!(p.get("queued.max.messages.kbytes").is_some() && p.get("fetch.max.bytes").is_some());
}

#[test]
fn the_group_client_carries_the_membership() {
    let p = group(&plain());
    assert_eq!((p.get("group.id"), p.get("group.instance.id")), (Some("catchment-r"), Some("r-h-0")));
    assert_eq!(p.get("partition.assignment.strategy"), Some("roundrobin"));
    let p = group(&with(&[("partition.assignment.strategy", "cooperative-sticky")]));
    assert_eq!((p.get("group.instance.id"), p.get("partition.assignment.strategy")), (None, Some("cooperative-sticky")));
    let p = group(&with(&[("group.protocol", "consumer")]));
    assert_eq!((p.get("group.protocol"), p.get("partition.assignment.strategy")), (Some("consumer"), None));
    let p = group(&with(&[("group.instance.id", "")]));
    assert_eq!(p.get("group.instance.id"), None);
}

#[test]
fn owned_properties_are_refused_by_name() {
    for (key, _) in OWNED {
        let error = with(&[(key, "1")]).validate().unwrap_err();
        assert_eq!((error.code, error.kind), (PROPERTY_OWNED, ErrorKind::Invalid), "{key}");
        assert!(error.message.contains(key), "{error}");
    }
}

#[test]
fn other_properties_pass_through() {
    let p = reader(&with(&[("client.id", "mine"), ("socket.timeout.ms", "9"), ("fetch.wait.max.ms", "7")])).unwrap();
    assert_eq!((p.get("client.id"), p.get("socket.timeout.ms"), p.get("fetch.wait.max.ms")), (Some("mine"), Some("9"), Some("7")));
}

#[test]
fn password_logins_map_to_their_mechanisms() {
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let config = KafkaConfig { sasl: Some(Sasl::password(mechanism, "u", "p")), ..plain() };
        let p = reader(&config).unwrap();
        assert_eq!((p.get("security.protocol"), p.get("sasl.mechanism")), (Some("sasl_plaintext"), Some(mechanism.name())));
        assert_eq!((p.get("sasl.username"), p.get("sasl.password")), (Some("u"), Some("p")));
        let config = KafkaConfig { sasl: Some(Sasl::new(mechanism)), ..plain() };
        assert_eq!(config.validate().unwrap_err().code, CONNECTION_INVALID);
    }
}

#[test]
fn bearer_tokens_come_from_an_endpoint_or_a_file_not_both() {
    let mut sasl = Sasl::new(Mechanism::OauthBearer);
    let check = |sasl: &Sasl| reader(&KafkaConfig { sasl: Some(sasl.clone()), ..plain() });
    assert!(check(&sasl).is_err());
    sasl.token_endpoint = Some("https://issuer/token".into());
    sasl.client_id = Some("id".into());
    assert!(check(&sasl).is_err());
    sasl.client_secret = Some("shh".into());
    let p = check(&sasl).unwrap();
    assert_eq!((p.get("sasl.oauthbearer.method"), p.get("sasl.oauthbearer.client.secret")), (Some("oidc"), Some("shh")));
    sasl.token_file = Some("/t".into());
    assert!(check(&sasl).is_err());
    let p = check(&Sasl { token_file: Some("/t".into()), ..Sasl::new(Mechanism::OauthBearer) }).unwrap();
    assert_eq!(p.get("sasl.oauthbearer.method"), None);
}

#[test]
fn tls_verifies_unless_told_otherwise() {
    let config = KafkaConfig { tls: Some(Tls { ca: Some("/ca.pem".into()), ..Tls::default() }), ..plain() };
    let p = reader(&config).unwrap();
    assert_eq!((p.get("security.protocol"), p.get("ssl.ca.location")), (Some("ssl"), Some("/ca.pem")));
    assert_eq!(p.get("enable.ssl.certificate.verification"), None);
    let config = KafkaConfig { tls: Some(Tls { verify: false, ..Tls::default() }), ..plain() };
    assert_eq!(reader(&config).unwrap().get("enable.ssl.certificate.verification"), Some("false"));
}

#[test]
fn mutual_tls_needs_both_halves() {
    let half = Tls { certificate: Some("/c.pem".into()), ..Tls::default() };
    assert_eq!(KafkaConfig { tls: Some(half.clone()), ..plain() }.validate().unwrap_err().code, CONNECTION_INVALID);
    let whole = Tls { key: Some("/k.pem".into()), key_password: Some("k".into()), ..half };
    let p = reader(&KafkaConfig { tls: Some(whole), ..plain() }).unwrap();
    assert_eq!((p.get("ssl.certificate.location"), p.get("ssl.key.password")), (Some("/c.pem"), Some("k")));
}

#[test]
fn presets_set_what_their_clusters_need() {
    let preset = |preset, sasl| reader(&KafkaConfig { preset: Some(preset), sasl, ..plain() });
    let login = || Some(Sasl::password(Mechanism::Plain, "u", "p"));
    assert_eq!(preset(Preset::Ckafka, login()).unwrap().get("security.protocol"), Some("sasl_plaintext"));
    assert_eq!(preset(Preset::Redpanda, None).unwrap().get("security.protocol"), Some("plaintext"));
    assert_eq!(preset(Preset::Msk, None).unwrap().get("security.protocol"), Some("ssl"));
    assert_eq!(preset(Preset::Confluent, login()).unwrap().get("security.protocol"), Some("sasl_ssl"));
    assert_eq!(preset(Preset::Confluent, None).unwrap_err().code, CONNECTION_INVALID);
    let plain_msk = KafkaConfig { preset: Some(Preset::Msk), ..with(&[("security.protocol", "PLAINTEXT")]) };
    assert_eq!(reader(&plain_msk).unwrap().get("security.protocol"), Some("plaintext"));
}

#[test]
fn a_protocol_that_contradicts_is_refused() {
    let config = KafkaConfig { tls: Some(Tls::default()), ..with(&[("security.protocol", "plaintext")]) };
    assert_eq!(config.validate().unwrap_err().code, CONNECTION_INVALID);
    assert_eq!(KafkaConfig::default().validate().unwrap_err().code, CONNECTION_INVALID);
}

#[test]
fn no_secret_is_printed() {
    let mut config = with(&[("sasl.oauthbearer.client.secret", "canary-1"), ("ssl.key.password", "canary-2")]);
    config.sasl = Some(Sasl::password(Mechanism::Plain, "u", "canary-3"));
    config.tls = Some(Tls { key_password: Some("canary-4".into()), ..Tls::default() });
    let shown = format!("{config:?} {:?}", reader(&config).unwrap());
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn an_unreadable_secret_is_named() {
    let config = KafkaConfig { sasl: Some(Sasl::password(Mechanism::Plain, "u", "env:CATCHMENT_NO_SUCH_VARIABLE")), ..plain() };
    let error = config.validate().unwrap_err();
    assert_eq!(error.code, SECRET_UNREADABLE);
    assert!(error.to_string().contains("sasl.password"), "{error}");
}

#[test]
fn it_reads_from_toml() {
    let config: KafkaConfig = toml::from_str(
        r#"
        brokers = ["ckafka-x:50001"]
        preset = "ckafka"
        sasl = { mechanism = "SCRAM-SHA-512", username = "i#u", password = "file:/run/secrets/kafka" }
        tls = { ca = "/ca.pem" }
        properties = { "client.rack" = "a" }
        "#,
    )
    .unwrap();
    assert_eq!(config.preset, Some(Preset::Ckafka));
    assert_eq!(config.sasl.unwrap().mechanism, Mechanism::ScramSha512);
    assert!(config.tls.unwrap().verify);
    assert!(toml::from_str::<KafkaConfig>("broker = []").is_err());
}
