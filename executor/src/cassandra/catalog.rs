//! Keyspaces and tables as DataFusion catalogs and schemas.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::Result;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::cluster::CassandraCluster;
use super::error::CassandraError;
use super::keys::TableKeys;
use super::options::CassandraOptions;
use super::statistics::TableStatistics;
use super::table::CassandraTable;

/// After a failed connection, lists of names stay empty for so long before the next try.
const LIST_RETRY_AFTER: Duration = Duration::from_secs(5);

/// A cluster as a catalog. The connection is made when it is first needed.
#[derive(Debug)]
pub struct CassandraCatalog {
    link: Arc<Link>,
}

/// The connection, or the wish for one.
#[derive(Debug)]
struct Link {
    options: CassandraOptions,
    cluster: tokio::sync::OnceCell<Arc<CassandraCluster>>,
    failed_at: Mutex<Option<Instant>>,
    /// What was known of tables before, for the cluster to be told when it is connected.
    kept: Mutex<Vec<KeptStatistics>>,
}

/// Keyspace, table, and what a sample told of it.
type KeptStatistics = (String, String, Arc<TableStatistics>);

impl Link {
    async fn cluster(&self) -> Result<Arc<CassandraCluster>, CassandraError> {
        let connect = || async {
            let cluster = CassandraCluster::shared(&self.options).await?;
            for (keyspace, table, statistics) in self.kept.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                cluster.set_statistics(&keyspace, &table, Some(statistics));
            }
            Ok(cluster)
        };
        self.cluster.get_or_try_init(connect).await.cloned()
    }

    /// The cluster for callers that cannot wait asynchronously; `None` if it cannot be reached.
    ///
    /// DataFusion lists names synchronously. Once connected this does not block; a first connection
    /// blocks this thread of a multi-threaded runtime, which moves its other work elsewhere.
    fn cluster_for_lists(&self) -> Option<Arc<CassandraCluster>> {
        if let Some(cluster) = self.cluster.get() {
            return Some(cluster.clone());
        }
        let mut failed_at = self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if failed_at.is_some_and(|at| at.elapsed() < LIST_RETRY_AFTER) {
            return None;
        }
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        if runtime.runtime_flavor() != tokio::runtime::RuntimeFlavor::MultiThread {
            return None;
        }
        match tokio::task::block_in_place(|| runtime.block_on(self.cluster())) {
            Ok(cluster) => Some(cluster),
            Err(error) => {
                tracing::warn!(%error, "a Cassandra catalog's names cannot be listed");
                *failed_at = Some(Instant::now());
                None
            }
        }
    }
}

impl CassandraCatalog {
    /// A catalog that will connect with these options.
    pub fn new(options: CassandraOptions) -> Self {
        let link = Link { options, cluster: Default::default(), failed_at: Mutex::default(), kept: Mutex::default() };
        Self { link: Arc::new(link) }
    }

    /// Takes what samples told of tables before, in an earlier process. Call it before the first connection.
    pub fn keep_statistics(&self, keyspace: &str, table: &str, statistics: Arc<TableStatistics>) {
        let mut kept = self.link.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push((keyspace.to_owned(), table.to_owned(), statistics));
    }

    /// The connection, made now if there is none.
    pub async fn cluster(&self) -> Result<Arc<CassandraCluster>, CassandraError> {
        self.link.cluster().await
    }

    /// The keys and indexes of a keyspace's tables. No table is opened for it.
    pub fn keys<'a>(&'a self, keyspace: &'a str) -> BoxFuture<'a, Result<Arc<[TableKeys]>, CassandraError>> {
        // Boxed, so that callers' futures are not made of all that a connection takes.
        async move { Ok(self.link.cluster().await?.keys(keyspace).await) }.boxed()
    }

    /// Asks the cluster anew for its tables.
    pub async fn refresh(&self) -> Result<(), CassandraError> {
        self.link.cluster().await?.refresh().await
    }
}

impl CatalogProvider for CassandraCatalog {
    /// The users' keyspaces, then the cluster's own.
    fn schema_names(&self) -> Vec<String> {
        let Some(cluster) = self.link.cluster_for_lists() else { return Vec::new() };
        let state = cluster.state();
        let mut names: Vec<String> = state.keyspaces_iter().map(|(name, _)| name.to_owned()).collect();
        names.sort_by_key(|name| (name.starts_with("system"), name.clone()));
        names
    }

    /// Before the first connection any name may be a keyspace: naming a table of it tells.
    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if let Some(cluster) = self.link.cluster.get() {
            cluster.state().get_keyspace(name)?;
        }
        Some(Arc::new(CassandraKeyspace { link: self.link.clone(), name: name.to_owned() }))
    }
}

/// A keyspace as a schema.
#[derive(Debug)]
struct CassandraKeyspace {
    link: Arc<Link>,
    name: String,
}

#[async_trait]
impl SchemaProvider for CassandraKeyspace {
    fn table_names(&self) -> Vec<String> {
        let Some(cluster) = self.link.cluster_for_lists() else { return Vec::new() };
        let state = cluster.state();
        let Some(keyspace) = state.get_keyspace(&self.name) else { return Vec::new() };
        let mut names: Vec<String> = keyspace.tables.keys().chain(keyspace.views.keys()).cloned().collect();
        names.sort();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let cluster = self.link.cluster().await?;
        if cluster.find_table(&self.name, name).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(Arc::new(CassandraTable::open(cluster, &self.name, name).await?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        match self.link.cluster_for_lists() {
            Some(cluster) => cluster.table(&self.name, name).is_some(),
            // Asking for the table will say why it cannot be reached.
            None => true,
        }
    }
}
