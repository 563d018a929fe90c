//! The allocator: mimalloc for Rust *and* for C.
//!
//! librdkafka allocates once per record; with glibc's allocator that costs more than everything else it does. The `override` feature
//! makes C's `malloc` mimalloc's as well, but a linker may bind it elsewhere without a word. So the program asks at its start.
//! The binary's `main.rs` sets the Rust side; nothing is global here.
#![expect(unsafe_code, reason = "asks the allocator about a pointer")]

use std::ffi::c_void;

// Makes sure that the library is linked, whoever the global allocator is.
use mimalloc as _;

use crate::error::{Code, Error, ErrorKind};

/// C code does not use the allocator that the program was built with.
pub const WRONG_ALLOCATOR: Code = Code(901);

unsafe extern "C" {
    fn mi_is_in_heap_region(pointer: *const c_void) -> bool;
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
    #[test]
    fn c_malloc_is_mimalloc() {
        super::verify().unwrap();
    }
}
