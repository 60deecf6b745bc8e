//! The TOML file. Unknown keys and bad values are errors that name their line.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sluice_planner::catalog::{CatalogDefinition, TableDefinition};

use super::args::ServiceArgs;

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "sluice.toml";

/// What the file may say; every key has a default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    pub data_dir: Option<PathBuf>,
    pub bind: Option<IpAddr>,
    pub pg_port: Option<u16>,
    pub flight_port: Option<u16>,
    pub http_port: Option<u16>,
    pub scheduler_port: Option<u16>,
    pub external_host: Option<String>,
    pub memory: Option<String>,
    pub executors: Option<usize>,
    pub vcores: Option<usize>,
    pub max_connections: Option<usize>,
    pub grace_seconds: Option<u64>,
    pub insecure: Option<bool>,
    /// `[catalogs.NAME]` with `connector` and `[catalogs.NAME.options]`.
    #[serde(default)]
    pub catalogs: BTreeMap<String, CatalogDefinition>,
    /// `[tables.NAME]` with `location`: Parquet files as `sluice.public.NAME`.
    #[serde(default)]
    pub tables: BTreeMap<String, FileTable>,
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
    pub scheduler_port: u16,
    pub external_host: Option<String>,
    pub memory_bytes: u64,
    pub executors: Option<usize>,
    pub vcores: Option<usize>,
    pub max_connections: usize,
    pub grace_seconds: u64,
    pub catalogs: Vec<(String, CatalogDefinition)>,
    pub tables: Vec<(String, TableDefinition)>,
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
        toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())
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
        check_bind(bind, args.insecure || file.insecure.unwrap_or(false))?;
        Ok(Self {
            data_dir,
            bind,
            pg_port: args.pg_port.or(file.pg_port).unwrap_or(5433),
            flight_port: args.flight_port.or(file.flight_port).unwrap_or(50051),
            http_port: args.http_port.or(file.http_port).unwrap_or(8080),
            scheduler_port: file.scheduler_port.unwrap_or(50050),
            external_host: file.external_host,
            memory_bytes: memory(args.memory.as_deref().or(file.memory.as_deref()))?,
            executors: file.executors,
            vcores: file.vcores,
            max_connections: args.max_connections.or(file.max_connections).unwrap_or(500),
            grace_seconds: args.grace_seconds.or(file.grace_seconds).unwrap_or(30),
            catalogs: file.catalogs.into_iter().collect(),
            tables: file.tables.into_iter().map(|(name, table)| table_definition(name, &table)).collect(),
        })
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

/// Refuses addresses that strangers can reach while nobody is asked for a password.
pub fn check_bind(bind: IpAddr, insecure: bool) -> Result<(), String> {
    if bind.is_loopback() || insecure {
        return Ok(());
    }
    Err(format!(
        "refusing to listen on {bind}: anyone who reaches it could run any query and read any file, because there is no \
         authentication yet; listen on 127.0.0.1, or say --insecure if the network keeps strangers out"
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
        let error = check_bind("0.0.0.0".parse().expect("an address"), false).expect_err("is refused");
        assert!(error.contains("authentication"), "{error}");
        assert!(check_bind("127.0.0.2".parse().expect("an address"), false).is_ok());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(memory(Some("4GB")), Ok(4 << 30));
        assert_eq!(memory(Some("512 mb")), Ok(512 << 20));
        assert!(memory(Some("much")).is_err());
    }
}
