//! K15: batches that are not what they should be. Passing damage costs a second reading; lasting damage stops the lane, or is a gap of exactly
//! the batch where the rule says so.

use crate::broker::batches::{Batch, Damage, Record};
use crate::broker::codecs::Codec;
use crate::broker::served::Served;
use crate::kafka_cells::Cells;
use crate::kafka_cells::bench::Bench;
use crate::kafka_cells::data::{batch, record};

/// Lasting: more often than anything reads.
const ALWAYS: u32 = u32::MAX;

/// A corrupt batch halts the lane by default.
const HALTED: u16 = 428;

/// The pipeline's clock where the lane halts at once: no window closes by its age before that.
const SLOW_CLOCK: u32 = 1;

const CONTINUE: &str = "{ corrupt_batch = \"continue\" }";

/// The client says nothing of what it cannot read, and nothing arrives: where the damage ends is not known, so no gap can be listed.
const SILENT: u16 = 432;

/// What is committed when the lane halts at once: the window that was open before the batch is dropped with the lane.
const WINDOWS_BEFORE: i64 = 50;

/// The same where the lane waits in silence first: the windows before the batch close by their age meanwhile.
const ALL_BEFORE: i64 = 100;

/// The same where the first half of the batch can be read.
const HALF_OF_IT: i64 = 112;

/// Kinds of damage, with the codec of the damaged batch; the code with which the lane halts, and whether the rule can have it go on.
const KINDS: [(&str, Damage, Codec, u16, bool); 13] = [
    ("bit", Damage::Bit, Codec::None, HALTED, true),
    ("checksum", Damage::Checksum, Codec::None, HALTED, true),
    ("magic", Damage::Magic(3), Codec::None, HALTED, false),
    ("unknown-codec", Damage::UnknownCodec, Codec::None, HALTED, true),
    ("noise-gzip", Damage::Noise, Codec::Gzip, HALTED, true),
    ("noise-snappy", Damage::Noise, Codec::Snappy, HALTED, true),
    ("noise-lz4", Damage::Noise, Codec::Lz4, HALTED, true),
    ("noise-zstd", Damage::Noise, Codec::Zstd, HALTED, true),
    ("record-length", Damage::RecordLength, Codec::None, SILENT, false),
    ("batch-short", Damage::BatchLength(-20), Codec::None, HALTED, true),
    ("batch-long", Damage::BatchLength(20), Codec::None, HALTED, true),
    ("batch-huge", Damage::BatchLength(1 << 20), Codec::None, SILENT, false),
    ("bomb", Damage::Bomb, Codec::Zstd, HALTED, true),
];

/// What is committed when the lane has halted with this code.
fn committed(kind: Damage, code: u16) -> i64 {
    match (kind, code) {
        (Damage::RecordLength, _) => HALF_OF_IT,
        (_, SILENT) => ALL_BEFORE,
        _ => WINDOWS_BEFORE,
    }
}

/// Ten batches of 25 records.
fn ten_batches(bench: &Bench, codec: Codec) {
    bench.topic(1);
    for n in 0..10 {
        bench.append(0, batch(0, n * 25, 25).with_codec(codec));
    }
}

/// Damages the batch at an offset; it must be seen to be served so.
fn damage(bench: &mut Bench, at: i64, damage: Damage, times: u32) {
    bench.partition(0, |p| p.log.damage(at, damage, times));
    bench.shows(Served::DamagedBatch);
}

/// The replica is restored.
fn mend(bench: &Bench, at: i64) {
    bench.partition(0, |p| p.log.damage(at, Damage::Bit, 0));
}

pub(super) fn list(cells: &mut Cells) {
    for (id, kind, codec, code, can_go_on) in KINDS {
        let what = format!("{kind:?} ({}) in the fifth batch, served once: the batch is read again, nothing is skipped", codec.name());
        cells.add("K15", format!("k15.{id}.passes"), what, move |bench| {
            Box::pin(async move {
                ten_batches(bench, codec);
                damage(bench, 110, kind, 1);
                bench.reach_end().await?;
                bench.compare().await
            })
        });
        let what = format!(
            "{kind:?} ({}) in the fifth batch for good: the lane halts with C0{code}, the windows that closed before are stored",
            codec.name()
        );
        cells.add("K15", format!("k15.{id}.halts"), what, move |bench| {
            Box::pin(async move {
                ten_batches(bench, codec);
                damage(bench, 110, kind, ALWAYS);
                if code == HALTED {
                    bench.settings.clock_factor = SLOW_CLOCK;
                }
                bench.expect_stop(code).await?;
                bench.compare_stopped(committed(kind, code)).await
            })
        });
        let becomes = if can_go_on { "a gap of exactly that batch" } else { "its end cannot be found, so the lane halts all the same" };
        let what = format!("{kind:?} ({}) in the fifth batch for good, the rule says to go on: {becomes}", codec.name());
        cells.add("K15", format!("k15.{id}.continues"), what, move |bench| {
            Box::pin(async move {
                ten_batches(bench, codec);
                damage(bench, 110, kind, ALWAYS);
                bench.settings.on_gap = CONTINUE;
                if !can_go_on {
                    bench.expect_stop(SILENT).await?;
                    return bench.compare_stopped(committed(kind, SILENT)).await;
                }
                bench.reach_end().await?;
                let expected = bench.expected();
                bench.compare_with(expected, &[(0, 100, 125, "corrupt_batch")]).await
            })
        });
    }
    places(cells);
    pinned(cells);
    unfolding(cells);
}

/// Batches that are sound, and become a thousand times what they were.
fn unfolding(cells: &mut Cells) {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let what = format!("a sound batch of a few KiB, {}, whose one record has 24 MiB: stored as it is", codec.name());
        cells.add("K15", format!("k15.unfolds.{}", codec.name()), what, move |bench| {
            Box::pin(async move {
                bench.filled(50);
                let large = Record { value: Some(vec![0; 24 << 20]), ..record(0, 50) };
                let folded = Batch::of(vec![large]).with_codec(codec);
                let bytes = folded.encode(50, 0).len();
                bench.append(0, folded);
                bench.fill(0, 50);
                bench.shows(Served::Compressed(codec.number()));
                bench.saw("the batch is small", bytes < 32 << 10)?;
                bench.reach_end().await?;
                bench.compare().await
            })
        });
    }
}

fn places(cells: &mut Cells) {
    for (id, at, gap, what) in
        [("first", 10, (0, 25), "the first batch of the log"), ("last", 240, (225, 250), "the last batch of the log")]
    {
        let what = format!("{what} is corrupt for good, the rule says to go on: a gap of exactly that batch");
        cells.add("K15", format!("k15.place.{id}"), what, move |bench| {
            Box::pin(async move {
                ten_batches(bench, Codec::None);
                damage(bench, at, Damage::Bit, ALWAYS);
                bench.settings.on_gap = CONTINUE;
                bench.reach_end().await?;
                let expected = bench.expected();
                bench.compare_with(expected, &[(0, gap.0, gap.1, "corrupt_batch")]).await
            })
        });
    }
    cells.add("K15", "k15.place.two", "two corrupt batches, far apart, the rule says to go on: two gaps", |bench| {
        Box::pin(async move {
            ten_batches(bench, Codec::None);
            damage(bench, 60, Damage::Bit, ALWAYS);
            damage(bench, 210, Damage::Checksum, ALWAYS);
            bench.settings.on_gap = CONTINUE;
            bench.reach_end().await?;
            let expected = bench.expected();
            bench.compare_with(expected, &[(0, 50, 75, "corrupt_batch"), (0, 200, 225, "corrupt_batch")]).await
        })
    });
    cells.add(
        "K15",
        "k15.mended",
        "a corrupt batch halts the lane; the replica is restored, and the next run stores everything",
        |bench| {
            Box::pin(async move {
                ten_batches(bench, Codec::Gzip);
                damage(bench, 110, Damage::Bit, ALWAYS);
                bench.expect_stop(HALTED).await?;
                mend(bench, 110);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K15",
        "k15.old-format",
        "a message of format 1 with a wrong checksum, from a broker before 2.7: halted, never skipped",
        |bench| {
            Box::pin(async move {
                bench.script(|c| c.fetch_version_max = Some(11));
                bench.topic(1);
                for n in 0..10 {
                    bench.append(0, batch(0, n * 25, 25).with_magic(1).with_codec(Codec::Gzip));
                }
                damage(bench, 110, Damage::Checksum, ALWAYS);
                bench.settings.clock_factor = SLOW_CLOCK;
                bench.expect_stop(HALTED).await?;
                bench.compare_stopped(WINDOWS_BEFORE).await
            })
        },
    );
}

/// The batch lies in the range of a window that is pinned.
fn pinned(cells: &mut Cells) {
    cells.add("K15", "k15.pinned.halts", "a batch of a pinned window is corrupt when it is read again: halted, the pin stays", |bench| {
        Box::pin(async move {
            ten_batches(bench, Codec::None);
            bench.leave_pinned().await?;
            damage(bench, 30, Damage::Bit, ALWAYS);
            bench.expect_stop(HALTED).await?;
            mend(bench, 30);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add("K15", "k15.pinned.continues", "the same, the rule says to go on: the pinned object lists exactly that batch", |bench| {
        Box::pin(async move {
            ten_batches(bench, Codec::None);
            bench.leave_pinned().await?;
            damage(bench, 30, Damage::Bit, ALWAYS);
            bench.settings.on_gap = CONTINUE;
            bench.reach_end().await?;
            let expected = bench.expected();
            bench.compare_with(expected, &[(0, 25, 50, "corrupt_batch")]).await
        })
    });
    cells.add("K15", "k15.pinned.passes", "a batch of a pinned window is damaged on its way once: read again, the same bytes", |bench| {
        Box::pin(async move {
            ten_batches(bench, Codec::None);
            bench.leave_pinned().await?;
            damage(bench, 30, Damage::Bit, 1);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
}
