//! A node that wants TLS, a certificate of its clients, and a password.

use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::cassandra::Cassandra;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};
use crate::faults::{error_of, run};

const PASSWORD: &str = "cassandra";
const WRONG_PASSWORD: &str = "no-such-secret";

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![trial(bed, "cassandra::only_who_may_is_let_in".to_owned(), only_who_may_is_let_in)]
}

/// The options of a catalog, of which some are left out or replaced.
fn catalog(name: &str, options: &[(&str, &str)], instead: &[(&str, Option<&str>)]) -> String {
    let options = options.iter().filter_map(|(option, value)| {
        let value = match instead.iter().find(|(replaced, _)| replaced == option) {
            Some((_, replacement)) => (*replacement)?,
            None => value,
        };
        Some(format!("{option} = '{value}'"))
    });
    let options: Vec<String> = options.collect();
    format!("CREATE CATALOG {name} USING cassandra WITH ({})", options.join(", "))
}

fn only_who_may_is_let_in(bed: &Bed) -> Result<()> {
    let variables = [("SLUICE_CASSANDRA_TLS", "client"), ("SLUICE_CASSANDRA_AUTH", "1")];
    let node = Cassandra::start_own("login-node", "127.0.6", 1, &variables)?;
    let file = |name: &str| node.tls_file(name);
    let (ca, other_ca, cert, key) = (file("ca.pem")?, file("other-ca.pem")?, file("client.pem")?, file("client.key")?);
    let options = [
        ("contact_points", node.contact_points()),
        ("tls", "on"),
        ("tls_ca_file", &ca),
        ("tls_cert_file", &cert),
        ("tls_key_file", &key),
        ("tls_verify_host", "on"),
        ("compression", "lz4"),
        ("username", "cassandra"),
        ("password", PASSWORD),
    ];
    for layout in Layout::ALL {
        let service = bed.own_service(layout, &[])?;
        run(bed, &service, &[&catalog("safe", &options, &[])])?;
        reads_and_writes(bed, &service, layout)?;
        let refused = |name: &str, instead: &[(&str, Option<&str>)], wanted: [&str; 2]| -> Result<()> {
            run(bed, &service, &[&catalog(name, &options, instead)])?;
            let error = error_of(bed, &service, &format!("SELECT * FROM {name}.system.local"))?;
            ensure!(wanted.iter().all(|part| error.contains(part)), "{name}: {wanted:?} are not in {error}");
            ensure!(!error.contains(WRONG_PASSWORD), "{name}: the error tells the password: {error}");
            Ok(())
        };
        refused("wrong_password", &[("password", Some(WRONG_PASSWORD))], ["28P01", "username and password"])?;
        refused("nobody", &[("username", None), ("password", None)], ["28P01", "username and password"])?;
        refused("wrong_ca", &[("tls_ca_file", Some(&other_ca))], ["08001", "authority in tls_ca_file"])?;
        let no_cert = [("tls_cert_file", None), ("tls_key_file", None)];
        refused("no_cert", &no_cert, ["08001", "set tls_cert_file and tls_key_file"])?;
        refused("no_file", &[("tls_ca_file", Some("/nowhere/ca.pem"))], ["08001", "/nowhere/ca.pem"])?;
        ensure!(!service.all_output().contains(WRONG_PASSWORD), "a password is in the log");
        let queries = format!("{:?}", run(bed, &service, &["SELECT * FROM system.queries"])?);
        ensure!(!queries.contains(WRONG_PASSWORD), "a password is in system.queries: {queries}");
        bed.block_on(service.check_serving())?;
    }
    Ok(())
}

fn reads_and_writes(bed: &Bed, service: &Service, layout: Layout) -> Result<()> {
    let keyspace = format!("login_{}", layout.name());
    let rows = run(
        bed,
        service,
        &[
            &format!("CREATE SCHEMA safe.{keyspace} WITH (replication_factor = 1)"),
            &format!(
                "CREATE TABLE safe.{keyspace}.numbers WITH (primary_key = 'n') AS SELECT n, n * 2 AS twice FROM generate_series(1, 3000) AS t(n)"
            ),
            // Read by the executors, which read the files themselves.
            "SET sluice.single_task_max_bytes = 0",
            &format!("SELECT count(*), sum(twice) FROM safe.{keyspace}.numbers"),
        ],
    )?;
    ensure!(rows == [[Some("3000".to_owned()), Some("9003000".to_owned())]], "read back: {rows:?}");
    Ok(())
}
