//! K16 and K17: batches of every size, message formats, codecs and times; every record is compared with all its parts.

use crate::broker::batches::{Batch, Record};
use crate::broker::codecs::Codec;
use crate::broker::served::Served;
use crate::kafka_cells::bench::{Bench, Settings};
use crate::kafka_cells::data::{FIRST_MS, batch, large_record, record, records};
use crate::kafka_cells::{Cells, Check};

/// The last version of Fetch whose responses are not flexible: the only ones in which librdkafka reads the old formats right.
const FETCH_NOT_FLEXIBLE: i16 = 11;

const OLD_CODECS: [(i8, [Codec; 5]); 2] = [
    (1, [Codec::None, Codec::Gzip, Codec::Snappy, Codec::SnappyJava, Codec::Lz4]),
    (0, [Codec::None, Codec::Gzip, Codec::Snappy, Codec::SnappyJava, Codec::Lz4Old]),
];

pub(super) fn list(cells: &mut Cells) {
    codecs(cells);
    old_formats_misread(cells);
    times(cells);
    sizes(cells);
}

fn codecs(cells: &mut Cells) {
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::SnappyJava, Codec::Lz4, Codec::Zstd] {
        let what = format!("format 2, {}: every key, value, header, time and kind of time as written", codec.name());
        cells.add("K17", format!("k17.v2.{}", codec.name()), what, move |bench| Box::pin(of_codec(bench, 2, codec)));
    }
    for (magic, codecs) in OLD_CODECS {
        for codec in codecs {
            let what = format!("format {magic}, {}, from a broker before 2.7: everything as written", codec.name());
            cells.add("K17", format!("k17.v{magic}.{}", codec.name()), what, move |bench| {
                Box::pin(async move {
                    bench.script(|c| c.fetch_version_max = Some(FETCH_NOT_FLEXIBLE));
                    of_codec(bench, magic, codec).await
                })
            });
        }
    }
    cells.add("K17", "k17.mixed", "formats 0, 1 and 2 and every codec in one partition, in one response", |bench| {
        Box::pin(async move {
            bench.script(|c| c.fetch_version_max = Some(FETCH_NOT_FLEXIBLE));
            bench.topic(1);
            let mut next = 0;
            for (magic, codecs) in OLD_CODECS.into_iter().rev() {
                for codec in codecs {
                    next = bench.append(0, batch(0, next, 15).with_magic(magic).with_codec(codec)) + 15;
                }
            }
            for codec in [Codec::Zstd, Codec::None, Codec::SnappyJava] {
                next = bench.append(0, batch(0, next, 15).with_codec(codec)) + 15;
            }
            (0..3).for_each(|magic| bench.shows(Served::Format(magic)));
            (0..5).for_each(|codec| bench.shows(Served::Compressed(codec)));
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    for (id, magic, codec) in [("v2", 2, Codec::Gzip), ("v1", 1, Codec::None), ("v1-wrapped", 1, Codec::Gzip)] {
        let what = "a topic with LogAppendTime: the broker's time and its kind, whatever the producers say";
        cells.add("K17", format!("k17.append-time.{id}"), what, move |bench| {
            Box::pin(async move {
                bench.script(|c| c.fetch_version_max = Some(FETCH_NOT_FLEXIBLE));
                bench.topic(1);
                for n in 0..6 {
                    let append_time = Some(FIRST_MS + 7_000 * n);
                    bench.append(0, Batch { append_time, ..batch(0, n * 20, 20).with_magic(magic).with_codec(codec) });
                }
                bench.shows(Served::AppendTime);
                bench.reach_end().await?;
                bench.compare().await
            })
        });
    }
    cells.add("K17", "k17.raw", "values only, into raw objects with framing: null is not empty", |bench| {
        Box::pin(async move {
            bench.settings.format = Settings::RAW;
            of_codec(bench, 2, Codec::Lz4).await
        })
    });
    cells.add("K17", "k17.files", "into files instead of a store in memory", |bench| {
        Box::pin(async move {
            bench.use_files()?;
            of_codec(bench, 2, Codec::Zstd).await
        })
    });
}

async fn of_codec(bench: &mut Bench, magic: i8, codec: Codec) -> Check {
    bench.topic(1);
    for n in 0..10 {
        bench.append(0, batch(0, n * 20, 20).with_magic(magic).with_codec(codec));
    }
    bench.shows(Served::Format(magic));
    bench.shows(Served::Compressed(codec.number()));
    bench.reach_end().await?;
    bench.compare().await
}

/// What librdkafka 2.5 to 2.15 misreads must stop the lane: the first record of such a response comes without key and value, or nothing comes.
fn old_formats_misread(cells: &mut Cells) {
    for (id, magic, codec, first, code) in [
        ("v0", 0, Codec::None, 1, 431),
        ("v1", 1, Codec::None, 1, 431),
        ("v1-keyless", 1, Codec::None, 3, 432),
        ("v1-wrapped", 1, Codec::Gzip, 1, 432),
        ("v0-wrapped", 0, Codec::Lz4Old, 1, 432),
    ] {
        let what =
            format!("an old format in a flexible Fetch response, which the client misreads: stopped with C0{code}, nothing of it stored");
        cells.add("K17", format!("k17.misread.{id}"), what, move |bench| {
            Box::pin(async move {
                bench.filled(100);
                bench.reach_end().await?;
                let expected = bench.expected();
                bench.append(0, Batch::of(records(0, 99 + first, 20)).with_magic(magic).with_codec(codec));
                bench.shows(Served::Format(magic));
                bench.expect_stop(code).await?;
                bench.compare_stopped_with(expected, 100).await
            })
        });
    }
}

fn times(cells: &mut Cells) {
    cells.add("K17", "k17.times.extreme", "timestamps of -1, 0, before 1970, past 9999, and near the largest: kept as they are", |bench| {
        Box::pin(async move {
            bench.topic(1);
            for (n, timestamp) in (0..).zip([-1, 0, -1_000, 253_402_300_800_000, i64::MAX / 2, FIRST_MS]) {
                bench.append(0, Batch::of(vec![Record { timestamp, ..record(0, n) }]));
            }
            bench.shows(Served::OddTime);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add("K17", "k17.times.span", "1970 and 2100 in one batch, out of order: deltas beyond 32 bits", |bench| {
        Box::pin(async move {
            bench.topic(1);
            let times = [1_000, 4_000_000_000_000, FIRST_MS, 1, FIRST_MS + 1, 4_102_444_800_001];
            let odd = (0..).zip(times).map(|(n, timestamp)| Record { timestamp, ..record(0, n) }).collect();
            bench.append(0, Batch::of(odd));
            bench.append(0, batch(0, 6, 60));
            bench.shows(Served::OddTime);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add("K17", "k17.headers.many", "a record of 3,000 headers, some with equal names, and one of 1 MiB", |bench| {
        Box::pin(async move {
            bench.topic(1);
            let name = |n: usize| format!("h{}", n % 100).into_bytes();
            let mut headers: Vec<(Vec<u8>, Option<Vec<u8>>)> = (0..3_000).map(|n| (name(n), (n % 5 != 0).then(|| name(n)))).collect();
            headers.push((b"large".to_vec(), Some(vec![7; 1 << 20])));
            bench.append(0, Batch::of(vec![record(0, 0), Record { headers, ..record(0, 1) }, record(0, 2)]));
            bench.reach_end().await?;
            let is_wide = bench.partition(0, |p| p.log.visible().iter().any(|v| v.record.headers.len() > 3_000));
            bench.saw("a record has that many headers", is_wide)?;
            bench.compare().await
        })
    });
}

fn sizes(cells: &mut Cells) {
    cells.add("K16", "k16.batch-larger-than-a-fetch", "a batch of 6 MiB, more than a fetch asks for: it comes whole", |bench| {
        Box::pin(async move {
            bench.filled(30);
            bench.append(0, Batch::of((30..42).map(|n| large_record(n, 512 << 10)).collect()));
            bench.append(0, batch(0, 42, 30));
            bench.shows(Served::OversizedBatch);
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    for (id, format, partitions) in
        [("parquet", "{ kind = \"parquet\" }", 1), ("raw", Settings::RAW, 1), ("many-partitions", Settings::RAW, 6)]
    {
        let what = "every response ends within a batch, as a broker sends it straight from its file: what is cut comes again";
        cells.add("K16", format!("k16.cut.{id}"), what, move |bench| {
            Box::pin(async move {
                bench.script(|c| c.cuts_batches = true);
                bench.shows(Served::CutBatch);
                bench.settings.more = "budget = \"96MiB\"";
                bench.settings.format = format;
                bench.topic(partitions);
                // A first fetch asks for little, before it is seen what batches become: several of these batches fit, and a part of one more.
                for n in 0..60 {
                    for (number, partition) in (0..).zip(0..partitions) {
                        bench.append(partition, batch(number, n * 5, 5));
                    }
                }
                bench.reach_end().await?;
                bench.compare().await
            })
        });
    }
    for again in [false, true] {
        let (id, what) = match again {
            false => ("k16.multipart", "a window of more than 64 MiB becomes a multipart upload"),
            true => ("k16.multipart.again", "a pinned upload of more than 64 MiB is completed although Kafka has lost its records"),
        };
        cells.add("K16", id, what, move |bench| {
            Box::pin(async move {
                bench.settings.window = "1h";
                bench.topic(1);
                for n in 0..72 {
                    bench.append(0, Batch::of(vec![large_record(n, 1 << 20)]));
                }
                let expected = bench.expected();
                if again {
                    bench.leave_pinned().await?;
                    bench.partition(0, |p| p.log.delete_before(72));
                }
                bench.reach_end().await?;
                bench.saw("an upload was completed", bench.store.completed() > 0)?;
                bench.compare_with(expected, &[]).await
            })
        });
    }
}
