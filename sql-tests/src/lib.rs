//! What tests, the demo and the bench need around the service: real processes, a real Cassandra, real clients.
//!
//! Nothing here links the service; it is started as a user would start it, from its binary.
//!
//! - [`sluice_process`]: the service as one process, or as a coordinator with executors
//! - [`cassandra`]: a cluster of real nodes through `cassandra/cluster.sh`, and CQL spoken to it directly
//! - [`sample_data`]: TPC-H as Parquet, made once by the binary
//! - [`python`]: DuckDB and the Python clients in a virtual environment of their own
//! - [`java`], [`go`], [`node`]: JDBC drivers, pgx, ADBC, node-postgres; [`program`] runs them
//! - [`runner`]: `.slt` files over the PostgreSQL protocol
//! - [`answers`]: two answers compared as SQL means them: ties in any order, floats within their precision

pub mod answers;
pub mod cassandra;
pub mod go;
pub mod java;
pub mod node;
pub mod program;
pub mod python;
pub mod runner;
pub mod sample_data;
pub mod sluice_process;

use std::path::PathBuf;

/// The folder of this crate, with the scripts and `.slt` files.
pub fn crate_dir() -> PathBuf {
    // As Cargo says when it runs a test: two checkouts that share a target folder can take each other's programs for fresh.
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Where jars, virtual environments and sample data are kept between runs: `SLUICE_CACHE_DIR`, else the user's cache folder.
pub fn cache_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("SLUICE_CACHE_DIR") {
        return Ok(dir.into());
    }
    let home = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(home.ok_or_else(|| anyhow::anyhow!("neither SLUICE_CACHE_DIR nor HOME is set"))?.join("sluice"))
}
