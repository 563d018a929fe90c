//! K13 and K14: producers that send again, and that send late.
//!
//! Neither is seen by whoever reads: a producer with idempotence has what it repeats refused by the broker, and what a late request leaves behind is in the log
//! like everything else. So what these cells hold to is that every offset counts, whatever stands there: equal records are as many as there are offsets, and
//! what the broker serves as committed is stored, though it was sent for a transaction that was aborted.

use crate::broker::batches::{Batch, Origin};
use crate::broker::codecs::Codec;
use crate::broker::log::Visible;
use crate::broker::served::Served;
use crate::kafka_cells::bench::{Bench, Settings};
use crate::kafka_cells::data::batch;
use crate::kafka_cells::{Cells, Check};

pub(super) fn list(cells: &mut Cells) {
    repeats(cells);
    late(cells);
}

/// A producer without idempotence that has not heard of its success sends the same batch again, and again: three times the same 20 records, with others between.
fn repeated(bench: &Bench, codec: Codec) {
    bench.fill(0, 30);
    for _ in 0..3 {
        bench.append(0, batch(0, 1_000, 20).with_codec(codec));
        bench.fill(0, 10);
    }
    // At once, in one batch: two equal records side by side.
    let twice = batch(0, 2_000, 1).records.into_iter().flatten().flat_map(|record| [record.clone(), record]);
    bench.append(0, Batch::of(twice.collect()));
}

/// Fails unless the log shows the same 20 records three times and one twice.
fn saw_repeats(bench: &mut Bench) -> Check {
    let visible: Vec<Visible> = bench.partition(0, |p| p.log.visible());
    let repeated = visible.iter().filter(|v| visible.iter().any(|other| other.offset != v.offset && other.record == v.record)).count();
    bench.saw("62 records have an equal one at another offset", repeated == 62)
}

fn repeats(cells: &mut Cells) {
    for (id, format) in [("parquet", "{ kind = \"parquet\" }"), ("raw", Settings::RAW)] {
        for again in [false, true] {
            let id = format!("k13.{id}{}", if again { ".again" } else { "" });
            let read = if again { "read again for a pinned window" } else { "read" };
            let what = format!("a producer without idempotence sends the same again, {read}: each offset is stored once, equal ones too");
            cells.add("K13", id, what, move |bench| {
                Box::pin(async move {
                    bench.settings.format = format;
                    bench.topic(1);
                    repeated(bench, Codec::None);
                    saw_repeats(bench)?;
                    if again {
                        bench.leave_pinned().await?;
                    }
                    bench.reach_end().await?;
                    bench.compare().await
                })
            });
        }
    }
    cells.add("K13", "k13.compressed", "the same in batches whose bytes are equal but for their offsets, compressed", |bench| {
        Box::pin(async move {
            bench.topic(1);
            repeated(bench, Codec::Zstd);
            saw_repeats(bench)?;
            bench.shows(Served::Compressed(Codec::Zstd.number()));
            bench.reach_end().await?;
            bench.compare().await
        })
    });
}

fn late(cells: &mut Cells) {
    cells.add(
        "K14",
        "k14.late-joins-next",
        "a request of an aborted transaction comes late and joins the producer's next one, which commits (KIP-890): stored with it",
        |bench| {
            Box::pin(async move {
                bench.filled(40);
                of_producer(bench, 15);
                bench.append(0, Batch::marker(Origin::Abort(9)));
                // The late one, and then those that the producer means to commit.
                let late = of_producer(bench, 5);
                of_producer(bench, 10);
                bench.append(0, Batch::marker(Origin::Commit(9)));
                let shown = bench.partition(0, |p| p.log.visible().iter().any(|v| v.offset == late));
                bench.saw("the late records are served as committed", shown)?;
                bench.shows(Served::AbortedList);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    for (id, origin) in [("committed", Origin::Commit(9)), ("aborted", Origin::Abort(9))] {
        let what =
            format!("a request of a committed transaction comes late and opens one that nobody knows of: waited for, until it is {id}");
        cells.add("K14", format!("k14.late-hangs.{id}"), what, move |bench| {
            Box::pin(async move {
                bench.filled(40);
                of_producer(bench, 15);
                bench.append(0, Batch::marker(Origin::Commit(9)));
                of_producer(bench, 5);
                bench.fill(0, 30);
                bench.shows(Served::OpenTransaction);
                bench.reach_end().await?;
                bench.compare().await?;
                bench.append(0, Batch::marker(origin));
                bench.shows(Served::Marker);
                bench.reach_end().await?;
                bench.compare().await
            })
        });
    }
    cells.add(
        "K14",
        "k14.second-abort",
        "the abort of a zombie's transaction is written twice, the second time into the next one: what is aborted is not stored",
        |bench| {
            Box::pin(async move {
                bench.filled(20);
                of_producer(bench, 15);
                bench.append(0, Batch::marker(Origin::Abort(9)));
                of_producer(bench, 10);
                bench.append(0, Batch::marker(Origin::Abort(9)));
                of_producer(bench, 10);
                bench.append(0, Batch::marker(Origin::Commit(9)));
                bench.fill(0, 20);
                bench.shows(Served::AbortedList);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
}

/// Appends so many records of producer 9 to its transaction, which begins with them if it has none, and returns the first offset.
fn of_producer(bench: &Bench, count: usize) -> i64 {
    bench.partition(0, |p| {
        let next = p.log.end();
        p.log.append(batch(0, next, count).in_transaction(9))
    })
}
