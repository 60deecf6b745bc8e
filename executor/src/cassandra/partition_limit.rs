//! `PER PARTITION LIMIT` from SQL's spelling of it.
//!
//! ```text
//! SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY sensor ORDER BY at DESC) AS n FROM readings) WHERE n <= 3
//! ```
//!
//! Where the window's partitions are Cassandra's, and its order the one in which Cassandra has the rows, each partition
//! need be read only so far. The window and the filter stay: what is read is a hint, and never decides.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::BoundedWindowAggExec;
use datafusion::scalar::ScalarValue;

use super::probe::{column_of_scan, has_filter, scan_below, with_scan};
use super::session::CassandraSettings;
use super::spec::ScanSpec;

/// Limits the rows that are read of each partition under a filter on their number.
#[derive(Debug, Default)]
pub struct PartitionLimits;

impl PhysicalOptimizerRule for PartitionLimits {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if config.extensions.get::<CassandraSettings>().is_some_and(|settings| !settings.pushdown) {
            return Ok(plan);
        }
        let rewritten = plan.transform_down(|node| {
            let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(node)) };
            let Some((column, limit)) = limit_of(filter.predicate()) else { return Ok(Transformed::no(node)) };
            match limited(filter.input(), column, limit)? {
                Some(input) => Ok(Transformed::yes(replace_children_if_necessary(node, vec![input])?)),
                None => Ok(Transformed::no(node)),
            }
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "cassandra_partition_limits"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `column <= n` or `column < n`, also as a part of a conjunction: the column's index, and how many rows it leaves.
fn limit_of(predicate: &Arc<dyn PhysicalExpr>) -> Option<(usize, usize)> {
    let binary = predicate.downcast_ref::<BinaryExpr>()?;
    if *binary.op() == Operator::And {
        return limit_of(binary.left()).or_else(|| limit_of(binary.right()));
    }
    let column = binary.left().downcast_ref::<Column>()?;
    let number = match binary.right().downcast_ref::<Literal>()?.value() {
        ScalarValue::UInt64(Some(number)) => usize::try_from(*number).ok()?,
        ScalarValue::Int64(Some(number)) => usize::try_from(*number).ok()?,
        _ => return None,
    };
    match binary.op() {
        Operator::LtEq | Operator::Eq => Some((column.index(), number)),
        Operator::Lt => Some((column.index(), number.saturating_sub(1))),
        _ => None,
    }
}

/// The plan with its scan limited, if its column of this index is the number of a row in its partition.
fn limited(plan: &Arc<dyn ExecutionPlan>, index: usize, limit: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let Some(column) = projection.expr().get(index).and_then(|p| p.expr.downcast_ref::<Column>()) else {
            return Ok(None);
        };
        let input = limited(projection.input(), column.index(), limit)?;
        return input.map(|input| replace_children_if_necessary(plan.clone(), vec![input])).transpose();
    }
    let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() else { return Ok(None) };
    let Some(place) = index.checked_sub(window.input().schema().fields().len()) else { return Ok(None) };
    let [numbered] = window.window_expr() else { return Ok(None) };
    if place != 0 || !numbered.name().starts_with("row_number()") {
        return Ok(None);
    }
    let input = sorted_input(window.input(), numbered.as_ref(), limit)?;
    input.map(|input| replace_children_if_necessary(plan.clone(), vec![input])).transpose()
}

/// The window's input, through the sort and exchange that it needs, with its scan limited.
fn sorted_input(
    plan: &Arc<dyn ExecutionPlan>,
    window: &dyn WindowExpr,
    limit: usize,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if plan.is::<SortExec>() || plan.is::<RepartitionExec>() {
        let children = plan.children();
        let Some(input) = children.first() else { return Ok(None) };
        let input = sorted_input(input, window, limit)?;
        return input.map(|input| replace_children_if_necessary(plan.clone(), vec![input])).transpose();
    }
    let Some(scan) = scan_below(plan).filter(|scan| limit > 0 && fits(scan.spec(), window, plan)) else {
        return Ok(None);
    };
    let spec = ScanSpec { per_partition_limit: Some(limit), ..scan.spec().clone() };
    Ok(Some(with_scan(plan, Arc::new(scan.with_spec(spec)))?))
}

/// Whether the window's partitions are the table's, and its first rows those that Cassandra has first.
fn fits(spec: &ScanSpec, window: &dyn WindowExpr, plan: &Arc<dyn ExecutionPlan>) -> bool {
    let names: Option<Vec<String>> = window.partition_by().iter().map(|by| column_of_scan(by, plan)).collect();
    let Some(names) = names else { return false };
    let is_partition_key =
        names.len() == spec.partition_key.len() && spec.partition_key.iter().all(|name| names.contains(name));
    let has_order = window.order_by().len() <= spec.clustering_key.len()
        && window.order_by().iter().zip(&spec.clustering_key).all(|(by, column)| {
            column.has_sql_order
                && column.is_descending == by.options.descending
                && column_of_scan(&by.expr, plan).as_ref() == Some(&column.name)
        });
    is_partition_key
        && has_order
        && !spec.uses_index
        && spec.nearest.is_none()
        && !spec.is_reversed
        && !has_filter(plan)
}
