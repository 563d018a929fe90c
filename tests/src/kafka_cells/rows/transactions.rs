//! K11 and K12: transactions that commit, abort and hang.

use std::time::Duration;

use crate::broker::batches::{Batch, Origin};
use crate::broker::codecs::Codec;
use crate::broker::served::Served;
use crate::kafka_cells::bench::{Bench, Settings};
use crate::kafka_cells::data::batch;
use crate::kafka_cells::{Cells, Check};

pub(super) fn list(cells: &mut Cells) {
    outcomes(cells);
    edges(cells);
    hanging(cells);
}

/// Appends `count` records of an open transaction.
fn in_transaction(bench: &Bench, producer: i64, count: usize, codec: Codec) {
    bench.partition(0, |p| {
        let next = p.log.end();
        p.log.append(batch(0, next, count).in_transaction(producer).with_codec(codec));
    });
}

fn marker(bench: &Bench, origin: Origin) {
    bench.append(0, Batch::marker(origin));
}

/// Two producers by turns, with plain records between; one commits, one aborts.
fn interleaved(bench: &Bench, codec: Codec) {
    for _ in 0..4 {
        in_transaction(bench, 1, 12, codec);
        in_transaction(bench, 2, 12, codec);
        bench.fill(0, 7);
    }
    marker(bench, Origin::Abort(2));
    marker(bench, Origin::Commit(1));
    bench.fill(0, 30);
}

fn outcomes(cells: &mut Cells) {
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        for again in [false, true] {
            let id = format!("k11.interleaved.{}{}", codec.name(), if again { ".again" } else { "" });
            let read = if again { "read again for a pinned window" } else { "read" };
            let what = format!("a committed and an aborted transaction by turns, {}, {read}: no aborted record", codec.name());
            cells.add("K11", id, what, move |bench| {
                Box::pin(async move {
                    bench.topic(1);
                    interleaved(bench, codec);
                    if again {
                        bench.leave_pinned().await?;
                    }
                    bench.shows(Served::AbortedList);
                    bench.shows(Served::Compressed(codec.number()));
                    bench.reach_end().await?;
                    bench.compare().await
                })
            });
        }
    }
    cells.add("K11", "k11.interleaved.raw", "the same into raw objects, where a value that is too many would show by its place", |bench| {
        Box::pin(async move {
            bench.settings.format = Settings::RAW;
            bench.topic(1);
            interleaved(bench, Codec::Lz4);
            bench.shows(Served::AbortedList);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add("K11", "k11.same-producer", "one producer aborts, commits, aborts: the list of aborted transactions has it twice", |bench| {
        Box::pin(async move {
            bench.topic(1);
            for commits in [false, true, false, true] {
                in_transaction(bench, 5, 40, Codec::None);
                in_transaction(bench, 5, 15, Codec::None);
                marker(bench, if commits { Origin::Commit(5) } else { Origin::Abort(5) });
            }
            bench.shows(Served::AbortedList);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add("K11", "k11.all-aborted", "a partition of aborted records alone: no object, and the group's offset passes them", |bench| {
        Box::pin(async move {
            bench.topic(2);
            for _ in 0..3 {
                in_transaction(bench, 1, 50, Codec::None);
                marker(bench, Origin::Abort(1));
            }
            bench.fill(1, 60);
            bench.shows(Served::AbortedList);
            bench.reach_end().await?;
            bench.await_committed().await?;
            bench.compare().await
        })
    });
}

fn edges(cells: &mut Cells) {
    for (id, origin) in [("commit", Origin::Commit(1)), ("abort", Origin::Abort(1))] {
        let what = "a marker is the last thing in the log: the group's offset ends behind it, and the lag is 0";
        cells.add("K11", format!("k11.marker-last.{id}"), what, move |bench| {
            Box::pin(async move {
                bench.filled(60);
                in_transaction(bench, 1, 30, Codec::None);
                marker(bench, origin);
                bench.shows(Served::MarkerLast);
                bench.reach_end().await?;
                bench.await_committed().await?;
                bench.compare().await
            })
        });
    }
    cells.add(
        "K11",
        "k11.marker-only-later",
        "markers alone arrive while the backup runs: the group's offset follows, no object is made",
        |bench| {
            Box::pin(async move {
                bench.filled(60);
                in_transaction(bench, 1, 30, Codec::None);
                marker(bench, Origin::Commit(1));
                bench.settings.until_end = false;
                let run = bench.start()?;
                bench.await_committed().await?;
                bench.shows(Served::MarkerLast);
                for producer in 2..5 {
                    in_transaction(bench, producer, 10, Codec::None);
                    marker(bench, Origin::Abort(producer));
                }
                bench.await_committed().await?;
                run.stop().await?;
                bench.compare().await
            })
        },
    );
    for again in [false, true] {
        let id = format!("k11.window-edge{}", if again { ".again" } else { "" });
        let what = "a transaction of 200 records that spans four windows, its marker in a fifth";
        cells.add("K11", id, what, move |bench| {
            Box::pin(async move {
                bench.filled(20);
                for _ in 0..8 {
                    in_transaction(bench, 3, 25, Codec::Snappy);
                }
                marker(bench, Origin::Commit(3));
                bench.fill(0, 40);
                if again {
                    bench.leave_pinned().await?;
                }
                bench.shows(Served::TransactionalBatch);
                bench.shows(Served::Marker);
                bench.reach_end().await?;
                bench.compare().await
            })
        });
    }
    cells.add("K11", "k11.start-inside-abort", "the rule starts inside an aborted transaction, behind its first record", |bench| {
        Box::pin(async move {
            bench.topic(1);
            in_transaction(bench, 1, 20, Codec::None);
            bench.fill(0, 30);
            in_transaction(bench, 1, 20, Codec::None);
            marker(bench, Origin::Abort(1));
            bench.fill(0, 60);
            bench.settings.start = "35".to_owned();
            bench.shows(Served::AbortedBefore);
            let mut expected = bench.expected();
            expected.without(0, 0, 35);
            bench.reach_end().await?;
            bench.compare_with(expected, &[]).await
        })
    });
    cells.add(
        "K11",
        "k11.many-fetches",
        "an aborted transaction of 600 records among committed ones, in many responses, each of which ends within a batch",
        |bench| {
            Box::pin(async move {
                bench.script(|c| c.cuts_batches = true);
                bench.settings.more = "budget = \"96MiB\"";
                bench.topic(1);
                for _ in 0..150 {
                    in_transaction(bench, 9, 4, Codec::None);
                    bench.fill(0, 2);
                }
                marker(bench, Origin::Abort(9));
                bench.shows(Served::AbortedList);
                bench.shows(Served::CutBatch);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add("K11", "k11.marker-compacted", "compaction has emptied the batches of an aborted transaction and kept its marker", |bench| {
        Box::pin(async move {
            bench.filled(30);
            in_transaction(bench, 1, 25, Codec::None);
            marker(bench, Origin::Abort(1));
            bench.fill(0, 30);
            bench.partition(0, |p| p.log.compact(|offset| !(30..55).contains(&offset)));
            bench.shows(Served::EmptyBatch);
            bench.shows(Served::AbortedList);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
}

fn hanging(cells: &mut Cells) {
    for (id, origin) in [("committed", Origin::Commit(1)), ("aborted", Origin::Abort(1))] {
        let what = format!("a transaction hangs: the run ends before it; then it is {id}, and the next run goes on from there");
        cells.add("K12", format!("k12.hanging-then-{id}"), what, move |bench| {
            Box::pin(async move {
                bench.filled(120);
                in_transaction(bench, 1, 20, Codec::None);
                bench.fill(0, 80);
                bench.shows(Served::OpenTransaction);
                bench.reach_end().await?;
                bench.compare().await?;
                bench.shows(Served::Marker);
                marker(bench, origin);
                bench.reach_end().await?;
                bench.compare().await
            })
        });
    }
    cells.add(
        "K12",
        "k12.released-while-running",
        "a backup that runs waits at a hanging transaction, and goes on when it ends",
        |bench| {
            Box::pin(async move {
                bench.filled(70);
                in_transaction(bench, 1, 30, Codec::None);
                bench.fill(0, 100);
                bench.settings.until_end = false;
                bench.shows(Served::OpenTransaction);
                let run = bench.start()?;
                bench.await_committed().await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
                bench.compare().await?;
                marker(bench, Origin::Commit(1));
                bench.await_committed().await?;
                run.stop().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K12",
        "k12.pinned-behind",
        "after a failover the readable end lies below a pinned window's end for a while: waited for, the same range",
        |bench| {
            Box::pin(async move {
                bench.filled(200);
                bench.leave_pinned().await?;
                bench.partition(0, |p| p.log.set_high_watermark(Some(20)));
                bench.shows(Served::LaggingEnd);
                let before = bench.script(|c| c.served(Served::LaggingEnd));
                // Looked at often enough while it is short, and not for as long as the engine waits for it.
                bench.settings.clock_factor = 4;
                bench.settings.until_end = false;
                let run = bench.start()?;
                bench.await_state("a short end, told twice", move |c| c.served(Served::LaggingEnd) >= before + 4).await?;
                bench.partition(0, |p| p.log.set_high_watermark(None));
                bench.await_committed().await?;
                run.stop().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K12",
        "k12.hanging-below-start",
        "nothing but a hanging transaction is left: the run ends at once, and nothing is stored twice",
        hanging_alone,
    );
}

fn hanging_alone(bench: &mut Bench) -> catchment::store::BoxFuture<'_, Check> {
    Box::pin(async move {
        bench.filled(60);
        bench.reach_end().await?;
        in_transaction(bench, 1, 20, Codec::None);
        bench.fill(0, 20);
        bench.shows(Served::OpenTransaction);
        bench.reach_end().await?;
        bench.reach_end().await?;
        bench.compare().await
    })
}
