//! A TCP proxy on loopback that makes a connection slow, hang or break: a store at 1 MB/s, a network that is away.
//!
//! It knows no protocol. An S3 client signs the `Host` that it connects to and a server checks the one that it receives, so a
//! proxied MinIO works; Kafka answers with the broker's own address, so of a proxied Kafka only the first request comes by, unless the
//! broker advertises the proxy. Then all clients come by it, and [`Proxy::strand`] cuts one of them off.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::sockets::{self, Socket};

/// How long a blocked read or accept waits before it looks whether it should end.
const TICK: Duration = Duration::from_millis(20);

/// Bytes moved at a time. At most, or a slow link delivers in jerks; at least, or a fast one costs CPU.
const CHUNK: usize = 16 << 10;

/// What the proxy does to its connections, changed at any time.
#[derive(Debug, Default)]
struct Weather {
    /// Bytes a second from client to server, over all connections; 0 is no limit.
    upload_rate: AtomicU64,
    /// Nothing passes.
    hung: AtomicBool,
    /// Nothing of this process passes; 0 is none.
    stranded: AtomicI32,
    /// Connections with a lower number than this are closed.
    cut_below: AtomicU64,
    ended: AtomicBool,
    /// When the next byte may pass, in microseconds since the proxy began.
    next_free: AtomicU64,
    passed: AtomicU64,
}

/// A running proxy. Ends, and closes its connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: Arc<Weather>,
    connections: Arc<AtomicU64>,
    server: Arc<Mutex<SocketAddr>>,
}

impl Proxy {
    /// A proxy before `server`, `host:port` or `http://host:port`.
    pub fn start(server: &str) -> Self {
        let server = Arc::new(Mutex::new(address_of(server)));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port can be had");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let address = listener.local_addr().expect("a listener has an address");
        let weather = Arc::new(Weather::default());
        let connections = Arc::new(AtomicU64::new(0));
        let (shared, counter, began) = (Arc::clone(&weather), Arc::clone(&connections), Instant::now());
        let to = Arc::clone(&server);
        std::thread::spawn(move || {
            while !shared.ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, client)) => {
                        let number = counter.fetch_add(1, Ordering::Relaxed);
                        let server = *to.lock().expect("no holder panics");
                        let connection = Connection { number, client, proxy: address, is_stranded: OnceLock::new() };
                        connect(stream, server, connection, &shared, began);
                    }
                    Err(_) => std::thread::sleep(TICK),
                }
            }
        });
        Self { address, weather, connections, server }
    }

    /// From now on connections lead to another `server`: the one before has started again elsewhere.
    pub fn lead_to(&self, server: &str) {
        *self.server.lock().expect("no holder panics") = address_of(server);
    }

    /// Its address, `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Limits what clients send to this many bytes a second, over all connections; 0 takes the limit away.
    pub fn set_upload_rate(&self, bytes_per_second: u64) {
        self.weather.upload_rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// From now on nothing passes, in either direction; connections stay open.
    pub fn hang(&self) {
        self.weather.hung.store(true, Ordering::Relaxed);
    }

    /// From now on nothing of this process on this machine passes; its connections, and new ones, stay open. At most one process in the proxy's life.
    pub fn strand(&self, pid: i32) {
        self.weather.stranded.store(pid, Ordering::Relaxed);
    }

    /// Ends [`hang`](Self::hang) and [`strand`](Self::strand).
    pub fn resume(&self) {
        self.weather.hung.store(false, Ordering::Relaxed);
        self.weather.stranded.store(0, Ordering::Relaxed);
    }

    /// Closes the connections that are open now; new ones are taken.
    pub fn cut(&self) {
        self.weather.cut_below.store(self.connections.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Bytes that clients have sent through.
    pub fn uploaded_bytes(&self) -> u64 {
        self.weather.passed.load(Ordering::Relaxed)
    }

    /// Connections made so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

fn address_of(server: &str) -> SocketAddr {
    server.trim_start_matches("http://").parse().unwrap_or_else(|e| panic!("{server} is no address: {e}"))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.weather.ended.store(true, Ordering::Relaxed);
    }
}

/// A connection of a client's.
#[derive(Debug)]
struct Connection {
    number: u64,
    client: SocketAddr,
    proxy: SocketAddr,
    /// Whether it is of the process that is stranded; looked up when there is one.
    is_stranded: OnceLock<bool>,
}

impl Connection {
    fn is_of(&self, pid: i32) -> bool {
        // The table is not read in one piece, so an entry may be missed.
        let socket = || (0..3).find_map(|_| socket_of(self.client, self.proxy));
        *self.is_stranded.get_or_init(|| socket().is_some_and(|socket| has_socket(pid, &socket)))
    }
}

/// The kernel's number of the socket that a client on this machine has connected.
fn socket_of(client: SocketAddr, proxy: SocketAddr) -> Option<String> {
    let is_it = |socket: &Socket| (socket.local.port(), socket.remote.port()) == (client.port(), proxy.port());
    sockets::table().into_iter().find(is_it).map(|socket| socket.number)
}

fn has_socket(pid: i32, number: &str) -> bool {
    let socket = format!("socket:[{number}]");
    let mut files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.to_str() == Some(socket.as_str())))
}

impl Weather {
    fn is_over_for(&self, connection: u64) -> bool {
        self.ended.load(Ordering::Relaxed) || connection < self.cut_below.load(Ordering::Relaxed)
    }

    fn is_hung_for(&self, connection: &Connection) -> bool {
        let stranded = self.stranded.load(Ordering::Relaxed);
        self.hung.load(Ordering::Relaxed) || (stranded != 0 && connection.is_of(stranded))
    }

    /// Waits for `bytes` of the shared upload rate.
    fn pay(&self, bytes: u64, began: Instant) {
        let rate = self.upload_rate.load(Ordering::Relaxed);
        self.passed.fetch_add(bytes, Ordering::Relaxed);
        if rate == 0 {
            return;
        }
        let now = u64::try_from(began.elapsed().as_micros()).expect("a test is shorter than an age");
        let cost = bytes * 1_000_000 / rate;
        // What a busy machine was late with, up to a second of it, is made up for.
        let earliest = now.saturating_sub(1_000_000);
        let due = self.next_free.fetch_max(earliest, Ordering::Relaxed).max(earliest);
        self.next_free.fetch_add(cost, Ordering::Relaxed);
        std::thread::sleep(Duration::from_micros((due + cost).saturating_sub(now)));
    }
}

fn connect(client: TcpStream, server: SocketAddr, connection: Connection, weather: &Arc<Weather>, began: Instant) {
    let Ok(server) = TcpStream::connect(server) else { return }; // the client sees a connection that closes
    let connection = Arc::new(connection);
    for (from, to, upload) in [(&client, &server, true), (&server, &client, false)] {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        let (weather, connection) = (Arc::clone(weather), Arc::clone(&connection));
        std::thread::spawn(move || pump(from, to, upload, &connection, &weather, began));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, upload: bool, connection: &Connection, weather: &Weather, began: Instant) {
    let mut buffer = vec![0; CHUNK];
    let blocking = from.set_nonblocking(false).and_then(|()| from.set_read_timeout(Some(TICK)));
    while blocking.is_ok() && !weather.is_over_for(connection.number) {
        if weather.is_hung_for(connection) {
            std::thread::sleep(TICK);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                if upload {
                    weather.pay(n as u64, began);
                }
                if to.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let how = if weather.is_over_for(connection.number) { Shutdown::Both } else { Shutdown::Write };
    let _ = to.shutdown(how);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that counts what it gets and answers one byte a chunk.
    fn sink() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            while let Ok((mut client, _)) = listener.accept() {
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while client.read(&mut buffer).is_ok_and(|n| n > 0) && client.write_all(b".").is_ok() {}
                });
            }
        });
        address
    }

    fn client(proxy: &Proxy) -> TcpStream {
        let client = TcpStream::connect(proxy.address()).expect("the proxy listens");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        client
    }

    fn answers(client: &mut TcpStream) -> bool {
        client.write_all(b"x").is_ok() && client.read(&mut [0; 1]).is_ok_and(|n| n == 1)
    }

    /// Whether nothing comes back for a while.
    fn is_silent(client: &mut TcpStream) -> bool {
        client.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout can be set");
        let silent = !answers(client);
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        silent
    }

    #[test]
    fn hangs_resumes_and_cuts() {
        let proxy = Proxy::start(&sink().to_string());
        let mut first = client(&proxy);
        assert!(answers(&mut first));
        proxy.hang();
        std::thread::sleep(TICK * 3);
        assert!((0..20).any(|_| is_silent(&mut first)));
        proxy.resume();
        assert!(first.read(&mut [0; 1]).is_ok_and(|n| n == 1), "what was sent meanwhile arrives");
        proxy.cut();
        std::thread::sleep(TICK * 5);
        assert!(!answers(&mut first) || !answers(&mut first));
        assert!(answers(&mut client(&proxy)));
        assert_eq!(proxy.connections(), 2);
    }

    #[test]
    fn strands_one_process_and_lets_others_pass() {
        let proxy = Proxy::start(&sink().to_string());
        let mut own = client(&proxy);
        assert!(answers(&mut own));
        proxy.strand(i32::try_from(std::process::id()).expect("a pid"));
        std::thread::sleep(TICK * 3);
        assert!((0..20).any(|_| is_silent(&mut own)), "its connection that was open");
        assert!(is_silent(&mut client(&proxy)), "and its new one");
        let address = proxy.address().replacen(':', "/", 1);
        let script = format!("exec 3<>/dev/tcp/{address} && printf x >&3 && IFS= read -r -t 20 -n 1 answer <&3 && [ \"$answer\" = . ]");
        let other = std::process::Command::new("bash").args(["-c", &script]).status().expect("bash runs");
        assert!(other.success(), "another process's");
        proxy.resume();
        assert!(own.read(&mut [0; 1]).is_ok_and(|n| n == 1), "what was sent meanwhile arrives");
    }

    #[test]
    fn leads_to_a_server_that_has_moved() {
        let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
        let proxy = Proxy::start(&gone.to_string());
        assert!(!answers(&mut client(&proxy)), "nothing listens there any more");
        proxy.lead_to(&format!("http://{}", sink()));
        assert!(answers(&mut client(&proxy)));
    }

    #[test]
    fn the_rate_holds_over_all_connections() {
        let proxy = Proxy::start(&sink().to_string());
        proxy.set_upload_rate(1_000_000);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut client = TcpStream::connect(proxy.address()).expect("the proxy listens");
                    client.write_all(&vec![0; 500_000]).expect("the proxy takes it");
                    client.shutdown(Shutdown::Write).expect("the connection is open");
                    client.read_to_end(&mut Vec::new()).expect("the answers come to an end");
                });
            }
        });
        assert_eq!(proxy.uploaded_bytes(), 1_000_000);
        assert!(began.elapsed() > Duration::from_millis(900), "1 MB at 1 MB/s took {:?}", began.elapsed());
    }
}
