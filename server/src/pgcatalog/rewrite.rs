//! What PostgreSQL's clients write and DataFusion does not understand, in words that it does.
//!
//! All of it is about the catalog: names with `pg_catalog.` before them, casts to `regclass` and its
//! kin, subqueries over relations that never have rows here. Everything else passes untouched.

mod arrays;

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::DataType as ArrowType;
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, JoinOperator, ObjectName, ObjectNamePart, Query,
    Select, SelectItem, SetExpr, Statement, TableAlias, TableFactor, Value, VisitMut, VisitorMut,
};

use super::catalogs::PG_CATALOG;
use super::definitions::Definition;
use crate::engine::folded;

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
            Expr::Subquery(query) if never_has_rows(query) || asks_for_collation(query) => *expression = null(),
            Expr::Subquery(query) => at_most_one_row(query),
            Expr::Case { .. } => {
                if let Some(replacement) = without_other_kinds(expression) {
                    *expression = replacement;
                }
            }
            Expr::Exists { subquery, negated } if never_has_rows(subquery) => *expression = truth(*negated),
            Expr::InSubquery { subquery, negated, .. } if never_has_rows(subquery) => *expression = truth(*negated),
            Expr::Function(function) if arrays::is_of_query(function) => {
                if let Some(replacement) = arrays::of_query(function) {
                    *expression = replacement;
                }
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                if let Some(replacement) = arrays::field_access(root, access_chain) {
                    *expression = replacement;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        match expression {
            Expr::Function(function) => {
                strip_schema(&mut function.name);
                if let Some(replacement) = arrays::function(function) {
                    *expression = replacement;
                }
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => compare_functions_by_name(left, right),
            Expr::BinaryOp { op, .. } | Expr::AnyOp { compare_op: op, .. } | Expr::AllOp { compare_op: op, .. } => {
                plain_operator(op);
            }
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                if let Some(escape) = escape_char.take().and_then(|escape| escape.value.into_string())
                    && escape != "\\"
                {
                    let inner = std::mem::replace(pattern.as_mut(), null());
                    **pattern = escaped_by_backslash(inner, escape);
                }
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
                    if matches!(data_type, DataType::Array(_))
                        && let Some(elements) = arrays::literal(expr)
                    {
                        **expr = elements;
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_ref()
            && reads_nothing(select)
        {
            // No rows are in any order, and what would order them is about to go.
            query.order_by = None;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if reads_nothing(select) && !select.projection.is_empty() && !is_aggregate(select) {
            empty(select);
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
        if let [.., ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(name)] = relation.0.as_mut_slice()
            && folded(schema) == INFORMATION_SCHEMA
            && let Some(definition) = Definition::of_information_schema(&folded(name))
        {
            *schema = Ident::new(PG_CATALOG);
            *name = Ident::with_quote('"', definition.name);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias: alias @ None, .. } = factor
            && let Some((INFORMATION_SCHEMA, bare)) = last_name(name).and_then(|name| name.split_once('.'))
        {
            *alias = Some(TableAlias { explicit: true, name: Ident::new(bare), columns: Vec::new(), at: None });
        }
        // Functions in FROM are found by their bare names.
        if let TableFactor::Table { name, args: args @ Some(_), .. } = factor {
            strip_schema(name);
            if last_name(name) == Some("pg_get_keywords") {
                // Without arguments it is the same each time, and so a relation.
                *name = ObjectName::from(vec![Ident::new(PG_CATALOG), Ident::new("pg_get_keywords")]);
                *args = None;
            }
        }
        ControlFlow::Continue(())
    }
}

/// Kinds of types that `pg_type` has none of: composites, domains, enumerations, ranges and multiranges.
const OTHER_KINDS: [&str; 5] = ["c", "d", "e", "r", "m"];

/// The CASE without what it says of types of other kinds; `None` if it says nothing of them.
///
/// asyncpg asks so for the parts of each type, in subqueries that cannot be planned.
fn without_other_kinds(expression: &mut Expr) -> Option<Expr> {
    let Expr::Case { operand: None, conditions, else_result, .. } = expression else { return None };
    let before = conditions.len();
    let mut is_array = false;
    conditions.retain(|case| {
        let is_other = is_other_kind(&case.condition);
        is_array |= is_other && is_array_of_rows(&case.result);
        !is_other
    });
    if conditions.len() == before || !conditions.is_empty() {
        return None;
    }
    let text = if is_array { array_type() } else { DataType::Text };
    match else_result.take() {
        Some(result) if *result != null() => Some(*result),
        _ => Some(null_as(text)),
    }
}

fn is_other_kind(condition: &Expr) -> bool {
    let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = condition else { return false };
    let Expr::Value(value) = right.as_ref() else { return false };
    column_name(left).is_some_and(|name| name == "typtype")
        && value.value.clone().into_string().is_some_and(|kind| OTHER_KINDS.contains(&kind.as_str()))
}

/// Whether an expression is `(SELECT array_agg(...) FROM ...)`.
fn is_array_of_rows(expression: &Expr) -> bool {
    let Expr::Subquery(query) = expression else { return false };
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let [SelectItem::UnnamedExpr(Expr::Function(function))] = select.projection.as_slice() else { return false };
    last_name(&function.name).is_some_and(|name| name.eq_ignore_ascii_case("array_agg"))
}

fn column_name(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(path) => path.last().map(folded),
        _ => None,
    }
}

/// `typinput = 'array_in'::regproc`: the functions of types are kept by their names.
fn compare_functions_by_name(one: &mut Expr, other: &mut Expr) {
    if let Some(name) = function_of_type(one, other) {
        *other = name;
    } else if let Some(name) = function_of_type(other, one) {
        *one = name;
    }
}

/// The name of a function that a column of functions' names is compared with.
fn function_of_type(column: &Expr, function: &Expr) -> Option<Expr> {
    let Expr::Function(call) = function else { return None };
    let FunctionArguments::List(list) = &call.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(name)))] = list.args.as_slice() else { return None };
    let is_function = last_name(&call.name) == Some("sluice_regproc_oid");
    if !is_function || !column_name(column)?.starts_with("typ") {
        return None;
    }
    let name = name.value.clone().into_string()?;
    Some(literal(name.strip_prefix("pg_catalog.").unwrap_or(&name).to_owned()))
}

fn array_type() -> DataType {
    DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(DataType::Text), None))
}

fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

fn null_as(data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(null()), data_type, array: false, format: None }
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

/// DataFusion's patterns know no other escape than the backslash.
fn escaped_by_backslash(pattern: Expr, escape: String) -> Expr {
    let text = match &pattern {
        Expr::Value(value) => value.value.clone().into_string(),
        _ => None,
    };
    match text {
        Some(text) => literal(like_pattern(&text, &escape)),
        None => call_with("sluice_like_pattern", vec![pattern, literal(escape)]),
    }
}

/// The pattern with backslashes where it has another character to escape with, or none if that is empty.
pub fn like_pattern(pattern: &str, escape: &str) -> String {
    let escape = escape.chars().next();
    let mut backslashed = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if Some(character) == escape {
            backslashed.push('\\');
            backslashed.extend(characters.next());
        } else {
            if character == '\\' {
                backslashed.push('\\');
            }
            backslashed.push(character);
        }
    }
    backslashed
}

fn literal(text: String) -> Expr {
    Expr::Value(Value::SingleQuotedString(text).with_empty_span())
}

fn call(name: &str, argument: Expr) -> Expr {
    call_with(name, vec![argument])
}

fn call_with(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(|a| FunctionArg::Unnamed(FunctionArgExpr::Expr(a))).collect(),
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
    // A uuid is the text that it is written as.
    if *data_type == DataType::Uuid {
        *data_type = DataType::Text;
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
    reads_nothing(select) && !is_aggregate(select)
}

/// Whether a query is after the collation of something, if it is not its type's; here it always is.
fn asks_for_collation(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    select.from.first().is_some_and(|from| match &from.relation {
        TableFactor::Table { name, .. } => is_pg_catalog(name.0.first()) && last_name(name) == Some("pg_collation"),
        _ => false,
    })
}

fn reads_nothing(select: &Select) -> bool {
    select.from.iter().any(|from| {
        let inner = from.joins.iter().filter(|join| {
            matches!(join.join_operator, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
        });
        let outer = from.joins.iter().any(|join| {
            matches!(
                join.join_operator,
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_)
            )
        });
        !outer && std::iter::once(&from.relation).chain(inner.map(|join| &join.relation)).any(is_always_empty)
    })
}

/// An aggregate without groups has a row even over none; of most it is null, which a subquery without rows is too.
fn is_aggregate(select: &Select) -> bool {
    select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(Expr::Function(function))
        | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. } => last_name(&function.name)
            .is_some_and(|name| matches!(name.to_ascii_lowercase().as_str(), "count" | "coalesce")),
        _ => false,
    })
}

fn is_always_empty(factor: &TableFactor) -> bool {
    let (name, args) = match factor {
        TableFactor::Table { name, args, .. } => (name, args),
        TableFactor::Derived { subquery, .. } => return never_has_rows(subquery),
        _ => return false,
    };
    let of_catalog = match name.0.len() {
        1 => args.is_none(),
        2 => is_pg_catalog(name.0.first()),
        _ => false,
    };
    of_catalog
        && last_name(name).is_some_and(|name| match args {
            None => Definition::of(name).is_some_and(|definition| definition.always_empty),
            // The catalog's arrays, which clients unnest, are all null here.
            Some(_) => name == "unnest",
        })
}

/// Makes a SELECT that finds nothing one that reads nothing: what is in it need not be understood.
fn empty(select: &mut Select) {
    let mut names: Vec<String> = Vec::new();
    let mut types = Vec::new();
    for item in &select.projection {
        let column = match item {
            SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. } => expression,
            _ => return,
        };
        types.push(column_type(select, column));
        let name = match item {
            SelectItem::UnnamedExpr(expression) => match expression {
                Expr::Identifier(ident) => folded(ident),
                Expr::CompoundIdentifier(path) => path.last().map_or_else(String::new, folded),
                Expr::Function(function) => last_name(&function.name).unwrap_or_default().to_owned(),
                _ => "?column?".to_owned(),
            },
            SelectItem::ExprWithAlias { alias, .. } => folded(alias),
            // All columns of a relation: it has to be read.
            _ => return,
        };
        names.push(name);
    }
    for index in 0..names.len() {
        while let Some(_same) = names[..index].iter().find(|name| **name == names[index]) {
            names[index].push('_');
        }
    }
    for ((item, name), data_type) in select.projection.iter_mut().zip(names).zip(types) {
        *item = SelectItem::ExprWithAlias { expr: null_as(data_type), alias: Ident::with_quote('"', name) };
    }
    select.from.clear();
    select.selection = Some(truth(false));
    select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
    select.having = None;
    select.distinct = None;
}

/// The type of a column of the relations that a SELECT names; text for all else.
fn column_type(select: &Select, expression: &Expr) -> DataType {
    let column = column_name(expression);
    let relations = select
        .from
        .iter()
        .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
    let found = column.and_then(|column| {
        relations
            .filter_map(|relation| match relation {
                TableFactor::Table { name, .. } => Definition::of(last_name(name)?),
                _ => None,
            })
            .find_map(|definition| Some(definition.schema.field_with_name(&column).ok()?.data_type().clone()))
    });
    match found {
        Some(ArrowType::Boolean) => DataType::Boolean,
        Some(ArrowType::Int16) => DataType::SmallInt(None),
        Some(ArrowType::Int32) => DataType::Int(None),
        Some(ArrowType::Int64) => DataType::BigInt(None),
        _ => DataType::Text,
    }
}

/// A subquery in the place of a value, over the catalog, has at most one row; DataFusion wants to see that it has.
fn at_most_one_row(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let of_catalog = select.from.iter().any(|from| match &from.relation {
        TableFactor::Table { name, args: None, .. } => {
            is_pg_catalog(name.0.first()) || last_name(name).is_some_and(|name| Definition::of(name).is_some())
        }
        _ => false,
    });
    let [SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. }] =
        select.projection.as_mut_slice()
    else {
        return;
    };
    let is_aggregate = match expression {
        Expr::Function(function) => last_name(&function.name).is_some_and(|name| {
            let name = name.to_ascii_lowercase();
            matches!(name.as_str(), "count" | "max" | "min" | "sum" | "avg" | "array_agg" | "string_agg" | "bool_or")
        }),
        _ => false,
    };
    if of_catalog && !is_aggregate {
        let inner = std::mem::replace(expression, null());
        *expression = call("max", inner);
        query.order_by = None;
        query.limit_clause = None;
    }
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
            rewritten("SELECT (SELECT d.adbin FROM pg_catalog.pg_attrdef d), EXISTS (SELECT 1 FROM pg_trigger), 1"),
            "SELECT NULL, false, 1"
        );
    }

    #[test]
    fn a_select_that_finds_nothing_reads_nothing() {
        assert_eq!(
            rewritten(
                "SELECT p.pubname, NULL, array_to_string(p.x, ',') AS y FROM pg_catalog.pg_publication p ORDER BY 1"
            ),
            "SELECT CAST(NULL AS TEXT) AS \"pubname\", CAST(NULL AS TEXT) AS \"?column?\", CAST(NULL AS TEXT) AS \"y\" \
             WHERE false"
        );
    }

    #[test]
    fn a_subquery_for_a_value_is_aggregated() {
        assert_eq!(
            rewritten("SELECT (SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.oid = t.x) FROM t"),
            "SELECT (SELECT max(n.nspname) FROM pg_catalog.pg_namespace n WHERE n.oid = t.x) FROM t"
        );
    }

    #[test]
    fn what_is_empty_has_its_types() {
        assert_eq!(
            rewritten("SELECT t.tgisinternal, t.tgtype, p.polname FROM pg_policy p JOIN pg_trigger t ON true"),
            "SELECT CAST(NULL AS BOOLEAN) AS \"tgisinternal\", CAST(NULL AS SMALLINT) AS \"tgtype\", \
             CAST(NULL AS TEXT) AS \"polname\" WHERE false"
        );
    }

    #[test]
    fn patterns_escape_with_backslashes() {
        assert_eq!(rewritten("SELECT a LIKE 'b/_\\//%' ESCAPE '/'"), "SELECT a LIKE 'b\\_\\\\\\/%'");
        assert_eq!(
            rewritten("SELECT a NOT LIKE $1 || '%' ESCAPE '/'"),
            "SELECT a NOT LIKE sluice_like_pattern($1 || '%', '/')"
        );
        assert_eq!(rewritten("SELECT a LIKE 'b' ESCAPE '\\'"), "SELECT a LIKE 'b'");
    }

    #[test]
    fn types_of_other_kinds_are_not_asked_for() {
        assert_eq!(
            rewritten("SELECT CASE WHEN t.typtype = 'd' THEN (SELECT 1 FROM x) ELSE NULL END FROM t"),
            "SELECT CAST(NULL AS TEXT) FROM t"
        );
        assert_eq!(
            rewritten("SELECT CASE WHEN typtype = 'c' THEN (SELECT array_agg(a) FROM x) END FROM t"),
            "SELECT CAST(NULL AS TEXT[]) FROM t"
        );
        assert_eq!(
            rewritten("SELECT CASE WHEN t.typtype = 'd' THEN 1 WHEN t.typtype = 'b' THEN 2 END FROM t"),
            "SELECT CASE WHEN t.typtype = 'b' THEN 2 END FROM t"
        );
        assert_eq!(
            rewritten("SELECT t.typinput = 'pg_catalog.array_in'::regproc FROM t"),
            "SELECT t.typinput = 'array_in' FROM t"
        );
    }

    #[test]
    fn arrays_are_spelled_out() {
        assert_eq!(rewritten("SELECT '{a,\"b c\",NULL}'::text[]"), "SELECT ARRAY['a', 'b c', NULL]::TEXT[]");
        assert_eq!(
            rewritten("SELECT (pg_catalog.current_schemas(true))[1], array_upper(current_schemas(false), 1)"),
            "SELECT (ARRAY['pg_catalog', current_schema()])[1], 1"
        );
    }

    #[test]
    fn arrays_become_rows_and_composites_have_fields() {
        assert_eq!(
            rewritten("SELECT (information_schema._pg_expandarray(i.indkey)).n, (k.keys).x FROM i, k"),
            "SELECT unnest(generate_series(1, CAST(cardinality(i.indkey) AS BIGINT))), get_field(k.keys, 'x') FROM i, k"
        );
        assert_eq!(
            rewritten("SELECT information_schema._pg_expandarray(i.indkey) AS keys FROM i"),
            "SELECT named_struct('x', unnest(i.indkey), 'n', unnest(generate_series(1, CAST(cardinality(i.indkey) AS \
             BIGINT)))) AS keys FROM i"
        );
    }

    #[test]
    fn views_of_the_information_schema_that_datafusion_has_not_are_relations() {
        assert_eq!(
            rewritten(
                "SELECT table_constraints.a FROM INFORMATION_SCHEMA.TABLE_CONSTRAINTS, information_schema.tables"
            ),
            "SELECT table_constraints.a FROM pg_catalog.\"information_schema.table_constraints\" AS table_constraints, \
             information_schema.tables"
        );
    }

    #[test]
    fn a_subquery_that_is_empty_makes_its_reader_empty() {
        assert_eq!(
            rewritten(
                "SELECT r.KEY_SEQ AS K FROM (SELECT (x(s.stxkeys)).n AS KEY_SEQ FROM pg_statistic_ext s) r WHERE (r.a).x = 1"
            ),
            "SELECT CAST(NULL AS TEXT) AS \"k\" WHERE false"
        );
    }

    #[test]
    fn other_statements_are_untouched() {
        let sql = "SELECT a.b, c::INT FROM x.t AS a WHERE a.d IN (SELECT e FROM f)";
        assert_eq!(rewritten(sql), sql);
    }
}
