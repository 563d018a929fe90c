//! The objects of a rule: browsed by directory, looked into, downloaded.
#![expect(unused_qualifications, reason = "utoipa's macro writes them for parameters")]

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Service;
use super::extract::{OfPath, OfQuery};
use super::problem::{Problem, malformed};
use super::view::json_of;
use crate::error::{Error, ErrorKind, codes};
use crate::runtime;
use crate::store::{ObjectStore, StoreResult};
use crate::verify::Place;

/// Bytes of a download that are in memory at a time.
const CHUNK: u64 = 4 << 20;

/// Rows that are shown of an object at most.
const ROWS_MAX: u32 = 50;

/// A directory below a rule's prefix.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Directory {
    /// Directories in it, each with its trailing slash.
    directories: Vec<String>,
    /// Objects in it.
    objects: Vec<FileView>,
    /// Where the next page begins; null at the end.
    next: Option<String>,
}

/// An object as it is listed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = File)]
pub(super) struct FileView {
    /// Its key below the rule's prefix.
    key: String,
    /// Its size.
    bytes: u64,
}

/// Which directory.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Where {
    /// Its path below the rule's prefix, with a trailing slash; the prefix itself if it is left out.
    directory: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
}

/// Which object.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::service) struct Which {
    /// Its key below the rule's prefix.
    pub(in crate::service) key: String,
}

/// Which object, and how much of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichRows {
    /// Its key below the rule's prefix.
    key: String,
    /// How many of its first records, at most 50; none if it is left out, or if the service may not show values.
    #[param(minimum = 0, maximum = 50)]
    rows: Option<u32>,
}

/// What an object is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FileShown {
    /// Its address.
    url: String,
    /// Its size.
    bytes: u64,
    /// What it says of itself: lane, range, counts, digest; null if that cannot be read.
    proof: Option<Value>,
    /// Its first records.
    rows: Vec<Value>,
}

/// The place that a rule writes to, for reading.
pub(in crate::service) async fn place(service: &Service, name: &str) -> Result<Place, Problem> {
    Ok(runtime::open_place(&service.supervisor.plan_of_rule(name).await?.to).await?)
}

/// A key of the caller's must stay below the rule's prefix, and out of the service's own state, which may be there.
pub(in crate::service) fn checked<'a>(service: &Service, place: &Place, key: &'a str) -> Result<&'a str, Problem> {
    let steps_out = key.split('/').any(|piece| piece == ".." || piece == ".") || key.starts_with('/') || key.contains('\0');
    if steps_out {
        return Err(Problem::from(malformed("the query string", "a key has no steps out of its prefix")));
    }
    if let Some(path) = place.url_of(&place.prefix).strip_prefix("file://") {
        service.supervisor.own_files().check_key(std::path::Path::new(path), key)?;
    }
    Ok(key)
}

/// Objects and directories below a rule's prefix
#[utoipa::path(get, path = "/rules/{name}/files", tag = "files", params(("name" = String, Path, description = "The rule"), Where),
    responses((status = 200, description = "A page of a directory", body = Directory)))]
pub(super) async fn list(
    State(service): State<Service>,
    OfPath(name): OfPath<String>,
    OfQuery(query): OfQuery<Where>,
) -> Result<Response, Problem> {
    let place = place(&service, &name).await?;
    let directory = checked(&service, &place, query.directory.as_deref().unwrap_or_default())?;
    let prefix = format!("{}{directory}", place.prefix);
    let page = place.store.list(&prefix, true, query.after.as_deref()).await.map_err(Error::from)?;
    let own = |key: &str| key.strip_prefix(&place.prefix).unwrap_or(key).to_owned();
    let objects = page.objects.iter().map(|object| FileView { key: own(&object.key), bytes: object.size }).collect();
    Ok(json_of(&Directory { directories: page.directories.iter().map(|d| own(d)).collect(), objects, next: page.next }))
}

/// What an object says of itself, and its first records
#[utoipa::path(get, path = "/rules/{name}/file", tag = "files", params(("name" = String, Path, description = "The rule"), WhichRows),
    responses((status = 200, description = "Its proof", body = FileShown)))]
pub(super) async fn show(
    State(service): State<Service>,
    OfPath(name): OfPath<String>,
    OfQuery(query): OfQuery<WhichRows>,
) -> Result<Response, Problem> {
    let wanted = query.rows.unwrap_or(0);
    if wanted > ROWS_MAX {
        return Err(Problem::from(malformed("the query string", format_args!("rows is {wanted}, above {ROWS_MAX}"))));
    }
    let place = place(&service, &name).await?;
    let records = if service.show_values { wanted as usize } else { 0 };
    let shown = service.inspector.look_into(&place, checked(&service, &place, &query.key)?, records).await?;
    let proof = shown.proof.as_ref().and_then(|proof| serde_json::to_value(proof).ok());
    Ok(json_of(&FileShown { url: shown.url, bytes: shown.size, proof, rows: shown.rows }))
}

/// An object's bytes
#[utoipa::path(get, path = "/rules/{name}/file/content", tag = "files", params(("name" = String, Path, description = "The rule"), Which),
    responses((status = 200, description = "All of them", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(in crate::service) async fn download(
    State(service): State<Service>,
    OfPath(name): OfPath<String>,
    OfQuery(query): OfQuery<Which>,
) -> Result<Response, Problem> {
    if !service.show_values {
        return Err(Problem::from(
            Error::new(codes::NOT_SHOWN, ErrorKind::Denied, "this service shows no values")
                .with("key", &query.key)
                .help("start it with --show-values, or read the object from the store"),
        ));
    }
    let place = place(&service, &name).await?;
    let key = format!("{}{}", place.prefix, checked(&service, &place, &query.key)?);
    let info = place.store.head(&key).await.map_err(Error::from)?.ok_or_else(|| {
        Error::new(codes::NOTHING_THERE, ErrorKind::NotFound, "there is no such object")
            .with("key", &key)
            .help("list the files of the rule")
    })?;
    let file = key.rsplit('/').next().unwrap_or_default().replace(|c: char| !c.is_ascii_graphic() || c == '"', "_");
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, info.size.to_string()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{file}\"")),
    ];
    let chunks = stream::unfold((place, key, 0), move |(place, key, from)| async move {
        let to = (from + CHUNK).min(info.size);
        (from < to).then_some(())?;
        let chunk = chunk(&*place.store, &key, from..to).await;
        Some((chunk, (place, key, to)))
    });
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// A part of an object. One that is shorter than it must be ends the download with an error, which the caller sees as a broken connection.
async fn chunk(store: &dyn ObjectStore, key: &str, range: std::ops::Range<u64>) -> Result<Bytes, std::io::Error> {
    let wanted = range.end - range.start;
    let found: StoreResult<Option<Bytes>> = store.get(key, Some(range)).await;
    match found {
        Ok(Some(bytes)) if bytes.len() as u64 == wanted => Ok(bytes),
        Ok(_) => Err(std::io::Error::other("the object has changed")),
        Err(e) => Err(std::io::Error::other(e)),
    }
}
