//! `INSERT INTO cassandra_table SELECT ...` without a list of columns goes by name.
//!
//! Cassandra keeps no order of a table's columns beyond its key: the rest come back by name. By place,
//! as in SQL, columns of one type would change places without an error. So where each of a query's
//! columns has the name of one of the table's, the names decide, as in Spark's connector.

use std::collections::HashSet;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, SetExpr, Statement as SqlStatement, TableObject};

use futures::FutureExt;

use super::session::Session;

/// The statement with its columns listed; `None` if it goes as it is.
pub(super) async fn by_name(session: &Session, statement: &DfStatement) -> Result<Option<DfStatement>> {
    let DfStatement::Statement(sql) = statement else { return Ok(None) };
    let SqlStatement::Insert(insert) = sql.as_ref() else { return Ok(None) };
    let (TableObject::TableName(table), Some(source), true) =
        (&insert.table, &insert.source, insert.columns.is_empty())
    else {
        return Ok(None);
    };
    if matches!(source.body.as_ref(), SetExpr::Values(_)) {
        return Ok(None);
    }
    let reference = object_name_to_table_reference(table.clone(), true)?;
    let target = session.context().table_provider(reference).await?.schema();
    if !is_cassandra(&target) {
        return Ok(None);
    }
    let query = DfStatement::Statement(Box::new(SqlStatement::Query(source.clone())));
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
