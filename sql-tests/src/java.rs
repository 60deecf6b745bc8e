//! Java programs that stand beside the service: JDBC drivers as clients.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

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
    let output = Command::new("mvn")
        .args(["-B", "-q", "-f"])
        .arg(&pom)
        .arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", dir.display()))
        .output()
        .context("running mvn")?;
    if !output.status.success() {
        bail!("Maven could not get the JDBC drivers:\n{}", String::from_utf8_lossy(&output.stdout));
    }
    std::fs::write(complete, wanted)?;
    Ok(dir)
}

/// Runs `clients/jdbc/JdbcClient.java` with a driver (`postgresql` or `flight`); what failed is in the error.
pub fn run_jdbc_client(driver: &str, port: u16) -> Result<()> {
    let output = Command::new("java")
        .args(["--add-opens=java.base/java.nio=ALL-UNNAMED", "-Xmx512m", "-cp"])
        .arg(drivers()?.join("*"))
        .arg(crate::crate_dir().join("clients/jdbc/JdbcClient.java"))
        .args([driver, &port.to_string()])
        .output()
        .context("running java")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().next_back().unwrap_or_default();
    if !output.status.success() || !last.ends_with(" ok, 0 failed") {
        bail!(
            "JdbcClient.java {driver} ended with {}:\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
