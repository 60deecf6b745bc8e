//! What a scan reads, in the form in which plans carry it, and the CQL that reads it.

use std::collections::BTreeMap;

use scylla::frame::types::Consistency;
use serde::{Deserialize, Serialize};

use super::cluster::quoted;
use super::columns::{ScanColumn, token_cql};
use super::details::Similarity;
use super::options::{CassandraOptions, consistency};
use super::pushdown::{Restriction, TokenBounds};
use super::statistics::TableStatistics;

/// What to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScanSpec {
    /// The cluster.
    pub options: CassandraOptions,
    /// The keyspace.
    pub keyspace: String,
    /// The table or materialized view.
    pub table: String,
    /// Consistency, if the session asks for another than the catalog's.
    pub consistency: Option<String>,
    /// The columns to read, in the order of the scan's schema.
    pub columns: Vec<ScanColumn>,
    /// The columns of the partition key.
    pub partition_key: Vec<String>,
    /// The columns of the clustering key.
    pub clustering_key: Vec<ClusteringColumn>,
    /// Whether the table has static columns.
    pub has_static: bool,
    /// Keys to read instead of the ranges.
    pub keys: Option<Keys>,
    /// The part of the ring that is read.
    pub tokens: TokenBounds,
    /// Values of some columns of the partition key, by which a join may complete it.
    pub partial_key: BTreeMap<String, Vec<Vec<u8>>>,
    /// Restrictions of other columns.
    pub restrictions: Vec<Restriction>,
    /// Whether an index finds the rows, which come in no order then.
    pub uses_index: bool,
    /// Whether the nodes have to be told that they may filter.
    pub allow_filtering: bool,
    /// What is pushed, in words for `EXPLAIN`.
    pub pushed: Vec<String>,
    /// Whether the rows of a partition are to come in the reverse of their order.
    pub is_reversed: bool,
    /// Columns of vectors that have an index.
    pub vectors: Vec<VectorColumn>,
    /// The nearest vectors instead of the ranges.
    pub nearest: Option<Nearest>,
    /// Rows after which the reading of a Cassandra partition may stop.
    pub per_partition_limit: Option<usize>,
    /// Rows after which a partition of the scan may stop.
    pub limit: Option<usize>,
    /// What the scan will read, as the nodes estimate.
    pub estimate: Estimate,
    /// What a sample told of the columns that are read.
    pub statistics: Option<TableStatistics>,
}

/// A column of the clustering key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusteringColumn {
    /// Its name.
    pub name: String,
    /// Whether rows are in descending order.
    pub is_descending: bool,
    /// Whether that order is SQL's.
    pub has_sql_order: bool,
}

/// A column of vectors of floats with an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorColumn {
    /// Its name.
    pub column: String,
    /// The measure of its index.
    pub similarity: Similarity,
    /// Numbers of each vector.
    pub size: usize,
}

/// Keys to read one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Their columns: the whole partition key, then perhaps a prefix of the clustering key.
    pub columns: Vec<String>,
    /// The encoded values of each key.
    pub rows: Vec<Vec<Vec<u8>>>,
}

/// The rows whose vectors are nearest to one, found by an index: approximately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nearest {
    /// The column of vectors.
    pub column: String,
    /// The vector, encoded.
    pub vector: Vec<u8>,
    /// How many rows.
    pub count: usize,
}

/// What a table or a part of it has, as its nodes estimate; `None` where nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Bytes.
    pub bytes: Option<u64>,
    /// Rows.
    pub rows: Option<u64>,
    /// Rows of one Cassandra partition.
    pub rows_per_partition: u64,
}

impl ScanSpec {
    /// The statement for one range, one key, or one question to an index.
    pub fn cql(&self) -> String {
        let mut columns: Vec<String> = self.columns.iter().map(ScanColumn::cql).collect();
        if columns.is_empty() {
            // Counting needs rows and no columns; a key column is the cheapest that every row has.
            columns.extend(self.partition_key.first().map(|name| quoted(name)));
        }
        // Of static columns alone Cassandra gives one row a partition, whatever rows there are.
        let is_row = |column: &ClusteringColumn| self.columns.contains(&ScanColumn::Cell(column.name.clone()));
        if self.has_static && !self.clustering_key.iter().any(is_row) {
            columns.extend(self.clustering_key.first().map(|column| quoted(&column.name)));
        }
        let columns = columns.join(", ");
        let mut conditions: Vec<String> = match &self.keys {
            _ if self.nearest.is_some() => Vec::new(),
            Some(keys) => keys.columns.iter().map(|name| format!("{} = ?", quoted(name))).collect(),
            None => {
                let token = token_cql(&self.partition_key);
                vec![format!("{token} > ?"), format!("{token} <= ?")]
            }
        };
        conditions.extend(self.restrictions.iter().map(|r| format!("{} {} ?", quoted(&r.column), r.operator)));
        let mut cql = format!("SELECT {columns} FROM {}.{}", quoted(&self.keyspace), quoted(&self.table));
        if !conditions.is_empty() {
            cql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        if let Some(nearest) = &self.nearest {
            cql.push_str(&format!(" ORDER BY {} ANN OF ? LIMIT {}", quoted(&nearest.column), nearest.count));
        } else if self.is_reversed {
            let order = self.clustering_key.iter().map(|column| {
                format!("{} {}", quoted(&column.name), if column.is_descending { "ASC" } else { "DESC" })
            });
            cql.push_str(&format!(" ORDER BY {}", order.collect::<Vec<_>>().join(", ")));
        }
        if let Some(limit) = self.per_partition_limit {
            cql.push_str(&format!(" PER PARTITION LIMIT {limit}"));
        }
        if self.allow_filtering {
            cql.push_str(" ALLOW FILTERING");
        }
        cql
    }

    /// The values that every request binds after those of its range or key.
    pub fn bound_values(&self) -> impl Iterator<Item = &[u8]> {
        let restrictions = self.restrictions.iter().map(|restriction| restriction.value.as_slice());
        restrictions.chain(self.nearest.iter().map(|nearest| nearest.vector.as_slice()))
    }

    /// Completes the sentence of an error.
    pub fn what(&self) -> String {
        format!("while reading {}.{}", self.keyspace, self.table)
    }

    /// The consistency of the reads.
    pub fn read_consistency(&self) -> Consistency {
        let own = self.consistency.as_deref().and_then(consistency);
        own.unwrap_or_else(|| self.options.read_consistency())
    }

    /// The value that a column has in every row: part of the only key, or compared with one value.
    pub fn is_constant(&self, column: &str) -> bool {
        let in_key =
            self.keys.as_ref().is_some_and(|keys| keys.rows.len() == 1 && keys.columns.iter().any(|c| c == column));
        in_key || self.restrictions.iter().any(|r| r.column == column && r.operator == "=")
    }

    /// The order of the rows by columns of the clustering key, if they are of one Cassandra partition: each column with
    /// whether it is descending, the columns that every row has the same value of left out.
    pub fn order(&self) -> Vec<(&str, bool)> {
        let is_one_partition = self.keys.as_ref().is_some_and(|keys| keys.rows.len() == 1);
        if !is_one_partition || self.uses_index || self.nearest.is_some() {
            return Vec::new();
        }
        self.clustering_key
            .iter()
            .filter(|column| !self.is_constant(&column.name))
            .take_while(|column| column.has_sql_order)
            .map(|column| (column.name.as_str(), column.is_descending != self.is_reversed))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ScanSpec {
        let column =
            |name: &str, is_descending| ClusteringColumn { name: name.to_owned(), is_descending, has_sql_order: true };
        ScanSpec {
            options: CassandraOptions::default(),
            keyspace: "ks".to_owned(),
            table: "T".to_owned(),
            consistency: None,
            columns: vec![ScanColumn::Cell("v".to_owned()), ScanColumn::WriteTime("v".to_owned())],
            partition_key: vec!["a".to_owned(), "b".to_owned()],
            clustering_key: vec![column("c", false), column("d", true)],
            has_static: false,
            keys: None,
            tokens: TokenBounds::default(),
            partial_key: BTreeMap::new(),
            restrictions: Vec::new(),
            uses_index: false,
            allow_filtering: false,
            pushed: Vec::new(),
            is_reversed: false,
            vectors: Vec::new(),
            nearest: None,
            per_partition_limit: None,
            limit: None,
            estimate: Estimate::default(),
            statistics: None,
        }
    }

    fn one_key() -> Option<Keys> {
        Some(Keys { columns: vec!["a".to_owned(), "b".to_owned()], rows: vec![vec![vec![1], vec![2]]] })
    }

    #[test]
    fn a_range_is_read_by_its_tokens() {
        assert_eq!(
            spec().cql(),
            r#"SELECT "v", writetime("v") FROM "ks"."T" WHERE token("a", "b") > ? AND token("a", "b") <= ?"#
        );
    }

    #[test]
    fn a_partition_is_read_in_its_order_or_the_reverse() {
        let mut spec = ScanSpec { keys: one_key(), ..spec() };
        assert_eq!(spec.order(), [("c", false), ("d", true)]);
        spec.is_reversed = true;
        assert_eq!(spec.order(), [("c", true), ("d", false)]);
        assert!(spec.cql().ends_with(r#"WHERE "a" = ? AND "b" = ? ORDER BY "c" DESC, "d" ASC"#), "{}", spec.cql());
        let equal = Restriction { column: "c".to_owned(), operator: "=".to_owned(), value: vec![1] };
        spec.restrictions.push(equal);
        assert_eq!(spec.order(), [("d", false)]);
    }

    #[test]
    fn rows_are_counted_also_where_only_static_columns_are_wanted() {
        let spec = ScanSpec { has_static: true, columns: vec![ScanColumn::Cell("s".to_owned())], ..spec() };
        assert!(spec.cql().starts_with(r#"SELECT "s", "c" FROM"#), "{}", spec.cql());
    }

    #[test]
    fn rows_of_several_partitions_have_no_order() {
        assert!(spec().order().is_empty());
    }

    #[test]
    fn the_nearest_vectors_are_asked_for_once() {
        let nearest = Nearest { column: "v".to_owned(), vector: vec![0; 8], count: 3 };
        let cql = ScanSpec { nearest: Some(nearest), ..spec() }.cql();
        assert!(cql.ends_with(r#"FROM "ks"."T" ORDER BY "v" ANN OF ? LIMIT 3"#), "{cql}");
    }
}
