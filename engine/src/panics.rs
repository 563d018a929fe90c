//! What a panic said, for the error that tells of it, and whether its task may begin again.
//!
//! Place in the flow: where a task or a thread of ours ends that must not. A panic is a bug of ours; whoever caught it drops what it can no longer trust
//! and says so. Nothing goes on behind a panic that was caught here: a task that begins again has nothing of what it was.

use std::any::Any;

/// How often a task begins again, each time at another position. More, and one that hardly gets on would go unnoticed among the restarts of a bad day; fewer
/// would stop a task for a bug that it meets once in months.
const RESTARTS_MAX: usize = 3;

/// Where a task has panicked so far.
#[derive(Debug, Default)]
pub(crate) struct PanicLog(Vec<Option<i64>>);

impl PanicLog {
    /// Notes a panic of a task that had come this far; none if it had come nowhere. Whether it may begin again: not where it has panicked before, since it would
    /// do so for ever.
    pub(crate) fn may_begin_again(&mut self, position: Option<i64>) -> bool {
        let is_new = !self.0.contains(&position);
        self.0.push(position);
        is_new && self.0.len() <= RESTARTS_MAX
    }
}

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

    #[test]
    fn a_task_begins_again_unless_it_panics_where_it_did_or_too_often() {
        let mut log = PanicLog::default();
        assert!(log.may_begin_again(None) && log.may_begin_again(Some(7)));
        assert!(!log.may_begin_again(Some(7)), "it came no further");
        let mut log = PanicLog::default();
        let began: Vec<bool> = (0..5).map(|position| log.may_begin_again(Some(position))).collect();
        assert_eq!(began, [true, true, true, false, false]);
    }
}
