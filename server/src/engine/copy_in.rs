//! `COPY table FROM STDIN`: rows that a client sends, as an `INSERT`.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{LogicalPlanBuilder, cast, lit};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::Expr;
use futures::StreamExt;
use sluice_executor::cassandra::{Using, plan_write};
use tokio::sync::mpsc;

use super::ddl::FullName;
use super::error::{EngineError, SqlState};
use super::query::QueryRecord;
use super::run;
use super::session::Session;

/// Rows on their way from a client; the end of the channel is the end of the rows.
pub type CopyInput = mpsc::Receiver<RecordBatch>;

/// The columns that a client sends: those that the statement names, or all.
pub(super) async fn columns(session: &Session, table: &[String], names: &[String]) -> Result<SchemaRef, EngineError> {
    let name = FullName::of_parts(session, table)?;
    let schema = session.named_table(&name).await?.schema();
    if names.is_empty() {
        return Ok(schema);
    }
    let mut fields = Vec::with_capacity(names.len());
    for (index, column) in names.iter().enumerate() {
        if names[..index].contains(column) {
            return Err(EngineError::new(SqlState("42701"), format!("column \"{column}\" specified more than once")));
        }
        let field = schema.fields().iter().find(|field| field.name() == column);
        fields.push(field.ok_or_else(|| EngineError::no_column(column, &name.table))?.clone());
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Writes rows of these columns as they come, and returns how many there were.
pub(super) async fn execute(
    session: &Arc<Session>,
    table: &[String],
    columns: SchemaRef,
    input: CopyInput,
    record: &Arc<QueryRecord>,
) -> Result<u64, EngineError> {
    let name = FullName::of_parts(session, table)?;
    let target = session.find_table(name.reference()).await?;
    let wanted = target.schema();
    let incoming = Incoming { schema: columns.clone(), rows: Mutex::new(Some(input)) };
    let source = StreamingTable::try_new(columns.clone(), vec![Arc::new(incoming)])?;
    let values = wanted.fields().iter().map(|field| {
        let value = match columns.column_with_name(field.name()) {
            Some(_) => Expr::Column(Column::from_name(field.name())),
            None => cast(lit(ScalarValue::Null), field.data_type().clone()),
        };
        value.alias(field.name())
    });
    let rows = LogicalPlanBuilder::scan("stdin", provider_as_source(Arc::new(source)), None)?;
    let rows = rows.project(values.collect::<Vec<_>>())?.build()?;
    let target = provider_as_source(target);
    let plan = LogicalPlanBuilder::insert_into(rows, name.reference(), target, InsertOp::Append)?.build()?;
    run::run_to_count(session, &plan_write(plan, &Using::default())?, record).await
}

/// The rows as DataFusion reads them, once.
struct Incoming {
    schema: SchemaRef,
    rows: Mutex<Option<CopyInput>>,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

impl PartitionStream for Incoming {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).take();
        let batches = futures::stream::unfold(rows, |rows| async move {
            let mut rows = rows?;
            let batch = rows.recv().await?;
            Some((Ok(batch), Some(rows)))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches.boxed()))
    }
}
