//! Reading one partition of a scan: requests, their pages, batches of rows.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count};
use futures::{Stream, StreamExt, TryStreamExt};
use scylla::cluster::metadata::ColumnType;
use scylla::deserialize::row::ColumnIterator;
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::mpsc;

use super::cluster::CassandraCluster;
use super::decode::ColumnDecoder;
use super::encode::EncodedRow;
use super::error::CassandraError;
use super::page::{Patience, page};
use super::replicas::ReplicasFirst;
use super::spec::ScanSpec;
use super::split::{TokenRange, decode_ranges, token_of};
use super::throttle::Debt;

/// Point reads that one task has under way.
const KEYS_IN_FLIGHT: usize = 64;
/// How long a page of a scan is asked for again.
const PATIENCE: Patience = Patience { attempts: 6, first_backoff: Duration::from_millis(100), least_page_rows: 100 };
/// Rows after which a batch is given away; the rows of many keys come one by one.
const BATCH_ROWS: usize = 4_096;
/// Bytes of cells after which a batch is given away, however few rows it has.
const BATCH_BYTES: usize = 2 << 20;

/// What a partition has read.
pub struct ReadMetrics {
    /// Time and rows.
    pub baseline: BaselineMetrics,
    /// Pages that came.
    pub pages: Count,
    /// Bytes of their rows.
    pub bytes_read: Count,
    /// Pages that were asked for again.
    pub retries: Count,
    /// Partition keys that were read one by one.
    pub keys: Count,
}

/// Reads one partition of a scan.
pub struct Reader {
    /// What is read.
    pub spec: Arc<ScanSpec>,
    /// The schema of its rows.
    pub schema: SchemaRef,
    /// Where they go.
    pub output: mpsc::Sender<Result<RecordBatch>>,
    /// What is told of it.
    pub metrics: ReadMetrics,
}

/// A statement with its values: one range, one key, or one question to an index.
struct Request {
    statement: PreparedStatement,
    values: EncodedRow,
    /// The nodes that answer it, where they are known or matter.
    replicas: Vec<IpAddr>,
}

impl Reader {
    /// Reads what the partition's ranges and the scan's keys say; ends early if nobody wants more rows.
    pub async fn read(self, descriptors: SendableRecordBatchStream) -> Result<()> {
        let batches: Vec<RecordBatch> = descriptors.try_collect().await?;
        let ranges = batches.iter().map(decode_ranges).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let cluster = CassandraCluster::shared(&self.spec.options).await?;
        let mut statement = cluster.prepare_read(&self.spec.cql(), &self.spec.what()).await?;
        let page_rows = self.spec.limit.and_then(|limit| i32::try_from(limit).ok()).unwrap_or(i32::MAX);
        let page_rows = cluster.throttle().page_rows(self.spec.options.page_size_rows.min(page_rows));
        statement.set_page_size(page_rows.max(1));
        statement.set_consistency(self.spec.read_consistency());
        let types: Vec<ColumnType<'static>> = statement
            .get_current_result_set_col_specs()
            .get()
            .iter()
            .map(|spec| spec.typ().clone().into_owned())
            .collect();
        let (requests, in_flight) = self.requests(&statement, ranges);
        let pages = futures::stream::iter(requests)
            .map(|request| self.pages(&cluster, request).boxed())
            .flatten_unordered(Some(in_flight.max(1)));
        self.give_rows(pages, &types).await
    }

    /// What to ask for, and how much of it at a time.
    fn requests(&self, statement: &PreparedStatement, ranges: Vec<TokenRange>) -> (Vec<Request>, usize) {
        let spec = &self.spec;
        let of = |values: EncodedRow| Request { statement: statement.clone(), values, replicas: Vec::new() };
        if spec.nearest.is_some() {
            return (vec![of(EncodedRow::default())], 1);
        }
        if let Some(keys) = &spec.keys {
            let mut requests = Vec::with_capacity(keys.rows.len());
            for key in &keys.rows {
                let partition_key = key.get(..spec.partition_key.len()).unwrap_or(key);
                let token = token_of(partition_key);
                if ranges.iter().any(|range| range.contains(token)) {
                    requests.push(of(EncodedRow::of_raw(key)));
                }
            }
            self.metrics.keys.add(requests.len());
            return (requests, KEYS_IN_FLIGHT);
        }
        let requests = ranges.into_iter().map(|range| {
            let mut request = of(EncodedRow::default());
            let policy = ReplicasFirst::new(&range.replicas, range.start);
            request.replicas = policy.replicas().to_vec();
            request.statement.set_load_balancing_policy(Some(Arc::new(policy)));
            request.values.push_raw(&range.start.to_be_bytes());
            request.values.push_raw(&range.end.to_be_bytes());
            request
        });
        (requests.collect(), spec.options.ranges_in_flight)
    }

    /// The pages of one request, one after another, as fast as the cluster may be read.
    fn pages<'a>(
        &'a self,
        cluster: &'a CassandraCluster,
        mut request: Request,
    ) -> impl Stream<Item = Result<QueryRowsResult, CassandraError>> + 'a {
        self.spec.bound_values().for_each(|value| request.values.push_raw(value));
        if request.replicas.is_empty() && cluster.throttle().limits_reads() {
            request.replicas = cluster.replicas(&request.statement, &request.values);
        }
        let first = (Some((request, PagingState::start())), None);
        futures::stream::try_unfold(
            first,
            move |(next, debt): (Option<(Request, PagingState)>, Option<Debt>)| async move {
                if let Some(debt) = debt {
                    cluster.throttle().pay(debt).await;
                }
                let Some((mut request, state)) = next else { return Ok(None) };
                let turn = cluster.throttle().begin(&request.replicas).await;
                let Request { statement, values, .. } = &mut request;
                let (rows, next) =
                    page(cluster, statement, values, &state, &self.spec.what(), PATIENCE, &self.metrics.retries)
                        .await?;
                self.metrics.pages.add(1);
                self.metrics.bytes_read.add(rows.rows_bytes_size());
                let debt = turn.end(rows.rows_num());
                let next = match next {
                    PagingStateResponse::HasMorePages { state } => Some((request, state)),
                    PagingStateResponse::NoMorePages => None,
                };
                Ok(Some((rows, (next, Some(debt)))))
            },
        )
    }

    /// Gathers the rows of pages into batches and gives them away, up to the scan's limit.
    async fn give_rows(
        &self,
        pages: impl Stream<Item = Result<QueryRowsResult, CassandraError>>,
        types: &[ColumnType<'static>],
    ) -> Result<()> {
        let mut pages = std::pin::pin!(pages);
        let mut rows = Rows::new(self, types)?;
        let mut left = self.spec.limit.unwrap_or(usize::MAX);
        while let Some(page) = pages.next().await {
            let page = page?;
            {
                let _timer = self.metrics.baseline.elapsed_compute().timer();
                rows.add(self, &page, left)?;
            }
            let is_last = rows.count >= left;
            if is_last || rows.count >= BATCH_ROWS || rows.bytes >= BATCH_BYTES {
                left -= rows.count.min(left);
                if !self.give(rows.take(self)?).await || is_last {
                    return Ok(());
                }
            }
        }
        if rows.count > 0 {
            self.give(rows.take(self)?).await;
        }
        Ok(())
    }

    /// Whether more is wanted.
    async fn give(&self, batch: RecordBatch) -> bool {
        self.metrics.baseline.record_output(batch.num_rows());
        self.output.send(Ok(batch)).await.is_ok()
    }

    fn broken(&self, reason: String) -> CassandraError {
        CassandraError::Refused { what: self.spec.what(), reason }
    }
}

/// Rows on their way into a batch.
struct Rows {
    decoders: Vec<ColumnDecoder>,
    count: usize,
    bytes: usize,
}

impl Rows {
    fn new(reader: &Reader, types: &[ColumnType<'static>]) -> Result<Self, CassandraError> {
        let columns = reader.spec.columns.iter().zip(types).zip(reader.schema.fields());
        let decoders = columns
            .map(|((column, cql), field)| ColumnDecoder::new(&column.name(), cql, field.data_type(), BATCH_ROWS))
            .collect::<Result<_, _>>()?;
        Ok(Self { decoders, count: 0, bytes: 0 })
    }

    /// Adds a page's rows, up to so many in all.
    fn add(&mut self, reader: &Reader, page: &QueryRowsResult, most: usize) -> Result<(), CassandraError> {
        let wanted = page.rows_num().min(most.saturating_sub(self.count));
        self.bytes += page.rows_bytes_size();
        if self.decoders.is_empty() {
            self.count += wanted;
            return Ok(());
        }
        let rows = page.rows::<ColumnIterator<'_, '_>>().map_err(|error| reader.broken(error.to_string()))?;
        for row in rows.take(wanted) {
            let mut cells = row.map_err(|error| reader.broken(error.to_string()))?;
            for decoder in &mut self.decoders {
                match cells.next() {
                    Some(Ok(cell)) => decoder.append(cell.slice.map(|slice| slice.as_slice()))?,
                    Some(Err(error)) => return Err(reader.broken(error.to_string())),
                    None => return Err(reader.broken("a row with too few columns".to_owned())),
                }
            }
            self.count += 1;
        }
        Ok(())
    }

    /// The batch so far; the next one starts.
    fn take(&mut self, reader: &Reader) -> Result<RecordBatch, CassandraError> {
        let columns = self.decoders.iter_mut().map(ColumnDecoder::finish).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.count));
        (self.count, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(reader.schema.clone(), columns, &options)
            .map_err(|error| reader.broken(error.to_string()))
    }
}
