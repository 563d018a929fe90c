//! What a cell must have shown when it is over.
//!
//! ```text
//!   Bench::fault, event    --> it fired
//!   Bench::shows(Served)   --> the broker was seen to answer so, from there on     at least one of them
//!   Bench::saw(what, ..)   --> the cell itself looked
//!   Bench::unseen(why)     --> nobody can see it at the broker: said by name
//! ```
//!
//! And each of these that was declared; contents that were compared; a broker that was asked nothing strange; and the invariants of the
//! commit protocol ([`order`](super::order)).

use super::bench::{Bench, GROUP, tail};
use super::{Check, Tally, order};
use crate::broker::cluster::Cluster;
use crate::broker::faults::{Act, Fault, When};
use crate::broker::served::Served;

/// Characters of a failure's reason: enough for its cause and the last notes.
const WHY_MAX: usize = 2_500;

/// What a cell is about.
#[derive(Debug, Default)]
pub(crate) struct Subject {
    /// Faults by their numbers.
    pub(super) faults: Vec<(usize, String)>,
    /// What the broker must be seen to answer, and how often it had before.
    served: Vec<(Served, u32)>,
    /// Things that the cell itself has looked for and found.
    seen: u32,
    /// Why there is nothing to be seen.
    unseen: Option<&'static str>,
}

impl Subject {
    fn is_declared(&self) -> bool {
        !self.faults.is_empty() || !self.served.is_empty() || self.seen > 0 || self.unseen.is_some()
    }
}

impl Bench {
    /// A fault that must fire.
    pub(crate) fn fault(&mut self, fault: Fault) {
        let name = format!("{fault:?}");
        let number = self.script(|cluster| cluster.add_fault(fault));
        self.subject.faults.push((number, name));
    }

    /// A fault that is one event.
    pub(crate) fn event(&mut self, when: When, event: impl Fn(&mut Cluster) + Send + Sync + 'static) {
        self.fault(Fault::once(when, Act::happen(event)));
    }

    /// The broker must be seen to answer so, from now on.
    pub(crate) fn shows(&mut self, what: Served) {
        let before = self.script(|cluster| cluster.served(what));
        self.subject.served.push((what, before));
    }

    /// What the cell is about was to be seen, or not.
    pub(crate) fn saw(&mut self, what: &str, is_so: bool) -> Check {
        self.subject.seen += 1;
        if is_so { Ok(()) } else { Err(format!("it was not to be seen that {what}")) }
    }

    /// What the cell is about cannot be seen at the broker.
    pub(crate) fn unseen(&mut self, why: &'static str) {
        self.subject.unseen = Some(why);
    }

    /// Ends the cell.
    pub(super) async fn judge(mut self, outcome: Check) -> (Tally, Check) {
        let outcome = match outcome.and_then(|()| self.judge_subject()) {
            Ok(()) => self.judge_order().await,
            failed => failed,
        };
        let outcome = outcome.map_err(|why| {
            let told: Vec<String> = self.watchers.iter().map(|w| tail(w)).collect();
            let whole = format!("{why} [{}]", told.join(" || "));
            whole.chars().take(WHY_MAX).collect()
        });
        (self.tally, outcome)
    }

    /// Whether what the cell is about did happen, contents were compared, and the broker was asked nothing strange.
    fn judge_subject(&mut self) -> Check {
        let Subject { faults, served, seen, unseen } = &self.subject;
        let (fired, shown, complaint) = self.script(|cluster| {
            let fired: Vec<u32> = faults.iter().map(|(number, _)| cluster.fired(*number)).collect();
            let shown: Vec<u32> = served.iter().map(|(what, before)| cluster.served(*what) - before).collect();
            (fired, shown, cluster.complaints.first().cloned())
        });
        self.tally.faults += fired.iter().map(|times| u64::from(*times)).sum::<u64>();
        self.tally.shown += (shown.iter().filter(|times| **times > 0).count() as u64) + u64::from(*seen);
        self.tally.unseen = *unseen;
        let silent = faults.iter().zip(&fired).find(|(_, times)| **times == 0).map(|((_, name), _)| format!("a fault never fired: {name}"));
        let hidden = served.iter().zip(&shown).find(|(_, times)| **times == 0).map(|((what, _), _)| format!("never served: {what:?}"));
        let mute = (!self.subject.is_declared()).then(|| "the cell does not say by what one sees that it shows anything".to_owned());
        let idle = (self.tally.compared == 0).then(|| "nothing was compared".to_owned());
        let panic = self.watchers.iter().find_map(|watcher| watcher.heard().panics.first().cloned());
        panic.or(silent).or(hidden).or(mute).or(complaint).or(idle).map_or(Ok(()), Err)
    }

    /// Whether everything was pinned before it became visible, once, with what it lacks.
    async fn judge_order(&self) -> Check {
        let accepted = self.group(|group| group.offsets.accepted().to_vec());
        let broken = order::broken(&self.store, &accepted).await?;
        match broken.first() {
            None => Ok(()),
            Some(first) => Err(format!("{first}; {} violations; group {GROUP}", broken.len())),
        }
    }
}
