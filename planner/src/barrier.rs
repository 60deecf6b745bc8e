//! Policies' barriers in plans: what a query asks for is asked of the rows that its user may see, and of no others.
//!
//! The filter of a policy stands on the scan of its table, and a [`PolicyBarrier`] on the filter. DataFusion's rules move
//! no predicate below a node that they do not know; [`PassSafePredicates`] moves those below it that tell nothing of the
//! rows that are hidden, because they cannot fail and have no effect: comparisons of columns with values. So reads by
//! key and of ranges stay what they are.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::Session;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DFSchemaRef, plan_datafusion_err};
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, Filter, LogicalPlan, Operator, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use sluice_executor::barrier::PolicyBarrierExec;

/// Gives its input's rows as they are, and keeps predicates above itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct PolicyBarrier {
    input: Arc<LogicalPlan>,
}

impl PolicyBarrier {
    /// The plan of rows that a policy chose, under a barrier.
    pub fn over(input: LogicalPlan) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(Self { input: Arc::new(input) }) })
    }
}

impl UserDefinedLogicalNodeCore for PolicyBarrier {
    fn name(&self) -> &str {
        "PolicyBarrier"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("PolicyBarrier")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input =
            inputs.into_iter().next().ok_or_else(|| plan_datafusion_err!("a policy's barrier has one input"))?;
        Ok(Self { input: Arc::new(input) })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }
}

/// The state with what plans with barriers need.
pub fn with_barriers(state: SessionState) -> SessionState {
    SessionStateBuilder::new_from_existing(state)
        .with_query_planner(Arc::new(BarrierPlanner))
        .with_optimizer_rule(Arc::new(PassSafePredicates))
        .build()
}

/// Moves predicates below a barrier that tell nothing of the rows that are hidden.
#[derive(Debug)]
struct PassSafePredicates;

impl OptimizerRule for PassSafePredicates {
    fn name(&self) -> &str {
        "pass_safe_predicates"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
        let Some(barrier) = barrier_of(&filter.input) else { return Ok(Transformed::no(LogicalPlan::Filter(filter))) };
        let schema = filter.input.schema();
        let (safe, kept): (Vec<Expr>, Vec<Expr>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(|part| is_safe(part, schema));
        let Some(safe) = conjunction(safe) else { return Ok(Transformed::no(LogicalPlan::Filter(filter))) };
        let below = Filter::try_new(safe, barrier.input.clone())?;
        let passed = PolicyBarrier::over(LogicalPlan::Filter(below));
        Ok(Transformed::yes(match conjunction(kept) {
            Some(kept) => LogicalPlan::Filter(Filter::try_new(kept, Arc::new(passed))?),
            None => passed,
        }))
    }
}

fn barrier_of(plan: &LogicalPlan) -> Option<&PolicyBarrier> {
    let LogicalPlan::Extension(extension) = plan else { return None };
    extension.node.as_any().downcast_ref()
}

/// Whether a predicate can be asked of any row: it cannot fail, and nobody sees that it was asked.
fn is_safe(predicate: &Expr, schema: &DFSchema) -> bool {
    let is_safe = |part: &Expr| is_safe(part, schema);
    let is_plain = |part: &Expr| is_plain(part, schema);
    match predicate {
        Expr::BinaryExpr(binary) => match binary.op {
            Operator::And | Operator::Or => is_safe(&binary.left) && is_safe(&binary.right),
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => is_plain(&binary.left) && is_plain(&binary.right),
            _ => false,
        },
        Expr::Not(inner)
        | Expr::IsTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsNotUnknown(inner) => is_safe(inner),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => is_plain(inner),
        Expr::Between(between) => is_plain(&between.expr) && is_plain(&between.low) && is_plain(&between.high),
        Expr::InList(list) => is_plain(&list.expr) && list.list.iter().all(is_plain),
        other => is_plain(other),
    }
}

/// A column or a value, or a column that is widened to be compared.
fn is_plain(expression: &Expr, schema: &DFSchema) -> bool {
    match expression {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::Cast(cast) => {
            let from = cast.expr.get_type(schema);
            is_plain(&cast.expr, schema) && from.is_ok_and(|from| is_widening(&from, cast.field.data_type()))
        }
        _ => false,
    }
}

/// Whether every value of one type has its like in the other.
fn is_widening(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, UInt8, UInt16, UInt32, Utf8, Utf8View};
    match to {
        Int64 | Float64 => {
            matches!(from, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Float32)
                && (*from != Float32 || *to == Float64)
        }
        Utf8 | LargeUtf8 | Utf8View => matches!(from, Utf8 | LargeUtf8 | Utf8View),
        _ => false,
    }
}

/// DataFusion's planner, which also knows barriers.
#[derive(Debug)]
struct BarrierPlanner;

#[async_trait]
impl QueryPlanner for BarrierPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Self)]);
        planner.create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl ExtensionPlanner for BarrierPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let input = node.as_any().is::<PolicyBarrier>().then(|| physical_inputs.first()).flatten();
        Ok(input.map(|input| Arc::new(PolicyBarrierExec::new(input.clone())) as Arc<dyn ExecutionPlan>))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int32Array, RecordBatch};
    use datafusion::datasource::MemTable;
    use datafusion::datasource::view::ViewTable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// A table of salaries of which one is hidden.
    async fn salaries() -> SessionContext {
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(SessionConfig::new().with_target_partitions(2));
        let context = SessionContext::new_with_state(with_barriers(state.build()));
        let column = |values: Vec<i32>| Arc::new(Int32Array::from(values)) as _;
        let rows = [("id", column(vec![1, 2, 3])), ("salary", column(vec![100, 200, 5000]))];
        let batch = RecordBatch::try_from_iter(rows).expect("columns of one length");
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).expect("a table");
        context.register_table("all_of_them", Arc::new(table)).expect("a free name");
        let chosen = context.sql("SELECT * FROM all_of_them WHERE salary < 1000").await.expect("is planned");
        let shown = ViewTable::new(PolicyBarrier::over(chosen.into_unoptimized_plan()), None);
        context.register_table("salaries", Arc::new(shown)).expect("a free name");
        context
    }

    async fn answer(context: &SessionContext, sql: &str) -> Result<usize> {
        let batches = context.sql(sql).await?.collect().await?;
        Ok(batches.iter().map(RecordBatch::num_rows).sum())
    }

    #[tokio::test]
    async fn a_predicate_that_fails_on_a_hidden_row_does_not_fail() {
        let context = salaries().await;
        let unfiltered = answer(&context, "SELECT * FROM all_of_them WHERE 1 / (salary - 5000) < 5").await;
        assert!(unfiltered.is_err(), "nothing fails without the barrier");
        for sql in [
            "SELECT * FROM salaries WHERE 1 / (salary - 5000) < 5",
            "SELECT * FROM salaries WHERE id < 5 AND 1 / (salary - 5000) < 5",
            "SELECT * FROM (SELECT salary - 5000 AS s FROM salaries) AS t WHERE 1 / s < 5",
            "SELECT * FROM salaries AS a JOIN salaries AS b ON a.id = b.id AND 1 / (a.salary - 5000) < 5",
            "SELECT * FROM all_of_them AS o WHERE o.id < 3 AND EXISTS \
             (SELECT 1 FROM salaries AS s WHERE s.id = o.id AND 1 / (s.salary - 5000) < 5)",
        ] {
            assert_eq!(answer(&context, sql).await.expect(sql), 2, "{sql}");
        }
    }

    #[tokio::test]
    async fn comparisons_pass_and_the_rest_stays() {
        let context = salaries().await;
        let query =
            context.sql("SELECT id FROM salaries AS s WHERE id = 2 AND salary * 2 > 10").await.expect("is planned");
        let plan = query.into_optimized_plan().expect("is optimized").display_indent().to_string();
        let at = |words: &str| plan.find(words).unwrap_or_else(|| panic!("no {words} in {plan}"));
        assert!(at("* Int64(2)") < at("PolicyBarrier") && at("PolicyBarrier") < at("id = Int32(2)"), "{plan}");
        assert_eq!(answer(&context, "SELECT id FROM salaries WHERE id = 3").await.expect("is answered"), 0);
        assert_eq!(answer(&context, "SELECT id FROM salaries ORDER BY id LIMIT 1").await.expect("is answered"), 1);
        assert_eq!(answer(&context, "SELECT max(salary) FROM salaries HAVING max(salary) = 200").await.expect("is"), 1);
    }
}
