//! K2 to K4: leaders that move, followers that lag, partitions and topics that are added.

use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use super::network::in_steps;
use crate::broker::cluster::code;
use crate::broker::faults::{Act, Fault, When};
use crate::broker::served::Served;
use crate::kafka_cells::Cells;
use crate::kafka_cells::bench::{GROUP, TOPIC, fill};
use crate::kafka_cells::contents::Expected;

pub(super) fn list(cells: &mut Cells) {
    leaders(cells);
    followers(cells);
    more_partitions(cells);
}

fn leaders(cells: &mut Cells) {
    cells.add_with_nodes(2, "K2", "k2.moves", "the leader moves while its partition is read; the refusal names the new one", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.event(When::FetchFrom(125), |c| c.partition(TOPIC, 0).elect(2));
            bench.shows(Served::WrongLeader);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add_with_nodes(2, "K2", "k2.moves.unnamed", "the same in a version of Fetch whose refusals name nobody", |bench| {
        Box::pin(async move {
            bench.script(|c| c.fetch_version_max = Some(11));
            in_steps(bench);
            bench.event(When::FetchFrom(125), |c| c.partition(TOPIC, 0).elect(2));
            bench.shows(Served::WrongLeader);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add_with_nodes(2, "K2", "k2.stale-metadata", "metadata names the old leader for a second and a half after the move", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.event(When::FetchFrom(125), |c| {
                let partition = c.partition(TOPIC, 0);
                partition.elect(2);
                partition.advertised_leader = Some(1);
                c.later(Duration::from_millis(1_500), |c| c.partition(TOPIC, 0).advertised_leader = None);
            });
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add_with_nodes(2, "K2", "k2.leaderless", "the partition has no leader for two seconds", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.event(When::FetchFrom(125), |c| {
                c.partition(TOPIC, 0).leader = -1;
                c.later(Duration::from_secs(2), |c| c.partition(TOPIC, 0).elect(2));
            });
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add_with_nodes(2, "K2", "k2.moves.pinned", "the leader moves while a pinned window is read again", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.leave_pinned().await?;
            bench.event(When::FetchFrom(25), |c| c.partition(TOPIC, 0).elect(2));
            bench.shows(Served::WrongLeader);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    for (name, error) in [
        ("not-leader", code::NOT_LEADER_OR_FOLLOWER),
        ("leader-not-available", code::LEADER_NOT_AVAILABLE),
        ("broker-not-available", code::BROKER_NOT_AVAILABLE),
        ("replica-not-available", code::REPLICA_NOT_AVAILABLE),
        ("storage-error", code::KAFKA_STORAGE_ERROR),
        ("fenced-leader-epoch", code::FENCED_LEADER_EPOCH),
        ("unknown-leader-epoch", code::UNKNOWN_LEADER_EPOCH),
        ("offset-not-available", code::OFFSET_NOT_AVAILABLE),
        ("unknown-topic-id", code::UNKNOWN_TOPIC_ID),
        ("message-too-large", code::MESSAGE_TOO_LARGE),
        ("unknown-server-error", -1),
        ("code-of-the-future", 1_234),
    ] {
        cells.add(
            "K2",
            format!("k2.fetch.{name}"),
            format!("three fetches are refused with {name} ({error}): read again from there, no hole"),
            move |bench| {
                Box::pin(async move {
                    in_steps(bench);
                    bench.fault(Fault::times(When::FetchFrom(125), Act::Code(error), 3));
                    bench.reach_end().await?;
                    bench.compare().await
                })
            },
        );
    }
    for (name, api, error) in [
        ("list-offsets.not-leader", ApiKey::ListOffsets, code::NOT_LEADER_OR_FOLLOWER),
        ("list-offsets.unknown-leader-epoch", ApiKey::ListOffsets, code::UNKNOWN_LEADER_EPOCH),
        ("list-offsets.storage-error", ApiKey::ListOffsets, code::KAFKA_STORAGE_ERROR),
        ("epoch.not-leader", ApiKey::OffsetForLeaderEpoch, code::NOT_LEADER_OR_FOLLOWER),
        ("epoch.unknown-leader-epoch", ApiKey::OffsetForLeaderEpoch, code::UNKNOWN_LEADER_EPOCH),
    ] {
        cells.add("K2", format!("k2.{name}"), format!("{api:?} is refused with {error} at a recovery: asked again"), move |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.reach_end().await?;
                bench.fill(0, 100);
                bench.settings.until_end = false;
                bench.fault(Fault::times(When::Every(api), Act::Code(error), 2));
                let run = bench.start()?;
                bench.await_committed().await?;
                run.stop().await?;
                bench.compare().await
            })
        });
    }
}

fn followers(cells: &mut Cells) {
    cells.add_with_nodes(2, "K3", "k3.follower", "the leader sends the reader to a follower, which has everything", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.partition(0, |p| p.preferred = Some(2));
            bench.shows(Served::FollowerFetch);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add_with_nodes(
        2,
        "K3",
        "k3.lagging",
        "the follower has less than the leader and catches up a second later: nothing is skipped",
        |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.partition(0, |p| {
                    p.preferred = Some(2);
                    p.replica_ends.insert(2, 150);
                });
                bench.event(When::At(ApiKey::Fetch, 2), |c| {
                    c.later(Duration::from_secs(1), |c| c.partition(TOPIC, 0).replica_ends.clear());
                });
                bench.settings.until_end = false;
                bench.shows(Served::FollowerBehind);
                let run = bench.start()?;
                bench.await_committed().await?;
                run.stop().await?;
                bench.compare().await
            })
        },
    );
    cells.add_with_nodes(
        2,
        "K3",
        "k3.behind",
        "the follower ends below the offset that is asked for: back to the leader, never reset",
        |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.partition(0, |p| p.preferred = Some(2));
                bench.event(When::FetchFrom(150), |c| {
                    let partition = c.partition(TOPIC, 0);
                    partition.replica_ends.insert(2, 100);
                    partition.preferred = Some(2);
                    c.later(Duration::from_millis(300), |c| c.partition(TOPIC, 0).preferred = None);
                });
                bench.shows(Served::FollowerFetch);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add_with_nodes(2, "K3", "k3.unknown", "the leader sends the reader to a replica that metadata does not know", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.event(When::FetchFrom(150), |c| {
                c.partition(TOPIC, 0).preferred = Some(9);
                c.later(Duration::from_secs(1), |c| c.partition(TOPIC, 0).preferred = None);
            });
            bench.reach_end().await?;
            bench.compare().await
        })
    });
}

fn more_partitions(cells: &mut Cells) {
    for start in ["earliest", "latest"] {
        let what = format!("partitions are added while a rule with start {start} runs: they are read from their beginning");
        cells.add("K4", format!("k4.added.{start}"), what, move |bench| {
            Box::pin(async move {
                bench.filled(100);
                bench.settings.start = start.to_owned();
                bench.settings.until_end = false;
                let run = bench.start()?;
                bench.await_committed().await?;
                bench.fill(0, 60);
                bench.shows(Served::MorePartitions);
                bench.script(|c| {
                    c.add_partitions(TOPIC, 2);
                    (1..3).for_each(|partition| fill(c.partition(TOPIC, partition), i32::try_from(partition).expect("small"), 80));
                });
                bench.await_committed().await?;
                run.stop().await?;
                let mut all = bench.expected();
                if start == "latest" {
                    all.without(0, 0, 100);
                }
                bench.compare_with(all, &[]).await
            })
        });
    }
    cells.add(
        "K4",
        "k4.topic-by-pattern",
        "a topic that matches the rule's pattern is made while it runs: read from its beginning",
        |bench| {
            Box::pin(async move {
                bench.filled(100);
                bench.settings.topics = "\"^t\"".to_owned();
                bench.settings.until_end = false;
                let run = bench.start()?;
                bench.await_committed().await?;
                bench.shows(Served::NewTopic);
                bench.script(|c| {
                    c.make_topic("t2", 1);
                    fill(c.partition("t2", 0), 0, 80);
                });

                bench
                    .await_state("the new topic", move |c| c.groups.group(GROUP).offsets.get("t2", 0).is_some_and(|o| o.offset >= 80))
                    .await?;
                run.stop().await?;
                let (first, mut second) = (bench.expected(), Expected::default());
                second.add(0, bench.script(|c| c.partition("t2", 0).log.visible()));
                bench.compare_below("t/", &first).await?;
                bench.compare_below("t2/", &second).await?;
                bench.verify(&[]).await
            })
        },
    );
}
