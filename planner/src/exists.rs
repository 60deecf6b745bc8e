//! `EXISTS` among the columns of a query.
//!
//! DataFusion turns `EXISTS` into a join where it filters, and knows nothing to do with it in a `SELECT` list, where a
//! scalar subquery becomes a join. So there it is asked how many rows the subquery has.

use std::sync::Arc;

use datafusion::common::Spans;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::expr::Exists;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Expr, FetchType, LogicalPlan, LogicalPlanBuilder, Operator, SkipType, Subquery, binary_expr, lit,
};
use datafusion::optimizer::AnalyzerRule;

/// Counts the rows of an `EXISTS` that is a part of a column.
#[derive(Debug)]
pub struct CountForExists;

impl AnalyzerRule for CountForExists {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_down_with_subqueries(|node| {
            if !matches!(node, LogicalPlan::Projection(_)) {
                return Ok(Transformed::no(node));
            }
            let names = NamePreserver::new(&node);
            node.map_expressions(|column| {
                let name = names.save(&column);
                let rewritten = column.transform_up(|part| match part {
                    Expr::Exists(exists) => rows_exist(exists).map(Transformed::yes),
                    other => Ok(Transformed::no(other)),
                })?;
                Ok(if rewritten.transformed { rewritten.update_data(|column| name.restore(column)) } else { rewritten })
            })?
            .map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "count_for_exists"
    }
}

/// Whether there are rows, as a comparison with their number.
fn rows_exist(exists: Exists) -> Result<Expr> {
    let Exists { subquery: Subquery { subquery, outer_ref_columns, .. }, negated } = exists;
    let mut rows = LogicalPlanBuilder::from(without_limit(&subquery)?);
    if outer_ref_columns.is_empty() {
        // One is enough; what belongs to a row of the outer query cannot be limited for each.
        rows = rows.limit(0, Some(1))?;
    }
    let count = rows.aggregate(Vec::<Expr>::new(), [count_all()])?.build()?;
    let count = Expr::ScalarSubquery(Subquery { subquery: Arc::new(count), outer_ref_columns, spans: Spans::new() });
    Ok(binary_expr(count, if negated { Operator::Eq } else { Operator::Gt }, lit(0_i64)))
}

/// `LIMIT 1` says nothing about whether there are rows.
fn without_limit(plan: &Arc<LogicalPlan>) -> Result<LogicalPlan> {
    if let LogicalPlan::Limit(limit) = plan.as_ref()
        && matches!(limit.get_skip_type()?, SkipType::Literal(0))
        && matches!(limit.get_fetch_type()?, FetchType::Literal(Some(1..)))
    {
        return Ok(limit.input.as_ref().clone());
    }
    Ok(plan.as_ref().clone())
}
