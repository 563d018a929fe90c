//! The address of a store: `s3://bucket/prefix/?region=..`, `cos://bucket-appid/prefix/?region=..`, `file:///dir/`.
//!
//! Parsing only: no network, no environment. Whatever is not understood is refused, with the nearest word that is.

use std::path::PathBuf;

use crate::error::{Code, Error, ErrorKind, nearest};

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A local directory.
    File(PathBuf),
    /// A bucket behind the S3 API.
    Bucket(BucketUrl),
}

/// A bucket, a prefix in it, and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketUrl {
    /// Whose dialect the service speaks.
    pub dialect: Dialect,
    /// The bucket; for COS with its app id.
    pub bucket: String,
    /// Empty, or ending with a slash.
    pub prefix: String,
    /// The region, if the address gives one.
    pub region: Option<String>,
    /// The endpoint, if the address gives one: scheme, host and port, no path.
    pub endpoint: Option<Endpoint>,
    /// The addressing style, if the address gives one.
    pub style: Option<Style>,
    /// Which guard header writes carry.
    pub guard: GuardHeader,
    /// Whether bodies are signed, if the address says so.
    pub payload: Option<PayloadSigning>,
    /// How bodies are checked by the service.
    pub checksum: Option<ChecksumHeader>,
    /// How the sizes of an upload's parts follow each other, if the address says so.
    pub parts: Option<PartSizes>,
}

/// A dialect of the S3 API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// AWS and whoever follows it.
    S3,
    /// Tencent COS.
    Cos,
}

/// Where the bucket's name stands in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// In the path.
    Path,
    /// In the host name.
    Virtual,
}

/// The header that makes a write create-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardHeader {
    /// The one of the dialect.
    Auto,
    /// `If-None-Match: *`.
    IfNoneMatch,
    /// `x-cos-forbid-overwrite: true`.
    Cos,
    /// None.
    None,
}

/// Whether the signature covers the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadSigning {
    /// It covers the body's SHA-256.
    Signed,
    /// It does not.
    Unsigned,
}

/// The header by which the service checks a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumHeader {
    /// `x-amz-checksum-crc64nvme`: the cheapest one that AWS and MinIO verify, for whole objects of many parts too.
    Crc64Nvme,
    /// `Content-MD5`: every service knows it, and it costs many times the CPU of the other.
    Md5,
    /// None.
    None,
}

/// How the sizes of an upload's parts follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartSizes {
    /// All but the last are of one size, as some services want it; objects are smaller for that.
    Equal,
    /// They double after many, so that objects as large as services take them fit into their number of parts.
    Growing,
}

/// Scheme, host and port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is `https`.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port, if not the scheme's own.
    pub port: Option<u16>,
}

impl Endpoint {
    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.ends_with(".localhost") || self.address().is_some_and(|a| a.is_loopback())
    }

    /// Whether the host is an address, or names this machine: no bucket can stand before it in DNS.
    pub fn is_address(&self) -> bool {
        self.is_loopback() || self.address().is_some()
    }

    fn address(&self) -> Option<std::net::IpAddr> {
        self.host.parse().ok()
    }

    /// The endpoint with another host.
    pub fn with_host(&self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self.clone() }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

const KEYS: [&str; 7] = ["region", "endpoint", "style", "guard", "payload", "checksum", "parts"];
const SCHEMES: [&str; 3] = ["s3", "cos", "file"];

impl StoreUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// C0310 for an address that is not understood, C0311 for an unknown or repeated query key or value.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(malformed(text, "no scheme").help("write s3://bucket/prefix/, cos://bucket-appid/prefix/ or file:///directory/"));
        };
        match scheme {
            "file" => parse_file(text, rest),
            "s3" => parse_bucket(text, rest, Dialect::S3).map(Self::Bucket),
            "cos" => parse_bucket(text, rest, Dialect::Cos).map(Self::Bucket),
            _ => Err(suggest(malformed(text, format!("unknown scheme {scheme:?}")), scheme, &SCHEMES)),
        }
    }
}

fn parse_file(text: &str, rest: &str) -> Result<StoreUrl, Error> {
    if rest.contains(['?', '#']) {
        return Err(malformed(text, "file:// takes no query").help("escape a question mark in a path as %3F"));
    }
    if !rest.starts_with('/') {
        return Err(malformed(text, "the path is not absolute").help(format!("write three slashes: file:///{rest}")));
    }
    let path =
        percent_decode(rest).ok_or_else(|| malformed(text, "a % that is not followed by two hex digits, or not UTF-8").help(ESCAPES))?;
    if path.contains('\0') {
        return Err(malformed(text, "a NUL in the path").help("write the path without it"));
    }
    if path.split('/').any(|piece| piece == "..") {
        // Two addresses of one directory would be two destinations, and where ".." leads depends on links.
        return Err(malformed(text, "\"..\" in the path").help("write the directory's own path"));
    }
    Ok(StoreUrl::File(PathBuf::from(path)))
}

/// The address of what is below `prefix` in the store at `url`; the prefix is taken as it is, so it is escaped here.
pub fn below(url: &str, prefix: &str) -> String {
    if prefix.is_empty() {
        return url.to_owned();
    }
    let (address, query) = url.find('?').map_or((url, ""), |at| url.split_at(at));
    format!("{}/{}{query}", address.trim_end_matches('/'), escape(prefix))
}

/// The address of a local path.
pub fn of_path(path: &std::path::Path) -> String {
    format!("file://{}", escape(&path.to_string_lossy()))
}

/// Escapes what would mean something else in an address.
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '%' | '?' | '#' => escaped.push_str(&format!("%{:02X}", u32::from(c))),
            _ => escaped.push(c),
        }
    }
    escaped
}

fn parse_bucket(text: &str, rest: &str, dialect: Dialect) -> Result<BucketUrl, Error> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    let bucket_is_valid = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && bucket.as_bytes()[0].is_ascii_alphanumeric();
    if !bucket_is_valid {
        let help = "3 to 63 of a-z, 0-9, '-' and '.'; credentials never stand in the address";
        let named = if text.contains('@') { "what stands there".to_owned() } else { format!("{bucket:?}") };
        return Err(malformed(text, format!("{named} is not a bucket's name")).help(help));
    }
    if dialect == Dialect::Cos
        && !bucket.rsplit_once('-').is_some_and(|(_, app)| !app.is_empty() && app.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(
            malformed(text, format!("{bucket:?} lacks the app id")).help("a COS bucket is named <name>-<appid>, as the console shows it")
        );
    }
    let mut url = BucketUrl {
        dialect,
        bucket: bucket.to_owned(),
        prefix: parse_prefix(text, prefix)?,
        region: None,
        endpoint: None,
        style: None,
        guard: GuardHeader::Auto,
        payload: None,
        checksum: None,
        parts: None,
    };
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode(value).ok_or_else(|| malformed(text, format!("bad escape in {key:?}")).help(ESCAPES))?;
        if seen.contains(&key) {
            return Err(bad_query(text, format!("{key:?} stands twice")));
        }
        seen.push(key);
        url.set(text, key, &value)?;
    }
    Ok(url)
}

impl BucketUrl {
    fn set(&mut self, text: &str, key: &str, value: &str) -> Result<(), Error> {
        match key {
            "region" => self.region = Some(checked_region(text, value)?),
            "endpoint" => self.endpoint = Some(parse_endpoint(value).map_err(|why| bad_query(text, why))?),
            "style" => self.style = Some(one_of(text, key, value, &[("path", Style::Path), ("virtual", Style::Virtual)])?),
            "guard" => {
                let words = [
                    ("auto", GuardHeader::Auto),
                    ("if-none-match", GuardHeader::IfNoneMatch),
                    ("cos", GuardHeader::Cos),
                    ("none", GuardHeader::None),
                ];
                self.guard = one_of(text, key, value, &words)?;
            }
            "payload" => {
                let words = [("signed", PayloadSigning::Signed), ("unsigned", PayloadSigning::Unsigned)];
                self.payload = Some(one_of(text, key, value, &words)?);
            }
            "checksum" => {
                let words = [("crc64nvme", ChecksumHeader::Crc64Nvme), ("md5", ChecksumHeader::Md5), ("none", ChecksumHeader::None)];
                self.checksum = Some(one_of(text, key, value, &words)?);
            }
            "parts" => self.parts = Some(one_of(text, key, value, &[("equal", PartSizes::Equal), ("growing", PartSizes::Growing)])?),
            _ => return Err(suggest(bad_query(text, format!("unknown key {key:?}")), key, &KEYS)),
        }
        Ok(())
    }

    /// The address as it is shown: no query.
    pub fn shown(&self) -> String {
        let scheme = match self.dialect {
            Dialect::S3 => "s3",
            Dialect::Cos => "cos",
        };
        format!("{scheme}://{}/{}", self.bucket, self.prefix)
    }
}

fn checked_region(text: &str, value: &str) -> Result<String, Error> {
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(bad_query(text, format!("{value:?} is not a region")));
    }
    Ok(value.to_owned())
}

/// Parses `http[s]://host[:port][/]`; the error says what is wrong.
pub fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("endpoint {:?} lacks http:// or https://", shown(text)))?;
    let tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(format!("endpoint scheme {scheme:?} is neither http nor https")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@']) {
        return Err("an endpoint is a scheme, a host and a port, nothing else".into());
    }
    let (host, port) = match authority.rsplit_once(':') {
        // A colon within brackets belongs to an IPv6 address.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port != 0 => Some(port),
        Some(_) => return Err(format!("endpoint {:?} has a bad port", shown(text))),
    };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_ascii_lowercase();
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_');
    if host.is_empty() || !(is_name || host.parse::<std::net::Ipv6Addr>().is_ok()) {
        return Err(format!("endpoint {:?} has a bad host", shown(text)));
    }
    Ok(Endpoint { tls, host, port })
}

/// Normalises a prefix: no leading slash, one trailing slash unless empty.
fn parse_prefix(text: &str, prefix: &str) -> Result<String, Error> {
    let prefix = percent_decode(prefix).ok_or_else(|| malformed(text, "bad escape in the prefix").help(ESCAPES))?;
    let trimmed = prefix.strip_suffix('/').unwrap_or(&prefix);
    if trimmed.is_empty() && prefix.len() <= 1 {
        return Ok(String::new());
    }
    super::check_key(trimmed).map_err(|why| malformed(text, why).help("write a prefix of plain names between slashes"))?;
    // Together with the longest key that a layout makes this must stay below 850 bytes.
    if trimmed.len() > 400 {
        return Err(malformed(text, "a prefix of more than 400 bytes").help("write a shorter one"));
    }
    Ok(format!("{trimmed}/"))
}

fn one_of<T: Copy>(text: &str, key: &str, value: &str, words: &[(&'static str, T)]) -> Result<T, Error> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let found = words.iter().find(|(name, _)| *name == value).map(|(_, v)| *v);
    found.ok_or_else(|| suggest(bad_query(text, format!("unknown value {value:?} of {key:?}")), value, &names))
}

/// A text with its escapes taken out; none if one is no escape, or if it is not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |b: &u8| (*b as char).to_digit(16);
                (u8::try_from(digit(high)? * 16 + digit(low)?).ok()?, tail)
            }
            (b'%', _) => return None,
            _ => (*first, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// What may be shown of an address that was not understood: nothing before an `@` and no query, which may be secrets.
fn shown(text: &str) -> &str {
    let address = text.split('?').next().unwrap_or_default();
    match address.rsplit_once('@') {
        Some((_, rest)) => rest,
        // The question mark may stand in a password: then nothing but the scheme is sure to be none of it.
        None if text.contains('@') => text.split("://").next().unwrap_or_default(),
        None => address,
    }
}

/// What to do about an escape that is none.
const ESCAPES: &str = "write a percent sign as %25, and other bytes as UTF-8";

fn malformed(text: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Code(310), ErrorKind::Invalid, "the store's address is not understood").with("url", shown(text)).because(why)
}

fn bad_query(text: &str, why: impl std::fmt::Display) -> Error {
    let help = "known keys: region, endpoint, style=path|virtual, guard=auto|if-none-match|cos|none, payload=signed|unsigned, \
                checksum=crc64nvme|md5|none, parts=equal|growing";
    Error::new(Code(311), ErrorKind::Invalid, "the store's address has an option that is not understood")
        .with("url", shown(text))
        .because(why)
        .help(help)
}

fn suggest(error: Error, word: &str, known: &[&str]) -> Error {
    match nearest(word, known) {
        Some(near) => error.help(format!("did you mean {near:?}?")),
        None if error.help.is_none() => error.help(format!("one of {}", known.join(", "))),
        None => error,
    }
}

#[cfg(test)]
mod tests;
