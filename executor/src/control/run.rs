//! A task from its plan to its status.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ballista_core::error::BallistaError;
use ballista_core::serde::protobuf::{FailedTask, OperatorMetricsSet, SuccessfulTask, TaskStatus, task_status};
use ballista_core::serde::scheduler::{TaskDefinition, TaskKey};
use ballista_executor::execution_engine::{ExecutionEngine, QueryStageExecutor};
use ballista_executor::executor::Executor;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use futures::FutureExt;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// How far the threads of tasks give way to those that answer clients and peers (as `nice` counts).
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Runs tasks in an executor's budget.
pub struct TaskRunner {
    executor: Arc<Executor>,
    engine: Arc<dyn ExecutionEngine>,
    statuses: mpsc::Sender<TaskStatus>,
}

impl TaskRunner {
    /// Runs tasks with `engine` and hands on how each of them ended.
    pub fn new(executor: Arc<Executor>, engine: Arc<dyn ExecutionEngine>, statuses: mpsc::Sender<TaskStatus>) -> Self {
        Self { executor, engine, statuses }
    }

    /// Runs one task. Whatever becomes of it, the scheduler is told.
    async fn run(self: Arc<Self>, task: TaskDefinition) {
        let mut status = TaskStatus {
            task_id: task.task_id as u32,
            job_id: task.job_id.to_string(),
            stage_id: task.stage_id as u32,
            stage_attempt_num: task.stage_attempt_num as u32,
            launch_time: task.launch_time,
            start_exec_time: now_ms(),
            end_exec_time: 0,
            metrics: Vec::new(),
            status: None,
        };
        let executed = AssertUnwindSafe(self.execute(task, &mut status.metrics)).catch_unwind().await;
        let executed = executed
            .unwrap_or_else(|_| Err(BallistaError::Internal("the task's plan made the executor panic".to_owned())));
        status.end_exec_time = now_ms();
        status.status = Some(match executed {
            Ok(done) => task_status::Status::Successful(done),
            Err(error) => {
                tracing::info!(job_id = %status.job_id, stage_id = status.stage_id, task_id = status.task_id, %error,
                    "a task failed");
                task_status::Status::Failed(FailedTask::from(error))
            }
        });
        // Nobody is told any more when the executor has stopped.
        let _ = self.statuses.send(status).await;
    }

    async fn execute(
        &self,
        task: TaskDefinition,
        metrics: &mut Vec<OperatorMetricsSet>,
    ) -> Result<SuccessfulTask, BallistaError> {
        let key = TaskKey { job_id: task.job_id.clone(), stage_id: task.stage_id, task_id: task.task_id };
        let (stage, context) = self.prepare(task)?;
        let executed = self.executor.execute_query_stage(key, stage.clone(), context).await;
        let of_operators = stage.collect_plan_metrics().into_iter().map(TryInto::try_into);
        *metrics = of_operators.collect::<Result<_, BallistaError>>().unwrap_or_default();
        Ok(SuccessfulTask {
            executor_id: self.executor.metadata.id.clone(),
            partitions: executed?,
            runtime_stats: stage.collect_runtime_stats_reports(),
            task_column_stats: stage.collect_column_stats(),
            window_state: stage.collect_window_state_reports()?,
        })
    }

    fn prepare(
        &self,
        task: TaskDefinition,
    ) -> Result<(Arc<dyn QueryStageExecutor>, Arc<TaskContext>), DataFusionError> {
        let name = format!("{}/{}.{}/{}", task.job_id, task.stage_id, task.stage_attempt_num, task.task_id);
        let stage = self.engine.create_query_stage_exec(
            task.job_id,
            task.stage_id,
            task.task_id,
            task.global_output_partition_ids,
            task.plan,
            &self.executor.work_dir,
            &task.session_config,
        )?;
        let runtime =
            self.executor.produce_runtime_for_session(&task.session_id, &task.session_config, task.vcores_consumed)?;
        let functions = &task.function_registry;
        let context = TaskContext::new(
            Some(name),
            task.session_id,
            task.session_config,
            functions.scalar_functions.clone(),
            functions.higher_order_functions.clone(),
            functions.aggregate_functions.clone(),
            functions.window_functions.clone(),
            runtime,
        );
        Ok((stage, Arc::new(context)))
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Runs tasks as they come, until no more can.
///
/// # Errors
///
/// When the threads for them cannot be started.
pub fn run_all(
    runner: TaskRunner,
    mut tasks: mpsc::Receiver<TaskDefinition>,
) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let threads = Threads::new(runner.executor.vcores)?;
    let runner = Arc::new(runner);
    Ok(async move {
        while let Some(task) = tasks.recv().await {
            threads.spawn(runner.clone().run(task));
        }
    })
}

/// Threads that run nothing but tasks, so that heartbeats and fetches are answered under any load.
struct Threads(Option<Runtime>);

impl Threads {
    fn new(count: usize) -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(count.max(1)).thread_name("sluice-executor").enable_all();
        #[cfg(target_os = "linux")]
        builder.on_thread_start(|| {
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "a task's thread keeps its priority");
            }
        });
        builder.build().map(|runtime| Self(Some(runtime)))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting is not allowed where it may be dropped; who stops an executor has waited for its tasks.
            runtime.shutdown_background();
        }
    }
}
