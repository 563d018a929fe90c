//! K1 to K4 and K20 to K23: brokers that go and come, leaders that move, partitions that are added, logins, and everything that a network does.

use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use crate::broker::cluster::{Cluster, code};
use crate::broker::faults::{Act, Fault, When};
use crate::broker::login::Login;
use crate::kafka_cells::Cells;
use crate::kafka_cells::bench::{Bench, TOPIC, fill};

pub(super) fn list(cells: &mut Cells) {
    outages(cells);
    leaders(cells);
    followers(cells);
    more_partitions(cells);
    logins(cells);
    wires(cells);
    addresses(cells);
    throttles(cells);
}

/// 300 records in steps of one batch.
fn in_steps(bench: &Bench) {
    bench.script(|c| c.batches_per_fetch = Some(1));
    bench.filled(300);
}

fn outages(cells: &mut Cells) {
    for (step, when) in [("reading", When::FetchFrom(125)), ("pin", When::Pin), ("tidy", When::Tidy)] {
        cells.add("K1", format!("k1.cut.{step}"), format!("every connection breaks at a {step}"), move |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.event(when, |c| c.cut(1));
                bench.reach_end().await?;
                bench.compare().await
            })
        });
        cells.add("K1", format!("k1.down.{step}"), format!("the only broker goes down at a {step}, for two seconds"), move |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.event(when, |c| c.stop_for(1, Duration::from_secs(2)));
                bench.reach_end().await?;
                bench.compare().await
            })
        });
    }
    cells.add("K1", "k1.down.recovery", "the broker goes down while a pinned window is read again", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.leave_pinned().await?;
            bench.event(When::FetchFrom(25), |c| c.stop_for(1, Duration::from_secs(2)));
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add("K1", "k1.down.at-start", "no broker is up when the backup starts; one comes two seconds later", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.script(|c| c.stop_for(1, Duration::from_secs(2)));
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add_with_nodes(3, "K1", "k1.rolling", "three brokers restart one after another, leaders and coordinator with them", |bench| {
        Box::pin(async move {
            bench.script(|c| c.batches_per_fetch = Some(1));
            bench.topic(6);
            (0..6).for_each(|partition| bench.fill(partition, 300));
            bench.event(When::FetchFrom(100), |c| {
                for (at, node) in [(0, 2), (1_500, 3), (3_000, 1)] {
                    c.later(Duration::from_millis(at), move |c| restart(c, node));
                }
            });
            bench.settings.until_end = false;
            let run = bench.start()?;
            tokio::time::sleep(Duration::from_secs(5)).await;
            (0..6).for_each(|partition| bench.fill(partition, 60));
            bench.await_committed().await?;
            run.stop().await?;
            bench.compare().await
        })
    });
    cells.add_with_nodes(3, "K1", "k1.all-down", "three brokers go down at once, for two seconds, with a window pinned", |bench| {
        Box::pin(async move {
            bench.script(|c| c.batches_per_fetch = Some(1));
            bench.topic(3);
            (0..3).for_each(|partition| bench.fill(partition, 300));
            bench.event(When::Pin, |c| (1..=3).for_each(|node| c.stop_for(node, Duration::from_secs(2))));
            bench.reach_end().await?;
            bench.compare().await
        })
    });
}

/// A broker goes down for a second; its partitions and its groups are another's from then on.
fn restart(c: &mut Cluster, node: i32) {
    let heir = node % 3 + 1;
    c.stop_for(node, Duration::from_secs(1));
    if c.coordinator == node {
        c.coordinator = heir;
    }
    for partition in c.topics.values_mut().flat_map(|t| &mut t.partitions).filter(|p| p.leader == node) {
        partition.elect(heir);
    }
}

fn leaders(cells: &mut Cells) {
    cells.add_with_nodes(2, "K2", "k2.moves", "the leader moves while its partition is read; the refusal names the new one", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.event(When::FetchFrom(125), |c| c.partition(TOPIC, 0).elect(2));
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add_with_nodes(2, "K2", "k2.moves.unnamed", "the same in a version of Fetch whose refusals name nobody", |bench| {
        Box::pin(async move {
            bench.script(|c| c.fetch_version_max = Some(11));
            in_steps(bench);
            bench.event(When::FetchFrom(125), |c| c.partition(TOPIC, 0).elect(2));
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
            bench.reach_end().await?;
            by_follower(bench)?;
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
                bench.script(|c| c.later(Duration::from_secs(1), |c| c.partition(TOPIC, 0).replica_ends.clear()));
                bench.settings.until_end = false;
                let run = bench.start()?;
                bench.await_committed().await?;
                run.stop().await?;
                by_follower(bench)?;
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
                bench.reach_end().await?;
                by_follower(bench)?;
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

fn by_follower(bench: &Bench) -> Result<(), String> {
    match bench.script(|c| c.follower_fetches) {
        0 => Err("no fetch went to the follower".to_owned()),
        _ => Ok(()),
    }
}

fn more_partitions(cells: &mut Cells) {
    for start in ["earliest", "latest"] {
        let what = format!("partitions are added while a rule with start {start} runs: they are read from their beginning");
        cells.add("K4", format!("k4.added.{start}"), what, move |bench| {
            Box::pin(async move {
                bench.filled(100);
                let mut expected = bench.expected();
                if start == "latest" {
                    expected.without(0, 0, i64::MAX);
                }
                bench.settings.start = start.to_owned();
                bench.settings.until_end = false;
                let run = bench.start()?;
                bench.await_committed().await?;
                bench.fill(0, 60);
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
                bench.script(|c| {
                    c.make_topic("t2", 1);
                    fill(c.partition("t2", 0), 0, 80);
                });
                let group = crate::kafka_cells::bench::GROUP;
                bench
                    .await_state("the new topic", move |c| c.groups.group(group).offsets.get("t2", 0).is_some_and(|o| o.offset >= 80))
                    .await?;
                run.stop().await?;
                let (first, mut second) = (bench.expected(), crate::kafka_cells::contents::Expected::default());
                second.add(0, bench.script(|c| c.partition("t2", 0).log.visible()));
                bench.compare_below("t/", &first).await?;
                bench.compare_below("t2/", &second).await?;
                bench.verify(&[]).await
            })
        },
    );
}

const LOGIN: &str = "sasl = { mechanism = \"PLAIN\", username = \"backup\", password = \"right\" }";

fn logins(cells: &mut Cells) {
    cells.add("K20", "k20.wrong-then-right", "a wrong password: C0211 before anything is done; the right one works", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.script(|c| c.login = Some(Login::plain("backup", "another")));
            bench.settings.kafka = LOGIN.to_owned();
            bench.expect_stop(211).await?;
            bench.script(|c| c.login = Some(Login::plain("backup", "right")));
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add("K20", "k20.mechanism", "the listener does not offer the mechanism: C0211; offered, it works", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.script(|c| c.login = Some(Login { mechanisms: vec!["GSSAPI".to_owned()], ..Login::plain("backup", "right") }));
            bench.settings.kafka = LOGIN.to_owned();
            bench.expect_stop(211).await?;
            bench.script(|c| c.login = Some(Login::plain("backup", "right")));
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add("K20", "k20.login-again", "logins last a second (KIP-368): the client logs in again and again while it reads", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.script(|c| c.login = Some(Login { lifetime: Duration::from_secs(1), ..Login::plain("backup", "right") }));
            bench.settings.kafka = LOGIN.to_owned();
            bench.settings.until_end = false;
            let run = bench.start()?;
            bench.await_committed().await?;
            bench.await_state("logins", |c| c.login.as_ref().is_some_and(|l| l.accepted > 8)).await?;
            bench.fill(0, 60);
            bench.await_committed().await?;
            run.stop().await?;
            bench.compare().await
        })
    });
    cells.add(
        "K20",
        "k20.password-changes",
        "the account is refused for two seconds while the backup runs, and its connections break: it goes on by itself",
        |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.script(|c| c.login = Some(Login::plain("backup", "right")));
                bench.settings.kafka = LOGIN.to_owned();
                bench.event(When::FetchFrom(150), |c| {
                    c.login.as_mut().expect("a login").password = "changed".to_owned();
                    c.cut(1);
                    c.later(Duration::from_secs(2), |c| c.login.as_mut().expect("a login").password = "right".to_owned());
                });
                bench.reach_end().await?;
                if bench.script(|c| c.login.as_ref().map_or(0, |l| l.refused)) == 0 {
                    return Err("no login was refused".to_owned());
                }
                bench.compare().await
            })
        },
    );
    cells.add(
        "K20",
        "k20.read-revoked",
        "the right to read is taken while the backup reads, and given back: it goes on by itself",
        |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.event(When::FetchFrom(150), |c| {
                    c.partition(TOPIC, 0).denied = true;
                    c.later(Duration::from_secs(2), |c| c.partition(TOPIC, 0).denied = false);
                });
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K20",
        "k20.read-denied",
        "the right to read was never given: the lane stops with C0231; given, the next run stores everything",
        |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.fault(Fault::always(When::FetchFrom(0), Act::Code(code::TOPIC_AUTHORIZATION_FAILED)));
                bench.expect_stop(231).await?;
                bench.script(|c| c.end_faults());
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
}

fn wires(cells: &mut Cells) {
    for (step, when) in
        [("fetch", When::FetchFrom(125)), ("metadata", When::Every(ApiKey::Metadata)), ("join", When::Every(ApiKey::JoinGroup))]
    {
        for (id, what, act) in [
            ("black-hole", "is never answered, and the connection stays open", Act::Silence),
            ("cut-inside", "is answered by a few bytes, then the connection breaks", Act::CutInside(30)),
            ("slow", "is answered in pieces of 16 bytes", Act::Drip(16, Duration::from_millis(2))),
            ("late", "is answered a second late", Act::AnswerLate(Duration::from_secs(1))),
        ] {
            cells.add("K21", format!("k21.{step}.{id}"), format!("a {step} request {what}"), move |bench| {
                let act = act.clone();
                Box::pin(async move {
                    in_steps(bench);
                    let skip = u32::from(step == "metadata") * 2;
                    bench.fault(Fault::once(when, act).after(skip));
                    bench.reach_end().await?;
                    bench.compare().await
                })
            });
        }
    }
    cells.add("K21", "k21.latency", "every answer takes 100 ms", |bench| {
        Box::pin(async move {
            bench.filled(300);
            for api in [ApiKey::Metadata, ApiKey::ListOffsets, ApiKey::OffsetFetch, ApiKey::OffsetCommit, ApiKey::Fetch, ApiKey::JoinGroup]
            {
                bench.fault(Fault::always(When::Every(api), Act::AnswerLate(Duration::from_millis(100))));
            }
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add("K21", "k21.one-byte", "every fetch comes byte by byte", |bench| {
        Box::pin(async move {
            bench.topic(1);
            bench.fill(0, 40);
            bench.fault(Fault::times(When::FetchFrom(0), Act::Drip(1, Duration::ZERO), 12));
            bench.reach_end().await?;
            bench.compare().await
        })
    });
}

fn addresses(cells: &mut Cells) {
    cells.add("K22", "k22.bootstrap-partly-dead", "of three bootstrap addresses only the last one answers", |bench| {
        Box::pin(async move {
            in_steps(bench);
            let mut addresses = vec!["127.0.0.1:1".to_owned(), "no-such-host.invalid:9092".to_owned()];
            addresses.extend(bench.broker.addresses());
            bench.settings.bootstrap = Some(addresses);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add_with_nodes(
        2,
        "K22",
        "k22.advertised-unreachable",
        "metadata names addresses that nobody can reach: C0221 names one; corrected, it works",
        |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.settings.bootstrap = Some(bench.broker.addresses());
                let right: Vec<u16> = bench.script(|c| c.nodes.iter().map(|n| n.port).collect());
                bench.script(|c| c.nodes.iter_mut().for_each(|n| n.port = 1));
                bench.expect_stop(221).await?;
                bench.script(|c| c.nodes.iter_mut().zip(&right).for_each(|(n, port)| n.port = *port));
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add_with_nodes(
        2,
        "K22",
        "k22.leader-unreachable",
        "one broker of two cannot be reached any more; its partition moves to the other one after two seconds",
        |bench| {
            Box::pin(async move {
                bench.script(|c| c.batches_per_fetch = Some(1));
                bench.topic(2);
                (0..2).for_each(|partition| bench.fill(partition, 200));
                bench.event(When::FetchFrom(50), |c| {
                    c.stop(2);
                    c.later(Duration::from_secs(2), |c| c.partition(TOPIC, 1).elect(1));
                });
                bench.settings.until_end = false;
                let run = bench.start()?;
                bench.await_committed().await?;
                run.stop().await?;
                bench.compare().await
            })
        },
    );
}

fn throttles(cells: &mut Cells) {
    for (id, when) in
        [("fetch", When::FetchFrom(75)), ("commit", When::Every(ApiKey::OffsetCommit)), ("metadata", When::Every(ApiKey::Metadata))]
    {
        cells.add(
            "K23",
            format!("k23.{id}"),
            format!("the quota throttles three of the {id} requests for 700 ms: slower, and nothing else"),
            move |bench| {
                Box::pin(async move {
                    in_steps(bench);
                    bench.fault(Fault::times(when, Act::Throttle(700), 3));
                    bench.reach_end().await?;
                    bench.compare().await
                })
            },
        );
    }
}
