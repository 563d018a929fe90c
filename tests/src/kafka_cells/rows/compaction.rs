//! K10: what compaction leaves: holes, emptied batches, tombstones.

use crate::broker::batches::{Batch, Record};
use crate::broker::codecs::Codec;
use crate::broker::served::Served;
use crate::kafka_cells::Cells;
use crate::kafka_cells::bench::Settings;
use crate::kafka_cells::data::{batch, record};

/// Which records of a batch of 25 are kept.
#[derive(Clone, Copy)]
enum Kept {
    Even,
    NoTail,
    NoHead,
    Middle,
}

impl Kept {
    fn keeps(self, place: usize) -> bool {
        match self {
            Self::Even => place.is_multiple_of(2),
            Self::NoTail => place < 15,
            Self::NoHead => place >= 10,
            Self::Middle => place == 12,
        }
    }
}

pub(super) fn list(cells: &mut Cells) {
    for (id, kept, what) in [
        ("holes", Kept::Even, "every second record is gone"),
        ("tail", Kept::NoTail, "the last records of each batch are gone: the next offset comes from the batch, not from its last record"),
        ("head", Kept::NoHead, "the first records of each batch are gone"),
        ("one-left", Kept::Middle, "one record of each batch is left"),
    ] {
        for codec in [Codec::None, Codec::Zstd] {
            cells.add("K10", format!("k10.{id}.{}", codec.name()), format!("{what}, {}", codec.name()), move |bench| {
                Box::pin(async move {
                    bench.topic(1);
                    bench.shows(Served::HoledBatch);
                    for n in 0..8 {
                        bench.append(0, batch(0, n * 25, 25).with_codec(codec).compacted(|place| kept.keeps(place)));
                    }
                    bench.reach_end().await?;
                    bench.compare().await
                })
            });
        }
    }
    for (id, empty, what) in [
        ("middle", 75..150, "batches in the middle are empty, their headers kept"),
        ("first", 0..50, "the first batches are empty"),
        ("last", 150..200, "the last batches are empty: the log's end lies behind them, and the group's offset reaches it"),
    ] {
        for again in [false, true] {
            let id = format!("k10.empty-{id}{}", if again { ".again" } else { "" });
            let empty = empty.clone();
            cells.add("K10", id, what, move |bench| {
                let empty = empty.clone();
                Box::pin(async move {
                    bench.filled(200);
                    bench.partition(0, |p| p.log.compact(|offset| !empty.contains(&offset)));
                    if again {
                        bench.leave_pinned().await?;
                    }
                    bench.shows(Served::EmptyBatch);
                    bench.reach_end().await?;
                    bench.await_committed().await?;
                    bench.compare().await
                })
            });
        }
    }
    cells.add(
        "K10",
        "k10.gone-between",
        "batches were thrown away: a fetch inside the hole is answered with what lies behind it",
        |bench| {
            Box::pin(async move {
                bench.filled(200);
                bench.partition(0, |p| [50, 80, 110].into_iter().for_each(|offset| p.log.remove_batch_at(offset)));
                bench.script(|c| c.batches_per_fetch = Some(1));
                bench.shows(Served::Hole);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    for (id, format) in [("parquet", "{ kind = \"parquet\" }"), ("raw", Settings::RAW)] {
        cells.add("K10", format!("k10.tombstones.{id}"), "null values are stored as null, empty ones as empty", move |bench| {
            Box::pin(async move {
                bench.settings.format = format;
                bench.topic(1);
                let of = |n: i64| Record { value: (n % 3 != 0).then(Vec::new), key: Some(vec![b'k']), ..record(0, n) };
                bench.append(0, Batch::of((0..90).map(of).collect()));
                bench.reach_end().await?;
                let values: Vec<Option<usize>> =
                    bench.partition(0, |p| p.log.visible().iter().map(|v| v.record.value.as_ref().map(Vec::len)).collect());
                bench.saw("some values are null and some empty", values.contains(&None) && values.contains(&Some(0)))?;
                bench.compare().await
            })
        });
    }
    cells.add(
        "K10",
        "k10.while-pinned",
        "compaction runs between a window's pin and the reading again: the same range with what is left",
        |bench| {
            Box::pin(async move {
                bench.filled(200);
                bench.leave_pinned().await?;
                bench.partition(0, |p| p.log.compact(|offset| offset % 3 == 0));
                bench.shows(Served::HoledBatch);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K10",
        "k10.emptied-while-pinned",
        "compaction takes every record of a pinned window: an object without rows under the same key",
        |bench| {
            Box::pin(async move {
                bench.filled(200);
                bench.leave_pinned().await?;
                bench.partition(0, |p| p.log.compact(|offset| offset >= 75));
                bench.shows(Served::EmptyBatch);
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
}
