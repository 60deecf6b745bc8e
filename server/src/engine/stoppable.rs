//! Joins that can be stopped in the middle of a batch.
//!
//! DataFusion's operators are stopped between batches, by no longer being polled. A nested loop
//! join that finds no match compares a batch with its whole other side before it lets go of its
//! thread, which for large sides takes minutes. Its condition is evaluated once for every row of
//! that side: there a stop is noticed.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::joins::utils::JoinFilter;

use super::query::QueryControl;

/// The plan, with joins that end when `control` stops the query.
pub(super) fn stoppable(plan: Arc<dyn ExecutionPlan>, control: &Arc<QueryControl>) -> Result<Arc<dyn ExecutionPlan>> {
    let rewritten = plan.transform_up(|node| {
        let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else { return Ok(Transformed::no(node)) };
        let Some(filter) = join.filter() else { return Ok(Transformed::no(node)) };
        let condition =
            Arc::new(UnlessStopped { inner: Arc::clone(filter.expression()), control: Arc::clone(control) });
        let filter = JoinFilter::new(condition, filter.column_indices().to_vec(), Arc::clone(filter.schema()));
        let projection = join.projection().as_ref().map(|projection| projection.to_vec());
        let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
        let join = NestedLoopJoinExec::try_new(left, right, Some(filter), join.join_type(), projection)?;
        Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>))
    })?;
    Ok(rewritten.data)
}

/// An expression that fails once its query has been stopped.
#[derive(Debug)]
struct UnlessStopped {
    inner: Arc<dyn PhysicalExpr>,
    control: Arc<QueryControl>,
}

impl PartialEq for UnlessStopped {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner) && Arc::ptr_eq(&self.control, &other.control)
    }
}

impl Eq for UnlessStopped {}

impl Hash for UnlessStopped {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for UnlessStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

impl PhysicalExpr for UnlessStopped {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.control.is_stopped() {
            return Err(DataFusionError::External(Box::new(self.control.error())));
        }
        self.inner.evaluate(batch)
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input_schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.is_empty()) {
            (Some(inner), true) => Ok(Arc::new(Self { inner, control: Arc::clone(&self.control) })),
            _ => Err(DataFusionError::Internal("a condition has one child".to_owned())),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
