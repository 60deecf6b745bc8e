//! Commands and flags. A flag wins over its environment variable, and both win over the TOML file.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Ask ad-hoc SQL questions that join live Apache Cassandra tables with Parquet files.
///
/// Start the service with `sluice serve`, then connect: psql -h localhost -p 5433
#[derive(Debug, Parser)]
#[command(name = "sluice", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole service in this process: coordinator, executors and all protocols
    Serve(ServeArgs),
    /// Run the coordinator of a cluster: protocols, planning, scheduling; executors join over the network
    Coordinator(CoordinatorArgs),
    /// Run an executor that joins a coordinator
    Executor(ExecutorArgs),
    /// Create a superuser with a password, or give a role both; while the service does not run
    CreateSuperuser(CreateSuperuserArgs),
    /// Send SQL to a running service, or open a prompt
    Sql(SqlArgs),
    /// Write TPC-H sample data as Parquet, one file per table
    SampleData(SampleDataArgs),
    /// Try queues, weights and waits on an invented cluster: tables and a picture of what would happen
    Simulate(SimulateArgs),
}

/// What `serve` and `coordinator` share.
#[derive(Debug, Clone, Default, Args)]
pub struct ServiceArgs {
    /// TOML file with any of these settings, catalogs and tables [default: ./sluice.toml if it is there]
    #[arg(long, env = "SLUICE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where catalogs and scratch files are kept [default: sluice in the user's data folder]
    #[arg(long, env = "SLUICE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address to listen on; others than loopback take passwords and TLS [default: 127.0.0.1]
    #[arg(long, env = "SLUICE_BIND", value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// Port for psql, JDBC and other PostgreSQL clients [default: 5433]
    #[arg(long, env = "SLUICE_PG_PORT", value_name = "N")]
    pub pg_port: Option<u16>,
    /// Port for Arrow Flight SQL [default: 50051]
    #[arg(long, env = "SLUICE_FLIGHT_PORT", value_name = "N")]
    pub flight_port: Option<u16>,
    /// Port for the web page [default: 8080]
    #[arg(long, env = "SLUICE_HTTP_PORT", value_name = "N")]
    pub http_port: Option<u16>,
    /// Name that browsers have for this service, besides its machine's name
    #[arg(long, env = "SLUICE_HTTP_HOST", value_name = "NAME")]
    pub http_host: Option<String>,
    /// Memory for queries in this process, such as 4GB [default: half of the machine's]
    #[arg(long, env = "SLUICE_MEMORY", value_name = "SIZE")]
    pub memory: Option<String>,
    /// Sessions at a time [default: 500]
    #[arg(long, env = "SLUICE_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// How executors are shared between queues [default: drf]
    #[arg(long, env = "SLUICE_SCHEDULER_POLICY", value_enum, value_name = "POLICY")]
    pub scheduler_policy: Option<PolicyName>,
    /// Seconds that running queries get to end on shutdown [default: 30]
    #[arg(long, env = "SLUICE_GRACE_SECONDS", value_name = "N")]
    pub grace_seconds: Option<u64>,
    /// Whether clients are asked for passwords [default: trust on loopback, else password]
    #[arg(long, env = "SLUICE_AUTH", value_enum, value_name = "HOW")]
    pub auth: Option<AuthName>,
    /// PEM file with this service's certificate: clients have to encrypt
    #[arg(long, env = "SLUICE_SSL_CERT_FILE", value_name = "FILE")]
    pub ssl_cert_file: Option<PathBuf>,
    /// PEM file with the certificate's key
    #[arg(long, env = "SLUICE_SSL_KEY_FILE", value_name = "FILE")]
    pub ssl_key_file: Option<PathBuf>,
    /// PEM file with authorities: clients have to show a certificate of theirs
    #[arg(long, env = "SLUICE_SSL_CA_FILE", value_name = "FILE")]
    pub ssl_ca_file: Option<PathBuf>,
    /// Folders that statements may use files in; can be said several times [default: anywhere]
    #[arg(long = "file-root", env = "SLUICE_FILE_ROOTS", value_delimiter = ':', value_name = "DIR")]
    pub file_roots: Vec<PathBuf>,
    /// File to which it is written who ran what, as lines of JSON
    #[arg(long, env = "SLUICE_AUDIT_LOG", value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// Leave texts and numbers of statements out of the audit log
    #[arg(long, env = "SLUICE_AUDIT_REDACT", value_parser = clap::builder::BoolishValueParser::new())]
    pub audit_redact: bool,
    /// OpenTelemetry collector that traces go to by gRPC, such as http://127.0.0.1:4317
    #[arg(long, env = "SLUICE_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Listen on addresses that others can reach although passwords or TLS are missing
    #[arg(long, env = "SLUICE_INSECURE", value_parser = clap::builder::BoolishValueParser::new())]
    pub insecure: bool,
}

/// Whether clients are asked who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthName {
    /// A client is who it says it is
    Trust,
    /// A client has to know its role's password
    Password,
}

/// How executors are shared between queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyName {
    /// Guarantees first, then dominant resource fairness
    Drf,
    /// First come, first served; to compare with
    Fifo,
}

/// Flags of `sluice serve`.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Settings shared with the coordinator.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Executors in this process [default: 3]
    #[arg(long, env = "SLUICE_EXECUTORS", value_name = "N")]
    pub executors: Option<usize>,
    /// Tasks that each executor runs at a time [default: the machine's cores shared among the executors]
    #[arg(long, env = "SLUICE_VCORES", value_name = "N")]
    pub vcores: Option<usize>,
}

/// Flags of `sluice coordinator`.
#[derive(Debug, Clone, Default, Args)]
pub struct CoordinatorArgs {
    /// Settings shared with `serve`.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Port that executors join at [default: 50050]
    #[arg(long, env = "SLUICE_SCHEDULER_PORT", value_name = "N")]
    pub scheduler_port: Option<u16>,
    /// Name or address by which executors reach this process [default: the bind address]
    #[arg(long, env = "SLUICE_EXTERNAL_HOST", value_name = "HOST")]
    pub external_host: Option<String>,
    /// File with the secret that executors have to know to join
    #[arg(long, env = "SLUICE_CLUSTER_SECRET_FILE", value_name = "FILE")]
    pub cluster_secret_file: Option<PathBuf>,
}

/// Flags of `sluice executor`.
#[derive(Debug, Clone, Default, Args)]
pub struct ExecutorArgs {
    /// TOML file with any of these settings [default: ./sluice.toml if it is there]
    #[arg(long, env = "SLUICE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The coordinator's scheduler [default: 127.0.0.1:50050]
    #[arg(long, env = "SLUICE_COORDINATOR", value_name = "HOST:PORT")]
    pub coordinator: Option<String>,
    /// Name or address of this machine; the Cassandra node of the same address counts as local [default: 127.0.0.1]
    #[arg(long, env = "SLUICE_HOST", value_name = "HOST")]
    pub host: Option<String>,
    /// Rack of this machine, for data that is near it
    #[arg(long, env = "SLUICE_RACK", value_name = "NAME")]
    pub rack: Option<String>,
    /// Data centre of this machine
    #[arg(long, env = "SLUICE_DATA_CENTRE", value_name = "NAME")]
    pub data_centre: Option<String>,
    /// Address to listen on [default: the host if it is an address, else 127.0.0.1]
    #[arg(long, env = "SLUICE_BIND", value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// Where shuffle and spill files are kept while queries run [default: sluice in the user's data folder]
    #[arg(long, env = "SLUICE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Tasks at a time [default: the machine's cores]
    #[arg(long, env = "SLUICE_VCORES", value_name = "N")]
    pub vcores: Option<usize>,
    /// Memory for tasks, such as 4GB [default: half of the machine's]
    #[arg(long, env = "SLUICE_MEMORY", value_name = "SIZE")]
    pub memory: Option<String>,
    /// Seconds that running tasks get to end on shutdown [default: 30]
    #[arg(long, env = "SLUICE_GRACE_SECONDS", value_name = "N")]
    pub grace_seconds: Option<u64>,
    /// File with the secret that the coordinator and all executors know
    #[arg(long, env = "SLUICE_CLUSTER_SECRET_FILE", value_name = "FILE")]
    pub cluster_secret_file: Option<PathBuf>,
    /// Port at which clients fetch rows of large results past the coordinator [default: none]
    #[arg(long, env = "SLUICE_CLIENT_PORT", value_name = "N")]
    pub client_port: Option<u16>,
    /// PEM file with this machine's certificate for that port
    #[arg(long, env = "SLUICE_SSL_CERT_FILE", value_name = "FILE")]
    pub ssl_cert_file: Option<PathBuf>,
    /// PEM file with the certificate's key
    #[arg(long, env = "SLUICE_SSL_KEY_FILE", value_name = "FILE")]
    pub ssl_key_file: Option<PathBuf>,
    /// PEM file with authorities: clients have to show a certificate of theirs
    #[arg(long, env = "SLUICE_SSL_CA_FILE", value_name = "FILE")]
    pub ssl_ca_file: Option<PathBuf>,
    /// Listen on an address that others can reach although there is no secret that peers have to know
    #[arg(long, env = "SLUICE_INSECURE", value_parser = clap::builder::BoolishValueParser::new())]
    pub insecure: bool,
}

/// Flags of `sluice create-superuser`.
#[derive(Debug, Clone, Args)]
pub struct CreateSuperuserArgs {
    /// The role's name
    pub name: String,
    /// TOML file that may name the data directory [default: ./sluice.toml if it is there]
    #[arg(long, env = "SLUICE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the service keeps its data [default: sluice in the user's data folder]
    #[arg(long, env = "SLUICE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The password; without it, it is read from the terminal or from standard input
    #[arg(long, env = "SLUICE_PASSWORD", hide_env_values = true, value_name = "TEXT")]
    pub password: Option<String>,
}

/// Flags of `sluice sql`.
#[derive(Debug, Clone, Args)]
pub struct SqlArgs {
    /// Where the service runs
    #[arg(long, env = "SLUICE_SQL_HOST", default_value = "127.0.0.1")]
    pub host: String,
    /// Its port for PostgreSQL clients
    #[arg(long, env = "SLUICE_PG_PORT", default_value_t = 5433)]
    pub port: u16,
    /// The user to connect as
    #[arg(long, env = "SLUICE_USER", default_value = "sluice")]
    pub user: String,
    /// The user's password, where the service asks for one
    #[arg(long, env = "SLUICE_PASSWORD", hide_env_values = true, value_name = "TEXT")]
    pub password: Option<String>,
    /// The catalog to start in
    #[arg(long, default_value = "sluice")]
    pub database: String,
    /// Run these statements and exit; without it a prompt opens
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    pub command: Option<String>,
    /// How rows are written
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    pub format: OutputFormat,
    /// Whether a bar shows how far a statement is [default: if standard error is a terminal]
    #[arg(long, value_enum, default_value_t = ProgressName::Auto, hide_default_value = true)]
    pub progress: ProgressName,
    /// Whether the connection is encrypted [default: verify-full with --sslrootcert, else prefer]
    #[arg(long, env = "PGSSLMODE", value_enum, value_name = "MODE")]
    pub sslmode: Option<SslModeName>,
    /// PEM file with authorities that the service's certificate is checked with
    #[arg(long, env = "PGSSLROOTCERT", value_name = "FILE")]
    pub sslrootcert: Option<PathBuf>,
    /// PEM file with a certificate to show to the service
    #[arg(long, env = "PGSSLCERT", value_name = "FILE")]
    pub sslcert: Option<PathBuf>,
    /// PEM file with the certificate's key
    #[arg(long, env = "PGSSLKEY", value_name = "FILE")]
    pub sslkey: Option<PathBuf>,
}

/// Whether there is a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressName {
    /// A bar
    On,
    /// No bar
    Off,
    /// A bar if standard error is a terminal
    Auto,
}

/// Whether a connection is encrypted, and whom it is sure to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SslModeName {
    /// In clear
    Disable,
    /// Encrypted if the service can
    #[value(alias = "allow")]
    Prefer,
    /// Encrypted; without --sslrootcert with whoever answers
    Require,
    /// Encrypted, with a certificate of an authority of --sslrootcert
    VerifyCa,
    /// The same, and the certificate is for the host's name
    VerifyFull,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A table for people
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One JSON object a row
    Json,
}

/// Flags of `sluice sample-data`.
#[derive(Debug, Clone, Args)]
pub struct SampleDataArgs {
    /// TPC-H scale factor: 1 is about 6 million order lines
    #[arg(long, default_value_t = 0.1, value_name = "F")]
    pub scale_factor: f64,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    pub output_dir: PathBuf,
}

/// Flags of `sluice simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// TOML file with the cluster and what runs there; docs/scenarios has some to begin with
    #[arg(value_name = "FILE")]
    pub scenario: PathBuf,
    /// Where the picture goes [default: beside the scenario, of the same name]
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// How executors are shared between queues [default: as the scenario says]
    #[arg(long, value_enum, value_name = "POLICY", conflicts_with = "compare")]
    pub policy: Option<PolicyName>,
    /// Another seed than the scenario's: other jobs of the same kinds
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Run it with drf and with fifo, and put both side by side
    #[arg(long)]
    pub compare: bool,
}
