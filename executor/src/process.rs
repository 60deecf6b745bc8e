//! An executor: runs tasks in memory budgets and serves their output to others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::BALLISTA_PROTOCOL_VERSION;
use ballista_core::RuntimeProducer;
use ballista_core::serde::BallistaLogicalExtensionCodec;
use ballista_core::serde::protobuf::executor_grpc_server::ExecutorGrpcServer;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{ExecutorRegistration, ExecutorStoppedParams, RegisterExecutorParams};
use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification};
use ballista_core::utils::{GrpcServerConfig, create_grpc_server};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine};
use ballista_executor::executor::{Executor, TasksDrainedFuture};
use ballista_executor::metrics::LoggingMetricsCollector;
use ballista_executor::runtime_cache::{DefaultSessionRuntimeCache, MemoryPoolPolicy};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::client_pool::ConnectionPool;
use crate::codec::SluiceCodec;
use crate::config::{TaskGrant, cluster_session_config};
use crate::control::service::Codec;
use crate::control::{ControlService, TaskRunner, beat, report, run_all};
use crate::functions::function_registry;
use crate::listener::Incoming;
use crate::peer::{ClusterSecret, PeerError, Peers, SecretError, refusal};
use crate::results::{ClientPort, Reachable, ResultService};
use crate::shuffle::{CheckedEngine, CheckedFlightService};

/// Tasks, and statuses of tasks, for each vcore that may wait for their turn.
const WAITING_PER_VCORE: usize = 50;
/// Sessions whose Parquet footers and object-store clients are kept between tasks.
const CACHED_SESSIONS: usize = 64;
/// Bytes of one gRPC message with the coordinator.
const GRPC_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
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
    /// The coordinator or the executor does not know what the other one does.
    #[error("the coordinator at {address} and this executor do not know each other: {reason}")]
    Stranger { address: String, reason: String },
    /// There is no secret to be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The secret cannot be used.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The threads of its tasks cannot be started.
    #[error("cannot start threads for tasks: {0}")]
    Threads(std::io::Error),
    /// Clients would come with tickets that it could not check.
    #[error("an executor that serves clients needs the cluster's secret: start it with --cluster-secret-file")]
    NoSecret,
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
    /// What coordinator and executors know; without it everybody who reaches the executor may tell it what to do.
    pub secret: Option<ClusterSecret>,
    /// Where clients fetch rows that they have tickets for, which takes a secret; none is nowhere.
    pub clients: Option<ClientPort>,
}

/// The least memory of a vcore that leaves room for a sort or a hash table.
const LEAST_MEMORY_PER_VCORE_BYTES: u64 = 32 * 1024 * 1024;

/// A running executor.
pub struct RunningExecutor {
    id: String,
    executor: Arc<Executor>,
    scheduler: SchedulerGrpcClient<tonic::transport::Channel>,
    stop: CancellationToken,
    services: Vec<JoinHandle<()>>,
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
        let control_listener = listen(options.bind).await?;
        let control_port = local_port(&control_listener, options.bind)?;
        let peers = Peers::new(options.secret.as_ref())?;

        let id = uuid::Uuid::now_v7().to_string();
        let registration = ExecutorRegistration {
            id: id.clone(),
            host: Some(options.host.clone()),
            port: u32::from(flight_port),
            grpc_port: u32::from(control_port),
            specification: Some(ExecutorSpecification::default().with_vcores(options.vcores as u32).into()),
            os_info: Some(described(&options).into()),
            ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
        };
        let connections = Arc::new(ConnectionPool::new(peers.clone()));
        let engine: Arc<dyn ExecutionEngine> =
            Arc::new(CheckedEngine::new(DefaultExecutionEngine::with_client_pool(connections)));
        let executor = Arc::new(compose(registration.clone(), &work_dir, &options, engine.clone()));
        let mut coordinator = connect(&options.coordinator, &peers).await?;

        let waiting = options.vcores.max(1) * WAITING_PER_VCORE;
        let (task_sender, tasks) = mpsc::channel(waiting);
        let (status_sender, statuses) = mpsc::channel(waiting);
        let (stop_sender, stop_requested) = mpsc::channel(1);
        let codec = Codec::new(Arc::new(BallistaLogicalExtensionCodec::default()), Arc::new(SluiceCodec::default()));
        let control = ControlService::new(executor.clone(), codec, task_sender, stop_sender);
        let control = ExecutorGrpcServer::new(control)
            .max_decoding_message_size(GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(GRPC_MESSAGE_BYTES);
        let flight = FlightServiceServer::new(CheckedFlightService::new(work_dir.clone()))
            .max_decoding_message_size(GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(GRPC_MESSAGE_BYTES);
        let running =
            run_all(TaskRunner::new(executor.clone(), engine, status_sender), tasks).map_err(ExecutorError::Threads)?;

        // The coordinator connects to the executor while it registers.
        let stop = CancellationToken::new();
        if let Some(clients) = &options.clients {
            serve_clients(clients, &options, work_dir, stop.clone()).await?;
        }
        let mut services = vec![
            serve(flight_listener, Routes::new(flight), &peers, &stop)?,
            serve(control_listener, Routes::new(control), &peers, &stop)?,
        ];
        let registered = coordinator.register_executor(RegisterExecutorParams { metadata: Some(registration.clone()) });
        if let Err(status) = registered.await {
            stop.cancel();
            return Err(not_joined(&options.coordinator, &status));
        }
        services.extend([
            tokio::spawn(running),
            tokio::spawn(report(id.clone(), coordinator.clone(), statuses)),
            tokio::spawn(beat(registration, coordinator.clone())),
        ]);
        Ok(Self { id, executor, scheduler: coordinator, stop, services, stop_requested })
    }

    /// The id that the executor registered under.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the coordinator asks the executor to stop, or a service of it ends.
    pub async fn stopped(&mut self) {
        tokio::select! {
            _ = self.stop_requested.recv() => {}
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
        self.stop.cancel();
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
        clients: Option<Reachable>,
    }
    let clients = options.clients.as_ref().map(ClientPort::reachable);
    let described = Described { memory_bytes: pooled_bytes(options), traits: &options.traits, clients };
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

async fn connect(
    coordinator: &str,
    peers: &Peers,
) -> Result<SchedulerGrpcClient<tonic::transport::Channel>, ExecutorError> {
    let failed = |error: tonic::transport::Error| not_joined(coordinator, &error);
    let channel = peers.endpoint(coordinator).map_err(failed)?.connect().await.map_err(failed)?;
    Ok(SchedulerGrpcClient::new(channel)
        .max_encoding_message_size(GRPC_MESSAGE_BYTES)
        .max_decoding_message_size(GRPC_MESSAGE_BYTES))
}

/// Why the coordinator was not joined, with what made the connection fail rather than that it did.
fn not_joined(address: &str, error: &(dyn std::error::Error + 'static)) -> ExecutorError {
    let address = address.to_owned();
    if let Some(reason) = refusal(error) {
        return ExecutorError::Stranger { address, reason };
    }
    let last = std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error);
    ExecutorError::Coordinator { address, reason: last.to_string() }
}

/// The executor with one memory pool a task, as large as what the scheduler granted.
///
/// Grants together never exceed what was offered, so that a task that wants more spills or fails alone.
fn compose(
    registration: ExecutorRegistration,
    work_dir: &str,
    options: &ExecutorOptions,
    engine: Arc<dyn ExecutionEngine>,
) -> Executor {
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
    Executor::new(
        registration,
        work_dir,
        runtime,
        Arc::new(cluster_session_config),
        Arc::new(function_registry()),
        Arc::new(LoggingMetricsCollector::default()),
        options.vcores,
        engine,
    )
    .with_session_runtime_cache(Some(Arc::new(DefaultSessionRuntimeCache::new(base, policy, CACHED_SESSIONS))))
}

/// Serves peers on a listener until `stop`.
/// Serves clients on the port that is for them, with the tickets that the coordinator gave them.
async fn serve_clients(
    clients: &ClientPort,
    options: &ExecutorOptions,
    work_dir: String,
    stop: CancellationToken,
) -> Result<(), ExecutorError> {
    let secret = options.secret.clone().ok_or(ExecutorError::NoSecret)?;
    let address = SocketAddr::new(options.bind, clients.port);
    let failed = |source| ExecutorError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    ResultService::new(work_dir, secret).serve(listener, clients.tls.clone(), stop).map_err(failed)
}

fn serve(
    listener: TcpListener,
    service: Routes,
    peers: &Peers,
    stop: &CancellationToken,
) -> Result<JoinHandle<()>, ExecutorError> {
    let address = listener.local_addr();
    let incoming = Incoming::new(listener, peers.gate(), stop.clone()).map_err(|source| ExecutorError::Listen {
        address: address.unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0))),
        source,
    })?;
    let stop = stop.clone();
    Ok(tokio::spawn(async move {
        let served = create_grpc_server(&GrpcServerConfig::default())
            .add_routes(service)
            .serve_with_incoming_shutdown(incoming.into_streams(), stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "a service of the executor stopped");
        }
    }))
}
