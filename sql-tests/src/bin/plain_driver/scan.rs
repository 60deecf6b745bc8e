//! A scan: every cell of some columns is fetched and decoded.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use scylla::client::session::Session;

use super::Table;
use super::aggregate::Aggregates;
use super::ring::RingRead;

/// Aggregates of the columns over the whole table.
pub async fn scan(session: &Arc<Session>, table: Table<'_>, columns: &str, ranges_in_flight: usize) -> Result<String> {
    let read = RingRead::prepare(session, table, columns).await?;
    let none = Aggregates::of(&read.statement)?;
    let started = Instant::now();
    let parts = read.read(
        ranges_in_flight,
        |_| none.clone(),
        |part, page| {
            part.add_page(page)?;
            Ok(ControlFlow::Continue(()))
        },
    );
    let all = parts.await?.into_iter().try_fold(none.clone(), Aggregates::plus)?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(format!("{{\"seconds\": {seconds:.4}, \"rows\": {}, \"values\": {}}}", all.row_count, all.json()))
}
