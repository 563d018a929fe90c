//! Connections that can be reset from within a handler.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Accepts connections until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    inner: TcpListener,
    address: SocketAddr,
    down: Arc<AtomicBool>,
}

impl Listener {
    pub(super) async fn bind(address: SocketAddr, down: Arc<AtomicBool>) -> io::Result<Self> {
        let inner = TcpListener::bind(address).await?;
        Ok(Self { address: inner.local_addr()?, inner, down })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.inner.accept().await {
                Ok((stream, peer)) => {
                    // Closing then resets instead of ending the stream: a client sees what a crashed service shows it.
                    let _ = stream.set_zero_linger();
                    let _ = stream.set_nodelay(true);
                    return (Connection { stream, cut: Cut::default(), down: Arc::clone(&self.down) }, peer);
                }
                // Out of descriptors, most likely: wait for some to be closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// The name of the header that can be hidden, and what then stands there.
const LENGTH: (&[u8], &[u8]) = (b"content-length", b"without-length");

/// Cuts one connection, or hides what it sends.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut(Arc<Wanted>);

#[derive(Debug)]
struct Wanted {
    /// Bytes that may still be sent.
    left: AtomicUsize,
    /// Whether the next answer is to have no length.
    hides_length: AtomicBool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { left: AtomicUsize::new(usize::MAX), hides_length: AtomicBool::new(false) }
    }
}

impl Cut {
    /// Resets the connection instead of sending what comes next.
    pub(super) fn cut(&self) {
        self.cut_after(0);
    }

    /// Resets the connection when so many more bytes were sent.
    pub(super) fn cut_after(&self, bytes: usize) {
        self.0.left.store(bytes, Ordering::SeqCst);
    }

    /// The next answer goes out without its `Content-Length`, which the server's library puts back whoever takes it out.
    pub(super) fn hide_length(&self) {
        self.0.hides_length.store(true, Ordering::SeqCst);
    }

    fn left(&self) -> usize {
        self.0.left.load(Ordering::SeqCst)
    }

    fn sent(&self, bytes: usize) {
        if self.left() != usize::MAX {
            self.0.left.fetch_sub(bytes, Ordering::SeqCst);
        }
    }

    /// What is to be sent instead of these bytes, if it is not they.
    fn instead(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let at = self.0.hides_length.load(Ordering::SeqCst).then(|| bytes.windows(LENGTH.0.len()).position(|part| part == LENGTH.0))??;
        let mut bytes = bytes.to_vec();
        bytes[at..at + LENGTH.1.len()].copy_from_slice(LENGTH.1);
        Some(bytes)
    }
}

impl Connected<IncomingStream<'_, Listener>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().cut.clone()
    }
}

/// A connection that fails once it is cut or the server is down.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    cut: Cut,
    down: Arc<AtomicBool>,
}

impl Connection {
    fn check(&self) -> io::Result<()> {
        let is_cut = self.cut.left() == 0 || self.down.load(Ordering::SeqCst);
        if is_cut { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        let some = &buf[..buf.len().min(self.cut.left())];
        let instead = self.cut.instead(some);
        let sent = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, instead.as_deref().unwrap_or(some)))?;
        if instead.is_some() {
            self.cut.0.hides_length.store(false, Ordering::SeqCst);
        }
        self.cut.sent(sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
