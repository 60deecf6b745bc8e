//! A client that reads by key from the same nodes, while the service scans: with a throttle it is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::cassandra::Cassandra;
use sluice_sql_tests::runner::{SqlError, text_rows};
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};
use crate::faults::run;

/// Few enough for several throttled scans in a round.
const ROWS: u64 = 24_000;
/// Rows a second that a throttled scan may take from one node.
const ROWS_PER_SECOND: u64 = 4_000;
const NODES: u64 = 3;
/// How long the client reads in each round.
const ROUND: Duration = Duration::from_secs(6);
/// Rounds of each kind; their median counts, because others use the machine too.
const ROUNDS: usize = 3;

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![trial(
        bed,
        "cassandra::a_throttled_scan_leaves_a_client_alone".to_owned(),
        a_throttled_scan_leaves_a_client_alone,
    )]
}

/// What a client of the nodes saw during a round, and how many rows were scanned a second meanwhile.
#[derive(Debug, Clone, Copy)]
struct Round {
    p99: Duration,
    scanned_per_second: f64,
}

fn a_throttled_scan_leaves_a_client_alone(bed: &Bed) -> Result<()> {
    let cassandra = bed.cassandra()?;
    let service = bed.own_service(Layout::Embedded, &[])?;
    bed.block_on(cassandra.cql("DROP KEYSPACE IF EXISTS load"))?;
    let points = cassandra.contact_points();
    run(
        bed,
        &service,
        &[
            &format!("CREATE CATALOG free USING cassandra WITH (contact_points = '{points}')"),
            &format!(
                "CREATE CATALOG calm USING cassandra WITH (contact_points = '{points}', \
                 rows_per_second = {ROWS_PER_SECOND}, requests_in_flight = 2)"
            ),
            "CREATE SCHEMA free.load WITH (replication_factor = 1)",
            &format!(
                "CREATE TABLE free.load.numbers WITH (primary_key = 'n') AS \
                 SELECT n, repeat('x', 200) AS filler FROM generate_series(1, {ROWS}) AS t(n)"
            ),
        ],
    )?;
    let round = |catalog: Option<&str>| round(bed, cassandra, &service, catalog);
    round(None)?;
    let (mut alone, mut free, mut calm) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(round(None)?);
        free.push(round(Some("free"))?);
        calm.push(round(Some("calm"))?);
    }
    let p99 = |rounds: &[Round]| median(rounds.iter().map(|round| round.p99.as_secs_f64()));
    let (alone_s, free_s, calm_s) = (p99(&alone), p99(&free), p99(&calm));
    println!("p99 of a client: alone {alone_s:.4} s, with a scan {free_s:.4} s, with a throttled scan {calm_s:.4} s");
    println!("rounds: alone {alone:?}, with a scan {free:?}, with a throttled scan {calm:?}");
    let rate = median(calm.iter().map(|round| round.scanned_per_second));
    let limit = (ROWS_PER_SECOND * NODES) as f64;
    ensure!(rate <= limit * 1.25, "{rate:.0} rows/s were scanned, and {limit:.0} are the limit of all nodes");
    ensure!(rate >= limit * 0.3, "only {rate:.0} rows/s were scanned of the {limit:.0} that are allowed");
    let fast = median(free.iter().map(|round| round.scanned_per_second));
    ensure!(fast > rate * 1.5, "without a limit {fast:.0} rows/s were scanned, with one {rate:.0}");
    // Nearer to the client alone than to the client beside an unthrottled scan.
    ensure!(
        calm_s < (alone_s * free_s).sqrt() || calm_s < free_s / 2.0 || calm_s < alone_s * 1.5,
        "the throttle helps little"
    );
    bed.block_on(service.check_serving())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Reads by key for a while, and scans meanwhile through a catalog.
fn round(bed: &Bed, cassandra: &Cassandra, service: &Service, catalog: Option<&str>) -> Result<Round> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scans = scope.spawn(|| scans(bed, service, catalog, &over));
        let latencies = bed.block_on(point_reads(cassandra));
        over.store(true, Ordering::Relaxed);
        let scanned_per_second = scans.join().map_err(|_| anyhow!("the scanning client panicked"))??;
        let mut latencies = latencies?;
        latencies.sort();
        let p99 = *latencies.get(latencies.len() * 99 / 100).context("nothing was read")?;
        Ok(Round { p99, scanned_per_second })
    })
}

/// Scans the whole table until it is over, two at a time; the rows a second, the last scans to their ends included.
fn scans(bed: &Bed, service: &Service, catalog: Option<&str>, over: &AtomicBool) -> Result<f64> {
    let Some(catalog) = catalog else { return Ok(0.0) };
    let query = format!("SELECT count(*), sum(length(filler)) FROM {catalog}.load.numbers");
    let begun = Instant::now();
    let scan = || async {
        let client = service.connect().await?;
        let mut count = 0_u64;
        while !over.load(Ordering::Relaxed) {
            let rows = text_rows(client.simple_query(&query).await.map_err(SqlError)?);
            ensure!(rows[0][0] == Some(ROWS.to_string()), "the scan gave {rows:?}");
            count += ROWS;
        }
        anyhow::Ok(count)
    };
    let (first, second) = bed.block_on(futures::future::try_join(scan(), scan()))?;
    Ok((first + second) as f64 / begun.elapsed().as_secs_f64())
}

async fn point_reads(cassandra: &Cassandra) -> Result<Vec<Duration>> {
    let session = cassandra.session().await?;
    let read = session.prepare("SELECT filler FROM load.numbers WHERE n = ?").await?;
    let begun = Instant::now();
    let mut latencies = Vec::new();
    // Steps through the keys so that all nodes are asked; a pause between reads, as an application has.
    for key in (0_u64..).map(|i| (i * 7_919 % ROWS + 1) as i64) {
        if begun.elapsed() >= ROUND {
            break;
        }
        let asked = Instant::now();
        session.execute_unpaged(&read, (key,)).await?;
        latencies.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(latencies)
}
