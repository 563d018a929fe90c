//! The allocator: mimalloc for Rust *and* for C.
//!
//! librdkafka allocates once per record; with glibc's allocator that costs more than everything else it does. The `override` feature
//! makes C's `malloc` mimalloc's as well, but a linker may bind it elsewhere without a word. So the program asks at its start.
//! The binary's `main.rs` sets the Rust side; nothing is global here.
//!
//! What the allocator keeps beside what is in use is nobody's in the memory budget's arithmetic, so for smaller budgets it is held down here: huge
//! pages make a process of 128 MiB one of 230, and freed memory that is kept for ten seconds another fifth.
#![expect(unsafe_code, reason = "asks the allocator about a pointer, and sets its options")]

use std::ffi::{c_int, c_long, c_void};

// Makes sure that the library is linked, whoever the global allocator is.
use mimalloc as _;

use crate::error::{Code, Error, ErrorKind};

/// C code does not use the allocator that the program was built with.
pub const WRONG_ALLOCATOR: Code = Code(901);

/// Budgets from here on may use transparent huge pages: their slack is small beside the budget, and they save address look-ups.
const HUGE_PAGES_FROM: u64 = 1 << 30;

/// Budgets below give freed memory back at once. That costs page faults, and larger budgets have room to keep some.
const KEEP_FREED_FROM: u64 = 256 << 20;

/// mimalloc's `mi_option_purge_delay`: milliseconds for which freed memory is kept.
const OPTION_PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_is_in_heap_region(pointer: *const c_void) -> bool;
    fn mi_option_set(option: c_int, value: c_long);
}

/// Holds down what the allocator keeps beside what is in use, for a memory budget of so many bytes. Call it before memory is used in earnest.
pub fn hold_down(budget: u64) {
    if budget < HUGE_PAGES_FROM {
        // SAFETY: the call takes plain numbers and changes no memory. A kernel that lacks it refuses, and then huge pages stay.
        let refused = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } != 0;
        if refused {
            tracing::info!("transparent huge pages could not be switched off; memory may exceed the budget");
        }
    }
    if budget < KEEP_FREED_FROM {
        // SAFETY: the option exists in every version of the allocator that the crate bundles, and is read each time memory is freed.
        unsafe { mi_option_set(OPTION_PURGE_DELAY, 0) };
    }
}

/// The same for a process with many threads, whatever its budget. Each of them has pages of its own in the allocator and on its stack; were these huge ones,
/// a rule that does nothing would take 47 MiB in place of 4.
pub fn hold_down_many_threads(budget: u64) {
    hold_down(budget.min(HUGE_PAGES_FROM - 1));
}

/// Checks that memory from C's `malloc` comes from mimalloc.
///
/// # Errors
/// `C0901` if it does not: the program works, at a fraction of its speed.
pub fn verify() -> Result<(), Error> {
    // SAFETY: the pointer is only compared with mimalloc's regions, and given back to the allocator that made it. Null is fine for both.
    let ours = unsafe {
        let pointer = libc::malloc(64);
        let ours = mi_is_in_heap_region(pointer);
        libc::free(pointer);
        ours
    };
    if ours {
        return Ok(());
    }
    Err(Error::new(WRONG_ALLOCATOR, ErrorKind::Bug, "C code does not use mimalloc in this build")
        .help("build with the crate's feature `override`, and without an allocator in LD_PRELOAD"))
}

#[cfg(test)]
mod tests {
    unsafe extern "C" {
        fn mi_option_get(option: super::c_int) -> super::c_long;
    }

    #[test]
    fn a_small_budget_switches_huge_pages_off_and_keeps_nothing_freed() {
        super::hold_down(64 << 20);
        // SAFETY: both calls only read settings.
        let (huge_pages_off, delay) =
            unsafe { (libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0), mi_option_get(super::OPTION_PURGE_DELAY)) };
        assert_eq!((huge_pages_off, delay), (1, 0));
    }

    #[test]
    fn c_malloc_is_mimalloc() {
        super::verify().unwrap();
    }
}
