//! `WHERE` as keys: which rows an `UPDATE` or a `DELETE` names.

use std::collections::BTreeSet;

use datafusion::common::Column;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use scylla::cluster::metadata::Table;

use super::super::details::TableDetails;
use super::super::error::CassandraError;
use super::super::pushdown;
use super::super::session::CassandraSettings;

/// Keys that one statement may name; each is a request.
const MOST_KEYS: usize = 1_000;

/// What a `WHERE` names: the same conditions for each key, with its own values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// `column operator`, the whole partition key first.
    pub conditions: Vec<(String, String)>,
    /// For each key the values that its conditions compare with.
    pub values: Vec<Vec<Vec<u8>>>,
}

/// Which conditions a statement needs beside the partition key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    /// One row: `=` on every clustering column.
    Row,
    /// The partition as a whole.
    Partition,
    /// The partition, a row or a range of rows.
    Range,
}

/// Finds the keys that `filters`, which must all hold, name.
pub(super) fn keys(
    table: &Table,
    filters: &[Expr],
    within: Within,
    wrong: impl Fn(String) -> CassandraError,
) -> Result<Keys, CassandraError> {
    let filters: Vec<&Expr> = filters.iter().flat_map(split_conjunction).collect();
    let fixed: BTreeSet<&str> =
        filters.iter().filter_map(|filter| equalities(filter)).map(|(column, _)| column.name.as_str()).collect();
    let key = table.partition_key.iter();
    let wanted: Vec<&String> = match within {
        Within::Row => key.chain(&table.clustering_key).collect(),
        Within::Partition | Within::Range => key.collect(),
    };
    let missing: Vec<&str> = wanted.iter().map(|name| name.as_str()).filter(|name| !fixed.contains(name)).collect();
    if !missing.is_empty() {
        let wanted: Vec<&str> = wanted.iter().map(|name| name.as_str()).collect();
        return Err(wrong(format!("needs = or IN on {}; there is none on: {}", wanted.join(", "), missing.join(", "))));
    }
    let mut keys = Keys::default();
    for alternative in alternatives(table, &filters).map_err(&wrong)? {
        let alternative: Vec<&Expr> = alternative.iter().collect();
        let pushed = pushdown::plan(table, &TableDetails::default(), &CassandraSettings::default(), &alternative);
        if let Some(unused) = pushed.used.iter().position(|used| !used) {
            return Err(wrong(format!(
                "takes conditions that name keys, with values of their columns' own types; this does not: {}",
                unqualified(alternative[unused])
            )));
        }
        let Some(partitions) = pushed.keys else {
            return Err(wrong(format!("needs = or IN on {}", table.partition_key.join(", "))));
        };
        if within == Within::Partition
            && let Some(restriction) = pushed.restrictions.first()
        {
            let column = &restriction.column;
            return Err(wrong(format!("sets static columns, which takes no condition on {column}")));
        }
        if keys.values.len() + partitions.len() > MOST_KEYS {
            return Err(wrong(format!("names more than {MOST_KEYS} keys")));
        }
        let equal = table.partition_key.iter().map(|column| (column.clone(), "=".to_owned()));
        let within_partition = pushed.restrictions.iter().map(|r| (r.column.clone(), r.operator.clone()));
        keys.conditions = equal.chain(within_partition).collect();
        let values = pushed.restrictions.iter().map(|restriction| restriction.value.clone());
        keys.values.extend(partitions.into_iter().map(|key| key.into_iter().chain(values.clone()).collect()));
    }
    Ok(keys)
}

/// The conditions once for each combination of values that lists on clustering columns have.
fn alternatives(table: &Table, filters: &[&Expr]) -> Result<Vec<Vec<Expr>>, String> {
    let mut alternatives: Vec<Vec<Expr>> = vec![Vec::new()];
    for filter in filters {
        let list = equalities(filter)
            .filter(|(column, values)| values.len() > 1 && table.clustering_key.contains(&column.name));
        let choices: Vec<Expr> = match list {
            Some((column, mut values)) => {
                values.sort_by_key(ToString::to_string);
                values.dedup();
                let equal = |value: &&Expr| {
                    let (left, right) = (Box::new(Expr::Column(column.clone())), Box::new((*value).clone()));
                    Expr::BinaryExpr(BinaryExpr::new(left, Operator::Eq, right))
                };
                values.iter().map(equal).collect()
            }
            None => vec![(*filter).clone()],
        };
        if alternatives.len().saturating_mul(choices.len()) > MOST_KEYS {
            return Err(format!("names more than {MOST_KEYS} keys"));
        }
        alternatives = alternatives
            .iter()
            .flat_map(|before| {
                choices.iter().map(move |choice| [before.as_slice(), std::slice::from_ref(choice)].concat())
            })
            .collect();
    }
    Ok(alternatives)
}

/// The values that a column is one of, for `=`, `IN`, and `=` with `OR` between.
fn equalities(filter: &Expr) -> Option<(&Column, Vec<&Expr>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (column, mut values) = equalities(left)?;
            let (other, mut others) = equalities(right)?;
            values.append(&mut others);
            (column.name == other.name).then_some((column, values))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), value @ Expr::Literal(..)) | (value @ Expr::Literal(..), Expr::Column(column)) => {
                Some((column, vec![value]))
            }
            _ => None,
        },
        Expr::InList(list) if !list.negated => match list.expr.as_ref() {
            Expr::Column(column) if list.list.iter().all(|value| matches!(value, Expr::Literal(..))) => {
                Some((column, list.list.iter().collect()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A condition as its user knows it.
fn unqualified(filter: &Expr) -> String {
    datafusion::logical_expr::expr_rewriter::unnormalize_col(filter.clone()).to_string()
}
