//! `EXISTS` and `IN` where DataFusion makes no join of them.
//!
//! DataFusion turns `EXISTS` and `IN` into joins where they filter, and knows nothing to do with them in a `SELECT`
//! list, where a scalar subquery becomes a join. So there it is asked how many rows the subquery has: at all for
//! `EXISTS`; for `IN` with that value, and with null, which makes it unknown. `IN` beside an `OR` becomes a join unless
//! the subquery's column is an expression without a name, which is then taken for two columns of one name (`build_join`
//! in `datafusion_optimizer::decorrelate_predicate_subquery`). So it gets a name.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ScalarValue, Spans, plan_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Expr, FetchType, LogicalPlan, LogicalPlanBuilder, SkipType, Subquery, and, lit, not, or,
};
use datafusion::optimizer::AnalyzerRule;

/// Counts the rows of an `EXISTS` that is a part of a column, and names the columns of `IN`.
#[derive(Debug)]
pub struct PrepareSubqueries;

impl AnalyzerRule for PrepareSubqueries {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_down_with_subqueries(|node| {
            // What the columns of a SELECT list are made of.
            let columns_of = match &node {
                LogicalPlan::Projection(projection) => Some(projection.input.schema().clone()),
                LogicalPlan::Filter(_) => None,
                _ => return Ok(Transformed::no(node)),
            };
            let names = NamePreserver::new(&node);
            node.map_expressions(|column| {
                let name = names.save(&column);
                let rewritten = column.transform_up(|part| match (part, &columns_of) {
                    (Expr::Exists(exists), Some(_)) => rows_exist(exists).map(Transformed::yes),
                    (Expr::InSubquery(is_in), Some(outer)) => rows_have(is_in, outer).map(Transformed::yes),
                    (Expr::InSubquery(is_in), None) if has_no_name(&is_in.subquery.subquery) => {
                        with_name(is_in).map(|is_in| Transformed::yes(Expr::InSubquery(is_in)))
                    }
                    (other, _) => Ok(Transformed::no(other)),
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
    let Exists { subquery, negated } = exists;
    let mut rows = LogicalPlanBuilder::from(without_limit(&subquery.subquery)?);
    if subquery.outer_ref_columns.is_empty() {
        // One is enough; what belongs to a row of the outer query cannot be limited for each.
        rows = rows.limit(0, Some(1))?;
    }
    let exist = are_some(rows)?;
    Ok(if negated { not(exist) } else { exist })
}

/// Whether the number of rows is not 0, for each row of the outer query if it has a part in them.
fn are_some(rows: LogicalPlanBuilder) -> Result<Expr> {
    let count = rows.aggregate(Vec::<Expr>::new(), [count_all()])?.build()?;
    let outer_ref_columns = count.all_out_ref_exprs();
    let count = Expr::ScalarSubquery(Subquery { subquery: Arc::new(count), outer_ref_columns, spans: Spans::new() });
    Ok(count.gt(lit(0_i64)))
}

/// Whether a value is among the rows: unknown if it is not and a null is, or if it is a null and there are rows.
fn rows_have(is_in: InSubquery, outer: &DFSchema) -> Result<Expr> {
    let InSubquery { expr: sought, subquery, negated } = is_in;
    if sought.exists(|part| Ok(matches!(part, Expr::ScalarSubquery(_))))? {
        return plan_err!("IN cannot take its left side from a subquery in a SELECT list: move one of them to FROM");
    }
    let of_outer = outer_references(sought.as_ref().clone(), outer)?;
    let rows = || LogicalPlanBuilder::from(subquery.subquery.as_ref().clone());
    let value = || Expr::Column(Column::from(subquery.subquery.schema().qualified_field(0)));
    let is_found = are_some(rows().filter(value().eq(of_outer))?)?;
    let is_null_there = are_some(rows().filter(value().is_null())?)?;
    let is_unknown = or(is_null_there, and(sought.is_null(), are_some(rows())?));
    // What is false stays so, and what is true becomes unknown.
    let found = or(is_found, and(is_unknown, lit(ScalarValue::Boolean(None))));
    Ok(if negated { not(found) } else { found })
}

/// An expression of the outer query as a subquery of it sees it.
fn outer_references(expression: Expr, outer: &DFSchema) -> Result<Expr> {
    let referenced = expression.transform_up(|part| match part {
        Expr::Column(column) => {
            let (_, field) = outer.qualified_field_from_column(&column)?;
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field.clone(), column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(referenced.data)
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
