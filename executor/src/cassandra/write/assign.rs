//! `SET` in CQL: what each column is set to, or what is added to it or taken from it.
//!
//! Cassandra does not read what is there before it writes. So a column is set to a value that is known beforehand;
//! only elements of collections, and counts of counters, can be added and taken away.

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::{Expr, Operator};
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};
use std::sync::Arc;

use super::super::cluster::quoted;
use super::super::encode::{EncodedRow, prepare_column};
use super::super::error::CassandraError;
use super::super::types::cql_name;
use super::{Repeat, is_counter, is_open_list};

/// How a value changes a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// `c = ?`
    Set,
    /// `c = c + ?`
    Add,
    /// `c = ? + c`
    Prepend,
    /// `c = c - ?`
    Take,
}

/// One assignment.
#[derive(Debug)]
pub(super) struct Assignment {
    column: String,
    change: Change,
    value: Expr,
    /// The type of the value, which for keys of a map is a set.
    cql: ColumnType<'static>,
    pub repeat: Repeat,
}

impl Assignment {
    /// Reads `column = expr`.
    pub fn new(column: &str, cql: &ColumnType<'static>, expr: &Expr) -> Result<Self, CassandraError> {
        let (change, value) = match is_counter(cql) {
            true => count(column, expr)?,
            false => collection(column, cql, expr)?.unwrap_or_else(|| (Change::Set, expr.clone())),
        };
        let value_cql = match (change, cql) {
            (Change::Take, ColumnType::Collection { typ: CollectionType::Map(key, _), .. }) => {
                ColumnType::Collection { frozen: false, typ: CollectionType::Set(key.clone()) }
            }
            _ if is_counter(cql) => ColumnType::Native(NativeType::BigInt),
            _ => cql.clone(),
        };
        if !value.column_refs().is_empty() {
            return Err(CassandraError::NotSupported(format!(
                "\"{column}\" = {expr}, which depends on what is there and is neither a count nor a change of a \
                 collection's elements,"
            )));
        }
        let is_list = is_open_list(cql);
        let repeat = match change {
            _ if is_counter(cql) => Repeat::Never,
            Change::Add | Change::Prepend if is_list => Repeat::Never,
            Change::Set if is_list => Repeat::Later,
            _ => Repeat::Same,
        };
        Ok(Self { column: column.to_owned(), change, value, cql: value_cql, repeat })
    }

    /// The assignment in CQL.
    pub fn cql(&self) -> String {
        let name = quoted(&self.column);
        match self.change {
            Change::Set => format!("{name} = ?"),
            Change::Add => format!("{name} = {name} + ?"),
            Change::Prepend => format!("{name} = ? + {name}"),
            Change::Take => format!("{name} = {name} - ?"),
        }
    }

    /// The values, one for each of so many keys.
    pub fn evaluate(&self, session: &dyn Session, key_count: usize) -> Result<ArrayRef> {
        let value = session.create_physical_expr(self.value.clone(), &DFSchema::empty())?;
        let options = RecordBatchOptions::new().with_row_count(Some(key_count));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
        Ok(prepare_column(&value.evaluate(&batch)?.into_array(key_count)?, &self.cql)?)
    }

    /// Adds the value for one key to a row of cells.
    pub fn encode(&self, values: &ArrayRef, key: usize, row: &mut EncodedRow) -> Result<(), CassandraError> {
        let wrong = |reason: String| CassandraError::Value { column: self.column.clone(), reason };
        if values.is_valid(key) {
            return row.push(values.as_ref(), key, &self.cql).map_err(wrong);
        }
        match self.change {
            Change::Set => {
                row.push_null();
                Ok(())
            }
            _ => Err(wrong("null cannot be added or taken away".to_owned())),
        }
    }
}

/// `c + 5` and `c - 5`.
fn count(column: &str, expr: &Expr) -> Result<(Change, Expr), CassandraError> {
    let wrong = || {
        CassandraError::NotSupported(format!(
            "setting a counter to a value, rather than \"{column}\" = \"{column}\" + n or \"{column}\" - n,"
        ))
    };
    let Expr::BinaryExpr(binary) = bare(expr) else { return Err(wrong()) };
    match binary.op {
        Operator::Plus if is_column(&binary.left, column) => Ok((Change::Add, binary.right.as_ref().clone())),
        Operator::Plus if is_column(&binary.right, column) => Ok((Change::Add, binary.left.as_ref().clone())),
        Operator::Minus if is_column(&binary.left, column) => Ok((Change::Take, binary.right.as_ref().clone())),
        _ => Err(wrong()),
    }
}

/// A change of a collection's elements, by the names of DataFusion's functions; `None` if it is a plain value.
fn collection(column: &str, cql: &ColumnType<'_>, expr: &Expr) -> Result<Option<(Change, Expr)>, CassandraError> {
    let Expr::ScalarFunction(call) = bare(expr) else { return Ok(None) };
    let [left, right] = call.args.as_slice() else { return Ok(None) };
    let (on_left, on_right) = (is_column(left, column), is_column(right, column));
    if !on_left && !on_right {
        return Ok(None);
    }
    let is_set = matches!(cql, ColumnType::Collection { typ: CollectionType::Set(_), .. });
    let is_map = matches!(cql, ColumnType::Collection { typ: CollectionType::Map(..), .. });
    let front = if is_set { Change::Add } else { Change::Prepend };
    let one = |value: &Expr| make_array(vec![value.clone()]);
    let change = match call.func.name() {
        "array_append" if on_left => (Change::Add, one(right)),
        "array_prepend" if on_right => (front, one(left)),
        "array_concat" if on_left => (Change::Add, right.clone()),
        "array_concat" => (front, left.clone()),
        "array_union" if is_set => (Change::Add, if on_left { right.clone() } else { left.clone() }),
        "array_except" if is_set && on_left => (Change::Take, right.clone()),
        "array_remove" if is_set && on_left => (Change::Take, one(right)),
        "array_remove_all" if on_left => (Change::Take, one(right)),
        "map_concat" if is_map && on_left => (Change::Add, right.clone()),
        "map_except" if is_map && on_left => (Change::Take, right.clone()),
        name @ ("array_union" | "array_except" | "array_remove") => {
            return Err(CassandraError::NotSupported(format!(
                "{name} on a {}, which Cassandra cannot do without reading it: there are array_append, array_prepend, \
                 array_concat and array_remove_all, which takes all that are equal; it",
                cql_name(cql)
            )));
        }
        _ => return Ok(None),
    };
    Ok(Some(change))
}

/// The expression without the casts that types were made equal with.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => bare(&cast.expr),
        Expr::TryCast(cast) => bare(&cast.expr),
        Expr::Alias(alias) => bare(&alias.expr),
        other => other,
    }
}

fn is_column(expr: &Expr, column: &str) -> bool {
    matches!(bare(expr), Expr::Column(found) if found.name == column)
}

#[cfg(test)]
mod tests {
    use datafusion::functions_nested::expr_fn::{array_append, array_concat, array_prepend, array_remove, array_union};
    use datafusion::prelude::{col, lit};

    use super::*;

    fn of(typ: CollectionType<'static>) -> ColumnType<'static> {
        ColumnType::Collection { frozen: false, typ }
    }

    fn int() -> Box<ColumnType<'static>> {
        Box::new(ColumnType::Native(NativeType::Int))
    }

    fn cql(cql: &ColumnType<'static>, expr: &Expr) -> Result<(String, Repeat), String> {
        let assignment = Assignment::new("c", cql, expr).map_err(|error| error.to_string())?;
        Ok((assignment.cql(), assignment.repeat))
    }

    #[test]
    fn elements_of_lists_are_added_once() {
        let list = of(CollectionType::List(int()));
        let added = |text: &str| Ok((text.to_owned(), Repeat::Never));
        assert_eq!(cql(&list, &array_append(col("c"), lit(4))), added("\"c\" = \"c\" + ?"));
        assert_eq!(cql(&list, &array_prepend(lit(4), col("c"))), added("\"c\" = ? + \"c\""));
        assert_eq!(cql(&list, &array_concat(vec![make_array(vec![lit(4)]), col("c")])), added("\"c\" = ? + \"c\""));
        let set = make_array(vec![lit(4)]);
        assert_eq!(cql(&list, &set), Ok(("\"c\" = ?".to_owned(), Repeat::Later)));
        assert!(cql(&list, &array_remove(col("c"), lit(4))).is_err());
    }

    #[test]
    fn elements_of_sets_may_be_added_again() {
        let set = of(CollectionType::Set(int()));
        let same = |text: &str| Ok((text.to_owned(), Repeat::Same));
        assert_eq!(cql(&set, &array_union(col("c"), make_array(vec![lit(4)]))), same("\"c\" = \"c\" + ?"));
        assert_eq!(cql(&set, &array_prepend(lit(4), col("c"))), same("\"c\" = \"c\" + ?"));
        assert_eq!(cql(&set, &array_remove(col("c"), lit(4))), same("\"c\" = \"c\" - ?"));
    }

    #[test]
    fn counters_are_counted_and_nothing_else_depends_on_what_is_there() {
        let counter = ColumnType::Native(NativeType::Counter);
        assert_eq!(cql(&counter, &(col("c") + lit(5))), Ok(("\"c\" = \"c\" + ?".to_owned(), Repeat::Never)));
        assert_eq!(cql(&counter, &(col("c") - lit(5))), Ok(("\"c\" = \"c\" - ?".to_owned(), Repeat::Never)));
        assert!(cql(&counter, &lit(5)).is_err());
        let number = ColumnType::Native(NativeType::Int);
        assert!(cql(&number, &(col("c") + lit(5))).is_err());
        assert!(cql(&number, &lit(5)).is_ok());
    }
}
