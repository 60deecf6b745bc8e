//! Go as a client.

use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// The program is built once at a time.
static BUILDING: Mutex<()> = Mutex::new(());

/// Builds and runs `clients/go`; what failed is in the error.
pub fn run_client(port: u16) -> Result<()> {
    let dir = crate::cache_dir()?.join("go");
    std::fs::create_dir_all(&dir)?;
    let program = dir.join("client");
    {
        let _alone = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let output = Command::new("go")
            .args(["build", "-mod=readonly", "-buildvcs=false", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(crate::crate_dir().join("clients/go"))
            .output()
            .context("running go")?;
        if !output.status.success() {
            bail!("Go could not build the client:\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let output = Command::new(program).arg(port.to_string()).output().context("running the client in Go")?;
    if !output.status.success() {
        bail!("clients/go ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
