//! A write of rows that are in memory already, encoded: nothing but what the driver and the nodes do takes time.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use scylla::client::session::Session;
use scylla::deserialize::row::ColumnIterator;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;

use super::ring::{RingRead, TokenRange};
use super::{Table, prepare};

/// Token ranges from which the rows are read at a time; that is not measured.
const RANGES_IN_FLIGHT: usize = 8;

/// Writes rows of `source` into `target`, which has the same columns and key, `concurrency` batches at a time.
pub async fn write(
    session: &Arc<Session>,
    source: Table<'_>,
    target: Table<'_>,
    columns: &str,
    row_count: Option<usize>,
    concurrency: usize,
    batch_rows: usize,
) -> Result<String> {
    let rows = read(session, source, columns, row_count).await?;
    let row_count = rows.len();
    ensure!(row_count > 0, "{} has no rows", source.name);
    let marks = vec!["?"; columns.split(',').count()].join(", ");
    let insert = format!("INSERT INTO {}.{} ({columns}) VALUES ({marks})", target.keyspace, target.name);
    let insert = prepare(session, insert, Consistency::LocalQuorum).await?;

    let (batches, next) =
        (Arc::new(batches(session, target, &insert, rows, batch_rows)?), Arc::new(AtomicUsize::new(0)));
    let started = Instant::now();
    let worker = |_| {
        let (session, insert, batches, next) = (session.clone(), insert.clone(), batches.clone(), next.clone());
        tokio::spawn(async move {
            let full = unlogged(&insert, batch_rows);
            while let Some(rows) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                match rows.as_slice() {
                    [row] => session.execute_unpaged(&insert, row).await?,
                    rows if rows.len() == batch_rows => session.batch(&full, rows).await?,
                    rows => session.batch(&unlogged(&insert, rows.len()), rows).await?,
                };
            }
            Ok::<_, anyhow::Error>(())
        })
    };
    let workers: Vec<_> = (0..concurrency).map(worker).collect();
    for worker in workers {
        worker.await.context("a task of the write")??;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(format!("{{\"seconds\": {seconds:.4}, \"rows\": {row_count}}}"))
}

/// Rows from all over the ring; all of them unless there is a number.
async fn read(
    session: &Arc<Session>,
    table: Table<'_>,
    columns: &str,
    row_count: Option<usize>,
) -> Result<Vec<EncodedRow>> {
    let read = RingRead::prepare(session, table, columns).await?;
    let start = |range: TokenRange| {
        let most = row_count.map_or(usize::MAX, |count| (count as f64 * range.share()).ceil() as usize);
        (Vec::new(), most)
    };
    let add = |(rows, most): &mut (Vec<EncodedRow>, usize), page: &QueryRowsResult| {
        for row in page.rows::<ColumnIterator<'_, '_>>()?.take(*most - rows.len()) {
            rows.push(EncodedRow::of(row?)?);
        }
        Ok(if rows.len() < *most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    };
    let parts = read.read(RANGES_IN_FLIGHT, start, add).await?;
    Ok(parts.into_iter().flat_map(|(rows, _)| rows).collect())
}

/// Rows in batches, each for one node, and all of them in an order that asks the nodes in turns.
fn batches(
    session: &Session,
    target: Table<'_>,
    insert: &PreparedStatement,
    rows: Vec<EncodedRow>,
    batch_rows: usize,
) -> Result<Vec<Vec<EncodedRow>>> {
    let state = session.get_cluster_state();
    let mut by_node: HashMap<_, Vec<EncodedRow>> = HashMap::new();
    for row in rows {
        let token = insert.calculate_token(&row)?.context("an insert has a partition key")?;
        let replica = state.get_token_endpoints(target.keyspace, target.name, token).into_iter().next();
        by_node.entry(replica.map(|(node, _)| node.host_id)).or_default().push(row);
    }
    let mut batches = Vec::new();
    for rows in by_node.into_values() {
        let mut rows = rows.into_iter();
        let next_batch = || Some(rows.by_ref().take(batch_rows).collect::<Vec<_>>()).filter(|batch| !batch.is_empty());
        batches.extend(std::iter::from_fn(next_batch));
    }
    batches.sort_by_cached_key(|batch| {
        let mut hasher = DefaultHasher::new();
        batch.first().hash(&mut hasher);
        hasher.finish()
    });
    Ok(batches)
}

fn unlogged(insert: &PreparedStatement, row_count: usize) -> Batch {
    let mut batch = Batch::new_with_statements(BatchType::Unlogged, vec![insert.clone().into(); row_count]);
    batch.set_consistency(Consistency::LocalQuorum);
    batch.set_is_idempotent(true);
    batch
}

/// A row's cells as the protocol has them, each after its length; the length of a null is -1.
#[derive(Debug, Hash)]
struct EncodedRow(Box<[u8]>);

impl EncodedRow {
    fn of(cells: ColumnIterator<'_, '_>) -> Result<Self> {
        let mut bytes = Vec::new();
        for cell in cells {
            let cell = cell?.slice.map(|slice| slice.as_slice());
            let length = cell.map_or(Ok(-1), |cell| i32::try_from(cell.len())).context("a cell's length")?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(cell.unwrap_or_default());
        }
        Ok(Self(bytes.into()))
    }
}

impl SerializeRow for EncodedRow {
    fn serialize(&self, _: &RowSerializationContext<'_>, writer: &mut RowWriter) -> Result<(), SerializationError> {
        let mut rest = &*self.0;
        while let Some((length, cells)) = rest.split_first_chunk() {
            let cell = writer.make_cell_writer();
            rest = match usize::try_from(i32::from_be_bytes(*length)) {
                Ok(length) => {
                    let (value, cells) = cells.split_at(length);
                    cell.set_value(value).map_err(SerializationError::new)?;
                    cells
                }
                Err(_) => {
                    cell.set_null();
                    cells
                }
            };
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
