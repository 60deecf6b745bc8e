//! The least and the greatest clustering value of each partition, read as its first row.
//!
//! ```text
//! SELECT sensor, max(at) FROM readings GROUP BY sensor
//! ```
//!
//! Rows of a partition are in the order of its clustering key, so that one row says as much as all of them. The
//! aggregate stays where it is: what is read is a hint, and never decides.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;

use super::probe::{column_of_scan, has_filter, scan_below, with_scan};
use super::session::CassandraSettings;
use super::spec::ScanSpec;

/// Reads one row of each partition where only its least or greatest clustering value is wanted.
#[derive(Debug, Default)]
pub struct ExtremesOfPartitions;

impl PhysicalOptimizerRule for ExtremesOfPartitions {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if config.extensions.get::<CassandraSettings>().is_some_and(|settings| !settings.pushdown) {
            return Ok(plan);
        }
        let rewritten = plan.transform_down(|node| {
            let Some(aggregate) = node.downcast_ref::<AggregateExec>() else { return Ok(Transformed::no(node)) };
            let Some(spec) = first_rows(aggregate) else { return Ok(Transformed::no(node)) };
            let Some(scan) = scan_below(aggregate.input()) else { return Ok(Transformed::no(node)) };
            let input = with_scan(aggregate.input(), Arc::new(scan.with_spec(spec)))?;
            Ok(Transformed::yes(replace_children_if_necessary(node, vec![input])?))
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "cassandra_extremes_of_partitions"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The scan of the first row of each partition, if the aggregate needs no more.
fn first_rows(aggregate: &AggregateExec) -> Option<ScanSpec> {
    let input = aggregate.input();
    let sees_rows =
        matches!(aggregate.mode(), AggregateMode::Partial | AggregateMode::Single | AggregateMode::SinglePartitioned);
    let spec = scan_below(input).filter(|_| sees_rows && !has_filter(input))?.spec();
    if spec.uses_index || spec.nearest.is_some() || spec.limit.is_some() || spec.per_partition_limit.is_some() {
        return None;
    }
    let is_of_partitions = aggregate.group_expr().expr().iter().all(|(expression, _)| {
        column_of_scan(expression, input).is_some_and(|name| spec.partition_key.contains(&name))
    });
    let first = spec.clustering_key.iter().find(|column| !spec.is_constant(&column.name));
    let first = first.filter(|column| column.has_sql_order && is_of_partitions)?;
    let mut wanted = None;
    for (function, filter) in aggregate.aggr_expr().iter().zip(aggregate.filter_expr()) {
        let is_greatest = match function.fun().name() {
            "max" => true,
            "min" => false,
            _ => return None,
        };
        let expressions = function.expressions();
        let [of] = expressions.as_slice() else { return None };
        if filter.is_some() || column_of_scan(of, input)? != first.name || wanted.is_some_and(|w| w != is_greatest) {
            return None;
        }
        wanted = Some(is_greatest);
    }
    let is_reversed = wanted? != first.is_descending;
    // Only within a partition does Cassandra turn the order round.
    if is_reversed && spec.keys.is_none() {
        return None;
    }
    Some(ScanSpec { is_reversed, per_partition_limit: Some(1), ..spec.clone() })
}
