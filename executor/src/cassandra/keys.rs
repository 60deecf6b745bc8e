//! The keys and indexes of a keyspace's tables, for those who list them: no table is opened for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use scylla::cluster::ClusterState;

use super::cluster::CassandraCluster;
use super::details::plain_column;
use super::error::CassandraError;
use super::types::ordered_columns;

/// A table's or materialized view's key, and its indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableKeys {
    /// The table's name.
    pub table: String,
    /// Its columns in the order of its schema. The primary key's come first: partition key, then clustering key.
    pub columns: Vec<String>,
    /// How many of the columns are the primary key.
    pub key_length: usize,
    /// Its indexes in the order of their names.
    pub indexes: Vec<IndexTarget>,
}

/// What an index is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexTarget {
    /// The index's name.
    pub name: String,
    /// What it is of in CQL: a column, or `values(tags)` of a collection.
    pub target: String,
    /// The column, if the index is of a column's values.
    pub column: Option<String>,
}

/// Keys by keyspace, each with the state of the cluster in which they were read.
#[derive(Default)]
pub struct KeysCache {
    entries: Mutex<HashMap<String, Entry>>,
}

type Entry = (Arc<ClusterState>, Arc<[TableKeys]>);

impl KeysCache {
    fn get(&self, state: &Arc<ClusterState>, keyspace: &str) -> Option<Arc<[TableKeys]>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_in, keys) = entries.get(keyspace)?;
        Arc::ptr_eq(read_in, state).then(|| keys.clone())
    }

    /// Keeps what was read, and forgets what was read before the schema last changed.
    fn put(&self, state: &Arc<ClusterState>, keyspace: &str, keys: Arc<[TableKeys]>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, (read_in, _)| Arc::ptr_eq(read_in, state));
        entries.insert(keyspace.to_owned(), (state.clone(), keys));
    }
}

impl CassandraCluster {
    /// The keys and indexes of a keyspace's tables and views; none if there is no such keyspace.
    ///
    /// One small question to the cluster after each change of the schema. If it is not answered the keys come without
    /// indexes, because the driver knows the keys.
    pub async fn keys(&self, keyspace: &str) -> Arc<[TableKeys]> {
        let state = self.state();
        if let Some(keys) = self.keys_cache().get(&state, keyspace) {
            return keys;
        }
        let Some(known) = state.get_keyspace(keyspace) else { return Arc::from([]) };
        let (mut indexes, is_complete) = match self.indexes(keyspace).await {
            Ok(indexes) => (indexes, true),
            Err(error) => {
                tracing::warn!(%error, keyspace, "the indexes of a keyspace cannot be listed");
                (HashMap::new(), false)
            }
        };
        let views = known.views.iter().map(|(name, view)| (name, &view.view_metadata));
        let keys = known.tables.iter().chain(views).map(|(name, table)| TableKeys {
            table: name.clone(),
            columns: ordered_columns(table).into_iter().map(|(column, _)| column.to_owned()).collect(),
            key_length: table.partition_key.len() + table.clustering_key.len(),
            indexes: indexes.remove(name).unwrap_or_default(),
        });
        let keys: Arc<[TableKeys]> = keys.collect();
        if is_complete {
            self.keys_cache().put(&state, keyspace, keys.clone());
        }
        keys
    }

    /// Indexes by table.
    async fn indexes(&self, keyspace: &str) -> Result<HashMap<String, Vec<IndexTarget>>, CassandraError> {
        let what = &format!("while listing the indexes of {keyspace}");
        let malformed = |reason: String| CassandraError::Refused { what: what.clone(), reason };
        let statement = self.schema_statement(
            "SELECT table_name, index_name, options FROM system_schema.indexes WHERE keyspace_name = ?",
        );
        let result = self.session().query_unpaged(statement, (keyspace,)).await;
        let result = result.map_err(|error| CassandraError::from_execution(what, &error))?;
        let rows = result.into_rows_result().map_err(|error| malformed(error.to_string()))?;
        let rows = rows
            .rows::<(String, String, Option<HashMap<String, String>>)>()
            .map_err(|error| malformed(error.to_string()))?;
        let mut indexes: HashMap<String, Vec<IndexTarget>> = HashMap::new();
        for (table, name, options) in rows.flatten() {
            let Some(target) = options.and_then(|mut options| options.remove("target")) else { continue };
            let column = plain_column(&target);
            indexes.entry(table).or_default().push(IndexTarget { name, target, column });
        }
        indexes.values_mut().for_each(|of_table| of_table.sort());
        Ok(indexes)
    }
}
