//! Multipart uploads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::body::Body;
use bytes::Bytes;
use catchment::store::GuardClass;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use md5::{Digest as _, Md5};
use tokio::sync::mpsc;

use super::Personality;
use super::body::{Pieces, Received, base64, hex};
use super::handler::{Refusal, Reply, refuse, reply};
use super::objects::{check_metadata, insert, quoted, with_crc};
use super::request::Incoming;
use super::state::{Object, PartBody, State, Upload};
use super::xml::{self, Document};

/// A part that Complete names.
#[derive(Debug)]
struct Named {
    number: u32,
    etag: String,
    checksum: Option<String>,
}

pub(super) fn create(state: &State, incoming: &Incoming) -> Result<Reply, Refusal> {
    let key = incoming.request.key.clone();
    let metadata = incoming.metadata();
    check_metadata(state, &metadata)?;
    let mut store = state.store();
    let refuses_early = state.config.personality == Personality::Cos && state.config.guards.complete != GuardClass::C;
    if refuses_early && incoming.request.guarded && store.objects.contains_key(&key) {
        return refuse(409, "FileAlreadyExists", "the object exists");
    }
    store.serial += 1;
    let id = format!("upload-{}-{:08x}", store.serial, fastrand::u32(..));
    let id = format!("{id:-<0$}", state.config.upload_id_bytes);
    let has_checksums = incoming.header("x-amz-checksum-algorithm").is_some();
    let upload = Upload { key: key.clone(), metadata, has_checksums, parts: BTreeMap::new(), initiated: SystemTime::now() };
    store.uploads.insert(id.clone(), upload);
    let mut document = Document::new("InitiateMultipartUploadResult");
    document.element("Bucket", &state.config.bucket).element("Key", key).element("UploadId", id);
    Ok(reply(&[], document.finish("InitiateMultipartUploadResult")))
}

pub(super) fn upload_part(state: &State, incoming: &Incoming, received: Received) -> Result<Reply, Refusal> {
    let Some(number) = incoming.request.part.filter(|n| (1..=10_000).contains(n)) else {
        return refuse(400, "InvalidArgument", "part numbers are 1 to 10000");
    };
    let mut store = state.store();
    let upload = upload_of(&mut store.uploads, incoming)?;
    let Received { chunks, size, md5, crc64, crc64_nvme, .. } = received;
    upload.parts.insert(number, PartBody { chunks, size, md5, crc64_nvme });
    Ok(reply(&with_crc(state, vec![("etag", quoted(&hex(&md5)))], crc64), ""))
}

pub(super) fn list_parts(state: &State, incoming: &Incoming) -> Result<Reply, Refusal> {
    let mut store = state.store();
    let is_listed = state.config.lists_completed && store.completed.contains_key(incoming.request.upload.as_deref().unwrap_or(""));
    if is_listed {
        return Ok(reply(&[], Document::new("ListPartsResult").finish("ListPartsResult")));
    }
    let upload = upload_of(&mut store.uploads, incoming)?;
    let after: u32 = incoming.query.get("part-number-marker").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut document = Document::new("ListPartsResult");
    let page: Vec<_> = upload.parts.range(after + 1..).take(state.config.page_entries_max).collect();
    for (number, part) in &page {
        document.open("Part").element("PartNumber", number).element("ETag", quoted(&hex(&part.md5))).element("Size", part.size);
        if upload.has_checksums {
            document.element("ChecksumCRC64NVME", base64(&part.crc64_nvme.to_be_bytes()));
        }
        document.close("Part");
    }
    let last = page.last().map_or(after, |(number, _)| **number);
    let truncated = upload.parts.range(last + 1..).next().is_some();
    document.element("IsTruncated", truncated).element("NextPartNumberMarker", last);
    Ok(reply(&[], document.finish("ListPartsResult")))
}

pub(super) fn abort(state: &State, incoming: &Incoming) -> Result<Reply, Refusal> {
    let (mut store, id) = (state.store(), incoming.request.upload.as_deref().unwrap_or(""));
    if state.config.lists_completed && store.completed.remove(id).is_some() {
        store.remove(&incoming.request.key, state.config.order.next(), state.now_ms());
    } else {
        upload_of(&mut store.uploads, incoming)?;
        store.uploads.remove(id);
    }
    let mut answer = Reply::default();
    *answer.status_mut() = axum::http::StatusCode::NO_CONTENT;
    Ok(answer)
}

pub(super) fn list_uploads(state: &State, incoming: &Incoming) -> Result<Reply, Refusal> {
    let query = |name: &str| incoming.query.get(name).cloned().unwrap_or_default();
    let marker = (query("key-marker"), query("upload-id-marker"));
    let store = state.store();
    let open = store.uploads.iter().map(|(id, upload)| (&upload.key, id, upload.initiated));
    let completed = store.completed.iter().filter(|_| state.config.lists_completed).map(|(id, (key, _))| (key, id, SystemTime::UNIX_EPOCH));
    let prefix = query("prefix");
    // MinIO takes the prefix for a key.
    let is_listed = |key: &String| if state.config.personality == Personality::Minio { *key == prefix } else { key.starts_with(&prefix) };
    let mut uploads: Vec<(&String, &String, SystemTime)> = open.chain(completed).filter(|(key, ..)| is_listed(key)).collect();
    uploads.sort_unstable();
    uploads.retain(|(key, id, _)| (*key, *id) > (&marker.0, &marker.1));
    let truncated = uploads.len() > state.config.page_entries_max;
    uploads.truncate(state.config.page_entries_max);
    let mut document = Document::new("ListMultipartUploadsResult");
    document.element("Bucket", &state.config.bucket).element("IsTruncated", truncated);
    if let Some((key, id, _)) = uploads.last() {
        document.element("NextKeyMarker", key).element("NextUploadIdMarker", id);
    }
    for (key, id, initiated) in uploads {
        let at = jiff::Timestamp::try_from(initiated).unwrap_or_default();
        document.open("Upload").element("Key", key).element("UploadId", id).element("Initiated", at).close("Upload");
    }
    Ok(reply(&[], document.finish("ListMultipartUploadsResult")))
}

pub(super) async fn complete(state: &Arc<State>, incoming: &Incoming, received: &Received) -> Result<Reply, Refusal> {
    let id = incoming.request.upload.clone().unwrap_or_default();
    let repeated = state.store().completed.get(&id).cloned();
    if let Some((key, etag)) = repeated.filter(|_| state.config.personality == Personality::Aws)
        && key == incoming.request.key
    {
        return Ok(reply(&[], result(state, &key, &etag)));
    }
    let upload = upload_of(&mut state.store().uploads, incoming)?.clone();
    let named = parse_parts(&String::from_utf8_lossy(&received.chunks.concat()));
    if state.config.personality == Personality::Cos {
        return Ok(complete_late(state, incoming, id, upload, named));
    }
    let etag = finish(state, incoming, &id, upload, &named).await?;
    Ok(reply(&[], result(state, &incoming.request.key, &etag)))
}

/// As COS does it: 200 at once, spaces while it works, and the result or the error at the end.
fn complete_late(state: &Arc<State>, incoming: &Incoming, id: String, upload: Upload, named: Vec<Named>) -> Reply {
    let (pieces, receiver) = mpsc::channel(16);
    let (state, incoming, busy) = (Arc::clone(state), incoming.clone(), state.busy());
    tokio::spawn(async move {
        let _busy = busy;
        // A client that is gone does not stop the service; its pieces go nowhere.
        for _ in 0..4 {
            let _ = pieces.send(Bytes::from_static(b" ")).await;
            tokio::time::sleep(state.config.complete_delay / 4).await;
        }
        let body = match finish(&state, &incoming, &id, upload, &named).await {
            Ok(etag) => result(&state, &incoming.request.key, &etag),
            Err(refusal) => xml::error(refusal.code, refusal.message, &incoming.request.key),
        };
        let _ = pieces.send(body.into()).await;
    });
    Reply::new(Body::new(Pieces(receiver)))
}

/// Checks the parts and makes the object visible.
async fn finish(state: &Arc<State>, incoming: &Incoming, id: &str, upload: Upload, named: &[Named]) -> Result<String, Refusal> {
    check_parts(state, &upload, named)?;
    let object = join(&upload, named);
    let etag = object.etag.clone();
    let key = incoming.request.key.clone();
    let inserted = insert(state, incoming, object, state.config.guards.complete).await;
    let conflict = matches!(&inserted, Err(refusal) if refusal.code == "ConditionalRequestConflict");
    let mut store = state.store();
    // After a conflict AWS wants the upload to be begun anew.
    if inserted.is_ok() || conflict {
        store.uploads.remove(id);
    }
    if inserted.is_ok() {
        store.completed.insert(id.to_owned(), (key, etag.clone()));
    }
    inserted.map(|()| etag)
}

/// Makes the object of an upload visible with all its parts: a Complete that was sent long ago takes effect.
pub(super) fn complete_overdue(state: &State, id: &str) {
    let mut store = state.store();
    let Some(upload) = store.uploads.remove(id) else { return };
    let part = |(number, part): (&u32, &PartBody)| Named { number: *number, etag: hex(&part.md5), checksum: None };
    let object = join(&upload, &upload.parts.iter().map(part).collect::<Vec<_>>());
    store.completed.insert(id.to_owned(), (upload.key.clone(), object.etag.clone()));
    store.insert(&upload.key, object, state.config.order.next(), state.now_ms());
}

fn check_parts(state: &State, upload: &Upload, named: &[Named]) -> Result<(), Refusal> {
    let is_cos = state.config.personality == Personality::Cos;
    if named.is_empty() {
        return refuse(400, "MalformedXML", "no parts");
    }
    if named.windows(2).any(|w| w[0].number >= w[1].number) {
        return refuse(400, "InvalidPartOrder", "the parts are not in ascending order");
    }
    let part_bytes_min = state.config.part_bytes_min.unwrap_or(if is_cos { 1 << 20 } else { 5 << 20 });
    for (index, part) in named.iter().enumerate() {
        let Some(stored) = upload.parts.get(&part.number).filter(|stored| hex(&stored.md5) == part.etag) else {
            return refuse(400, "InvalidPart", "a part is not there, or not this one");
        };
        if is_cos && part.number as usize != index + 1 {
            return refuse(400, "InvalidPart", "the parts are not numbered without holes");
        }
        let sum = base64(&stored.crc64_nvme.to_be_bytes());
        let sum_is_wrong = part.checksum.as_ref().is_some_and(|named| *named != sum);
        let sum_is_missing = state.config.personality == Personality::Minio && upload.has_checksums && part.checksum.is_none();
        if !is_cos && (sum_is_wrong || sum_is_missing) {
            return refuse(400, "InvalidPart", "the checksum of a part is wrong or missing");
        }
        if index + 1 < named.len() && stored.size < part_bytes_min {
            return refuse(400, "EntityTooSmall", "a part that is not the last is too small");
        }
    }
    check_equal(state, upload, named)
}

/// In the words of R2, which makes no object of parts of several sizes.
fn check_equal(state: &State, upload: &Upload, named: &[Named]) -> Result<(), Refusal> {
    let sizes: Vec<_> = named.iter().filter_map(|part| upload.parts.get(&part.number)).map(|part| part.size).collect();
    let (Some(first), Some((last, others))) = (sizes.first(), sizes.split_last()) else { return Ok(()) };
    if state.config.equal_parts && (others.iter().any(|size| size != first) || last > first) {
        return refuse(400, "InvalidPart", "All non-trailing parts must have the same length.");
    }
    Ok(())
}

fn join(upload: &Upload, named: &[Named]) -> Object {
    let parts = named.iter().filter_map(|part| upload.parts.get(&part.number));
    let (mut md5, mut crc, mut chunks, mut size) = (Md5::new(), Crc::new(CrcAlgorithm::Crc64Xz), Vec::new(), 0);
    for part in parts {
        md5.update(part.md5);
        part.chunks.iter().for_each(|chunk| crc.update(chunk));
        chunks.extend(part.chunks.iter().cloned());
        size += part.size;
    }
    let etag = format!("{}-{}", hex(&md5.finalize()), named.len());
    Object { chunks: chunks.into(), size, etag, crc64: crc.finalize(), metadata: upload.metadata.clone(), written: Instant::now() }
}

fn parse_parts(document: &str) -> Vec<Named> {
    let parts = xml::texts(document, "Part").into_iter().filter_map(|part| {
        let first = |name| xml::texts(part, name).first().map(|text| xml::unescape(text));
        Some(Named {
            number: first("PartNumber")?.parse().ok()?,
            etag: first("ETag")?.trim_matches('"').to_owned(),
            checksum: first("ChecksumCRC64NVME"),
        })
    });
    parts.collect()
}

fn result(state: &State, key: &str, etag: &str) -> String {
    let mut document = Document::new("CompleteMultipartUploadResult");
    document.element("Bucket", &state.config.bucket).element("Key", key).element("ETag", quoted(etag));
    document.finish("CompleteMultipartUploadResult")
}

fn upload_of<'a>(uploads: &'a mut BTreeMap<String, Upload>, incoming: &Incoming) -> Result<&'a mut Upload, Refusal> {
    let id = incoming.request.upload.as_deref().unwrap_or("");
    match uploads.get_mut(id).filter(|upload| upload.key == incoming.request.key) {
        Some(upload) => Ok(upload),
        None => refuse(404, "NoSuchUpload", "the upload does not exist"),
    }
}
