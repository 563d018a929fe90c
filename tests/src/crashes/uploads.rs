//! Multipart uploads that a process leaves open, and which of them must be gone when the next one has come to its end.
//!
//! The protocol promises (rule R7, and what `engine/src/commit/sweep.rs` adds for keys that stand) that none stays open
//!
//! - that is too old to be alive by the store's own clock,
//! - that the pinned intent names: it is completed, or aborted, once its range stands by another one or before less than that is published,
//! - that has no part,
//! - that the process which came to its end has opened itself.
//!
//! What may stay is a dead process's upload that is young, has parts and is named by no intent: its owner might be alive. The lane that sees it comes
//! back to it when it is too old, if it lives as long; else a lifecycle rule of the bucket removes it. Where the store lists uploads that were completed,
//! nothing of this is promised.

use std::collections::BTreeSet;
use std::time::Duration;

use super::bench::Bench;

/// How much older uploads are made that are to be too old to be alive; three times as old as rule R7 asks here.
const AGE: Duration = Duration::from_secs(3 * 3600);

/// What a process has left open.
#[derive(Debug)]
pub(super) struct Left {
    open: BTreeSet<String>,
    /// Those that an intent names which the group has.
    named: BTreeSet<String>,
    are_old: bool,
}

impl Left {
    /// What is open now, when nobody works.
    pub(super) fn now(bench: &Bench<'_>) -> Self {
        bench.settle();
        Self { open: open(bench).collect(), named: bench.named_uploads(), are_old: false }
    }

    /// Time passes, until whoever has opened them cannot be alive.
    pub(super) fn age(self, bench: &Bench<'_>) -> Self {
        bench.store_state().backdate_uploads(AGE);
        Self { are_old: true, ..self }
    }

    /// How many were left open.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether everything is gone that must be, and how many may stay and have.
    pub(super) fn verdict(&self, bench: &Bench<'_>) -> Result<usize, String> {
        let mut stay = 0;
        for (key, id) in bench.store_state().open_uploads() {
            let has_parts = bench.store_state().has_parts(&id);
            if let Some(why) = self.reason(&id, has_parts).filter(|_| !bench.lists_completed()) {
                let told = bench.history_of(&key);
                return Err(format!("upload {id} {why}, and is still open; of {self:?}; {told}"));
            }
            stay += 1;
        }
        Ok(stay)
    }

    /// Why an upload may not be open any more.
    fn reason(&self, id: &str, has_parts: bool) -> Option<&'static str> {
        if !self.open.contains(id) {
            Some("was opened by a process that came to its end")
        } else if self.are_old {
            Some("is too old to be alive")
        } else if self.named.contains(id) {
            Some("was named by the intent that was found")
        } else {
            (!has_parts).then_some("has no part")
        }
    }
}

fn open(bench: &Bench<'_>) -> impl Iterator<Item = String> {
    bench.store_state().open_uploads().into_iter().map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_young_upload_with_parts_that_nobody_named_may_stay() {
        let of = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let young = Left { open: of(&["plain", "named"]), named: of(&["named"]), are_old: false };
        assert_eq!(young.reason("plain", true), None);
        for (id, has_parts, why) in [("plain", false, "no part"), ("named", true, "named"), ("later", true, "came to its end")] {
            assert!(young.reason(id, has_parts).is_some_and(|reason| reason.contains(why)), "{id}");
        }
        let old = Left { are_old: true, ..young };
        assert!(old.reason("plain", true).is_some_and(|reason| reason.contains("too old")));
    }
}
