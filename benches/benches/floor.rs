//! The floor's stages in time: CPU time of the thread, not the wall's. `cargo bench -p catchment-benches --bench floor`

use std::time::Duration;

use catchment_benches::floor::{Floor, cpu_time};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn floor(criterion: &mut Criterion) {
    for (name, bytes) in [("100 B", 100), ("1 KB", 1024), ("10 KB", 10_240)] {
        let mut group = criterion.benchmark_group("floor");
        for (what, compress) in [("zstd-1", true), ("raw", false)] {
            let mut floor = Floor::new(bytes, compress);
            group.throughput(Throughput::Elements(floor.batch_records()));
            group.bench_function(format!("{what}, {name}"), |bencher| {
                bencher.iter_custom(|rounds| -> Duration {
                    let began = cpu_time();
                    (0..rounds).for_each(|_| floor.batch());
                    cpu_time().saturating_sub(began)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, floor);
criterion_main!(benches);
