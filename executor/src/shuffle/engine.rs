//! Seals what a task writes and checks what it reads from this host.

use std::collections::BTreeSet;
use std::fmt::{self, Debug, Display};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::BallistaError;
use ballista_core::execution_plans::{ShuffleReaderExec, create_shuffle_path};
use ballista_core::serde::protobuf::{RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport};
use ballista_core::serde::scheduler::PartitionLocation;
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;

use super::seal::{check, seal};

/// Ballista's engine, with seals.
pub struct CheckedEngine {
    inner: DefaultExecutionEngine,
}

impl CheckedEngine {
    /// Checks around the stages that `inner` makes.
    pub fn new(inner: DefaultExecutionEngine) -> Self {
        Self { inner }
    }
}

impl ExecutionEngine for CheckedEngine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        global_output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let inputs = inputs_of(&plan)?;
        let inner = self.inner.create_query_stage_exec(
            job_id.clone(),
            stage_id,
            task_id,
            global_output_partition_ids,
            plan,
            work_dir,
            config,
        )?;
        Ok(Arc::new(CheckedStage { inner, inputs, job_id, stage_id, work_dir: work_dir.to_owned() }))
    }
}

/// The shuffle output that a task's plan reads; the plan was cut down to the task's partitions before.
fn inputs_of(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<PartitionLocation>> {
    let mut inputs = Vec::new();
    plan.apply(|node| {
        if let Some(reader) = node.downcast_ref::<ShuffleReaderExec>() {
            inputs.extend(reader.partition.iter().flatten().cloned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(inputs)
}

/// Checks the file of `location` if it is on this host; otherwise the service that sends it does.
///
/// Errors: `FetchFailed`, upon which the scheduler runs the task that wrote the file again.
pub async fn check_if_local(location: &PartitionLocation, work_dir: &str) -> Result<()> {
    let path = location.path(work_dir)?;
    let partition = location.partition_id.partition_id;
    let checked = tokio::task::spawn_blocking(move || match path.exists() {
        true => check(&path, Some(partition)),
        false => Ok(()),
    });
    let checked = checked.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
    checked.map_err(|error| {
        tracing::error!(%error, "it is not read");
        DataFusionError::External(Box::new(BallistaError::FetchFailed(
            location.executor_meta.id.clone(),
            location.partition_id.stage_id,
            partition,
            error.to_string(),
        )))
    })
}

/// One task's part of a stage.
struct CheckedStage {
    inner: Arc<dyn QueryStageExecutor>,
    inputs: Vec<PartitionLocation>,
    job_id: JobId,
    stage_id: usize,
    work_dir: String,
}

impl CheckedStage {
    /// Files of this host are opened by the reader without a service between, so that they are checked here.
    async fn check_inputs(&self) -> Result<()> {
        for location in &self.inputs {
            check_if_local(location, &self.work_dir).await?;
        }
        Ok(())
    }

    async fn seal_outputs(&self, written: &[ShuffleWritePartition]) -> Result<()> {
        let paths = written
            .iter()
            .map(|part| {
                create_shuffle_path(
                    &self.work_dir,
                    &self.job_id,
                    self.stage_id,
                    part.partition_id as usize,
                    part.file_id,
                    part.is_sort_shuffle,
                )
            })
            .collect::<Result<BTreeSet<PathBuf>>>()?;
        let sealed = tokio::task::spawn_blocking(move || {
            // A partition without rows may have no file.
            paths.iter().filter(|path| path.exists()).try_for_each(|path| seal(path))
        });
        sealed.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
        Ok(())
    }
}

#[async_trait]
impl QueryStageExecutor for CheckedStage {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        self.check_inputs().await?;
        let written = self.inner.execute_query_stage(task_id, context).await?;
        self.seal_outputs(&written).await?;
        Ok(written)
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.inner.collect_plan_metrics()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}

impl Debug for CheckedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.inner, f)
    }
}

impl Display for CheckedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}
