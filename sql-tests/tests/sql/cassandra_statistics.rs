//! What `ANALYZE` finds changes plans, and is there after a restart.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};
use crate::faults::run;

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    Layout::ALL
        .into_iter()
        .map(|layout| {
            trial(bed, format!("cassandra::analyzed_tables_join_the_right_way_round::{}", layout.name()), move |bed| {
                analyzed_tables_join_the_right_way_round(bed, layout)
            })
        })
        .collect()
}

/// The side of a join that is built: the plan's first scan.
fn build_side(bed: &Bed, service: &Service, query: &str) -> Result<String> {
    // Reads by key would leave no side to build.
    let explain = format!("EXPLAIN {query}");
    let plan: Vec<String> =
        run(bed, service, &["SET cassandra.direct_join = 'off'", &explain])?.into_iter().flatten().flatten().collect();
    let plan = plan.join("\n");
    let (_, scan) = plan.split_once("CassandraScanExec: table=").with_context(|| format!("no scan in {plan}"))?;
    Ok(scan.split(',').next().unwrap_or_default().to_owned())
}

fn analyzed_tables_join_the_right_way_round(bed: &Bed, layout: Layout) -> Result<()> {
    let cassandra = bed.cassandra()?;
    let mut service = bed.own_service(layout, &[])?;
    let keyspace = format!("analyzed_{}", layout.name());
    bed.block_on(cassandra.cql(&format!("DROP KEYSPACE IF EXISTS {keyspace}")))?;
    let table = |name: &str, rows: u32| {
        format!(
            "CREATE TABLE cass.{keyspace}.{name} WITH (primary_key = 'n') AS \
             SELECT n, n % 7 AS kind, repeat('x', 50) AS filler FROM generate_series(1, {rows}) AS t(n)"
        )
    };
    let points = cassandra.contact_points();
    run(
        bed,
        &service,
        &[
            &format!("CREATE CATALOG cass USING cassandra WITH (contact_points = '{points}')"),
            &format!("CREATE SCHEMA cass.{keyspace} WITH (replication_factor = 1)"),
            &table("large", 40_000),
            &table("small", 200),
            &format!("ANALYZE cass.{keyspace}.large"),
            &format!("ANALYZE cass.{keyspace}.small"),
        ],
    )?;
    let join = |first: &str, second: &str| {
        format!(
            "SELECT a.filler, b.filler FROM cass.{keyspace}.{first} a JOIN cass.{keyspace}.{second} b ON a.n = b.kind"
        )
    };
    let rows = format!(
        "SELECT table_name, row_count BETWEEN 30000 AND 50000 OR row_count = 200, distinct_count, sampled_rows > 0 \
         FROM system.table_statistics WHERE schema_name = '{keyspace}' AND column_name = 'kind' ORDER BY 1"
    );
    let found = run(bed, &service, &[&rows])?;
    let wanted = [["large", "t", "7", "t"], ["small", "t", "7", "t"]].map(|row| row.map(|cell| Some(cell.to_owned())));
    ensure!(found == wanted, "the statistics are {found:?}");
    for _ in 0..2 {
        for (first, second) in [("large", "small"), ("small", "large")] {
            let built = build_side(bed, &service, &join(first, second))?;
            ensure!(built == format!("{keyspace}.small"), "{first} with {second} builds {built}");
        }
        bed.block_on(service.restart())?;
        ensure!(run(bed, &service, &[&rows])? == wanted, "the statistics are not there after a restart");
    }
    Ok(())
}
