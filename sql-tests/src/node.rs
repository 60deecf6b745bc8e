//! Node.js as a client.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use anyhow::Result;

use crate::program;

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
    let fetch = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
    program::run("the packages of clients/node", Command::new("npm").args(fetch).current_dir(&dir))?;
    std::fs::write(complete, wanted)?;
    Ok(dir)
}

/// Runs `clients/node/client.js`; what failed is in the error.
pub fn run_client(port: u16) -> Result<()> {
    let mut client = Command::new("node");
    program::run("client.js", client.arg("client.js").arg(port.to_string()).current_dir(folder()?))?;
    Ok(())
}
