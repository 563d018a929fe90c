//! Bodies of requests, read at a given speed and summed, and bodies of answers that take their time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use http_body::{Body as _, Frame};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::state::State;

/// A request's body with its sums.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub chunks: Arc<[Bytes]>,
    pub size: u64,
    pub md5: [u8; 16],
    pub sha256: [u8; 32],
    pub crc64: u64,
    pub crc64_nvme: u64,
}

/// Reads a body; none if the client went away before its end.
pub(super) async fn receive(mut body: Body, state: &State, rate: Option<u64>) -> Option<Received> {
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    let (mut xz, mut nvme) = (Crc::new(CrcAlgorithm::Crc64Xz), Crc::new(CrcAlgorithm::Crc64Nvme));
    let mut chunks = Vec::new();
    let mut size = 0;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(chunk) = frame.ok()?.into_data() else { continue };
        state.pace(chunk.len()).await;
        if let Some(rate) = rate {
            tokio::time::sleep(Duration::from_secs_f64(chunk.len() as f64 / rate as f64)).await;
        }
        md5.update(&chunk);
        sha256.update(&chunk);
        xz.update(&chunk);
        nvme.update(&chunk);
        size += chunk.len() as u64;
        chunks.push(chunk);
    }
    let (md5, sha256) = (md5.finalize().into(), sha256.finalize().into());
    Some(Received { chunks: chunks.into(), size, md5, sha256, crc64: xz.finalize(), crc64_nvme: nvme.finalize() })
}

/// An answer's body that is sent piece by piece.
#[derive(Debug)]
pub(super) struct Pieces(pub mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= group.len() { digit } else { '=' });
        }
    }
    text
}
