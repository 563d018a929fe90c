//! Operations on whole objects.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use bytes::Bytes;
use catchment::store::GuardClass;

use super::Personality;
use super::body::{Received, hex};
use super::handler::{Refusal, Reply, refuse, reply};
use super::request::Incoming;
use super::state::{Object, State};
use super::xml::Document;

pub(super) async fn put(state: &Arc<State>, incoming: &Incoming, received: Received) -> Result<Reply, Refusal> {
    let metadata = incoming.metadata();
    check_metadata(state, &metadata)?;
    let etag = hex(&received.md5);
    let crc64 = received.crc64;
    let object = Object { chunks: received.chunks, size: received.size, etag: etag.clone(), crc64, metadata, written: Instant::now() };
    insert(state, incoming, object, state.config.guards.put).await?;
    Ok(reply(&with_crc(state, vec![("etag", quoted(&etag))], crc64), ""))
}

/// Makes an object visible as the guard's class says.
pub(super) async fn insert(state: &Arc<State>, incoming: &Incoming, object: Object, class: GuardClass) -> Result<(), Refusal> {
    let key = &incoming.request.key;
    let begun = object.written;
    let checks = incoming.request.guarded && class != GuardClass::C;
    if class == GuardClass::B && checks {
        // Look, wait, write: what comes between is not seen.
        if let Some(other) = state.store().objects.get(key) {
            return taken(state, other, begun);
        }
        tokio::time::sleep(state.config.race_window).await;
    }
    let mut store = state.store();
    if class == GuardClass::A
        && checks
        && let Some(other) = store.objects.get(key)
    {
        return taken(state, other, begun);
    }
    store.insert(key, Object { written: Instant::now(), ..object }, state.config.order.next(), state.now_ms());
    Ok(())
}

fn taken(state: &State, other: &Object, begun: Instant) -> Result<(), Refusal> {
    match state.config.personality {
        Personality::Cos => refuse(409, "FileAlreadyExists", "the object exists"),
        // AWS says 409 where the other write came while this one was under way.
        Personality::Aws if other.written > begun => refuse(409, "ConditionalRequestConflict", "a conflicting write came first"),
        Personality::Aws | Personality::Minio => refuse(412, "PreconditionFailed", "the object exists"),
    }
}

pub(super) fn head(state: &State, incoming: &Incoming) -> Result<Reply, Refusal> {
    let object = find(state, incoming)?;
    let mut headers = object_headers(state, &object);
    headers.push(("content-length", object.size.to_string()));
    Ok(metadata_headers(state, &object, reply(&headers, "")))
}

pub(super) fn get(state: &State, incoming: &Incoming) -> Result<Reply, Refusal> {
    let object = find(state, incoming)?;
    let range = match incoming.header("range").map(|text| parse_range(text, object.size)) {
        None => None,
        Some(Some(range)) => Some(range),
        Some(None) => return refuse(416, "InvalidRange", "the range is not satisfiable"),
    };
    let mut headers = object_headers(state, &object);
    if let Some((from, to)) = range {
        headers.push(("content-range", format!("bytes {from}-{}/{}", to - 1, object.size)));
    }
    let (from, to) = range.unwrap_or((0, object.size));
    let mut answer = metadata_headers(state, &object, reply(&headers, slice(&object.chunks, from, to)));
    if range.is_some() {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(answer)
}

pub(super) fn delete(state: &State, incoming: &Incoming) -> Result<Reply, Refusal> {
    let at_ms = state.now_ms();
    state.store().remove(&incoming.request.key, state.config.order.next(), at_ms);
    let mut answer = Reply::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    Ok(answer)
}

/// ListObjects, version 1 and 2.
pub(super) fn list(state: &State, incoming: &Incoming) -> Result<Reply, Refusal> {
    let query = |name: &str| incoming.query.get(name).map_or("", String::as_str);
    let is_v2 = query("list-type") == "2";
    let (prefix, delimiter) = (query("prefix"), query("delimiter"));
    let marker = if !is_v2 {
        query("marker")
    } else if query("continuation-token").is_empty() {
        query("start-after")
    } else {
        query("continuation-token")
    };
    let count_max = query("max-keys").parse().unwrap_or(usize::MAX).min(state.config.page_entries_max);
    let mut document = Document::new("ListBucketResult");
    document.element("Name", &state.config.bucket).element("Prefix", prefix).element("MaxKeys", count_max);
    let (mut count, mut last, mut truncated) = (0, String::new(), false);
    for (key, object) in state.store().objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix)) {
        let directory = match delimiter.is_empty() {
            true => None,
            false => key[prefix.len()..].find(delimiter).map(|at| &key[..prefix.len() + at + delimiter.len()]),
        };
        let entry = directory.unwrap_or(key);
        // A directory that the marker names, or that is listed already, is not listed again.
        if entry <= marker || directory.is_some_and(|d| marker.starts_with(d)) || entry == last {
            continue;
        }
        if count == count_max {
            truncated = true;
            break;
        }
        count += 1;
        entry.clone_into(&mut last);
        match directory {
            Some(directory) => document.open("CommonPrefixes").element("Prefix", directory).close("CommonPrefixes"),
            None => document
                .open("Contents")
                .element("Key", key)
                .element("LastModified", "2026-01-01T00:00:00.000Z")
                .element("ETag", quoted(&object.etag))
                .element("Size", object.size)
                .close("Contents"),
        };
    }
    document.element("IsTruncated", truncated).element("KeyCount", count);
    if truncated && is_v2 {
        document.element("NextContinuationToken", &last);
    } else if truncated && !delimiter.is_empty() {
        // Without a delimiter version 1 names no marker: it is the last key.
        document.element("NextMarker", &last);
    }
    Ok(reply(&[("content-type", "application/xml".into())], document.finish("ListBucketResult")))
}

fn find(state: &State, incoming: &Incoming) -> Result<Object, Refusal> {
    match state.store().objects.get(&incoming.request.key) {
        Some(object) => Ok(object.clone()),
        None => refuse(404, "NoSuchKey", "the object does not exist"),
    }
}

fn object_headers(state: &State, object: &Object) -> Vec<(&'static str, String)> {
    let headers = vec![
        ("etag", quoted(&object.etag)),
        ("content-type", "application/octet-stream".into()),
        ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT".into()),
    ];
    with_crc(state, headers, object.crc64)
}

fn metadata_headers(state: &State, object: &Object, mut answer: Reply) -> Reply {
    let prefix = if state.config.cos_metadata { "x-cos-meta-" } else { "x-amz-meta-" };
    for (name, value) in &object.metadata {
        let name = axum::http::HeaderName::try_from(format!("{prefix}{name}"));
        if let (Ok(name), Ok(value)) = (name, axum::http::HeaderValue::try_from(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

pub(super) fn with_crc(state: &State, mut headers: Vec<(&'static str, String)>, crc64: u64) -> Vec<(&'static str, String)> {
    if state.config.personality == Personality::Cos && state.config.cos_crc {
        headers.push(("x-cos-hash-crc64ecma", crc64.to_string()));
    }
    headers
}

pub(super) fn check_metadata(state: &State, metadata: &std::collections::BTreeMap<String, String>) -> Result<(), Refusal> {
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    let (bytes_max, underscores) = match state.config.personality {
        Personality::Cos => (4096, false),
        Personality::Aws | Personality::Minio => (2048, true),
    };
    if bytes > bytes_max {
        return refuse(400, "MetadataTooLarge", "the metadata is too large");
    }
    if !underscores && metadata.keys().any(|name| name.contains('_')) {
        return refuse(400, "InvalidArgument", "an underscore in a metadata name");
    }
    Ok(())
}

/// The bytes of a range header, cut to the size; none if nothing is left.
fn parse_range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to): (u64, u64) = match (from.parse(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) => (from, to.checked_add(1)?.min(size)),
        (Ok(from), Err(_)) => (from, size),
        (Err(_), Ok(suffix)) => (size.saturating_sub(suffix), size),
        _ => return None,
    };
    (from < to).then_some((from, to))
}

/// The bytes from one place to another.
fn slice(chunks: &[Bytes], from: u64, to: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut place = 0;
    for chunk in chunks {
        let end = place + chunk.len() as u64;
        let (start, stop) = (from.clamp(place, end) - place, to.clamp(place, end) - place);
        bytes.extend_from_slice(&chunk[start as usize..stop as usize]);
        place = end;
    }
    bytes
}

pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}
