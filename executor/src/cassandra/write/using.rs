//! `USING TTL ... AND TIMESTAMP ...`, and what else a statement says about how its rows are written.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, TableReference, plan_err};
use datafusion::datasource::{DefaultTableSource, TableProvider, provider_as_source};
use datafusion::error::Result;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, WriteOp, cast, lit};
use datafusion::scalar::ScalarValue;

use super::super::error::CassandraError;
use super::super::table::CassandraTable;

/// A number, or the name of a column of the query whose rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsingValue {
    /// The same for all rows.
    Number(i64),
    /// Each row's own; where it is null, the row is written as if the clause were not there.
    Column(String),
}

/// A statement's `USING` clause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Using {
    /// Seconds after which what is written expires.
    pub ttl: Option<UsingValue>,
    /// Microseconds since the Unix epoch.
    pub timestamp: Option<UsingValue>,
}

impl Using {
    /// Whether the statement has no such clause.
    pub fn is_empty(&self) -> bool {
        self.ttl.is_none() && self.timestamp.is_none()
    }

    /// Seconds and microseconds, for statements that write no rows of a query.
    pub(in super::super) fn numbers(&self) -> Result<(Option<i32>, Option<i64>), CassandraError> {
        let number = |value: &Option<UsingValue>| match value {
            None => Ok(None),
            Some(UsingValue::Number(number)) => Ok(Some(*number)),
            Some(UsingValue::Column(column)) => Err(CassandraError::NotSupported(format!(
                "USING with a column such as \"{column}\", but for INSERT INTO ... SELECT,"
            ))),
        };
        let ttl_s = number(&self.ttl)?.map(|ttl_s| i32::try_from(ttl_s).unwrap_or(i32::MAX));
        Ok((ttl_s, number(&self.timestamp)?))
    }

    /// The columns that it names: that of the TTL first.
    pub fn columns(&self) -> Vec<&str> {
        [&self.ttl, &self.timestamp]
            .into_iter()
            .filter_map(|value| match value {
                Some(UsingValue::Column(column)) => Some(column.as_str()),
                _ => None,
            })
            .collect()
    }
}

/// How a statement writes to its table.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct WriteOptions {
    /// The columns that an `INSERT` names; `None` are all. Those that it leaves out are never deleted.
    pub columns: Option<Vec<String>>,
    /// Its `USING` clause. What comes from columns follows the table's own columns in the input.
    pub using: Using,
}

/// Tells the Cassandra tables that a plan writes to how they are written to, before it is optimized.
///
/// A session that plans writes without this does them too, but takes the columns that an `INSERT` leaves out for
/// nulls, and does not notice an `UPDATE` or `DELETE` whose conditions are more than conditions on its table.
pub fn plan_write(plan: LogicalPlan, using: &Using) -> Result<LogicalPlan> {
    let mut is_found = false;
    let planned = plan.transform_down(|node| {
        let LogicalPlan::Dml(dml) = &node else { return Ok(Transformed::no(node)) };
        let Some(table) = table_of(dml) else { return Ok(Transformed::no(node)) };
        is_found = true;
        let columns = match &dml.op {
            WriteOp::Insert(_) => named_columns(&dml.input),
            WriteOp::Update | WriteOp::Delete => {
                only_conditions(dml)?;
                None
            }
            _ => None,
        };
        let table = table.writing(WriteOptions { columns, using: using.clone() });
        let dml = DmlStatement { target: provider_as_source(Arc::new(table)), ..dml.clone() };
        Ok(Transformed::new(LogicalPlan::Dml(dml), true, TreeNodeRecursion::Jump))
    })?;
    if !is_found && !using.is_empty() {
        return Err(CassandraError::NotSupported("USING, but for a statement that writes to it,".to_owned()).into());
    }
    Ok(planned.data)
}

fn table_of(dml: &DmlStatement) -> Option<&CassandraTable> {
    dml.target.downcast_ref::<DefaultTableSource>()?.table_provider.downcast_ref::<CassandraTable>()
}

/// The columns that an `INSERT` has values for: DataFusion gives those that it leaves out a literal null.
fn named_columns(input: &LogicalPlan) -> Option<Vec<String>> {
    let LogicalPlan::Projection(projection) = input else { return None };
    let fields = projection.schema.fields().iter();
    let named = fields.zip(&projection.expr).filter(|(_, expr)| !is_literal(expr));
    Some(named.map(|(field, _)| field.name().clone()).collect())
}

fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_literal(&alias.expr),
        Expr::Cast(cast) => is_literal(&cast.expr),
        Expr::Literal(..) => true,
        _ => false,
    }
}

/// Refuses what DataFusion does not hand on to a table: subqueries, other tables, limits.
fn only_conditions(dml: &DmlStatement) -> Result<()> {
    let mut is_more = false;
    dml.input.apply(|node| {
        is_more |= !matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::TableScan(_)
                | LogicalPlan::SubqueryAlias(_)
        );
        Ok(if is_more { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !is_more {
        is_more = has_subquery(&dml.input)?;
    }
    if is_more {
        let what = format!("{} with a subquery, another table or a limit", dml.op.name().to_uppercase());
        return Err(CassandraError::NotSupported(what).into());
    }
    Ok(())
}

fn has_subquery(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|part| {
                Ok(matches!(
                    part,
                    Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)
                ))
            })?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// `INSERT INTO table (columns) query USING ...` where the clause names columns of the query.
///
/// The other columns of the query go to `columns` in their order, or, if there are none, by their names.
pub fn insert_using_columns(
    name: TableReference,
    provider: Arc<dyn TableProvider>,
    columns: &[String],
    query: LogicalPlan,
    using: &Using,
) -> Result<LogicalPlan> {
    let Some(table) = provider.downcast_ref::<CassandraTable>() else {
        return Err(CassandraError::NotSupported("USING, but for INSERT into it,".to_owned()).into());
    };
    let target = provider.schema();
    let mut sources: Vec<Column> = query.schema().columns();
    let mut extra = Vec::new();
    for wanted in using.columns() {
        if target.column_with_name(wanted).is_some() {
            return plan_err!(
                "column \"{wanted}\" of USING is a column of the table: give the query's another name with AS"
            );
        }
        let Some(place) = sources.iter().position(|column| column.name == wanted) else {
            let names: Vec<&str> = sources.iter().map(|column| column.name.as_str()).collect();
            return plan_err!("the query has no column \"{wanted}\" for USING; it has: {}", names.join(", "));
        };
        extra.push(Expr::Column(sources.remove(place)));
    }
    let names: Vec<String> = match columns.is_empty() {
        true => sources.iter().map(|column| column.name.clone()).collect(),
        false => columns.to_vec(),
    };
    if names.len() != sources.len() {
        return plan_err!("Column count doesn't match insert query: {} for {} columns", sources.len(), names.len());
    }
    if let Some(unknown) = names.iter().find(|name| target.column_with_name(name).is_none()) {
        return plan_err!("table {name} has no column \"{unknown}\"");
    }
    let mut projection = Vec::with_capacity(target.fields().len() + extra.len());
    for field in target.fields() {
        let value = match names.iter().position(|name| name == field.name()) {
            Some(place) => Expr::Column(sources[place].clone()),
            None => lit(ScalarValue::Null),
        };
        projection.push(cast(value, field.data_type().clone()).alias(field.name()));
    }
    for (place, expr) in extra.into_iter().enumerate() {
        projection.push(expr.alias(format!("cassandra.using.{place}")));
    }
    let table = table.writing(WriteOptions { columns: Some(names), using: using.clone() });
    let input = LogicalPlanBuilder::from(query).project(projection)?.build()?;
    let target = provider_as_source(Arc::new(table));
    LogicalPlanBuilder::insert_into(input, name, target, InsertOp::Append)?.build()
}
