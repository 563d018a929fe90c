//! A scripted Kafka: brokers on loopback sockets that say what a script wants, to the real client.
//!
//! ```text
//!   script --with()--> Cluster: nodes, topics (log), groups, login, faults
//!                         ^
//!   librdkafka --TCP--> connection.rs --requests.rs--> faults.rs, then cluster.rs, fetch.rs, group_requests.rs --> served.rs
//! ```
//!
//! It exists because nothing else shows a client what the failure matrix is about: aborted transactions, batches that compaction has emptied,
//! wrong checksums, logs that were cut, groups that lose their members, answers that never come. The messages are those of the
//! kafka-protocol crate, the record batches are written by hand and read again by that crate in tests.
//!
//! What it does not do: take records from producers, keep anything on disk, replicate. A follower is a view of its leader's log.

pub mod batches;
pub mod cluster;
pub mod codecs;
mod connection;
pub mod faults;
mod fetch;
mod group_requests;
pub mod groups;
mod heartbeats;
pub mod log;
pub mod login;
pub mod offsets;
mod refusals;
pub mod requests;
pub mod served;
mod wire;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use cluster::{Cluster, Node};
use connection::Connection;

/// How often what is due by the clock is looked for: sessions, events for later.
const TICK: Duration = Duration::from_millis(20);

/// A node's switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Switch {
    down: bool,
    /// Rises with every cut of its connections.
    cuts: u32,
}

/// An event that happens later.
type Event = Box<dyn FnOnce(&mut Cluster) + Send>;

/// What a script has ordered for nodes and for later; taken by whoever holds no lock.
#[derive(Default)]
pub(crate) struct Orders {
    switches: Vec<(i32, bool, bool)>,
    events: Vec<(Instant, Event)>,
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Orders({} switches, {} events)", self.switches.len(), self.events.len())
    }
}

impl Cluster {
    /// A node refuses connections from now on, and ends those that it has.
    pub fn stop(&mut self, node: i32) {
        self.orders.switches.push((node, true, true));
    }

    /// A node that was stopped is back, at its old address.
    pub fn start(&mut self, node: i32) {
        self.orders.switches.push((node, false, false));
    }

    /// A node ends its connections; new ones are taken.
    pub fn cut(&mut self, node: i32) {
        self.orders.switches.push((node, false, true));
    }

    /// Something happens after this time.
    pub fn later(&mut self, after: Duration, event: impl FnOnce(&mut Self) + Send + 'static) {
        self.orders.events.push((Instant::now() + after, Box::new(event)));
    }

    /// A node is down for this time.
    pub fn stop_for(&mut self, node: i32, time: Duration) {
        self.stop(node);
        self.later(time, move |cluster| cluster.start(node));
    }
}

/// What connections, nodes and scripts share.
#[derive(Debug)]
pub(crate) struct Shared {
    cluster: Mutex<Cluster>,
    changed: watch::Sender<u64>,
    switches: Vec<watch::Sender<Switch>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the cluster; whoever waits for a change looks again.
    fn with<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let result = self.with_quietly(change);
        self.note_change();
        result
    }

    /// The same without waking anybody.
    fn with_quietly<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let (result, switches) = {
            let mut cluster = self.lock();
            let result = change(&mut cluster);
            (result, std::mem::take(&mut cluster.orders.switches))
        };
        for (node, down, cut) in switches {
            let switch = usize::try_from(node - 1).ok().and_then(|at| self.switches.get(at));
            if let Some(switch) = switch {
                switch.send_modify(|s| *s = Switch { down, cuts: s.cuts + u32::from(cut) });
            }
        }
        result
    }

    fn note_change(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Does what is due by the clock.
    fn tick(&self) {
        let now = Instant::now();
        let due = self.with_quietly(|cluster| {
            let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut cluster.orders.events).into_iter().partition(|(at, _)| *at <= now);
            cluster.orders.events = later;
            let any = !due.is_empty();
            due.into_iter().for_each(|(_, event)| event(cluster));
            cluster.groups.tick() || any
        });
        if due {
            self.note_change();
        }
    }
}

/// A running cluster. Ends when dropped.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// Each cluster has a loopback address of its own, so that nobody else takes a port while its node is down.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [_, _, third, fourth] = (NEXT.fetch_add(1, Ordering::Relaxed) % 60_000 + 0x0101).to_be_bytes();
    Ipv4Addr::new(127, 77, third, fourth)
}

impl Broker {
    /// Starts this many nodes, with ids from 1. The first one coordinates groups.
    ///
    /// # Panics
    /// If no loopback port can be had.
    pub async fn start(nodes: usize) -> Self {
        let address = own_address();
        let mut cluster = Cluster::default();
        cluster.coordinator = 1;
        let mut listeners = Vec::new();
        for id in (1..).take(nodes) {
            let listener = TcpListener::bind((address, 0)).await.expect("a loopback port can be had");
            let port = listener.local_addr().expect("a listener has an address").port();
            cluster.nodes.push(Node { id, host: address.to_string(), port });
            listeners.push((id, listener));
        }
        let switches = (0..nodes).map(|_| watch::Sender::new(Switch::default())).collect();
        let shared = Arc::new(Shared { cluster: Mutex::new(cluster), changed: watch::Sender::new(0), switches });
        let mut tasks = JoinSet::new();
        for ((id, listener), switch) in listeners.into_iter().zip(&shared.switches) {
            tasks.spawn(run_node(id, listener, switch.subscribe(), Arc::clone(&shared)));
        }
        let ticking = Arc::clone(&shared);
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                ticking.tick();
            }
        });
        Self { shared, _tasks: tasks }
    }

    /// The nodes' addresses, `host:port`.
    pub fn addresses(&self) -> Vec<String> {
        self.with(|cluster| cluster.nodes.iter().map(|n| format!("{}:{}", n.host, n.port)).collect())
    }

    /// Looks at the cluster, or changes it.
    pub fn with<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        self.shared.with(change)
    }

    /// Waits until `done` says yes; false if it does not in time.
    pub async fn wait_until(&self, limit: Duration, mut done: impl FnMut(&mut Cluster) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if self.shared.with_quietly(&mut done) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Listens while the node is up.
async fn run_node(id: i32, first: TcpListener, mut switch: watch::Receiver<Switch>, shared: Arc<Shared>) {
    let address = first.local_addr().expect("a listener has an address");
    let mut listener = Some(first);
    let mut connections = JoinSet::new();
    let mut cuts = 0;
    loop {
        let state = *switch.borrow_and_update();
        if state.cuts != cuts {
            connections.abort_all();
            cuts = state.cuts;
        }
        if state.down {
            listener = None;
        } else if listener.is_none() {
            listener = Some(bind_again(address).await);
        }
        tokio::select! {
            changed = switch.changed() => if changed.is_err() { return },
            accepted = accept(listener.as_ref()) => {
                connections.spawn(Connection::new(accepted, id, Arc::clone(&shared)).serve());
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> tokio::net::TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        // A connection that is gone before it was taken is not worth a word.
        if let Ok((stream, _)) = listener.accept().await {
            return stream;
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn bind_again(address: SocketAddr) -> TcpListener {
    loop {
        if let Ok(listener) = TcpListener::bind(address).await {
            return listener;
        }
        tokio::time::sleep(TICK).await;
    }
}
