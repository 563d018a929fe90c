//! The Kafka client that this build links.

/// The version of librdkafka, as it says itself; none in a build without the Kafka source.
pub fn client_version() -> Option<String> {
    #[cfg(feature = "kafka")]
    return Some(rdkafka::util::get_rdkafka_version().1);
    #[cfg(not(feature = "kafka"))]
    None
}
