//! A real MinIO server.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::{Server, shared_dir};

/// A running S3 server and the keys of its one account. Dropping one that [`start`](Self::start) gave kills it and deletes its
/// data.
#[derive(Debug)]
pub struct Minio {
    endpoint: String,
    access_key: String,
    secret_key: String,
    server: Option<Server>,
}

impl Minio {
    /// The server that all tests may use but none may stop: `CATCHMENT_TEST_S3` (`http://KEY:SECRET@host:port`) or the run's own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Minio> = OnceLock::new();
        SHARED.get_or_init(|| match (std::env::var("CATCHMENT_TEST_S3"), shared_dir("minio")) {
            (Ok(url), _) => Self::external(&url),
            (Err(_), Some(dir)) => Self::of(Server::attach("minio.sh", dir)),
            (Err(_), None) => Self::start(),
        })
    }

    /// A server of the test's own on a free port.
    ///
    /// # Panics
    /// If it does not serve within 30 s, with the end of its log.
    pub fn start() -> Self {
        Self::of(Server::start("minio.sh", "minio-", Vec::new()))
    }

    /// A server of the test's own whose permissions can be taken away and given back: see [`deny`](Self::deny).
    pub fn start_with_policy() -> Self {
        Self::of(Server::start("minio.sh", "minio-", vec!["--policy".to_owned()]))
    }

    fn of(server: Server) -> Self {
        let setting = |key: &str| server.setting(key).to_owned();
        let (endpoint, access_key, secret_key) = (setting("MINIO_ENDPOINT"), setting("MINIO_ACCESS_KEY"), setting("MINIO_SECRET_KEY"));
        Self { endpoint, access_key, secret_key, server: Some(server) }
    }

    fn external(url: &str) -> Self {
        let parts = url.split_once("://").and_then(|(scheme, rest)| {
            let (account, address) = rest.rsplit_once('@')?;
            let (key, secret) = account.split_once(':')?;
            Some((format!("{scheme}://{}", address.trim_end_matches('/')), key.to_owned(), secret.to_owned()))
        });
        let (endpoint, access_key, secret_key) = parts.expect("CATCHMENT_TEST_S3 is http://KEY:SECRET@host:port");
        Self { endpoint, access_key, secret_key, server: None }
    }

    /// Its URL, `http://host:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The account's key and secret.
    pub fn keys(&self) -> (&str, &str) {
        (&self.access_key, &self.secret_key)
    }

    /// The variables from which the program under test takes endpoint and credentials.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", &self.access_key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_key),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .to_vec()
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.server().control("kill", &[]);
    }

    /// SIGTERM, waited for.
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

    /// Starts it again after [`kill`](Self::kill) or [`stop`](Self::stop), on the same port with the same data.
    pub fn restart(&self) {
        self.server().control("up", &["--owner".to_owned(), std::process::id().to_string()]);
    }

    /// Refuses these actions from now on, each `s3:PutObject` or `s3:PutObject key/prefix`; an empty list allows all again.
    ///
    /// # Panics
    /// If the server was not started by [`start_with_policy`](Self::start_with_policy).
    pub fn deny(&self, actions: &[&str]) {
        let dir = &self.server().dir;
        let (file, new) = (dir.join("deny"), dir.join("deny.new"));
        assert!(file.exists(), "this server has no policy: use Minio::start_with_policy()");
        std::fs::write(&new, actions.join("\n")).and_then(|()| std::fs::rename(&new, &file)).expect("the policy file is writable");
    }

    /// How often each key was to be written so far, by one PUT, by a part or by what begins and ends an upload: the store's own count of the
    /// requests that need `s3:PutObject`.
    ///
    /// # Panics
    /// If the server was not started by [`start_with_policy`](Self::start_with_policy).
    pub fn writes(&self) -> BTreeMap<String, u64> {
        let asked = std::fs::read_to_string(self.server().dir.join("asked")).expect("only a server with a policy knows what it was asked");
        let mut writes = BTreeMap::new();
        for key in asked.lines().filter_map(|line| line.strip_prefix("s3:PutObject ")) {
            *writes.entry(key.to_owned()).or_default() += 1;
        }
        writes
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("the server of CATCHMENT_TEST_S3 is not ours: unset it, or use Minio::start()")
    }
}
