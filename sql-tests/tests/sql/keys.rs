//! Keys and indexes of Cassandra's tables, as psql, JDBC and SQLAlchemy find them in `pg_catalog`.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Layout, Service};
use sluice_sql_tests::{java, python};

use crate::bed::{Bed, trial};

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let layouts = Layout::ALL.into_iter();
    let trials = layouts.map(|layout| {
        trial(bed, format!("{}::client::keys_of_cassandra", layout.name()), move |bed| {
            let name = format!("client_keys_{}", layout.name());
            let service = bed.service(layout)?;
            bed.block_on(make(bed, &service, &name))?;
            psql(&service, &name)?;
            jdbc(&service, &name)?;
            let port = service.pg_port.to_string();
            python::run(bed.python()?, "clients/dbeaver_walk.py", &[&port, &name, &name, "orders"])?;
            python::run(bed.python()?, "clients/keys_client.py", &[&port, &name]).map(|_| ())
        })
    });
    trials.collect()
}

/// A keyspace and a catalog of one name.
async fn make(bed: &Bed, service: &Service, name: &str) -> Result<()> {
    let cassandra = bed.cassandra()?;
    cassandra.cql(&format!("DROP KEYSPACE IF EXISTS {name}")).await?;
    cassandra
        .cql(&format!(
            "CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}};
             CREATE TABLE {name}.orders (customer text, region int, day date, number int, amount int, tags set<text>,
               PRIMARY KEY ((customer, region), day, number));
             CREATE INDEX orders_amount ON {name}.orders (amount) USING 'sai';"
        ))
        .await?;
    let client = service.connect().await?;
    client
        .batch_execute(&format!(
            "CREATE CATALOG IF NOT EXISTS {name} USING cassandra WITH (contact_points = '{}'); REFRESH CATALOG {name}",
            cassandra.contact_points()
        ))
        .await?;
    Ok(())
}

fn psql(service: &Service, name: &str) -> Result<()> {
    let run = |command: &str| -> Result<String> {
        let output = Command::new("psql")
            .args(["-X", "-h", "127.0.0.1", "-U", "sluice", "-d", name, "-p", &service.pg_port.to_string()])
            .args(["-c", command])
            .output()
            .context("running psql")?;
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    for (command, wanted) in [
        (
            format!("\\d {name}.orders"),
            vec![
                "customer | text    |           | not null",
                "Indexes:",
                "\"orders_pkey\" PRIMARY KEY, btree (customer, region, day, number)",
                "\"orders_amount\" btree (amount)",
            ],
        ),
        (format!("\\d+ {name}.orders"), vec!["\"orders_pkey\" PRIMARY KEY"]),
        (format!("\\di {name}.*"), vec!["orders_amount | index", "orders_pkey   | index", "orders"]),
        (format!("\\d {name}.orders_pkey"), vec!["customer", "number", "primary key, btree, for table"]),
    ] {
        let text = run(&command)?;
        for part in wanted {
            ensure!(text.contains(part), "{part:?} is not in what {command} printed:\n{text}");
        }
    }
    Ok(())
}

fn jdbc(service: &Service, name: &str) -> Result<()> {
    let text = java::run_keys_of(service.pg_port, name, name, "orders")?;
    let wanted = "[customer, region, day, number] [orders_pkey.customer, orders_pkey.region, orders_pkey.day, \
                  orders_pkey.number, orders_amount.amount] [customer, region, day, number]";
    ensure!(text.trim_end() == wanted, "JDBC found {text}");
    Ok(())
}
