//! What copies of whole tables need of a table, beside scans and inserts as queries make them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::{Session, TableProvider};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::ExecutionPlan;
use scylla::cluster::metadata::ColumnKind;
use uuid::Uuid;

use super::cluster::statement_for;
use super::insert::CassandraInsertExec;
use super::scan::CassandraScanExec;
use super::session::CassandraSettings;
use super::split::{self, TokenRange, descriptors};
use super::table::CassandraTable;
use super::write::is_counter;

/// A table that its nodes estimate smaller is copied as one part.
const ONE_PART_BYTES: u64 = 1 << 20;

impl CassandraTable {
    /// Its keyspace.
    pub fn keyspace(&self) -> &str {
        &self.keyspace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns of its clustering key.
    pub fn clustering_columns(&self) -> &[String] {
        &self.metadata.clustering_key
    }

    /// Its static columns, sorted by name.
    pub fn static_columns(&self) -> Vec<String> {
        let is_static = self.metadata.columns.iter().filter(|(_, column)| column.kind == ColumnKind::Static);
        let mut names: Vec<String> = is_static.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Whether it counts.
    pub fn has_counters(&self) -> bool {
        self.metadata.columns.values().any(|column| is_counter(&column.typ))
    }

    /// The consistency with which a session reads it.
    pub fn read_consistency(&self, state: &dyn Session) -> String {
        CassandraSettings::of(state).consistency.unwrap_or_else(|| self.cluster.options().consistency.clone())
    }

    /// The whole ring in ranges that each lie within one set of replicas and hold `split_size_mb` at most, if the data
    /// are spread evenly; there are at least `least` of them. A small table is one range if `least` allows it.
    pub async fn unit_ranges(&self, least: usize, least_if_unknown: usize) -> Vec<TokenRange> {
        let size = self.cluster.table_size(&self.keyspace, &self.name).await;
        if least <= 1 && size.is_some_and(|size| size.bytes < ONE_PART_BYTES) {
            return vec![TokenRange::whole()];
        }
        let split_bytes = (self.cluster.options().split_size_mb << 20).max(1);
        let by_size = size.map_or(least_if_unknown, |size| size.bytes.div_ceil(split_bytes) as usize);
        split::cut(self.ring(), by_size.max(least))
    }

    /// The whole ring in ranges that each lie within one set of replicas.
    pub(super) fn ring(&self) -> Vec<TokenRange> {
        let local_dc = self.cluster.options().local_dc.as_deref();
        split::ring(&self.cluster.state(), &self.keyspace, &self.name, local_dc)
    }

    /// Ranges from an earlier time with the replicas that hold their ends now.
    pub fn with_replicas(&self, spans: &[(i64, i64)]) -> Vec<TokenRange> {
        let by_end: BTreeMap<i64, Vec<String>> =
            self.ring().into_iter().map(|range| (range.end, range.replicas)).collect();
        let replicas = |end: i64| by_end.range(end..).next().map(|(_, replicas)| replicas.clone()).unwrap_or_default();
        spans.iter().map(|(start, end)| TokenRange { start: *start, end: *end, replicas: replicas(*end) }).collect()
    }

    /// A scan of all columns whose partitions read the given ranges, a range's rows in Cassandra's order.
    pub async fn scan_ranges(
        &self,
        state: &dyn Session,
        partitions: &[Vec<TokenRange>],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan = self.scan(state, None, &[], None).await?;
        let Some(scan) = scan.downcast_ref::<CassandraScanExec>() else {
            return internal_err!("a scan of all rows is a {}", scan.name());
        };
        Ok(Arc::new(CassandraScanExec::new(scan.spec().clone(), scan.schema(), descriptors(partitions)?)))
    }

    /// An insert whose input has these columns of the table, in this order, and whose cells have this timestamp.
    pub async fn insert_columns(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        columns: Vec<String>,
        timestamp_us: i64,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let insert = self.insert_into(state, input, InsertOp::Append).await?;
        match insert.downcast_ref::<CassandraInsertExec>() {
            Some(insert) => Ok(Arc::new(insert.with_columns(columns).written_at(timestamp_us))),
            None => internal_err!("an insert is a {}", insert.name()),
        }
    }

    /// What changes when the table is dropped and made again, or truncated: its id, and what each node knows of its last
    /// truncation. `None` if a node does not answer, so that nothing can be said.
    pub async fn incarnation(&self) -> Option<String> {
        let session = self.cluster.session();
        let cql = "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
        let found =
            session.query_unpaged(self.cluster.schema_statement(cql), (&self.keyspace, &self.name)).await.ok()?;
        let (id,) = found.into_rows_result().ok()?.maybe_first_row::<(Uuid,)>().ok()??;
        let mut words = vec![id.to_string()];
        for node in self.cluster.state().get_nodes_info() {
            let statement = statement_for(node, "SELECT truncated_at FROM system.local");
            let rows = session.query_unpaged(statement, ()).await.ok()?.into_rows_result().ok()?;
            let (truncated,) = rows.first_row::<(Option<BTreeMap<Uuid, Vec<u8>>>,)>().ok()?;
            let at = truncated.unwrap_or_default().remove(&id).unwrap_or_default();
            words.push(format!("{}:{}", node.host_id, at.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
        }
        words[1..].sort();
        Some(words.join(" "))
    }
}
