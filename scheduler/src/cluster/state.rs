//! The executor registry, and the binding of tasks, as Ballista's `ClusterState`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::Result;
use ballista_core::serde::protobuf::ExecutorHeartbeat;
use ballista_core::serde::scheduler::{ExecutorData, ExecutorMetadata};
use ballista_scheduler::cluster::memory::InMemoryClusterState;
use ballista_scheduler::cluster::{BoundTask, ClusterState, ClusterStateEventStream, ExecutorSlot};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::task_manager::JobInfoCache;

use super::allocation::Allocation;
use super::places::PreferredHosts;
use super::round::bind;

/// Registry and heartbeats by Ballista's in-memory state; the binding of tasks is our own.
pub struct OfferClusterState {
    registry: InMemoryClusterState,
    allocation: Arc<Allocation>,
    preferred_hosts: PreferredHosts,
    /// Jobs whose result must not be believed.
    spoiled: Mutex<HashSet<JobId>>,
}

impl OfferClusterState {
    /// An empty cluster. `preferred_hosts` tells where a stage's partitions would like to run.
    pub fn new(allocation: Arc<Allocation>, preferred_hosts: PreferredHosts) -> Self {
        Self { registry: InMemoryClusterState::default(), allocation, preferred_hosts, spoiled: Mutex::default() }
    }

    /// Whether the job's result must not be believed; asked once, when the job has ended.
    pub(super) fn take_spoiled(&self, job_id: &JobId) -> bool {
        self.spoiled.lock().unwrap_or_else(PoisonError::into_inner).remove(job_id)
    }
}

#[async_trait]
impl ClusterState for OfferClusterState {
    async fn bind_schedulable_tasks(
        &self,
        _distribution: TaskDistributionPolicy,
        active_jobs: Arc<HashMap<JobId, JobInfoCache>>,
        executors: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let bound = bind(&self.allocation, &active_jobs, executors.as_ref(), &self.preferred_hosts).await?;
        self.spoiled.lock().unwrap_or_else(PoisonError::into_inner).extend(bound.spoiled);
        Ok(bound.tasks)
    }

    async fn unbind_tasks(&self, _executor_slots: Vec<ExecutorSlot>) -> Result<()> {
        // What is free follows from the tasks that run. The count that comes here is wrong when an
        // executor rejects a launch, and the round that follows looks for itself.
        Ok(())
    }

    async fn register_executor(&self, metadata: ExecutorMetadata, spec: ExecutorData) -> Result<()> {
        self.allocation.register_executor(&metadata, &spec);
        self.registry.register_executor(metadata, spec).await
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
        self.allocation.remove_executor(executor_id);
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
