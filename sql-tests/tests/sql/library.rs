//! The Cassandra source in a program that has only DataFusion: the example of `executor/examples`, as its user runs it.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::bed::{Bed, trial};

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![trial(bed, "library::cassandra_joins_a_memtable".to_owned(), cassandra_joins_a_memtable)]
}

fn cassandra_joins_a_memtable(bed: &Bed) -> Result<()> {
    let cassandra = bed.cassandra()?;
    bed.block_on(cassandra.cql(
        "DROP KEYSPACE IF EXISTS library;
CREATE KEYSPACE library WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};
CREATE TABLE library.people (id bigint PRIMARY KEY, name text);
INSERT INTO library.people (id, name) VALUES (1, 'Ada');
INSERT INTO library.people (id, name) VALUES (3, 'Cyd');
INSERT INTO library.people (id, name) VALUES (4, 'Dot')",
    ))?;
    let contact_point = cassandra.contact_points().split(',').next().unwrap_or_default();
    let output = Command::new(bed.example("join_memtable")?).args([contact_point, "library.people", "id"]).output()?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "the example ended so: {text}{errors}");
    let expected = "\
+-------+----+------+
| why   | id | name |
+-------+----+------+
| new   | 1  | Ada  |
| moved | 3  | Cyd  |
+-------+----+------+
";
    ensure!(text == expected, "the example printed:\n{text}");
    Ok(())
}
