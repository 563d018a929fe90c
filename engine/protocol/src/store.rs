//! What a store says, in the words that the rules are written in: objects, parts, uploads, limits, and what became of a request. Pure.

/// User metadata of an object: names in `[a-z0-9-]`, printable ASCII values, 2 KB in all.
pub type Metadata = Vec<(String, String)>;

/// What a HEAD tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The key, without the store's own prefix.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// The ETag, without quotes.
    pub etag: String,
    /// User metadata in order of names, where the call returns it (HEAD does, LIST does not).
    pub metadata: Metadata,
    /// CRC-64/XZ of the object's bytes as the service computed it, where a HEAD says so (COS).
    pub crc64: Option<u64>,
}

/// One part of a multipart upload, as the store names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1, contiguous.
    pub number: u32,
    /// Size in bytes.
    pub size: u64,
    /// The ETag, without quotes.
    pub etag: String,
}

/// An unfinished multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    /// The key it would write.
    pub key: String,
    /// Its id.
    pub id: String,
    /// Age in milliseconds by the store's own clock (its `Date` header minus the time of creation).
    pub age_ms: u64,
}

/// Limits of a store that the protocol must respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Size of an upload's first parts, in bytes: 16 MiB for every real store. From it follows when a window becomes an
    /// upload, so that a test with small parts has uploads of small windows.
    pub part_bytes: u64,
    /// Smallest size of a part that is not the last, in bytes.
    pub part_bytes_min: u64,
    /// Largest number of parts of an upload.
    pub parts_max: u32,
    /// Whether all parts but the last must be of one size.
    pub equal_parts: bool,
    /// Largest body of a single PUT, in bytes.
    pub put_bytes_max: u64,
    /// Longest key below the store's own prefix, in bytes.
    pub key_bytes_max: usize,
    /// Longest piece of a key between two slashes, in bytes.
    pub segment_bytes_max: usize,
    /// Whether objects carry user metadata.
    pub metadata: bool,
    /// Whether multipart uploads exist (local files and the memory twin have them too).
    pub multipart: bool,
}

/// What became of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Not done: the key exists (412, or 409 FileAlreadyExists).
    Exists,
    /// Not done: a conflicting write is under way (409 ConditionalRequestConflict).
    Conflict,
    /// Not done: the upload or a part of it does not exist (404 NoSuchUpload, 400 InvalidPart).
    NoSuchUpload,
    /// Not done: no such object or bucket where one must be.
    NotFound,
    /// Not done: 401, 403, expired token, clock skew.
    Denied,
    /// Not done: the request itself is wrong (any other 4xx).
    Invalid,
    /// Unknown: timeout, reset, 5xx, 429, 408, or an answer that cannot be parsed.
    Unknown,
}

impl StoreErrorKind {
    /// The kind as metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Conflict => "conflict",
            Self::NoSuchUpload => "no_such_upload",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_that_metrics_show() {
        use StoreErrorKind as K;
        let all = [K::Exists, K::Conflict, K::NoSuchUpload, K::NotFound, K::Denied, K::Invalid, K::Unknown];
        let names = ["exists", "conflict", "no_such_upload", "not_found", "denied", "invalid", "unknown"];
        assert_eq!(all.map(K::as_str), names);
    }
}
