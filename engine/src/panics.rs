//! What a panic said, for the error that tells of it, and whether its task may begin again.
//!
//! Place in the flow: where a task or a thread of ours ends that must not. A panic is a bug of ours; whoever caught it drops what it can no longer trust
//! and says so. Nothing goes on behind a panic that was caught here: a task that begins again has nothing of what it was.

use std::any::Any;
use std::time::Duration;

/// How often a task begins again within [`MEMORY`], each time at another position. More, and one that hardly gets on would go unnoticed among the restarts of a
/// bad day; fewer would stop a task for bugs that have nothing to do with each other.
const RESTARTS_MAX: usize = 3;

/// How long a panic counts. Shorter, and a task that panics wherever it stands would go on for ever; longer would stop one for a bug that it meets once in months.
const MEMORY: Duration = Duration::from_secs(24 * 3_600);

/// Where a task has panicked of late, and when.
#[derive(Debug, Default)]
pub(crate) struct PanicLog(Vec<(Option<i64>, Duration)>);

impl PanicLog {
    /// Notes a panic of a task that had come this far, `None` if it had come nowhere, at this time of a steady clock. Whether it may begin again: not where it
    /// has panicked before, since it would do so for ever.
    pub(crate) fn may_begin_again(&mut self, position: Option<i64>, now: Duration) -> bool {
        self.0.retain(|(_, at)| now.saturating_sub(*at) < MEMORY);
        let is_new = self.0.iter().all(|(before, _)| *before != position);
        self.0.push((position, now));
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
        let second = Duration::from_secs;
        let mut log = PanicLog::default();
        assert!(log.may_begin_again(None, second(0)) && log.may_begin_again(Some(7), second(1)));
        assert!(!log.may_begin_again(Some(7), second(2)), "it came no further");
        let mut log = PanicLog::default();
        let began: Vec<bool> = (0..5).map(|position| log.may_begin_again(Some(position), second(60))).collect();
        assert_eq!(began, [true, true, true, false, false]);
        assert!(log.may_begin_again(Some(4), second(60) + MEMORY), "a day later it is another bug");
    }
}
