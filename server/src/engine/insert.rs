//! `INSERT INTO cassandra_table SELECT ...` without a list of columns goes by name.
//!
//! Cassandra keeps no order of a table's columns beyond its key: the rest come back by name. By place,
//! as in SQL, columns of one type would change places without an error. So where each of a query's
//! columns has the name of one of the table's, the names decide, as in Spark's connector.

use std::collections::HashSet;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{
    Ident, Insert, ObjectName, Query, SetExpr, Statement as SqlStatement, TableObject,
};
use sluice_executor::cassandra::{Using, insert_using_columns, plan_write};

use futures::FutureExt;

use super::ddl::folded;
use super::session::Session;

/// A statement's plan; if it writes to Cassandra, with what it says about how.
pub(super) async fn plan(session: &Session, statement: &DfStatement, using: &Using) -> Result<LogicalPlan> {
    if !using.columns().is_empty()
        && let Some(plan) = plan_with_columns(session, statement, using).await?
    {
        return Ok(plan);
    }
    let named = by_name(session, statement).await?;
    let plan = session.context().state().statement_to_plan(named.unwrap_or_else(|| statement.clone())).boxed().await?;
    plan_write(plan, using)
}

/// The parts of `INSERT INTO table [(columns)] query`.
fn parts(statement: &DfStatement) -> Option<(&Insert, &ObjectName, &Query)> {
    let DfStatement::Statement(sql) = statement else { return None };
    let SqlStatement::Insert(insert) = sql.as_ref() else { return None };
    match (&insert.table, &insert.source) {
        (TableObject::TableName(table), Some(source)) => Some((insert, table, source.as_ref())),
        _ => None,
    }
}

/// The plan of an `INSERT` whose `USING` names columns of its query, which are none of the table's.
async fn plan_with_columns(session: &Session, statement: &DfStatement, using: &Using) -> Result<Option<LogicalPlan>> {
    let Some((insert, table, source)) = parts(statement) else { return Ok(None) };
    let table = object_name_to_table_reference(table.clone(), true)?;
    let provider = session.find_table(table.clone()).await?;
    let query = DfStatement::Statement(Box::new(SqlStatement::Query(Box::new(source.clone()))));
    let query = session.context().state().statement_to_plan(query).boxed().await?;
    let columns: Vec<String> = insert.columns.iter().filter_map(column_name).collect();
    insert_using_columns(table, provider, &columns, query, using).map(Some)
}

/// A column as SQL folds it: lower case unless quoted.
fn column_name(name: &ObjectName) -> Option<String> {
    name.0.last()?.as_ident().map(folded)
}

/// The statement with its columns listed; `None` if it goes as it is.
async fn by_name(session: &Session, statement: &DfStatement) -> Result<Option<DfStatement>> {
    let Some((insert, table, source)) = parts(statement) else { return Ok(None) };
    if !insert.columns.is_empty() || matches!(source.body.as_ref(), SetExpr::Values(_)) {
        return Ok(None);
    }
    let reference = object_name_to_table_reference(table.clone(), true)?;
    let target = session.find_table(reference).await?.schema();
    if !is_cassandra(&target) {
        return Ok(None);
    }
    let query = DfStatement::Statement(Box::new(SqlStatement::Query(Box::new(source.clone()))));
    let query = session.context().state().statement_to_plan(query).boxed().await?;
    let names: Vec<&String> = query.schema().fields().iter().map(|field| field.name()).collect();
    let are_the_tables = names.iter().all(|name| target.column_with_name(name).is_some());
    if !are_the_tables || names.iter().collect::<HashSet<_>>().len() < names.len() {
        return Ok(None);
    }
    let mut named = insert.clone();
    named.columns = names.into_iter().map(|name| ObjectName::from(vec![Ident::with_quote('"', name)])).collect();
    Ok(Some(DfStatement::Statement(Box::new(SqlStatement::Insert(named)))))
}

/// Whether the columns are those of a table in Cassandra.
fn is_cassandra(schema: &SchemaRef) -> bool {
    schema.fields().iter().any(|field| field.metadata().contains_key("cassandra.kind"))
}
