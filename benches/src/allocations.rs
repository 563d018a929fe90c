//! Calls of the allocator by the role of the thread that makes them: the bench's global allocator, which counts while it is told to.
//!
//! Its place: the command `ratio` allocates by [`Counting`], so the pipeline that runs in its process does, too. While nothing is counted a call
//! costs one look at a flag. A run that counts is never timed.
//!
//! What it does not count: memory that C asks for (librdkafka, zstd), which goes to mimalloc past Rust's allocator; and bytes.
#![expect(
    unsafe_code,
    reason = "an allocator is unsafe to write: this one passes every call on as it came, and asks for the name of its thread"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use mimalloc::MiMalloc;

use crate::roles::role;

/// Threads that are told apart. Those beyond are counted together, by the name of the last one.
const THREADS_MAX: usize = 256;

static COUNTS: AtomicBool = AtomicBool::new(false);

static SEEN: AtomicUsize = AtomicUsize::new(0);

static THREADS: [Thread; THREADS_MAX] = [const { Thread::new() }; THREADS_MAX];

thread_local! {
    /// Where the thread is counted. Without a destructor and known at compile time: to touch it allocates nothing.
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Mimalloc, counted.
#[derive(Debug)]
pub struct Counting;

/// Calls by role.
pub type Calls = BTreeMap<String, u64>;

/// Counts from now on.
pub fn begin() {
    COUNTS.store(true, Ordering::Relaxed);
}

/// Counts no more; what was counted, with the calls of the calling thread as those of `main`.
pub fn finish() -> Calls {
    COUNTS.store(false, Ordering::Relaxed);
    let (own, seen) = (PLACE.get(), SEEN.load(Ordering::Relaxed).min(THREADS_MAX));
    let mut calls = Calls::new();
    for (place, thread) in THREADS[..seen].iter().enumerate() {
        let role = if own == Some(place) { "main".to_owned() } else { role(&thread.name()) };
        *calls.entry(role).or_default() += thread.calls.load(Ordering::Relaxed);
    }
    calls
}

/// What is known of a thread.
struct Thread {
    calls: AtomicU64,
    /// Its name as the kernel has it: 16 bytes, the last of them zero.
    name: [AtomicU64; 2],
}

impl Thread {
    const fn new() -> Self {
        Self { calls: AtomicU64::new(0), name: [AtomicU64::new(0), AtomicU64::new(0)] }
    }

    /// A thread has its parent's name until it has set its own: the name is asked for again now and then, more and more seldom.
    fn count(&self) {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if calls.is_power_of_two() {
            self.take_name();
        }
    }

    fn take_name(&self) {
        let mut name = [0_u64; 2];
        // SAFETY: the kernel writes the calling thread's name, at most 16 bytes, which is what the pointer is to.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        for (kept, taken) in self.name.iter().zip(name) {
            kept.store(taken, Ordering::Relaxed);
        }
    }

    fn name(&self) -> String {
        let bytes: Vec<u8> = self.name.iter().flat_map(|part| part.load(Ordering::Relaxed).to_ne_bytes()).collect();
        String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
    }
}

#[inline]
fn count() {
    if COUNTS.load(Ordering::Relaxed) {
        count_here();
    }
}

/// Allocates nothing: it is called by whoever allocates.
#[cold]
fn count_here() {
    let place = PLACE.get().unwrap_or_else(|| {
        let next = SEEN.fetch_add(1, Ordering::Relaxed).min(THREADS_MAX - 1);
        PLACE.set(Some(next));
        next
    });
    THREADS[place].count();
}

// SAFETY: every call is passed on to mimalloc as it came; counting neither touches what was handed out nor allocates.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise goes to mimalloc unchanged.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer is one of mimalloc's, since all are.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(pointer, layout, bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not the allocator of this program: whatever else allocates meanwhile is not counted.
    fn allocate(times: usize) {
        let layout = Layout::new::<u64>();
        for _ in 0..times {
            // SAFETY: the layout has a size; what was allocated is given back once, with the layout that it has then.
            unsafe {
                let (zeroed, plain) = (Counting.alloc_zeroed(layout), Counting.alloc(layout));
                assert!(!zeroed.is_null() && !plain.is_null());
                assert_eq!(zeroed.read(), 0);
                let grown = Counting.realloc(plain, layout, 2 * layout.size());
                assert!(!grown.is_null());
                Counting.dealloc(zeroed, layout);
                Counting.dealloc(grown, Layout::new::<[u64; 2]>());
            }
        }
    }

    fn on_thread(name: &str, times: usize) {
        std::thread::Builder::new().name(name.into()).spawn(move || allocate(times)).unwrap().join().unwrap();
    }

    #[test]
    fn calls_are_counted_by_role_while_they_are_to_be() {
        on_thread("uncounted-1", 5);
        begin();
        on_thread("counted-1", 100);
        on_thread("counted-2", 11);
        allocate(2);
        let calls = finish();
        on_thread("counted-3", 7);
        assert_eq!(calls, Calls::from([("counted".into(), 333), ("main".into(), 6)]), "an allocation, a zeroed one and a growth each time");
    }
}
