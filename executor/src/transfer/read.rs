//! Reading files of a folder, each after its hash has been compared.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::compute::kernels::boolean::{is_not_null, is_null};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::cassandra::node::{decode_node, encode_node, only_input, properties_over};

use super::error::TransferError;
use super::manifest::{Unit, file_in};
use super::part::open_checked;
use super::storable::from_stored;

/// Rows of a batch.
const BATCH_ROWS: usize = 4_096;
/// Batches between the reader and the operator above; more would only hold memory.
const BATCHES_IN_FLIGHT: usize = 2;

/// What to read, in the form in which plans carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadSpec {
    /// The folder; the same for the coordinator and every executor.
    pub dir: PathBuf,
    /// Which of the rows.
    pub rows: Rows,
}

/// Which rows of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Rows {
    /// All.
    All,
    /// Those with a value in this column.
    With(String),
    /// Those without: of a table with static columns, the partitions that have no rows.
    Without(String),
}

/// Reads files.
///
/// Unary, as a Cassandra scan is, and for the same reason: partition `i` reads the units that partition `i` of its
/// input describes ([`describe`]).
#[derive(Debug)]
pub struct TransferReadExec {
    spec: Arc<ReadSpec>,
    schema: SchemaRef,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

/// A source of units, one for each partition.
pub fn describe(units: &[Unit]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::new(Schema::new(vec![Field::new("unit", DataType::Utf8, false)]));
    let rows = |unit: &Unit| {
        let text = serde_json::to_string(unit).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
        Ok(vec![RecordBatch::try_new(schema.clone(), vec![column])?])
    };
    let partitions = units.iter().map(rows).collect::<Result<Vec<_>>>()?;
    Ok(DataSourceExec::from_data_source(MemorySourceConfig::try_new(&partitions, schema.clone(), None)?))
}

fn units_of(batch: &RecordBatch) -> Result<Vec<Unit>> {
    let wrong = || DataFusionError::Internal("rows that describe no units".to_owned());
    let texts = batch.columns().first().and_then(|column| column.as_string_opt::<i32>()).ok_or_else(wrong)?;
    texts.iter().map(|text| serde_json::from_str(text.unwrap_or_default()).map_err(|_| wrong())).collect()
}

impl TransferReadExec {
    /// Reads columns of `schema`, by name, of the units that `input` describes.
    pub fn new(spec: ReadSpec, schema: SchemaRef, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = properties_over(&input, EquivalenceProperties::new(schema.clone()), EmissionType::Incremental);
        Self { spec: Arc::new(spec), schema, input, properties }
    }

    /// The operator without its input, for plans that cross processes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode_node(self.spec.as_ref(), &self.schema)
    }

    /// The operator from its bytes and its input.
    pub fn decode(bytes: &[u8], inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        let (spec, schema) = decode_node(bytes)?;
        Ok(Self::new(spec, schema, only_input("reading files", inputs)?))
    }
}

impl DisplayAs for TransferReadExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TransferReadExec: dir={}, rows={:?}", self.spec.dir.display(), self.spec.rows)
    }
}

impl ExecutionPlan for TransferReadExec {
    fn name(&self) -> &'static str {
        "TransferReadExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// The input's partitions are the files: nothing may come between them.
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
        let input = only_input("reading files", children)?;
        Ok(Arc::new(Self::new(self.spec.as_ref().clone(), self.schema.clone(), input)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let descriptors = self.input.execute(partition, context)?;
        let mut builder = RecordBatchReceiverStream::builder(self.schema.clone(), BATCHES_IN_FLIGHT);
        let (output, spec, schema) = (builder.tx(), self.spec.clone(), self.schema.clone());
        builder.spawn(async move {
            let batches: Vec<RecordBatch> = descriptors.try_collect().await?;
            for unit in batches.iter().map(units_of).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
                let (spec, schema, output) = (spec.clone(), schema.clone(), output.clone());
                // A decoder that panics ends this thread's work and is told as an error.
                let read = tokio::task::spawn_blocking(move || read_unit(&spec, &schema, &unit, &output));
                read.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
            }
            Ok(())
        });
        Ok(builder.build())
    }
}

/// Reads one file; blocks.
fn read_unit(
    spec: &ReadSpec,
    schema: &SchemaRef,
    unit: &Unit,
    output: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<(), TransferError> {
    let path = file_in(&spec.dir, &unit.file)?;
    let seal = unit.seal.as_ref().ok_or_else(|| TransferError::NotWhole {
        path: path.clone(),
        reason: "its manifest does not say what it is".to_owned(),
    })?;
    let file = open_checked(&path, seal)?;
    let unreadable = |error: &dyn std::fmt::Display| TransferError::damaged(&path, error.to_string());
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(&error))?;
    let reader = reader.with_batch_size(BATCH_ROWS).build().map_err(|error| unreadable(&error))?;
    let mut row_count = 0;
    for batch in reader {
        let batch = batch.map_err(|error| unreadable(&error))?;
        row_count += batch.num_rows() as u64;
        let batch = wanted_rows(spec, &as_wanted(&path, schema, unit, &batch)?)?;
        if batch.num_rows() > 0 && output.blocking_send(Ok(batch)).is_err() {
            // Nobody wants the rest.
            return Ok(());
        }
    }
    match row_count == seal.rows {
        true => Ok(()),
        false => Err(TransferError::damaged(&path, format!("it has {row_count} rows instead of {}", seal.rows))),
    }
}

/// The wanted columns in the wanted types.
fn as_wanted(path: &Path, schema: &SchemaRef, unit: &Unit, batch: &RecordBatch) -> Result<RecordBatch, TransferError> {
    let count = batch.num_rows();
    let unfit = |field: &Field, error: &dyn std::fmt::Display| {
        TransferError::Columns(format!("\"{}\" in {}: {error}", field.name(), path.display()))
    };
    let column = |field: &Arc<Field>| {
        if let Some((_, value)) = unit.partition.iter().find(|(name, _)| name == field.name()) {
            let column: ArrayRef = match value {
                Some(value) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, count))),
                None => return Ok(new_null_array(field.data_type(), count)),
            };
            return from_stored(&column, field.data_type()).map_err(|error| unfit(field, &error));
        }
        let column = batch.column_by_name(field.name()).ok_or_else(|| unfit(field, &"there is no such column"))?;
        from_stored(column, field.data_type()).map_err(|error| unfit(field, &error))
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| TransferError::Columns(format!("{}: {error}", path.display())))
}

fn wanted_rows(spec: &ReadSpec, batch: &RecordBatch) -> Result<RecordBatch, TransferError> {
    let (name, with) = match &spec.rows {
        Rows::All => return Ok(batch.clone()),
        Rows::With(name) => (name, true),
        Rows::Without(name) => (name, false),
    };
    let failed = |error: &dyn std::fmt::Display| TransferError::Columns(format!("\"{name}\": {error}"));
    let column = batch.column_by_name(name).ok_or_else(|| failed(&"there is no such column"))?;
    let wanted = if with { is_not_null(column) } else { is_null(column) };
    let wanted = wanted.map_err(|error| failed(&error))?;
    filter_record_batch(batch, &wanted).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;
    use datafusion::physical_plan::collect;

    use super::super::part::{numbers, written};
    use super::*;

    fn unit(dir: &Path, file: &str) -> Unit {
        let (temporary, seal) = written(dir, &numbers(10_000));
        temporary.replace(&dir.join(file)).expect("is placed");
        let partition = vec![("k".to_owned(), Some("7".to_owned()))];
        Unit { file: file.to_owned(), range: None, partition, seal: Some(seal) }
    }

    fn plan(dir: &Path, units: &[Unit]) -> Arc<dyn ExecutionPlan> {
        let schema =
            Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("k", DataType::Int32, true)]));
        let spec = ReadSpec { dir: dir.to_owned(), rows: Rows::All };
        let read = TransferReadExec::new(spec, schema, describe(units).expect("units"));
        let (bytes, input) = (read.encode().expect("bytes"), read.input.clone());
        Arc::new(TransferReadExec::decode(&bytes, vec![input]).expect("comes back"))
    }

    #[tokio::test]
    async fn files_are_read_in_the_types_that_are_wanted() {
        let dir = tempfile::tempdir().expect("a folder");
        let units = [unit(dir.path(), "x.parquet"), unit(dir.path(), "y.parquet")];
        let plan = plan(dir.path(), &units);
        assert_eq!(plan.properties().output_partitioning().partition_count(), 2);
        let rows = collect(plan, Arc::default()).await.expect("is read");
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 20_000);
        let first = &rows[0];
        assert_eq!(first.column(0).as_any().downcast_ref::<Int64Array>().expect("numbers").value(3), 3);
        assert_eq!(first.column(1).len(), BATCH_ROWS);
    }

    #[tokio::test]
    async fn a_damaged_file_is_refused_with_its_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let units = [unit(dir.path(), "x.parquet")];
        let path = dir.path().join("x.parquet");
        let mut bytes = std::fs::read(&path).expect("is there");
        bytes[100] ^= 8;
        std::fs::write(&path, bytes).expect("is written");
        let error = collect(plan(dir.path(), &units), Arc::default()).await.expect_err("is damaged").to_string();
        assert!(error.contains("x.parquet") && error.contains("is damaged"), "{error}");
    }
}
