//! A connection to a cluster, shared by all that use the same options.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use scylla::client::Compression;
use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::metadata::Table;
use scylla::cluster::{ClusterState, Node};
use scylla::policies::load_balancing::{DefaultPolicy, NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::serialize::row::SerializeRow;
use scylla::statement::Statement;
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::OnceCell;

use super::details::{self, DetailsCache, TableDetails};
use super::error::CassandraError;
use super::keys::KeysCache;
use super::options::{CassandraOptions, FrameCompression};
use super::statistics::TableStatistics;
use super::throttle::Throttle;
use super::tls;

/// How long a first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long all first connections may take together: that to a contact point that hangs, that to the next one, and
/// those to all nodes, of which one hangs. Nodes that check passwords are slow to let many in at a time.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// How often an idle connection is tried.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A node that does not answer for so long is taken for gone, and what it was asked is asked elsewhere. The driver
/// prepares a statement on all nodes, and waits for those that hang until their connections are given up.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to tell a table's size: planning waits for it.
const SIZE_TIMEOUT: Duration = Duration::from_secs(2);
/// Other nodes that a slow read is sent to.
const MOST_SPECULATIVE_READS: usize = 2;
/// Milliseconds after which a question about the schema is sent to another node too: statements wait for it.
const SLOW_SCHEMA_MS: u64 = 300;
/// How long a change of the schema may take: it goes through all nodes, one change after another.
const DDL_TIMEOUT: Duration = Duration::from_secs(120);
/// Prepared statements kept; when there are more, all are forgotten and prepared again as needed.
const PREPARED_STATEMENTS: usize = 1_000;
/// How long a table's size, as its nodes estimate it, is believed. Nodes renew theirs every five minutes.
const SIZE_TTL: Duration = Duration::from_secs(60);
/// Statements about tables that do not exist must not keep the cluster busy with questions about its schema.
const LEAST_REFRESH_INTERVAL: Duration = Duration::from_millis(300);

/// What was heard of tables, by keyspace and name, and when.
type ByTable<T> = HashMap<(String, String), (Instant, T)>;

/// A connected cluster.
pub struct CassandraCluster {
    options: CassandraOptions,
    session: Session,
    prepared: Mutex<HashMap<String, PreparedStatement>>,
    sizes: Mutex<ByTable<Option<TableSize>>>,
    details: DetailsCache,
    keys: KeysCache,
    asked_for_tables: tokio::sync::Mutex<Option<Instant>>,
    /// How reads are executed, which may ask twice; a write is sent once.
    read_profile: ExecutionProfileHandle,
    /// How questions about the schema are executed.
    schema_profile: ExecutionProfileHandle,
    throttle: Throttle,
    statistics: Mutex<HashMap<(String, String), Arc<TableStatistics>>>,
}

/// What the nodes estimate of a table, all replicas together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableSize {
    /// Partitions.
    pub partition_count: u64,
    /// Bytes.
    pub bytes: u64,
}

impl std::fmt::Debug for CassandraCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CassandraCluster").field("options", &self.options).finish_non_exhaustive()
    }
}

type Shared = Arc<OnceCell<Arc<CassandraCluster>>>;

/// One connection for each set of options in this process: plans that arrive from elsewhere name
/// their cluster by its options.
static CLUSTERS: LazyLock<Mutex<HashMap<CassandraOptions, Shared>>> = LazyLock::new(Mutex::default);

/// Whether a table's columns are known. The driver asks for tables and columns at the same time, and hears of a table that
/// was made in between without any.
fn is_whole(table: &Table) -> bool {
    !table.partition_key.is_empty()
}

impl CassandraCluster {
    /// The connection for these options, made now if there is none. A failure is not remembered.
    pub async fn shared(options: &CassandraOptions) -> Result<Arc<Self>, CassandraError> {
        let cell = {
            let mut clusters = CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner);
            clusters.entry(options.clone()).or_default().clone()
        };
        cell.get_or_try_init(|| async { Ok(Arc::new(Self::connect(options.clone()).await?)) }).await.cloned()
    }

    /// A connection of its own.
    pub async fn connect(options: CassandraOptions) -> Result<Self, CassandraError> {
        let mut balancing = DefaultPolicy::builder().token_aware(true);
        if let Some(dc) = &options.local_dc {
            balancing = balancing.prefer_datacenter(dc.clone());
        }
        let profile = ExecutionProfile::builder()
            .consistency(options.read_consistency())
            .request_timeout(Some(Duration::from_millis(options.request_timeout_ms)))
            .load_balancing_policy(balancing.build())
            .build();
        let asking_twice = |after_ms: Option<u64>| {
            let policy = after_ms.map(|after_ms| SimpleSpeculativeExecutionPolicy {
                max_retry_count: MOST_SPECULATIVE_READS,
                retry_interval: Duration::from_millis(after_ms),
            });
            let builder = profile.to_builder();
            builder.speculative_execution_policy(policy.map(|policy| Arc::new(policy) as _)).build().into_handle()
        };
        let read_profile = asking_twice(options.speculative_read_ms);
        let slow_schema_ms = options.speculative_read_ms.map_or(SLOW_SCHEMA_MS, |ms| ms.min(SLOW_SCHEMA_MS));
        let schema_profile = asking_twice(Some(slow_schema_ms));
        let mut builder = SessionBuilder::new()
            .known_nodes(&options.contact_points)
            .default_execution_profile_handle(profile.into_handle())
            .connection_timeout(CONNECT_TIMEOUT)
            .keepalive_interval(KEEPALIVE_INTERVAL)
            .keepalive_timeout(KEEPALIVE_TIMEOUT)
            .compression(match options.compression {
                FrameCompression::None => None,
                FrameCompression::Lz4 => Some(Compression::Lz4),
            })
            .tls_context(tls::client_config(&options)?);
        if let (Some(user), Some(password)) = (&options.username, &options.password) {
            builder = builder.user(user, password);
        }
        let contact_points = options.contact_points_text();
        let connecting = builder.build();
        // The driver goes on trying for longer than a user waits for a first answer.
        let session = match tokio::time::timeout(SESSION_TIMEOUT, connecting).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => {
                return Err(tls::explained(CassandraError::from_session(contact_points, &error), &options));
            }
            Err(_) => {
                let reason = format!("no answer within {} s", SESSION_TIMEOUT.as_secs());
                return Err(CassandraError::Connect { contact_points, reason });
            }
        };
        check_local_dc(&options, &session.get_cluster_state())?;
        Ok(Self {
            throttle: Throttle::new(&options),
            read_profile,
            schema_profile,
            statistics: Mutex::default(),
            options,
            session,
            prepared: Mutex::default(),
            sizes: Mutex::default(),
            details: DetailsCache::default(),
            keys: KeysCache::default(),
            asked_for_tables: Default::default(),
        })
    }

    pub(super) fn keys_cache(&self) -> &KeysCache {
        &self.keys
    }

    /// The driver's session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The limits of reads and writes, which everything in this process shares.
    pub fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// The nodes that hold the partition of these values; none if they cannot be told.
    pub fn replicas(&self, statement: &PreparedStatement, values: &impl SerializeRow) -> Vec<IpAddr> {
        let token = statement.calculate_token(values).ok().flatten();
        let Some((token, spec)) = token.zip(statement.get_table_spec()) else { return Vec::new() };
        let nodes = self.state().get_token_endpoints(spec.ks_name(), spec.table_name(), token);
        nodes.into_iter().map(|(node, _)| node.address.ip()).collect()
    }

    /// What a sample told of a table; `None` if there was none.
    pub fn statistics(&self, keyspace: &str, table: &str) -> Option<Arc<TableStatistics>> {
        let key = (keyspace.to_owned(), table.to_owned());
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Keeps what a sample told of a table, for the plans that follow; `None` forgets it.
    pub fn set_statistics(&self, keyspace: &str, table: &str, statistics: Option<Arc<TableStatistics>>) {
        let key = (keyspace.to_owned(), table.to_owned());
        let mut all = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        match statistics {
            Some(statistics) => all.insert(key, statistics),
            None => all.remove(&key),
        };
    }

    /// What the connection was made with.
    pub fn options(&self) -> &CassandraOptions {
        &self.options
    }

    /// The cluster's nodes, ring and tables, as last heard.
    pub fn state(&self) -> Arc<ClusterState> {
        self.session.get_cluster_state()
    }

    /// A table's or materialized view's columns and keys.
    pub fn table(&self, keyspace: &str, table: &str) -> Option<Table> {
        self.heard_of(keyspace, table).filter(is_whole)
    }

    fn heard_of(&self, keyspace: &str, table: &str) -> Option<Table> {
        let state = self.state();
        let keyspace = state.get_keyspace(keyspace)?;
        let table = keyspace.tables.get(table).or_else(|| keyspace.views.get(table).map(|view| &view.view_metadata));
        table.cloned()
    }

    /// Asks the cluster whether there is a table that was not heard of, if it was not asked a moment ago.
    ///
    /// The driver hears of changes by events, which come later than a client's next statement.
    pub async fn find_table(&self, keyspace: &str, table: &str) -> Result<Option<Table>, CassandraError> {
        if let Some(found) = self.table(keyspace, table) {
            return Ok(Some(found));
        }
        let mut asked = self.asked_for_tables.lock().await;
        // Somebody else may have asked while this one waited.
        let may_be_there = match self.heard_of(keyspace, table) {
            Some(found) => !is_whole(&found),
            None => asked.is_none_or(|at| at.elapsed() >= LEAST_REFRESH_INTERVAL),
        };
        if may_be_there {
            self.refresh().await?;
            *asked = Some(Instant::now());
        }
        Ok(self.table(keyspace, table))
    }

    /// Asks the cluster anew for its nodes and tables, and forgets what was cached of them.
    pub async fn refresh(&self) -> Result<(), CassandraError> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.session.refresh_metadata().await.map_err(|error| CassandraError::Connect {
            contact_points: self.options.contact_points_text(),
            reason: error.to_string(),
        })
    }

    /// A prepared statement that reads as the catalog's options say.
    pub async fn prepare_read(&self, cql: &str, what: &str) -> Result<PreparedStatement, CassandraError> {
        let mut prepared = self.prepare(cql, what).await?;
        prepared.set_execution_profile_handle(Some(self.read_profile.clone()));
        Ok(prepared)
    }

    /// A prepared statement, prepared once a connection.
    pub async fn prepare(&self, cql: &str, what: &str) -> Result<PreparedStatement, CassandraError> {
        if let Some(found) = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(cql) {
            return Ok(found.clone());
        }
        let patience = Duration::from_millis(self.options.request_timeout_ms).max(2 * KEEPALIVE_TIMEOUT);
        let mut prepared = match tokio::time::timeout(patience, self.session.prepare(cql)).await {
            Ok(prepared) => prepared.map_err(|error| CassandraError::from_prepare(what, &error))?,
            Err(_) => {
                let reason = format!("the statement was not prepared within {} s", patience.as_secs());
                return Err(CassandraError::Timeout { what: what.to_owned(), reason });
            }
        };
        // Reads and keyed writes with a fixed timestamp give the same when they are repeated.
        prepared.set_is_idempotent(true);
        let mut all = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PREPARED_STATEMENTS {
            all.clear();
        }
        all.insert(cql.to_owned(), prepared.clone());
        Ok(prepared)
    }

    /// A question about the schema, which any node can answer: one that hangs is not waited for.
    pub(super) fn schema_statement(&self, cql: impl Into<String>) -> Statement {
        let mut statement = Statement::new(cql);
        statement.set_is_idempotent(true);
        statement.set_execution_profile_handle(Some(self.schema_profile.clone()));
        statement
    }

    /// Runs a statement that changes the schema, and waits until all nodes agree on it.
    pub async fn execute_ddl(&self, cql: &str) -> Result<(), CassandraError> {
        let what = "a change of the schema";
        let mut statement = Statement::new(cql);
        statement.set_request_timeout(Some(DDL_TIMEOUT));
        self.session
            .query_unpaged(statement, ())
            .await
            .map_err(|error| CassandraError::from_execution(what, &error))?;
        self.session
            .await_schema_agreement()
            .await
            .map_err(|error| CassandraError::Timeout { what: what.to_owned(), reason: error.to_string() })?;
        self.refresh().await
    }

    /// What the driver does not hear of a table, read again when the schema has changed.
    pub async fn details(&self, keyspace: &str, table: &str) -> Result<Arc<TableDetails>, CassandraError> {
        let state = self.state();
        if let Some(details) = self.details.get(&state, keyspace, table) {
            return Ok(details);
        }
        let details = Arc::new(details::read(self, keyspace, table).await?);
        self.details.put(&state, keyspace, table, details.clone());
        Ok(details)
    }

    /// The size of a table; `None` when no node has an estimate, as for a table that was just made.
    pub async fn table_size(&self, keyspace: &str, table: &str) -> Option<TableSize> {
        let key = (keyspace.to_owned(), table.to_owned());
        if let Some((at, size)) = self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && at.elapsed() < SIZE_TTL
        {
            return *size;
        }
        let size = self.ask_size(keyspace, table).await;
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (Instant::now(), size));
        size
    }

    /// Each node knows the ranges that it is the first replica of.
    async fn ask_size(&self, keyspace: &str, table: &str) -> Option<TableSize> {
        let state = self.state();
        let asked = state.get_nodes_info().iter().filter(|node| node.is_connected()).map(|node| {
            let mut statement = statement_for(
                node,
                "SELECT mean_partition_size, partitions_count FROM system.size_estimates WHERE keyspace_name = ? AND table_name = ?",
            );
            statement.set_request_timeout(Some(SIZE_TIMEOUT));
            async move { self.session.query_unpaged(statement, (keyspace, table)).await.ok()?.into_rows_result().ok() }
        });
        let mut total: Option<TableSize> = None;
        for rows in futures::future::join_all(asked).await.into_iter().flatten() {
            let Ok(rows) = rows.rows::<(Option<i64>, Option<i64>)>() else { continue };
            for (mean, count) in rows.flatten() {
                let (mean, count) = (mean.unwrap_or(0).max(0) as u64, count.unwrap_or(0).max(0) as u64);
                let sum = total.get_or_insert_default();
                sum.partition_count = sum.partition_count.saturating_add(count);
                sum.bytes = sum.bytes.saturating_add(mean.saturating_mul(count));
            }
        }
        // A table that is all in memory yet is estimated at nothing.
        total.filter(|size| size.bytes > 0)
    }
}

/// A question that only this node can answer.
pub(super) fn statement_for(node: &Arc<Node>, cql: &str) -> Statement {
    let mut statement = Statement::new(cql);
    let only = NodeIdentifier::Node(node.clone());
    statement.set_load_balancing_policy(Some(SingleTargetLoadBalancingPolicy::new(only, None)));
    statement.set_is_idempotent(true);
    statement
}

/// With a data centre that does not exist the driver would find nobody to ask.
fn check_local_dc(options: &CassandraOptions, state: &ClusterState) -> Result<(), CassandraError> {
    let Some(local_dc) = &options.local_dc else { return Ok(()) };
    let mut known: Vec<&str> = state.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
    known.sort_unstable();
    known.dedup();
    if known.is_empty() || known.contains(&local_dc.as_str()) {
        return Ok(());
    }
    let reason = format!("local_dc '{local_dc}' is no data centre of the cluster, which has: {}", known.join(", "));
    Err(CassandraError::Connect { contact_points: options.contact_points_text(), reason })
}

/// An identifier in CQL's quotes: case-sensitive and reserved names come through.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
