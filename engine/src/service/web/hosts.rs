//! The names under which the service may be asked for.
//!
//! A page of another site can have its own name resolve to this machine, and its scripts then speak to this service as if it were that site's. Such a call
//! carries that site's name as its host. An address as the host cannot be bent so.

use std::net::{IpAddr, Ipv6Addr};

/// The names that a service answers to.
#[derive(Clone, Debug)]
pub struct Hosts {
    listen: IpAddr,
    names: Vec<String>,
}

impl Hosts {
    /// Names of this machine itself, the address it listens on (if that is every one, every address), and `names`.
    pub fn new(listen: IpAddr, names: &[String]) -> Self {
        Self { listen, names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether the service answers to a `Host` header, whatever port is in it: a tunnel may end on another one.
    pub(super) fn serve(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        match address(&name) {
            Some(ip) => ip.is_loopback() || ip == self.listen || self.listen.is_unspecified(),
            None => name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name),
        }
    }
}

fn address(name: &str) -> Option<IpAddr> {
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => name.parse().ok(),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && (name.ends_with(']') || !name.contains(':')) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_somebody_else_is_refused() {
        let hosts = Hosts::new("127.0.0.1".parse().unwrap(), &["Backup.example".to_owned()]);
        for served in [
            "127.0.0.1:8520",
            "127.0.0.1",
            "localhost:1",
            "LOCALHOST",
            "a.localhost:80",
            "[::1]:8520",
            "backup.example",
            "backup.EXAMPLE:443",
        ] {
            assert!(hosts.serve(served), "{served}");
        }
        for refused in [
            "",
            "evil.example",
            "evil.example:8520",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.5",
            "[::2]",
            "a@127.0.0.1:1",
            "127.0.0.1:x",
        ] {
            assert!(!hosts.serve(refused), "{refused}");
        }
    }

    #[test]
    fn whoever_listens_everywhere_answers_to_every_address_but_to_no_name() {
        let hosts = Hosts::new("0.0.0.0".parse().unwrap(), &[]);
        assert!(hosts.serve("10.0.0.5:8520") && hosts.serve("[2001:db8::1]"));
        assert!(!hosts.serve("evil.example"));
    }
}
