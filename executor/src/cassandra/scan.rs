//! The operator that reads a table.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{ConstExpr, EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::sort_pushdown::SortOrderPushdownResult;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use super::columns::ScanColumn;
use super::node::{decode_node, encode_node, only_input, properties_over};
use super::reader::{ReadMetrics, Reader};
use super::spec::ScanSpec;
use super::split::{TokenRange, decode_ranges, descriptors};

/// Batches between the reader and the operator above; more would only hold memory.
const BATCHES_IN_FLIGHT: usize = 2;
/// Rows that a table is taken to have of which nothing is known: the larger side of a join, rather than the smaller.
const ROWS_OF_AN_UNKNOWN_TABLE: usize = 10_000_000;
/// The same in bytes.
const BYTES_OF_AN_UNKNOWN_TABLE: usize = 1 << 30;

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
        let properties = properties_over(&input, equivalences(&spec, &schema), EmissionType::Incremental);
        Self { spec: Arc::new(spec), schema, input, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// What is read.
    pub fn spec(&self) -> &ScanSpec {
        &self.spec
    }

    /// Bytes that the scan will read, as the nodes estimate; `None` if they have no estimate.
    pub fn estimated_bytes(&self) -> Option<u64> {
        self.spec.estimate.bytes
    }

    /// The same scan of something else, with the same ranges; what it reads is told with what this one reads.
    pub fn with_spec(&self, spec: ScanSpec) -> Self {
        let scan = Self::new(spec, self.schema.clone(), self.input.clone());
        Self { metrics: self.metrics.clone(), ..scan }
    }

    /// The same scan as one partition without ranges, for what is read otherwise than by ranges.
    pub fn with_spec_in_one_partition(&self, spec: ScanSpec) -> Result<Self> {
        Ok(Self::new(spec, self.schema.clone(), descriptors(&[Vec::new()])?))
    }

    /// The operator without its input, for plans that cross processes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode_node(self.spec.as_ref(), &self.schema)
    }

    /// The operator from its bytes and its input.
    pub fn decode(bytes: &[u8], inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        let (spec, schema) = decode_node(bytes)?;
        Ok(Self::new(spec, schema, only_input("a Cassandra scan", inputs)?))
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
        let columns: Vec<String> = spec.columns.iter().map(ScanColumn::name).collect();
        write!(f, "CassandraScanExec: table={}.{}, columns=[{}]", spec.keyspace, spec.table, columns.join(", "))?;
        write!(f, ", pushed=[{}]", spec.pushed.join(", "))?;
        if spec.uses_index {
            write!(f, ", by index")?;
        }
        if spec.allow_filtering {
            write!(f, ", allow filtering")?;
        }
        match &spec.keys {
            Some(keys) => write!(f, ", partition_keys={}", keys.rows.len())?,
            None if spec.nearest.is_some() => {}
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
        let order = spec.order();
        if !order.is_empty() {
            let order = order.iter().map(|(name, down)| format!("{name} {}", if *down { "DESC" } else { "ASC" }));
            write!(f, ", order=[{}]", order.collect::<Vec<_>>().join(", "))?;
        }
        if let Some(nearest) = &spec.nearest {
            write!(f, ", nearest={} by the index of {}", nearest.count, nearest.column)?;
        }
        if let Some(limit) = spec.per_partition_limit {
            write!(f, ", per_partition_limit={limit}")?;
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
        let input = only_input("a Cassandra scan", children)?;
        Ok(Arc::new(Self::new(self.spec.as_ref().clone(), self.schema.clone(), input)))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(self.with_spec(ScanSpec { limit, ..self.spec.as_ref().clone() })))
    }

    /// Rows of one Cassandra partition come in the order of its clustering key, or in the reverse if asked for it.
    fn try_pushdown_sort(
        &self,
        wanted: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        for is_reversed in [false, true] {
            let spec = ScanSpec { is_reversed, ..self.spec.as_ref().clone() };
            if is_ordered_by(&spec, wanted) {
                return Ok(SortOrderPushdownResult::Exact { inner: Arc::new(self.with_spec(spec)) });
            }
        }
        Ok(SortOrderPushdownResult::Unsupported)
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
        let rows = self.spec.estimate.rows.map_or(ROWS_OF_AN_UNKNOWN_TABLE, |rows| rows as usize);
        let bytes = self.spec.estimate.bytes.map_or(BYTES_OF_AN_UNKNOWN_TABLE, |bytes| bytes as usize);
        statistics.num_rows = Precision::Inexact(rows.div_ceil(share));
        statistics.total_byte_size = Precision::Inexact(bytes.div_ceil(share));
        if let Some(sampled) = &self.spec.statistics {
            sampled.add_to(&mut statistics, &self.schema);
        }
        Ok(Arc::new(statistics))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let descriptors = self.input.execute(partition, context)?;
        let mut builder = RecordBatchReceiverStream::builder(self.schema.clone(), BATCHES_IN_FLIGHT);
        let counter = |name| MetricBuilder::new(&self.metrics).counter(name, partition);
        let metrics = ReadMetrics {
            baseline: BaselineMetrics::new(&self.metrics, partition),
            pages: counter("pages"),
            bytes_read: counter("bytes_read"),
            retries: counter("retries"),
            keys: counter("keys_read"),
        };
        let reader = Reader { spec: self.spec.clone(), schema: self.schema.clone(), output: builder.tx(), metrics };
        builder.spawn(async move { reader.read(descriptors).await });
        Ok(builder.build())
    }
}

/// What is known of a scan's rows: columns that are the same in all, and their order.
fn equivalences(spec: &ScanSpec, schema: &SchemaRef) -> EquivalenceProperties {
    let column = |name: &str| -> Option<Arc<dyn PhysicalExpr>> {
        let (index, _) = schema.column_with_name(name)?;
        Some(Arc::new(Column::new(name, index)))
    };
    let mut properties = EquivalenceProperties::new(schema.clone());
    let names = schema.fields().iter().map(|field| field.name());
    let constants = names.filter(|name| spec.is_constant(name)).filter_map(|name| column(name)).map(ConstExpr::from);
    // Nothing but a division by zero in a constant could fail here, and these are columns.
    let _ = properties.add_constants(constants);
    let order = spec.order().into_iter().map_while(|(name, descending)| {
        Some(PhysicalSortExpr::new(column(name)?, SortOptions { descending, nulls_first: descending }))
    });
    if let Some(order) = LexOrdering::new(order) {
        properties.add_ordering(order);
    }
    properties
}

/// Whether rows in the order of `spec` are in the order that is wanted.
fn is_ordered_by(spec: &ScanSpec, wanted: &[PhysicalSortExpr]) -> bool {
    let order = spec.order();
    let mut given = order.iter();
    wanted.iter().all(|sort| {
        let Some(column) = sort.expr.downcast_ref::<Column>() else { return false };
        spec.is_constant(column.name())
            || given.next().is_some_and(|(name, down)| *name == column.name() && *down == sort.options.descending)
    })
}
