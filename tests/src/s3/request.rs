//! From an HTTP request to an operation of the S3 API.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, Method, Uri};
use serde::{Deserialize, Serialize};

/// An operation, as the service names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Op {
    PutObject,
    HeadObject,
    GetObject,
    DeleteObject,
    ListObjects,
    CreateMultipartUpload,
    UploadPart,
    ListParts,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListMultipartUploads,
}

/// A request, as far as faults and the log care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub op: Op,
    /// The whole key, or the prefix of a listing.
    pub key: String,
    /// The upload's id.
    pub upload: Option<String>,
    /// The part's number.
    pub part: Option<u32>,
    /// Size of the body, in bytes.
    pub bytes: u64,
    /// Whether it carries a guard header that this service knows.
    pub guarded: bool,
    /// Whether it carries a `Content-MD5`.
    pub md5: bool,
    /// The access key that it is signed with; empty if there is no signature.
    pub access_key: String,
    /// The session token that it carries.
    pub session_token: Option<String>,
}

/// A request with what its handler needs.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub request: Request,
    pub bucket: String,
    pub path_style: bool,
    pub query: BTreeMap<String, String>,
    pub headers: HeaderMap,
}

impl Incoming {
    /// Parses method, address and headers; none for what is no operation of ours.
    pub(super) fn parse(method: &Method, uri: &Uri, headers: HeaderMap, bucket: &str, guard: (&str, &str)) -> Option<Self> {
        let query = parse_query(uri.query().unwrap_or(""));
        let path = percent_decode(uri.path().strip_prefix('/')?);
        let host = headers.get("host").and_then(|h| h.to_str().ok()).unwrap_or("");
        let path_style = !host.starts_with(&format!("{bucket}."));
        let (bucket, key) = match path_style {
            true => path.split_once('/').map_or((path.clone(), String::new()), |(b, k)| (b.to_owned(), k.to_owned())),
            false => (bucket.to_owned(), path),
        };
        let has = |name: &str| query.contains_key(name);
        let op = match (method.as_str(), key.is_empty()) {
            ("GET", true) if has("uploads") => Op::ListMultipartUploads,
            ("GET", true) => Op::ListObjects,
            ("GET", false) if has("uploadId") => Op::ListParts,
            ("GET", false) => Op::GetObject,
            ("HEAD", false) => Op::HeadObject,
            ("PUT", false) if has("partNumber") => Op::UploadPart,
            ("PUT", false) => Op::PutObject,
            ("POST", false) if has("uploads") => Op::CreateMultipartUpload,
            ("POST", false) if has("uploadId") => Op::CompleteMultipartUpload,
            ("DELETE", false) if has("uploadId") => Op::AbortMultipartUpload,
            ("DELETE", false) => Op::DeleteObject,
            _ => return None,
        };
        let request = Request {
            op,
            key: if key.is_empty() { query.get("prefix").cloned().unwrap_or_default() } else { key },
            upload: query.get("uploadId").cloned(),
            part: query.get("partNumber").and_then(|n| n.parse().ok()),
            bytes: headers.get("content-length").and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0),
            md5: headers.contains_key("content-md5"),
            guarded: headers.get(guard.0).is_some_and(|value| value == guard.1),
            access_key: access_key(&headers).unwrap_or_default(),
            session_token: headers.get("x-amz-security-token").and_then(|v| Some(v.to_str().ok()?.to_owned())),
        };
        Some(Self { request, bucket, path_style, query, headers })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// User metadata, without the names' prefix.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let named =
            self.headers.iter().filter_map(|(name, value)| Some((name.as_str().strip_prefix("x-amz-meta-")?, value.to_str().ok()?)));
        named.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Whether there is a signature and it covers every header that it must.
    pub(super) fn is_signed(&self) -> bool {
        let Some(authorization) = self.header("authorization").filter(|a| a.starts_with("AWS4-HMAC-SHA256 ")) else { return false };
        let signed = authorization.split("SignedHeaders=").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("");
        let signed: Vec<&str> = signed.split(';').collect();
        let must = self.headers.keys().filter(|name| name.as_str().starts_with("x-amz-") || name.as_str().starts_with("x-cos-"));
        must.into_iter().all(|name| signed.contains(&name.as_str()))
    }
}

fn access_key(headers: &HeaderMap) -> Option<String> {
    let (_, scope) = headers.get("authorization")?.to_str().ok()?.split_once("Credential=")?;
    Some(scope.split('/').next()?.to_owned())
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (percent_decode(k), percent_decode(v))).collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let pair = tail.get(..2).and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        match (first, pair) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
