//! A real Apache Kafka node.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Server, shared_dir};

/// Which broker. The old one speaks the newest protocol that CKafka serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaVersion {
    /// 4.x, what most tests use.
    #[default]
    V4,
    /// 3.2: no SCRAM accounts, no KIP-848.
    V3,
}

/// The doors of a broker. Each has a port of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// No encryption, no account.
    Plaintext,
    /// An account (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER), no encryption.
    Sasl,
    /// An account over TLS.
    SaslSsl,
    /// TLS; the client need not show a certificate.
    Ssl,
    /// TLS; the client must show a certificate.
    MutualTls,
}

impl Listener {
    fn setting(self) -> &'static str {
        match self {
            Self::Plaintext => "KAFKA_PLAINTEXT",
            Self::Sasl => "KAFKA_SASL",
            Self::SaslSsl => "KAFKA_SASL_SSL",
            Self::Ssl => "KAFKA_SSL",
            Self::MutualTls => "KAFKA_MTLS",
        }
    }
}

/// What [`Kafka::start`] may be told.
#[derive(Clone, Debug, Default)]
pub struct KafkaOptions {
    /// Which broker.
    pub version: KafkaVersion,
    /// The JVM's heap, such as `"1g"`. Default 512 MiB.
    pub heap: Option<String>,
    /// Broker properties beside, and over, those of `tests/services/kafka.sh`.
    pub properties: Vec<(String, String)>,
}

impl KafkaOptions {
    fn arguments(&self) -> Vec<String> {
        let version = match self.version {
            KafkaVersion::V4 => "4",
            KafkaVersion::V3 => "3",
        };
        let mut args = vec!["--version".to_owned(), version.to_owned()];
        if let Some(heap) = &self.heap {
            args.extend(["--heap".to_owned(), heap.clone()]);
        }
        for (key, value) in &self.properties {
            args.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        args
    }
}

/// A running broker. Dropping one that [`start`](Self::start) gave kills it and deletes its data.
#[derive(Debug)]
pub struct Kafka {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Named by an environment variable: only its plain address is known.
    External {
        variable: &'static str,
        address: String,
    },
    Node {
        server: Server,
        options: KafkaOptions,
    },
}

impl Kafka {
    /// The password of the certificates' `client-locked.key`.
    pub const KEY_PASSWORD: &'static str = "catchment-secret";

    /// The 4.x broker that all tests may use but none may stop: `CATCHMENT_TEST_KAFKA` (host:port) or the run's own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| Self::named_or_own("CATCHMENT_TEST_KAFKA", "kafka", KafkaVersion::V4))
    }

    /// The 3.x broker that all tests may use but none may stop: `CATCHMENT_TEST_KAFKA3` (host:port) or the run's own.
    pub fn shared_v3() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| Self::named_or_own("CATCHMENT_TEST_KAFKA3", "kafka3", KafkaVersion::V3))
    }

    fn named_or_own(variable: &'static str, name: &str, version: KafkaVersion) -> Self {
        // An empty one is none, as for scripts/test.
        if let Some(address) = std::env::var(variable).ok().filter(|address| !address.is_empty()) {
            return Self { kind: Kind::External { variable, address } };
        }
        let options = KafkaOptions { version, ..KafkaOptions::default() };
        match shared_dir(name) {
            Some(dir) => Self { kind: Kind::Node { server: Server::attach("kafka.sh", dir), options } },
            None => Self::start(options),
        }
    }

    /// A broker of the test's own on free ports.
    ///
    /// # Panics
    /// If it does not serve within 90 s, with the end of its log.
    pub fn start(options: KafkaOptions) -> Self {
        let server = Server::start("kafka.sh", "kafka-", options.arguments());
        Self { kind: Kind::Node { server, options } }
    }

    /// The address of the plain listener, `host:port`.
    pub fn bootstrap(&self) -> &str {
        self.listener(Listener::Plaintext)
    }

    /// The address of a listener, `host:port`.
    ///
    /// # Panics
    /// If the broker is an outside one and `listener` is not the plain one.
    pub fn listener(&self, listener: Listener) -> &str {
        match &self.kind {
            Kind::External { variable, address } => {
                assert!(listener == Listener::Plaintext, "the broker of {variable} has only a plain address; use Kafka::start()");
                address
            }
            Kind::Node { server, .. } => server.setting(listener.setting()),
        }
    }

    /// The account of the SASL listeners: name and password.
    pub fn account(&self) -> (&str, &str) {
        let server = self.server();
        (server.setting("KAFKA_USER"), server.setting("KAFKA_PASSWORD"))
    }

    /// A file of the broker's certificates: `ca.pem`, `client.pem`, `client.key`, `client-locked.key`, `rogue.pem`, `rogue.key`,
    /// `rogue-ca.pem`.
    pub fn certificate(&self, name: &str) -> PathBuf {
        Path::new(self.server().setting("KAFKA_CERTS")).join(name)
    }

    /// SIGKILL. The page cache survives, so the log does too.
    pub fn kill(&self) {
        self.server().control("kill", &[]);
    }

    /// A clean shutdown, waited for.
    pub fn stop(&self) {
        self.server().control("down", &[]);
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.server().control("stop", &[]);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.server().control("cont", &[]);
    }

    /// Starts it again after [`kill`](Self::kill) or [`stop`](Self::stop), on the same ports with the same data.
    pub fn restart(&self) {
        let Kind::Node { server, options } = &self.kind else { panic!("an outside broker is not ours to start") };
        let mut args = options.arguments();
        args.extend(["--owner".to_owned(), std::process::id().to_string()]);
        server.control("up", &args);
    }

    /// The broker's process id.
    pub fn pid(&self) -> i32 {
        self.server().pid()
    }

    /// The log segments of a partition, oldest first: for tests that flip a byte in a stopped broker's log.
    pub fn segments(&self, topic: &str, partition: i32) -> Vec<PathBuf> {
        let dir = self.server().dir.join("data").join(format!("{topic}-{partition}"));
        let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("cannot list {}: {e}", dir.display()));
        let mut files: Vec<_> = entries
            .map(|entry| entry.expect("a directory entry is readable").path())
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .collect();
        files.sort();
        files
    }

    fn server(&self) -> &Server {
        match &self.kind {
            Kind::External { variable, address } => {
                panic!("the broker at {address} ({variable}) is not ours: unset it, or use Kafka::start()")
            }
            Kind::Node { server, .. } => server,
        }
    }
}
