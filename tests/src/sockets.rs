//! The kernel's table of TCP sockets: whose a connection is, and whether what was sent has been read.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// A socket of this machine, or of its network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) local: SocketAddrV4,
    pub(crate) remote: SocketAddrV4,
    /// Bytes that its owner has not read; of one that listens, connections that it has not taken.
    unread: u32,
    /// The kernel's number of it.
    pub(crate) number: String,
}

impl Socket {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, unread) = fields.get(4)?.split_once(':')?;
        Some(Self {
            local: address(fields.get(1)?)?,
            remote: address(fields.get(2)?)?,
            unread: u32::from_str_radix(unread, 16).ok()?,
            number: (*fields.get(9)?).to_owned(),
        })
    }

    /// Whether it holds something for this server. On loopback what is sent is there at once, and waits at the reader's end.
    fn holds_for(&self, server: SocketAddr) -> bool {
        SocketAddr::V4(self.local) == server && self.unread > 0
    }
}

/// An end as the kernel writes it: the bytes of the address as this machine's number, the port as any.
fn address(text: &str) -> Option<SocketAddrV4> {
    let (host, port) = text.split_once(':')?;
    let host = Ipv4Addr::from(u32::from_str_radix(host, 16).ok()?.to_ne_bytes());
    Some(SocketAddrV4::new(host, u16::from_str_radix(port, 16).ok()?))
}

/// All of them. The table is not read in one piece: one that comes or goes meanwhile may be missed.
pub(crate) fn table() -> Vec<Socket> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().filter_map(Socket::parse).collect()
}

/// Whether these servers have read everything that was sent to them.
pub(crate) fn is_all_read(servers: &[SocketAddr]) -> bool {
    !table().iter().any(|socket| servers.iter().any(|server| socket.holds_for(*server)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_a_server_has_not_read_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be had");
        let server = listener.local_addr().expect("it listens");
        assert!(is_all_read(&[server]));
        let mut client = TcpStream::connect(server).expect("it listens");
        assert!(!is_all_read(&[server]), "a connection that was not taken");
        let (mut taken, _) = listener.accept().expect("it is there");
        assert!(is_all_read(&[server]));
        client.write_all(b"asked").expect("it is taken");
        assert!(!is_all_read(&[server]), "a request that was not read");
        let ends = (client.local_addr().expect("it has one"), server);
        assert!(table().iter().any(|s| (SocketAddr::V4(s.local), SocketAddr::V4(s.remote)) == ends && s.number != "0"));
        drop(client);
        assert!(!is_all_read(&[server]), "also of who is gone");
        taken.read_to_end(&mut Vec::new()).expect("it was sent");
        assert!(is_all_read(&[server]));
    }
}
