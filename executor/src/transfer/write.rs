//! Writing the partitions of a plan as Parquet files.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::error::TransferError;
use super::hive::HiveWriter;
use super::manifest::{Compression, Range, Seal};
use super::part::Part;
use super::whole;
use crate::cassandra::CassandraScanExec;
use crate::cassandra::node::{decode_spec, encode_spec, only_input, properties_over};

/// Where and how files are written, in the form in which plans carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriteSpec {
    /// The copy that the files belong to.
    pub copy_id: String,
    /// The folder; the same for the coordinator and every executor.
    pub dir: PathBuf,
    /// How pages are compressed.
    pub compression: Compression,
    /// What makes a file.
    pub files: Files,
}

/// What makes a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Files {
    /// A partition of a [`CassandraScanExec`] that reads one token range; a file that is there already is kept.
    Ranges,
    /// A partition's rows with the same values of these columns, which the file leaves out. The files have names of
    /// their own until whoever asked for them has them all.
    Hive { partition_by: Vec<String> },
}

/// A file that was written, as a row of the operator's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Relative to the folder. For [`Files::Hive`] the name that the file has for the time being.
    pub file: String,
    /// What it is known by.
    pub seal: Seal,
    /// What is in it, of a Cassandra table.
    pub range: Option<Range>,
    /// Whether it was there already.
    pub is_kept: bool,
    /// The columns that the file leaves out, as JSON.
    pub partition: Vec<(String, Option<String>)>,
}

/// The columns of the operator's output.
pub fn written_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("file", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("sha256", DataType::Utf8, false),
        Field::new("start_token", DataType::Int64, true),
        Field::new("end_token", DataType::Int64, true),
        Field::new("is_kept", DataType::Boolean, false),
        Field::new("partition", DataType::Utf8, false),
    ]))
}

fn encode_written(all: &[Written]) -> Result<RecordBatch> {
    let partitions = all.iter().map(|w| serde_json::to_string(&w.partition)).collect::<Result<Vec<_>, _>>();
    let partitions = partitions.map_err(|error| DataFusionError::External(Box::new(error)))?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(all.iter().map(|w| &w.file))),
        Arc::new(UInt64Array::from_iter_values(all.iter().map(|w| w.seal.rows))),
        Arc::new(UInt64Array::from_iter_values(all.iter().map(|w| w.seal.bytes))),
        Arc::new(StringArray::from_iter_values(all.iter().map(|w| &w.seal.sha256))),
        Arc::new(all.iter().map(|w| w.range.map(|range| range.start)).collect::<Int64Array>()),
        Arc::new(all.iter().map(|w| w.range.map(|range| range.end)).collect::<Int64Array>()),
        Arc::new(all.iter().map(|w| Some(w.is_kept)).collect::<BooleanArray>()),
        Arc::new(StringArray::from(partitions)),
    ];
    Ok(RecordBatch::try_new(written_schema(), columns)?)
}

/// Rows of the operator's output.
pub fn decode_written(batch: &RecordBatch) -> Result<Vec<Written>> {
    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
    let wrong = || DataFusionError::Internal("rows that describe no files".to_owned());
    let column = |index: usize| batch.columns().get(index).ok_or_else(wrong);
    let file = column(0)?.as_string_opt::<i32>().ok_or_else(wrong)?;
    let rows = column(1)?.as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?;
    let bytes = column(2)?.as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?;
    let sha256 = column(3)?.as_string_opt::<i32>().ok_or_else(wrong)?;
    let start = column(4)?.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
    let end = column(5)?.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
    let is_kept = column(6)?.as_boolean_opt().ok_or_else(wrong)?;
    let partition = column(7)?.as_string_opt::<i32>().ok_or_else(wrong)?;
    (0..batch.num_rows())
        .map(|i| {
            Ok(Written {
                file: file.value(i).to_owned(),
                seal: Seal { rows: rows.value(i), bytes: bytes.value(i), sha256: sha256.value(i).to_owned() },
                range: start.is_valid(i).then(|| Range { start: start.value(i), end: end.value(i) }),
                is_kept: is_kept.value(i),
                partition: serde_json::from_str(partition.value(i)).map_err(|_| wrong())?,
            })
        })
        .collect()
}

/// Writes its input's partitions as files; gives a row for each.
#[derive(Debug)]
pub struct TransferWriteExec {
    spec: Arc<WriteSpec>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TransferWriteExec {
    /// Writes the rows of `input`; with [`Files::Ranges`] that is a scan with one range for each partition.
    pub fn new(spec: WriteSpec, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = properties_over(&input, EquivalenceProperties::new(written_schema()), EmissionType::Final);
        Self { spec: Arc::new(spec), input, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The operator without its input, for plans that cross processes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode_spec(self.spec.as_ref())
    }

    /// The operator from its bytes and its input.
    pub fn decode(bytes: &[u8], inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        let spec = decode_spec(bytes)?;
        Ok(Self::new(spec, only_input("writing files", inputs)?))
    }

    /// The range that a partition of the scan below reads.
    fn range(&self, partition: usize) -> Result<Range> {
        let Some(scan) = self.input.downcast_ref::<CassandraScanExec>() else {
            return internal_err!("a file for each token range needs a Cassandra scan below");
        };
        match scan.ranges_of(partition).as_slice() {
            [range] => Ok(Range { start: range.start, end: range.end }),
            other => internal_err!("a partition of {} token ranges where there should be one", other.len()),
        }
    }
}

impl DisplayAs for TransferWriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TransferWriteExec: dir={}, compression={:?}", self.spec.dir.display(), self.spec.compression)?;
        match &self.spec.files {
            Files::Hive { partition_by } if !partition_by.is_empty() => {
                write!(f, ", partition_by=[{}]", partition_by.join(", "))
            }
            _ => Ok(()),
        }
    }
}

impl ExecutionPlan for TransferWriteExec {
    fn name(&self) -> &'static str {
        "TransferWriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// A file's rows are a partition's: nothing may come between.
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
        let input = only_input("writing files", children)?;
        Ok(Arc::new(Self::new(self.spec.as_ref().clone(), input)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let range = match self.spec.files {
            Files::Ranges => Some(self.range(partition)?),
            Files::Hive { .. } => None,
        };
        let task = WriteTask {
            spec: self.spec.clone(),
            input: self.input.clone(),
            partition,
            reservation: MemoryConsumer::new(format!("TransferWriteExec[{partition}]")).register(context.memory_pool()),
            context,
            rows_written: MetricBuilder::new(&self.metrics).counter("rows_written", partition),
            files_kept: MetricBuilder::new(&self.metrics).counter("files_kept", partition),
        };
        let written = futures::stream::once(async move {
            let written = match (range, &task.spec.files) {
                (Some(range), _) => vec![task.write_range(range).await?],
                (None, Files::Hive { partition_by }) => task.write_hive(partition_by).await?,
                (None, Files::Ranges) => Vec::new(),
            };
            encode_written(&written)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(written_schema(), written)))
    }
}

/// Writes one partition.
struct WriteTask {
    spec: Arc<WriteSpec>,
    input: Arc<dyn ExecutionPlan>,
    partition: usize,
    context: Arc<TaskContext>,
    reservation: MemoryReservation,
    rows_written: Count,
    files_kept: Count,
}

impl WriteTask {
    /// The rows of one range as one file. What is there already, whole, is not read again.
    async fn write_range(&self, range: Range) -> Result<Written> {
        let (dir, copy_id) = (self.spec.dir.clone(), self.spec.copy_id.clone());
        let found = blocking(move || Ok(whole::find(&dir, &copy_id, range))).await?;
        let (seal, is_kept) = match found {
            Some(seal) => {
                self.files_kept.add(1);
                (seal, true)
            }
            None => (self.write_file(range).await?, false),
        };
        Ok(Written { file: range.file(), seal, range: Some(range), is_kept, partition: Vec::new() })
    }

    async fn write_file(&self, range: Range) -> Result<Seal> {
        let mut part = Part::create(&self.spec.dir, &self.input.schema(), self.spec.compression)?;
        let mut rows = self.input.execute(self.partition, self.context.clone())?;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            part.write(&batch)?;
            self.rows_written.add(batch.num_rows());
            if self.reservation.try_resize(part.memory_bytes()).is_err() {
                // A smaller row group is better than no file.
                part.flush()?;
                self.reservation.try_resize(part.memory_bytes())?;
            }
        }
        self.reservation.free();
        let (dir, copy_id) = (self.spec.dir.clone(), self.spec.copy_id.clone());
        blocking(move || {
            let (file, seal) = part.finish()?;
            whole::place(&dir, &copy_id, range, file, seal)
        })
        .await
    }

    async fn write_hive(&self, partition_by: &[String]) -> Result<Vec<Written>> {
        let mut writer = HiveWriter::new(&self.spec, &self.input.schema(), partition_by)?;
        let mut rows = self.input.execute(self.partition, self.context.clone())?;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            writer.write(&batch)?;
            self.rows_written.add(batch.num_rows());
            if self.reservation.try_resize(writer.memory_bytes()).is_err() {
                writer.flush()?;
                self.reservation.try_resize(writer.memory_bytes())?;
            }
        }
        self.reservation.free();
        blocking(move || writer.finish()).await
    }
}

/// Runs what waits for a disk away from the threads that run tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, TransferError> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_survive_being_rows() {
        let seal = Seal { rows: 3, bytes: 4, sha256: "ab".to_owned() };
        let range = Some(Range { start: i64::MIN, end: 5 });
        let all = vec![
            Written { file: "a".to_owned(), seal: seal.clone(), range, is_kept: true, partition: Vec::new() },
            Written {
                file: "b".to_owned(),
                seal,
                range: None,
                is_kept: false,
                partition: vec![("x".to_owned(), None), ("y".to_owned(), Some("1".to_owned()))],
            },
        ];
        assert_eq!(decode_written(&encode_written(&all).expect("rows")).expect("files"), all);
    }
}
