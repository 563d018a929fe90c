//! What a panic said, for the error that tells of it.
//!
//! Place in the flow: where a task or a thread of ours ends that must not. A panic is a bug of ours; whoever caught it stops what it can no longer trust
//! and says so. Nothing goes on behind a panic that was caught here.

use std::any::Any;

/// The text that a panic was raised with.
pub(crate) fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let told = |panic: fn()| said(&*catch_unwind(panic).unwrap_err()).to_owned();
        assert_eq!(told(|| panic!("a fixed text")), "a fixed text");
        assert_eq!(told(|| panic!("a number: {}", std::hint::black_box(7))), "a number: 7");
        assert_eq!(told(|| std::panic::panic_any(7)), "a panic without words");
    }
}
