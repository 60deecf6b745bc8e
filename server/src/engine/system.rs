//! The schema `system`: every state a user may wonder about, as a table.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::TableType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::FutureExt;

use super::Engine;

const TABLES: [&str; 12] = [
    "executors",
    "grants",
    "offers",
    "policies",
    "queries",
    "queue_history",
    "queues",
    "roles",
    "stages",
    "table_statistics",
    "tasks",
    "transfers",
];

/// Adds the schema `system` to the catalog `sluice`.
pub(super) fn register(engine: &Arc<Engine>) -> Result<()> {
    let schema = Arc::new(SystemSchema { engine: Arc::downgrade(engine) });
    engine.catalogs.local().register_schema("system", schema)?;
    Ok(())
}

/// Holds the engine weakly, because the engine holds the catalog.
struct SystemSchema {
    engine: Weak<Engine>,
}

impl std::fmt::Debug for SystemSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SystemSchema")
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        TABLES.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(kind) = TABLES.iter().find(|table| **table == name) else { return Ok(None) };
        let partition = SystemTable { kind, schema: schema_of(kind), engine: self.engine.clone() };
        let table = StreamingTable::try_new(partition.schema.clone(), vec![Arc::new(partition)])?;
        Ok(Some(Arc::new(table)))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(TABLES.contains(&name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.contains(&name)
    }
}

struct SystemTable {
    kind: &'static str,
    schema: SchemaRef,
    engine: Weak<Engine>,
}

impl std::fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "system.{}", self.kind)
    }
}

impl PartitionStream for SystemTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (kind, schema, engine) = (self.kind, self.schema.clone(), self.engine.clone());
        let rows = futures::stream::once(async move {
            let engine = engine
                .upgrade()
                .ok_or_else(|| DataFusionError::Execution("the service is shutting down".to_owned()))?;
            let columns = match kind {
                "executors" => executors(&engine).await,
                "tasks" => tasks(&engine).boxed().await,
                "stages" => stages(&engine).boxed().await,
                "queues" => queues(&engine).await,
                "queue_history" => queue_history(&engine),
                "offers" => offers(&engine),
                "roles" => roles(&engine),
                "grants" => grants(&engine),
                "policies" => policies(&engine),
                "table_statistics" => table_statistics(&engine),
                "transfers" => transfers(&engine),
                _ => queries(&engine).boxed().await,
            };
            Ok(RecordBatch::try_new(schema, columns)?)
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

/// The columns of a table of schema `system`.
pub(super) fn schema_of(kind: &str) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let flag = |name: &str| Field::new(name, DataType::Boolean, true);
    let fraction = |name: &str| Field::new(name, DataType::Float64, true);
    let number = |name: &str| Field::new(name, DataType::UInt64, true);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true);
    Arc::new(Schema::new(match kind {
        "executors" => vec![
            text("executor_id"),
            text("host"),
            number("port"),
            text("rack"),
            text("data_centre"),
            number("total_vcores"),
            number("free_vcores"),
            number("total_memory_bytes"),
            number("used_memory_bytes"),
            number("partition_count"),
            text("reserved"),
            text("state"),
            time("last_heartbeat"),
        ],
        "roles" => vec![text("role"), flag("may_log_in"), flag("is_superuser"), text("member_of")],
        "grants" => vec![text("role"), text("object"), text("privileges")],
        "policies" => vec![
            text("catalog_name"),
            text("schema_name"),
            text("table_name"),
            text("policy"),
            text("kind"),
            text("column_name"),
            text("roles"),
            text("expression"),
        ],
        "tasks" => vec![
            text("query_id"),
            number("stage_id"),
            number("task_id"),
            text("state"),
            text("executor_id"),
            number("partition_count"),
            text("locality"),
            fraction("cpu"),
            number("memory_bytes"),
            time("started"),
            time("ended"),
            number("row_count"),
            number("bytes"),
            number("spilled_bytes"),
            text("error"),
        ],
        "stages" => vec![
            text("query_id"),
            number("stage_id"),
            text("state"),
            text("inputs"),
            number("partition_count"),
            number("ended_partitions"),
            number("task_count"),
            number("row_count"),
            number("bytes"),
            number("spilled_bytes"),
            fraction("time_skew"),
            fraction("row_skew"),
            time("started"),
            number("elapsed_ms"),
        ],
        "queue_history" => vec![
            time("at"),
            text("queue"),
            fraction("share"),
            fraction("fair_share"),
            fraction("used_cpu"),
            number("used_memory_bytes"),
            number("running_queries"),
            number("queued_queries"),
        ],
        "queues" => vec![
            text("queue"),
            text("parent"),
            fraction("weight"),
            fraction("share"),
            text("dominant_resource"),
            fraction("fair_share"),
            fraction("used_cpu"),
            number("used_memory_bytes"),
            fraction("wanted_cpu"),
            number("wanted_memory_bytes"),
            number("running_partitions"),
            number("pending_partitions"),
            number("running_queries"),
            number("queued_queries"),
            fraction("guarantee_cpu"),
            number("guarantee_memory_bytes"),
            fraction("limit_cpu"),
            number("limit_memory_bytes"),
            number("max_running"),
            number("max_queued"),
            number("queue_timeout_ms"),
            text("users"),
        ],
        "offers" => vec![
            number("offer_id"),
            text("queue"),
            text("executor_id"),
            text("host"),
            fraction("cpu"),
            number("memory_bytes"),
            text("state"),
            number("age_ms"),
        ],
        "table_statistics" => vec![
            text("catalog_name"),
            text("schema_name"),
            text("table_name"),
            text("column_name"),
            number("row_count"),
            number("sampled_rows"),
            number("distinct_count"),
            fraction("null_fraction"),
            text("min_value"),
            text("max_value"),
            fraction("mean_bytes"),
            time("analyzed_at"),
        ],
        "transfers" => vec![
            text("id"),
            text("kind"),
            text("what"),
            text("target"),
            text("state"),
            number("units_total"),
            number("units_done"),
            number("units_kept"),
            number("rows"),
            number("bytes"),
            time("started"),
            number("elapsed_ms"),
            text("error"),
        ],
        _ => vec![
            text("query_id"),
            text("user_name"),
            text("queue"),
            text("sql"),
            text("state"),
            text("placement"),
            text("job_id"),
            time("started"),
            number("elapsed_ms"),
            number("row_count"),
            text("error"),
            text("waiting"),
        ],
    }))
}

fn texts(values: impl IntoIterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn numbers(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn maybe_numbers(values: impl IntoIterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<UInt64Array>())
}

fn fractions(values: impl IntoIterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Float64Array>())
}

/// Cores of thousandths.
fn cores(cpu_millis: u64) -> f64 {
    cpu_millis as f64 / 1_000.0
}

fn times(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    let values = values.into_iter().map(|ms| (ms > 0).then_some(ms as i64));
    Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

async fn executors(engine: &Engine) -> Vec<ArrayRef> {
    let all = engine.executors().await;
    vec![
        texts(all.iter().map(|e| Some(e.executor_id.clone()))),
        texts(all.iter().map(|e| Some(e.host.clone()))),
        numbers(all.iter().map(|e| u64::from(e.port))),
        texts(all.iter().map(|e| Some(e.rack.clone()))),
        texts(all.iter().map(|e| Some(e.data_centre.clone()))),
        numbers(all.iter().map(|e| u64::from(e.total_vcores))),
        numbers(all.iter().map(|e| u64::from(e.free_vcores))),
        numbers(all.iter().map(|e| e.total_memory_bytes)),
        numbers(all.iter().map(|e| e.used_memory_bytes)),
        numbers(all.iter().map(|e| u64::from(e.task_count))),
        texts(all.iter().map(|e| Some(e.reserved.clone()))),
        texts(all.iter().map(|e| Some(e.state.to_owned()))),
        times(all.iter().map(|e| e.last_heartbeat_s * 1_000)),
    ]
}

async fn queries(engine: &Engine) -> Vec<ArrayRef> {
    let overviews = engine.query_overviews().await;
    let all: Vec<_> = overviews.iter().map(|overview| &overview.summary).collect();
    vec![
        texts(all.iter().map(|q| Some(q.id.clone()))),
        texts(all.iter().map(|q| Some(q.user.clone()))),
        texts(all.iter().map(|q| Some(q.queue.clone()))),
        texts(all.iter().map(|q| Some(q.sql.clone()))),
        texts(all.iter().map(|q| Some(q.state.to_owned()))),
        texts(all.iter().map(|q| Some(q.placement.to_owned()))),
        texts(all.iter().map(|q| q.job_id.clone())),
        times(all.iter().map(|q| q.started_ms)),
        numbers(all.iter().map(|q| q.elapsed_ms)),
        numbers(all.iter().map(|q| q.rows)),
        texts(all.iter().map(|q| q.error.clone())),
        texts(overviews.iter().map(|overview| overview.waiting.clone())),
    ]
}

async fn stages(engine: &Engine) -> Vec<ArrayRef> {
    let all = engine.all_stages().await;
    let rows: Vec<_> = all.iter().flat_map(|(q, stages)| stages.iter().map(|stage| (&q.id, stage))).collect();
    let listed = |ids: &[usize]| ids.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    vec![
        texts(rows.iter().map(|(id, _)| Some((*id).clone()))),
        numbers(rows.iter().map(|(_, stage)| stage.stage_id as u64)),
        texts(rows.iter().map(|(_, stage)| Some(stage.state.to_owned()))),
        texts(rows.iter().map(|(_, stage)| (!stage.inputs.is_empty()).then(|| listed(&stage.inputs)))),
        numbers(rows.iter().map(|(_, stage)| stage.progress().1 as u64)),
        numbers(rows.iter().map(|(_, stage)| stage.progress().0 as u64)),
        numbers(rows.iter().map(|(_, stage)| stage.tasks.len() as u64)),
        numbers(rows.iter().map(|(_, stage)| stage.output_rows)),
        numbers(rows.iter().map(|(_, stage)| stage.output_bytes)),
        numbers(rows.iter().map(|(_, stage)| stage.spilled_bytes)),
        fractions(rows.iter().map(|(_, stage)| stage.time_skew)),
        fractions(rows.iter().map(|(_, stage)| stage.row_skew)),
        times(rows.iter().map(|(_, stage)| stage.started_ms())),
        maybe_numbers(rows.iter().map(|(_, stage)| stage.elapsed_ms())),
    ]
}

async fn tasks(engine: &Engine) -> Vec<ArrayRef> {
    let mut rows = Vec::new();
    for (query, stages) in engine.all_stages().await.into_iter().filter(|(query, _)| query.job_id.is_some()) {
        for stage in stages {
            rows.extend(stage.tasks.into_iter().map(|task| (query.id.clone(), stage.stage_id, task)));
        }
    }
    vec![
        texts(rows.iter().map(|(id, _, _)| Some(id.clone()))),
        numbers(rows.iter().map(|(_, stage, _)| *stage as u64)),
        numbers(rows.iter().map(|(_, _, task)| task.task_id as u64)),
        texts(rows.iter().map(|(_, _, task)| Some(task.state.to_owned()))),
        texts(rows.iter().map(|(_, _, task)| Some(task.executor_id.clone()))),
        numbers(rows.iter().map(|(_, _, task)| task.partitions.len() as u64)),
        texts(rows.iter().map(|(_, _, task)| Some(task.locality.to_owned()))),
        fractions(rows.iter().map(|(_, _, task)| Some(cores(task.cpu_millis)))),
        numbers(rows.iter().map(|(_, _, task)| task.memory_bytes)),
        times(rows.iter().map(|(_, _, task)| task.started_ms)),
        times(rows.iter().map(|(_, _, task)| task.ended_ms)),
        numbers(rows.iter().map(|(_, _, task)| task.rows)),
        numbers(rows.iter().map(|(_, _, task)| task.bytes)),
        numbers(rows.iter().map(|(_, _, task)| task.spilled_bytes)),
        texts(rows.iter().map(|(_, _, task)| task.error.clone())),
    ]
}

fn queue_history(engine: &Engine) -> Vec<ArrayRef> {
    let samples = engine.queue_history().since(0);
    let rows: Vec<_> = samples.iter().flat_map(|s| s.queues.iter().map(|queue| (s.at_ms, queue))).collect();
    vec![
        times(rows.iter().map(|(at_ms, _)| *at_ms)),
        texts(rows.iter().map(|(_, q)| Some(q.queue.clone()))),
        fractions(rows.iter().map(|(_, q)| Some(q.share))),
        fractions(rows.iter().map(|(_, q)| Some(q.fair_share))),
        fractions(rows.iter().map(|(_, q)| Some(cores(q.used_cpu_millis)))),
        numbers(rows.iter().map(|(_, q)| q.used_memory_bytes)),
        numbers(rows.iter().map(|(_, q)| u64::from(q.running_queries))),
        numbers(rows.iter().map(|(_, q)| u64::from(q.queued_queries))),
    ]
}

/// The columns of `system.queues` that `SHOW QUEUES` has room for.
const SHOWN: [&str; 10] = [
    "queue",
    "weight",
    "share",
    "fair_share",
    "dominant_resource",
    "used_cpu",
    "used_memory_bytes",
    "pending_partitions",
    "running_queries",
    "queued_queries",
];

/// The columns of `SHOW QUEUES`.
pub(super) fn shown_queue_schema() -> SchemaRef {
    let all = schema_of("queues");
    Arc::new(Schema::new(SHOWN.iter().filter_map(|name| all.field_with_name(name).ok().cloned()).collect::<Vec<_>>()))
}

/// The queues as rows, for `SHOW QUEUES`.
pub(super) async fn queue_rows(engine: &Engine) -> Result<SendableRecordBatchStream> {
    let all = RecordBatch::try_new(schema_of("queues"), queues(engine).await)?;
    let columns = SHOWN.iter().filter_map(|name| all.column_by_name(name).cloned()).collect();
    let batch = RecordBatch::try_new(shown_queue_schema(), columns)?;
    Ok(Box::pin(RecordBatchStreamAdapter::new(batch.schema(), futures::stream::iter([Ok(batch)]))))
}

async fn queues(engine: &Engine) -> Vec<ArrayRef> {
    let all = engine.scheduler.queues().await;
    let limit = |amount: u64| (amount < u64::MAX).then_some(amount);
    let guarantee = |amount: u64| (amount > 0).then_some(amount);
    vec![
        texts(all.iter().map(|q| Some(q.view.path.clone()))),
        texts(all.iter().map(|q| q.view.parent.clone())),
        fractions(all.iter().map(|q| Some(q.view.spec.weight))),
        fractions(all.iter().map(|q| Some(q.view.dominant_share))),
        texts(all.iter().map(|q| (q.view.dominant_share > 0.0).then(|| q.dominant_resource.clone()))),
        fractions(all.iter().map(|q| Some(q.view.fair_share))),
        fractions(all.iter().map(|q| Some(cores(q.view.used.cpu_millis())))),
        numbers(all.iter().map(|q| q.view.used.memory_bytes())),
        fractions(all.iter().map(|q| Some(cores(q.view.wanted.cpu_millis())))),
        numbers(all.iter().map(|q| q.view.wanted.memory_bytes())),
        numbers(all.iter().map(|q| q.view.used.cpu_millis() / 1_000)),
        numbers(all.iter().map(|q| q.view.pending_tasks)),
        numbers(all.iter().map(|q| u64::from(q.running_queries))),
        numbers(all.iter().map(|q| u64::from(q.queued_queries))),
        fractions(all.iter().map(|q| guarantee(q.view.spec.guarantee.cpu_millis()).map(cores))),
        maybe_numbers(all.iter().map(|q| guarantee(q.view.spec.guarantee.memory_bytes()))),
        fractions(all.iter().map(|q| limit(q.view.spec.limit.cpu_millis()).map(cores))),
        maybe_numbers(all.iter().map(|q| limit(q.view.spec.limit.memory_bytes()))),
        maybe_numbers(all.iter().map(|q| q.definition.max_running.map(u64::from))),
        maybe_numbers(all.iter().map(|q| q.definition.max_queued.map(u64::from))),
        maybe_numbers(all.iter().map(|q| q.definition.queue_timeout_ms)),
        texts(all.iter().map(|q| (!q.definition.users.is_empty()).then(|| q.definition.users.join(", ")))),
    ]
}

fn roles(engine: &Engine) -> Vec<ArrayRef> {
    let all = engine.roles().list();
    let flags = |values: Vec<bool>| Arc::new(BooleanArray::from(values)) as ArrayRef;
    vec![
        texts(all.iter().map(|role| Some(role.name.clone()))),
        flags(all.iter().map(|role| role.login).collect()),
        flags(all.iter().map(|role| role.superuser).collect()),
        texts(all.iter().map(|role| (!role.member_of.is_empty()).then(|| role.member_of.join(", ")))),
    ]
}

fn grants(engine: &Engine) -> Vec<ArrayRef> {
    let all = engine.roles().list();
    let granted = all.iter().flat_map(|role| {
        role.grants.iter().map(|(object, privileges)| (role.name.clone(), object.clone(), privileges.clone()))
    });
    let queues = engine.scheduler.allocation().definitions().queues;
    let used = queues.iter().flat_map(|(path, queue)| {
        queue.users.iter().map(move |user| (user.clone(), format!("queue \"{path}\""), "USAGE".to_owned()))
    });
    let rows: Vec<_> = granted.chain(used).collect();
    vec![
        texts(rows.iter().map(|(role, _, _)| Some(role.clone()))),
        texts(rows.iter().map(|(_, object, _)| Some(object.clone()))),
        texts(rows.iter().map(|(_, _, privileges)| Some(privileges.clone()))),
    ]
}

fn policies(engine: &Engine) -> Vec<ArrayRef> {
    let all = engine.policies.list();
    let part = |index: usize| texts(all.iter().map(|policy| policy.table.0.get(index).cloned()));
    vec![
        part(0),
        part(1),
        part(2),
        texts(all.iter().map(|policy| Some(policy.name.clone()))),
        texts(all.iter().map(|policy| Some(policy.effect.as_str().to_owned()))),
        texts(all.iter().map(|policy| policy.effect.column().map(str::to_owned))),
        texts(all.iter().map(|policy| Some(policy.roles.iter().cloned().collect::<Vec<_>>().join(", ")))),
        texts(all.iter().map(|policy| Some(policy.using.clone()))),
    ]
}

fn offers(engine: &Engine) -> Vec<ArrayRef> {
    let allocation = engine.scheduler.allocation();
    let (all, now) = (allocation.offers(), allocation.now());
    vec![
        numbers(all.iter().map(|o| o.id)),
        texts(all.iter().map(|o| Some(o.queue.clone()))),
        texts(all.iter().map(|o| Some(o.executor_id.clone()))),
        texts(all.iter().map(|o| Some(o.host.clone()))),
        fractions(all.iter().map(|o| Some(cores(o.resources.cpu_millis())))),
        numbers(all.iter().map(|o| o.resources.memory_bytes())),
        texts(all.iter().map(|o| Some(o.state.to_owned()))),
        numbers(all.iter().map(|o| now.saturating_sub(o.made_ms))),
    ]
}

fn table_statistics(engine: &Engine) -> Vec<ArrayRef> {
    let all = engine.statistics.columns();
    vec![
        texts(all.iter().map(|c| Some(c.catalog.clone()))),
        texts(all.iter().map(|c| Some(c.schema.clone()))),
        texts(all.iter().map(|c| Some(c.table.clone()))),
        texts(all.iter().map(|c| Some(c.column.clone()))),
        numbers(all.iter().map(|c| c.of_table.row_count)),
        numbers(all.iter().map(|c| c.of_table.sampled_rows)),
        numbers(all.iter().map(|c| c.sample.distinct_count)),
        fractions(all.iter().map(|c| Some(c.sample.null_fraction))),
        texts(all.iter().map(|c| c.sample.min.clone())),
        texts(all.iter().map(|c| c.sample.max.clone())),
        fractions(all.iter().map(|c| Some(c.sample.mean_bytes))),
        times(all.iter().map(|c| c.of_table.analyzed_at_ms)),
    ]
}

fn transfers(engine: &Engine) -> Vec<ArrayRef> {
    let all = engine.transfers.summaries();
    vec![
        texts(all.iter().map(|t| Some(t.id.clone()))),
        texts(all.iter().map(|t| Some(t.kind.to_owned()))),
        texts(all.iter().map(|t| Some(t.what.clone()))),
        texts(all.iter().map(|t| Some(t.target.clone()))),
        texts(all.iter().map(|t| Some(t.state.to_owned()))),
        numbers(all.iter().map(|t| t.units_total)),
        numbers(all.iter().map(|t| t.units_done)),
        numbers(all.iter().map(|t| t.units_kept)),
        numbers(all.iter().map(|t| t.rows)),
        numbers(all.iter().map(|t| t.bytes)),
        times(all.iter().map(|t| t.started_ms)),
        numbers(all.iter().map(|t| t.elapsed_ms)),
        texts(all.iter().map(|t| t.error.clone())),
    ]
}
