//! Programs of others that run beside the service.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs a program to its end and gives what it printed; all it said is in the error when it fails.
pub fn run(what: &str, command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("running {program} for {what}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{what} ended with {}:\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
