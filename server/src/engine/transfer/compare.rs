//! `COMPARE left WITH right`: the rows that differ, by a full outer join that runs as any query does.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use sluice_planner::statement::{Compare, Relation, StatementKind, parse};

use super::super::ddl::FullName;
use super::super::error::{EngineError, SqlState};
use super::super::session::Session;

/// The plan of a comparison.
pub async fn plan(session: &Arc<Session>, compare: &Compare) -> Result<LogicalPlan, EngineError> {
    let left = Side::open(session, &compare.left).await?;
    let right = Side::open(session, &compare.right).await?;
    let sql = sql(compare, &left, &right)?;
    plan_of(session, &sql).await
}

/// The plan of a statement of our own making, whose places are not the client's.
async fn plan_of(session: &Session, sql: &str) -> Result<LogicalPlan, EngineError> {
    let statement = parse(sql)?.into_iter().next();
    let statement = statement.ok_or_else(|| EngineError::new(SqlState::SYNTAX_ERROR, "a query without words"))?;
    let StatementKind::Sql(parsed) = &statement.kind else {
        return Err(EngineError::new(SqlState::SYNTAX_ERROR, "only tables and queries can be compared"));
    };
    session.plan(&statement, parsed).await.map_err(|error| EngineError { position: None, ..error })
}

/// One side of a comparison.
struct Side {
    /// What stands after FROM.
    sql: String,
    /// Names of its columns.
    columns: Vec<String>,
    /// Names of its primary key's columns; none if it is not known.
    key: Vec<String>,
}

impl Side {
    async fn open(session: &Arc<Session>, relation: &Relation) -> Result<Self, EngineError> {
        let (sql, key) = match relation {
            Relation::Query(query) => (format!("({query})"), Vec::new()),
            Relation::Table(parts) => {
                let name = FullName::of_parts(session, parts)?;
                let info = session.table_info(&name.catalog, &name.schema, &name.table).await?;
                (name.quoted(), info.map(|info| info.primary_key).unwrap_or_default())
            }
        };
        let plan = plan_of(session, &format!("SELECT * FROM {sql} AS side")).await?;
        let columns = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
        Ok(Self { sql, columns, key })
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// The columns that are compared, without those of the key.
fn compared(compare: &Compare, left: &Side, right: &Side, key: &[String]) -> Result<Vec<String>, EngineError> {
    let missing = |name: &String, side: &Side| !side.columns.contains(name);
    let wanted = if compare.columns.is_empty() { &left.columns } else { &compare.columns };
    let in_left = key.iter().chain(wanted).find(|name| missing(name, left));
    let in_right = key.iter().chain(wanted).find(|name| missing(name, right));
    let only_right = right.columns.iter().find(|name| compare.columns.is_empty() && missing(name, left));
    let found = in_left
        .map(|name| (name, "left"))
        .or(in_right.map(|name| (name, "right")))
        .or(only_right.map(|name| (name, "left")));
    if let Some((name, side)) = found {
        let message = format!("the {side} side of the comparison has no column \"{name}\"");
        return Err(EngineError::new(SqlState::UNDEFINED_COLUMN, message)
            .with_hint("COLUMNS (name, ...) compares only the columns that it names"));
    }
    Ok(wanted.iter().filter(|name| !key.contains(name)).cloned().collect())
}

fn sql(compare: &Compare, left: &Side, right: &Side) -> Result<String, EngineError> {
    let key = match [&compare.on, &left.key, &right.key].into_iter().find(|key| !key.is_empty()) {
        Some(key) => key.clone(),
        None => {
            return Err(EngineError::new(
                SqlState::INVALID_PARAMETER,
                "neither side has a primary key to compare rows by",
            )
            .with_hint("name the columns that tell rows apart: COMPARE a WITH b ON (column, ...)"));
        }
    };
    let columns = compared(compare, left, right, &key)?;
    let list = key.iter().chain(&columns).map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let differs = |name: &String| format!("(l.{0} IS DISTINCT FROM r.{0})", quoted(name));
    let differences: Vec<String> = columns.iter().map(differs).collect();
    let on = key.iter().map(|name| format!("(l.{0} IS NOT DISTINCT FROM r.{0})", quoted(name))).collect::<Vec<_>>();
    let join = format!(
        "(SELECT {list}, true AS \"in left\" FROM {} AS side) AS l \
         FULL OUTER JOIN (SELECT {list}, true AS \"in right\" FROM {} AS side) AS r ON {}",
        left.sql,
        right.sql,
        on.join(" AND ")
    );
    let only_left = "r.\"in right\" IS NULL";
    let only_right = "l.\"in left\" IS NULL";
    let any_differs = if differences.is_empty() { "false".to_owned() } else { differences.join(" OR ") };
    if compare.is_summary {
        return Ok(format!(
            "SELECT a.rows_left, b.rows_right, c.only_left, c.only_right, c.differing, c.same \
             FROM (SELECT count(*) AS rows_left FROM {} AS side) AS a \
             CROSS JOIN (SELECT count(*) AS rows_right FROM {} AS side) AS b \
             CROSS JOIN (SELECT count(*) FILTER (WHERE difference = 1) AS only_left, \
             count(*) FILTER (WHERE difference = 2) AS only_right, \
             count(*) FILTER (WHERE difference = 3) AS differing, count(*) FILTER (WHERE difference = 0) AS same \
             FROM (SELECT CASE WHEN {only_left} THEN 1 WHEN {only_right} THEN 2 WHEN {any_differs} THEN 3 ELSE 0 END \
             AS difference FROM {join}) AS d) AS c",
            left.sql, right.sql
        ));
    }
    let keys =
        key.iter().map(|name| format!("coalesce(l.{0}, r.{0}) AS {0}", quoted(name))).collect::<Vec<_>>().join(", ");
    let named: Vec<String> =
        columns.iter().map(|name| format!("CASE WHEN {} THEN {} END", differs(name), text(name))).collect();
    let named = if named.is_empty() { "NULL".to_owned() } else { format!("concat_ws(', ', {})", named.join(", ")) };
    let limit = compare.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
    Ok(format!(
        "SELECT {keys}, CASE WHEN {only_left} THEN 'only in left' WHEN {only_right} THEN 'only in right' \
         ELSE 'differs' END AS difference, \
         CASE WHEN {only_left} OR {only_right} THEN NULL ELSE {named} END AS columns \
         FROM {join} WHERE {only_left} OR {only_right} OR {any_differs}{limit}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(sql: &str, columns: &[&str], key: &[&str]) -> Side {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Side { sql: sql.to_owned(), columns: owned(columns), key: owned(key) }
    }

    fn compare(columns: &[&str], on: &[&str]) -> Compare {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let relation = || Relation::Table(vec!["t".to_owned()]);
        Compare {
            is_summary: false,
            left: relation(),
            right: relation(),
            on: owned(on),
            columns: owned(columns),
            limit: Some(5),
        }
    }

    #[test]
    fn the_primary_key_of_either_side_tells_rows_apart() {
        let (left, right) = (side("a", &["k", "v"], &["k"]), side("b", &["v", "k"], &[]));
        for (left, right) in [(&left, &right), (&right, &left)] {
            let sql = sql(&compare(&[], &[]), left, right).expect("is right");
            assert!(sql.contains("ON (l.\"k\" IS NOT DISTINCT FROM r.\"k\")") && sql.ends_with("LIMIT 5"), "{sql}");
        }
        let error = sql(&compare(&[], &[]), &right, &right).expect_err("has no key");
        assert!(error.hint.is_some_and(|hint| hint.contains("ON")), "{}", error.message);
        sql(&compare(&[], &["v"]), &right, &right).expect("names its key");
    }

    #[test]
    fn a_column_of_one_side_only_is_an_error_unless_columns_are_chosen() {
        let (left, right) = (side("a", &["k", "v"], &["k"]), side("b", &["k", "v", "w"], &[]));
        for (left, right) in [(&left, &right), (&right, &left)] {
            let error = sql(&compare(&[], &["k"]), left, right).expect_err("one side has more");
            assert!(error.message.contains("\"w\""), "{}", error.message);
            sql(&compare(&["v"], &["k"]), left, right).expect("both have v");
        }
    }
}
