//! Which predicates Cassandra answers itself.
//!
//! Only what Cassandra answers exactly as SQL does is pushed: equality on every column of the
//! partition key (or `IN`, as one read a key), then equality along the clustering key and one closing
//! range. Types whose order or equality differs between the two (floats, decimals, UUIDs by order)
//! are filtered above the scan.

use datafusion::arrow::array::Array;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;
use scylla::cluster::metadata::{ColumnType, NativeType, Table};
use serde::{Deserialize, Serialize};

use super::encode::{encode_value, is_exact};

/// Keys that one query may read one by one; with more, the table is scanned.
const MAX_KEYS: usize = 1_000;

/// What of a query's predicates goes to Cassandra.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushdown {
    /// Whole partition keys, each as the encoded values of its columns; `None` scans the ring.
    pub keys: Option<Vec<Vec<Vec<u8>>>>,
    /// Restrictions of the clustering key within each partition.
    pub restrictions: Vec<Restriction>,
    /// For each predicate whether it is answered exactly.
    pub used: Vec<bool>,
    /// What is pushed, in words for `EXPLAIN`.
    pub words: Vec<String>,
}

/// `column operator value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restriction {
    /// The clustering column.
    pub column: String,
    /// `=`, `<`, `<=`, `>` or `>=`.
    pub operator: String,
    /// The value as Cassandra encodes it.
    pub value: Vec<u8>,
}

/// A predicate that could be pushed: a column, an operator, and the encoded values.
struct Candidate {
    filter_index: usize,
    column: String,
    operator: Operator,
    values: Vec<Vec<u8>>,
    words: String,
}

/// Finds what can be pushed of predicates that must all hold.
pub fn plan(table: &Table, filters: &[&Expr]) -> Pushdown {
    let mut pushdown = Pushdown { used: vec![false; filters.len()], ..Pushdown::default() };
    let candidates: Vec<Candidate> =
        filters.iter().enumerate().filter_map(|(index, filter)| candidate(table, index, filter)).collect();
    let on = |column: &str| candidates.iter().filter(move |candidate| candidate.column == column).collect::<Vec<_>>();

    let mut keys: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
    let mut used = Vec::new();
    for column in &table.partition_key {
        let equalities: Vec<&Candidate> = on(column).into_iter().filter(|c| c.operator == Operator::Eq).collect();
        let Some((first, others)) = equalities.split_first() else { return pushdown };
        let mut values = first.values.clone();
        values.sort();
        values.dedup();
        // Several equalities on one column hold for the values that they share.
        values.retain(|value| others.iter().all(|other| other.values.contains(value)));
        used.extend(equalities.iter().map(|c| (c.filter_index, c.words.clone())));
        if keys.len().saturating_mul(values.len()) > MAX_KEYS {
            return pushdown;
        }
        keys = keys
            .iter()
            .flat_map(|key| values.iter().map(move |value| key.iter().cloned().chain([value.clone()]).collect()))
            .collect();
    }
    for column in &table.clustering_key {
        let on_column: Vec<&Candidate> = on(column).into_iter().filter(|c| c.values.len() == 1).collect();
        if let Some(equal) = on_column.iter().find(|c| c.operator == Operator::Eq) {
            restrict(&mut pushdown, &mut used, equal);
            continue;
        }
        let lower = on_column.iter().find(|c| matches!(c.operator, Operator::Gt | Operator::GtEq));
        let upper = on_column.iter().find(|c| matches!(c.operator, Operator::Lt | Operator::LtEq));
        for bound in [lower, upper].into_iter().flatten() {
            restrict(&mut pushdown, &mut used, bound);
        }
        break;
    }
    for (index, words) in used {
        pushdown.used[index] = true;
        pushdown.words.push(words);
    }
    pushdown.keys = Some(keys);
    pushdown
}

fn restrict(pushdown: &mut Pushdown, used: &mut Vec<(usize, String)>, candidate: &Candidate) {
    if let [value] = candidate.values.as_slice() {
        pushdown.restrictions.push(Restriction {
            column: candidate.column.clone(),
            operator: candidate.operator.to_string(),
            value: value.clone(),
        });
        used.push((candidate.filter_index, candidate.words.clone()));
    }
}

fn candidate(table: &Table, filter_index: usize, filter: &Expr) -> Option<Candidate> {
    let words = filter.to_string();
    match filter {
        // DataFusion writes a short IN list so.
        Expr::BinaryExpr(either) if either.op == Operator::Or => {
            let left = candidate(table, filter_index, &either.left)?;
            let right = candidate(table, filter_index, &either.right)?;
            let is_list =
                left.column == right.column && left.operator == Operator::Eq && right.operator == Operator::Eq;
            is_list.then(|| Candidate { values: [left.values, right.values].concat(), words, ..left })
        }
        Expr::BinaryExpr(binary) => {
            let (column, operator, literal) = match (binary.left.as_ref(), binary.right.as_ref()) {
                (Expr::Column(column), Expr::Literal(literal, _)) => (column, binary.op, literal),
                (Expr::Literal(literal, _), Expr::Column(column)) => (column, binary.op.swap()?, literal),
                _ => return None,
            };
            if !matches!(operator, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq) {
                return None;
            }
            let cql = &table.columns.get(&column.name)?.typ;
            let value = encoded(literal, cql, operator)?;
            Some(Candidate { filter_index, column: column.name.clone(), operator, values: vec![value], words })
        }
        Expr::InList(list) if !list.negated && !list.list.is_empty() => {
            let Expr::Column(column) = list.expr.as_ref() else { return None };
            let cql = &table.columns.get(&column.name)?.typ;
            let values = list.list.iter().map(|item| match item {
                Expr::Literal(literal, _) => encoded(literal, cql, Operator::Eq),
                _ => None,
            });
            let values = values.collect::<Option<Vec<_>>>()?;
            Some(Candidate { filter_index, column: column.name.clone(), operator: Operator::Eq, values, words })
        }
        _ => None,
    }
}

/// The value as Cassandra encodes it, if Cassandra compares it as SQL does.
fn encoded(literal: &ScalarValue, cql: &ColumnType<'_>, operator: Operator) -> Option<Vec<u8>> {
    if literal.is_null() {
        return None;
    }
    let ColumnType::Native(native) = cql else { return None };
    let same_order = matches!(
        native,
        NativeType::Text
            | NativeType::Ascii
            | NativeType::TinyInt
            | NativeType::SmallInt
            | NativeType::Int
            | NativeType::BigInt
            | NativeType::Timestamp
            | NativeType::Date
            | NativeType::Time
            | NativeType::Blob
            | NativeType::Boolean
    );
    let same_equality =
        same_order || matches!(native, NativeType::Uuid | NativeType::Timeuuid | NativeType::Inet | NativeType::Varint);
    if !same_equality || (operator != Operator::Eq && !same_order) {
        return None;
    }
    let array = literal.to_array().ok()?;
    if !is_exact(array.data_type(), cql) {
        return None;
    }
    if !same_order && !is_canonical(literal, native) {
        return None;
    }
    encode_value(array.as_ref(), 0, cql).ok()
}

/// Whether text is just as it is read: another spelling of the same UUID is another text to SQL.
fn is_canonical(literal: &ScalarValue, native: &NativeType) -> bool {
    let Some(Some(text)) = literal.try_as_str() else { return false };
    let canonical = match native {
        NativeType::Uuid | NativeType::Timeuuid => {
            uuid::Uuid::parse_str(text).ok().map(|uuid| uuid.hyphenated().to_string())
        }
        NativeType::Inet => text.parse::<std::net::IpAddr>().ok().map(|address| address.to_string()),
        NativeType::Varint => text.parse::<num_bigint::BigInt>().ok().map(|number| number.to_string()),
        _ => None,
    };
    canonical.as_deref() == Some(text)
}
