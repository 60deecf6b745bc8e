//! `INSERT`: the rows of a query as rows of a table. How they are sent is told in [`super::write`].

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use scylla::cluster::metadata::{ColumnKind, ColumnType, NativeType, Table};
use serde::{Deserialize, Serialize};

use super::cluster::{CassandraCluster, quoted};
use super::encode::{EncodedRow, prepare_column};
use super::error::CassandraError;
use super::node::{decode_spec, encode_spec, only_input, properties_over};
use super::options::CassandraOptions;
use super::session::{CassandraSettings, WriteNulls};
use super::table::CassandraTable;
use super::write::using::UsingValue;
use super::write::writer::{Request, WriteMetrics, Writer};
use super::write::{Repeat, is_counter, is_open_list, write_consistency};

/// What to write to, in the form in which plans carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InsertSpec {
    /// The cluster.
    pub options: CassandraOptions,
    /// The keyspace.
    pub keyspace: String,
    /// The table.
    pub table: String,
    /// The columns that are written.
    pub columns: Vec<String>,
    /// For each of `columns` its place in the input.
    pub inputs: Vec<usize>,
    /// Microseconds since the Unix epoch with which all cells are written. Fixed when the statement is
    /// planned: a repeated task writes the same cells, and a later write of somebody else wins.
    pub timestamp_us: i64,
    /// Seconds after which what is written expires.
    pub ttl_s: Option<i32>,
    /// The input's column of each row's own time to live.
    pub ttl_input: Option<usize>,
    /// The input's column of each row's own timestamp.
    pub timestamp_input: Option<usize>,
    /// Whether a null deletes, rather than write nothing.
    pub nulls_delete: bool,
    /// The level of consistency; `None` is the catalog's.
    pub consistency: Option<String>,
}

impl InsertSpec {
    /// What an `INSERT` into a table writes, of an input that has all of the table's columns, and after them those
    /// of the statement's `USING` clause. `columns` are those that the statement names; `None` are all.
    pub(super) fn plan(
        table: &CassandraTable,
        settings: &CassandraSettings,
        columns: Option<&[String]>,
    ) -> Result<Self, CassandraError> {
        let metadata = table.metadata();
        if metadata.columns.values().any(|column| is_counter(&column.typ)) {
            return Err(CassandraError::NotSupported(
                "INSERT into counters, which would count twice if it were repeated (there is UPDATE t SET c = c + n),"
                    .to_owned(),
            ));
        }
        let schema = table.schema();
        let (inputs, names): (Vec<usize>, Vec<String>) = schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| columns.is_none_or(|columns| is_written(metadata, columns, field.name())))
            .map(|(input, field)| (input, field.name().clone()))
            .unzip();
        let using = table.using();
        let mut next_input = schema.fields().len()..;
        let mut input = |value: &Option<UsingValue>| match value {
            Some(UsingValue::Column(_)) => next_input.next(),
            _ => None,
        };
        let (ttl_input, timestamp_input) = (input(&using.ttl), input(&using.timestamp));
        let number = |value: &Option<UsingValue>| match value {
            Some(UsingValue::Number(number)) => Some(*number),
            _ => None,
        };
        let chosen_us = number(&using.timestamp).or(settings.timestamp_us);
        let is_open = |name: &String| metadata.columns.get(name).filter(|column| is_open_list(&column.typ)).is_some();
        if let Some(list) = names.iter().find(|name| is_open(name))
            && (chosen_us.is_some() || timestamp_input.is_some())
        {
            return Err(CassandraError::NotSupported(format!(
                "INSERT of \"{list}\" with a timestamp of one's own, which would leave the elements of a list that is \
                 not frozen twice if it were repeated,"
            )));
        }
        let ttl_s = number(&using.ttl).and_then(|ttl_s| i32::try_from(ttl_s).ok());
        Ok(Self {
            options: table.cluster().options().clone(),
            keyspace: table.names().0.to_owned(),
            table: table.names().1.to_owned(),
            columns: names,
            inputs,
            timestamp_us: chosen_us.unwrap_or_else(Self::now_us),
            ttl_s: if ttl_input.is_some() { None } else { ttl_s.or(settings.ttl_s) },
            ttl_input,
            timestamp_input,
            nulls_delete: settings.write_nulls == WriteNulls::Delete,
            consistency: settings.write_consistency.clone(),
        })
    }

    /// The present as a write timestamp.
    pub fn now_us() -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
    }

    fn cql(&self) -> String {
        let names = self.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let places = vec!["?"; self.columns.len()].join(", ");
        let mut using = Vec::new();
        if self.ttl_s.is_some() || self.ttl_input.is_some() {
            using.push("TTL ?");
        }
        if self.timestamp_input.is_some() {
            using.push("TIMESTAMP ?");
        }
        let using = if using.is_empty() { String::new() } else { format!(" USING {}", using.join(" AND ")) };
        format!("INSERT INTO {}.{} ({names}) VALUES ({places}){using}", quoted(&self.keyspace), quoted(&self.table))
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

/// One column, with the number of rows that were written.
pub(super) fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

impl CassandraInsertExec {
    /// Writes rows whose columns are those of `spec`.
    pub fn new(spec: InsertSpec, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = properties_over(&input, EquivalenceProperties::new(count_schema()), EmissionType::Final);
        Self { spec: Arc::new(spec), input, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The same for an input with these columns of the table.
    pub fn with_columns(&self, columns: Vec<String>) -> Self {
        let inputs = (0..columns.len()).collect();
        Self::new(InsertSpec { columns, inputs, ..self.spec.as_ref().clone() }, self.input.clone())
    }

    /// The operator without its input, for plans that cross processes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode_spec(self.spec.as_ref())
    }

    /// The operator from its bytes and its input.
    pub fn decode(bytes: &[u8], inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        let spec = decode_spec(bytes)?;
        Ok(Self::new(spec, only_input("a Cassandra insert", inputs)?))
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
        let input = only_input("a Cassandra insert", children)?;
        Ok(Arc::new(Self::new(self.spec.as_ref().clone(), input)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let (spec, metrics) = (self.spec.clone(), WriteMetrics::new(&self.metrics, partition));
        let written = futures::stream::once(async move {
            let count = write(&spec, rows, metrics).await?;
            Ok(RecordBatch::try_new(count_schema(), vec![Arc::new(UInt64Array::from(vec![count]))])?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(count_schema(), written)))
    }
}

/// Whether a column is written by an `INSERT` that names these. A key that it leaves out is null, which is an error;
/// but what it writes of static columns only has no clustering key.
fn is_written(table: &Table, named: &[String], column: &String) -> bool {
    let kind = |name: &String| table.columns.get(name).map(|column| &column.kind);
    let has_row = named.iter().any(|name| matches!(kind(name), Some(ColumnKind::Regular | ColumnKind::Clustering)))
        || !named.iter().any(|name| matches!(kind(name), Some(ColumnKind::Static)));
    match kind(column) {
        Some(ColumnKind::PartitionKey) => true,
        Some(ColumnKind::Clustering) => has_row,
        _ => named.contains(column),
    }
}

/// Writes one partition.
async fn write(spec: &InsertSpec, rows: SendableRecordBatchStream, metrics: WriteMetrics) -> Result<u64> {
    let cluster = CassandraCluster::shared(&spec.options).await?;
    let table = cluster
        .find_table(&spec.keyspace, &spec.table)
        .await?
        .ok_or_else(|| gone(spec, "there is no such table any more".to_owned()))?;
    let targets = targets(spec, &table)?;
    let repeat = match targets.iter().any(|target| is_open_list(&target.cql)) {
        true => Repeat::Later,
        false => Repeat::Same,
    };
    let request = Request {
        keyspace: spec.keyspace.clone(),
        table: spec.table.clone(),
        cql: spec.cql(),
        consistency: write_consistency(spec.consistency.as_deref(), &spec.options),
        timestamp_us: Some(match repeat {
            // A repeated task has to write later than the one before it, whose elements it replaces.
            Repeat::Later => InsertSpec::now_us().max(spec.timestamp_us),
            Repeat::Same | Repeat::Never => spec.timestamp_us,
        }),
        repeat,
        key_cells: table
            .partition_key
            .iter()
            .filter_map(|key| spec.columns.iter().position(|column| column == key))
            .collect(),
    };
    let writer = Writer::open(cluster, request, metrics).await?;
    let mut row_number = 0u64;
    let encoded = rows.map(|batch| {
        let batch = batch?;
        let rows = encode(spec, &batch, &targets, row_number).map_err(|error| writer.stopped_by(error))?;
        row_number += batch.num_rows() as u64;
        Ok::<_, DataFusionError>(rows)
    });
    writer.write(encoded).await
}

/// A column to write: its name, its place in the input, its type, and whether it is part of the key.
struct Target {
    name: String,
    input: usize,
    cql: ColumnType<'static>,
    is_key: bool,
}

fn gone(spec: &InsertSpec, reason: String) -> CassandraError {
    CassandraError::Refused { what: format!("to write to {}", spec.full_name()), reason }
}

fn targets(spec: &InsertSpec, table: &Table) -> Result<Vec<Target>, CassandraError> {
    let column = |(name, input): (&String, &usize)| {
        let column =
            table.columns.get(name).ok_or_else(|| gone(spec, format!("there is no column \"{name}\" any more")))?;
        let is_key = matches!(column.kind, ColumnKind::PartitionKey | ColumnKind::Clustering);
        Ok(Target { name: name.clone(), input: *input, cql: column.typ.clone(), is_key })
    };
    let mut targets = spec.columns.iter().zip(&spec.inputs).map(column).collect::<Result<Vec<_>, _>>()?;
    let extra = [("TTL", spec.ttl_input, NativeType::Int), ("TIMESTAMP", spec.timestamp_input, NativeType::BigInt)];
    for (name, input, native) in extra {
        let target = |input| Target { name: name.to_owned(), input, cql: ColumnType::Native(native), is_key: false };
        targets.extend(input.map(target));
    }
    Ok(targets)
}

/// A batch's rows as rows of cells, which are those of `targets` and the statement's own time to live.
fn encode(
    spec: &InsertSpec,
    batch: &RecordBatch,
    targets: &[Target],
    first_row: u64,
) -> Result<Vec<EncodedRow>, CassandraError> {
    let column = |target: &Target| {
        let column = batch.columns().get(target.input);
        prepare_column(column.ok_or_else(|| gone(spec, format!("its input lacks \"{}\"", target.name)))?, &target.cql)
    };
    let columns = targets.iter().map(column).collect::<Result<Vec<ArrayRef>, _>>()?;
    (0..batch.num_rows())
        .map(|row| {
            let mut encoded = EncodedRow::default();
            let cells = || columns.iter().zip(targets);
            let value = |(column, target): (&ArrayRef, &Target), encoded: &mut EncodedRow| {
                let pushed = encoded.push(column.as_ref(), row, &target.cql);
                pushed.map_err(|reason| CassandraError::Value { column: target.name.clone(), reason })
            };
            for (column, target) in cells().take(spec.columns.len()) {
                if column.is_valid(row) {
                    value((column, target), &mut encoded)?;
                } else if target.is_key {
                    return Err(CassandraError::NullKey {
                        table: spec.full_name(),
                        column: target.name.clone(),
                        row: first_row + row as u64 + 1,
                    });
                } else if spec.nulls_delete {
                    encoded.push_null();
                } else {
                    encoded.push_unset();
                }
            }
            if let Some(ttl_s) = spec.ttl_s {
                encoded.push_raw(&ttl_s.to_be_bytes());
            }
            for cell in cells().skip(spec.columns.len()) {
                value(cell, &mut encoded)?;
            }
            Ok(encoded)
        })
        .collect()
}
