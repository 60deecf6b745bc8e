//! What PostgreSQL's clients write and DataFusion does not understand, in words that it does.
//!
//! All of it is about the catalog: names with `pg_catalog.` before them, casts to `regclass` and its
//! kin, subqueries over relations that never have rows here. Everything else passes untouched.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr,
    Statement, TableFactor, Value, VisitMut, VisitorMut,
};

use super::catalogs::PG_CATALOG;
use super::definitions::Definition;

/// Rewrites a statement of a PostgreSQL client.
pub fn rewrite(statement: &mut Statement) {
    let _done: ControlFlow<()> = statement.visit(&mut Rewriter);
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        // Before what is inside is visited: it need not be understood.
        match expression {
            Expr::Subquery(query) if never_has_rows(query) => *expression = null(),
            Expr::Exists { subquery, negated } if never_has_rows(subquery) => *expression = truth(*negated),
            Expr::InSubquery { subquery, negated, .. } if never_has_rows(subquery) => *expression = truth(*negated),
            Expr::Function(function) if is_array_of_query(function) => {
                if let Some(replacement) = array_of_query(function) {
                    *expression = replacement;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        match expression {
            Expr::Function(function) => strip_schema(&mut function.name),
            Expr::BinaryOp { op, .. } | Expr::AnyOp { compare_op: op, .. } | Expr::AllOp { compare_op: op, .. } => {
                plain_operator(op);
            }
            Expr::Collate { expr, collation } if is_byte_order(collation) => {
                let inner = std::mem::replace(expr.as_mut(), null());
                *expression = inner;
            }
            Expr::Cast { expr, data_type, .. } => {
                if let Some(object) = object_type(data_type) {
                    let inner = std::mem::replace(expr.as_mut(), null());
                    *expression = object_cast(&object, inner);
                } else {
                    plain_type(data_type);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        if let [ObjectNamePart::Identifier(name)] = relation.0.as_slice()
            && name.value.starts_with("pg_")
            && Definition::of(&name.value).is_some()
        {
            relation.0.insert(0, ObjectNamePart::Identifier(Ident::new(PG_CATALOG)));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        // Functions in FROM are found by their bare names.
        if let TableFactor::Table { name, args: Some(_), .. } = factor {
            strip_schema(name);
        }
        ControlFlow::Continue(())
    }
}

fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

fn truth(value: bool) -> Expr {
    Expr::Value(Value::Boolean(value).with_empty_span())
}

fn strip_schema(name: &mut ObjectName) {
    if name.0.len() == 2 && is_pg_catalog(name.0.first()) {
        name.0.remove(0);
    }
}

fn is_pg_catalog(part: Option<&ObjectNamePart>) -> bool {
    part.and_then(ObjectNamePart::as_ident).is_some_and(|ident| ident.value == PG_CATALOG)
}

fn last_name(name: &ObjectName) -> Option<&str> {
    name.0.last().and_then(ObjectNamePart::as_ident).map(|ident| ident.value.as_str())
}

/// `OPERATOR(pg_catalog.~)` is `~`.
fn plain_operator(operator: &mut BinaryOperator) {
    let BinaryOperator::PGCustomBinaryOperator(path) = operator else { return };
    let plain = match path.last().map(String::as_str) {
        Some("=") => BinaryOperator::Eq,
        Some("<>" | "!=") => BinaryOperator::NotEq,
        Some("<") => BinaryOperator::Lt,
        Some("<=") => BinaryOperator::LtEq,
        Some(">") => BinaryOperator::Gt,
        Some(">=") => BinaryOperator::GtEq,
        Some("~") => BinaryOperator::PGRegexMatch,
        Some("~*") => BinaryOperator::PGRegexIMatch,
        Some("!~") => BinaryOperator::PGRegexNotMatch,
        Some("!~*") => BinaryOperator::PGRegexNotIMatch,
        Some("~~") => BinaryOperator::PGLikeMatch,
        Some("!~~") => BinaryOperator::PGNotLikeMatch,
        Some("~~*") => BinaryOperator::PGILikeMatch,
        Some("||") => BinaryOperator::StringConcat,
        Some("+") => BinaryOperator::Plus,
        Some("-") => BinaryOperator::Minus,
        Some("*") => BinaryOperator::Multiply,
        Some("/") => BinaryOperator::Divide,
        _ => return,
    };
    *operator = plain;
}

/// Collations under which text is compared as DataFusion compares it.
fn is_byte_order(collation: &ObjectName) -> bool {
    last_name(collation).is_some_and(|name| matches!(name, "default" | "C" | "POSIX" | "ucs_basic"))
}

/// The kind of object that a type like `regclass` stands for.
fn object_type(data_type: &DataType) -> Option<String> {
    let name = match data_type {
        DataType::Regclass => "regclass",
        DataType::Custom(name, _) => last_name(name)?,
        _ => return None,
    };
    match name.to_ascii_lowercase().as_str() {
        name @ ("regclass" | "regtype" | "regnamespace" | "regproc" | "regrole") => Some(name.to_owned()),
        "regprocedure" => Some("regproc".to_owned()),
        _ => None,
    }
}

/// A name is looked up; a number is shown by its name.
fn object_cast(object: &str, inner: Expr) -> Expr {
    let is_name = match &inner {
        Expr::Value(value) => {
            matches!(value.value, Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_) | Value::Placeholder(_))
        }
        _ => false,
    };
    call(&format!("sluice_{object}_{}", if is_name { "oid" } else { "name" }), inner)
}

fn call(name: &str, argument: Expr) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// PostgreSQL's own types by names that DataFusion knows.
fn plain_type(data_type: &mut DataType) {
    if let DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) = data_type {
        return plain_type(element);
    }
    let DataType::Custom(name, _) = data_type else { return };
    let (Some(last), qualified) = (last_name(name), name.0.len() == 2 && is_pg_catalog(name.0.first())) else { return };
    let plain = match last.to_ascii_lowercase().as_str() {
        "name" | "char" | "bpchar" | "cstring" | "pg_node_tree" | "aclitem" | "information_schema.sql_identifier" => {
            DataType::Text
        }
        "oid" | "xid" | "cid" => DataType::Int(None),
        "text" | "varchar" if qualified => DataType::Text,
        "int2" if qualified => DataType::SmallInt(None),
        "int4" if qualified => DataType::Int(None),
        "int8" if qualified => DataType::BigInt(None),
        "bool" if qualified => DataType::Boolean,
        "float8" if qualified => DataType::Double(datafusion::sql::sqlparser::ast::ExactNumberInfo::None),
        _ => return,
    };
    *data_type = plain;
}

/// Whether a query reads from a relation of the catalog that never has rows, so that it has none.
fn never_has_rows(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    if is_aggregate(select) {
        return false;
    }
    select.from.iter().any(|from| is_always_empty(&from.relation))
}

/// An aggregate without groups has a row even over none.
fn is_aggregate(select: &Select) -> bool {
    select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(Expr::Function(function)) | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. } => {
            last_name(&function.name).is_some_and(|name| {
                let name = name.to_ascii_lowercase();
                // Of nothing these are null, as the subquery would be; a count is a number.
                matches!(name.as_str(), "count" | "coalesce")
            })
        }
        _ => false,
    })
}

fn is_always_empty(factor: &TableFactor) -> bool {
    let TableFactor::Table { name, args: None, .. } = factor else { return false };
    let of_catalog = match name.0.len() {
        1 => true,
        2 => is_pg_catalog(name.0.first()),
        _ => false,
    };
    of_catalog && last_name(name).and_then(Definition::of).is_some_and(|definition| definition.always_empty)
}

fn is_array_of_query(function: &Function) -> bool {
    matches!(function.args, FunctionArguments::Subquery(_))
        && last_name(&function.name).is_some_and(|name| name.eq_ignore_ascii_case("array"))
}

/// `ARRAY(SELECT x FROM t)` is `(SELECT array_agg(x) FROM t)`.
fn array_of_query(function: &Function) -> Option<Expr> {
    let FunctionArguments::Subquery(query) = &function.args else { return None };
    if never_has_rows(query) {
        return Some(null());
    }
    let mut query = query.clone();
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let [item] = select.projection.as_mut_slice() else { return None };
    let (SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. }) = item else {
        return None;
    };
    let inner = std::mem::replace(expression, null());
    *expression = call("array_agg", inner);
    query.order_by = None;
    Some(Expr::Subquery(query))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn rewritten(sql: &str) -> String {
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
        rewrite(&mut statements[0]);
        statements[0].to_string()
    }

    #[test]
    fn names_lose_their_schema_and_relations_get_it() {
        assert_eq!(
            rewritten("SELECT pg_catalog.format_type(1, 2) FROM pg_class"),
            "SELECT format_type(1, 2) FROM pg_catalog.pg_class"
        );
    }

    #[test]
    fn operators_and_collations_are_plain() {
        assert_eq!(
            rewritten("SELECT c FROM t WHERE c OPERATOR(pg_catalog.~) '^(a)$' COLLATE pg_catalog.default"),
            "SELECT c FROM t WHERE c ~ '^(a)$'"
        );
    }

    #[test]
    fn objects_are_found_by_name_and_shown_by_name() {
        assert_eq!(rewritten("SELECT 't'::regclass"), "SELECT sluice_regclass_oid('t')");
        assert_eq!(rewritten("SELECT oid::pg_catalog.regclass FROM t"), "SELECT sluice_regclass_name(oid) FROM t");
    }

    #[test]
    fn a_subquery_over_what_is_always_empty_is_null() {
        assert_eq!(
            rewritten("SELECT (SELECT d.adbin FROM pg_catalog.pg_attrdef d), EXISTS (SELECT 1 FROM pg_index), 1"),
            "SELECT NULL, false, 1"
        );
    }

    #[test]
    fn other_statements_are_untouched() {
        let sql = "SELECT a.b, c::INT FROM x.t AS a WHERE a.d IN (SELECT e FROM f)";
        assert_eq!(rewritten(sql), sql);
    }
}
