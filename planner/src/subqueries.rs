//! `EXISTS` and `IN` where DataFusion makes no join of them.
//!
//! DataFusion turns `EXISTS` into a join where it filters, and knows nothing to do with it in a `SELECT` list, where a
//! scalar subquery becomes a join. So there it is asked how many rows the subquery has. `IN` beside an `OR` becomes a join
//! unless the subquery's column is an expression without a name, which is then taken for two columns of one name
//! (`build_join` in `datafusion_optimizer::decorrelate_predicate_subquery`). So it gets a name.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Spans};
use datafusion::error::Result;
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Expr, FetchType, LogicalPlan, LogicalPlanBuilder, Operator, SkipType, Subquery, binary_expr, lit,
};
use datafusion::optimizer::AnalyzerRule;

/// Counts the rows of an `EXISTS` that is a part of a column, and names the columns of `IN`.
#[derive(Debug)]
pub struct PrepareSubqueries;

impl AnalyzerRule for PrepareSubqueries {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_down_with_subqueries(|node| {
            let is_column = match node {
                LogicalPlan::Projection(_) => true,
                LogicalPlan::Filter(_) => false,
                _ => return Ok(Transformed::no(node)),
            };
            let names = NamePreserver::new(&node);
            node.map_expressions(|column| {
                let name = names.save(&column);
                let rewritten = column.transform_up(|part| match part {
                    Expr::Exists(exists) if is_column => rows_exist(exists).map(Transformed::yes),
                    Expr::InSubquery(is_in) if has_no_name(&is_in.subquery.subquery) => {
                        with_name(is_in).map(|is_in| Transformed::yes(Expr::InSubquery(is_in)))
                    }
                    other => Ok(Transformed::no(other)),
                })?;
                Ok(if rewritten.transformed { rewritten.update_data(|column| name.restore(column)) } else { rewritten })
            })?
            .map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "prepare_subqueries"
    }
}

/// Whether the first column of a plan is an expression without an alias.
fn has_no_name(plan: &LogicalPlan) -> bool {
    match plan.head_output_expr() {
        Ok(Some(Expr::Column(column))) => column.relation.is_none(),
        Ok(Some(Expr::Alias(_))) | Ok(None) | Err(_) => false,
        Ok(Some(_)) => true,
    }
}

fn with_name(mut is_in: InSubquery) -> Result<InSubquery> {
    let plan = is_in.subquery.subquery.as_ref();
    let column = Expr::Column(Column::from(plan.schema().qualified_field(0))).alias("value");
    is_in.subquery.subquery = Arc::new(LogicalPlanBuilder::from(plan.clone()).project([column])?.build()?);
    Ok(is_in)
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
