//! A bucket, seen by a client of the harness's own: what is listed, what is in it, which uploads are open.
//!
//! The engine's store layer is what is under test, so the tests do not look through it. Blocking, since most tests are.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::types::{DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule};
use tokio::runtime::Runtime;

use crate::services::Minio;

/// One listed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its size in bytes.
    pub size: u64,
    /// Its entity tag, without quotes.
    pub etag: String,
}

/// One multipart upload that was created and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The key that it would give.
    pub key: String,
    /// Its id.
    pub id: String,
}

/// A bucket.
#[derive(Debug)]
pub struct Bucket {
    client: Client,
    runtime: Runtime,
    name: String,
}

impl Bucket {
    /// Makes a bucket.
    pub fn create(server: &Minio, name: &str) -> Self {
        let bucket = Self::open(server, name);
        bucket.wait(bucket.client.create_bucket().bucket(name).send(), "create bucket");
        bucket
    }

    /// Makes a bucket with object lock: for a day nobody may delete a version that is written into it.
    pub fn create_locked(server: &Minio, name: &str) -> Self {
        let bucket = Self::open(server, name);
        bucket.wait(bucket.client.create_bucket().bucket(name).object_lock_enabled_for_bucket(true).send(), "create bucket");
        let day = DefaultRetention::builder().mode(ObjectLockRetentionMode::Compliance).days(1).build();
        let rule = ObjectLockRule::builder().default_retention(day).build();
        let lock = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule).build();
        bucket.wait(bucket.client.put_object_lock_configuration().bucket(name).object_lock_configuration(lock).send(), "lock");
        bucket
    }

    /// A bucket that is there.
    pub fn open(server: &Minio, name: &str) -> Self {
        let (key, secret) = server.keys();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(server.endpoint())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(key, secret, None, None, "test"))
            .force_path_style(true)
            .build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be made");
        Self { client: Client::from_conf(config), runtime, name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, with a prefix that may be empty.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.name)
    }

    /// All objects below a prefix.
    pub fn list(&self, prefix: &str) -> BTreeMap<String, Listed> {
        let mut found = BTreeMap::new();
        let mut token = None;
        loop {
            let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix).set_continuation_token(token);
            let page = self.wait(request.send(), "list");
            for object in page.contents() {
                let size = u64::try_from(object.size().unwrap_or_default()).expect("a size >= 0");
                let etag = object.e_tag().unwrap_or_default().trim_matches('"').to_owned();
                found.insert(object.key().unwrap_or_default().to_owned(), Listed { size, etag });
            }
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                return found;
            }
        }
    }

    /// The keys of data objects below a prefix: all but those under `_catchment/`.
    pub fn data_keys(&self, prefix: &str) -> Vec<String> {
        self.list(prefix).into_keys().filter(|key| !key.split('/').any(|part| part == "_catchment")).collect()
    }

    /// An object's bytes.
    pub fn get(&self, key: &str) -> Vec<u8> {
        let object = self.wait(self.client.get_object().bucket(&self.name).key(key).send(), key);
        let body = self.runtime.block_on(object.body.collect());
        body.unwrap_or_else(|e| panic!("cannot read {key}: {e}")).to_vec()
    }

    /// An object's own metadata.
    pub fn metadata(&self, key: &str) -> BTreeMap<String, String> {
        let head = self.wait(self.client.head_object().bucket(&self.name).key(key).send(), key);
        head.metadata.unwrap_or_default().into_iter().collect()
    }

    /// Writes an object: a foreign hand in the bucket.
    pub fn put(&self, key: &str, bytes: Vec<u8>) {
        self.wait(self.client.put_object().bucket(&self.name).key(key).body(bytes.into()).send(), key);
    }

    /// Deletes an object.
    pub fn delete(&self, key: &str) {
        self.wait(self.client.delete_object().bucket(&self.name).key(key).send(), key);
    }

    /// The ids of an object's versions, and those of the markers that hide it.
    pub fn versions(&self, key: &str) -> (Vec<String>, Vec<String>) {
        let answer = self.wait(self.client.list_object_versions().bucket(&self.name).prefix(key).send(), key);
        let versions = answer.versions().iter().filter(|v| v.key() == Some(key)).filter_map(|v| v.version_id());
        let markers = answer.delete_markers().iter().filter(|m| m.key() == Some(key)).filter_map(|m| m.version_id());
        (versions.map(str::to_owned).collect(), markers.map(str::to_owned).collect())
    }

    /// Deletes one version of an object, or a marker that hides it.
    ///
    /// # Errors
    /// If the server refuses it, and in which words.
    pub fn delete_version(&self, key: &str, version: &str) -> Result<(), String> {
        let request = self.client.delete_object().bucket(&self.name).key(key).version_id(version);
        self.runtime.block_on(request.send()).map(drop).map_err(|e| DisplayErrorContext(e).to_string())
    }

    /// Open uploads of exactly one key. MinIO lists by exact key only.
    pub fn uploads(&self, key: &str) -> Vec<Upload> {
        let answer = self.wait(self.client.list_multipart_uploads().bucket(&self.name).prefix(key).send(), key);
        let text = |t: Option<&str>| t.unwrap_or_default().to_owned();
        answer.uploads().iter().map(|u| Upload { key: text(u.key()), id: text(u.upload_id()) }).collect()
    }

    fn wait<T, E>(&self, request: impl Future<Output = Result<T, E>>, what: &str) -> T
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let answer = self.runtime.block_on(request);
        answer.unwrap_or_else(|e| panic!("{what} in bucket {}: {}", self.name, DisplayErrorContext(e)))
    }
}
