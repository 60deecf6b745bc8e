//! The names that PostgreSQL gives to the columns of a result.
//!
//! `count(*)` is `count`, `1 + 1` is `?column?`, and two columns may have one name, which DataFusion allows to none. So
//! what has no name of its own gets PostgreSQL's before it is planned, and a mark that nobody sees where there may be a
//! second one; the marks are taken off what clients are told. Only the outermost SELECT of a query is named: what others
//! are called can be asked for by the rest of the query.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, DataType, Expr, Ident, ObjectNamePart, Query, Select, SelectItem, SetExpr, Statement, Value,
};

use super::types::BuiltIn;
use crate::engine::folded;

/// Takes no room: a word joiner, which no name ends with.
const MARK: char = '\u{2060}';
/// What has no name.
const NAMELESS: &str = "?column?";
/// Marks at a name's end are counted, so that there should not be too many.
const MOST_COLUMNS: usize = 1_000;

/// Names the columns of a query as PostgreSQL does. Other statements are left as they are.
pub fn name_columns(statement: &mut Statement) {
    match statement {
        Statement::Query(query) => {
            if let Some(select) = outermost(query) {
                name_select(select);
            }
        }
        Statement::Prepare { statement, .. } => name_columns(statement),
        _ => {}
    }
}

/// The schema with the names as clients are to see them.
pub fn without_marks(schema: &SchemaRef) -> SchemaRef {
    if !schema.fields().iter().any(|field| field.name().ends_with(MARK)) {
        return Arc::clone(schema);
    }
    let fields = schema.fields().iter().map(|field| {
        let field: &Field = field;
        field.clone().with_name(field.name().trim_end_matches(MARK))
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The SELECT that tells the names.
fn outermost(query: &mut Query) -> Option<&mut Select> {
    let mut body = query.body.as_mut();
    loop {
        body = match body {
            SetExpr::Select(select) => return Some(select),
            SetExpr::Query(query) => query.body.as_mut(),
            SetExpr::SetOperation { left, .. } => left.as_mut(),
            _ => return None,
        };
    }
}

fn name_select(select: &mut Select) {
    // The order of DISTINCT rows is told by the expressions as they are written.
    if select.distinct.is_some() || select.projection.len() > MOST_COLUMNS {
        return;
    }
    let is_wildcard = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let has_wildcard = select.projection.iter().any(is_wildcard);
    // Names are compared as clients see them.
    let mut seen: HashMap<String, usize> = HashMap::new();
    for item in &mut select.projection {
        let (name, may_be_asked_for) = match item {
            // A wildcard may bring the same column.
            SelectItem::UnnamedExpr(expression) => (name_of(expression), is_column(expression) && !has_wildcard),
            SelectItem::ExprWithAlias { alias, .. } => (folded(alias), true),
            _ => continue,
        };
        let before = seen.entry(name.clone()).or_insert(0);
        let is_free = may_be_asked_for && *before == 0;
        *before += 1;
        if !is_free {
            let marked = format!("{name}{}", MARK.to_string().repeat(*before));
            let alias = Ident::with_quote('"', marked);
            match item {
                SelectItem::UnnamedExpr(expression) => {
                    let expr = std::mem::replace(expression, Expr::Value(Value::Null.with_empty_span()));
                    *item = SelectItem::ExprWithAlias { expr, alias };
                }
                SelectItem::ExprWithAlias { alias: name, .. } => *name = alias,
                _ => {}
            }
        }
    }
}

fn is_column(expression: &Expr) -> bool {
    matches!(expression, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

fn name_of(expression: &Expr) -> String {
    figured(expression).unwrap_or_else(|| NAMELESS.to_owned())
}

/// PostgreSQL's `FigureColname`.
fn figured(expression: &Expr) -> Option<String> {
    let name = match expression {
        Expr::Identifier(ident) => folded(ident),
        Expr::CompoundIdentifier(path) => folded(path.last()?),
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(AccessExpr::Dot(Expr::Identifier(field))) => folded(field),
            _ => return figured(root),
        },
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => return figured(inner),
        Expr::Function(function) => folded(function.name.0.last().and_then(ObjectNamePart::as_ident)?),
        Expr::Cast { expr, data_type, .. } => match expr.as_ref() {
            // What a cast of a CASE or a cast is called comes from the cast.
            Expr::Case { .. } | Expr::Cast { .. } => return type_name(data_type),
            inner => return figured(inner).or_else(|| type_name(data_type)),
        },
        Expr::TypedString(text) => return type_name(&text.data_type),
        Expr::Case { else_result, .. } => {
            let named = else_result.as_deref().filter(|result| is_column(result)).and_then(figured);
            return Some(named.unwrap_or_else(|| "case".to_owned()));
        }
        Expr::Subquery(query) => {
            let SetExpr::Select(select) = query.body.as_ref() else { return None };
            match select.projection.first()? {
                SelectItem::UnnamedExpr(expression) => return figured(expression),
                SelectItem::ExprWithAlias { alias, .. } => folded(alias),
                _ => return None,
            }
        }
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => "bool".to_owned(),
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        Expr::Interval(_) => "interval".to_owned(),
        Expr::Extract { .. } => "extract".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Overlay { .. } => "overlay".to_owned(),
        Expr::Ceil { .. } => "ceil".to_owned(),
        Expr::Floor { .. } => "floor".to_owned(),
        Expr::Trim { .. } => "btrim".to_owned(),
        Expr::AtTimeZone { .. } => "timezone".to_owned(),
        _ => return None,
    };
    Some(name)
}

/// The name of a type in `pg_type`, of an array that of its elements.
fn type_name(data_type: &DataType) -> Option<String> {
    let written = data_type.to_string().to_lowercase();
    let element = written.trim_end_matches("[]").split('(').next().unwrap_or_default().trim();
    let known = match element {
        "double" | "float" => "float8",
        element => BuiltIn::named(element).map_or(element, |built_in| built_in.name),
    };
    Some(known.to_owned())
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    /// The query with `'` for each mark.
    fn named(sql: &str) -> String {
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
        name_columns(&mut statements[0]);
        statements[0].to_string().replace(MARK, "'")
    }

    #[test]
    fn what_has_no_name_gets_postgresqls() {
        assert_eq!(
            named("SELECT count(*), a + 1, 2, b::int, 1::bigint, date '2024-02-29', CASE WHEN a THEN 1 END FROM t"),
            "SELECT count(*) AS \"count'\", a + 1 AS \"?column?'\", 2 AS \"?column?''\", b::INT AS \"b'\", \
             1::BIGINT AS \"int8'\", DATE '2024-02-29' AS \"date'\", CASE WHEN a THEN 1 END AS \"case'\" FROM t"
        );
    }

    #[test]
    fn two_columns_may_have_one_name() {
        assert_eq!(named("SELECT 1 AS a, 2 AS a"), "SELECT 1 AS a, 2 AS \"a''\"");
        assert_eq!(named("SELECT a.x, b.x FROM a, b"), "SELECT a.x, b.x AS \"x''\" FROM a, b");
        assert_eq!(named("SELECT c.oid, c.* FROM c"), "SELECT c.oid AS \"oid'\", c.* FROM c");
    }

    #[test]
    fn names_are_left_where_they_may_be_asked_for() {
        for sql in ["SELECT a, b AS c FROM t", "SELECT DISTINCT a + 1 FROM t", "INSERT INTO t SELECT a + 1 FROM u"] {
            assert_eq!(named(sql), sql);
        }
        assert_eq!(named("SELECT *, a + 1 AS b FROM t ORDER BY b"), "SELECT *, a + 1 AS b FROM t ORDER BY b");
        assert_eq!(named("SELECT n FROM (SELECT 1 + 1 AS n) AS t"), "SELECT n FROM (SELECT 1 + 1 AS n) AS t");
    }

    #[test]
    fn marks_are_not_seen() {
        use datafusion::arrow::datatypes::DataType as ArrowType;
        let field = |name: &str| Field::new(name, ArrowType::Int32, true);
        let schema = Arc::new(Schema::new(vec![field("a"), field(&format!("a{MARK}"))]));
        let shown = without_marks(&schema);
        assert!(shown.fields().iter().all(|field| field.name() == "a"));
    }
}
