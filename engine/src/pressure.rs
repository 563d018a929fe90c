//! Which open window is closed when memory runs short: the largest one, whichever consumer it belongs to.
//!
//! Place in the flow: beside the consumers of a pipeline; which pipeline must give way says [`memory`](crate::memory). The budget is one for all of them, so
//! the one that runs short is seldom the one that holds the memory: an idle window of a day may. Each consumer shows its largest closable window once a
//! turn; one that starves has the consumer with the largest of all asked to close it. Numbers may be a turn old; a window too many is closed early at
//! worst, and counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the consumers show each other.
#[derive(Debug)]
pub struct PressureBoard {
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    largest: AtomicU64,
    asked: AtomicBool,
}

impl PressureBoard {
    /// A board for so many consumers.
    pub fn new(consumers: usize) -> Self {
        Self { slots: (0..consumers).map(|_| Slot::default()).collect() }
    }

    /// Shows the uncompressed bytes of a consumer's largest window that may be closed early, 0 for none.
    pub fn show(&self, consumer: usize, bytes: u64) {
        self.slots[consumer].largest.store(bytes, Ordering::Relaxed);
    }

    /// Asks the consumer with the largest window to close it. False if there is none.
    pub fn ask_largest(&self) -> bool {
        let bytes = |slot: &&Slot| slot.largest.load(Ordering::Relaxed);
        let largest = self.slots.iter().max_by_key(bytes).filter(|slot| bytes(slot) > 0);
        largest.inspect(|slot| slot.asked.store(true, Ordering::Relaxed)).is_some()
    }

    /// Whether a consumer was asked since it last looked.
    pub fn take_request(&self, consumer: usize) -> bool {
        self.slots[consumer].asked.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_window_of_all_is_asked_for_once() {
        let board = PressureBoard::new(3);
        assert!(!board.ask_largest() && (0..3).all(|n| !board.take_request(n)), "there is nothing to close");
        board.show(0, 10);
        board.show(2, 30);
        assert!(board.ask_largest());
        assert_eq!([0, 1, 2].map(|n| board.take_request(n)), [false, false, true]);
        assert!(!board.take_request(2));
    }
}
