//! K19: commits that are refused, lost, late or foreign; and what the group remembers wrongly.

use std::sync::Arc;
use std::time::Duration;

use catchment::config::Accept;
use catchment::limits::PIN_AGE_MAX;
use kafka_protocol::messages::ApiKey;

use crate::broker::cluster::{Cluster, code};
use crate::broker::faults::{Act, Fault, When};
use crate::broker::offsets::Commit;
use crate::broker::served::Served;
use crate::kafka_cells::Cells;
use crate::kafka_cells::bench::{GROUP, TOPIC};

/// What an error code on a commit must lead to.
#[derive(Clone, Copy)]
enum Must {
    /// The run goes on and reaches its end.
    GoOn,
    /// The run stops with this code; the next one reaches the end.
    Stop(u16),
}

/// A refusal that the committer cannot mend.
const REFUSED: u16 = 403;

const CODES: [(&str, i16, Must); 18] = [
    ("rebalance-in-progress", code::REBALANCE_IN_PROGRESS, Must::GoOn),
    ("coordinator-load-in-progress", code::COORDINATOR_LOAD_IN_PROGRESS, Must::GoOn),
    ("coordinator-not-available", code::COORDINATOR_NOT_AVAILABLE, Must::GoOn),
    ("not-coordinator", code::NOT_COORDINATOR, Must::GoOn),
    ("request-timed-out", 7, Must::GoOn),
    ("illegal-generation", code::ILLEGAL_GENERATION, Must::GoOn),
    ("unknown-member-id", code::UNKNOWN_MEMBER_ID, Must::GoOn),
    ("stale-member-epoch", code::STALE_MEMBER_EPOCH, Must::GoOn),
    ("fenced-instance-id", code::FENCED_INSTANCE_ID, Must::Stop(205)),
    ("metadata-too-large", code::OFFSET_METADATA_TOO_LARGE, Must::Stop(REFUSED)),
    ("invalid-commit-offset-size", code::INVALID_COMMIT_OFFSET_SIZE, Must::Stop(REFUSED)),
    ("group-authorization-failed", code::GROUP_AUTHORIZATION_FAILED, Must::Stop(REFUSED)),
    ("topic-authorization-failed", code::TOPIC_AUTHORIZATION_FAILED, Must::Stop(REFUSED)),
    ("unknown-topic", code::UNKNOWN_TOPIC_OR_PARTITION, Must::GoOn),
    ("invalid-group-id", code::INVALID_GROUP_ID, Must::Stop(REFUSED)),
    ("unknown-server-error", -1, Must::Stop(REFUSED)),
    ("network-exception", 13, Must::GoOn),
    ("code-of-the-future", 1_234, Must::Stop(REFUSED)),
];

pub(super) fn list(cells: &mut Cells) {
    for (name, error, must) in CODES {
        for (step, when) in [("pin", When::Pin), ("tidy", When::Tidy)] {
            let becomes = match must {
                Must::GoOn => "the run goes on and repeats it, or recovers".to_owned(),
                Must::Stop(code) => format!("the run stops with C0{code}, and the next one goes on"),
            };
            cells.add("K19", format!("k19.{step}.{name}"), format!("a {step} is refused with {name} ({error}): {becomes}"), move |bench| {
                Box::pin(async move {
                    bench.filled(250);
                    bench.fault(Fault::once(when, Act::Code(error)).after(1));
                    match must {
                        Must::GoOn => {}
                        Must::Stop(code) => bench.expect_stop(code).await?,
                    }
                    bench.reach_end().await?;
                    bench.await_committed().await?;
                    bench.compare().await
                })
            });
        }
    }
    fates(cells);
    memory(cells);
    old_pins(cells);
    fetches(cells);
}

/// Commits whose fate the client does not learn.
fn fates(cells: &mut Cells) {
    for (step, when) in [("start", When::Start), ("pin", When::Pin), ("tidy", When::Tidy)] {
        let skip = u32::from(step != "start");
        for (id, what, act) in [
            ("cut-before", "the connection breaks before it takes effect", Act::Cut),
            ("cut-after", "it takes effect, and the connection breaks", Act::DoneAndCut),
            ("silence", "it is never answered and has no effect", Act::Silence),
            ("done-in-silence", "it takes effect and is never answered", Act::DoneInSilence),
            ("done-but-timed-out", "it takes effect and is answered with REQUEST_TIMED_OUT", Act::DoneBut(7)),
            ("late", "it is answered after two seconds", Act::AnswerLate(Duration::from_secs(2))),
            ("applied-late", "it takes effect after two seconds", Act::Delay(Duration::from_secs(2))),
        ] {
            cells.add("K19", format!("k19.{step}.{id}"), format!("a {step}: {what}; the same commit again, nothing twice"), move |bench| {
                let act = act.clone();
                Box::pin(async move {
                    bench.filled(250);
                    bench.fault(Fault::once(when, act).after(skip));
                    bench.reach_end().await?;
                    bench.await_committed().await?;
                    bench.compare().await
                })
            });
        }
    }
}

/// What the group knows is not what was committed.
fn memory(cells: &mut Cells) {
    for (id, commits, what) in [("one", 1, "the last commit"), ("window", 2, "the last pin and tidy"), ("many", 5, "several windows")] {
        let what = format!("the coordinator forgets {what} at a failover: what is stored is found by its key, nothing is stored twice");
        cells.add("K19", format!("k19.gone-back.{id}"), what, move |bench| {
            Box::pin(async move {
                bench.filled(250);
                bench.reach_end().await?;
                bench.group(|g| g.offsets.go_back(TOPIC, 0, commits));
                bench.shows(Served::OldOffset);
                bench.fill(0, 100);
                bench.reach_end().await?;
                bench.compare().await
            })
        });
    }
    cells.add(
        "K19",
        "k19.gone-back.pinned",
        "the coordinator forgets a pin whose window the store never took: read and pinned anew",
        |bench| {
            Box::pin(async move {
                bench.filled(250);
                bench.leave_pinned().await?;
                bench.group(|g| g.offsets.go_back(TOPIC, 0, 1));
                bench.shows(Served::OldOffset);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K19",
        "k19.forgotten",
        "the group has lost all offsets: the lane goes on from its anchor by the objects that are there",
        |bench| {
            Box::pin(async move {
                bench.filled(250);
                bench.reach_end().await?;
                bench.script(|c| c.groups.forget(GROUP));
                bench.shows(Served::OldOffset);
                bench.fill(0, 100);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    for (id, offset) in [("backward", 60), ("forward", 300)] {
        let what = format!("somebody resets the group's offset {id}: C0420; accepted, the lane goes on from what is stored");
        cells.add("K19", format!("k19.foreign.{id}"), what, move |bench| {
            Box::pin(async move {
                bench.filled(250);
                bench.reach_end().await?;
                let foreign = Commit { offset, leader_epoch: -1, metadata: String::new() };
                bench.group(|g| g.offsets.set(TOPIC, 0, foreign, std::time::Instant::now()));
                bench.shows(Served::BareOffset);
                bench.fill(0, 100);
                bench.expect_stop(420).await?;
                bench.settings.accept = vec![Accept::ForeignCommit];
                bench.reach_end().await?;
                bench.compare().await
            })
        });
    }
    cells.add(
        "K19",
        "k19.metadata-stripped",
        "something between drops the metadata of commits: C0402 at the first one, nothing is stored",
        |bench| {
            Box::pin(async move {
                bench.filled(250);
                bench.script(|c| c.groups.strips_metadata = true);
                bench.shows(Served::BareOffset);
                bench.expect_stop(402).await?;
                bench.script(|c| {
                    c.groups.strips_metadata = false;
                    c.groups.forget(GROUP);
                });
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K19",
        "k19.metadata-limit",
        "the broker takes 150 bytes of metadata, too few for a pin: C0403; raised, the next run stores everything",
        |bench| {
            Box::pin(async move {
                bench.filled(250);
                bench.script(|c| c.groups.metadata_bytes_max = 150);
                bench.shows(Served::CommitRefused(code::OFFSET_METADATA_TOO_LARGE));
                bench.expect_stop(REFUSED).await?;
                bench.script(|c| c.groups.metadata_bytes_max = 4096);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K19",
        "k19.late",
        "commits are answered at once and there much later; a member that comes meanwhile sees the old ones",
        |bench| {
            Box::pin(async move {
                bench.filled(250);
                bench.event(When::Pin, |c| c.groups.commits_late_by = Duration::from_secs(3_600));
                bench.reach_end().await?;
                bench.script(|c| c.groups.commits_late_by = Duration::ZERO);
                bench.fill(0, 100);
                bench.shows(Served::OldOffset);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
}

/// Pins that are older than a request may be when it is sent.
fn old_pins(cells: &mut Cells) {
    cells.add("K19", "k19.pin-again", "the store is away for minutes: the window is pinned again before it is sent once more", |bench| {
        Box::pin(async move {
            bench.filled(150);
            bench.store.hold(true);
            let run = bench.start()?;
            let pinned_at = |c: &Commit| serde_json::from_str::<serde_json::Value>(&c.metadata).ok()?.get("at")?.as_i64();
            let is_pinned_again = move |c: &mut Cluster| {
                let at: Vec<i64> = c.groups.group(GROUP).offsets.history(TOPIC, 0).filter_map(pinned_at).collect();
                at.last().zip(at.first()).is_some_and(|(last, first)| last - first > 60_000)
            };
            // A request is sent within a minute of its pin: who sends one that much later has not pinned again and will not.
            let (store, long) = (Arc::clone(&bench.store), 4 * PIN_AGE_MAX / bench.settings.clock_factor);
            bench.await_state("pinned again or sent long after", |c| is_pinned_again(c) || store.refused_for() > long).await?;
            let again = bench.script(is_pinned_again);
            bench.saw("the window was pinned again", again)?;
            bench.store.hold(false);
            bench.await_committed().await?;
            run.stop().await?;
            bench.compare().await
        })
    });
    cells.add(
        "K19",
        "k19.pin-again.refused",
        "the same, and the name has another owner meanwhile: the window that was pinned long ago is not sent any more",
        |bench| {
            Box::pin(async move {
                bench.filled(150);
                bench.store.hold(true);
                let run = bench.start()?;
                bench.await_pin().await?;
                bench.fault(Fault::always(When::Every(ApiKey::OffsetCommit), Act::Code(code::FENCED_INSTANCE_ID)));
                run.must_fail(205).await?;
                bench.store.hold(false);
                bench.script(|c| c.end_faults());
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
}

/// OffsetFetch at a lane's start.
fn fetches(cells: &mut Cells) {
    for (name, error) in [
        ("unstable-offset-commit", code::UNSTABLE_OFFSET_COMMIT),
        ("coordinator-load-in-progress", code::COORDINATOR_LOAD_IN_PROGRESS),
        ("not-coordinator", code::NOT_COORDINATOR),
        ("coordinator-not-available", code::COORDINATOR_NOT_AVAILABLE),
        ("request-timed-out", 7),
    ] {
        let what = format!("the group's offset cannot be had yet ({name}): asked again, never taken for none");
        cells.add("K19", format!("k19.fetch.{name}"), what, move |bench| {
            Box::pin(async move {
                bench.filled(150);
                bench.reach_end().await?;
                bench.fill(0, 100);
                bench.fault(Fault::times(When::Every(ApiKey::OffsetFetch), Act::Code(error), 3));
                bench.reach_end().await?;
                bench.compare().await
            })
        });
    }
    cells.add(
        "K19",
        "k19.fetch.denied",
        "the group's offset may not be read: stopped, never taken for none; permitted, the next run goes on",
        |bench| {
            Box::pin(async move {
                bench.filled(150);
                bench.reach_end().await?;
                bench.fill(0, 100);
                bench.fault(Fault::always(When::Every(ApiKey::OffsetFetch), Act::Code(code::GROUP_AUTHORIZATION_FAILED)));
                bench.expect_stop(204).await?;
                bench.script(|c| c.end_faults());
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
}
