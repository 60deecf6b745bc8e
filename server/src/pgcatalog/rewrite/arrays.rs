//! Arrays and composites, as PostgreSQL's clients spell them.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Array, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, SelectItem,
    SetExpr, Value,
};

use super::{array_type, call, call_with, last_name, never_has_rows, null, null_as};
use crate::engine::folded;
use crate::pg::array_elements;
use crate::pgcatalog::catalogs::PG_CATALOG;

/// `'{a,b}'` where an array is wanted, as the array that it spells.
pub fn literal(expression: &Expr) -> Option<Expr> {
    let Expr::Value(value) = expression else { return None };
    let elements = array_elements(&value.value.clone().into_string()?)?;
    // What an array without elements is of, only the cast tells.
    let elements = elements.into_iter().map(|element| element.map_or_else(null, super::literal)).collect();
    Some(array_of(elements))
}

fn array_of(elem: Vec<Expr>) -> Expr {
    Expr::Array(Array { elem, named: true })
}

/// Functions over arrays.
///
/// Clients call some with what is known before anything is read. `_pg_expandarray` and `generate_subscripts` make a row of
/// each element, as `unnest` does.
pub fn function(function: &Function) -> Option<Expr> {
    let name = last_name(&function.name)?.to_ascii_lowercase();
    match (name.as_str(), arguments(function).as_slice()) {
        ("current_schemas", [with_implicit]) => {
            let mut schemas = vec![call_with("current_schema", Vec::new())];
            if with_implicit.to_string().eq_ignore_ascii_case("true") {
                schemas.insert(0, super::literal(PG_CATALOG.to_owned()));
            }
            Some(array_of(schemas))
        }
        ("array_upper", [Expr::Array(array), _]) => Some(number(array.elem.len().to_string())),
        ("generate_subscripts", [array, _]) => Some(call("unnest", subscripts((*array).clone()))),
        ("_pg_expandarray", [array]) => {
            let (x, n) = (super::literal("x".to_owned()), super::literal("n".to_owned()));
            let (element, place) = (call("unnest", (*array).clone()), call("unnest", subscripts((*array).clone())));
            Some(call_with("named_struct", vec![x, element, n, place]))
        }
        _ => None,
    }
}

/// `(composite).field`.
pub fn field_access(root: &Expr, chain: &[AccessExpr]) -> Option<Expr> {
    let [AccessExpr::Dot(Expr::Identifier(field))] = chain else { return None };
    let Expr::Nested(composite) = root else { return None };
    let field = folded(field);
    if let Expr::Function(function) = composite.as_ref()
        && last_name(&function.name).is_some_and(|name| name.eq_ignore_ascii_case("_pg_expandarray"))
        && let [array] = arguments(function).as_slice()
    {
        let expanded = if field == "n" { subscripts((*array).clone()) } else { (*array).clone() };
        return Some(call("unnest", expanded));
    }
    Some(call_with("get_field", vec![composite.as_ref().clone(), super::literal(field)]))
}

/// `generate_series(1, cardinality(array))`.
fn subscripts(array: Expr) -> Expr {
    let count = Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(call("cardinality", array)),
        data_type: DataType::BigInt(None),
        array: false,
        format: None,
    };
    call_with("generate_series", vec![number("1".to_owned()), count])
}

fn number(digits: String) -> Expr {
    Expr::Value(Value::Number(digits, false).with_empty_span())
}

fn arguments(function: &Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let arguments = list.args.iter().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => Some(argument),
        _ => None,
    });
    arguments.collect()
}

/// Whether a function is `ARRAY(SELECT ...)`.
pub fn is_of_query(function: &Function) -> bool {
    matches!(function.args, FunctionArguments::Subquery(_))
        && last_name(&function.name).is_some_and(|name| name.eq_ignore_ascii_case("array"))
}

/// `ARRAY(SELECT x FROM t)` is `(SELECT array_agg(x) FROM t)`.
pub fn of_query(function: &Function) -> Option<Expr> {
    let FunctionArguments::Subquery(query) = &function.args else { return None };
    if never_has_rows(query) {
        return Some(null_as(array_type()));
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
