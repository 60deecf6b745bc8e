//! Nodes and executors that go away in the middle of a scan or a write: answer and table are the same as without.
//!
//! Each test asserts that what it broke was in use: the statement was running, and had done a part of its work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use futures::TryStreamExt;
use libtest_mimic::Trial;
use scylla::client::session::Session;
use scylla::statement::{Consistency, Statement};
use sluice_sql_tests::cassandra::Cassandra;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};
use crate::faults::{error_of, run};

/// Rows that are read, and written from what is read; in pages so small that it takes seconds.
const ROW_COUNT: u64 = 30_000;
/// Rows of a table that only has to be there.
const FEW_ROWS: u64 = 1_000;
/// How long a node that was killed stays away.
const AWAY: Duration = Duration::from_secs(3);
/// How long a statement may take to show its first effect.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);

type Test = fn(&Bed) -> Result<()>;

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let tests: [(&str, Test); 4] = [
        ("a_node_comes_and_goes_during_scans", a_node_comes_and_goes_during_scans),
        ("a_node_with_the_only_replica_is_down", a_node_with_the_only_replica_is_down),
        ("a_node_comes_and_goes_during_a_write", a_node_comes_and_goes_during_a_write),
        ("an_executor_dies_in_mid_write", an_executor_dies_in_mid_write),
    ];
    tests.into_iter().map(|(name, test)| trial(bed, format!("fault::cassandra::{name}"), test)).collect()
}

/// The nodes, if they may be killed.
fn our_nodes(bed: &Bed) -> Result<Option<&Cassandra>> {
    let cassandra = bed.cassandra()?;
    if !cassandra.is_ours() {
        println!("skipped: the nodes are not ours to kill");
        return Ok(None);
    }
    Ok(Some(cassandra))
}

/// Makes a keyspace with a table of rows and empty ones, and a catalog `cass` over its cluster.
fn prepare(bed: &Bed, service: &Service, keyspace: &str, replicas: u8, row_count: u64) -> Result<()> {
    let cassandra = bed.cassandra()?;
    bed.block_on(cassandra.cql(&format!(
        "DROP KEYSPACE IF EXISTS {keyspace};
CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {replicas}}};
CREATE TABLE {keyspace}.numbers (n bigint PRIMARY KEY, twice bigint, filler text);
CREATE TABLE {keyspace}.written (n bigint PRIMARY KEY, twice bigint, filler text, c set<text>);
CREATE TABLE {keyspace}.lists (n bigint PRIMARY KEY, twice bigint, filler text, c list<text>)"
    )))?;
    let catalog = format!(
        "CREATE CATALOG cass USING cassandra WITH (contact_points = '{}', page_size_rows = '100', \
         ranges_in_flight = '1', consistency = '{}')",
        cassandra.contact_points(),
        if replicas == 1 { "LOCAL_ONE" } else { "LOCAL_QUORUM" }
    );
    let fill = format!(
        "INSERT INTO cass.{keyspace}.numbers (n, twice, filler) \
         SELECT n, n * 2, repeat('x', 100) FROM generate_series(1, {row_count}) AS t(n)"
    );
    run(bed, service, &[&catalog, &fill]).map(|_| ())
}

fn insert(keyspace: &str, table: &str) -> String {
    format!(
        "INSERT INTO cass.{keyspace}.{table} (n, twice, filler, c) \
         SELECT n, n * 2, repeat('y', 100), make_array(n::text, '~', n::text || '.') \
         FROM cass.{keyspace}.numbers"
    )
}

fn sums(keyspace: &str) -> String {
    format!("SELECT count(*), sum(n), sum(twice), min(filler) FROM cass.{keyspace}.numbers")
}

fn expected_sums(row_count: u64) -> Vec<Vec<Option<String>>> {
    let sum = row_count * (row_count + 1) / 2;
    vec![[row_count.to_string(), sum.to_string(), (2 * sum).to_string(), "x".repeat(100)].map(Some).to_vec()]
}

/// Starts node 2 again after a while.
fn bring_back(cassandra: &Cassandra) -> Result<()> {
    std::thread::sleep(AWAY);
    cassandra.start_node(2)
}

/// What a thread came to, or that it panicked.
fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("the client panicked"))?
}

fn a_node_comes_and_goes_during_scans(bed: &Bed) -> Result<()> {
    const KEYSPACE: &str = "fault_scans";
    let Some(cassandra) = our_nodes(bed)? else { return Ok(()) };
    let service = bed.own_service(Layout::Cluster, &[])?;
    prepare(bed, &service, KEYSPACE, 3, ROW_COUNT)?;
    let statements = ["SET sluice.single_task_max_bytes = 0".to_owned(), sums(KEYSPACE)];
    let scan = || run(bed, &service, &statements.each_ref().map(String::as_str));
    let before = scan()?;
    ensure!(before == expected_sums(ROW_COUNT), "the table holds {before:?}");
    // One scan into which the node dies, scans while it is away and starts, one that began while it was away.
    let answers = std::thread::scope(|scope| {
        let running = scope.spawn(scan);
        std::thread::sleep(Duration::from_millis(300));
        ensure!(!running.is_finished(), "the scan was over before the node was killed");
        cassandra.kill_node(2)?;
        ensure!(!running.is_finished(), "the scan was over as the node was killed");
        let starting = scope.spawn(move || bring_back(cassandra));
        let mut answers = vec![joined(running)?];
        // Once at least: on a slow machine the first scan lasts until the node is back.
        loop {
            answers.push(scan()?);
            if starting.is_finished() {
                break;
            }
        }
        joined(starting)?;
        answers.push(scan()?);
        Ok(answers)
    });
    // Whatever went wrong, the next test finds three nodes.
    cassandra.start_all()?;
    let answers = answers?;
    ensure!(answers.len() >= 3, "only {} scans ran", answers.len());
    ensure!(
        answers.iter().all(|answer| *answer == expected_sums(ROW_COUNT)),
        "one of the answers is wrong: {answers:?}"
    );
    Ok(())
}

fn a_node_with_the_only_replica_is_down(bed: &Bed) -> Result<()> {
    const KEYSPACE: &str = "fault_only_replica";
    let Some(cassandra) = our_nodes(bed)? else { return Ok(()) };
    let service = bed.own_service(Layout::Embedded, &[])?;
    prepare(bed, &service, KEYSPACE, 1, FEW_ROWS)?;
    cassandra.flush_node(2)?;
    cassandra.kill_node(2)?;
    let begun = Instant::now();
    let error = error_of(bed, &service, &sums(KEYSPACE));
    let told_after = begun.elapsed();
    cassandra.start_all()?;
    let error = error?;
    ensure!(
        ["53000", "57014", "58000"].iter().any(|state| error.starts_with(state)),
        "without the only replica: {error}"
    );
    ensure!(error.contains(&format!("{KEYSPACE}.numbers")), "the error does not name the table: {error}");
    ensure!(told_after < Duration::from_secs(60), "the error came after {told_after:?}");
    let deadline = Instant::now() + BEGIN_TIMEOUT;
    loop {
        match run(bed, &service, &[&sums(KEYSPACE)]) {
            Ok(rows) => {
                ensure!(rows == expected_sums(FEW_ROWS), "after the node is back: {rows:?}");
                return Ok(());
            }
            Err(error) if Instant::now() > deadline => return Err(error.context("the node is back")),
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}

/// Waits until a statement that is running has written a row of the table.
fn wait_for_rows<T>(bed: &Bed, session: &Session, table: &str, running: &ScopedJoinHandle<'_, T>) -> Result<()> {
    let deadline = Instant::now() + BEGIN_TIMEOUT;
    loop {
        let first = bed.block_on(session.query_unpaged(format!("SELECT n FROM {table} LIMIT 1"), ()))?;
        if first.into_rows_result()?.rows_num() > 0 {
            return Ok(());
        }
        ensure!(!running.is_finished() && Instant::now() < deadline, "no row came to {table}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// That a table has every row just as it was to be written; the write timestamps of its cells.
fn check_rows(bed: &Bed, session: &Session, table: &str) -> Result<BTreeSet<i64>> {
    type Row = (i64, i64, String, Vec<String>, i64, i64, i64);
    let mut statement = Statement::new(format!(
        "SELECT n, twice, filler, c, writetime(twice), writetime(filler), maxwritetime(c) FROM {table}"
    ));
    statement.set_consistency(Consistency::Quorum);
    statement.set_page_size(1_000);
    bed.block_on(async {
        let rows = session.query_iter(statement, ()).await?;
        let mut rows = rows.rows_stream::<Row>()?;
        let mut seen = BTreeSet::new();
        let mut timestamps = BTreeSet::new();
        while let Some((n, twice, filler, c, at_twice, at_filler, at_c)) = rows.try_next().await? {
            let expected = (2 * n, "y".repeat(100), vec![n.to_string(), "~".to_owned(), format!("{n}.")]);
            let mut found = (twice, filler, c);
            if table.ends_with(".written") {
                // A set comes in its own order, which has the tilde last.
                found.2.swap(1, 2);
            }
            ensure!(found == expected, "{table} has {found:?} in row {n}, not {expected:?}");
            seen.insert(n);
            timestamps.extend([at_twice, at_filler, at_c]);
        }
        ensure!(seen.into_iter().eq(1..=ROW_COUNT as i64), "{table} lacks rows, or has too many");
        Ok(timestamps)
    })
}

/// Three executors with room for two statements of three partitions, which then run at the same time.
fn roomy_cluster(bed: &Bed) -> Result<Service> {
    bed.own_cluster(&[], &["--vcores", "2", "--memory", "1GB"])
}

/// Writes two tables at a time, breaks something while both are written, and looks at every cell.
///
/// A list's elements get places of their own in every write: a repeated one must not leave those of the first.
fn write_and_break(bed: &Bed, service: &Service, keyspace: &str, break_it: impl FnOnce() -> Result<()>) -> Result<()> {
    let session = bed.block_on(bed.cassandra()?.session())?;
    let write = |table: &str| {
        let in_stages = ["SET sluice.single_task_max_bytes = 0", "SET sluice.target_partitions = 3"];
        run(bed, service, &[in_stages[0], in_stages[1], &insert(keyspace, table)]).map(|_| ())
    };
    std::thread::scope(|scope| {
        let running = ["written", "lists"].map(|table| (table, scope.spawn(move || write(table))));
        for (table, running) in &running {
            wait_for_rows(bed, &session, &format!("{keyspace}.{table}"), running)?;
        }
        break_it()?;
        ensure!(running.iter().all(|(_, running)| !running.is_finished()), "a write was over before anything broke");
        running.into_iter().try_for_each(|(_, running)| joined(running))
    })?;
    let timestamps = check_rows(bed, &session, &format!("{keyspace}.written"))?;
    ensure!(timestamps.len() == 1, "the cells of one statement have {} timestamps", timestamps.len());
    check_rows(bed, &session, &format!("{keyspace}.lists")).map(|_| ())
}

fn a_node_comes_and_goes_during_a_write(bed: &Bed) -> Result<()> {
    const KEYSPACE: &str = "fault_writes";
    let Some(cassandra) = our_nodes(bed)? else { return Ok(()) };
    let service = roomy_cluster(bed)?;
    prepare(bed, &service, KEYSPACE, 3, ROW_COUNT)?;
    let written = std::thread::scope(|scope| {
        let mut starting = None;
        let written = write_and_break(bed, &service, KEYSPACE, || {
            cassandra.kill_node(2)?;
            starting = Some(scope.spawn(move || bring_back(cassandra)));
            Ok(())
        });
        starting.map_or(Ok(()), joined).and(written)
    });
    // Whatever went wrong, the next test finds three nodes.
    cassandra.start_all().and(written)
}

fn an_executor_dies_in_mid_write(bed: &Bed) -> Result<()> {
    const KEYSPACE: &str = "fault_executor";
    let service = roomy_cluster(bed)?;
    prepare(bed, &service, KEYSPACE, 3, ROW_COUNT)?;
    write_and_break(bed, &service, KEYSPACE, || {
        let busy = run(bed, &service, &["SELECT host FROM system.executors WHERE partition_count > 0 ORDER BY host"])?;
        let host = busy.first().and_then(|row| row[0].clone()).unwrap_or_default();
        let index = (0..Layout::EXECUTOR_COUNT).find(|index| host == format!("127.0.1.{}", index + 1));
        service.kill_executor(index.with_context(|| format!("no executor was writing, but {host:?}"))?);
        Ok(())
    })
}
