//! The independent readers themselves: they see what is there, tell when something is not, and agree with the oracle about Kafka.

use catchment_tests::admin::Admin;
use catchment_tests::generate::{Plan, Profile, fill};
use catchment_tests::oracle::{Stored, Truth};
use catchment_tests::readers;
use catchment_tests::services::Kafka;

#[test]
fn readers_see_what_is_there_and_what_is_not() {
    let out = readers::program("selftest.py").output().expect("Python runs");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.contains("readers: ok"), "{said}{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn the_canonical_form_is_the_oracles() {
    let out = readers::program("canonical.py").output().expect("Python runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn another_client_sees_the_same_topic() {
    let kafka = Kafka::shared();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970");
    let topic = format!("readers-{:x}", now.as_micros());
    Admin::new(kafka.bootstrap()).create_mixed_topic(&topic, 2);
    // It crashes on names that are not UTF-8.
    let plan = Plan { profile: Profile { strange_names: 0, ..Profile::mixed() }, ..Plan::mixed(3, &topic, 2, 10_000) };
    let filled = fill(kafka.bootstrap(), &plan);
    let out = tempfile::NamedTempFile::new().expect("a temporary file");
    let view = readers::read_topic(kafka.bootstrap(), &topic, out.path());
    assert_eq!((view.rows, view.distinct), (filled.visible, filled.visible));
    Truth::read(kafka.bootstrap(), &topic).assert_equals(&Stored::from_digest_file(out.path()), "confluent-kafka");
}
