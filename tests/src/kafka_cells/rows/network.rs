//! K1 and K21 to K23: brokers that go and come, addresses that lead nowhere, and everything that a network does.

use std::time::{Duration, Instant};

use kafka_protocol::messages::ApiKey;

use crate::broker::batches::Batch;
use crate::broker::cluster::Cluster;
use crate::broker::faults::{Act, Fault, When};
use crate::broker::served::Served;
use crate::kafka_cells::Cells;
use crate::kafka_cells::bench::{Bench, TOPIC};
use crate::kafka_cells::data::large_record;

pub(super) fn list(cells: &mut Cells) {
    outages(cells);
    wires(cells);
    addresses(cells);
    throttles(cells);
}

/// 300 records in steps of one batch.
pub(super) fn in_steps(bench: &Bench) {
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
            let down = Duration::from_secs(2);
            let began = Instant::now();
            bench.script(move |c| c.stop_for(1, down));
            bench.reach_end().await?;
            bench.saw("it waited for a broker", began.elapsed() >= down)?;
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
    for (id, ms) in [("k21.latency", 100), ("k21.latency.long", 500)] {
        cells.add("K21", id, format!("every answer takes {ms} ms"), move |bench| {
            Box::pin(async move {
                bench.filled(300);
                // Several such answers may make one that the client waits for, and a start asks nothing twice.
                bench.settings.properties.insert("socket.timeout.ms", "30000".to_owned());
                let apis =
                    [ApiKey::Metadata, ApiKey::ListOffsets, ApiKey::OffsetFetch, ApiKey::OffsetCommit, ApiKey::Fetch, ApiKey::JoinGroup];
                for api in apis {
                    bench.fault(Fault::always(When::Every(api), Act::AnswerLate(Duration::from_millis(ms))));
                }
                bench.reach_end().await?;
                bench.compare().await
            })
        });
    }
    cells.add("K21", "k21.narrow", "what is fetched comes at 1 Mbit/s, and is 2 s long", |bench| {
        Box::pin(async move {
            bench.topic(1);
            for n in 0..4 {
                bench.append(0, Batch::of(vec![large_record(n, 64 << 10)]));
            }
            // 1,250 bytes in each hundredth of a second, or fewer: a fetch may take as long as it likes.
            bench.settings.properties.insert("socket.timeout.ms", "30000".to_owned());
            bench.fault(Fault::always(When::FetchFrom(0), Act::Drip(1_250, Duration::from_millis(10))));
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
            bench.unseen("nobody listens where the dead addresses lead");
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
                bench.shows(Served::Addresses);
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
                    bench.shows(Served::Throttled);
                    bench.reach_end().await?;
                    bench.compare().await
                })
            },
        );
    }
}
