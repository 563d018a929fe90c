//! TLS under the API and the console.
//!
//! Place in the flow: a listener between the socket and the routers, which see the caller's address as they do without it. A connection comes up only when
//! its handshake is done.
//!
//! Guarantees: a handshake has a time limit, and there is a bound on those under way, in all and from one address. When it is reached the oldest one goes: whoever
//! is slow makes room for whoever is not, so that silent connections keep nobody out. Certificates that are read anew count for the next handshake; files that
//! cannot be used change nothing. Not here: who may do what.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::attempts::network;
use crate::error::{Error, ErrorKind, Result};
use crate::service::changes::now_ms;
use crate::tls::{self, TLS_UNREADABLE};

/// How long a handshake may take: a slow link needs a second or two.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Handshakes under way at a time, in all and from one address.
const HANDSHAKES_MAX: usize = 256;
const HANDSHAKES_OF_ONE_MAX: usize = 64;

/// The files that TLS rests on.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate of the service, with those between it and its authority behind it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of callers' certificates, if callers must have one.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    fn read(&self) -> Result<Arc<ServerConfig>> {
        let unusable = |e: &dyn std::fmt::Display| {
            Error::new(TLS_UNREADABLE, ErrorKind::Invalid, "TLS cannot be spoken with these files")
                .with("certificate", self.certificate.display())
                .because(e)
                .help("name a certificate, its key and the authorities of clients as PEM files")
        };
        let (chain, key) = tls::pair(&self.certificate, &self.key)?;
        if let Some(expired) = tls::expired(&chain, now_ms()) {
            tracing::warn!("{}", expired.with("certificate", self.certificate.display()));
        }
        let builder = ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|e| unusable(&e))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(tls::roots(file)?), tls::provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(|e| unusable(&e))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| unusable(&e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// What the service shows in its handshakes, and what it wants to be shown.
pub struct Identity {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl std::fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// `C0650`, `C0651`. A certificate that has expired is warned of (`C0652`), and used: a service that is there with it is better than one that is not.
    pub fn of(files: TlsFiles) -> Result<Self> {
        Ok(Self { current: RwLock::new(files.read()?), files })
    }

    /// Reads the files anew, for the handshakes from now on.
    ///
    /// # Errors
    /// As [`of`](Self::of); then it goes on with what it had.
    pub fn read_again(&self) -> Result<()> {
        let new = self.files.read()?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

type Connection = (TlsStream<TcpStream>, SocketAddr);

/// A listener whose connections have their handshake behind them.
#[derive(Debug)]
pub struct TlsListener {
    tcp: TcpListener,
    identity: Arc<Identity>,
    handshakes: JoinSet<Option<Connection>>,
    /// The handshakes under way by the networks of their callers, oldest first.
    under_way: VecDeque<(IpAddr, AbortHandle)>,
}

impl TlsListener {
    /// TLS on this socket.
    pub fn new(tcp: TcpListener, identity: Arc<Identity>) -> Self {
        Self { tcp, identity, handshakes: JoinSet::new(), under_way: VecDeque::new() }
    }

    fn begin(&mut self, stream: TcpStream, address: SocketAddr) {
        let from = network(address.ip());
        self.make_room(from);
        let acceptor = TlsAcceptor::from(self.identity.current());
        let task = self.handshakes.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => return Some((stream, address)),
                Ok(Err(e)) => tracing::debug!(%address, "a TLS handshake failed: {e}"),
                Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
            }
            None
        });
        self.under_way.push_back((from, task));
    }

    /// Ends the oldest handshake of this network if it has too many, else the oldest of all if there are too many.
    fn make_room(&mut self, from: IpAddr) {
        self.under_way.retain(|(_, task)| !task.is_finished());
        let of_this = self.under_way.iter().filter(|(other, _)| *other == from).count();
        let oldest = match self.under_way.len() {
            _ if of_this >= HANDSHAKES_OF_ONE_MAX => self.under_way.iter().position(|(other, _)| *other == from),
            HANDSHAKES_MAX.. => Some(0),
            _ => None,
        };
        if let Some((_, task)) = oldest.and_then(|at| self.under_way.remove(at)) {
            task.abort();
        }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Connection {
        loop {
            // Both may be given up in between without losing a connection.
            tokio::select! {
                (stream, address) = Listener::accept(&mut self.tcp) => self.begin(stream, address),
                Some(ended) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = ended {
                        return connection;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use rustls::server::ResolvesServerCertUsingSni;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A listener that has no certificate: a handshake with it ends when somebody speaks.
    async fn listener() -> (TlsListener, SocketAddr) {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let config = ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        let files = TlsFiles { certificate: "c".into(), key: "k".into(), client_ca: None };
        let identity = Identity { files, current: RwLock::new(Arc::new(config)) };
        (TlsListener::new(tcp, Arc::new(identity)), address)
    }

    #[tokio::test]
    async fn whoever_is_silent_makes_room_for_the_next() {
        let (mut listener, address) = listener().await;
        let mut silent = Vec::new();
        for _ in 0..HANDSHAKES_OF_ONE_MAX + 2 {
            silent.push(TcpStream::connect(address).await.unwrap());
            let (stream, from) = Listener::accept(&mut listener.tcp).await;
            listener.begin(stream, from);
        }
        assert_eq!(listener.under_way.len(), HANDSHAKES_OF_ONE_MAX);
        let mut byte = [0];
        for gone in &mut silent[..2] {
            assert_eq!(gone.read(&mut byte).await.unwrap_or(0), 0, "the oldest ones were ended");
        }
        let newest = silent.last_mut().unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), newest.read(&mut byte)).await.is_err(), "it has its time");
    }

    #[tokio::test]
    async fn handshakes_of_many_addresses_are_bounded_too() {
        let (mut listener, address) = listener().await;
        let mut open = Vec::new();
        for n in 0..HANDSHAKES_MAX + 3 {
            open.push(TcpStream::connect(address).await.unwrap());
            let (stream, _) = Listener::accept(&mut listener.tcp).await;
            listener.begin(stream, SocketAddr::from(([10, 0, u8::try_from(n / 250).unwrap(), u8::try_from(n % 250).unwrap()], 1)));
        }
        assert_eq!(listener.under_way.len(), HANDSHAKES_MAX);
        assert_eq!(open[0].read(&mut [0]).await.unwrap_or(0), 0, "the oldest one was ended");
    }

    #[tokio::test]
    async fn a_handshake_ends_after_its_time() {
        let (mut listener, address) = listener().await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let (stream, from) = Listener::accept(&mut listener.tcp).await;
        tokio::time::pause();
        listener.begin(stream, from);
        // With nothing else to do, the paused clock goes on to the time limit.
        assert!(listener.handshakes.join_next().await.unwrap().unwrap().is_none());
        tokio::time::resume();
        assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
    }

    #[test]
    fn files_that_are_none_are_refused() {
        let files = TlsFiles { certificate: "/nonexistent/c.pem".into(), key: "/nonexistent/k.pem".into(), client_ca: None };
        assert_eq!(Identity::of(files).unwrap_err().code, TLS_UNREADABLE);
    }
}
