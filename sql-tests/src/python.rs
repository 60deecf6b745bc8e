//! Python programs that stand beside the service: DuckDB as the judge of answers, psycopg and ADBC as clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The interpreter of a virtual environment with the pinned packages, made on first use by `clients/venv.sh`.
pub fn interpreter() -> Result<PathBuf> {
    let script = crate::crate_dir().join("clients/venv.sh");
    let output = Command::new("bash").arg(&script).output().with_context(|| format!("running {}", script.display()))?;
    if !output.status.success() {
        bail!("clients/venv.sh ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// Runs a script of this crate; its output is in the error when it fails.
pub fn run(python: &Path, script: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(python)
        .arg(crate::crate_dir().join(script))
        .args(arguments)
        .output()
        .with_context(|| format!("running {}", python.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{script} ended with {}:\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
