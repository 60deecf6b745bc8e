//! `UPDATE` and `DELETE` of rows by their keys.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::catalog::Session;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use scylla::cluster::metadata::ColumnKind;

use super::super::cluster::{CassandraCluster, quoted};
use super::super::encode::EncodedRow;
use super::super::error::CassandraError;
use super::super::insert::{InsertSpec, count_schema};
use super::super::session::CassandraSettings;
use super::super::table::CassandraTable;
use super::assign::Assignment;
use super::keys::{Keys, Within, keys};
use super::writer::{Request, WriteMetrics, Writer};
use super::{Repeat, is_counter, write_consistency};

/// Runs one CQL statement for each key that an `UPDATE` or `DELETE` names; gives one row with their number.
///
/// It has no input: it runs in the process that planned it, once.
#[derive(Debug)]
pub struct CassandraMutateExec {
    cluster: Arc<CassandraCluster>,
    request: Request,
    rows: Arc<Vec<EncodedRow>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl CassandraMutateExec {
    fn new(cluster: Arc<CassandraCluster>, request: Request, rows: Vec<EncodedRow>) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(count_schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { cluster, request, rows: Arc::new(rows), properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for CassandraMutateExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CassandraMutateExec: keys={}, cql={}", self.rows.len(), self.request.cql)
    }
}

impl ExecutionPlan for CassandraMutateExec {
    fn name(&self) -> &'static str {
        "CassandraMutateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("an UPDATE or DELETE in Cassandra takes no input"),
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let metrics = WriteMetrics::new(&self.metrics, partition);
        let (cluster, request, rows) = (self.cluster.clone(), self.request.clone(), self.rows.clone());
        let written = futures::stream::once(async move {
            let writer = Writer::open(cluster, request, metrics).await?;
            let count = writer.write(futures::stream::iter([Ok(rows.as_ref().clone())])).await?;
            Ok(RecordBatch::try_new(count_schema(), vec![Arc::new(UInt64Array::from(vec![count]))])?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(count_schema(), written)))
    }
}

/// `UPDATE table SET ... WHERE` its primary key, or its partition key if only static columns are set.
pub(in super::super) fn update(
    table: &CassandraTable,
    session: &dyn Session,
    assignments: Vec<(String, Expr)>,
    filters: &[Expr],
) -> Result<CassandraMutateExec> {
    let refused = |reason: String| CassandraError::NotByKey { statement: "UPDATE", table: table.full_name(), reason };
    let metadata = table.metadata();
    if assignments.is_empty() {
        return Err(CassandraError::NotSupported("UPDATE that changes nothing".to_owned()).into());
    }
    let mut changes = Vec::with_capacity(assignments.len());
    let mut is_all_static = true;
    for (name, value) in &assignments {
        let Some(column) = metadata.columns.get(name) else {
            return Err(CassandraError::NotSupported(format!("column \"{name}\", which there is none of,")).into());
        };
        match &column.kind {
            ColumnKind::PartitionKey | ColumnKind::Clustering => {
                return Err(
                    CassandraError::NotSupported(format!("changing \"{name}\", which is part of the key,")).into()
                );
            }
            kind => is_all_static &= *kind == ColumnKind::Static,
        }
        changes.push(Assignment::new(name, &column.typ, value)?);
    }
    let within = if is_all_static { Within::Partition } else { Within::Row };
    let found = keys(metadata, filters, within, refused)?;
    let values: Vec<ArrayRef> =
        changes.iter().map(|change| change.evaluate(session, found.values.len())).collect::<Result<_>>()?;
    let is_counting = metadata.columns.values().any(|column| is_counter(&column.typ));
    let settings = CassandraSettings::of(session);
    let (using_ttl_s, using_timestamp_us) = table.using().numbers()?;
    let ttl_s = using_ttl_s.or(settings.ttl_s.filter(|_| !is_counting));
    let mut rows = Vec::with_capacity(found.values.len());
    for (index, key) in found.values.iter().enumerate() {
        let mut row = EncodedRow::default();
        if let Some(ttl_s) = ttl_s {
            row.push_raw(&ttl_s.to_be_bytes());
        }
        for (change, values) in changes.iter().zip(&values) {
            change.encode(values, index, &mut row)?;
        }
        key.iter().for_each(|value| row.push_raw(value));
        rows.push(row);
    }
    let repeat = changes.iter().map(|change| change.repeat).fold(Repeat::Same, |all, one| match (all, one) {
        (Repeat::Never, _) | (_, Repeat::Never) => Repeat::Never,
        (Repeat::Later, _) | (_, Repeat::Later) => Repeat::Later,
        _ => Repeat::Same,
    });
    let using = if ttl_s.is_some() { " USING TTL ?" } else { "" };
    let set: Vec<String> = changes.iter().map(Assignment::cql).collect();
    let cql = format!("UPDATE {}{using} SET {} WHERE {}", table.quoted_name(), set.join(", "), conditions(&found));
    let first_key_cell = changes.len() + usize::from(ttl_s.is_some());
    let timestamp_us = match is_counting {
        // A counter's cells have timestamps of their own.
        true if using_timestamp_us.is_some() => {
            return Err(CassandraError::NotSupported("TIMESTAMP of a counter".to_owned()).into());
        }
        true => None,
        false => Some(using_timestamp_us.or(settings.timestamp_us).unwrap_or_else(InsertSpec::now_us)),
    };
    mutation(table, &settings, cql, rows, repeat, first_key_cell, timestamp_us)
}

/// `DELETE FROM table WHERE` its partition key, and along its clustering key.
pub(in super::super) fn delete(
    table: &CassandraTable,
    session: &dyn Session,
    filters: &[Expr],
) -> Result<CassandraMutateExec> {
    let refused =
        |reason: String| CassandraError::NotByKey { statement: "DELETE FROM", table: table.full_name(), reason };
    let (using_ttl_s, using_timestamp_us) = table.using().numbers()?;
    if using_ttl_s.is_some() {
        return Err(CassandraError::NotSupported("TTL of a DELETE".to_owned()).into());
    }
    let found = keys(table.metadata(), filters, Within::Range, refused)?;
    let rows = found.values.iter().map(|key| EncodedRow::of_raw(key)).collect();
    let cql = format!("DELETE FROM {} WHERE {}", table.quoted_name(), conditions(&found));
    let settings = CassandraSettings::of(session);
    let timestamp_us = using_timestamp_us.or(settings.timestamp_us).unwrap_or_else(InsertSpec::now_us);
    mutation(table, &settings, cql, rows, Repeat::Same, 0, Some(timestamp_us))
}

fn conditions(keys: &Keys) -> String {
    let conditions = keys.conditions.iter().map(|(column, operator)| format!("{} {operator} ?", quoted(column)));
    conditions.collect::<Vec<_>>().join(" AND ")
}

fn mutation(
    table: &CassandraTable,
    settings: &CassandraSettings,
    cql: String,
    rows: Vec<EncodedRow>,
    repeat: Repeat,
    first_key_cell: usize,
    timestamp_us: Option<i64>,
) -> Result<CassandraMutateExec> {
    let (keyspace, name) = table.names();
    let request = Request {
        keyspace: keyspace.to_owned(),
        table: name.to_owned(),
        cql,
        consistency: write_consistency(settings.write_consistency.as_deref(), table.cluster().options()),
        timestamp_us,
        repeat,
        key_cells: (first_key_cell..first_key_cell + table.metadata().partition_key.len()).collect(),
    };
    Ok(CassandraMutateExec::new(table.cluster().clone(), request, rows))
}
