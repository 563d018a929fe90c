//! What happens in a simulation: records arrive, processes come, go, freeze and die, the log loses records, the store goes down; then
//! faults stop, and whatever is left must be done.
//!
//! Time passes in ticks. Between two of them everything else runs by itself; [`events`](super::events) happen, and the
//! [`supervisor`](super::supervisor) sees to processes and group.

use std::sync::Arc;
use std::time::Duration;

use catchment::intent::CommitNote;
use catchment::source::{LogBounds, Source as _, TopicPartition};
use tokio::time::Instant;

use super::kafka::trouble;
use super::ledger::Ledger;
use super::process::{Process, START_MS, Shared, TOPIC};
use super::verdict::{self, Verdict};
use super::world::World;
use crate::generate::Profile;
use crate::scripted::cluster::ScriptedCluster;
use crate::scripted::group::ScriptedGroup;
use crate::scripted::log::Shape;

/// From one thing that happens to the next.
const TICK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// How long a process may need for what is left once faults have stopped: longer than any deadline of the protocol.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// A place in which a process runs, or will.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) process: Option<Process>,
    /// When the supervisor starts it next.
    pub(super) starts_at: Option<Instant>,
    /// When the coordinator gives a silent member up.
    pub(super) expires_at: Option<Instant>,
    /// Since when a process is frozen or cut off.
    pub(super) away_since: Option<Instant>,
    /// When a frozen or cut-off process is well again.
    pub(super) heals_at: Option<Instant>,
    /// When a member that lost its session notices.
    pub(super) notices_at: Option<Instant>,
    /// Whether the longest session would have kept it.
    pub(super) is_gone_early: bool,
    /// The operation that the next process is to die in.
    pub(super) doom: Option<&'static str>,
}

/// One simulation under way.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) shared: Shared,
    pub(super) group: Arc<ScriptedGroup>,
    pub(super) slots: Vec<Slot>,
    pub(super) ledger: Ledger,
    /// Processes started so far.
    pub(super) lives: u64,
    /// Whether the members changed since the last rebalance.
    pub(super) unbalanced: bool,
    /// Moments, by the order of events, at which the group's offsets were forgotten.
    pub(super) forgotten_at: Vec<u64>,
}

/// How a simulation ended.
#[derive(Debug)]
pub struct End {
    /// What was found.
    pub verdict: Verdict,
    /// What was shared, with trace and tally.
    pub world: Arc<World>,
}

/// Runs a simulation from beginning to end, on the calling task's runtime, whose time must be paused.
pub async fn run(world: World) -> End {
    let mut story = Story::new(Arc::new(world)).await;
    for _ in 0..story.world().plan.ticks {
        story.tick().await;
        story.something_happens().await;
    }
    story.heal().await;
    let finished = story.finish().await;
    let uploads = if finished { story.await_sweeping().await } else { Vec::new() };
    story.end(finished, uploads).await
}

impl Story {
    pub(super) async fn new(world: Arc<World>) -> Self {
        let plan = &world.plan;
        let cluster = Arc::new(ScriptedCluster::new(plan.seed));
        let store = Arc::new(plan.store());
        let group = ScriptedGroup::new(world.order.clone());
        let pending = trouble(&world, &group, &cluster);
        let slots = (0..plan.processes).map(|_| Slot { starts_at: Some(Instant::now()), ..Slot::default() }).collect();
        let mut ledger = Ledger::default();
        Self::create_topic(&world, &cluster, &mut ledger).await;
        let shared = Shared { world, cluster, store, pending };
        Self { shared, group, slots, ledger, lives: 0, unbalanced: false, forgotten_at: Vec::new() }
    }

    pub(super) async fn create_topic(world: &World, cluster: &ScriptedCluster, ledger: &mut Ledger) {
        let profile = Profile::plain().with_times(START_MS, 200_000);
        cluster.create(TOPIC, world.plan.partitions, &Shape::with_holes(profile));
        loop {
            // A question of ours may fail like any other.
            match cluster.topic(TOPIC).await {
                Ok(Some(info)) => return ledger.incarnate(&info.id, info.partitions),
                other => world.trace(format_args!("asked for the topic: {other:?}")),
            }
        }
    }

    pub(super) fn world(&self) -> &Arc<World> {
        &self.shared.world
    }

    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        self.shared.cluster.partitions(TOPIC)
    }

    pub(super) fn pick(&self) -> TopicPartition {
        let mut partitions = self.partitions();
        partitions.swap_remove(self.world().below(partitions.len() as u64) as usize)
    }

    /// Enters what a partition shows into the ledger, before something is taken from it, and answers its extent.
    pub(super) fn look(&mut self, tp: &TopicPartition) -> LogBounds {
        self.ledger.look(&self.shared.world, &self.shared.cluster, tp);
        self.shared.cluster.look(tp, |log| log.bounds())
    }

    pub(super) fn committed(&self, tp: &TopicPartition) -> i64 {
        self.group.committed(tp).map_or(0, |c| c.offset)
    }

    /// Time passes; records arrive; what was due happens.
    async fn tick(&mut self) {
        tokio::time::sleep(self.world().between(TICK.0, TICK.1)).await;
        for tp in self.partitions() {
            let offsets = self.world().below(12) as i64;
            self.shared.cluster.change(&tp, |log| log.append(offsets));
        }
        self.see_to_processes().await;
    }

    /// Faults stop: the store is up, everybody runs, and no transaction hangs.
    async fn heal(&mut self) {
        self.world().trace(format_args!("faults stop"));
        self.world().calm_down();
        let now = Instant::now();
        for slot in &mut self.slots {
            if let Some(at) = &mut slot.heals_at {
                *at = now;
            }
            slot.doom = None;
            slot.process.iter().for_each(|process| process.vitals.set_doom(None));
        }
        for tp in self.partitions() {
            self.shared.cluster.change(&tp, |log| {
                log.resolve();
                log.append(5);
            });
        }
    }

    /// Waits until everything that can be read is committed and nothing is pinned.
    async fn finish(&mut self) -> bool {
        let began = Instant::now();
        let mut has_grown = false;
        while began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_secs(2)).await;
            self.see_to_processes().await;
            if began.elapsed().as_secs() % 60 < 2 {
                // Windows of records that nothing follows are closed by the clock; truncated logs must pass what was backed up.
                for tp in self.partitions() {
                    if began.elapsed() < Duration::from_secs(3600) {
                        self.shared.cluster.change(&tp, |log| log.append(3));
                    }
                }
            }
            let is_done = self.partitions().iter().all(|tp| self.is_done(tp));
            if is_done && (std::mem::replace(&mut has_grown, true) || !self.grow_cut_logs()) {
                return true;
            }
        }
        false
    }

    /// A log that was cut may have grown just to where the group stands, and nobody needs to look at it. So it grows on: whoever reads that sees the cut.
    /// False if no log was cut.
    fn grow_cut_logs(&mut self) -> bool {
        let partitions = self.partitions();
        let cut: Vec<_> = partitions.into_iter().filter(|tp| self.ledger.lane(tp.partition).was_ever_cut()).collect();
        cut.iter().for_each(|tp| self.shared.cluster.change(tp, |log| log.append(3)));
        !cut.is_empty()
    }

    fn is_done(&self, tp: &TopicPartition) -> bool {
        let end = self.shared.cluster.look(tp, |log| log.bounds().stable_end);
        self.group.committed(tp).is_some_and(|c| {
            c.offset == end && matches!(CommitNote::parse(&c.metadata), Ok(CommitNote::Tidy(note)) if note.missing.is_empty() && self.is_current(&note.t))
        })
    }

    pub(super) fn is_current(&self, topic_hash: &str) -> bool {
        catchment::intent::note_hash(self.ledger.current()) == topic_hash
    }

    async fn end(mut self, finished: bool, uploads: Vec<String>) -> End {
        self.stop_all(Duration::from_secs(30)).await;
        // What is late has landed by now.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        for tp in self.partitions() {
            self.look(&tp);
        }
        let accepted = self.group.accepted();
        for commit in &accepted {
            self.shared.world.trace(format_args!("accepted {commit:?}"));
        }
        let mut verdict = verdict::judge(&self.shared.world, &self.shared.store, &self.ledger, &accepted, &self.forgotten_at).await;
        verdict.findings.extend(self.shared.world.bugs());
        verdict.findings.extend(uploads);
        if !finished {
            let lag = self.partitions().iter().map(|tp| format!("{tp} at {}", self.committed(tp))).collect::<Vec<_>>().join(", ");
            verdict.findings.push(format!("faults have stopped, and the lag has not reached 0: {lag}"));
        }
        for finding in &verdict.findings {
            self.shared.world.trace(format_args!("FOUND {finding}"));
        }
        End { verdict, world: Arc::clone(&self.shared.world) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::directed::Directed;
    use crate::simulation::plan::{Plan, Scope};

    #[tokio::test(start_paused = true)]
    async fn a_log_that_was_cut_and_has_grown_to_where_the_group_stands_is_looked_at_before_the_end() {
        let world = World::new(Plan { processes: 1, ..Directed::plan() }, false);
        world.calm_down();
        let mut story = Story::new(Arc::new(world)).await;
        let tp = story.partitions().remove(0);
        story.shared.cluster.change(&tp, |log| log.append(40));
        assert!(story.finish().await, "nothing keeps it from that");
        story.stop_all(Duration::from_secs(30)).await;
        let (end, order) = (story.look(&tp).end, story.world().order.next());
        assert_eq!(story.committed(&tp), end);
        story.ledger.lane(0).truncate(end - 10..end, end, order, 1);
        story.shared.cluster.change(&tp, |log| {
            log.truncate(end - 10);
            log.append(10);
        });
        let finished = story.finish().await;
        let found = story.end(finished, Vec::new()).await.verdict.findings;
        assert_eq!(found, [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lag_that_stays_and_what_a_process_must_not_do_are_found() {
        let story = Story::new(Arc::new(World::new(Plan::of(1, Scope::Settled), false))).await;
        story.world().note_bug("a part of it panicked".into());
        let found = story.end(false, vec!["an upload".into()]).await.verdict.findings;
        assert!(found[..2] == ["a part of it panicked", "an upload"] && found[2].contains("the lag has not reached 0"), "{found:?}");
    }
}
