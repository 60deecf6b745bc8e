//! Python programs that stand beside the service: DuckDB as the judge of answers, psycopg and ADBC as clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::program;

/// The interpreter of a virtual environment with the pinned packages, made on first use by `clients/venv.sh`.
pub fn interpreter() -> Result<PathBuf> {
    let script = crate::crate_dir().join("clients/venv.sh");
    let path = program::run("clients/venv.sh", Command::new("bash").arg(script))?;
    Ok(PathBuf::from(path.trim()))
}

/// Runs a script of this crate; its output is in the error when it fails.
pub fn run(python: &Path, script: &str, arguments: &[&str]) -> Result<String> {
    program::run(script, Command::new(python).arg(crate::crate_dir().join(script)).args(arguments))
}
