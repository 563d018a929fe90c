//! One request from its headers to its answer.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State as AxumState};
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use axum::routing::{any, get, post};

use super::body::{self, Received};
use super::connection::Cut;
use super::fault::Fault;
use super::request::{Incoming, Op};
use super::state::State;
use super::{Personality, answer, multipart, objects, xml};
use crate::gate::Gate;
use crate::s3::FaultRule;

/// An answer with a body that is whole.
pub(super) type Reply = Response<Body>;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: &'static str,
}

pub(super) fn refuse<T>(status: u16, code: &'static str, message: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, code, message })
}

pub(super) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/_log", get(|AxumState(state): AxumState<Arc<State>>| async move { state.dump().to_string() }))
        .route("/_faults", post(set_faults))
        .fallback(any(handle))
        .with_state(state)
}

/// The body of `POST /_faults`: rules replace those before; switches that are left out stay.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Switches {
    rules: Option<Vec<FaultRule>>,
    denied: Option<bool>,
    rate: Option<u64>,
    backdate_uploads_ms: Option<u64>,
}

async fn set_faults(AxumState(state): AxumState<Arc<State>>, text: String) -> (StatusCode, String) {
    let switches: Switches = match serde_json::from_str(&text) {
        Ok(switches) => switches,
        Err(e) => return (StatusCode::BAD_REQUEST, e.to_string()),
    };
    if let Some(rules) = switches.rules {
        state.set_fault_rules(rules);
    }
    if let Some(denied) = switches.denied {
        state.set_denied(denied);
    }
    if let Some(rate) = switches.rate {
        state.set_rate(rate);
    }
    if let Some(ms) = switches.backdate_uploads_ms {
        state.backdate_uploads(std::time::Duration::from_millis(ms));
    }
    (StatusCode::OK, String::new())
}

async fn handle(
    AxumState(state): AxumState<Arc<State>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let guard = match state.config.personality {
        Personality::Cos => ("x-cos-forbid-overwrite", "true"),
        Personality::Aws | Personality::Minio => ("if-none-match", "*"),
    };
    let Some(incoming) = Incoming::parse(&method, &uri, headers, &state.config.bucket, guard) else {
        return error_reply(501, "NotImplemented", "no such operation here", "", false);
    };
    // A task of its own: an operation that has begun does not end with its client's connection.
    let busy = state.busy();
    let task = tokio::spawn(async move {
        let _busy = busy;
        let begun_ms = state.now_ms();
        let fault = state.fault(&incoming.request);
        let reply = serve(&state, &incoming, body, &fault).await;
        let reply = answer::shape(&incoming, &fault, reply, &cut).await;
        let status = reply.as_ref().map_or(0, |reply| reply.status().as_u16());
        state.record(&incoming.request, begun_ms, status);
        if let Some(gate) = &fault.opens {
            gate.open();
        }
        reply.unwrap_or_default()
    });
    task.await.unwrap_or_else(|_| error_reply(500, "InternalError", "the handler ended without an answer", "", false))
}

/// Does what is asked, if the fault lets it.
async fn serve(state: &Arc<State>, incoming: &Incoming, body: Body, fault: &Fault) -> Reply {
    tokio::time::sleep(fault.before).await;
    let is_head = incoming.request.op == Op::HeadObject;
    let refused = |r: Refusal| error_reply(r.status, r.code, r.message, &incoming.request.key, is_head);
    if let Err(refusal) = admit(state, incoming) {
        return refused(refusal);
    }
    let Some(received) = body::receive(body, state, fault.body_rate).await else {
        return refused(Refusal { status: 400, code: "IncompleteBody", message: "the body ended early" });
    };
    if let Err(refusal) = verify(state, incoming, &received) {
        return refused(refusal);
    }
    if let Some(gate) = &fault.again {
        repeat(state, incoming, &received, gate);
    }
    if !fault.effect {
        return Reply::default();
    }
    perform(state, incoming, received).await.unwrap_or_else(refused)
}

/// Lets the operation take effect when the gate opens, whatever has happened by then. Nobody hears the answer.
fn repeat(state: &Arc<State>, incoming: &Incoming, received: &Received, gate: &Gate) {
    let (state, incoming, received, gate) = (Arc::clone(state), incoming.clone(), received.clone(), gate.clone());
    let busy = state.busy();
    tokio::spawn(async move {
        let _busy = busy;
        gate.opened().await;
        drop(perform(&state, &incoming, received).await);
    });
}

async fn perform(state: &Arc<State>, incoming: &Incoming, received: Received) -> Result<Reply, Refusal> {
    match incoming.request.op {
        Op::PutObject => objects::put(state, incoming, received).await,
        Op::HeadObject => objects::head(state, incoming),
        Op::GetObject => objects::get(state, incoming),
        Op::DeleteObject => objects::delete(state, incoming),
        Op::ListObjects => objects::list(state, incoming),
        Op::CreateMultipartUpload => multipart::create(state, incoming),
        Op::UploadPart => multipart::upload_part(state, incoming, received),
        Op::ListParts => multipart::list_parts(state, incoming),
        Op::CompleteMultipartUpload => multipart::complete(state, incoming, &received).await,
        Op::AbortMultipartUpload => multipart::abort(state, incoming),
        Op::ListMultipartUploads => multipart::list_uploads(state, incoming),
    }
}

/// Checks what has nothing to do with the operation.
fn admit(state: &State, incoming: &Incoming) -> Result<(), Refusal> {
    if !incoming.is_signed() {
        return refuse(403, "AccessDenied", "no signature, or one that leaves out headers");
    }
    if incoming.bucket != state.config.bucket {
        return refuse(404, "NoSuchBucket", "the bucket does not exist");
    }
    if state.config.personality == Personality::Cos {
        let chunked = incoming.header("content-encoding").is_some_and(|e| e.contains("aws-chunked"))
            || incoming.header("x-amz-content-sha256").is_some_and(|h| h.starts_with("STREAMING-"));
        if incoming.path_style {
            return refuse(403, "PathStyleDomainForbidden", "the bucket must stand in the host name");
        }
        if chunked {
            return refuse(400, "InvalidArgument", "aws-chunked is not supported");
        }
    }
    Ok(())
}

/// Checks a body against the sums in the headers.
fn verify(state: &State, incoming: &Incoming, received: &Received) -> Result<(), Refusal> {
    if received.size != incoming.request.bytes {
        return refuse(400, "IncompleteBody", "the body is not as long as its header says");
    }
    if incoming.header("content-md5").is_some_and(|md5| md5 != body::base64(&received.md5)) {
        return refuse(400, "BadDigest", "the Content-MD5 is not the body's");
    }
    let signed_sum = incoming.header("x-amz-content-sha256").filter(|sum| sum.len() == 64);
    if signed_sum.is_some_and(|sum| sum != body::hex(&received.sha256)) {
        return refuse(400, "XAmzContentSHA256Mismatch", "the signed SHA-256 is not the body's");
    }
    // COS ignores the checksums of AWS.
    let nvme = incoming.header("x-amz-checksum-crc64nvme").filter(|_| state.config.personality != Personality::Cos);
    if nvme.is_some_and(|sum| sum != body::base64(&received.crc64_nvme.to_be_bytes())) {
        return refuse(400, "BadDigest", "the CRC64NVME is not the body's");
    }
    Ok(())
}

pub(super) fn error_reply(status: u16, code: &str, message: &str, key: &str, bare: bool) -> Reply {
    let body = if bare { Body::empty() } else { xml::error(code, message, key).into() };
    let mut reply = Reply::new(body);
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply
}

/// A success with these headers.
pub(super) fn reply(headers: &[(&str, String)], body: impl Into<Body>) -> Reply {
    let mut reply = Reply::new(body.into());
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (axum::http::HeaderName::try_from(*name), axum::http::HeaderValue::try_from(value)) {
            reply.headers_mut().insert(name, value);
        }
    }
    reply
}
