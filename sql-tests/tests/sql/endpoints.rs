//! Large results that Flight SQL's clients fetch from the executors which made them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Service, free_ports};
use sluice_sql_tests::{java, python};

use crate::access::make_certificates;
use crate::bed::{Bed, trial};

/// Long enough for executors to hear that a result is of no more use.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    type Test = fn(&Bed) -> Result<()>;
    let tests: [(&str, Test); 2] = [
        ("clients_fetch_from_executors", clients_fetch_from_executors),
        ("clients_that_reach_no_executor_fetch_too", clients_that_reach_no_executor_fetch_too),
    ];
    tests.into_iter().map(|(name, test)| trial(bed, format!("cluster::endpoints::{name}"), test)).collect()
}

/// A cluster whose executors serve clients on a port that is returned too.
fn cluster(bed: &Bed, folder: &Path, more: &[&str]) -> Result<(Service, u16)> {
    let secret = folder.join("cluster.secret");
    std::fs::write(&secret, "0123456789abcdef".repeat(4))?;
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600))?;
    let (secret, port) = (secret.display().to_string(), free_ports(1)?[0]);
    let port_text = port.to_string();
    let joined = ["--cluster-secret-file", secret.as_str()];
    let flags = [&joined[..], &["--vcores", "1", "--client-port", &port_text], more].concat();
    Ok((bed.own_cluster(&joined, &flags)?, port))
}

fn run_client(bed: &Bed, mode: &str, service: &Service, client_port: u16) -> Result<()> {
    let lineitem = bed.tpch("0.1")?.join("lineitem.parquet").display().to_string();
    let (port, client_port) = (service.flight_port.to_string(), client_port.to_string());
    python::run(bed.python()?, "clients/endpoints_client.py", &[mode, &port, &client_port, &lineitem])?;
    Ok(())
}

fn clients_fetch_from_executors(bed: &Bed) -> Result<()> {
    let (service, client_port) = cluster(bed, &bed.scratch("endpoints")?, &[])?;
    run_client(bed, "direct", &service, client_port)?;
    let rows = java::run_endpoints(service.flight_port, &bed.tpch("0.1")?.join("lineitem.parquet"))?;
    ensure!(rows > 100_000, "JDBC fetched {rows} rows");
    // No rows are left, neither what was fetched nor what was not. A partition without rows is in no ticket: its file
    // stays until the result's time is over.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = shuffle_files(service.data_dir());
        if left.is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "these files are left: {left:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    bed.block_on(service.check_serving())
}

fn clients_that_reach_no_executor_fetch_too(bed: &Bed) -> Result<()> {
    let folder = bed.scratch("endpoints-unreachable")?;
    make_certificates(&folder)?;
    let (cert, key) =
        (folder.join("server.pem").display().to_string(), folder.join("server.key").display().to_string());
    let (service, client_port) =
        cluster(bed, &folder, &["--ssl-cert-file", cert.as_str(), "--ssl-key-file", key.as_str()])?;
    run_client(bed, "unreachable", &service, client_port)?;
    bed.block_on(service.check_serving())
}

/// Files with rows below a folder.
fn shuffle_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            folder if folder.is_dir() => shuffle_files(&folder),
            file if file.extension().is_some_and(|extension| extension == "arrow") && has_rows(&file) => vec![file],
            _ => Vec::new(),
        })
        .collect()
}

/// Whether there is more in a file than the names of columns.
fn has_rows(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.len() > 4_096)
}
