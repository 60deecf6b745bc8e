//! Joins that read by key: the rows of one side say what is read of the other.
//!
//! The operator sits on a hash join. It collects the join's build side, counts the keys in it, and has the probe side
//! read either by these keys or, where they are too many, by its ranges as planned; the joining itself is the hash
//! join's. Each partition of the scan reads the keys that lie within its own token ranges, so that an engine that puts
//! the scan's partitions beside their replicas has the keys read there too.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::common::Statistics;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use scylla::cluster::metadata::ColumnType;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::cluster::CassandraCluster;
use super::encode::{encode_value, prepare_column};
use super::error::CassandraError;
use super::node::{decode_spec, encode_spec, only_input};
use super::probe::{Probe, probe_of, scan_below, with_scan};
use super::pushdown::{is_possible, with_each};
use super::session::{CassandraSettings, DirectJoin};
use super::spec::{Keys, ScanSpec};
use super::table::BYTES_PER_ROW;

/// Rows of a scan that cost as much as one read by key.
const ROWS_PER_KEY: u64 = 25;
/// Keys up to which a table of unknown size is read by key.
const KEYS_FOR_AN_UNKNOWN_TABLE: usize = 10_000;
/// Keys beyond which a join scans, whatever it was told: they are held in memory.
const MOST_KEYS: usize = 200_000;

/// When to read by key, in the form in which plans carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum When {
    /// If it costs less than the scan.
    Cheaper,
    /// If the keys fit in memory.
    Always,
}

/// A hash join whose probe side is read by key, if that turns out to be less than to scan it.
#[derive(Debug)]
pub struct CassandraDirectJoinExec {
    join: Arc<dyn ExecutionPlan>,
    when: When,
    /// The join as it is run, made when the build side has been read.
    resolved: Arc<OnceCell<Arc<dyn ExecutionPlan>>>,
    metrics: ExecutionPlanMetricsSet,
}

impl CassandraDirectJoinExec {
    fn new(join: Arc<dyn ExecutionPlan>, when: When) -> Self {
        Self { join, when, resolved: Arc::default(), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The operator without its input, for plans that cross processes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode_spec(&self.when)
    }

    /// The operator from its bytes and its input.
    pub fn decode(bytes: &[u8], inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        Ok(Self::new(only_input("a direct join", inputs)?, decode_spec(bytes)?))
    }

    /// Bytes that the reads by key will give, if the build side is estimated to have so few rows that they are cheaper
    /// than the scan.
    pub fn estimated_bytes_by_key(&self) -> Option<u64> {
        let (join, probe) = self.probe()?;
        let spec = scan_below(join.right())?.spec();
        let statistics = StatisticsContext::new().compute(join.left().as_ref(), &StatisticsArgs::new()).ok()?;
        let keys = *statistics.num_rows.get_value()?;
        let rows = keys as u64 * rows_per_key(spec, &probe);
        (keys <= most_keys(self.when, spec, &probe)).then_some(rows * BYTES_PER_ROW)
    }

    fn probe(&self) -> Option<(&HashJoinExec, Probe)> {
        let join = self.join.downcast_ref::<HashJoinExec>()?;
        Some((join, probe_of(join)?))
    }
}

impl DisplayAs for CassandraDirectJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let when = match self.when {
            When::Cheaper => "if cheaper than the scan",
            When::Always => "always",
        };
        let key = self.probe().map(|(_, probe)| probe.key_columns.join(", ")).unwrap_or_default();
        write!(f, "CassandraDirectJoinExec: key=[{key}], {when}")
    }
}

impl ExecutionPlan for CassandraDirectJoinExec {
    fn name(&self) -> &'static str {
        "CassandraDirectJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.join.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.join]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

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
        Ok(Arc::new(Self::new(only_input("a direct join", children)?, self.when)))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(inputs.first().cloned().unwrap_or_else(|| Arc::new(Statistics::new_unknown(&self.schema()))))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let resolution = Resolution { join: self.join.clone(), when: self.when, metrics: self.metrics.clone() };
        let resolved = self.resolved.clone();
        let rows = futures::stream::once(async move {
            let plan = resolved.get_or_try_init(|| resolution.resolve(&context)).await?;
            plan.execute(partition, context.clone())
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows.try_flatten())))
    }
}

/// What it takes to decide how a join's probe side is read.
struct Resolution {
    join: Arc<dyn ExecutionPlan>,
    when: When,
    metrics: ExecutionPlanMetricsSet,
}

impl Resolution {
    /// The join over a build side that has been read, with the probe side as it is cheapest.
    async fn resolve(&self, context: &Arc<TaskContext>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(join) = self.join.downcast_ref::<HashJoinExec>() else { return Ok(self.join.clone()) };
        let Some(probe) = probe_of(join) else { return Ok(self.join.clone()) };
        let Some(scan) = scan_below(join.right()) else { return Ok(self.join.clone()) };
        let reservation = MemoryConsumer::new("CassandraDirectJoinExec").register(context.memory_pool());
        let build = collect(join.left().execute(0, context.clone())?, &reservation).await?;
        let schema = join.left().schema();
        let keys = self.keys(scan.spec(), &scan.schema(), &probe, &build).await?;
        let counter = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, 0);
        let right = match keys {
            Some(rows) => {
                counter("direct_joins").add(1);
                counter("distinct_keys").add(rows.len());
                let keys = Keys { columns: probe.key_columns, rows };
                let spec = ScanSpec { keys: Some(keys), ..scan.spec().clone() };
                with_scan(join.right(), Arc::new(scan.with_spec(spec)))?
            }
            None => join.right().clone(),
        };
        let left = MemorySourceConfig::try_new_exec(&[build], schema, None)?;
        join.builder().reset_state().with_new_children(vec![left, right])?.build_exec()
    }

    /// The distinct keys of the build side; `None` if a scan costs less.
    async fn keys(
        &self,
        spec: &ScanSpec,
        schema: &datafusion::arrow::datatypes::SchemaRef,
        probe: &Probe,
        build: &[RecordBatch],
    ) -> Result<Option<Vec<Vec<Vec<u8>>>>> {
        let most = most_keys(self.when, spec, probe);
        let cluster = CassandraCluster::shared(&spec.options).await?;
        let table = cluster.find_table(&spec.keyspace, &spec.table).await?.ok_or_else(|| CassandraError::Refused {
            what: spec.what(),
            reason: "there is no such table any more".to_owned(),
        })?;
        let mut parts = Vec::with_capacity(probe.key_columns.len());
        for (name, build) in probe.key_columns.iter().zip(&probe.build_values) {
            let given = || spec.partial_key.get(name).cloned().unwrap_or_default();
            let cql = table.columns.get(name).map(|column| column.typ.clone());
            let arrow = schema.field_with_name(name).ok().map(|field| field.data_type().clone());
            parts.push(match (build, cql, arrow) {
                (Some(build), Some(cql), Some(arrow)) => Part::Build { build: build.clone(), cql, arrow },
                _ => Part::Given(given()),
            });
        }
        let mut keys = HashSet::new();
        for batch in build {
            if !add_keys(batch, &parts, spec.partition_key.len() == 1, most, &mut keys)? {
                return Ok(None);
            }
        }
        Ok(Some(keys.into_iter().collect()))
    }
}

/// Keys up to which reading by them costs less than the scan.
fn most_keys(when: When, spec: &ScanSpec, probe: &Probe) -> usize {
    if when == When::Always {
        return MOST_KEYS;
    }
    match spec.estimate.rows {
        Some(rows) => MOST_KEYS.min((rows / (ROWS_PER_KEY + rows_per_key(spec, probe))) as usize),
        None => KEYS_FOR_AN_UNKNOWN_TABLE,
    }
}

/// Rows that one key is taken to give.
fn rows_per_key(spec: &ScanSpec, probe: &Probe) -> u64 {
    let is_whole = probe.key_columns.len() == spec.partition_key.len() + spec.clustering_key.len();
    if is_whole { 1 } else { spec.estimate.rows_per_partition.max(1) }
}

/// Where the values of a key's column come from.
enum Part {
    /// From the rows of the build side.
    Build { build: Arc<dyn PhysicalExpr>, cql: ColumnType<'static>, arrow: datafusion::arrow::datatypes::DataType },
    /// From the query.
    Given(Vec<Vec<u8>>),
}

/// Adds a batch's keys; false if there are more than `most`. `is_single` is for a partition key of one column.
fn add_keys(
    batch: &RecordBatch,
    parts: &[Part],
    is_single: bool,
    most: usize,
    keys: &mut HashSet<Vec<Vec<u8>>>,
) -> Result<bool> {
    let mut columns: Vec<Option<ArrayRef>> = Vec::with_capacity(parts.len());
    for part in parts {
        columns.push(match part {
            Part::Build { build, cql, arrow } => {
                let values = build.evaluate(batch)?.into_array(batch.num_rows())?;
                // A value that the column's type does not hold becomes null, and matches nothing.
                let options = CastOptions { safe: true, ..CastOptions::default() };
                let values = cast_with_options(&values, arrow, &options)?;
                Some(prepare_column(&values, cql)?)
            }
            Part::Given(_) => None,
        });
    }
    for row in 0..batch.num_rows() {
        let mut of_row: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
        for (place, (part, column)) in parts.iter().zip(&columns).enumerate() {
            of_row = match (part, column) {
                (Part::Given(values), _) => with_each(&of_row, values),
                (Part::Build { cql, .. }, Some(column)) if !column.is_null(row) => {
                    // What cannot be encoded is no key of the table, and matches nothing.
                    let value = encode_value(column.as_ref(), row, cql).ok();
                    let value = value.filter(|value| is_possible(value, is_single && place == 0));
                    with_each(&of_row, value.as_slice())
                }
                (Part::Build { .. }, _) => Vec::new(),
            };
        }
        keys.extend(of_row);
        if keys.len() > most {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All batches, accounted for in the pool.
async fn collect(mut rows: SendableRecordBatchStream, reservation: &MemoryReservation) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        reservation.try_grow(batch.get_array_memory_size())?;
        batches.push(batch);
    }
    Ok(batches)
}

/// Puts a direct join on every hash join whose probe side can be read by key.
#[derive(Debug, Default)]
pub struct DirectJoins;

impl PhysicalOptimizerRule for DirectJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let settings = config.extensions.get::<CassandraSettings>();
        let when = match settings.map(|settings| settings.direct_join).unwrap_or_default() {
            DirectJoin::Auto => When::Cheaper,
            DirectJoin::On => When::Always,
            DirectJoin::Off => return Ok(plan),
        };
        let rewritten = plan.transform_up(|node| {
            let is_direct = node.downcast_ref::<HashJoinExec>().is_some_and(|join| probe_of(join).is_some());
            if !is_direct {
                return Ok(Transformed::no(node));
            }
            Ok(Transformed::yes(Arc::new(CassandraDirectJoinExec::new(node, when)) as Arc<dyn ExecutionPlan>))
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "cassandra_direct_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
