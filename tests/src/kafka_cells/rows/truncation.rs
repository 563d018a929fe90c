//! K5: logs that were cut. The lane stops with the question that only an operator can answer, or waits and lists exactly what was lost; also where
//! nothing but invisible records lay before the group's offset, so that its leader epoch is not that of a record.

use catchment::config::Accept;

use crate::broker::batches::{Batch, Origin};
use crate::broker::faults::When;
use crate::broker::served::Served;
use crate::kafka_cells::bench::{Bench, TOPIC};
use crate::kafka_cells::data::batch;
use crate::kafka_cells::{Cells, Check};

pub(super) fn list(cells: &mut Cells) {
    truncation(cells);
    behind_markers(cells);
    cut_again(cells);
}

/// Cuts the log at an offset, and a new leader writes other records from there on. The broker must be seen to say where the old one's
/// end; or that there is less than the group has committed.
fn rewrite(bench: &mut Bench, at: i64, count: usize) {
    bench.partition(0, |p| {
        p.log.truncate(at);
        p.elect(1);
        rewritten(p, count);
    });
    bench.shows(if count == 0 { Served::ShortEnd } else { Served::EpochOver });
}

/// Records that no earlier log has had at these offsets.
fn rewritten(partition: &mut crate::broker::cluster::Partition, count: usize) {
    for _ in 0..count / 25 {
        let next = partition.log.end();
        partition.log.append(batch(0, 100_000 + next, 25));
    }
}

fn truncation(cells: &mut Cells) {
    cells.add("K5", "k5.short", "an unclean election cuts the log below what is stored: C0423, nothing is reset", |bench| {
        Box::pin(async move {
            bench.filled(300);
            let expected = bench.expected();
            bench.reach_end().await?;
            rewrite(bench, 200, 0);
            bench.expect_stop(423).await?;
            bench.compare_stopped_with(expected, 300).await
        })
    });
    for (id, accept) in [("accepted", true), ("continued", false)] {
        let what = "the same, and the operator says to wait: the log passes the old end, and the difference is a gap of the next object";
        cells.add("K5", format!("k5.short.{id}"), what, move |bench| {
            Box::pin(async move {
                bench.filled(300);
                let mut expected = bench.expected();
                bench.reach_end().await?;
                rewrite(bench, 200, 0);
                if accept {
                    bench.settings.accept = vec![Accept::Truncation];
                } else {
                    bench.settings.on_gap = "{ truncation = \"continue\" }";
                }
                bench.settings.until_end = false;
                let run = bench.start()?;
                bench.await_note("AwaitingLog").await?;
                bench.partition(0, |p| rewritten(p, 200));
                bench.await_committed().await?;
                run.stop().await?;
                expected.add(0, behind(bench, 300));
                bench.compare_below("", &expected).await?;
                bench.verify(&[(0, 200, 300, "truncation")]).await
            })
        });
    }
    cells.add(
        "K5",
        "k5.grown-again",
        "the log was cut and has grown past the old end while nothing ran: found by the leader's epoch, C0423",
        |bench| {
            Box::pin(async move {
                bench.filled(300);
                let expected = bench.expected();
                bench.reach_end().await?;
                rewrite(bench, 200, 300);
                bench.expect_stop(423).await?;
                bench.compare_stopped_with(expected, 300).await
            })
        },
    );
    cells.add(
        "K5",
        "k5.while-reading",
        "the log is cut above what is stored and written anew under the reader: only the new records are stored",
        |bench| {
            Box::pin(async move {
                bench.script(|c| c.batches_per_fetch = Some(1));
                // No window closes by its age while the reader is told of the cut.
                bench.settings.clock_factor = 2;
                bench.settings.window = "5s";
                bench.filled(400);
                bench.event(When::FetchFrom(300), |c| {
                    let partition = c.partition(TOPIC, 0);
                    partition.log.truncate(275);
                    partition.elect(1);
                    // As long as the old one: the run reads to the end that there was at its start.
                    rewritten(partition, 125);
                });
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K5",
        "k5.pinned",
        "the log is cut below a pinned window's end: C0423, the pin stays; the log comes back, and it is published",
        |bench| {
            Box::pin(async move {
                bench.filled(200);
                bench.leave_pinned().await?;
                bench.partition(0, |p| p.log.set_high_watermark(Some(25)));
                bench.shows(Served::LaggingEnd);
                bench.settings.until_end = false;
                bench.expect_stop(423).await?;
                bench.partition(0, |p| p.log.set_high_watermark(None));
                bench.settings.until_end = true;
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
}

/// What is visible from an offset on.
fn behind(bench: &Bench, offset: i64) -> Vec<crate::broker::log::Visible> {
    bench.partition(0, |p| p.log.visible().into_iter().filter(|v| v.offset >= offset).collect())
}

/// Backs up 300 records and an aborted transaction of 10 with its marker: the group's offset is 311, the last visible record lies at 299.
async fn backed_up_behind_a_marker(bench: &mut Bench) -> Check {
    bench.filled(300);
    bench.partition(0, |p| p.log.append(batch(0, 300, 10).in_transaction(7)));
    bench.append(0, Batch::marker(Origin::Abort(7)));
    bench.reach_end().await
}

fn behind_markers(cells: &mut Cells) {
    cells.add(
        "K5",
        "k5.behind-marker.later-epoch",
        "a later leader writes a marker behind the last record and the backup takes it in: no truncation at the next start",
        |bench| {
            Box::pin(async move {
                bench.filled(300);
                bench.partition(0, |p| p.elect(1));
                bench.partition(0, |p| p.log.append(batch(0, 300, 10).in_transaction(7)));
                bench.append(0, Batch::marker(Origin::Abort(7)));
                bench.reach_end().await?;
                bench.fill(0, 100);
                bench.shows(Served::EpochEnd);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K5",
        "k5.behind-marker.grown-again",
        "the log was cut below the last record before a marker and has grown past the group's offset: C0423",
        |bench| {
            Box::pin(async move {
                backed_up_behind_a_marker(bench).await?;
                let expected = bench.expected();
                rewrite(bench, 200, 300);
                bench.expect_stop(423).await?;
                bench.compare_stopped_with(expected, 311).await
            })
        },
    );
    cells.add(
        "K5",
        "k5.behind-marker.between",
        "the log was cut between the last record and the group's offset, and records stand there now: C0423",
        |bench| {
            Box::pin(async move {
                backed_up_behind_a_marker(bench).await?;
                let expected = bench.expected();
                rewrite(bench, 305, 100);
                bench.expect_stop(423).await?;
                bench.compare_stopped_with(expected, 311).await
            })
        },
    );
    cells.add(
        "K5",
        "k5.behind-marker.continued",
        "the same, and the rule says to go on: a gap from the last record to the group's offset",
        |bench| {
            Box::pin(async move {
                backed_up_behind_a_marker(bench).await?;
                let mut expected = bench.expected();
                rewrite(bench, 305, 100);
                bench.settings.on_gap = "{ truncation = \"continue\" }";
                bench.reach_end().await?;
                expected.add(0, behind(bench, 311));
                bench.compare_with(expected, &[(0, 300, 311, "truncation")]).await
            })
        },
    );
}

fn cut_again(cells: &mut Cells) {
    cells.add(
        "K5",
        "k5.cut-again",
        "cut a second time, deeper, before the log has passed the group's offset: the gap grows to what both cuts took",
        |bench| {
            Box::pin(async move {
                bench.filled(300);
                let mut expected = bench.expected();
                bench.reach_end().await?;
                bench.settings.on_gap = "{ truncation = \"continue\" }";
                bench.settings.until_end = false;
                rewrite(bench, 225, 25);
                let run = bench.start()?;
                bench.await_note("AwaitingLog").await?;
                run.stop().await?;
                rewrite(bench, 100, 300);
                bench.settings.until_end = true;
                bench.reach_end().await?;
                expected.add(0, behind(bench, 300));
                bench.compare_below("", &expected).await?;
                bench.verify(&[(0, 100, 250, "truncation"), (0, 250, 300, "truncation")]).await
            })
        },
    );
    cells.add(
        "K5",
        "k5.pinned.cut-below",
        "a window is pinned, and the log is cut below what was stored before it: the pinned window holds what Kafka has, the next object lists the rest",
        |bench| {
            Box::pin(async move {
                bench.filled(100);
                let mut expected = bench.expected();
                bench.reach_end().await?;
                bench.fill(0, 100);
                bench.leave_pinned().await?;
                rewrite(bench, 50, 300);
                bench.settings.on_gap = "{ truncation = \"continue\" }";
                bench.reach_end().await?;
                expected.add(0, behind(bench, 100));
                bench.compare_below("", &expected).await?;
                bench.verify(&[(0, 50, 100, "truncation")]).await
            })
        },
    );
}
