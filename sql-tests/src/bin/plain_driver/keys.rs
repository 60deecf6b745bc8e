//! Reads by key: one after another for their latency, and many at a time for their throughput.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use scylla::client::session::Session;
use scylla::statement::Consistency;
use scylla::value::{CqlValue, Row};

use super::aggregate::Aggregates;
use super::{Table, prepare};

/// The median of so many reads of whole rows by keys from all over the ring, one after another on one session.
pub async fn point(session: &Session, table: Table<'_>, count: usize) -> Result<String> {
    let Table { keyspace, name, key } = table;
    let next_key = format!("SELECT {key} FROM {keyspace}.{name} WHERE token({key}) > ? LIMIT 1");
    let next_key = prepare(session, next_key, Consistency::LocalOne).await?;
    let mut keys: Vec<CqlValue> = Vec::with_capacity(count);
    for index in 0..count {
        let token = i128::from(i64::MIN) + (1_i128 << 64) * index as i128 / count as i128;
        let found = session.execute_unpaged(&next_key, (token as i64,)).await?.into_rows_result()?;
        keys.extend(found.maybe_first_row::<(CqlValue,)>()?.map(|(key,)| key));
    }
    ensure!(!keys.is_empty(), "{keyspace}.{name} has no rows");

    let read = format!("SELECT * FROM {keyspace}.{name} WHERE {key} = ?");
    let read = prepare(session, read, Consistency::LocalOne).await?;
    let mut times_ms = Vec::with_capacity(keys.len());
    for key in &keys {
        let started = Instant::now();
        let rows = session.execute_unpaged(&read, (key,)).await?.into_rows_result()?;
        let row: Row = rows.first_row()?;
        times_ms.push(started.elapsed().as_secs_f64() * 1e3);
        ensure!(!row.columns.is_empty(), "a row without columns");
    }
    times_ms.sort_by(f64::total_cmp);
    Ok(format!("{{\"median_ms\": {:.4}, \"reads\": {}}}", times_ms[times_ms.len() / 2], times_ms.len()))
}

/// Aggregates of the columns over the rows of the keys in a file, `concurrency` reads at a time.
pub async fn aggregate(
    session: &Arc<Session>,
    table: Table<'_>,
    columns: &str,
    file: &str,
    concurrency: usize,
) -> Result<String> {
    let Table { keyspace, name, key } = table;
    let keys = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
    let keys: Vec<i64> = keys.lines().map(str::parse).collect::<Result<_, _>>().context("a key")?;
    let read = format!("SELECT {columns} FROM {keyspace}.{name} WHERE {key} = ?");
    let read = prepare(session, read, Consistency::LocalOne).await?;
    let none = Aggregates::of(&read)?;
    let (keys, next) = (Arc::new(keys), Arc::new(AtomicUsize::new(0)));
    let started = Instant::now();
    let worker = |_| {
        let (session, read, keys, next) = (session.clone(), read.clone(), keys.clone(), next.clone());
        let mut part = none.clone();
        tokio::spawn(async move {
            while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
                part.add_page(&session.execute_unpaged(&read, (key,)).await?.into_rows_result()?)?;
            }
            Ok::<_, anyhow::Error>(part)
        })
    };
    let workers: Vec<_> = (0..concurrency).map(worker).collect();
    let mut all = none.clone();
    for worker in workers {
        all = all.plus(worker.await.context("a task of the reads")??)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(format!("{{\"seconds\": {seconds:.4}, \"rows\": {}, \"values\": {}}}", all.row_count, all.json()))
}
