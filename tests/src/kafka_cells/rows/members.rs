//! K18: members that are lost, fenced and moved, in the middle of everything.

use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use crate::broker::cluster::{Cluster, code};
use crate::broker::faults::{Act, Fault, When};
use crate::broker::groups::Group;
use crate::broker::served::Served;
use crate::kafka_cells::bench::{Bench, GROUP, Run, Settings};
use crate::kafka_cells::{Cells, Check};

/// How a member takes part.
#[derive(Clone, Copy)]
pub(super) enum Member {
    Static,
    Dynamic,
    Cooperative,
    NextGeneration,
}

impl Member {
    fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Dynamic => "dynamic",
            Self::Cooperative => "cooperative",
            Self::NextGeneration => "kip-848",
        }
    }

    pub(super) fn settings(self, bench: &Bench, instance: &str) -> Settings {
        let mut settings = bench.settings.clone();
        settings.instance = if matches!(self, Self::Static) { instance.to_owned() } else { "none".to_owned() };
        match self {
            Self::Static | Self::Dynamic => {}
            Self::Cooperative => drop(settings.properties.insert("partition.assignment.strategy", "cooperative-sticky".to_owned())),
            Self::NextGeneration => {
                settings.properties.insert("group.protocol", "consumer".to_owned());
                settings.properties.remove("session.timeout.ms");
                settings.properties.remove("heartbeat.interval.ms");
            }
        }
        settings
    }
}

const ALL: [Member; 4] = [Member::Static, Member::Dynamic, Member::Cooperative, Member::NextGeneration];

pub(super) fn list(cells: &mut Cells) {
    refusals(cells);
    expulsions(cells);
    pairs(cells);
    crowd(cells);
    returns(cells);
}

/// Small steps and many windows, so that a run lasts long enough for things to happen to it.
pub(super) fn slow(bench: &Bench, partitions: usize) {
    bench.script(|c| {
        c.batches_per_fetch = Some(1);
        c.next_generation_groups = true;
    });
    bench.topic(partitions);
    (0..partitions).for_each(|partition| bench.fill(partition, 300));
}

/// What comes later to two partitions must come through the membership as it is then.
async fn goes_on(bench: &mut Bench, run: Run) -> Check {
    (0..2).for_each(|partition| bench.fill(partition, 60));
    bench.await_committed().await?;
    run.stop().await?;
    bench.compare().await
}

/// Requests of the membership that are refused once or some times.
fn refusals(cells: &mut Cells) {
    for (api, name) in [(ApiKey::Heartbeat, "heartbeat"), (ApiKey::JoinGroup, "join"), (ApiKey::SyncGroup, "sync")] {
        for (error, what) in [
            (code::UNKNOWN_MEMBER_ID, "unknown-member-id"),
            (code::ILLEGAL_GENERATION, "illegal-generation"),
            (code::REBALANCE_IN_PROGRESS, "rebalance-in-progress"),
            (code::NOT_COORDINATOR, "not-coordinator"),
            (code::COORDINATOR_NOT_AVAILABLE, "coordinator-not-available"),
        ] {
            // No coordinator answers a join so.
            if api == ApiKey::JoinGroup && matches!(error, code::ILLEGAL_GENERATION | code::REBALANCE_IN_PROGRESS) {
                continue;
            }
            cells.add(
                "K18",
                format!("k18.{name}.{what}"),
                format!("a {name} is answered with {what} once: the member is back, nothing twice"),
                move |bench| {
                    Box::pin(async move {
                        slow(bench, 2);
                        bench.settings.until_end = false;
                        // A coordinator that does not know a member has forgotten it; else it would take the one that comes back for another.
                        let forgets = error == code::UNKNOWN_MEMBER_ID && api != ApiKey::JoinGroup;
                        let act = if forgets { Act::happen(|c| c.groups.group(GROUP).expel_all()) } else { Act::Code(error) };
                        bench.fault(Fault::once(When::Every(api), act));
                        let run = bench.start()?;
                        bench.await_committed().await?;
                        bench.await_faults().await?;
                        goes_on(bench, run).await
                    })
                },
            );
        }
    }
    cells.add(
        "K18",
        "k18.fenced",
        "another process takes the static member's name: the run ends with C0205, a later one goes on",
        |bench| {
            Box::pin(async move {
                slow(bench, 1);
                bench.settings.until_end = false;
                bench.fault(Fault::once(When::Every(ApiKey::Heartbeat), Act::Code(code::FENCED_INSTANCE_ID)));
                bench.expect_stop(205).await?;
                bench.settings.until_end = true;
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
}

/// The coordinator loses its members, or makes everybody join again, at a chosen step of a window.
fn expulsions(cells: &mut Cells) {
    for (step, when) in [("pin", When::Pin), ("tidy", When::Tidy), ("reading", When::FetchFrom(150))] {
        for member in ALL {
            // A group of the next generation has nothing to make again.
            let rebalances: &[bool] = if matches!(member, Member::NextGeneration) { &[] } else { &[false, true] };
            for rebalance in rebalances.iter().copied() {
                let id = format!("k18.{}.{step}.{}", if rebalance { "rebalance" } else { "expelled" }, member.name());
                let happens = if rebalance { "a rebalance begins" } else { "the coordinator forgets its members" };
                cells.add(
                    "K18",
                    id,
                    format!("{happens} at a {step}, {} member: what was pinned is finished, nothing twice", member.name()),
                    move |bench| {
                        Box::pin(async move {
                            slow(bench, 1);
                            bench.settings = member.settings(bench, "member-1");
                            // Most tidies are carried by the next pin, so few come on their own.
                            let skip = if step == "pin" { 2 } else { 0 };
                            let event = Act::happen(move |c| match rebalance {
                                true => c.groups.group(GROUP).rebalance(),
                                false => c.groups.group(GROUP).expel_all(),
                            });
                            bench.fault(Fault::once(when, event).after(skip));
                            bench.reach_end().await?;
                            bench.await_committed().await?;
                            bench.compare().await
                        })
                    },
                );
            }
        }
    }
    cells.add(
        "K18",
        "k18.storm",
        "a rebalance every 150 ms for four seconds and more: nothing lost, nothing twice, and it comes to an end",
        |bench| {
            Box::pin(async move {
                slow(bench, 3);
                bench.settings.until_end = false;
                let run = bench.start()?;
                let mut generations = 0;
                for round in 0..400 {
                    tokio::time::sleep(Duration::from_millis(150)).await;
                    bench.group(Group::rebalance);
                    generations = bench.group(|g| g.generation);
                    if round >= 27 && generations >= 5 {
                        break;
                    }
                }
                bench.saw("there were five generations and more", generations >= 5)?;
                bench.await_committed().await?;
                run.stop().await?;
                bench.compare().await
            })
        },
    );
}

/// Two members share the partitions, or hand them over.
fn pairs(cells: &mut Cells) {
    for member in ALL {
        let what = format!("two {} members share four partitions, the second comes when the first is at work", member.name());
        cells.add("K18", format!("k18.pair.{}", member.name()), what, move |bench| {
            Box::pin(async move {
                slow(bench, 4);
                let (mut one, mut two) = (member.settings(bench, "member-1"), member.settings(bench, "member-2"));
                (one.until_end, two.until_end) = (false, false);
                let first = bench.start_as(&one)?;
                bench.await_pin().await?;
                let second = bench.start_as(&two)?;
                let are_two = |c: &mut Cluster| c.groups.members(GROUP) == 2;
                bench.await_state("two members", are_two).await?;
                all_commit(bench, 4, 2).await?;
                bench.await_committed().await?;
                second.stop().await?;
                (0..4).for_each(|partition| bench.fill(partition, 60));
                bench.await_committed().await?;
                first.stop().await?;
                bench.compare().await
            })
        });
    }
}

/// Records arrive until so many members have committed some: each comes to its partitions in its own time.
async fn all_commit(bench: &mut Bench, partitions: usize, members: usize) -> Check {
    let mut committers = 0;
    for turn in 0..480 {
        // Not more than they can store meanwhile, or the end is far away.
        if turn % 4 == 0 {
            (0..partitions).for_each(|partition| bench.fill(partition, 25));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        committers = bench.group(|g| g.committers.len());
        if committers >= members {
            break;
        }
    }
    bench.saw("members have committed, as many as share the partitions", committers >= members)
}

/// As many members as a busy group has.
fn crowd(cells: &mut Cells) {
    cells.add("K18", "k18.ten-members", "ten members come one after another, and go again while records arrive", |bench| {
        Box::pin(async move {
            slow(bench, 10);
            bench.settings = Member::Dynamic.settings(bench, "");
            bench.settings.until_end = false;
            bench.shows(Served::Generation);
            let mut members = Vec::new();
            for _ in 0..10 {
                members.push(bench.start()?);
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            bench.await_state("ten members", |c| c.groups.members(GROUP) == 10).await?;
            all_commit(bench, 10, 10).await?;
            for run in members.drain(1..) {
                (0..10).for_each(|partition| bench.fill(partition, 25));
                run.stop().await?;
            }
            bench.await_committed().await?;
            for run in members {
                run.stop().await?;
            }
            bench.compare().await
        })
    });
}

/// Members that come back.
fn returns(cells: &mut Cells) {
    cells.add(
        "K18",
        "k18.static-returns",
        "a static member stops within a window and is back at once: no rebalance, the same partitions",
        |bench| {
            Box::pin(async move {
                slow(bench, 2);
                // It must be back before its session is over, however long it takes to start.
                bench.settings.properties.insert("session.timeout.ms", "60000".to_owned());
                bench.leave_pinned().await?;
                let before = bench.group(|g| g.generation);
                bench.reach_end().await?;
                let (after, returned) = bench.group(|g| (g.generation, g.returned));
                bench.saw("it came back into its place", returned > 0 && after == before)?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K18",
        "k18.static-rejoins",
        "a static member is unknown when it joins after a rebalance: it is back under another id, and its lanes begin anew",
        |bench| {
            Box::pin(async move {
                slow(bench, 2);
                bench.settings.until_end = false;
                let run = bench.start()?;
                bench.await_pin().await?;
                let before: Vec<String> = bench.group(|g| g.members.keys().cloned().collect());
                bench.fault(Fault::once(When::Every(ApiKey::JoinGroup), Act::Code(code::UNKNOWN_MEMBER_ID)));
                bench.group(Group::rebalance);
                bench.await_faults().await?;
                let is_another = move |c: &mut Cluster| {
                    let group = c.groups.group(GROUP);
                    group.is_stable() && group.members.keys().all(|id| !before.contains(id))
                };
                bench.await_state("the same member under another id", is_another).await?;
                bench.await_committed().await?;
                goes_on(bench, run).await
            })
        },
    );
    cells.add("K18", "k18.coordinator-moves", "the coordinator is another broker from a pin on: found again, the pin repeated", |bench| {
        Box::pin(async move {
            slow(bench, 1);
            bench.event(When::Pin, |c| {
                c.coordinator = -1;
                c.later(Duration::from_millis(1_500), |c| c.coordinator = 1);
            });
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add(
        "K18",
        "k18.stale-epoch",
        "a member of a group of the next generation is fenced by its epoch: it joins anew, nothing twice",
        |bench| {
            Box::pin(async move {
                slow(bench, 2);
                bench.settings = Member::NextGeneration.settings(bench, "");
                bench.settings.until_end = false;
                bench.fault(Fault::once(When::Every(ApiKey::ConsumerGroupHeartbeat), Act::Code(code::FENCED_MEMBER_EPOCH)).after(4));
                let run = bench.start()?;
                bench.await_committed().await?;
                bench.await_faults().await?;
                goes_on(bench, run).await
            })
        },
    );
}
