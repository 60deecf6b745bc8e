//! A Cassandra table joined with rows of this program, by DataFusion alone: no server, no cluster of Sluice's.
//!
//!     cargo run -p sluice-executor --example join_memtable -- 127.0.0.1:9042 shop.customer c_custkey
//!
//! The table's key column holds whole numbers. The arguments may also be given as `CONTACT_POINT`, `TABLE` and `KEY`.

use std::sync::Arc;

use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use sluice_executor::cassandra::{CassandraCatalog, CassandraOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let contact_point = argument(1, "CONTACT_POINT", "127.0.0.1:9042");
    let (table, key) = (argument(2, "TABLE", "shop.customer"), argument(3, "KEY", "c_custkey"));

    let context = SessionContext::new();
    let options = CassandraOptions { contact_points: vec![contact_point], ..CassandraOptions::default() };
    context.register_catalog("cass", Arc::new(CassandraCatalog::new(options)));

    let wanted = RecordBatch::try_from_iter([
        ("number", Arc::new(Int64Array::from(vec![1, 2, 3])) as _),
        ("why", Arc::new(StringArray::from(vec!["new", "asked", "moved"])) as _),
    ])?;
    context.register_table("wanted", Arc::new(MemTable::try_new(wanted.schema(), vec![vec![wanted]])?))?;

    let sql = format!("SELECT w.why, t.* FROM wanted w JOIN cass.{table} t ON t.{key} = w.number ORDER BY w.number");
    println!("{}", pretty_format_batches(&context.sql(&sql).await?.collect().await?)?);
    Ok(())
}

/// An argument of the command line, else a variable of the environment, else `default`.
fn argument(place: usize, variable: &str, default: &str) -> String {
    std::env::args().nth(place).or_else(|| std::env::var(variable).ok()).unwrap_or_else(|| default.to_owned())
}
