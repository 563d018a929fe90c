//! How large an object is, where the answer to a HEAD does not say so: some proxies drop its `Content-Length`.
//!
//! Place in the flow: behind a HEAD. A size tells an object that was cut off from a whole one, so none is made up: the object is asked for its first byte,
//! and the answer says how much there is. What says it nowhere is an answer that cannot be understood, and the request is repeated.
//!
//! Not done here: reading more than a byte.

use super::S3Store;
use super::requests::{GET, HEAD, bare_etag};
use crate::store::{StoreError, StoreErrorKind, StoreResult};

impl S3Store {
    /// The size of the object that a HEAD has just shown with this ETag.
    pub(super) async fn size_by_reading(&self, key: &str, etag: &str) -> StoreResult<u64> {
        let request = self.settings.client.get_object().bucket(&self.bucket).key(self.full(key)).range("bytes=0-0");
        let unknown = |why: &str| StoreError::new(StoreErrorKind::Unknown, HEAD, key, format!("a HEAD without a length, and {why}"));
        let output = match self.attempt(GET, key, self.options.request_timeout, request.send()).await {
            Ok(output) => output,
            // It has no first byte.
            Err(e) if e.detail.starts_with("HTTP 416") => return Ok(0),
            Err(e) if e.kind == StoreErrorKind::NotFound => return Err(unknown("a GET that does not find the object")),
            Err(e) => return Err(*e),
        };
        if bare_etag(output.e_tag()) != etag {
            return Err(unknown("a GET that shows another object"));
        }
        let told = match output.content_range() {
            Some(range) => whole_of(range),
            // The range was ignored: what is coming is all of it.
            None => length(output.content_length()),
        };
        told.ok_or_else(|| unknown("a GET that does not tell it either"))
    }
}

/// The value of a `Content-Length`, if there is one.
pub(super) fn length(header: Option<i64>) -> Option<u64> {
    u64::try_from(header?).ok()
}

/// The size of the whole by a `Content-Range`: `bytes 0-0/1234`.
fn whole_of(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.rsplit_once('/')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_told_or_unknown_and_never_made_up() {
        assert_eq!([length(Some(7)), length(Some(0)), length(Some(-1)), length(None)], [Some(7), Some(0), None, None]);
        assert_eq!([whole_of("bytes 0-0/1234"), whole_of("bytes 0-0/0")], [Some(1234), Some(0)]);
        for unclear in ["", "bytes 0-0", "bytes 0-0/*", "bytes 0-0/-1", "items 0-0/5"] {
            assert_eq!(whole_of(unclear), None, "{unclear:?}");
        }
    }
}
