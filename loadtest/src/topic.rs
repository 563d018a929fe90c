//! The cluster and the topic of a load test: how they are reached, and whether the topic is there.
//!
//! Not done here: nothing is deleted, and nothing about an existing topic is changed.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::failure::{Failure, Result};

/// How long the cluster may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(15);

/// Partitions of a topic that is made, unless the caller says how many.
const PARTITIONS: i32 = 8;

/// What the program sets itself, because what it reports rests on it.
const OURS: [&str; 7] = [
    "bootstrap.servers",
    "transactional.id",
    "enable.idempotence",
    "compression.codec",
    "compression.type",
    "isolation.level",
    "enable.partition.eof",
];

/// What begins the properties that say how a cluster is reached. They are handed on to `catchment`; others are the producer's.
const OF_CONNECTIONS: [&str; 8] = ["security.", "sasl.", "ssl.", "enable.ssl.", "https.", "socket.", "broker.", "client."];

/// A Kafka cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    brokers: String,
    properties: Vec<(String, String)>,
}

/// A topic that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Whether it holds no record.
    pub is_empty: bool,
}

impl Cluster {
    /// A cluster by its bootstrap brokers, with librdkafka properties.
    ///
    /// # Errors
    /// If a property is one that the program sets itself.
    pub fn new(brokers: &str, properties: Vec<(String, String)>) -> Result<Self> {
        match properties.iter().find(|(name, _)| OURS.contains(&name.as_str())) {
            Some((name, _)) => Err(Failure::usage(format!("-X {name} is set by catchment-loadtest itself"))
                .help("leave it out; brokers, codec and transactions have flags of their own")),
            None => Ok(Self { brokers: brokers.to_owned(), properties }),
        }
    }

    /// Its bootstrap brokers, one by one.
    pub fn brokers(&self) -> Vec<String> {
        self.brokers.split(',').map(|broker| broker.trim().to_owned()).filter(|broker| !broker.is_empty()).collect()
    }

    /// What every client of it begins with.
    pub fn config(&self) -> ClientConfig {
        self.config_over(&[])
    }

    /// The same, with defaults that the caller's properties replace.
    pub fn config_over(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        config.set("bootstrap.servers", &self.brokers).set("client.id", "catchment-loadtest");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// The flags that lead `catchment` to it.
    pub fn arguments(&self) -> Vec<String> {
        let of_connection = |name: &str| OF_CONNECTIONS.iter().any(|begin| name.starts_with(begin));
        let properties = self.properties.iter().filter(|(name, _)| of_connection(name));
        let properties = properties.flat_map(|(name, value)| ["-X".to_owned(), format!("{name}={value}")]);
        ["-b".to_owned(), self.brokers.clone()].into_iter().chain(properties).collect()
    }

    /// The topic of this name. It is made if it is not there.
    ///
    /// # Errors
    /// If the cluster does not answer or does not allow it, or the topic has another number of partitions.
    pub fn topic(&self, name: &str, partitions: Option<i32>) -> Result<Topic> {
        let admin: AdminClient<DefaultClientContext> = self
            .config()
            .create()
            .map_err(|e| Failure::usage("the Kafka client cannot be made").because(e).help("check -X and --brokers"))?;
        let found = match self.partitions(&admin, name)? {
            Some(found) => found,
            None => self.make(&admin, name, partitions.unwrap_or(PARTITIONS))?,
        };
        match partitions {
            Some(wanted) if wanted != found => {
                Err(Failure::usage(format!("topic {name} has {found} partitions, and --partitions says {wanted}"))
                    .help("leave --partitions out, or name a topic that is not there"))
            }
            _ => Ok(Topic { name: name.to_owned(), partitions: found, is_empty: self.is_empty(&admin, name, found)? }),
        }
    }

    /// How many partitions a topic has; none if it is not there. All topics are asked for: a question for one could make it.
    fn partitions(&self, admin: &AdminClient<DefaultClientContext>, name: &str) -> Result<Option<i32>> {
        let metadata = admin.inner().fetch_metadata(None, PATIENCE).map_err(|e| self.silent(&e))?;
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        let led = found.filter(|topic| topic.partitions().iter().all(|partition| partition.leader() >= 0));
        Ok(led.and_then(|topic| i32::try_from(topic.partitions().len()).ok()).filter(|partitions| *partitions > 0))
    }

    fn make(&self, admin: &AdminClient<DefaultClientContext>, name: &str, partitions: i32) -> Result<i32> {
        let refused = |cause: &dyn std::fmt::Display| {
            Failure::new(format!("topic {name} cannot be made")).because(cause).help("make it yourself, or ask for the right to Create it")
        };
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        // First as the brokers have it set (-1), which some kinds of brokers do not know.
        for replicas in [-1, 1] {
            let new = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
            let made = wait(admin.create_topics([&new], &options)).map_err(|e| refused(&e))?;
            match made.into_iter().next() {
                Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) if replicas < 0 => {}
                Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => return Err(refused(&code)),
                _ => break,
            }
        }
        self.await_leaders(admin, name)
    }

    fn await_leaders(&self, admin: &AdminClient<DefaultClientContext>, name: &str) -> Result<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(partitions) = self.partitions(admin, name)? {
                return Ok(partitions);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(Failure::new(format!("topic {name} was made, but has no leaders after {} s", PATIENCE.as_secs()))
            .help("look at the brokers' logs"))
    }

    fn is_empty(&self, admin: &AdminClient<DefaultClientContext>, name: &str, partitions: i32) -> Result<bool> {
        for partition in 0..partitions {
            // A topic that was just made has leaders before all brokers know of it.
            let deadline = Instant::now() + PATIENCE;
            let (low, high) = loop {
                match admin.inner().fetch_watermarks(name, partition, PATIENCE) {
                    Ok(range) => break range,
                    Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
                    Err(e) => return Err(self.silent(&e)),
                }
            };
            if low < high {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn silent(&self, cause: &KafkaError) -> Failure {
        Failure::new(format!("Kafka at {} does not answer", self.brokers))
            .because(cause)
            .help("check --brokers, that a broker listens there, and with -X whether it wants TLS or a login")
    }
}

/// Waits for a future by polling it; administrative calls are rare.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_the_figures_rest_on_cannot_be_set() {
        for name in OURS {
            let refused = Cluster::new("localhost:9092", properties(&[(name, "x")])).expect_err(name);
            assert!(refused.to_string().contains(name), "{refused}");
        }
    }

    #[test]
    fn catchment_is_told_how_the_cluster_is_reached_and_nothing_else() {
        let given = properties(&[("security.protocol", "SASL_SSL"), ("linger.ms", "20"), ("sasl.username", "me")]);
        let cluster = Cluster::new("a:1,b:2", given).expect("no property is ours");
        assert_eq!(cluster.arguments(), ["-b", "a:1,b:2", "-X", "security.protocol=SASL_SSL", "-X", "sasl.username=me"]);
        assert_eq!(cluster.config().get("linger.ms"), Some("20"));
        let brokers = |text| Cluster::new(text, Vec::new()).expect("no property is ours").brokers();
        assert_eq!((brokers("a:1, b:2"), brokers("a:1,")), (vec!["a:1".to_owned(), "b:2".to_owned()], vec!["a:1".to_owned()]));
    }

    #[test]
    fn a_property_that_librdkafka_does_not_know_is_a_usage_error() {
        let cluster = Cluster::new("127.0.0.1:1", properties(&[("no.such.property", "1")])).expect("it is not ours");
        let refused = cluster.topic("t", None).expect_err("the client cannot be made");
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("no.such.property"), "{refused}");
    }
}
