//! A program other than SQL that takes offers: the example of `scheduler/examples`, as its user runs it.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::bed::{Bed, trial};
use crate::faults::run;

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![trial(bed, "sharing::a_framework_takes_offers_beside_queries".to_owned(), beside_queries)]
}

fn beside_queries(bed: &Bed) -> Result<()> {
    let cassandra = bed.cassandra()?;
    let service = bed.own_cluster(&[], &["--vcores", "2", "--memory", "1GB"])?;
    bed.block_on(cassandra.cql(
        "DROP KEYSPACE IF EXISTS load_test;
CREATE KEYSPACE load_test WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};
CREATE TABLE load_test.events (id bigint PRIMARY KEY, name text)",
    ))?;
    let catalog =
        format!("CREATE CATALOG cass USING cassandra WITH (contact_points = '{}')", cassandra.contact_points());
    let fill = "INSERT INTO cass.load_test.events SELECT value AS id, 'event' AS name FROM generate_series(1, 1000) AS t(value)";
    run(bed, &service, &[&catalog, fill, "CREATE QUEUE load WITH (limit_cpu = 3)"])?;
    let mut command = Command::new(bed.example("cql_load")?);
    command
        .args(["--sluice", &format!("http://127.0.0.1:{}", service.flight_port), "--queue", "load"])
        .args(["--nodes", cassandra.contact_points(), "--keys", "1000"])
        .args(["--statement", "SELECT * FROM load_test.events WHERE id = ?"])
        .args(["--total-queries", "6000", "--queries-per-task", "200", "--parallelism", "6"]);
    let load = std::thread::spawn(move || command.output());
    // Queries of another queue go on beside it, on the same executors.
    let mut most_cpu: f64 = 0.0;
    let mut answers = 0;
    while !load.is_finished() {
        let queries =
            ["SET sluice.single_task_max_bytes = 0", "SELECT count(*), sum(length(name)) FROM cass.load_test.events"];
        let rows = run(bed, &service, &queries)?;
        ensure!(rows == [["1000", "5000"].map(|cell| Some(cell.to_owned()))], "the query beside answered {rows:?}");
        answers += 1;
        let used = run(bed, &service, &["SELECT used_cpu FROM system.queues WHERE queue = 'root.load'"])?;
        let used = used[0][0].clone().unwrap_or_default().parse::<f64>()?;
        most_cpu = most_cpu.max(used);
    }
    let output = load.join().map_err(|_| anyhow::anyhow!("the example's thread panicked"))??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "the example ended so: {text}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.contains("queries 6000 in 30 tasks"), "the example says {text}");
    ensure!(answers > 0 && most_cpu > 0.0, "{answers} queries ran beside; the queue was seen with {most_cpu} cores");
    ensure!(most_cpu <= 3.0, "a framework held {most_cpu} cores of a queue with a limit of 3");
    let held =
        run(bed, &service, &["SELECT used_cpu, pending_partitions FROM system.queues WHERE queue = 'root.load'"])?;
    ensure!(held == [["0", "0"].map(|cell| Some(cell.to_owned()))], "what it held is not free: {held:?}");
    bed.block_on(service.check_serving())
}
