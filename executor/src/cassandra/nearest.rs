//! The nearest vectors: `ORDER BY v <-> '[1, 2, 3]' LIMIT 10`.
//!
//! The operators are those of pgvector: `<->` is the Euclidean distance, `<=>` that of the cosine. They are DataFusion's
//! functions `array_distance` and `cosine_distance`, with a vector in text read as one. Where the column has a
//! storage-attached index of the same measure, the index gives the rows, approximately, and the sort above them their
//! exact order.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float32Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, plan_err};
use datafusion::error::Result;
use datafusion::functions_nested::cosine_distance::cosine_distance_udf;
use datafusion::functions_nested::distance::array_distance_udf;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::details::Similarity;
use super::probe::{column_of_scan, has_filter, scan_below, with_scan};
use super::session::CassandraSettings;
use super::spec::{Nearest, ScanSpec};

/// Rows that Cassandra gives of an index at most.
const MOST_NEAREST: usize = 1_000;

/// Plans `<->` and `<=>`.
#[derive(Debug, Default)]
pub struct VectorOperators;

impl ExprPlanner for VectorOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match expr.op {
            BinaryOperator::LtDashGt => array_distance_udf(),
            BinaryOperator::Spaceship => cosine_distance_udf(),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let arguments = vec![vector(expr.left)?, vector(expr.right)?];
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(function, arguments))))
    }
}

/// An operand, read as a vector if it is text such as `[1, 2.5, 3]`.
fn vector(operand: Expr) -> Result<Expr> {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &operand else { return Ok(operand) };
    let inner = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let numbers: Option<Vec<ScalarValue>> = inner.and_then(|inner| {
        inner.split(',').map(|number| Some(ScalarValue::Float64(Some(number.trim().parse().ok()?)))).collect()
    });
    match numbers {
        Some(numbers) => {
            let list = ScalarValue::new_list(&numbers, &DataType::Float64, true);
            Ok(Expr::Literal(ScalarValue::List(list), None))
        }
        None => plan_err!("\"{text}\" is no vector: write '[1, 2.5, 3]'"),
    }
}

/// Has an index give the rows of a sort by distance with a limit.
#[derive(Debug, Default)]
pub struct NearestVectors;

impl PhysicalOptimizerRule for NearestVectors {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if config.extensions.get::<CassandraSettings>().is_some_and(|settings| !settings.ann || !settings.pushdown) {
            return Ok(plan);
        }
        let rewritten = plan.transform_down(|node| {
            let Some(sort) = node.downcast_ref::<SortExec>() else { return Ok(Transformed::no(node)) };
            let Some(spec) = nearest(sort) else { return Ok(Transformed::no(node)) };
            let Some(scan) = scan_below(sort.input()) else { return Ok(Transformed::no(node)) };
            let scan = Arc::new(scan.with_spec_in_one_partition(spec)?);
            let input = with_scan(sort.input(), scan)?;
            Ok(Transformed::yes(replace_children_if_necessary(node, vec![input])?))
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "cassandra_nearest_vectors"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What is asked of an index to give the rows of this sort; `None` if no index can.
fn nearest(sort: &SortExec) -> Option<ScanSpec> {
    let count = sort.fetch().filter(|count| (1..=MOST_NEAREST).contains(count))?;
    let [by] = sort.expr().as_ref() else { return None };
    // Rows that a filter leaves out would be missing among the nearest.
    if by.options.descending || by.options.nulls_first || has_filter(sort.input()) {
        return None;
    }
    let (expression, input) = computed(&by.expr, sort.input())?;
    let function = expression.downcast_ref::<ScalarFunctionExpr>()?;
    let measure = match function.name() {
        "array_distance" => Similarity::Euclidean,
        "cosine_distance" => Similarity::Cosine,
        _ => return None,
    };
    let (column, vector) = match function.args() {
        [column, vector] if vector.is::<Literal>() => (column, vector),
        [vector, column] => (column, vector),
        _ => return None,
    };
    let column = column_of_scan(&without_cast(column), &input)?;
    let spec = scan_below(&input)?.spec();
    let size = spec.vectors.iter().find(|vectors| vectors.column == column && vectors.similarity == measure)?.size;
    let is_plain = spec.keys.is_none() && spec.tokens.is_whole_ring() && spec.limit.is_none() && !spec.allow_filtering;
    let vector = encoded(vector, size).filter(|_| is_plain)?;
    Some(ScanSpec { nearest: Some(Nearest { column, vector, count }), ..spec.clone() })
}

/// An expression, or what a projection below computes for it, and the plan over whose rows it is.
fn computed(
    expression: &Arc<dyn PhysicalExpr>,
    plan: &Arc<dyn ExecutionPlan>,
) -> Option<(Arc<dyn PhysicalExpr>, Arc<dyn ExecutionPlan>)> {
    let Some(column) = expression.downcast_ref::<Column>() else { return Some((expression.clone(), plan.clone())) };
    let projection = plan.downcast_ref::<ProjectionExec>()?;
    computed(&projection.expr().get(column.index())?.expr, projection.input())
}

fn without_cast(expression: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    match expression.downcast_ref::<CastExpr>() {
        Some(cast) => without_cast(cast.expr()),
        None => expression.clone(),
    }
}

/// The vector's floats as Cassandra has them; `None` if they are not that many numbers.
fn encoded(vector: &Arc<dyn PhysicalExpr>, size: usize) -> Option<Vec<u8>> {
    let ScalarValue::List(list) = vector.downcast_ref::<Literal>()?.value() else { return None };
    let values = cast(&list.value(0), &DataType::Float32).ok()?;
    let values = values.as_primitive_opt::<Float32Type>()?;
    let is_whole = !list.is_null(0) && values.len() == size && values.null_count() == 0;
    is_whole.then(|| values.values().iter().flat_map(|value| value.to_be_bytes()).collect())
}
