//! Go as a client.

use std::process::Command;
use std::sync::Mutex;

use anyhow::Result;

use crate::program;

/// The program is built once at a time.
static BUILDING: Mutex<()> = Mutex::new(());

/// Builds and runs `clients/go`; what failed is in the error.
pub fn run_client(port: u16) -> Result<()> {
    let dir = crate::cache_dir()?.join("go");
    std::fs::create_dir_all(&dir)?;
    let client = dir.join("client");
    {
        let _alone = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut build = Command::new("go");
        build.args(["build", "-mod=readonly", "-buildvcs=false", "-o"]).arg(&client).arg(".");
        program::run("the build of clients/go", build.current_dir(crate::crate_dir().join("clients/go")))?;
    }
    program::run("clients/go", Command::new(client).arg(port.to_string()))?;
    Ok(())
}
