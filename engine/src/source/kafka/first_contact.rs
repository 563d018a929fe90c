//! The first contact with a cluster: it answers, and at least one broker that it advertises can be reached.
//!
//! Place in the flow: [`KafkaCluster::connect`](super::KafkaCluster::connect) blocks on it. A broker may answer at its bootstrap address and advertise
//! another one that this machine cannot reach, as behind a proxy or in a container; librdkafka would then try for ever.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::config::KafkaSettings;
use crate::error::Error;

use super::client::ReaderContext;
use super::deadline::Deadline;
use super::errors::{Diagnostics, advertised_unreachable};
use super::native::{self, Broker};

/// How long the first contact may take. Shorter: a slow network fails at start. Longer: a wrong address is noticed late.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a TCP connection to an advertised address may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// How many advertised addresses are tried at the start; the rest shows in use.
const PROBES_MAX: usize = 16;

/// Waits for the first answer, and checks that an advertised broker can be reached.
pub(super) fn first_contact(client: &BaseConsumer<ReaderContext>, heard: &Diagnostics, config: &KafkaSettings) -> Result<String, Error> {
    let deadline = Deadline::after(CONNECT_TIMEOUT);
    let metadata = loop {
        match native::metadata(client, deadline.left().min(Duration::from_secs(1))) {
            Ok(metadata) => break metadata,
            Err(code) if heard.is_hopeless() || deadline.has_passed() => return Err(heard.explain(config, "connecting", code)),
            // Refused at once: do not ask in a tight loop.
            Err(_) => crate::clock::block_for(Duration::from_millis(100)),
        }
    };
    probe_advertised(&metadata.brokers, config)?;
    let cluster_id = client.client().fetch_cluster_id(deadline.left().max(Duration::from_secs(5)));
    heard.clear();
    // Brokers before 0.10.1 have none; then the lane's identity rests on rule, topic and partition alone.
    Ok(cluster_id.unwrap_or_default())
}

/// The bootstrap address answered; does any address that the cluster advertises? One that was a bootstrap address has.
fn probe_advertised(brokers: &[Broker], config: &KafkaSettings) -> Result<(), Error> {
    let advertised = |b: &Broker| format!("{}:{}", b.host, b.port);
    if brokers.is_empty() || brokers.iter().any(|b| config.brokers.contains(&advertised(b))) {
        return Ok(());
    }
    let probes: Vec<_> = brokers
        .iter()
        .take(PROBES_MAX)
        .map(|b| {
            let (host, port) = (b.host.clone(), u16::try_from(b.port).unwrap_or_default());
            (b, std::thread::Builder::new().name("probe".into()).spawn(move || probe(&host, port)))
        })
        .collect();
    let mut first_failure = None;
    let mut reached = false;
    for (broker, thread) in probes {
        // A probe that panicked, or that could not be started, says nothing about the network.
        match thread.map_or(Ok(()), |thread| thread.join().unwrap_or(Ok(()))) {
            Err(reason) if first_failure.is_none() => {
                first_failure = Some(advertised_unreachable(&format!("{}/{}", advertised(broker), broker.id), &reason));
            }
            Err(reason) => {
                tracing::warn!(broker = broker.id, advertised = advertised(broker), "advertised address not reachable: {reason}")
            }
            Ok(()) => reached = true,
        }
    }
    match first_failure {
        Some(failure) if !reached => Err(failure),
        Some(failure) => {
            tracing::warn!("{failure}");
            Ok(())
        }
        None => Ok(()),
    }
}

fn probe(host: &str, port: u16) -> Result<(), String> {
    let addresses = (host, port).to_socket_addrs().map_err(|e| format!("cannot resolve {host}: {e}"))?;
    let mut last = format!("{host} has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, PROBE_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(e) => last = format!("connect to {address}: {e}"),
        }
    }
    Err(last)
}
