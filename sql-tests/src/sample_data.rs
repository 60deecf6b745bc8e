//! TPC-H tables as Parquet, made once for each scale factor by `sluice sample-data`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The eight tables.
pub const TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// The folder with the tables at this scale, made if it is not there.
pub fn tpch(binary: &Path, scale_factor: &str) -> Result<PathBuf> {
    let dir = crate::cache_dir()?.join(format!("tpch-sf{scale_factor}"));
    let is_whole = |dir: &Path| TABLES.iter().all(|table| dir.join(format!("{table}.parquet")).is_file());
    if is_whole(&dir) {
        return Ok(dir);
    }
    let output = Command::new(binary)
        .args(["sample-data", "--scale-factor", scale_factor, "--output-dir"])
        .arg(&dir)
        .output()
        .with_context(|| format!("running {}", binary.display()))?;
    if !output.status.success() || !is_whole(&dir) {
        bail!(
            "sluice sample-data ended with {} and left no eight tables in {}: {}",
            output.status,
            dir.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(dir)
}
