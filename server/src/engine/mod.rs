//! The one engine under every front end: sessions in, streams of record batches out.
//!
//! A front end opens a [`Session`], lets it [`parse`](Session::parse), [`prepare`](Session::prepare)
//! and [`execute`](Session::execute), and reads the rows of a [`QueryHandle`] as they come. The
//! engine knows no wire protocol; nothing below it knows sessions or users.
//!
//! In reading order:
//!
//! - [`error`] and [`convert`]: what clients are told
//! - [`settings`]: a session's settings; [`block_settings`]: those of a transaction block
//! - [`session`]: a statement's way from text to result
//! - [`roles`], [`password`]: who may log in; [`privileges`], [`file_roots`]: and do what; [`audit`]: who did
//! - [`policies`]: which rows and values of a table they see
//! - [`ddl`]: statements that create and drop
//! - [`analyze`]: what samples of tables told, and where it is kept
//! - [`insert`]: columns of a Cassandra table by name
//! - [`copy_in`]: rows that a client sends; [`ingested`]: files of tables that are made for them
//! - [`cursor`]: rows that a client fetches piece by piece
//! - [`peers`]: the port that executors join at
//! - [`run`]: where a query runs
//! - [`result`]: how its rows come back from executors; [`held`]: rows that clients fetch there
//! - [`queues`]: tenants' queues
//! - [`backends`]: sessions as others see and end them
//! - [`query`]: watching, cancelling and reading queries; [`progress`], [`job_progress`]: telling how far they are
//! - [`watch`], [`overview`], [`waiting`]: their stages, live and after, and what they wait for; [`history`]: queues over time
//! - [`observers`]: who is told of a query's end: [`metrics`], [`traces`], the audit log
//! - [`explain`]: plans for people
//! - [`transfer`]: rows between tables and folders of files
//! - [`system`]: the schema `system`

mod analyze;
mod audit;
mod backends;
mod block_settings;
mod convert;
mod copy_in;
mod cursor;
mod ddl;
mod error;
mod explain;
mod file_roots;
mod held;
mod history;
mod ingested;
mod insert;
mod job_progress;
mod metrics;
mod observers;
mod opaque;
mod overview;
mod password;
mod peers;
mod policies;
mod privileges;
mod progress;
mod query;
mod queues;
mod result;
mod roles;
mod run;
mod session;
mod settings;
mod stoppable;
mod system;
mod traces;
mod transfer;
mod waiting;
mod watch;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SessionState, SessionStateDefaults};
use datafusion::prelude::{SessionConfig, SessionContext};
use sluice_executor::cassandra::{CassandraSettings, with_cassandra};
use sluice_executor::client_pool::ConnectionPool;
use sluice_executor::codec::SluiceCodec;
use sluice_executor::config::cluster_session_config;
use sluice_executor::peer::ClusterSecret;
use sluice_executor::process::{ExecutorOptions, ExecutorTraits, RunningExecutor};
use sluice_planner::barrier::with_barriers;
use sluice_planner::catalog::{CatalogDefinition, CatalogStore, DEFAULT_CATALOG, DEFAULT_SCHEMA, TableDefinition};
use sluice_planner::distribute::{rules_for_one_process, rules_for_stages};
use sluice_planner::subqueries::PrepareSubqueries;
use sluice_planner::table_functions::TellTableFunctionsApart;
use sluice_scheduler::cluster::{
    ExecutorSummary, FrameworksService, QueueSummary, Scheduler, SchedulerOptions, StageSummary,
};
use sluice_scheduler::frameworks_proto::frameworks_server::FrameworksServer;

pub use audit::AuditOptions;
pub use backends::{BackendInfo, Signal};
pub use copy_in::CopyInput;
pub(crate) use ddl::folded;
pub use error::{EngineError, SqlState};
pub use file_roots::FileRoots;
pub use held::{HeldPart, HeldResult, HeldResults, Wire};
pub use history::{QueueHistory, QueueSample, Sample};
pub(crate) use job_progress::JobProgress;
pub use metrics::METRICS_TYPE;
pub use overview::{QueryDetails, QueryOverview, StageProgress};
pub use password::Verifier;
pub(crate) use progress::PROGRESS;
pub use query::{Placement, QueryHandle, QueryRecord, QueryResult, QuerySummary, StopReason};
pub use roles::{LoginPolicy, MONITOR, PUBLIC, RoleInfo, Roles};
pub use session::{Notice, Prepared, Protocol, Session, SessionOptions, TableInfo, TransactionStatus};
pub use sluice_planner::statement::{Direction, Statement, StatementKind, TransferOptions};
pub use sluice_scheduler::core::{Options as SharingOptions, Policy as SharingPolicy};
pub use traces::TRACE_PARENT;

use analyze::StatisticsStore;
use audit::{AuditLog, Event};
use metrics::Metrics;
use opaque::Opaque;
use policies::Policies;
use query::QueryList;
use queues::QueueStore;
use traces::Traces;
use transfer::registry::Transfers;

/// Room for the deepest expression that is still parsed, in a debug build too. The system gives memory only to what is used.
pub const THREAD_STACK_BYTES: usize = 128 << 20;

/// A query that reads no more is small anywhere.
const SMALL_INPUT_BYTES: u64 = 32 << 20;

/// Bytes of memory that a byte of compressed input may come to need in hash tables and sorts.
const INPUT_TO_MEMORY: u64 = 8;

/// The file in the data directory that roles are kept in.
pub const ROLES_FILE: &str = "roles.json";

/// Where the tasks run.
#[derive(Debug, Clone)]
pub enum Cluster {
    /// Executors in this process, for a laptop.
    Embedded {
        /// How many executors.
        executor_count: usize,
        /// Vcores of each.
        vcores: usize,
    },
    /// Executor processes that register over the network.
    Remote {
        /// The address to listen on for them.
        address: SocketAddr,
        /// The host name or address by which they reach this process.
        external_host: String,
        /// What they have to know to join; without it everybody may.
        secret: Option<ClusterSecret>,
    },
}

/// How to start the engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Everything that outlives the process: definitions, queues and statistics, and scratch space under `tmp`.
    pub data_dir: PathBuf,
    /// Where the tasks run.
    pub cluster: Cluster,
    /// Bytes that queries in this process may hold together, executors in this process included.
    pub memory_bytes: u64,
    /// Catalogs from the configuration file.
    pub catalogs: Vec<(String, CatalogDefinition)>,
    /// External tables of schema `public` from the configuration file.
    pub tables: Vec<(String, TableDefinition)>,
    /// Sessions at a time.
    pub max_sessions: usize,
    /// Queues from the configuration file: options by path.
    pub queues: BTreeMap<String, BTreeMap<String, String>>,
    /// How executors are shared between queues.
    pub sharing: SharingOptions,
    /// Whether clients are asked who they are.
    pub login: LoginPolicy,
    /// Where statements may use files of this machine.
    pub file_roots: FileRoots,
    /// Where it is written who ran what.
    pub audit: Option<AuditOptions>,
    /// The collector that traces go to.
    pub otlp_endpoint: Option<String>,
}

/// The service without its front ends.
pub struct Engine {
    catalogs: Opaque<CatalogStore>,
    scheduler: Opaque<Arc<Scheduler>>,
    /// Plans that run in this process as one task.
    server_state: Opaque<SessionState>,
    /// Plans that are cut into stages.
    cluster_state: Opaque<SessionState>,
    /// Runs the tasks of small queries away from the threads that serve clients.
    task_runtime: tokio::runtime::Handle,
    _task_runtime_guard: RuntimeGuard,
    connections: Arc<ConnectionPool>,
    /// What clients' tickets for executors are made with.
    ticket_secret: Option<ClusterSecret>,
    held: HeldResults,
    queries: QueryList,
    queue_history: QueueHistory,
    queue_store: QueueStore,
    roles: Roles,
    policies: Policies,
    file_roots: FileRoots,
    audit: Option<Arc<AuditLog>>,
    metrics: Arc<Metrics>,
    traces: Option<Arc<Traces>>,
    started: SystemTime,
    statistics: StatisticsStore,
    transfers: Transfers,
    jobs_submitted: AtomicU64,
    executors: Opaque<tokio::sync::Mutex<Vec<RunningExecutor>>>,
    embedded: bool,
    /// Bytes that a query may read and still run as one task, unless its session says otherwise.
    single_task_max_bytes: u64,
    /// Where embedded executors leave results, which this process then reads without a connection.
    work_dir: PathBuf,
    session_count: AtomicUsize,
    sessions: Mutex<Vec<std::sync::Weak<Session>>>,
    max_sessions: usize,
    draining: AtomicBool,
    /// Where the web page is, as soon as it is served.
    page_url: OnceLock<String>,
}

/// Shuts the runtime down without waiting, which dropping it inside another runtime may not.
struct RuntimeGuard(Option<tokio::runtime::Runtime>);

impl Drop for RuntimeGuard {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Engine {
    /// Opens the catalog, starts the scheduler and, if embedded, the executors.
    pub async fn start(options: EngineOptions) -> Result<Arc<Self>, EngineError> {
        let work_dir = options.data_dir.join("tmp");
        // What an earlier process left there belongs to queries that nobody can read any more.
        if let Err(error) = std::fs::remove_dir_all(&work_dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(data_dir_error(&work_dir, &error));
        }
        std::fs::create_dir_all(&work_dir).map_err(|error| data_dir_error(&work_dir, &error))?;
        let audit = options.audit.map(AuditLog::open).transpose()?.map(Arc::new);
        let metrics = Arc::new(Metrics::new());
        let traces = options.otlp_endpoint.as_deref().map(Traces::start).transpose()?.map(Arc::new);
        let roles = Roles::open(options.data_dir.join(ROLES_FILE), options.login)?
            .with_observers(audit.clone(), metrics.failed_logins.clone());
        let policies = Policies::open(options.data_dir.join("policies.json"))?;
        let catalogs = CatalogStore::open(options.data_dir.join("catalog.json"), options.catalogs, options.tables)?;
        let statistics = StatisticsStore::open(options.data_dir.join("statistics.json"), &catalogs)?;

        // The server's own tasks get a half; embedded executors share the rest.
        let embedded = matches!(options.cluster, Cluster::Embedded { .. });
        let server_bytes = if embedded { options.memory_bytes / 2 } else { options.memory_bytes };
        // In one process an exchange only costs; what might not fit in memory still goes through exchanges.
        let single_task_max_bytes = if embedded { server_bytes / INPUT_TO_MEMORY } else { SMALL_INPUT_BYTES };
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(server_bytes as usize)))
            .with_temp_file_path(&work_dir)
            // New files of a folder are seen at once; what was read of the old ones stays known.
            .with_object_list_cache_limit(0)
            .build_arc()?;
        let server_state = base_state(server_session_config(), &catalogs, &runtime);
        let cluster_state = base_state(shared_settings(cluster_session_config()), &catalogs, &runtime);
        let with_rules =
            |state, rules| SessionStateBuilder::new_from_existing(state).with_physical_optimizer_rules(rules).build();
        let server_state = with_barriers(with_rules(server_state, rules_for_one_process()));
        let cluster_state = with_barriers(with_rules(cluster_state, rules_for_stages()));
        catalogs.set_planning_state(server_state.clone());

        let (address, external_host, secret) = match &options.cluster {
            // Other users of the machine reach these ports too; nobody else's processes have a part in this cluster.
            Cluster::Embedded { .. } => {
                let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
                (address, "127.0.0.1".to_owned(), Some(peers::secret_of_process()?))
            }
            Cluster::Remote { address, external_host, secret } => (*address, external_host.clone(), secret.clone()),
        };
        let peers = peers::known_by(secret.as_ref())?;
        let (executors_listener, address) = peers::listen(address).await?;
        let session_runtime = runtime.clone();
        let scheduler = Scheduler::start(SchedulerOptions {
            address,
            connect_executors: peers.connect_executors(),
            external_host,
            codec: Arc::new(SluiceCodec::default()),
            config_producer: Arc::new(cluster_session_config),
            session_builder: Arc::new(move |config| {
                Ok(SessionStateBuilder::new()
                    .with_default_features()
                    .with_config(config)
                    .with_runtime_env(session_runtime.clone())
                    .build())
            }),
            preferred_hosts: Arc::new(sluice_executor::cassandra::preferred_hosts),
            sharing: options.sharing,
        })
        .await?;
        peers::serve(executors_listener, &peers, &scheduler)?;
        scheduler.allocation().add_server(cores() as u32, server_bytes);
        let queues_path = options.data_dir.join("queues.json");
        let queue_store = QueueStore::open(queues_path, &options.queues, scheduler.allocation().clone())?;

        let mut executors = Vec::new();
        if let Cluster::Embedded { executor_count, vcores } = options.cluster {
            let each_bytes = (options.memory_bytes - server_bytes) / executor_count.max(1) as u64;
            for _ in 0..executor_count {
                let executor = RunningExecutor::start(ExecutorOptions {
                    coordinator: scheduler.address().to_string(),
                    bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
                    host: "127.0.0.1".to_owned(),
                    vcores,
                    memory_bytes: each_bytes,
                    traits: ExecutorTraits::default(),
                    work_dir: work_dir.clone(),
                    secret: secret.clone(),
                    clients: None,
                })
                .await
                .map_err(|error| EngineError::new(SqlState::SYSTEM_ERROR, error.to_string()))?;
                executors.push(executor);
            }
        }
        let task_runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("sluice-task")
            .thread_stack_size(THREAD_STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| EngineError::new(SqlState::SYSTEM_ERROR, error.to_string()))?;
        let engine = Arc::new(Self {
            catalogs: catalogs.into(),
            scheduler: scheduler.into(),
            server_state: server_state.into(),
            cluster_state: cluster_state.into(),
            task_runtime: task_runtime.handle().clone(),
            _task_runtime_guard: RuntimeGuard(Some(task_runtime)),
            connections: Arc::new(ConnectionPool::new(peers)),
            ticket_secret: secret,
            held: HeldResults::default(),
            queries: QueryList::default(),
            queue_history: QueueHistory::default(),
            queue_store,
            roles,
            policies,
            file_roots: options.file_roots,
            audit,
            metrics,
            traces,
            started: SystemTime::now(),
            statistics,
            transfers: Transfers::new(&options.data_dir),
            jobs_submitted: AtomicU64::new(0),
            executors: tokio::sync::Mutex::new(executors).into(),
            embedded,
            single_task_max_bytes,
            work_dir,
            session_count: AtomicUsize::new(0),
            sessions: Mutex::default(),
            max_sessions: options.max_sessions,
            draining: AtomicBool::new(false),
            page_url: OnceLock::new(),
        });
        system::register(&engine)?;
        history::follow(&engine);
        Ok(engine)
    }

    /// Opens a session. It closes when its last reference is dropped.
    ///
    /// Who the user is has been found out before.
    ///
    /// Errors: 28000 when the user may not log in, 53300 when there are as many sessions as are allowed, in all or of the
    /// user, 57P03 while shutting down.
    pub fn open_session(self: &Arc<Self>, options: SessionOptions) -> Result<Arc<Session>, EngineError> {
        self.roles.check_login(&options.user)?;
        if self.is_draining() {
            return Err(EngineError::new(SqlState::CANNOT_CONNECT_NOW, "the service is shutting down"));
        }
        if self.session_count.fetch_add(1, Ordering::AcqRel) >= self.max_sessions {
            self.session_count.fetch_sub(1, Ordering::AcqRel);
            return Err(EngineError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
                .with_hint("close a session, or raise max_connections"));
        }
        // From here on the session's drop gives its place back.
        let session = Arc::new(Session::new(self.clone(), options));
        crate::pgcatalog::register(&session);
        policies::register(&session);
        session.finish_opening()?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.strong_count() > 0);
        let limit = self.roles.connection_limit(session.user()).map_or(usize::MAX, |limit| limit as usize);
        let is_users = |other: &Arc<Session>| other.user() == session.user();
        if sessions.iter().filter_map(std::sync::Weak::upgrade).filter(is_users).count() >= limit {
            let message = format!("too many connections for role \"{}\"", session.user());
            return Err(EngineError::new(SqlState::TOO_MANY_CONNECTIONS, message)
                .with_hint("close a session, or have the limit raised: ALTER ROLE ... CONNECTION LIMIT ..."));
        }
        if let Some(audit) = &self.audit {
            audit.note(Event {
                event: "session",
                user: session.user(),
                address: session.client_address(),
                session: Some(session.id()),
                ..Event::default()
            })?;
        }
        sessions.push(Arc::downgrade(&session));
        self.metrics.session_opened(session.protocol());
        Ok(session)
    }

    /// Who may log in, and do what.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Where statements may use files of this machine.
    pub fn file_roots(&self) -> &FileRoots {
        &self.file_roots
    }

    /// Where it is written who ran what.
    fn audit(&self) -> Option<&Arc<AuditLog>> {
        self.audit.as_ref()
    }

    /// Running queries and the last that ran, newest first.
    pub fn queries(&self) -> Vec<QuerySummary> {
        self.queries.summaries()
    }

    /// The queues as they are now.
    pub async fn queues(&self) -> Vec<QueueSummary> {
        self.scheduler.queues().await
    }

    /// What queues had over the last minutes.
    pub fn queue_history(&self) -> &QueueHistory {
        &self.queue_history
    }

    /// Stops a running query; tells whether there was one of this id.
    pub fn cancel_query(&self, id: &str) -> bool {
        let found = self.queries.running().into_iter().find(|record| record.id == id);
        if let Some(record) = &found {
            record.control.stop(StopReason::User);
        }
        found.is_some()
    }

    /// The stages of a query that runs or ran a short while ago.
    pub async fn stages(&self, job_id: &str) -> Vec<StageSummary> {
        self.scheduler.stages(&job_id.to_owned().into()).await
    }

    /// The executors that are registered.
    pub async fn executors(&self) -> Vec<ExecutorSummary> {
        self.scheduler.executors().await
    }

    /// The service at which external frameworks take offers, to be mounted on a listener.
    pub fn frameworks(&self) -> FrameworksServer<FrameworksService> {
        FrameworksService::server(self.scheduler.clone())
    }

    /// Results that clients fetch from executors.
    pub fn held(&self) -> &HeldResults {
        &self.held
    }

    /// What tickets for such results are made with; none if executors know no secret.
    pub fn ticket_secret(&self) -> Option<&ClusterSecret> {
        self.ticket_secret.as_ref()
    }

    /// The address that executors register at.
    pub fn scheduler_address(&self) -> SocketAddr {
        self.scheduler.address()
    }

    /// Tells where the web page is. The first address counts.
    pub fn set_page_url(&self, url: &str) {
        // A service has one page.
        let _ = self.page_url.set(url.to_owned());
    }

    /// The web page's address of a query, if there is a page.
    pub fn query_url(&self, id: &str) -> Option<String> {
        self.page_url.get().map(|url| format!("{url}#/query/{id}"))
    }

    /// Sessions that are open.
    pub fn session_count(&self) -> usize {
        self.session_count.load(Ordering::Acquire)
    }

    fn open_sessions(&self) -> Vec<Arc<Session>> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().filter_map(std::sync::Weak::upgrade).collect()
    }

    /// Sessions that are open, by their protocol.
    fn sessions_by_protocol(&self) -> BTreeMap<&'static str, usize> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = BTreeMap::new();
        for session in sessions.iter().filter_map(std::sync::Weak::upgrade) {
            *counts.entry(session.protocol().name()).or_insert(0) += 1;
        }
        counts
    }

    /// Whether the service is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Takes no new sessions, gives running queries `grace` to end, cancels the rest, and stops the executors.
    pub async fn drain(&self, grace: Duration) {
        self.draining.store(true, Ordering::Release);
        let deadline = tokio::time::Instant::now() + grace;
        while !self.queries.running().is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for record in self.queries.running() {
            tracing::warn!(query = %record.id, "cancelled because the service is shutting down");
            record.control.stop(StopReason::Shutdown);
        }
        self.held.clear();
        for executor in self.executors.lock().await.drain(..) {
            executor.stop(Duration::from_secs(2)).await;
        }
        if let Some(traces) = self.traces.clone() {
            // A panic in it would lose the last spans and nothing else.
            let _ = tokio::task::spawn_blocking(move || traces.stop()).await;
        }
        // Nothing reads what is left there.
        let _ = std::fs::remove_dir_all(&self.work_dir);
    }
}

/// The machine's cores, or those that the process may use if that is fewer.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn data_dir_error(path: &std::path::Path, error: &std::io::Error) -> EngineError {
    EngineError::new(SqlState::IO_ERROR, format!("cannot use the data directory {}: {error}", path.display()))
        .with_hint("choose another with --data-dir")
}

fn shared_settings(config: SessionConfig) -> SessionConfig {
    let mut config = config
        .with_default_catalog_and_schema(DEFAULT_CATALOG, DEFAULT_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        // Column names in errors come with their place in the text.
        .set_bool("datafusion.sql_parser.collect_spans", true)
        // A glob may span folders, and a folder holds what its folders hold.
        .set_bool("datafusion.execution.listing_table_ignore_subdirectory", false)
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        // 0.1 is a numeric, as in PostgreSQL, and not the float that is nearest to it.
        .set_bool("datafusion.sql_parser.parse_float_as_decimal", true)
        .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
        .set_str("datafusion.execution.time_zone", "UTC");
    config.options_mut().sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
    config
}

/// Plans of one task keep DataFusion's own optimizations, which need one process.
fn server_session_config() -> SessionConfig {
    shared_settings(SessionConfig::new().with_option_extension(CassandraSettings::default()))
}

fn base_state(config: SessionConfig, catalogs: &CatalogStore, runtime: &Arc<RuntimeEnv>) -> SessionState {
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime.clone())
        .with_catalog_list(catalogs.names())
        .with_default_features();
    let mut state = with_cassandra(builder)
        .with_analyzer_rule(Arc::new(TellTableFunctionsApart))
        .with_analyzer_rule(Arc::new(PrepareSubqueries))
        .build();
    // File formats by name, for COPY ... STORED AS.
    for format in SessionStateDefaults::default_file_formats() {
        // Formats that are already there are the same ones.
        let _ = state.register_file_format(format, true);
    }
    state
}

/// A context with its own settings over a shared base.
fn context_over(base: &SessionState, session_id: &str, config: SessionConfig) -> SessionContext {
    let state = SessionStateBuilder::new_from_existing(base.clone())
        .with_session_id(session_id.to_owned())
        .with_config(config)
        .build();
    SessionContext::new_with_state(state)
}
