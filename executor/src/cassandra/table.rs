//! A table as DataFusion sees it.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraints, internal_datafusion_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use scylla::cluster::metadata::{ColumnKind, Table};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cluster::CassandraCluster;
use super::error::CassandraError;
use super::insert::{CassandraInsertExec, InsertSpec};
use super::pushdown;
use super::scan::{CassandraScanExec, ScanSpec};
use super::session::CassandraSettings;
use super::split::{self, TokenRange, descriptor_schema, encode_ranges};
use super::types::table_schema;

/// What a read by key is taken to return, for choosing where it runs.
const BYTES_PER_KEY: u64 = 16 << 10;
/// What a row is taken to have, where nothing else is known.
const BYTES_PER_ROW: u64 = 100;

/// A Cassandra table or materialized view.
#[derive(Debug)]
pub struct CassandraTable {
    pub(super) cluster: Arc<CassandraCluster>,
    pub(super) keyspace: String,
    pub(super) name: String,
    pub(super) metadata: Table,
    schema: SchemaRef,
    constraints: Constraints,
}

impl CassandraTable {
    /// The table as the cluster describes it now.
    pub async fn open(cluster: Arc<CassandraCluster>, keyspace: &str, name: &str) -> Result<Self, CassandraError> {
        let metadata = cluster.table(keyspace, name).ok_or_else(|| CassandraError::Refused {
            what: format!("to open {keyspace}.{name}"),
            reason: "there is no such table".to_owned(),
        })?;
        let schema = table_schema(&metadata, &*cluster.declared_types(keyspace, name, &metadata).await)?;
        let key_length = metadata.partition_key.len() + metadata.clustering_key.len();
        let key = datafusion::common::Constraint::PrimaryKey((0..key_length).collect());
        // A row of only static columns has no clustering key, so that the key is then none.
        let has_static = metadata.columns.values().any(|column| column.kind == ColumnKind::Static);
        let constraints = Constraints::new_unverified(if has_static { vec![] } else { vec![key] });
        Ok(Self { cluster, keyspace: keyspace.to_owned(), name: name.to_owned(), metadata, schema, constraints })
    }

    async fn partitions(&self, spec: &ScanSpec, target_partitions: usize) -> Vec<Vec<TokenRange>> {
        if spec.keys.is_some() {
            return vec![Vec::new()];
        }
        let ring =
            split::ring(&self.cluster.state(), &self.keyspace, &self.name, self.cluster.options().local_dc.as_deref());
        let split_bytes = self.cluster.options().split_size_mb << 20;
        split::partitions(ring, spec.estimated_bytes, split_bytes, target_partitions)
    }
}

#[async_trait]
impl TableProvider for CassandraTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let plan = pushdown::plan(&self.metadata, filters);
        let answer = |used: &bool| {
            if *used { TableProviderFilterPushDown::Exact } else { TableProviderFilterPushDown::Unsupported }
        };
        Ok(plan.used.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let pushed = pushdown::plan(&self.metadata, &filters.iter().collect::<Vec<_>>());
        if let Some(index) = pushed.used.iter().position(|used| !used) {
            return Err(internal_datafusion_err!("a filter that was to be pushed cannot be: {}", filters[index]));
        }
        let schema = match projection {
            Some(projection) => Arc::new(self.schema.project(projection)?),
            None => self.schema.clone(),
        };
        let size = self.cluster.table_size(&self.keyspace, &self.name).await;
        let (mut estimated_bytes, mut estimated_rows) = match &pushed.keys {
            Some(keys) => {
                let bytes = keys.len() as u64 * BYTES_PER_KEY;
                (Some(bytes), Some(keys.len() as u64 * if self.metadata.clustering_key.is_empty() { 1 } else { 100 }))
            }
            None => {
                let rows = size.map(|size| {
                    if self.metadata.clustering_key.is_empty() {
                        size.partition_count
                    } else {
                        size.bytes / BYTES_PER_ROW
                    }
                });
                (size.map(|size| size.bytes), rows)
            }
        };
        if let Some(limit) = limit {
            let most = limit as u64 * BYTES_PER_ROW * 10;
            estimated_bytes = Some(estimated_bytes.map_or(most, |bytes| bytes.min(most)));
            estimated_rows = Some(estimated_rows.map_or(limit as u64, |rows| rows.min(limit as u64)));
        }
        let spec = ScanSpec {
            options: self.cluster.options().clone(),
            keyspace: self.keyspace.clone(),
            table: self.name.clone(),
            columns: schema.fields().iter().map(|field| field.name().clone()).collect(),
            partition_key: self.metadata.partition_key.clone(),
            keys: pushed.keys,
            restrictions: pushed.restrictions,
            pushed: pushed.words,
            limit,
            estimated_bytes,
            estimated_rows,
        };
        let partitions = self.partitions(&spec, state.config().target_partitions()).await;
        let batches = partitions.iter().map(|p| Ok(vec![encode_ranges(p)?])).collect::<Result<Vec<_>>>()?;
        let source = MemorySourceConfig::try_new(&batches, descriptor_schema(), None)?;
        Ok(Arc::new(CassandraScanExec::new(spec, schema, DataSourceExec::from_data_source(source))))
    }

    /// The plan has a row for each partition of its input, with the number of rows it wrote.
    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if op != InsertOp::Append {
            return Err(CassandraError::NotSupported(format!("{op}")).into());
        }
        if self.metadata.columns.values().any(|column| is_counter(&column.typ)) {
            return Err(CassandraError::NotSupported(
                "INSERT into counters, which would count twice if it were repeated,".to_owned(),
            )
            .into());
        }
        let spec = InsertSpec {
            options: self.cluster.options().clone(),
            keyspace: self.keyspace.clone(),
            table: self.name.clone(),
            columns: self.schema.fields().iter().map(|field| field.name().clone()).collect(),
            timestamp_us: CassandraSettings::of(state).timestamp_us.unwrap_or_else(InsertSpec::now_us),
        };
        Ok(Arc::new(CassandraInsertExec::new(spec, input)))
    }
}

pub(super) fn is_counter(typ: &scylla::cluster::metadata::ColumnType<'_>) -> bool {
    use scylla::cluster::metadata::{ColumnType, NativeType};
    matches!(typ, ColumnType::Native(NativeType::Counter))
}

/// A node's own part in bytes: a specification and a schema.
#[derive(Serialize, Deserialize)]
struct EncodedNode<S> {
    spec: S,
    /// An Arrow IPC stream without batches.
    schema: Vec<u8>,
}

/// A node's specification and schema as bytes.
pub(crate) fn encode_node<S: Serialize>(spec: &S, schema: &SchemaRef) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, schema)?.finish()?;
    serde_json::to_vec(&EncodedNode { spec, schema: bytes }).map_err(|error| DataFusionError::External(Box::new(error)))
}

/// What [`encode_node`] made.
pub(crate) fn decode_node<S: DeserializeOwned>(bytes: &[u8]) -> Result<(S, SchemaRef)> {
    let node: EncodedNode<S> =
        serde_json::from_slice(bytes).map_err(|error| DataFusionError::External(Box::new(error)))?;
    let reader = StreamReader::try_new(node.schema.as_slice(), None)?;
    Ok((node.spec, reader.schema()))
}
