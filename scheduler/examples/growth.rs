//! How the time of a decision grows with the cluster, as a table and a picture.
//!
//! From 500 to 50,000 executors, with 20 running tasks on each and 1,000 queues at every size. Each figure is the
//! middle of several measurements of processor time, with the least of them beside it in the table: other work on the
//! machine makes times longer and never shorter, because it takes away caches.
//!
//! ```text
//! cargo run --release -p sluice-scheduler --example growth -- docs/allocator-growth.svg
//! ```

#[path = "../benches/cluster/mod.rs"]
mod cluster;

use cluster::{Cluster, Mix, Size};
use sluice_scheduler::simulation::curves::{Curve, Panel, curves};

const EXECUTORS: [usize; 7] = [500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000];

/// Measurements of each figure.
const MEASUREMENTS: usize = 9;

/// Decisions of a measurement.
const DECISIONS: u64 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut measured = [("cycle", Vec::new()), ("turn over", Vec::new()), ("crowded", Vec::new())];
    println!("| executors | tasks     | cycle, ms (least) | turn over, us (least) | crowded, us (least) |");
    println!("|-----------|-----------|-------------------|-----------------------|---------------------|");
    for executors in EXECUTORS {
        let size = Size { executors, tenants: 20, queues_per_tenant: 50 };
        let mut cluster = Cluster::new(size, Mix::Fitting);
        let turn_over = figures(|| turn_over_us(&mut cluster));
        let cycle = figures(|| cluster.cycle().as_secs_f64() * 1e3);
        assert!(cluster.is_full(), "all slots found a task");
        let mut cluster = Cluster::new(size, Mix::Crowded);
        let crowded = figures(|| turn_over_us(&mut cluster));
        for ((_, points), (middle, _)) in measured.iter_mut().zip([cycle, turn_over, crowded]) {
            points.push((executors as f64, middle));
        }
        let [cycle, turn_over, crowded] = [cycle, turn_over, crowded].map(|(m, least)| format!("{m:.1} ({least:.1})"));
        let tasks = executors * cluster::SLOTS;
        println!("| {executors:>9} | {tasks:>9} | {cycle:>17} | {turn_over:>21} | {crowded:>19} |");
    }
    let [cycle, turn_over, crowded] = measured.map(|(_, points)| points);
    let curve = |name: &str, points| Curve { name: name.to_owned(), points };
    let panels = [
        Panel {
            title: "Full cycle: a slot free on every executor, all filled (ms)".to_owned(),
            bound: 100.0,
            curves: vec![curve("all tasks fit", cycle)],
        },
        Panel {
            title: "One task ends, its slot is offered and taken (µs)".to_owned(),
            bound: 10.0,
            curves: vec![curve("all tasks fit", turn_over), curve("the tasks of nine queues of ten do not", crowded)],
        },
    ];
    if let Some(path) = std::env::args().nth(1) {
        let title = "How decisions grow with the cluster: 1,000 queues, 20 tasks to an executor (dashed: the aim)";
        std::fs::write(path, curves(title, "executors", &panels)?)?;
    }
    Ok(())
}

fn turn_over_us(cluster: &mut Cluster) -> f64 {
    cluster.turn_over(DECISIONS).as_secs_f64() * 1e6 / DECISIONS as f64
}

/// The middle and the least of several measurements, after one that warms up.
fn figures(mut measure: impl FnMut() -> f64) -> (f64, f64) {
    measure();
    let mut times: Vec<_> = (0..MEASUREMENTS).map(|_| measure()).collect();
    times.sort_by(f64::total_cmp);
    (times[MEASUREMENTS / 2], times[0])
}
