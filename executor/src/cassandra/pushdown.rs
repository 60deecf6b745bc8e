//! Which predicates Cassandra answers itself.
//!
//! Only what Cassandra answers exactly as SQL does is pushed:
//!
//! - equality on every column of the partition key, or `IN`, as one read a key; then equality or `IN` along the
//!   clustering key and one closing range
//! - else ranges of `token(partition key)`, by which the ring is clipped
//! - on columns with an index: equality, and ranges where the index is storage-attached; several of these together
//! - if the session asks for `ALLOW FILTERING`: comparisons of other columns too
//!
//! Types whose order or equality differs between the two (floats, decimals, UUIDs by order) are
//! compared above the scan.

use std::collections::BTreeMap;

use datafusion::arrow::array::Array;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;
use scylla::cluster::metadata::{ColumnKind, ColumnType, NativeType, Table};
use serde::{Deserialize, Serialize};

use super::columns::ScanColumn;
use super::details::{IndexKind, TableDetails};
use super::encode::{encode_value, is_exact};
use super::session::CassandraSettings;

/// Keys that one query may read one by one; with more, the table is scanned.
const MAX_KEYS: usize = 10_000;
/// Values of one `IN` within a partition, which is one read.
const MAX_CLUSTERING_VALUES: usize = 100;
/// Bytes of a value of a key beyond which Cassandra has no such key, and says so instead of finding nothing.
const MAX_KEY_VALUE_BYTES: usize = u16::MAX as usize;

/// What of a query's predicates goes to Cassandra.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushdown {
    /// Whole partition keys, each as the encoded values of its columns; `None` scans the ring.
    pub keys: Option<Vec<Vec<Vec<u8>>>>,
    /// Values of columns of a partition key that is not whole. Not pushed, but a join may bring the rest of the key.
    pub partial_key: BTreeMap<String, Vec<Vec<u8>>>,
    /// The part of the ring that is read: after the first token, up to and including the second.
    pub tokens: TokenBounds,
    /// Restrictions of other columns.
    pub restrictions: Vec<Restriction>,
    /// Whether an index finds the rows, which come in no order then.
    pub uses_index: bool,
    /// Whether the nodes have to be told that they may filter.
    pub allow_filtering: bool,
    /// For each predicate whether it is answered exactly.
    pub used: Vec<bool>,
    /// For each predicate whether knowing it helps, although it is not answered.
    pub helps: Vec<bool>,
    /// What is pushed, in words for `EXPLAIN`.
    pub words: Vec<String>,
}

/// Tokens after `after`, up to and including `up_to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBounds {
    /// Exclusive.
    pub after: i64,
    /// Inclusive.
    pub up_to: i64,
}

impl Default for TokenBounds {
    /// The whole ring: the least token is nobody's.
    fn default() -> Self {
        Self { after: i64::MIN, up_to: i64::MAX }
    }
}

impl TokenBounds {
    /// Whether they are those of the whole ring.
    pub fn is_whole_ring(&self) -> bool {
        *self == Self::default()
    }

    /// Narrows the bounds by `token operator value`.
    fn restrict(&mut self, operator: Operator, value: i64) {
        match operator {
            Operator::Gt => self.after = self.after.max(value),
            Operator::GtEq => self.after = self.after.max(value.saturating_sub(1)),
            Operator::Lt => match value.checked_sub(1) {
                Some(value) => self.up_to = self.up_to.min(value),
                None => self.up_to = i64::MIN,
            },
            Operator::LtEq => self.up_to = self.up_to.min(value),
            _ => {
                self.restrict(Operator::GtEq, value);
                self.restrict(Operator::LtEq, value);
            }
        }
    }
}

/// `column operator value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restriction {
    /// The column.
    pub column: String,
    /// `=`, `<`, `<=`, `>`, `>=` or `IN`.
    pub operator: String,
    /// The value as Cassandra encodes it; for `IN` a list of values.
    pub value: Vec<u8>,
}

/// A predicate that could be pushed: a column, an operator, and the encoded values.
#[derive(Debug)]
struct Candidate {
    filter_index: usize,
    column: String,
    operator: Operator,
    /// One value, or for equality the values of a list.
    values: Vec<Vec<u8>>,
    words: String,
}

/// Finds what can be pushed of predicates that must all hold.
pub fn plan(table: &Table, details: &TableDetails, settings: &CassandraSettings, filters: &[&Expr]) -> Pushdown {
    let mut planner = Planner {
        table,
        candidates: Vec::new(),
        taken: vec![false; filters.len()],
        pushdown: Pushdown {
            used: vec![false; filters.len()],
            helps: vec![false; filters.len()],
            ..Pushdown::default()
        },
    };
    if !settings.pushdown {
        return planner.pushdown;
    }
    planner.candidates =
        filters.iter().enumerate().filter_map(|(index, filter)| candidate(table, index, filter)).collect();
    if planner.whole_partition_keys() {
        planner.clustering_prefix();
    } else {
        planner.token_bounds(filters);
    }
    planner.indexes(details);
    if settings.allow_filtering {
        planner.filtering();
    }
    planner.pushdown
}

struct Planner<'a> {
    table: &'a Table,
    candidates: Vec<Candidate>,
    /// For each filter whether it is pushed already.
    taken: Vec<bool>,
    pushdown: Pushdown,
}

impl Planner<'_> {
    /// Candidates on a column that are not pushed yet.
    fn on(&self, column: &str) -> Vec<usize> {
        let is_free = |candidate: &Candidate| candidate.column == column && !self.taken[candidate.filter_index];
        (0..self.candidates.len()).filter(|index| self.candidates.get(*index).is_some_and(is_free)).collect()
    }

    fn take(&mut self, index: usize) {
        let Some(candidate) = self.candidates.get(index) else { return };
        for flags in [&mut self.taken, &mut self.pushdown.used] {
            if let Some(flag) = flags.get_mut(candidate.filter_index) {
                *flag = true;
            }
        }
        self.pushdown.words.push(candidate.words.clone());
    }

    fn restrict(&mut self, index: usize) {
        let Some(candidate) = self.candidates.get(index) else { return };
        let (operator, value) = match candidate.values.as_slice() {
            [value] => (candidate.operator.to_string(), value.clone()),
            values => ("IN".to_owned(), encoded_list(values)),
        };
        self.pushdown.restrictions.push(Restriction { column: candidate.column.clone(), operator, value });
        self.take(index);
    }

    /// Whether Cassandra takes one more condition on a column: equality stands alone, and each bound comes once.
    fn takes(&self, index: usize) -> bool {
        let Some(candidate) = self.candidates.get(index) else { return false };
        let is_lower = |operator: &str| operator.starts_with('>');
        let operator = candidate.operator.to_string();
        let in_key = self.pushdown.keys.is_some() && self.table.partition_key.contains(&candidate.column);
        !in_key
            && self.pushdown.restrictions.iter().filter(|there| there.column == candidate.column).all(|there| {
                let is_equal = |operator: &str| matches!(operator, "=" | "IN");
                !is_equal(&there.operator) && !is_equal(&operator) && is_lower(&there.operator) != is_lower(&operator)
            })
    }

    /// The values that all equalities on a column share, and these equalities.
    fn equal_to(&self, column: &str) -> Option<(Vec<Vec<u8>>, Vec<usize>)> {
        let equalities: Vec<usize> =
            self.on(column).into_iter().filter(|index| self.candidates[*index].operator == Operator::Eq).collect();
        let (first, others) = equalities.split_first()?;
        let mut values = self.candidates[*first].values.clone();
        values.sort();
        values.dedup();
        values.retain(|value| others.iter().all(|other| self.candidates[*other].values.contains(value)));
        Some((values, equalities))
    }

    /// Reads by key, if every column of the partition key is compared with values.
    fn whole_partition_keys(&mut self) -> bool {
        let mut keys: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
        let mut used = Vec::new();
        let mut partial_key = BTreeMap::new();
        let is_single = self.table.partition_key.len() == 1;
        for column in &self.table.partition_key {
            let Some((mut values, equalities)) = self.equal_to(column) else { continue };
            values.retain(|value| is_possible(value, is_single));
            used.extend(equalities);
            if keys.len().saturating_mul(values.len()) > MAX_KEYS {
                return false;
            }
            partial_key.insert(column.clone(), values.clone());
            keys = with_each(&keys, &values);
        }
        if partial_key.len() < self.table.partition_key.len() {
            self.pushdown.partial_key = partial_key;
            for index in used {
                let filter_index = self.candidates[index].filter_index;
                self.pushdown.helps[filter_index] = true;
            }
            return false;
        }
        used.into_iter().for_each(|index| self.take(index));
        self.pushdown.keys = Some(keys);
        true
    }

    /// Equalities along the clustering key, then one range.
    fn clustering_prefix(&mut self) {
        let table = self.table;
        for column in &table.clustering_key {
            if let Some((values, equalities)) = self.equal_to(column)
                && values.len() <= MAX_CLUSTERING_VALUES
                && values.iter().all(|value| value.len() <= MAX_KEY_VALUE_BYTES)
            {
                if values.is_empty() {
                    self.pushdown.keys = Some(Vec::new());
                }
                // Those that all share say it for all.
                let (operator, value) = match values.as_slice() {
                    [value] => ("=", value.clone()),
                    values => ("IN", encoded_list(values)),
                };
                let operator = operator.to_owned();
                self.pushdown.restrictions.push(Restriction { column: column.clone(), operator, value });
                equalities.into_iter().for_each(|index| self.take(index));
                continue;
            }
            self.range(column);
            break;
        }
    }

    /// One lower and one upper bound of a column.
    fn range(&mut self, column: &str) {
        for bounds in [[Operator::Gt, Operator::GtEq], [Operator::Lt, Operator::LtEq]] {
            let fits = |index: &usize| {
                let candidate = &self.candidates[*index];
                let is_short = candidate.values.iter().all(|value| value.len() <= MAX_KEY_VALUE_BYTES);
                bounds.contains(&candidate.operator) && is_short
            };
            if let Some(bound) = self.on(column).into_iter().find(fits) {
                self.restrict(bound);
            }
        }
    }

    fn token_bounds(&mut self, filters: &[&Expr]) {
        let token = ScanColumn::Token(self.table.partition_key.clone()).name();
        for (index, filter) in filters.iter().enumerate() {
            let Some((column, operator, literal)) = comparison(filter) else { continue };
            if column != token {
                continue;
            }
            let ScalarValue::Int64(Some(value)) = literal else { continue };
            self.pushdown.tokens.restrict(operator, *value);
            self.taken[index] = true;
            self.pushdown.used[index] = true;
            self.pushdown.words.push(filter.to_string());
        }
    }

    /// Comparisons of columns that have an index.
    fn indexes(&mut self, details: &TableDetails) {
        // Cassandra looks up no index for lists of clustering values.
        if self.pushdown.restrictions.iter().any(|restriction| restriction.operator == "IN") {
            return;
        }
        let mut secondary = None;
        for index in 0..self.candidates.len() {
            let candidate = &self.candidates[index];
            let is_static = self.table.columns.get(&candidate.column).is_some_and(|c| c.kind == ColumnKind::Static);
            let is_free = !self.taken[candidate.filter_index] && self.takes(index);
            if !is_free || is_static || candidate.values.len() != 1 {
                continue;
            }
            match details.index_of(&candidate.column).map(|index| index.kind) {
                Some(IndexKind::StorageAttached)
                    if candidate.operator == Operator::Eq || has_ordered_index(self.table, &candidate.column) =>
                {
                    self.restrict(index);
                    self.pushdown.uses_index = true;
                }
                Some(IndexKind::Secondary) if candidate.operator == Operator::Eq => {
                    secondary = secondary.or(Some(index));
                }
                _ => {}
            }
        }
        // One index answers a query, unless all are storage-attached.
        if let Some(index) = secondary
            && self.takes(index)
            && !self.pushdown.uses_index
        {
            self.restrict(index);
            self.pushdown.uses_index = true;
        }
    }

    /// Comparisons that the nodes have to read rows for which they then leave out.
    fn filtering(&mut self) {
        for index in 0..self.candidates.len() {
            let candidate = &self.candidates[index];
            let kind = self.table.columns.get(&candidate.column).map(|column| &column.kind);
            let can_be_filtered = matches!(kind, Some(ColumnKind::Regular | ColumnKind::Clustering));
            let is_free = !self.taken[candidate.filter_index] && self.takes(index);
            if is_free && can_be_filtered && candidate.values.len() == 1 {
                self.restrict(index);
                self.pushdown.allow_filtering = true;
            }
        }
    }
}

/// Whether a key can have this value: of others Cassandra does not find nothing, but refuses to look for them.
/// `is_whole_partition_key` is for that of a partition key of one column.
pub(super) fn is_possible(value: &[u8], is_whole_partition_key: bool) -> bool {
    value.len() <= MAX_KEY_VALUE_BYTES && !(is_whole_partition_key && value.is_empty())
}

/// Each key with each of the values after it.
pub(super) fn with_each(keys: &[Vec<Vec<u8>>], values: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let with = |key: &Vec<Vec<u8>>, value: &Vec<u8>| key.iter().cloned().chain([value.clone()]).collect();
    keys.iter().flat_map(|key| values.iter().map(move |value| with(key, value))).collect()
}

/// Values as CQL's protocol has a list of them.
fn encoded_list(values: &[Vec<u8>]) -> Vec<u8> {
    let mut list = (values.len() as i32).to_be_bytes().to_vec();
    for value in values {
        list.extend_from_slice(&(value.len() as i32).to_be_bytes());
        list.extend_from_slice(value);
    }
    list
}

/// `column operator literal`, whichever way round it is written.
fn comparison(filter: &Expr) -> Option<(&str, Operator, &ScalarValue)> {
    let Expr::BinaryExpr(binary) = filter else { return None };
    let (column, operator, literal) = match (binary.left.as_ref(), binary.right.as_ref()) {
        (Expr::Column(column), Expr::Literal(literal, _)) => (column, binary.op, literal),
        (Expr::Literal(literal, _), Expr::Column(column)) => (column, binary.op.swap()?, literal),
        _ => return None,
    };
    let is_pushed = matches!(operator, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
    is_pushed.then_some((column.name.as_str(), operator, literal))
}

fn candidate(table: &Table, filter_index: usize, filter: &Expr) -> Option<Candidate> {
    let words = filter.to_string();
    let equal_to = |column: &str, values: Vec<Vec<u8>>| Candidate {
        filter_index,
        column: column.to_owned(),
        operator: Operator::Eq,
        values,
        words: words.clone(),
    };
    match filter {
        // DataFusion writes a short IN list so.
        Expr::BinaryExpr(either) if either.op == Operator::Or => {
            let left = candidate(table, filter_index, &either.left)?;
            let right = candidate(table, filter_index, &either.right)?;
            let is_list =
                left.column == right.column && left.operator == Operator::Eq && right.operator == Operator::Eq;
            is_list.then(|| equal_to(&left.column, [left.values, right.values].concat()))
        }
        Expr::BinaryExpr(_) => {
            let (column, operator, literal) = comparison(filter)?;
            let value = encoded(literal, &table.columns.get(column)?.typ, operator)?;
            Some(Candidate { operator, ..equal_to(column, vec![value]) })
        }
        Expr::InList(list) if !list.negated && !list.list.is_empty() => {
            let Expr::Column(column) = list.expr.as_ref() else { return None };
            let cql = &table.columns.get(&column.name)?.typ;
            let values = list.list.iter().map(|item| match item {
                Expr::Literal(literal, _) => encoded(literal, cql, Operator::Eq),
                _ => None,
            });
            Some(equal_to(&column.name, values.collect::<Option<Vec<_>>>()?))
        }
        // `WHERE flag` and `WHERE NOT flag`.
        Expr::Column(column) => boolean(table, &column.name).then(|| equal_to(&column.name, vec![vec![1]])),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::Column(column) => boolean(table, &column.name).then(|| equal_to(&column.name, vec![vec![0]])),
            _ => None,
        },
        _ => None,
    }
}

fn boolean(table: &Table, column: &str) -> bool {
    table.columns.get(column).is_some_and(|column| column.typ == ColumnType::Native(NativeType::Boolean))
}

/// Whether a storage-attached index of the column answers ranges: those of numbers and times do.
fn has_ordered_index(table: &Table, column: &str) -> bool {
    table.columns.get(column).is_some_and(|column| {
        matches!(
            column.typ,
            ColumnType::Native(
                NativeType::TinyInt
                    | NativeType::SmallInt
                    | NativeType::Int
                    | NativeType::BigInt
                    | NativeType::Timestamp
                    | NativeType::Date
                    | NativeType::Time
            )
        )
    })
}

/// Whether Cassandra orders values of this type as SQL does.
pub fn has_same_order(cql: &ColumnType<'_>) -> bool {
    matches!(
        cql,
        ColumnType::Native(
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
        )
    )
}

/// The value as Cassandra encodes it, if Cassandra compares it as SQL does.
fn encoded(literal: &ScalarValue, cql: &ColumnType<'_>, operator: Operator) -> Option<Vec<u8>> {
    if literal.is_null() {
        return None;
    }
    let ColumnType::Native(native) = cql else { return None };
    let same_order = has_same_order(cql);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_tokens_meet() {
        let mut bounds = TokenBounds::default();
        bounds.restrict(Operator::GtEq, -5);
        bounds.restrict(Operator::Lt, 10);
        bounds.restrict(Operator::Gt, -100);
        assert_eq!(bounds, TokenBounds { after: -6, up_to: 9 });
        bounds.restrict(Operator::Eq, 3);
        assert_eq!(bounds, TokenBounds { after: 2, up_to: 3 });
        bounds.restrict(Operator::Lt, i64::MIN);
        assert!(bounds.up_to < bounds.after);
    }

    #[test]
    fn a_list_is_its_length_and_then_its_values() {
        assert_eq!(encoded_list(&[vec![7], vec![]]), [0, 0, 0, 2, 0, 0, 0, 1, 7, 0, 0, 0, 0]);
    }
}
