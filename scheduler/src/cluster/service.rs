//! Starting the scheduler, submitting and cancelling jobs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ballista_core::ConfigProducer;
use ballista_core::JobId;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::error::BallistaError;
use ballista_core::extension::EndpointOverrideFn;
use ballista_core::serde::protobuf::failed_task::FailedReason;
use ballista_core::serde::protobuf::scheduler_grpc_server::{SchedulerGrpc, SchedulerGrpcServer};
use ballista_core::serde::protobuf::{
    FailedTask, JobStatus, PartitionLocation, TaskKilled, TaskStatus, UpdateTaskStatusParams, executor_status,
    job_status, task_status,
};
use ballista_core::serde::scheduler::ExecutorMetadata;
use ballista_scheduler::cluster::memory::InMemoryJobState;
use ballista_scheduler::cluster::{BallistaCluster, ClusterState, JobState};
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::create_scheduler;
use ballista_scheduler::scheduler_server::{SchedulerServer, SessionBuilder};
use ballista_scheduler::state::execution_graph::RunningTaskInfo;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use serde::Serialize;
use tokio::sync::mpsc;

use super::allocation::{Allocation, TaskRef};
use super::demand::CPU_MILLIS;
use super::places::PreferredHosts;
use super::queues::QueueSummary;
use super::recovery::last_of_each_partition;
use super::round::offer_to_frameworks;
use super::stages::{StageSummary, summarize};
use super::state::OfferClusterState;
use crate::core::{ExecutorView, Kind, Options, Resources};

/// Seconds without a heartbeat after which an executor is taken for lost and its work runs again.
pub const EXECUTOR_TIMEOUT_SECONDS: u64 = 20;
/// Seconds between two looks at the heartbeats.
const EXPIRE_INTERVAL_SECONDS: u64 = 2;
/// Seconds for which a finished job's stages can still be looked at.
const FINISHED_JOB_STATE_SECONDS: u64 = 600;
/// Status messages of one job that may wait for the reader; a later status replaces what was missed.
const STATUS_BUFFER: usize = 64;
/// Milliseconds between two looks at what time alone makes necessary.
const LOOK_INTERVAL_MS: u64 = 50;
/// Milliseconds after which what was left over is tried again, whether or not anything was told.
const LONGEST_BETWEEN_ROUNDS_MS: u64 = 1_000;
/// Bytes of one gRPC message between coordinator and executors; plans with many files are large.
pub const GRPC_MESSAGE_BYTES: u32 = 64 * 1024 * 1024;

/// What went wrong between the coordinator and its executors.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The plan could not be cut into stages or handed to the scheduler.
    #[error("{0}")]
    Plan(#[from] DataFusionError),
    /// Ballista's scheduler refused or broke.
    #[error("{0}")]
    Scheduler(String),
    /// The job ran and failed, on every attempt that it was given.
    #[error("{0}")]
    JobFailed(String),
    /// Too much was lost in mid-job for the rest to be of use; the same plan may be submitted again.
    #[error("the job has to start again, because an executor was lost")]
    MustStartAgain,
    /// The job was cancelled.
    #[error("the job was cancelled")]
    Cancelled,
    /// The job's status channel closed: the scheduler is shutting down.
    #[error("the scheduler stopped before the job ended")]
    Stopped,
}

impl From<BallistaError> for ClusterError {
    fn from(error: BallistaError) -> Self {
        match error {
            BallistaError::Cancelled => Self::Cancelled,
            BallistaError::DataFusionError(error) => Self::Plan(*error),
            other => Self::Scheduler(other.to_string()),
        }
    }
}

/// How to start the scheduler.
pub struct SchedulerOptions {
    /// The address at which executors find [`Scheduler::executors_service`].
    pub address: SocketAddr,
    /// Changes how executors are connected to; without it, in clear.
    pub connect_executors: Option<EndpointOverrideFn>,
    /// The host name or address by which executors reach the scheduler.
    pub external_host: String,
    /// Encodes the plan nodes of our own for executors.
    pub codec: Arc<dyn PhysicalExtensionCodec>,
    /// Makes the configuration that sessions on the scheduler start from.
    pub config_producer: ConfigProducer,
    /// Makes the state of sessions on the scheduler.
    pub session_builder: SessionBuilder,
    /// Where the partitions of a stage would like to run.
    pub preferred_hosts: PreferredHosts,
    /// How executors are shared between queues.
    pub sharing: Options,
}

/// Ballista's scheduler, running in this process.
pub struct Scheduler {
    server: SchedulerServer<LogicalPlanNode, PhysicalPlanNode>,
    cluster_state: Arc<OfferClusterState>,
    allocation: Arc<Allocation>,
    job_state: Arc<dyn JobState>,
    address: SocketAddr,
}

/// An executor as the scheduler sees it.
#[derive(Debug, Clone, Serialize)]
pub struct ExecutorSummary {
    /// The executor's id, new at each of its starts.
    pub executor_id: String,
    /// The host name or address that it registered with.
    pub host: String,
    /// Port of its data plane.
    pub port: u16,
    /// Its rack, if known.
    pub rack: String,
    /// Its data centre, if known.
    pub data_centre: String,
    /// Vcores it offers.
    pub total_vcores: u32,
    /// Vcores that no task holds.
    pub free_vcores: u32,
    /// Bytes that its tasks may hold together.
    pub total_memory_bytes: u64,
    /// Bytes that were granted to tasks.
    pub used_memory_bytes: u64,
    /// Partitions that run.
    pub task_count: u32,
    /// What is kept for queues, such as `root.bi: cpu=2000 memory=1073741824`.
    pub reserved: String,
    /// `active` or `terminating`.
    pub state: &'static str,
    /// Seconds since the Unix epoch of its last heartbeat.
    pub last_heartbeat_s: u64,
}

/// A job that was handed to the scheduler.
pub struct Job {
    id: JobId,
    status: mpsc::Receiver<JobStatus>,
    cluster_state: Arc<OfferClusterState>,
}

impl Job {
    /// The scheduler's name for the job.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// Waits for the job's end and returns where the partitions of its result lie.
    pub async fn finished(&mut self) -> Result<Vec<PartitionLocation>, ClusterError> {
        while let Some(status) = self.status.recv().await {
            match status.status {
                Some(job_status::Status::Successful(done)) => {
                    if self.cluster_state.take_spoiled(&self.id) {
                        return Err(ClusterError::MustStartAgain);
                    }
                    return Ok(last_of_each_partition(done.partition_location));
                }
                Some(job_status::Status::Failed(failed)) if failed.error == "Cancelled" => {
                    return Err(ClusterError::Cancelled);
                }
                Some(job_status::Status::Failed(failed)) => return Err(ClusterError::JobFailed(failed.error)),
                Some(job_status::Status::Queued(_) | job_status::Status::Running(_)) | None => {}
            }
        }
        Err(ClusterError::Stopped)
    }
}

impl Scheduler {
    /// Starts scheduling. Executors join as soon as [`Self::executors_service`] is served.
    pub async fn start(options: SchedulerOptions) -> Result<Arc<Self>, ClusterError> {
        let address = options.address;
        let allocation = Arc::new(Allocation::new(options.sharing));
        let cluster_state = Arc::new(OfferClusterState::new(allocation.clone(), options.preferred_hosts));
        let job_state: Arc<dyn JobState> = Arc::new(InMemoryJobState::new(
            options.external_host.clone(),
            options.session_builder.clone(),
            options.config_producer.clone(),
        ));
        let cluster = BallistaCluster::new(cluster_state.clone(), job_state.clone());
        let config = SchedulerConfig {
            external_host: options.external_host,
            bind_host: address.ip().to_string(),
            bind_port: address.port(),
            scheduling_policy: TaskSchedulingPolicy::PushStaged,
            executor_timeout_seconds: EXECUTOR_TIMEOUT_SECONDS,
            expire_dead_executor_interval_seconds: EXPIRE_INTERVAL_SECONDS,
            no_executors_grace_period_seconds: 3 * EXECUTOR_TIMEOUT_SECONDS,
            // Results are removed when their reader is done with them, however slow it is.
            finished_job_data_clean_up_interval_seconds: 0,
            finished_job_state_clean_up_interval_seconds: FINISHED_JOB_STATE_SECONDS,
            grpc_server_max_decoding_message_size: GRPC_MESSAGE_BYTES,
            grpc_server_max_encoding_message_size: GRPC_MESSAGE_BYTES,
            grpc_client_max_message_size: GRPC_MESSAGE_BYTES,
            override_physical_codec: Some(options.codec),
            override_config_producer: Some(options.config_producer),
            override_session_builder: Some(options.session_builder),
            override_create_grpc_client_endpoint: options.connect_executors,
            ..SchedulerConfig::default()
        };
        let server = create_scheduler(cluster, Arc::new(config)).await?;
        let scheduler = Arc::new(Self { server, cluster_state, allocation, job_state, address });
        tokio::spawn(keep_going(Arc::downgrade(&scheduler)));
        Ok(scheduler)
    }

    /// The service at which executors join and tell how they are, to be mounted on a listener.
    pub fn executors_service(&self) -> SchedulerGrpcServer<SchedulerServer<LogicalPlanNode, PhysicalPlanNode>> {
        SchedulerGrpcServer::new(self.server.clone())
            .max_decoding_message_size(GRPC_MESSAGE_BYTES as usize)
            .max_encoding_message_size(GRPC_MESSAGE_BYTES as usize)
    }

    /// The address that executors register at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts `plan` into stages and runs them. The job goes on until it ends or is cancelled by [`Self::cancel`].
    pub async fn submit(
        &self,
        name: &str,
        context: Arc<SessionContext>,
        plan: Arc<dyn ExecutionPlan>,
    ) -> Result<Job, ClusterError> {
        let (sender, status) = mpsc::channel(STATUS_BUFFER);
        let id = self.server.submit_physical_plan(name, context, plan, Some(sender)).await?;
        Ok(Job { id, status, cluster_state: self.cluster_state.clone() })
    }

    /// Stops the job's tasks and drops its shuffle files.
    pub async fn cancel(&self, job_id: &JobId) -> Result<(), ClusterError> {
        self.cluster_state.take_spoiled(job_id);
        Ok(self.server.cancel_job(job_id.clone()).await?)
    }

    /// Removes what a finished job left on the executors' disks.
    pub fn release(&self, job_id: &JobId) {
        self.server.state.executor_manager.clean_up_job_data(job_id.clone());
    }

    /// The stages of a running or recently finished job.
    pub async fn stages(&self, job_id: &JobId) -> Vec<StageSummary> {
        let grants = self.allocation.grants(job_id);
        let running = self.server.state.task_manager.get_running_job_cache();
        if let Some(job) = running.get(job_id) {
            return summarize(&*job.execution_graph.read().await, &grants);
        }
        match self.job_state.get_execution_graph(job_id).await {
            Ok(Some(graph)) => summarize(&graph, &grants),
            Ok(None) | Err(_) => Vec::new(),
        }
    }

    /// Every executor that has registered and not been lost.
    pub async fn executors(&self) -> Vec<ExecutorSummary> {
        self.allocation.reconcile(&self.server.state.task_manager.get_running_job_cache()).await;
        let (views, kinds) = self.allocation.executors();
        let views: HashMap<String, ExecutorView> =
            views.into_iter().map(|view| (view.spec.name.clone(), view)).collect();
        let mut executors: Vec<ExecutorSummary> = self
            .cluster_state
            .registered_executor_metadata()
            .await
            .into_iter()
            .map(|metadata| {
                let heartbeat = self.cluster_state.get_executor_heartbeat(&metadata.id);
                let terminating = heartbeat
                    .as_ref()
                    .and_then(|h| h.status.as_ref())
                    .and_then(|s| s.status.as_ref())
                    .is_some_and(|s| matches!(s, executor_status::Status::Terminating(_)));
                let view = views.get(&metadata.id);
                let total = view.map(|view| view.spec.total).unwrap_or_default();
                let used = view.map(|view| view.used).unwrap_or_default();
                let spec = view.map(|view| view.spec.clone()).unwrap_or_default();
                ExecutorSummary {
                    executor_id: metadata.id,
                    host: metadata.host,
                    port: metadata.port,
                    rack: spec.rack,
                    data_centre: spec.data_centre,
                    total_vcores: (total.cpu_millis() / CPU_MILLIS) as u32,
                    free_vcores: (total.minus(&used).cpu_millis() / CPU_MILLIS) as u32,
                    total_memory_bytes: total.memory_bytes(),
                    used_memory_bytes: used.memory_bytes(),
                    task_count: view.map_or(0, |view| view.task_count),
                    reserved: view.map_or_else(String::new, |view| reserved_text(&view.reserved, &kinds)),
                    state: if terminating { "terminating" } else { "active" },
                    last_heartbeat_s: heartbeat.map_or(0, |h| h.timestamp),
                }
            })
            .collect();
        executors.sort_by(|a, b| a.executor_id.cmp(&b.executor_id));
        executors
    }

    /// What every executor said of itself when it registered.
    pub async fn registrations(&self) -> Vec<ExecutorMetadata> {
        self.cluster_state.registered_executor_metadata().await
    }

    /// Vcores of all executors together.
    pub fn total_vcores(&self) -> u32 {
        self.allocation.lock().supply.total_vcores
    }

    /// The queues and what they have.
    pub fn allocation(&self) -> &Arc<Allocation> {
        &self.allocation
    }

    /// The queues as they are now.
    pub async fn queues(&self) -> Vec<QueueSummary> {
        self.allocation.reconcile(&self.server.state.task_manager.get_running_job_cache()).await;
        self.allocation.queues()
    }

    /// Does what time alone makes necessary: waits for places that are over, tasks to revoke, tasks that
    /// ended with nobody telling.
    async fn look_after(&self) {
        let jobs = self.server.state.task_manager.get_running_job_cache();
        let has_ended = self.allocation.reconcile(&jobs).await;
        let (needs_round, revoked, executor) = {
            let now = self.allocation.now();
            let mut inner = self.allocation.lock();
            inner.allocator.advance(now);
            inner.look_after_frameworks(now);
            let revoked = inner.revoke(now);
            inner.forget_grants(&jobs, now);
            let is_due = inner.stages.values().any(|stage| stage.clock.next_change().is_some_and(|at| at <= now));
            let is_long_ago = now.saturating_sub(inner.last_round) >= LONGEST_BETWEEN_ROUNDS_MS;
            let has_changed = std::mem::take(&mut inner.has_changed);
            let is_wanted = inner.left_over || inner.frameworks_want() || has_changed;
            let needs_round = is_wanted && (has_ended || has_changed || is_due || is_long_ago);
            (needs_round, revoked, inner.executors.keys().next().cloned())
        };
        for (executor_id, task) in revoked {
            self.revoke(executor_id, task).await;
        }
        if needs_round && jobs.is_empty() {
            offer_to_frameworks(&self.allocation);
        } else if let Some(executor_id) = executor.filter(|_| needs_round) {
            self.tell_status(executor_id, Vec::new()).await;
        }
    }

    /// Has a task run again later, and stops it.
    async fn revoke(&self, executor_id: String, task: TaskRef) {
        tracing::info!(job_id = %task.job_id, stage_id = task.stage_id, task_id = task.task_id, "revoked for a guarantee");
        let status = TaskStatus {
            task_id: task.task_id as u32,
            job_id: task.job_id.to_string(),
            stage_id: task.stage_id as u32,
            stage_attempt_num: task.attempt as u32,
            launch_time: 0,
            start_exec_time: 0,
            end_exec_time: 0,
            metrics: Vec::new(),
            status: Some(task_status::Status::Failed(FailedTask {
                error: "revoked for a queue below its guarantee".to_owned(),
                retryable: true,
                count_to_failures: false,
                failed_reason: Some(FailedReason::TaskKilled(TaskKilled {})),
            })),
        };
        // Told first, so that what the executor then says of the task's end comes too late to count.
        self.tell_status(executor_id.clone(), vec![status]).await;
        let task = RunningTaskInfo { task_id: task.task_id, job_id: task.job_id, stage_id: task.stage_id, executor_id };
        if let Err(error) = self.server.state.executor_manager.cancel_running_tasks(vec![task]).await {
            tracing::warn!(%error, "a revoked task could not be stopped");
        }
    }

    /// What an executor would tell; an empty list has the scheduler look for work to place.
    async fn tell_status(&self, executor_id: String, task_status: Vec<TaskStatus>) {
        let params = UpdateTaskStatusParams { executor_id, task_status };
        if let Err(error) = SchedulerGrpc::update_task_status(&self.server, tonic::Request::new(params)).await {
            tracing::debug!(%error, "the scheduler took no status");
        }
    }
}

async fn keep_going(scheduler: Weak<Scheduler>) {
    let mut interval = tokio::time::interval(Duration::from_millis(LOOK_INTERVAL_MS));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // The allocation outlives no scheduler, so that it is not held while waiting.
        let Some(allocation) = scheduler.upgrade().map(|scheduler| scheduler.allocation.clone()) else { return };
        tokio::select! {
            _ = interval.tick() => {}
            () = allocation.woken() => {}
        }
        let Some(scheduler) = scheduler.upgrade() else { return };
        scheduler.look_after().await;
    }
}

fn reserved_text(reserved: &[(String, Resources)], kinds: &[(Kind, String)]) -> String {
    let one = |(queue, amount): &(String, Resources)| {
        let amounts = kinds.iter().filter(|(kind, _)| amount.get(*kind) > 0);
        let amounts: Vec<String> = amounts.map(|(kind, name)| format!("{name}={}", amount.get(*kind))).collect();
        format!("{queue}: {}", amounts.join(" "))
    };
    reserved.iter().map(one).collect::<Vec<_>>().join(", ")
}
