//! A lane on its run: from the partition that it opens to what ends that.
//!
//! Place in the flow: behind a lane's [recovery](super::recover), for one pass of its [life](super::driver). It asks its consumer to read, and takes what the
//! builders make of it: parts, sealed segments, faults. Guarantee: a partition is opened by one run at a time, and one step is taken after the other, whatever else
//! is due meanwhile.
//!
//! Not done here: what a fault means ([`fault`](super::fault)), and how a segment becomes an object ([`publish`](super::publish)).

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crossbeam_channel::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::assembly::Assembly;
use super::driver::{Exit, HOUSE_INTERVAL, Lane};
use super::env::ConsumerPort;
use super::recover::Resume;
use super::turns::Turn;
use crate::consumer::ConsumerCommand;
use crate::encoding::LaneEncoding;
use crate::intent::Intent;
use crate::limits::{SEGMENT_EVENTS_MAX, SILENCE_MAX, TIDY_DELAY_MAX};
use crate::reader::{CorruptSkip, RunStart};
use crate::report::LaneNote;
use crate::sabotage::{Switch, removes};
use crate::segment::{Rest, Run, SegmentEvent};
use crate::source::LastRead;

impl Lane {
    /// Waits before a record is asked for that there was no room for. Nothing of the run is held meanwhile.
    pub(super) async fn await_room(&mut self, resume: &Resume) -> Result<(), Exit> {
        let until = self.env.clock.steady() + self.history.faults.room_wait(resume.position);
        self.wait_at_home(until, resume.intent.is_some()).await
    }

    /// Follows the partition in one run. A `turn` is given up at its end, or when the store takes its time.
    pub(super) async fn follow(&mut self, resume: Resume, turn: Option<Turn>) -> Result<RunEnd, Exit> {
        let (run, mut events) = self.start_run(&resume).await?;
        let mut following = Following::new(Arc::clone(&run.0), resume, turn);
        let mut pressure = self.env.shared.seat.pressed().listener();
        let mut house_due = self.env.clock.steady() + HOUSE_INTERVAL;
        loop {
            let housekeeping = self.env.clock.sleep(house_due.saturating_sub(self.env.clock.steady()));
            let event = tokio::select! {
                biased;
                () = housekeeping => {
                    self.keep_house(following.pinned.is_some()).await?;
                    house_due = self.env.clock.steady() + HOUSE_INTERVAL;
                    continue;
                }
                event = events.recv() => event.ok_or_else(|| Exit::Restart("the run ended without a word".into()))?,
                () = pressure.called() => {
                    following.assembly.ship_early(self).await?;
                    continue;
                }
            };
            match event {
                SegmentEvent::Finished => return self.finish().await.map(|()| RunEnd::Finished),
                SegmentEvent::Rested(rest) => return self.tidy_and_sweep().await.map(|()| RunEnd::Rested(rest, following.run)),
                _ => {}
            }
            self.on_event(&mut following, event, || events.is_empty()).await?;
        }
    }

    /// One event of a run that goes on.
    async fn on_event(&mut self, following: &mut Following, event: SegmentEvent, is_last: impl Fn() -> bool) -> Result<(), Exit> {
        match event {
            SegmentEvent::Part(part, directory_ms) => following.assembly.add(self, part, directory_ms).await?,
            SegmentEvent::Sealed(sealed) => {
                self.history.has_read |= sealed.proof.counts.records > 0;
                self.history.faults.note_read(sealed.proof.range.end);
                let done = std::mem::replace(&mut following.assembly, Assembly::new(None));
                self.commit_in_turn(done, *sealed, following).await?;
                following.run.sealed.fetch_sub(1, Ordering::Relaxed);
                self.wake_consumer();
                let cleans_up = self.history.strays.have_replaced() || self.history.strays.are_many();
                if is_last() || self.untidied_for() > TIDY_DELAY_MAX || cleans_up {
                    self.tidy_and_sweep().await?;
                }
                self.keep_anchor().await?;
            }
            SegmentEvent::Empty { position, last } => {
                self.position = self.position.max(position);
                self.last = last.within(0, self.position);
                self.untidied.get_or_insert(self.env.clock.steady());
                self.tidy().await?;
            }
            SegmentEvent::Gap(gap) => self.tell_gap(gap),
            SegmentEvent::Fault { fault, position } => {
                self.history.has_read |= position > following.began_at;
                return Err(self.on_fault(fault, position, following.pinned.as_ref()).await);
            }
            SegmentEvent::Finished | SegmentEvent::Rested(_) => {}
        }
        Ok(())
    }

    /// The run has read all that was asked for.
    async fn finish(&mut self) -> Result<(), Exit> {
        self.sweep_at_end().await;
        self.tidy_window().await?;
        self.env.reporter.lane(&self.lease.tp, LaneNote::Finished);
        Ok(())
    }

    async fn start_run(&mut self, resume: &Resume) -> Result<(AbandonOnDrop, mpsc::Receiver<SegmentEvent>), Exit> {
        let tp = self.lease.tp.clone();
        let before = self.env.open_queues.lock().unwrap_or_else(PoisonError::into_inner).remove(&tp);
        if let Some(closed) = before {
            // An error means that the sender is gone, which is what is waited for.
            let _ = closed.await;
        }
        let waker = self.port().wake.clone();
        let wake = Arc::new(move || {
            let _ = waker.try_send(());
        });
        let ahead = resume.position..i64::MAX;
        let corrupt_skipped = match self.skips_corrupt(&ahead) {
            true => {
                Some(CorruptSkip { at: self.history.faults.corrupt_twice(&ahead), log_end: self.env.source.bounds(&tp).await?.stable_end })
            }
            false => None,
        };
        let last = if removes(Switch::LeaderEpoch) { LastRead::unknown(resume.position) } else { resume.last };
        let queue = self.env.source.open(&tp, last.end, last.epoch, wake)?;
        let (events, received) = mpsc::channel(SEGMENT_EVENTS_MAX);
        let (closed, closing) = oneshot::channel();
        self.env.open_queues.lock().unwrap_or_else(PoisonError::into_inner).insert(tp.clone(), closing);
        let run = Run::new(self.env.runs.fetch_add(1, Ordering::Relaxed), self.id.clone(), resume.position);
        run.log_end.store(resume.log_end, Ordering::Relaxed);
        // From before the consumer has it: whatever ends the lane from here on, the queue is closed for the next one.
        let abandoned = AbandonOnDrop(Arc::clone(&run));
        let start = RunStart {
            run: Arc::clone(&run),
            lease: Arc::clone(&self.lease),
            queue,
            start: resume.start,
            position: resume.position,
            last,
            patience: SILENCE_MAX * 2_u32.saturating_pow(self.history.faults.silences_from(resume.position)),
            turn: self.turn_bounds(resume),
            opened: resume.opened,
            written_anew_from: resume.written_anew_from(),
            encoding: self.encoding(),
            missing: resume.missing.clone(),
            pinned: resume.pinned_range(),
            until: self.env.until.as_ref().and_then(|until| until.get(&tp)).copied(),
            corrupt_skipped,
            events,
            closed,
        };
        self.env.metrics.track(&self.lease.tp, &run);
        let command = ConsumerCommand::Start(Box::new(start));
        if let Err(TrySendError::Full(command)) = self.port().commands.try_send(command) {
            // A consumer that is busy; the runtime's other lanes must not wait for it.
            let commands = self.port().commands.clone();
            let _ = tokio::task::spawn_blocking(move || commands.send(command)).await;
        }
        self.wake_consumer();
        Ok((abandoned, received))
    }

    fn port(&self) -> &ConsumerPort {
        let spread = self.lease.tp.topic.bytes().fold(0_usize, |sum, b| sum.wrapping_add(b as usize));
        let lane = spread.wrapping_add(usize::try_from(self.lease.tp.partition).unwrap_or_default());
        &self.env.consumers[lane % self.env.consumers.len()]
    }

    pub(super) fn wake_consumer(&self) {
        let _ = self.port().wake.try_send(());
    }

    fn encoding(&self) -> LaneEncoding {
        LaneEncoding::new(self.env.rule.encoding, self.env.rule.auto_level, &self.history.level)
    }
}

/// How a run ends that nothing has gone wrong with.
#[derive(Debug)]
pub(super) enum RunEnd {
    /// It has read all that was asked for.
    Finished,
    /// It has read all that is due.
    Rested(Rest, Arc<Run>),
}

/// What a lane holds of the run that it follows.
pub(super) struct Following {
    run: Arc<Run>,
    began_at: i64,
    /// The window that was pinned before, until it is read again.
    pub(super) pinned: Option<Intent>,
    assembly: Assembly,
    pub(super) turn: Option<Turn>,
}

impl Following {
    fn new(run: Arc<Run>, resume: Resume, turn: Option<Turn>) -> Self {
        Self { run, began_at: resume.position, assembly: Assembly::new(resume.intent.as_ref()), pinned: resume.intent, turn }
    }
}

/// A run that ends with its lane, however that ends.
struct AbandonOnDrop(Arc<Run>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Relaxed);
    }
}
