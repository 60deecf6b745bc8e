//! The executor registry, and the binding of tasks, as Ballista's `ClusterState`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::config::BallistaConfig;
use ballista_core::error::Result;
use ballista_core::execution_plans::{RangeShuffleReaderExec, ShuffleReaderExec};
use ballista_core::serde::protobuf::{ExecutorHeartbeat, job_status};
use ballista_core::serde::scheduler::{ExecutorData, ExecutorMetadata, TaskKey};
use ballista_scheduler::cluster::memory::InMemoryClusterState;
use ballista_scheduler::cluster::{BoundTask, ClusterState, ClusterStateEventStream, ExecutorSlot};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::execution_graph::{TaskDescription, create_task_info};
use ballista_scheduler::state::execution_stage::RunningStage;
use ballista_scheduler::state::task_manager::JobInfoCache;
use datafusion::physical_plan::ExecutionPlan;
use tokio::sync::Mutex;

use super::binder::{Binding, FreeExecutor, bind_partitions, bind_whole};
use super::recovery::{Inputs, ValidOutputs, plan_again};

/// Where each input partition of a stage's plan would like to run; `None` when it does not matter.
pub type PreferredHosts = Arc<dyn Fn(&Arc<dyn ExecutionPlan>) -> Option<Vec<Vec<String>>> + Send + Sync>;

#[derive(Debug, Clone)]
struct Slots {
    host: String,
    total_vcores: u32,
    free_vcores: u32,
}

/// Registry and heartbeats by Ballista's in-memory state; the binding of tasks is our own.
pub struct LocalityClusterState {
    registry: InMemoryClusterState,
    slots: Mutex<HashMap<String, Slots>>,
    preferred_hosts: PreferredHosts,
    /// Jobs whose result must not be believed.
    spoiled: Mutex<HashSet<JobId>>,
}

impl LocalityClusterState {
    /// An empty cluster. `preferred_hosts` tells where a stage's partitions would like to run.
    pub fn new(preferred_hosts: PreferredHosts) -> Self {
        Self {
            registry: InMemoryClusterState::default(),
            slots: Mutex::default(),
            preferred_hosts,
            spoiled: Mutex::default(),
        }
    }

    /// Whether the job's result must not be believed; asked once, when the job has ended.
    pub(super) async fn take_spoiled(&self, job_id: &JobId) -> bool {
        self.spoiled.lock().await.remove(job_id)
    }

    /// Free and total vcores by executor id.
    pub async fn vcores(&self) -> HashMap<String, (u32, u32)> {
        let slots = self.slots.lock().await;
        slots.iter().map(|(id, s)| (id.clone(), (s.free_vcores, s.total_vcores))).collect()
    }
}

#[async_trait]
impl ClusterState for LocalityClusterState {
    async fn bind_schedulable_tasks(
        &self,
        _distribution: TaskDistributionPolicy,
        active_jobs: Arc<HashMap<JobId, JobInfoCache>>,
        executors: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let mut slots = self.slots.lock().await;
        refund_what_was_lost(&mut slots, &active_jobs).await;
        let mut free: Vec<FreeExecutor> = slots
            .iter()
            .filter(|(id, s)| s.free_vcores > 0 && executors.as_ref().is_none_or(|only| only.contains(*id)))
            .map(|(id, s)| FreeExecutor { id: id.clone(), host: s.host.clone(), free_vcores: s.free_vcores })
            .collect();
        // A fixed order makes equal choices repeatable.
        free.sort_by(|a, b| a.id.cmp(&b.id));
        // Job ids grow with time, so that their order is first come, first served.
        let mut jobs: Vec<_> = active_jobs.iter().collect();
        jobs.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));

        let mut bound = Vec::new();
        for (job_id, job) in jobs {
            if free.iter().all(|executor| executor.free_vcores == 0) {
                break;
            }
            if !matches!(job.status, Some(job_status::Status::Running(_))) {
                continue;
            }
            let mut graph = job.execution_graph.write().await;
            let session_id = graph.session_id().to_owned();
            let valid = ValidOutputs::of(&graph);
            let mut visited = Vec::new();
            while let Some(stage) = graph.fetch_running_stage(&visited) {
                let stage_id = stage.stage_id;
                if let Some(valid) = valid.as_ref().filter(|_| stage.task_infos.is_empty()) {
                    match valid.repair(stage) {
                        Inputs::Sound => {}
                        Inputs::Repaired => {
                            tracing::warn!(%job_id, stage_id, "dropped what a repeated stage had written before");
                            // It comes again, planned over what is left.
                            plan_again(&mut graph, stage_id)?;
                            continue;
                        }
                        Inputs::Lost => {
                            tracing::warn!(%job_id, stage_id, "the job has to start again");
                            self.spoiled.lock().await.insert(job_id.clone());
                        }
                    }
                }
                visited.push(stage_id);
                bind_stage(stage, &self.preferred_hosts, &mut free, job_id, &session_id, &mut bound);
            }
        }
        for executor in free {
            if let Some(slot) = slots.get_mut(&executor.id) {
                slot.free_vcores = executor.free_vcores;
            }
        }
        Ok(bound)
    }

    async fn unbind_tasks(&self, executor_slots: Vec<ExecutorSlot>) -> Result<()> {
        let mut slots = self.slots.lock().await;
        for (executor_id, vcores) in executor_slots {
            if let Some(slot) = slots.get_mut(&executor_id) {
                slot.free_vcores = (slot.free_vcores + vcores).min(slot.total_vcores);
            }
        }
        Ok(())
    }

    async fn register_executor(&self, metadata: ExecutorMetadata, spec: ExecutorData) -> Result<()> {
        let slot =
            Slots { host: metadata.host.clone(), total_vcores: spec.total_vcores, free_vcores: spec.available_vcores };
        let id = metadata.id.clone();
        self.registry.register_executor(metadata, spec).await?;
        self.slots.lock().await.insert(id, slot);
        Ok(())
    }

    async fn save_executor_metadata(&self, metadata: ExecutorMetadata) -> Result<()> {
        self.registry.save_executor_metadata(metadata).await
    }

    async fn get_executor_metadata(&self, executor_id: &str) -> Result<ExecutorMetadata> {
        self.registry.get_executor_metadata(executor_id).await
    }

    async fn registered_executor_metadata(&self) -> Vec<ExecutorMetadata> {
        self.registry.registered_executor_metadata().await
    }

    async fn save_executor_heartbeat(&self, heartbeat: ExecutorHeartbeat) -> Result<()> {
        self.registry.save_executor_heartbeat(heartbeat).await
    }

    async fn remove_executor(&self, executor_id: &str) -> Result<()> {
        self.slots.lock().await.remove(executor_id);
        self.registry.remove_executor(executor_id).await
    }

    fn executor_heartbeats(&self) -> HashMap<String, ExecutorHeartbeat> {
        self.registry.executor_heartbeats()
    }

    fn get_executor_heartbeat(&self, executor_id: &str) -> Option<ExecutorHeartbeat> {
        self.registry.get_executor_heartbeat(executor_id)
    }

    async fn cluster_state_events(&self) -> Result<ClusterStateEventStream> {
        self.registry.cluster_state_events().await
    }
}

/// An executor that runs no task of any active job has all its vcores free.
///
/// Ballista refunds a task count instead of vcores when an executor rejects a launch; without this
/// such an executor would stay partly unused for ever.
async fn refund_what_was_lost(slots: &mut HashMap<String, Slots>, jobs: &HashMap<JobId, JobInfoCache>) {
    if slots.values().all(|slot| slot.free_vcores == slot.total_vcores) {
        return;
    }
    let mut busy = HashSet::new();
    for job in jobs.values() {
        busy.extend(job.execution_graph.read().await.running_tasks().into_iter().map(|task| task.executor_id));
    }
    for (id, slot) in slots.iter_mut() {
        if !busy.contains(id) {
            slot.free_vcores = slot.total_vcores;
        }
    }
}

fn bind_stage(
    stage: &mut RunningStage,
    preferred_hosts: &PreferredHosts,
    free: &mut [FreeExecutor],
    job_id: &JobId,
    session_id: &str,
    bound: &mut Vec<BoundTask>,
) {
    let pending = stage.pending.next_slice(usize::MAX);
    if pending.is_empty() {
        return;
    }
    let preferred = preferred_hosts(&stage.plan);
    let collapses = collapses_input(&stage.plan);
    let round = if collapses {
        bind_whole(&pending, preferred.as_deref(), free)
    } else {
        bind_partitions(&pending, preferred.as_deref(), free)
    };
    stage.pending.reschedule(round.left_over);
    let slice_limit = max_partitions_per_task(stage);
    for Binding { executor_index, partitions } in round.bindings {
        let executor_id = &free[executor_index].id;
        if collapses {
            bound.push(bind_task(stage, executor_id, partitions, 1, job_id, session_id));
            continue;
        }
        for slice in partitions.chunks(slice_limit) {
            let vcores = slice.len() as u32;
            bound.push(bind_task(stage, executor_id, slice.to_vec(), vcores, job_id, session_id));
        }
    }
}

fn max_partitions_per_task(stage: &RunningStage) -> usize {
    stage
        .session_config
        .options()
        .extensions
        .get::<BallistaConfig>()
        .map(|config| config.max_partitions_per_task())
        .filter(|limit| *limit > 0)
        .unwrap_or(usize::MAX)
}

fn bind_task(
    stage: &mut RunningStage,
    executor_id: &str,
    partitions: Vec<usize>,
    vcores: u32,
    job_id: &JobId,
    session_id: &str,
) -> BoundTask {
    // Ballista identifies a task by its place in the stage's append-only list.
    let task_id = stage.task_infos.len();
    let task_attempt = partitions.iter().filter_map(|p| stage.task_failure_numbers.get(*p)).max().copied().unwrap_or(0);
    let mut info = create_task_info(executor_id.to_owned(), task_id);
    info.global_input_partition_ids = partitions.clone();
    info.vcores_consumed = vcores;
    stage.task_infos.push(info);
    let task = TaskDescription {
        session_id: session_id.to_owned(),
        key: TaskKey { job_id: job_id.clone(), stage_id: stage.stage_id, task_id },
        stage_attempt_num: stage.stage_attempt_num,
        task_attempt,
        global_input_partition_ids: partitions,
        vcores_consumed: vcores,
        plan: stage.plan.clone(),
        session_config: stage.session_config.clone(),
    };
    (executor_id.to_owned(), task)
}

/// Whether the stage folds its input to one partition somewhere, so that one task must see all of it.
///
/// The same rule as the private `stage_has_input_collapse` of `ballista_scheduler::cluster` 55.0.0.
fn collapses_input(root: &Arc<dyn ExecutionPlan>) -> bool {
    fn walk(node: &Arc<dyn ExecutionPlan>) -> bool {
        if node.is::<ShuffleReaderExec>() || node.is::<RangeShuffleReaderExec>() {
            return false;
        }
        if node.properties().output_partitioning().partition_count() == 1 {
            return true;
        }
        match node.children().as_slice() {
            [child] => walk(child),
            _ => false,
        }
    }
    match root.children().as_slice() {
        [child] => walk(child),
        _ => false,
    }
}
