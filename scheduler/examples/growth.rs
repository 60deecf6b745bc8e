//! x
#[path = "../benches/cluster/mod.rs"]
mod cluster;
use cluster::*;
use std::time::Instant;
fn main() {
    for (t, q) in [(20, 50), (200, 5), (1, 1000), (1000, 1)] {
        for mix in [Mix::Fitting, Mix::Crowded] {
            let mut c = Cluster::new(Size { executors: 50000, tenants: t, queues_per_tenant: q }, mix);
            for _ in 0..20000 {
                c.turn_over();
            }
            let mut v = vec![];
            for _ in 0..5 {
                let s = Instant::now();
                for _ in 0..20000 {
                    c.turn_over();
                }
                v.push(s.elapsed().as_nanos() / 20000);
            }
            v.sort();
            println!("{t}x{q} {mix:?} turn_over {} ns", v[2]);
            let mut v: Vec<_> = (0..7).map(|_| c.cycle().as_micros()).collect();
            print!("{v:?} ");
            v.sort();
            println!("{t}x{q} {mix:?} cycle {} us", v[3]);
        }
    }
}
