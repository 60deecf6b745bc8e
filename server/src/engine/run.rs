//! Where a query runs.

use std::sync::{Arc, LazyLock};

use ballista_core::JobId;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::scheduler::PartitionLocation;
use datafusion::arrow::array::{Array, UInt64Array};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use futures::{FutureExt, StreamExt};
use sluice_executor::cassandra::CassandraScanExec;
use sluice_executor::functions::function_registry;
use sluice_planner::distribute::has_null_aware_join;
use sluice_planner::size::input_size;
use sluice_scheduler::cluster::{Allocation, ClusterError, Lease, LeaseSize};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::context_over;
use super::error::{EngineError, SqlState};
use super::held::FinishedJob;
use super::query::{Placement, QueryRecord, QueryResult, QueryStream};
use super::result::ResultReader;
use super::session::{Session, command};
use super::stoppable::stoppable;

/// Batches between a task in the server and its reader; more would only hold memory.
const BATCHES_IN_FLIGHT: usize = 2;
/// What reads no more than this needs no second try with less memory.
const HARMLESS_INPUT_BYTES: u64 = 1 << 20;
/// Times the usual partitions, each with a hash table of its own, for a query that memory was too short for.
const PARTITIONS_TO_SAVE_MEMORY: usize = 4;
/// How often a job is submitted whose executors are lost in ways that its stages do not recover from.
const MOST_STARTS: usize = 3;
/// Partitions of an exchange when no executor has registered yet.
const LEAST_PARTITIONS: usize = 2;

/// Functions that plans sent to executors may call.
static EXECUTOR_FUNCTIONS: LazyLock<BallistaFunctionRegistry> = LazyLock::new(function_registry);

/// How much more memory the tasks of a query ask for when it has turned out to be too little.
const MORE_MEMORY_FACTOR: u64 = 8;

/// A plan and where it is to run.
pub(super) struct Placed {
    pub placement: Placement,
    pub plan: Arc<dyn ExecutionPlan>,
    /// The context that the plan was made in.
    pub context: SessionContext,
    /// Whether so much is read that memory could be too short for it as one task.
    pub may_exhaust_memory: bool,
    /// Whether it needs a place in its session's queue; looking at what this process holds needs none.
    pub is_work: bool,
}

/// Runs a logical plan that DataFusion made.
pub(super) async fn execute(
    session: &Arc<Session>,
    plan: LogicalPlan,
    tag: &str,
    record: &Arc<QueryRecord>,
) -> Result<QueryResult, EngineError> {
    match &plan {
        LogicalPlan::Dml(_) | LogicalPlan::Copy(_) => {
            let rows = run_to_count(session, &plan, record).await?;
            let tag = if tag == "INSERT" { format!("INSERT 0 {rows}") } else { format!("{tag} {rows}") };
            Ok(QueryResult::Command { tag, rows_affected: Some(rows) })
        }
        LogicalPlan::Ddl(DdlStatement::CreateFunction(_) | DdlStatement::DropFunction(_)) => {
            Err(EngineError::not_supported("CREATE FUNCTION"))
        }
        LogicalPlan::Ddl(ddl) => Err(EngineError::not_supported(ddl.name())),
        LogicalPlan::Statement(datafusion::logical_expr::Statement::Prepare(_)) => {
            session.context().execute_logical_plan(plan).boxed().await?;
            Ok(command(tag))
        }
        LogicalPlan::Statement(other) => Err(EngineError::not_supported(other.name())),
        _ => Ok(QueryResult::Rows(stream(session, &plan, record).await?)),
    }
}

/// Runs a plan that writes, and returns how many rows it wrote.
///
/// Files are written by this process, which reads the rows from wherever they are made: a sink that
/// ran as a task could be run again after its executor was lost, and leave its rows twice.
pub(super) async fn run_to_count(
    session: &Arc<Session>,
    plan: &LogicalPlan,
    record: &Arc<QueryRecord>,
) -> Result<u64, EngineError> {
    let placed = place(session, plan).await?;
    let node = placed.plan.clone();
    if let Some(files) = node.downcast_ref::<DataSinkExec>() {
        return write_files(session, files, placed, record).await;
    }
    let mut rows = start_placed(session, plan, placed, record).await?;
    let mut total = 0u64;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        if let Some(counts) = batch.columns().first().and_then(|c| c.as_any().downcast_ref::<UInt64Array>()) {
            total += (0..counts.len()).filter(|i| counts.is_valid(*i)).map(|i| counts.value(i)).sum::<u64>();
        }
    }
    Ok(total)
}

async fn write_files(
    session: &Arc<Session>,
    files: &DataSinkExec,
    placed: Placed,
    record: &Arc<QueryRecord>,
) -> Result<u64, EngineError> {
    let context = placed.context.task_ctx();
    let rows = start(session, Placed { plan: files.input().clone(), ..placed }, record).await?;
    Ok(files.sink().write_all(rows, &context).await?)
}

/// Starts a plan and returns its rows as they come.
pub(super) async fn stream(
    session: &Arc<Session>,
    plan: &LogicalPlan,
    record: &Arc<QueryRecord>,
) -> Result<SendableRecordBatchStream, EngineError> {
    let placed = place(session, plan).await?;
    start_placed(session, plan, placed, record).await
}

async fn start_placed(
    session: &Arc<Session>,
    plan: &LogicalPlan,
    placed: Placed,
    record: &Arc<QueryRecord>,
) -> Result<SendableRecordBatchStream, EngineError> {
    if placed.may_exhaust_memory {
        return start_in_server_first(session, plan, placed, record).await;
    }
    start(session, placed, record).await
}

/// Waits for the query's turn in its session's queue.
async fn admit(session: &Session, placed: &Placed, record: &QueryRecord) -> Result<(), EngineError> {
    if !placed.is_work {
        return Ok(());
    }
    session.check_queue()?;
    record.admitted(session.engine().scheduler.allocation(), &session.queue()).await
}

/// Runs a plan of some size in this process, and in stages, which can do with less memory, if that does not do.
async fn start_in_server_first(
    session: &Arc<Session>,
    plan: &LogicalPlan,
    placed: Placed,
    record: &Arc<QueryRecord>,
) -> Result<SendableRecordBatchStream, EngineError> {
    admit(session, &placed, record).await?;
    let allocation = session.engine().scheduler.allocation().clone();
    let queue = session.queue();
    let Some(lease) = allocation.try_lease(&queue, LeaseSize::Large) else {
        // Others run here; as stages the query shares the executors with them, task by task.
        let partitions = target_partitions(session).await;
        let placed = place_on_executors(session, plan, partitions).await?;
        return start(session, placed, record).await;
    };
    let turn = Some(Turn { allocation, queue, lease: Some(lease) });
    let running = stoppable(placed.plan, &record.control)?;
    record.watched().started(running.clone());
    let mut rows = run_in_server(session, running, placed.context.task_ctx(), turn)?;
    let first = tokio::select! {
        first = rows.next() => first,
        () = record.control.stopped() => return Err(record.control.error()),
    };
    if let Some(Err(error)) = &first
        && matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
    {
        tracing::info!(query = %record.id, "runs in stages, because memory was too short for it as one task");
        let partitions = target_partitions(session).await * PARTITIONS_TO_SAVE_MEMORY;
        let placed = place_on_executors(session, plan, partitions).await?;
        return start(session, placed, record).await;
    }
    record.placed(Placement::Server);
    let schema = rows.schema();
    let rows = futures::stream::iter(first).chain(rows);
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows.boxed()));
    Ok(Box::pin(QueryStream::new(rows, record.clone(), None)))
}

/// Chooses where a plan runs, and makes its physical plan for that place.
///
/// The plan for this process is made first, because it also tells what will be read; planning a
/// query that turns out to be large costs a second planning, which is nothing beside running it.
pub(super) async fn place(session: &Arc<Session>, plan: &LogicalPlan) -> Result<Placed, EngineError> {
    let engine = session.engine();
    let server_plan = session.context().state().create_physical_plan(plan).boxed().await?;
    let size = input_size(&server_plan);
    let small = size.bytes.is_some_and(|bytes| bytes <= session.single_task_max_bytes());
    if needs_this_process(&server_plan) || (small && (engine.embedded || !size.reads_files)) {
        let may_exhaust_memory = small && size.bytes.is_some_and(|bytes| bytes > HARMLESS_INPUT_BYTES);
        let context = session.context().clone();
        let (placement, plan) = (Placement::Server, server_plan);
        return Ok(Placed { placement, plan, context, may_exhaust_memory, is_work: size.is_work });
    }
    // Ballista runs a NOT IN that may meet nulls as one task, and only if its left side is small.
    let one_task = small || has_null_aware_join(&server_plan);
    let partitions = if one_task { 1 } else { target_partitions(session).await };
    place_on_executors(session, plan, partitions).await
}

/// Makes a plan for executors: one task, or stages with so many partitions.
async fn place_on_executors(
    session: &Arc<Session>,
    plan: &LogicalPlan,
    partitions: usize,
) -> Result<Placed, EngineError> {
    let context = executor_context(session, partitions)?;
    let cluster_plan = context.state().create_physical_plan(plan).boxed().await?;
    let placement = if partitions == 1 { Placement::OneTask } else { Placement::Stages };
    Ok(Placed { placement, plan: cluster_plan, context, may_exhaust_memory: false, is_work: true })
}

/// The context in which plans for executors are made.
pub(super) fn executor_context(session: &Session, partitions: usize) -> Result<SessionContext, EngineError> {
    let mut config = session.cluster_config()?.with_target_partitions(partitions);
    // What our own rule partitions, Ballista would otherwise turn back into a broadcast on top of the exchanges.
    let broadcast_bytes = config.options().optimizer.hash_join_single_partition_threshold.max(1);
    config.options_mut().set("ballista.optimizer.broadcast_join_threshold_bytes", &broadcast_bytes.to_string())?;
    let own = session.context().copied_config();
    config.options_mut().catalog.default_catalog = own.options().catalog.default_catalog.clone();
    config.options_mut().catalog.default_schema = own.options().catalog.default_schema.clone();
    config.options_mut().execution.time_zone = own.options().execution.time_zone.clone();
    let config = config.with_extension(Arc::new(session.job_tag(1)));
    Ok(context_over(&session.engine().cluster_state, session.id(), config))
}

/// Partitions of an exchange, unless the session says otherwise: one for each vcore.
pub(super) async fn target_partitions(session: &Session) -> usize {
    match session.setting_number("sluice.target_partitions") {
        0 => (session.engine().scheduler.total_vcores() as usize).max(LEAST_PARTITIONS),
        wanted => wanted as usize,
    }
}

/// Whether a plan reads what only this process has (system tables), or has an operator or calls a
/// function that executors do not know.
fn needs_this_process(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.is::<RecursiveQueryExec>() || calls_what_executors_lack(plan) {
        return true;
    }
    if plan.is::<CassandraScanExec>() {
        return false;
    }
    let children = plan.children();
    if children.is_empty() {
        let known = plan.is::<DataSourceExec>()
            || plan.is::<EmptyExec>()
            || plan.is::<PlaceholderRowExec>()
            || plan.name() == "LazyMemoryExec";
        return !known;
    }
    children.into_iter().any(needs_this_process)
}

fn calls_what_executors_lack(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut lacking = false;
    let walked = plan.apply_expressions(&mut |expression| {
        expression.apply(|node| {
            lacking |= node
                .downcast_ref::<ScalarFunctionExpr>()
                .is_some_and(|call| !EXECUTOR_FUNCTIONS.scalar_functions.contains_key(call.fun().name()));
            Ok(if lacking { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    lacking || walked.is_err()
}

/// Starts a placed plan.
pub(super) async fn start(
    session: &Arc<Session>,
    placed: Placed,
    record: &Arc<QueryRecord>,
) -> Result<SendableRecordBatchStream, EngineError> {
    admit(session, &placed, record).await?;
    record.placed(placed.placement);
    match placed.placement {
        Placement::Server => {
            let turn = match placed.is_work {
                true => Some(Turn::take(session, record).await?),
                false => None,
            };
            let plan = stoppable(placed.plan, &record.control)?;
            record.watched().started(plan.clone());
            let rows = run_in_server(session, plan, placed.context.task_ctx(), turn)?;
            Ok(Box::pin(QueryStream::new(rows, record.clone(), None)))
        }
        Placement::OneTask | Placement::Stages => run_on_executors(session, placed, record).await,
    }
}

/// A query's turn among those that run in this process.
struct Turn {
    allocation: Arc<Allocation>,
    queue: String,
    lease: Option<Lease>,
}

impl Turn {
    /// Waits for it.
    async fn take(session: &Session, record: &QueryRecord) -> Result<Self, EngineError> {
        let allocation = session.engine().scheduler.allocation().clone();
        let queue = session.queue();
        record.set_waits_for_core(true);
        let lease = tokio::select! {
            lease = allocation.lease(&queue) => lease,
            () = record.control.stopped() => return Err(record.control.error()),
        };
        record.set_waits_for_core(false);
        Ok(Self { allocation, queue, lease })
    }

    fn pause(&mut self) {
        self.lease = None;
    }

    async fn resume(&mut self) {
        self.lease = self.allocation.lease(&self.queue).await;
    }
}

/// Drives a plan on the task threads; a panic in it ends the query and nothing else.
fn run_in_server(
    session: &Session,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    mut turn: Option<Turn>,
) -> Result<SendableRecordBatchStream, EngineError> {
    let schema = plan.schema();
    let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn_on(
        async move {
            let mut rows = execute_stream(plan, context)?;
            while let Some(batch) = rows.next().await {
                match sender.try_send(batch) {
                    Ok(()) => {}
                    Err(TrySendError::Full(batch)) => {
                        // A client that reads slowly holds nothing that others could use.
                        turn.iter_mut().for_each(Turn::pause);
                        // A closed channel is a reader that went away.
                        if sender.send(batch).await.is_err() {
                            break;
                        }
                        if let Some(turn) = &mut turn {
                            turn.resume().await;
                        }
                    }
                    Err(TrySendError::Closed(_)) => break,
                }
            }
            Ok::<(), DataFusionError>(())
        },
        &session.engine().task_runtime,
    );
    let rows = futures::stream::unfold((receiver, driver), |(mut receiver, mut driver)| async move {
        if let Some(batch) = receiver.recv().await {
            return Some((batch, (receiver, driver)));
        }
        let error = match driver.join_next().await {
            None | Some(Ok(Ok(()))) => return None,
            Some(Ok(Err(error))) => error,
            Some(Err(panic)) => DataFusionError::External(Box::new(panicked(&panic))),
        };
        Some((Err(error), (receiver, driver)))
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.boxed())))
}

fn panicked(error: &tokio::task::JoinError) -> EngineError {
    EngineError::new(SqlState::INTERNAL, "the query ended because its code panicked")
        .with_detail(error.to_string())
        .with_hint("the input may be damaged; the service goes on")
}

/// Submits a plan, waits for its last stage, and reads the result from where the executors left it.
async fn run_on_executors(
    session: &Arc<Session>,
    placed: Placed,
    record: &Arc<QueryRecord>,
) -> Result<SendableRecordBatchStream, EngineError> {
    let FinishedJob { schema, parts, reader, guard, .. } = finish_on_executors(session, placed, record).await?;
    let locations = parts.into_iter().map(|(location, _)| location).collect();
    let rows = Arc::new(reader).read(schema, locations);
    Ok(Box::pin(QueryStream::new(rows, record.clone(), Some(Box::new(move || drop(guard))))))
}

/// Runs a plan in stages to its end, and leaves its rows on the executors.
pub(super) async fn leave_on_executors(
    session: &Arc<Session>,
    placed: Placed,
    record: &Arc<QueryRecord>,
) -> Result<FinishedJob, EngineError> {
    admit(session, &placed, record).await?;
    record.placed(placed.placement);
    finish_on_executors(session, placed, record).await
}

/// Submits a plan, and waits until its last stage has ended.
async fn finish_on_executors(
    session: &Arc<Session>,
    placed: Placed,
    record: &Arc<QueryRecord>,
) -> Result<FinishedJob, EngineError> {
    let engine = session.engine().clone();
    if engine.scheduler.total_vcores() == 0 {
        return Err(EngineError::new(SqlState::INSUFFICIENT_RESOURCES, "no executor is registered")
            .with_hint("start one with: sluice executor --coordinator HOST:PORT"));
    }
    let schema = placed.plan.schema();
    let context = placed.context.task_ctx();
    let job_context = Arc::new(placed.context);
    let (mut starts, mut memory_factor) = (1, 1);
    let (locations, guard) = loop {
        record.watched().starts_over();
        let mut job = engine.scheduler.submit(&record.id, job_context.clone(), placed.plan.clone()).await?;
        record.runs_as(job.id().as_str());
        let mut guard = JobGuard { scheduler: engine.scheduler.clone(), id: Some(job.id().clone()), finished: false };
        let outcome = tokio::select! {
            outcome = job.finished() => Some(outcome),
            () = record.control.stopped() => None,
        };
        // The scheduler forgets them a while after the job's end.
        record.watched().keep(engine.scheduler.stages(job.id()).boxed().await);
        let Some(outcome) = outcome else { return Err(record.control.error()) };
        match outcome {
            Err(ClusterError::MustStartAgain) if starts < MOST_STARTS => {
                guard.finished = true;
                starts += 1;
                session.notice("the query starts again, because an executor was lost");
            }
            Err(ClusterError::JobFailed(reason)) if starts < MOST_STARTS && tells_of_lost_peer(&reason) => {
                guard.finished = true;
                starts += 1;
                session.notice("the query starts again, because an executor was lost");
            }
            Err(ClusterError::JobFailed(reason)) if memory_factor == 1 && tells_of_short_memory(&reason) => {
                guard.finished = true;
                memory_factor = MORE_MEMORY_FACTOR;
                let tag = Arc::new(session.job_tag(memory_factor));
                job_context.state_ref().write().config_mut().set_extension(tag);
                tracing::info!(query = %record.id, "runs again with more memory for each task");
            }
            outcome => {
                let locations = outcome?;
                guard.finished = true;
                break (locations, guard);
            }
        }
    };
    let mut parts = locations
        .into_iter()
        .map(|location| {
            // Less than none are not known.
            let rows = location.partition_stats.as_ref().and_then(|stats| u64::try_from(stats.num_rows).ok());
            let location: PartitionLocation = location.try_into()?;
            Ok((location, rows))
        })
        .collect::<Result<Vec<_>, ballista_core::error::BallistaError>>()
        .map_err(|error| EngineError::new(SqlState::SYSTEM_ERROR, error.to_string()))?;
    parts.sort_by_key(|(location, _)| location.partition_id.partition_id);
    let reader = ResultReader {
        work_dir: engine.work_dir.to_string_lossy().into_owned(),
        connections: engine.connections.clone(),
        context,
    };
    let job_id = guard.id.as_ref().map_or_else(String::new, |id| id.as_str().to_owned());
    Ok(FinishedJob { schema, parts, reader, guard, job_id })
}

/// A task's error reaches the coordinator as text, in one of two forms.
fn tells_of_short_memory(reason: &str) -> bool {
    ["Resources exhausted", "ResourcesExhausted"].iter().any(|words| reason.contains(words))
}

/// Whether a task failed because another executor went away while it sent its rows. Ballista takes only a
/// connection that cannot be made, and not one that breaks, for a lost executor whose work is to be repeated.
fn tells_of_lost_peer(reason: &str) -> bool {
    ["error reading a body from connection", "h2 protocol error", "stream closed because of a broken pipe"]
        .iter()
        .any(|words| reason.contains(words))
}

/// Cancels a job that has not ended, and removes the result of one that has, when nobody reads it any more.
pub(super) struct JobGuard {
    scheduler: Arc<sluice_scheduler::cluster::Scheduler>,
    id: Option<JobId>,
    finished: bool,
}

impl Drop for JobGuard {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (scheduler, finished) = (self.scheduler.clone(), self.finished);
        runtime.spawn(async move {
            if finished {
                scheduler.release(&id);
            } else if let Err(error) = scheduler.cancel(&id).await {
                tracing::warn!(%error, "a job could not be cancelled");
            }
        });
    }
}

/// A plan whose rows are all read and thrown away, for `EXPLAIN ANALYZE`.
pub(super) async fn run_and_discard(
    session: &Arc<Session>,
    placed: Placed,
    record: &Arc<QueryRecord>,
) -> Result<u64, EngineError> {
    let node = placed.plan.clone();
    if let Some(files) = node.downcast_ref::<DataSinkExec>() {
        return write_files(session, files, placed, record).await;
    }
    let mut rows = start(session, placed, record).await?;
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        count += batch?.num_rows() as u64;
    }
    Ok(count)
}
