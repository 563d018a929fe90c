//! Bodies on the wire: a payload's chunks one after another, never joined, and the checksums over them.

use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as CrcDigest};
use http_body::{Body, Frame, SizeHint};
use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::store::Payload;

/// A payload as a body of known length, sent chunk by chunk.
struct ChunkBody {
    payload: Payload,
    next: usize,
    left: u64,
}

impl Body for ChunkBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while let Some(chunk) = self.payload.chunks().get(self.next).cloned() {
            self.next += 1;
            self.left -= chunk.len() as u64;
            // An empty frame would end nothing and carry nothing.
            if !chunk.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A payload as the SDK takes it.
pub(super) fn stream(payload: &Payload) -> ByteStream {
    let payload = payload.clone();
    let body = move || SdkBody::from_body_1_x(ChunkBody { payload: payload.clone(), next: 0, left: payload.len() });
    ByteStream::new(SdkBody::retryable(body))
}

/// Which checksums of a body a request carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// SHA-256, for the signature.
    pub sha256: bool,
    /// `Content-MD5`.
    pub md5: bool,
    /// `x-amz-checksum-crc64nvme`.
    pub crc64_nvme: bool,
}

/// Checksums of a body, as the headers write them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checksums {
    /// Lower-case hex.
    pub sha256: Option<String>,
    /// Base64.
    pub md5: Option<String>,
    /// Base64 of the big-endian value.
    pub crc64_nvme: Option<String>,
}

/// Bodies up to this size are summed where they are; larger ones on a blocking thread. SHA-256 of 64 KiB takes well under a
/// tenth of a millisecond, about what the hand-over costs; a larger limit would hold up the other requests of the thread.
const INLINE_BYTES_MAX: u64 = 64 << 10;

/// Computes the wanted checksums over the chunks.
pub(super) async fn checksums(payload: &Payload, wanted: Wanted) -> Checksums {
    if wanted == Wanted::default() {
        return Checksums::default();
    }
    if payload.len() <= INLINE_BYTES_MAX {
        return compute(payload, wanted);
    }
    let owned = payload.clone();
    let job = tokio::task::spawn_blocking(move || compute(&owned, wanted));
    // Blocking threads refuse work only while the runtime shuts down; the request then fails by itself.
    job.await.unwrap_or_default()
}

fn compute(payload: &Payload, wanted: Wanted) -> Checksums {
    let mut sha256 = wanted.sha256.then(Sha256::new);
    let mut md5 = wanted.md5.then(Md5::new);
    let mut crc = wanted.crc64_nvme.then(|| CrcDigest::new(CrcAlgorithm::Crc64Nvme));
    for chunk in payload.chunks() {
        // In pieces that stay in the cache from one checksum to the next.
        for piece in chunk.chunks(32 << 10) {
            sha256.iter_mut().for_each(|d| d.update(piece));
            md5.iter_mut().for_each(|d| d.update(piece));
            crc.iter_mut().for_each(|d| d.update(piece));
        }
    }
    Checksums {
        sha256: sha256.map(|d| hex(&d.finalize())),
        md5: md5.map(|d| aws_smithy_types::base64::encode(d.finalize())),
        crc64_nvme: crc.map(|d| aws_smithy_types::base64::encode(d.finalize().to_be_bytes())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|d| char::from_digit(u32::from(d), 16).unwrap_or('0')).collect()
}

/// A body without its leading white space: what COS sends to keep a connection alive while it completes an upload, and what
/// the SDK's XML parser does not take before a declaration.
pub(super) struct TrimStart {
    inner: SdkBody,
    started: bool,
}

impl TrimStart {
    pub(super) fn wrap(inner: SdkBody) -> SdkBody {
        SdkBody::from_body_1_x(Self { inner, started: false })
    }
}

impl Body for TrimStart {
    type Data = Bytes;
    type Error = aws_sdk_s3::error::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            let frame = std::task::ready!(Body::poll_frame(Pin::new(&mut self.inner), cx));
            let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
            if self.started {
                return Poll::Ready(Some(Ok(frame)));
            }
            match frame.into_data() {
                Ok(data) => {
                    let rest = data.slice(data.len() - data.trim_ascii_start().len()..);
                    if !rest.is_empty() {
                        self.started = true;
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload(chunks: &[Vec<u8>]) -> Payload {
        let all = chunks.concat();
        Payload::new(chunks.iter().map(|c| Bytes::from(c.clone())).collect(), crc_fast::checksum(CrcAlgorithm::Crc64Xz, &all))
    }

    proptest! {
        #[test]
        fn checksums_do_not_depend_on_chunks(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6)) {
            let wanted = Wanted { sha256: true, md5: true, crc64_nvme: true };
            let many = compute(&payload(&chunks), wanted);
            prop_assert_eq!(many, compute(&payload(&[chunks.concat()]), wanted));
        }
    }

    #[test]
    fn checksums_are_the_published_ones() {
        let got = compute(&payload(&[b"123456789".to_vec()]), Wanted { sha256: true, md5: true, crc64_nvme: true });
        assert_eq!(got.sha256.unwrap(), "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225");
        assert_eq!(got.md5.unwrap(), "JfnnlDI7RTiF9RgfG2JNCw==");
        // CRC-64/NVME's check value: ae8b14860a799888.
        assert_eq!(got.crc64_nvme.unwrap(), "rosUhgp5mIg=");
    }

    #[test]
    fn a_body_is_its_chunks_and_knows_its_length() {
        let payload = payload(&[b"ab".to_vec(), vec![], b"c".to_vec()]);
        let mut body = ChunkBody { payload: payload.clone(), next: 0, left: payload.len() };
        assert_eq!(body.size_hint().exact(), Some(3));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut got = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) {
            got.push(frame.into_data().unwrap());
        }
        assert_eq!(got, [Bytes::from("ab"), Bytes::from("c")]);
        assert!(body.is_end_stream());
    }
}
