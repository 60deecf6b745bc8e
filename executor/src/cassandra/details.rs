//! What the driver does not hear of a table: the order of its clustering key, its indexes, its comment.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cluster::CassandraCluster;
use super::declared::{self, DeclaredTypes};
use super::error::CassandraError;

/// What is read of a table from the schema's tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableDetails {
    /// Clustering columns whose order is descending.
    pub descending: HashSet<String>,
    /// Indexes that can answer a comparison exactly.
    pub indexes: Vec<Index>,
    /// Types that the table's comment declares.
    pub declared: DeclaredTypes,
}

/// An index of a column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// The column.
    pub column: String,
    /// What it can do.
    pub kind: IndexKind,
}

/// Kinds of indexes, by what they can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// A table of its own beside the base table: equality, one index for a query.
    Secondary,
    /// Storage-attached: equality, ranges of numbers and times, several for a query.
    StorageAttached,
    /// Storage-attached over vectors: the nearest ones by this measure.
    Vector(Similarity),
}

/// How near two vectors are, by the names of Cassandra's option `similarity_function`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Similarity {
    /// The cosine of the angle between them, which is the default.
    Cosine,
    /// By their distance.
    Euclidean,
    /// Their dot product, for vectors of length one.
    DotProduct,
}

/// Reads what there is of one table or view. Three small queries at a time, each of one partition.
pub async fn read(cluster: &CassandraCluster, keyspace: &str, table: &str) -> Result<TableDetails, CassandraError> {
    let what = &format!("while reading the schema of {keyspace}.{table}");
    let malformed = |reason: String| CassandraError::Refused { what: what.clone(), reason };
    let ask = |cql: &str| {
        let statement = cluster.schema_statement(cql);
        async move {
            let result = cluster.session().query_unpaged(statement, (keyspace, table)).await;
            let result = result.map_err(|error| CassandraError::from_execution(what, &error))?;
            result.into_rows_result().map_err(|error| malformed(error.to_string()))
        }
    };
    let (columns, indexes, comments) = futures::try_join!(
        ask(
            "SELECT column_name, clustering_order FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?"
        ),
        ask("SELECT index_name, kind, options FROM system_schema.indexes WHERE keyspace_name = ? AND table_name = ?"),
        ask("SELECT comment FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?"),
    )?;
    let columns = columns.rows::<(String, Option<String>)>().map_err(|error| malformed(error.to_string()))?;
    let descending =
        columns.flatten().filter(|(_, order)| order.as_deref() == Some("desc")).map(|(name, _)| name).collect();
    let indexes = indexes
        .rows::<(String, Option<String>, Option<HashMap<String, String>>)>()
        .map_err(|error| malformed(error.to_string()))?
        .flatten()
        .filter_map(|(name, kind, options)| index(name, kind.as_deref(), &options.unwrap_or_default()))
        .collect();
    let comment = comments.maybe_first_row::<(Option<String>,)>().ok().flatten().and_then(|row| row.0);
    let declared = comment.map_or_else(DeclaredTypes::new, |comment| declared::parse(&comment));
    Ok(TableDetails { descending, indexes, declared })
}

/// The index, if its answers are those of SQL: one that folds case or cuts text into words finds other rows.
fn index(name: String, kind: Option<&str>, options: &HashMap<String, String>) -> Option<Index> {
    let column = plain_column(options.get("target")?)?;
    let is_on = |option: &str| options.get(option).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let folds_case = options.get("case_sensitive").is_some_and(|value| value.eq_ignore_ascii_case("false"));
    let analyzes = options.keys().any(|option| option.ends_with("analyzer"));
    if folds_case || analyzes || is_on("normalize") || is_on("ascii") {
        return None;
    }
    let kind = match kind? {
        "COMPOSITES" => IndexKind::Secondary,
        "CUSTOM" if is_storage_attached(options) => match options.get("similarity_function") {
            Some(function) => IndexKind::Vector(similarity(function)?),
            None => IndexKind::StorageAttached,
        },
        _ => return None,
    };
    Some(Index { name, column, kind })
}

fn is_storage_attached(options: &HashMap<String, String>) -> bool {
    let class = options.get("class_name").map(|class| class.rsplit('.').next().unwrap_or(class));
    class.is_some_and(|class| class.eq_ignore_ascii_case("sai") || class == "StorageAttachedIndex")
}

fn similarity(function: &str) -> Option<Similarity> {
    match function.to_ascii_lowercase().as_str() {
        "cosine" => Some(Similarity::Cosine),
        "euclidean" => Some(Similarity::Euclidean),
        "dot_product" => Some(Similarity::DotProduct),
        _ => None,
    }
}

/// The column of an index's target; `None` for what an index has of a collection, such as `values(tags)`.
pub(super) fn plain_column(target: &str) -> Option<String> {
    if let Some(inner) = target.strip_prefix('"').and_then(|target| target.strip_suffix('"')) {
        return Some(inner.replace("\"\"", "\""));
    }
    (!target.contains(['(', '"'])).then(|| target.to_owned())
}

impl TableDetails {
    /// The index that answers comparisons of a column, storage-attached before secondary.
    pub fn index_of(&self, column: &str) -> Option<&Index> {
        let on_column = || self.indexes.iter().filter(|index| index.column == column);
        on_column()
            .find(|index| index.kind == IndexKind::StorageAttached)
            .or_else(|| on_column().find(|index| index.kind == IndexKind::Secondary))
    }

    /// The measure of a vector column's index.
    pub fn similarity_of(&self, column: &str) -> Option<Similarity> {
        self.indexes.iter().filter(|index| index.column == column).find_map(|index| match index.kind {
            IndexKind::Vector(similarity) => Some(similarity),
            _ => None,
        })
    }
}

/// What was read of a table, and the state of the cluster that it was read in.
type Entry = (StateId, Arc<TableDetails>);

/// Details by keyspace and table, each with the state of the cluster in which they were read.
#[derive(Default)]
pub struct DetailsCache {
    entries: std::sync::Mutex<HashMap<(String, String), Entry>>,
}

/// A state that the driver made of the cluster's metadata: any change of the schema makes a new one.
type StateId = Arc<scylla::cluster::ClusterState>;

impl DetailsCache {
    /// What was read of a table since the schema last changed.
    pub fn get(&self, state: &StateId, keyspace: &str, table: &str) -> Option<Arc<TableDetails>> {
        let entries = self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (read_in, details) = entries.get(&(keyspace.to_owned(), table.to_owned()))?;
        Arc::ptr_eq(read_in, state).then(|| details.clone())
    }

    /// Keeps what was read, and forgets what was read before the schema last changed.
    pub fn put(&self, state: &StateId, keyspace: &str, table: &str, details: Arc<TableDetails>) {
        let mut entries = self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        entries.retain(|_, (read_in, _)| Arc::ptr_eq(read_in, state));
        entries.insert((keyspace.to_owned(), table.to_owned()), (state.clone(), details));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, options: &[(&str, &str)]) -> Option<Index> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        index("i".to_owned(), Some(kind), &options)
    }

    #[test]
    fn an_index_that_finds_other_rows_than_sql_is_left_alone() {
        let sai = |more: &[(&str, &str)]| of("CUSTOM", &[&[("class_name", "sai"), ("target", "name")], more].concat());
        assert_eq!(sai(&[]).map(|index| index.kind), Some(IndexKind::StorageAttached));
        for option in [("case_sensitive", "false"), ("normalize", "true"), ("index_analyzer", "standard")] {
            assert_eq!(sai(&[option]), None, "{option:?}");
        }
        assert_eq!(of("COMPOSITES", &[("target", "values(tags)")]), None);
    }

    #[test]
    fn names_of_columns_come_out_of_their_quotes() {
        assert_eq!(plain_column("\"Mixed\"\"Case\"").as_deref(), Some("Mixed\"Case"));
        assert_eq!(plain_column("plain").as_deref(), Some("plain"));
    }
}
