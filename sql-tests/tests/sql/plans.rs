//! What EXPLAIN says: plans over Parquet as snapshots, and what goes to Cassandra.
//!
//! `INSTA_UPDATE=always` writes the snapshots anew.

use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::runner::text_rows;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};

/// Plans that are cut into stages, by name.
const SNAPSHOTS: [(&str, &str); 4] = [
    (
        "aggregate",
        "SELECT l_returnflag, count(*), sum(l_quantity) FROM '${DATA}/lineitem.parquet' WHERE l_tax > 0.02 GROUP BY 1",
    ),
    (
        "join_of_large_tables",
        "SELECT o_orderpriority, count(*) FROM '${DATA}/orders.parquet' JOIN '${DATA}/lineitem.parquet' ON o_orderkey = l_orderkey GROUP BY 1",
    ),
    (
        "join_with_a_small_table",
        "SELECT n_name, sum(s_acctbal) FROM '${DATA}/supplier.parquet' JOIN '${DATA}/nation.parquet' ON s_nationkey = n_nationkey GROUP BY 1",
    ),
    ("top", "SELECT o_orderkey FROM '${DATA}/orders.parquet' ORDER BY o_totalprice DESC LIMIT 10"),
];

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let mut trials: Vec<Trial> = SNAPSHOTS
        .into_iter()
        .map(|(name, sql)| trial(bed, format!("plan::{name}"), move |bed| snapshot(bed, name, sql)))
        .collect();
    trials.push(trial(bed, "plan::pushed_to_cassandra".to_owned(), pushed_to_cassandra));
    trials
}

/// The plan as text, cut into stages for three executors.
fn explain(bed: &Bed, service: &Service, sql: &str) -> Result<String> {
    bed.block_on(async {
        let client = service.connect().await?;
        client.simple_query("SET sluice.single_task_max_bytes = 0; SET sluice.target_partitions = 3").await?;
        let rows = text_rows(client.simple_query(&format!("EXPLAIN {sql}")).await?);
        Ok(rows.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n"))
    })
}

fn snapshot(bed: &Bed, name: &str, sql: &str) -> Result<()> {
    let data = bed.tpch("0.01")?.display().to_string();
    let service = bed.service(Layout::Embedded)?;
    let plan = explain(bed, &service, &sql.replace("${DATA}", &data))?;
    // Files are named without the leading slash in plans.
    let plan = plan.replace(data.trim_start_matches('/'), "DATA");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(sluice_sql_tests::crate_dir().join("plans"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, plan));
    Ok(())
}

fn pushed_to_cassandra(bed: &Bed) -> Result<()> {
    let cassandra = bed.cassandra()?;
    let service = bed.service(Layout::Embedded)?;
    let setup = "CREATE CATALOG IF NOT EXISTS plans USING cassandra WITH (contact_points = '${CASSANDRA}');
        CREATE SCHEMA IF NOT EXISTS plans.plans WITH (replication_factor = 1);
        CREATE TABLE IF NOT EXISTS plans.plans.readings (sensor text, day int, at int, value double, note text,
            PRIMARY KEY ((sensor, day), at))";
    bed.block_on(async {
        let client = service.connect().await?;
        client.batch_execute(&setup.replace("${CASSANDRA}", cassandra.contact_points())).await?;
        Ok::<(), anyhow::Error>(())
    })?;
    let cases: [(&str, &[&str]); 5] = [
        (
            "SELECT value FROM plans.plans.readings",
            &["columns=[value]", "pushed=[]", "token_ranges=", "preferred_hosts=[127.0."],
        ),
        (
            "SELECT value FROM plans.plans.readings WHERE sensor = 'a' AND day = 1 AND at > 5 AND value > 2",
            &["columns=[value]", "partition_keys=1", "at > Int32(5)", "FilterExec: value@0 > 2"],
        ),
        ("SELECT value FROM plans.plans.readings WHERE sensor IN ('a', 'b') AND day = 1", &["partition_keys=2"]),
        (
            "SELECT value FROM plans.plans.readings WHERE sensor IN ('a', 'b', 'c', 'd', 'e') AND day IN (1, 2)",
            &["partition_keys=10"],
        ),
        ("SELECT value FROM plans.plans.readings LIMIT 7", &["limit=7"]),
    ];
    for (sql, wanted) in cases {
        let plan = explain(bed, &service, sql)?;
        for part in wanted {
            ensure!(plan.contains(part), "{part:?} is not in the plan of {sql}:\n{plan}");
        }
    }
    Ok(())
}
