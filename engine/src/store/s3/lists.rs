//! Listings: of keys page by page, of parts and of uploads all pages at once.
//!
//! A page that says that there is more and not where is an answer that cannot be understood. Taken for the end it would hide objects from
//! recovery, and parts from Complete.

use super::S3Store;
use super::exchange::Exchange;
use super::requests::{bare_etag, no_such_upload};
use crate::store::{ListPage, Metadata, ObjectInfo, OpenUpload, Part, StoreError, StoreErrorKind, StoreResult};

const LIST: &str = "ListObjects";
const LIST_PARTS: &str = "ListParts";
const LIST_UPLOADS: &str = "ListMultipartUploads";

impl S3Store {
    pub(super) async fn list_objects(&self, prefix: &str, delimiter: bool, after: Option<&str>) -> StoreResult<ListPage> {
        let request = self
            .settings
            .client
            .list_objects()
            .bucket(&self.bucket)
            .prefix(self.full(prefix))
            .set_delimiter(delimiter.then(|| "/".to_owned()))
            .set_marker(after.map(|after| self.full(after)));
        let output = self.attempt(LIST, prefix, self.options.request_timeout, request.send()).await.map_err(|e| *e)?;
        let mut page = ListPage::default();
        for object in output.contents() {
            let Some(key) = object.key().and_then(|key| key.strip_prefix(&self.prefix)) else { continue };
            let size = u64::try_from(object.size().unwrap_or(0)).unwrap_or(0);
            page.objects.push(ObjectInfo {
                key: key.to_owned(),
                size,
                etag: bare_etag(object.e_tag()),
                metadata: Metadata::new(),
                crc64: None,
            });
        }
        let directories = output.common_prefixes().iter().filter_map(|p| p.prefix()?.strip_prefix(&self.prefix));
        page.directories = directories.map(str::to_owned).collect();
        if output.is_truncated() == Some(true) {
            // Without a delimiter services leave out the marker: it is the last key.
            let last_key = page.objects.last().map(|o| o.key.clone());
            let last = last_key.into_iter().chain(page.directories.last().cloned()).max();
            let marker = output.next_marker().and_then(|marker| marker.strip_prefix(&self.prefix)).map(str::to_owned);
            let next = marker.or(last).filter(|next| after != Some(next.as_str()));
            page.next = Some(next.ok_or_else(|| broken_off(LIST, prefix))?);
        }
        Ok(page)
    }

    pub(super) async fn list_all_parts(&self, key: &str, upload: &str) -> StoreResult<Vec<Part>> {
        let mut parts = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let request = || {
                let request = self.settings.client.list_parts().bucket(&self.bucket).key(self.full(key)).upload_id(upload);
                let sent = request.set_part_number_marker(marker.clone()).send();
                async { self.attempt(LIST_PARTS, key, self.options.request_timeout, sent).await.map_err(|e| *e) }
            };
            let page = self.repeated(request).await.map_err(no_such_upload)?;
            for part in page.parts() {
                let number = u32::try_from(part.part_number().unwrap_or(0)).unwrap_or(0);
                self.part_sums.keep(upload, number, part.checksum_crc64_nvme());
                parts.push(Part { number, size: u64::try_from(part.size().unwrap_or(0)).unwrap_or(0), etag: bare_etag(part.e_tag()) });
            }
            if page.is_truncated() != Some(true) {
                return Ok(parts);
            }
            let next = page.next_part_number_marker().map(str::to_owned).filter(|next| marker.as_ref() != Some(next));
            marker = Some(next.ok_or_else(|| broken_off(LIST_PARTS, key))?);
        }
    }

    pub(super) async fn list_all_uploads(&self, prefix: &str) -> StoreResult<Vec<OpenUpload>> {
        let full = self.full(prefix);
        let mut uploads = Vec::new();
        let mut marker: (Option<String>, Option<String>) = (None, None);
        loop {
            let request = || {
                let exchange = Exchange::default();
                let request = self.settings.client.list_multipart_uploads().bucket(&self.bucket).prefix(&full);
                let request = request.set_key_marker(marker.0.clone()).set_upload_id_marker(marker.1.clone());
                let sent = request.customize().interceptor(exchange.clone()).send();
                async move {
                    let page = self.attempt(LIST_UPLOADS, prefix, self.options.request_timeout, sent).await.map_err(|e| *e)?;
                    Ok((page, exchange.seen().date))
                }
            };
            let (page, now) = self.repeated(request).await?;
            for upload in page.uploads() {
                let key = upload.key().filter(|key| key.starts_with(&full)).and_then(|key| key.strip_prefix(&self.prefix));
                let (Some(key), Some(id)) = (key, upload.upload_id()) else { continue };
                // Without either time the upload counts as new, and is left alone.
                let begun = upload.initiated().and_then(|t| t.to_millis().ok()).and_then(|ms| u64::try_from(ms).ok());
                let now_ms = now.and_then(|now| u64::try_from(now.as_millis()).ok());
                let age_ms = now_ms.zip(begun).map_or(0, |(now, begun)| now.saturating_sub(begun));
                uploads.push(OpenUpload { key: key.to_owned(), id: id.to_owned(), age_ms });
            }
            if page.is_truncated() != Some(true) {
                return Ok(uploads);
            }
            let next = (page.next_key_marker().map(str::to_owned), page.next_upload_id_marker().map(str::to_owned));
            if next.0.is_none() || next == marker {
                return Err(broken_off(LIST_UPLOADS, prefix));
            }
            marker = next;
        }
    }
}

fn broken_off(op: &'static str, key: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unknown, op, key, "a page that says that there is more, and not where")
}
