//! Reading a table: token ranges or partition keys, page by page.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use scylla::cluster::metadata::ColumnType;
use scylla::cluster::{ClusterState, NodeRef};
use scylla::deserialize::row::ColumnIterator;
use scylla::policies::load_balancing::{FallbackPlan, LoadBalancingPolicy, RoutingInfo};
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::routing::Shard;
use scylla::statement::prepared::PreparedStatement;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::cluster::{CassandraCluster, quoted};
use super::decode::ColumnDecoder;
use super::encode::EncodedRow;
use super::error::CassandraError;
use super::options::CassandraOptions;
use super::pushdown::Restriction;
use super::split::{TokenRange, decode_ranges};

/// Batches between the reader and the operator above; more would only hold memory.
const BATCHES_IN_FLIGHT: usize = 2;
/// Point reads that one task has under way.
const KEYS_IN_FLIGHT: usize = 32;
/// Tries of one page, each after twice the wait of the one before.
const PAGE_ATTEMPTS: u32 = 6;
/// The wait before the second try of a page.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// A page is halved after each failure, down to so many rows.
const LEAST_PAGE_ROWS: i32 = 100;

/// What to read, in the form in which plans carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScanSpec {
    /// The cluster.
    pub options: CassandraOptions,
    /// The keyspace.
    pub keyspace: String,
    /// The table or materialized view.
    pub table: String,
    /// The columns to read, in the order of the scan's schema.
    pub columns: Vec<String>,
    /// The columns of the partition key.
    pub partition_key: Vec<String>,
    /// Whole partition keys to read instead of the ranges.
    pub keys: Option<Vec<Vec<Vec<u8>>>>,
    /// Restrictions of the clustering key.
    pub restrictions: Vec<Restriction>,
    /// What is pushed, in words for `EXPLAIN`.
    pub pushed: Vec<String>,
    /// Rows after which a partition may stop.
    pub limit: Option<usize>,
    /// Bytes that the scan will read, as the nodes estimate.
    pub estimated_bytes: Option<u64>,
    /// Rows that the scan will read, as the nodes estimate.
    pub estimated_rows: Option<u64>,
}

impl ScanSpec {
    /// The statement for one range or one key.
    fn cql(&self) -> String {
        let columns = if self.columns.is_empty() {
            // Counting needs rows and no columns; a key column is the cheapest that every row has.
            self.partition_key.first().map(|name| quoted(name)).unwrap_or_default()
        } else {
            self.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
        };
        let mut conditions: Vec<String> = match &self.keys {
            Some(_) => self.partition_key.iter().map(|name| format!("{} = ?", quoted(name))).collect(),
            None => {
                let key = self.partition_key.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
                vec![format!("token({key}) > ?"), format!("token({key}) <= ?")]
            }
        };
        conditions.extend(self.restrictions.iter().map(|r| format!("{} {} ?", quoted(&r.column), r.operator)));
        format!(
            "SELECT {columns} FROM {}.{} WHERE {}",
            quoted(&self.keyspace),
            quoted(&self.table),
            conditions.join(" AND ")
        )
    }

    fn what(&self) -> String {
        format!("while reading {}.{}", self.keyspace, self.table)
    }
}

/// Reads a Cassandra table.
///
/// Unary: partition `i` reads the token ranges that partition `i` of its input describes
/// ([`super::split::descriptor_schema`]).
#[derive(Debug)]
pub struct CassandraScanExec {
    spec: Arc<ScanSpec>,
    schema: SchemaRef,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl CassandraScanExec {
    /// A scan whose rows have this schema, over an input of range descriptors.
    pub fn new(spec: ScanSpec, schema: SchemaRef, input: Arc<dyn ExecutionPlan>) -> Self {
        let partition_count = input.properties().output_partitioning().partition_count();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(partition_count),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { spec: Arc::new(spec), schema, input, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// What is read.
    pub fn spec(&self) -> &ScanSpec {
        &self.spec
    }

    /// Bytes that the scan will read, as the nodes estimate; `None` if they have no estimate.
    pub fn estimated_bytes(&self) -> Option<u64> {
        self.spec.estimated_bytes
    }

    /// The operator without its input, for plans that cross processes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        super::table::encode_node(self.spec.as_ref(), &self.schema)
    }

    /// The operator from its bytes and its input.
    pub fn decode(bytes: &[u8], inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        let (spec, schema) = super::table::decode_node(bytes)?;
        let mut inputs = inputs.into_iter();
        match (inputs.next(), inputs.next()) {
            (Some(input), None) => Ok(Self::new(spec, schema, input)),
            _ => internal_err!("a Cassandra scan takes one input"),
        }
    }

    /// The token ranges that a partition reads, in their order; none if it reads by key.
    pub fn ranges_of(&self, partition: usize) -> Vec<TokenRange> {
        self.ranges_by_partition().into_iter().nth(partition).unwrap_or_default()
    }

    fn ranges_by_partition(&self) -> Vec<Vec<TokenRange>> {
        let Some(source) = self.input.downcast_ref::<DataSourceExec>() else { return Vec::new() };
        let source: &dyn std::any::Any = source.data_source().as_ref();
        let Some(memory) = source.downcast_ref::<MemorySourceConfig>() else { return Vec::new() };
        memory
            .partitions()
            .iter()
            .map(|batches| batches.iter().filter_map(|batch| decode_ranges(batch).ok()).flatten().collect())
            .collect()
    }

    fn hosts_by_partition(&self) -> Vec<Vec<String>> {
        self.ranges_by_partition()
            .into_iter()
            .map(|ranges| ranges.into_iter().next().map(|range| range.replicas).unwrap_or_default())
            .collect()
    }
}

/// Where each partition of a stage's plan would like to run: beside the replicas of the scan in it.
///
/// `None` if the plan has no scan whose partitions are the stage's own.
pub fn preferred_hosts(plan: &Arc<dyn ExecutionPlan>) -> Option<Vec<Vec<String>>> {
    if let Some(scan) = plan.downcast_ref::<CassandraScanExec>() {
        return Some(scan.hosts_by_partition());
    }
    match plan.children().as_slice() {
        [child] => preferred_hosts(child),
        // The probe side of a join decides its partitions; the build side is whole or co-partitioned.
        [build, probe] => preferred_hosts(probe).or_else(|| preferred_hosts(build)),
        _ => None,
    }
}

impl DisplayAs for CassandraScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spec = &self.spec;
        write!(f, "CassandraScanExec: table={}.{}, columns=[{}]", spec.keyspace, spec.table, spec.columns.join(", "))?;
        write!(f, ", pushed=[{}]", spec.pushed.join(", "))?;
        match &spec.keys {
            Some(keys) => write!(f, ", partition_keys={}", keys.len())?,
            None => {
                let partitions = self.ranges_by_partition();
                let mut hosts: Vec<String> = self.hosts_by_partition().into_iter().flatten().collect();
                hosts.sort();
                hosts.dedup();
                let ranges: usize = partitions.iter().map(Vec::len).sum();
                write!(
                    f,
                    ", token_ranges={ranges}, partitions={}, preferred_hosts=[{}]",
                    partitions.len(),
                    hosts.join(", ")
                )?;
            }
        }
        if let Some(limit) = spec.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for CassandraScanExec {
    fn name(&self) -> &'static str {
        "CassandraScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// The input's partitions are the scan's: nothing may come between them.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.as_slice() {
            [input] => Ok(Arc::new(Self::new(self.spec.as_ref().clone(), self.schema.clone(), input.clone()))),
            _ => internal_err!("a Cassandra scan takes one input"),
        }
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let spec = ScanSpec { limit, ..self.spec.as_ref().clone() };
        Some(Arc::new(Self::new(spec, self.schema.clone(), self.input.clone())))
    }

    fn fetch(&self) -> Option<usize> {
        self.spec.limit
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let partitions = self.properties.output_partitioning().partition_count().max(1);
        let share = if args.partition().is_some() { partitions } else { 1 };
        if let Some(rows) = self.spec.estimated_rows {
            statistics.num_rows = Precision::Inexact((rows as usize).div_ceil(share));
        }
        if let Some(bytes) = self.spec.estimated_bytes {
            statistics.total_byte_size = Precision::Inexact((bytes as usize).div_ceil(share));
        }
        Ok(Arc::new(statistics))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let descriptors = self.input.execute(partition, context)?;
        let mut builder = RecordBatchReceiverStream::builder(self.schema.clone(), BATCHES_IN_FLIGHT);
        let reader = Reader {
            spec: self.spec.clone(),
            schema: self.schema.clone(),
            output: builder.tx(),
            baseline: BaselineMetrics::new(&self.metrics, partition),
            pages: MetricBuilder::new(&self.metrics).counter("pages", partition),
            bytes_read: MetricBuilder::new(&self.metrics).counter("bytes_read", partition),
            retries: MetricBuilder::new(&self.metrics).counter("retries", partition),
        };
        builder.spawn(async move { reader.read(descriptors).await });
        Ok(builder.build())
    }
}

/// Why reading stops early.
enum Stop {
    /// The operator above wants no more.
    Enough,
    /// Something failed.
    Failed(CassandraError),
}

impl From<CassandraError> for Stop {
    fn from(error: CassandraError) -> Self {
        Self::Failed(error)
    }
}

/// Reads one partition of a scan.
struct Reader {
    spec: Arc<ScanSpec>,
    schema: SchemaRef,
    output: mpsc::Sender<Result<RecordBatch>>,
    baseline: BaselineMetrics,
    pages: Count,
    bytes_read: Count,
    retries: Count,
}

impl Reader {
    async fn read(self, descriptors: SendableRecordBatchStream) -> Result<()> {
        let batches: Vec<RecordBatch> = descriptors.try_collect().await?;
        let cluster = CassandraCluster::shared(&self.spec.options).await?;
        let mut statement = cluster.prepare(&self.spec.cql(), &self.spec.what()).await?;
        let page_rows = self.spec.limit.and_then(|limit| i32::try_from(limit).ok()).unwrap_or(i32::MAX);
        statement.set_page_size(self.spec.options.page_size_rows.min(page_rows).max(1));
        statement.set_consistency(self.spec.options.read_consistency());
        let types: Vec<ColumnType<'static>> = statement
            .get_current_result_set_col_specs()
            .get()
            .iter()
            .map(|spec| spec.typ().clone().into_owned())
            .collect();
        let emitted = AtomicUsize::new(0);
        let stopped = match &self.spec.keys {
            Some(keys) => {
                // Encoded before the stream is made: a future that borrows the key could not be spawned.
                let keys: Vec<EncodedRow> = keys.iter().map(|key| EncodedRow::of_raw(key)).collect();
                let reads = keys
                    .into_iter()
                    .map(|values| self.read_pages(&cluster, statement.clone(), values, &types, &emitted));
                futures::stream::iter(reads).buffer_unordered(KEYS_IN_FLIGHT).try_collect::<()>().await
            }
            None => {
                let ranges = batches.iter().map(decode_ranges).collect::<Result<Vec<_>>>()?;
                let reads = ranges.into_iter().flatten().map(|range| {
                    let mut statement = statement.clone();
                    statement.set_load_balancing_policy(Some(Arc::new(ReplicasFirst::new(&range.replicas))));
                    let mut values = EncodedRow::default();
                    values.push_raw(&range.start.to_be_bytes());
                    values.push_raw(&range.end.to_be_bytes());
                    self.read_pages(&cluster, statement, values, &types, &emitted)
                });
                futures::stream::iter(reads)
                    .buffer_unordered(self.spec.options.ranges_in_flight)
                    .try_collect::<()>()
                    .await
            }
        };
        match stopped {
            Ok(()) | Err(Stop::Enough) => Ok(()),
            Err(Stop::Failed(error)) => Err(error.into()),
        }
    }

    /// Reads one range or one key to its end.
    async fn read_pages(
        &self,
        cluster: &CassandraCluster,
        mut statement: PreparedStatement,
        mut values: EncodedRow,
        types: &[ColumnType<'static>],
        emitted: &AtomicUsize,
    ) -> Result<(), Stop> {
        self.spec.restrictions.iter().for_each(|restriction| values.push_raw(&restriction.value));
        let mut state = PagingState::start();
        loop {
            let (rows, next) = self.page(cluster, &mut statement, &values, &state).await?;
            self.pages.add(1);
            self.bytes_read.add(rows.rows_bytes_size());
            if rows.rows_num() > 0 {
                let batch = {
                    let _timer = self.baseline.elapsed_compute().timer();
                    self.decode(&rows, types)?
                };
                // Whoever asked for a limit takes it for kept: what is beyond it stays here.
                let before = emitted.fetch_add(batch.num_rows(), Ordering::Relaxed);
                let left = self.spec.limit.map_or(usize::MAX, |limit| limit.saturating_sub(before));
                let (is_last, batch) = (batch.num_rows() >= left, batch.slice(0, batch.num_rows().min(left)));
                self.baseline.record_output(batch.num_rows());
                if (batch.num_rows() > 0 && self.output.send(Ok(batch)).await.is_err()) || is_last {
                    return Err(Stop::Enough);
                }
            }
            match next {
                PagingStateResponse::HasMorePages { state: next } => state = next,
                PagingStateResponse::NoMorePages => return Ok(()),
            }
        }
    }

    /// One page; after a failure that may pass, smaller ones, later, which the driver also asks other replicas for.
    async fn page(
        &self,
        cluster: &CassandraCluster,
        statement: &mut PreparedStatement,
        values: &EncodedRow,
        state: &PagingState,
    ) -> Result<(QueryRowsResult, PagingStateResponse), CassandraError> {
        let what = self.spec.what();
        let mut backoff = FIRST_BACKOFF;
        let mut attempt = 1;
        loop {
            let error = match cluster.session().execute_single_page(statement, values, state.clone()).await {
                Ok((result, next)) => {
                    let rows = result.into_rows_result();
                    return Ok((
                        rows.map_err(|error| CassandraError::Refused { what, reason: error.to_string() })?,
                        next,
                    ));
                }
                Err(error) => CassandraError::from_execution(&what, &error),
            };
            if attempt >= PAGE_ATTEMPTS || !error.is_transient() {
                return Err(error);
            }
            tracing::debug!(%error, attempt, "a page is asked for again");
            self.retries.add(1);
            statement
                .set_page_size((statement.get_page_size() / 2).max(LEAST_PAGE_ROWS.min(statement.get_page_size())));
            tokio::time::sleep(backoff).await;
            backoff *= 2;
            attempt += 1;
        }
    }

    fn decode(&self, rows: &QueryRowsResult, types: &[ColumnType<'static>]) -> Result<RecordBatch, CassandraError> {
        let count = rows.rows_num();
        let broken = |reason: String| CassandraError::Refused { what: self.spec.what(), reason };
        let mut decoders = self
            .spec
            .columns
            .iter()
            .zip(types)
            .zip(self.schema.fields())
            .map(|((name, cql), field)| ColumnDecoder::new(name, cql, field.data_type(), count))
            .collect::<Result<Vec<_>, _>>()?;
        if !decoders.is_empty() {
            let rows = rows.rows::<ColumnIterator<'_, '_>>().map_err(|error| broken(error.to_string()))?;
            for row in rows {
                let mut cells = row.map_err(|error| broken(error.to_string()))?;
                for decoder in &mut decoders {
                    match cells.next() {
                        Some(Ok(cell)) => decoder.append(cell.slice.map(|slice| slice.as_slice()))?,
                        Some(Err(error)) => return Err(broken(error.to_string())),
                        None => return Err(broken("a row with too few columns".to_owned())),
                    }
                }
            }
        }
        let columns = decoders.iter_mut().map(ColumnDecoder::finish).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| broken(error.to_string()))
    }
}

/// Asks a range's replicas first, in turns, then everybody else.
///
/// A statement over a token range has no partition key by which the driver could route it.
#[derive(Debug)]
struct ReplicasFirst {
    replicas: Vec<IpAddr>,
    turn: AtomicUsize,
}

impl ReplicasFirst {
    fn new(replicas: &[String]) -> Self {
        Self { replicas: replicas.iter().filter_map(|host| host.parse().ok()).collect(), turn: AtomicUsize::new(0) }
    }

    fn ordered<'a>(&self, cluster: &'a ClusterState) -> Vec<NodeRef<'a>> {
        let mut nodes: Vec<NodeRef<'a>> = cluster.get_nodes_info().iter().filter(|node| node.is_enabled()).collect();
        nodes.sort_by_key(|node| (!node.is_connected(), !self.replicas.contains(&node.address.ip())));
        let near = nodes.iter().take_while(|n| n.is_connected() && self.replicas.contains(&n.address.ip())).count();
        if near > 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % near;
            nodes[..near].rotate_left(turn);
        }
        nodes
    }
}

impl LoadBalancingPolicy for ReplicasFirst {
    fn pick<'a>(&'a self, _: &'a RoutingInfo, cluster: &'a ClusterState) -> Option<(NodeRef<'a>, Option<Shard>)> {
        self.ordered(cluster).into_iter().next().map(|node| (node, None))
    }

    fn fallback<'a>(&'a self, _: &'a RoutingInfo, cluster: &'a ClusterState) -> FallbackPlan<'a> {
        Box::new(self.ordered(cluster).into_iter().map(|node| (node, None)))
    }

    fn name(&self) -> String {
        "ReplicasFirst".to_owned()
    }
}
