//! The plain scylla driver as the bench's limit: what Cassandra gives to a Rust client that does nothing else.
//!
//!     plain_driver scan  CONTACT_POINTS KEYSPACE TABLE KEY COLUMNS CONCURRENCY             aggregates over a whole table
//!     plain_driver point CONTACT_POINTS KEYSPACE TABLE KEY COUNT                           reads by key, in turn
//!     plain_driver keys  CONTACT_POINTS KEYSPACE TABLE KEY COLUMNS KEYS_FILE CONCURRENCY   aggregates over reads by key
//!     plain_driver write CONTACT_POINTS KEYSPACE TABLE KEY COLUMNS TARGET ROWS CONCURRENCY BATCH_ROWS
//!                                                                       rows of a table into another with these columns
//!
//! CONTACT_POINTS is `host:port,host:port`, KEY the table's one partition key column, COLUMNS names with commas between,
//! all as CQL writes them. KEYS_FILE has a `bigint` on each line. CONCURRENCY is how many token ranges, keys or batches
//! are under way at a time. ROWS is `all`, or about how many rows to take, evenly from the whole ring. BATCH_ROWS is 1
//! for single inserts. What is best is for the caller to find out.
//!
//! The answer is one line of JSON; times leave out the connecting and preparing, and for a write the reading.
//! `PLAIN_DRIVER_PAGE_ROWS` is the page size of scans (5000).

mod aggregate;
mod keys;
mod ring;
mod scan;
mod write;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

/// A table with one partition key column.
#[derive(Debug, Clone, Copy)]
struct Table<'a> {
    keyspace: &'a str,
    name: &'a str,
    key: &'a str,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [command, contact_points, keyspace, name, key, rest @ ..] = arguments.as_slice() else {
        bail!("usage: plain_driver scan|point|keys|write CONTACT_POINTS KEYSPACE TABLE KEY ...");
    };
    let session = Arc::new(connect(contact_points).await?);
    let table = Table { keyspace, name, key };
    let answer = match (*command, rest) {
        ("scan", [columns, concurrency]) => scan::scan(&session, table, columns, number(concurrency)?).await?,
        ("point", [count]) => keys::point(&session, table, number(count)?).await?,
        ("keys", [columns, file, concurrency]) => {
            keys::aggregate(&session, table, columns, file, number(concurrency)?).await?
        }
        ("write", [columns, target, rows, concurrency, batch_rows]) => {
            let rows = if *rows == "all" { None } else { Some(number(rows)?) };
            let target = Table { name: target, ..table };
            write::write(&session, table, target, columns, rows, number(concurrency)?, number(batch_rows)?).await?
        }
        _ => bail!("{command} does not take {} arguments", rest.len()),
    };
    println!("{answer}");
    Ok(())
}

fn number(text: &str) -> Result<usize> {
    text.parse().ok().filter(|number| *number > 0).with_context(|| format!("{text} is not a positive number"))
}

async fn connect(contact_points: &str) -> Result<Session> {
    let nodes: Vec<&str> = contact_points.split(',').map(str::trim).collect();
    SessionBuilder::new().known_nodes(nodes).build().await.with_context(|| format!("connecting to {contact_points}"))
}

/// A statement with the consistency that Sluice has by default for it.
async fn prepare(session: &Session, cql: String, consistency: Consistency) -> Result<PreparedStatement> {
    let mut statement = session.prepare(cql.as_str()).await.with_context(|| cql.clone())?;
    statement.set_consistency(consistency);
    // So that the driver's retries, which are its own, may repeat it.
    statement.set_is_idempotent(true);
    Ok(statement)
}
