//! Certificates that are read anew while the service runs.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use crate::access::Encrypted;
use crate::bed::{Bed, trial};

const PATIENCE: Duration = Duration::from_secs(30);

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let test = a_signal_has_the_files_read_anew;
    vec![trial(bed, "certificates::a_signal_has_the_files_read_anew".to_owned(), test)]
}

/// The subject of the certificate that each port shows: for PostgreSQL, Flight SQL and the page.
fn subjects(service: &Encrypted) -> Result<Vec<String>> {
    let protocols = [&["-starttls", "postgres"][..], &["-alpn", "h2"], &["-alpn", "http/1.1"]];
    let shown = service.ports.iter().zip(protocols).map(|(port, protocol)| {
        let script = format!(
            "openssl s_client -connect 127.0.0.1:{port} {} < /dev/null 2>&1 | openssl x509 -noout -subject",
            protocol.join(" ")
        );
        let output = Command::new("bash").args(["-c", &script]).output().context("running openssl")?;
        ensure!(output.status.success(), "port {port}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().replace(' ', ""))
    });
    shown.collect()
}

fn wait_for(service: &Encrypted, line: &str, times: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while service.output().matches(line).count() < times {
        ensure!(Instant::now() < deadline, "{line:?} is not in the log:\n{}", service.output());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn a_signal_has_the_files_read_anew(bed: &Bed) -> Result<()> {
    let service = Encrypted::start(bed, "read-anew", &[])?;
    ensure!(subjects(&service)? == ["subject=CN=server"; 3], "at the start: {:?}", subjects(&service)?);

    for kind in ["pem", "key"] {
        fs::copy(service.folder.join(format!("client.{kind}")), service.folder.join(format!("server.{kind}")))?;
    }
    ensure!(subjects(&service)? == ["subject=CN=server"; 3], "without a signal: {:?}", subjects(&service)?);
    service.hang_up()?;
    wait_for(&service, "read anew for connections to come", 1)?;
    ensure!(subjects(&service)? == ["subject=CN=client"; 3], "after the signal: {:?}", subjects(&service)?);
    service.let_in("sslmode=verify-full sslrootcert=ca.pem channel_binding=require")?;

    // A key of another certificate, then no certificate at all.
    fs::copy(service.folder.join("elsewhere.key"), service.folder.join("server.key"))?;
    service.hang_up()?;
    wait_for(&service, "the certificate that was read before is kept", 1)?;
    fs::write(service.folder.join("server.pem"), "nothing")?;
    service.hang_up()?;
    wait_for(&service, "the certificate that was read before is kept", 2)?;
    ensure!(subjects(&service)? == ["subject=CN=client"; 3], "with broken files: {:?}", subjects(&service)?);
    service.let_in("sslmode=verify-full sslrootcert=ca.pem channel_binding=require")
}
