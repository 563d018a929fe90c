//! An S3 service in this process: real sockets, objects in memory, and the faults and quirks of real services on demand.
//!
//! It stands for AWS, Tencent COS or MinIO ([`Personality`]), with a create-only guard of each class per operation
//! ([`Guards`]), and misbehaves as a [`FaultPlan`] says. It remembers every request and every version of every key, so that a
//! test can ask afterwards whether an object changed once it was visible.
//!
//! Signatures are not verified, but a request must carry one that covers its `x-amz-` and `x-cos-` headers. An operation that
//! has begun takes effect even if its client is gone, as on a real service.

mod answer;
mod body;
mod connection;
mod fault;
mod handler;
mod multipart;
mod objects;
mod request;
mod state;
mod xml;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use catchment::store::GuardClass;
use catchment::store::open::{Env, GivenCredentials, OpenOptions};

use crate::scripted::order::Order;

pub use fault::{Answer, Fault, FaultPlan, FaultRule, FaultRules};
pub use request::{Op, Request};
pub use state::{Logged, State, Version};

/// Whose behaviour the server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personality {
    /// 412 and 409 of conditional writes; a repeated Complete is answered 200 again.
    Aws,
    /// Virtual-hosted only; own guard header and checksum; Complete answers 200 first; a repeated Complete is 404.
    Cos,
    /// A Complete must name the parts' checksums if the upload has an algorithm; a repeated Complete is 404.
    Minio,
}

impl Personality {
    /// Its name on command lines and in ids.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Cos => "cos",
            Self::Minio => "minio",
        }
    }
}

/// Class of the create-only guard of each operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// PutObject.
    pub put: GuardClass,
    /// CompleteMultipartUpload.
    pub complete: GuardClass,
}

/// What a server is like.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose behaviour it shows.
    pub personality: Personality,
    /// How its guards behave.
    pub guards: Guards,
    /// Its only bucket.
    pub bucket: String,
    /// The port on 127.0.0.1; 0 for any.
    pub port: u16,
    /// Entries of the largest page of any listing.
    pub page_entries_max: usize,
    /// Smallest size of a part that is not the last, in bytes, if not the service's own.
    pub part_bytes_min: Option<u64>,
    /// Whether an upload's parts but the last must be of one size, as R2 wants it.
    pub equal_parts: bool,
    /// How long a class B guard waits between its check and its write.
    pub race_window: Duration,
    /// COS: how long Complete sends spaces before its result.
    pub complete_delay: Duration,
    /// COS: whether replies carry `x-cos-hash-crc64ecma`.
    pub cos_crc: bool,
    /// COS: whether metadata comes back under `x-cos-meta-`.
    pub cos_metadata: bool,
    /// Whether uploads that were completed are listed like open ones, as old ones without parts, and an abort of one takes its object.
    pub lists_completed: bool,
    /// Bytes of an upload's id, at least.
    pub upload_id_bytes: usize,
    /// Numbers the versions of objects among the events of a test.
    pub order: Order,
}

impl Config {
    /// A server of this personality with atomic guards.
    pub fn new(personality: Personality) -> Self {
        let bucket = if personality == Personality::Cos { "bucket-1250000000" } else { "bucket" };
        Self {
            personality,
            guards: Guards { put: GuardClass::A, complete: GuardClass::A },
            bucket: bucket.to_owned(),
            port: 0,
            page_entries_max: 1000,
            part_bytes_min: None,
            equal_parts: false,
            race_window: Duration::from_millis(30),
            complete_delay: Duration::from_millis(20),
            cos_crc: true,
            cos_metadata: false,
            lists_completed: false,
            upload_id_bytes: 0,
            order: Order::default(),
        }
    }

    /// The same with these guards.
    #[must_use]
    pub fn guards(self, put: GuardClass, complete: GuardClass) -> Self {
        Self { guards: Guards { put, complete }, ..self }
    }
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    state: Arc<State>,
    down: Arc<AtomicBool>,
    accepting: tokio::task::JoinHandle<()>,
}

impl S3Server {
    /// Starts a server on the current runtime.
    pub async fn start(config: Config) -> std::io::Result<Self> {
        let state = Arc::new(State::new(config));
        Self::serve(state, None).await
    }

    async fn serve(state: Arc<State>, address: Option<SocketAddr>) -> std::io::Result<Self> {
        let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], state.config.port)));
        let down = Arc::new(AtomicBool::new(false));
        let listener = connection::Listener::bind(address, Arc::clone(&down)).await?;
        let address = listener.address();
        let service = handler::router(Arc::clone(&state));
        let accepting = tokio::spawn(async move {
            // The listener accepts for ever; an error of one connection ends that connection only.
            let _ = axum::serve(listener, service.into_make_service_with_connect_info::<connection::Cut>()).await;
        });
        Ok(Self { address, state, down, accepting })
    }

    /// Stops listening and resets all connections; what is stored stays.
    pub async fn stop(self) -> StoppedServer {
        let stopped = StoppedServer { state: Arc::clone(&self.state), address: self.address };
        self.down.store(true, Ordering::SeqCst);
        self.accepting.abort();
        // Wait until the socket is closed, so that the next start can have its port.
        while !self.accepting.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stopped
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it holds and remembers, and its switches.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The address of a store in its bucket, below `prefix`, with further options such as `guard=none` (or an empty text).
    pub fn url(&self, prefix: &str, options: &str) -> String {
        let (scheme, region) = match self.state.config.personality {
            Personality::Cos => ("cos", "ap-guangzhou"),
            Personality::Aws | Personality::Minio => ("s3", "us-east-1"),
        };
        let more = if options.is_empty() { String::new() } else { format!("&{options}") };
        format!("{scheme}://{}/{prefix}?region={region}&endpoint=http://{}{more}", self.state.config.bucket, self.address)
    }

    /// Options that let a store open it: any credentials, no environment.
    pub fn options(&self) -> OpenOptions {
        let credentials = GivenCredentials { access_key: "test".into(), secret_key: "test".into(), session_token: None };
        OpenOptions { credentials: Some(credentials), env: Env::of(&[]), ..OpenOptions::default() }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.down.store(true, Ordering::SeqCst);
        self.accepting.abort();
    }
}

/// A server that was stopped and can be started again.
#[derive(Debug)]
pub struct StoppedServer {
    state: Arc<State>,
    address: SocketAddr,
}

impl StoppedServer {
    /// Starts it again on the same port with what it held.
    ///
    /// Its port is one of those that outgoing connections take theirs from: one of them may have it for a moment.
    pub async fn start(self) -> std::io::Result<S3Server> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match S3Server::serve(Arc::clone(&self.state), Some(self.address)).await {
                Err(e) if e.kind() == ErrorKind::AddrInUse && Instant::now() < until => tokio::time::sleep(Duration::from_millis(50)).await,
                started => return started,
            }
        }
    }
}
