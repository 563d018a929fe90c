//! From an address to a store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::file::FileStore;
use super::retry::RetryPolicy;
use super::url::StoreUrl;
use super::{ObjectStore, RequestObserver};
#[cfg(not(feature = "s3"))]
use crate::error::Code;
use crate::error::{Error, ErrorKind};

/// What an address does not say.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Credentials from a config; none: look for them where the service's users keep them.
    pub credentials: Option<StaticCredentials>,
    /// Environment variables.
    pub env: Env,
    /// Repetition of reads, listings and uploads of parts.
    pub retry: RetryPolicy,
    /// Longest time for a connection to be made.
    pub connect_timeout: Duration,
    /// Longest time for the answer to a CompleteMultipartUpload: COS takes minutes for large objects.
    pub complete_timeout: Duration,
    /// Longest time for the answer to a request without a body. A body adds to it, by a rate.
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

/// An access key with its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticCredentials {
    /// The key's id.
    pub access_key: String,
    /// The secret.
    pub secret_key: String,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
}

impl std::fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticCredentials").field("access_key", &self.access_key).finish_non_exhaustive()
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
            Err(Error::new(Code(314), ErrorKind::Invalid, "this build has no S3 stores").with("url", url.shown()))
        }
    }
}
