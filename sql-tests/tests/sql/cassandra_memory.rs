//! Tables that are larger than the memory of those who read them.

use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::Service;

use crate::bed::{Bed, trial};
use crate::faults::{resident_bytes, run};

const KEYSPACE: &str = "memory";
/// Rows of one kilobyte each: more than three hundred megabytes.
const ROW_COUNT: u64 = 300_000;
const ROW_BYTES: u64 = 1_000;
/// The least that an executor of one core takes.
const EXECUTOR_MEMORY: &str = "32MB";
/// What an executor may grow by when the table is ten times as large.
const GROWTH_BYTES: u64 = 64 << 20;
/// Rows of the one wide partition.
const WIDE_ROW_COUNT: u64 = 100_000;

type Test = fn(&Bed) -> Result<()>;

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let tests: [(&str, Test); 2] = [
        ("a_table_larger_than_an_executor_is_read", a_table_larger_than_an_executor_is_read),
        ("a_wide_partition_beside_small_ones_is_read", a_wide_partition_beside_small_ones_is_read),
    ];
    tests.into_iter().map(|(name, test)| trial(bed, format!("memory::{name}"), test)).collect()
}

/// A cluster of small executors, with a catalog and an empty keyspace.
fn small_cluster(bed: &Bed) -> Result<Service> {
    let cassandra = bed.cassandra()?;
    let service = bed.own_cluster(&[], &["--vcores", "1", "--memory", EXECUTOR_MEMORY])?;
    bed.block_on(cassandra.cql(&format!(
        "DROP KEYSPACE IF EXISTS {KEYSPACE};
CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    )))?;
    let catalog =
        format!("CREATE CATALOG cass USING cassandra WITH (contact_points = '{}')", cassandra.contact_points());
    run(bed, &service, &[&catalog])?;
    Ok(service)
}

const IN_STAGES: &str = "SET sluice.single_task_max_bytes = 0";

/// A table of one kilobyte a row, filled by the service itself.
fn fill(bed: &Bed, service: &Service, table: &str, row_count: u64) -> Result<()> {
    run(
        bed,
        service,
        &[
            IN_STAGES,
            &format!("CREATE TABLE cass.{KEYSPACE}.{table} (n bigint, filler text, PRIMARY KEY (n))"),
            &format!(
                "INSERT INTO cass.{KEYSPACE}.{table} (n, filler) \
                 SELECT n, repeat(chr(97 + n % 26), {ROW_BYTES}) FROM generate_series(1, {row_count}) AS t(n)"
            ),
        ],
    )
    .map(|_| ())
}

fn a_table_larger_than_an_executor_is_read(bed: &Bed) -> Result<()> {
    let service = small_cluster(bed)?;
    fill(bed, &service, "small", ROW_COUNT / 10)?;
    fill(bed, &service, "large", ROW_COUNT)?;
    let most = |processes: Vec<u32>| -> Result<u64> {
        let peaks = processes.into_iter().map(resident_bytes).collect::<Result<Vec<_>>>()?;
        Ok(peaks.into_iter().max().unwrap_or_default())
    };
    // Executors that have written nothing: their peak is that of reading.
    for index in 0..service.executor_process_ids().len() {
        service.kill_executor(index);
        service.start_executor(index)?;
    }
    bed.block_on(service.check_serving())?;
    let read = |table: &str, row_count: u64| -> Result<u64> {
        let query = format!("SELECT count(*), sum(n), sum(length(filler)), max(filler) FROM cass.{KEYSPACE}.{table}");
        let rows = run(bed, &service, &[IN_STAGES, &query])?;
        let sums = [row_count, row_count * (row_count + 1) / 2, row_count * ROW_BYTES].map(|sum| Some(sum.to_string()));
        ensure!(rows.len() == 1 && rows[0][..3] == sums, "{table} holds {rows:?}");
        ensure!(rows[0][3] == Some("z".repeat(ROW_BYTES as usize)), "the last filler is {:?}", rows[0][3]);
        most(service.executor_process_ids())
    };
    let small = read("small", ROW_COUNT / 10)?;
    let large = read("large", ROW_COUNT)?;
    println!("an executor's peak: {small} bytes for {} rows, {large} bytes for {ROW_COUNT} rows", ROW_COUNT / 10);
    ensure!(large < small + GROWTH_BYTES, "an executor's memory grew from {small} to {large} bytes");
    Ok(())
}

fn a_wide_partition_beside_small_ones_is_read(bed: &Bed) -> Result<()> {
    let service = small_cluster(bed)?;
    bed.block_on(
        bed.cassandra()?.cql(&format!("CREATE TABLE {KEYSPACE}.skewed (p int, c int, v text, PRIMARY KEY (p, c))")),
    )?;
    let rows = run(
        bed,
        &service,
        &[
            IN_STAGES,
            &format!(
                "INSERT INTO cass.{KEYSPACE}.skewed (p, c, v) \
                 SELECT 0, CAST(n AS int), repeat('w', 100) FROM generate_series(1, {WIDE_ROW_COUNT}) AS t(n)"
            ),
            &format!(
                "INSERT INTO cass.{KEYSPACE}.skewed (p, c, v) \
                 SELECT CAST(n AS int), 1, 'narrow' FROM generate_series(1, 10000) AS t(n)"
            ),
            &format!(
                "SELECT p = 0, count(*), count(DISTINCT p), sum(c), sum(length(v)) FROM cass.{KEYSPACE}.skewed \
                 GROUP BY 1 ORDER BY 1"
            ),
        ],
    )?;
    let wide_sum = (WIDE_ROW_COUNT * (WIDE_ROW_COUNT + 1) / 2).to_string();
    let expected = [["f", "10000", "10000", "10000", "60000"], ["t", "100000", "1", &wide_sum, "10000000"]];
    ensure!(rows == expected.map(|row| row.map(|cell| Some(cell.to_owned())).to_vec()), "the partitions hold {rows:?}");
    Ok(())
}
