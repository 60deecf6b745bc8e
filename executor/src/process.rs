//! An executor: runs tasks in memory budgets and serves their output to others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::BALLISTA_PROTOCOL_VERSION;
use ballista_core::RuntimeProducer;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::error::BallistaError;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{ExecutorRegistration, ExecutorStoppedParams};
use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification};
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec};
use ballista_core::utils::{GrpcClientConfig, GrpcServerConfig, create_grpc_client_endpoint, create_grpc_server};
use ballista_executor::execution_engine::DefaultExecutionEngine;
use ballista_executor::executor::{Executor, TasksDrainedFuture};
use ballista_executor::executor_process::ExecutorProcessConfig;
use ballista_executor::executor_server;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::LoggingMetricsCollector;
use ballista_executor::runtime_cache::{DefaultSessionRuntimeCache, MemoryPoolPolicy};
use ballista_executor::shutdown::ShutdownNotifier;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;

use crate::client_pool::ConnectionPool;
use crate::codec::SluiceCodec;
use crate::config::{TaskGrant, cluster_session_config};
use crate::functions::function_registry;
use crate::shuffle::{CheckedEngine, CheckedFlightService};

/// Seconds between heartbeats. The scheduler takes an executor for lost after 20 s without one.
const HEARTBEAT_SECONDS: u64 = 3;
/// Sessions whose Parquet footers and object-store clients are kept between tasks.
const CACHED_SESSIONS: usize = 64;
/// Bytes of one gRPC message with the coordinator.
const GRPC_MESSAGE_BYTES: u32 = 64 * 1024 * 1024;
/// The share of an executor's memory that its tasks' pools may hand out; the rest is for what
/// pools do not see (decoded pages, network buffers).
const POOL_FRACTION: f64 = 0.9;

/// What can keep an executor from starting or make it stop.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// No port could be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    /// The working directory cannot be made.
    #[error("cannot create the working directory {path}: {source}")]
    WorkDir { path: PathBuf, source: std::io::Error },
    /// The coordinator did not answer.
    #[error("cannot reach the coordinator at {address}: {reason}")]
    Coordinator { address: String, reason: String },
    /// The memory budget is too small for the vcores.
    #[error("{memory_bytes} bytes of memory are too few for {vcores} vcores: give at least {least_bytes}")]
    Memory { memory_bytes: u64, vcores: usize, least_bytes: u64 },
}

/// What an executor tells the coordinator of itself, beside its host and vcores.
///
/// As JSON it travels in the field `os_ver_long` of Ballista's registration, the only text there that
/// has no use of its own; `memory_bytes` is added to it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ExecutorTraits {
    /// Its rack, if known.
    pub rack: String,
    /// Its data centre, if known.
    pub data_centre: String,
    /// Amounts of further kinds of resources, by name.
    pub resources: BTreeMap<String, u64>,
}

/// How to run an executor.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// Where the coordinator's scheduler listens, as `host:port`.
    pub coordinator: String,
    /// The address to listen on; ports are chosen freely.
    pub bind: IpAddr,
    /// The host name or address that others reach this executor by. A Cassandra replica of this name is local.
    pub host: String,
    /// Partitions that run at the same time.
    pub vcores: usize,
    /// Bytes that the tasks of this executor may hold together.
    pub memory_bytes: u64,
    /// Where it stands and what else it has to give.
    pub traits: ExecutorTraits,
    /// Shuffle and spill files; best on a fast or RAM-backed disk.
    pub work_dir: PathBuf,
}

/// The least memory of a vcore that leaves room for a sort or a hash table.
const LEAST_MEMORY_PER_VCORE_BYTES: u64 = 32 * 1024 * 1024;

/// A running executor.
pub struct RunningExecutor {
    id: String,
    executor: Arc<Executor>,
    scheduler: SchedulerGrpcClient<tonic::transport::Channel>,
    shutdown: ShutdownNotifier,
    services: Vec<JoinHandle<Result<(), BallistaError>>>,
    stop_requested: mpsc::Receiver<bool>,
}

impl RunningExecutor {
    /// Registers with the coordinator and starts taking tasks.
    pub async fn start(options: ExecutorOptions) -> Result<Self, ExecutorError> {
        let least_bytes = LEAST_MEMORY_PER_VCORE_BYTES * options.vcores as u64;
        if options.memory_bytes < least_bytes {
            return Err(ExecutorError::Memory {
                memory_bytes: options.memory_bytes,
                vcores: options.vcores,
                least_bytes,
            });
        }
        std::fs::create_dir_all(&options.work_dir)
            .map_err(|source| ExecutorError::WorkDir { path: options.work_dir.clone(), source })?;
        let work_dir = options.work_dir.to_string_lossy().into_owned();
        let flight_listener = listen(options.bind).await?;
        let flight_port = local_port(&flight_listener, options.bind)?;
        // Ballista binds this port itself, so that it is found free here and given up again.
        let grpc_port = local_port(&listen(options.bind).await?, options.bind)?;

        let id = uuid::Uuid::now_v7().to_string();
        let registration = ExecutorRegistration {
            id: id.clone(),
            host: Some(options.host.clone()),
            port: u32::from(flight_port),
            grpc_port: u32::from(grpc_port),
            specification: Some(ExecutorSpecification::default().with_vcores(options.vcores as u32).into()),
            os_info: Some(described(&options).into()),
            ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
        };
        let executor = Arc::new(compose(registration, &work_dir, &options));
        let scheduler = connect(&options.coordinator).await?;

        let shutdown = ShutdownNotifier::new();
        let (stop_sender, stop_requested) = mpsc::channel(1);
        let config = Arc::new(ExecutorProcessConfig {
            executor_id: id.clone(),
            bind_host: options.bind.to_string(),
            external_host: Some(options.host.clone()),
            port: flight_port,
            grpc_port,
            vcores: options.vcores,
            task_scheduling_policy: TaskSchedulingPolicy::PushStaged,
            work_dir: Some(work_dir.clone()),
            grpc_max_decoding_message_size: GRPC_MESSAGE_BYTES,
            grpc_max_encoding_message_size: GRPC_MESSAGE_BYTES,
            executor_heartbeat_interval_seconds: HEARTBEAT_SECONDS,
            ..ExecutorProcessConfig::default()
        });
        let codec: BallistaCodec<LogicalPlanNode, PhysicalPlanNode> =
            BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), Arc::new(SluiceCodec::default()));

        let flight = serve_shuffle(flight_listener, work_dir, &shutdown);
        let control = executor_server::startup(
            scheduler.clone(),
            config,
            executor.clone(),
            codec,
            stop_sender,
            &shutdown,
            ExecutorHealth::new(),
        )
        .await
        .map_err(|error| ExecutorError::Coordinator {
            address: options.coordinator.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self { id, executor, scheduler, shutdown, services: vec![flight, control], stop_requested })
    }

    /// The id that the executor registered under.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the coordinator asks the executor to stop, or a service of it ends.
    pub async fn stopped(&mut self) {
        let mut ended = self.shutdown.notify_shutdown.subscribe();
        tokio::select! {
            _ = self.stop_requested.recv() => {}
            _ = ended.recv() => {}
            _ = futures::future::select_all(self.services.iter_mut()) => {}
        }
    }

    /// Tells the coordinator that no more tasks should come, waits up to `grace` for the running ones, and stops.
    pub async fn stop(mut self, grace: Duration) {
        if tokio::time::timeout(grace, TasksDrainedFuture(self.executor.clone())).await.is_err() {
            tracing::warn!(executor = %self.id, "stopping with tasks still running");
        }
        let params =
            ExecutorStoppedParams { executor_id: self.id.clone(), reason: "stopped by its operator".to_owned() };
        if let Err(error) = self.scheduler.executor_stopped(params).await {
            tracing::debug!(%error, "the coordinator did not take the executor's leave");
        }
        // Nobody may listen any more, which is as good.
        let _ = self.shutdown.notify_shutdown.send(());
        for service in &self.services {
            service.abort();
        }
    }
}

fn described(options: &ExecutorOptions) -> ExecutorOperatingSystemSpecification {
    #[derive(Serialize)]
    struct Described<'a> {
        memory_bytes: u64,
        #[serde(flatten)]
        traits: &'a ExecutorTraits,
    }
    let described = Described { memory_bytes: pooled_bytes(options), traits: &options.traits };
    ExecutorOperatingSystemSpecification {
        // A struct of texts and numbers can always be written.
        os_ver_long: serde_json::to_string(&described).unwrap_or_default(),
        ..ExecutorOperatingSystemSpecification::default()
    }
}

/// What the pools of all tasks may hold together.
fn pooled_bytes(options: &ExecutorOptions) -> u64 {
    (options.memory_bytes as f64 * POOL_FRACTION) as u64
}

async fn listen(bind: IpAddr) -> Result<TcpListener, ExecutorError> {
    let address = SocketAddr::new(bind, 0);
    TcpListener::bind(address).await.map_err(|source| ExecutorError::Listen { address, source })
}

fn local_port(listener: &TcpListener, bind: IpAddr) -> Result<u16, ExecutorError> {
    let address = SocketAddr::new(bind, 0);
    listener.local_addr().map(|a| a.port()).map_err(|source| ExecutorError::Listen { address, source })
}

async fn connect(coordinator: &str) -> Result<SchedulerGrpcClient<tonic::transport::Channel>, ExecutorError> {
    let unreachable = |reason: String| ExecutorError::Coordinator { address: coordinator.to_owned(), reason };
    let config = GrpcClientConfig::from(&cluster_session_config().ballista_config());
    let endpoint = create_grpc_client_endpoint(format!("http://{coordinator}"), Some(&config))
        .map_err(|error| unreachable(error.to_string()))?;
    let channel = endpoint.connect().await.map_err(|error| unreachable(error.to_string()))?;
    Ok(SchedulerGrpcClient::new(channel)
        .max_encoding_message_size(GRPC_MESSAGE_BYTES as usize)
        .max_decoding_message_size(GRPC_MESSAGE_BYTES as usize))
}

/// The executor with one memory pool a task, as large as what the scheduler granted.
///
/// Grants together never exceed what was offered, so that a task that wants more spills or fails alone.
fn compose(registration: ExecutorRegistration, work_dir: &str, options: &ExecutorOptions) -> Executor {
    let spill_dir = work_dir.to_owned();
    let base: RuntimeProducer = Arc::new(move |_| RuntimeEnvBuilder::new().with_temp_file_path(&spill_dir).build_arc());
    let most_bytes = pooled_bytes(options);
    let part_bytes = most_bytes / options.vcores.max(1) as u64;
    let policy: MemoryPoolPolicy = Arc::new(move |base, config, vcores| {
        let granted = config.options().extensions.get::<TaskGrant>().map_or(0, |grant| grant.memory_bytes_per_vcore);
        let per_vcore = if granted > 0 { granted } else { part_bytes };
        let bytes = per_vcore.saturating_mul(u64::from(vcores.max(1))).min(most_bytes) as usize;
        RuntimeEnvBuilder::from_runtime_env(&base).with_memory_pool(Arc::new(FairSpillPool::new(bytes))).build_arc()
    });
    let runtime: RuntimeProducer = {
        let (base, policy) = (base.clone(), policy.clone());
        Arc::new(move |config| policy(base(config)?, config, 1))
    };
    let engine = CheckedEngine::new(DefaultExecutionEngine::with_client_pool(Arc::new(ConnectionPool::default())));
    Executor::new(
        registration,
        work_dir,
        runtime,
        Arc::new(cluster_session_config),
        Arc::new(function_registry()),
        Arc::new(LoggingMetricsCollector::default()),
        options.vcores,
        Arc::new(engine),
    )
    .with_session_runtime_cache(Some(Arc::new(DefaultSessionRuntimeCache::new(base, policy, CACHED_SESSIONS))))
}

fn serve_shuffle(
    listener: TcpListener,
    work_dir: String,
    shutdown: &ShutdownNotifier,
) -> JoinHandle<Result<(), BallistaError>> {
    let mut stop = shutdown.subscribe_for_shutdown();
    let service = FlightServiceServer::new(CheckedFlightService::new(work_dir))
        .max_decoding_message_size(GRPC_MESSAGE_BYTES as usize)
        .max_encoding_message_size(GRPC_MESSAGE_BYTES as usize);
    // Without it the last small packet of each answer waits 40 ms for the client's acknowledgement.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(async move {
        create_grpc_server(&GrpcServerConfig::default())
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop.recv())
            .await
            .map_err(BallistaError::TonicError)
    })
}
