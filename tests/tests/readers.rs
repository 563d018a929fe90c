//! The independent readers themselves: they see what is there, tell when something is not, and agree with the oracle about Kafka.

use catchment_tests::admin::Admin;
use catchment_tests::generate::{Plan, Profile, fill};
use catchment_tests::oracle::{Stored, Truth};
use catchment_tests::readers::{self, ReaderView};
use catchment_tests::services::Kafka;
use tempfile::NamedTempFile;

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

/// A mixed topic of a name that no earlier run used, how many records it shows, and what confluent-kafka sees of it.
fn seen_by_another_client(strange_names: u64) -> (String, u64, ReaderView, NamedTempFile) {
    let kafka = Kafka::shared();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970");
    let topic = format!("readers-{strange_names}-{:x}", now.as_micros());
    Admin::new(kafka.bootstrap()).create_mixed_topic(&topic, 2);
    let plan = Plan { profile: Profile { strange_names, ..Profile::mixed() }, ..Plan::mixed(3, &topic, 2, 10_000) };
    let filled = fill(kafka.bootstrap(), &plan);
    let out = NamedTempFile::new().expect("a temporary file");
    let view = readers::read_topic(kafka.bootstrap(), &topic, out.path());
    (topic, filled.visible, view, out)
}

#[test]
fn another_client_sees_the_same_topic() {
    let (topic, visible, view, digests) = seen_by_another_client(0);
    assert_eq!((view.rows, view.distinct, view.unreadable), (visible, visible, 0));
    Truth::read(Kafka::shared().bootstrap(), &topic).assert_equals(&Stored::from_digest_file(digests.path()), "confluent-kafka");
}

#[test]
fn another_client_tells_what_it_cannot_read() {
    let (topic, visible, view, digests) = seen_by_another_client(20);
    assert!(view.unreadable > 0 && view.rows + view.unreadable == visible, "{view:?} of {visible}");
    let difference = Truth::read(Kafka::shared().bootstrap(), &topic).compare(&Stored::from_digest_file(digests.path()));
    assert_eq!(difference.lost.len() as u64, view.unreadable, "{difference}");
    assert!(difference.altered.is_empty() && difference.duplicated.is_empty() && difference.foreign.is_empty(), "{difference}");
}
