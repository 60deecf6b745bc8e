//! The schema `system`: every state a user may wonder about, as a table.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::TableType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

use super::Engine;

const TABLES: [&str; 3] = ["executors", "queries", "tasks"];

/// Adds the schema `system` to the catalog `sluice`.
pub(super) fn register(engine: &Arc<Engine>) -> Result<()> {
    let schema = Arc::new(SystemSchema { engine: Arc::downgrade(engine) });
    engine.catalogs.local().register_schema("system", schema)?;
    Ok(())
}

/// Holds the engine weakly, because the engine holds the catalog.
struct SystemSchema {
    engine: Weak<Engine>,
}

impl std::fmt::Debug for SystemSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SystemSchema")
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        TABLES.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(kind) = TABLES.iter().find(|table| **table == name) else { return Ok(None) };
        let partition = SystemTable { kind, schema: schema_of(kind), engine: self.engine.clone() };
        let table = StreamingTable::try_new(partition.schema.clone(), vec![Arc::new(partition)])?;
        Ok(Some(Arc::new(table)))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(TABLES.contains(&name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.contains(&name)
    }
}

struct SystemTable {
    kind: &'static str,
    schema: SchemaRef,
    engine: Weak<Engine>,
}

impl std::fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "system.{}", self.kind)
    }
}

impl PartitionStream for SystemTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (kind, schema, engine) = (self.kind, self.schema.clone(), self.engine.clone());
        let rows = futures::stream::once(async move {
            let engine = engine
                .upgrade()
                .ok_or_else(|| DataFusionError::Execution("the service is shutting down".to_owned()))?;
            let columns = match kind {
                "executors" => executors(&engine).await,
                "tasks" => tasks(&engine).await,
                _ => queries(&engine),
            };
            Ok(RecordBatch::try_new(schema, columns)?)
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

fn schema_of(kind: &str) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::UInt64, true);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true);
    Arc::new(Schema::new(match kind {
        "executors" => vec![
            text("executor_id"),
            text("host"),
            number("port"),
            number("total_vcores"),
            number("free_vcores"),
            text("state"),
            time("last_heartbeat"),
        ],
        "tasks" => vec![
            text("query_id"),
            number("stage_id"),
            number("task_id"),
            text("state"),
            text("executor_id"),
            number("partition_count"),
            time("started"),
            time("ended"),
        ],
        _ => vec![
            text("query_id"),
            text("user_name"),
            text("sql"),
            text("state"),
            text("placement"),
            text("job_id"),
            time("started"),
            number("elapsed_ms"),
            number("row_count"),
            text("error"),
        ],
    }))
}

fn texts(values: impl IntoIterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn numbers(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn times(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    let values = values.into_iter().map(|ms| (ms > 0).then_some(ms as i64));
    Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

async fn executors(engine: &Engine) -> Vec<ArrayRef> {
    let all = engine.executors().await;
    vec![
        texts(all.iter().map(|e| Some(e.executor_id.clone()))),
        texts(all.iter().map(|e| Some(e.host.clone()))),
        numbers(all.iter().map(|e| u64::from(e.port))),
        numbers(all.iter().map(|e| u64::from(e.total_vcores))),
        numbers(all.iter().map(|e| u64::from(e.free_vcores))),
        texts(all.iter().map(|e| Some(e.state.to_owned()))),
        times(all.iter().map(|e| e.last_heartbeat_s * 1_000)),
    ]
}

fn queries(engine: &Engine) -> Vec<ArrayRef> {
    let all = engine.queries();
    vec![
        texts(all.iter().map(|q| Some(q.id.clone()))),
        texts(all.iter().map(|q| Some(q.user.clone()))),
        texts(all.iter().map(|q| Some(q.sql.clone()))),
        texts(all.iter().map(|q| Some(q.state.to_owned()))),
        texts(all.iter().map(|q| Some(q.placement.to_owned()))),
        texts(all.iter().map(|q| q.job_id.clone())),
        times(all.iter().map(|q| q.started_ms)),
        numbers(all.iter().map(|q| q.elapsed_ms)),
        numbers(all.iter().map(|q| q.rows)),
        texts(all.iter().map(|q| q.error.clone())),
    ]
}

async fn tasks(engine: &Engine) -> Vec<ArrayRef> {
    let mut rows = Vec::new();
    for query in engine.queries() {
        let Some(job_id) = &query.job_id else { continue };
        for stage in engine.stages(job_id).await {
            rows.extend(stage.tasks.into_iter().map(|task| (query.id.clone(), stage.stage_id, task)));
        }
    }
    vec![
        texts(rows.iter().map(|(id, _, _)| Some(id.clone()))),
        numbers(rows.iter().map(|(_, stage, _)| *stage as u64)),
        numbers(rows.iter().map(|(_, _, task)| task.task_id as u64)),
        texts(rows.iter().map(|(_, _, task)| Some(task.state.to_owned()))),
        texts(rows.iter().map(|(_, _, task)| Some(task.executor_id.clone()))),
        numbers(rows.iter().map(|(_, _, task)| task.partitions.len() as u64)),
        times(rows.iter().map(|(_, _, task)| task.started_ms)),
        times(rows.iter().map(|(_, _, task)| task.ended_ms)),
    ]
}
