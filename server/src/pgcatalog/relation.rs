//! A relation of `pg_catalog` as a table: its rows are made when a query is planned.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

use super::content::{Scope, Source};
use super::definitions::Definition;

/// A relation of `pg_catalog`.
#[derive(Debug)]
pub struct Relation {
    definition: Arc<Definition>,
    source: Source,
}

impl Relation {
    /// The relation of `definition` with the rows of `source`.
    pub fn new(definition: Arc<Definition>, source: Source) -> Self {
        Self { definition, source }
    }
}

#[async_trait]
impl TableProvider for Relation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.definition.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// A filter only spares loading the tables that it rules out.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let catalog = &state.config_options().catalog;
        let scope =
            Scope { database: catalog.default_catalog.clone(), relation_oid: filters.iter().find_map(relation_oid) };
        let rows = self.source.rows(self.definition.name, &scope).await;
        let rows = OneBatch(self.definition.batch(&rows)?);
        // A stream of the server's own is never sent to executors.
        let table = StreamingTable::try_new(self.schema(), vec![Arc::new(rows)])?;
        table.scan(state, projection, &[], limit).await
    }
}

/// The table that a filter like `attrelid = 16396` asks for.
fn relation_oid(filter: &Expr) -> Option<i32> {
    let Expr::BinaryExpr(comparison) = filter else { return None };
    if comparison.op != Operator::Eq {
        return None;
    }
    let (column, literal) = match (uncast(&comparison.left), uncast(&comparison.right)) {
        (Expr::Column(column), Expr::Literal(literal, _)) | (Expr::Literal(literal, _), Expr::Column(column)) => {
            (column, literal)
        }
        _ => return None,
    };
    if !matches!(column.name.as_str(), "oid" | "attrelid") {
        return None;
    }
    match literal.cast_to(&DataType::Int32) {
        Ok(ScalarValue::Int32(oid)) => oid,
        _ => None,
    }
}

fn uncast(expression: &Expr) -> &Expr {
    match expression {
        Expr::Cast(cast) => uncast(&cast.expr),
        Expr::TryCast(cast) => uncast(&cast.expr),
        other => other,
    }
}

#[derive(Debug)]
struct OneBatch(RecordBatch);

impl PartitionStream for OneBatch {
    fn schema(&self) -> &SchemaRef {
        self.0.schema_ref()
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batch = futures::stream::iter([Ok(self.0.clone())]);
        Box::pin(RecordBatchStreamAdapter::new(self.0.schema(), batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{cast, col, lit};

    #[test]
    fn a_filter_names_its_table_by_number_or_text() {
        assert_eq!(relation_oid(&col("attrelid").eq(lit(5))), Some(5));
        assert_eq!(relation_oid(&cast(col("oid"), DataType::Utf8).eq(lit("16396"))), Some(16_396));
        assert_eq!(relation_oid(&col("relname").eq(lit("5"))), None);
        assert_eq!(relation_oid(&col("oid").gt(lit(5))), None);
    }
}
