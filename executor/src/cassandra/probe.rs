//! Which joins a Cassandra table can be read for by key.
//!
//! The probe side of a hash join is followed down to a scan; where the columns that are joined by are the table's whole
//! partition key (perhaps with values that the query gives), the rows of the build side say what to read.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::{JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;

use super::scan::CassandraScanExec;

/// A join whose probe side can be read by key.
pub struct Probe {
    /// The columns of the keys, in order: the partition key, then perhaps a prefix of the clustering key.
    pub key_columns: Vec<String>,
    /// For each column, what the build side has for it, or `None` where the query itself gives its values.
    pub build_values: Vec<Option<Arc<dyn PhysicalExpr>>>,
}

/// Whether a join of this type needs no rows of its probe side but those that have a match.
fn needs_matches_only(join_type: JoinType) -> bool {
    matches!(
        join_type,
        JoinType::Inner
            | JoinType::Left
            | JoinType::LeftSemi
            | JoinType::LeftAnti
            | JoinType::LeftMark
            | JoinType::RightSemi
    )
}

/// The join's probe side as reads by key; `None` if it cannot be.
pub fn probe_of(join: &HashJoinExec) -> Option<Probe> {
    let is_suitable = *join.partition_mode() == PartitionMode::CollectLeft
        && needs_matches_only(*join.join_type())
        && join.null_equality() == NullEquality::NullEqualsNothing
        && !join.null_aware
        && join.left().properties().output_partitioning().partition_count() == 1;
    let scan = scan_below(join.right()).filter(|_| is_suitable)?;
    let spec = scan.spec();
    if spec.keys.is_some() || spec.nearest.is_some() || spec.uses_index {
        return None;
    }
    let mut joined: BTreeMap<String, Arc<dyn PhysicalExpr>> = BTreeMap::new();
    for (build, probe) in join.on() {
        if let Some(name) = column_of_scan(probe, join.right()) {
            joined.entry(name).or_insert_with(|| build.clone());
        }
    }
    let mut probe = Probe { key_columns: Vec::new(), build_values: Vec::new() };
    for name in &spec.partition_key {
        let value = joined.get(name).cloned();
        if value.is_none() && !spec.partial_key.contains_key(name) {
            return None;
        }
        probe.key_columns.push(name.clone());
        probe.build_values.push(value);
    }
    if probe.build_values.iter().all(Option::is_none) {
        return None;
    }
    for column in &spec.clustering_key {
        let is_restricted = spec.restrictions.iter().any(|restriction| restriction.column == column.name);
        let Some(value) = joined.get(&column.name).filter(|_| !is_restricted) else { break };
        probe.key_columns.push(column.name.clone());
        probe.build_values.push(Some(value.clone()));
    }
    Some(probe)
}

/// The scan whose rows, filtered and projected, are those of the plan.
pub fn scan_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&CassandraScanExec> {
    if let Some(scan) = plan.downcast_ref::<CassandraScanExec>() {
        return Some(scan);
    }
    scan_below(only_input(plan)?)
}

/// The input of an operator that leaves out rows or columns and does nothing else.
fn only_input(plan: &Arc<dyn ExecutionPlan>) -> Option<&Arc<dyn ExecutionPlan>> {
    let is_plain = plan.is::<ProjectionExec>() || plan.is::<FilterExec>() || plan.is::<CooperativeExec>();
    match plan.children().as_slice() {
        [input] if is_plain => Some(input),
        _ => None,
    }
}

/// The plan with another scan in the place of the one below it.
pub fn with_scan(plan: &Arc<dyn ExecutionPlan>, scan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match only_input(plan) {
        None => Ok(scan),
        Some(input) => {
            let input = with_scan(input, scan)?;
            replace_children_if_necessary(plan.clone(), vec![input])
        }
    }
}

/// Whether rows are left out above the scan.
pub fn has_filter(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<FilterExec>() || plan.children().into_iter().any(has_filter)
}

/// The column of the scan that an expression over the plan's rows has the values of, widened at most.
pub fn column_of_scan(expression: &Arc<dyn PhysicalExpr>, plan: &Arc<dyn ExecutionPlan>) -> Option<String> {
    let expression = resolve(expression, plan)?;
    Some(expression.downcast_ref::<Column>()?.name().to_owned())
}

/// What an expression over the plan's rows is over the rows of the scan, without casts that only widen.
fn resolve(expression: &Arc<dyn PhysicalExpr>, plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn PhysicalExpr>> {
    if let Some(cast) = expression.downcast_ref::<CastExpr>() {
        let from = cast.expr().data_type(&plan.schema()).ok()?;
        return if widens(&from, cast.cast_type()) { resolve(cast.expr(), plan) } else { None };
    }
    let column = expression.downcast_ref::<Column>()?;
    let Some(input) = only_input(plan) else {
        return plan.is::<CassandraScanExec>().then(|| expression.clone());
    };
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return resolve(&projection.expr().get(column.index())?.expr, input);
    }
    let index = match plan.downcast_ref::<FilterExec>().and_then(|filter| filter.projection().as_ref()) {
        Some(kept) => *kept.get(column.index())?,
        None => column.index(),
    };
    let name = input.schema().fields().get(index)?.name().clone();
    resolve(&(Arc::new(Column::new(&name, index)) as Arc<dyn PhysicalExpr>), input)
}

/// Whether a cast keeps every value what it is.
fn widens(from: &datafusion::arrow::datatypes::DataType, to: &datafusion::arrow::datatypes::DataType) -> bool {
    use datafusion::arrow::datatypes::DataType;
    let text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match (from, to) {
        _ if from == to || (text(from) && text(to)) => true,
        _ if from.is_signed_integer() && to.is_signed_integer() => from.primitive_width() <= to.primitive_width(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn a_cast_that_loses_digits_is_no_widening() {
        assert!(widens(&DataType::Int32, &DataType::Int64));
        assert!(!widens(&DataType::Int64, &DataType::Int32));
        assert!(!widens(&DataType::Int64, &DataType::Float64));
        assert!(widens(&DataType::Utf8, &DataType::Utf8View));
    }
}
