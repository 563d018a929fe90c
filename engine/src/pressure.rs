//! What is done when memory runs short: which open window is closed, the largest one, whichever consumer it belongs to; and who hears that it should let go of
//! what it can.
//!
//! Place in the flow: beside the consumers of a pipeline; which pipeline must give way says [`memory`](crate::memory). The budget is one for all of them, so
//! the one that runs short is seldom the one that holds the memory: an idle window of a day may. Each consumer shows its largest closable window once a
//! turn; one that starves has the consumer with the largest of all asked to close it. Numbers may be a turn old; a window too many is closed early at
//! worst, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

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

/// Calls to let go of what one can, heard by all lanes of a pipeline in the order in which they have begun to listen. A `watch` wakes its receivers in an order
/// that chance decides, and with it what is done next: one seed would give a simulation two traces.
#[derive(Debug, Default)]
pub struct PressureCalls {
    count: AtomicU64,
    bell: Notify,
}

impl PressureCalls {
    /// Calls everybody.
    pub fn call(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.bell.notify_waiters();
    }

    /// How often that was.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Somebody who hears the calls from now on.
    pub fn listener(self: &Arc<Self>) -> PressureListener {
        PressureListener { heard: self.count(), calls: Arc::clone(self) }
    }
}

/// Somebody who listens to [`PressureCalls`].
#[derive(Debug)]
pub struct PressureListener {
    calls: Arc<PressureCalls>,
    heard: u64,
}

impl PressureListener {
    /// Waits for a call that it has not heard yet; several since the last one count as one. Nothing is missed if this is given up and begun again.
    pub async fn called(&mut self) {
        loop {
            // First: whoever calls between the look and the wait wakes it.
            let rung = self.calls.bell.notified();
            let count = self.calls.count();
            if count != self.heard {
                self.heard = count;
                return;
            }
            rung.await;
        }
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

    #[tokio::test]
    async fn calls_are_heard_once_each_by_all_in_the_order_of_listening() {
        let calls = Arc::new(PressureCalls::default());
        let mut early = calls.listener();
        calls.call();
        calls.call();
        early.called().await;
        let waits = tokio::time::timeout(std::time::Duration::from_millis(1), early.called()).await;
        assert!(waits.is_err(), "both are heard as one");
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let listeners: Vec<_> = (0..20)
            .map(|n| {
                let (mut listener, heard) = (calls.listener(), Arc::clone(&heard));
                tokio::spawn(async move {
                    listener.called().await;
                    heard.lock().unwrap().push(n);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        calls.call();
        for listener in listeners {
            listener.await.unwrap();
        }
        assert_eq!(*heard.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }
}
