//! Java programs that stand beside the service: JDBC drivers as clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::program;

/// Maven fetches the drivers once.
static FETCHING: Mutex<()> = Mutex::new(());

/// The folder with the drivers of `clients/jdbc/pom.xml`.
fn drivers() -> Result<PathBuf> {
    let _alone = FETCHING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let pom = crate::crate_dir().join("clients/jdbc/pom.xml");
    let dir = crate::cache_dir()?.join("jdbc");
    let (complete, wanted) = (dir.join(".complete"), std::fs::read(&pom)?);
    if std::fs::read(&complete).is_ok_and(|found| found == wanted) {
        return Ok(dir);
    }
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let mut fetch = Command::new("mvn");
    fetch
        .args(["-B", "-q", "-f"])
        .arg(&pom)
        .arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", dir.display()));
    program::run("the JDBC drivers", &mut fetch)?;
    std::fs::write(complete, wanted)?;
    Ok(dir)
}

/// Runs a program of `clients/jdbc` with a driver (`postgresql` or `flight`), and gives what it printed.
fn run_program(program: &str, driver: &str, port: u16, more: &[&str]) -> Result<String> {
    let mut client = Command::new("java");
    client
        .args(["--add-opens=java.base/java.nio=ALL-UNNAMED", "-Xmx512m", "-cp"])
        .arg(drivers()?.join("*"))
        .arg(crate::crate_dir().join("clients/jdbc").join(program))
        .args([driver, &port.to_string()])
        .args(more);
    program::run(&format!("{program} {driver}"), &mut client)
}

/// Runs `clients/jdbc/MetadataWalk.java`, and gives what it printed.
pub fn run_metadata_walk(driver: &str, port: u16) -> Result<String> {
    run_program("MetadataWalk.java", driver, port, &[])
}

/// What the PostgreSQL driver finds of a table's primary key and indexes, by the same program.
pub fn run_keys_of(port: u16, catalog: &str, schema: &str, table: &str) -> Result<String> {
    run_program("MetadataWalk.java", "postgresql", port, &[catalog, schema, table])
}

/// Runs `clients/jdbc/Endpoints.java` over a file of TPC-H's lineitem; the number of rows that it fetched.
pub fn run_endpoints(port: u16, lineitem: &Path) -> Result<u64> {
    let text = run_program("Endpoints.java", "flight", port, &[&lineitem.display().to_string()])?;
    let last = text.lines().next_back().unwrap_or_default();
    last.trim_end_matches(" rows").parse().with_context(|| format!("Endpoints.java printed {text}"))
}

/// Runs `clients/jdbc/JdbcClient.java`; what failed is in the error.
pub fn run_jdbc_client(driver: &str, port: u16) -> Result<()> {
    let text = run_program("JdbcClient.java", driver, port, &[])?;
    if !text.trim_end().ends_with(" ok, 0 failed") {
        bail!("JdbcClient.java {driver} did not pass all it has:\n{text}");
    }
    Ok(())
}
