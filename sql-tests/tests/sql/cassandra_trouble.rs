//! Nodes that hang, and ranges that are full of deleted rows: the answer is right, or the error is clear.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use futures::{StreamExt, TryStreamExt};
use libtest_mimic::Trial;
use sluice_sql_tests::cassandra::Cassandra;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};
use crate::faults::{error_of, expect_error, run};

const KEYSPACE: &str = "trouble";
const SUMS: &str = "SELECT count(*), sum(n), sum(twice), min(filler) FROM cass.trouble.numbers";
/// Rows of the table that is scanned while a node hangs.
const ROWS: &str = "30000";
/// Statements that this client has under way.
const IN_FLIGHT: usize = 32;

type Test = fn(&Bed) -> Result<()>;

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let tests: [(&str, Test); 4] = [
        ("a_replica_hangs_in_mid_scan", a_replica_hangs_in_mid_scan),
        ("the_only_replica_hangs_for_a_while", the_only_replica_hangs_for_a_while),
        ("deleted_rows_make_smaller_pages", deleted_rows_make_smaller_pages),
        ("several_clusters_are_several_catalogs", several_clusters_are_several_catalogs),
    ];
    tests.into_iter().map(|(name, test)| trial(bed, format!("cassandra::{name}"), test)).collect()
}

/// A service with a catalog over a table of small pages; each request may take two seconds.
fn service_over(bed: &Bed, cassandra: &Cassandra, replication_factor: usize) -> Result<Service> {
    let service = bed.own_service(Layout::Embedded, &[])?;
    bed.block_on(cassandra.cql(&format!("DROP KEYSPACE IF EXISTS {KEYSPACE}")))?;
    run(
        bed,
        &service,
        &[
            &format!(
                "CREATE CATALOG cass USING cassandra WITH (contact_points = '{}', page_size_rows = 500, \
                 request_timeout_ms = 2000)",
                cassandra.contact_points()
            ),
            &format!("CREATE SCHEMA cass.{KEYSPACE} WITH (replication_factor = {replication_factor})"),
            &format!(
                "CREATE TABLE cass.{KEYSPACE}.numbers WITH (primary_key = 'n') AS \
                 SELECT n, n * 2 AS twice, repeat('x', 200) AS filler FROM generate_series(1, {ROWS}) AS t(n)"
            ),
        ],
    )?;
    Ok(service)
}

/// The rows of one statement.
type Answer = Vec<Vec<Option<String>>>;

/// Runs the query over and over while node 2 hangs for so long; every answer, and the longest that one took.
fn with_a_hung_node(
    bed: &Bed,
    cassandra: &Cassandra,
    service: &Service,
    hung_for: Duration,
) -> Result<(Vec<Answer>, Duration)> {
    let until = Instant::now() + hung_for;
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let (mut answers, mut longest) = (Vec::new(), Duration::ZERO);
            while Instant::now() < until || answers.len() < 3 {
                let begun = Instant::now();
                answers.push(run(bed, service, &[SUMS])?);
                longest = longest.max(begun.elapsed());
            }
            Ok((answers, longest))
        });
        std::thread::sleep(Duration::from_millis(150));
        let paused = cassandra.pause_node(2);
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        let resumed = cassandra.resume_node(2);
        let answers = running.join().map_err(|_| anyhow!("the client panicked"))?;
        paused.and(resumed).and(answers)
    })
}

fn a_replica_hangs_in_mid_scan(bed: &Bed) -> Result<()> {
    let cassandra = bed.cassandra()?;
    if !cassandra.is_ours() {
        println!("skipped: the nodes are not ours to pause");
        return Ok(());
    }
    let service = service_over(bed, cassandra, 3)?;
    let expected = run(bed, &service, &[SUMS])?;
    ensure!(expected[0][0].as_deref() == Some(ROWS), "the table holds {expected:?}");
    let (answers, longest) = with_a_hung_node(bed, cassandra, &service, Duration::from_secs(20))?;
    ensure!(answers.iter().all(|answer| *answer == expected), "with a node that hangs: {answers:?}");
    println!("{} answers while a replica hung, the slowest after {longest:?}", answers.len());
    // A new statement has to be prepared, and the driver waits for the node that hangs until its connection ends.
    ensure!(longest < Duration::from_secs(60), "an answer took {longest:?}");

    // With speculative reads nobody waits for the request to time out.
    run(
        bed,
        &service,
        &[&format!(
            "CREATE CATALOG quick USING cassandra WITH (contact_points = '{}', page_size_rows = 500, \
             speculative_read_ms = 100)",
            cassandra.contact_points()
        )],
    )?;
    let quick = SUMS.replace("cass.", "quick.");
    run(bed, &service, &[&quick])?;
    cassandra.pause_node(2)?;
    let begun = Instant::now();
    let answer = run(bed, &service, &[&quick]);
    let took = begun.elapsed();
    cassandra.resume_node(2)?;
    ensure!(answer? == expected, "the answer of speculative reads differs");
    ensure!(took < Duration::from_secs(15), "speculative reads took {took:?}, and a request may take 20 s");
    Ok(())
}

fn the_only_replica_hangs_for_a_while(bed: &Bed) -> Result<()> {
    let cassandra = bed.cassandra()?;
    if !cassandra.is_ours() {
        println!("skipped: the nodes are not ours to pause");
        return Ok(());
    }
    let service = service_over(bed, cassandra, 1)?;
    let expected = run(bed, &service, &[SUMS])?;
    ensure!(expected[0][0].as_deref() == Some(ROWS), "the table holds {expected:?}");
    let (answers, longest) = with_a_hung_node(bed, cassandra, &service, Duration::from_secs(4))?;
    ensure!(answers.iter().all(|answer| *answer == expected), "with a node that hung: {answers:?}");
    println!("{} answers while the only replica hung for 4 s, the slowest after {longest:?}", answers.len());

    // For good: the error names the table, and does not come too late.
    cassandra.pause_node(2)?;
    let begun = Instant::now();
    let error = error_of(bed, &service, SUMS);
    let took = begun.elapsed();
    cassandra.resume_node(2)?;
    let error = error?;
    ensure!(
        ["57014", "58000", "08001", "53000"].iter().any(|state| error.starts_with(state)),
        "a hung node gave {error}"
    );
    ensure!(error.contains("trouble.numbers"), "the error does not say what was read: {error}");
    ensure!(took < Duration::from_secs(90), "the error came after {took:?}");
    Ok(())
}

fn deleted_rows_make_smaller_pages(bed: &Bed) -> Result<()> {
    const LIVE_ROWS: i32 = 2_000;
    let yaml = "tombstone_warn_threshold: 500\ntombstone_failure_threshold: 1000";
    let node = Cassandra::start_own("tombstone-node", "127.0.7", 1, &[("SLUICE_CASSANDRA_YAML", yaml)])?;
    bed.block_on(async {
        node.cql(
            "CREATE KEYSPACE trouble WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};\n\
             CREATE TABLE trouble.sparse (p int, n int, value int, PRIMARY KEY (p, n));\n\
             CREATE TABLE trouble.graves (p int, n int, value int, PRIMARY KEY (p, n));\n",
        )
        .await?;
        let session = node.session().await?;
        let insert = session.prepare("INSERT INTO trouble.sparse (p, n, value) VALUES (0, ?, 1)").await?;
        let delete = session.prepare("DELETE FROM trouble.sparse WHERE p = 0 AND n = ?").await?;
        let bury = session.prepare("DELETE FROM trouble.graves WHERE p = 0 AND n = ?").await?;
        // One live row in four; and a table of nothing but deleted rows.
        let statements = (0..LIVE_ROWS * 4).map(|n| if n % 4 == 0 { (&insert, n) } else { (&delete, n) });
        let statements = statements.chain((0..2_000).map(|n| (&bury, n)));
        futures::stream::iter(statements.map(|(statement, n)| session.execute_unpaged(statement, (n,))))
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<Vec<_>>()
            .await?;
        anyhow::Ok(())
    })?;
    let service = bed.own_service(Layout::Embedded, &[])?;
    let points = node.contact_points();
    run(bed, &service, &[&format!("CREATE CATALOG cass USING cassandra WITH (contact_points = '{points}')")])?;
    let rows = run(bed, &service, &["SELECT count(*), sum(n) FROM cass.trouble.sparse"])?;
    let sum: i64 = (0..i64::from(LIVE_ROWS)).map(|n| n * 4).sum();
    ensure!(rows == [[Some(LIVE_ROWS.to_string()), Some(sum.to_string())]], "between deleted rows there are {rows:?}");
    let plan = run(bed, &service, &["EXPLAIN ANALYZE SELECT count(*), sum(n) FROM cass.trouble.sparse"])?;
    let plan: Vec<String> = plan.into_iter().flatten().flatten().collect();
    let scan = plan.iter().find(|line| line.contains("CassandraScanExec")).context("no scan in the plan")?;
    ensure!(scan.contains("retries=") && !scan.contains("retries=0"), "no page was asked for again: {scan}");
    // No page is small enough for a run of deleted rows.
    let wanted = ["58000", "trouble.graves", "tombstone_failure_threshold"];
    expect_error(bed, &service, "SELECT count(*) FROM cass.trouble.graves", &wanted)?;
    bed.block_on(service.check_serving())
}

fn several_clusters_are_several_catalogs(bed: &Bed) -> Result<()> {
    let first = bed.cassandra()?;
    let second = Cassandra::start_own("second-cluster", "127.0.7", 1, &[])?;
    for layout in Layout::ALL {
        let service = bed.own_service(layout, &[])?;
        for (name, cassandra) in [("one", first), ("two", &second)] {
            let keyspace = format!("several_{}", layout.name());
            bed.block_on(cassandra.cql(&format!("DROP KEYSPACE IF EXISTS {keyspace}")))?;
            run(
                bed,
                &service,
                &[
                    &format!(
                        "CREATE CATALOG {name} USING cassandra WITH (contact_points = '{}')",
                        cassandra.contact_points()
                    ),
                    &format!("CREATE SCHEMA {name}.{keyspace} WITH (replication_factor = 1)"),
                    &format!(
                        "CREATE TABLE {name}.{keyspace}.t WITH (primary_key = 'n') AS \
                         SELECT n, '{name}' AS source FROM generate_series(1, 100) AS t(n)"
                    ),
                ],
            )?;
        }
        let keyspace = format!("several_{}", layout.name());
        let rows = run(
            bed,
            &service,
            &[
                "SET sluice.single_task_max_bytes = 0",
                &format!(
                    "SELECT a.source, b.source, count(*) FROM one.{keyspace}.t a JOIN two.{keyspace}.t b USING (n) \
                     GROUP BY 1, 2"
                ),
            ],
        )?;
        let wanted = ["one", "two", "100"].map(|cell| Some(cell.to_owned()));
        ensure!(rows == [wanted], "a join of two clusters on {}: {rows:?}", layout.name());
    }
    Ok(())
}
