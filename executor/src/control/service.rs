//! Tasks come in, are cancelled, and what they wrote is removed.

use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use ballista_core::error::BallistaError;
use ballista_core::serde::BallistaCodec;
use ballista_core::serde::protobuf::executor_grpc_server::ExecutorGrpc;
use ballista_core::serde::protobuf::{
    CancelTasksParams, CancelTasksResult, LaunchMultiTaskParams, LaunchMultiTaskResult, LaunchTaskParams,
    LaunchTaskResult, RemoveJobDataParams, RemoveJobDataResult, StopExecutorParams, StopExecutorResult,
};
use ballista_core::serde::scheduler::TaskDefinition;
use ballista_core::serde::scheduler::from_proto::{get_task_definition, get_task_definition_vec};
use ballista_executor::executor::Executor;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

/// How plans are written in messages.
pub type Codec = BallistaCodec<LogicalPlanNode, PhysicalPlanNode>;

/// An executor as its coordinator sees it.
pub struct ControlService {
    executor: Arc<Executor>,
    codec: Codec,
    tasks: mpsc::Sender<TaskDefinition>,
    stop: mpsc::Sender<bool>,
}

impl ControlService {
    /// Hands tasks on to `tasks`, and a request to stop to `stop`.
    pub fn new(
        executor: Arc<Executor>,
        codec: Codec,
        tasks: mpsc::Sender<TaskDefinition>,
        stop: mpsc::Sender<bool>,
    ) -> Self {
        Self { executor, codec, tasks, stop }
    }

    async fn accept(&self, tasks: Vec<TaskDefinition>) -> Result<(), Status> {
        for task in tasks {
            self.tasks.send(task).await.map_err(|_| Status::unavailable("the executor is stopping"))?;
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl ExecutorGrpc for ControlService {
    async fn launch_task(&self, request: Request<LaunchTaskParams>) -> Result<Response<LaunchTaskResult>, Status> {
        let functions = &self.executor.function_registry;
        let decoded = request.into_inner().tasks.into_iter().map(|task| {
            get_task_definition(
                task,
                self.executor.runtime_producer.clone(),
                self.executor.produce_config(),
                functions.scalar_functions.clone(),
                functions.aggregate_functions.clone(),
                functions.window_functions.clone(),
                functions.higher_order_functions.clone(),
                self.codec.clone(),
            )
        });
        let decoded = decoded.collect::<Result<Vec<_>, BallistaError>>();
        self.accept(decoded.map_err(|error| Status::invalid_argument(error.to_string()))?).await?;
        Ok(Response::new(LaunchTaskResult { success: true }))
    }

    async fn launch_multi_task(
        &self,
        request: Request<LaunchMultiTaskParams>,
    ) -> Result<Response<LaunchMultiTaskResult>, Status> {
        let functions = &self.executor.function_registry;
        let mut failed_jobs = Vec::new();
        for tasks in request.into_inner().multi_tasks {
            let job_id = tasks.job_id.clone();
            let decoded = get_task_definition_vec(
                tasks,
                self.executor.runtime_producer.clone(),
                self.executor.produce_config(),
                functions.scalar_functions.clone(),
                functions.aggregate_functions.clone(),
                functions.window_functions.clone(),
                functions.higher_order_functions.clone(),
                self.codec.clone(),
            );
            match decoded {
                Ok(tasks) => self.accept(tasks).await?,
                Err(error) => {
                    tracing::error!(%job_id, %error, "tasks that cannot be read");
                    if !failed_jobs.contains(&job_id) {
                        failed_jobs.push(job_id);
                    }
                }
            }
        }
        Ok(Response::new(LaunchMultiTaskResult { failed_jobs }))
    }

    async fn stop_executor(
        &self,
        request: Request<StopExecutorParams>,
    ) -> Result<Response<StopExecutorResult>, Status> {
        let request = request.into_inner();
        if request.executor_id == self.executor.metadata.id {
            tracing::info!(reason = %request.reason, "the coordinator asks the executor to stop");
            // One request that waits is as good as two.
            let _ = self.stop.try_send(request.force);
        } else {
            tracing::warn!(executor = %request.executor_id, "a request to stop is meant for another executor");
        }
        Ok(Response::new(StopExecutorResult {}))
    }

    async fn cancel_tasks(&self, request: Request<CancelTasksParams>) -> Result<Response<CancelTasksResult>, Status> {
        let mut cancelled = true;
        for task in request.into_inner().task_infos {
            let (stage_id, task_id) = (task.stage_id as usize, task.task_id as usize);
            if let Err(error) = self.executor.cancel_task(task.job_id.into(), stage_id, task_id).await {
                tracing::error!(stage_id, task_id, %error, "a task could not be cancelled");
                cancelled = false;
            }
        }
        Ok(Response::new(CancelTasksResult { cancelled }))
    }

    async fn remove_job_data(
        &self,
        request: Request<RemoveJobDataParams>,
    ) -> Result<Response<RemoveJobDataResult>, Status> {
        let RemoveJobDataParams { job_id, remove_stage_ids } = request.into_inner();
        remove_job_data(Path::new(&self.executor.work_dir), &job_id, &remove_stage_ids).await?;
        Ok(Response::new(RemoveJobDataResult {}))
    }
}

/// Removes what the given stages of a job wrote; without stages, what all of them did.
async fn remove_job_data(work_dir: &Path, job_id: &str, stage_ids: &[u32]) -> Result<(), Status> {
    let mut parts = Path::new(job_id).components();
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else {
        return Err(Status::invalid_argument(format!("\"{job_id}\" is no name of a job")));
    };
    let job_dir = work_dir.join(name);
    let folders = match stage_ids {
        [] => vec![job_dir],
        stage_ids => stage_ids.iter().map(|stage_id| job_dir.join(stage_id.to_string())).collect(),
    };
    for folder in folders {
        match tokio::fs::remove_dir_all(&folder).await {
            Ok(()) => {}
            // Executors of one process share the folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Status::internal(format!("cannot remove {}: {error}", folder.display()))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_is_removed_by_its_name_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a directory");
        let work_dir = folder.path().join("work");
        for stage in ["job/1", "job/2", "other/1"] {
            std::fs::create_dir_all(work_dir.join(stage)).expect("is made");
        }
        remove_job_data(&work_dir, "job", &[2, 3]).await.expect("stage 3 is gone already");
        assert!(work_dir.join("job/1").exists() && !work_dir.join("job/2").exists());
        remove_job_data(&work_dir, "job", &[]).await.expect("is removed");
        assert!(!work_dir.join("job").exists());
        for name in ["", ".", "..", "../work", "other/1", "/"] {
            let refused = remove_job_data(&work_dir, name, &[]).await.expect_err("is no job");
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{name}");
        }
        assert!(work_dir.join("other/1").exists());
    }
}
