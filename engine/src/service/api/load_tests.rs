//! Load tests: listed, shown, and the page of each as a download.

use std::io;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::io::AsyncReadExt as _;

use super::Service;
use super::extract::OfPath;
use super::problem::Problem;
use super::view::json_of;
use crate::service::load_tests::LoadTest;

/// Bytes of a download that are in memory at a time.
const CHUNK: usize = 256 << 10;

/// Load tests, newest first, at most 100
#[utoipa::path(get, path = "/load-tests", tag = "load-tests",
    responses((status = 200, description = "Those of the directory that the service was given; also such as cannot be read", body = [LoadTest])))]
pub(super) async fn list(State(service): State<Service>) -> Result<Response, Problem> {
    Ok(json_of(&service.load_tests.list().await?.newest))
}

/// One load test
#[utoipa::path(get, path = "/load-tests/{name}", tag = "load-tests", params(("name" = String, Path, description = "The load test")),
    responses((status = 200, description = "What its report says, or why it cannot be read", body = LoadTest)))]
pub(super) async fn show(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    Ok(json_of(&service.load_tests.one(&name).await?))
}

/// The page that a load test has written
///
/// It has styles of its own, which the policy of this service's pages forbids, and is somebody else's text: it is saved, and not shown under this address.
#[utoipa::path(get, path = "/load-tests/{name}/report", tag = "load-tests", params(("name" = String, Path, description = "The load test")),
    responses((status = 200, description = "HTML, to be saved", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(in crate::service) async fn download(State(service): State<Service>, OfPath(name): OfPath<String>) -> Result<Response, Problem> {
    let (page, size) = service.load_tests.page(&name).await?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, size.to_string()),
        // A name has no character that a header or a file system minds.
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.html\"")),
    ];
    let chunks = stream::try_unfold(tokio::fs::File::from_std(page).take(size), |mut page| async move {
        let mut chunk = vec![0; CHUNK];
        let read = page.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok::<_, io::Error>((read > 0).then(|| (Bytes::from(chunk), page)))
    });
    Ok((headers, Body::from_stream(chunks)).into_response())
}
