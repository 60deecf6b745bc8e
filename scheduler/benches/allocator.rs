//! How long the allocator takes to decide, with 50,000 executors, 1,000 queues and 1,000,000 running tasks.
//!
//! - `cycle`: one slot came free on every executor; all 50,000 find a task. At most 100 ms.
//! - `turn_over`: one task ends, its slot is offered and taken. At most 10 us.
//! - `turn_over_crowded`: the same, while the tasks of nine queues of ten have no room. At most 10 us.
//!
//! How both grow with the cluster is drawn by `examples/growth.rs`. Run with `cargo bench -p sluice-scheduler`.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, Mix, Size};
use criterion::{Criterion, criterion_group, criterion_main};

const SIZE: Size = Size { executors: 50_000, tenants: 20, queues_per_tenant: 50 };

fn decisions(criterion: &mut Criterion) {
    let mut cluster = Cluster::new(SIZE, Mix::Fitting);
    criterion.bench_function("turn_over", |bencher| bencher.iter(|| cluster.turn_over()));
    criterion.bench_function("cycle", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| cluster.cycle()).sum::<Duration>())
    });
    let mut cluster = Cluster::new(SIZE, Mix::Crowded);
    criterion.bench_function("turn_over_crowded", |bencher| bencher.iter(|| cluster.turn_over()));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(10));
    targets = decisions
}
criterion_main!(benches);
