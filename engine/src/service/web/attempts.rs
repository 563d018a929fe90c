//! How often somebody may fail to show the token: some times at once, then once a second.
//!
//! Bounded: of very many addresses the ones that failed longest ago are forgotten. Addresses of IPv6 count by their network, since whoever has one has all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// Failures that are free: a script with an old token must be able to say so.
const AT_ONCE: u32 = 300;

/// The time in which one failure is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);

/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 4_096;

/// Who has failed how often.
#[derive(Debug, Default)]
pub struct Attempts {
    /// When the last failure of each address will be forgotten.
    failed: Mutex<BTreeMap<IpAddr, Instant>>,
}

impl Attempts {
    fn failed(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this address has failed too often to be heard.
    pub(in crate::service) fn are_spent(&self, address: IpAddr) -> bool {
        let now = clock::now();
        self.failed().get(&network(address)).is_some_and(|until| *until > now + FORGOTTEN_AFTER * (AT_ONCE - 1))
    }

    /// This address has failed once more.
    pub(in crate::service) fn failed_again(&self, address: IpAddr) {
        let (now, address) = (clock::now(), network(address));
        let mut failed = self.failed();
        if failed.len() >= ADDRESSES_MAX && !failed.contains_key(&address) {
            failed.retain(|_, until| *until > now);
            if failed.len() >= ADDRESSES_MAX
                && let Some(oldest) = failed.iter().min_by_key(|(_, until)| **until).map(|(address, _)| *address)
            {
                failed.remove(&oldest);
            }
        }
        let until = failed.entry(address).or_insert(now);
        // No more than all of them: who waits for a while is heard again.
        *until = ((*until).max(now) + FORGOTTEN_AFTER).min(now + FORGOTTEN_AFTER * AT_ONCE);
    }
    /// One that was counted was none.
    pub(in crate::service) fn one_was_none(&self, address: IpAddr) {
        if let Some(until) = self.failed().get_mut(&network(address)) {
            *until = until.checked_sub(FORGOTTEN_AFTER).unwrap_or(*until);
        }
    }
}

pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_are_counted_by_address_and_forgotten() {
        let (attempts, one, other) = (Attempts::default(), "10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for _ in 0..AT_ONCE {
            assert!(!attempts.are_spent(one));
            attempts.failed_again(one);
        }
        assert!(attempts.are_spent(one) && !attempts.are_spent(other));
        attempts.one_was_none(one);
        assert!(!attempts.are_spent(one), "it is as if it had not been");
        attempts.failed_again(one);
        assert!(attempts.are_spent(one));
        tokio::time::advance(FORGOTTEN_AFTER * 2).await;
        assert!(!attempts.are_spent(one));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_a_network_is_one_address() {
        let attempts = Attempts::default();
        for n in 0..ADDRESSES_MAX as u32 + 10 {
            attempts.failed_again(IpAddr::V4(n.into()));
        }
        assert_eq!(attempts.failed().len(), ADDRESSES_MAX);
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff:1".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1".parse::<IpAddr>().unwrap());
    }
}
