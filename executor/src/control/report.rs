//! Statuses and heartbeats.

use std::time::Duration;

use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    ExecutorRegistration, ExecutorStatus, HeartBeatParams, TaskStatus, UpdateTaskStatusParams, executor_status,
};
use tokio::sync::mpsc;
use tonic::transport::Channel;

/// Statuses in one message.
const MOST_STATUSES: usize = 256;
/// Time between heartbeats. The scheduler takes an executor for lost after 20 s without one.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// Heartbeats in a row that the coordinator does not take, after which it is taken for gone.
const MOST_MISSED_HEARTBEATS: u32 = 5;

/// Tells the coordinator how tasks ended, several in one message when they end faster than it listens.
pub async fn report(
    executor_id: String,
    mut coordinator: SchedulerGrpcClient<Channel>,
    mut statuses: mpsc::Receiver<TaskStatus>,
) {
    let mut ended = Vec::new();
    while statuses.recv_many(&mut ended, MOST_STATUSES).await > 0 {
        let task_status = std::mem::take(&mut ended);
        let count = task_status.len();
        let params = UpdateTaskStatusParams { executor_id: executor_id.clone(), task_status };
        if let Err(error) = coordinator.update_task_status(params).await {
            tracing::error!(count, %error, "the coordinator was not told how tasks ended");
        }
    }
}

/// Tells the coordinator that the executor is there, until it does not listen any more.
///
/// A coordinator that was started anew learns of the executor by it.
pub async fn beat(registration: ExecutorRegistration, mut coordinator: SchedulerGrpcClient<Channel>) {
    let mut missed = 0;
    while missed < MOST_MISSED_HEARTBEATS {
        let params = HeartBeatParams {
            executor_id: registration.id.clone(),
            metrics: Vec::new(),
            status: Some(ExecutorStatus { status: Some(executor_status::Status::Active(String::new())) }),
            metadata: Some(registration.clone()),
        };
        match coordinator.heart_beat_from_executor(params).await {
            Ok(_) => missed = 0,
            Err(error) => {
                missed += 1;
                tracing::warn!(missed, %error, "the coordinator did not take a heartbeat");
            }
        }
        tokio::time::sleep(HEARTBEAT_INTERVAL).await;
    }
}
