//! A query's answer does not depend on what of it Cassandra answers.
//!
//! Random queries are run over a copy of the tables in Parquet, and over the tables in Cassandra with each of the
//! settings that decide what the nodes are asked: all answers must be the same.
//!
//! `SLUICE_QUERIES` is the number of queries (300), `SLUICE_SEED` makes others.

mod grammar;
mod random;
mod tables;

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use scylla::statement::{Consistency, Statement};
use sluice_sql_tests::runner::{SqlError, text_rows};
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};
use crate::faults::run;
use grammar::{Answer, Grammar, Query};
use random::Random;
use tables::{TABLES, Table};

/// Queries of a run: about half a minute of a debug build.
const QUERIES: usize = 300;
/// The queries of a run whose environment names no other seed: the same ones each time.
const SEED: u64 = 7;
/// Wrong answers after which a run ends.
const SHOWN: usize = 10;
/// The seed of the rows: tables are the same in every run.
const ROWS_SEED: u64 = 5;
/// What the nodes are asked: what they answer without filtering, nothing but all rows, and all that they can filter.
const WAYS: [(&str, &str); 3] = [
    ("pushed down", "SET cassandra.pushdown = on"),
    ("not pushed down", "SET cassandra.pushdown = off"),
    ("filtered by the nodes", "SET cassandra.allow_filtering = on"),
];

type Rows = Vec<Vec<Option<String>>>;

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    Layout::ALL
        .into_iter()
        .map(|layout| {
            let name = format!("{}::cassandra::random_queries_agree", layout.name());
            trial(bed, name, move |bed| random_queries_agree(bed, layout))
        })
        .collect()
}

fn number_from(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} is {text}")),
        Err(_) => Ok(default),
    }
}

fn random_queries_agree(bed: &Bed, layout: Layout) -> Result<()> {
    let seed = number_from("SLUICE_SEED", SEED)?;
    let all = number_from("SLUICE_QUERIES", QUERIES as u64)?;
    // Stages take longer and change nothing of what is pushed down.
    let count = if layout == Layout::Cluster { all / 10 } else { all };
    let service = bed.service(layout)?;
    let keyspace = format!("pushdown_{}", layout.name());
    fill(bed, &service, &keyspace)?;
    copy(bed, &service, &keyspace)?;
    println!("{}: {count} queries with SLUICE_SEED={seed}", layout.name());
    let mut random = Random::new(seed);
    let mut found = 0;
    let mut wrong = Vec::new();
    bed.block_on(async {
        let parquet = service.connect().await?;
        let mut clients = Vec::new();
        for (way, setting) in WAYS {
            let client = service.connect().await?;
            client.simple_query(setting).await.map_err(SqlError)?;
            if layout == Layout::Cluster {
                client.simple_query("SET sluice.single_task_max_bytes = 0").await.map_err(SqlError)?;
            }
            clients.push((way, client));
        }
        for number in 0..count {
            let table = random.pick(TABLES);
            let query = Grammar { table }.query(&mut random);
            let live = on_cassandra(&query, table, &keyspace);
            let expected = answer(&parquet, &on_parquet(&query, table, &keyspace)).await;
            found += usize::from(expected.as_ref().is_ok_and(|rows| !rows.is_empty()));
            for (way, client) in &clients {
                if let Err(error) = compare(&expected, &answer(client, &live).await, query.answer) {
                    wrong.push(format!("query {number}, {way}: {live}\n{error}"));
                }
            }
            if wrong.len() >= SHOWN {
                break;
            }
        }
        ensure!(wrong.is_empty(), "SLUICE_SEED={seed}\n{}", wrong.join("\n"));
        ensure!(found * 4 > count as usize, "only {found} queries of {count} found rows");
        Ok(())
    })
}

/// Makes the tables and their rows.
fn fill(bed: &Bed, service: &Service, keyspace: &str) -> Result<()> {
    let cassandra = bed.cassandra()?;
    let mut statements = vec![
        "DROP KEYSPACE IF EXISTS KS".to_owned(),
        "CREATE KEYSPACE KS WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}".to_owned(),
    ];
    for table in TABLES {
        statements.push(table.create());
        statements.extend(table.indexes.iter().map(|index| (*index).to_owned()));
    }
    let catalog = format!(
        "CREATE CATALOG {keyspace} USING cassandra WITH (contact_points = '{}', page_size_rows = '50')",
        cassandra.contact_points()
    );
    bed.block_on(async {
        cassandra.cql(&statements.join(";\n").replace("KS", keyspace)).await?;
        let session = cassandra.session().await?;
        let mut random = Random::new(ROWS_SEED);
        for table in TABLES {
            for _ in 0..table.row_count {
                let mut insert = Statement::new(table.insert(&mut random).replace("KS", keyspace));
                insert.set_consistency(Consistency::All);
                session.query_unpaged(insert.clone(), ()).await.with_context(|| insert.contents.clone())?;
            }
        }
        anyhow::Ok(())
    })?;
    run(bed, service, &[&catalog]).map(|_| ())
}

/// Copies the tables to Parquet, with the tokens of their partitions.
fn copy(bed: &Bed, service: &Service, keyspace: &str) -> Result<()> {
    let dir = bed.scratch(keyspace)?.display().to_string();
    run(bed, service, &[&format!("CREATE SCHEMA {keyspace}_copy")])?;
    for Table { name, partition_key, .. } in TABLES {
        let (key, live) = (partition_key.join(", "), format!("{keyspace}.{keyspace}.{name}"));
        let file = format!("{dir}/{name}.parquet");
        let copied = run(
            bed,
            service,
            &[
                &format!("COPY (SELECT *, token({key}) AS tok FROM {live}) TO '{file}' STORED AS PARQUET"),
                &format!("CREATE EXTERNAL TABLE {keyspace}_copy.{name} STORED AS PARQUET LOCATION '{file}'"),
                &format!("SELECT count(*) FROM {keyspace}_copy.{name}"),
            ],
        )?;
        ensure!(copied != [[Some("0".to_owned())]], "{name} is empty");
    }
    Ok(())
}

fn on_cassandra(query: &Query, table: &Table, keyspace: &str) -> String {
    let token = format!("token({})", table.partition_key.join(", "));
    query.sql.replace("TABLE", &format!("{keyspace}.{keyspace}.{}", table.name)).replace("TOKEN", &token)
}

fn on_parquet(query: &Query, table: &Table, keyspace: &str) -> String {
    query.sql.replace("TABLE", &format!("{keyspace}_copy.{}", table.name)).replace("TOKEN", "tok")
}

async fn answer(client: &tokio_postgres::Client, sql: &str) -> Result<Rows, String> {
    client.simple_query(sql).await.map(text_rows).map_err(|error| SqlError(error).to_string())
}

/// An error is an answer too; which one of several a query gives depends on the row that comes first.
fn compare(expected: &Result<Rows, String>, found: &Result<Rows, String>, answer: Answer) -> Result<()> {
    match (expected, found) {
        (Err(_), Err(_)) => Ok(()),
        (Ok(expected), Ok(found)) => {
            let sorted = |rows: &Rows| {
                let mut rows = rows.clone();
                rows.sort();
                rows
            };
            let same = match answer {
                Answer::List => expected == found,
                Answer::Set => sorted(expected) == sorted(found),
                Answer::Count => expected.len() == found.len(),
            };
            ensure!(same, "{} rows {found:?}\ninstead of {} rows {expected:?}", found.len(), expected.len());
            Ok(())
        }
        (expected, found) => bail!("{found:?}\ninstead of {expected:?}"),
    }
}
