//! The TOML file. Unknown keys and bad values are errors that name their line.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sluice_executor::cassandra::CassandraOptions;
use sluice_executor::peer::ClusterSecret;
use sluice_executor::process::ExecutorTraits;
use sluice_planner::catalog::{CatalogDefinition, TableDefinition};

use super::args::{AuthName, ExecutorArgs, PolicyName, ServiceArgs};
use crate::engine::{AuditOptions, LoginPolicy, SharingOptions, SharingPolicy, cores};
use crate::tls::TlsFiles;

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "sluice.toml";

/// Where an executor looks for its coordinator when nothing else is said.
const DEFAULT_COORDINATOR: &str = "127.0.0.1:50050";

/// What the file may say; every key has a default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    pub data_dir: Option<PathBuf>,
    pub bind: Option<IpAddr>,
    pub pg_port: Option<u16>,
    pub flight_port: Option<u16>,
    pub http_port: Option<u16>,
    /// A name that browsers have for this service.
    pub http_host: Option<String>,
    pub scheduler_port: Option<u16>,
    pub external_host: Option<String>,
    /// What coordinator and executors know.
    pub cluster_secret_file: Option<PathBuf>,
    /// Where clients fetch rows from an executor.
    pub client_port: Option<u16>,
    pub memory: Option<MemorySize>,
    pub executors: Option<usize>,
    pub vcores: Option<usize>,
    pub max_connections: Option<usize>,
    pub grace_seconds: Option<u64>,
    pub insecure: Option<bool>,
    /// `trust` or `password`.
    pub auth: Option<AuthName>,
    pub ssl_cert_file: Option<PathBuf>,
    pub ssl_key_file: Option<PathBuf>,
    pub ssl_ca_file: Option<PathBuf>,
    /// The file that tells who ran what.
    pub audit_log: Option<PathBuf>,
    pub audit_redact: Option<bool>,
    /// The collector that traces go to.
    pub otlp_endpoint: Option<String>,
    /// Folders that statements may use files in; none are all.
    #[serde(default)]
    pub file_roots: Vec<PathBuf>,
    /// For `sluice executor`: where the coordinator's scheduler listens.
    pub coordinator: Option<String>,
    /// For `sluice executor`: the name or address of its machine.
    pub host: Option<String>,
    /// `[catalogs.NAME]` with `connector` and `[catalogs.NAME.options]`.
    #[serde(default)]
    pub catalogs: BTreeMap<String, FileCatalog>,
    /// `[queues.NAME]` or `[queues."NAME.CHILD"]` with the options of CREATE QUEUE.
    #[serde(default)]
    pub queues: BTreeMap<String, BTreeMap<String, QueueOption>>,
    /// `[scheduler]`: how executors are shared.
    #[serde(default)]
    pub scheduler: FileScheduler,
    /// For `sluice executor`: the rack of its machine.
    pub rack: Option<String>,
    /// For `sluice executor`: the data centre of its machine.
    pub data_centre: Option<String>,
    /// For `sluice executor`: amounts of further resources, such as `{ disk = 100 }`.
    #[serde(default)]
    pub resources: BTreeMap<String, u64>,
    /// `[tables.NAME]` with `location`: Parquet files as `sluice.public.NAME`.
    #[serde(default)]
    pub tables: BTreeMap<String, FileTable>,
}

/// An option of a queue, with or without quotes in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum QueueOption {
    Text(String),
    Whole(i64),
    Number(f64),
}

impl std::fmt::Display for QueueOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Whole(number) => number.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// How executors are shared between queues.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileScheduler {
    /// `drf`, or `fifo` to compare with.
    pub policy: Option<PolicyName>,
    /// Milliseconds that a queue below its guarantee waits until tasks of others are revoked.
    pub restore_after_ms: Option<u64>,
    /// Milliseconds that a task which fits nowhere waits until an executor is cleared for it.
    pub claim_after_ms: Option<u64>,
    /// Milliseconds for which an offer to an external framework stands.
    pub offer_ttl_ms: Option<u64>,
}

impl FileScheduler {
    fn options(&self, policy: Option<PolicyName>) -> SharingOptions {
        let default = SharingOptions::default();
        SharingOptions {
            policy: match policy.or(self.policy) {
                Some(PolicyName::Fifo) => SharingPolicy::Fifo,
                Some(PolicyName::Drf) | None => SharingPolicy::Drf,
            },
            restore_after_ms: self.restore_after_ms.unwrap_or(default.restore_after_ms),
            claim_after_ms: self.claim_after_ms.unwrap_or(default.claim_after_ms),
            offer_ttl_ms: self.offer_ttl_ms.unwrap_or(default.offer_ttl_ms),
        }
    }
}

/// Bytes, written as a number with a unit.
#[derive(Debug, Clone, Copy)]
pub struct MemorySize(pub u64);

impl<'de> Deserialize<'de> for MemorySize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        memory(Some(&text)).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A connection to another system, with the places of its options in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileCatalog {
    /// The connector's name: `cassandra`.
    pub connector: String,
    /// The connector's options; may hold a password.
    #[serde(default)]
    pub options: BTreeMap<String, toml::Spanned<String>>,
}

impl FileCatalog {
    /// The first option that does not exist or has a value that cannot be used, and the place of its value.
    fn first_bad_option(&self) -> Option<(usize, String)> {
        self.options.iter().find_map(|(name, value)| {
            let one = BTreeMap::from([(name.clone(), value.get_ref().clone())]);
            let error = CassandraOptions::from_map(&one).err()?;
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            Some((value.span().start, format!("{error}{hint}")))
        })
    }
}

impl From<FileCatalog> for CatalogDefinition {
    fn from(catalog: FileCatalog) -> Self {
        let options = catalog.options.into_iter().map(|(name, value)| (name, value.into_inner())).collect();
        Self { connector: catalog.connector, options }
    }
}

/// An external table of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTable {
    /// A file, a folder or a glob.
    pub location: String,
    /// The files' format.
    #[serde(default = "parquet")]
    pub format: String,
}

fn parquet() -> String {
    "parquet".to_owned()
}

/// What a service runs with, after flags, environment, file and defaults.
#[derive(Debug)]
pub struct ServiceConfig {
    pub data_dir: PathBuf,
    pub bind: IpAddr,
    pub pg_port: u16,
    pub flight_port: u16,
    pub http_port: u16,
    pub http_host: Option<String>,
    pub scheduler_port: u16,
    pub external_host: Option<String>,
    pub cluster_secret_file: Option<PathBuf>,
    pub memory_bytes: u64,
    pub executors: Option<usize>,
    pub vcores: Option<usize>,
    pub max_connections: usize,
    pub grace_seconds: u64,
    pub catalogs: Vec<(String, CatalogDefinition)>,
    pub tables: Vec<(String, TableDefinition)>,
    pub queues: BTreeMap<String, BTreeMap<String, String>>,
    pub sharing: SharingOptions,
    pub login: LoginPolicy,
    pub tls: Option<TlsFiles>,
    pub file_roots: Vec<PathBuf>,
    pub audit: Option<AuditOptions>,
    pub otlp_endpoint: Option<String>,
    pub insecure: bool,
}

impl FileConfig {
    /// Reads the named file, or the default one if it is there.
    pub fn read(named: Option<&Path>) -> Result<Self, String> {
        let (path, must_exist) = match named {
            Some(path) => (path, true),
            None => (Path::new(DEFAULT_FILE), false),
        };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|error| format!("{}: {error}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => Ok(Self::default()),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
        for (name, catalog) in &file.catalogs {
            if let Some((place, error)) = catalog.first_bad_option() {
                let line = text.get(..place).unwrap_or_default().matches('\n').count() + 1;
                return Err(format!("line {line}, catalog \"{name}\": {error}"));
            }
        }
        Ok(file)
    }
}

impl ServiceConfig {
    /// Puts the sources together: flags (with the environment in them), then the file, then defaults.
    pub fn resolve(args: &ServiceArgs) -> Result<Self, String> {
        let file = FileConfig::read(args.config.as_deref())?;
        let data_dir = match args.data_dir.clone().or(file.data_dir) {
            Some(path) => path,
            None => default_data_dir()?,
        };
        let bind = args.bind.or(file.bind).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let insecure = args.insecure || file.insecure.unwrap_or(false);
        let login = match args.auth.or(file.auth) {
            Some(AuthName::Trust) => LoginPolicy::Trust,
            Some(AuthName::Password) => LoginPolicy::Password,
            None if bind.is_loopback() || insecure => LoginPolicy::Trust,
            None => LoginPolicy::Password,
        };
        let tls = tls_files(
            args.ssl_cert_file.clone().or(file.ssl_cert_file),
            args.ssl_key_file.clone().or(file.ssl_key_file),
            args.ssl_ca_file.clone().or(file.ssl_ca_file),
        )?;
        check_service_bind(bind, insecure, login, tls.is_some())?;
        Ok(Self {
            data_dir,
            bind,
            login,
            tls,
            file_roots: if args.file_roots.is_empty() { file.file_roots } else { args.file_roots.clone() },
            audit: args.audit_log.clone().or(file.audit_log).map(|path| AuditOptions {
                file: path,
                redact: args.audit_redact || file.audit_redact.unwrap_or(false),
            }),
            otlp_endpoint: otlp_endpoint(args.otlp_endpoint.clone().or(file.otlp_endpoint))?,
            insecure,
            pg_port: args.pg_port.or(file.pg_port).unwrap_or(5433),
            flight_port: args.flight_port.or(file.flight_port).unwrap_or(50051),
            http_port: args.http_port.or(file.http_port).unwrap_or(8080),
            http_host: args.http_host.clone().or(file.http_host),
            scheduler_port: file.scheduler_port.unwrap_or(50050),
            external_host: file.external_host,
            cluster_secret_file: file.cluster_secret_file,
            memory_bytes: memory_of(args.memory.as_deref(), file.memory)?,
            executors: file.executors,
            vcores: file.vcores,
            max_connections: args.max_connections.or(file.max_connections).unwrap_or(500),
            grace_seconds: args.grace_seconds.or(file.grace_seconds).unwrap_or(30),
            catalogs: file.catalogs.into_iter().map(|(name, catalog)| (name, catalog.into())).collect(),
            tables: file.tables.into_iter().map(|(name, table)| table_definition(name, &table)).collect(),
            queues: file.queues.into_iter().map(|(name, options)| (name, queue_options(options))).collect(),
            sharing: file.scheduler.options(args.scheduler_policy),
        })
    }
}

/// What an executor runs with, after flags, environment, file and defaults.
#[derive(Debug)]
pub struct ExecutorConfig {
    pub coordinator: String,
    pub host: String,
    pub bind: IpAddr,
    pub data_dir: PathBuf,
    pub vcores: usize,
    pub memory_bytes: u64,
    pub traits: ExecutorTraits,
    pub grace_seconds: u64,
    pub secret: Option<ClusterSecret>,
    /// The port that serves clients, and its certificate.
    pub clients: Option<(u16, Option<TlsFiles>)>,
}

impl ExecutorConfig {
    /// Puts the sources together as for a service; what a coordinator alone needs is passed over.
    pub fn resolve(args: &ExecutorArgs) -> Result<Self, String> {
        let file = FileConfig::read(args.config.as_deref())?;
        let host = args.host.clone().or(file.host).unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string());
        let default_bind = host.parse::<IpAddr>().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let bind = args.bind.or(file.bind).unwrap_or(default_bind);
        let secret = cluster_secret(args.cluster_secret_file.clone().or(file.cluster_secret_file).as_deref())?;
        let insecure = args.insecure || file.insecure.unwrap_or(false);
        check_peer_bind(bind, insecure, secret.is_some())?;
        let tls = tls_files(
            args.ssl_cert_file.clone().or(file.ssl_cert_file),
            args.ssl_key_file.clone().or(file.ssl_key_file),
            args.ssl_ca_file.clone().or(file.ssl_ca_file),
        )?;
        let clients = args.client_port.or(file.client_port).map(|port| (port, tls));
        if let Some((_, tls)) = &clients {
            check_client_bind(bind, insecure, secret.is_some(), tls.is_some())?;
        }
        let data_dir = match args.data_dir.clone().or(file.data_dir) {
            Some(dir) => dir,
            None => default_data_dir()?,
        };
        Ok(Self {
            coordinator: args
                .coordinator
                .clone()
                .or(file.coordinator)
                .unwrap_or_else(|| DEFAULT_COORDINATOR.to_owned()),
            host,
            bind,
            data_dir,
            vcores: args.vcores.or(file.vcores).unwrap_or_else(cores).max(1),
            memory_bytes: memory_of(args.memory.as_deref(), file.memory)?,
            traits: ExecutorTraits {
                rack: args.rack.clone().or(file.rack).unwrap_or_default(),
                data_centre: args.data_centre.clone().or(file.data_centre).unwrap_or_default(),
                resources: file.resources,
            },
            grace_seconds: args.grace_seconds.or(file.grace_seconds).unwrap_or(30),
            secret,
            clients,
        })
    }
}

/// Reads the secret, if a file with one was named.
pub fn cluster_secret(file: Option<&Path>) -> Result<Option<ClusterSecret>, String> {
    file.map(ClusterSecret::read).transpose().map_err(|error| error.to_string())
}

fn queue_options(options: BTreeMap<String, QueueOption>) -> BTreeMap<String, String> {
    options.into_iter().map(|(name, value)| (name, value.to_string())).collect()
}

fn memory_of(flag: Option<&str>, file: Option<MemorySize>) -> Result<u64, String> {
    match (flag, file) {
        (None, Some(size)) => Ok(size.0),
        (flag, _) => memory(flag),
    }
}

fn table_definition(name: String, table: &FileTable) -> (String, TableDefinition) {
    let sql = format!(
        "CREATE EXTERNAL TABLE \"{}\" STORED AS {} LOCATION '{}'",
        name.replace('"', "\"\""),
        table.format,
        table.location.replace('\'', "''")
    );
    (name, TableDefinition::External { sql })
}

/// `sluice` in the user's data folder.
pub fn default_data_dir() -> Result<PathBuf, String> {
    directories::ProjectDirs::from("", "", "sluice")
        .map(|dirs| dirs.data_dir().to_owned())
        .ok_or_else(|| "the user has no home folder: name a data directory with --data-dir".to_owned())
}

/// The collector that traces go to: the one that was named, or else that of the environment's own variables for it.
fn otlp_endpoint(named: Option<String>) -> Result<Option<String>, String> {
    let variables = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    let in_environment = || variables.iter().find_map(|name| std::env::var(name).ok());
    match named.or_else(in_environment).filter(|endpoint| !endpoint.is_empty()) {
        Some(endpoint) if !endpoint.starts_with("http://") => Err(format!(
            "traces cannot be sent to {endpoint}: the collector is named as http://HOST:PORT, and spoken to by gRPC \
             without TLS"
        )),
        endpoint => Ok(endpoint),
    }
}

fn tls_files(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<TlsFiles>, String> {
    match (cert, key, client_ca) {
        (Some(cert), Some(key), client_ca) => Ok(Some(TlsFiles { cert, key, client_ca })),
        (None, None, None) => Ok(None),
        _ => Err("TLS takes ssl_cert_file and ssl_key_file, and with them ssl_ca_file if you like".to_owned()),
    }
}

/// Refuses addresses that strangers can reach unless clients have to prove who they are, and nobody can listen.
fn check_service_bind(bind: IpAddr, insecure: bool, login: LoginPolicy, has_tls: bool) -> Result<(), String> {
    if bind.is_loopback() || insecure {
        return Ok(());
    }
    let reason = match (login, has_tls) {
        (LoginPolicy::Trust, _) => {
            "anyone who reaches it could run any query and read any file, because clients are not asked for passwords: \
             say --auth password"
        }
        (LoginPolicy::Password, false) => {
            "what clients ask and get could be read on the way, because there is no TLS: set ssl_cert_file and ssl_key_file"
        }
        (LoginPolicy::Password, true) => return Ok(()),
    };
    Err(format!(
        "refusing to listen on {bind}: {reason}; or listen on 127.0.0.1, or say --insecure if the network keeps strangers out"
    ))
}

/// Refuses addresses that strangers can reach for what coordinator and executors tell each other, unless they prove to
/// each other that they know a secret.
pub fn check_peer_bind(bind: IpAddr, insecure: bool, has_secret: bool) -> Result<(), String> {
    if bind.is_loopback() || insecure || has_secret {
        return Ok(());
    }
    Err(format!(
        "refusing to listen on {bind}: anyone who reaches it could have executors run any plan, because there is no secret \
         that peers have to know: make one with (umask 077; openssl rand -hex 32 > cluster.secret) and start the coordinator \
         and all executors with --cluster-secret-file; or listen on 127.0.0.1, or say --insecure if the network keeps \
         strangers out"
    ))
}

/// Refuses a port for clients whose tickets could not be checked, or whose rows could be read on the way.
fn check_client_bind(bind: IpAddr, insecure: bool, has_secret: bool, has_tls: bool) -> Result<(), String> {
    if !has_secret {
        return Err("an executor with client_port needs the secret that the coordinator makes clients' tickets with: \
                    name it with --cluster-secret-file"
            .to_owned());
    }
    if bind.is_loopback() || insecure || has_tls {
        return Ok(());
    }
    Err(format!(
        "refusing to serve clients on {bind}: what they get could be read on the way, because there is no TLS: set \
         ssl_cert_file and ssl_key_file, or say --insecure if the network keeps strangers out"
    ))
}

/// Bytes of a size such as 4GB; half of the machine's memory if there is none.
pub fn memory(text: Option<&str>) -> Result<u64, String> {
    let Some(text) = text else { return Ok(machine_memory_bytes() / 2) };
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match text[digits..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => Some(1u64),
        "KB" | "K" => Some(1 << 10),
        "MB" | "M" => Some(1 << 20),
        "GB" | "G" => Some(1 << 30),
        _ => None,
    };
    let number = text[..digits].parse::<u64>().ok();
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| format!("\"{text}\" is not a size: write a number with MB or GB"))
}

/// The machine's memory, or the limit of the process's control group if that is less.
fn machine_memory_bytes() -> u64 {
    const FALLBACK_BYTES: u64 = 4 << 30;
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kb| kb * 1024)
    });
    let limit =
        std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let total = total.unwrap_or(FALLBACK_BYTES);
    limit.map_or(total, |limit| limit.min(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let error = FileConfig::parse("pg_port = 5433\npg_prot = 1\n").expect_err("is unknown");
        assert!(error.contains("line 2") && error.contains("pg_prot"), "{error}");
    }

    #[test]
    fn a_bad_value_is_an_error_with_its_line() {
        let error = FileConfig::parse("\n\npg_port = \"many\"\n").expect_err("is no port");
        assert!(error.contains("line 3"), "{error}");
    }

    #[test]
    fn a_bad_option_or_size_is_an_error_with_its_line() {
        let text =
            "pg_port = 1\n[catalogs.cass]\nconnector = \"cassandra\"\n[catalogs.cass.options]\ncontact_pints = \"a\"\n";
        let error = FileConfig::parse(text).expect_err("is unknown");
        assert!(error.contains("line 5") && error.contains("did you mean \"contact_points\""), "{error}");
        let error = FileConfig::parse("\nmemory = \"much\"\n").expect_err("is no size");
        assert!(error.contains("line 2") && error.contains("much"), "{error}");
    }

    #[test]
    fn an_executor_reads_the_same_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sluice.toml");
        std::fs::write(&path, "pg_port = 1\ncoordinator = \"127.0.0.1:9\"\nvcores = 7\nmemory = \"1GB\"\n")
            .expect("is written");
        let args = ExecutorArgs { config: Some(path), vcores: Some(2), ..ExecutorArgs::default() };
        let config = ExecutorConfig::resolve(&args).expect("is right");
        assert_eq!((config.coordinator.as_str(), config.vcores, config.memory_bytes), ("127.0.0.1:9", 2, 1 << 30));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sluice.toml");
        std::fs::write(&path, "pg_port = 1000\nhttp_port = 1001\n").expect("is written");
        let args = ServiceArgs { config: Some(path), pg_port: Some(2000), ..ServiceArgs::default() };
        let config = ServiceConfig::resolve(&args).expect("is right");
        assert_eq!((config.pg_port, config.http_port, config.flight_port), (2000, 1001, 50051));
    }

    #[test]
    fn an_open_address_is_refused_with_the_reason() {
        let open: IpAddr = "0.0.0.0".parse().expect("an address");
        let told = |login, has_tls| check_service_bind(open, false, login, has_tls).expect_err("is refused");
        assert!(told(LoginPolicy::Trust, true).contains("--auth password"));
        assert!(told(LoginPolicy::Password, false).contains("ssl_cert_file"));
        assert!(check_service_bind(open, false, LoginPolicy::Password, true).is_ok());
        let loopback = "127.0.0.2".parse().expect("an address");
        assert!(check_service_bind(loopback, false, LoginPolicy::Trust, false).is_ok());
        assert!(check_peer_bind(open, false, false).expect_err("is refused").contains("--cluster-secret-file"));
        assert!(check_peer_bind(open, false, true).is_ok());
        assert!(check_client_bind(open, false, true, false).expect_err("is refused").contains("TLS"));
        assert!(check_client_bind(loopback, true, false, true).expect_err("is refused").contains("--cluster-secret"));
        assert!(check_client_bind(open, false, true, true).is_ok());
        assert!(check_peer_bind(loopback, false, false).is_ok());
    }

    #[test]
    fn a_collector_is_named_by_its_url() {
        let named = |endpoint: &str| otlp_endpoint(Some(endpoint.to_owned()));
        assert_eq!(named("http://127.0.0.1:4317"), Ok(Some("http://127.0.0.1:4317".to_owned())));
        assert_eq!(named(""), Ok(None));
        assert!(named("https://collector:4317").expect_err("is refused").contains("http://HOST:PORT"));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(memory(Some("4GB")), Ok(4 << 30));
        assert_eq!(memory(Some("512 mb")), Ok(512 << 20));
        assert!(memory(Some("much")).is_err());
    }
}
