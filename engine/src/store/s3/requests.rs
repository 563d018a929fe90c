//! The requests, one attempt each.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::{Config, StalledStreamProtectionConfig};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::S3Store;
use super::body::{Checksums, Wanted, checksums, stream};
use super::classify::describe;
use super::exchange::{Exchange, Seen};
use super::size::length;
use crate::store::open::BODY_RATE_MIN;
use crate::store::url::{ChecksumHeader, Dialect};
use crate::store::{
    Guard, Metadata, ObjectInfo, Part, Payload, REMOVE, StoreError, StoreErrorKind, StoreResult, check_key, check_metadata,
};

const PUT: &str = "PutObject";
pub(super) const HEAD: &str = "HeadObject";
pub(super) const GET: &str = "GetObject";
const CREATE: &str = "CreateMultipartUpload";
const UPLOAD_PART: &str = "UploadPart";
const COMPLETE: &str = "CompleteMultipartUpload";
const ABORT: &str = "AbortMultipartUpload";

impl S3Store {
    /// Runs a request that may be repeated.
    pub(super) async fn repeated<T, F, Fut>(&self, request: F) -> StoreResult<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = StoreResult<T>>,
    {
        self.options.retry.run(self.options.observer.as_deref(), request).await
    }

    pub(super) async fn put_object(&self, key: &str, body: Payload, metadata: &Metadata, guard: Guard) -> StoreResult<String> {
        self.check(PUT, key, Some(metadata))?;
        let sums = self.sums(&body).await;
        let (etag, seen) = self.put_once(key, &body, &sums, metadata, guard).await?;
        if self.is_intact(&body, &sums, &seen) {
            return Ok(etag);
        }
        // Acknowledged, so the object is ours, but other bytes arrived, or nobody says which. Only overwriting it mends that;
        // Content-MD5 has the service itself refuse another mishap.
        let sums = with_md5(&body, sums).await;
        match self.put_once(key, &body, &sums, metadata, Guard::Overwrite).await {
            Ok((etag, seen)) if self.is_intact(&body, &sums, &seen) => Ok(etag),
            Ok(_) => {
                let detail = "the stored object's CRC-64 is not ours, twice";
                Err(StoreError { attempts: 2, ..StoreError::new(StoreErrorKind::Invalid, PUT, key, detail) })
            }
            // As open as the outcome of any request: whoever asked for the object looks at what stands, and has it mended.
            Err(e) => {
                let detail = format!("the stored object's CRC-64 is not ours, and overwriting it failed: {}", e.detail);
                Err(StoreError { attempts: 2, detail, ..e })
            }
        }
    }

    async fn put_once(
        &self,
        key: &str,
        body: &Payload,
        sums: &Checksums,
        metadata: &Metadata,
        guard: Guard,
    ) -> StoreResult<(String, Seen)> {
        let mut request = self.settings.client.put_object().bucket(&self.bucket).key(self.full(key));
        for (name, value) in metadata {
            request = request.metadata(name, value);
        }
        let request = request
            .content_length(i64::try_from(body.len()).unwrap_or(i64::MAX))
            .set_content_md5(sums.md5.clone())
            .set_checksum_crc64_nvme(sums.crc64_nvme.clone())
            .body(stream(body));
        let exchange = Exchange::default().header(self.guard(guard)).signed_payload(sums.sha256.clone());
        let sent = request.customize().interceptor(exchange.clone()).send();
        let output = self.attempt(PUT, key, self.body_timeout(body.len()), sent).await.map_err(|e| *e)?;
        Ok((etag_of(PUT, key, output.e_tag())?, self.seen(&exchange)))
    }

    pub(super) async fn head_object(&self, key: &str) -> StoreResult<Option<ObjectInfo>> {
        self.check(HEAD, key, None)?;
        let exchange = Exchange::default();
        let request = self.settings.client.head_object().bucket(&self.bucket).key(self.full(key));
        let sent = request.customize().interceptor(exchange.clone()).send();
        let output = match self.attempt(HEAD, key, self.options.request_timeout, sent).await {
            Ok(output) => output,
            // A HEAD's answer has no body and so no code: a missing bucket looks the same, and shows with the first write.
            Err(e) if e.kind == StoreErrorKind::NotFound => return Ok(None),
            // For the same reason AWS shows an expired token as a bare 400, and nothing else about a HEAD can be wrong.
            Err(e) if e.detail == "HTTP 400" => return Err(StoreError { kind: StoreErrorKind::Denied, ..*e }),
            Err(e) => return Err(*e),
        };
        let etag = etag_of(HEAD, key, output.e_tag())?;
        let mut metadata: Metadata = output.metadata().into_iter().flatten().map(|(n, v)| (n.clone(), v.clone())).collect();
        let seen = exchange.seen();
        if metadata.is_empty() {
            metadata = seen.cos_metadata;
        }
        metadata.sort_unstable();
        let size = match length(output.content_length()) {
            Some(size) => size,
            None => self.size_by_reading(key, &etag).await?,
        };
        let crc64 = seen.cos_crc64.filter(|_| self.settings.dialect == Dialect::Cos);
        Ok(Some(ObjectInfo { key: key.to_owned(), size, etag, metadata, crc64 }))
    }

    pub(super) async fn get_object(&self, key: &str, range: Option<std::ops::Range<u64>>) -> StoreResult<Option<Bytes>> {
        self.check(GET, key, None)?;
        if range.as_ref().is_some_and(std::ops::Range::is_empty) {
            return Ok(self.head_object(key).await?.map(|_| Bytes::new()));
        }
        let header = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        let request = self.settings.client.get_object().bucket(&self.bucket).key(self.full(key)).set_range(header);
        let output = match self.attempt(GET, key, self.options.request_timeout, request.send()).await {
            Ok(output) => output,
            Err(e) if e.kind == StoreErrorKind::NotFound && !e.detail.contains("NoSuchBucket") => return Ok(None),
            // The range begins past the end.
            Err(e) if e.detail.starts_with("HTTP 416") => return Ok(Some(Bytes::new())),
            Err(e) => return Err(*e),
        };
        etag_of(GET, key, output.e_tag())?;
        let expected = length(output.content_length()).unwrap_or(0);
        let cut = |why: String| StoreError::new(StoreErrorKind::Unknown, GET, key, why);
        let body = tokio::time::timeout(self.body_timeout(expected), output.body.collect()).await;
        let body = body.map_err(|_| cut("time-out while reading the body".to_owned()))?.map_err(|e| cut(e.to_string()))?;
        Ok(Some(body.into_bytes()))
    }

    pub(super) async fn create_multipart_upload(&self, key: &str, metadata: &Metadata, guard: Guard) -> StoreResult<String> {
        self.check(CREATE, key, Some(metadata))?;
        let mut request = self.settings.client.create_multipart_upload().bucket(&self.bucket).key(self.full(key));
        for (name, value) in metadata {
            request = request.metadata(name, value);
        }
        if self.settings.checksum == ChecksumHeader::Crc64Nvme {
            request = request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject);
        }
        // AWS takes no condition here and checks it at Complete; COS wants its header on both.
        let header = self.guard(guard).filter(|_| self.settings.dialect == Dialect::Cos);
        let sent = request.customize().interceptor(Exchange::default().header(header)).send();
        let output = self.attempt(CREATE, key, self.options.request_timeout, sent).await.map_err(|e| *e)?;
        let id = output.upload_id().filter(|id| !id.is_empty()).map(str::to_owned);
        id.ok_or_else(|| StoreError::new(StoreErrorKind::Unknown, CREATE, key, "the answer has no upload id"))
    }

    pub(super) async fn upload_one_part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        body: &Payload,
        sums: &Checksums,
    ) -> StoreResult<Part> {
        let (part, seen) = self.part_once(key, upload, number, body, sums).await?;
        if self.is_intact(body, sums, &seen) {
            return Ok(part);
        }
        // Uploading the part again replaces it.
        let sums = with_md5(body, sums.clone()).await;
        let (part, seen) = self.part_once(key, upload, number, body, &sums).await?;
        if self.is_intact(body, &sums, &seen) {
            return Ok(part);
        }
        Err(StoreError::new(StoreErrorKind::Unknown, UPLOAD_PART, key, "the stored part's CRC-64 is not ours"))
    }

    async fn part_once(&self, key: &str, upload: &str, number: u32, body: &Payload, sums: &Checksums) -> StoreResult<(Part, Seen)> {
        let request = self
            .settings
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(self.full(key))
            .upload_id(upload)
            .part_number(i32::try_from(number).unwrap_or(i32::MAX))
            .content_length(i64::try_from(body.len()).unwrap_or(i64::MAX))
            .set_content_md5(sums.md5.clone())
            .set_checksum_crc64_nvme(sums.crc64_nvme.clone())
            .body(stream(body));
        let exchange = Exchange::default().signed_payload(sums.sha256.clone());
        let sent = request.customize().interceptor(exchange.clone()).send();
        let output = self.attempt(UPLOAD_PART, key, self.body_timeout(body.len()), sent).await.map_err(|e| no_such_upload(*e))?;
        let etag = etag_of(UPLOAD_PART, key, output.e_tag())?;
        self.part_sums.keep(upload, number, sums.crc64_nvme.as_deref());
        Ok((Part { number, size: body.len(), etag }, self.seen(&exchange)))
    }

    pub(super) async fn complete_multipart_upload(&self, key: &str, upload: &str, parts: &[Part], guard: Guard) -> StoreResult<String> {
        self.check(COMPLETE, key, None)?;
        let sums = self.sums_of_parts(key, upload, parts).await?;
        let parts = parts.iter().map(|part| {
            let number = i32::try_from(part.number).unwrap_or(i32::MAX);
            let sum = sums.get(&part.number).cloned();
            CompletedPart::builder().part_number(number).e_tag(format!("\"{}\"", part.etag)).set_checksum_crc64_nvme(sum).build()
        });
        let body = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let exchange = Exchange::default().header(self.guard(guard)).trimmed();
        let client = &self.settings.client;
        let request = client.complete_multipart_upload().bucket(&self.bucket).key(self.full(key)).upload_id(upload).multipart_upload(body);
        // The answer may be nothing but keep-alive spaces for minutes.
        let patient = Config::builder().stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let sent = request.customize().interceptor(exchange).config_override(patient).send();
        let output = self.attempt(COMPLETE, key, self.options.complete_timeout, sent).await.map_err(|e| no_such_upload(*e))?;
        let etag = etag_of(COMPLETE, key, output.e_tag())?;
        self.part_sums.forget(upload);
        Ok(etag)
    }

    /// Checksums of these parts, asked for if this process did not upload them; none if the upload has none.
    async fn sums_of_parts(&self, key: &str, upload: &str, parts: &[Part]) -> StoreResult<BTreeMap<u32, String>> {
        if self.settings.checksum != ChecksumHeader::Crc64Nvme {
            return Ok(BTreeMap::new());
        }
        let sums = self.part_sums.of(upload);
        if parts.iter().all(|part| sums.contains_key(&part.number)) {
            return Ok(sums);
        }
        self.list_all_parts(key, upload).await?;
        Ok(self.part_sums.of(upload))
    }

    pub(super) async fn abort_multipart_upload(&self, key: &str, upload: &str) -> StoreResult<()> {
        self.part_sums.forget(upload);
        let request = self.settings.client.abort_multipart_upload().bucket(&self.bucket).key(self.full(key)).upload_id(upload);
        match self.attempt(ABORT, key, self.options.request_timeout, request.send()).await {
            Ok(_) => Ok(()),
            Err(e) if matches!(e.kind, StoreErrorKind::NoSuchUpload | StoreErrorKind::NotFound) && !e.detail.contains("NoSuchBucket") => {
                Ok(())
            }
            Err(e) => Err(*e),
        }
    }

    pub(super) async fn delete_object(&self, key: &str) -> StoreResult<()> {
        let request = self.settings.client.delete_object().bucket(&self.bucket).key(self.full(key));
        self.attempt(REMOVE, key, self.options.request_timeout, request.send()).await.map(drop).map_err(|e| *e)
    }

    /// Checksums that a body's requests carry.
    pub(super) async fn sums(&self, body: &Payload) -> Checksums {
        let md5 = match self.settings.dialect {
            // COS answers with a CRC-64, which we have already. MD5 is for replies without one, so until one was seen.
            Dialect::Cos => self.settings.checksum == ChecksumHeader::Md5 && !self.cos_crc_seen.load(Ordering::Relaxed),
            Dialect::S3 => self.settings.checksum == ChecksumHeader::Md5,
        };
        let crc64_nvme = self.settings.checksum == ChecksumHeader::Crc64Nvme;
        checksums(body, Wanted { sha256: self.settings.payload_signed, md5, crc64_nvme }).await
    }

    /// Whether the service stored what was sent: it said so by its own sum, or checked ours. Of COS a reply with neither is no proof,
    /// unless the address asks for no checksums.
    fn is_intact(&self, body: &Payload, sums: &Checksums, seen: &Seen) -> bool {
        let unchecked = self.settings.dialect == Dialect::Cos && self.settings.checksum != ChecksumHeader::None && sums.md5.is_none();
        seen.cos_crc64.map_or(!unchecked, |crc| crc == body.crc64())
    }

    /// The answer's headers; remembers whether this COS sends its checksum.
    fn seen(&self, exchange: &Exchange) -> Seen {
        let seen = exchange.seen();
        if self.settings.dialect == Dialect::Cos && (200..300).contains(&seen.status) {
            self.cos_crc_seen.store(seen.cos_crc64.is_some(), Ordering::Relaxed);
        }
        seen
    }

    pub(super) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn guard(&self, guard: Guard) -> Option<(&'static str, &'static str)> {
        self.settings.guard.filter(|_| guard == Guard::IfAbsent)
    }

    fn body_timeout(&self, bytes: u64) -> Duration {
        self.options.request_timeout + Duration::from_secs(bytes / BODY_RATE_MIN)
    }

    fn check(&self, op: &'static str, key: &str, metadata: Option<&Metadata>) -> StoreResult<()> {
        use crate::store::ObjectStore as _;
        let invalid = |detail: String| StoreError::new(StoreErrorKind::Invalid, op, key, detail);
        check_key(key).map_err(invalid)?;
        metadata.map_or(Ok(()), check_metadata).map_err(invalid)?;
        if key.len() > self.limits().key_bytes_max {
            return Err(invalid(format!("key of {} bytes with the prefix", self.prefix.len() + key.len())));
        }
        Ok(())
    }

    /// One attempt of one request: time-out, classification, report. The error is boxed because futures hold it.
    pub(super) async fn attempt<T, E>(
        &self,
        op: &'static str,
        key: &str,
        timeout: Duration,
        sent: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Box<StoreError>>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let start = crate::clock::now();
        let (result, status) = match tokio::time::timeout(timeout, sent).await {
            Ok(Ok(output)) => (Ok(output), 200),
            Ok(Err(error)) => {
                let (kind, status, detail) = describe(&error);
                (Err(Box::new(StoreError::new(kind, op, key, detail))), status)
            }
            Err(_) => {
                let detail = format!("no answer within {} s", timeout.as_secs());
                (Err(Box::new(StoreError::new(StoreErrorKind::Unknown, op, key, detail))), 0)
            }
        };
        if let Some(observer) = &self.options.observer {
            observer.request(op, status, start.elapsed());
        }
        result
    }
}

/// These sums with a `Content-MD5`, which makes the service refuse other bytes.
async fn with_md5(body: &Payload, sums: Checksums) -> Checksums {
    Checksums { md5: checksums(body, Wanted { md5: true, ..Wanted::default() }).await.md5, ..sums }
}

/// Some services answer a missing upload with a bare 404.
pub(super) fn no_such_upload(e: StoreError) -> StoreError {
    let bare = e.kind == StoreErrorKind::NotFound && !e.detail.contains("NoSuchBucket");
    if bare { StoreError { kind: StoreErrorKind::NoSuchUpload, ..e } } else { e }
}

/// The ETag of an answer that says that it is a success. A service names one of whatever it has stored or shows; a 200 without it is a page of
/// something in between, and says nothing of what became of the request. "Unknown" is what it means in every guard class: the protocol looks
/// at the key before it repeats a PUT or a Complete, and what is repeated has the same bytes. Taking it for a success would move the offset past
/// records that nobody has stored; taking such a HEAD or GET for an object's would show one that is nobody's.
fn etag_of(op: &'static str, key: &str, etag: Option<&str>) -> StoreResult<String> {
    let etag = Some(bare_etag(etag)).filter(|etag| !etag.is_empty());
    etag.ok_or_else(|| StoreError::new(StoreErrorKind::Unknown, op, key, "HTTP 200 without an ETag: no answer of this service"))
}

pub(super) fn bare_etag(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}
