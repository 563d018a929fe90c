//! Checksums: the order-sensitive digest of an object's records.
//!
//! Both halves are CRC-64/XZ (the polynomial that COS reports as `x-cos-hash-crc64ecma`), taken over streams that do not
//! depend on how the records were batched. `docs/FORMATS.md` defines the streams byte by byte.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::FormatError;

/// Digest of an object's records, written `crc64:<16 hex of the values>-<16 hex of the rest>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest {
    /// CRC of the value stream: the values as the encoding frames them, before compression.
    pub values: u64,
    /// CRC of keys, headers, offsets, timestamps and lengths.
    pub rest: u64,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "crc64:{:016x}-{:016x}", self.values, self.rest)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        text.parse()
    }
}

impl FromStr for Digest {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let hex = |s: &str| (s.len() == 16).then(|| u64::from_str_radix(s, 16).ok()).flatten();
        text.strip_prefix("crc64:")
            .and_then(|t| t.split_once('-'))
            .and_then(|(values, rest)| Some(Self { values: hex(values)?, rest: hex(rest)? }))
            .ok_or_else(|| FormatError::Corrupt(format!("not a digest: {text:?}")))
    }
}
