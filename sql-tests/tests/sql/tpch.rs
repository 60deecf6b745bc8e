//! The 22 queries of TPC-H give DuckDB's answers: on Parquet, and with customer and orders in Cassandra.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::answers::{Row, check_same, read_tsv};
use sluice_sql_tests::sample_data::TABLES;
use sluice_sql_tests::sluice_process::{Layout, Service};
use sluice_sql_tests::{python, runner};

use crate::bed::{Bed, trial};

const SCALE_FACTOR: &str = "0.1";

/// Columns (from 0) of each query's ORDER BY, in its SELECT list.
const ORDER_BY: [&[usize]; 22] = [
    &[0, 1],
    &[0, 2, 1, 3],
    &[1, 2],
    &[0],
    &[1],
    &[],
    &[0, 1, 2],
    &[0],
    &[0, 1],
    &[2],
    &[1],
    &[0],
    &[1, 0],
    &[],
    &[0],
    &[3, 0, 1, 2],
    &[],
    &[4, 3],
    &[],
    &[0],
    &[1, 0],
    &[0],
];

/// Where the tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Parquet,
    /// Customer and orders in Cassandra, the others in Parquet.
    Mixed,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Mixed => "cassandra_and_parquet",
        }
    }

    /// The schema of catalog `sluice` whose eight names are the tables of this source.
    fn schema(self) -> String {
        format!("tpch_{}", self.name())
    }
}

/// What tests of one layout make once.
#[derive(Default)]
struct Prepared {
    parquet: Mutex<bool>,
    mixed: Mutex<bool>,
}

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let answers = Arc::new(Mutex::new(None));
    let mut trials = Vec::new();
    for layout in Layout::ALL {
        let prepared = Arc::new(Prepared::default());
        for source in [Source::Parquet, Source::Mixed] {
            for number in 1..=22 {
                let (prepared, answers) = (prepared.clone(), answers.clone());
                let name = format!("{}::tpch_{}::q{number:02}", layout.name(), source.name());
                trials.push(trial(bed, name, move |bed| {
                    let dir = duckdb_answers(bed, &answers)?;
                    let service = bed.service(layout)?;
                    prepare(bed, &service, source, &prepared)?;
                    check(bed, &service, source, number, &dir)
                }));
            }
        }
    }
    trials
}

/// DuckDB's answers over the same files, one file of tab-separated values for each query.
fn duckdb_answers(bed: &Bed, answers: &Mutex<Option<PathBuf>>) -> Result<PathBuf> {
    let mut answers = answers.lock().map_err(|_| anyhow::anyhow!("DuckDB's answers could not be made"))?;
    if let Some(dir) = &*answers {
        return Ok(dir.clone());
    }
    let (data, dir) = (bed.tpch(SCALE_FACTOR)?, bed.scratch("duckdb-answers")?);
    let queries = sluice_sql_tests::crate_dir().join("tpch");
    let arguments = [&data, &queries, &dir].map(|path| path.display().to_string());
    python::run(bed.python()?, "tpch/duckdb_answers.py", &arguments.each_ref().map(String::as_str))?;
    *answers = Some(dir.clone());
    Ok(dir)
}

fn prepare(bed: &Bed, service: &Service, source: Source, prepared: &Prepared) -> Result<()> {
    let done = match source {
        Source::Parquet => &prepared.parquet,
        Source::Mixed => &prepared.mixed,
    };
    let mut done = done.lock().map_err(|_| anyhow::anyhow!("the tables could not be made"))?;
    if *done {
        return Ok(());
    }
    let data = bed.tpch(SCALE_FACTOR)?;
    let schema = source.schema();
    let mut statements = vec![format!("CREATE SCHEMA {schema}")];
    for table in TABLES {
        let in_cassandra = source == Source::Mixed && ["customer", "orders"].contains(&table);
        let name = if in_cassandra { format!("{table}_parquet") } else { table.to_owned() };
        statements.push(format!(
            "CREATE EXTERNAL TABLE {schema}.{name} STORED AS PARQUET LOCATION '{}'",
            data.join(format!("{table}.parquet")).display()
        ));
    }
    if source == Source::Mixed {
        let keyspace = format!("tpch_{}", service.layout().name());
        let cassandra = bed.cassandra()?;
        bed.block_on(cassandra.cql(&format!("DROP KEYSPACE IF EXISTS {keyspace}")))?;
        statements.push(format!(
            "CREATE CATALOG IF NOT EXISTS cass_tpch USING cassandra WITH (contact_points = '{}')",
            cassandra.contact_points()
        ));
        statements.push(format!("CREATE SCHEMA cass_tpch.{keyspace} WITH (replication_factor = 1)"));
        for (table, key) in [("customer", "(c_custkey)"), ("orders", "(o_orderkey)")] {
            statements.push(format!(
                "CREATE TABLE cass_tpch.{keyspace}.{table} WITH (primary_key = '{key}') AS SELECT * FROM {schema}.{table}_parquet"
            ));
            statements.push(format!("CREATE VIEW {schema}.{table} AS SELECT * FROM cass_tpch.{keyspace}.{table}"));
        }
    }
    bed.block_on(async {
        let client = service.connect().await?;
        for statement in &statements {
            client.simple_query(statement).await.map_err(runner::SqlError).with_context(|| statement.clone())?;
        }
        anyhow::Ok(())
    })?;
    if source == Source::Mixed {
        let rows = bed.block_on(service.rows(&format!("SELECT count(*) FROM {schema}.orders")))?;
        ensure!(rows == [[Some("150000".to_owned())]], "orders in Cassandra: {rows:?} instead of 150000 rows");
    }
    *done = true;
    Ok(())
}

fn check(bed: &Bed, service: &Service, source: Source, number: usize, answers: &Path) -> Result<()> {
    let query = std::fs::read_to_string(sluice_sql_tests::crate_dir().join(format!("tpch/q{number:02}.sql")))?;
    let expected = read_tsv(&std::fs::read_to_string(answers.join(format!("q{number:02}.tsv")))?);
    ensure!(!expected.is_empty(), "DuckDB gave no row, so that there is nothing to compare");
    let actual: Vec<Row> = bed.block_on(async {
        let client = service.connect().await?;
        client.simple_query(&format!("SET search_path = {}", source.schema())).await.map_err(runner::SqlError)?;
        if service.layout() == Layout::Cluster {
            client.simple_query("SET sluice.single_task_max_bytes = 0").await.map_err(runner::SqlError)?;
        }
        anyhow::Ok(runner::text_rows(client.simple_query(&query).await.map_err(runner::SqlError)?))
    })?;
    check_same(&expected, &actual, ORDER_BY[number - 1])
}
