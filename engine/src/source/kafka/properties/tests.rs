//! Tests of the property maps.

use super::super::errors::PROPERTY_OWNED;
use super::super::limits::Assumed;
use super::*;
use crate::error::codes::SECRET_UNREADABLE;

fn plain() -> KafkaSettings {
    KafkaSettings::plaintext("a:1,b:2")
}

fn with(properties: &[(&str, &str)]) -> KafkaSettings {
    KafkaSettings { properties: properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(), ..plain() }
}

fn reader(config: &KafkaSettings) -> Result<ClientProperties, Error> {
    config.reader_properties(&FetchLimits::new(64 << 20, 4, Assumed { unfolding: 8, ..Assumed::START }))
}

fn group(config: &KafkaSettings) -> ClientProperties {
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
    assert_eq!(p.get("statistics.interval.ms"), Some("1000"));
}

#[test]
fn statistics_come_as_often_as_the_limits_need_them_or_more_often() {
    for (asked, set) in [("250", "250"), ("60000", "1000"), ("0", "1000"), ("often", "often")] {
        let p = reader(&with(&[("statistics.interval.ms", asked)])).unwrap();
        assert_eq!(p.get("statistics.interval.ms"), Some(set), "{asked}");
    }
}

#[test]
fn the_smallest_responses_are_no_less_than_librdkafka_allows() {
    let p = plain().reader_properties(&FetchLimits::new(0, 1, Assumed::START)).unwrap();
    assert_eq!((p.get("fetch.max.bytes"), p.get("message.max.bytes")), (Some("2048"), Some("2048")));
    super::super::client::create(&p, rdkafka::consumer::DefaultConsumerContext).unwrap();
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
    let p = reader(&with(&[("client.id", "mine"), ("socket.timeout.ms", "9"), ("fetch.wait.max.ms", "7"), ("fetch.min.bytes", "900000")]))
        .unwrap();
    assert_eq!((p.get("client.id"), p.get("socket.timeout.ms"), p.get("fetch.wait.max.ms")), (Some("mine"), Some("9"), Some("7")));
    assert_eq!(p.get("fetch.min.bytes"), p.get("fetch.message.max.bytes"), "more than a slice never comes");
}

#[test]
fn password_logins_map_to_their_mechanisms() {
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let config = KafkaSettings { sasl: Some(SaslSettings::password(mechanism, "u", "p")), ..plain() };
        let p = reader(&config).unwrap();
        assert_eq!((p.get("security.protocol"), p.get("sasl.mechanism")), (Some("sasl_plaintext"), Some(mechanism.as_str())));
        assert_eq!((p.get("sasl.username"), p.get("sasl.password")), (Some("u"), Some("p")));
        let config = KafkaSettings { sasl: Some(SaslSettings::new(mechanism)), ..plain() };
        assert_eq!(config.validate().unwrap_err().code, CONNECTION_INVALID);
    }
}

#[test]
fn bearer_tokens_come_from_an_endpoint_or_a_file_not_both() {
    let mut sasl = SaslSettings::new(Mechanism::OAuthBearer);
    let check = |sasl: &SaslSettings| reader(&KafkaSettings { sasl: Some(sasl.clone()), ..plain() });
    assert!(check(&sasl).is_err());
    sasl.token_endpoint = Some("https://issuer/token".into());
    sasl.client_id = Some("id".into());
    assert!(check(&sasl).is_err());
    sasl.client_secret = Some("shh".into());
    assert_eq!(check(&sasl).unwrap().get("sasl.mechanism"), Some("OAUTHBEARER"));
    sasl.token_file = Some("/t".into());
    assert!(check(&sasl).is_err());
    check(&SaslSettings { token_file: Some("/t".into()), ..SaslSettings::new(Mechanism::OAuthBearer) }).unwrap();
}

#[test]
fn tls_verifies_unless_told_otherwise() {
    let config = KafkaSettings { tls: Some(TlsSettings { ca: Some("/ca.pem".into()), ..TlsSettings::default() }), ..plain() };
    let p = reader(&config).unwrap();
    assert_eq!((p.get("security.protocol"), p.get("ssl.ca.location")), (Some("ssl"), Some("/ca.pem")));
    assert_eq!(p.get("enable.ssl.certificate.verification"), None);
    let config = KafkaSettings { tls: Some(TlsSettings { verify: false, ..TlsSettings::default() }), ..plain() };
    assert_eq!(reader(&config).unwrap().get("enable.ssl.certificate.verification"), Some("false"));
}

#[test]
fn mutual_tls_needs_both_halves() {
    let half = TlsSettings { certificate: Some("/c.pem".into()), ..TlsSettings::default() };
    assert_eq!(KafkaSettings { tls: Some(half.clone()), ..plain() }.validate().unwrap_err().code, CONNECTION_INVALID);
    let whole = TlsSettings { key: Some("/k.pem".into()), key_password: Some("k".into()), ..half };
    let p = reader(&KafkaSettings { tls: Some(whole), ..plain() }).unwrap();
    assert_eq!((p.get("ssl.certificate.location"), p.get("ssl.key.password")), (Some("/c.pem"), Some("k")));
}

#[test]
fn presets_set_what_their_clusters_need() {
    let preset = |preset, sasl| reader(&KafkaSettings { preset: Some(preset), sasl, ..plain() });
    let login = || Some(SaslSettings::password(Mechanism::Plain, "u", "p"));
    assert_eq!(preset(Preset::CKafka, login()).unwrap().get("security.protocol"), Some("sasl_plaintext"));
    assert_eq!(preset(Preset::Redpanda, None).unwrap().get("security.protocol"), Some("plaintext"));
    assert_eq!(preset(Preset::Msk, None).unwrap().get("security.protocol"), Some("ssl"));
    assert_eq!(preset(Preset::Confluent, login()).unwrap().get("security.protocol"), Some("sasl_ssl"));
    assert_eq!(preset(Preset::Confluent, None).unwrap_err().code, CONNECTION_INVALID);
    let plain_msk = KafkaSettings { preset: Some(Preset::Msk), ..with(&[("security.protocol", "PLAINTEXT")]) };
    assert_eq!(reader(&plain_msk).unwrap().get("security.protocol"), Some("plaintext"));
}

#[test]
fn a_protocol_that_contradicts_is_refused() {
    let config = KafkaSettings { tls: Some(TlsSettings::default()), ..with(&[("security.protocol", "plaintext")]) };
    assert_eq!(config.validate().unwrap_err().code, CONNECTION_INVALID);
    assert_eq!(KafkaSettings::default().validate().unwrap_err().code, CONNECTION_INVALID);
}

#[test]
fn no_secret_is_printed() {
    let mut config = with(&[("sasl.oauthbearer.client.secret", "canary-1"), ("ssl.key.password", "canary-2")]);
    config.sasl = Some(SaslSettings::password(Mechanism::Plain, "u", "canary-3"));
    config.tls = Some(TlsSettings { key_password: Some("canary-4".into()), ..TlsSettings::default() });
    let shown = format!("{config:?} {:?}", reader(&config).unwrap());
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn an_unreadable_secret_is_named() {
    let config = KafkaSettings { sasl: Some(SaslSettings::password(Mechanism::Plain, "u", "env:CATCHMENT_NO_SUCH_VARIABLE")), ..plain() };
    let error = config.validate().unwrap_err();
    assert_eq!(error.code, SECRET_UNREADABLE);
    assert!(error.to_string().contains("sasl.password"), "{error}");
}

#[test]
fn the_docs_list_every_owned_property() {
    let docs = include_str!("../../../../../docs/config.md");
    for (key, why) in OWNED {
        assert!(docs.lines().any(|line| line.contains(&format!("`{key}`")) && line.contains(why)), "{key} is not in docs/config.md");
    }
}
