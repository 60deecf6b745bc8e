//! A table as DataFusion sees it.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraints, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use scylla::cluster::metadata::{ColumnKind, ColumnType, NativeType, Table};

use super::cluster::{CassandraCluster, quoted};
use super::columns::ScanColumn;
use super::details::TableDetails;
use super::error::CassandraError;
use super::insert::{CassandraInsertExec, InsertSpec};
use super::pushdown::{self, Pushdown, has_same_order};
use super::scan::CassandraScanExec;
use super::session::CassandraSettings;
use super::spec::{ClusteringColumn, Estimate, Keys, ScanSpec, VectorColumn};
use super::split::{self, TokenRange, descriptors};
use super::types::{is_multi_cell, table_schema};
use super::write::mutate;
use super::write::using::{Using, WriteOptions};

/// What a read by key is taken to return, for choosing where it runs.
const BYTES_PER_KEY: u64 = 16 << 10;
/// What a row is taken to have, where nothing else is known.
pub(super) const BYTES_PER_ROW: u64 = 100;
/// Rows that a partition of a table with a clustering key is taken to have.
const ROWS_PER_PARTITION: u64 = 100;
/// The part of a table that a comparison of an indexed column is taken to leave.
const INDEXED_PART: u64 = 10;
/// Keys that one partition of a scan reads; more are shared out among the replicas.
const KEYS_OF_ONE_PARTITION: usize = 500;

/// A Cassandra table or materialized view.
#[derive(Debug, Clone)]
pub struct CassandraTable {
    pub(super) cluster: Arc<CassandraCluster>,
    pub(super) keyspace: String,
    pub(super) name: String,
    pub(super) metadata: Table,
    details: Arc<TableDetails>,
    settings: CassandraSettings,
    /// What can be selected, in the order of the schema.
    columns: Vec<ScanColumn>,
    schema: SchemaRef,
    constraints: Constraints,
    write: WriteOptions,
}

impl CassandraTable {
    /// The table as the cluster describes it now.
    pub async fn open(cluster: Arc<CassandraCluster>, keyspace: &str, name: &str) -> Result<Self, CassandraError> {
        let metadata = cluster.table(keyspace, name).ok_or_else(|| CassandraError::Refused {
            what: format!("to open {keyspace}.{name}"),
            reason: "there is no such table".to_owned(),
        })?;
        let details = cluster.details(keyspace, name).await?;
        let schema = table_schema(&metadata, &details.declared)?;
        let key_length = metadata.partition_key.len() + metadata.clustering_key.len();
        let key = datafusion::common::Constraint::PrimaryKey((0..key_length).collect());
        // A row of only static columns has no clustering key, so that the key is then none.
        let has_static = metadata.columns.values().any(|column| column.kind == ColumnKind::Static);
        let constraints = Constraints::new_unverified(if has_static { vec![] } else { vec![key] });
        let columns = schema.fields().iter().map(|field| ScanColumn::Cell(field.name().clone())).collect();
        let (keyspace, name) = (keyspace.to_owned(), name.to_owned());
        let settings = CassandraSettings::default();
        let write = WriteOptions::default();
        Ok(Self { cluster, keyspace, name, metadata, details, settings, columns, schema, constraints, write })
    }

    /// The same table as a session with these settings sees it, with more columns after its own: what Cassandra knows of
    /// its cells.
    ///
    /// Errors: a column that does not exist or has none of it, such as the write time of a key.
    pub fn for_session(&self, settings: &CassandraSettings, more: &[ScanColumn]) -> Result<Self, CassandraError> {
        let mut columns = self.columns.clone();
        let mut fields: Vec<FieldRef> = self.schema.fields().iter().cloned().collect();
        for column in more.iter().filter(|column| !self.columns.contains(column)) {
            self.check(column)?;
            if let Some(field) = column.field() {
                fields.push(Arc::new(field));
                columns.push(column.clone());
            }
        }
        let (settings, schema) = (settings.clone(), Arc::new(Schema::new(fields)));
        Ok(Self { settings, columns, schema, ..self.clone() })
    }

    /// The same table for a statement that writes to it.
    pub(super) fn writing(&self, write: WriteOptions) -> Self {
        Self { write, ..self.clone() }
    }

    /// The statement's `USING` clause.
    pub(super) fn using(&self) -> &Using {
        &self.write.using
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &Arc<CassandraCluster> {
        &self.cluster
    }

    pub(super) fn metadata(&self) -> &Table {
        &self.metadata
    }

    /// Keyspace and table.
    pub(super) fn names(&self) -> (&str, &str) {
        (&self.keyspace, &self.name)
    }

    /// Keyspace and table, for messages.
    pub(super) fn full_name(&self) -> String {
        format!("{}.{}", self.keyspace, self.name)
    }

    /// Keyspace and table in CQL.
    pub(super) fn quoted_name(&self) -> String {
        format!("{}.{}", quoted(&self.keyspace), quoted(&self.name))
    }

    fn check(&self, column: &ScanColumn) -> Result<(), CassandraError> {
        let wrong = |reason: String| Err(CassandraError::Ddl(format!("{}: {reason}", column.name())));
        match column {
            ScanColumn::Cell(_) => Ok(()),
            ScanColumn::Token(key) if *key == self.metadata.partition_key => Ok(()),
            ScanColumn::Token(_) => {
                let key = self.metadata.partition_key.join(", ");
                wrong(format!("it takes the columns of the partition key in their order, which are {key}"))
            }
            ScanColumn::WriteTime(name) | ScanColumn::TimeToLive(name) => match self.metadata.columns.get(name) {
                None => wrong(format!("table {}.{} has no column \"{name}\"", self.keyspace, self.name)),
                Some(column) if matches!(column.kind, ColumnKind::PartitionKey | ColumnKind::Clustering) => {
                    wrong("columns of the primary key have none".to_owned())
                }
                Some(column) if is_multi_cell(&column.typ) => {
                    wrong("each element of a collection that is not frozen has its own".to_owned())
                }
                Some(_) => Ok(()),
            },
        }
    }

    /// The columns of the partition key.
    pub fn partition_key(&self) -> &[String] {
        &self.metadata.partition_key
    }

    /// How many columns can be selected.
    pub fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// Whether the table has a column of this name.
    pub fn has_column(&self, name: &str) -> bool {
        self.metadata.columns.contains_key(name)
    }

    async fn partitions(&self, spec: &ScanSpec, target_partitions: usize) -> Vec<Vec<TokenRange>> {
        if spec.keys.as_ref().is_some_and(|keys| keys.rows.len() <= KEYS_OF_ONE_PARTITION) {
            return vec![vec![TokenRange::whole()]];
        }
        let ring = self.ring().iter().filter_map(|range| range.within(spec.tokens)).collect();
        let split_bytes = self.cluster.options().split_size_mb << 20;
        split::partitions(ring, spec.estimate.bytes, split_bytes, target_partitions)
    }

    async fn estimate(&self, pushed: &Pushdown, limit: Option<usize>) -> Estimate {
        let size = self.cluster.table_size(&self.keyspace, &self.name).await;
        let sampled = self.cluster.statistics(&self.keyspace, &self.name);
        let has_clustering = !self.metadata.clustering_key.is_empty();
        let guessed_rows = size.map(|size| match has_clustering {
            true => size.bytes / BYTES_PER_ROW,
            false => size.partition_count,
        });
        let table_rows = sampled.as_ref().map(|sampled| sampled.rows_now(size)).or(guessed_rows);
        let table_bytes = size.map(|size| size.bytes).or_else(|| sampled.as_ref().map(|sampled| sampled.bytes()));
        let rows_per_partition = match (&sampled, size, table_rows) {
            _ if !has_clustering => 1,
            (Some(sampled), _, _) => sampled.rows_per_partition(),
            (None, Some(size), Some(rows)) if size.partition_count > 0 => (rows / size.partition_count).max(1),
            _ => ROWS_PER_PARTITION,
        };
        let part = if pushed.uses_index { INDEXED_PART } else { 1 };
        let (bytes, rows) = match &pushed.keys {
            Some(keys) => {
                let keys = keys.len() as u64;
                (Some(keys * BYTES_PER_KEY), Some(keys.saturating_mul(rows_per_partition)))
            }
            None => (table_bytes.map(|bytes| bytes / part), table_rows.map(|rows| rows / part)),
        };
        let most = |estimate: Option<u64>, most: u64| Some(estimate.map_or(most, |estimate| estimate.min(most)));
        match limit {
            Some(limit) => Estimate {
                bytes: most(bytes, limit as u64 * BYTES_PER_ROW * 10),
                rows: most(rows, limit as u64),
                rows_per_partition,
            },
            None => Estimate { bytes, rows, rows_per_partition },
        }
    }

    fn clustering_key(&self) -> Vec<ClusteringColumn> {
        let column = |name: &String| ClusteringColumn {
            name: name.clone(),
            is_descending: self.details.descending.contains(name),
            has_sql_order: self.metadata.columns.get(name).is_some_and(|column| has_same_order(&column.typ)),
        };
        self.metadata.clustering_key.iter().map(column).collect()
    }

    fn vectors(&self) -> Vec<VectorColumn> {
        let of_floats = |name: &String| match &self.metadata.columns.get(name)?.typ {
            ColumnType::Vector { typ, dimensions } if **typ == ColumnType::Native(NativeType::Float) => {
                let similarity = self.details.similarity_of(name)?;
                Some(VectorColumn { column: name.clone(), similarity, size: usize::from(*dimensions) })
            }
            _ => None,
        };
        self.metadata.columns.keys().filter_map(of_floats).collect()
    }
    /// A scan of the columns that a projection chooses.
    async fn scan_pushed(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        pushed: Pushdown,
        limit: Option<usize>,
    ) -> Result<CassandraScanExec> {
        let (schema, columns) = match projection {
            Some(projection) => {
                let columns = projection.iter().filter_map(|index| self.columns.get(*index)).cloned().collect();
                (Arc::new(self.schema.project(projection)?), columns)
            }
            None => (self.schema.clone(), self.columns.clone()),
        };
        let estimate = self.estimate(&pushed, limit).await;
        let key_columns = self.metadata.partition_key.clone();
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let spec = ScanSpec {
            options: self.cluster.options().clone(),
            keyspace: self.keyspace.clone(),
            table: self.name.clone(),
            consistency: self.settings.consistency.clone(),
            columns,
            partition_key: self.metadata.partition_key.clone(),
            clustering_key: self.clustering_key(),
            has_static: self.metadata.columns.values().any(|column| column.kind == ColumnKind::Static),
            keys: pushed.keys.map(|rows| Keys { columns: key_columns, rows }),
            tokens: pushed.tokens,
            partial_key: pushed.partial_key,
            restrictions: pushed.restrictions,
            uses_index: pushed.uses_index,
            allow_filtering: pushed.allow_filtering,
            pushed: pushed.words,
            is_reversed: false,
            vectors: self.vectors(),
            nearest: None,
            per_partition_limit: None,
            limit,
            estimate,
            statistics: self.cluster.statistics(&self.keyspace, &self.name).map(|all| all.of_columns(&names)),
        };
        let partitions = self.partitions(&spec, state.config().target_partitions()).await;
        Ok(CassandraScanExec::new(spec, schema, descriptors(&partitions)?))
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
        let pushed = pushdown::plan(&self.metadata, &self.details, &self.settings, filters);
        let answer = |(used, helps): (&bool, &bool)| match (used, helps) {
            (true, _) => TableProviderFilterPushDown::Exact,
            (false, true) => TableProviderFilterPushDown::Inexact,
            (false, false) => TableProviderFilterPushDown::Unsupported,
        };
        Ok(pushed.used.iter().zip(&pushed.helps).map(answer).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let pushed = pushdown::plan(&self.metadata, &self.details, &self.settings, &filters.iter().collect::<Vec<_>>());
        let is_left = |(used, helps): (&bool, &bool)| !used && !helps;
        let left = filters.iter().zip(pushed.used.iter().zip(&pushed.helps).map(is_left));
        let left: Vec<Expr> = left.filter(|(_, is_left)| *is_left).map(|(filter, _)| filter.clone()).collect();
        let Some(predicate) = conjunction(left) else {
            return Ok(Arc::new(self.scan_pushed(state, projection, pushed, limit).await?));
        };
        // DataFusion asks about a query's predicates in several rounds, and two that are each right by themselves may
        // not go down together.
        let own: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.columns.len()).collect());
        let mut read = own.clone();
        for column in predicate.column_refs() {
            let index = self.schema.index_of(column.name())?;
            if !read.contains(&index) {
                read.push(index);
            }
        }
        let scan = Arc::new(self.scan_pushed(state, Some(&read), pushed, None).await?);
        let predicate = state.create_physical_expr(predicate, &DFSchema::try_from(scan.schema())?)?;
        let filtered = Arc::new(FilterExec::try_new(predicate, scan)?);
        let columns = own.iter().enumerate().map(|(place, index)| {
            let name = self.schema.field(*index).name().clone();
            ProjectionExpr { expr: Arc::new(Column::new(&name, place)), alias: name }
        });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), filtered)?))
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
        let spec = InsertSpec::plan(self, &CassandraSettings::of(state), self.write.columns.as_deref())?;
        Ok(Arc::new(CassandraInsertExec::new(spec, input)))
    }

    /// The plan has one row, with the number of keys that were written.
    async fn update(
        &self,
        state: &dyn Session,
        assignments: Vec<(String, Expr)>,
        filters: Vec<Expr>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(mutate::update(self, state, assignments, &filters)?))
    }

    /// The plan has one row, with the number of keys that were deleted.
    async fn delete_from(&self, state: &dyn Session, filters: Vec<Expr>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(mutate::delete(self, state, &filters)?))
    }
}
