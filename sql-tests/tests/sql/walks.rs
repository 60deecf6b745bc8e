//! Walks through a database as tools make them, each step counted: all must go well.
//!
//! Other services were measured by the like: of psql's 52 meta-commands QuestDB answered 11, of the JDBC walk of 46 calls
//! 26; of ADBC's 16 checks over Flight SQL Sail passed 6, of the JDBC walk of 46 calls over Flight SQL 15.

use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Layout, Service};
use sluice_sql_tests::{java, python};

use crate::bed::{Bed, trial};

/// Gives what the walk printed.
type Walk = fn(&Bed, &Service) -> Result<String>;

const WALKS: [(&str, usize, Walk); 5] = [
    ("psql", 52, |bed, service| python::run(bed.python()?, "clients/psql_walk.py", &[&service.pg_port.to_string()])),
    ("dbeaver", 26, |bed, service| {
        let port = service.pg_port.to_string();
        python::run(bed.python()?, "clients/dbeaver_walk.py", &[&port, "sluice", "system", "queries"])
    }),
    ("jdbc_postgresql", 46, |_, service| java::run_metadata_walk("postgresql", service.pg_port)),
    ("jdbc_flight_sql", 46, |_, service| java::run_metadata_walk("flight", service.flight_port)),
    ("adbc_flight_sql", 16, |bed, service| {
        python::run(bed.python()?, "clients/adbc_walk.py", &[&service.flight_port.to_string()])
    }),
];

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for layout in Layout::ALL {
        for (name, steps, walk) in WALKS {
            trials.push(trial(bed, format!("{}::client::walk::{name}", layout.name()), move |bed| {
                let text = walk(bed, &*bed.service(layout)?)?;
                ensure!(text.trim_end().ends_with(&format!("passed {steps} of {steps}")), "{text}");
                Ok(())
            }));
        }
    }
    trials
}
