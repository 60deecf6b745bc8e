//! `writetime(column)`, `ttl(column)` and `token(key, ...)` in SQL.
//!
//! Cassandra computes them, so they become columns of the scan: an analyzer rule adds them to the tables that have the
//! columns named in the calls, and puts a reference to them in each call's place. The same rule tells tables the
//! session's settings, which decide what is pushed down.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, exec_err, plan_err};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::TableScanBuilder;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TableScan, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use super::columns::ScanColumn;
use super::session::CassandraSettings;
use super::table::CassandraTable;

/// What is asked of Cassandra besides values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asked {
    WriteTime,
    TimeToLive,
    Token,
}

impl Asked {
    const ALL: [Self; 3] = [Self::WriteTime, Self::TimeToLive, Self::Token];

    fn name(self) -> &'static str {
        match self {
            Self::WriteTime => "writetime",
            Self::TimeToLive => "ttl",
            Self::Token => "token",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|asked| asked.name() == name)
    }

    fn column(self, arguments: Vec<String>) -> Option<ScanColumn> {
        match (self, arguments.as_slice()) {
            (Self::WriteTime, [name]) => Some(ScanColumn::WriteTime(name.clone())),
            (Self::TimeToLive, [name]) => Some(ScanColumn::TimeToLive(name.clone())),
            (Self::Token, [_, ..]) => Some(ScanColumn::Token(arguments)),
            _ => None,
        }
    }
}

/// A function that is known by its name and type only: it never runs.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CassandraFunction {
    asked: Asked,
    signature: Signature,
}

impl ScalarUDFImpl for CassandraFunction {
    fn name(&self) -> &str {
        self.asked.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.asked == Asked::TimeToLive { DataType::Int32 } else { DataType::Int64 })
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{}() takes columns of a Cassandra table", self.name())
    }
}

/// `writetime`, `ttl` and `token`, to be registered with a session.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    Asked::ALL
        .into_iter()
        .map(|asked| {
            let signature = match asked {
                Asked::WriteTime | Asked::TimeToLive => Signature::any(1, Volatility::Stable),
                Asked::Token => Signature::variadic_any(Volatility::Stable),
            };
            Arc::new(ScalarUDF::new_from_impl(CassandraFunction { asked, signature }))
        })
        .collect()
}

/// Tells Cassandra's tables what the session and the statement want of them.
#[derive(Debug, Default)]
pub struct AskCassandra;

impl AnalyzerRule for AskCassandra {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let settings = config.extensions.get::<CassandraSettings>().cloned().unwrap_or_default();
        let mut wanted = BTreeSet::new();
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    wanted.extend(call(part).map(|(_, column)| column));
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        if wanted.is_empty() && settings == CassandraSettings::default() {
            return Ok(plan);
        }
        let wanted: Vec<ScanColumn> = wanted.into_iter().collect();
        let rewritten = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::TableScan(scan) => asked(scan, &settings, &wanted),
            // The columns are the same as before, so that schemas still hold.
            node if wanted.is_empty() => Ok(Transformed::no(node)),
            node => with_references(node),
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "ask_cassandra"
    }
}

/// A call of one of the functions over columns: of which table, and what is asked.
fn call(expression: &Expr) -> Option<(Option<datafusion::common::TableReference>, ScanColumn)> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expression else { return None };
    let is_ours = (func.inner().as_ref() as &dyn Any).is::<CassandraFunction>();
    let asked = Asked::of(func.name()).filter(|_| is_ours)?;
    let columns: Vec<&Column> = args.iter().map(Expr::try_as_col).collect::<Option<_>>()?;
    let relation = columns.first()?.relation.clone();
    let names = columns.into_iter().map(|column| column.name.clone()).collect();
    Some((relation, asked.column(names)?))
}

/// The scan of a Cassandra table with the settings, and with those of the wanted columns that it can have.
fn asked(scan: TableScan, settings: &CassandraSettings, wanted: &[ScanColumn]) -> Result<Transformed<LogicalPlan>> {
    let Ok(provider) = source_as_provider(&scan.source) else {
        return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
    };
    let Some(table) = provider.downcast_ref::<CassandraTable>() else {
        return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
    };
    let has = |column: &&ScanColumn| match column {
        ScanColumn::Cell(name) | ScanColumn::WriteTime(name) | ScanColumn::TimeToLive(name) => table.has_column(name),
        ScanColumn::Token(key) => key.iter().all(|name| table.has_column(name)),
    };
    let more: Vec<ScanColumn> = wanted.iter().filter(has).cloned().collect();
    let own_count = table.column_count();
    let table = table.for_session(settings, &more)?;
    let count = table.column_count();
    let projection = scan.projection.map(|projection| projection.into_iter().chain(own_count..count).collect());
    let source = provider_as_source(Arc::new(table));
    let scan = TableScanBuilder::new(scan.table_name, source)
        .with_projection(projection)
        .with_filters(scan.filters)
        .with_fetch(scan.fetch)
        .build()?;
    Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
}

/// The node over inputs that may have more columns than before, with references to those in the calls' places.
fn with_references(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if node.inputs().is_empty() {
        return Ok(Transformed::no(node));
    }
    let mut inputs: Vec<LogicalPlan> = node.inputs().into_iter().cloned().collect();
    let names = NamePreserver::new(&node);
    let mut expressions = Vec::new();
    for expression in node.expressions() {
        let saved = names.save(&expression);
        let referred = expression.transform_up(|part| {
            let Some((relation, column)) = call(&part) else { return Ok(Transformed::no(part)) };
            let reference = Column::new(relation, column.name());
            if !inputs.iter().any(|input| input.schema().has_column(&reference)) {
                let provided = match (&node, inputs.as_slice()) {
                    (LogicalPlan::Sort(_), [input]) => providing(input, &reference)?,
                    _ => None,
                };
                let Some(provided) = provided else {
                    let name = column.name();
                    return plan_err!(
                        "{name} takes a column of a Cassandra table, and is asked where the table is read"
                    );
                };
                inputs = vec![provided];
            }
            Ok(Transformed::yes(Expr::Column(reference)))
        })?;
        expressions.push(saved.restore(referred.data));
    }
    let shown = node.schema().columns();
    let is_sort = matches!(node, LogicalPlan::Sort(_));
    let mut rewritten = node.with_new_exprs(expressions, inputs)?;
    if is_sort && rewritten.schema().fields().len() > shown.len() {
        rewritten = LogicalPlanBuilder::from(rewritten).project(shown.into_iter().map(Expr::Column))?.build()?;
    }
    Ok(Transformed::yes(rewritten))
}

/// A projection below a sort with one more column, if that is to be had below it.
fn providing(plan: &LogicalPlan, reference: &Column) -> Result<Option<LogicalPlan>> {
    if plan.schema().has_column(reference) {
        return Ok(Some(plan.clone()));
    }
    let LogicalPlan::Projection(projection) = plan else { return Ok(None) };
    let Some(input) = providing(&projection.input, reference)? else { return Ok(None) };
    let expressions = projection.expr.iter().cloned().chain([Expr::Column(reference.clone())]);
    Ok(Some(LogicalPlanBuilder::from(input).project(expressions)?.build()?))
}
