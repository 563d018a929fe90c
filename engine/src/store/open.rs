//! From an address to a store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::file::FileStore;
use super::retry::RetryPolicy;
use super::url::StoreUrl;
use super::{ObjectStore, RequestObserver};
use crate::config::Secret;
#[cfg(not(feature = "s3"))]
use crate::error::Code;
use crate::error::{Error, ErrorKind};

/// The slowest rate at which a body may move before its attempt counts as lost, in bytes a second. A store at 1 MB/s that
/// 16 requests share is just above it; a much lower rate would keep a dead connection for hours.
pub const BODY_RATE_MIN: u64 = 64 << 10;

/// What an address does not say.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Credentials from a config; none: look for them where the service's users keep them.
    pub credentials: Option<GivenCredentials>,
    /// Environment variables.
    pub env: Env,
    /// Repetition of reads, listings and uploads of parts.
    pub retry: RetryPolicy,
    /// Longest time for a connection to be made.
    pub connect_timeout: Duration,
    /// Longest time for the answer to a CompleteMultipartUpload: COS takes minutes for large objects.
    pub complete_timeout: Duration,
    /// Longest time for the answer to a request without a body. A body adds to it, by [`BODY_RATE_MIN`].
    pub request_timeout: Duration,
    /// Is told about each request.
    pub observer: Option<Arc<dyn RequestObserver>>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            env: Env::default(),
            retry: RetryPolicy::default(),
            connect_timeout: Duration::from_secs(5),
            complete_timeout: Duration::from_secs(300),
            request_timeout: Duration::from_secs(30),
            observer: None,
        }
    }
}

/// An access key with its secret, as a config names them. They are read whenever the client asks for credentials, so that a file which is
/// replaced while a backup runs is taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenCredentials {
    /// The key's id.
    pub access_key: Secret,
    /// The secret.
    pub secret_key: Secret,
    /// The token of temporary credentials.
    pub session_token: Option<Secret>,
}

/// Credentials as requests are signed with them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The key's id.
    pub access_key: String,
    /// The secret.
    pub secret_key: String,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

impl GivenCredentials {
    /// Reads the secrets. Blocks for as long as files take.
    ///
    /// # Errors
    /// C0109 for one that cannot be read.
    pub fn reveal(&self) -> Result<Credentials, Error> {
        Ok(Credentials {
            access_key: self.access_key.reveal("access_key_id")?,
            secret_key: self.secret_key.reveal("secret_access_key")?,
            session_token: self.session_token.as_ref().map(|token| token.reveal("session_token")).transpose()?,
        })
    }

    /// Whether another reading may give others.
    pub fn may_change(&self) -> bool {
        [Some(&self.access_key), Some(&self.secret_key), self.session_token.as_ref()]
            .into_iter()
            .flatten()
            .any(|s| matches!(s, Secret::File(_)))
    }
}

/// Environment variables: the process's own, or a fixed set. An empty value counts as none.
#[derive(Clone, Default)]
pub struct Env(Option<Arc<BTreeMap<String, String>>>);

impl Env {
    /// Exactly these variables.
    pub fn of(variables: &[(&str, &str)]) -> Self {
        Self(Some(Arc::new(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())))
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = match &self.0 {
            Some(fixed) => fixed.get(name).cloned(),
            None => std::env::var(name).ok(),
        };
        value.filter(|value| !value.is_empty())
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Names only: values may be secrets.
        match &self.0 {
            Some(fixed) => f.debug_set().entries(fixed.keys()).finish(),
            None => f.write_str("process environment"),
        }
    }
}

/// Opens the store at an address. Asks nothing of the network: whether the store answers shows with the first request.
///
/// # Errors
/// C0310 and C0311 for an address that is not understood, C0312 for a directory that cannot be used, C0313 for a bucket whose
/// endpoint, style and region do not fit together, C0314 for a build without the S3 stores.
pub async fn open(address: &str, options: &OpenOptions) -> Result<Arc<dyn ObjectStore>, Error> {
    match StoreUrl::parse(address)? {
        StoreUrl::File(path) => {
            let opened = tokio::task::spawn_blocking(move || FileStore::open(&path)).await;
            let bug =
                |e| Error::new(crate::error::codes::PART_ENDED, ErrorKind::Bug, "opening a directory ended without an answer").because(e);
            Ok(Arc::new(opened.map_err(bug)??))
        }
        #[cfg(feature = "s3")]
        StoreUrl::Bucket(url) => Ok(Arc::new(super::s3::S3Store::open(&url, options).await?)),
        #[cfg(not(feature = "s3"))]
        StoreUrl::Bucket(url) => {
            let _ = options;
            Err(Error::new(Code(314), ErrorKind::Invalid, "this build has no S3 stores")
                .with("url", url.shown())
                .help("use a build with the feature `s3`, or a file:// URL"))
        }
    }
}
