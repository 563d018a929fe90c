//! What a client gets: the operation's answer, or what a fault makes of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode};
use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::sync::mpsc;

use super::body::Pieces;
use super::connection::Cut;
use super::fault::{Answer, Fault};
use super::handler::{Reply, error_reply};
use super::request::{Incoming, Op};
use super::xml;

/// Bytes of a head that still go out when the answer is cut there: within the status line's fellow headers.
const HEAD_BYTES: usize = 30;

/// From one damaged byte to the next: no structure of an object or a listing is longer.
const DAMAGE_STEP: usize = 50;

/// Pieces of a slow answer.
const PIECES: usize = 6;

/// Turns the operation's answer into what the client gets; none for a reset.
pub(super) async fn shape(incoming: &Incoming, fault: &Fault, usual: Reply, cut: &Cut) -> Option<Reply> {
    // COS answers a Complete before it has done it: whoever says something else says it after the effect.
    let usual = if fault.answer == Answer::Usual { usual } else { finished(usual).await };
    tokio::time::sleep(fault.after).await;
    if let Some(held) = &fault.held {
        held.opened().await;
    }
    let reply = match &fault.answer {
        Answer::Reset => {
            cut.cut();
            return None;
        }
        Answer::Cut => cut_short(incoming, usual, cut).await,
        Answer::NoLength => {
            cut.hide_length();
            usual
        }
        other => changed(incoming, other, usual).await,
    };
    Some(match fault.pause {
        Some(pause) => slowly(reply, pause).await,
        None => reply,
    })
}

async fn changed(incoming: &Incoming, answer: &Answer, usual: Reply) -> Reply {
    let (key, op) = (&incoming.request.key, incoming.request.op);
    let is_head = op == Op::HeadObject;
    match answer {
        Answer::Usual | Answer::Reset | Answer::Cut | Answer::NoLength => usual,
        Answer::Error(status, code) => error_reply(*status, code, "as the test wants it", key, is_head),
        Answer::LateError(code) => Reply::new(xml::error(code, "as the test wants it", key).into()),
        Answer::Garbage => Reply::new("no XML at all".into()),
        Answer::Page(status) => page(*status),
        Answer::Text(text) => Reply::new(text.clone().into()),
        Answer::WrongCrc => with_header(usual, "x-cos-hash-crc64ecma", Some("1")),
        Answer::NoCrc => with_header(usual, "x-cos-hash-crc64ecma", None),
        Answer::BrokenPage => broken_page(op),
        Answer::WrongEtag => wrong_etags(op, usual).await,
        Answer::Damaged => damaged(usual).await,
    }
}

fn with_header(mut reply: Reply, name: &'static str, value: Option<&'static str>) -> Reply {
    match value {
        Some(value) => drop(reply.headers_mut().insert(name, HeaderValue::from_static(value))),
        None => drop(reply.headers_mut().remove(name)),
    }
    reply
}

fn page(status: u16) -> Reply {
    let text = format!("<!DOCTYPE html>\n<html><head><title>{status}</title></head><body><p>The origin did not answer.</body></html>\n");
    let mut reply = with_header(Reply::new(text.into()), "content-type", Some("text/html"));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    reply
}

fn broken_page(op: Op) -> Reply {
    let root = match op {
        Op::ListParts => "ListPartsResult",
        Op::ListMultipartUploads => "ListMultipartUploadsResult",
        _ => "ListBucketResult",
    };
    let mut page = xml::Document::new(root);
    page.element("IsTruncated", true);
    Reply::new(page.finish(root).into())
}

async fn wrong_etags(op: Op, usual: Reply) -> Reply {
    const OTHER: &str = "\"0123456789abcdef0123456789abcdef\"";
    let mut reply = usual;
    if reply.headers().contains_key("etag") {
        reply = with_header(reply, "etag", Some(OTHER));
    }
    if matches!(op, Op::GetObject | Op::HeadObject) {
        return reply;
    }
    let (head, body) = reply.into_parts();
    let text = String::from_utf8_lossy(&whole(body).await).into_owned();
    Reply::from_parts(head, xml::replace(&text, "ETag", OTHER).into())
}

async fn damaged(usual: Reply) -> Reply {
    let (head, body) = usual.into_parts();
    let mut bytes = whole(body).await;
    bytes.iter_mut().skip(DAMAGE_STEP / 2).step_by(DAMAGE_STEP).for_each(|byte| *byte ^= 0x55);
    Reply::from_parts(head, bytes.into())
}

/// Half of the body, or a part of the head if there is none, and then a reset connection.
async fn cut_short(incoming: &Incoming, usual: Reply, cut: &Cut) -> Reply {
    if incoming.request.op == Op::HeadObject {
        cut.cut_after(HEAD_BYTES);
        return usual;
    }
    let (mut head, body) = usual.into_parts();
    let mut bytes = whole(body).await;
    if bytes.is_empty() {
        cut.cut_after(HEAD_BYTES);
        return Reply::from_parts(head, Body::empty());
    }
    head.headers.insert("content-length", HeaderValue::from(bytes.len()));
    bytes.truncate(bytes.len() / 2);
    Reply::from_parts(head, Body::new(CutBody { rest: Some(bytes.into()), pause: None }))
}

/// A body that breaks off.
struct CutBody {
    rest: Option<Bytes>,
    /// Lets what was sent arrive: a reset connection takes back what its client has not read yet.
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl http_body::Body for CutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(10))));
        std::task::ready!(Future::poll(pause.as_mut(), cx));
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())))
    }
}

/// The same answer in pieces, with a pause before each; one without a body comes late.
async fn slowly(reply: Reply, pause: Duration) -> Reply {
    let (mut head, body) = reply.into_parts();
    let bytes = Bytes::from(whole(body).await);
    if bytes.is_empty() {
        tokio::time::sleep(pause * PIECES as u32).await;
        return Reply::from_parts(head, Body::empty());
    }
    head.headers.insert("content-length", HeaderValue::from(bytes.len()));
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        for piece in bytes.chunks(bytes.len().div_ceil(PIECES)) {
            tokio::time::sleep(pause).await;
            let _ = sender.send(bytes.slice_ref(piece)).await;
        }
    });
    Reply::from_parts(head, Body::new(Pieces(pieces)))
}

/// The same answer once all of it is known.
async fn finished(reply: Reply) -> Reply {
    let (head, body) = reply.into_parts();
    Reply::from_parts(head, whole(body).await.into())
}

/// All bytes of a body of ours.
async fn whole(mut body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    bytes
}
