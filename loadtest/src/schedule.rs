//! When each record is due: an open-loop schedule.
//!
//! The time of a record follows from the rate and from what was sent before it, never from when the broker was ready. A broker that hesitates does
//! not stop the clock: records that wait are late, and their latency counts from the time at which they were due.

use std::time::Duration;

use crate::units::Rate;

/// The due times of the records of one production.
#[derive(Clone, Debug)]
pub struct Schedule {
    rate: Option<Rate>,
    records: u64,
    bytes: u64,
}

impl Schedule {
    /// At a rate, or as fast as possible.
    pub fn new(rate: Option<Rate>) -> Self {
        Self { rate, records: 0, bytes: 0 }
    }

    /// When the next record is due, counted from the start; none if there is no rate.
    pub fn due(&self) -> Option<Duration> {
        let (done, rate) = match self.rate? {
            Rate::Records(rate) => (self.records, rate),
            Rate::Bytes(rate) => (self.bytes, rate),
        };
        Some(Duration::from_secs(done / rate) + Duration::from_nanos(nanos_of(done % rate, rate)))
    }

    /// Counts a record that was sent.
    pub fn advance(&mut self, bytes: u64) {
        self.records += 1;
        self.bytes += bytes;
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of their values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The part of a second that `part` of `whole` is.
fn nanos_of(part: u64, whole: u64) -> u64 {
    let nanos = u128::from(part) * 1_000_000_000 / u128::from(whole.max(1));
    u64::try_from(nanos).unwrap_or(999_999_999)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(rate: Rate, sizes: impl IntoIterator<Item = u64>) -> Duration {
        let mut schedule = Schedule::new(Some(rate));
        sizes.into_iter().for_each(|bytes| schedule.advance(bytes));
        schedule.due().expect("there is a rate")
    }

    #[test]
    fn records_are_due_evenly_from_the_start() {
        assert_eq!(after(Rate::Records(1000), []), Duration::ZERO);
        assert_eq!(after(Rate::Records(1000), [5; 1]), Duration::from_millis(1));
        assert_eq!(after(Rate::Records(1000), [5; 2500]), Duration::from_millis(2500));
    }

    #[test]
    fn a_rate_in_bytes_follows_the_sizes() {
        assert_eq!(after(Rate::Bytes(1000), [100, 400]), Duration::from_millis(500));
        assert_eq!(after(Rate::Bytes(1000), [10_000]), Duration::from_secs(10));
    }

    #[test]
    fn rounding_does_not_add_up() {
        let mut schedule = Schedule::new(Some(Rate::Records(3)));
        (0..3_000_000).for_each(|_| schedule.advance(1));
        assert_eq!(schedule.due(), Some(Duration::from_secs(1_000_000)));
        let day = Schedule { rate: Some(Rate::Records(7)), records: 7 * 86_400 + 1, bytes: 0 };
        assert_eq!(day.due(), Some(Duration::from_nanos(86_400_142_857_142)));
    }

    #[test]
    fn without_a_rate_nothing_is_due() {
        assert_eq!(Schedule::new(None).due(), None);
    }
}
