//! `COPY table FROM 'folder/'`: files into a Cassandra table.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Schema, UInt64Type};
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use futures::{FutureExt, StreamExt, TryStreamExt};
use sluice_executor::cassandra::insert::InsertSpec;
use sluice_executor::cassandra::{CassandraSettings, CassandraTable};
use sluice_executor::transfer::manifest::{MANIFEST, Manifest, Unit};
use sluice_executor::transfer::read::{ReadSpec, Rows, describe};
use sluice_executor::transfer::{TransferError, TransferReadExec};
use sluice_planner::statement::StatementKind;

use super::super::ddl::{self, FullName};
use super::super::error::{EngineError, SqlState};
use super::super::query::{Placement, QueryRecord};
use super::super::run::{self, Placed};
use super::super::session::Session;
use super::progress::RestoreProgress;
use super::registry::TransferGuard;
use super::{all_of, blocking, log_end};

/// How often the client may be told how far its statement is, while no file ends.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A table that is filled from a folder.
pub struct TableLoad<'a> {
    pub session: &'a Arc<Session>,
    pub table: &'a CassandraTable,
    pub name: &'a FullName,
    pub dir: &'a Path,
    pub record: &'a Arc<QueryRecord>,
}

impl TableLoad<'_> {
    /// Writes the rows of all files; their number.
    pub async fn run(&self, guard: &TransferGuard) -> Result<u64, EngineError> {
        let dir = self.dir.to_owned();
        let rows = match blocking(move || Manifest::read(&dir)).await? {
            Some(manifest) => self.restore(&manifest, guard).await?,
            None => self.load_files(guard).await?,
        };
        log_end(guard, self.dir);
        Ok(rows)
    }

    /// Files without a manifest: whatever a query reads there.
    async fn load_files(&self, guard: &TransferGuard) -> Result<u64, EngineError> {
        let mut path = self.dir.display().to_string();
        if self.dir.is_dir() {
            path.push('/');
        }
        let files = FullName { table: path, ..self.name.clone() };
        let query = all_of(&files)?;
        let StatementKind::Sql(sql) = &query.kind else {
            return Err(EngineError::new(SqlState::INTERNAL, "a query that is none"));
        };
        let plan = self.session.plan(&query, sql).await.map_err(|error| EngineError { position: None, ..error })?;
        let names = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
        self.check_columns(&names)?;
        guard.record().expect(1);
        let rows = ddl::write_query(self.session, self.name, plan, self.record).await?;
        guard.record().done(rows, 0);
        Ok(rows)
    }

    fn check_columns(&self, found: &BTreeSet<String>) -> Result<(), EngineError> {
        let schema = self.table.schema();
        let wanted: BTreeSet<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let list =
            |names: Vec<&String>| names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let missing: Vec<&String> = wanted.difference(found).collect();
        let extra: Vec<&String> = found.difference(&wanted).collect();
        if missing.is_empty() && extra.is_empty() {
            return Ok(());
        }
        let mut words = Vec::new();
        if !missing.is_empty() {
            words.push(format!("the files lack {}", list(missing)));
        }
        if !extra.is_empty() {
            words.push(format!("the table lacks {}", list(extra)));
        }
        Err(EngineError::from(TransferError::Columns(words.join("; ")))
            .with_hint("choose columns with INSERT INTO ... SELECT ... FROM '/path/'"))
    }

    /// Files with a manifest: each is compared with its hash, and written as a job of its own.
    async fn restore(&self, manifest: &Manifest, guard: &TransferGuard) -> Result<u64, EngineError> {
        if !manifest.complete {
            let reason = "its copy was not finished".to_owned();
            return Err(TransferError::NotWhole { path: self.dir.join(MANIFEST), reason }.into());
        }
        self.check_columns(&manifest.columns.iter().map(|column| column.name.clone()).collect())?;
        if self.table.has_counters() {
            return Err(EngineError::not_supported("COPY into counters, which would count twice if it were repeated,"));
        }
        let engine = self.session.engine();
        self.record.admitted(engine.scheduler.allocation(), &self.session.queue()).await?;
        let chosen = CassandraSettings::of(&self.session.context().state()).timestamp_us;
        let incarnation = self.table.incarnation().await;
        let (notes, id, target) = (engine.transfers.notes_dir().to_owned(), manifest.id.clone(), self.name.text());
        let opened = move || RestoreProgress::open(&notes, &id, &target, incarnation, chosen, InsertSpec::now_us());
        let mut progress = blocking(opened).await?;
        let transfer = guard.record();
        transfer.expect(manifest.units.len());
        let (done, left): (Vec<&Unit>, Vec<&Unit>) =
            manifest.units.iter().partition(|unit| progress.is_done(&unit.file));
        for seal in done.iter().filter_map(|unit| unit.seal.as_ref()) {
            transfer.done(seal.rows, seal.bytes);
        }
        transfer.kept(done.len());
        if progress.resumed > 0 {
            let (kept, all) = (done.len(), manifest.units.len());
            self.session.notice(format!("{kept} of {all} files were restored already, and were not written again"));
        }
        let timestamp_us = progress.timestamp_us();
        let jobs_at_a_time = run::target_partitions(self.session).await.max(1);
        // Made before the stream is: a closure in it that lends out a unit could not cross threads.
        let jobs: Vec<_> = left.into_iter().map(|unit| self.restored(unit.clone(), timestamp_us).boxed()).collect();
        let mut jobs = pin!(futures::stream::iter(jobs).buffer_unordered(jobs_at_a_time));
        loop {
            let unit = tokio::select! {
                unit = jobs.next() => unit,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    transfer.tell(self.session);
                    continue;
                }
            };
            let Some(unit) = unit.transpose()? else { break };
            let file = unit.file.clone();
            progress = blocking(move || progress.done(&file).map(|()| progress)).await?;
            if let Some(seal) = &unit.seal {
                transfer.done(seal.rows, seal.bytes);
            }
            transfer.tell(self.session);
        }
        blocking(move || progress.finish()).await?;
        Ok(manifest.rows())
    }

    async fn restored(&self, unit: Unit, timestamp_us: i64) -> Result<Unit, EngineError> {
        self.write_unit(&unit, timestamp_us).await?;
        Ok(unit)
    }

    async fn write_unit(&self, unit: &Unit, timestamp_us: i64) -> Result<(), EngineError> {
        let schema = self.table.schema();
        let all: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let statics = self.table.static_columns();
        let mut written = 0;
        match self.table.clustering_columns().first().filter(|_| !statics.is_empty()) {
            None => written += self.write_rows(unit, all, Rows::All, timestamp_us).await?,
            // A partition that has only static columns is a row without a clustering key, which no INSERT may name.
            Some(first) => {
                written += self.write_rows(unit, all, Rows::With(first.clone()), timestamp_us).await?;
                let mut columns = self.table.partition_key().to_vec();
                columns.extend(statics);
                columns.push(first.clone());
                written += self.write_rows(unit, columns, Rows::Without(first.clone()), timestamp_us).await?;
            }
        }
        match unit.seal.as_ref().filter(|seal| seal.rows != written) {
            None => Ok(()),
            Some(seal) => {
                let message = format!("{written} of {} rows of {} were acknowledged", seal.rows, unit.file);
                Err(EngineError::new(SqlState::INTERNAL, message))
            }
        }
    }

    /// Writes some rows of a file as a job; how many were acknowledged.
    async fn write_rows(
        &self,
        unit: &Unit,
        mut columns: Vec<String>,
        rows: Rows,
        timestamp_us: i64,
    ) -> Result<u64, EngineError> {
        let context = run::executor_context(self.session, 1)?;
        // What is null in the copy was nothing in the table that was copied.
        context.state_ref().write().config_mut().options_mut().set("cassandra.write_nulls", "unset")?;
        let schema = self.table.schema();
        let fields = columns.iter().map(|name| schema.field_with_name(name).cloned());
        let fields = fields.collect::<Result<Vec<_>, _>>().map_err(DataFusionError::from)?;
        let spec = ReadSpec { dir: self.dir.to_owned(), rows };
        let read_schema = Arc::new(Schema::new(fields));
        let has_marker = matches!(spec.rows, Rows::Without(_));
        let mut plan: Arc<dyn ExecutionPlan> =
            Arc::new(TransferReadExec::new(spec, read_schema, describe(std::slice::from_ref(unit))?));
        if has_marker {
            // The column that tells these rows from others is empty in all of them.
            columns.pop();
            plan = first_columns(plan, columns.len())?;
        }
        let plan = self.table.insert_columns(&context.state(), plan, columns, timestamp_us).await?;
        let placed = Placed { placement: Placement::OneTask, plan, context, may_exhaust_memory: false, is_work: true };
        let part = self.record.part();
        let counts: Vec<_> = run::start(self.session, placed, &part).await?.try_collect().await?;
        let count_of = |batch: &RecordBatch| {
            let counts = batch.columns().first().and_then(|column| column.as_primitive_opt::<UInt64Type>())?;
            Some((0..counts.len()).filter(|row| counts.is_valid(*row)).map(|row| counts.value(row)).sum::<u64>())
        };
        Ok(counts.iter().filter_map(count_of).sum())
    }
}

/// A plan's first columns.
fn first_columns(plan: Arc<dyn ExecutionPlan>, count: usize) -> Result<Arc<dyn ExecutionPlan>, EngineError> {
    let schema = plan.schema();
    let fields = schema.fields().iter().take(count).enumerate();
    let columns: Vec<ProjectionExpr> = fields
        .map(|(index, field)| ProjectionExpr {
            expr: Arc::new(Column::new(field.name(), index)),
            alias: field.name().clone(),
        })
        .collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}
