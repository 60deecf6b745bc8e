//! Go as a client.

use std::process::Command;
use std::sync::Mutex;

use anyhow::Result;

use crate::program;

/// One program is built at a time.
static BUILDING: Mutex<()> = Mutex::new(());

/// Builds and runs a program of `clients/go` against a port; what failed is in the error.
pub fn run_client(name: &str, port: u16) -> Result<()> {
    let dir = crate::cache_dir()?.join("go");
    std::fs::create_dir_all(&dir)?;
    let client = dir.join(name);
    let source = crate::crate_dir().join("clients/go").join(name);
    {
        let _alone = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut build = Command::new("go");
        build.args(["build", "-mod=readonly", "-buildvcs=false", "-o"]).arg(&client).arg(".");
        program::run(&format!("the build of clients/go/{name}"), build.current_dir(source))?;
    }
    program::run(&format!("clients/go/{name}"), Command::new(client).arg(port.to_string()))?;
    Ok(())
}
