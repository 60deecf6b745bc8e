//! Writing rows: token-aware, concurrent, bounded, safe to repeat.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use scylla::cluster::metadata::{ColumnKind, ColumnType};
use scylla::statement::prepared::PreparedStatement;
use serde::{Deserialize, Serialize};

use super::cluster::{CassandraCluster, quoted};
use super::encode::{EncodedRow, prepare_column};
use super::error::CassandraError;
use super::options::CassandraOptions;

/// Tries of one row, each after twice the wait of the one before.
const ROW_ATTEMPTS: u32 = 6;
/// The wait before the second try of a row.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// What to write to, in the form in which plans carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InsertSpec {
    /// The cluster.
    pub options: CassandraOptions,
    /// The keyspace.
    pub keyspace: String,
    /// The table.
    pub table: String,
    /// The table's columns, in the order of the input's.
    pub columns: Vec<String>,
    /// Microseconds since the Unix epoch with which all cells are written. Fixed when the statement is
    /// planned: a repeated task writes the same cells, and a later write of somebody else wins.
    pub timestamp_us: i64,
}

impl InsertSpec {
    /// The present as a write timestamp.
    pub fn now_us() -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
    }

    fn cql(&self) -> String {
        let names = self.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let places = vec!["?"; self.columns.len()].join(", ");
        format!("INSERT INTO {}.{} ({names}) VALUES ({places})", quoted(&self.keyspace), quoted(&self.table))
    }

    fn full_name(&self) -> String {
        format!("{}.{}", self.keyspace, self.table)
    }
}

/// Writes its input's rows; gives for each partition one row with their number.
#[derive(Debug)]
pub struct CassandraInsertExec {
    spec: Arc<InsertSpec>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

impl CassandraInsertExec {
    /// Writes rows whose columns are those of `spec`.
    pub fn new(spec: InsertSpec, input: Arc<dyn ExecutionPlan>) -> Self {
        let partition_count = input.properties().output_partitioning().partition_count();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(count_schema()),
            Partitioning::UnknownPartitioning(partition_count),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { spec: Arc::new(spec), input, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The same for an input with these columns of the table.
    pub fn with_columns(&self, columns: Vec<String>) -> Self {
        Self::new(InsertSpec { columns, ..self.spec.as_ref().clone() }, self.input.clone())
    }

    /// The operator without its input, for plans that cross processes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self.spec.as_ref()).map_err(|error| DataFusionError::External(Box::new(error)))
    }

    /// The operator from its bytes and its input.
    pub fn decode(bytes: &[u8], inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        let spec = serde_json::from_slice(bytes).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let mut inputs = inputs.into_iter();
        match (inputs.next(), inputs.next()) {
            (Some(input), None) => Ok(Self::new(spec, input)),
            _ => internal_err!("a Cassandra insert takes one input"),
        }
    }

    /// The same with another timestamp, such as that of an earlier attempt at the same rows.
    pub fn written_at(&self, timestamp_us: i64) -> Self {
        Self::new(InsertSpec { timestamp_us, ..self.spec.as_ref().clone() }, self.input.clone())
    }
}

impl DisplayAs for CassandraInsertExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CassandraInsertExec: table={}, columns=[{}]", self.spec.full_name(), self.spec.columns.join(", "))
    }
}

impl ExecutionPlan for CassandraInsertExec {
    fn name(&self) -> &'static str {
        "CassandraInsertExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.as_slice() {
            [input] => Ok(Arc::new(Self::new(self.spec.as_ref().clone(), input.clone()))),
            _ => internal_err!("a Cassandra insert takes one input"),
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let writer = Writer {
            spec: self.spec.clone(),
            acknowledged: MetricBuilder::new(&self.metrics).counter("rows_written", partition),
            retries: MetricBuilder::new(&self.metrics).counter("retries", partition),
        };
        let written = futures::stream::once(async move {
            let count = writer.write(rows).await?;
            Ok(RecordBatch::try_new(count_schema(), vec![Arc::new(UInt64Array::from(vec![count]))])?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(count_schema(), written)))
    }
}

/// Writes one partition.
struct Writer {
    spec: Arc<InsertSpec>,
    acknowledged: Count,
    retries: Count,
}

/// A column to write: its name, its type, and whether it is part of the key.
struct Target {
    name: String,
    cql: ColumnType<'static>,
    is_key: bool,
}

impl Writer {
    async fn write(&self, rows: SendableRecordBatchStream) -> Result<u64> {
        let cluster = CassandraCluster::shared(&self.spec.options).await?;
        let targets = self.targets(&cluster).await?;
        let what = format!("while writing to {}", self.spec.full_name());
        let mut statement = cluster.prepare(&self.spec.cql(), &what).await?;
        statement.set_consistency(self.spec.options.write_consistency());
        statement.set_timestamp(Some(self.spec.timestamp_us));
        let (cluster, statement, targets) = (&cluster, &statement, &targets);
        let mut row_number = 0u64;
        let encoded = rows.map(move |batch| {
            let batch = batch?;
            let rows = self.encode(&batch, targets, row_number).map_err(|error| self.stopped_by(error))?;
            row_number += batch.num_rows() as u64;
            Ok::<_, DataFusionError>(futures::stream::iter(rows.into_iter().map(Ok::<_, DataFusionError>)))
        });
        encoded
            .try_flatten()
            .map(|row| async move {
                self.write_row(cluster, statement, &row?).await?;
                self.acknowledged.add(1);
                Ok::<(), DataFusionError>(())
            })
            .buffer_unordered(self.spec.options.write_concurrency)
            .try_collect::<()>()
            .await?;
        Ok(self.acknowledged.value() as u64)
    }

    /// The error with what is known of the rows before it.
    fn stopped_by(&self, error: CassandraError) -> CassandraError {
        CassandraError::Write {
            table: self.spec.full_name(),
            acknowledged_rows: self.acknowledged.value() as u64,
            source: Box::new(error),
        }
    }

    async fn targets(&self, cluster: &CassandraCluster) -> Result<Vec<Target>, CassandraError> {
        let gone =
            |reason: String| CassandraError::Refused { what: format!("to write to {}", self.spec.full_name()), reason };
        let table = cluster
            .find_table(&self.spec.keyspace, &self.spec.table)
            .await?
            .ok_or_else(|| gone("there is no such table any more".to_owned()))?;
        self.spec
            .columns
            .iter()
            .map(|name| {
                let column =
                    table.columns.get(name).ok_or_else(|| gone(format!("there is no column \"{name}\" any more")))?;
                let is_key = matches!(column.kind, ColumnKind::PartitionKey | ColumnKind::Clustering);
                Ok(Target { name: name.clone(), cql: column.typ.clone(), is_key })
            })
            .collect()
    }

    fn encode(
        &self,
        batch: &RecordBatch,
        targets: &[Target],
        first_row: u64,
    ) -> Result<Vec<EncodedRow>, CassandraError> {
        let columns = batch
            .columns()
            .iter()
            .zip(targets)
            .map(|(column, target)| prepare_column(column, &target.cql))
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        (0..batch.num_rows())
            .map(|row| {
                let mut encoded = EncodedRow::default();
                for (column, target) in columns.iter().zip(targets) {
                    if target.is_key && column.is_null(row) {
                        return Err(CassandraError::NullKey {
                            table: self.spec.full_name(),
                            column: target.name.clone(),
                            row: first_row + row as u64 + 1,
                        });
                    }
                    encoded
                        .push(column.as_ref(), row, &target.cql)
                        .map_err(|reason| CassandraError::Value { column: target.name.clone(), reason })?;
                }
                Ok(encoded)
            })
            .collect()
    }

    async fn write_row(
        &self,
        cluster: &CassandraCluster,
        statement: &PreparedStatement,
        row: &EncodedRow,
    ) -> Result<(), CassandraError> {
        let mut backoff = FIRST_BACKOFF;
        let mut attempt = 1;
        loop {
            let error = match cluster.session().execute_unpaged(statement, row).await {
                Ok(_) => return Ok(()),
                Err(error) => CassandraError::from_execution("while writing", &error),
            };
            if attempt >= ROW_ATTEMPTS || !error.is_transient() {
                return Err(self.stopped_by(error));
            }
            self.retries.add(1);
            tokio::time::sleep(backoff).await;
            backoff *= 2;
            attempt += 1;
        }
    }
}
