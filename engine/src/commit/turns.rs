//! Whose turn it is to read: the schedules of a pipeline.
//!
//! Place in the flow: between a lane's [recovery](super::recover) and its [runs](super::follow). In a *stream* every lane reads all the time and keeps a window
//! open: right for few partitions. In a *sweep* a lane reads when its window is due, to where nothing more is due, and lets go of all that it holds; so few
//! lanes hold memory at a time, however many there are, and what is read of a window is read at once.
//!
//! Guarantee: a sweep changes when records are read, and nothing of the protocol. A lane rests only where the group and the store know all that it has done, and goes on
//! from there as from a recovery. Turns are taken in the order in which they were asked for, end however fast the partition fills, and are not held through a wait for
//! the cluster, nor for long through one for the store. Not so: a partition that gives nothing, not even its end, has its turn until its run's patience ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::assembly::Assembly;
use super::driver::{Exit, HOUSE_INTERVAL, Lane};
use super::follow::{Following, RunEnd};
use super::recover::Resume;
use crate::limits::{SWEEP_BYTES_EACH, SWEEP_READERS};
use crate::reader::TurnBounds;
use crate::segment::{Run, SealedSegment};
use crate::source::LogBounds;
use crate::window::Opened;

/// How long a lane begins windows in one turn. Less would open partitions for little, more would let one that is far behind keep the others waiting.
const TURN_MAX: Duration = Duration::from_secs(60);

/// How long a window may take to be stored before its lane's turn is another one's. Less would let go of turns behind each slow answer; more would stop all for a
/// store that refuses one.
const STORE_PATIENCE: Duration = Duration::from_secs(30);

/// How the lanes of a pipeline share its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// All read all the time.
    Stream,
    /// So many read at a time, each when its window is due.
    Sweep {
        /// Lanes that read at a time; at least 1.
        readers: usize,
    },
}

impl Schedule {
    /// A sweep by as many lanes as `bytes` have room for.
    pub fn sweep(bytes: usize) -> Self {
        Self::Sweep { readers: (bytes / SWEEP_BYTES_EACH).clamp(SWEEP_READERS.0, SWEEP_READERS.1) }
    }

    /// Lanes of so many partitions that read at a time.
    pub fn readers_of(self, partitions: usize) -> usize {
        match self {
            Self::Stream => partitions,
            Self::Sweep { readers } => partitions.min(readers),
        }
    }
}

/// The turns of a pipeline's lanes.
#[derive(Debug)]
pub struct Turns {
    /// How they are given.
    pub schedule: Schedule,
    free: Arc<Semaphore>,
}

/// A lane's turn, until it is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

impl Turns {
    /// All are free.
    pub fn new(schedule: Schedule) -> Self {
        let free = schedule.readers_of(Semaphore::MAX_PERMITS);
        Self { schedule, free: Arc::new(Semaphore::new(free)) }
    }

    /// Whether lanes rest where nothing more is due.
    pub(super) fn are_taken(&self) -> bool {
        self.schedule != Schedule::Stream
    }

    /// Gives none any more.
    pub fn close(&self) {
        self.free.close();
    }
}

impl Lane {
    /// Follows the partition from a recovery on, in one run or in many, until the last one has read all that was asked for.
    pub(super) async fn follow_in_turns(&mut self, resume: Resume) -> Result<(), Exit> {
        if !self.env.turns.are_taken() {
            return self.follow(resume, None).await.map(drop);
        }
        let (mut due_in, mut opened, mut last_run) = (Duration::ZERO, None, None);
        // What is pinned waits for nobody: no more windows are than had a turn in the process that pinned them.
        let mut next = resume.intent.is_some().then_some((resume, None));
        loop {
            let (resume, turn) = match next.take() {
                Some(next) => next,
                None => self.next_turn(due_in, opened, last_run.as_deref()).await?,
            };
            match self.follow(resume, turn).await? {
                RunEnd::Finished => return Ok(()),
                RunEnd::Rested(rest, run) => (due_in, opened, last_run) = (rest.due_in, rest.opened, Some(run)),
            }
        }
    }

    /// Waits until something is due, it is this lane's turn, and there is something to read. Whoever has to wait for the cluster does so without a turn. The last run
    /// shows where the lane stands meanwhile.
    async fn next_turn(&mut self, mut due_in: Duration, opened: Option<Opened>, run: Option<&Run>) -> Result<(Resume, Option<Turn>), Exit> {
        loop {
            self.wait_at_home(self.env.clock.steady() + due_in, false).await?;
            let turn = self.await_turn().await?;
            let bounds = self.env.source.bounds(&self.lease.tp).await.ok().filter(|bounds| bounds.stable_end >= self.position);
            let Some(bounds) = bounds else {
                drop(turn);
                self.bounds_reaching(self.position, None).await?;
                due_in = Duration::ZERO;
                continue;
            };
            if let Some(run) = run {
                run.log_end.store(bounds.stable_end, Ordering::Relaxed);
            }
            if !self.has_nothing_new(&bounds) {
                let mut resume = self.resume_within(&bounds)?;
                resume.opened = opened;
                return Ok((resume, Some(turn)));
            }
            due_in = self.env.rule.window.until_slot_is_over(self.env.clock.wall_ms());
        }
    }

    /// Whether the log ends where the lane stands, with nothing that an object could list now: a window that stands for no offset lists nothing.
    fn has_nothing_new(&self, bounds: &LogBounds) -> bool {
        let lists_nothing = self.pending.is_empty() || self.position == self.start;
        let is_read_to = self.env.until.as_ref().and_then(|until| until.get(&self.lease.tp));
        lists_nothing && is_read_to.is_none() && bounds.stable_end == self.position && bounds.start <= self.position
    }

    /// What bounds a run. One that is to reach an end takes turns with others only in that it waits for its own.
    pub(super) fn turn_bounds(&self, resume: &Resume) -> Option<TurnBounds> {
        let bounds = TurnBounds {
            log_end: resume.intent.as_ref().map_or(resume.log_end, |intent| intent.end),
            until: self.env.clock.steady() + TURN_MAX,
        };
        (self.env.turns.are_taken() && self.env.until.is_none()).then_some(bounds)
    }

    /// As [`commit_segment`](Self::commit_segment). A store that takes its time keeps this lane's memory, and not the others from reading.
    pub(super) async fn commit_in_turn(&mut self, done: Assembly, sealed: SealedSegment, following: &mut Following) -> Result<(), Exit> {
        let patience = self.env.clock.sleep(STORE_PATIENCE);
        let committing = self.commit_segment(done, sealed, following.pinned.take());
        tokio::pin!(committing, patience);
        loop {
            tokio::select! {
                biased;
                committed = &mut committing => return committed,
                () = &mut patience, if following.turn.is_some() => following.turn = None,
            }
        }
    }

    async fn await_turn(&mut self) -> Result<Turn, Exit> {
        let mut turn = Box::pin(Arc::clone(&self.env.turns.free).acquire_owned());
        loop {
            tokio::select! {
                biased;
                // No more are given when the pipeline stops.
                turn = &mut turn => return turn.map_err(|_| Exit::Dead),
                () = self.env.clock.sleep(HOUSE_INTERVAL) => {}
            }
            self.keep_house(false).await?;
        }
    }

    /// Waits, by the steady clock, without a run; what is due is seen to.
    pub(super) async fn wait_at_home(&mut self, until: Duration, pinned: bool) -> Result<(), Exit> {
        loop {
            let left = until.saturating_sub(self.env.clock.steady());
            if left.is_zero() {
                return Ok(());
            }
            self.env.clock.sleep(left.min(HOUSE_INTERVAL)).await;
            self.keep_house(pinned).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_has_as_many_readers_as_memory_but_no_more_than_are_of_use() {
        assert_eq!(Schedule::sweep(0), Schedule::Sweep { readers: SWEEP_READERS.0 });
        assert_eq!(Schedule::sweep(3 * SWEEP_BYTES_EACH), Schedule::Sweep { readers: 3 });
        assert_eq!(Schedule::sweep(usize::MAX), Schedule::Sweep { readers: SWEEP_READERS.1 });
        assert_eq!(Schedule::sweep(3 * SWEEP_BYTES_EACH).readers_of(2), 2);
        assert_eq!(Schedule::sweep(3 * SWEEP_BYTES_EACH).readers_of(2_000), 3);
        assert_eq!(Schedule::Stream.readers_of(2_000), 2_000);
    }
}
