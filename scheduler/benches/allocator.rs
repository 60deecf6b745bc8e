//! How long the allocator takes to decide, with 50,000 executors, 1,000 queues and 1,000,000 running tasks.
//!
//! - `cycle`: one slot came free on every executor; all 50,000 find a task. At most 100 ms.
//! - `turn_over`: one task ends, its slot is offered and taken. At most 10 us.
//! - `turn_over_crowded`: the same, while the tasks of nine queues of ten have no room. At most 10 us.
//!
//! Run with `cargo bench -p sluice-scheduler`. How all three grow with the cluster is measured and drawn by
//! `examples/growth.rs`; with 1,000 queues at every size and 20 tasks to an executor, on one core of a busy virtual
//! machine, the middle of nine measurements and, in brackets, the least:
//!
//! | executors | cycle, ms   | turn over, us | crowded, us |
//! |-----------|-------------|---------------|-------------|
//! | 500       | 1.0 (0.7)   | 2.6 (2.5)     | 4.6 (4.6)   |
//! | 5,000     | 5.6 (5.0)   | 3.7 (3.2)     | 5.6 (5.4)   |
//! | 50,000    | 79.3 (57.3) | 6.3 (4.7)     | 6.9 (6.6)   |
//!
//! A cycle grows with the slots it fills, about 1.1 us each; a decision on one executor grows little, by the memory
//! that it has to fetch. Both grow with the number of inner queues of the tree: all of them are compared.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, Mix, Size};
use criterion::{Criterion, criterion_group, criterion_main};

const SIZE: Size = Size { executors: 50_000, tenants: 20, queues_per_tenant: 50 };

fn decisions(criterion: &mut Criterion) {
    let mut cluster = Cluster::new(SIZE, Mix::Fitting);
    criterion.bench_function("turn_over", |bencher| bencher.iter_custom(|times| cluster.turn_over(times)));
    criterion.bench_function("cycle", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| cluster.cycle()).sum::<Duration>())
    });
    let mut cluster = Cluster::new(SIZE, Mix::Crowded);
    criterion.bench_function("turn_over_crowded", |bencher| bencher.iter_custom(|times| cluster.turn_over(times)));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(10));
    targets = decisions
}
criterion_main!(benches);
