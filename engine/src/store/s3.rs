//! Buckets behind the S3 API: `s3://` (AWS and whoever follows it) and `cos://` (Tencent COS).
//!
//! This folder is the only place that names the AWS SDK. It sends each request once, with our own checksums, guard and
//! time-outs, and answers *done*, *not done* or *unknown*. Reads, listings, CreateMultipartUpload, UploadPart and Abort are
//! repeated by [`RetryPolicy`](super::retry::RetryPolicy); PutObject and CompleteMultipartUpload never are, with one
//! exception: an object that the service acknowledged with a checksum other than ours is overwritten with the same bytes at
//! once, since nobody else can repair it.
//!
//! Listing uses ListObjects version 1: every service has it, and its marker is a key, as the trait wants it.

mod body;
mod classify;
mod config;
mod credentials;
mod exchange;
mod lists;
pub(super) mod named;
mod part_sums;
mod requests;
mod size;

use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::open::OpenOptions;
use super::parts::PART_BYTES;
use super::url::{BucketUrl, Dialect};
use super::{
    BoxFuture, Guard, GuardClass, ListPage, Metadata, ObjectInfo, ObjectStore, OpenUpload, Part, Payload, StoreLimits, StoreResult,
};
use crate::error::Error;

/// A bucket, below a prefix.
#[derive(Debug)]
pub struct S3Store {
    url: String,
    bucket: String,
    prefix: String,
    settings: config::Settings,
    options: OpenOptions,
    /// Set once a reply carried COS's own checksum: from then on bodies need no `Content-MD5`.
    cos_crc_seen: AtomicBool,
    part_sums: part_sums::PartSums,
}

impl S3Store {
    /// Prepares a client; sends nothing.
    ///
    /// # Errors
    /// C0313 if endpoint, style and region do not fit together.
    pub async fn open(url: &BucketUrl, options: &OpenOptions) -> Result<Self, Error> {
        Ok(Self {
            url: url.shown(),
            bucket: url.bucket.clone(),
            prefix: url.prefix.clone(),
            settings: config::resolve(url, options).await?,
            options: options.clone(),
            cos_crc_seen: AtomicBool::new(false),
            part_sums: part_sums::PartSums::default(),
        })
    }
}

impl ObjectStore for S3Store {
    fn url(&self) -> &str {
        &self.url
    }

    fn identity(&self) -> String {
        self.settings.identity.clone()
    }

    fn limits(&self) -> StoreLimits {
        let (part_bytes_min, key_bytes_max) = match self.settings.dialect {
            Dialect::S3 => (5 << 20, 1024),
            Dialect::Cos => (1 << 20, 850),
        };
        StoreLimits {
            part_bytes: PART_BYTES,
            part_bytes_min,
            parts_max: 10_000,
            equal_parts: self.settings.equal_parts,
            // "5 GB" is meant as GiB by AWS and by COS's own SDKs; the decimal number is safe under either reading.
            put_bytes_max: 5_000_000_000,
            key_bytes_max: key_bytes_max - self.prefix.len(),
            segment_bytes_max: key_bytes_max,
            metadata: true,
            multipart: true,
        }
    }

    fn guard_name(&self) -> &'static str {
        self.settings.guard.map_or("none", |(name, _)| name)
    }

    fn guard_class_best(&self) -> GuardClass {
        match (self.settings.guard, self.settings.guard_is_weak) {
            (None, _) => GuardClass::C,
            (Some(_), true) => GuardClass::B,
            (Some(_), false) => GuardClass::A,
        }
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(self.put_object(key, body, metadata, guard))
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        Box::pin(self.repeated(move || self.head_object(key)))
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<std::ops::Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        Box::pin(self.repeated(move || self.get_object(key, range.clone())))
    }

    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>> {
        Box::pin(self.repeated(move || self.list_objects(prefix, delimiter, after)))
    }

    fn create_upload<'a>(&'a self, key: &'a str, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(self.repeated(move || self.create_multipart_upload(key, metadata, guard)))
    }

    fn upload_part<'a>(&'a self, key: &'a str, upload: &'a str, number: u32, body: Payload) -> BoxFuture<'a, StoreResult<Part>> {
        Box::pin(async move {
            // Summed once, however often the part is sent.
            let sums = self.sums(&body).await;
            self.repeated(|| self.upload_one_part(key, upload, number, &body, &sums)).await
        })
    }

    fn list_parts<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<Vec<Part>>> {
        Box::pin(self.list_all_parts(key, upload))
    }

    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        Box::pin(self.complete_multipart_upload(key, upload, parts, guard))
    }

    fn abort_upload<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(self.repeated(move || self.abort_multipart_upload(key, upload)))
    }

    fn list_uploads<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        Box::pin(async move {
            let mut uploads = self.list_all_uploads(key).await?;
            uploads.retain(|upload| upload.key == key);
            Ok(uploads)
        })
    }

    fn list_uploads_below<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        Box::pin(self.list_all_uploads(prefix))
    }

    fn region(&self) -> Option<String> {
        Some(self.settings.region.clone())
    }

    fn remove_probe<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            super::check_is_probe(key)?;
            self.repeated(|| self.delete_object(key)).await
        })
    }
}
