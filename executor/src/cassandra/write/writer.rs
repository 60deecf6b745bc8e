//! Sends rows: grouped, paced, tried again where that is safe.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt, TryStreamExt};
use scylla::errors::ExecutionError;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;

use super::super::cluster::CassandraCluster;
use super::super::encode::EncodedRow;
use super::super::error::CassandraError;
use super::super::traffic::{count_retry, count_write};
use super::Repeat;
use super::group::{by_partition, by_replicas};
use super::pace::Pace;

/// Tries of one request, each after twice the wait of the one before.
const ATTEMPTS: u32 = 6;
/// The wait before the second try.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// A statement and how its rows are sent.
#[derive(Debug, Clone)]
pub(in super::super) struct Request {
    /// The keyspace of the table.
    pub keyspace: String,
    /// The table.
    pub table: String,
    /// The statement, with a marker for each cell of a row.
    pub cql: String,
    /// How many replicas must acknowledge a row.
    pub consistency: Consistency,
    /// Microseconds since the Unix epoch that all cells carry; `None` leaves it to the node.
    pub timestamp_us: Option<i64>,
    /// Whether a row may be sent again.
    pub repeat: Repeat,
    /// Places of the partition key's cells in a row.
    pub key_cells: Vec<usize>,
}

impl Request {
    pub(in super::super) fn full_name(&self) -> String {
        format!("{}.{}", self.keyspace, self.table)
    }
}

/// What became of the rows, for `EXPLAIN ANALYZE`.
#[derive(Debug, Clone)]
pub(in super::super) struct WriteMetrics {
    /// Rows that were acknowledged.
    pub rows_written: Count,
    /// Requests that they went in.
    pub requests: Count,
    /// Requests that were sent again.
    pub retries: Count,
}

impl WriteMetrics {
    pub(in super::super) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let counter = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        Self { rows_written: counter("rows_written"), requests: counter("requests"), retries: counter("retries") }
    }
}

/// Sends one task's rows.
pub(in super::super) struct Writer {
    cluster: Arc<CassandraCluster>,
    request: Request,
    statement: PreparedStatement,
    /// Batches by their number of rows: they differ in nothing else.
    batches: Mutex<HashMap<usize, Arc<Batch>>>,
    pace: Mutex<Pace>,
    /// Rows with lists that were sent, each a microsecond later than the one before.
    lists_sent: AtomicI64,
    metrics: WriteMetrics,
}

impl Writer {
    /// Prepares the statement.
    pub async fn open(
        cluster: Arc<CassandraCluster>,
        request: Request,
        metrics: WriteMetrics,
    ) -> Result<Self, CassandraError> {
        let what = format!("while writing to {}", request.full_name());
        let mut statement = cluster.prepare(&request.cql, &what).await?;
        statement.set_consistency(request.consistency);
        statement.set_timestamp(request.timestamp_us);
        if request.repeat != Repeat::Same {
            // The driver would send it again as it is.
            statement.set_is_idempotent(false);
            statement.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy)));
        }
        let pace = Mutex::new(Pace::new(cluster.options().write_concurrency));
        Ok(Self {
            cluster,
            request,
            statement,
            batches: Mutex::default(),
            pace,
            lists_sent: AtomicI64::new(0),
            metrics,
        })
    }

    /// Sends all rows, and returns how many were acknowledged.
    pub async fn write(&self, rows: impl Stream<Item = Result<Vec<EncodedRow>>>) -> Result<u64> {
        let in_groups = |rows| futures::stream::iter(self.grouped(rows).into_iter().map(Ok::<_, DataFusionError>));
        let groups = rows.map_ok(in_groups).try_flatten();
        let mut groups = pin!(groups.fuse());
        let mut under_way = FuturesUnordered::new();
        let mut is_over = false;
        loop {
            // What may not be sent again goes one after another, so that an error tells which of it was applied.
            let most = if self.request.repeat == Repeat::Never { 1 } else { self.pace().limit() };
            tokio::select! {
                biased;
                Some(outcome) = under_way.next(), if !under_way.is_empty() => {
                    let outcome: Result<(), CassandraError> = outcome;
                    outcome?;
                }
                group = groups.next(), if !is_over && under_way.len() < most => match group {
                    Some(group) => under_way.push(self.send(group?)),
                    None => is_over = true,
                },
                else => break,
            }
        }
        Ok(self.metrics.rows_written.value() as u64)
    }

    fn grouped(&self, rows: Vec<EncodedRow>) -> Vec<Vec<EncodedRow>> {
        match self.request.repeat {
            Repeat::Never | Repeat::Later => rows.into_iter().map(|row| vec![row]).collect(),
            Repeat::Same => {
                let limits = self.cluster.options().batch_limits();
                let replicas_of = |row: &EncodedRow| {
                    let mut replicas = self.cluster.replicas(&self.statement, row);
                    replicas.sort_unstable();
                    replicas
                };
                let groups = by_replicas(by_partition(rows, &self.request.key_cells, limits), limits, replicas_of);
                groups.into_iter().map(|group| group.rows).collect()
            }
        }
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends rows that the same nodes hold until they are acknowledged.
    async fn send(&self, rows: Vec<EncodedRow>) -> Result<(), CassandraError> {
        let throttle = self.cluster.throttle();
        if let Some(row) = rows.first().filter(|_| throttle.limits_writes()) {
            throttle.wait_to_write(&self.cluster.replicas(&self.statement, row), rows.len()).await;
        }
        let mut backoff = FIRST_BACKOFF;
        let mut attempt = 1;
        loop {
            let started = Instant::now();
            self.pace().sent(started);
            let outcome = self.send_once(&rows).await;
            let now = Instant::now();
            let error = match outcome {
                Ok(()) => {
                    self.pace().answered(now, now.duration_since(started));
                    self.metrics.requests.add(1);
                    self.metrics.rows_written.add(rows.len());
                    count_write(rows.len());
                    return Ok(());
                }
                Err(error) => CassandraError::from_execution("while writing", &error),
            };
            match error.is_transient() {
                true => self.pace().overloaded(now),
                false => self.pace().refused(),
            }
            if self.request.repeat == Repeat::Never {
                return Err(self.stopped_once_by(error));
            }
            if attempt >= ATTEMPTS || !error.is_transient() {
                return Err(self.stopped_by(error));
            }
            self.metrics.retries.add(1);
            count_retry();
            tokio::time::sleep(backoff).await;
            backoff *= 2;
            attempt += 1;
        }
    }

    async fn send_once(&self, rows: &[EncodedRow]) -> Result<(), ExecutionError> {
        let session = self.cluster.session();
        // Of two lists with one timestamp the elements of both would stay, be it one row sent twice or a static list
        // that comes with each row of its partition.
        let timestamp_us = match self.request.repeat {
            Repeat::Later => {
                self.request.timestamp_us.map(|first| first + self.lists_sent.fetch_add(1, Ordering::Relaxed))
            }
            Repeat::Same | Repeat::Never => None,
        };
        match (rows, timestamp_us) {
            ([row], None) => session.execute_unpaged(&self.statement, row).await?,
            ([row], later) => {
                let mut statement = self.statement.clone();
                statement.set_timestamp(later);
                session.execute_unpaged(&statement, row).await?
            }
            (rows, None) => session.batch(&self.batch(rows.len()), rows).await?,
            (rows, later) => {
                let mut batch = self.batch(rows.len()).as_ref().clone();
                batch.set_timestamp(later);
                session.batch(&batch, rows).await?
            }
        };
        Ok(())
    }

    fn batch(&self, row_count: usize) -> Arc<Batch> {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = batches.entry(row_count).or_insert_with(|| {
            let statements = vec![BatchStatement::PreparedStatement(self.statement.clone()); row_count];
            let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
            batch.set_consistency(self.request.consistency);
            batch.set_timestamp(self.request.timestamp_us);
            batch.set_is_idempotent(self.request.repeat == Repeat::Same);
            if self.request.repeat != Repeat::Same {
                batch.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy)));
            }
            Arc::new(batch)
        });
        batch.clone()
    }

    /// The error of a change that is not sent again.
    fn stopped_once_by(&self, error: CassandraError) -> CassandraError {
        let acknowledged_keys = self.metrics.rows_written.value() as u64;
        let is_unknown = error.leaves_open_what_happened();
        if acknowledged_keys == 0 && !is_unknown {
            return error;
        }
        CassandraError::Once { table: self.request.full_name(), acknowledged_keys, is_unknown, source: Box::new(error) }
    }

    /// The error with what is known of the rows before it.
    pub fn stopped_by(&self, error: CassandraError) -> CassandraError {
        CassandraError::Write {
            table: self.request.full_name(),
            acknowledged_rows: self.metrics.rows_written.value() as u64,
            source: Box::new(error),
        }
    }
}
