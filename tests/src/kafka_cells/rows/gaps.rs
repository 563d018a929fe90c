//! K6 to K9: logs that were expired, deleted or made anew. Either everything is there, or a typed gap of exactly what is not, or the lane
//! stops with the question that only an operator can answer.

use std::time::Duration;

use catchment::config::Accept;

use crate::broker::faults::{Act, Fault, When, is_pin};
use crate::broker::served::Served;
use crate::kafka_cells::bench::{Bench, TOPIC, fill};
use crate::kafka_cells::contents::Expected;
use crate::kafka_cells::data::batch;
use crate::kafka_cells::{Cells, Check};

pub(super) fn list(cells: &mut Cells) {
    retention(cells);
    lagging(cells);
    deletion(cells);
    recreation(cells);
}

/// Retention takes what lies below an offset; the broker must be seen to say so.
fn delete_before(bench: &mut Bench, offset: i64) {
    bench.partition(0, |p| p.log.delete_before(offset));
    bench.shows(Served::Expired);
}

fn retention(cells: &mut Cells) {
    cells.add("K6", "k6.while-away", "retention passes the group's offset while nothing runs: a gap of exactly what is gone", |bench| {
        Box::pin(async move {
            bench.filled(100);
            bench.reach_end().await?;
            bench.fill(0, 200);
            let expected = bench.expected();
            delete_before(bench, 180);
            bench.reach_end().await?;
            bench.compare_with(expected, &[(0, 100, 180, "retention")]).await
        })
    });
    cells.add("K6", "k6.while-away.halts", "the same, the rule says to halt: C0424; then it says to go on", |bench| {
        Box::pin(async move {
            bench.filled(100);
            bench.reach_end().await?;
            bench.fill(0, 200);
            let expected = bench.expected();
            delete_before(bench, 180);
            bench.settings.on_gap = "{ retention = \"halt\" }";
            bench.expect_stop(424).await?;
            bench.settings.on_gap = "{}";
            bench.reach_end().await?;
            bench.compare_with(expected, &[(0, 100, 180, "retention")]).await
        })
    });
    cells.add(
        "K6",
        "k6.everything",
        "retention empties the partition while nothing runs: a gap up to its end, an object without rows",
        |bench| {
            Box::pin(async move {
                bench.filled(100);
                bench.reach_end().await?;
                bench.fill(0, 100);
                let expected = bench.expected();
                delete_before(bench, 200);
                bench.append(0, batch(0, 200, 1));
                bench.reach_end().await?;
                let mut expected = expected;
                expected.add(0, bench.partition(0, |p| p.log.visible()));
                bench.compare_with(expected, &[(0, 100, 200, "retention")]).await
            })
        },
    );
    cells.add(
        "K6",
        "k6.while-reading",
        "retention overtakes the reader: what was read is stored, the gap begins where reading stopped",
        |bench| {
            Box::pin(async move {
                bench.script(|c| c.batches_per_fetch = Some(2));
                bench.filled(300);
                let expected = bench.expected();
                bench.event(When::FetchFrom(100), |c| c.partition(TOPIC, 0).log.delete_before(210));
                bench.reach_end().await?;
                bench.compare_with(expected, &[(0, 100, 210, "retention")]).await
            })
        },
    );
    cells.add("K6", "k6.again-and-again", "retention overtakes the reader three times in one run: three gaps", |bench| {
        Box::pin(async move {
            bench.script(|c| c.batches_per_fetch = Some(1));
            bench.filled(400);
            let expected = bench.expected();
            for (at, to) in [(75, 110), (150, 190), (300, 330)] {
                bench.event(When::FetchFrom(at), move |c| c.partition(TOPIC, 0).log.delete_before(to));
            }
            bench.reach_end().await?;
            let gaps = [(0, 75, 110, "retention"), (0, 150, 190, "retention"), (0, 300, 330, "retention")];
            bench.compare_with(expected, &gaps).await
        })
    });
    cells.add(
        "K6",
        "k6.pinned.in-part",
        "retention takes the beginning of a pinned window: what is left, under the same key, with the gap in it",
        |bench| {
            Box::pin(async move {
                bench.filled(200);
                let expected = bench.expected();
                bench.leave_pinned().await?;
                delete_before(bench, 30);
                bench.reach_end().await?;
                // Less than was pinned is pinned before it is published: who is not the lane's owner any more cannot.
                let less = "\"missing\":[[0,30,\"retention\"]]";
                if !bench.group(|g| g.offsets.history(TOPIC, 0).any(|c| is_pin(&c.metadata) && c.metadata.contains(less))) {
                    return Err("what is missing was published without a pin".to_owned());
                }
                bench.compare_with(expected, &[(0, 0, 30, "retention")]).await
            })
        },
    );
    cells.add(
        "K6",
        "k6.pinned.whole",
        "retention takes a pinned window and more: an object without rows under its key, the rest in the next gap",
        |bench| {
            Box::pin(async move {
                bench.filled(200);
                let expected = bench.expected();
                bench.leave_pinned().await?;
                delete_before(bench, 120);
                bench.reach_end().await?;
                bench.compare_with(expected, &[(0, 0, 50, "retention"), (0, 50, 120, "retention")]).await
            })
        },
    );
}

fn lagging(cells: &mut Cells) {
    cells.add(
        "K7",
        "k7.start-behind-the-end",
        "a start behind the partition's end: C0429, no claim is left; another start works",
        |bench| {
            Box::pin(async move {
                bench.filled(100);
                bench.settings.start = "1000".to_owned();
                bench.shows(Served::End);
                bench.expect_stop(429).await?;
                bench.settings.start = "earliest".to_owned();
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add("K7", "k7.lagging-end", "a new leader's high watermark lies below the group's offset for a while: waited for", |bench| {
        Box::pin(async move {
            bench.filled(200);
            bench.reach_end().await?;
            bench.fill(0, 100);
            bench.partition(0, |p| p.log.set_high_watermark(Some(150)));
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
    });
    cells.add(
        "K7",
        "k7.out-of-range-once",
        "OFFSET_OUT_OF_RANGE for an offset that is there, once: recovered from the group, no gap",
        |bench| {
            Box::pin(async move {
                bench.script(|c| c.batches_per_fetch = Some(2));
                bench.filled(300);
                bench.fault(Fault::once(When::FetchFrom(150), Act::Code(crate::broker::cluster::code::OFFSET_OUT_OF_RANGE)));
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
}

fn deletion(cells: &mut Cells) {
    cells.add(
        "K8",
        "k8.while-reading",
        "the topic is deleted under the reader: the lane says so or loses its partition, nothing spins or crashes, what was stored is sound",
        |bench| {
            Box::pin(async move {
                bench.filled(300);
                let expected = bench.expected();
                bench.settings.until_end = false;
                let run = bench.start()?;
                bench.await_committed().await?;
                bench.script(|c| c.topics.remove(TOPIC));
                bench.shows(Served::UnknownTopic);
                // The watch of topics is told twice, 5 s apart; the group's client looks at its subscription every 10 s, and gives the partition back.
                // Which of them is first is chance, and who has nothing to subscribe to need not join again.
                bench.await_note_or_no_lane("Gone").await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
                run.stop_or_fail(222).await?;
                bench.compare_with(expected, &[]).await
            })
        },
    );
    cells.add("K8", "k8.while-away", "the topic is deleted while nothing runs: C0203 at the start, what was stored is sound", |bench| {
        Box::pin(async move {
            bench.filled(120);
            let expected = bench.expected();
            bench.reach_end().await?;
            bench.script(|c| c.topics.remove(TOPIC));
            bench.shows(Served::UnknownTopic);
            bench.expect_stop(203).await?;
            bench.compare_with(expected, &[]).await
        })
    });
    cells.add("K8", "k8.hiccup", "no broker knows the topic for half a second while it is read: nothing is given up", |bench| {
        Box::pin(async move {
            bench.script(|c| c.batches_per_fetch = Some(1));
            // A topic counts as deleted after a minute of this clock.
            bench.settings.clock_factor = 4;
            bench.filled(300);
            bench.event(When::FetchFrom(150), |c| {
                let topic = c.topics.remove(TOPIC).expect("the topic is there");
                c.later(Duration::from_millis(500), move |c| drop(c.topics.insert(TOPIC.to_owned(), topic)));
            });
            bench.reach_end().await?;
            bench.compare().await
        })
    });
}

/// Deletes the topic and makes it anew with other records; the broker must be seen to name another UUID, if it has any.
fn recreate(bench: &mut Bench, count: usize) {
    let has_ids = bench.script(|c| {
        c.make_topic(TOPIC, 1);
        fill(c.partition(TOPIC, 0), 7, count);
        !c.without_topic_ids
    });
    bench.shows(if has_ids { Served::NewTopicId } else { Served::NoTopicId });
}

/// The directory of the topic's later incarnation.
fn later_directory(bench: &Bench) -> String {
    let id = bench.script(|c| c.topics[TOPIC].id.simple().to_string());
    format!("{TOPIC}~{}/", &id[..8])
}

/// What the new incarnation's directory must hold: the records that [`recreate`] wrote, in partition 0.
async fn compare_both(bench: &mut Bench, old: &Expected, gaps: &[(i32, i64, i64, &str)]) -> Check {
    bench.compare_below(&format!("{TOPIC}/"), old).await?;
    let (later, new) = (later_directory(bench), bench.expected());
    bench.compare_below(&later, &new).await?;
    bench.verify(gaps).await
}

fn recreation(cells: &mut Cells) {
    cells.add(
        "K9",
        "k9.while-away",
        "the topic was made anew: C0421; accepted, the new one goes into a directory of its own, from its beginning",
        |bench| {
            Box::pin(async move {
                bench.filled(120);
                let old = bench.expected();
                bench.reach_end().await?;
                recreate(bench, 300);
                bench.expect_stop(421).await?;
                bench.settings.accept = vec![Accept::TopicRecreated];
                bench.reach_end().await?;
                compare_both(bench, &old, &[]).await
            })
        },
    );
    cells.add(
        "K9",
        "k9.while-reading",
        "the topic is made anew under the reader, longer than the old one: C0421, no record of the new one among the old",
        |bench| {
            Box::pin(async move {
                bench.filled(300);
                let old = bench.expected();
                bench.settings.until_end = false;
                let run = bench.start()?;
                bench.await_committed().await?;
                recreate(bench, 600);
                run.must_fail(421).await?;
                bench.compare_stopped_with(old, 300).await
            })
        },
    );
    cells.add(
        "K9",
        "k9.pinned",
        "the topic is made anew with a window pinned: its records are lost, and the new incarnation's first object says so",
        |bench| {
            Box::pin(async move {
                bench.filled(120);
                bench.leave_pinned().await?;
                recreate(bench, 200);
                bench.settings.accept = vec![Accept::TopicRecreated];
                bench.reach_end().await?;
                compare_both(bench, &Expected::default(), &[(0, 0, 50, "topic_recreated")]).await
            })
        },
    );
    cells.add(
        "K9",
        "k9.without-ids",
        "a broker without topic UUIDs; the new topic is shorter than the old one was: asked about as a cut log, C0423",
        |bench| {
            Box::pin(async move {
                bench.script(|c| c.without_topic_ids = true);
                bench.filled(200);
                let old = bench.expected();
                bench.reach_end().await?;
                recreate(bench, 100);
                bench.expect_stop(423).await?;
                bench.compare_stopped_with(old, 200).await
            })
        },
    );
    cells.add("K9", "k9.ids-appear", "a cluster is upgraded and its topics get UUIDs: the same topic, nothing is asked", |bench| {
        Box::pin(async move {
            bench.script(|c| c.without_topic_ids = true);
            bench.filled(120);
            bench.reach_end().await?;
            bench.script(|c| {
                c.topics.get_mut(TOPIC).expect("the topic").id = uuid::Uuid::from_u128(0x1234_5678_9abc_4def_8012_3456_789a_bcde)
            });
            bench.fill(0, 100);
            bench.shows(Served::NewTopicId);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
}
