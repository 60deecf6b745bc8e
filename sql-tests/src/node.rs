//! Node.js as a client.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// npm fetches the packages once.
static FETCHING: Mutex<()> = Mutex::new(());

/// A folder with `clients/node/client.js` and the packages that it needs, by the hashes of its lock file.
fn folder() -> Result<PathBuf> {
    let _alone = FETCHING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let source = crate::crate_dir().join("clients/node");
    let dir = crate::cache_dir()?.join("node");
    std::fs::create_dir_all(&dir)?;
    std::fs::copy(source.join("client.js"), dir.join("client.js"))?;
    let (complete, wanted) = (dir.join(".complete"), std::fs::read(source.join("package-lock.json"))?);
    if std::fs::read(&complete).is_ok_and(|found| found == wanted) {
        return Ok(dir);
    }
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(source.join(file), dir.join(file))?;
    }
    let output = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(&dir)
        .output()
        .context("running npm")?;
    if !output.status.success() {
        bail!("npm could not get node-postgres:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::write(complete, wanted)?;
    Ok(dir)
}

/// Runs `clients/node/client.js`; what failed is in the error.
pub fn run_client(port: u16) -> Result<()> {
    let output = Command::new("node")
        .arg("client.js")
        .arg(port.to_string())
        .current_dir(folder()?)
        .output()
        .context("running node")?;
    if !output.status.success() {
        bail!("client.js ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
