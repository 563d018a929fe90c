//! Clients whose end is waited for elsewhere.
//!
//! librdkafka's clients join their threads when they are dropped, which takes up to seconds. Whoever drops one on a thread that runs tasks would hold up all
//! of them; so within a runtime the last hold is given to a thread that may wait.

use std::ops::Deref;
use std::sync::Arc;

/// A hold on something whose end may take its time.
#[derive(Debug)]
pub(super) struct Offloaded<T: Send + Sync + 'static>(Option<Arc<T>>);

impl<T: Send + Sync + 'static> Offloaded<T> {
    pub(super) fn new(held: Arc<T>) -> Self {
        Self(Some(held))
    }
}

impl<T: Send + Sync + 'static> Deref for Offloaded<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        self.0.as_ref().expect("it is taken when it is dropped, and no earlier")
    }
}

impl<T: Send + Sync + 'static> Drop for Offloaded<T> {
    fn drop(&mut self) {
        let held = self.0.take();
        // A runtime that goes down drops it here and now.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(held));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};
    use std::thread::{ThreadId, current};
    use std::time::Duration;

    use super::*;

    struct Slow(SyncSender<ThreadId>);

    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.send(current().id()).unwrap();
        }
    }

    #[tokio::test]
    async fn what_takes_long_to_end_does_not_end_on_a_thread_of_tasks() {
        let (ended, by) = sync_channel(1);
        drop(Offloaded::new(Arc::new(Slow(ended))));
        assert_ne!(by.recv_timeout(Duration::from_secs(30)).unwrap(), current().id());
    }

    #[test]
    fn without_a_runtime_it_ends_at_once() {
        let (ended, by) = sync_channel(1);
        drop(Offloaded::new(Arc::new(Slow(ended))));
        assert_eq!(by.try_recv().unwrap(), current().id());
    }
}
